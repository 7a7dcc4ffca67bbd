//! Settings of the edges, the overrides of the command line, and the whole.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::{Planner, Problem};
use crate::admin::socket::default_socket;
use crate::control::ControlSettings;
use crate::hooks::HookSettings;
use crate::launch::Roles;
use crate::proxy::ProxySettings;
use crate::telemetry::AccessLogSettings;
use crate::traffic::Keys;

/// The settings of every part.
#[derive(Debug)]
pub struct Config {
    /// The data plane's.
    pub proxy: ProxySettings,
    /// The control plane's; services sorted by name.
    pub control: ControlSettings,
    /// The admin socket's.
    pub admin: AdminSettings,
    /// Telemetry's.
    pub telemetry: TelemetrySettings,
    /// The visitor cookie's.
    pub cookie: CookieSettings,
    /// Who is told, who is asked, and where values come from.
    pub hooks: HookSettings,
    /// Who may sign and vote in launches.
    pub roles: Roles,
    /// Makes plans of what people ask for.
    pub planner: Planner,
    /// What works, but hardly as it was meant.
    pub warnings: Vec<Problem>,
}

/// The admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it is; default `/run/tidegate/admin.sock` for root, else in the user's runtime folder.
    pub socket: PathBuf,
    /// The group that may use it; by default nobody but the process' own user and root.
    pub group: Option<String>,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { socket: default_socket(), group: None }
    }
}

/// What is told about the traffic, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Where `/metrics`, `/livez` and `/readyz` are served; `None` is nowhere, default 127.0.0.1:9900.
    pub address: Option<SocketAddr>,
    /// The access log.
    pub access_log: AccessLogSettings,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9900))),
            access_log: AccessLogSettings::default(),
        }
    }
}

/// The visitor cookie.
#[derive(Clone, Debug, Default)]
pub struct CookieSettings {
    /// The keys that were configured; without any, one is generated into the state folder.
    pub keys: Option<Keys>,
}

/// What the command line says, or the environment. It wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`, as in the file; all of `listen` is replaced if there is at least one.
    pub listen: Vec<String>,
    /// `--threads`, 1 to 1024.
    pub threads: Option<NonZeroUsize>,
    /// `--state`, relative to the working directory.
    pub state: Option<PathBuf>,
    /// `--socket`, relative to the working directory.
    pub socket: Option<PathBuf>,
    /// `--group`.
    pub group: Option<String>,
    /// `--telemetry`: an address, or `off`.
    pub telemetry: Option<String>,
    /// `--access-log`: `off`, `sampled` or `all`.
    pub access_log: Option<String>,
}
