//! The threads that write, so that nothing which decides ever waits for a disk.
//!
//! One thread saves the newest state. What is *in force* is tried again until it is on disk, however long that
//! takes; what is only *proposed*, a change toward the candidate, is tried once, because it takes effect only
//! if the disk has it. A state that comes later contains or overrules what came before, so only the newest is
//! ever written. Kill locks have a thread and a preallocated file of their own: a kill is durable even while the
//! first thread is stuck behind a slow disk or refused by a full one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::desired::{Desired, GENERATIONS_AHEAD};
use crate::clock;
use crate::telemetry::names;

/// How long to wait before a failed save is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where bytes are written durably; returns once they are. A closure, so that tests can have slow and broken disks.
pub type Sink = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// What became of something that was to be saved.
pub type Outcome = Result<(), Arc<io::Error>>;

/// Resolves when something is on disk or is known not to be.
pub type Ticket = oneshot::Receiver<Outcome>;

/// Told when saving begins to fail, and when it works again.
pub type OnChange = Box<dyn Fn(&Outcome) + Send>;

/// Writes states and kill locks.
pub struct Saver {
    states: Arc<Queue<Arc<Desired>>>,
    kills: Arc<Queue<Vec<u8>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Saver {
    /// Starts the threads. `allocated` is the last generation number that was given out; `clean` names
    /// the state that is written at the very end, after which numbers go on without a gap.
    pub fn start(
        mut states: Sink,
        kills: Sink,
        allocated: Arc<AtomicU64>,
        on_change: OnChange,
    ) -> io::Result<Self> {
        let saver = Self { states: Arc::default(), kills: Arc::default(), threads: Mutex::default() };
        let mut clean_stop = false;
        let write_state: Write<Arc<Desired>> = Box::new(move |desired, last| {
            clean_stop |= last;
            let allocated = allocated.load(Ordering::Acquire).max(desired.generation);
            let ceiling = if clean_stop { allocated } else { allocated + GENERATIONS_AHEAD };
            let begun = clock::now();
            let written = states(&desired.to_bytes(ceiling));
            let result = if written.is_ok() { "ok" } else { "error" };
            metrics::counter!(names::SAVES.name, "result" => result).increment(1);
            metrics::histogram!(names::SAVE_DURATION.name).record(clock::now() - begun);
            written
        });
        let mut kills = kills;
        let write_kills: Write<Vec<u8>> = Box::new(move |payload, _| kills(payload));
        let quiet: OnChange = Box::new(|_| {});
        let mut threads = saver.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(spawn("saver", saver.states.clone(), write_state, on_change)?);
        threads.push(spawn("kill-saver", saver.kills.clone(), write_kills, quiet)?);
        drop(threads);
        Ok(saver)
    }

    /// Saves a state that is in force; tried until it works or a later one is saved.
    pub fn save(&self, desired: Arc<Desired>) -> Ticket {
        self.states.put(desired, true)
    }

    /// Saves a state that is not in force yet; tried once.
    pub fn propose(&self, desired: Arc<Desired>) -> Ticket {
        self.states.put(desired, false)
    }

    /// Saves the kill locks in force; tried until it works or later ones are saved.
    pub fn save_kills(&self, payload: Vec<u8>) -> Ticket {
        self.kills.put(payload, true)
    }

    /// Whether everything in force is on disk, one way or the other.
    pub fn is_saved(&self) -> bool {
        self.states.lock().in_force.is_none()
    }

    /// Writes `desired` for the last time, marked so that generation numbers go on without a gap, and ends the
    /// threads. `false` if it could not be written.
    pub fn stop(&self, desired: Arc<Desired>) -> bool {
        let mut ticket = self.states.put_last(desired);
        self.kills.end();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has said so; there is nothing left to do for it.
            let _ = thread.join();
        }
        matches!(ticket.try_recv(), Ok(Ok(())))
    }
}

/// What waits to be written: at most one item in force and one proposal, whichever came last.
struct Queue<T> {
    items: Mutex<Items<T>>,
    wake: Condvar,
}

struct Items<T> {
    /// In force and not yet on disk.
    in_force: Option<T>,
    /// The newest item, if it has not been tried yet.
    fresh: Option<Fresh<T>>,
    waiting: Vec<oneshot::Sender<Outcome>>,
    ending: bool,
}

struct Fresh<T> {
    item: T,
    in_force: bool,
    last: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let items = Items { in_force: None, fresh: None, waiting: Vec::new(), ending: false };
        Self { items: Mutex::new(items), wake: Condvar::new() }
    }
}

