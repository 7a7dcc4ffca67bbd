//! The running evidence of a rollout.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::plan::Plan;
use super::verdict::{Failure, GateReading, Wait};

/// Where a tick is in the rollout. Armed time only: it stands still while the process does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The stage's index.
    pub stage: usize,
    /// Since the previous tick.
    pub elapsed: Duration,
    /// Since the stage began, this tick included.
    pub in_stage: Duration,
    /// Since the rollout began, this tick included.
    pub armed: Duration,
}

/// What the gates say after a tick, before holds, windows and people are asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// The gravest failure.
    pub failure: Option<Failure>,
    /// What speaks against going on for now, gravest first; empty when nothing does.
    pub doubts: Vec<Wait>,
    /// Whether the evidence permits to go on (GATES: permission); with nothing to measure, it does not.
    pub permits: bool,
    /// Every gate's numbers.
    pub readings: Vec<GateReading>,
}

/// The evidence of one rollout so far. Saved and read back it goes on exactly as it would have.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Judge {
    requests: u64,
}

impl Judge {
    /// Nothing has been seen.
    pub fn new(_plan: &Plan) -> Self {
        Self { requests: 0 }
    }

    /// Takes in a tick, and says what the gates say now.
    pub fn tick(&mut self, _plan: &Plan, _moment: Moment, evidence: &Evidence) -> Finding {
        self.requests += evidence.requests.candidate;
        Finding::default()
    }
}
