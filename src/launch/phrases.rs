//! How what is done is said, in a few words, for lines and tables.

use std::fmt;

use super::plan::{Action, Command, Undo};
use crate::traffic::Weight;
use crate::wording::span;

/// The longest text of a command or of what it said within a line, in characters.
const QUOTED_MAX: usize = 160;

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argv(words) => f.write_str(&quoted(&words.join(" "))),
            Self::Shell(line) => write!(f, "sh -c {:?}", quoted(line)),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { run } => write!(f, "{run}"),
            Self::Rollout(rollout) => match (&rollout.schedule, &rollout.plan) {
                (Some(schedule), _) => write!(f, "rollout {schedule}"),
                (None, Some((file, _))) => write!(f, "rollout by {file}"),
                (None, None) => f.write_str("rollout as configured"),
            },
            Self::Shift { weight } => write!(f, "shift to {}", share(*weight)),
            Self::DisableTraffic => f.write_str("candidate to 0 %"),
            Self::Synthetic => f.write_str("synthetic checks"),
            Self::Observe { lasts } => write!(f, "observe for {}", span(*lasts)),
        }
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Command { run } => write!(f, "{run}"),
            Self::DisableTraffic => f.write_str("everybody back to the version before"),
            Self::Shift { weight } => write!(f, "shift to {}", share(*weight)),
        }
    }
}

/// `5 %`.
pub(super) fn share(weight: Weight) -> String {
    weight.to_string().replace('%', " %")
}

/// In one line, shortened.
pub(super) fn quoted(text: &str) -> String {
    let text = text.trim();
    if text.chars().count() <= QUOTED_MAX {
        return text.to_owned();
    }
    text.chars().take(QUOTED_MAX - 1).chain(['…']).collect()
}
