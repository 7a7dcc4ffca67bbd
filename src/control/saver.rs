//! The threads that write, so that nothing which decides ever waits for a disk.
//!
//! One thread saves the newest state. What is *in force* is tried again until it is on disk, however long that
//! takes; what is only *proposed*, a change toward the candidate, is tried once, because it takes effect only
//! if the disk has it. A state that comes later contains or overrules what came before, so only the newest is
//! ever written. Kill locks have a thread and a preallocated file of their own: a kill is durable even while the
//! first thread is stuck behind a slow disk or refused by a full one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

use super::desired::{Desired, GENERATIONS_AHEAD};
use super::recovery::KillFile;
use crate::clock;
use crate::store::SlotFile;
use crate::telemetry::names;

/// How long to wait before a failed save is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long each thread may take for its last write.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

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
    kills: Arc<Queue<Arc<Desired>>>,
    reserved: Arc<AtomicU64>,
    threads: Mutex<Vec<mpsc::Receiver<()>>>,
}

impl Saver {
    /// Starts the threads. `allocated` is the last generation number that was given out, `reserved` the number up
    /// to which the disk knows that they may be.
    pub fn start(
        mut states: Sink,
        mut kills: Sink,
        allocated: Arc<AtomicU64>,
        reserved: u64,
        on_change: OnChange,
    ) -> io::Result<Self> {
        let reserved = Arc::new(AtomicU64::new(reserved));
        let saver = Self {
            states: Arc::default(),
            kills: Arc::default(),
            reserved: reserved.clone(),
            threads: Mutex::default(),
        };
        let ceiling = {
            let allocated = allocated.clone();
            // After a clean stop numbers go on without a gap.
            move |desired: &Desired, is_last| {
                let allocated = allocated.load(Ordering::Acquire).max(desired.generation);
                if is_last { allocated } else { allocated.saturating_add(GENERATIONS_AHEAD) }
            }
        };
        let kill_ceiling = ceiling.clone();
        let write_state: Write = Box::new(move |desired, is_last| {
            let ceiling = ceiling(desired, is_last);
            let begun = clock::now();
            let written = states(&desired.to_bytes(ceiling));
            let result = if written.is_ok() { "ok" } else { "error" };
            metrics::counter!(names::SAVES.name, "result" => result).increment(1);
            metrics::histogram!(names::SAVE_DURATION.name).record(clock::now() - begun);
            written.map(|()| reserved.store(ceiling, Ordering::Release))
        });
        let write_kills: Write = Box::new(move |desired, is_last| {
            let file = KillFile::of(desired, kill_ceiling(desired, is_last));
            kills(&file.to_bytes(SlotFile::PAYLOAD_MAX))
        });
        let quiet: OnChange = Box::new(|outcome| {
            if let Err(error) = outcome {
                eprintln!("tidegate: WARNING: the kill file cannot be written, trying on: {error}");
            }
        });
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
    pub fn save_kills(&self, desired: Arc<Desired>) -> Ticket {
        self.kills.put(desired, true)
    }

    /// Saves what is in force, state and kill locks, as if it were for the last time: no generation numbers are set
    /// aside beyond those that were given out. Nothing may be given out until it is saved again.
    pub fn save_without_reserve(&self, desired: Arc<Desired>) -> (Ticket, Ticket) {
        let last = |desired| Fresh { item: desired, in_force: true, last: true };
        (self.states.add(last(desired.clone())), self.kills.add(last(desired)))
    }

    /// Whether everything in force is on disk, one way or the other.
    pub fn is_saved(&self) -> bool {
        self.states.lock().in_force.is_none()
    }

    /// Whether every kill lock in force is in the kill file.
    pub fn are_kills_saved(&self) -> bool {
        self.kills.lock().in_force.is_none()
    }

    /// The number up to which generations may be given out: the disk knows of them.
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Acquire)
    }

    /// Writes `desired` for the last time, marked so that generation numbers go on without a gap, and ends the
    /// threads; a disk that hangs is given up after ten seconds. `false` if the state could not be written.
    pub fn stop(&self, desired: Arc<Desired>) -> bool {
        drop(self.kills.put_last(desired.clone()));
        let mut ticket = self.states.put_last(desired);
        self.join();
        matches!(ticket.try_recv(), Ok(Ok(())))
    }

    /// Ends the threads without another write, where somebody else writes by now.
    pub fn end(&self) {
        self.kills.end();
        self.states.end();
        self.join();
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for ended in threads {
            // Nothing is ever sent: the other end goes when its thread does.
            let _ = ended.recv_timeout(STOP_PATIENCE);
        }
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

/// Writes a state; `true` for the last one before the end.
type Write = Box<dyn FnMut(&Arc<Desired>, bool) -> io::Result<()> + Send>;

/// The receiver is disconnected when the thread ends.
fn spawn(
    name: &str,
    queue: Arc<Queue<Arc<Desired>>>,
    write: Write,
    on_change: OnChange,
) -> io::Result<mpsc::Receiver<()>> {
    let (alive, ended) = mpsc::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _alive = alive;
        // Let go before that, and with it the file.
        let mut write = write;
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
    })?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::super::desired::tests::service;
    use super::*;

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
        Saver::start(states, kills, Arc::new(AtomicU64::new(7)), 7, Box::new(|_| {})).unwrap()
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
        assert_eq!(saver.reserved(), 7);
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
        assert!(saver.save_kills(state(1)).blocking_recv().unwrap().is_ok());
        tell.send(Ok(())).unwrap();
        assert!(stuck.blocking_recv().unwrap().is_ok());
        tell.send(Ok(())).unwrap();
        saver.stop(state(1));
    }
}
