//! A launch as it is written, key by key. The comments here are what an editor shows through the JSON Schema.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::older::OlderFile;
use super::phases::PhasesFile;
use super::words::{
    Argument, Dialect, Due, Evidence, Hits, Moment, Over, Retries, Rps, Script, Text, Tier, Word,
};
use crate::config::plan::{Share, Statuses};
use crate::config::retries::PerhapsTime;
use crate::config::scalar::{Count, Nothing};
use crate::config::written::{List, Named, Never, Short, Written};
use crate::traffic::Weight;

/// A whole release as phases in order, each with conditions, undone in reverse order when one fails.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Launch")]
pub(super) struct LaunchFile {
    /// Its name among all launches: letters, digits, ., _ and -, at most 63. Or a launch of the older form: environment,
    /// rollback_threshold and phases with validators and actions.
    pub(super) launch: Option<Short<Word, Never, Box<OlderFile>>>,
    /// The service that it releases. Default: what the command line says.
    pub(super) service: Option<Written<Word>>,
    /// The version that it brings.
    pub(super) version: Option<Written<Word>>,
    /// For instance production; only shown.
    pub(super) environment: Option<Written<Word>>,
    /// How much hangs on it: critical, standard or internal. Default standard.
    pub(super) tier: Option<Written<Tier>>,
    /// When it may start. Default: at any time.
    pub(super) window: Option<Short<Never, Never, WindowFile>>,
    /// How long a whole rollback may take: all undo timeouts together are no longer. Default: not promised.
    pub(super) rollback_within: Option<Written<Duration>>,
    /// Limits that are watched from the start to the end; one that is crossed rolls the launch back. Default: none.
    pub(super) breaker: Option<Short<Never, Never, BreakerFile>>,
    /// Feature flags that are switched off when the breaker trips. Default: none.
    pub(super) flags: Option<Short<Never, Never, FlagsFile>>,
    /// What has to be true before the start.
    pub(super) checklist: Option<Short<Never, ItemFile, Never>>,
    /// Who has to say go.
    pub(super) go_nogo: Option<Short<Never, Never, GoNoGoFile>>,
    /// Every role there is. Default: those of contacts and of the checklist, and pm, tech-lead, devops, qa, sponsor, security,
    /// support, release-manager, dba, sre and product.
    pub(super) roles: Option<List<Word>>,
    /// Requests to every endpoint of the candidate before its first weight. Default: none.
    pub(super) warmup: Option<Short<Never, Never, WarmupFile>>,
    /// Checks of the candidate before its first weight, and of phases with synthetic: true.
    pub(super) synthetic: Option<Short<Text, HttpFile, HttpLong>>,
    /// Who is told, and when; none: only of the start and the end. Default: an hour before the window, and every 30m, on all channels.
    pub(super) comms: Option<Short<Nothing, Never, CommsFile>>,
    /// Whom to call.
    pub(super) contacts: Option<Short<Never, ContactFile, Never>>,
    /// Variables that are secrets, beside those whose name says so (PASSWORD, PASSWD, SECRET, TOKEN, CREDENTIAL, KEY as a word):
    /// never recorded, and masked in what commands say.
    pub(super) secrets: Option<List<Word>>,
    /// What is done, in this order; at most 100.
    pub(super) phases: Option<PhasesFile<PhaseFile>>,
}

/// When a launch may start.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WindowFile {
    /// The first moment: 2026-12-20 14:00 Europe/Berlin, or as RFC 3339.
    pub(super) from: Option<Written<Moment>>,
    /// How long: 1h.
    #[serde(rename = "for")]
    pub(super) lasts: Option<Written<Duration>>,
}

/// Limits that are watched for each variant with traffic. What is not written is not watched.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BreakerFile {
    /// The share of requests that failed: 2%.
    pub(super) error_rate: Option<Written<Share>>,
    /// The 99th percentile of time to the response head: 800ms.
    pub(super) latency_p99: Option<Written<Duration>>,
    /// So many health checks of one endpoint in a row failed.
    pub(super) health_check_failures: Option<Written<Count>>,
    /// The time that rates and quantiles are of: 10s or 1m. Default 1m.
    pub(super) over: Option<Written<Over>>,
    /// Fewer requests than this in that time are no evidence. Default 50.
    pub(super) min_requests: Option<Written<Count>>,
}

/// Feature flags of the release.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FlagsFile {
    /// Their keys.
    pub(super) names: Option<List<Text>>,
    /// The hook that switches them off, as the configuration names it under hooks.
    pub(super) off: Option<Written<Word>>,
}

pub(super) type ItemFile = Short<Never, Never, ItemLong>;

