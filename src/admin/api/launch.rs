//! What is said about launches.
//!
//! The runner, which runs commands, and the daemon, which keeps the journal, speak by these. Whatever the runner notes goes with the fence of
//! its lease and the number that the record is to have, so it is noted once, in turn, and by one runner only.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
pub use crate::launch::LEASE_MS;
use crate::launch::{
    Entry, Figures, HttpCheck, Launch, Ledger, Next, Outcome, Record, State, Step, Unmet, Warmup,
};
use crate::traffic::Variant;

/// The longest journal page, in records.
pub const RECORDS_MAX: usize = 1000;

/// `PUT /v1/launches/NAME`: puts a launch on the book, or changes one that has not started, which voids signatures and votes. The same
/// launch again changes nothing. 400 with all reasons if the daemon cannot run it: no such service, hook, channel, schedule or role; a plan that is
/// none; a window that has closed. 409 if it has started.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// All of it, its name as in the path.
    pub launch: Arc<Launch>,
    /// Only say whether it could be; note nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `GET /v1/launches/NAME`, and the answer to whatever changes it. `GET /v1/launches`: an array of [`LaunchSummary`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LaunchView {
    /// All that is known of it.
    pub ledger: Ledger,
    /// What speaks against a start now; empty once it has started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<Unmet>,
    /// Whether it runs and nobody attends to it.
    pub unattended: bool,
    /// What the service does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// What could be better about it; only after a plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl LaunchView {
    /// Of what is known at this moment.
    pub fn of(ledger: Ledger, figures: Option<Figures>, at: Timestamp) -> Self {
        let unmet = if ledger.run.state == State::Idle { ledger.unmet(at) } else { Vec::new() };
        Self { unattended: ledger.is_unattended(), ledger, unmet, figures, warnings: Vec::new() }
    }
}

/// A launch in a list.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LaunchSummary {
    /// Its name.
    pub name: Arc<str>,
    /// Its service.
    pub service: Arc<str>,
    /// What became of it.
    pub state: State,
    /// Whether it runs and nobody attends to it.
    pub unattended: bool,
    /// The phase that it is at, by its id, and what is done there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<(Arc<str>, Option<Step>)>,
    /// When it was put on the book.
    pub planned: Timestamp,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl LaunchSummary {
    /// Of what is known.
    pub fn of(ledger: &Ledger) -> Self {
        let (launch, run) = (&ledger.launch, &ledger.run);
        let at = match ledger.next() {
            Next::Await { phase, step } => Some((phase, Some(step))),
            Next::Do { phase, .. } | Next::Choose { phase, .. } => Some((phase, None)),
            Next::Nothing | Next::Finish(_) => None,
        };
        let phase = at.and_then(|(at, step)| Some((launch.phases.get(at)?.id.clone(), step)));
        Self {
            name: launch.name.clone(),
            service: launch.service.clone(),
            state: run.state,
            unattended: ledger.is_unattended(),
            phase,
            planned: ledger.planned,
            started: run.started,
            ended: run.ended,
        }
    }
}

/// `POST /v1/launches/NAME/sign`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// The item.
    pub item: Arc<str>,
    /// In which role; 403-like 400 if the configuration gives the role to others.
    pub role: Arc<str>,
    /// What proves it: a text or a link, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Arc<str>>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/launches/NAME/vote`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VoteRequest {
    /// In which role.
    pub role: Arc<str>,
    /// Go or no-go.
    pub go: bool,
    /// Why, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Arc<str>>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/launches/NAME/checked`: what an item's command said, before the start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedRequest {
    /// The item.
    pub item: Arc<str>,
    /// Whether it was a yes.
    pub passed: bool,
    /// What it said, at most 4 KiB, secrets masked.
    #[serde(default)]
    pub said: String,
}

/// `POST /v1/launches/NAME/start`: 409 if it has started, if another launch of the service runs, if the service is locked or a rollout drives
/// it, or if anything is unmet and not overridden.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchStartRequest {
    /// Where the runner runs: `ada@build-7 (pid 4711)`.
    pub holder: Arc<str>,
    /// Also with something unmet; needs a reason.
    #[serde(default, rename = "override", skip_serializing_if = "std::ops::Not::not")]
    pub overrides: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// The answer to a start and to a lease.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LeaseAnswer {
    /// To be sent with everything that the runner notes.
    pub fence: u64,
    /// The launch.
    pub view: LaunchView,
}

