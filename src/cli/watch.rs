//! A status again every second: redrawn in a terminal, as plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::{cursor, queue, terminal};

use super::failure::Failure;
use crate::admin::client::ClientError;
use crate::clock;

const PAUSE: Duration = Duration::from_secs(1);

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Redrawn in a terminal: in lines of at most this width.
    Screen {
        /// In columns.
        width: usize,
        /// With escape sequences.
        color: bool,
    },
    /// A line for each service, for logs.
    Plain,
}

/// What is watched, and what keys do besides quitting.
pub struct Scene<'s> {
    /// Asks for what there is to see, and shows it in lines.
    pub look: &'s mut dyn FnMut(Form) -> Result<String, Failure>,
    /// What stands below the status; lines.
    pub below: &'s dyn Fn() -> String,
    /// What a key does.
    pub press: &'s dyn Fn(char),
    /// Whether there is nothing more to see.
    pub has_ended: &'s dyn Fn() -> bool,
}

impl<'s> Scene<'s> {
    /// What there is to see alone.
    pub fn of(look: &'s mut dyn FnMut(Form) -> Result<String, Failure>) -> Self {
        Self { look, below: &String::new, press: &|_| {}, has_ended: &|| false }
    }
}

/// Whether there is somebody to redraw for, and keys to listen to.
pub fn can_redraw() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Redraws the scene until `q`, Escape or Ctrl-C, or until it ends. While nobody answers, it says so and goes on.
pub fn redraw(mut out: &mut dyn Write, color: bool, scene: Scene<'_>) -> Result<(), Failure> {
    let _quiet = Quiet::enter()?;
    queue!(&mut out, terminal::Clear(terminal::ClearType::All))?;
    let mut before = String::new();
    while !(scene.has_ended)() {
        let (width, height) = terminal::size()?;
        let text = match (scene.look)(Form::Screen { width: width.into(), color }) {
            Ok(text) => {
                before = text;
                before.clone()
            }
            Err(Failure::Client(error @ (ClientError::NotRunning { .. } | ClientError::TimedOut { .. }))) => {
                let first = error.to_string();
                format!(
                    "{}\nno answer, trying again (q quits)\n\n{before}",
                    first.lines().next().unwrap_or_default()
                )
            }
            Err(other) => return Err(other),
        };
        draw(&mut out, &(text + &(scene.below)()), height.into())?;
        if quits_within(PAUSE, scene.press)? {
            return Ok(());
        }
    }
    Ok(())
}

/// A plain line a service, every second, for as long as somebody reads and the daemon answers.
pub fn print(out: &mut dyn Write, rest: impl Fn(Duration), scene: Scene<'_>) -> Result<(), Failure> {
    while !(scene.has_ended)() {
        let time = clock::wall();
        for line in (scene.look)(Form::Plain)?.lines() {
            writeln!(out, "{time} {line}")?;
        }
        out.flush()?;
        rest(PAUSE);
    }
    Ok(())
}

/// Overwrites line by line, so that nothing flickers, and never scrolls.
fn draw(out: &mut impl Write, text: &str, height: usize) -> io::Result<()> {
    queue!(out, cursor::MoveTo(0, 0))?;
    let count = text.lines().count();
    for (index, line) in text.lines().take(height).enumerate() {
        let line = if index + 1 == height && count > height { "…" } else { line };
        if index > 0 {
            out.write_all(b"\r\n")?;
        }
        out.write_all(line.as_bytes())?;
        queue!(out, terminal::Clear(terminal::ClearType::UntilNewLine))?;
    }
    queue!(out, terminal::Clear(terminal::ClearType::FromCursorDown))?;
    out.flush()
}

/// Obeys keys for a while; at once again after one that did something.
fn quits_within(pause: Duration, press: &dyn Fn(char)) -> io::Result<bool> {
    let start = clock::now();
    loop {
        let left = pause.saturating_sub(clock::now() - start);
        if left.is_zero() || !event::poll(left)? {
            return Ok(false);
        }
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                let interrupts =
                    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                if interrupts || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
                if let KeyCode::Char(key) = key.code {
                    press(key);
                    return Ok(false);
                }
            }
            Event::Resize(..) => return Ok(false),
            _ => {}
        }
    }
}

/// A terminal without cursor that does not echo; as it was, once dropped.
struct Quiet;

impl Quiet {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let quiet = Self;
        crossterm::execute!(io::stdout(), cursor::Hide)?;
        Ok(quiet)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // On the way out; there is nobody left to tell.
        _ = crossterm::execute!(io::stdout(), cursor::Show);
        _ = terminal::disable_raw_mode();
        println!();
    }
}