/// An item of the checklist: somebody signs it, or a command checks it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemLong {
    /// Unique in the checklist.
    pub(super) id: Option<Written<Word>>,
    /// What is to be checked, for people.
    pub(super) title: Option<Written<Text>>,
    /// The role that signs it.
    pub(super) sign: Option<Written<Word>>,
    /// How long before the window opens at the latest: -24h.
    pub(super) due: Option<Written<Due>>,
    /// Whether something that proves it has to come with the signature: required or optional. Default optional.
    pub(super) evidence: Option<Written<Evidence>>,
    /// The command that checks it, run at the start: exit code 0 is a yes.
    pub(super) auto: Option<CommandFile>,
    /// How long the command may take. Default 5m.
    pub(super) timeout: Option<Written<Duration>>,
}

/// The vote before the start.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GoNoGoFile {
    /// All of them have to say go.
    pub(super) roles: Option<List<Word>>,
    /// How long before the window opens at the latest: -1h.
    pub(super) due: Option<Written<Due>>,
}

/// Requests that warm the candidate up.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WarmupFile {
    /// Paths, with query; asked for in turn.
    pub(super) urls: Option<List<Text>>,
    /// The same as urls.
    pub(super) paths: Option<List<Text>>,
    /// Requests a second and endpoint, 1 to 1000. Default 10.
    pub(super) rps: Option<Written<Rps>>,
    /// Answers below 500 that each endpoint has to give, 1 to 100000. Default 100.
    pub(super) min_hits: Option<Written<Hits>>,
    /// How long it may take. Default 5m.
    pub(super) timeout: Option<Written<Duration>>,
}

/// Who is told of a launch.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommsFile {
    /// Channels, as the configuration names them under notify. Default: all of them.
    pub(super) channels: Option<List<Word>>,
    /// How long before the window opens: [24h, 1h]. Default 1h.
    pub(super) before: Option<List<Duration>>,
    /// How often while it runs, or none. Default 30m.
    pub(super) every: Option<Written<PerhapsTime>>,
}

pub(super) type ContactFile = Short<Never, Never, ContactLong>;

/// Somebody to call.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContactLong {
    /// In which role.
    pub(super) role: Option<Written<Word>>,
    /// Who.
    pub(super) name: Option<Written<Text>>,
    /// How: a number, an address, a channel.
    pub(super) reach: Option<Written<Text>>,
}

/// A phase: exactly one of do, rollout, shift, for, synthetic and disable_traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PhaseFile {
    /// Unique in the launch.
    pub(super) id: Option<Written<Word>>,
    /// For people.
    pub(super) title: Option<Written<Text>>,
    /// Phases that have to come before: a launch goes in the order of the file, and this only makes sure of it.
    pub(super) needs: Option<List<Word>>,
    /// The same as needs.
    pub(super) depends_on: Option<List<Word>>,
    /// What has to be true before. All of them are asked.
    pub(super) check: Option<ChecksFile>,
    /// Runs a command where the launch is run.
    #[serde(rename = "do")]
    pub(super) command: Option<CommandFile>,
    /// Starts a rollout and waits until it has promoted: a schedule's name, {plan: FILE}, or default for what is configured for the
    /// service.
    pub(super) rollout: Option<Short<Word, Never, RolloutFile>>,
    /// Shifts the candidate to a weight: 25%.
    pub(super) shift: Option<Written<Weight>>,
    /// Lets so much time go by, watched.
    #[serde(rename = "for")]
    pub(super) lasts: Option<Written<Duration>>,
    /// true: the launch's synthetic checks.
    pub(super) synthetic: Option<Written<bool>>,
    /// true: takes the candidate to 0%.
    pub(super) disable_traffic: Option<Written<bool>>,
    /// What undoes it: a command, disable_traffic, {shift: 5%}, or none. Has to be written for do. Default disable_traffic for rollout
    /// and shift, else none.
    pub(super) undo: Option<Short<Text, Written<Argument>, UndoFile>>,
    /// What has to be true afterwards. Default: what had to be true before; [] for nothing.
    pub(super) verify: Option<ChecksFile>,
    /// How long it may take. Default 10m for do, 1m for shift and synthetic, none for rollout.
    pub(super) timeout: Option<Written<Duration>>,
    /// How long its undo may take. Default: its part of rollback_within; else timeout.
    pub(super) undo_timeout: Option<Written<Duration>>,
    /// Whether its failure undoes the launch from here back. Default true.
    pub(super) rollback_on_failure: Option<Written<bool>>,
}

/// A program with its arguments as a list, or {sh: LINE} for a shell.
pub(super) type CommandFile = Short<Text, Written<Argument>, ShellFile>;

/// A line for a shell.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShellFile {
    /// Run by sh -c. Variables get to it through the environment.
    pub(super) sh: Option<Written<Script>>,
}

