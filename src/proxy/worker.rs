//! One thread of the data plane: everything its requests share.
//!
//! Nothing here leaves its thread, so nothing needs a lock. The routing table is looked at through a cache
//! that costs one load per request; what a request needs of a service is put together once per table and
//! handed out by a count that only this thread touches.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use http::HeaderValue;
use rustls::ServerConfig;

use super::Shared;
use super::body::RequestBody;
use super::budget::{Budget, Terms};
use super::choice::Starts;
use super::cookies::CookieNames;
use super::crowd::{Crowd, Place, Turnstile};
use super::exchange::{Attention, Exchange, Waiting};
use super::guests::Guests;
use super::headers;
use super::mirror::Mirrors;
use super::pipe::PIPE_BYTES;
use super::registry::Registry;
use super::room::Room;
use super::settings::LiveSettings;
use super::tls::{Tickets, TlsSettings};
use crate::clock::{self, Timestamp};
use crate::routing::{EndpointLimits, Service, Table};
use crate::telemetry::{AccessLogHandle, ServiceSlot, ServiceTally, WorkerTally};
use crate::traffic::{Keys, PerVariant, Variant, Weight};
use crate::upstream::{EndpointPool, Pools, Slot};

/// The longest time between two beats; also how soon an idle worker notices a new table.
const BEAT_MAX: Duration = Duration::from_secs(1);
/// The shortest, however short deadlines are.
const BEAT_MIN: Duration = Duration::from_millis(10);
/// Streams of a killed variant end up to this part of the grace period later.
const JITTER: f64 = 0.25;

/// A worker thread's own things.
pub(super) struct Worker {
    /// As of the last beat.
    pub(super) keys: RefCell<Arc<Keys>>,
    pub(super) index: usize,
    pub(super) tally: WorkerTally,
    pub(super) access_log: AccessLogHandle,
    pub(super) random: RefCell<fastrand::Rng>,
    /// What tunnels read into: never held over an await.
    pub(super) room: RefCell<Box<[u8]>>,
    pub(super) exchanges: Registry<Rc<Exchange>>,
    pub(super) clients: Registry<Rc<Attention>>,
    pub(super) mirrors: Mirrors,
    pub(super) is_draining: Cell<bool>,
    /// Clients that wait for nothing are not waited for any more.
    pub(super) parts_with_idle: Cell<bool>,
    /// What requests that have passed here bear in `CDN-Loop`.
    pub(super) passed: HeaderValue,
    /// What all threads share of those who come in.
    pub(super) lobby: Arc<Lobby>,
    room_for: Room,
    turnstile: Rc<Turnstile>,
    /// By slot; only of services that have such a limit.
    turnstiles: RefCell<Vec<Option<Rc<Turnstile>>>>,
    /// As of the last beat.
    requests_max: Cell<u32>,
    acceptors: RefCell<Vec<Option<Acceptor>>>,
    newest_keys: Arc<ArcSwap<Keys>>,
    live: Arc<ArcSwap<LiveSettings>>,
    table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    views: RefCell<Vec<Option<Rc<ServiceView>>>>,
    /// By slot; they outlive tables, or each change would fill them again.
    budgets: RefCell<HashMap<u32, Rc<PerVariant<Budget>>>>,
    /// Bytes of request bodies that are kept to be sent again.
    pub(super) kept: Rc<Cell<usize>>,
    pools: Pools<RequestBody>,
    wall: Cell<Timestamp>,
    /// Which table the last beat saw; not every one has a generation of its own.
    beaten: Cell<(u64, usize)>,
    patience: Cell<Duration>,
}

/// What all threads share of those who come in: asked when one comes, and hardly ever for a request.
#[derive(Debug)]
pub(super) struct Lobby {
    pub(super) guests: Arc<Guests>,
    pub(super) tickets: Tickets,
    threads: u32,
    crowd: Arc<Crowd>,
    /// Of each service, by slot.
    crowds: Mutex<Vec<Arc<Crowd>>>,
}

impl Lobby {
    /// Of so many threads, at least 1.
    pub(super) fn new(threads: usize) -> Arc<Self> {
        let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
        Arc::new(Self {
            guests: Guests::new(),
            tickets: Tickets::default(),
            threads,
            crowd: Arc::default(),
            crowds: Mutex::default(),
        })
    }

