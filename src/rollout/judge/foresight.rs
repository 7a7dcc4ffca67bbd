//! What each stage of a plan could notice at a given rate, before it starts.
//!
//! By the growth of evidence that is to be expected, less as many standard deviations as the wanted chance needs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mixture::{Placing, WORSE};
use super::pairs::PAIRS_MIN;
use super::permission::{self, growth_below, growth_of_likeness};
use super::{AT_START, ERRORS, Judge, ON_SUCCESSES, WITH_STAGES};
use crate::rollout::plan::{Hold, Plan, Stage};
use crate::traffic::Weight;

/// Ratios that are tried.
const RATIOS: [f64; 16] =
    [1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0];
/// A stable that fails less is taken to fail this much where ratios are formed.
const FAILING_MIN: f64 = 1e-4;
/// Standard deviations for four in five.
const FOUR_IN_FIVE: f64 = 0.84;
/// And for nearly always.
const NEARLY_ALWAYS: f64 = 2.33;
/// Weights that are proposed in place of one that sees too little.
const PROPOSALS: [u32; 6] = [1, 5, 10, 25, 50, 100];
/// A stage that sees less than this many times as many failures is told where it would see more.
const GOOD_ENOUGH: f64 = 3.0;

/// What one stage could notice.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Foresight {
    /// The stage's index.
    pub stage: usize,
    /// Its weight.
    pub weight: Weight,
    /// Its hold, if that is a length of time.
    pub hold: Option<Duration>,
    /// Candidate requests to be expected within the hold.
    pub requests: f64,
    /// The smallest ratio of failures that is noticed within the hold in four of five cases; `None` if none is.
    pub notices: Option<f64>,
    /// Whether a candidate as good as stable is permitted to go on by the end of the hold, nearly always.
    pub decidable: bool,
    /// About how long the hold would have to be for that; `None` if no hold would do.
    pub decidable_after: Option<Duration>,
    /// All that as a sentence: `1 % for 15 min at 20 req/s sees only 10 × or worse; 5 % would see 3 ×`.
    pub sentence: String,
}

/// What each stage of `plan` could notice if the service gets `rate` requests a second of which stable fails the share
/// `failing`, 0 to 1. Stages with an endless hold or one until a time of day are looked at as if they lasted a day.
pub fn foresee(plan: &Plan, rate: f64, failing: f64) -> Vec<Foresight> {
    plan.stages.iter().enumerate().map(|(at, stage)| Sight { plan, rate, failing }.of(at, stage)).collect()
}

