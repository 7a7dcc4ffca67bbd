//! Bets that grow only if the candidate is worse.
//!
//! A part bets that the candidate has the event `λ` times as often as stable; whenever an event falls on a
//! variant the stake is multiplied by how much likelier that was under `λ` than under the tolerated `λ0`. If
//! the candidate is within what is tolerated no part grows on average, whatever the traffic does, so by Ville's
//! inequality the mixture ever exceeds `1/α` with chance at most `α`, at any number of looks (Lindon & Malek,
//! NeurIPS 2022; Lindon, Sanden & Shirikian, KDD 2022; Howard & Ramdas, Bernoulli 2022).
//!
//! Stakes are kept as plain numbers, not as logarithms: a mixture is a sum, and new stake is added at every tick,
//! so a stake that underflows to 0 has lost nothing that matters, and one that is held at [`STAKE_MAX`] has failed
//! long before. Forgetting what is above it keeps the guarantee, and lets a suspicion clear by itself.

use serde::{Deserialize, Serialize};

/// Where stakes are held: no limit of a gate is beyond it.
pub(super) const STAKE_MAX: f64 = 1e12;

/// How many times as often as tolerated, for events that speak against the candidate.
pub(super) const WORSE: [f64; 7] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0];
/// The same, for successes, whose absence speaks against it.
pub(super) const FEWER: [f64; 5] = [0.8, 0.65, 0.5, 0.3, 0.1];
/// The same, for successes of a candidate that hardly works at all, and for the failures that it then has.
pub(super) const BROKEN: [f64; 3] = [0.5, 0.2, 0.05];
pub(super) const BREAKING: [f64; 3] = [3.0, 5.0, 20.0];
/// How many times the limit a share may be.
pub(super) const ABOVE: [f64; 6] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0];
/// How many times the floor a share may be that is below it.
pub(super) const BELOW: [f64; 3] = [0.5, 0.2, 0.05];
/// One half of stable against the other.
pub(super) const UNEVEN: [f64; 6] = [1.5, 3.0, 10.0, 1.0 / 1.5, 1.0 / 3.0, 0.1];

/// Equal stakes on some parts.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Mixture {
    stakes: Vec<f64>,
}

/// Where the events of one tick fell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placing {
    /// The candidate's share of all units at risk in the tick, between 0 and 1.
    pub(super) share: f64,
    /// Events on the candidate.
    pub(super) candidate: f64,
    /// Events on stable.
    pub(super) stable: f64,
}

impl Mixture {
    /// As many parts, each with this stake.
    pub(super) fn new(parts: usize, stake: f64) -> Self {
        Self { stakes: vec![stake; parts] }
    }

    /// New stake for each part.
    pub(super) fn add(&mut self, stake: f64) {
        for own in &mut self.stakes {
            *own = (*own + stake).min(STAKE_MAX);
        }
    }

    /// Multiplies each stake by e to the power of its growth.
    pub(super) fn grow(&mut self, growth: &[f64]) {
        for (stake, growth) in self.stakes.iter_mut().zip(growth) {
            if *growth != 0.0 {
                *stake = (*stake * libm::exp(growth.clamp(-700.0, 300.0))).min(STAKE_MAX);
            }
        }
    }

    /// What all parts together say: 1 is nothing, 20 is a suspicion.
    pub(super) fn evidence(&self) -> f64 {
        if self.stakes.is_empty() { 0.0 } else { self.stakes.iter().sum::<f64>() / self.stakes.len() as f64 }
    }
}

impl Placing {
    /// `None` if one of the two had nobody: then nothing can be compared.
    pub(super) fn new(units: (f64, f64), events: (f64, f64)) -> Option<Self> {
        let (candidate, stable) = units;
        (candidate > 0.0 && stable > 0.0).then(|| Self {
            share: candidate / (candidate + stable),
            candidate: events.0,
            stable: events.1,
        })
    }

    /// Where each unit was given to the candidate with this chance, by itself: then so was each event, and the chance is
    /// exact in a tick of any length, while the split of one that five failures in a row cut short is mostly noise.
    ///
    /// If the candidate has clearly more units than that explains, they came together, from one client or one fault, and
    /// the split stays what it was. It is then greater than the chance, so every bet wins less: a bet that wins
    /// nothing on average with the chance wins nothing with either.
    pub(super) fn draw(&mut self, chance: f64, (candidate, stable): (f64, f64)) {
        let is_fair = chance > 0.0 && chance < 1.0;
        let usual = chance / (1.0 - chance) * stable;
        if is_fair && candidate <= usual + 3.0 * libm::sqrt(usual) + 3.0 {
            self.share = chance;
        }
    }

