//! The guard: a rollout's clocks and evidence, and what a tick of them concludes.
//!
//! It is a layer on the [`Judge`]. The judge says what the traffic says; the guard adds what traffic does not know: holds,
//! minima, hooks, windows, freezes and people. It never changes a rollout. It finds a [`super::Step`], which is void
//! if anything else has happened to the rollout in the meantime.
//!
//! **Clocks count armed time**, the time in which ticks were taken, and each tick counts for at most
//! [`TICK_COUNTED_MAX`]: after a suspend, a stopped process or a jump of the clock the evidence of a long
//! tick counts in full, its length does not. So all of these can only make a hold longer, and so can a lost
//! checkpoint. A hold until a time of day needs both: that time, and as much armed time as there was until then.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::act::Act;
use super::evidence::Evidence;
use super::judge::{Finding, Judge, Moment};
use super::machine::{GuardMode, Moving, Phase, Rollout, Stop};
use super::plan::{Hold, Plan, Stage};
use super::verdict::{Failure, GateReading, Verdict, Wait};
use super::windows::next_time_of_day;
use crate::clock::Timestamp;
use crate::traffic::Weight;

/// The most that one tick counts for on the clocks.
pub const TICK_COUNTED_MAX: Duration = Duration::from_secs(5);

/// How long a suspicion has to be away before it is told to be gone: evidence goes to and fro around its limit.
const CALM: Duration = Duration::from_secs(30);

/// The time constant of the rate of late, in seconds.
const RATE_OVER: f64 = 60.0;

/// The running part of a rollout: clocks and evidence. Checkpointed every few seconds, and only good for the
/// rollout whose `id` it has.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Guard {
    /// Of which rollout.
    pub id: u64,
    /// Its stage when this was saved: for another one the stage's clock starts anew.
    pub stage: usize,
    /// Armed time in the stage, in ms.
    pub held_ms: u64,
    /// Armed time in all, in ms.
    pub armed_ms: u64,
    /// The weight of its stage when this was saved: for a higher one the stage's clock starts anew, too.
    #[serde(default)]
    pub weight: Weight,
    /// Time before the first stage, in ms.
    #[serde(default)]
    pub delayed_ms: u64,
    /// Time since the last stage ended, in ms.
    #[serde(default)]
    pub kept_ms: u64,
    /// The candidate's requests in the stage; where it mirrors, pairs of answers.
    #[serde(default)]
    pub requests: u64,
    /// The candidate's requests a second, of late.
    #[serde(default)]
    pub rate: f64,
    /// When a hold until a time of day ends.
    #[serde(default)]
    pub until: Option<Until>,
    /// What people were told last.
    #[serde(default)]
    pub told: Told,
    /// The evidence.
    pub judge: Judge,
}

/// The end of a hold until a time of day, found when the stage began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Until {
    /// Not before this moment,
    pub at: Timestamp,
    /// and not before so much armed time in the stage, in ms.
    pub held_ms: u64,
}

/// What people were told, so that they are told once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Told {
    /// The gate that is suspect, or was within the last half minute.
    pub suspect: Option<Arc<str>>,
    /// The armed time at which it was suspect last, in ms.
    pub suspected_ms: u64,
    /// The gate that failed last, as long as it does.
    pub failing: Option<Arc<str>>,
}

/// What people are to be told, once.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "news", rename_all = "kebab-case")]
pub enum News {
    /// There is evidence against the candidate, short of a failure.
    Suspect {
        /// The verdict.
        why: Wait,
    },
    /// The suspicion has gone.
    Cleared {
        /// The gate.
        gate: Arc<str>,
    },
    /// A gate fails, and nothing is done about it: the guard only tells.
    Failing {
        /// What failed.
        why: Failure,
    },
}

/// What a rollout that does not move waits for, besides its evidence.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum Waiting {
    /// The gates.
    Verdict {
        /// What they lack.
        wait: Wait,
    },
    /// The delay before the first stage.
    Delay {
        /// In ms.
        left_ms: u64,
    },
    /// A time at which it may go on.
    Window {
        /// When; `None` if never within a year.
        opens: Option<Timestamp>,
    },
    /// Hooks that have not said yes.
    Confirm {
        /// Their names.
        hooks: Vec<Arc<str>>,
    },
    /// A person's `advance`.
    Approval,
    /// A person's `resume`.
    Resume,
    /// A usable endpoint of the candidate.
    Endpoint,
    /// The end of a freeze.
    Thaw,
    /// The end of `keep`.
    Keep {
        /// In ms.
        left_ms: u64,
    },
}

/// What a tick found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Tick {
    /// What the gates and the hold say together.
    pub verdict: Verdict,
    /// What is waited for, if nothing is to be done.
    pub waiting: Option<Waiting>,
    /// Every gate's numbers.
    pub readings: Vec<GateReading>,
    /// What has to be done.
    pub act: Option<Act>,
    /// Armed time left in the stage, if its end is known, in ms.
    pub left_ms: Option<u64>,
    /// What people are to be told, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<News>,
}

