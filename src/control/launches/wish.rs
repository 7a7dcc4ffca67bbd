//! What somebody wants noted of a launch, and whether it may be.
//!
//! Pure: what surrounds a wish is an argument. A wish becomes at most one entry; one whose effect is there already becomes none,
//! so that whoever asks twice is answered twice and noted once.

use std::sync::Arc;

use super::LaunchRefusal;
use crate::clock::Timestamp;
use crate::launch::{Entry, Launch, Ledger, Misfit, Next, Record, State, Stop, Told};
use crate::traffic::{Lock, PerVariant, Variant, Weight};

/// What somebody wants noted.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "as the entries that they become")]
pub enum Wish {
    /// The launch is put on the book, or changed before its start.
    Plan { launch: Arc<Launch> },
    /// Somebody signs an item.
    Sign { item: Arc<str>, role: Arc<str>, evidence: Option<Arc<str>> },
    /// An item's command was run.
    Checked { item: Arc<str>, passed: bool, said: String },
    /// Somebody votes.
    Vote { role: Arc<str>, go: bool, note: Option<Arc<str>> },
    /// It starts; with `overrides` also if something is unmet.
    Start { holder: Arc<str>, overrides: bool, reason: Option<Arc<str>> },
    /// Another runner takes over from one that is gone.
    Lease { holder: Arc<str> },
    /// The runner lets go.
    Release { fence: u64 },
    /// The runner is back.
    Return { fence: u64 },
    /// What the runner does or decides; `after` is the last record that it knows.
    Note { fence: u64, after: u64, entry: Entry },
    /// From here on it is undone.
    Stop { why: Stop },
    /// People were told.
    Tell { about: Told },
    /// The runner was not heard of for too long.
    Lapse { fence: u64 },
    /// What traffic did since it was last noted.
    Minute,
    /// It is over, if nothing is left to be done.
    Finish,
}

/// What surrounds a wish.
pub(super) struct Around<'a> {
    pub at: Timestamp,
    /// The service; `None` if it is not configured.
    pub service: Option<&'a Standing>,
    /// Another launch of the service that runs.
    pub running: Option<Arc<str>>,
    /// Whether the runner was heard of lately.
    pub is_heard: bool,
    /// What was noted under a number.
    pub noted: &'a dyn Fn(u64) -> Option<Record>,
}

/// Where a service stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standing {
    /// The place in the candidate's role.
    pub candidate: Variant,
    /// How much each place gets.
    pub shares: PerVariant<Weight>,
    pub lock: Option<Lock>,
    /// The rollout that drives it.
    pub driven: Option<Arc<str>>,
}

/// What is to be noted, if anything.
pub(super) fn entry(
    ledger: Option<&Ledger>,
    wish: &Wish,
    around: &Around<'_>,
) -> Result<Option<Entry>, LaunchRefusal> {
    let ledger = match (ledger, wish) {
        (None, Wish::Plan { launch }) => return Ok(Some(Entry::Planned { launch: launch.clone() })),
        (None, _) => return Err(Misfit::Unplanned.into()),
        (Some(ledger), _) => ledger,
    };
    Ok(Some(match wish.clone() {
        Wish::Plan { launch } if ledger.run.state == State::Idle && *launch == *ledger.launch => {
            return Ok(None);
        }
        Wish::Plan { launch } => Entry::Planned { launch },
        Wish::Sign { item, role, evidence } => Entry::Signed { item, role, evidence },
        Wish::Checked { item, passed, said } => Entry::Checked { item, passed, said },
        Wish::Vote { role, go, note } => Entry::Voted { role, go, note },
        Wish::Start { holder, overrides, reason } => start(ledger, holder, overrides, reason, around)?,
        Wish::Lease { holder } => {
            runs(ledger)?;
            if let Some(lease) = ledger.lease.as_ref().filter(|lease| !lease.lapsed) {
                return Err(LaunchRefusal::Held { holder: lease.holder.clone() });
            }
            Entry::Leased { holder }
        }
        Wish::Release { fence } | Wish::Return { fence } => {
            let lapsed = holds(ledger, fence)?;
            let releases = matches!(wish, Wish::Release { .. });
            if lapsed == releases {
                return Ok(None);
            }
            if releases { Entry::Unattended { released: true } } else { Entry::Attended }
        }
        Wish::Note { fence, after, entry } => {
            holds(ledger, fence)?;
            // Later than the lease, so it is this runner's, or else the daemon's.
            let is_there = after >= fence && after < ledger.seq;
            if is_there && (around.noted)(after + 1).is_some_and(|record| record.entry == entry) {
                return Ok(None);
            }
            if after != ledger.seq {
                return Err(LaunchRefusal::Stale { seq: ledger.seq, after });
            }
            entry
        }
        Wish::Stop { why } => {
            runs(ledger)?;
            if ledger.run.stopped.is_some() {
                return Ok(None);
            }
            Entry::Stopped { why }
        }
        Wish::Tell { about } => {
            let repeats = about == Told::Progress;
            if !repeats && ledger.told.iter().any(|(_, told)| *told == about) {
                return Ok(None);
            }
            Entry::Told { about }
        }
        Wish::Lapse { fence } => {
            let is_its = ledger.lease.as_ref().is_some_and(|lease| lease.fence == fence && !lease.lapsed);
            if ledger.run.state != State::Running || !is_its || around.is_heard {
                return Ok(None);
            }
            Entry::Unattended { released: false }
        }
        // The minute itself is measured when it is written.
        Wish::Minute | Wish::Finish => match (ledger.next(), wish) {
            (Next::Finish(state), Wish::Finish) => Entry::Finished { state },
            _ => return Ok(None),
        },
    }))
}

fn start(
    ledger: &Ledger,
    holder: Arc<str>,
    overrides: bool,
    reason: Option<Arc<str>>,
    around: &Around<'_>,
) -> Result<Entry, LaunchRefusal> {
    if ledger.run.state != State::Idle {
        return Err(Misfit::Started(ledger.run.state).into());
    }
    let service = ledger.launch.service.clone();
    let Some(standing) = around.service else { return Err(LaunchRefusal::NoService { service }) };
    if let Some(launch) = around.running.clone() {
        return Err(LaunchRefusal::Running { service, launch });
    }
    if let Some(lock) = standing.lock.clone() {
        return Err(LaunchRefusal::Locked { service, lock });
    }
    if let Some(rollout) = standing.driven.clone() {
        return Err(LaunchRefusal::Driven { service, rollout });
    }
    let unmet = ledger.unmet(around.at);
    if !unmet.is_empty() && !overrides {
        return Err(LaunchRefusal::Unmet(unmet));
    }
    if overrides && reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
        return Err(LaunchRefusal::NoReason);
    }
    let unmet = unmet.iter().map(ToString::to_string).collect();
    Ok(Entry::Started { candidate: standing.candidate, holder, unmet, reason })
}

fn runs(ledger: &Ledger) -> Result<(), Misfit> {
    match ledger.run.state {
        State::Running => Ok(()),
        State::Idle => Err(Misfit::NotStarted),
        over => Err(Misfit::Over(over)),
    }
}

/// Whether the lease of this fence has lapsed; nobody else may speak for it.
pub(super) fn holds(ledger: &Ledger, fence: u64) -> Result<bool, LaunchRefusal> {
    runs(ledger)?;
    match &ledger.lease {
        Some(lease) if lease.fence == fence => Ok(lease.lapsed),
        Some(lease) => Err(LaunchRefusal::Fenced { holder: lease.holder.clone() }),
        None => Err(Misfit::NotStarted.into()),
    }
}
