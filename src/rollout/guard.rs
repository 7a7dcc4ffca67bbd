//! The guard: a rollout's clocks and evidence, and what a tick of them concludes.
//!
//! It is a layer on the [`Judge`]. The judge says what the traffic says; the guard adds what traffic does not know: holds,
//! minima, hooks, windows, freezes and people. It never changes a rollout. It finds a [`Step`], which is void
//! if anything else has happened to the rollout in the meantime.
//!
//! **Clocks count armed time**, the time in which ticks were taken, and each tick counts for at most
//! [`TICK_COUNTED_MAX`]: after a suspend, a stopped process or a jump of the clock the evidence of a long
//! tick counts in full, its length does not. So all of these can only make a hold longer, and so can a lost
//! checkpoint. A hold until a time of day needs both: that time, and as much armed time as there was until then.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::act::{Act, Step};
use super::evidence::Evidence;
use super::judge::{Finding, Judge, Moment};
use super::machine::{GuardMode, Moving, Phase, Rollout, Stop};
use super::plan::{Hold, OnInconclusive, Plan, Stage};
use super::sentences::span;
use super::verdict::{Failure, GateReading, Verdict, Wait};
use super::windows::next_time_of_day;
use crate::clock::Timestamp;
use crate::traffic::{Cause, Weight};

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
    /// The candidate's requests in the stage.
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
        if self.stage != rollout.stage || weight > self.weight {
            (self.held_ms, self.requests, self.until) = (0, 0, None);
        }
        (self.stage, self.weight) = (rollout.stage, weight);
        if elapsed_ms > 0 {
            let seconds = elapsed_ms as f64 / 1000.0;
            let rate = evidence.requests.candidate as f64 / seconds;
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
                self.requests = self.requests.saturating_add(evidence.requests.candidate);
                if rollout.phase == Phase::Keeping {
                    self.kept_ms = self.kept_ms.saturating_add(counted);
                }
            }
        }
        counted
    }

    /// What the clocks, the finding, people and hooks say together. Changes nothing.
    fn decide(&self, rollout: &Rollout, finding: Finding, evidence: &Evidence, at: Timestamp) -> Tick {
        let Finding { failure, doubts, permits, readings } = finite(finding);
        let look = Look { guard: self, rollout, evidence, at };
        let excused = |gate: &Arc<str>| rollout.excused.contains(gate);
        let failure = look.called_off().or(failure).filter(|why| why.rolls_back || !excused(&why.gate));
        let doubt = doubts.into_iter().find(|wait| match wait {
            Wait::Suspect { gate, .. } => !excused(gate),
            _ => true,
        });
        let (verdict, next) = match (&rollout.phase, rollout.current_stage()) {
            (Phase::Ended { .. }, _) => (Verdict::Wait { why: Wait::NoTraffic }, Next::Nothing),
            (_, _) if failure.is_some() => look.failed(failure),
            (_, None) => (Verdict::Wait { why: Wait::NoTraffic }, look.before_first_stage()),
            (_, Some(_)) if rollout.mode == GuardMode::Off => {
                (Verdict::Wait { why: Wait::Unguarded }, Next::Nothing)
            }
            (Phase::Keeping | Phase::Paused { was: Moving::Keeping, .. }, Some(_)) => look.keeping(doubt),
            (_, Some(stage)) => look.in_stage(stage, doubt, permits, &readings),
        };
        let next = match (&rollout.phase, next) {
            (Phase::Paused { .. }, Next::Step(step @ Step::Fail { .. })) => Next::Step(step),
            (Phase::Paused { .. }, _) => Next::Wait(Waiting::Resume),
            (_, next) => next,
        };
        let (waiting, act) = match next {
            Next::Nothing => (None, None),
            Next::Wait(waiting) => (Some(waiting), None),
            Next::Step(step) => (None, Some(Act::Step { after: rollout.transitions, step })),
        };
        Tick { verdict, waiting, readings, act, left_ms: look.left_ms(), news: None }
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

/// What follows from a verdict.
enum Next {
    Nothing,
    Wait(Waiting),
    Step(Step),
}

/// Everything that a decision looks at besides the finding.
struct Look<'l> {
    guard: &'l Guard,
    rollout: &'l Rollout,
    evidence: &'l Evidence,
    at: Timestamp,
}

