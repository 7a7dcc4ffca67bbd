//! The book of launches: what is planned, what runs, and what became of it.
//!
//! A launch is run elsewhere, where the operator's rights are; here is its record, and whatever has to go on when its runner does not:
//! its lease, its breaker, its minutes. A record is on disk before it is seen, and nothing of it is written under the lock of a commit
//! or on a thread that serves.
//!
//! ```text
//!   a wish ──▶ queue ──▶ scribe: does it fit? ──▶ journal, durable ──▶ shelf ──▶ whoever looks or waits
//!   a beat ──▶ lease, minutes, breaker ──┘                                └──▶ audit log, hooks
//!                                   └──▶ commit, at once
//! ```

mod admit;
mod breaker;
mod meter;
mod refusal;
mod scribe;
mod shelf;
mod watch;
mod wish;
mod words;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use self::admit::problems;
pub use self::refusal::LaunchRefusal;
pub use self::wish::Wish;

use self::scribe::{Job, Moment, Scribe};
use self::watch::Watch;
use self::wish::Standing;
use super::commit::{Control, Who};
use super::events::Events;
use super::holdings::Pen;
use crate::clock::{self, Timestamp};
use crate::launch::{Entry, Figures, Launch, Ledger, Record, State, VariantFigures};
use crate::store::{JournalReader, Journals};
use crate::telemetry::{ServiceSlot, Tallies};
use crate::traffic::PerVariant;

/// How long somebody who wants something noted waits for the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
/// How often whoever waits for records looks whether this process still has the say.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where launches are noted.
#[derive(Debug, Default)]
pub struct LaunchDisk {
    /// The journals; `None`: nothing can be noted.
    pub journals: Option<(Journals, JournalReader)>,
}

/// The book.
pub(super) struct Launches {
    scribe: Scribe,
    watch: Mutex<Watch>,
}

impl Launches {
    /// Reads what there is. The second of the pair is what a person has to be told.
    pub fn start(
        disk: LaunchDisk,
        tallies: Arc<Tallies>,
        events: Arc<Events>,
    ) -> io::Result<(Self, Vec<String>)> {
        let (scribe, alarms) = Scribe::start(disk, tallies, events)?;
        Ok((Self { scribe, watch: Mutex::default() }, alarms))
    }

    /// What writes the journals.
    pub fn pen(&self) -> &Pen<Journals> {
        &self.scribe.desk.pen
    }

    /// Whether everything that was to be noted is, or was refused.
    pub fn is_written(&self) -> bool {
        self.scribe.is_written()
    }

    /// The number of a launch's last record.
    #[cfg(test)]
    pub fn seq(&self, launch: &str) -> Option<u64> {
        self.scribe.desk.shelf().volume(launch).ok().map(|volume| volume.ledger.seq)
    }

    /// Writes what is queued and ends.
    pub fn stop(&self) {
        self.scribe.stop();
    }
}

impl Control {
    /// Every launch that is known, the newest first.
    pub fn launches(&self) -> Vec<Arc<Ledger>> {
        let shelf = self.inner.launches.scribe.desk.shelf();
        let mut ledgers: Vec<_> = shelf.ledgers().cloned().collect();
        ledgers.sort_by_key(|ledger| std::cmp::Reverse(ledger.run.started.unwrap_or(ledger.planned)));
        ledgers
    }

    /// A launch.
    ///
    /// # Errors
    /// When there is none of that name, or its journal cannot be read.
    pub fn launch(&self, name: &str) -> Result<Arc<Ledger>, LaunchRefusal> {
        self.inner.launches.scribe.desk.shelf().volume(name).map(|volume| volume.ledger.clone())
    }

    /// The launch of a service that runs.
    pub fn running_launch(&self, service: &str) -> Option<Arc<Ledger>> {
        let shelf = self.inner.launches.scribe.desk.shelf();
        shelf.running().find(|ledger| *ledger.launch.service == *service).cloned()
    }

    /// The launch of a service that runs, or else the one whose window is open.
    pub fn launch_of(&self, service: &str, at: Timestamp) -> Option<Arc<Ledger>> {
        let shelf = self.inner.launches.scribe.desk.shelf();
        let is_its = |ledger: &&Arc<Ledger>| *ledger.launch.service == *service;
        let is_open = |ledger: &&Arc<Ledger>| {
            let window = ledger.launch.window.filter(|_| ledger.run.state == State::Idle);
            window.is_some_and(|window| window.from <= at && at < window.closes())
        };
        let running = shelf.running().find(is_its);
        running.or_else(|| shelf.ledgers().filter(is_its).find(is_open)).cloned()
    }

    /// What a service did in the last minute, as it is noted; `None` if it is not configured.
    pub fn figures(&self, service: &str) -> Option<Figures> {
        let service = self.live().service(service)?.clone();
        let windows = self.windows().view(ServiceSlot(service.slot), clock::now());
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Some(Figures {
            weight: service.split.weight,
            candidate: Some(service.split.candidate),
            variants: PerVariant::from_fn(|variant| {
                let last = &windows[variant].long;
                VariantFigures {
                    rate: last.request_rate(),
                    failure_ratio: (last.requests > 0).then(|| last.failure_ratio()),
                    p95_us: last.ttfb.p95.map(micros),
                    p99_us: last.ttfb.p99.map(micros),
                }
            }),
        })
    }

