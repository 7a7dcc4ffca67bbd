//! What one thread counts for one service.
//!
//! Each shard is an allocation of its own, aligned so that no two share a cache line (or a pair of
//! lines, which processors fetch together). Readers hold it by `Arc`; only [`ServiceTally`], which
//! cannot leave its thread, writes.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::super::counter::Counter;
use super::super::histogram::{Histogram, HistogramSnapshot};
use super::super::trial::{
    Board, CLIENT_ERROR, DRAW, FAILED, FailureNote, Found, Memory, SUCCESS, Score, Unit, mix, stratum,
};
use super::codes::Codes;
use super::counts::{QueueCounts, Totals, TunnelCounts, VariantCounts};
use super::flights::{Flights, OldestInFlight};
use super::labels::{CodeLabel, Crowding, Failure, MethodLabel, RetryReason, UpstreamError};
use super::limits::ServiceLimit;
use super::mirror::{MirrorDrop, MirrorShard, Mirrored};
use super::visitors::Visitors;
use crate::clock::Timestamp;
use crate::traffic::{PerVariant, Reason, Variant};

/// How a request ended for the variant it was assigned to; told once per request, at the response head
/// (gRPC: at the trailers) or at the error.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The assigned variant, also if another one answered.
    pub variant: Variant,
    /// The status code the client got.
    pub code: u16,
    /// The request's method.
    pub method: MethodLabel,
    /// From the request head written to the response head received; `None` without a response head, and
    /// for tunnels and event streams.
    pub ttfb: Option<Duration>,
    /// Why this is a failure of the variant, if it is one: what the *first* attempt met, even if a retry
    /// or a spill hid it. A client that went away, a request that was shed and a client's fault are none.
    pub failure: Option<Failure>,
}

/// Counts for one service; the only writer of its shard. Stays on its thread.
#[derive(Debug)]
pub struct ServiceTally {
    shard: Arc<ServiceShard>,
    flights: RefCell<Flights>,
    board: Arc<Board>,
}

/// A request that gates judge: what it carries from its routing decision on.
#[derive(Clone, Copy, Debug)]
pub struct Trialled(Unit);

/// What a judged request turned out to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    /// Whether it is a failure of its variant.
    pub is_failure: bool,
    /// Whether an endpoint of its variant answered with a 4xx.
    pub is_client_error: bool,
    /// Whether it is a success for the business.
    pub is_success: bool,
    /// How long it waited for the response head, or waits already; `None` where that says nothing.
    pub waited: Option<Duration>,
    /// Whether it has been judged before: then it is no other request.
    pub is_again: bool,
}

impl ServiceTally {
    pub(super) fn new(shard: Arc<ServiceShard>, board: Arc<Board>) -> Rc<Self> {
        Rc::new(Self { shard, flights: RefCell::default(), board })
    }

    /// A routing decision was taken by the table of this generation; `finished` must follow. Call it
    /// before anything is awaited, so that [`super::WorkerTally::seen`] keeps its promise.
    pub fn started(&self, variant: Variant, generation: u64) {
        self.shard.variants[variant].started.increment();
        self.flights.borrow_mut().started(generation, &self.shard.oldest);
    }

    /// A rule sent a request to a variant.
    pub fn assigned(&self, variant: Variant, reason: Reason) {
        self.shard.variants[variant].assignments[reason as usize].increment();
    }

    /// The one outcome of a request. Counts the failure's upstream error, too.
    pub fn outcome(&self, outcome: Outcome) {
        let counts = &self.shard.variants[outcome.variant];
        let code = CodeLabel::of(outcome.code);
        counts.requests.increment();
        counts.codes[outcome.method as usize].get_or_init(Box::default).record(code);
        if code.is_client_error() {
            counts.client_errors.increment();
        }
        if let Some(ttfb) = outcome.ttfb {
            counts.ttfb.record(ttfb);
        }
        match outcome.failure {
            None => {}
            Some(Failure::Status) => counts.failures.increment(),
            Some(Failure::Upstream(error)) => {
                counts.failures.increment();
                counts.upstream_errors[error as usize].increment();
            }
        }
    }

    /// Whether gates judge a request, by the era of the service that assigned it. `unit` is any hash of the visitor
    /// under `user` and `cookie`, else of the client's address; asked for only if they do.
    pub fn trialled(
        &self,
        era: u64,
        variant: Variant,
        reason: Reason,
        unit: impl FnOnce() -> u64,
    ) -> Option<Trialled> {
        if !self.board.is_armed(era) {
            return None;
        }
        Some(Trialled(Unit { era, variant, stratum: stratum(reason)?, hash: mix(unit()) }))
    }

