//! The daemon: signals and the exit code around [`Running`].

use std::path::PathBuf;
use std::pin::Pin;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use super::running::{Extras, Running, Source, StartError};
use crate::admin::api::{Problem, Reloaded};
use crate::config::{self, ConfigError, Overrides};
use crate::control::Control;

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// What the command line said.
    pub overrides: Overrides,
}

/// Why the daemon did not run to its proper end.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is valid, and this machine or its neighbours do not allow it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ran, and its last state is not on disk.
    #[error("stopped, but the state could not be saved")]
    NotSaved,
}

/// Runs until it is told to stop: TERM and INT drain, a second one ends at once, HUP reloads.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    let config = config::load(&options.config, &options.overrides)?;
    for warning in &config.warnings {
        eprintln!("tidegate: warning: {warning}");
    }
    let services = config.control.services.len();
    let source = Source { path: options.config, overrides: options.overrides };
    let running = Running::start(config, Extras { source: Some(source), ..Extras::default() })?;
    // First, so that whoever reads that it runs may send signals.
    listen_for_signals(&running)?;
    announce(&running, services);
    away_from_start(running.control()).iter().for_each(|line| eprintln!("tidegate: {line}"));
    if running.wait()? { Ok(()) } else { Err(RunError::NotSaved) }
}

fn announce(running: &Running, services: usize) {
    let addresses: Vec<_> = running.addresses().iter().map(ToString::to_string).collect();
    let plural = if services == 1 { "service" } else { "services" };
    eprintln!(
        "tidegate {}: {services} {plural} on {}, admin socket {}{}",
        env!("CARGO_PKG_VERSION"),
        addresses.join(", "),
        running.socket().display(),
        running
            .telemetry()
            .map_or_else(String::new, |address| format!(", metrics on http://{address}/metrics")),
    );
}

/// One line for each service that is not where its configuration starts it, and one for those that do not fit.
fn away_from_start(control: &Control) -> Vec<String> {
    const LINES_MAX: usize = 9;
    let (mut lines, mut more) = (Vec::new(), 0_usize);
    for state in control.desired().services().iter() {
        // What is no longer configured has no traffic either.
        let Some(config) = control.config(&state.name) else { continue };
        if state.lock.is_none() && state.weight == config.initial_weight {
            continue;
        }
        if lines.len() == LINES_MAX {
            more += 1;
            continue;
        }
        let at = format!("{}: {} {}", state.name, state.candidate(), state.weight).replace('%', " %");
        lines.push(match &state.lock {
            Some(lock) => format!("{at}, locked ({}) since {}", lock.cause, lock.at),
            None => format!("{at} since {}", state.changed.time),
        });
    }
    if more > 0 {
        lines.push(format!("and {more} more that are not at their start; see `tidegate status`"));
    }
    lines
}

/// TERM and INT drain, a second one ends at once, HUP reloads. Signals have a thread of their own, so that the
/// second one is heard while the first is being obeyed.
pub fn listen_for_signals(running: &Running) -> Result<(), StartError> {
    let system = |what| move |source| StartError::System { what, source };
    let (stop, reload) = (running.stopper(), running.reloader());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("a runtime"))?;
    let (mut term, mut int, mut hup) = {
        let _inside = runtime.enter();
        let on = |kind| signal(kind).map_err(system("a signal handler"));
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?, on(SignalKind::hangup())?)
    };
    let listen = move || {
        runtime.block_on(async {
            let mut asked = false;
            // Beside the signals, because a file may take its time. HUPs meanwhile become one more afterwards.
            let mut reloading = None;
            loop {
                let is_free = reloading.is_none();
                let reloaded = async {
                    match &mut reloading {
                        Some(reload) => Pin::as_mut(reload).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = term.recv() => stop(std::mem::replace(&mut asked, true)),
                    _ = int.recv() => stop(std::mem::replace(&mut asked, true)),
                    result = reloaded => {
                        tell(result);
                        reloading = None;
                    }
                    _ = hup.recv(), if is_free => reloading = Some(Box::pin(reload())),
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(system("a thread"))?;
    Ok(())
}

fn tell(reload: Result<Reloaded, Problem>) {
    match reload {
        Ok(reloaded) => {
            let count = reloaded.changes.len();
            eprintln!("tidegate: reloaded, {count} {}", if count == 1 { "change" } else { "changes" });
        }
        Err(problem) => {
            eprintln!("tidegate: not reloaded, the old configuration stays: {}", problem.error);
        }
    }
}