    /// What a launch would be if it were put on the book now; notes nothing.
    ///
    /// # Errors
    /// When it has started.
    pub fn preview(&self, launch: &Arc<Launch>, who: &Who) -> Result<Ledger, LaunchRefusal> {
        let before = match self.launch(&launch.name) {
            Ok(ledger) => Some(ledger),
            Err(LaunchRefusal::Unknown { .. }) => None,
            Err(refusal) => return Err(refusal),
        };
        if let Some(same) = before.as_ref().filter(|ledger| *ledger.launch == **launch)
            && same.run.state == State::Idle
        {
            return Ok(Ledger::clone(same));
        }
        let record = Record {
            seq: before.as_ref().map_or(0, |ledger| ledger.seq) + 1,
            at: clock::wall(),
            actor: who.actor.as_str().into(),
            claimed: who.claimed.as_deref().map(Into::into),
            entry: Entry::Planned { launch: launch.clone() },
            figures: None,
        };
        Ok(match before {
            Some(ledger) => ledger.with(&record)?,
            None => Ledger::begin(&record)?,
        })
    }

    /// Has something noted of a launch, and what follows from it. It is on disk when this returns.
    ///
    /// # Errors
    /// When it does not fit, and when the disk refuses: then nothing has changed.
    pub async fn note_launch(&self, name: &str, wish: Wish, who: &Who) -> Result<Arc<Ledger>, LaunchRefusal> {
        if let Some(why) = self.closed() {
            return Err(LaunchRefusal::Closed(why));
        }
        let moment = (clock::now(), clock::wall());
        let mut job = match (self.launch(name), &wish) {
            (_, Wish::Plan { launch }) => self.job_of(launch, wish.clone(), who, moment),
            (Ok(ledger), _) => self.job(&ledger, wish, who, moment),
            (Err(refusal), _) => return Err(refusal),
        };
        let (reply, replied) = oneshot::channel();
        job.reply = Some(reply);
        self.inner.launches.scribe.put(job)?;
        match tokio::time::timeout(DISK_PATIENCE, replied).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(LaunchRefusal::Closed("tidegate is stopping".into())),
            Err(_) => Err(LaunchRefusal::DiskTimeout),
        }
    }

    /// The runner is there, or lets go. What it says is noted only if it changes something.
    ///
    /// # Errors
    /// When somebody else runs the launch by now, or it is over.
    pub async fn heartbeat(
        &self,
        name: &str,
        fence: u64,
        release: bool,
        who: &Who,
    ) -> Result<Arc<Ledger>, LaunchRefusal> {
        let ledger = self.launch(name)?;
        let lapsed = wish::holds(&ledger, fence)?;
        if release {
            return self.note_launch(name, Wish::Release { fence }, who).await;
        }
        self.inner.launches.scribe.desk.hear(&ledger.launch.name, clock::now());
        if lapsed { self.note_launch(name, Wish::Return { fence }, who).await } else { Ok(ledger) }
    }

    /// What was noted of a launch after a number, at most so many records; waits for `patience` if that is nothing.
    ///
    /// # Errors
    /// When there is no such launch, or its journal cannot be read.
    pub async fn launch_records(
        &self,
        name: &str,
        after: u64,
        count_max: usize,
        patience: Duration,
    ) -> Result<Vec<Record>, LaunchRefusal> {
        let desk = self.inner.launches.scribe.desk.clone();
        let mut shelf = desk.shelf.subscribe();
        let until = clock::now() + patience;
        let place = loop {
            let place = shelf.borrow_and_update().volume(name)?.place(after, count_max);
            if let Some(place) = place {
                break place;
            }
            let look = until.min(clock::now() + LOOK_EVERY);
            let _ = tokio::time::timeout_at(look.into(), shelf.changed()).await;
            if clock::now() >= until || self.closed().is_some() {
                return Ok(Vec::new());
            }
        };
        let name = name.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let Some(reader) = &desk.reader else { return Ok(Vec::new()) };
            let bytes = reader.read(&name, place.0, place.1)?;
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| serde_json::from_slice(line).map_err(io::Error::from)).collect()
        });
        match read.await {
            Ok(Ok(records)) => Ok(records),
            Ok(Err(error)) => Err(LaunchRefusal::NotRead(Arc::new(error))),
            Err(_) => Err(LaunchRefusal::NotRead(Arc::new(io::Error::other("reading it broke off")))),
        }
    }

    /// Once a second: looks after the launches that run. While changes are refused, nothing is noted either.
    pub fn tick_launches(&self, now: Instant, at: Timestamp) {
        let launches = &self.inner.launches;
        let mut watch = launches.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed().is_none() {
            watch.beat(self, &launches.scribe, now, at);
        }
    }

    fn job(&self, ledger: &Ledger, wish: Wish, who: &Who, moment: (Instant, Timestamp)) -> Job {
        self.job_of(&ledger.launch, wish, who, moment)
    }

    fn job_of(&self, launch: &Launch, wish: Wish, who: &Who, (now, at): (Instant, Timestamp)) -> Job {
        let (service, desired) = {
            let live = self.live();
            (live.service(&launch.service).cloned(), live.desired.clone())
        };
        let state = desired.service(&launch.service);
        let driven = state.and_then(|state| state.planned());
        let standing = service.as_ref().map(|service| Standing {
            candidate: service.split.candidate,
            shares: PerVariant::from_fn(|variant| service.split.share(variant)),
            lock: state.and_then(|state| state.lock.clone()),
            driven: driven.map(|rollout| rollout.plan.name.clone()),
        });
        Job {
            launch: launch.name.clone(),
            wish,
            moment: Moment {
                now,
                at,
                actor: who.actor.as_str().into(),
                claimed: who.claimed.as_deref().map(Into::into),
                generation: self.generation(),
                slot: service.map(|service| ServiceSlot(service.slot)),
                standing,
                figures: self.figures(&launch.service),
            },
            reply: None,
            _turn: None,
        }
    }
}
