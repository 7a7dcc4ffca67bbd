//! Connections that wait for their next request.
//!
//! One pool per thread and endpoint, so that taking a connection needs no lock. The one used last is taken
//! first: it is the least likely to have been closed by the endpoint, and the rest get old and go.
//!
//! By HTTP/2 a connection is shared by all requests to its endpoint, as many as the endpoint allows at once; for more
//! there are more connections, up to a bound, and then they wait.
//!
//! All connections of a thread share one bound, whatever the number of endpoints, because they take their
//! descriptors from the same process. When it is reached idle ones make room, wherever they lead.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connection::Carrier;
use super::http2::Shared;
use super::queue::Queue;
use super::{ConnectError, Connection, Credit, Endpoint, Gauge, Load, Protocol, Ramp, Upload, http1};

/// How long a connection waits for its next request.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How many wait, per thread and endpoint.
const IDLE_CONNECTIONS_MAX: usize = 128;

/// How many connections by HTTP/2 there are, per thread and endpoint.
const SHARED_CONNECTIONS_MAX: usize = 8;

/// The pools of one thread, by endpoint.
pub struct Pools<B: Upload> {
    pools: RefCell<HashMap<u32, Rc<EndpointPool<B>>>>,
    open: Rc<Cell<usize>>,
    open_max: usize,
    bell: Arc<Notify>,
}

/// The right to one open connection; it is given back when this is dropped.
#[derive(Debug)]
pub struct Slot(Rc<Cell<usize>>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl<B: Upload> Pools<B> {
    /// Without any; so many connections may be open, busy and idle. `bell` is rung when requests fail at an endpoint in
    /// a row, see [`Endpoint::ring_after`].
    pub fn new(open_max: usize, bell: Arc<Notify>) -> Self {
        Self { pools: RefCell::default(), open: Rc::default(), open_max, bell }
    }

    /// The right to open one more connection, perhaps in the place of an idle one. `None` if all are busy.
    pub fn slot(&self) -> Option<Slot> {
        if self.open.get() >= self.open_max && !self.pools.borrow().values().any(|pool| pool.make_room()) {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(Slot(self.open.clone()))
    }

    /// The same for what can be done without: only while a quarter of them is left, and at no idle one's cost.
    pub fn spare_slot(&self) -> Option<Slot> {
        if self.open.get() >= self.open_max - self.open_max / 4 {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(Slot(self.open.clone()))
    }

    /// The pool of an endpoint, made when it is first asked for.
    pub fn of(&self, endpoint: &Arc<Endpoint>) -> Rc<EndpointPool<B>> {
        let mut pools = self.pools.borrow_mut();
        let new = || Rc::new(EndpointPool::new(endpoint.clone(), self.bell.clone()));
        pools.entry(endpoint.id()).or_insert_with(new).clone()
    }

    /// Lets go of what waited too long, was closed by its endpoint, or belongs to one that rests or is retired.
    pub fn sweep(&self, now: Instant) {
        self.pools.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            !pool.endpoint.is_retired()
        });
    }
}

/// The idle connections to one endpoint, and how busy this thread keeps it.
pub struct EndpointPool<B: Upload> {
    endpoint: Arc<Endpoint>,
    gauge: Arc<Gauge>,
    credit: Credit,
    bell: Arc<Notify>,
    idle: RefCell<VecDeque<Idle<B>>>,
    shared: RefCell<Vec<Rc<Shared<B>>>>,
    /// Held by whoever makes a connection that others may share.
    connecting: tokio::sync::Mutex<()>,
    pub(super) queue: Queue,
}

struct Idle<B: Upload> {
    connection: Connection<B>,
    since: Instant,
}

impl<B: Upload> EndpointPool<B> {
    fn new(endpoint: Arc<Endpoint>, bell: Arc<Notify>) -> Self {
        Self {
            gauge: endpoint.gauge(),
            endpoint,
            credit: Credit::default(),
            bell,
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: tokio::sync::Mutex::default(),
            queue: Queue::default(),
        }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Lets go of the connection that has been idle for longest, if there is one.
    fn make_room(&self) -> bool {
        if self.idle.borrow_mut().pop_front().is_some() {
            return true;
        }
        let mut shared = self.shared.borrow_mut();
        match shared.iter().position(|connection| connection.idle_since().is_some()) {
            Some(idle) => {
                shared.swap_remove(idle);
                true
            }
            None => false,
        }
    }

    /// A new connection within `limit`, or by HTTP/2 a stream of one that was made meanwhile. Runs inside a
    /// `LocalSet`.
    ///
    /// # Errors
    ///
    /// When there is none in time.
    pub async fn connect(&self, limit: Duration, slot: Slot) -> Result<Connection<B>, ConnectError> {
        match self.endpoint.way().protocol() {
            Protocol::Http1 => {
                let connection = http1::Connection::connect(&self.endpoint, limit, slot).await?;
                Ok(Connection(Carrier::Http1(connection)))
            }
            Protocol::Http2 => {
                let timed_out = |_| ConnectError::TimedOut { url: self.endpoint.url().clone(), limit };
                tokio::time::timeout(limit, self.share(limit, slot)).await.map_err(timed_out)?
            }
        }
    }

    /// One after the other: who waits while a connection is made takes a stream of it.
    async fn share(&self, limit: Duration, slot: Slot) -> Result<Connection<B>, ConnectError> {
        let _turn = self.connecting.lock().await;
        if let Some(stream) = self.free_stream() {
            return Ok(stream);
        }
        if self.shared.borrow().len() >= SHARED_CONNECTIONS_MAX
            && let Some(least) = self.shared.borrow().iter().min_by_key(|connection| connection.open())
        {
            return Ok(Connection(Carrier::Http2(least.stream())));
        }
        let connection = Shared::connect(&self.endpoint, limit, slot).await?;
        let stream = connection.stream();
        self.shared.borrow_mut().push(connection);
        Ok(Connection(Carrier::Http2(stream)))
    }

    fn free_stream(&self) -> Option<Connection<B>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !connection.is_closed());
        let free = shared.iter().find(|connection| connection.has_room())?;
        Some(Connection(Carrier::Http2(free.stream())))
    }

    /// How much this thread asks of it at the moment.
    pub fn load(&self, ramp: Ramp) -> Load {
        Load { weight: self.endpoint.weight(), in_flight: self.in_flight(), ramp }
    }

    /// Where it stands in this thread's round.
    pub fn credit(&self) -> &Credit {
        &self.credit
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.gauge.read().in_flight).unwrap_or(u32::MAX)
    }

    /// Whether all of so many places are taken by this thread's requests, or spoken for. `None`: there is no end of them.
    pub fn is_full(&self, places: Option<u32>) -> bool {
        places.is_some_and(|places| self.in_flight() >= places || !self.queue.is_empty())
    }

    /// How many wait for a place.
    pub fn queued(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Counts a request as under way there, until the lease is dropped.
    pub fn lease(self: &Rc<Self>) -> Lease<B> {
        self.gauge.began();
        Lease { pool: self.clone() }
    }

    /// Keeps a connection whose response was read to its end for the next request.
    pub fn keep(&self, connection: Connection<B>, now: Instant) {
        self.put(connection, now);
    }

    /// Gives places to those who wait for them.
    pub(super) fn admit(&self) {
        while self.queue.give(self.endpoint.id(), self.in_flight()) {
            self.gauge.began();
        }
    }

    /// A place has become free.
    pub(super) fn left(&self) {
        self.gauge.ended();
        if !self.queue.is_empty() {
            self.admit();
        }
    }

    /// The connection used last that is still good.
    fn take(&self, now: Instant) -> Option<Connection<B>> {
        if self.endpoint.way().protocol() == Protocol::Http2 {
            return self.free_stream();
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, since }) = idle.pop_back() {
            if connection.is_idle() && now.saturating_duration_since(since) < IDLE_MAX {
                return Some(connection);
            }
        }
        None
    }

    fn put(&self, mut connection: Connection<B>, now: Instant) {
        if !connection.is_idle() || self.endpoint.is_resting() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= IDLE_CONNECTIONS_MAX {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: now });
    }

    fn sweep(&self, now: Instant) {
        if self.endpoint.is_resting() {
            self.idle.borrow_mut().clear();
            self.shared.borrow_mut().clear();
        } else {
            self.idle.borrow_mut().retain_mut(|idle| {
                idle.connection.is_idle() && now.saturating_duration_since(idle.since) < IDLE_MAX
            });
            self.shared.borrow_mut().retain(|connection| {
                let waits_too_long = |since| now.saturating_duration_since(since) >= IDLE_MAX;
                !connection.is_closed() && !connection.idle_since().is_some_and(waits_too_long)
            });
        }
    }
}

