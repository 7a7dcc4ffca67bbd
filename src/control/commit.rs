//! The one way to change what is in force.
//!
//! A commit is one short critical section: apply a pure change to the desired state, publish one immutable
//! table. Nothing inside it waits for a disk or a socket. Toward stable: publish, persist, acknowledge; after
//! a second without the disk, acknowledge all the same and say so. Toward the candidate: persist, look
//! again, publish, acknowledge. Risk waits for the disk; safety waits for nothing.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::{Notify, watch};

use super::attempt::Attempt;
use super::change::{Change, Delta, Refusal};
use super::desired::{Desired, GENERATIONS_AHEAD};
use super::ejections::Ejections;
use super::events::Events;
use super::holdings::{Holdings, Ownership, Pen};
use super::launches::{LaunchDisk, Launches};
use super::live::{CheckKey, Live};
use super::predecessors::Predecessors;
use super::recovery::{self, KillFile, TIDEGATE};
use super::rollouts::{EvidenceDisk, Rollouts};
use super::saver::{Outcome, Saver, Sink, Ticket};
use super::settings::ServiceConfig;
use crate::clock;
use crate::routing::{Matcher, Publisher, Service, Table};
use crate::store::{
    AuditEntry, AuditLimits, Found, OpenError, Origin, RecordLimits, RecoverError, Recovered, SlotFile,
    StateFolder,
};
use crate::telemetry::{MirrorCounts, ServiceSlot, Tallies, Windows, names};
use crate::traffic::{PerVariant, Variant};
use crate::upstream::{Health, Way};

/// How long a change toward the candidate waits for the disk before it is given up.
const RISK_WAIT: Duration = Duration::from_secs(30);
/// How often a change toward the candidate starts over because others came in between.
pub(super) const REBASES_MAX: usize = 16;

/// Who wants a change, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The peer, as the socket says: `uid 1000 (ops)`.
    pub actor: String,
    /// Who the peer says it acts for.
    pub claimed: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What makes a repeated request have one effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key.
    pub key: String,
    /// A digest of the request.
    pub digest: String,
}

/// A change that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// From which generation.
    pub generation: u64,
    /// Whether it is on disk.
    pub saved: bool,
    /// The processes from before an upgrade that have not confirmed it within a second: what they hold may not know of
    /// it yet.
    pub unconfirmed: Vec<u32>,
    /// From the request read to the table published.
    pub live: Duration,
    /// What became of each service.
    pub changes: Vec<Delta>,
}

/// Why a change is not in force.
#[derive(Clone, Debug, Error)]
pub enum CommitError {
    /// It must not be made.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key stands for something else.
    #[error("the idempotency key {0:?} was used for another request in the last 24 hours; use a new one")]
    KeyReused(String),
    /// Toward the candidate, and the disk does not take it.
    #[error(
        "nothing changed: the state could not be saved, and a change toward the candidate waits for that"
    )]
    NotSaved(#[source] Arc<io::Error>),
    /// Toward the candidate, and the disk does not answer.
    #[error("nothing changed: the disk did not take the state within {} s", RISK_WAIT.as_secs())]
    DiskTimeout,
    /// Others were always faster.
    #[error("nothing changed: other changes kept coming in between; try again")]
    Busy,
    /// Nothing may be changed at the moment.
    #[error("nothing changed: {0}")]
    Closed(Arc<str>),
}

/// Why the control plane does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state in it.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A file in it.
    #[error("{what} in the state folder")]
    Io {
        /// Which, as a verb phrase: `open the kill file`.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Two services claim the same host and path.
    #[error("{0}")]
    Routes(String),
}

/// The control plane. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Control {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    live: Mutex<Live>,
    publisher: Publisher,
    pub(super) published: watch::Sender<u64>,
    pub(super) allocated: Arc<AtomicU64>,
    /// Held through a change toward the candidate: one at a time.
    risk: tokio::sync::Mutex<()>,
    pub(super) saver: Saver,
    pub(super) events: Arc<Events>,
    /// Where the state is kept on a real disk.
    pub(super) holdings: OnceLock<Holdings>,
    predecessors: Predecessors,
    pub(super) ownership: Ownership,
    pub(super) tallies: Arc<Tallies>,
    windows: Mutex<Windows>,
    /// What had been counted of each service when its mirroring began anew.
    mirrored: Mutex<HashMap<ServiceSlot, PerVariant<MirrorCounts>>>,
    pub(super) rollouts: Rollouts,
    pub(super) ejections: Ejections,
    pub(super) launches: Launches,
    checks_changed: Notify,
}

