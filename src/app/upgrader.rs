//! The order to upgrade, by the admin socket or by a signal: one at a time, told in the audit log.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::handover::{Failed, Giver, Links, Origin, Upgrading};
use super::phase::{Phase, raise};
use crate::admin::api::{Problem, ProblemKind, ProcessVersion, UpgradeRequest, Upgraded};
use crate::clock;
use crate::control::{Control, Who};
use crate::proxy::Proxy;
use crate::store::AuditEntry;

/// How long the new process may take until it is ready, unless somebody says otherwise.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Everything that is needed to pass on.
pub(super) struct Upgrader {
    pub(super) control: Control,
    pub(super) proxy: Arc<Proxy>,
    /// `None`: this process cannot be started anew as it was.
    pub(super) origin: Option<Origin>,
    pub(super) state: PathBuf,
    pub(super) admin: PathBuf,
    /// Gone once this process is on its way out.
    pub(super) copies: Mutex<Option<Copies>>,
    pub(super) phase: watch::Sender<Phase>,
    /// Becomes true when another process has taken over.
    pub(super) passed_on: watch::Sender<bool>,
    pub(super) host: String,
    /// How long this process may hold on afterwards.
    pub(super) handover: Duration,
    /// Conversations with those before this process.
    pub(super) links: Arc<Links>,
    pub(super) is_under_way: AtomicBool,
}

/// Listening sockets that are served on another thread.
pub(super) struct Copies {
    pub(super) admin: UnixListener,
    pub(super) admin_keeps_file: Arc<AtomicBool>,
    pub(super) telemetry: Option<(SocketAddr, TcpListener)>,
}

impl Upgrader {
    /// Passes everything on; returns once the other process serves, or why it does not.
    pub(super) async fn upgrade(
        self: Arc<Self>,
        request: UpgradeRequest,
        who: Who,
    ) -> Result<Upgraded, Problem> {
        let begun = clock::now();
        let (tell, told) = oneshot::channel();
        // A thread of its own: this is a conversation with somebody who may be slow, and it goes on whoever listens.
        let work = move || {
            let upgrader = self.clone();
            upgrader.pass_on(&request, &who, begun, tell);
        };
        let spawned = std::thread::Builder::new().name("upgrade".to_owned()).spawn(work);
        if spawned.is_err() {
            return Err(refused(ProblemKind::Internal, "there is no thread for it"));
        }
        told.await.unwrap_or_else(|_| Err(refused(ProblemKind::Internal, "it broke off")))
    }

    fn pass_on(
        &self,
        request: &UpgradeRequest,
        who: &Who,
        begun: Instant,
        tell: oneshot::Sender<Result<Upgraded, Problem>>,
    ) {
        if self.is_under_way.swap(true, Ordering::AcqRel) {
            // Whoever asked may have gone.
            let _ = tell.send(Err(refused(ProblemKind::Conflict, "another upgrade is under way")));
            return;
        }
        let passed_on = self.try_to_pass_on(request, who, begun);
        self.is_under_way.store(false, Ordering::Release);
        match passed_on {
            Err(problem) => drop(tell.send(Err(problem))),
            Ok((upgraded, upgrading)) => {
                self.passed_on.send_replace(true);
                raise(&self.phase, Phase::Leaving);
                // Whoever asked may have gone.
                let _ = tell.send(Ok(upgraded));
                upgrading.follow(&self.control, |now| {
                    raise(&self.phase, if now { Phase::Stopping } else { Phase::Draining });
                });
            }
        }
    }

    fn try_to_pass_on(
        &self,
        request: &UpgradeRequest,
        who: &Who,
        begun: Instant,
    ) -> Result<(Upgraded, Upgrading), Problem> {
        let may_go = || *self.phase.borrow() == Phase::Serving;
        if let Some(why) = self.control.closed() {
            return Err(refused(ProblemKind::Unavailable, &why));
        }
        if !may_go() {
            return Err(refused(ProblemKind::Unavailable, "this process is on its way out"));
        }
        if std::process::id() == 1 {
            let why = "process 1 takes its container with it when it goes; replace the container instead";
            return Err(refused(ProblemKind::Conflict, why));
        }
        let origin = self.origin.clone();
        let Some(origin) = origin else {
            let why = "this process cannot be started anew as it was";
            return Err(refused(ProblemKind::Conflict, why));
        };
        let system = |error: io::Error| refused(ProblemKind::Internal, &error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let binary = request.binary.as_ref().map_or_else(|| origin.binary.clone(), PathBuf::from);
        let within = request.timeout_ms.map_or(READY_WITHIN, Duration::from_millis);
        let giver = self.giver(origin).map_err(system)?;
        self.record(
            "upgrade",
            who,
            Some(format!("{} in place of process {}", binary.display(), std::process::id())),
            who.reason.clone(),
        );
        match giver.upgrade(&binary, within, &runtime, may_go) {
            Ok(upgrading) => {
                let took = clock::now().saturating_duration_since(begun);
                let version = env!("CARGO_PKG_VERSION").to_owned();
                let upgraded = Upgraded {
                    host: self.host.clone(),
                    old: ProcessVersion { pid: std::process::id(), version },
                    new: ProcessVersion { pid: upgrading.pid, version: upgrading.version.clone() },
                    took_ms: millis(took),
                    closed_ms: millis(upgrading.closed),
                    handover_ms: millis(self.handover),
                };
                Ok((upgraded, upgrading))
            }
            Err(failed) => {
                let why = story(&failed.why);
                eprintln!("tidegate: not upgraded, this process goes on: {why}");
                if let Some(lost) = &failed.lost {
                    let lost = story(lost);
                    eprintln!("tidegate: WARNING: the state cannot be saved as before: {lost}");
                }
                self.record("upgrade-failed", who, None, Some(why));
                Err(refused(ProblemKind::Internal, &text(&failed)))
            }
        }
    }

    fn giver(&self, origin: Origin) -> io::Result<Giver> {
        let gone = || io::Error::other("this process is on its way out");
        let sockets = self.proxy.share_sockets()?.ok_or_else(gone)?;
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let copies = copies.as_ref().ok_or_else(gone)?;
        let telemetry = copies.telemetry.as_ref();
        let telemetry =
            telemetry.map(|(address, socket)| Ok::<_, io::Error>((*address, socket.try_clone()?)));
        Ok(Giver {
            origin,
            control: self.control.clone(),
            state: self.state.clone(),
            admin: self.admin.clone(),
            admin_socket: copies.admin.try_clone()?,
            admin_keeps_file: copies.admin_keeps_file.load(Ordering::Acquire),
            telemetry: telemetry.transpose()?,
            listen: sockets.into_places(),
            links: self.links.clone(),
        })
    }

    fn record(&self, what: &str, who: &Who, to: Option<String>, reason: Option<String>) {
        self.control.record(AuditEntry {
            time: clock::wall(),
            what: what.to_owned(),
            generation: self.control.generation(),
            actor: who.actor.clone(),
            claimed: who.claimed.clone(),
            to,
            reason,
            ..AuditEntry::default()
        });
    }
}

fn refused(kind: ProblemKind, why: &str) -> Problem {
    Problem { kind, error: format!("not upgraded: {why}") }
}

/// Why, and the last that the new process had to say.
fn text(failed: &Failed) -> String {
    let mut text = story(&failed.why);
    for line in failed.said.iter().filter(|line| !line.is_empty()) {
        // It may be the very sentence.
        if !text.contains(line.trim_start_matches("tidegate: ")) {
            _ = write!(text, "\n  {line}");
        }
    }
    text
}

/// An error and its causes in one line.
fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
