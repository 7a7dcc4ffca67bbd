//! What a tick concludes: the finding of the gates, and above it everything that traffic does not know.
//!
//! From the top down, the first that applies: somebody outside calls it off, a gate fails, something is doubtful, the hold, the
//! minimum, the permission. After a pass: approval, freeze, the candidate's health, windows, hooks. A paused rollout
//! still fails, and does nothing else.

use std::sync::Arc;
use std::time::Duration;

use super::act::{Act, Step};
use super::evidence::Evidence;
use super::guard::{Guard, Tick, Waiting, millis};
use super::judge::Finding;
use super::machine::{GuardMode, Moving, Phase, Rollout, Stop};
use super::plan::{Hold, OnInconclusive, Stage};
use super::sentences::span;
use super::verdict::{Failure, GateReading, Verdict, Wait};
use crate::clock::Timestamp;
use crate::traffic::Cause;

impl Guard {
    /// What the clocks, the finding, people and hooks say together. Changes nothing.
    pub(super) fn decide(
        &self,
        rollout: &Rollout,
        finding: Finding,
        evidence: &Evidence,
        at: Timestamp,
    ) -> Tick {
        let Finding { failure, doubts, permits, readings } = finite(finding);
        let look = Look { guard: self, rollout, evidence, at };
        let excused = |gate: &Arc<str>| rollout.excused.contains(gate);
        let failure = look.called_off().or(failure).filter(|why| why.rolls_back || !excused(&why.gate));
        // Noise takes rollbacks away from the gates, and is said; it is nothing against the candidate.
        let is_noisy = doubts.contains(&Wait::Noisy);
        let doubt = doubts.into_iter().find(|wait| match wait {
            Wait::Suspect { gate, .. } => !excused(gate),
            Wait::Noisy => false,
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
            (_, Some(stage)) => look.in_stage(stage, doubt, is_noisy, permits, &readings),
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
        is_noisy: bool,
        permits: bool,
        readings: &[GateReading],
    ) -> (Verdict, Next) {
        let hold_left_ms = self.hold_left_ms(stage);
        let permits = permits || !self.rollout.plan.gates_of(stage).measure();
        let wait = doubt
            .or_else(|| {
                let left_ms = hold_left_ms.filter(|left_ms| *left_ms > 0)?;
                Some(if is_noisy { Wait::Noisy } else { Wait::Hold { left_ms } })
            })
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
