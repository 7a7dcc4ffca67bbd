//! The daemon: signals and the exit code around [`Running`].

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use super::handover::{Elders, Inherited, Link, Origin, Taken, Taker};
use super::running::{Daemon, Extras, Prepared, Running, Source, StartError};
use super::supervisor::Supervisor;
use crate::admin::api::{Problem, Reloaded, Upgraded};
use crate::clock;
use crate::config::{self, ConfigError, Overrides};
use crate::control::{self, Control, Opened};
use crate::store::AuditEntry;

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

/// Runs until it is told to stop: TERM and INT drain, a second one ends at once, HUP reloads, USR2 passes everything on
/// to a process started anew. If this is such a process, it takes over first.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    // While there is one thread: it removes variables.
    let given = Inherited::from_service_manager().map_err(StartError::from)?;
    let Some((taker, inherited)) = Taker::of_process().map_err(StartError::from)? else {
        let (prepared, services) = prepare(options, given)?;
        let opened = Opened::open(prepared.state()).map_err(StartError::from)?;
        return serve(Running::begin(prepared, opened, None)?, services, || ());
    };
    let prepared = prepare(options, inherited).and_then(|prepared| {
        taker.is_about(prepared.0.state()).map_err(StartError::from)?;
        Ok(prepared)
    });
    let begun = prepared.and_then(|(prepared, services)| {
        let Taken { health, lock, elders } = taker.receive().map_err(StartError::from)?;
        let opened = Opened::take_over(prepared.state(), lock).map_err(StartError::from)?;
        Ok((Running::begin(prepared, opened, Some(&health))?, elders, services))
    });
    match begun {
        Ok((running, elders, services)) => take_over(taker, elders, running, services),
        Err(error) => {
            taker.refuse(with_causes(&error));
            Err(error)
        }
    }
}

fn prepare(options: RunOptions, inherited: Inherited) -> Result<(Prepared, usize), RunError> {
    let system = |what| move |source| StartError::System { what, source };
    let config = config::load(&options.config, &options.overrides)?;
    for warning in &config.warnings {
        eprintln!("tidegate: warning: {warning}");
    }
    let services = config.control.services.len();
    let source = Source { path: options.config, overrides: options.overrides };
    let extras = Extras { source: Some(source), ..Extras::default() };
    let supervisor = Supervisor::of_process().map_err(system("the way to the service manager"))?;
    let origin = Origin::of_process().map_err(system("the path of this program"))?;
    let daemon = Daemon { origin: Some(origin), supervisor: Arc::new(supervisor) };
    Ok((Prepared::new(config, extras, daemon, inherited)?, services))
}

/// Serves in place of another process from now on.
fn take_over(taker: Taker, elders: Elders, running: Running, services: usize) -> Result<(), RunError> {
    let (pid, version) = taker.old();
    let (old, control) = (format!("process {pid}, tidegate {version}"), running.control().clone());
    let links = taker.serves(elders, &control, running.socket());
    control.open();
    control.record(AuditEntry {
        time: clock::wall(),
        what: "upgraded".to_owned(),
        generation: control.generation(),
        actor: control::TIDEGATE.to_owned(),
        from: Some(old),
        to: Some(format!("process {}, tidegate {}", std::process::id(), env!("CARGO_PKG_VERSION"))),
        ..AuditEntry::default()
    });
    links.iter().rev().take(1).for_each(Link::is_open);
    let begin_links = running.linker();
    serve(running, services, move || begin_links(links))
}

/// Serves until it is told to stop.
fn serve(running: Running, services: usize, beside: impl FnOnce()) -> Result<(), RunError> {
    // First, so that whoever reads that it runs may send signals.
    listen_for_signals(&running)?;
    beside();
    announce(&running, services);
    away_from_start(running.control()).iter().for_each(|line| eprintln!("tidegate: {line}"));
    if running.wait()? { Ok(()) } else { Err(RunError::NotSaved) }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(&format!(": {more}"));
        }
        cause = error.source();
    }
    text
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
    running.supervisor().serves(&format!("{services} {plural} on {}", addresses.join(", ")));
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

/// TERM and INT drain, a second one ends at once, HUP reloads, USR2 upgrades. Signals have a thread of their own, so that the
/// second one is heard while the first is being obeyed.
pub fn listen_for_signals(running: &Running) -> Result<(), StartError> {
    let system = |what| move |source| StartError::System { what, source };
    let (stop, reload, upgrade) = (running.stopper(), running.reloader(), running.upgrader());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("a runtime"))?;
    let (mut term, mut int, mut hup, mut usr2) = {
        let _inside = runtime.enter();
        let on = |kind| signal(kind).map_err(system("a signal handler"));
        (
            on(SignalKind::terminate())?,
            on(SignalKind::interrupt())?,
            on(SignalKind::hangup())?,
            on(SignalKind::user_defined2())?,
        )
    };
    let listen = move || {
        runtime.block_on(async {
            let mut asked = false;
            // Beside the signals, because a file may take its time. HUPs meanwhile become one more afterwards.
            let (mut reloading, mut upgrading) = (None, None);
            loop {
                let (is_free, may_upgrade) = (reloading.is_none(), upgrading.is_none());
                let upgraded = async {
                    match &mut upgrading {
                        Some(upgrade) => Pin::as_mut(upgrade).await,
                        None => std::future::pending().await,
                    }
                };
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
                    result = upgraded => {
                        tell_upgrade(result);
                        upgrading = None;
                    }
                    _ = usr2.recv(), if may_upgrade => upgrading = Some(Box::pin(upgrade())),
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(system("a thread"))?;
    Ok(())
}

/// Why it failed was said where it did.
fn tell_upgrade(upgrade: Result<Upgraded, Problem>) {
    match upgrade {
        Ok(Upgraded { new, .. }) => {
            let (pid, version) = (new.pid, new.version);
            eprintln!("tidegate: process {pid} has taken over (tidegate {version})");
        }
        Err(problem) => eprintln!("tidegate: {}", problem.error),
    }
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
