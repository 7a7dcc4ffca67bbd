//! One line of the audit log.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What happened: who did what to what, when and why. Absent fields are left out of the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct AuditEntry {
    /// When.
    pub time: Timestamp,
    /// What: `shift`, `kill`, `arm`, `deploy`, `freeze`, `override`, `reload`, `start`, `stop`, `recovery`, `health`,
    /// `signal`, `split-expired`, `unsaved`, `saved`, `certificates`; of rollouts `rollout-start`, `rollout-stage`, `rollout-suspect`, `rollout-pause`,
    /// `rollout-resume`, `rollout-rollback`, `rollout-promotion`, `rollout-keep-over`, `rollout-progress`; of launches `launch-plan`,
    /// `launch-sign`, `launch-vote`, `launch-start`, `launch-phase`, `launch-attended`, `launch-unattended`, `launch-unwatched`,
    /// `launch-stop`, `launch-end`; and what people are told on schedule: `launch-soon`, `launch-progress`, `launch-overdue`, `launch-flags`.
    pub what: String,
    /// The generation from which it is in force.
    pub generation: u64,
    /// Who: `uid 1000 (ops)`, or `tidegate` for what it did by itself.
    pub actor: String,
    /// Who the actor says it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// The service, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The launch, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
    /// The state before, as people write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The state after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
