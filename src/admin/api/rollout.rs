//! What is said about rollouts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::rollout::{Freeze, GuardMode, Phase, Plan, Rollout, Tick, View};
use crate::traffic::{PerVariant, Role, Variant, Weight};

/// The longest text of a plan: 256 KiB.
pub const PLAN_BYTES_MAX: usize = 256 * 1024;

/// `POST /v1/services/NAME/rollout`: starts a rollout. Without schedule and plan: what is configured for the service,
/// else `canary`. With `If-Match: N`, only if the service did not change after generation N. 409 if it cannot start now,
/// 400 with all problems if the plan is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// A schedule's name, for instance `canary`; not together with a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// A plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanFile>,
    /// The rollout's name, also the salt while it runs; default: the plan's own, else the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The candidate's version, for the rollout's name; default: the one it was deployed or configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Also while another rollout drives the service: that one is rolled back first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// A plan as people write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// What problems call it: the file's name.
    pub name: String,
    /// YAML, at most [`PLAN_BYTES_MAX`] bytes.
    pub text: String,
}

/// `POST /v1/plan`: what a rollout would do, without doing it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The service.
    pub service: String,
    /// As in [`StartRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// As in [`StartRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanFile>,
    /// As in [`StartRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`StartRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The answer to a [`PlanRequest`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Compiled {
    /// The service.
    pub service: String,
    /// The plan, with every default filled in.
    pub plan: Arc<Plan>,
    /// What works, but hardly as it was meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Requests a second of the service, both variants together, in the last 60 s; absent if nobody can know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The share of stable's requests that failed in the last 60 s, 0 to 1; absent without requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
}

/// `POST /v1/services/NAME/rollout/VERB` with `pause`, `resume`, `advance`, `promote` or `rollback`. What is done already
/// succeeds and changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/freeze`: no rollout starts or advances, or they may again. Gates stay armed, and everything toward stable
/// works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// Which; none with `all`.
    #[serde(default)]
    pub services: Vec<String>,
    /// Every service.
    #[serde(default)]
    pub all: bool,
    /// Whether advances stop.
    pub on: bool,
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/services/NAME/signal`: somebody else's alarm. 204: taken in for the next tick.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Its name, for instance `db_corruption`: 1 to 128 bytes.
    pub name: String,
    /// Critical ones roll back and lock; others freeze advances.
    #[serde(default)]
    pub critical: bool,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// `POST /v1/services/NAME/metrics/GATE`: a value for a gate of the running rollout whose source is pushed. What is left
/// out is no evidence. 204: taken in; 404: there is no such gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingRequest {
    /// Stable's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// The candidate's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<f64>,
}

/// What became of a rollout, in the answer to a change.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RolloutChange {
    /// Its name.
    pub name: String,
    /// What it does now.
    #[serde(flatten)]
    pub phase: Phase,
    /// What was asked for, in the past tense: `started`, `paused`, `resumed`, `advanced`, `promoted`, `rolled back`.
    pub done: String,
}

/// A rollout in the status of its service: `GET /v1/services/NAME/rollout` has all of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RolloutStatus {
    /// The rollout's name.
    pub name: String,
    /// Whether a shift made it: one endless stage.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub manual: bool,
    /// What its gates do.
    pub mode: GuardMode,
    /// The stage, from 1; also before the first one begins.
    pub stage: usize,
    /// How many there are.
    pub stages: usize,
    /// The share of the stage.
    pub weight: Weight,
    /// What it does, as `phase` and what belongs to it.
    #[serde(flatten)]
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// The newest tick: verdict, gates, what is waited for, time left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Tick>,
    /// Armed time in the stage, in ms.
    pub held_ms: u64,
    /// Whether advances are frozen, and by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
}

impl RolloutStatus {
    /// What is shown of a rollout.
    pub fn of(view: &View) -> Self {
        let Rollout { plan, manual, mode, started, stage, phase, since, .. } = &*view.rollout;
        // A shift moves the weight of its only stage.
        let planned = plan.stages.get(*stage).map_or(view.weight, |stage| stage.weight);
        Self {
            name: plan.name.to_string(),
            manual: *manual,
            mode: *mode,
            stage: stage.saturating_add(1),
            stages: plan.stages.len(),
            weight: if *manual { view.weight } else { planned },
            phase: phase.clone(),
            since: *since,
            started: *started,
            tick: view.tick.clone(),
            held_ms: view.held_ms,
            freeze: view.freeze.clone(),
        }
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }
}

/// `GET /v1/services/NAME/failures`: what the failures of late have in common.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FailureStory {
    /// The service.
    pub service: String,
    /// The place in the candidate's role.
    pub candidate: Variant,
    /// By place.
    pub variants: PerVariant<Failures>,
    /// The whole story, the candidate first; at least one sentence.
    pub sentences: Vec<String>,
}

/// The failures of one variant.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Failures {
    /// Its role.
    pub role: Role,
    /// Over what time, in seconds; absent: since the process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// How many requests it got in that time.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of these are remembered one by one, the newest.
    pub remembered: u64,
    /// From how many different visitors; absent where none was recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visitors: Option<u64>,
    /// By status: the largest group and how many groups there are. Like the others, absent without failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Cut>,
    /// By method and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Cut>,
    /// By endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Cut>,
    /// By what went wrong beside the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cut>,
    /// The share of failures on `route`'s largest group, on the other variant, 0 to 1; estimated from a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_on_route: Option<f64>,
    /// The newest of them, newest first; at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newest: Vec<FailureSample>,
}

/// Failures cut into groups by one property.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Cut {
    /// The largest.
    pub largest: Group,
    /// How many there are.
    pub groups: u64,
}

/// Failures that have something in common.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Group {
    /// What.
    pub what: String,
    /// How many, of those remembered.
    pub failures: u64,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FailureSample {
    /// When.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// The path; what looks like an id is `*`.
    pub path: String,
    /// The status that the client got.
    pub status: u16,
    /// What went wrong, unless it was the status alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The endpoint, if it got that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The request's id, as in the access log.
    pub request_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_refused() {
        let unknown = serde_json::from_str::<StartRequest>(r#"{"shedule":"canary"}"#).unwrap_err();
        assert!(unknown.to_string().contains("schedule"), "{unknown}");
        assert!(
            serde_json::from_str::<FreezeRequest>(r#"{"all":true}"#).is_err(),
            "on or off has to be said"
        );
        let reading: ReadingRequest = serde_json::from_str(r#"{"candidate":0.98}"#).unwrap();
        assert_eq!((reading.stable, reading.candidate), (None, Some(0.98)));
    }

    #[test]
    fn a_phase_lies_beside_what_it_belongs_to() {
        let change = RolloutChange { name: "2.0.1".into(), phase: Phase::Holding, done: "started".into() };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(text, r#"{"name":"2.0.1","phase":"holding","done":"started"}"#);
        assert_eq!(serde_json::from_str::<RolloutChange>(&text).unwrap(), change);
    }
}