impl Look<'_> {
    /// What somebody outside says, whatever the traffic says: also while the guard is off.
    fn called_off(&self) -> Option<Failure> {
        let failure = |gate: &str, sentence| Failure { gate: gate.into(), rolls_back: true, sentence };
        if let Some(signal) = self.evidence.signals.iter().find(|signal| signal.critical) {
            let sentence = format!("critical signal {} from {}", signal.name, signal.actor);
            return Some(failure("signal", sentence));
        }
        let hooks = &self.rollout.plan.confirm.rollback;
        let hook = hooks.iter().find(|hook| self.evidence.confirms.get(*hook) == Some(&true))?;
        Some(failure("hook", format!("the hook {hook} asks to roll back")))
    }

    fn failed(&self, failure: Option<Failure>) -> (Verdict, Next) {
        let Some(why) = failure else { return (Verdict::Pass, Next::Nothing) };
        let asked_for = matches!(&*why.gate, "signal" | "hook");
        let next = if self.rollout.mode != GuardMode::Rollback && !asked_for {
            Next::Nothing
        } else if why.rolls_back {
            let cause = if &*why.gate == "health" { Cause::DeadCandidate } else { Cause::FailedRollout };
            Next::Step(Step::Fail { cause, sentence: why.sentence.clone() })
        } else {
            Next::Step(Step::Pause(Stop::Gate { gate: why.gate.clone(), sentence: why.sentence.clone() }))
        };
        (Verdict::Fail { why }, next)
    }

    fn before_first_stage(&self) -> Next {
        let plan = &self.rollout.plan;
        let left_ms = millis(plan.delay).saturating_sub(self.guard.delayed_ms);
        if left_ms > 0 {
            return Next::Wait(Waiting::Delay { left_ms });
        }
        let hooks = plan.confirm.rollout.iter().chain(&plan.confirm.traffic_increase);
        self.unless(
            self.held_back().or_else(|| self.outside_window()).or_else(|| self.unconfirmed(hooks)),
            Step::Advance,
        )
    }

    fn keeping(&self, doubt: Option<Wait>) -> (Verdict, Next) {
        let against =
            |wait: &Wait| matches!(wait, Wait::Suspect { .. } | Wait::SharedIncident | Wait::Burn { .. });
        // Nothing else is to be decided any more, and stable may have nobody left to compare with.
        if let Some(why) = doubt.filter(against) {
            return (Verdict::Wait { why: why.clone() }, Next::Wait(Waiting::Verdict { wait: why }));
        }
        let left_ms = self.keep_left_ms();
        let next = if left_ms > 0 { Next::Wait(Waiting::Keep { left_ms }) } else { self.finish() };
        (Verdict::Pass, next)
    }

    fn in_stage(
        &self,
        stage: &Stage,
        doubt: Option<Wait>,
        permits: bool,
        readings: &[GateReading],
    ) -> (Verdict, Next) {
        let hold_left_ms = self.hold_left_ms(stage);
        let permits = permits || !self.rollout.plan.gates_of(stage).measure();
        let wait = doubt
            .or_else(|| hold_left_ms.filter(|left_ms| *left_ms > 0).map(|left_ms| Wait::Hold { left_ms }))
            .or_else(|| {
                let missing = stage.min_requests.saturating_sub(self.guard.requests);
                (missing > 0).then_some(Wait::Requests { missing })
            })
            .or_else(|| (!permits).then(|| self.inconclusive(readings)));
        let decided_by_people = self.rollout.manual || hold_left_ms.is_none();
        match wait {
            None if self.rollout.manual => (Verdict::Pass, Next::Nothing),
            None if decided_by_people || stage.approval => (Verdict::Pass, Next::Wait(Waiting::Approval)),
            None => (Verdict::Pass, self.go_on()),
            Some(why) => {
                let next = match self.undecided(stage, &why) {
                    Some(next) if !decided_by_people => next,
                    _ => Next::Wait(Waiting::Verdict { wait: why.clone() }),
                };
                (Verdict::Wait { why }, next)
            }
        }
    }

    /// What follows when a stage has waited for longer than it may; `None`: nothing.
    fn undecided(&self, stage: &Stage, why: &Wait) -> Option<Next> {
        let max_hold = stage.max_hold?;
        if self.guard.held_ms < millis(max_hold) || matches!(why, Wait::Hold { .. }) {
            return None;
        }
        let nothing_against = matches!(
            why,
            Wait::Requests { .. } | Wait::Inconclusive { .. } | Wait::NoTraffic | Wait::NoEvidence { .. }
        );
        match self.rollout.plan.on_inconclusive {
            OnInconclusive::Hold => None,
            OnInconclusive::Advance if !nothing_against => None,
            OnInconclusive::Advance if stage.approval => Some(Next::Wait(Waiting::Approval)),
            OnInconclusive::Advance => Some(self.go_on()),
            OnInconclusive::Rollback => {
                let sentence = format!("no verdict after {}: still waiting for {why}", span(max_hold));
                Some(Next::Step(Step::GiveUp { sentence }))
            }
        }
    }

    fn go_on(&self) -> Next {
        if !self.rollout.is_last() {
            let hooks = self.rollout.plan.confirm.traffic_increase.iter();
            let blocked =
                self.held_back().or_else(|| self.outside_window()).or_else(|| self.unconfirmed(hooks));
            return self.unless(blocked, Step::Advance);
        }
        if self.rollout.plan.keep > Duration::ZERO {
            return self.unless(self.held_back(), Step::Keep);
        }
        self.finish()
    }

    fn finish(&self) -> Next {
        let hooks = self.rollout.plan.confirm.promotion.iter();
        self.unless(self.held_back().or_else(|| self.unconfirmed(hooks)), Step::Finish)
    }

    fn unless(&self, blocked: Option<Waiting>, step: Step) -> Next {
        blocked.map_or(Next::Step(step), Next::Wait)
    }

    /// What keeps everything from moving toward the candidate.
    fn held_back(&self) -> Option<Waiting> {
        if self.evidence.frozen || self.evidence.signals.iter().any(|signal| !signal.critical) {
            Some(Waiting::Thaw)
        } else if !self.evidence.candidate_healthy {
            Some(Waiting::Endpoint)
        } else {
            None
        }
    }

    fn outside_window(&self) -> Option<Waiting> {
        let windows = &self.rollout.plan.windows;
        (!windows.is_open(self.at)).then(|| Waiting::Window { opens: windows.next_opening(self.at) })
    }

    fn unconfirmed<'h>(&self, hooks: impl Iterator<Item = &'h Arc<str>>) -> Option<Waiting> {
        let silent = hooks.filter(|hook| self.evidence.confirms.get(*hook) != Some(&true));
        let hooks: Vec<_> = silent.cloned().collect();
        (!hooks.is_empty()).then_some(Waiting::Confirm { hooks })
    }

    fn inconclusive(&self, readings: &[GateReading]) -> Wait {
        let lacking = readings
            .iter()
            .filter(|reading| reading.permission.is_some_and(|(evidence, needed)| evidence < needed));
        let missing = lacking.filter_map(|reading| reading.missing).max();
        let about_ms = missing.filter(|_| self.guard.rate > 0.0).map(|missing| {
            // Far above any rollout's length it saturates.
            (missing as f64 / self.guard.rate * 1000.0) as u64
        });
        Wait::Inconclusive { missing, about_ms }
    }

    fn left_ms(&self) -> Option<u64> {
        match &self.rollout.phase {
            Phase::Waiting => Some(millis(self.rollout.plan.delay).saturating_sub(self.guard.delayed_ms)),
            Phase::Keeping => Some(self.keep_left_ms()),
            Phase::Holding | Phase::Paused { .. } => {
                self.rollout.current_stage().and_then(|stage| self.hold_left_ms(stage))
            }
            Phase::Ended { .. } => None,
        }
    }

    fn keep_left_ms(&self) -> u64 {
        millis(self.rollout.plan.keep).saturating_sub(self.guard.kept_ms)
    }

    /// `None` if its end is not known, because only people end it.
    fn hold_left_ms(&self, stage: &Stage) -> Option<u64> {
        match &stage.hold {
            Hold::For(hold) => Some(millis(*hold).saturating_sub(self.guard.held_ms)),
            Hold::Until { .. } => {
                let until = self.guard.until?;
                let armed = until.held_ms.saturating_sub(self.guard.held_ms);
                Some(armed.max(millis(until.at.since(self.at))))
            }
            Hold::Endless => None,
        }
    }
}

/// Evidence without bound is written as the largest number there is, because JSON has no infinity.
fn finite(mut finding: Finding) -> Finding {
    let bound = |value: &mut f64| *value = if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) };
    for reading in &mut finding.readings {
        bound(&mut reading.evidence);
        reading.limit.iter_mut().for_each(bound);
        reading
            .permission
            .iter_mut()
            .for_each(|(evidence, needed)| [evidence, needed].into_iter().for_each(bound));
    }
    for doubt in &mut finding.doubts {
        match doubt {
            Wait::Suspect { evidence, limit, .. } => [evidence, limit].into_iter().for_each(bound),
            Wait::Burn { rate } => bound(rate),
            _ => {}
        }
    }
    finding
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
