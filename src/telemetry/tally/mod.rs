//! The only truth on what the data plane did.
//!
//! Each worker thread counts for itself, without locks, shared writes or clock reads, and whoever wants
//! to know adds the threads up: `status`, gates and `/metrics` all read here, so they agree. Counts are
//! kept by service and *place*, and they outlive tables: a shift, a reload or a swap of roles moves no
//! number.
//!
//! ```text
//!   worker 0 ── WorkerTally ── ServiceTally ──writes──▶ shard (lane 0, service 3) ◀─┐
//!   worker 1 ── WorkerTally ── ServiceTally ──writes──▶ shard (lane 1, service 3) ◀─┴─reads── Tallies
//! ```
//!
//! A shard is made, and entered in its lane under a lock, when a worker first meets a service; a service
//! without traffic costs nothing.

mod codes;
mod counts;
mod flights;
mod labels;
mod limits;
mod mirror;
mod shard;
mod visitors;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use counts::{ProcessCounts, QueueCounts, Totals, TunnelCounts, VariantCounts};
pub(super) use labels::IGNORED_COOKIES;
pub use labels::{CodeLabel, ConnectionRefusal, Crowding, Failure, MethodLabel, RetryReason, UpstreamError};
pub use limits::{Limit, ServiceLimit};
pub use mirror::{MirrorCounts, MirrorDrop, MirrorResult, Mirrored};
pub use shard::{Judged, Outcome, ServiceTally, Trialled};

use tokio::sync::Notify;

use super::counter::Counter;
use super::histogram::HistogramSnapshot;
use super::trial::{Board, Boards, Memory, Score};
use crate::clock::Timestamp;
use crate::traffic::{CookieError, PerVariant, Variant};
use codes::Codes;
use shard::ServiceShard;
use visitors::SeenVisitors;

/// A service's place in the tally: a dense index that control gives it for its life in this process and
/// never gives to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceSlot(pub u32);

/// All threads' counts, to read.
#[derive(Debug)]
pub struct Tallies {
    lanes: RwLock<Vec<Arc<Lane>>>,
    boards: Arc<Boards>,
}

impl Tallies {
    /// For so many worker threads. More may come later.
    pub fn new(workers: usize) -> Arc<Self> {
        let lanes = (0..workers).map(|_| Arc::default()).collect();
        Arc::new(Self { lanes: RwLock::new(lanes), boards: Arc::default() })
    }

    /// The writer's side of the worker thread with this index (from 0). There must be one at a time for
    /// each index: two would overwrite each other's counts.
    pub fn worker(self: &Arc<Self>, index: usize) -> WorkerTally {
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() <= index {
            lanes.resize_with(index + 1, Arc::default);
        }
        let (lane, boards) = (lanes[index].clone(), self.boards.clone());
        WorkerTally { lane, boards, services: RefCell::default(), seen: Cell::new(0) }
    }

    /// Everything counted for a service; `None` if nothing ever was.
    pub fn merged(&self, slot: ServiceSlot) -> Option<PerVariant<VariantCounts>> {
        let mut merged: Option<PerVariant<VariantCounts>> = None;
        for shard in self.shards(slot) {
            let counts = PerVariant::from_fn(|variant| shard.variants[variant].counts());
            match &mut merged {
                None => merged = Some(counts),
                Some(merged) => {
                    merged.blue.merge(counts.blue);
                    merged.green.merge(counts.green);
                }
            }
        }
        merged
    }

    /// What was copied to each variant of a service.
    pub fn mirrored(&self, slot: ServiceSlot) -> PerVariant<MirrorCounts> {
        let shards = self.shards(slot);
        PerVariant::from_fn(|variant| {
            let all = shards.iter().filter_map(|shard| shard.mirrors.get());
            all.fold(MirrorCounts::default(), |sum, mirrors| sum.merge(&mirrors[variant].counts()))
        })
    }

    /// Of what was copied to a variant: pairs of answers, and of these those of which only the copy or only the original
    /// failed.
    pub fn mirrored_pairs(&self, slot: ServiceSlot, variant: Variant) -> [u64; 3] {
        let mut sum = [0; 3];
        for lane in self.lanes().iter() {
            if let Some(shard) = lane.services().get(slot.0 as usize).and_then(Option::as_ref)
                && let Some(mirrors) = shard.mirrors.get()
            {
                sum.iter_mut().zip(mirrors[variant].pairs()).for_each(|(sum, count)| *sum += count);
            }
        }
        sum
    }

