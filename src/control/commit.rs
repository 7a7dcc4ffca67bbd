//! The one way to change what is in force.
//!
//! A commit is one short critical section: apply a pure change to the desired state, publish one immutable
//! table. Nothing inside it waits for a disk or a socket. Toward stable: publish, persist, acknowledge; after
//! a second without the disk, acknowledge all the same and say so. Toward the candidate: persist, look
//! again, publish, acknowledge. Risk waits for the disk; safety waits for nothing.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::Notify;

use super::change::{self, Applied, Change, Delta, Direction, Refusal, Stamp};
use super::desired::{Answer, Desired};
use super::events::Events;
use super::live::{CheckKey, Live};
use super::recovery::{self, KillFile, TIDEGATE};
use super::saver::{Outcome, Saver, Sink, Ticket};
use super::settings::ServiceConfig;
use crate::clock;
use crate::routing::{Matcher, Publisher, Table};
use crate::store::{
    AuditEntry, AuditLimits, Found, OpenError, RecoverError, Recovered, SlotFile, StateFolder,
};
use crate::telemetry::{ServiceSlot, Tallies, Windows, names};
use crate::traffic::{Cause, Weight};
use crate::upstream::{EndpointUrl, Health};

/// How long a change toward stable waits for the disk before it is acknowledged without.
const SAFE_WAIT: Duration = Duration::from_secs(1);
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
    allocated: Arc<AtomicU64>,
    /// Held through a change toward the candidate: one at a time.
    risk: tokio::sync::Mutex<()>,
    saver: Saver,
    events: Arc<Events>,
    tallies: Arc<Tallies>,
    windows: Mutex<Windows>,
    checks_changed: Notify,
}

