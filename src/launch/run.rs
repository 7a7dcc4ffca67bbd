//! The machine: where a launch is, and what comes next.
//!
//! ```text
//! IDLE ──▶ RUNNING ──▶ COMPLETED
//!             ├──────▶ ROLLED_BACK      every undo went well
//!             └──────▶ FAILED           an undo did not, or the phase said rollback_on_failure: false
//!
//! PENDING ▶ VALIDATING ▶ EXECUTING ▶ VERIFYING ▶ VERIFIED ─┐
//!    │           │           └─────┬─────┘                 ├─▶ ROLLING_BACK ▶ ROLLED_BACK
//!    ▼           └───▶ FAILED ◀────┘  ─────────────────────┘        └───────▶ ROLLBACK_FAILED
//! SKIPPED
//! ```
//!
//! A phase whose action never began has nothing to undo: it stays FAILED or SKIPPED. All others are undone, the last one first; one that
//! cannot be does not keep the others from it.

use serde::{Deserialize, Serialize};

use super::entry::{Outcome, Step, Stop, Verdict};
use super::ledger::Misfit;
use super::plan::{Launch, Undo};
use crate::clock::Timestamp;

/// What became of a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Not started.
    #[default]
    Idle,
    /// Started, and not over: also while it is undone, and while nobody attends to it.
    Running,
    /// Undone.
    RolledBack,
    /// Every phase is verified.
    Completed,
    /// Over, and not undone: a person has to look.
    Failed,
}

impl State {
    /// `IDLE`, `RUNNING`, `ROLLED_BACK`, `COMPLETED` or `FAILED`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "IDLE",
            Self::Running => "RUNNING",
            Self::RolledBack => "ROLLED_BACK",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether nothing comes any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::RolledBack | Self::Completed | Self::Failed)
    }
}

/// What became of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PhaseState {
    /// Its turn has not come.
    #[default]
    Pending,
    /// What has to be true before is asked.
    Validating,
    /// Its action.
    Executing,
    /// What has to be true afterwards is asked.
    Verifying,
    /// It is, and the phase is done.
    Verified,
    /// A check, the action or a verification failed.
    Failed,
    /// Its undo.
    RollingBack,
    /// It is undone.
    RolledBack,
    /// Its undo failed.
    RollbackFailed,
    /// Its turn never came.
    Skipped,
}

impl PhaseState {
    /// As it is shown: `PENDING`, `VALIDATING` and so on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Validating => "VALIDATING",
            Self::Executing => "EXECUTING",
            Self::Verifying => "VERIFYING",
            Self::Verified => "VERIFIED",
            Self::Failed => "FAILED",
            Self::RollingBack => "ROLLING_BACK",
            Self::RolledBack => "ROLLED_BACK",
            Self::RollbackFailed => "ROLLBACK_FAILED",
            Self::Skipped => "SKIPPED",
        }
    }
}

/// A phase of a launch that runs or ran.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct PhaseRun {
    /// What became of it.
    pub state: PhaseState,
    /// The step that has begun and not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_way: Option<Step>,
    /// The last step that went well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<Step>,
    /// Whether its action has ever begun: then there may be something to undo.
    pub touched: bool,
    /// A step that was cut off, and of which nobody knows whether it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Step>,
    /// How the last step ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<(Step, Outcome)>,
    /// When its first step began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When its action began, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executed: Option<Timestamp>,
    /// When its last step ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A launch that runs or ran.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Run {
    /// What became of it.
    pub state: State,
    /// As in the plan.
    pub phases: Vec<PhaseRun>,
    /// Why it is or was undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stop>,
    /// When it was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Not started, or over.
    Nothing,
    /// A step is under way.
    Await {
        /// The phase, from 0.
        phase: usize,
        /// Which.
        step: Step,
    },
    /// This step is to begin.
    Do {
        /// The phase, from 0.
        phase: usize,
        /// Which.
        step: Step,
    },
    /// A person has to say whether an unknown step is done again.
    Choose {
        /// The phase, from 0.
        phase: usize,
        /// Which.
        step: Step,
    },
    /// It is over.
    Finish(State),
}

impl Run {
    /// Not started.
    pub fn new(launch: &Launch) -> Self {
        Self { phases: vec![PhaseRun::default(); launch.phases.len()], ..Self::default() }
    }

    /// What comes next.
    pub fn next(&self, launch: &Launch) -> Next {
        if self.state != State::Running {
            return Next::Nothing;
        }
        let under_way = self.phases.iter().enumerate().find_map(|(at, phase)| Some((at, phase.under_way?)));
        if let Some((phase, step)) = under_way {
            return Next::Await { phase, step };
        }
        match self.stopped {
            Some(_) => self.next_undo(launch),
            None => self.next_step(launch),
        }
    }

    fn next_step(&self, launch: &Launch) -> Next {
        for (at, (phase, planned)) in self.phases.iter().zip(&launch.phases).enumerate() {
            let step = match phase.state {
                PhaseState::Verified => continue,
                PhaseState::Failed if phase.unknown == Some(Step::Execute) => {
                    return Next::Choose { phase: at, step: Step::Execute };
                }
                // What undoes is begun with the failure; else it stays as it is.
                PhaseState::Failed => return Next::Finish(State::Failed),
                // Where nothing is asked afterwards, nothing says whether it was done.
                _ if phase.unknown == Some(Step::Execute) && planned.verify().is_empty() => {
                    return Next::Choose { phase: at, step: Step::Execute };
                }
                _ if phase.unknown == Some(Step::Execute) => Step::Verify,
                _ => match phase.passed {
                    None => Step::Validate,
                    Some(Step::Validate) => Step::Execute,
                    Some(Step::Execute | Step::Verify | Step::Undo) => Step::Verify,
                },
            };
            return Next::Do { phase: at, step };
        }
        Next::Finish(State::Completed)
    }

