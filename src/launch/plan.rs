//! What is to happen.
//!
//! Complete: every default is filled in when it is read. Texts that may hold `${VAR}` keep it as it was written; whoever uses one expands it
//! first ([`super::expand`]), so that what is recorded and shown never has a secret in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::traffic::Weight;

/// A launch, as it is recorded: a field that a later version adds needs a default.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Launch {
    /// Its name among all launches of the daemon: 1 to 64 letters, digits, `.`, `_` and `-`, the first one a letter or digit.
    pub name: Arc<str>,
    /// The service that it releases.
    pub service: Arc<str>,
    /// The version that it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// For instance `production`; only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Arc<str>>,
    /// How much hangs on it.
    #[serde(default)]
    pub tier: Tier,
    /// When it may start; `None`: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// How long a whole rollback may take: the timeouts of all undos together are no longer, and one that takes longer is an
    /// incident. `None`: not promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_within: Option<Duration>,
    /// What ends it at once, whatever the phase.
    #[serde(default)]
    pub breaker: Breaker,
    /// Feature flags that a rollback for the breaker switches off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<FlagsOff>,
    /// What has to be true before the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checklist: Vec<Item>,
    /// Who has to say go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go_nogo: Option<GoNoGo>,
    /// Requests to the candidate before its first weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
    /// Checks of the candidate before its first weight, and of `run_synthetic_tests`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub synthetic: Vec<HttpCheck>,
    /// Who is told, and when.
    #[serde(default)]
    pub comms: Comms,
    /// Whom to call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<Contact>,
    /// In order; at least one, their ids unique.
    pub phases: Vec<Phase>,
    /// What `${VAR}` stands for, of every variable that is used anywhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<Arc<str>, Variable>,
}

/// How much hangs on a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Money or safety: lint expects small steps, gates and observation.
    Critical,
    /// Users notice.
    #[default]
    Standard,
    /// Only colleagues notice.
    Internal,
}

/// When a launch may start: from `from`, before `from` + `lasts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Window {
    /// The first moment.
    pub from: Timestamp,
    /// How long; more than 0.
    pub lasts: Duration,
}

/// Limits that are watched from the start to the end of a launch, for each variant that has traffic. One that is crossed takes the candidate
/// to 0 %, locks, and rolls the launch back. `None`: not watched.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Breaker {
    /// The share of a variant's requests that failed, over `over`: more than 0, below 1.
    pub error_rate: Option<f64>,
    /// The 99th percentile of time to the response head, over `over`.
    pub latency_p99: Option<Duration>,
    /// How many health checks of one endpoint in a row failed.
    pub health_check_failures: Option<u32>,
    /// The time that rates and quantiles are of: 10 s or 60 s. Default 60 s.
    pub over: Duration,
    /// Fewer requests than this in that time are no evidence. Default 50.
    pub min_requests: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            error_rate: None,
            latency_p99: None,
            health_check_failures: None,
            over: Duration::from_secs(60),
            min_requests: 50,
        }
    }
}

/// Feature flags of the release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FlagsOff {
    /// Their keys.
    pub names: Vec<Arc<str>>,
    /// The configured hook that switches them off: it gets `{launch, service, flags, reason}`.
    pub hook: Arc<str>,
}

/// An item of the checklist.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Item {
    /// Unique in the checklist.
    pub id: Arc<str>,
    /// What is to be checked, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// By whom.
    #[serde(flatten)]
    pub kind: ItemKind,
}

/// Who checks an item.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum ItemKind {
    /// A person signs it.
    Person {
        /// In this role.
        role: Arc<str>,
        /// How long before the window opens at the latest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<Duration>,
        /// Whether a text or link that proves it has to come with it.
        #[serde(default)]
        evidence: bool,
    },
    /// A command, run at the start: exit code 0 is a yes.
    Command {
        /// The command.
        run: Command,
        /// Then it is ended, and the answer is no. Default 5 min.
        timeout: Duration,
    },
}

/// The vote before the start: everybody has to say go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct GoNoGo {
    /// At least one.
    pub roles: Vec<Arc<str>>,
    /// How long before the window opens at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Duration>,
}