    fn crowd_of(&self, slot: usize) -> Arc<Crowd> {
        let mut crowds = self.crowds.lock().unwrap_or_else(PoisonError::into_inner);
        if crowds.len() <= slot {
            crowds.resize_with(slot + 1, Arc::default);
        }
        crowds[slot].clone()
    }
}

/// rustls' form of a listener's settings.
struct Acceptor {
    settings: Arc<TlsSettings>,
    config: Arc<ServerConfig>,
}

/// A service at one moment, as this thread's requests use it.
#[derive(Debug)]
pub(super) struct ServiceView {
    pub(super) service: Arc<Service>,
    pub(super) names: CookieNames,
    pub(super) tally: Rc<ServiceTally>,
    pub(super) pools: PerVariant<Vec<Rc<EndpointPool<RequestBody>>>>,
    /// Where its requests are counted while they are under way, and how many there may be.
    turnstile: Option<(Rc<Turnstile>, u32)>,
    /// Since when each of them is in use.
    pub(super) starts: PerVariant<Starts>,
    /// This thread's part of each endpoint, if there is an end of it.
    pub(super) places: Option<Places>,
    pub(super) budgets: Rc<PerVariant<Budget>>,
}

/// How many requests one thread sends to an endpoint at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) in_flight_max: u32,
    pub(super) queue_max: u32,
    pub(super) queue_timeout: Duration,
}

impl Places {
    /// One thread's part, rounded up.
    fn of(limits: EndpointLimits, threads: u32) -> Self {
        let part = |whole: u32| whole.div_ceil(threads);
        Self {
            in_flight_max: part(limits.in_flight_max),
            queue_max: part(limits.queue_max),
            queue_timeout: limits.queue_timeout,
        }
    }
}

impl ServiceView {
    /// A place for one more request; `Err` when all are taken, `Ok(None)` without a limit.
    pub(super) fn enter(&self) -> Result<Option<Place>, Crowded> {
        match &self.turnstile {
            None => Ok(None),
            Some((turnstile, most)) => turnstile.enter(*most).map(Some).ok_or(Crowded),
        }
    }
}

/// There are as many requests under way as there may be.
#[derive(Debug)]
pub(super) struct Crowded;

impl Worker {
    pub(super) fn new(
        index: usize,
        process: u64,
        room: Room,
        lobby: Arc<Lobby>,
        shared: Shared,
        now: Timestamp,
    ) -> Self {
        let random = match shared.seed {
            Some(seed) => fastrand::Rng::with_seed(seed.wrapping_add(index as u64)),
            None => fastrand::Rng::with_seed(getrandom::u64().unwrap_or(now.as_millis())),
        };
        Self {
            keys: RefCell::new(shared.keys.load_full()),
            newest_keys: shared.keys,
            index,
            tally: shared.tallies.worker(index),
            access_log: shared.access_log,
            random: RefCell::new(random),
            room: RefCell::new(vec![0; PIPE_BYTES].into_boxed_slice()),
            exchanges: Registry::new(),
            clients: Registry::new(),
            mirrors: Mirrors::new(),
            is_draining: Cell::new(false),
            parts_with_idle: Cell::new(false),
            passed: headers::passed_by(process),
            turnstile: Turnstile::new(lobby.crowd.clone(), lobby.threads),
            turnstiles: RefCell::default(),
            requests_max: Cell::new(room.requests),
            lobby,
            room_for: room,
            acceptors: RefCell::default(),
            live: shared.live,
            table: RefCell::new(Cache::new(shared.table)),
            views: RefCell::default(),
            budgets: RefCell::default(),
            kept: Rc::default(),
            pools: Pools::new(room.endpoints, shared.tallies.endpoints_alarm().clone()),
            wall: Cell::new(now),
            beaten: Cell::default(),
            patience: Cell::new(BEAT_MAX),
        }
    }

    /// The settings in force for a new connection.
    pub(super) fn live(&self) -> Arc<LiveSettings> {
        self.live.load_full()
    }

    /// How many clients may be connected, on all threads together.
    pub(super) fn connections_max(&self) -> usize {
        let configured = self.live.load().limits.connections_max;
        configured.map_or(self.room_for.clients, |most| self.room_for.clients.min(most as usize))
    }

