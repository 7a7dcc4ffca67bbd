//! Clocks and evidence of all guards, written every few seconds by a thread of their own.
//!
//! A tick only hands over shared pointers; the thread turns them into text and waits for the disk. What comes
//! while it writes replaces what waits. One line per guard, so that one that cannot be read costs itself alone.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::saver::Sink;
use crate::rollout::Guard;

/// How long the thread may take for its last write.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// All guards at one moment, by service.
pub(super) type Guards = Vec<(Arc<str>, Arc<Guard>)>;

#[derive(Serialize)]
struct Written<'g> {
    service: &'g str,
    guard: &'g Guard,
}

#[derive(Deserialize)]
struct Read {
    service: Arc<str>,
    guard: Guard,
}

/// Writes checkpoints.
pub(super) struct Checkpoints {
    desk: Arc<Desk>,
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

#[derive(Default)]
struct Desk {
    paper: Mutex<Paper>,
    wake: Condvar,
}

#[derive(Default)]
struct Paper {
    newest: Option<Guards>,
    writing: bool,
    ending: bool,
}

impl Checkpoints {
    /// Starts the thread.
    pub fn start(sink: Sink) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let (alive, ended) = mpsc::channel();
        let thread_desk = desk.clone();
        std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            let _alive = alive;
            // Let go before that, and with it the file.
            let mut sink = sink;
            let mut failing = false;
            while let Some(guards) = thread_desk.next() {
                let written = sink(&to_bytes(&guards));
                if let Err(error) = &written
                    && !failing
                {
                    eprintln!(
                        "tidegate: WARNING: the evidence of rollouts cannot be saved, trying on: {error}"
                    );
                }
                failing = written.is_err();
            }
        })?;
        Ok(Self { desk, ended: Mutex::new(Some(ended)) })
    }

    /// Hands over what is newest; never waits.
    pub fn put(&self, guards: Guards) {
        self.desk.paper().newest = Some(guards);
        self.desk.wake.notify_one();
    }

    /// Whether what was handed over has been written, or could not be.
    pub fn is_written(&self) -> bool {
        let paper = self.desk.paper();
        paper.newest.is_none() && !paper.writing
    }

    /// Writes what waits and ends; a disk that hangs is given up after ten seconds.
    pub fn stop(&self) {
        self.desk.paper().ending = true;
        self.desk.wake.notify_one();
        if let Some(ended) = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nothing is ever sent: the other end goes when the thread does.
            let _ = ended.recv_timeout(STOP_PATIENCE);
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.desk.paper().ending = true;
        self.desk.wake.notify_one();
    }
}

impl Desk {
    fn paper(&self) -> MutexGuard<'_, Paper> {
        self.paper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Guards> {
        let mut paper = self.paper();
        paper.writing = false;
        loop {
            if let Some(guards) = paper.newest.take() {
                paper.writing = true;
                return Some(guards);
            }
            if paper.ending {
                return None;
            }
            paper = self.wake.wait(paper).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn to_bytes(guards: &Guards) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (service, guard) in guards {
        let before = bytes.len();
        match serde_json::to_writer(&mut bytes, &Written { service, guard }) {
            Ok(()) => bytes.push(b'\n'),
            Err(_) => bytes.truncate(before),
        }
    }
    bytes
}

/// What a checkpoint held, and how many of its lines could not be read.
pub(super) fn from_bytes(bytes: &[u8]) -> (HashMap<Arc<str>, Guard>, usize) {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut unread = 0;
    let mut guards = HashMap::new();
    for line in lines {
        match serde_json::from_slice::<Read>(line) {
            Ok(read) => drop(guards.insert(read.service, read.guard)),
            Err(_) => unread += 1,
        }
    }
    (guards, unread)
}