/// What the control plane writes to.
pub struct Disk {
    /// The newest state; written and durable when it returns.
    pub states: Sink,
    /// The kill locks.
    pub kills: Sink,
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
        let folder = StateFolder::open(path)?;
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
        let Opened { folder, recovered, mut kills } = opened;
        let log = folder.audit_log(AuditLimits::default()).map_err(io("open the audit log"))?;
        let events = Events::start(log, folder.audit_reader()).map_err(io("start the audit log"))?;
        let mut states = folder.state_file();
        let lost = match kills.found() {
            Found::Damaged { why } => Some(why.clone()),
            Found::Nothing | Found::Whole | Found::OneSlot => None,
        };
        let kept = kills.read().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let disk = Disk {
            states: Box::new(move |bytes| states.save(bytes)),
            kills: Box::new(move |bytes| kills.write(bytes)),
            events: Arc::new(events),
        };
        Self::start_on(disk, recovered, kept, lost, configs, tallies)
    }

    /// The same on any disk: what was recovered from it is given.
    pub fn start_on(
        disk: Disk,
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
        let saver = Saver::start(disk.states, disk.kills, allocated.clone(), Box::new(tell))
            .map_err(io("start the saver"))?;

        let inner = Inner {
            live: Mutex::default(),
            publisher: Publisher::new(),
            allocated,
            risk: tokio::sync::Mutex::default(),
            saver,
            events,
            windows: Mutex::new(Windows::new(tallies.clone())),
            tallies,
            checks_changed: Notify::new(),
        };
        let control = Self { inner: Arc::new(inner) };
        let desired = Arc::new(start.desired);
        {
            let mut live = control.live();
            live.configure(configs, matcher, desired.clone());
            let generation = control.inner.allocated.load(Ordering::Acquire);
            control.publish(&mut live, generation);
        }
        control.save_kills(&desired);
        // The first save is not waited for: what was there before is at least as careful.
        drop(control.inner.saver.save(desired));
        control.record(by_us("start", control.generation()));
        if let Some(alarm) = start.alarm {
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

    /// Why the last check of an endpoint failed.
    pub fn check_error(&self, service: &str, url: &EndpointUrl) -> Option<Arc<str>> {
        self.live().check_error(service, url)
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
        let attempt = Attempt { control: self, change, who, key, read_at };
        let done = match attempt.toward_stable()? {
            Step::Done(committed) => Ok(committed),
            Step::Wait { committed, ticket } => Ok(attempt.saved(committed, ticket).await),
            Step::Risk => attempt.toward_candidate().await,
        };
        if done.is_ok() {
            let kind = match change {
                Change::Shift { .. } => "shift",
                Change::Kill(_) => "kill",
                Change::Arm(_) => "arm",
                Change::Deploy { .. } => "deploy",
            };
            metrics::counter!(names::COMMITS.name, "kind" => kind).increment(1);
        }
        done
    }

    /// Once a second: measures the last second, and frees old tables.
    pub fn tick(&self, now: Instant) {
        let table = self.table();
        self.windows().sample(now, table.services().iter().map(|service| ServiceSlot(service.slot)));
        self.inner.publisher.sweep();
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
            let Some(flip) = live.checked(key, result) else { return };
            let generation = self.allocate();
            self.publish(&mut live, generation);
            (flip, generation)
        };
        // A first check that passes is no news.
        if flip.from == Health::Unknown && flip.to == Health::Healthy {
            return;
        }
        for (service, variant) in &flip.users {
            self.record(AuditEntry {
                service: Some(service.to_string()),
                from: Some(format!("{variant} {} {}", key.url, flip.from.as_str())),
                to: Some(format!("{variant} {} {}", key.url, flip.to.as_str())),
                reason: error.clone(),
                ..by_us("health", generation)
            });
        }
    }

    /// Saves for the last time and ends the threads. Call it when nothing changes any more.
    pub fn stop(&self) -> bool {
        self.record(by_us("stop", self.generation()));
        let saved = self.inner.saver.stop(self.desired());
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

    /// Waits until a state that is not in force is on disk; then what is in force may be replaced by it under
    /// the generation it was made for. `None` if somebody came in between: what is on disk is not what will
    /// be in force, so look again.
    pub(super) async fn saved_first(
        &self,
        desired: &Arc<Desired>,
        generation: u64,
    ) -> Result<Option<MutexGuard<'_, Live>>, CommitError> {
        let saved = match tokio::time::timeout(RISK_WAIT, self.inner.saver.propose(desired.clone())).await {
            Ok(Ok(outcome)) => outcome.map_err(CommitError::NotSaved),
            Ok(Err(_)) | Err(_) => Err(CommitError::DiskTimeout),
        };
        if saved.is_ok() {
            let live = self.live();
            if self.last_allocated() == generation {
                return Ok(Some(live));
            }
        }
        // The proposal may be on disk and is not going to be in force: what is in force overrules it.
        drop(self.inner.saver.save(self.desired()));
        saved.map(|()| None)
    }

    pub(super) fn publish(&self, live: &mut Live, generation: u64) {
        self.inner.publisher.publish(Arc::new(live.table(generation)));
        live.retire();
        self.inner.checks_changed.notify_one();
    }

    fn save_kills(&self, desired: &Desired) -> Ticket {
        let ceiling = self.last_allocated() + super::desired::GENERATIONS_AHEAD;
        self.inner.saver.save_kills(KillFile::of(desired, ceiling).to_bytes(SlotFile::PAYLOAD_MAX))
    }
}

/// A change on its way.
struct Attempt<'a> {
    control: &'a Control,
    change: &'a Change,
    who: &'a Who,
    key: Option<&'a IdempotencyKey>,
    read_at: Instant,
}

enum Step {
    /// In force before, or nothing to do.
    Done(Committed),
    /// In force; the disk follows.
    Wait { committed: Committed, ticket: Ticket },
    /// It has to wait for the disk first.
    Risk,
}

