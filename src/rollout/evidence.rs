//! What one tick brought: plain counts, as they are recorded and replayed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PerRole;

/// The quantiles of stable's latency that slow requests are counted against.
pub const QUANTILES: [f64; 4] = [0.50, 0.90, 0.95, 0.99];

/// Units at risk, and how many of them had the event for the first time in their window.
///
/// The unit is what was assigned: the request under `draw`, the visitor under `user` and `cookie`. Written as `[units, events]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Count {
    /// At risk: seen, and without the event so far. Never less than `events`.
    pub units: u64,
    /// With the event in this tick.
    pub events: u64,
}

impl From<(u64, u64)> for Count {
    fn from((units, events): (u64, u64)) -> Self {
        Self { units, events }
    }
}

impl From<Count> for (u64, u64) {
    fn from(count: Count) -> Self {
        (count.units, count.events)
    }
}

/// How units were assigned; each is compared only within itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stratum {
    /// By user key.
    User,
    /// By visitor cookie.
    Cookie,
    /// By a draw per request.
    Draw,
}

impl Stratum {
    /// Every stratum, in the order of all sums over them.
    pub const ALL: [Self; 3] = [Self::User, Self::Cookie, Self::Draw];
}

/// What one stratum counted in a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct StratumEvidence {
    /// Failures.
    #[serde(skip_serializing_if = "is_default")]
    pub errors: PerRole<Count>,
    /// 4xx.
    #[serde(skip_serializing_if = "is_default")]
    pub client_errors: PerRole<Count>,
    /// Slower than stable's quantile (candidate: than that times the tolerated ratio), as in [`QUANTILES`].
    #[serde(skip_serializing_if = "is_default")]
    pub slow: [PerRole<Count>; QUANTILES.len()],
    /// Successes of business.
    #[serde(skip_serializing_if = "is_default")]
    pub business: PerRole<Count>,
    /// Of stable's `errors`, those of one half of its units, by another bit of their hash.
    #[serde(skip_serializing_if = "is_default")]
    pub stable_half: Count,
}

/// What an external source said last.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Reading {
    /// Per variant; `None` is no evidence, neither a failure nor a pass.
    pub value: PerRole<Option<f64>>,
    /// How old it is in ms.
    pub age_ms: u64,
}

/// Somebody else's alarm.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Signal {
    /// Its name, for instance `db_corruption`.
    pub name: Arc<str>,
    /// Critical ones fail the rollout; others freeze it.
    pub critical: bool,
    /// Who sent it.
    pub actor: Arc<str>,
}

/// Requests that were copied to the candidate, each with stable's answer beside the candidate's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Mirrored {
    /// Pairs of answers.
    pub pairs: u64,
    /// Of these, failed by the candidate alone.
    pub only_candidate: u64,
    /// Of these, failed by stable alone.
    pub only_stable: u64,
}

/// Everything that one tick brought.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Evidence {
    /// In the order of [`Stratum::ALL`].
    #[serde(skip_serializing_if = "is_default")]
    pub strata: [StratumEvidence; 3],
    /// The chance with which each request of [`Stratum::Draw`] was given to the candidate, between 0 and 1; `None`
    /// if it is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub drawn: Option<f64>,
    /// All outcomes, judged or not: what `min_requests` and the error budget count.
    #[serde(skip_serializing_if = "is_default")]
    pub requests: PerRole<u64>,
    /// All failures, judged or not.
    #[serde(skip_serializing_if = "is_default")]
    pub failures: PerRole<u64>,
    /// What was mirrored; in no other count.
    #[serde(skip_serializing_if = "is_default")]
    pub mirrored: Mirrored,
    /// Different candidate visitors that failed since the guard was armed; `None` where visitors are not known.
    #[serde(skip_serializing_if = "is_default")]
    pub failed_visitors: Option<u64>,
    /// Whether at least one endpoint of the candidate is usable.
    #[serde(skip_serializing_if = "is_default")]
    pub candidate_healthy: bool,
    /// By metric gate.
    #[serde(skip_serializing_if = "is_default")]
    pub metrics: BTreeMap<Arc<str>, Reading>,
    /// Alarms since the last tick.
    #[serde(skip_serializing_if = "is_default")]
    pub signals: Vec<Signal>,
    /// What confirming hooks answered since the last transition, by name.
    #[serde(skip_serializing_if = "is_default")]
    pub confirms: BTreeMap<Arc<str>, bool>,
    /// Whether a person or an incident has frozen advances.
    #[serde(skip_serializing_if = "is_default")]
    pub frozen: bool,
}

/// What is as usual is not written down: an idle second is to be small.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