/// What the control plane writes to.
pub struct Disk {
    /// The newest state; written and durable when it returns.
    pub states: Sink,
    /// The kill locks.
    pub kills: Sink,
    /// What rollouts see.
    pub evidence: EvidenceDisk,
    /// Journals of launches.
    pub launches: LaunchDisk,
    /// Who is told.
    pub events: Arc<Events>,
}

/// The state folder, opened and read.
pub struct Opened {
    folder: StateFolder,
    recovered: Recovered,
    kills: SlotFile,
}

impl Opened {
    /// Opens the folder and reads what is in it. One process at a time.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        Self::read(StateFolder::open(path)?)
    }

    /// The same under the `lock` of a process that has let go of the folder.
    pub fn take_over(path: &Path, lock: OwnedFd) -> Result<Self, StartError> {
        Self::read(StateFolder::take_over(path, lock)?)
    }

    fn read(folder: StateFolder) -> Result<Self, StartError> {
        let recovered = folder.recover()?;
        let kills =
            folder.kill_file().map_err(|source| StartError::Io { what: "open the kill file", source })?;
        Ok(Self { folder, recovered, kills })
    }

    /// The folder, for what else is kept in it.
    pub fn folder(&self) -> &StateFolder {
        &self.folder
    }
}

impl Control {
    /// Starts from what `opened` has and what is configured.
    pub fn start(
        opened: Opened,
        configs: Vec<ServiceConfig>,
        tallies: Arc<Tallies>,
    ) -> Result<Self, StartError> {
        let io = |what| move |source| StartError::Io { what, source };
        let Opened { folder, recovered, kills } = opened;
        let log = folder.audit_log(AuditLimits::default()).map_err(io("open the audit log"))?;
        let events = Events::start(log, folder.audit_reader()).map_err(io("start the audit log"))?;
        let states = Pen::new(folder.state_file());
        let lost = match kills.found() {
            Found::Damaged { why } => Some(why.clone()),
            Found::OneSlot => {
                Some("one of its halves cannot be read, and it may have been the newer".to_owned())
            }
            Found::Nothing if recovered.origin != Origin::Fresh => Some("it is gone".to_owned()),
            Found::Nothing | Found::Whole => None,
        };
        let (kept, lost) = match kills.read().filter(|bytes| !bytes.is_empty()) {
            None => (None, lost),
            Some(bytes) => match serde_json::from_slice(&bytes) {
                Ok(kept) => (Some(kept), lost),
                Err(error) => (None, Some(lost.unwrap_or_else(|| error.to_string()))),
            },
        };
        let checkpoints = folder.checkpoint_file();
        let kept_evidence = checkpoints.load();
        let (kills, checkpoints) = (Pen::new(kills), Pen::new(checkpoints));
        let holdings = Holdings { states, kills, checkpoints, folder };
        let (states, kills, checkpoints) =
            (holdings.states.clone(), holdings.kills.clone(), holdings.checkpoints.clone());
        let folder = &holdings.folder;
        let evidence = EvidenceDisk {
            kept: kept_evidence,
            checkpoints: Box::new(move |bytes| checkpoints.with(|file| file.save(bytes))),
            records: Some((folder.record_log(RecordLimits::default()), folder.record_reader())),
        };
        let disk = Disk {
            states: Box::new(move |bytes| states.with(|file| file.save(bytes))),
            kills: Box::new(move |bytes| kills.with(|file| file.write(bytes))),
            evidence,
            launches: LaunchDisk { journals: Some((folder.journals(), folder.journal_reader())) },
            events: Arc::new(events),
        };
        let control = Self::start_on(disk, recovered, kept, lost, configs, tallies)?;
        // Nobody else has it yet.
        let _ = control.inner.holdings.set(holdings);
        Ok(control)
    }

