//! What is shown while a launch runs: each record as a line, and below them, in a terminal, a bar of what is under way.
//!
//! The launch goes on also when nobody can read any more, so a line that cannot be written is left out, and not an error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::args::Told;
use crate::admin::client::Client;
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::look::{colored, width};
use crate::cli::paint::{Line, Style};
use crate::clock::{self, Timestamp};
use crate::launch::{Form, Launch, Ledger, Mark, Record, Sentence, Story};
use crate::rollout::span;
use crate::runner::News;

/// Where nothing can be drawn, what is under way is said as often.
const SAY_EVERY: Duration = Duration::from_secs(30);

const BAR_WIDTH: usize = 16;

/// Tells a launch as it goes.
pub(super) struct Teller<'o> {
    out: &'o mut dyn Write,
    style: Look,
    story: Story,
    form: Form,
    all: bool,
    /// The number of the last record that was told.
    seq: u64,
    phases: Vec<String>,
    is_drawn: bool,
    said: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Json,
    Lines,
    Screen,
}

impl<'o> Teller<'o> {
    /// From the state of a ledger on.
    pub(super) fn new(out: &'o mut dyn Write, ledger: &Ledger, told: Told, as_json: bool) -> Self {
        let style = match io::stdout().is_terminal() {
            _ if as_json => Look::Json,
            true => Look::Screen,
            false => Look::Lines,
        };
        let form = form(&ledger.launch, told.local);
        let (story, seq) = (Story::after(ledger), ledger.seq);
        let phases = ledger.launch.phases.iter().map(|phase| phase.id.to_string()).collect();
        Self { out, style, story, form, all: told.all, seq, phases, is_drawn: false, said: None }
    }

    /// What was noted since.
    pub(super) fn catch_up(&mut self, client: &Client, name: &str) -> Result<(), Failure> {
        let records = client.records(name, self.seq, Duration::ZERO)?;
        self.records(&records);
        Ok(())
    }

    /// For the runner.
    pub(super) fn hear(&mut self, news: &News<'_>) {
        match news {
            News::Records(_, records) => self.records(records),
            News::Waiting { phase, since, limit, what, .. } => {
                let id = self.phases.get(*phase).cloned().unwrap_or_else(|| format!("phase {}", phase + 1));
                let of = format!("{} of {}", phase + 1, self.phases.len());
                self.waiting(&id, &of, what, *since, *limit);
            }
            News::Checking { item, limit } => {
                let since = clock::wall();
                self.waiting("checklist", "", &format!("running {item}'s command"), since, Some(*limit));
            }
        }
        _ = self.out.flush();
    }

    fn records(&mut self, records: &[Record]) {
        let told = self.seq;
        for record in records.iter().filter(|record| record.seq > told) {
            let sentence = self.story.tell(record);
            if self.style == Look::Json {
                _ = json(self.out, record);
            } else if self.all || !sentence.is_quiet {
                self.clear();
                let text = painted(&sentence, &self.form, self.style == Look::Screen && colored());
                _ = self.out.write_all(text.as_bytes());
                self.said = Some(record.at);
            }
        }
        self.seq = records.last().map_or(self.seq, |last| last.seq.max(self.seq));
    }

    fn waiting(&mut self, about: &str, of: &str, what: &str, since: Timestamp, limit: Option<Duration>) {
        let now = clock::wall();
        match self.style {
            Look::Json => {}
            Look::Screen => {
                let line = bar(about, of, what, now.since(since), limit, &self.form);
                let mut text = String::new();
                line.paint(width().saturating_sub(1), colored(), &mut text);
                _ = write!(self.out, "\r\x1b[K{}", text.trim_end());
                self.is_drawn = true;
            }
            Look::Lines => {
                let last = *self.said.get_or_insert(now);
                if now.since(last) >= SAY_EVERY {
                    self.said = Some(now);
                    let line = waits(about, what, now, since, limit, &self.form);
                    _ = writeln!(self.out, "{line}");
                }
            }
        }
    }

    /// A line of our own.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        _ = writeln!(self.out, "{}", crate::admin::client::printable(text));
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            _ = write!(self.out, "\r\x1b[K");
        }
    }
}

/// For this terminal.
pub(super) fn form(launch: &Launch, local: bool) -> Form {
    Form { zone: super::zone(local), ascii: super::is_ascii(), ..Form::of(launch) }
}

