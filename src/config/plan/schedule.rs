//! The seam to the schedules and the checks that belong to plans themselves.

use std::sync::Arc;
use std::time::Duration;

use crate::rollout::{Confirms, Gates, OnInconclusive, Plan, PlanError, Windows};

/// The plan of a schedule, with the standard gates.
pub(in crate::config) fn schedule(_name: &str) -> Option<Plan> {
    None
}

/// The names of all schedules.
pub(in crate::config) fn schedules() -> Vec<Arc<str>> {
    Vec::new()
}

/// A plan with every default and no stage.
pub(super) fn empty() -> Plan {
    Plan {
        name: "rollout".into(),
        delay: Duration::ZERO,
        stages: Vec::new(),
        gates: Gates::standard(),
        false_rollback: 0.01,
        warmup: Duration::from_secs(60),
        on_inconclusive: OnInconclusive::default(),
        keep: Duration::ZERO,
        windows: Windows::default(),
        slo: None,
        confirm: Confirms::default(),
        notify: Vec::new(),
    }
}

/// What is wrong with a plan as a whole.
pub(super) fn problems(_plan: &Plan) -> Vec<PlanError> {
    Vec::new()
}