    /// The sums only, without histograms; `None` if nothing was ever counted.
    pub fn cheap(&self, slot: ServiceSlot) -> Option<PerVariant<Totals>> {
        let mut sum: Option<PerVariant<Totals>> = None;
        for lane in self.lanes().iter() {
            if let Some(shard) = lane.services().get(slot.0 as usize).and_then(Option::as_ref) {
                let before = sum.unwrap_or_default();
                sum = Some(before.map(|variant, totals| totals.plus(shard.variants[variant].totals())));
            }
        }
        sum
    }

    /// What is open at this moment, of all services: tunnels, and requests that are none.
    pub fn open(&self) -> (u64, u64) {
        let (mut tunnels, mut all) = (0_u64, 0_u64);
        for lane in self.lanes().iter() {
            for shard in lane.services().iter().flatten() {
                let _ = PerVariant::from_fn(|variant| {
                    tunnels += shard.variants[variant].tunnels().open();
                    all += shard.variants[variant].totals().in_flight();
                });
            }
        }
        (tunnels, all.saturating_sub(tunnels))
    }

    /// About how many different visitors each variant had in the last five to ten minutes; within about
    /// 1 % up to 100 000 of them.
    pub fn visitors(&self, slot: ServiceSlot, now: Timestamp) -> PerVariant<u64> {
        let shards = self.shards(slot);
        PerVariant::from_fn(|variant| {
            let mut seen = SeenVisitors::default();
            shards.iter().for_each(|shard| shard.variants[variant].visitors.collect(now, &mut seen));
            seen.estimate()
        })
    }

    /// The generation that every worker has reached: all routing decisions by an older table have been
    /// counted by now. 0 while a worker has not looked at any table; `u64::MAX` without workers.
    pub fn seen_generation(&self) -> u64 {
        self.lanes().iter().map(|lane| lane.seen.load(Ordering::Acquire)).min().unwrap_or(u64::MAX)
    }

    /// The oldest generation that a request in flight was routed by; `None` when nothing is in flight. Ask
    /// [`Tallies::seen_generation`] first: only what a worker has left behind cannot come back.
    pub fn oldest_in_flight(&self, slot: ServiceSlot) -> Option<u64> {
        self.shards(slot).iter().filter_map(|shard| shard.oldest.read()).min()
    }

    /// What was counted apart from any service.
    pub fn process(&self) -> ProcessCounts {
        let mut sum = ProcessCounts::default();
        for lane in self.lanes().iter() {
            // Closed before opened, so that a connection in between does not count as less than none.
            let closed = lane.connections_closed.read();
            let opened = lane.connections_opened.read();
            sum.connections_accepted += opened;
            sum.connections_open += opened.saturating_sub(closed);
            lane.unrouted.each(|code, count| *sum.unrouted.entry(code).or_default() += count);
            sum.shed += lane.shed.read();
            sum.overrides_refused += lane.overrides_refused.read();
            for (sum, count) in sum.connections_refused.iter_mut().zip(&lane.connections_refused) {
                *sum += count.read();
            }
            for (sum, count) in sum.limit_hits.iter_mut().zip(&lane.limit_hits) {
                *sum += count.read();
            }
            for (sum, count) in sum.cookies_ignored.iter_mut().zip(&lane.cookies_ignored) {
                *sum += count.read();
            }
        }
        sum
    }

    /// How often a service's bounds and deadlines were hit, in the order of [`ServiceLimit::ALL`].
    pub fn limit_hits(&self, slot: ServiceSlot) -> [u64; ServiceLimit::ALL.len()] {
        let mut sum = [0; ServiceLimit::ALL.len()];
        for shard in self.shards(slot) {
            for (sum, count) in sum.iter_mut().zip(shard.limit_hits()) {
                *sum += count;
            }
        }
        sum
    }

    /// Rings when an armed candidate failed five times in a row on one thread. One who waits for it is woken once, also
    /// if it rang before he came.
    pub fn alarm(&self) -> &Notify {
        self.boards.alarm()
    }

    /// Rings when an endpoint failed several times in a row on one thread; the same as [`Tallies::alarm`] otherwise.
    pub fn endpoints_alarm(&self) -> &Arc<Notify> {
        self.boards.endpoints()
    }

    /// A service's board.
    pub(super) fn board(&self, slot: ServiceSlot) -> Arc<Board> {
        self.boards.of(slot.0 as usize)
    }

    /// Visits every worker's score for a service.
    pub(super) fn scores(&self, slot: ServiceSlot, mut visit: impl FnMut(&Score)) {
        self.shards(slot).iter().filter_map(|shard| shard.score.get()).for_each(|score| visit(score));
    }

