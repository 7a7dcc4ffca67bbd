//! Runs a command through its keeper.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process;
use tokio::runtime::Runtime;

use super::Orders;
use super::error::RunnerError;
use super::keeper;
use super::output::{Output, bounded};
use super::signs::{self, Signs};
use super::variables;
use crate::clock;
use crate::launch::{Command, Launch, Outcome, Variable, Verdict};
use crate::rollout::span;

/// Added to the keeper's own grace before it is given up.
const KEEPER_GRACE: Duration = Duration::from_secs(2);

/// How often a keeper hears that its runner is alive; a fraction of [`keeper::SILENCE`].
const BEAT: Duration = Duration::from_secs(2);

/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// The most that a pipe holds by default (pipe(7), `pipe-max-size`): what is still to be read when a command has ended.
const PIPE_BYTES_MAX: usize = 1 << 20;

/// Longer than this nobody says anything that was in the pipe already.
const QUIET: Duration = Duration::from_millis(100);

/// Runs the commands of a launch, one at a time, each under a keeper.
pub struct Commands {
    launch: Arc<Launch>,
    signs: Signs,
    runtime: Runtime,
    /// This program.
    keeper: PathBuf,
    /// Where they run.
    folder: PathBuf,
    /// The daemon's, which commands are told.
    socket: PathBuf,
}

/// What a command is run for; it is told so.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The phase's id, or the item's: `TIDEGATE_PHASE`.
    pub phase: &'a str,
    /// What of it: `TIDEGATE_STEP`.
    pub step: &'a str,
}

/// Why a command was ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    TimedOut,
    Halted,
}

impl Commands {
    /// Those of a launch. `socket`: the daemon's, which commands are told.
    ///
    /// # Errors
    /// [`RunnerError::Start`].
    pub fn new(launch: &Arc<Launch>, orders: &Orders, socket: &Path) -> Result<Self, RunnerError> {
        Self::under(launch, &Signs::new(), orders, socket)
    }

    pub(super) fn under(
        launch: &Arc<Launch>,
        signs: &Signs,
        orders: &Orders,
        socket: &Path,
    ) -> Result<Self, RunnerError> {
        let keeper = orders.keeper.clone();
        // The folder of a file that was named without one.
        let is_here = orders.folder.as_os_str().is_empty();
        let folder = if is_here { PathBuf::from(".") } else { orders.folder.clone() };
        let (launch, signs, socket) = (launch.clone(), signs.clone(), socket.to_owned());
        Ok(Self { launch, signs, runtime: signs::runtime()?, keeper, folder, socket })
    }

    /// Runs it until it ends or the time is over; what it said, at most 4 KiB, also if all is well. Nothing of its process group is left
    /// afterwards. `input`: its standard input. `None`: it was ended, because the runner has to let go.
    pub fn run(
        &self,
        command: &Command,
        place: Place<'_>,
        input: Option<Vec<u8>>,
        limit: Duration,
    ) -> Option<Outcome> {
        let begun = clock::now();
        let (verdict, said) = self.outcome(command, place, &input.unwrap_or_default(), limit)?;
        let took = clock::now().saturating_duration_since(begun).as_millis();
        Some(Outcome { verdict, said: bounded(said), took_ms: u64::try_from(took).unwrap_or(u64::MAX) })
    }

    fn outcome(
        &self,
        command: &Command,
        place: Place<'_>,
        input: &[u8],
        limit: Duration,
    ) -> Option<(Verdict, String)> {
        let argv = match self.argv(command) {
            Ok(argv) => argv,
            Err(why) => return Some((Verdict::Failed, why)),
        };
        if input.len() > keeper::INPUT_BYTES_MAX {
            let max = keeper::INPUT_BYTES_MAX;
            return Some((Verdict::Failed, format!("its input has {} bytes, more than {max}", input.len())));
        }
        let secrets = variables::secrets(&self.launch);
        let mut output = Output::new(secrets.clone());
        let kept = self.runtime.block_on(self.kept(&argv, place, input, limit, &mut output));
        let text = output.whole();
        Some(match kept {
            Err(error) => {
                let program = argv.first().map_or("", |program| program);
                let why = format!("{program} cannot be started through {}: {error}", self.keeper.display());
                (Verdict::Failed, secrets.mask(&why))
            }
            Ok((_, Some(Cut::Halted))) => return None,
            Ok((_, Some(Cut::TimedOut))) => {
                (Verdict::TimedOut, after(format!("not done after {}, and ended", span(limit)), &text))
            }
            Ok((Some(status), None)) if status.success() => (Verdict::Passed, text),
            Ok((status, None)) => (Verdict::Failed, after(ending(status), &text)),
        })
    }

