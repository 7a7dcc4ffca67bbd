//! What traffic did meanwhile.

use serde::{Deserialize, Serialize};

use crate::traffic::{PerVariant, Variant, Weight};

/// A look at the service, beside a record.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Figures {
    /// The candidate's weight.
    pub weight: Weight,
    /// The place in the candidate's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Variant>,
    /// By place, over the last minute.
    pub variants: PerVariant<VariantFigures>,
}

/// One variant in the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct VariantFigures {
    /// Requests a second.
    pub rate: f64,
    /// The share that failed, 0 to 1; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    /// The 95th percentile of time to the response head, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
    /// The 99th.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

/// What a stretch of a running launch brought: a minute, or less around restarts of the daemon and at the end.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Minute {
    /// How long it was, in ms.
    pub span_ms: u64,
    /// By place.
    pub variants: PerVariant<Total>,
    /// Seconds in which there were requests and all of them failed.
    pub down_seconds: u64,
    /// The 95th percentile of time to the response head over both variants, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
}

/// Requests of one variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Total {
    /// All of them.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

impl Minute {
    /// Requests of both variants.
    pub fn requests(&self) -> u64 {
        self.variants.blue.requests.saturating_add(self.variants.green.requests)
    }

    /// Failures of both variants.
    pub fn failures(&self) -> u64 {
        self.variants.blue.failures.saturating_add(self.variants.green.failures)
    }
}
