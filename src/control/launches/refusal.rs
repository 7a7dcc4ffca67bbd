//! Why something is not noted of a launch.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::DISK_PATIENCE;
use crate::launch::{Misfit, Unmet};
use crate::traffic::Lock;

/// Why something is not noted of a launch.
#[derive(Clone, Debug, Error)]
#[allow(missing_docs, reason = "each says itself")]
pub enum LaunchRefusal {
    #[error("there is no launch {name:?}{}", others(.known))]
    Unknown { name: Arc<str>, known: Vec<Arc<str>> },
    #[error(
        "the journal of {name} cannot be read ({why}), so nobody knows how far it is; look at launches/{name}.jsonl in the state \
         folder, and move it away to give the name free"
    )]
    Damaged { name: Arc<str>, why: Arc<str> },
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error(
        "{} against a start:\n  {}\nstart with --override --reason \"…\" all the same",
        if .0.len() == 1 { "1 thing speaks" } else { "these things speak" },
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
    )]
    Unmet(Vec<Unmet>),
    #[error("a start with something unmet needs a reason")]
    NoReason,
    #[error("{service} is not configured any more")]
    NoService { service: Arc<str> },
    #[error("{service} is locked ({}, by {} at {}); find out why, then `tidegate arm {service} --note \"…\"`", .lock.cause, .lock.actor, .lock.at)]
    Locked { service: Arc<str>, lock: Lock },
    #[error("the rollout {rollout} drives {service}; let it end, or roll it back first")]
    Driven { service: Arc<str>, rollout: Arc<str> },
    #[error("launch already in progress: {launch} of {service}")]
    Running { service: Arc<str>, launch: Arc<str> },
    #[error("{holder} runs it, and was heard of less than 15 s ago")]
    Held { holder: Arc<str> },
    #[error("somebody else runs it by now: {holder}")]
    Fenced { holder: Arc<str> },
    #[error("its last record is {seq}, not {after}; look at what was noted since")]
    Stale { seq: u64, after: u64 },
    #[error("its journal is full; plan it anew under another name")]
    Full,
    #[error("nothing was noted: the journal could not be written")]
    NotNoted(#[source] Arc<io::Error>),
    #[error("the journal could not be read")]
    NotRead(#[source] Arc<io::Error>),
    #[error(
        "the disk did not take it within {} s, and may still: look at the launch before you try again",
        DISK_PATIENCE.as_secs()
    )]
    DiskTimeout,
    #[error("nothing was noted: too much waits for the disk already")]
    Busy,
    #[error("nothing was noted: {0}")]
    Closed(Arc<str>),
}

fn others(names: &[Arc<str>]) -> String {
    match names {
        [] => ", nor any other".to_owned(),
        names if names.len() <= 10 => format!("; there is {}", names.join(", ")),
        _ => "; see `tidegate launch status`".to_owned(),
    }
}