impl Guard {
    /// For a rollout that nothing is known about yet.
    pub fn new(rollout: &Rollout) -> Self {
        Self {
            id: rollout.id,
            stage: rollout.stage,
            held_ms: 0,
            armed_ms: 0,
            weight: rollout.weight_max(),
            delayed_ms: 0,
            kept_ms: 0,
            requests: 0,
            rate: 0.0,
            until: None,
            told: Told::default(),
            judge: Judge::new(&rollout.plan),
        }
    }

    /// Goes on from a checkpoint, if it is of this rollout; else nothing is known, and the stage is held anew.
    pub fn resume(rollout: &Rollout, saved: Option<Self>) -> Self {
        saved.filter(|guard| guard.id == rollout.id).unwrap_or_else(|| Self::new(rollout))
    }

    /// Takes in what `elapsed` brought. `elapsed` is of a clock that never jumps, and counts in whole milliseconds; `at`
    /// is the wall clock's, for windows and times of day.
    pub fn tick(&mut self, rollout: &Rollout, at: Timestamp, elapsed: Duration, evidence: &Evidence) -> Tick {
        self.tick_with(rollout, at, elapsed, evidence, Judge::tick)
    }

    /// [`Guard::tick`] with another judge.
    pub(super) fn tick_with(
        &mut self,
        rollout: &Rollout,
        at: Timestamp,
        elapsed: Duration,
        evidence: &Evidence,
        judge: impl FnOnce(&mut Judge, &Plan, Moment, &Evidence) -> Finding,
    ) -> Tick {
        if self.id != rollout.id {
            *self = Self::new(rollout);
        }
        let counted = self.advance_clocks(rollout, millis(elapsed), evidence);
        let is_judged = rollout.current_stage().is_some() && rollout.mode != GuardMode::Off;
        let finding = if is_judged {
            let moment = Moment {
                stage: self.stage,
                elapsed: Duration::from_millis(counted),
                in_stage: Duration::from_millis(self.held_ms),
                armed: Duration::from_millis(self.armed_ms),
            };
            judge(&mut self.judge, &rollout.plan, moment, evidence)
        } else {
            Finding::default()
        };
        let mut tick = self.decide(rollout, finding, evidence, at);
        tick.news = self.tell(&tick);
        tick
    }

    /// Moves the clocks on; how many ms of the tick count.
    fn advance_clocks(&mut self, rollout: &Rollout, elapsed_ms: u64, evidence: &Evidence) -> u64 {
        let counted = elapsed_ms.min(millis(TICK_COUNTED_MAX));
        let weight = rollout.weight_max();
        let requests = match rollout.mirrors() {
            Some(_) => evidence.mirrored.pairs,
            None => evidence.requests.candidate,
        };
        if self.stage != rollout.stage || weight > self.weight {
            (self.held_ms, self.requests, self.until) = (0, 0, None);
        }
        (self.stage, self.weight) = (rollout.stage, weight);
        if elapsed_ms > 0 {
            let seconds = elapsed_ms as f64 / 1000.0;
            let rate = requests as f64 / seconds;
            self.rate += (rate - self.rate) * (1.0 - libm::exp(-seconds / RATE_OVER));
        }
        match &rollout.phase {
            Phase::Waiting => self.delayed_ms = self.delayed_ms.saturating_add(counted),
            Phase::Paused { was: Moving::Waiting, .. } | Phase::Ended { .. } => {}
            // Less than the stage's weight: its hold stands still.
            Phase::Paused { why: Stop::Shift { .. }, .. } => {
                self.armed_ms = self.armed_ms.saturating_add(counted)
            }
            Phase::Holding | Phase::Paused { .. } | Phase::Keeping => {
                self.armed_ms = self.armed_ms.saturating_add(counted);
                if let Some(Stage { hold: Hold::Until { minute_of_day, zone }, .. }) = rollout.current_stage()
                    && self.until.is_none()
                {
                    self.until = next_time_of_day(*minute_of_day, zone, rollout.since)
                        .map(|end| Until { at: end, held_ms: millis(end.since(rollout.since)) });
                }
                self.held_ms = self.held_ms.saturating_add(counted);
                self.requests = self.requests.saturating_add(requests);
                if rollout.phase == Phase::Keeping {
                    self.kept_ms = self.kept_ms.saturating_add(counted);
                }
            }
        }
        counted
    }

    fn tell(&mut self, tick: &Tick) -> Option<News> {
        if let Verdict::Fail { why } = &tick.verdict {
            let known = self.told.failing.replace(why.gate.clone());
            // What is done about it is told by itself.
            let is_news = tick.act.is_none() && known.as_ref() != Some(&why.gate);
            return is_news.then(|| News::Failing { why: why.clone() });
        }
        self.told.failing = None;
        if let Verdict::Wait { why: why @ Wait::Suspect { gate, .. } } = &tick.verdict {
            self.told.suspected_ms = self.armed_ms;
            let known = self.told.suspect.replace(gate.clone());
            return known.is_none().then(|| News::Suspect { why: why.clone() });
        }
        let calm = self.armed_ms.saturating_sub(self.told.suspected_ms) >= millis(CALM);
        let cleared = if calm { self.told.suspect.take() } else { None };
        cleared.map(|gate| News::Cleared { gate })
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