    /// The program and its arguments.
    fn argv<'c>(&self, command: &'c Command) -> Result<Vec<Cow<'c, str>>, String> {
        match command {
            Command::Argv(argv) => {
                argv.iter().map(|text| Ok(Cow::Owned(variables::expand(&self.launch, text)?))).collect()
            }
            // What a variable holds is never read as shell.
            Command::Shell(line) => Ok(vec!["sh".into(), "-c".into(), (&**line).into()]),
        }
    }

    pub(super) fn launch(&self) -> &Arc<Launch> {
        &self.launch
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    async fn kept(
        &self,
        argv: &[Cow<'_, str>],
        place: Place<'_>,
        input: &[u8],
        limit: Duration,
        output: &mut Output,
    ) -> io::Result<(Option<ExitStatus>, Option<Cut>)> {
        let (reader, writer) = io::pipe()?;
        let mut command = process::Command::new(&self.keeper);
        command.args(["launch", "keep"]).arg(input.len().to_string());
        command.args(argv.iter().map(|argument| OsStr::new(&**argument)));
        command.current_dir(&self.folder).envs(self.variables()).envs([
            ("TIDEGATE_LAUNCH", &*self.launch.name),
            ("TIDEGATE_SERVICE", &*self.launch.service),
            ("TIDEGATE_PHASE", place.phase),
            ("TIDEGATE_STEP", place.step),
        ]);
        command.env("TIDEGATE_SOCKET", &self.socket).process_group(0);
        command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
        let mut keeper = command.spawn()?;
        // Its ends of the pipe.
        drop(command);
        let mut said = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        // The keeper takes this as a sign of life.
        let mut lifeline = keeper.stdin.take();
        if let Some(lifeline) = lifeline.as_mut().filter(|_| !input.is_empty()) {
            // If it does not take it, it has ended.
            _ = tokio::time::timeout(limit, lifeline.write_all(input)).await;
        }

        let mut piece = vec![0; PIECE_BYTES];
        let (mut is_open, mut cut) = (true, None);
        let mut patience = std::pin::pin!(tokio::time::sleep(limit));
        let mut halted = std::pin::pin!(self.signs.until_halted());
        let mut beat = tokio::time::interval(BEAT);
        let status = loop {
            tokio::select! {
                status = keeper.wait() => break status.ok(),
                read = said.read(&mut piece), if is_open => match read {
                    Ok(read) if read > 0 => output.take(&piece[..read]),
                    Ok(_) | Err(_) => is_open = false,
                },
                _ = beat.tick() => {
                    if let Some(lifeline) = &mut lifeline {
                        // A keeper that is gone is noticed otherwise.
                        _ = tokio::time::timeout(BEAT, lifeline.write_all(b".")).await;
                    }
                }
                () = &mut halted, if cut.is_none() => {
                    cut = Some(Cut::Halted);
                    lifeline = None;
                    patience.set(tokio::time::sleep(keeper::GRACE + KEEPER_GRACE));
                }
                () = &mut patience => {
                    if cut.is_some() {
                        // Not even its keeper: nothing more can be done.
                        _ = keeper.start_kill();
                        break None;
                    }
                    cut = Some(Cut::TimedOut);
                    lifeline = None;
                    patience.set(tokio::time::sleep(keeper::GRACE + KEEPER_GRACE));
                }
            }
        };
        drop(lifeline);
        // All that its group wrote is in the pipe. Somebody who left the group may hold it open, and is not waited for.
        let mut left = PIPE_BYTES_MAX;
        while is_open && left > 0 {
            match tokio::time::timeout(QUIET, said.read(&mut piece)).await {
                Ok(Ok(read)) if read > 0 => {
                    output.take(&piece[..read]);
                    left = left.saturating_sub(read);
                }
                Ok(_) | Err(_) => is_open = false,
            }
        }
        Ok((status, cut))
    }

    /// Those with recorded values; secrets are in the environment already.
    fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.launch.variables.iter().filter_map(|(name, variable)| match variable {
            Variable::Value(value) => Some((&**name, &**value)),
            Variable::Secret => None,
        })
    }
}

/// What a command ended with; the keeper says signals as a shell does.
fn ending(status: Option<ExitStatus>) -> String {
    match status.and_then(|status| status.code()) {
        Some(code @ 129..=192) => format!("exit code {code} (signal {})", code - 128),
        Some(code) => format!("exit code {code}"),
        None => "its keeper was killed".to_owned(),
    }
}

fn after(what: String, text: &str) -> String {
    if text.is_empty() { what } else { format!("{what}\n{text}") }
}
