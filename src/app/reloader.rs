//! The configuration, read again: what a running process can take over, and what waits for an upgrade or a restart.

use std::error::Error as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::running::Source;
use super::supervisor::Supervisor;
use crate::admin::api::{Problem, ProblemKind, ReloadRequest, Reloaded};
use crate::clock;
use crate::config::{self, Config, ConfigError, Planner};
use crate::control::{Control, Keep, Who};
use crate::hooks::HookSettings;
use crate::launch::Roles;
use crate::proxy::{
    Certificate, CertificateError, ListenerSettings, LiveSettings, ProxySettings, TlsSettings,
};
use crate::traffic::Keys;

/// How long reading the file may take: one on a network that is down is never read.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// Reads the configuration again.
pub(super) struct Reloader {
    pub(super) control: Control,
    pub(super) live: Arc<ArcSwap<LiveSettings>>,
    pub(super) keys: Arc<ArcSwap<Keys>>,
    pub(super) planner: Arc<ArcSwap<Planner>>,
    pub(super) hooks: Arc<ArcSwap<HookSettings>>,
    pub(super) roles: Arc<ArcSwap<Roles>>,
    pub(super) source: Option<Source>,
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) fixed: Fixed,
    /// The addresses of the configuration that this process was started with.
    pub(super) listen: Vec<SocketAddr>,
    pub(super) drift: Mutex<Vec<String>>,
    pub(super) turns: Turns,
}

/// One reload after the other: who reads first commits first, so that an older file never replaces a newer one.
#[derive(Default)]
pub(super) struct Turns {
    whole: tokio::sync::Mutex<()>,
    /// Kept by the thread that reads, for as long as it does: one that hangs is not joined by another.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Reloader {
    pub(super) async fn reload(&self, request: ReloadRequest, who: Who) -> Result<Reloaded, Problem> {
        let _turn = self.turns.whole.lock().await;
        if request.dry_run {
            return self.reload_in_turn(request, who).await;
        }
        self.supervisor.reloads();
        let reloaded = self.reload_in_turn(request, who).await;
        self.supervisor.has_reloaded();
        reloaded
    }

    async fn reload_in_turn(&self, request: ReloadRequest, who: Who) -> Result<Reloaded, Problem> {
        let mut config = self.read().await?;
        let waits = self.fixed.waiting(&Fixed::of(
            &config.proxy,
            &config.control.state,
            &config.admin,
            &config.telemetry,
        ));
        config.proxy.live.arrange(&config.proxy.listen, &self.listen, &self.live.load());
        let overlay = if request.discard_overlay { Keep::Nothing } else { Keep::All };
        let changed_live = **self.live.load() != config.proxy.live;
        let mut reloaded = if request.dry_run {
            self.control.reload_dry_run(config.control.services, overlay)?
        } else {
            let reloaded = self.control.reload(config.control.services, overlay, &who).await?;
            self.live.store(Arc::new(config.proxy.live));
            self.planner.store(Arc::new(config.planner));
            self.hooks.store(Arc::new(config.hooks));
            self.roles.store(Arc::new(config.roles));
            // Without keys in the file, the generated ones stay: nothing else could verify the cookies out there.
            if let Some(keys) = config.cookie.keys {
                self.keys.store(Arc::new(keys));
            }
            *self.drift.lock().unwrap_or_else(PoisonError::into_inner) = waits.clone();
            reloaded
        };
        if changed_live {
            reloaded.changes.push("listeners, certificates, timeouts, limits or trusted proxies".to_owned());
        }
        let drift = waits.into_iter().chain(reloaded.drift).collect();
        let (applied, generation) = (!request.dry_run, self.control.generation());
        Ok(Reloaded { generation, applied, changes: reloaded.changes, drift })
    }