struct Sight<'a> {
    plan: &'a Plan,
    rate: f64,
    failing: f64,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Sight<'_> {
    fn of(&self, at: usize, stage: &Stage) -> Foresight {
        match stage.mirror {
            Some(share) => self.of_mirror(at, stage, share),
            None => self.of_weight(at, stage),
        }
    }

    fn of_mirror(&self, at: usize, stage: &Stage, share: Weight) -> Foresight {
        let hold = match &stage.hold {
            Hold::For(hold) => Some(*hold),
            Hold::Until { .. } | Hold::Endless => None,
        };
        let requests = self.rate * share.ratio() * hold.unwrap_or(DAY).as_secs_f64();
        let lasts = hold.map_or_else(|| "for a day".to_owned(), |hold| format!("for {}", lasting(hold)));
        let sentence = format!(
            "mirroring {} {lasts} at {} req/s compares about {requests:.0} answers with stable's",
            written(share),
            number(self.rate)
        );
        let needed = if stage.min_requests > 0 { stage.min_requests } else { PAIRS_MIN } as f64;
        Foresight {
            stage: at,
            weight: stage.weight,
            hold,
            requests,
            notices: None,
            decidable: requests >= needed,
            decidable_after: (self.rate > 0.0)
                .then(|| needed / (self.rate * share.ratio()))
                .filter(|seconds| *seconds < 1e9)
                .map(Duration::from_secs_f64),
            sentence,
        }
    }

    fn of_weight(&self, at: usize, stage: &Stage) -> Foresight {
        let hold = match &stage.hold {
            Hold::For(hold) => Some(*hold),
            Hold::Until { .. } | Hold::Endless => None,
        };
        let share = stage.weight.ratio();
        let lasts = hold.unwrap_or(DAY);
        let judged_s = lasts.saturating_sub(self.plan.warmup).as_secs_f64();
        let errors = stage.gates.as_ref().unwrap_or(&self.plan.gates).errors.as_ref();
        let compares = errors.is_some() && share > 0.0 && share < 1.0;
        let notices = if compares { self.notices(share, judged_s) } else { None };
        let needed_s = if compares { self.permitted_after(stage) } else { None };
        let decidable = !compares || needed_s.is_some_and(|needed| needed <= judged_s);
        let decidable_after = needed_s.map(|needed| Duration::from_secs_f64(needed) + self.plan.warmup);
        let sentence = self.sentence(stage, hold, notices, decidable, decidable_after, compares, judged_s);
        Foresight {
            stage: at,
            weight: stage.weight,
            hold,
            requests: self.rate * share * lasts.as_secs_f64(),
            notices,
            decidable,
            decidable_after,
            sentence,
        }
    }

    /// The smallest ratio that is noticed within so many seconds.
    fn notices(&self, share: f64, judged_s: f64) -> Option<f64> {
        let tolerated = self.plan.gates.errors.as_ref().map_or(1.1, |gate| gate.ratio);
        let part = Judge::new(self.plan).shares.get(ERRORS).copied().unwrap_or(1.0);
        let stake = (AT_START + WITH_STAGES) / 2.0 * (1.0 - ON_SUCCESSES) / WORSE.len() as f64 * part;
        let needed = libm::log(1.25 / self.plan.false_rollback.max(1e-9) / stake.max(1e-9));
        let failing = self.failing.clamp(FAILING_MIN, 0.999);
        let units = self.rate * share * judged_s;
        let most = 1.0 / failing;
        RATIOS.into_iter().filter(|ratio| *ratio <= most * 1.01).find(|ratio| {
            WORSE.iter().any(|times| {
                let worth = |candidate, stable| {
                    let mut growth = [0.0];
                    Placing { share, candidate, stable }.grow(&mut growth, tolerated, &[*times], 1.0);
                    growth[0]
                };
                let (own, others) = (worth(1.0, 0.0), worth(0.0, 1.0));
                let (on_candidate, on_stable) =
                    (units * failing * ratio, units * failing * (1.0 - share) / share);
                let mean = on_candidate * own + on_stable * others;
                let variance = on_candidate * own * own + on_stable * others * others;
                mean - FOUR_IN_FIVE * libm::sqrt(variance) >= needed
            })
        })
    }

    /// Seconds after the warm-up until a good candidate is permitted to go on, nearly always.
    fn permitted_after(&self, stage: &Stage) -> Option<f64> {
        let gate = stage.gates.as_ref().unwrap_or(&self.plan.gates).errors.as_ref()?;
        let share = stage.weight.ratio();
        let (mean, variance) = growth_of_likeness(share, self.failing, permission::tolerated(stage));
        let needed = libm::log(permission::NEEDED);
        // n·mean − z·√(n·variance) = needed
        let units = |mean: f64, variance: f64, needed: f64| {
            (mean > 1e-12).then(|| {
                let z = NEARLY_ALWAYS * libm::sqrt(variance);
                let root = (z + libm::sqrt(z * z + 4.0 * mean * needed)) / (2.0 * mean);
                root * root
            })
        };
        let floor = permission::floor(gate);
        let (below, price) = growth_below(self.failing, floor);
        let below_variance = self.failing * libm::pow(libm::log(0.2), 2.0);
        let like = units(mean, variance, needed);
        let below = units(below, below_variance, needed + price);
        let least = like.into_iter().chain(below).reduce(f64::min)?;
        (self.rate > 0.0).then(|| least / (self.rate * share)).filter(|seconds| *seconds < 1e9)
    }

    #[allow(clippy::too_many_arguments, reason = "all of what is said in one sentence")]
    fn sentence(
        &self,
        stage: &Stage,
        hold: Option<Duration>,
        notices: Option<f64>,
        decidable: bool,
        decidable_after: Option<Duration>,
        compares: bool,
        judged_s: f64,
    ) -> String {
        let lasts = hold.map_or_else(|| "for a day".to_owned(), |hold| format!("for {}", lasting(hold)));
        let what = format!("{} {lasts} at {} req/s", written(stage.weight), number(self.rate));
        if !compares && stage.weight == Weight::FULL {
            return format!("{what} has nobody left on stable to compare failures with; 99 % has");
        }
        if !compares {
            return format!("{what} compares no failures");
        }
        let sees = match notices {
            Some(ratio) if ratio <= GOOD_ENOUGH => format!("sees {} or worse", self.worse(ratio)),
            Some(ratio) => {
                format!(
                    "sees only {} or worse{}",
                    self.worse(ratio),
                    self.better(stage, Some(ratio), judged_s)
                )
            }
            None => format!("sees no regression of failures{}", self.better(stage, None, judged_s)),
        };
        let decides = match (decidable, decidable_after) {
            (true, _) => String::new(),
            (false, Some(after)) => {
                format!("; a good candidate needs about {} to be permitted", lasting(after))
            }
            (false, None) => "; it cannot permit anybody to go on".to_owned(),
        };
        format!("{what} {sees}{decides}")
    }

    /// `3 ×`, or a share where stable hardly fails.
    fn worse(&self, ratio: f64) -> String {
        if self.failing >= FAILING_MIN {
            format!("{} ×", number(ratio))
        } else {
            match ratio * FAILING_MIN * 100.0 {
                percent if percent < 0.095 => format!("{:.2} % failures", percent.max(0.01)),
                percent => format!("{} % failures", number(percent)),
            }
        }
    }

    /// `; 5 % would see 3 ×`.
    fn better(&self, stage: &Stage, than: Option<f64>, judged_s: f64) -> String {
        PROPOSALS
            .into_iter()
            .filter_map(Weight::from_percent)
            .filter(|weight| *weight > stage.weight && *weight < Weight::FULL)
            .filter_map(|weight| Some((weight, self.notices(weight.ratio(), judged_s)?)))
            .find(|(_, ratio)| than.is_none_or(|than| *ratio <= than / 2.0))
            .map_or_else(String::new, |(weight, ratio)| {
                format!("; {} would see {}", written(weight), self.worse(ratio))
            })
    }
}

fn written(weight: Weight) -> String {
    weight.to_string().replace('%', " %")
}

fn number(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn lasting(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ 60..7_200 => format!("{} min", seconds.div_ceil(60)),
        seconds @ 7_200..172_800 => format!("{} h", seconds.div_ceil(3_600)),
        seconds => format!("{} days", seconds.div_ceil(86_400)),
    }
}
