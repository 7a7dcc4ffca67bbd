//! What a tick concluded, in numbers and as a sentence.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PerRole;
use super::evidence::Count;

/// What the gates say at one moment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Good enough to go on.
    Pass,
    /// Not yet.
    Wait {
        /// For what.
        why: Wait,
    },
    /// Worse than tolerated.
    Fail {
        /// What failed.
        why: Failure,
    },
}

/// What is waited for; always with what would end the waiting.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum Wait {
    /// The hold is not over.
    Hold {
        /// Armed time that is left, in ms.
        left_ms: u64,
    },
    /// Fewer candidate requests than `min_requests`.
    Requests {
        /// How many more.
        missing: u64,
    },
    /// The hold is over, and the evidence does not permit to go on.
    Inconclusive {
        /// About how many more candidate requests, if they go on as they did.
        missing: Option<u64>,
        /// About how long that takes at the rate of late, in ms.
        about_ms: Option<u64>,
    },
    /// Evidence against the candidate, short of a failure.
    Suspect {
        /// The gate.
        gate: Arc<str>,
        /// Its evidence.
        evidence: f64,
        /// Where it fails.
        limit: f64,
    },
    /// Both variants are over the absolute limit: nobody's fault here.
    SharedIncident,
    /// The error budget burns.
    Burn {
        /// How many times faster than it lasts.
        rate: f64,
    },
    /// Nobody was on the candidate.
    NoTraffic,
    /// A metric source is silent.
    NoEvidence {
        /// The gate.
        gate: Arc<str>,
        /// For how long, in ms.
        silent_ms: u64,
    },
    /// Two halves of stable differ more than the gates assume; they may only pause.
    Noisy,
    /// The guard is off: nothing is judged.
    Unguarded,
}

/// What failed, and what follows.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Failure {
    /// The gate: `errors`, `errors-limit`, `client-errors`, `latency`, `business`, `health`, `signal`, `stop-loss`,
    /// or the name of a metric gate.
    pub gate: Arc<str>,
    /// Whether it rolls back; else it pauses.
    pub rolls_back: bool,
    /// One sentence with its numbers.
    pub sentence: String,
}

/// One gate's numbers at one moment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct GateReading {
    /// As in [`Failure::gate`].
    pub gate: Arc<str>,
    /// The evidence against the candidate: an e-value, or for metric gates the value itself.
    pub evidence: f64,
    /// Where it fails; `None` if it never does by itself.
    pub limit: Option<f64>,
    /// The evidence for going on and what is needed of it; `None` if this gate needs none.
    pub permission: Option<(f64, f64)>,
    /// Since the stage began: of errors the requests and failures, of other gates the units at risk in each tick and
    /// the events among them.
    pub counts: PerRole<Count>,
    /// How many more candidate units until it can decide, about.
    pub missing: Option<u64>,
}

impl GateReading {
    /// The share of `count`'s units that had the event.
    pub fn ratio(count: Count) -> f64 {
        if count.units == 0 { 0.0 } else { count.events as f64 / count.units as f64 }
    }
}
