//! The machine: where a rollout is, and what an act makes of it.
//!
//! A rollout is data, and an act makes another one of it, with what follows for the service. The weight goes up in
//! few places only: into a stage, by the machine's own step after a pass or by a person's word, and back to the
//! stage's by a person's resume. Nothing here looks at evidence; [`super::Guard`] does, and its steps are void as soon as anything
//! else has happened.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::act::{Act, Circumstances, Effect, Refusal, Shift, Step, Verb};
use super::plan::{Hold, Plan, Stage};
use super::sentences::span;
use crate::clock::Timestamp;
use crate::traffic::Weight;

/// A rollout, as it is saved with its service. It changes at transitions only.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Rollout {
    /// The generation at which it started: its name among all rollouts of the service.
    pub id: u64,
    /// What it does. A manual shift is a plan of one endless stage.
    pub plan: Arc<Plan>,
    /// Whether a person's shift made it, with the guard of the service.
    pub manual: bool,
    /// Whether its gates act, only tell, or are off.
    pub mode: GuardMode,
    /// When it began.
    pub started: Timestamp,
    /// Who began it.
    pub actor: Arc<str>,
    /// Which stage, from 0; before the first one also 0.
    pub stage: usize,
    /// What it does there.
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
    /// How many transitions there were: each makes the steps found before it void.
    pub transitions: u64,
    /// Gates that pause it no more, because a person has looked and said `resume`. They are still shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excused: Vec<Arc<str>>,
}

/// What the guard of a service does when a gate fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardMode {
    /// What the gate says: roll back or pause.
    #[default]
    Rollback,
    /// It tells people, and does nothing.
    Notify,
    /// Nothing is judged.
    Off,
}

/// What a rollout is doing.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Before the first stage, at weight 0.
    Waiting,
    /// In a stage, under its gates.
    Holding,
    /// In a stage, until a person resumes. The gates are armed.
    Paused {
        /// Why.
        why: Stop,
        /// What it did before, and does again after a resume.
        #[serde(default)]
        was: Moving,
    },
    /// All stages are over; stable is kept warm until the roles swap. The gates are armed as long as stable has
    /// traffic to compare with.
    Keeping,
    /// Over.
    Ended {
        /// How.
        how: Ending,
    },
}

/// What a paused rollout goes on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moving {
    /// Waiting for its first stage.
    Waiting,
    /// In its stage.
    #[default]
    Holding,
    /// Keeping stable warm.
    Keeping,
}

/// Why a rollout is paused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Stop {
    /// Somebody said so.
    Person {
        /// Who.
        actor: Arc<str>,
    },
    /// Somebody shifted the candidate down.
    Shift {
        /// Who.
        actor: Arc<str>,
    },
    /// A gate failed that pauses.
    Gate {
        /// The gate.
        #[serde(default)]
        gate: Arc<str>,
        /// The verdict as a sentence.
        sentence: String,
    },
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Ending {
    /// The candidate is stable now.
    Promoted,
    /// A gate failed, or somebody rolled it back.
    RolledBack {
        /// Why, as a sentence.
        why: String,
    },
    /// Killed.
    Killed,
    /// Somebody took the candidate to 0 % by a shift, or took over.
    TakenOver {
        /// Who.
        actor: Arc<str>,
    },
}

impl Rollout {
    /// Begins a rollout with its first transition: into its first stage, unless a delay, a window or a hook comes
    /// before that. `id`: the generation at which it starts.
    pub fn start(id: u64, plan: Arc<Plan>, around: &Circumstances) -> Result<(Self, Effect), Refusal> {
        around.may_rise()?;
        let first = plan.stages.first().ok_or(Refusal::NoStage)?;
        let confirm = &plan.confirm;
        let waits = plan.delay > Duration::ZERO
            || !plan.windows.is_open(around.at)
            || !(confirm.rollout.is_empty() && confirm.traffic_increase.is_empty());
        let (phase, weight) =
            if waits { (Phase::Waiting, Weight::ZERO) } else { (Phase::Holding, first.weight) };
        let next = if waits { "waits for its first stage".to_owned() } else { stands_at(first) };
        let sentence = format!("{} started by {}: {next}", plan.name, around.actor);
        let rollout = Self {
            id,
            plan,
            manual: false,
            mode: GuardMode::Rollback,
            started: around.at,
            actor: around.actor.clone(),
            stage: 0,
            phase,
            since: around.at,
            transitions: 1,
            excused: Vec::new(),
        };
        Ok((rollout, Effect::of("start", weight, sentence)))
    }