    /// Visits every worker's memory of a service.
    pub(super) fn memories(&self, slot: ServiceSlot, mut visit: impl FnMut(Variant, &Memory)) {
        let shards = self.shards(slot);
        let memories = shards.iter().filter_map(|shard| shard.memories.get());
        memories.flat_map(|both| both.iter()).for_each(|(variant, memory)| visit(variant, memory));
    }

    /// A variant's time to the response head, of all time.
    pub(super) fn ttfb(&self, slot: ServiceSlot, variant: Variant) -> HistogramSnapshot {
        let shards = self.shards(slot);
        let all = shards.iter().map(|shard| shard.variants[variant].ttfb());
        all.fold(HistogramSnapshot::default(), |sum, one| sum.merge(&one))
    }

    fn shards(&self, slot: ServiceSlot) -> Vec<Arc<ServiceShard>> {
        let of_slot = |lane: &Arc<Lane>| lane.services().get(slot.0 as usize).and_then(Clone::clone);
        self.lanes().iter().filter_map(of_slot).collect()
    }

    fn lanes(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Lane>>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker thread's side of the tally. Stays on its thread.
#[derive(Debug)]
pub struct WorkerTally {
    lane: Arc<Lane>,
    boards: Arc<Boards>,
    services: RefCell<Vec<Option<Rc<ServiceTally>>>>,
    seen: Cell<u64>,
}

impl WorkerTally {
    /// Where to count for a service. The first call for a slot takes a lock, others do not.
    pub fn service(&self, slot: ServiceSlot) -> Rc<ServiceTally> {
        let index = slot.0 as usize;
        if let Some(Some(tally)) = self.services.borrow().get(index) {
            return tally.clone();
        }
        let tally = ServiceTally::new(self.lane.shard(index), self.boards.of(index));
        let mut services = self.services.borrow_mut();
        if services.len() <= index {
            services.resize_with(index + 1, || None);
        }
        services[index] = Some(tally.clone());
        tally
    }

    /// From now on this worker routes by this generation or a newer one, and all it routed by older ones
    /// has been `started`.
    pub fn seen(&self, generation: u64) {
        if self.seen.replace(generation) != generation {
            self.lane.seen.store(generation, Ordering::Release);
        }
    }

    /// A client connected.
    pub fn connection_opened(&self) {
        self.lane.connections_opened.increment();
    }

    /// A client's connection is closed.
    pub fn connection_closed(&self) {
        self.lane.connections_closed.increment();
    }

    /// We ended a client's connection.
    pub fn connection_refused(&self, why: ConnectionRefusal) {
        self.lane.connections_refused[why as usize].increment();
    }

    /// A bound or deadline was hit.
    pub fn limit_hit(&self, limit: Limit) {
        self.lane.limit_hits[limit as usize].increment();
    }

    /// We answered a request that reached no service.
    pub fn unrouted(&self, code: u16) {
        self.lane.unrouted.record(CodeLabel::of(code));
    }

    /// We turned a request or a connection away because there were too many.
    pub fn shed(&self) {
        self.lane.shed.increment();
    }

    /// A cookie of our name was not believed.
    pub fn cookie_ignored(&self, error: CookieError) {
        self.lane.cookies_ignored[error as usize].increment();
    }

    /// Somebody asked for a variant without the right secret.
    pub fn override_refused(&self) {
        self.lane.overrides_refused.increment();
    }
}

/// What one thread counts, as others see it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    seen: AtomicU64,
    connections_opened: Counter,
    connections_closed: Counter,
    unrouted: Codes,
    shed: Counter,
    cookies_ignored: [Counter; IGNORED_COOKIES.len()],
    overrides_refused: Counter,
    connections_refused: [Counter; ConnectionRefusal::ALL.len()],
    limit_hits: [Counter; Limit::ALL.len()],
    shards: Shards,
}

/// By slot. Readers lock it often, so it keeps off the lines that the worker counts on.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shards(Mutex<Vec<Option<Arc<ServiceShard>>>>);

impl Lane {
    /// The shard of a service; what an earlier worker of this lane counted goes on.
    fn shard(&self, index: usize) -> Arc<ServiceShard> {
        let mut services = self.services();
        if services.len() <= index {
            services.resize_with(index + 1, || None);
        }
        services[index].get_or_insert_default().clone()
    }

    fn services(&self) -> MutexGuard<'_, Vec<Option<Arc<ServiceShard>>>> {
        self.shards.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