impl<T: Clone> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, Items<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, item: T, in_force: bool) -> Ticket {
        self.add(Fresh { item, in_force, last: false })
    }

    fn put_last(&self, item: T) -> Ticket {
        let ticket = self.add(Fresh { item, in_force: true, last: true });
        self.end();
        ticket
    }

    fn add(&self, fresh: Fresh<T>) -> Ticket {
        let (sender, ticket) = oneshot::channel();
        let mut items = self.lock();
        if fresh.in_force {
            items.in_force = Some(fresh.item.clone());
        }
        items.fresh = Some(fresh);
        items.waiting.push(sender);
        drop(items);
        self.wake.notify_one();
        ticket
    }

    fn end(&self) {
        self.lock().ending = true;
        self.wake.notify_one();
    }

    /// The next thing to write; after `retry_after`, what is in force and failed before. `None` at the end.
    fn next(&self, failing: bool) -> Option<(Fresh<T>, Vec<oneshot::Sender<Outcome>>)> {
        let mut items = self.lock();
        loop {
            if let Some(fresh) = items.fresh.take() {
                return Some((fresh, std::mem::take(&mut items.waiting)));
            }
            if items.ending {
                return None;
            }
            let retry = failing && items.in_force.is_some();
            items = if retry {
                let (mut items, timeout) =
                    self.wake.wait_timeout(items, RETRY_AFTER).unwrap_or_else(PoisonError::into_inner);
                if timeout.timed_out()
                    && items.fresh.is_none()
                    && let Some(item) = items.in_force.clone()
                {
                    items.fresh = Some(Fresh { item, in_force: true, last: false });
                }
                items
            } else {
                self.wake.wait(items).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// What was written makes everything before it durable; what came in meanwhile still has to be written.
    fn written(&self) {
        let mut items = self.lock();
        let newer_in_force = items.fresh.as_ref().is_some_and(|fresh| fresh.in_force);
        if !newer_in_force {
            items.in_force = None;
        }
    }
}

/// Writes an item; `true` for the last one before the end.
type Write<T> = Box<dyn FnMut(&T, bool) -> io::Result<()> + Send>;

fn spawn<T: Clone + Send + 'static>(
    name: &str,
    queue: Arc<Queue<T>>,
    mut write: Write<T>,
    on_change: OnChange,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut failing = false;
        while let Some((fresh, waiting)) = queue.next(failing) {
            let outcome = write(&fresh.item, fresh.last).map_err(Arc::new);
            if outcome.is_ok() {
                queue.written();
            }
            if outcome.is_err() != failing && (fresh.in_force || outcome.is_ok()) {
                failing = outcome.is_err();
                on_change(&outcome);
            }
            for waiting in waiting {
                // Whoever does not wait any longer has answered already.
                let _ = waiting.send(outcome.clone());
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::desired::tests::service;
    use super::*;
    use std::sync::mpsc;

    /// A disk whose writes wait to be told how they end.
    fn slow_disk() -> (Sink, mpsc::Receiver<Vec<u8>>, mpsc::Sender<io::Result<()>>) {
        let (written, seen) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let sink = Box::new(move |bytes: &[u8]| {
            let _ = written.send(bytes.to_vec());
            told.recv().unwrap_or(Ok(()))
        });
        (sink, seen, tell)
    }

    fn working() -> Sink {
        Box::new(|_| Ok(()))
    }

    fn state(generation: u64) -> Arc<Desired> {
        Arc::new(Desired::new(generation, vec![Arc::new(service("shop", 5))]))
    }

    fn generation(bytes: &[u8]) -> (u64, u64) {
        let loaded = Desired::from_bytes(bytes).unwrap();
        (loaded.desired.generation, loaded.ceiling)
    }

    fn saver(states: Sink, kills: Sink) -> Saver {
        Saver::start(states, kills, Arc::new(AtomicU64::new(7)), Box::new(|_| {})).unwrap()
    }

    #[test]
    fn only_the_newest_state_is_written_while_the_disk_is_slow() {
        let (sink, seen, tell) = slow_disk();
        let saver = saver(sink, working());
        let first = saver.save(state(1));
        assert_eq!(generation(&seen.recv().unwrap()), (1, 7 + GENERATIONS_AHEAD));
        let second = saver.propose(state(2));
        let third = saver.save(state(3));
        assert!(!saver.is_saved());
        tell.send(Ok(())).unwrap();
        assert!(first.blocking_recv().unwrap().is_ok());
        assert!(!saver.is_saved());
        assert_eq!(generation(&seen.recv().unwrap()).0, 3);
        tell.send(Ok(())).unwrap();
        assert!(second.blocking_recv().unwrap().is_ok());
        assert!(third.blocking_recv().unwrap().is_ok());
        assert!(saver.is_saved());
        tell.send(Ok(())).unwrap();
        assert!(saver.stop(state(3)));
        assert_eq!(generation(&seen.recv().unwrap()), (3, 7), "a clean stop leaves no gap");
    }

    #[test]
    fn what_is_in_force_is_tried_again_and_what_is_proposed_is_not() {
        let (sink, seen, tell) = slow_disk();
        let saver = saver(sink, working());
        let in_force = saver.save(state(1));
        seen.recv().unwrap();
        let proposed = saver.propose(state(2));
        tell.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        assert!(in_force.blocking_recv().unwrap().is_err());
        assert_eq!(generation(&seen.recv().unwrap()).0, 2);
        tell.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        assert!(proposed.blocking_recv().unwrap().is_err());
        assert_eq!(generation(&seen.recv().unwrap()).0, 1, "tried again");
        assert!(!saver.is_saved());
        tell.send(Ok(())).unwrap();
        tell.send(Ok(())).unwrap();
        assert!(saver.stop(state(1)));
    }

    #[test]
    fn kill_locks_do_not_wait_for_a_stuck_state() {
        let (sink, seen, tell) = slow_disk();
        let saver = saver(sink, working());
        let stuck = saver.save(state(1));
        seen.recv().unwrap();
        assert!(saver.save_kills(b"[]".to_vec()).blocking_recv().unwrap().is_ok());
        tell.send(Ok(())).unwrap();
        assert!(stuck.blocking_recv().unwrap().is_ok());
        tell.send(Ok(())).unwrap();
        saver.stop(state(1));
    }
}
