//! The permission to go on: a candidate is not good because nothing spoke against it, it has to be shown.
//!
//! Either it is shown to fail less than `λmax` times as often as stable, or to fail less often than a floor.
//! Both begin anew with each stage, and what is once shown in a stage stays shown there.

use serde::{Deserialize, Serialize};

use super::mixture::{BELOW, Mixture, Placing, against_limit};
use crate::rollout::plan::{ErrorsGate, Stage};

/// The evidence that is needed.
pub(super) const NEEDED: f64 = 20.0;
/// The floor where neither floor nor limit are written.
const FLOOR: f64 = 0.005;
const LOG_MAX: f64 = 1e6;

/// What was shown in a stage.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Permission {
    /// ln E′.
    like: f64,
    /// E″.
    below: Mixture,
    best: f64,
}

impl Permission {
    pub(super) fn new() -> Self {
        Self { like: 0.0, below: Mixture::new(BELOW.len(), 1.0), best: 0.0 }
    }

    pub(super) fn compare(&mut self, placing: &Placing, tolerated: f64, spread: f64) {
        self.like = (self.like + placing.likeness(tolerated) / spread).clamp(-LOG_MAX, LOG_MAX);
    }

    pub(super) fn measure(&mut self, counts: (f64, f64), floor: f64, spread: f64) {
        let mut growth = [0.0; BELOW.len()];
        against_limit(&mut growth, counts, floor, &BELOW, spread);
        self.below.grow(&growth);
    }

    pub(super) fn conclude(&mut self) {
        self.best = self.best.max(self.evidence());
    }

    pub(super) fn is_granted(&self) -> bool {
        self.best >= NEEDED
    }

    /// The most that was shown.
    pub(super) fn shown(&self) -> f64 {
        self.best.max(self.evidence())
    }

    /// The better of the two.
    fn evidence(&self) -> f64 {
        libm::exp(self.like.min(27.0)).max(self.below.evidence())
    }

    /// About how many more candidate units, if both variants fail at stable's rate.
    pub(super) fn missing(&self, share: f64, stable: f64, tolerated: f64, floor: f64) -> Option<u64> {
        if self.is_granted() {
            return Some(0);
        }
        let like = growth_of_likeness(share, stable, tolerated).0;
        let (below, fresh) = growth_below(stable, floor);
        let needed = libm::log(NEEDED);
        let shown = libm::log(self.below.evidence().max(1e-300));
        let ways = [(needed - self.like, like), (needed - shown + fresh, below)];
        ways.into_iter()
            .filter(|(_, growth)| *growth > 1e-12)
            .map(|(lacking, growth)| libm::ceil(lacking.max(0.0) / growth).clamp(1.0, 1e15) as u64)
            .min()
    }
}

/// λmax of a stage: as it says, else by weight.
pub(super) fn tolerated(stage: &Stage) -> f64 {
    stage.tolerate.unwrap_or(match stage.weight.millipercent() {
        ..=1_000 => 10.0,
        1_001..=5_000 => 5.0,
        5_001..=25_000 => 3.0,
        _ => 2.0,
    })
}

/// The share below which the candidate may go on whatever stable does.
pub(super) fn floor(gate: &ErrorsGate) -> f64 {
    gate.floor.or(gate.limit).unwrap_or(FLOOR)
}

/// Mean and variance of what a candidate unit adds to ln E′ if both variants have events at the rate `rate`.
pub(super) fn growth_of_likeness(share: f64, rate: f64, tolerated: f64) -> (f64, f64) {
    if share <= 0.0 || share >= 1.0 {
        return (0.0, 0.0);
    }
    let worth = |candidate, stable| Placing { share, candidate, stable }.likeness(tolerated);
    let (own, others) = (worth(1.0, 0.0), worth(0.0, 1.0));
    let stable = rate * (1.0 - share) / share;
    (rate * own + stable * others, rate * own * own + stable * others * others)
}

/// What a candidate unit adds to ln E″ under the best of its bets, and the price of having had several.
pub(super) fn growth_below(rate: f64, floor: f64) -> (f64, f64) {
    let best = BELOW.into_iter().map(|times| {
        let share = floor * times;
        rate * libm::log(times) + (1.0 - rate) * (libm::log1p(-share) - libm::log1p(-floor))
    });
    (best.fold(f64::NEG_INFINITY, f64::max), libm::log(BELOW.len() as f64))
}
