//! Metric gates: numbers from elsewhere, compared as they come.
//!
//! They are no evidence in the statistical sense, so several readings in a row have to miss. A source that
//! is silent says nothing: neither that the candidate is bad nor that it is good.

use serde::{Deserialize, Serialize};

use crate::rollout::PerRole;
use crate::rollout::evidence::Reading;
use crate::rollout::plan::{Compare, MetricGate, MetricSource};

/// A query that has not answered for so many intervals is silent.
const INTERVALS: u32 = 3;

/// What is known of one metric gate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Source {
    /// In a row.
    misses: u32,
    /// The age of the last reading when it was looked at.
    age_ms: Option<u64>,
    /// Since the last reading that said something, or since the beginning.
    silent_ms: u64,
    /// The last values that said something.
    value: PerRole<Option<f64>>,
}

impl Source {
    pub(super) fn see(&mut self, gate: &MetricGate, reading: Option<&Reading>, elapsed_ms: u64) {
        let aged = self.age_ms.map(|age| age.saturating_add(elapsed_ms));
        self.silent_ms = self.silent_ms.saturating_add(elapsed_ms);
        self.age_ms = reading.map(|reading| reading.age_ms);
        let Some(reading) = reading else { return };
        if reading.age_ms > stale_after(gate) {
            self.silent_ms = self.silent_ms.max(reading.age_ms);
            return;
        }
        let Some(holds) = holds(gate.pass_if, reading.value) else { return };
        self.silent_ms = reading.age_ms;
        self.value = reading.value;
        let is_new = aged.is_none_or(|aged| reading.age_ms < aged.saturating_sub(elapsed_ms / 2));
        if is_new {
            self.misses = if holds { 0 } else { self.misses.saturating_add(1) };
        }
    }

    pub(super) fn fails(&self, gate: &MetricGate) -> bool {
        self.misses >= gate.misses.max(1) && self.silence(gate).is_none()
    }

    /// Whether the last reading did what is demanded.
    pub(super) fn passes(&self, gate: &MetricGate) -> bool {
        self.misses == 0 && self.silence(gate).is_none()
    }

    /// For how long it has said nothing, if that is too long.
    pub(super) fn silence(&self, gate: &MetricGate) -> Option<u64> {
        (self.value.candidate.is_none() || self.silent_ms > stale_after(gate)).then_some(self.silent_ms)
    }

    pub(super) fn value(&self) -> PerRole<Option<f64>> {
        self.value
    }
}

/// What the candidate's value is compared with.
pub(super) fn bound(compare: Compare, stable: Option<f64>) -> Option<f64> {
    match compare {
        Compare::AtMost(bound) | Compare::AtLeast(bound) => Some(bound),
        Compare::AtMostStable(times) | Compare::AtLeastStable(times) => stable.map(|value| value * times),
    }
}

fn holds(compare: Compare, value: PerRole<Option<f64>>) -> Option<bool> {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let candidate = finite(value.candidate)?;
    let bound = bound(compare, finite(value.stable))?;
    Some(match compare {
        Compare::AtMost(_) | Compare::AtMostStable(_) => candidate <= bound,
        Compare::AtLeast(_) | Compare::AtLeastStable(_) => candidate >= bound,
    })
}

fn stale_after(gate: &MetricGate) -> u64 {
    let limit = match &gate.source {
        MetricSource::Query { interval, .. } => interval.saturating_mul(INTERVALS),
        MetricSource::Pushed { stale_after } => *stale_after,
    };
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}