impl Attempt<'_> {
    /// Makes the change at once, if nobody's chance of the candidate can rise by it.
    fn toward_stable(&self) -> Result<Step, CommitError> {
        let mut live = self.control.live();
        if let Some(before) = self.answered(&live.desired)? {
            return Ok(Step::Done(before));
        }
        let (mut applied, mut stamp) = self.apply(&live)?;
        if applied.is_noop() {
            return Ok(self.unchanged(&mut live, applied, stamp));
        }
        if applied.direction == Direction::TowardCandidate {
            return Ok(Step::Risk);
        }
        stamp.generation = self.control.allocate();
        self.keep_answer(&mut applied, &stamp);
        let desired = Arc::new(applied.desired);
        let live_after = self.put_in_force(&mut live, desired.clone(), &applied.changes, stamp.generation);
        drop(live);
        let ticket = self.control.inner.saver.save(desired.clone());
        let kills = matches!(self.change, Change::Kill(_));
        let ticket = if kills { either(self.control.save_kills(&desired), ticket) } else { ticket };
        self.record(&applied.changes, &stamp);
        let committed = Committed {
            generation: stamp.generation,
            saved: false,
            live: live_after,
            changes: applied.changes,
        };
        Ok(Step::Wait { committed, ticket })
    }

    /// Waits for the disk, but not for long.
    async fn saved(&self, committed: Committed, ticket: Ticket) -> Committed {
        let saved = matches!(tokio::time::timeout(SAFE_WAIT, ticket).await, Ok(Ok(Ok(()))));
        Committed { saved, ..committed }
    }

    /// Makes the change after it is on disk, if it still may be made then.
    async fn toward_candidate(&self) -> Result<Committed, CommitError> {
        let _turn = self.control.take_turn().await;
        for _ in 0..REBASES_MAX {
            let next = {
                let live = self.control.live();
                if let Some(before) = self.answered(&live.desired)? {
                    return Ok(before);
                }
                let (applied, mut stamp) = self.apply(&live)?;
                (!applied.is_noop()).then(|| {
                    stamp.generation = self.control.allocate();
                    (applied, stamp)
                })
            };
            let Some((mut applied, stamp)) = next else {
                // Somebody else made the same change meanwhile.
                match self.toward_stable()? {
                    Step::Done(committed) => return Ok(committed),
                    Step::Wait { committed, ticket } => return Ok(self.saved(committed, ticket).await),
                    Step::Risk => continue,
                }
            };
            self.keep_answer(&mut applied, &stamp);
            let desired = Arc::new(applied.desired);
            let Some(mut live) = self.control.saved_first(&desired, stamp.generation).await? else {
                continue;
            };
            let live_after = self.put_in_force(&mut live, desired, &applied.changes, stamp.generation);
            drop(live);
            self.record(&applied.changes, &stamp);
            return Ok(Committed {
                generation: stamp.generation,
                saved: true,
                live: live_after,
                changes: applied.changes,
            });
        }
        Err(CommitError::Busy)
    }

    /// Applies the change under the next generation number, which is not given out yet.
    fn apply(&self, live: &Live) -> Result<(Applied, Stamp), Refusal> {
        let stamp = Stamp {
            generation: self.control.last_allocated() + 1,
            time: clock::wall(),
            actor: self.who.actor.clone(),
            reason: self.who.reason.clone(),
        };
        let facts = |name: &str| live.facts(name);
        let applied = change::apply(&live.desired, self.change, &facts, &stamp)?;
        Ok((applied, stamp))
    }

    fn put_in_force(
        &self,
        live: &mut Live,
        desired: Arc<Desired>,
        changes: &[Delta],
        generation: u64,
    ) -> Duration {
        let touched: Vec<_> =
            changes.iter().filter(|delta| delta.changed).map(|delta| delta.service.clone()).collect();
        live.adopt(desired, &touched);
        self.control.publish(live, generation);
        clock::now().saturating_duration_since(self.read_at)
    }

    fn answered(&self, desired: &Desired) -> Result<Option<Committed>, CommitError> {
        let Some(key) = self.key else { return Ok(None) };
        let Some(answer) = desired.answer(&self.who.actor, &key.key) else { return Ok(None) };
        if answer.digest != key.digest {
            return Err(CommitError::KeyReused(key.key.clone()));
        }
        Ok(Some(Committed {
            generation: answer.generation,
            saved: self.control.is_saved(),
            live: Duration::from_micros(answer.live_us),
            changes: answer.changes.clone(),
        }))
    }

    fn keep_answer(&self, applied: &mut Applied, stamp: &Stamp) {
        let Some(key) = self.key else { return };
        let live = match applied.is_noop() {
            true => Duration::ZERO,
            false => clock::now().saturating_duration_since(self.read_at),
        };
        applied.desired.keep_answer(Answer {
            key: key.key.clone(),
            actor: self.who.actor.clone(),
            digest: key.digest.clone(),
            time: stamp.time,
            generation: stamp.generation,
            live_us: u64::try_from(live.as_micros()).unwrap_or(u64::MAX),
            changes: applied.changes.clone(),
        });
    }

    /// There is nothing to do. Whoever gave a key gets the same answer again all the same, also when others
    /// have made changes by then that the repeated request would take back.
    fn unchanged(&self, live: &mut Live, mut applied: Applied, mut stamp: Stamp) -> Step {
        let committed = Committed {
            generation: live.desired.generation,
            saved: self.control.is_saved(),
            live: Duration::ZERO,
            changes: applied.changes.clone(),
        };
        if self.key.is_none() {
            return Step::Done(committed);
        }
        // The number stays unused. It makes a change that waits for the disk look again, and keep the answer.
        self.control.allocate();
        stamp.generation = live.desired.generation;
        self.keep_answer(&mut applied, &stamp);
        let desired = Arc::new(applied.desired);
        live.adopt(desired.clone(), &[]);
        Step::Wait { committed, ticket: self.control.inner.saver.save(desired) }
    }

    fn record(&self, changes: &[Delta], stamp: &Stamp) {
        for delta in changes.iter().filter(|delta| delta.changed) {
            self.control.record(AuditEntry {
                time: stamp.time,
                what: match self.change {
                    Change::Shift { .. } => "shift",
                    Change::Kill(_) => "kill",
                    Change::Arm(_) => "arm",
                    Change::Deploy { .. } => "deploy",
                }
                .to_owned(),
                generation: stamp.generation,
                actor: self.who.actor.clone(),
                claimed: self.who.claimed.clone(),
                service: Some(delta.service.to_string()),
                from: Some(before(delta)),
                to: Some(after(delta)),
                reason: self.who.reason.clone(),
            });
        }
    }
}