    /// What TLS on this listener needs. `None` if rustls refuses it, although it took it when it was checked.
    pub(super) fn tls(&self, listener: usize, settings: &Arc<TlsSettings>) -> Option<Arc<ServerConfig>> {
        let mut acceptors = self.acceptors.borrow_mut();
        if let Some(Some(acceptor)) = acceptors.get(listener)
            && Arc::ptr_eq(&acceptor.settings, settings)
        {
            return Some(acceptor.config.clone());
        }
        let config = settings.serve(&self.lobby.tickets).ok()?;
        if acceptors.len() <= listener {
            acceptors.resize_with(listener + 1, || None);
        }
        acceptors[listener] = Some(Acceptor { settings: settings.clone(), config: config.clone() });
        Some(config)
    }

    /// The right to open one more connection to an endpoint. `None`: too many are busy.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.pools.slot()
    }

    /// A place for one more request. `None`: as many are under way as there may be.
    pub(super) fn enter(&self) -> Option<Place> {
        self.turnstile.enter(self.requests_max.get())
    }

    /// This thread's way into a service.
    fn turnstile_of(&self, slot: usize) -> Rc<Turnstile> {
        let mut turnstiles = self.turnstiles.borrow_mut();
        if turnstiles.len() <= slot {
            turnstiles.resize_with(slot + 1, || None);
        }
        let new = || Turnstile::new(self.lobby.crowd_of(slot), self.lobby.threads);
        turnstiles[slot].get_or_insert_with(new).clone()
    }

    /// The same for what can be done without. `None`: too few are left.
    pub(super) fn spare_slot(&self) -> Option<Slot> {
        self.pools.spare_slot()
    }

    /// This thread's part of what all of them may do at once; at least 1.
    pub(super) fn share_of_thread(&self, all: u32) -> u32 {
        all.div_ceil(self.lobby.threads)
    }

    /// The wall clock, up to one beat old.
    pub(super) fn wall(&self) -> Timestamp {
        self.wall.get()
    }

    /// Looks at the newest table. `read` must not await, and counts what it decides before it returns.
    pub(super) fn table<T>(&self, read: impl FnOnce(&Table) -> T) -> T {
        let mut cache = self.table.borrow_mut();
        let table = cache.load();
        self.tally.seen(table.generation());
        read(table)
    }

    /// The newest view of the service with this slot, if it still exists.
    pub(super) fn view_of(&self, slot: u32) -> Option<Rc<ServiceView>> {
        self.table(|table| {
            table.services().iter().find(|service| service.slot == slot).map(|service| self.view(service))
        })
    }

    /// This thread's view of a service of the newest table.
    pub(super) fn view(&self, service: &Arc<Service>) -> Rc<ServiceView> {
        let index = service.slot as usize;
        let mut views = self.views.borrow_mut();
        if let Some(Some(view)) = views.get(index)
            && Arc::ptr_eq(&view.service, service)
        {
            return view.clone();
        }
        let pools = PerVariant::from_fn(|variant| {
            service.groups[variant].usable().iter().map(|endpoint| self.pools.of(endpoint)).collect()
        });
        let starts = PerVariant::from_fn(|variant| {
            Starts::of(&service.groups[variant], service.settings.balance.slow_start)
        });
        let view = Rc::new(ServiceView {
            service: service.clone(),
            names: CookieNames::of(&service.settings.name),
            tally: self.tally.service(ServiceSlot(service.slot)),
            pools,
            turnstile: service.settings.limits.requests_max.map(|most| (self.turnstile_of(index), most)),
            starts,
            places: service.settings.limits.endpoint.map(|limits| Places::of(limits, self.lobby.threads)),
            budgets: self.budgets(service),
        });
        let timeouts = &service.settings.timeouts;
        let deadlines = [timeouts.first_byte, timeouts.body_idle, timeouts.tunnel_idle];
        let per_try = service.settings.retries.as_ref().and_then(|retries| retries.per_try);
        let queue = view.places.map(|places| places.queue_timeout);
        let deadlines =
            deadlines.into_iter().chain(timeouts.total).chain(timeouts.stream).chain(per_try).chain(queue);
        deadlines.for_each(|deadline| self.be_patient_for(deadline));
        if views.len() <= index {
            views.resize_with(index + 1, || None);
        }
        views[index] = Some(view.clone());
        view
    }

    fn budgets(&self, service: &Service) -> Rc<PerVariant<Budget>> {
        let terms = Terms::of(service.settings.retries.as_ref(), self.lobby.threads);
        let mut budgets = self.budgets.borrow_mut();
        let budgets = budgets.entry(service.slot).or_insert_with(|| {
            let now = clock::now();
            Rc::new(PerVariant::from_fn(|_| Budget::new(terms, now)))
        });
        Variant::ALL.iter().for_each(|variant| budgets[*variant].change(terms));
        budgets.clone()
    }

    /// Makes the beat quick enough for a deadline: it is noticed a quarter late at most, or a second.
    fn be_patient_for(&self, deadline: Duration) {
        self.patience.set(self.patience.get().min((deadline / 4).max(BEAT_MIN)));
    }

    /// How long to the next beat.
    pub(super) fn beat_after(&self) -> Duration {
        self.patience.get()
    }

    /// Looks after what no request does: time, deadlines, kills, old tables, idle connections.
    pub(super) fn beat(&self, now: Instant, wall: Timestamp) {
        self.wall.set(wall);
        self.keys.replace(self.newest_keys.load_full());
        let newest = self.table(|table| (table.generation(), std::ptr::from_ref(table).addr()));
        if self.beaten.replace(newest) != newest {
            self.turn_to_new_table(now);
        }
        self.exchanges.each(|exchange| exchange.look_at_deadlines(now));
        self.requests_max.set(self.live.load().limits.requests_max.unwrap_or(self.room_for.requests));
        self.turnstile.rest();
        self.turnstiles.borrow().iter().flatten().for_each(|turnstile| turnstile.rest());
        self.pools.sweep(now);
    }

    /// Lets go of services that are no more, and marks what a kill ends.
    fn turn_to_new_table(&self, now: Instant) {
        let mut cuts = Vec::new();
        self.end_mirroring();
        self.table(|table| {
            let mut views = self.views.borrow_mut();
            let mut kept: Vec<Option<Rc<ServiceView>>> = Vec::new();
            kept.resize_with(views.len(), || None);
            for service in table.services().iter() {
                let index = service.slot as usize;
                if let Some(view) = views.get_mut(index).and_then(Option::take)
                    && Arc::ptr_eq(&view.service, service)
                {
                    kept[index] = Some(view);
                }
                if let Some(cut) = service.cut {
                    cuts.push((service.slot, cut));
                }
            }
            *views = kept;
            let mut budgets = self.budgets.borrow_mut();
            let served = table.services().iter().map(|service| service.slot);
            *budgets = served.filter_map(|slot| budgets.remove_entry(&slot)).collect();
        });
        // Who waits for a place may have to choose again.
        self.exchanges.each(|exchange| {
            if matches!(exchange.waiting.get(), Waiting::Place(_)) {
                exchange.attention.wake();
            }
        });
        if cuts.is_empty() {
            return;
        }
        let grace = self.live.load().grace.0;
        self.be_patient_for(grace);
        self.exchanges.each(|exchange| {
            let is_cut = cuts.iter().any(|(slot, cut)| {
                *slot == exchange.slot
                    && cut.variant == exchange.serving.get()
                    && exchange.generation < cut.before
            });
            if is_cut {
                let jitter = self.random.borrow_mut().f64() * JITTER;
                exchange.cut_at(now + grace.mul_f64(1.0 + jitter));
            }
        });
    }

    /// Ends copies of requests where there are to be none any more.
    fn end_mirroring(&self) {
        if self.mirrors.is_empty() {
            return;
        }
        let mirrored: HashSet<u32> = self.table(|table| {
            let mirrored = table.services().iter().filter(|service| service.mirror > Weight::ZERO);
            mirrored.map(|service| service.slot).collect()
        });
        self.mirrors.keep(|slot| mirrored.contains(&slot));
    }

    /// From now on every answer ends its connection.
    pub(super) fn drain(&self) {
        self.is_draining.set(true);
        self.clients.each(|client| client.wake());
    }

    /// Ends connections without an open request, now and as soon as they have none.
    pub(super) fn part_with_idle_clients(&self) {
        self.parts_with_idle.set(true);
        self.clients.each(|client| client.wake());
    }

    /// Ends everything that is open within a time, each at a random moment, so that clients do not come back all at
    /// once.
    pub(super) fn cut_within(&self, now: Instant, time: Duration) {
        self.be_patient_for(time);
        self.exchanges.each(|exchange| exchange.cut_at(now + time.mul_f64(self.random.borrow_mut().f64())));
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("clients", &self.clients.len())
            .field("exchanges", &self.exchanges.len())
            .finish_non_exhaustive()
    }
}
