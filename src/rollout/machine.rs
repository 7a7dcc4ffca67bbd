//! The machine: where a rollout is, and what a tick or a person's word makes of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::act::{Act, Circumstances, Effect, Refusal};
use super::evidence::Evidence;
use super::judge::Judge;
use super::plan::Plan;
use super::verdict::{GateReading, Verdict, Wait};
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

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promoted => f.write_str("promoted"),
            Self::RolledBack { why } => write!(f, "rolled back: {why}"),
            Self::Killed => f.write_str("killed"),
            Self::TakenOver { actor } => write!(f, "taken over by {actor}"),
        }
    }
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
    /// The end of a freeze.
    Thaw,
    /// The end of `keep`.
    Keep {
        /// In ms.
        left_ms: u64,
    },
}

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
    /// The evidence.
    pub judge: Judge,
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
}

impl Rollout {
    /// Begins a rollout with its first transition. `id`: the generation at which it starts.
    pub fn start(id: u64, plan: Arc<Plan>, around: &Circumstances) -> Result<(Self, Effect), Refusal> {
        let rollout = Self {
            id,
            plan,
            manual: false,
            mode: GuardMode::Rollback,
            started: around.at,
            actor: around.actor.clone(),
            stage: 0,
            phase: Phase::Waiting,
            since: around.at,
            transitions: 0,
        };
        Ok((rollout, Effect::default()))
    }

    /// What a person's shift to `weight` makes: of nothing, a guarded manual rollout of one endless stage; of a
    /// manual one, the same at another weight; of a planned one, a paused one (down) or, when taken over, a
    /// manual one (up). `None`: at 0 % there is nothing to guard.
    pub fn shifted(
        _before: Option<&Self>,
        _id: u64,
        _weight: Weight,
        _mode: GuardMode,
        _around: &Circumstances,
    ) -> Option<Self> {
        None
    }

    /// Does something to it. `None`: it is done already, or void. The effect belongs to the same change.
    pub fn take(&self, _act: &Act, _around: &Circumstances) -> Result<Option<(Self, Effect)>, Refusal> {
        Ok(None)
    }

    /// Ended by a kill.
    #[must_use]
    pub fn killed(&self, at: Timestamp) -> Self {
        Self {
            phase: Phase::Ended { how: Ending::Killed },
            since: at,
            transitions: self.transitions + 1,
            ..self.clone()
        }
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }
}

impl Guard {
    /// For a rollout that nothing is known about yet.
    pub fn new(rollout: &Rollout) -> Self {
        Self {
            id: rollout.id,
            stage: rollout.stage,
            held_ms: 0,
            armed_ms: 0,
            judge: Judge::new(&rollout.plan),
        }
    }

    /// Takes in what `elapsed` brought. `elapsed` is of a clock that never jumps.
    pub fn tick(
        &mut self,
        _rollout: &Rollout,
        _at: Timestamp,
        _elapsed: Duration,
        _evidence: &Evidence,
    ) -> Tick {
        Tick { verdict: Verdict::Pass, waiting: None, readings: Vec::new(), act: None, left_ms: None }
    }
}