/// `POST /v1/launches/NAME/lease`: takes over a launch that nobody attends to. What was under way is cut off, and unknown. 409 while another
/// runner holds it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// Where the runner runs.
    pub holder: Arc<str>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/launches/NAME/heartbeat`: the lease goes on; also one that had lapsed, if nobody took over since. At least every [`LEASE_MS`] / 3.
/// 409 once somebody took over, or it is over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatRequest {
    /// Of the lease.
    pub fence: u64,
    /// The lease ends here: nobody attends to the launch from now on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub release: bool,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HeartbeatAnswer {
    /// The number of the last record: with a new one there is something to look at.
    pub seq: u64,
    /// Whether it is being undone.
    pub stopped: bool,
}

/// `POST /v1/launches/NAME/note`: a record of the runner, durable when it is answered. The same one again, under its number, is noted once.
/// 409 under an old fence or out of turn.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NoteRequest {
    /// Of the lease.
    pub fence: u64,
    /// The number of the last record that the runner knows: refused with 412 if there are later ones, other than this note itself.
    pub after: u64,
    /// What.
    pub note: Note,
}

/// What a runner notes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "note", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "as the entries of the same names")]
pub enum Note {
    Began { phase: usize, step: Step },
    Ended { phase: usize, step: Step, outcome: Outcome },
    Chose { phase: usize, redo: bool },
}

impl From<Note> for Entry {
    fn from(note: Note) -> Self {
        match note {
            Note::Began { phase, step } => Self::Began { phase, step },
            Note::Ended { phase, step, outcome } => Self::Ended { phase, step, outcome },
            Note::Chose { phase, redo } => Self::Chose { phase, redo },
        }
    }
}

/// `POST /v1/launches/NAME/rollback`: the launch is undone. Whoever runs it does so; if nobody does, somebody has to take the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRollbackRequest {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `GET /v1/launches/NAME/records?after=SEQ&wait_ms=N`: the journal after a number, at most [`RECORDS_MAX`]. With `wait_ms` (at most 60 000) it
/// answers when there is a record or the time is over.
pub type Records = Vec<Record>;

/// `POST /v1/services/NAME/probe`: asks each endpoint of a variant over the daemon's own connections, side by side. Nothing is counted as traffic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// Which; default: the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// In this order; at most 100. Empty: the service's health check.
    pub requests: Vec<HttpCheck>,
    /// For all of them, 1 ms to 60 s.
    pub timeout_ms: u64,
}

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProbeAnswer {
    /// The variant that was asked.
    pub variant: Variant,
    /// By endpoint, one for each request that was made: stops at the first of an endpoint that is not as expected.
    pub endpoints: BTreeMap<String, Vec<Probed>>,
}

impl ProbeAnswer {
    /// Whether there is an endpoint, and everything was as expected.
    pub fn passed(&self) -> bool {
        !self.endpoints.is_empty() && self.endpoints.values().flatten().all(|probed| probed.passed)
    }
}

/// How an endpoint answered a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Probed {
    /// What was asked for.
    pub path: Arc<str>,
    /// Whether the answer was as expected, at the last attempt.
    pub passed: bool,
    /// Its status, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// How long the last one took to the response head, in microseconds.
    pub ttfb_us: u64,
}

/// `POST /v1/services/NAME/warmup`: requests to each endpoint of a variant at a steady rate, until each gave enough answers below 500. Nothing is
/// counted as traffic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WarmupRequest {
    /// Which; default: the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// What is asked for. Its `timeout` is cut to 30 s: ask again, with `done` as it was answered, until it is reached.
    pub warmup: Warmup,
    /// Answers that each endpoint gave already.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub done: BTreeMap<String, u64>,
}

/// The answer to a warm-up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct WarmupAnswer {
    /// By endpoint: answers below 500 so far, those in `done` included.
    pub hits: BTreeMap<String, u64>,
    /// By endpoint: failures this time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u64>,
    /// Whether every endpoint gave enough; never without an endpoint.
    pub reached: bool,
}