/// A request's hold on an endpoint: it counts as under way there until this is dropped.
pub struct Lease<B: Upload> {
    pool: Rc<EndpointPool<B>>,
}

impl<B: Upload> Lease<B> {
    /// Of a place that is counted already.
    pub(super) fn given(pool: &Rc<EndpointPool<B>>) -> Self {
        Self { pool: pool.clone() }
    }

    /// Where it is.
    pub fn pool(&self) -> &Rc<EndpointPool<B>> {
        &self.pool
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.pool.endpoint()
    }

    /// An idle connection, if there is a good one.
    pub fn idle_connection(&self, now: Instant) -> Option<Connection<B>> {
        self.pool.take(now)
    }

    /// An attempt is over: there is a response head, or there will be none through the endpoint's fault. Returns how
    /// many of this thread's have failed in a row, this one included.
    pub fn attempted(&self, has_failed: bool) -> u64 {
        let run = self.pool.gauge.attempted(has_failed);
        if run > 0 && self.pool.endpoint.rings_after(run) {
            self.pool.bell.notify_one();
        }
        run
    }

    /// The response was read to its end: its connection waits for the next request.
    pub fn give_back(self, connection: Connection<B>, now: Instant) {
        self.pool.put(connection, now);
    }
}

impl<B: Upload> Drop for Lease<B> {
    fn drop(&mut self) {
        self.pool.left();
    }
}

impl<B: Upload> std::fmt::Debug for Pools<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pools").field("open", &self.open.get()).finish_non_exhaustive()
    }
}

impl<B: Upload> std::fmt::Debug for EndpointPool<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (endpoint, in_flight) = (self.endpoint.label(), self.in_flight());
        f.debug_struct("EndpointPool")
            .field("endpoint", endpoint)
            .field("in_flight", &in_flight)
            .finish_non_exhaustive()
    }
}

impl<B: Upload> std::fmt::Debug for Lease<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(self.endpoint().label()).finish()
    }
}