    /// Counts for the gates, unless another era has begun. `false`: it has.
    pub fn judge(&self, trialled: &Trialled, judged: Judged) -> bool {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(judged.is_failure, FAILED)
            | flag(judged.is_client_error, CLIENT_ERROR)
            | flag(judged.is_success, SUCCESS);
        let found = Found { flags, waited: judged.waited, is_first: !judged.is_again };
        self.shard.score.get_or_init(Box::default).judge(&self.board, &trialled.0, found)
    }

    /// Without a response head for so long, a judged request counts as a failure; `None` while that is unknown.
    pub fn stall(&self) -> Option<Duration> {
        self.board.stall()
    }

    /// Notes which requests a variant gets: one in 64 of those that are judged.
    pub fn sampled<'p>(&self, trialled: &Trialled, method: MethodLabel, path: impl FnOnce() -> Cow<'p, str>) {
        self.memory(trialled.0.variant).passed(method.as_str(), path);
    }

    /// Remembers a judged request's failure for people, unless there are too many. `path` is normalised.
    pub fn failed(&self, trialled: &Trialled, at: Timestamp, failure: impl FnOnce() -> FailureNote) {
        let unit = trialled.0;
        self.memory(unit.variant)
            .failed(at.as_secs(), || failure().remember(at, (unit.stratum != DRAW).then_some(unit.hash)));
    }

    fn memory(&self, variant: Variant) -> &Memory {
        &self.shard.memories.get_or_init(Box::default)[variant]
    }

    /// A request that was `started` with the same variant and generation is over: the last byte is sent,
    /// or nobody wants it any more. `duration` runs from its arrival. A late failure is one that came
    /// after the outcome was told; its upstream error is counted, too.
    pub fn finished(
        &self,
        variant: Variant,
        generation: u64,
        duration: Duration,
        late_failure: Option<UpstreamError>,
    ) {
        let counts = &self.shard.variants[variant];
        counts.duration.record(duration);
        if let Some(error) = late_failure {
            counts.late_failures.increment();
            counts.upstream_errors[error as usize].increment();
        }
        counts.finished.increment();
        self.flights.borrow_mut().finished(generation, &self.shard.oldest);
    }

    /// An endpoint failed in a way that neither an outcome nor a late failure tells: in a second attempt,
    /// or while a tunnel was open.
    pub fn upstream_error(&self, variant: Variant, error: UpstreamError) {
        self.shard.variants[variant].upstream_errors[error as usize].increment();
    }

    /// A connection to an endpoint was made, after so long.
    pub fn connect(&self, variant: Variant, took: Duration) {
        self.shard.variants[variant].connect.record(took);
    }

    /// The other variant answers for this one, which has no healthy endpoint.
    pub fn spilled(&self, variant: Variant) {
        self.shard.variants[variant].spilled.increment();
    }

    /// One more attempt after a failed one.
    pub fn retried(&self, variant: Variant, reason: RetryReason) {
        self.shard.variants[variant].retries[reason as usize].increment();
    }

    /// No further attempt, because the budget of retries is used up.
    pub fn budget_exhausted(&self, variant: Variant) {
        self.shard.variants[variant].budget_exhausted.increment();
    }

    /// A request waits for a place at an endpoint; [`ServiceTally::dequeued`] must follow.
    pub fn queued(&self, variant: Variant) {
        self.shard.variants[variant].queued.increment();
    }

    /// It waits no more, after so long.
    pub fn dequeued(&self, variant: Variant, waited: Duration) {
        let counts = &self.shard.variants[variant];
        counts.queue_duration.record(waited);
        counts.dequeued.increment();
    }

    /// A request was turned away because there was no place at any endpoint.
    pub fn crowded_out(&self, variant: Variant, why: Crowding) {
        self.shard.variants[variant].crowded_out[why as usize].increment();
    }

    /// A bound or deadline of the service was hit.
    pub fn limit_hit(&self, limit: ServiceLimit) {
        self.shard.limit_hits[limit as usize].increment();
    }

    /// So many responses came before the final one.
    pub fn informed(&self, variant: Variant, count: u32) {
        self.shard.variants[variant].informational.add(u64::from(count));
    }

    /// A stream was ended because its grace was over.
    pub fn cut(&self, variant: Variant) {
        self.shard.variants[variant].cut.increment();
    }

    /// A tunnel to this variant begins; [`ServiceTally::tunnel_closed`] must follow.
    pub fn tunnel_opened(&self, variant: Variant) {
        self.shard.variants[variant].tunnels_opened.increment();
    }

    /// A tunnel to this variant is over.
    pub fn tunnel_closed(&self, variant: Variant) {
        self.shard.variants[variant].tunnels_closed.increment();
    }

    /// So many bytes came through a tunnel, from either side.
    pub fn tunnelled(&self, variant: Variant, from_client: u64, from_endpoint: u64) {
        let counts = &self.shard.variants[variant];
        counts.tunnel_bytes_from_client.add(from_client);
        counts.tunnel_bytes_from_endpoint.add(from_endpoint);
    }

    /// A request was copied to this variant, and both answers are known.
    pub fn mirrored(&self, variant: Variant, mirrored: &Mirrored) {
        self.mirror(variant).count(mirrored);
    }

    /// A request was not copied to this variant, or nobody wants to know what came of it.
    pub fn mirror_dropped(&self, variant: Variant, why: MirrorDrop) {
        self.mirror(variant).drop_one(why);
    }

    fn mirror(&self, variant: Variant) -> &MirrorShard {
        &self.shard.mirrors.get_or_init(Box::default)[variant]
    }

    /// A visitor was sent to this variant. Any hash that is the same for the same visitor will do.
    pub fn visitor(&self, variant: Variant, bucket_hash: u64, now: Timestamp) {
        self.shard.variants[variant].visitors.record(bucket_hash, now);
    }
}

