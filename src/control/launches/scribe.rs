//! The thread that writes journals: one record after the other, and each on disk before anybody sees it.
//!
//! Whatever is to be noted comes through a bounded queue, so that nothing which serves or decides ever waits for this disk, and so
//! that of two that want the same thing one is first.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::super::events::Events;
use super::super::holdings::Pen;
use super::meter::Meters;
use super::shelf::{Kept, Shelf, Volume};
use super::wish::{self, Around, Standing, Wish};
use super::{LaunchDisk, LaunchRefusal, words};
use crate::clock::Timestamp;
use crate::launch::{Entry, Figures, LEASE_MS, Ledger, Next, Record, State, Stop};
use crate::store::{AuditEntry, JournalReader, Journals};
use crate::telemetry::{ServiceSlot, Tallies};
use crate::traffic::{Variant, Weight};

/// How long a runner may not be heard of.
pub(super) const LEASE: Duration = Duration::from_millis(LEASE_MS);
const QUEUED_MAX: usize = 1024;
/// How much may be noted of a launch before its start: plans are changed, and each change is kept.
const PLANNING_BYTES_MAX: u64 = 16 << 20;
/// How long the thread may take for its last line.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Reply = Result<Arc<Ledger>, LaunchRefusal>;

/// Something to be noted.
pub(super) struct Job {
    pub launch: Arc<str>,
    pub wish: Wish,
    pub moment: Moment,
    pub reply: Option<oneshot::Sender<Reply>>,
    /// Held for as long as it is under way.
    pub _turn: Option<Arc<()>>,
}

/// When, by whom, and what the service did then.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub now: Instant,
    pub at: Timestamp,
    pub actor: Arc<str>,
    pub claimed: Option<Arc<str>>,
    pub generation: u64,
    pub slot: Option<ServiceSlot>,
    pub standing: Option<Standing>,
    pub figures: Option<Figures>,
}

/// Whoever holds this can have things noted, and sees what was.
pub(super) struct Scribe {
    queue: Mutex<Option<SyncSender<Job>>>,
    ended: Mutex<Option<mpsc::Receiver<()>>>,
    pub desk: Arc<Desk>,
}

/// What the thread works on.
pub(super) struct Desk {
    pub shelf: watch::Sender<Arc<Shelf>>,
    pub pen: Pen<Journals>,
    pub reader: Option<JournalReader>,
    pub meters: Meters,
    /// When each runner was last heard of.
    heard: Mutex<HashMap<Arc<str>, Instant>>,
    events: Arc<Events>,
    pending: AtomicUsize,
}

impl Scribe {
    /// Reads what there is and starts the thread. The second of the pair is what a person has to be told.
    pub fn start(
        disk: LaunchDisk,
        tallies: Arc<Tallies>,
        events: Arc<Events>,
    ) -> io::Result<(Self, Vec<String>)> {
        let (journals, reader) = disk.journals.unzip();
        let (pen, mut journals) = (Pen::empty(), journals);
        let (shelf, alarms) = journals.as_mut().map(Shelf::load).unwrap_or_default();
        if let Some(journals) = journals {
            pen.take_up(journals);
        }
        let desk = Arc::new(Desk {
            shelf: watch::Sender::new(Arc::new(shelf)),
            pen,
            reader,
            meters: Meters::new(tallies),
            heard: Mutex::default(),
            events,
            pending: AtomicUsize::new(0),
        });
        let (queue, jobs) = sync_channel::<Job>(QUEUED_MAX);
        let (alive, ended) = mpsc::channel();
        let at_work = desk.clone();
        std::thread::Builder::new().name("launches".to_owned()).spawn(move || {
            let _alive = alive;
            // Let go before that, and with it the folder.
            let desk = at_work;
            for mut job in jobs {
                let reply = job.reply.take();
                let done = desk.write(&job);
                desk.pending.fetch_sub(1, Ordering::AcqRel);
                if let Some(reply) = reply {
                    // Whoever does not wait any longer has answered already.
                    let _ = reply.send(done);
                } else if let Err(refusal @ LaunchRefusal::NotNoted(_)) = &done {
                    eprintln!("tidegate: WARNING: launch {}: {refusal}, trying on", job.launch);
                }
            }
        })?;
        let (queue, ended) = (Mutex::new(Some(queue)), Mutex::new(Some(ended)));
        Ok((Self { queue, ended, desk }, alarms))
    }