    /// The same on any disk: what was recovered from it is given.
    pub fn start_on(
        mut disk: Disk,
        recovered: Recovered,
        kills: Option<KillFile>,
        kills_lost: Option<String>,
        configs: Vec<ServiceConfig>,
        tallies: Arc<Tallies>,
    ) -> Result<Self, StartError> {
        let io = |what| move |source| StartError::Io { what, source };
        let configs: Vec<_> = configs.into_iter().map(Arc::new).collect();
        let matcher = matcher(&configs)?;
        let now = clock::wall();
        let origin = recovered.origin.clone();
        let start = recovery::start(recovered.payload, &origin, kills, kills_lost, &configs, now);

        let allocated = Arc::new(AtomicU64::new(start.ceiling));
        let events = disk.events.clone();
        let tell = {
            let (events, allocated) = (events.clone(), allocated.clone());
            move |outcome: &Outcome| tell_saving(&events, allocated.load(Ordering::Acquire), outcome)
        };
        // Before anything is in force, so that a crash right afterwards cannot give its number out again. A disk
        // that refuses is no reason not to serve: it is tried on, and said.
        let desired = Arc::new(start.desired);
        let reserved = start.ceiling.saturating_add(GENERATIONS_AHEAD);
        let first = (disk.states)(&desired.to_bytes(reserved));
        let reserved = if first.is_ok() { reserved } else { start.ceiling };
        let saver = Saver::start(disk.states, disk.kills, allocated.clone(), reserved, Box::new(tell))
            .map_err(io("start the saver"))?;

        let (rollouts, rollouts_alarm) =
            Rollouts::start(disk.evidence, tallies.clone(), now).map_err(io("start the checkpoints"))?;
        let (launches, unread) = Launches::start(disk.launches, tallies.clone(), disk.events.clone())
            .map_err(io("start the journals"))?;
        let inner = Inner {
            live: Mutex::default(),
            publisher: Publisher::new(),
            published: watch::Sender::new(0),
            allocated,
            risk: tokio::sync::Mutex::default(),
            saver,
            events,
            holdings: OnceLock::new(),
            predecessors: Predecessors::default(),
            ownership: Ownership::default(),
            rollouts,
            ejections: Ejections::default(),
            launches,
            windows: Mutex::new(Windows::new(tallies.clone())),
            mirrored: Mutex::default(),
            tallies,
            checks_changed: Notify::new(),
        };
        let control = Self { inner: Arc::new(inner) };
        {
            let mut live = control.live();
            live.configure(configs, matcher, desired.clone());
            let generation = control.inner.allocated.load(Ordering::Acquire);
            control.publish(&mut live, generation);
        }
        drop(control.save_kills(desired.clone()));
        if first.is_err() {
            drop(control.save(desired));
        }
        control.record(by_us("start", control.generation()));
        for alarm in start.alarm.into_iter().chain(rollouts_alarm).chain(unread) {
            eprintln!("tidegate: WARNING: {alarm}");
            control.record(AuditEntry { reason: Some(alarm), ..by_us("recovery", control.generation()) });
        }
        Ok(control)
    }

    /// What the data plane reads.
    pub fn reader(&self) -> Arc<ArcSwap<Table>> {
        self.inner.publisher.reader()
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        self.inner.publisher.load()
    }

    /// The generation in force.
    pub fn generation(&self) -> u64 {
        self.table().generation()
    }

    /// The desired state in force.
    pub fn desired(&self) -> Arc<Desired> {
        self.live().desired.clone()
    }

    /// The configuration of a service.
    pub fn config(&self, service: &str) -> Option<Arc<ServiceConfig>> {
        self.live().config(service).cloned()
    }

    /// Whether everything in force is on disk.
    pub fn is_saved(&self) -> bool {
        self.inner.saver.is_saved()
    }

    /// Processes from before an upgrade that obey what is in force here.
    pub fn predecessors(&self) -> &Predecessors {
        &self.inner.predecessors
    }

    /// What happened, and what will.
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    /// What the data plane counted.
    pub fn tallies(&self) -> &Arc<Tallies> {
        &self.inner.tallies
    }

    /// The last minute of every service.
    pub fn windows(&self) -> MutexGuard<'_, Windows> {
        self.inner.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was copied to a variant since mirroring began or something was deployed to it, whichever was later.
    pub fn mirrored(&self, slot: ServiceSlot, variant: Variant) -> MirrorCounts {
        let counts = self.inner.tallies.mirrored(slot);
        let mirrored = self.inner.mirrored.lock().unwrap_or_else(PoisonError::into_inner);
        let before = mirrored.get(&slot).map(|before| &before[variant]);
        before.map_or_else(|| counts[variant].clone(), |before| counts[variant].since(before))
    }