/// Requests to every endpoint of the candidate before its first weight.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Warmup {
    /// Paths, with query; asked for in turn.
    pub paths: Vec<Arc<str>>,
    /// Requests a second and endpoint, 1 to 1000. Default 10.
    pub rps: u32,
    /// Answers below 500 that each endpoint has to give, 1 to 100 000. Default 100.
    pub min_hits: u64,
    /// Then it has failed. Default 5 min.
    pub timeout: Duration,
}

/// Who is told of a launch, through the configured channels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Comms {
    /// Names of channels; empty: every channel.
    pub channels: Vec<Arc<str>>,
    /// How long before the window opens; each is told once.
    pub before: Vec<Duration>,
    /// How often while it runs; `None`: never.
    pub every: Option<Duration>,
}

/// Somebody to call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Contact {
    /// In which role.
    pub role: Arc<str>,
    /// Who.
    pub name: Arc<str>,
    /// How: a number, an address, a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Arc<str>>,
}

/// What a `${VAR}` stands for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// This text, for the whole launch, whoever resumes it.
    Value(Arc<str>),
    /// A secret: never recorded, taken from the environment of whoever runs, and masked in what commands say.
    Secret,
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Phase {
    /// Unique in the launch.
    pub id: Arc<str>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// What has to be true before. All of them are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<Check>,
    /// What is done.
    pub action: Action,
    /// What has to be true afterwards; `None`: what had to be true before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Check>>,
    /// What undoes it.
    pub undo: Undo,
    /// How long the action may take; then its processes are ended, and it has failed. `None` only for rollouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long the undo may take; then its processes are ended, and it has failed.
    pub undo_timeout: Duration,
    /// Whether its failure undoes the launch from here back to the first phase; else the launch stays as it is, and has failed.
    pub rollback_on_failure: bool,
}

impl Phase {
    /// What has to be true afterwards.
    pub fn verify(&self) -> &[Check] {
        self.verify.as_deref().unwrap_or(&self.check)
    }
}

/// What a phase does.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Runs a command.
    Command {
        /// The command.
        run: Command,
    },
    /// Starts a rollout of the daemon's and waits until it has promoted.
    Rollout(Rollout),
    /// Shifts the candidate to a weight.
    Shift {
        /// Its share.
        weight: Weight,
    },
    /// Takes the candidate to 0 %: the same as what undoes traffic.
    DisableTraffic,
    /// The launch's synthetic checks; without any, the service's health path.
    Synthetic,
    /// Lets time go by, watched.
    Observe {
        /// How long.
        lasts: Duration,
    },
}

impl Action {
    /// Whether doing it again is the same as doing it once: then an interrupted one is not *unknown*.
    pub const fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Command { .. })
    }

    /// Whether it says where traffic is to be.
    pub const fn moves_traffic(&self) -> bool {
        matches!(self, Self::Rollout(_) | Self::Shift { .. } | Self::DisableTraffic)
    }

    /// Whether the candidate may get weight by it.
    pub fn gives_weight(&self) -> bool {
        match self {
            Self::Rollout(_) => true,
            Self::Shift { weight } => *weight > Weight::ZERO,
            Self::Command { .. } | Self::DisableTraffic | Self::Synthetic | Self::Observe { .. } => false,
        }
    }
}

/// A rollout by schedule or by plan; neither: as it is configured for the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rollout {
    /// A schedule's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Arc<str>>,
    /// The name of a plan's file, and its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<(Arc<str>, Arc<str>)>,
}

/// What undoes a phase.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// Nothing: what was done stays, and harms nobody.
    None,
    /// Runs a command.
    Command {
        /// The command.
        run: Command,
    },
    /// Everybody on the version that was stable when the launch started.
    DisableTraffic,
    /// Shifts the candidate to a weight.
    Shift {
        /// Its share.
        weight: Weight,
    },
}

impl Undo {
    /// Whether doing it again is the same as doing it once.
    pub const fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Command { .. })
    }
}

