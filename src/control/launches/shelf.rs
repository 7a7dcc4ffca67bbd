//! Every launch that is known, as of its last record on disk.
//!
//! The shelf is published whole after each record and read by whoever asks; the records themselves stay on disk, and what is kept
//! of them here is where each one ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LaunchRefusal;
use crate::launch::{Ledger, Record, State};
use crate::store::Journals;

/// How many launches are kept, but for those that run.
const KEPT_MAX: usize = 200;

/// Every launch by its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    pub volumes: BTreeMap<Arc<str>, Kept>,
}

/// What is kept of a launch.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// All of it.
    Volume(Volume),
    /// Its journal cannot be read.
    Damaged(Arc<str>),
}

/// A launch and its journal.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub ledger: Arc<Ledger>,
    /// Where each record ends in the journal, in bytes, from the first one on. The same list for all versions of a volume.
    ends: Arc<Mutex<Vec<u64>>>,
}

impl Shelf {
    /// Reads every journal. The second of the pair is what a person has to be told.
    pub fn load(journals: &mut Journals) -> (Self, Vec<String>) {
        let (mut shelf, mut alarms) = (Self::default(), Vec::new());
        let names = journals.names().unwrap_or_else(|error| {
            alarms.push(format!("no launch is known: the journals cannot be read: {error}"));
            Vec::new()
        });
        for name in names {
            let kept = match journals.load(&name) {
                // Nothing was ever noted there.
                Ok(bytes) if bytes.is_empty() => {
                    let _ = journals.remove(&name);
                    continue;
                }
                Ok(bytes) => Volume::read(&name, &bytes).map(Kept::Volume),
                Err(error) => Err(error.to_string()),
            };
            let kept = kept.unwrap_or_else(|why| {
                alarms.push(format!(
                    "the journal of the launch {name} cannot be read ({why}); the launch is refused, and nobody watches over it, \
                     until launches/{name}.jsonl is moved away"
                ));
                Kept::Damaged(why.into())
            });
            shelf.volumes.insert(name.into(), kept);
        }
        (shelf, alarms)
    }

    /// A launch.
    pub fn volume(&self, name: &str) -> Result<&Volume, LaunchRefusal> {
        match self.volumes.get(name) {
            Some(Kept::Volume(volume)) => Ok(volume),
            Some(Kept::Damaged(why)) => Err(LaunchRefusal::Damaged { name: name.into(), why: why.clone() }),
            None => {
                let known = self.ledgers().map(|ledger| ledger.launch.name.clone()).collect();
                Err(LaunchRefusal::Unknown { name: name.into(), known })
            }
        }
    }

    /// All of them, by name.
    pub fn ledgers(&self) -> impl Iterator<Item = &Arc<Ledger>> {
        self.volumes.values().filter_map(|kept| match kept {
            Kept::Volume(volume) => Some(&volume.ledger),
            Kept::Damaged(_) => None,
        })
    }

    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Arc<Ledger>> {
        self.ledgers().filter(|ledger| ledger.run.state == State::Running)
    }

    /// Those that have to go to keep no more than are kept, the oldest ones; never one that runs, or `newest`.
    pub fn surplus(&self, newest: &str) -> Vec<Arc<str>> {
        let can_go =
            |ledger: &&Arc<Ledger>| ledger.run.state != State::Running && *ledger.launch.name != *newest;
        let mut old: Vec<_> = self.ledgers().filter(can_go).collect();
        old.sort_by_key(|ledger| ledger.run.ended.unwrap_or(ledger.planned));
        let surplus = (old.len() + 1).saturating_sub(KEPT_MAX);
        old.into_iter().take(surplus).map(|ledger| ledger.launch.name.clone()).collect()
    }
}

impl Volume {
    /// One that is about to begin.
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger: Arc::new(ledger), ends: Arc::default() }
    }

    /// From the lines of a journal.
    fn read(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let mut ledger: Option<Ledger> = None;
        let (mut ends, mut at) = (Vec::new(), 0);
        for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let said = |why: String| format!("line {}: {why}", number + 1);
            let record: Record = serde_json::from_slice(line).map_err(|error| said(error.to_string()))?;
            let next = match &ledger {
                None => Ledger::begin(&record),
                Some(ledger) => ledger.with(&record),
            };
            ledger = Some(next.map_err(|misfit| said(misfit.to_string()))?);
            at += line.len() as u64;
            ends.push(at);
        }
        match ledger {
            Some(ledger) if *ledger.launch.name == *name => {
                Ok(Self { ledger: Arc::new(ledger), ends: Arc::new(Mutex::new(ends)) })
            }
            Some(ledger) => Err(format!("it is of the launch {}", ledger.launch.name)),
            None => Err("there is nothing in it".to_owned()),
        }
    }

    /// The same after one more record of so many bytes.
    pub fn grown(&self, ledger: Ledger, bytes: u64) -> Self {
        let mut ends = self.ends();
        let end = ends.last().copied().unwrap_or(0) + bytes;
        ends.push(end);
        drop(ends);
        Self { ledger: Arc::new(ledger), ends: self.ends.clone() }
    }

    /// How large the journal is.
    pub fn bytes(&self) -> u64 {
        self.ends().last().copied().unwrap_or(0)
    }

    /// Where the records after a number stand in the journal, at most so many; `None` if there are none.
    pub fn place(&self, after: u64, count_max: usize) -> Option<(u64, u64)> {
        let ends = self.ends();
        let after = usize::try_from(after).ok()?;
        let last = after.saturating_add(count_max).min(ends.len());
        let to = last.checked_sub(1).filter(|at| *at >= after).and_then(|at| ends.get(at))?;
        let from = after.checked_sub(1).and_then(|at| ends.get(at)).copied().unwrap_or(0);
        Some((from, *to))
    }

    fn ends(&self) -> MutexGuard<'_, Vec<u64>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
