//! What ends what is under way before its time: the lease is lost, somebody wants the runner to end, the launch is to be undone.
//!
//! One value that every thread of a runner watches. Two threads only ever say something: one listens for signals, one keeps the lease.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::error::RunnerError;
use crate::admin::api::{HeartbeatRequest, LEASE_MS};
use crate::admin::client::{Client, ClientError};

/// How often the daemon hears of us.
const BEAT: Duration = Duration::from_millis(LEASE_MS / 3);

/// Until a heartbeat that did not arrive is tried again.
const BEAT_AGAIN: Duration = Duration::from_secs(1);

/// Why a runner has to let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// Somebody said so: Ctrl-C, TERM or HUP.
    Interrupted,
    /// The daemon says that the lease is somebody else's, or over.
    Lost,
}

#[derive(Debug, Default)]
struct Signals {
    halt: Option<Halt>,
    /// Why the launch is to be undone.
    stopped: Option<Arc<str>>,
    is_over: bool,
}

/// What every thread of a runner watches.
#[derive(Clone, Debug)]
pub(super) struct Signs(Arc<watch::Sender<Signals>>);

/// What ended a rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: the time is over.
    Over,
    /// The runner has to let go.
    Halted,
    /// The launch is to be undone, for this reason.
    Stopped(Arc<str>),
}

impl Signs {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Signals::default())))
    }

    /// The runner has to let go. The first reason stands.
    pub(super) fn halt(&self, why: Halt) {
        self.0.send_modify(|signals| _ = signals.halt.get_or_insert(why));
    }

    /// The launch is to be undone.
    pub(super) fn stop(&self, why: String) {
        self.0.send_if_modified(|signals| {
            let is_new = signals.stopped.is_none();
            signals.stopped.get_or_insert_with(|| why.into());
            is_new
        });
    }

    /// The runner is done: its threads end.
    pub(super) fn end(&self) {
        self.0.send_modify(|signals| signals.is_over = true);
    }

    pub(super) fn halted(&self) -> Option<Halt> {
        self.0.borrow().halt
    }

    /// Why the launch is to be undone, if it is.
    pub(super) fn stopped(&self) -> Option<Arc<str>> {
        self.0.borrow().stopped.clone()
    }

    /// Waits for `pause`; whether the runner has to let go instead.
    pub(super) fn pause(&self, runtime: &Runtime, pause: Duration) -> bool {
        runtime.block_on(async { tokio::time::timeout(pause, self.until_halted()).await.is_ok() })
    }

    /// Resolves once the runner has to let go.
    pub(super) async fn until_halted(&self) {
        // The sender is ours: it cannot be gone.
        _ = self.0.subscribe().wait_for(|signals| signals.halt.is_some()).await;
    }

    /// Waits for `pause`, or until there is a reason not to.
    pub(super) fn rest(&self, runtime: &Runtime, pause: Duration) -> Rest {
        let ended = runtime.block_on(async {
            let mut seen = self.0.subscribe();
            let ended = seen.wait_for(|signals| signals.halt.is_some() || signals.stopped.is_some());
            tokio::time::timeout(pause, ended).await.is_ok()
        });
        let signals = self.0.borrow();
        match (&signals.stopped, ended) {
            (_, true) if signals.halt.is_some() => Rest::Halted,
            (Some(why), true) => Rest::Stopped(why.clone()),
            _ => Rest::Over,
        }
    }

    /// Takes Ctrl-C, TERM and HUP from here on: the runner has to let go.
    pub(super) fn listen(&self) -> Result<(), RunnerError> {
        let start = |source| RunnerError::Start { what: "listening for signals", source };
        let runtime = runtime()?;
        let entered = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(start)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(start)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(start)?;
        drop(entered);
        let signs = self.clone();
        let listen = move || {
            runtime.block_on(async {
                let mut seen = signs.0.subscribe();
                tokio::select! {
                    _ = interrupt.recv() => signs.halt(Halt::Interrupted),
                    _ = terminate.recv() => signs.halt(Halt::Interrupted),
                    _ = hangup.recv() => signs.halt(Halt::Interrupted),
                    _ = seen.wait_for(|signals| signals.is_over) => {}
                }
            });
        };
        spawn("signals", listen).map(drop)
    }

    /// Keeps the lease until the runner is done or the daemon says that it is not ours.
    pub(super) fn keep_lease(
        &self,
        client: &Client,
        launch: &str,
        fence: u64,
    ) -> Result<JoinHandle<()>, RunnerError> {
        let (signs, runtime) = (self.clone(), runtime()?);
        let (client, launch) = (client.another()?, launch.to_owned());
        let beat = move || {
            loop {
                let pause = match client.heartbeat(&launch, &HeartbeatRequest { fence, release: false }) {
                    Ok(_) => BEAT,
                    Err(ClientError::Refused { status: 400..500, .. }) => {
                        signs.halt(Halt::Lost);
                        return;
                    }
                    Err(_) => BEAT_AGAIN,
                };
                let is_over = runtime.block_on(async {
                    let mut seen = signs.0.subscribe();
                    tokio::time::timeout(pause, seen.wait_for(|signals| signals.is_over)).await.is_ok()
                });
                if is_over {
                    return;
                }
            }
        };
        spawn("lease", beat)
    }
}

/// A runtime on this very thread, that runs only while somebody waits.
pub(super) fn runtime() -> Result<Runtime, RunnerError> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|source| RunnerError::Start { what: "a runtime", source })
}

pub(super) fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, RunnerError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|source| RunnerError::Start { what: "a thread", source })
}