    /// From now on copies are counted from 0.
    pub(super) fn mirror_anew(&self, slot: ServiceSlot) {
        let counts = self.inner.tallies.mirrored(slot);
        self.inner.mirrored.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, counts);
    }

    /// Why the last check of an endpoint failed.
    pub fn check_error(&self, service: &Service, variant: Variant, way: &Way) -> Option<Arc<str>> {
        self.live().check_error(service, variant, way)
    }

    /// Whether no request of a service is open that was assigned under an older generation.
    pub fn is_drained(&self, slot: u32, generation: u64) -> bool {
        let tallies = &self.inner.tallies;
        tallies.seen_generation() >= generation
            && tallies.oldest_in_flight(ServiceSlot(slot)).is_none_or(|oldest| oldest >= generation)
    }

    /// Takes down something that is not a change.
    pub fn record(&self, entry: AuditEntry) {
        self.inner.events.record(entry);
    }

    /// Makes a change. `read_at`: when the request was read.
    pub async fn commit(
        &self,
        change: &Change,
        who: &Who,
        key: Option<&IdempotencyKey>,
        read_at: Instant,
    ) -> Result<Committed, CommitError> {
        let attempt = Attempt {
            control: self.clone(),
            change: change.clone(),
            who: who.clone(),
            key: key.cloned(),
            read_at,
        };
        let done = attempt.make().await;
        if done.is_ok() {
            metrics::counter!(names::COMMITS.name, "kind" => change.kind()).increment(1);
        }
        done
    }

    /// Once a second: looks at endpoints, ticks the rollouts, measures the last second and frees old tables.
    pub fn tick(&self, now: Instant) {
        self.look_at_endpoints(now);
        self.look_for_outages();
        self.tick_rollouts(now, clock::wall());
        let table = self.table();
        self.windows().sample(now, table.services().iter().map(|service| ServiceSlot(service.slot)));
        self.tick_launches(now, clock::wall());
        self.inner.publisher.sweep();
        let seen = self.inner.tallies.seen_generation();
        self.live().leaving.forget(seen);
    }

    /// Everything that has to be checked.
    pub fn checks(&self) -> Vec<CheckKey> {
        self.live().checks().cloned().collect()
    }

    /// Resolves when [`Control::checks`] may have changed.
    pub async fn checks_changed(&self) {
        self.inner.checks_changed.notified().await;
    }

    /// Takes in the result of a check.
    pub fn checked(&self, key: &CheckKey, result: Result<(), String>) {
        let error = result.as_ref().err().cloned();
        let label = if error.is_none() { "passed" } else { "failed" };
        metrics::counter!(names::HEALTH_CHECKS.name, "result" => label).increment(1);
        let (flip, generation) = {
            let mut live = self.live();
            let Some(flip) = live.checked(key, result, clock::now()) else { return };
            (flip, self.publish_unasked(&mut live))
        };
        // A first check that passes is no news.
        if flip.from == Health::Unknown && flip.to == Health::Healthy {
            return;
        }
        for (service, variant) in &flip.users {
            self.record(AuditEntry {
                service: Some(service.to_string()),
                from: Some(format!("{variant} {} {}", key.way, flip.from.as_str())),
                to: Some(format!("{variant} {} {}", key.way, flip.to.as_str())),
                reason: error.clone(),
                ..by_us("health", generation)
            });
        }
    }

    /// Saves for the last time and ends the threads. Call it when nothing changes any more.
    pub fn stop(&self) -> bool {
        if self.inner.ownership.has_let_go() {
            // The last word is somebody else's.
            self.inner.saver.end();
            self.end_rollouts();
            self.inner.launches.stop();
            self.inner.events.stop();
            return true;
        }
        self.record(by_us("stop", self.generation()));
        let saved = self.inner.saver.stop(self.desired());
        self.stop_rollouts();
        self.inner.launches.stop();
        self.inner.events.stop();
        saved
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn take_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.risk.lock().await
    }

    pub(super) fn allocate(&self) -> u64 {
        self.inner.allocated.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn last_allocated(&self) -> u64 {
        self.inner.allocated.load(Ordering::Acquire)
    }

    /// Gives a state that is not in force to the saver, made from the one that is.
    pub(super) fn propose(&self, live: &Live, desired: Desired) -> Proposal {
        let desired = Arc::new(desired);
        let ticket = self.inner.saver.propose(desired.clone());
        Proposal { desired, base: live.desired.clone(), ticket }
    }

    /// Waits until a proposal is on disk; then it may be put in force. `None` if the state it was made from is
    /// not in force any more: look again.
    pub(super) async fn saved_first(
        &self,
        proposal: Proposal,
    ) -> Result<Option<MutexGuard<'_, Live>>, CommitError> {
        let saved = match tokio::time::timeout(RISK_WAIT, proposal.ticket).await {
            Ok(Ok(outcome)) => outcome.map_err(CommitError::NotSaved),
            Ok(Err(_)) | Err(_) => Err(CommitError::DiskTimeout),
        };
        let live = self.live();
        if saved.is_ok() && Arc::ptr_eq(&live.desired, &proposal.base) {
            return Ok(Some(live));
        }
        self.overrule(&live);
        saved.map(|()| None)
    }

    /// A proposal may be on disk and is not going to be in force: what is in force overrules it.
    pub(super) fn overrule(&self, live: &Live) {
        drop(self.inner.saver.save(live.desired.clone()));
    }

    /// The last minute of a service was another version's.
    pub(super) fn measure_anew(&self, service: &str) {
        let table = self.table();
        if let Some(service) = table.services().iter().find(|known| &*known.settings.name == service) {
            self.windows().restart(ServiceSlot(service.slot), clock::now());
            self.mirror_anew(ServiceSlot(service.slot));
        }
    }

    /// Keeps on trying to save what is in force.
    pub(super) fn save(&self, desired: Arc<Desired>) -> Ticket {
        self.inner.saver.save(desired)
    }

    /// Publishes what nobody has asked for. Numbers beyond the reserved ones are for what people want; health and
    /// addresses can do without.
    pub(super) fn publish_unasked(&self, live: &mut Live) -> u64 {
        let is_exhausted = self.last_allocated() >= self.inner.saver.reserved();
        let generation =
            if is_exhausted || live.closed.is_some() { self.generation() } else { self.allocate() };
        self.publish(live, generation);
        generation
    }

    pub(super) fn publish(&self, live: &mut Live, generation: u64) {
        self.inner.publisher.publish(Arc::new(live.table(generation)));
        live.leaving.published(generation);
        self.inner.checks_changed.notify_one();
        self.inner.published.send_replace(generation);
        if live.closed.is_none()
            && self.last_allocated() + GENERATIONS_AHEAD / 2 > self.inner.saver.reserved()
        {
            // Most of the reserved numbers are used: reserve more, long before they run out.
            drop(self.inner.saver.save(live.desired.clone()));
        }
    }

    pub(super) fn save_kills(&self, desired: Arc<Desired>) -> Ticket {
        self.inner.saver.save_kills(desired)
    }
}

