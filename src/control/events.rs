//! What happened, for the audit log and for whoever follows along.
//!
//! Entries are written by a thread of their own behind a bounded queue: a stuck disk loses audit entries,
//! which is counted and said, and never delays a kill.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::broadcast;

use super::holdings::Pen;
use crate::store::{AuditEntry, AuditLog, AuditReader};
use crate::telemetry::names;

const QUEUED_MAX: usize = 8192;
const FOLLOWERS_LAG_MAX: usize = 1024;

/// Takes down what happens.
pub struct Events {
    queue: Mutex<Option<SyncSender<AuditEntry>>>,
    followers: broadcast::Sender<AuditEntry>,
    reader: AuditReader,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) log: Pen<AuditLog>,
    /// Entries that are queued or being written.
    pending: Arc<AtomicUsize>,
    /// Another process writes the log: what happens here is no longer taken down.
    is_quiet: AtomicBool,
}

impl Events {
    /// Starts the thread that writes `log`.
    pub fn start(log: AuditLog, reader: AuditReader) -> io::Result<Self> {
        let (queue, entries) = sync_channel::<AuditEntry>(QUEUED_MAX);
        let (log, pending) = (Pen::new(log), Arc::<AtomicUsize>::default());
        let (pen, left) = (log.clone(), pending.clone());
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            for entry in entries {
                let written = serde_json::to_string(&entry)
                    .map_err(io::Error::from)
                    .and_then(|line| pen.with(|log| log.append(&line)));
                left.fetch_sub(1, Ordering::AcqRel);
                if let Err(error) = written {
                    metrics::counter!(names::AUDIT_DROPPED.name).increment(1);
                    eprintln!("tidegate: the audit log could not be written: {error}");
                }
            }
        })?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            followers: broadcast::channel(FOLLOWERS_LAG_MAX).0,
            reader,
            thread: Mutex::new(Some(thread)),
            log,
            pending,
            is_quiet: AtomicBool::new(false),
        })
    }

    /// Takes down an entry; never waits.
    pub fn record(&self, entry: AuditEntry) {
        if self.is_quiet.load(Ordering::Acquire) {
            return;
        }
        // Nobody following is no error.
        let _ = self.followers.send(entry.clone());
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.pending.fetch_add(1, Ordering::AcqRel);
        if queue.as_ref().is_none_or(|queue| queue.try_send(entry).is_err()) {
            self.pending.fetch_sub(1, Ordering::AcqRel);
            metrics::counter!(names::AUDIT_DROPPED.name).increment(1);
        }
    }

    /// From now on, every entry; a follower that lags more than 1024 entries behind loses the oldest.
    pub fn follow(&self) -> broadcast::Receiver<AuditEntry> {
        self.followers.subscribe()
    }

    /// The newest `n` entries in the log, oldest first. Reads files.
    pub fn last(&self, n: usize) -> io::Result<Vec<AuditEntry>> {
        let lines = self.reader.tail(n)?;
        Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Where the log is, for readers on other threads.
    pub fn reader(&self) -> AuditReader {
        self.reader.clone()
    }

    /// From now on takes nothing down, or takes things down again.
    pub(super) fn be_quiet(&self, quiet: bool) {
        self.is_quiet.store(quiet, Ordering::Release);
    }

    /// Whether everything that was taken down has been written.
    pub(super) fn is_written(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    /// Writes what is queued and ends.
    pub fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
