//! Mirrored requests: each has its own control, stable's answer to the very same request.
//!
//! Only pairs of which one failed say anything, and if the candidate is as good as stable it is as likely to be the one
//! as the other: the placing of events that all gates bet on, with a share of one half, whatever the traffic does. So
//! a handful of pairs is enough where gates at a small weight take hours.
//!
//! The evidence fails at `1/α`, and stands apart from that of the stages with weight: whoever is turned away here has cost
//! no visitor anything.

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use super::mixture::{Mixture, Placing, WORSE};
use super::{EVENTS_MIN, Finding, SUSPECT, WARMUP_RATIO};
use crate::rollout::PerRole;
use crate::rollout::evidence::{Count, Mirrored};
use crate::rollout::plan::{ErrorsGate, OnFail, Plan, Stage};
use crate::rollout::sentences::grouped;
use crate::rollout::verdict::{Failure, GateReading, Wait};

/// So many pairs it takes to go on, unless the stage says otherwise.
pub(super) const PAIRS_MIN: u64 = 100;

static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "mirror".into());

/// The evidence of stages that mirror.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Pairs {
    bets: Mixture,
    /// Since the stage began.
    seen: Mirrored,
}

impl Default for Pairs {
    fn default() -> Self {
        Self { bets: Mixture::new(WORSE.len(), 1.0), seen: Mirrored::default() }
    }
}

impl Pairs {
    /// Another stage begins: its minimum is counted anew, the bets go on.
    pub(super) fn enter(&mut self) {
        self.seen = Mirrored::default();
    }

    /// Takes in a tick. What is tolerated is more while the candidate is cold.
    pub(super) fn weigh(&mut self, gate: &ErrorsGate, is_warm: bool, mirrored: Mirrored) {
        let Mirrored { pairs, only_candidate, only_stable } = mirrored;
        self.seen.pairs += pairs;
        self.seen.only_candidate += only_candidate;
        self.seen.only_stable += only_stable;
        let tolerated = if is_warm { gate.ratio } else { gate.ratio.max(WARMUP_RATIO) };
        let placing = Placing { share: 0.5, candidate: only_candidate as f64, stable: only_stable as f64 };
        let mut growth = [0.0; WORSE.len()];
        placing.grow(&mut growth, tolerated, &WORSE, 1.0);
        self.bets.grow(&growth);
    }

    /// Adds what they say to what everything else does.
    pub(super) fn find(&self, plan: &Plan, stage: &Stage, gate: &ErrorsGate, finding: &mut Finding) {
        let (evidence, fails) = (self.bets.evidence(), 1.0 / plan.false_rollback.max(1e-9));
        let Mirrored { pairs, only_candidate, only_stable } = self.seen;
        if evidence >= fails && only_candidate >= EVENTS_MIN && finding.failure.is_none() {
            let sentence = format!(
                "of {} mirrored requests the candidate alone failed {}, stable alone {}; evidence {evidence:.0} of \
                 {fails:.0}",
                grouped(pairs),
                grouped(only_candidate),
                grouped(only_stable)
            );
            let rolls_back = gate.on_fail == OnFail::Rollback;
            finding.failure = Some(Failure { gate: NAME.clone(), rolls_back, sentence });
        } else if evidence >= SUSPECT {
            finding.doubts.push(Wait::Suspect { gate: NAME.clone(), evidence, limit: fails });
        }
        let needed = if stage.min_requests > 0 { stage.min_requests } else { PAIRS_MIN };
        finding.permits = finding.permits && pairs >= needed;
        let count = |events| Count { units: pairs, events };
        finding.readings.insert(
            0,
            GateReading {
                gate: NAME.clone(),
                evidence,
                limit: Some(fails),
                permission: Some((pairs as f64, needed as f64)),
                counts: PerRole { stable: count(only_stable), candidate: count(only_candidate) },
                missing: Some(needed.saturating_sub(pairs)),
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::rollout::{Gates, Hold};
    use crate::traffic::Weight;

    fn found(ticks: &[(u64, u64, u64)], is_warm: bool) -> Finding {
        let stage = Stage::mirrored(Weight::FULL, Hold::For(Duration::from_secs(60)));
        let plan = Plan::new("shop", vec![stage.clone()]);
        let gate = Gates::standard().errors.unwrap();
        let mut pairs = Pairs::default();
        for (all, only_candidate, only_stable) in ticks {
            let mirrored =
                Mirrored { pairs: *all, only_candidate: *only_candidate, only_stable: *only_stable };
            pairs.weigh(&gate, is_warm, mirrored);
        }
        let mut finding = Finding { permits: true, ..Finding::default() };
        pairs.find(&plan, &stage, &gate, &mut finding);
        finding
    }

    #[test]
    fn a_candidate_that_alone_fails_is_found_out_by_a_handful_of_pairs() {
        let bad = found(&[(500, 6, 0), (500, 6, 0)], true);
        let failure = bad.failure.unwrap();
        let story = "mirrored requests the candidate alone failed 12, stable alone 0; evidence 416 of 100";
        assert!(failure.rolls_back && failure.sentence.contains(story), "{}", failure.sentence);
        let alike = found(&[(1000, 40, 41)], true);
        assert!(alike.failure.is_none() && alike.doubts.is_empty() && alike.permits, "{alike:?}");
        let better = found(&[(1000, 0, 50)], true);
        assert!(better.failure.is_none() && better.permits);
        let little = found(&[(99, 0, 0)], true);
        assert!(!little.permits && little.readings[0].missing == Some(1));
        let cold = found(&[(1000, 10, 2)], false);
        assert!(cold.failure.is_none(), "{cold:?}");
    }

    proptest! {
        #[test]
        fn a_fair_pair_wins_nothing_on_average(tolerated in 1.0..5.0f64, times in prop::sample::select(WORSE.to_vec())) {
            let worth = |candidate: f64| {
                let mut growth = [0.0];
                Placing { share: 0.5, candidate, stable: 1.0 - candidate }.grow(&mut growth, tolerated, &[times], 1.0);
                libm::exp(growth[0])
            };
            let on_candidate = tolerated / (1.0 + tolerated);
            let mean = on_candidate * worth(1.0) + (1.0 - on_candidate) * worth(0.0);
            prop_assert!((mean - 1.0).abs() < 1e-9, "{mean}");
        }
    }
}