    fn next_undo(&self, launch: &Launch) -> Next {
        for (at, (phase, planned)) in self.phases.iter().zip(&launch.phases).enumerate().rev() {
            let is_left = phase.touched
                && planned.undo != Undo::None
                && !matches!(phase.state, PhaseState::RolledBack | PhaseState::RollbackFailed);
            if is_left {
                return match phase.unknown {
                    Some(Step::Undo) => Next::Choose { phase: at, step: Step::Undo },
                    _ => Next::Do { phase: at, step: Step::Undo },
                };
            }
        }
        let failed = self.phases.iter().any(|phase| phase.state == PhaseState::RollbackFailed);
        Next::Finish(if failed { State::Failed } else { State::RolledBack })
    }

    pub(super) fn start(&mut self, at: Timestamp) -> Result<(), Misfit> {
        if self.state != State::Idle {
            return Err(Misfit::Started(self.state));
        }
        (self.state, self.started) = (State::Running, Some(at));
        Ok(())
    }

    pub(super) fn begin(
        &mut self,
        launch: &Launch,
        at: Timestamp,
        phase: usize,
        step: Step,
    ) -> Result<(), Misfit> {
        self.expect(launch, Next::Do { phase, step })?;
        let Some(run) = self.phases.get_mut(phase) else { return Err(Misfit::OutOfTurn) };
        run.under_way = Some(step);
        run.since.get_or_insert(at);
        run.until = None;
        run.state = match step {
            Step::Validate => PhaseState::Validating,
            Step::Execute => PhaseState::Executing,
            Step::Verify => PhaseState::Verifying,
            Step::Undo => PhaseState::RollingBack,
        };
        if step == Step::Execute {
            (run.touched, run.executed) = (true, Some(at));
        }
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        launch: &Launch,
        at: Timestamp,
        phase: usize,
        step: Step,
        outcome: Outcome,
    ) -> Result<(), Misfit> {
        self.expect(launch, Next::Await { phase, step })?;
        let (Some(run), Some(planned)) = (self.phases.get_mut(phase), launch.phases.get(phase)) else {
            return Err(Misfit::OutOfTurn);
        };
        let passed = outcome.verdict == Verdict::Passed;
        run.under_way = None;
        run.until = Some(at);
        run.last = Some((step, outcome));
        match (step, passed) {
            (Step::Undo, true) => run.state = PhaseState::RolledBack,
            (Step::Undo, false) => run.state = PhaseState::RollbackFailed,
            (Step::Verify, true) => {
                (run.state, run.passed, run.unknown) = (PhaseState::Verified, Some(step), None);
            }
            (Step::Validate | Step::Execute, true) => run.passed = Some(step),
            (Step::Validate | Step::Execute | Step::Verify, false) => {
                run.state = PhaseState::Failed;
                // Of an unknown action a person says what becomes of it.
                let is_open = run.unknown == Some(Step::Execute);
                if planned.rollback_on_failure && !is_open {
                    self.stop(at, Stop::Phase { phase });
                }
            }
        }
        Ok(())
    }

    /// What was under way is nobody's any more.
    pub(super) fn cut_off(&mut self, launch: &Launch) {
        for (run, planned) in self.phases.iter_mut().zip(&launch.phases) {
            match run.under_way.take() {
                Some(Step::Execute) if planned.action.is_idempotent() => run.passed = Some(Step::Validate),
                Some(Step::Execute) => run.unknown = Some(Step::Execute),
                Some(Step::Undo) if !planned.undo.is_idempotent() => run.unknown = Some(Step::Undo),
                Some(Step::Validate | Step::Verify | Step::Undo) | None => {}
            }
        }
    }

    pub(super) fn choose(
        &mut self,
        launch: &Launch,
        at: Timestamp,
        phase: usize,
        redo: bool,
    ) -> Result<(), Misfit> {
        let Next::Choose { phase: open, step } = self.next(launch) else {
            return Err(Misfit::NothingToChoose);
        };
        let Some(run) = self.phases.get_mut(phase).filter(|_| open == phase) else {
            return Err(Misfit::NothingToChoose);
        };
        run.unknown = None;
        match (step, redo) {
            (Step::Undo, true) => {}
            (Step::Undo, false) => run.state = PhaseState::RollbackFailed,
            (_, true) => (run.state, run.passed) = (PhaseState::Executing, Some(Step::Validate)),
            (_, false) => self.stop(at, Stop::Phase { phase }),
        }
        Ok(())
    }

    /// From here on it is undone; what is under way may end first. The first reason stands.
    pub(super) fn stop(&mut self, at: Timestamp, why: Stop) {
        if self.stopped.is_none() {
            (self.stopped, self.stopped_at) = (Some(why), Some(at));
        }
    }

    pub(super) fn finish(&mut self, launch: &Launch, at: Timestamp, state: State) -> Result<(), Misfit> {
        self.expect(launch, Next::Finish(state))?;
        (self.state, self.ended) = (state, Some(at));
        for run in &mut self.phases {
            run.state = match run.state {
                PhaseState::Pending => PhaseState::Skipped,
                PhaseState::Validating | PhaseState::Executing | PhaseState::Verifying if run.touched => {
                    PhaseState::Failed
                }
                PhaseState::Validating | PhaseState::Executing | PhaseState::Verifying => PhaseState::Skipped,
                ended => ended,
            };
        }
        Ok(())
    }

    fn expect(&self, launch: &Launch, expected: Next) -> Result<(), Misfit> {
        if self.next(launch) == expected { Ok(()) } else { Err(Misfit::OutOfTurn) }
    }
}
