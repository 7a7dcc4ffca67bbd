//! What happened, for the audit log and for whoever follows along.
//!
//! Entries are written by a thread of their own behind a bounded queue: a stuck disk loses audit entries,
//! which is counted and said, and never delays a kill.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::broadcast;

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
}

impl Events {
    /// Starts the thread that writes `log`.
    pub fn start(mut log: AuditLog, reader: AuditReader) -> io::Result<Self> {
        let (queue, entries) = sync_channel::<AuditEntry>(QUEUED_MAX);
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            for entry in entries {
                let written =
                    serde_json::to_string(&entry).map_err(io::Error::from).and_then(|line| log.append(&line));
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
        })
    }

    /// Takes down an entry; never waits.
    pub fn record(&self, entry: AuditEntry) {
        // Nobody following is no error.
        let _ = self.followers.send(entry.clone());
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.as_ref().is_none_or(|queue| queue.try_send(entry).is_err()) {
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

    /// Writes what is queued and ends.
    pub fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