/// A program, run where the launch is run. May hold `${VAR}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// A program and its arguments, without a shell; never empty. Each `${VAR}` stays within its argument.
    Argv(Vec<Arc<str>>),
    /// A line for `sh -c`. Variables get to it through the environment, not through the text.
    Shell(Arc<str>),
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Check {
    /// What is asked.
    #[serde(flatten)]
    pub kind: CheckKind,
    /// Then the answer is no. Default 30 s.
    pub timeout: Duration,
}

/// What a condition asks. Texts may hold `${VAR}`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "check", rename_all = "snake_case")]
pub enum CheckKind {
    /// Every endpoint of the candidate answers as expected, asked by the daemon over its own connections.
    HttpStatus(HttpCheck),
    /// The database's schema fits both versions.
    SchemaCompatibility(SchemaCheck),
    /// A registry has this image under this digest (OCI distribution specification).
    ImageDigest {
        /// `HOST/NAME:TAG`.
        image: Arc<str>,
        /// `sha256:HEX`.
        digest: Arc<str>,
        /// Whether the registry is spoken to without TLS; default: only on loopback.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plain_http: Option<bool>,
    },
    /// Flags have a value (OpenFeature Remote Evaluation Protocol).
    FeatureFlagEvaluation {
        /// The provider's address; `/ofrep/v1/evaluate/flags/KEY` is added.
        provider: Arc<str>,
        /// Their keys; at least one.
        flags: Vec<Arc<str>>,
        /// The value that all of them have to have: `on` and `off` are `true` and `false`.
        expect: serde_json::Value,
        /// The evaluation context, beside `targetingKey`, which defaults to the launch's name.
        #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
        context: serde_json::Map<String, serde_json::Value>,
        /// Sent as `Authorization: Bearer`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Arc<str>>,
    },
    /// A command ends with exit code 0.
    Command {
        /// The command.
        run: Command,
    },
    /// An instant query gives one value, within limits.
    Prometheus {
        /// The server's address; `/api/v1/query` is added.
        url: Arc<str>,
        /// PromQL.
        query: Arc<str>,
        /// What the value has to be.
        limit: Limit,
        /// Sent as `Authorization: Bearer`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Arc<str>>,
    },
    /// A TCP connection can be made.
    Tcp {
        /// `HOST:PORT`.
        address: Arc<str>,
    },
    /// Somebody's rules: gets the launch as JSON and answers what speaks against it.
    Policy {
        /// A command, which gets it on its standard input; or a URL, to which it is posted as `{"input": …}`.
        #[serde(flatten)]
        asks: Policy,
    },
}

/// Who is asked for what speaks against a launch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// A command.
    Run(Command),
    /// A URL, as of Open Policy Agent's data API.
    Url(Arc<str>),
}

impl CheckKind {
    /// As it is written in a launch file.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::HttpStatus(_) => "http_status",
            Self::SchemaCompatibility(_) => "schema_compatibility",
            Self::ImageDigest { .. } => "image_digest",
            Self::FeatureFlagEvaluation { .. } => "feature_flag_evaluation",
            Self::Command { .. } => "command",
            Self::Prometheus { .. } => "prometheus",
            Self::Tcp { .. } => "tcp",
            Self::Policy { .. } => "policy",
        }
    }
}

/// A request to every endpoint of the candidate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HttpCheck {
    /// With query.
    pub path: Arc<str>,
    /// Status codes from–to, inclusive; at least one. Default 200–399.
    pub expected: Vec<(u16, u16)>,
    /// What the body has to hold, within its first 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<Arc<str>>,
    /// Further attempts for each endpoint, a second apart; 0 to 100. Default 0.
    pub retries: u32,
}

/// How a schema is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemaCheck {
    /// By a command: exit code 0 is a yes.
    Run(Command),
    /// By reading migrations: nothing in them may break code that runs already.
    Files {
        /// Files, or folders whose `*.sql` are read in the order of their names.
        paths: Vec<Arc<str>>,
        /// `generic`, `sqlite`, `postgresql` or `mysql`; default generic.
        dialect: Arc<str>,
        /// Statements that are meant, as `KIND TABLE` or `KIND TABLE.COLUMN`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allow: Vec<Arc<str>>,
    },
}

/// Bounds of a value; at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Limit {
    /// At least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// At most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}
