//! The rules that others use, on the same traffic.

use crate::rollout::{Evidence, PerRole};

/// A second's counts go in; each rule says when it rolls back.
#[derive(Clone, Debug, Default)]
pub(super) struct Rivals {
    requests: PerRole<u64>,
    failures: PerRole<u64>,
    minute: u64,
    in_minute: (u64, u64),
    missed: u32,
    /// Whether the naive rule, the z-test and Flagger's rule have rolled back.
    pub(super) fired: [bool; 3],
}

/// What the naive rule tolerates.
const NAIVE: f64 = 1.1;
/// Of the normal distribution, two-sided p < 0.01.
const Z: f64 = 2.576;
const Z_REQUESTS_MIN: u64 = 30;
/// Flagger's defaults: success of 99 %, asked every 60 s, five misses.
const SUCCESS: f64 = 0.99;
const MISSES: u32 = 5;

impl Rivals {
    /// They compare the stage.
    pub(super) fn enter(&mut self) {
        *self = Self { fired: self.fired, minute: self.minute, ..Self::default() };
    }

    pub(super) fn see(&mut self, at_s: f64, evidence: &Evidence) {
        let add = |sum: &mut PerRole<u64>, more: PerRole<u64>| {
            sum.stable += more.stable;
            sum.candidate += more.candidate;
        };
        add(&mut self.requests, evidence.requests);
        add(&mut self.failures, evidence.failures);
        let minute = (at_s / 60.0) as u64;
        if minute != self.minute {
            let (requests, failures) = std::mem::take(&mut self.in_minute);
            let misses = requests > 0 && 1.0 - failures as f64 / (requests as f64) < SUCCESS;
            self.missed += u32::from(misses);
            self.minute = minute;
        }
        self.in_minute.0 += evidence.requests.candidate;
        self.in_minute.1 += evidence.failures.candidate;
        let now = [self.naive(), self.z(), self.missed >= MISSES];
        for (fired, now) in self.fired.iter_mut().zip(now) {
            *fired |= now;
        }
    }

    fn shares(&self) -> Option<PerRole<f64>> {
        let share = |failures: u64, requests: u64| failures as f64 / requests as f64;
        (self.requests.stable > 0 && self.requests.candidate > 0).then(|| PerRole {
            stable: share(self.failures.stable, self.requests.stable),
            candidate: share(self.failures.candidate, self.requests.candidate),
        })
    }

    fn naive(&self) -> bool {
        self.shares().is_some_and(|share| share.candidate > NAIVE * share.stable)
    }

    fn z(&self) -> bool {
        let Some(share) = self.shares() else { return false };
        let (stable, candidate) = (self.requests.stable as f64, self.requests.candidate as f64);
        let pooled = (self.failures.stable + self.failures.candidate) as f64 / (stable + candidate);
        let deviation = (pooled * (1.0 - pooled) * (1.0 / stable + 1.0 / candidate)).sqrt();
        self.requests.candidate.min(self.requests.stable) >= Z_REQUESTS_MIN
            && deviation > 0.0
            && (share.candidate - share.stable) / deviation > Z
    }
}