/// The line, and what was said on a failure below it.
pub(super) fn painted(sentence: &Sentence, form: &Form, color: bool) -> String {
    let style = match sentence.mark {
        Mark::Good | Mark::Note => Style::Plain,
        Mark::Begun => Style::Bold,
        Mark::Bad => Style::Trouble,
    };
    let mut text = String::new();
    // A sentence has all that it needs, also where it is wider than the terminal.
    Line::new().then(style, &sentence.line(form)).paint(usize::MAX, color, &mut text);
    for more in &sentence.more {
        let line = Line::new().then(Style::Plain, "          ").then(Style::Dim, &form.text(more));
        line.paint(usize::MAX, color, &mut text);
    }
    text
}

/// `traffic  ██████░░░░░░░░░░  rollout canary, stage 2 of 5 at 5 %  2 min 3 s of 5 min  (3 of 4)`.
fn bar(about: &str, of: &str, what: &str, elapsed: Duration, limit: Option<Duration>, form: &Form) -> Line {
    let part =
        limit.filter(|limit| !limit.is_zero()).map(|limit| elapsed.as_secs_f64() / limit.as_secs_f64());
    let full = part.map_or(0, |part| ((part * BAR_WIDTH as f64) as usize).min(BAR_WIDTH));
    let drawn = match part {
        Some(_) => "█".repeat(full) + &"░".repeat(BAR_WIDTH - full),
        // Without an end there is no part of the way.
        None => " ".repeat(BAR_WIDTH),
    };
    let of = if of.is_empty() { String::new() } else { format!("  ({of})") };
    Line::new()
        .then(Style::Bold, &form.text(about))
        .then(Style::Plain, "  ")
        .then(Style::Plain, &form.text(&drawn))
        .then(Style::Plain, &format!("  {}", form.text(what)))
        .then(Style::Dim, &format!("  {}{of}", time(elapsed, limit)))
}

/// `14:05:21  traffic    · rollout canary: 2 min 3 s of 5 min`.
fn waits(
    about: &str,
    what: &str,
    now: Timestamp,
    since: Timestamp,
    limit: Option<Duration>,
    form: &Form,
) -> String {
    let text = format!("{what}: {}", time(now.since(since), limit));
    let sentence = Sentence {
        at: now,
        about: about.into(),
        mark: Mark::Note,
        text: crate::admin::client::printable(&text),
        figures: None,
        more: Vec::new(),
        is_quiet: true,
    };
    sentence.line(form)
}

fn time(elapsed: Duration, limit: Option<Duration>) -> String {
    let elapsed = span(Duration::from_secs(elapsed.as_secs()));
    limit.map_or_else(|| elapsed.clone(), |limit| format!("{elapsed} of {}", span(limit)))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn form(ascii: bool) -> Form {
        Form { zone: TimeZone::UTC, ascii, column: 9 }
    }

    #[test]
    fn a_bar_shows_the_part_of_the_time_that_is_over() {
        #[track_caller]
        fn check(seconds: u64, limit: Option<u64>, ascii: bool, expected: &str) {
            let (elapsed, limit) = (Duration::from_secs(seconds), limit.map(Duration::from_secs));
            let mut text = String::new();
            bar("deploy", "2 of 4", "./deploy\x1b[2J", elapsed, limit, &form(ascii))
                .paint(120, false, &mut text);
            assert_eq!(text, expected);
        }
        check(0, Some(60), false, "deploy  ░░░░░░░░░░░░░░░░  ./deploy[2J  0 s of 1 min  (2 of 4)\n");
        check(30, Some(60), false, "deploy  ████████░░░░░░░░  ./deploy[2J  30 s of 1 min  (2 of 4)\n");
        check(90, Some(60), true, "deploy  ################  ./deploy[2J  1 min 30 s of 1 min  (2 of 4)\n");
        check(30, None, false, "deploy                    ./deploy[2J  30 s  (2 of 4)\n");
    }

    #[test]
    fn where_nothing_can_be_drawn_it_is_said_in_a_line() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let line = waits("traffic", "rollout canary", at(93), at(0), None, &form(false));
        assert_eq!(line, "00:01:33  traffic    · rollout canary: 1 min 33 s");
    }
}
