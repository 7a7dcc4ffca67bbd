//! A rollout as people see it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::guard::Tick;
use super::machine::Rollout;
use crate::clock::Timestamp;
use crate::traffic::{PerVariant, Variant, Weight};

/// Where a rollout is, and why it stands there.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct View {
    /// The service.
    pub service: Arc<str>,
    /// The place on trial.
    pub candidate: Variant,
    /// The candidate's share now.
    pub weight: Weight,
    /// The versions.
    pub versions: PerVariant<Option<Arc<str>>>,
    /// The rollout.
    pub rollout: Arc<Rollout>,
    /// The newest tick; `None` before the first one, and after the end.
    pub tick: Option<Tick>,
    /// Armed time in the stage, in ms.
    pub held_ms: u64,
    /// Whether advances are frozen, and by whom.
    pub freeze: Option<Freeze>,
}

/// A stop of all advances. Gates stay armed, and everything toward stable works.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Freeze {
    /// Who.
    pub actor: String,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