/// Resolves well when either does, badly when both do not.
fn either(one: Ticket, other: Ticket) -> Ticket {
    let (sender, ticket) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let wait = async |ticket: Ticket| match ticket.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Arc::new(io::Error::other("the saver ended"))),
        };
        let (one, other) = (wait(one), wait(other));
        tokio::pin!(one, other);
        let outcome = tokio::select! {
            Ok(()) = &mut one => Ok(()),
            Ok(()) = &mut other => Ok(()),
            else => Err(Arc::new(io::Error::other("neither the state nor the kill file could be written"))),
        };
        // Whoever does not wait any longer has answered already.
        let _ = sender.send(outcome);
    });
    ticket
}

fn before(delta: &Delta) -> String {
    describe(delta, delta.from, delta.lock_before.as_ref().map(|lock| lock.cause))
}

fn after(delta: &Delta) -> String {
    let mut text = describe(delta, delta.to, delta.lock.as_ref().map(|lock| lock.cause));
    if let Some(deployed) = &delta.deployed {
        let urls: Vec<_> = deployed.endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect();
        text.push_str(&format!(" at {}", urls.join(", ")));
        if let Some(version) = &deployed.version {
            text.push_str(&format!(", version {version}"));
        }
    }
    text
}

fn describe(delta: &Delta, weight: Weight, lock: Option<Cause>) -> String {
    let lock = lock.map_or_else(String::new, |cause| format!(", locked ({cause})"));
    format!("{} {weight}{lock}", delta.candidate)
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