/// A state on its way to the disk.
pub(super) struct Proposal {
    pub(super) desired: Arc<Desired>,
    /// What it was made from.
    base: Arc<Desired>,
    ticket: Ticket,
}

pub(super) fn by_us(what: &str, generation: u64) -> AuditEntry {
    AuditEntry {
        time: clock::wall(),
        what: what.to_owned(),
        generation,
        actor: TIDEGATE.to_owned(),
        ..AuditEntry::default()
    }
}

fn tell_saving(events: &Events, generation: u64, outcome: &Outcome) {
    let entry = match outcome {
        Ok(()) => by_us("saved", generation),
        Err(error) => {
            eprintln!("tidegate: WARNING: the state cannot be saved, trying on: {error}");
            AuditEntry { reason: Some(error.to_string()), ..by_us("unsaved", generation) }
        }
    };
    events.record(entry);
}

pub(super) fn matcher(configs: &[Arc<ServiceConfig>]) -> Result<Arc<Matcher>, StartError> {
    let routes = configs.iter().map(|config| config.settings.routes.as_slice());
    Matcher::new(routes).map(Arc::new).map_err(|overlaps| {
        let name = |at: usize| configs.get(at).map_or("?", |config| &*config.settings.name);
        let text = overlaps.iter().map(|overlap| {
            let (route, first, second) = (&overlap.route, name(overlap.first), name(overlap.second));
            format!("{first} and {second} both claim {}{}", route.host, route.path)
        });
        StartError::Routes(text.collect::<Vec<_>>().join("; "))
    })
}
