//! What the configuration names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Everything outside, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookSettings {
    /// What can be asked for a yes.
    pub hooks: BTreeMap<Arc<str>, Call>,
    /// Where metrics are queried.
    pub sources: BTreeMap<Arc<str>, Source>,
    /// Who is told.
    pub channels: BTreeMap<Arc<str>, Channel>,
    /// What a notification of Prometheus' Alertmanager does; `None`: nobody may send one.
    pub alerts: Option<AlertSettings>,
}

/// How the outside is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A POST of JSON. For a hook, a 2xx is a yes.
    Webhook {
        /// `http://` or `https://`.
        url: Arc<str>,
        /// Signs `TIMESTAMP.BODY`: `x-tidegate-signature: sha256=HEX` (HMAC-SHA-256), with the time, in seconds since 1970, in
        /// `x-tidegate-timestamp`.
        secret: Option<Token>,
        /// Default 10 s.
        timeout: Duration,
    },
    /// A program with its arguments, not run by a shell; it gets the same JSON on its standard input. For a hook,
    /// exit code 0 is a yes.
    Command {
        /// The program's path, then its arguments. Never empty.
        argv: Vec<Arc<str>>,
        /// Default 10 s; then it is killed.
        timeout: Duration,
    },
}

/// A Prometheus, or what speaks its query API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// For instance `http://prometheus:9090`; `/api/v1/query` is added.
    pub url: Arc<str>,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<Token>,
    /// Default 10 s.
    pub timeout: Duration,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// How.
    pub call: Call,
    /// In what form.
    pub style: Style,
    /// What about: `start`, `stage`, `suspect`, `pause`, `rollback`, `promotion`, `keep-over`, `progress`, `launch` or one of its
    /// events, such as `launch-stop`; default all but `progress`, and of launches those that somebody has to know.
    pub on: Vec<Arc<str>>,
    /// How often while a rollout runs; `None`: never.
    pub every: Option<Duration>,
    /// Who else is told if nobody reacts.
    pub escalate: Option<Escalation>,
}

/// When a pause or a rollback stands for so long without anybody acting on the service, another channel is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// For so long.
    pub after: Duration,
    /// The other channel.
    pub to: Arc<str>,
}

/// The form of a notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Tidegate's own JSON.
    #[default]
    Json,
    /// `{"text": …}`, as Slack, Mattermost and Rocket.Chat take it.
    Slack,
}

/// `POST /v1/alerts` on the telemetry listener, with `Authorization: Bearer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// Who sends alerts knows it. Compared in constant time.
    pub token: Token,
    /// What a firing alert does to the service that its label `service` names, or to all.
    pub action: AlertAction,
}

/// What an alert does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlertAction {
    /// Advances stop until somebody says `freeze off`.
    #[default]
    Freeze,
    /// The candidate is rolled back and locked.
    Rollback,
}

/// A secret that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// Wraps a secret.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// For signing and sending.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
