//! What is said over the admin socket: the bodies of requests and answers, the same for server and client.
//!
//! Shares travel as people write them (`"25%"`), times as RFC 3339, durations in the unit their name ends in.
//! Every answer that is not 2xx is a [`Problem`].

mod endpoints;
mod launch;
mod rollout;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::traffic::{By, Lock, PerVariant, Role, Variant, Weight};

pub use self::endpoints::{Ejection, EndpointShare, EndpointStatus, EndpointsChange, EndpointsRequest};
pub use self::launch::{
    CheckedRequest, HeartbeatAnswer, HeartbeatRequest, LEASE_MS, LaunchRequest, LaunchRollbackRequest,
    LaunchStartRequest, LaunchSummary, LaunchView, LeaseAnswer, LeaseRequest, Note, NoteRequest, ProbeAnswer,
    ProbeRequest, Probed, RECORDS_MAX, Records, SignRequest, VoteRequest, WarmupAnswer, WarmupRequest,
};
pub use self::rollout::{
    ActRequest, Compiled, Cut, FailureSample, FailureStory, Failures, FreezeRequest, Group, PLAN_BYTES_MAX,
    PlanFile, PlanRequest, ReadingRequest, RolloutChange, RolloutStatus, SignalRequest, StartRequest,
};
/// `GET /v1/services/NAME/rollout`, also of a rollout that has ended, and `GET /v1/rollouts`: an array of those that have
/// not.
pub use crate::rollout::View as RolloutView;

/// The header that makes a repeated request have one effect: any text up to 128 bytes.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// `POST /v1/shift`: sets weights, all or none. With `If-Match: N`, only if no named service changed
/// after generation N.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftRequest {
    /// The candidate's weight by service, as text: `"25%"`.
    pub services: BTreeMap<String, String>,
    /// Also up while a rollout drives a service: that ends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/mirror`: sets the shares of stable's visitors whose requests are copied to the candidate, all or none. With