    /// What a person's shift makes. `None`: at 0 % there is nothing to guard, and there was no rollout.
    ///
    /// - Nothing, or a rollout that has ended: a manual one with this `id`, one endless stage under the service's guard.
    /// - A manual one: the same at another weight.
    /// - A planned one, down: paused, at less than its stage's weight. Its hold stands still until a resume.
    /// - A planned one, up: refused while it moves by itself ([`Refusal::Driven`]); taken over, or paused before, it gives
    ///   way to a manual one, with evidence of its own.
    /// - Any, to 0 %: ended.
    ///
    /// Whether the service may rise at all (lock, health) is the caller's to know.
    pub fn shifted(
        before: Option<&Self>,
        id: u64,
        shift: &Shift,
        around: &Circumstances,
    ) -> Result<Option<Self>, Refusal> {
        let manual = || Some(Self::by_hand(id, shift, around));
        let Some(before) = before else {
            return Ok(if shift.weight == Weight::ZERO { None } else { manual() });
        };
        if before.has_ended() {
            return Ok(if shift.weight == Weight::ZERO { Some(before.clone()) } else { manual() });
        }
        if shift.weight == Weight::ZERO {
            return Ok(Some(before.ended(Ending::TakenOver { actor: around.actor.clone() }, around.at)));
        }
        if before.manual {
            if before.weight_max() == shift.weight {
                return Ok(Some(before.clone()));
            }
            // The gates stay what they were: the evidence so far was judged by them.
            let stages = vec![Stage::new(shift.weight, Hold::Endless)];
            let plan = Arc::new(Plan { stages, ..Plan::clone(&before.plan) });
            return Ok(Some(Self { plan, mode: shift.mode, ..before.clone() }.step(around.at)));
        }
        let stop = Stop::Shift { actor: around.actor.clone() };
        let paused = |was| before.to(Phase::Paused { why: stop.clone(), was }, around.at);
        let within = shift.weight < before.weight_max();
        Ok(Some(match before.phase {
            Phase::Holding if within => paused(Moving::Holding),
            Phase::Keeping if within => paused(Moving::Keeping),
            Phase::Holding | Phase::Keeping if shift.weight == before.weight_max() => before.clone(),
            Phase::Paused { was: was @ (Moving::Holding | Moving::Keeping), .. } if within => paused(was),
            Phase::Waiting | Phase::Holding | Phase::Keeping if !shift.take_over => {
                return Err(Refusal::Driven);
            }
            Phase::Waiting | Phase::Holding | Phase::Keeping | Phase::Paused { .. } | Phase::Ended { .. } => {
                return Ok(manual());
            }
        }))
    }

    /// Does something to it. `None`: it is done already, or void. The effect belongs to the same change.
    pub fn take(&self, act: &Act, around: &Circumstances) -> Result<Option<(Self, Effect)>, Refusal> {
        match act {
            Act::Verb(Verb::Pause) => self.pause(around),
            Act::Verb(Verb::Resume) => self.resume(around),
            Act::Verb(Verb::Advance) => self.advance(around),
            Act::Verb(Verb::Promote) => self.promote(around),
            Act::Verb(Verb::Rollback) => Ok(self.roll_back(around)),
            Act::Step { after, .. } if *after != self.transitions || self.has_ended() => Ok(None),
            Act::Step { step, .. } => self.take_step(step, around),
        }
    }