/// One thread's counts for one service, as others see them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ServiceShard {
    pub(super) variants: PerVariant<VariantShard>,
    pub(super) oldest: OldestInFlight,
    pub(super) score: OnceLock<Box<Score>>,
    pub(super) memories: OnceLock<Box<PerVariant<Memory>>>,
    pub(super) mirrors: OnceLock<Box<PerVariant<MirrorShard>>>,
    limit_hits: [Counter; ServiceLimit::ALL.len()],
}

impl ServiceShard {
    pub(super) fn limit_hits(&self) -> impl Iterator<Item = u64> + '_ {
        self.limit_hits.iter().map(Counter::read)
    }
}

/// One thread's counts for one variant.
#[derive(Debug, Default)]
pub(super) struct VariantShard {
    requests: Counter,
    failures: Counter,
    late_failures: Counter,
    client_errors: Counter,
    started: Counter,
    finished: Counter,
    assignments: [Counter; Reason::ALL.len()],
    upstream_errors: [Counter; UpstreamError::ALL.len()],
    spilled: Counter,
    retries: [Counter; RetryReason::ALL.len()],
    budget_exhausted: Counter,
    queued: Counter,
    dequeued: Counter,
    crowded_out: [Counter; Crowding::ALL.len()],
    informational: Counter,
    cut: Counter,
    tunnels_opened: Counter,
    tunnels_closed: Counter,
    tunnel_bytes_from_client: Counter,
    tunnel_bytes_from_endpoint: Counter,
    codes: [OnceLock<Box<Codes>>; MethodLabel::ALL.len()],
    duration: Histogram,
    ttfb: Histogram,
    connect: Histogram,
    queue_duration: Histogram,
    pub(super) visitors: Visitors,
}

impl VariantShard {
    pub(super) fn ttfb(&self) -> HistogramSnapshot {
        self.ttfb.snapshot()
    }

    pub(super) fn totals(&self) -> Totals {
        // Finished before started: read the other way round, a request in between would be over
        // without having begun.
        let finished = self.finished.read();
        Totals {
            requests: self.requests.read(),
            failures: self.failures.read(),
            late_failures: self.late_failures.read(),
            client_errors: self.client_errors.read(),
            started: self.started.read(),
            finished,
        }
    }

    pub(super) fn tunnels(&self) -> TunnelCounts {
        // Closed before opened: see totals.
        let closed = self.tunnels_closed.read();
        TunnelCounts {
            opened: self.tunnels_opened.read(),
            closed,
            bytes_from_client: self.tunnel_bytes_from_client.read(),
            bytes_from_endpoint: self.tunnel_bytes_from_endpoint.read(),
        }
    }

    fn queue(&self) -> QueueCounts {
        // Left before entered: see totals.
        let left = self.dequeued.read();
        QueueCounts {
            entered: self.queued.read(),
            left,
            duration: self.queue_duration.snapshot(),
            shed: std::array::from_fn(|why| self.crowded_out[why].read()),
        }
    }

    pub(super) fn counts(&self) -> VariantCounts {
        let mut requests = BTreeMap::new();
        for (method, codes) in MethodLabel::ALL.into_iter().zip(&self.codes) {
            if let Some(codes) = codes.get() {
                codes.each(|code, count| {
                    requests.insert((method, code), count);
                });
            }
        }
        let errors = UpstreamError::ALL.into_iter().zip(&self.upstream_errors);
        VariantCounts {
            totals: self.totals(),
            requests,
            duration: self.duration.snapshot(),
            ttfb: self.ttfb.snapshot(),
            connect: self.connect.snapshot(),
            upstream_errors: errors
                .map(|(error, count)| (error, count.read()))
                .filter(|(_, count)| *count > 0)
                .collect(),
            assignments: std::array::from_fn(|reason| self.assignments[reason].read()),
            spilled: self.spilled.read(),
            retries: std::array::from_fn(|reason| self.retries[reason].read()),
            budget_exhausted: self.budget_exhausted.read(),
            queue: self.queue(),
            informational: self.informational.read(),
            cut: self.cut.read(),
            tunnels: self.tunnels(),
        }
    }
}