/// `If-Match: N`, only if no named service changed after generation N.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorRequest {
    /// The share by service, as text: `"10%"`; `"0%"` ends it.
    pub services: BTreeMap<String, String>,
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/kill`: everybody to stable, now, and locked. Idempotent, without preconditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// Which; none with `all`.
    #[serde(default)]
    pub services: Vec<String>,
    /// Every service.
    #[serde(default)]
    pub all: bool,
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/arm`: removes locks. Moves no traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ArmRequest {
    /// Which; none with `all`.
    #[serde(default)]
    pub services: Vec<String>,
    /// Every locked service.
    #[serde(default)]
    pub all: bool,
    /// What was found out; not empty.
    pub note: String,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/services/NAME/deploy`: replaces the candidate's endpoints, at weight 0 % only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// URLs.
    pub endpoints: Vec<String>,
    /// The version label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// The answer to a change that was made, or that was made already.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Changed {
    /// The host's name.
    pub host: String,
    /// The generation from which the change is in force.
    pub generation: u64,
    /// Whether it is on disk. `false` only for changes toward stable, which do not wait for a disk.
    pub saved: bool,
    /// The processes from before an upgrade that did not confirm it within a second: tunnels and streams that they hold
    /// may not know of it yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unconfirmed: Vec<u32>,
    /// From the request read to the table published, in microseconds; 0 if there was nothing to publish.
    pub live_us: u64,
    /// What changed, one per service named.
    pub changes: Vec<ServiceChange>,
    /// The command that undoes it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
}

/// What became of one service.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ServiceChange {
    /// The service.
    pub service: String,
    /// The place in the candidate's role.
    pub candidate: Variant,
    /// The candidate's weight before.
    pub from: Weight,
    /// The candidate's weight after.
    pub to: Weight,
    /// The share of stable's visitors whose requests were mirrored before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mirror_from: Weight,
    /// The share of stable's visitors whose requests are mirrored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mirror: Weight,
    /// The lock afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// Whether anything changed at all.
    pub changed: bool,
    /// The candidate's endpoints, after a deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// The candidate's version, after a deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What became of endpoints that were added, removed or drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints_changed: Option<EndpointsChange>,
    /// Its rollout, after something was done to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutChange>,
}

fn is_zero(share: &Weight) -> bool {
    *share == Weight::ZERO
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Problem {
    /// One sentence: what, where, what to do.
    pub error: String,
    /// What kind, for programs.
    pub kind: ProblemKind,
}

/// What kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// 400: not understood, or out of range.
    Invalid,
    /// 404: no such service or path.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 409: does not fit what is in force, for instance a candidate without a healthy endpoint.
    Conflict,
    /// 412: somebody else was first.
    Stale,
    /// 413: the body is too large.
    TooLarge,
    /// 422: the idempotency key was used for something else.
    KeyReused,
    /// 423: locked; `arm` opens.
    Locked,
    /// 500: our fault; also a change toward the candidate that the disk refused.
    Internal,
    /// 503: not now; stopping, or too many requests at once.
    Unavailable,
    /// 504: what was waited for did not happen in time.
    TimedOut,
}

/// That there is no service of a name, and which there are.
pub fn unknown_service(name: &str, known: impl Iterator<Item = String>) -> String {
    const NAMED_MAX: usize = 20;
    let known: Vec<String> = known.take(NAMED_MAX + 1).collect();
    match known.len() {
        0 => format!("there is no service {name:?}, nor any other"),
        1..=NAMED_MAX => format!("there is no service {name:?}; there is {}", known.join(", ")),
        _ => format!("there is no service {name:?}; see `tidegate status` for those there are"),
    }
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Status {
    /// The host's name.
    pub host: String,
    /// Tidegate's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// The table in force.
    pub generation: u64,
    /// Whether everything in force is on disk.
    pub saved: bool,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// Those of them where they speak TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secure: Vec<String>,
    /// The services by name.
    pub services: Vec<ServiceStatus>,
    /// Settings changed in the file that wait for a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
    /// Processes from before an upgrade that still hold something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predecessors: Vec<Predecessor>,
}

/// A process from before an upgrade. It accepts nothing, and obeys kills and rollbacks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Predecessor {
    /// Its id.
    pub pid: u32,
    /// Tidegate's version.
    pub version: String,
    /// When it passed everything on.
    pub since: Timestamp,
    /// The tunnels that it holds.
    pub tunnels: u64,
    /// The other requests.
    pub requests: u64,
}

/// `GET /v1/services/NAME`, and part of [`Status`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ServiceStatus {
    /// The name.
    pub name: String,
    /// Hosts and paths, as `shop.example.com/` or `*/`.
    pub routes: Vec<String>,
    /// The place in the stable role.
    pub stable: Variant,
    /// The place in the candidate's role.
    pub candidate: Variant,
    /// The candidate's weight.
    pub weight: Weight,
    /// What visitors are recognised by.
    pub by: By,
    /// Whether visitors stay on the candidate.
    pub ratchet: bool,
    /// The salt of the buckets.
    pub salt: String,
    /// What was pinned under another epoch does not count.
    pub epoch: u64,
    /// The generation of the last change.
    pub changed_at: u64,
    /// The lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// Its rollout, also one that has ended. A manual shift has one, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// What is copied to the candidate; absent if nothing is and nothing ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorStatus>,
    /// The launch that runs, or whose window is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<LaunchSummary>,
    /// Both variants.
    pub variants: PerVariant<VariantStatus>,
    /// Since when nothing moves a split between 0 and 100 %, if that is longer than `split.expires`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_expired: Option<Timestamp>,
    /// Where the configuration file and what is in force differ, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
}

/// What is copied to the candidate. Counts are of the time since mirroring began or the candidate was deployed, whichever
/// was later, and of this process.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct MirrorStatus {
    /// The share of stable's visitors whose requests are copied.
    pub share: Weight,
    /// Copies whose answers were compared.
    pub compared: u64,
    /// Of these, with another status, another body, or no answer.
    pub different: u64,
    /// Of these, with a status of another class, or no answer.
    pub status_differs: u64,
    /// Of these, with another body.
    pub body_differs: u64,
    /// Of these, failed where stable did not.
    pub only_candidate_failed: u64,
    /// Of these, answered where stable failed.
    pub only_stable_failed: u64,
    /// Copies that had nothing to be compared with.
    pub unpaired: u64,
    /// Copies that were not made or did not count, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// Time to the first byte of the candidate's answers: median, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_p50_ms: Option<f64>,
    /// 99 % of them are faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_p99_ms: Option<f64>,
    /// Time to the first byte of stable's answers to the same requests: median, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_p50_ms: Option<f64>,
    /// 99 % of them are faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_p99_ms: Option<f64>,
}

/// One variant, as seen on live traffic. Rates and quantiles are of the last 60 s; shares are of
/// the same time for requests and of the last 5 to 10 minutes for visitors.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct VariantStatus {
    /// The version label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its role.
    pub role: Role,
    /// The configured share.
    pub share: Weight,
    /// Its part of the requests, 0 to 1; absent without requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of_requests: Option<f64>,
    /// Its part of the visitors, 0 to 1; absent without recognised visitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of_visitors: Option<f64>,
    /// Requests since the start.
    pub requests: u64,
    /// Failures since the start: 5xx, connect and protocol errors, resets, missed deadlines, truncated answers.
    pub failures: u64,
    /// Requests a second.
    pub rate: f64,
    /// Failures by requests, 0 to 1; absent without requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    /// 4xx by requests, 0 to 1; absent without requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_error_ratio: Option<f64>,
    /// Time to the first byte: median, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// Time to the first byte: 95 % are faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// Time to the first byte: 99 % are faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Requests open now.
    pub in_flight: u64,
    /// Requests that stable answered for want of a healthy endpoint, since the start.
    pub spilled: u64,
    /// The endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

/// `GET /v1/services/NAME/explain?user=KEY`, or `visitor=ID`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Explanation {
    /// The service.
    pub service: String,
    /// What was asked about: `user alice` or `visitor 00ab…`.
    pub subject: String,
    /// The position, 0 to 99 999.
    pub bucket: u32,
    /// The salt it was computed with.
    pub salt: String,
    /// The candidate's weight.
    pub weight: Weight,
    /// The rule that decides, as in metrics and access log.
    pub rule: String,
    /// Where the visitor goes; absent if each request is drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// The role of that variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The whole story in a sentence.
    pub sentence: String,
}

/// `POST /v1/services/NAME/override`: makes a cookie for a tester.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// Where the tester goes.
    pub variant: Variant,
    /// For how long, in seconds: 1 to 604 800 (a week).
    pub seconds: u64,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// The answer to an [`OverrideRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct OverrideAnswer {
    /// The cookie's name over plain http; over https it has `__Host-` in front and a value of its own.
    pub name: String,
    /// The cookie's value over plain http.
    pub value: String,
    /// The cookie's name over https.
    pub https_name: String,
    /// The cookie's value over https.
    pub https_value: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// `GET /v1/wait?service=NAME&generation=N&timeout_ms=T`: returns once no request is open that was assigned
/// under an older generation than N; 504 if that takes longer than T (default 30 000, at most 600 000). With
/// `&variant=V&endpoint=URL`: once nothing is under way at that endpoint, which was removed or drained in generation N.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct WaitQuery {
    /// The service.
    pub service: String,
    /// The generation that everything older has to be gone for.
    pub generation: u64,
    /// Whose endpoint is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// Only what is under way at this endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// For how long to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// `POST /v1/reload`: reads the configuration file again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Lets go of all changes to endpoints that were made at run time: what the file says is what there is.
    #[serde(default)]
    pub discard_overlay: bool,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// The answer to a [`ReloadRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Reloaded {
    /// The table in force.
    pub generation: u64,
    /// Whether it was carried out.
    pub applied: bool,
    /// What changed, or would change, one sentence each.
    pub changes: Vec<String>,
    /// What the file says and a running process cannot take over, or what is in force and differs from
    /// the file: one sentence each.
    pub drift: Vec<String>,
}

/// `POST /v1/stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Without waiting for open requests.
    #[serde(default)]
    pub now: bool,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// The answer to a [`StopRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stopping {
    /// How long open requests may go on, in milliseconds.
    pub drain_ms: u64,
}

