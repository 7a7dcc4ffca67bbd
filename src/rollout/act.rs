//! What is done to a rollout, and what follows for the service.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::machine::{Ending, GuardMode, Stop};
use super::plan::{Gates, Slo};
use crate::clock::Timestamp;
use crate::traffic::{Cause, Weight};

/// What somebody does to a rollout.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// A person's word.
    Verb(Verb),
    /// The machine's own step, found by [`super::Guard::tick`]. Void when another transition came first.
    Step {
        /// [`super::Rollout::transitions`] when it was found.
        after: u64,
        /// What.
        step: Step,
    },
}

/// What people may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Stay where it is; the gates stay armed.
    Pause,
    /// Go on; also takes the weight of the stage again after a shift down.
    Resume,
    /// The next stage now; also an approval. Needs no evidence, but no failure.
    Advance,
    /// The last stage now, and the swap of roles without waiting for `keep`.
    Promote,
    /// Back to last-known-good: weight 0 before the promotion is final, roles swapped back after it.
    Rollback,
}

/// What the machine finds that has to be done.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Into the first stage, or the next one.
    Advance,
    /// The last stage is over: stable is kept warm.
    Keep,
    /// `keep` is over: the roles swap.
    Finish,
    /// Stay, and call a person.
    Pause(Stop),
    /// Weight 0 and a lock.
    Fail {
        /// The lock's cause.
        cause: Cause,
        /// The verdict as a sentence.
        sentence: String,
    },
    /// Weight 0 without a lock, because nothing was proven.
    GiveUp {
        /// Why.
        sentence: String,
    },
}

/// What an act means for the service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effect {
    /// The weight from now on.
    pub weight: Option<Weight>,
    /// Lock with this cause and reason.
    pub lock: Option<(Cause, String)>,
    /// Stable and candidate swap; the weight is that of the new candidate, 0.
    pub swaps_roles: bool,
    /// What people are told happened: `start`, `stage`, `pause`, `resume`, `rollback`, `promotion`, `keep-over`.
    pub happened: &'static str,
    /// The same as a sentence.
    pub sentence: String,
}

impl Effect {
    pub(super) fn of(happened: &'static str, weight: Weight, sentence: String) -> Self {
        Self { weight: Some(weight), lock: None, swaps_roles: false, happened, sentence }
    }
}

/// What surrounds an act.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Arc<str>,
    /// Whether advances are frozen.
    pub frozen: bool,
    /// Whether the service is locked.
    pub locked: bool,
    /// Whether the candidate has an endpoint that is known to be healthy.
    pub candidate_healthy: bool,
}

impl Circumstances {
    /// Whether anything may move toward the candidate.
    pub fn may_rise(&self) -> Result<(), Refusal> {
        if self.locked {
            Err(Refusal::Locked)
        } else if self.frozen {
            Err(Refusal::Frozen)
        } else if !self.candidate_healthy {
            Err(Refusal::DeadCandidate)
        } else {
            Ok(())
        }
    }
}

/// A person's shift, and what guards it if it makes a rollout.
#[derive(Clone, Debug)]
pub struct Shift {
    /// The candidate's weight from now on.
    pub weight: Weight,
    /// Whether it may end a rollout that drives the service.
    pub take_over: bool,
    /// The guard of the service.
    pub mode: GuardMode,
    /// The gates of the service.
    pub gates: Gates,
    /// The objective of the service.
    pub slo: Option<Slo>,
}

/// Why an act is refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each says itself")]
pub enum Refusal {
    #[error("the rollout has ended ({0}); start another one")]
    Ended(Ending),
    #[error("there is no rollout; start one with `tidegate rollout start`")]
    None,
    #[error("advances are frozen; `tidegate freeze off` first")]
    Frozen,
    #[error("the service is locked; find out why, then `tidegate arm --note \"…\"`")]
    Locked,
    #[error("the candidate has no healthy endpoint; see `tidegate status`")]
    DeadCandidate,
    #[error("it is not paused")]
    NotPaused,
    #[error("this is a manual shift without further stages; shift it, or start a rollout")]
    Manual,
    #[error("a rollout drives it; `tidegate rollout pause` first, or `--take-over`")]
    Driven,
    #[error("a gate has paused it ({0}); `tidegate rollout resume` first, if that is all right")]
    GateFailed(String),
    #[error("its plan has no such stage")]
    NoStage,
}
