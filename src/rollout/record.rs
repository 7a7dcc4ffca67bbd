//! What is written down of a rollout, so that every verdict can be recomputed from it, equal to the bit.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::guard::{Guard, Tick};
use super::machine::Rollout;
use crate::clock::Timestamp;

/// One line of a rollout's record. A record begins with a `Begin`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// From here on it can be replayed: also after a gap, and at the start of a new file.
    Begin {
        /// The service.
        service: String,
        /// When.
        at: Timestamp,
        /// The rollout at that moment.
        rollout: Box<Rollout>,
        /// Clocks and evidence at that moment.
        guard: Box<Guard>,
    },
    /// A transition.
    Change {
        /// When.
        at: Timestamp,
        /// The rollout after it.
        rollout: Box<Rollout>,
        /// What happened, as a sentence.
        sentence: String,
    },
    /// A tick. Ticks without evidence may be written together as one.
    Tick {
        /// When.
        at: Timestamp,
        /// What it brought.
        evidence: Box<Evidence>,
        /// Since the previous tick, in ms.
        elapsed_ms: u64,
        /// What was concluded.
        tick: Box<Tick>,
    },
}