/// `POST /v1/upgrade`: starts the binary anew, passes everything on to it, and goes once it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The binary, as an absolute path; without it the one at the path that the running process was started from. For root
    /// and the user that runs tidegate only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// How long the new process may take until it is ready, in milliseconds; default 30 000, 1 to 600 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// The answer to an [`UpgradeRequest`], given once the new process serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Upgraded {
    /// The host's name.
    pub host: String,
    /// The process that goes.
    pub old: ProcessVersion,
    /// The process that serves.
    pub new: ProcessVersion,
    /// From the request read to the new process serving, in milliseconds.
    pub took_ms: u64,
    /// Of that, how long changes were refused, in milliseconds.
    pub closed_ms: u64,
    /// How long the old process may keep tunnels and other long streams, in milliseconds.
    pub handover_ms: u64,
}

/// A process and what it runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProcessVersion {
    /// Its id.
    pub pid: u32,
    /// Tidegate's version.
    pub version: String,
}

/// One line of the audit log, of `GET /v1/events?last=N` (an array, oldest first; default 20, at most 1000) and
/// of `GET /v1/events?follow=true` (server-sent events, one JSON object each).
pub use crate::store::AuditEntry as Event;

/// `POST /v1/demo/break`, in the demo only: makes green misbehave.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BreakRequest {
    /// The share of requests that green answers with 500, as text; unchanged if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<String>,
    /// How much longer green takes, in milliseconds; unchanged if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
}
