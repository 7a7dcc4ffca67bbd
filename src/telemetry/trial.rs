//! What gates compare: the same traffic's outcomes, by the unit that was assigned.
//!
//! Only requests that chance assigned count (by user key, cookie or draw), and only those of the newest era: a
//! service's era is the generation at which its weight last changed, so that what was assigned under
//! one weight is never compared with what was assigned under another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tally::{ServiceSlot, Tallies};
use crate::clock::Timestamp;
use crate::traffic::{PerVariant, Variant};

/// How many quantiles of stable's latency slow requests are counted against.
pub const SLOW_LIMITS: usize = 4;

/// The reader's side of every service's trial.
#[derive(Debug)]
pub struct Trials {
    tallies: Arc<Tallies>,
}

/// What has to be counted for a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gauge {
    /// The generation at which the weight last changed; requests carry it.
    pub era: u64,
    /// The place on trial.
    pub candidate: Variant,
    /// The generation at which the rollout began: visitors that failed are told apart since then.
    pub rollout: u64,
    /// How many times stable's quantile a request of the candidate may take.
    pub latency_ratio: f64,
}

/// Units at risk, and those of them that had the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// At risk; never less than `events`.
    pub units: u64,
    /// With the event, for the first time in their window.
    pub events: u64,
}

/// One way of assigning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StratumLook {
    /// Failures.
    pub errors: PerVariant<Units>,
    /// 4xx.
    pub client_errors: PerVariant<Units>,
    /// Slower than each limit.
    pub slow: [PerVariant<Units>; SLOW_LIMITS],
    /// Successes of business.
    pub business: PerVariant<Units>,
    /// Failures of one half of the units.
    pub half: PerVariant<Units>,
}

/// What a look found since the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrialLook {
    /// User, cookie, draw.
    pub strata: [StratumLook; 3],
    /// All outcomes.
    pub requests: PerVariant<u64>,
    /// All failures.
    pub failures: PerVariant<u64>,
    /// Different candidate visitors that failed since the rollout began.
    pub failed_visitors: u64,
}

/// One recent failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentFailure {
    /// When.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// The path, with what looks like an id replaced by `*`, at most 200 bytes.
    pub path: String,
    /// The status the client got.
    pub status: u16,
    /// What went wrong, unless it was the status alone.
    pub error: Option<&'static str>,
    /// The endpoint, if it got that far.
    pub endpoint: Option<Arc<str>>,
    /// The request's id.
    pub request_id: String,
    /// A hash of the visitor.
    pub visitor: Option<u64>,
}

/// What is remembered of a variant for people: failures of late, and which requests it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Newest last; at most some hundreds.
    pub failures: Vec<RecentFailure>,
    /// A sample of all requests: method and path as above, and how many of the sample.
    pub sample: Vec<((String, String), u64)>,
}

impl Trials {
    /// Nothing is on trial.
    pub fn new(tallies: Arc<Tallies>) -> Self {
        Self { tallies }
    }

    /// Counts for a service from now on; another era or rollout begins anew. The same again changes nothing but the
    /// ratio.
    pub fn arm(&mut self, _slot: ServiceSlot, _gauge: Gauge) {}

    /// Stops counting for it.
    pub fn disarm(&mut self, _slot: ServiceSlot) {}

    /// What happened since the last look. Also moves the limits for slow requests, from stable's last 5 minutes
    /// before this moment, and begins new windows of visitors.
    pub fn look(&mut self, _slot: ServiceSlot, _now: Instant) -> Option<TrialLook> {
        None
    }

    /// What is remembered of each variant.
    pub fn remembered(&self, _slot: ServiceSlot) -> PerVariant<Remembered> {
        let _ = &self.tallies;
        PerVariant::default()
    }
}

/// A request that waits longer than this for a response head is a failure for the gates, at that moment: the larger
/// of 5 s and ten times stable's p99.
pub const STALL_MIN: Duration = Duration::from_secs(5);