    /// Ended by a kill. One that is over stays as it ended.
    #[must_use]
    pub fn killed(&self, at: Timestamp) -> Self {
        if self.has_ended() { self.clone() } else { self.ended(Ending::Killed, at) }
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Whether it moves traffic by itself: a planned one that is neither paused nor over.
    pub fn drives(&self) -> bool {
        !self.manual && matches!(self.phase, Phase::Waiting | Phase::Holding | Phase::Keeping)
    }

    /// Where it is in its plan; `None` before the first stage and after the end.
    pub fn current_stage(&self) -> Option<&Stage> {
        match &self.phase {
            Phase::Holding | Phase::Keeping => self.plan.stages.get(self.stage),
            Phase::Paused { was: Moving::Holding | Moving::Keeping, .. } => self.plan.stages.get(self.stage),
            Phase::Waiting | Phase::Paused { was: Moving::Waiting, .. } | Phase::Ended { .. } => None,
        }
    }

    /// The share of visitors whose requests its stage copies to the candidate; `None` where it leaves that alone.
    pub fn mirrors(&self) -> Option<Weight> {
        self.current_stage()?.mirror
    }

    /// The most that the candidate may have now: its stage's weight.
    pub fn weight_max(&self) -> Weight {
        self.current_stage().map_or(Weight::ZERO, |stage| stage.weight)
    }

    fn by_hand(id: u64, shift: &Shift, around: &Circumstances) -> Self {
        Self {
            id,
            plan: Arc::new(Plan::manual(shift.weight, shift.gates.clone(), shift.slo)),
            manual: true,
            mode: shift.mode,
            started: around.at,
            actor: around.actor.clone(),
            stage: 0,
            phase: Phase::Holding,
            since: around.at,
            transitions: 1,
            excused: Vec::new(),
        }
    }

    fn pause(&self, around: &Circumstances) -> Result<Option<(Self, Effect)>, Refusal> {
        let was = match &self.phase {
            Phase::Ended { how } => return Err(Refusal::Ended(how.clone())),
            Phase::Paused { .. } => return Ok(None),
            // It goes nowhere by itself.
            Phase::Holding if self.manual => return Ok(None),
            Phase::Waiting => Moving::Waiting,
            Phase::Holding => Moving::Holding,
            Phase::Keeping => Moving::Keeping,
        };
        let why = Stop::Person { actor: around.actor.clone() };
        Ok(Some(self.stopped(why, was, around)))
    }

    fn resume(&self, around: &Circumstances) -> Result<Option<(Self, Effect)>, Refusal> {
        let (why, was) = match &self.phase {
            Phase::Ended { how } => return Err(Refusal::Ended(how.clone())),
            Phase::Waiting | Phase::Holding | Phase::Keeping => return Err(Refusal::NotPaused),
            Phase::Paused { why, was } => (why, *was),
        };
        around.may_rise()?;
        let phase = match was {
            Moving::Waiting => Phase::Waiting,
            Moving::Holding => Phase::Holding,
            Moving::Keeping => Phase::Keeping,
        };
        let mut resumed = self.to(phase, around.at);
        if let Stop::Gate { gate, .. } = why
            && !resumed.excused.contains(gate)
        {
            resumed.excused.push(gate.clone());
        }
        let weight = resumed.weight_max();
        let sentence = format!("{} resumed by {} at {weight}", self.plan.name, around.actor);
        Ok(Some((resumed, Effect::of("resume", weight, sentence))))
    }

    fn advance(&self, around: &Circumstances) -> Result<Option<(Self, Effect)>, Refusal> {
        self.may_be_advanced(around)?;
        let by = format!("by {}", around.actor);
        Ok(match &self.phase {
            Phase::Waiting | Phase::Paused { was: Moving::Waiting, .. } => self.enter(0, &by, around.at),
            Phase::Holding | Phase::Paused { was: Moving::Holding, .. } => {
                match self.enter(self.stage + 1, &by, around.at) {
                    Some(next) => Some(next),
                    None if self.plan.keep > Duration::ZERO => Some(self.keep(around.at)),
                    None => Some(self.finish("promotion", around.at)),
                }
            }
            Phase::Keeping | Phase::Paused { was: Moving::Keeping, .. } => {
                Some(self.finish("keep-over", around.at))
            }
            Phase::Ended { .. } => None,
        })
    }

    fn promote(&self, around: &Circumstances) -> Result<Option<(Self, Effect)>, Refusal> {
        if (Phase::Ended { how: Ending::Promoted }) == self.phase {
            return Ok(None);
        }
        self.may_be_advanced(around)?;
        let last = self.plan.stages.len().saturating_sub(1);
        Ok(Some(Self { stage: last, ..self.clone() }.finish("promotion", around.at)))
    }

    fn may_be_advanced(&self, around: &Circumstances) -> Result<(), Refusal> {
        match &self.phase {
            Phase::Ended { how } => return Err(Refusal::Ended(how.clone())),
            _ if self.manual => return Err(Refusal::Manual),
            Phase::Paused { why: Stop::Gate { sentence, .. }, .. } => {
                return Err(Refusal::GateFailed(sentence.clone()));
            }
            Phase::Paused { why: Stop::Person { .. } | Stop::Shift { .. }, .. } => {}
            Phase::Waiting | Phase::Holding | Phase::Keeping => {}
        }
        around.may_rise()
    }

    fn roll_back(&self, around: &Circumstances) -> Option<(Self, Effect)> {
        let swaps_roles = match &self.phase {
            Phase::Ended { how: Ending::Promoted } => true,
            Phase::Ended { how: Ending::RolledBack { .. } | Ending::Killed | Ending::TakenOver { .. } } => {
                return None;
            }
            Phase::Waiting | Phase::Holding | Phase::Paused { .. } | Phase::Keeping => false,
        };
        let why = format!("by {}", around.actor);
        let what = if swaps_roles { "and the roles swapped back" } else { "to stable" };
        let sentence = format!("{} rolled back {why}: {what}", self.plan.name);
        let effect = Effect { swaps_roles, ..Effect::of("rollback", Weight::ZERO, sentence) };
        Some((self.ended(Ending::RolledBack { why }, around.at), effect))
    }

    fn take_step(&self, step: &Step, around: &Circumstances) -> Result<Option<(Self, Effect)>, Refusal> {
        let gone_back = |sentence: &String, lock| {
            let why = format!("{} rolled back: {sentence}", self.plan.name);
            let effect = Effect { lock, ..Effect::of("rollback", Weight::ZERO, why) };
            (self.ended(Ending::RolledBack { why: sentence.clone() }, around.at), effect)
        };
        Ok(match (step, &self.phase) {
            (Step::Fail { cause, sentence }, _) => {
                Some(gone_back(sentence, Some((*cause, sentence.clone()))))
            }
            (Step::GiveUp { sentence }, _) => Some(gone_back(sentence, None)),
            (Step::Pause(why), Phase::Waiting) => Some(self.stopped(why.clone(), Moving::Waiting, around)),
            (Step::Pause(why), Phase::Holding) => Some(self.stopped(why.clone(), Moving::Holding, around)),
            (Step::Pause(why), Phase::Keeping) => Some(self.stopped(why.clone(), Moving::Keeping, around)),
            (Step::Pause(_), Phase::Paused { .. } | Phase::Ended { .. }) => None,
            (Step::Advance | Step::Keep | Step::Finish, Phase::Paused { .. } | Phase::Ended { .. }) => None,
            (Step::Advance, Phase::Waiting) => {
                around.may_rise()?;
                self.enter(0, "", around.at)
            }
            (Step::Advance, Phase::Holding) => {
                around.may_rise()?;
                self.enter(self.stage + 1, "", around.at)
            }
            (Step::Keep, Phase::Holding) if self.is_last() => {
                around.may_rise()?;
                Some(self.keep(around.at))
            }
            (Step::Finish, Phase::Holding) if self.is_last() => {
                around.may_rise()?;
                Some(self.finish("promotion", around.at))
            }
            (Step::Finish, Phase::Keeping) => {
                around.may_rise()?;
                Some(self.finish("keep-over", around.at))
            }
            (Step::Advance, Phase::Keeping) => None,
            (Step::Keep | Step::Finish, Phase::Waiting | Phase::Holding | Phase::Keeping) => None,
        })
    }

    pub(super) fn is_last(&self) -> bool {
        !self.manual && self.stage + 1 == self.plan.stages.len()
    }

    fn enter(&self, stage: usize, by: &str, at: Timestamp) -> Option<(Self, Effect)> {
        let next = self.plan.stages.get(stage)?;
        let entered = Self { stage, ..self.clone() }.to(Phase::Holding, at);
        let by = if by.is_empty() { String::new() } else { format!(" {by}") };
        let sentence = format!(
            "{} is in stage {} of {}{by}: {}",
            self.plan.name,
            stage + 1,
            self.plan.stages.len(),
            stands_at(next)
        );
        Some((entered, Effect::of("stage", next.weight, sentence)))
    }

    fn keep(&self, at: Timestamp) -> (Self, Effect) {
        let sentence = format!(
            "{} is through its stages; stable is kept warm for {}",
            self.plan.name,
            span(self.plan.keep)
        );
        let kept = self.to(Phase::Keeping, at);
        let weight = kept.weight_max();
        (kept, Effect::of("promotion", weight, sentence))
    }

    fn finish(&self, happened: &'static str, at: Timestamp) -> (Self, Effect) {
        let sentence = format!(
            "{} is promoted: the candidate is stable now, the old stable may be stopped",
            self.plan.name
        );
        let effect = Effect { swaps_roles: true, ..Effect::of(happened, Weight::ZERO, sentence) };
        (self.ended(Ending::Promoted, at), effect)
    }

    fn stopped(&self, why: Stop, was: Moving, around: &Circumstances) -> (Self, Effect) {
        let sentence = format!("{} paused {why}", self.plan.name);
        let paused = self.to(Phase::Paused { why, was }, around.at);
        (paused, Effect { happened: "pause", sentence, ..Effect::default() })
    }

    fn ended(&self, how: Ending, at: Timestamp) -> Self {
        self.to(Phase::Ended { how }, at)
    }

    fn to(&self, phase: Phase, at: Timestamp) -> Self {
        Self { phase, ..self.clone() }.step(at)
    }

    fn step(self, at: Timestamp) -> Self {
        Self { since: at, transitions: self.transitions + 1, ..self }
    }
}

fn stands_at(stage: &Stage) -> String {
    let stands = match stage.mirror {
        Some(share) => format!("mirroring {share}"),
        None => stage.weight.to_string(),
    };
    match &stage.hold {
        Hold::For(hold) => format!("{stands} for at least {}", span(*hold)),
        Hold::Until { minute_of_day, zone } => {
            format!("{stands} until {:02}:{:02} {zone}", minute_of_day / 60, minute_of_day % 60)
        }
        Hold::Endless => format!("{stands} until somebody decides"),
    }
}
