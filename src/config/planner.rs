//! From what people ask for to a complete plan: schedules by name, plan files, and what the configuration names.

use std::sync::Arc;

use crate::rollout::Plan;

/// A rollout as somebody asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest {
    /// The service.
    pub service: String,
    /// The rollout's name, also its salt; `None`: the plan's own, else the candidate's version, else schedule and time.
    pub name: Option<String>,
    /// A schedule's name.
    pub schedule: Option<String>,
    /// A plan as YAML, and the name of the file it stood in. Without schedule and plan: what is configured for the
    /// service, else `canary`.
    pub file: Option<(String, String)>,
    /// The candidate's version label.
    pub version: Option<String>,
    /// The moment, for names.
    pub at: crate::clock::Timestamp,
}

/// Knows everything that plans may refer to.
#[derive(Clone, Debug, Default)]
pub struct Planner {}

impl Planner {
    /// The plan, or all its problems as the text that `check` would print.
    pub fn compile(&self, _request: &PlanRequest) -> Result<Arc<Plan>, String> {
        Err("plans are not known yet".to_owned())
    }
}
