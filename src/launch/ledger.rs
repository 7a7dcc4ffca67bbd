//! What has happened: the sum of a launch's records.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::entry::{Entry, Record, Stop, Told};
use super::figures::Minute;
use super::plan::{ItemKind, Launch, Phase, Undo};
use super::readiness::{self, Unmet};
use super::run::{Next, PhaseRun, PhaseState, Run, State};
use crate::clock::Timestamp;
use crate::traffic::Variant;

/// How long a lease lasts after it was last heard of: 15 s.
pub const LEASE_MS: u64 = 15_000;

/// A launch and all that is known of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Ledger {
    /// What is to happen.
    pub launch: Arc<Launch>,
    /// What has happened.
    pub run: Run,
    /// The number of the last record.
    pub seq: u64,
    /// When it was put on the book, in this form.
    pub planned: Timestamp,
    /// By item.
    pub signatures: BTreeMap<Arc<str>, Signature>,
    /// By role.
    pub votes: BTreeMap<Arc<str>, Vote>,
    /// The place that the new version comes to; known from the start on.
    pub candidate: Option<Variant>,
    /// Who runs it.
    pub lease: Option<Lease>,
    /// What traffic did since the start.
    pub traffic: Minute,
    /// What people were told, each once; of progress the last time.
    pub told: Vec<(Timestamp, Told)>,
}

/// An item that is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Signature {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Arc<str>,
    /// In which role; `None`: a command.
    pub role: Option<Arc<str>>,
    /// Whether it was a yes.
    pub passed: bool,
    /// What proves it, or what the command said.
    pub evidence: Option<Arc<str>>,
}

/// A vote.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Vote {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Arc<str>,
    /// Go or no-go.
    pub go: bool,
    /// Why.
    pub note: Option<Arc<str>>,
}

/// Who runs a launch. Only one can: whoever comes later has a larger fence, and what comes under a smaller one is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lease {
    /// The sequence number of the record that gave it.
    pub fence: u64,
    /// Where: `ada@build-7 (pid 4711)`.
    pub holder: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// Whether it is over: the holder let go, or was not heard of.
    pub lapsed: bool,
}

/// Why a record does not fit what has happened. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each says itself")]
pub enum Misfit {
    #[error("the launch is not on the book")]
    Unplanned,
    #[error("launch already in progress or completed ({})", .0.as_str())]
    Started(State),
    #[error("the launch has not started")]
    NotStarted,
    #[error("the launch is over ({})", .0.as_str())]
    Over(State),
    #[error("that is not what comes next")]
    OutOfTurn,
    #[error("there is nothing to choose")]
    NothingToChoose,
    #[error("the checklist has no item {0:?}")]
    NoItem(Arc<str>),
    #[error("item {item:?} is signed by {role}")]
    OtherRole { item: Arc<str>, role: Arc<str> },
    #[error("item {0:?} is checked by a command at the start")]
    NotForPeople(Arc<str>),
    #[error("item {0:?} is signed by a person")]
    NotForCommands(Arc<str>),
    #[error("item {0:?} needs evidence: a text or a link")]
    NoEvidence(Arc<str>),
    #[error("{role:?} has no vote in this launch; {known} do")]
    NoVote { role: Arc<str>, known: String },
    #[error("its number is {found} and should be {expected}")]
    Number { found: u64, expected: u64 },
}

impl Ledger {
    /// From the first record, which has to be of a plan.
    pub fn begin(record: &Record) -> Result<Self, Misfit> {
        let Entry::Planned { launch } = &record.entry else { return Err(Misfit::Unplanned) };
        if record.seq != 1 {
            return Err(Misfit::Number { found: record.seq, expected: 1 });
        }
        Ok(Self::of(launch.clone(), record))
    }

    fn of(launch: Arc<Launch>, record: &Record) -> Self {
        Self {
            run: Run::new(&launch),
            launch,
            seq: record.seq,
            planned: record.at,
            signatures: BTreeMap::new(),
            votes: BTreeMap::new(),
            candidate: None,
            lease: None,
            traffic: Minute::default(),
            told: Vec::new(),
        }
    }

