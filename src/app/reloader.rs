//! The configuration, read again: what a running process can take over, and what waits for a restart.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::running::Source;
use crate::admin::api::{Problem, ProblemKind, ReloadRequest, Reloaded};
use crate::config::{self, ConfigError};
use crate::control::{Control, Who};
use crate::proxy::{LiveSettings, ProxySettings};
use crate::traffic::Keys;

/// Reads the configuration again.
pub(super) struct Reloader {
    pub(super) control: Control,
    pub(super) live: Arc<ArcSwap<LiveSettings>>,
    pub(super) keys: Arc<ArcSwap<Keys>>,
    pub(super) source: Option<Source>,
    pub(super) fixed: Fixed,
    pub(super) drift: Mutex<Vec<String>>,
}

impl Reloader {
    pub(super) async fn reload(&self, request: ReloadRequest, who: Who) -> Result<Reloaded, Problem> {
        let Some(source) = self.source.clone() else {
            let error = "this process was not started from a configuration file".to_owned();
            return Err(Problem { kind: ProblemKind::Conflict, error });
        };
        let read = tokio::task::spawn_blocking(move || config::load(&source.path, &source.overrides)).await;
        let config = match read {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => return Err(refused(&error)),
            Err(_) => {
                let error = "reading the configuration failed".to_owned();
                return Err(Problem { kind: ProblemKind::Internal, error });
            }
        };
        let waits = self.fixed.waiting(&Fixed::of(
            &config.proxy,
            &config.control.state,
            &config.admin,
            &config.telemetry,
        ));
        let changed_live = **self.live.load() != config.proxy.live;
        let mut reloaded = if request.dry_run {
            self.control.reload_dry_run(config.control.services)?
        } else {
            let reloaded = self.control.reload(config.control.services, &who).await?;
            self.live.store(Arc::new(config.proxy.live));
            // Without keys in the file, the generated ones stay: nothing else could verify the cookies out there.
            if let Some(keys) = config.cookie.keys {
                self.keys.store(Arc::new(keys));
            }
            *self.drift.lock().unwrap_or_else(PoisonError::into_inner) = waits.clone();
            reloaded
        };
        if changed_live {
            reloaded.changes.push("timeouts, limits or trusted proxies".to_owned());
        }
        let drift = waits.into_iter().chain(reloaded.drift).collect();
        let (applied, generation) = (!request.dry_run, self.control.generation());
        Ok(Reloaded { generation, applied, changes: reloaded.changes, drift })
    }
}

fn refused(error: &ConfigError) -> Problem {
    Problem { kind: ProblemKind::Invalid, error: error.to_string() }
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
                format!("{what} is {ours}, the file says {theirs}; it needs a restart")
            })
            .collect()
    }
}