    /// Has something noted, some time.
    pub fn put(&self, job: Job) -> Result<(), LaunchRefusal> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else {
            return Err(LaunchRefusal::Closed("tidegate is stopping".into()));
        };
        self.desk.pending.fetch_add(1, Ordering::AcqRel);
        queue.try_send(job).map_err(|error| {
            self.desk.pending.fetch_sub(1, Ordering::AcqRel);
            match error {
                TrySendError::Full(_) => LaunchRefusal::Busy,
                TrySendError::Disconnected(_) => {
                    LaunchRefusal::Closed("the thread that notes is gone".into())
                }
            }
        })
    }

    /// Whether everything that was to be noted is, or was refused.
    pub fn is_written(&self) -> bool {
        self.desk.pending.load(Ordering::Acquire) == 0
    }

    /// Writes what is queued and ends; a disk that hangs is given up after ten seconds.
    pub fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nothing is ever sent: the other end goes when the thread does.
            let _ = ended.recv_timeout(STOP_PATIENCE);
        }
    }
}

impl Desk {
    /// What is known now.
    pub fn shelf(&self) -> Arc<Shelf> {
        self.shelf.borrow().clone()
    }

    /// The runner was heard of.
    pub fn hear(&self, launch: &Arc<str>, now: Instant) {
        self.heard().insert(launch.clone(), now);
    }

    /// How long ago the runner was last heard of; of one that was not since this process started, since it was first asked for.
    pub fn silence(&self, launch: &Arc<str>, now: Instant) -> Duration {
        let heard = *self.heard().entry(launch.clone()).or_insert(now);
        now.saturating_duration_since(heard)
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<Arc<str>, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, job: &Job) -> Reply {
        let before = self.volume(&job.launch)?;
        let volume = self.note(before, job)?;
        self.finish(volume, job).map(|volume| volume.ledger)
    }

    /// The launch as it is, if it is known. One whose journal could not be read is free again once somebody has moved it away.
    fn volume(&self, launch: &Arc<str>) -> Result<Option<Volume>, LaunchRefusal> {
        let shelf = self.shelf();
        match shelf.volume(launch) {
            Ok(volume) => Ok(Some(volume.clone())),
            Err(LaunchRefusal::Unknown { .. }) => Ok(None),
            Err(damaged) => {
                let is_there = self.pen.with(|journals| journals.is_there(launch));
                if is_there.unwrap_or(true) {
                    return Err(damaged);
                }
                self.publish(|shelf| drop(shelf.volumes.remove(launch)));
                Ok(None)
            }
        }
    }

    fn note(&self, before: Option<Volume>, job: &Job) -> Result<Volume, LaunchRefusal> {
        let Some(volume) = &before else {
            let Wish::Plan { launch } = &job.wish else { return Err(self.unknown(&job.launch)) };
            return self.append(None, Entry::Planned { launch: launch.clone() }, job);
        };
        if job.wish == Wish::Minute {
            return self.minute(volume.clone(), job);
        }
        let shelf = self.shelf();
        let service = &volume.ledger.launch.service;
        let others = shelf.running().filter(|other| other.launch.name != job.launch);
        let running = others.map(|other| &other.launch).find(|other| other.service == *service);
        let around = Around {
            at: job.moment.at,
            service: job.moment.standing.as_ref(),
            running: running.map(|running| running.name.clone()),
            is_heard: matches!(job.wish, Wish::Lapse { .. })
                && self.silence(&job.launch, job.moment.now) < LEASE,
            noted: &|seq| self.record(volume, &job.launch, seq),
        };
        let entry = wish::entry(Some(&volume.ledger), &job.wish, &around)?;
        if matches!(job.wish, Wish::Note { .. } | Wish::Start { .. } | Wish::Lease { .. }) {
            self.hear(&job.launch, job.moment.now);
        }
        match entry {
            Some(entry) => self.append(before, entry, job),
            None => Ok(volume.clone()),
        }
    }

    fn unknown(&self, launch: &Arc<str>) -> LaunchRefusal {
        let known = self.shelf().ledgers().map(|ledger| ledger.launch.name.clone()).collect();
        LaunchRefusal::Unknown { name: launch.clone(), known }
    }

    /// Notes the end, if nothing is left to be done.
    fn finish(&self, volume: Volume, job: &Job) -> Result<Volume, LaunchRefusal> {
        let Next::Finish(state) = volume.ledger.next() else { return Ok(volume) };
        let ours = Job {
            launch: job.launch.clone(),
            wish: Wish::Finish,
            moment: job.moment.by_us(),
            reply: None,
            _turn: None,
        };
        // What was asked for is noted. The end is tried again soon, should the disk refuse it.
        let Ok(measured) = self.minute(volume.clone(), &ours) else { return Ok(volume) };
        if state == State::Completed
            && let Some(why) =
                job.moment.standing.as_ref().and_then(|standing| lost(&measured.ledger, standing))
        {
            return self.append(Some(measured), Entry::Stopped { why }, &ours);
        }
        match self.append(Some(measured.clone()), Entry::Finished { state }, &ours) {
            Ok(finished) => Ok(finished),
            Err(_) if job.wish != Wish::Finish => Ok(measured),
            Err(refusal) => Err(refusal),
        }
    }