    /// Serves each listener with what the files of its TLS hold now; one whose files are broken stays as it is. What
    /// has changed, in words, and what is broken.
    pub(super) async fn reload_certificates(&self) -> (Vec<String>, Vec<CertificateError>) {
        let before = self.live.load_full();
        let read = {
            let before = before.clone();
            let read = move || before.listeners.iter().map(read_again).collect::<Vec<_>>();
            tokio::task::spawn_blocking(read).await.unwrap_or_default()
        };
        // Only now, because a disk may hang: a reload that came meanwhile has read the files itself.
        let _turn = self.turns.whole.lock().await;
        let mut live = LiveSettings::clone(&self.live.load());
        let (mut changed, mut broken) = (Vec::new(), Vec::new());
        let listeners = live.listeners.iter_mut().zip(&before.listeners).zip(&self.listen);
        for (((listener, before), address), read) in listeners.zip(read) {
            let (Some(tls), Some(before)) = (&mut listener.tls, &before.tls) else { continue };
            match read {
                Some(Ok(new)) if Arc::ptr_eq(tls, before) => {
                    let until = new.certificates.iter().map(Certificate::not_after).min().unwrap_or_default();
                    changed.push(format!("{address}: valid until {until}"));
                    *tls = Arc::new(new);
                }
                Some(Err(error)) => broken.push(error),
                Some(Ok(_)) | None => {}
            }
        }
        if !changed.is_empty() {
            self.live.store(Arc::new(live));
        }
        (changed, broken)
    }

    async fn read(&self) -> Result<Config, Problem> {
        let Some(source) = self.source.clone() else {
            let error = "this process was not started from a configuration file".to_owned();
            return Err(Problem { kind: ProblemKind::Conflict, error });
        };
        let file = source.path.display().to_string();
        let Ok(reading) = self.turns.reading.clone().try_lock_owned() else {
            let error = format!("an earlier reload is still reading {file}");
            return Err(Problem { kind: ProblemKind::Unavailable, error });
        };
        let read = tokio::task::spawn_blocking(move || {
            let _reading = reading;
            config::load(&source.path, &source.overrides)
        });
        match tokio::time::timeout(READ_PATIENCE, read).await {
            Ok(Ok(Ok(config))) => Ok(config),
            Ok(Ok(Err(error))) => Err(refused(&error)),
            Ok(Err(_)) => {
                let error = "reading the configuration failed".to_owned();
                Err(Problem { kind: ProblemKind::Internal, error })
            }
            Err(_) => {
                let error = format!("reading {file} took longer than {} s", READ_PATIENCE.as_secs());
                Err(Problem { kind: ProblemKind::TimedOut, error })
            }
        }
    }
}

/// What the files of a listener's TLS hold; `None` if that is nothing new.
fn read_again(listener: &ListenerSettings) -> Option<Result<TlsSettings, CertificateError>> {
    let tls = listener.tls.as_ref()?;
    Some(tls.read_again(clock::wall())).filter(|read| read.as_ref().map_or(true, |new| *new != **tls))
}

fn refused(error: &ConfigError) -> Problem {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    Problem { kind: ProblemKind::Invalid, error: text }
}

/// What a running process cannot change, as text to compare and to show.
pub(super) struct Fixed(Vec<(&'static str, String)>);

impl Fixed {
    pub(super) fn of(
        proxy: &ProxySettings,
        state: &Path,
        admin: &config::AdminSettings,
        telemetry: &config::TelemetrySettings,
    ) -> Self {
        let listen: Vec<_> = proxy.listen.iter().map(ToString::to_string).collect();
        Self(vec![
            ("listen", listen.join(", ")),
            ("threads", proxy.threads.to_string()),
            ("timeouts.drain", format!("{:?}", proxy.drain)),
            ("timeouts.handover", format!("{:?}", proxy.handover)),
            ("state", state.display().to_string()),
            ("admin.socket", admin.socket.display().to_string()),
            ("admin.group", admin.group.clone().unwrap_or_else(|| "none".to_owned())),
            ("telemetry", telemetry.address.map_or_else(|| "off".to_owned(), |address| address.to_string())),
            ("access_log", format!("{:?}", telemetry.access_log)),
        ])
    }

    /// What `file` wants otherwise.
    fn waiting(&self, file: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&file.0).filter(|(ours, theirs)| ours.1 != theirs.1);
        pairs
            .map(|((what, ours), (_, theirs))| {
                let how = if *what == "state" { "a restart" } else { "an upgrade or a restart" };
                format!("{what} is {ours}, the file says {theirs}; it needs {how}")
            })
            .collect()
    }
}
