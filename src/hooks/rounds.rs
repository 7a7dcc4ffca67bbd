//! Errands that are run again and again, each one at a time.
//!
//! An errand that is slow delays its own next round and nothing else. Those that nobody wants any more are given up
//! in the middle, so an answer never outlives its question.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tokio::task::JoinHandle;

/// Errands by what they are about.
#[derive(Debug)]
pub struct Rounds<K: Ord> {
    errands: BTreeMap<K, Errand>,
}

#[derive(Debug)]
struct Errand {
    next: Instant,
    times: u32,
    running: JoinHandle<()>,
}

impl<K: Ord> Default for Rounds<K> {
    fn default() -> Self {
        Self { errands: BTreeMap::new() }
    }
}

impl<K: Ord> Rounds<K> {
    /// Gives up all but these.
    pub fn keep(&mut self, wanted: &BTreeSet<K>) {
        self.errands.retain(|key, _| wanted.contains(key));
    }

    /// How often it was run, if it is time to run it again.
    pub fn due(&self, key: &K, now: Instant) -> Option<u32> {
        match self.errands.get(key) {
            None => Some(0),
            Some(errand) if errand.running.is_finished() && now >= errand.next => Some(errand.times),
            Some(_) => None,
        }
    }

    /// It is running, and is not to be run again before `next`.
    pub fn started(&mut self, key: K, running: JoinHandle<()>, next: Instant) {
        let times = self.errands.get(&key).map_or(1, |errand| errand.times.saturating_add(1));
        self.errands.insert(key, Errand { next, times, running });
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.running.abort();
    }
}
