//! A lock: nothing may move toward the candidate until somebody has looked.
//!
//! One mechanism for every cause. Each lock opens the same way, with `tidegate arm --note "…"`, and
//! opening it moves no traffic.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Why a service is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Somebody killed the candidate. Only this cause sends testers to stable, too.
    Kill,
    /// The saved state could not be read, so nobody knows where traffic should be.
    StateLost,
    /// A gate of a rollout failed.
    FailedRollout,
    /// The candidate had no usable endpoint for too long.
    DeadCandidate,
}

impl Cause {
    /// Every cause, for metrics that show all of them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::StateLost, Self::FailedRollout, Self::DeadCandidate];

    /// The name used in status, API and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::StateLost => "state-lost",
            Self::FailedRollout => "failed-rollout",
            Self::DeadCandidate => "dead-candidate",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A lock with its origin.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lock {
    /// Why.
    pub cause: Cause,
    /// Who: as in the audit log, for instance `uid 1000 (ops)`.
    pub actor: String,
    /// Since when.
    pub at: Timestamp,
    /// What the actor said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