    /// Adds to each part's growth what this placing is worth to it; `tolerated` is λ0, `spread` at least 1.
    pub(super) fn grow(&self, growth: &mut [f64], tolerated: f64, times: &[f64], spread: f64) {
        let events = self.candidate + self.stable;
        if events == 0.0 {
            return;
        }
        let base = libm::log1p(self.share * (tolerated - 1.0));
        for (growth, times) in growth.iter_mut().zip(times) {
            let risk = libm::log1p(self.share * (tolerated * times - 1.0)) - base;
            *growth += (self.candidate * libm::log(*times) - events * risk) / spread;
        }
    }

    /// How evidence that the candidate has the event less than `tolerated` times as often grows, with its chance as
    /// the alternative that both are alike.
    pub(super) fn likeness(&self, tolerated: f64) -> f64 {
        let risk = libm::log1p(self.share * (tolerated - 1.0));
        (self.candidate + self.stable) * risk - self.candidate * libm::log(tolerated)
    }
}

/// Adds to each part's growth what `events` of `units` are worth against the share `limit`, for shares of `times` as
/// much. A share of 1 or more is no bet.
pub(super) fn against_limit(
    growth: &mut [f64],
    (units, events): (f64, f64),
    limit: f64,
    times: &[f64],
    spread: f64,
) {
    if units == 0.0 {
        return;
    }
    let rest = libm::log1p(-limit);
    for (growth, times) in growth.iter_mut().zip(times) {
        let share = limit * times;
        if share < 1.0 {
            let per_other = libm::log1p(-share) - rest;
            *growth += (events * libm::log(*times) + (units - events) * per_other) / spread;
        }
    }
}

/// The part of the endless stake that is placed until `hours` of armed time, 0 to 1. It thins out so slowly that there
/// is always new stake, and a regression that begins after ten hours finds a fresh bet.
pub(super) fn placed(hours: f64) -> f64 {
    1.0 - 1.0 / libm::sqrt(hours.max(0.0) + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_endless_stake_never_reaches_its_whole() {
        for (hours, expected) in [(-1.0, 0.0), (0.0, 0.0), (3.0, 0.5), (15.0, 0.75)] {
            assert!((placed(hours) - expected).abs() < 1e-12, "{hours}");
        }
        assert!(placed(1e9) < 1.0);
    }

    #[test]
    fn a_placing_needs_both_variants() {
        assert_eq!(Placing::new((0.0, 5.0), (0.0, 1.0)), None);
        assert_eq!(Placing::new((5.0, 0.0), (1.0, 0.0)), None);
    }

    proptest! {
        #[test]
        fn a_fair_placing_wins_nothing_on_average(share in 0.001..0.999f64, tolerated in 0.2..5.0f64) {
            let on_candidate = share * tolerated / (share * tolerated + 1.0 - share);
            for times in WORSE.into_iter().chain(BROKEN) {
                let worth = |candidate: f64| {
                    let mut growth = [0.0];
                    Placing { share, candidate, stable: 1.0 - candidate }.grow(&mut growth, tolerated, &[times], 1.0);
                    libm::exp(growth[0])
                };
                let mean = on_candidate * worth(1.0) + (1.0 - on_candidate) * worth(0.0);
                prop_assert!((mean - 1.0).abs() < 1e-9, "{mean}");
            }
        }

        #[test]
        fn a_share_at_the_limit_wins_nothing_on_average(limit in 0.0001..0.3f64) {
            for times in ABOVE.into_iter().chain(BELOW) {
                let worth = |events: f64| {
                    let mut growth = [0.0];
                    against_limit(&mut growth, (1.0, events), limit, &[times], 1.0);
                    libm::exp(growth[0])
                };
                let mean = limit * worth(1.0) + (1.0 - limit) * worth(0.0);
                prop_assert!((mean - 1.0).abs() < 1e-9, "{mean}");
            }
        }
    }
}
