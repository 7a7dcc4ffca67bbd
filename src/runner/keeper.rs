//! Sees to it that a command ends with its runner.
//!
//! `tidegate launch keep INPUT_BYTES PROGRAM [ARGUMENT…]`, a process between a runner and a command. Its standard input is a pipe that only the
//! runner holds the other end of: however the runner goes, by `kill -9` too, the kernel closes it, and the keeper ends the command. A process
//! that only watched a process id, or a signal at the parent's death, would miss one case or another, and need `unsafe`. A runner that is alive writes
//! something there now and then: one that is stopped or hangs loses its lease, and its command ends before anybody else gets that.
//!
//! The command is the leader of a process group of its own, which is what is ended: first asked to (TERM), after [`GRACE`] made to (KILL). When
//! the command ends by itself, what it left behind in its group is ended at once. What calls `setsid` leaves the group on purpose,
//! as services do, and is left alone.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock;

/// How long a command that was asked to end may take: 5 s.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long a runner may be silent: 8 s. With [`GRACE`] less than its lease.
pub const SILENCE: Duration = Duration::from_secs(8);

/// How often is looked whether a group that was asked to end has.
const LOOK: Duration = Duration::from_millis(20);

/// More is not taken as a command's standard input.
pub(super) const INPUT_BYTES_MAX: usize = 16 << 20;

/// What the shell says when there is no such program.
const NOT_FOUND: u8 = 127;

/// What the shell says of a program that cannot be run.
const NOT_RUN: u8 = 126;

/// Keeps a command, if these are the arguments of a keeper: `launch keep …`. Not a verb for people: what comes after it passes as it is.
pub fn asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let is_ours = arguments.next()? == "launch" && arguments.next()? == "keep";
    is_ours.then(|| keep(&arguments.collect::<Vec<_>>()))
}

/// Runs a command until it ends, or until standard input does. `arguments`: how many bytes of standard input are the command's (the command
/// gets `/dev/null` if none are), the program, and its arguments.
///
/// The exit code is the command's; 128 and the signal's number if it ended by one; 127 if there is no such program, and 126 if it cannot be run,
/// which is said on standard error.
pub fn keep(arguments: &[OsString]) -> ExitCode {
    ExitCode::from(match kept(arguments) {
        Ok(status) => status.map_or(NOT_RUN, code),
        Err(refusal) => {
            // If nobody reads, nobody wants to know.
            _ = writeln!(io::stderr(), "{refusal}");
            refusal.code()
        }
    })
}

#[derive(Debug, Error)]
enum Refusal {
    #[error("usage: tidegate launch keep INPUT_BYTES PROGRAM [ARGUMENT…]")]
    Usage,
    #[error("its input broke off")]
    Input(#[source] io::Error),
    #[error("cannot run {}: {source}", .program.display())]
    NotRun { program: OsString, source: io::Error },
}

impl Refusal {
    fn code(&self) -> u8 {
        match self {
            Self::NotRun { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Usage | Self::Input(_) | Self::NotRun { .. } => NOT_RUN,
        }
    }
}

/// What the keeper waits for.
enum Event {
    /// The runner is alive.
    Beat,
    /// The command has ended, and is still to be reaped.
    Ended,
    /// The runner went away, or wants the command to end.
    Alone,
}

fn kept(arguments: &[OsString]) -> Result<Option<ExitStatus>, Refusal> {
    let [input_bytes, program, arguments @ ..] = arguments else { return Err(Refusal::Usage) };
    let input_bytes = input_bytes.to_str().and_then(|text| text.parse().ok()).ok_or(Refusal::Usage)?;
    if input_bytes > INPUT_BYTES_MAX {
        return Err(Refusal::Usage);
    }
    let _runtime = deaf();
    let mut input = vec![0; input_bytes];
    io::stdin().read_exact(&mut input).map_err(Refusal::Input)?;
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let spawned = Command::new(program).args(arguments).stdin(stdin).process_group(0).spawn();
    let mut command = spawned.map_err(|source| Refusal::NotRun { program: program.to_owned(), source })?;
    if let Some(mut stdin) = command.stdin.take() {
        // It need not read all of it.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let (tell, events) = mpsc::channel();
    let group = Pid::from_child(&command);
    listen(group, &tell);
    Ok(end(&mut command, group, &events))
}

/// Whether the terminal or somebody else says so does not matter: the pipe does. A handler, unlike an ignored signal, is not inherited by the
/// command.
fn deaf() -> Option<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let entered = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
        // It stays for as long as the process.
        drop(signal(kind));
    }
    drop(entered);
    Some(runtime)
}

fn listen(command: Pid, tell: &Sender<Event>) {
    let alone = tell.clone();
    thread::spawn(move || {
        let mut beats = [0; 64];
        loop {
            let event = match io::stdin().read(&mut beats) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => Event::Alone,
                Ok(_) => Event::Beat,
            };
            let is_last = matches!(event, Event::Alone);
            if alone.send(event).is_err() || is_last {
                return;
            }
        }
    });
    let ended = tell.clone();
    thread::spawn(move || {
        // Not reaped yet: its group's number is nobody else's as long as it is there.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = rustix::process::waitid(WaitId::Pid(command), options) {}
        _ = ended.send(Event::Ended);
    });
}

/// Waits until the command has ended, or ends it. Nothing of its group is left afterwards.
fn end(command: &mut Child, group: Pid, events: &Receiver<Event>) -> Option<ExitStatus> {
    let mut ended = None;
    let is_alone = loop {
        match events.recv_timeout(SILENCE) {
            Ok(Event::Beat) => {}
            Ok(Event::Ended) => break false,
            Ok(Event::Alone) | Err(_) => break true,
        }
    };
    if is_alone {
        _ = rustix::process::kill_process_group(group, Signal::TERM);
        // What is stopped would not hear it.
        _ = rustix::process::kill_process_group(group, Signal::CONT);
        let asked = clock::now();
        while clock::now().saturating_duration_since(asked) < GRACE {
            if let Ok(Event::Ended) = events.recv_timeout(LOOK) {
                ended = command.wait().ok();
            }
            let is_empty = || rustix::process::test_kill_process_group(group).is_err();
            if ended.is_some() && is_empty() {
                return ended;
            }
        }
    }
    _ = rustix::process::kill_process_group(group, Signal::KILL);
    ended.or_else(|| command.wait().ok())
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
