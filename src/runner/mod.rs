//! Runs a launch: commands and checks where the operator's rights are, every step noted by the daemon before it begins.
//!
//! A runner holds the launch's lease and does what [`crate::launch::Run::next`] says, until it is over, somebody else has taken over, or a person
//! has to choose. No command of a launch outlives its runner: each runs under a *keeper*, this same program, which ends the whole process group
//! when its runner goes away or the time is over.
//!
//! ```text
//!  attend ── journal ── notes, records ──▶ daemon ◀── heartbeats ── signs
//!    │                                       ▲                        │ lease lost, Ctrl-C, stopped
//!    └─▶ hands, on a thread of their own ────┤ rollouts, probes       ▼
//!          └─▶ command ──▶ keeper ──▶ the command's process group   ends what is under way
//! ```

mod attend;
mod away;
pub mod check;
mod command;
mod error;
mod hands;
mod journal;
pub mod keeper;
mod output;
mod prepare;
mod signs;
#[cfg(test)]
mod tests;
mod traffic;
mod variables;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use attend::{attend, check_items, roll_back, start, view};
pub use command::{Commands, Place};
pub use error::RunnerError;
pub use variables::unset;

use crate::clock::Timestamp;
use crate::launch::{Ledger, Record, State, Step};

/// What whoever runs a launch says beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// A step of which nobody knows whether it was done is done again.
    pub redo: bool,
    /// An action of which nobody knows whether it was done is undone, and the launch with it.
    pub undo: bool,
    /// This program: it is started again as the keeper of each command, as `keeper launch keep …`.
    pub keeper: PathBuf,
    /// Where commands run, and what relative paths of checks are relative to: the folder of the launch file, or the current one.
    pub folder: PathBuf,
}

/// How it ended for the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The launch is over.
    Over(State),
    /// Nobody knows whether a step was done: a person has to say `redo` or `undo`. Nobody attends to the launch meanwhile.
    Choose {
        /// The phase, from 0.
        phase: usize,
        /// Which.
        step: Step,
    },
    /// Another runner has taken over; what was under way here was ended.
    TakenOver,
    /// Ctrl-C, TERM or HUP: what was under way was ended, and nobody attends to the launch any more.
    Interrupted,
}

/// What a runner tells meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub enum News<'a> {
    /// The daemon's records since the last time, and the launch with them: the first ones come after those of the answer that a runner was given.
    Records(&'a Ledger, &'a [Record]),
    /// What is under way: about once a second, and when it changes.
    Waiting {
        /// The phase, from 0.
        phase: usize,
        /// Which.
        step: Step,
        /// Since when.
        since: Timestamp,
        /// How long it may take, or takes; `None`: as long as it does.
        limit: Option<Duration>,
        /// For what, as a few words: `running ./migrate`.
        what: String,
    },
    /// An item's command is being run, before the start.
    Checking {
        /// The item's id.
        item: &'a Arc<str>,
        /// How long it may take.
        limit: Duration,
    },
}
