//! Takes down what rollouts see, for replays: lines through a bounded queue to a thread that writes them.
//!
//! Nothing waits for it. A line that does not fit, or that the disk refuses, breaks a record: its [`Tape`] then
//! asks for a line that begins anew, as it does when a part of the file is full.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::holdings::Pen;
use crate::rollout::Line;
use crate::store::{RecordLog, RecordReader};

/// How many lines wait at most: some ticks of ten thousand rollouts.
const QUEUED_MAX: usize = 32 * 1024;
/// How long the thread may take for its last lines.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Where a rollout's record stands. Each line that begins starts a stretch; a gap breaks the stretch that it is in.
#[derive(Debug)]
pub(super) struct Tape {
    service: Arc<str>,
    id: u64,
    /// How many stretches there are.
    stretches: AtomicU64,
    /// The newest one with a gap.
    broken: AtomicU64,
}

impl Tape {
    /// The next line has to begin.
    pub fn new(service: Arc<str>, id: u64) -> Arc<Self> {
        Arc::new(Self { service, id, stretches: AtomicU64::new(0), broken: AtomicU64::new(0) })
    }

    /// Whether the next line has to be one that begins.
    pub fn is_broken(&self) -> bool {
        self.has_gap(self.stretches.load(Ordering::Acquire))
    }

    fn has_gap(&self, stretch: u64) -> bool {
        self.broken.load(Ordering::Acquire) >= stretch
    }

    fn breaks(&self, stretch: u64) {
        self.broken.fetch_max(stretch, Ordering::AcqRel);
    }
}

struct Spoken {
    tape: Arc<Tape>,
    stretch: u64,
    line: Line,
}

/// Takes down lines.
pub(super) struct Recorder {
    queue: Mutex<Option<SyncSender<Spoken>>>,
    dropped: Arc<AtomicU64>,
    reader: Option<RecordReader>,
    ended: Mutex<Option<mpsc::Receiver<()>>>,
    pub(super) log: Option<Pen<RecordLog>>,
    /// Lines that are queued or being written.
    pending: Arc<AtomicUsize>,
}

impl Recorder {
    /// Starts the thread. Without a log nothing is recorded.
    pub fn start(records: Option<(RecordLog, RecordReader)>) -> io::Result<Self> {
        let dropped = Arc::<AtomicU64>::default();
        let Some((log, reader)) = records else {
            return Ok(Self {
                queue: Mutex::default(),
                dropped,
                reader: None,
                ended: Mutex::default(),
                log: None,
                pending: Arc::default(),
            });
        };
        let (log, pending) = (Pen::new(log), Arc::<AtomicUsize>::default());
        let (pen, left) = (log.clone(), pending.clone());
        let (queue, lines) = sync_channel::<Spoken>(QUEUED_MAX);
        let lost = dropped.clone();
        let (alive, ended) = mpsc::channel();
        std::thread::Builder::new().name("records".to_owned()).spawn(move || {
            let _alive = alive;
            // Let go before that, and with it the folder.
            let pen = pen;
            let mut failing = false;
            for spoken in lines {
                let written = pen.with(|log| write(log, &spoken));
                left.fetch_sub(1, Ordering::AcqRel);
                if let Err(error) = &written {
                    spoken.tape.breaks(spoken.stretch);
                    lost.fetch_add(1, Ordering::Relaxed);
                    if !failing {
                        eprintln!("tidegate: WARNING: records of rollouts cannot be written: {error}");
                    }
                }
                failing = written.is_err();
            }
        })?;
        let (queue, ended) = (Mutex::new(Some(queue)), Mutex::new(Some(ended)));
        Ok(Self { queue, dropped, reader: Some(reader), ended, log: Some(log), pending })
    }

    /// Takes down a line; never waits.
    pub fn record(&self, tape: &Arc<Tape>, line: Line) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return };
        let stretch = match line {
            Line::Begin { .. } => tape.stretches.fetch_add(1, Ordering::AcqRel) + 1,
            Line::Change { .. } | Line::Tick { .. } => tape.stretches.load(Ordering::Acquire),
        };
        self.pending.fetch_add(1, Ordering::AcqRel);
        if queue.try_send(Spoken { tape: tape.clone(), stretch, line }).is_err() {
            self.pending.fetch_sub(1, Ordering::AcqRel);
            tape.breaks(stretch);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether everything that was taken down has been written.
    pub fn is_written(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    /// Whether anything is recorded at all.
    pub fn is_on(&self) -> bool {
        self.reader.is_some()
    }

    /// Reads records on other threads; `None` where nothing is recorded.
    pub fn reader(&self) -> Option<&RecordReader> {
        self.reader.as_ref()
    }

    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is queued and ends; a disk that hangs is given up after two seconds.
    pub fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nothing is ever sent: the other end goes when the thread does.
            let _ = ended.recv_timeout(STOP_PATIENCE);
        }
    }
}

fn write(log: &mut RecordLog, spoken: &Spoken) -> io::Result<()> {
    let Spoken { tape, stretch, line } = spoken;
    if tape.has_gap(*stretch) {
        // Behind a gap it could not be replayed.
        return Ok(());
    }
    let text = serde_json::to_string(line)?;
    if matches!(line, Line::Begin { .. }) {
        return log.begin(&tape.service, tape.id, &text);
    }
    if log.append(&tape.service, tape.id, &text)? {
        tape.breaks(*stretch);
    }
    Ok(())
}
