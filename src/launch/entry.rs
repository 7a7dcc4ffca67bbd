//! What is noted of a launch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::figures::{Figures, Minute};
use super::plan::Launch;
use super::run::State;
use crate::clock::Timestamp;
use crate::traffic::Variant;

/// One line of a launch's journal.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: u64,
    /// When it was noted.
    pub at: Timestamp,
    /// Who: `uid 1000 (ops)`, or `tidegate` for what it did by itself.
    pub actor: Arc<str>,
    /// Whom the actor says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Arc<str>>,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
    /// What the service did at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    /// The launch was put on the book, or changed before its start: then signatures and votes are void.
    Planned {
        /// All of it.
        launch: Arc<Launch>,
    },
    /// Somebody signed an item.
    Signed {
        /// The item.
        item: Arc<str>,
        /// In which role.
        role: Arc<str>,
        /// What proves it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Arc<str>>,
    },
    /// An item's command was run.
    Checked {
        /// The item.
        item: Arc<str>,
        /// Whether it may be started.
        passed: bool,
        /// What the command said, shortened.
        #[serde(default)]
        said: String,
    },
    /// Somebody voted. A role's last vote counts.
    Voted {
        /// In which role.
        role: Arc<str>,
        /// Go or no-go.
        go: bool,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Arc<str>>,
    },
    /// It runs from here on, under its first lease.
    Started {
        /// The place that it brings the new version to.
        candidate: Variant,
        /// Where it runs: the lease's holder.
        holder: Arc<str>,
        /// What was unmet, each as a sentence, and started all the same.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unmet: Vec<String>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
    /// Another runner took over: what the one before had under way is unknown.
    Leased {
        /// Where it runs.
        holder: Arc<str>,
    },
    /// The runner went away.
    Unattended {
        /// Whether it said so.
        #[serde(default)]
        released: bool,
    },
    /// The same runner is back, before anybody took over.
    Attended,
    /// A step of a phase is about to begin.
    Began {
        /// The phase, from 0.
        phase: usize,
        /// Which step.
        step: Step,
    },
    /// The step that was under way has ended.
    Ended {
        /// The phase, from 0.
        phase: usize,
        /// Which step.
        step: Step,
        /// How.
        outcome: Outcome,
    },
    /// A person decided about a step that nobody knows the end of.
    Chose {
        /// The phase, from 0.
        phase: usize,
        /// `true`: do it again. `false`: do not; an unknown action is undone, an unknown undo counts as failed.
        redo: bool,
    },
    /// From here on it is undone.
    Stopped {
        /// Why.
        why: Stop,
    },
    /// What traffic did.
    Minute(Minute),
    /// People were told, or flags switched off.
    Told {
        /// What about.
        about: Told,
    },
    /// Over.
    Finished {
        /// How.
        state: State,
    },
}

/// A step of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// What has to be true before.
    Validate,
    /// What is done.
    Execute,
    /// What has to be true afterwards.
    Verify,
    /// What undoes it.
    Undo,
}

impl Step {
    /// `validate`, `execute`, `verify` or `undo`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Execute => "execute",
            Self::Verify => "verify",
            Self::Undo => "undo",
        }
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Outcome {
    /// Whether it went well.
    pub verdict: Verdict,
    /// What was found or said, in a few lines: at most 4 KiB, secrets masked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
    /// How long it took, in ms.
    pub took_ms: u64,
}

/// Whether a step went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It did.
    Passed,
    /// It did not.
    Failed,
    /// It took longer than it may, and was ended.
    TimedOut,
}

/// Why a launch is undone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Stop {
    /// A phase failed.
    Phase {
        /// Which, from 0.
        phase: usize,
    },
    /// A limit was crossed.
    Breaker {
        /// Which and by how much, as a sentence.
        sentence: String,
    },
    /// Somebody said so.
    Person {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
}

/// What people were told about, once each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "told", rename_all = "kebab-case")]
pub enum Told {
    /// That it is near: so long before its window opens, in ms.
    Before {
        /// As planned.
        ms: u64,
    },
    /// How it is going.
    Progress,
    /// That something is overdue: an item or a role.
    Overdue {
        /// Which.
        what: Arc<str>,
    },
    /// The provider was asked to switch flags off.
    FlagsOff {
        /// Whether it said yes.
        done: bool,
    },
}