    /// What comes next.
    pub fn next(&self) -> Next {
        self.run.next(&self.launch)
    }

    /// What speaks against a start at this moment.
    pub fn unmet(&self, at: Timestamp) -> Vec<Unmet> {
        readiness::unmet(self, at)
    }

    /// Whether it runs and nobody attends to it.
    pub fn is_unattended(&self) -> bool {
        self.run.state == State::Running && self.lease.as_ref().is_none_or(|lease| lease.lapsed)
    }

    /// The ledger with one record more.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn with(&self, record: &Record) -> Result<Self, Misfit> {
        let mut next = self.clone();
        next.apply(record)?;
        Ok(next)
    }

    fn apply(&mut self, record: &Record) -> Result<(), Misfit> {
        let expected = self.seq + 1;
        if record.seq != expected {
            return Err(Misfit::Number { found: record.seq, expected });
        }
        self.fits(&record.entry)?;
        let (at, launch) = (record.at, self.launch.clone());
        match &record.entry {
            Entry::Planned { launch } => {
                let told = std::mem::take(&mut self.told);
                *self = Self { told, ..Self::of(launch.clone(), record) };
            }
            Entry::Signed { item, role, evidence } => {
                self.sign(item, record, Some(role), true, evidence.clone())?;
            }
            Entry::Checked { item, passed, said } => {
                let said = (!said.is_empty()).then(|| said.as_str().into());
                self.sign(item, record, None, *passed, said)?;
            }
            Entry::Voted { role, go, note } => {
                let roles = launch.go_nogo.as_ref().map(|vote| vote.roles.as_slice()).unwrap_or_default();
                if !roles.contains(role) {
                    let known = if roles.is_empty() { "nobody".to_owned() } else { roles.join(", ") };
                    return Err(Misfit::NoVote { role: role.clone(), known });
                }
                let vote = Vote { at, actor: record.actor.clone(), go: *go, note: note.clone() };
                self.votes.insert(role.clone(), vote);
            }
            Entry::Started { candidate, holder, .. } => {
                self.run.start(at)?;
                self.candidate = Some(*candidate);
                self.lease =
                    Some(Lease { fence: record.seq, holder: holder.clone(), since: at, lapsed: false });
            }
            Entry::Leased { holder } => {
                self.run.cut_off(&launch);
                self.lease =
                    Some(Lease { fence: record.seq, holder: holder.clone(), since: at, lapsed: false });
            }
            Entry::Unattended { .. } | Entry::Attended => {
                if let Some(lease) = &mut self.lease {
                    lease.lapsed = record.entry != Entry::Attended;
                }
            }
            Entry::Began { phase, step } => self.run.begin(&launch, at, *phase, *step)?,
            Entry::Ended { phase, step, outcome } => {
                self.run.end(&launch, at, *phase, *step, outcome.clone())?;
            }
            Entry::Chose { phase, redo } => self.run.choose(&launch, at, *phase, *redo)?,
            Entry::Stopped { why } => self.run.stop(at, why.clone()),
            Entry::Minute(minute) => self.add(minute),
            Entry::Told { about } => {
                if *about == Told::Progress {
                    self.told.retain(|(_, told)| *told != Told::Progress);
                }
                self.told.push((at, about.clone()));
            }
            Entry::Finished { state } => self.run.finish(&launch, at, *state)?,
        }
        self.seq = record.seq;
        Ok(())
    }

    /// Whether such an entry can come in this state at all.
    fn fits(&self, entry: &Entry) -> Result<(), Misfit> {
        let state = self.run.state;
        match entry {
            Entry::Planned { .. }
            | Entry::Signed { .. }
            | Entry::Checked { .. }
            | Entry::Voted { .. }
            | Entry::Started { .. } => match state {
                State::Idle => Ok(()),
                _ => Err(Misfit::Started(state)),
            },
            Entry::Leased { .. }
            | Entry::Unattended { .. }
            | Entry::Attended
            | Entry::Began { .. }
            | Entry::Ended { .. }
            | Entry::Chose { .. }
            | Entry::Stopped { .. }
            | Entry::Minute(_)
            | Entry::Finished { .. } => match state {
                State::Running => Ok(()),
                State::Idle => Err(Misfit::NotStarted),
                _ => Err(Misfit::Over(state)),
            },
            // Also of the end.
            Entry::Told { .. } => Ok(()),
        }
    }

    fn sign(
        &mut self,
        item: &Arc<str>,
        record: &Record,
        role: Option<&Arc<str>>,
        passed: bool,
        evidence: Option<Arc<str>>,
    ) -> Result<(), Misfit> {
        let Some(found) = self.launch.checklist.iter().find(|known| known.id == *item) else {
            return Err(Misfit::NoItem(item.clone()));
        };
        match (&found.kind, role) {
            (ItemKind::Person { role: meant, .. }, Some(role)) if meant != role => {
                return Err(Misfit::OtherRole { item: item.clone(), role: meant.clone() });
            }
            (ItemKind::Person { evidence: true, .. }, Some(_)) if evidence.is_none() => {
                return Err(Misfit::NoEvidence(item.clone()));
            }
            (ItemKind::Person { .. }, None) => return Err(Misfit::NotForCommands(item.clone())),
            (ItemKind::Command { .. }, Some(_)) => return Err(Misfit::NotForPeople(item.clone())),
            (ItemKind::Person { .. }, Some(_)) | (ItemKind::Command { .. }, None) => {}
        }
        let signature =
            Signature { at: record.at, actor: record.actor.clone(), role: role.cloned(), passed, evidence };
        self.signatures.insert(item.clone(), signature);
        Ok(())
    }

    fn add(&mut self, minute: &Minute) {
        let sum = &mut self.traffic;
        sum.span_ms = sum.span_ms.saturating_add(minute.span_ms);
        sum.down_seconds = sum.down_seconds.saturating_add(minute.down_seconds);
        sum.p95_us = sum.p95_us.max(minute.p95_us);
        for variant in Variant::ALL {
            let (sum, more) = (&mut sum.variants[variant], &minute.variants[variant]);
            sum.requests = sum.requests.saturating_add(more.requests);
            sum.failures = sum.failures.saturating_add(more.failures);
        }
    }

    /// Whether users are on the new version by now, as far as phases have moved them: the last one that moved traffic and is done did so toward
    /// it.
    pub fn exposes(&self) -> bool {
        let phases = self.launch.phases.iter().zip(&self.run.phases).rev();
        let mut moved = phases.filter(|(planned, run)| run.touched && planned.action.moves_traffic());
        moved
            .next()
            .is_some_and(|(planned, run)| planned.action.gives_weight() && run.state == PhaseState::Verified)
    }

    /// Whether traffic is to be taken back: it is being undone, and a phase that may have given the candidate weight is not.
    pub fn takes_traffic_back(&self) -> bool {
        let is_left = |(planned, run): (&Phase, &PhaseRun)| {
            let is_undone = matches!(run.state, PhaseState::RolledBack | PhaseState::RollbackFailed);
            run.touched && planned.action.gives_weight() && planned.undo != Undo::None && !is_undone
        };
        self.run.state == State::Running
            && self.run.stopped.is_some()
            && self.launch.phases.iter().zip(&self.run.phases).any(is_left)
    }

    /// What stopped it, as a sentence.
    pub fn why_stopped(&self) -> Option<String> {
        Some(match self.run.stopped.as_ref()? {
            Stop::Phase { phase } => match self.launch.phases.get(*phase) {
                Some(phase) => format!("phase {} failed", phase.id),
                None => "a phase failed".to_owned(),
            },
            Stop::Breaker { sentence } => sentence.clone(),
            Stop::Person { reason: Some(reason) } => format!("rolled back by hand: {reason}"),
            Stop::Person { reason: None } => "rolled back by hand".to_owned(),
        })
    }
}