    fn minute(&self, volume: Volume, job: &Job) -> Result<Volume, LaunchRefusal> {
        let measured = self.meters.measure(&job.launch, job.moment.now);
        let Some(measured) = measured.filter(|_| volume.ledger.run.state == State::Running) else {
            return Ok(volume);
        };
        if measured.minute.span_ms == 0 {
            return Ok(volume);
        }
        let noted = self.append(Some(volume), Entry::Minute(measured.minute.clone()), job)?;
        self.meters.noted(&job.launch, measured);
        Ok(noted)
    }

    /// One record more: on disk, then for everybody to see.
    fn append(&self, before: Option<Volume>, entry: Entry, job: &Job) -> Result<Volume, LaunchRefusal> {
        let Moment { at, actor, claimed, figures, .. } = job.moment.clone();
        let seq = before.as_ref().map_or(0, |volume| volume.ledger.seq) + 1;
        let record = Record { seq, at, actor, claimed, entry, figures };
        let ledger = match &before {
            Some(volume) => volume.ledger.with(&record)?,
            None => Ledger::begin(&record)?,
        };
        let volume = before.unwrap_or_else(|| Volume::new(ledger.clone()));
        let refused = |error: io::Error| LaunchRefusal::NotNoted(Arc::new(error));
        let line = serde_json::to_string(&record).map_err(|error| refused(error.into()))?;
        if ledger.run.state == State::Idle && volume.bytes() + line.len() as u64 > PLANNING_BYTES_MAX {
            return Err(LaunchRefusal::Full);
        }
        self.pen.with(|journals| journals.append(&job.launch, &line)).map_err(refused)?;
        let state_before = if seq == 1 { State::Idle } else { volume.ledger.run.state };
        let volume = volume.grown(ledger, line.len() as u64 + 1);
        self.publish(|shelf| drop(shelf.volumes.insert(job.launch.clone(), Kept::Volume(volume.clone()))));
        self.follow(&volume.ledger, &record, job);
        self.tell(&volume.ledger, &record, state_before, job.moment.generation);
        Ok(volume)
    }

    /// What follows from a record here.
    fn follow(&self, ledger: &Ledger, record: &Record, job: &Job) {
        let launch = &ledger.launch.name;
        match (&record.entry, job.moment.slot) {
            (Entry::Planned { .. }, _) if record.seq == 1 => self.make_room(launch),
            (Entry::Started { .. }, Some(slot)) => self.meters.begin(launch, slot, job.moment.now),
            (Entry::Finished { .. }, _) => {
                self.meters.end(launch);
                self.heard().remove(launch);
            }
            _ => {}
        }
    }

    fn make_room(&self, newest: &str) {
        for name in self.shelf().surplus(newest) {
            match self.pen.with(|journals| journals.remove(&name)) {
                Ok(()) => self.publish(|shelf| drop(shelf.volumes.remove(&name))),
                Err(error) => {
                    eprintln!(
                        "tidegate: WARNING: the journal of the launch {name} cannot be removed: {error}"
                    );
                }
            }
        }
    }

    fn tell(&self, ledger: &Ledger, record: &Record, before: State, generation: u64) {
        let Some((what, sentence)) = words::event(ledger, &record.entry) else { return };
        let after = ledger.run.state;
        let moved = before != after;
        self.events.record(AuditEntry {
            time: record.at,
            what: what.to_owned(),
            generation,
            actor: record.actor.to_string(),
            claimed: record.claimed.as_ref().map(ToString::to_string),
            service: Some(ledger.launch.service.to_string()),
            launch: Some(ledger.launch.name.to_string()),
            from: moved.then(|| before.as_str().to_owned()),
            to: moved.then(|| after.as_str().to_owned()),
            reason: Some(sentence),
        });
    }

    fn record(&self, volume: &Volume, launch: &str, seq: u64) -> Option<Record> {
        let (from, to) = volume.place(seq.checked_sub(1)?, 1)?;
        let line = self.reader.as_ref()?.read(launch, from, to).ok()?;
        serde_json::from_slice(&line).ok()
    }

    fn publish(&self, change: impl FnOnce(&mut Shelf)) {
        self.shelf.send_modify(|shelf| change(Arc::make_mut(shelf)));
    }
}

/// Why a launch has not done what it was for, although every phase is done: users are not on the new version any more.
fn lost(ledger: &Ledger, standing: &Standing) -> Option<Stop> {
    let candidate = ledger.candidate?;
    (ledger.exposes() && standing.shares[candidate] == Weight::ZERO).then(|| taken_back(candidate))
}

/// Something else than the launch has moved its traffic: a gate, a kill, or a person.
pub(super) fn taken_back(candidate: Variant) -> Stop {
    Stop::Breaker { sentence: format!("{candidate} was taken to 0 % by something else than this launch") }
}

impl Moment {
    /// The same, for what follows from it.
    fn by_us(&self) -> Self {
        Self { actor: super::super::recovery::TIDEGATE.into(), claimed: None, ..self.clone() }
    }
}