/// What undoes a phase, beside a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UndoFile {
    /// Run by sh -c.
    pub(super) sh: Option<Written<Script>>,
    /// Shifts the candidate to a weight.
    pub(super) shift: Option<Written<Weight>>,
}

/// A rollout by schedule or by plan.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RolloutFile {
    /// canary, payment, aggressive, conservative, emergency, hourly or blue-green.
    pub(super) schedule: Option<Written<Word>>,
    /// A plan's file; relative paths start from the launch's folder.
    pub(super) plan: Option<Written<Text>>,
}

/// Conditions.
pub(super) type ChecksFile = Short<Never, Short<Never, Never, Box<CheckFile>>, Box<CheckFile>>;

/// A condition: exactly one of these, and how long it may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckFile {
    /// Every endpoint of the candidate answers as expected: a path, or {path, expected, contains, retries}.
    pub(super) http_status: Option<HttpFile>,
    /// The database's schema fits both versions.
    pub(super) schema_compatibility: Option<Short<Never, Never, SchemaFile>>,
    /// A registry has this image under this digest.
    pub(super) image_digest: Option<Short<Never, Never, ImageFile>>,
    /// Flags have a value (OpenFeature Remote Evaluation Protocol).
    pub(super) feature_flag_evaluation: Option<Short<Never, Never, FlagCheckFile>>,
    /// A command ends with exit code 0.
    pub(super) command: Option<CommandFile>,
    /// A query gives one value, within limits.
    pub(super) prometheus: Option<Short<Never, Never, PrometheusFile>>,
    /// A connection can be made to HOST:PORT.
    pub(super) tcp: Option<Short<Text, Never, TcpFile>>,
    /// Somebody's rules: gets the launch as JSON and answers what speaks against it.
    pub(super) policy: Option<Short<Never, Never, PolicyFile>>,
    /// How long it may take. Default 30s.
    pub(super) timeout: Option<Written<Duration>>,
}

pub(super) type HttpFile = Short<Text, Never, HttpLong>;

/// A request to every endpoint of the candidate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpLong {
    /// With query.
    pub(super) path: Option<Written<Text>>,
    /// Status codes, one or a list: 200, 2xx, 200-299. Default 200-399.
    pub(super) expected: Option<List<Statuses>>,
    /// What the body has to hold, within its first 64KiB.
    pub(super) contains: Option<Written<Text>>,
    /// Further attempts for each endpoint, a second apart, at most 100. Default 0.
    pub(super) retries: Option<Written<Retries>>,
}

/// A command, or migrations that are read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaFile {
    /// Exit code 0 is a yes.
    pub(super) command: Option<CommandFile>,
    /// Migrations, or folders whose *.sql are read in the order of their names: nothing in them may break code that runs already.
    pub(super) files: Option<List<Text>>,
    /// generic, sqlite, postgresql or mysql. Default generic.
    pub(super) dialect: Option<Written<Dialect>>,
    /// Statements that are meant, as KIND TABLE or KIND TABLE.COLUMN: drop_column orders.total.
    pub(super) allow: Option<List<Text>>,
}

/// An image of a registry.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageFile {
    /// HOST/NAME:TAG.
    pub(super) image: Option<Written<Text>>,
    /// sha256:HEX.
    pub(super) digest: Option<Written<Text>>,
    /// Whether the registry is spoken to without TLS. Default: only on loopback.
    pub(super) plain_http: Option<Written<bool>>,
}

/// Flags of a provider.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FlagCheckFile {
    /// The provider's address.
    pub(super) provider: Option<Written<Text>>,
    /// Their keys.
    pub(super) flags: Option<List<Text>>,
    /// What all of them have to be: on, off, a number or a text. Default on.
    pub(super) expect: Option<Written<Text>>,
    /// The evaluation context.
    pub(super) context: Option<Named<Written<Text>, true>>,
    /// Sent as Authorization: Bearer; a variable, such as ${FLAGS_TOKEN}.
    pub(super) token: Option<Written<Text>>,
}

/// A query.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PrometheusFile {
    /// The server's address.
    pub(super) url: Option<Written<Text>>,
    /// PromQL; it must return one number.
    pub(super) query: Option<Written<Text>>,
    /// The value is at least this.
    pub(super) min: Option<Written<Text>>,
    /// The value is at most this.
    pub(super) max: Option<Written<Text>>,
    /// Sent as Authorization: Bearer; a variable, such as ${PROMETHEUS_TOKEN}.
    pub(super) token: Option<Written<Text>>,
}

/// Where a connection goes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TcpFile {
    /// HOST:PORT.
    pub(super) address: Option<Written<Text>>,
}

/// Who is asked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    /// Gets the launch on its standard input.
    pub(super) command: Option<CommandFile>,
    /// Is posted {"input": …}, as Open Policy Agent's data API takes it.
    pub(super) url: Option<Written<Text>>,
}
