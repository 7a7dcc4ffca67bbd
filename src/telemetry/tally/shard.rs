//! What one thread counts for one service.
//!
//! Each shard is an allocation of its own, aligned so that no two share a cache line (or a pair of
//! lines, which processors fetch together). Readers hold it by `Arc`; only [`ServiceTally`], which
//! cannot leave its thread, writes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::counter::Counter;
use super::super::histogram::Histogram;
use super::codes::Codes;
use super::counts::{Totals, VariantCounts};
use super::flights::{Flights, OldestInFlight};
use super::labels::{CodeLabel, Failure, MethodLabel, UpstreamError};
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
}

impl ServiceTally {
    pub(super) fn new(shard: Arc<ServiceShard>) -> Rc<Self> {
        Rc::new(Self { shard, flights: RefCell::default() })
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
    pub fn retried(&self, variant: Variant) {
        self.shard.variants[variant].retried.increment();
    }

    /// A stream was ended because its grace was over.
    pub fn cut(&self, variant: Variant) {
        self.shard.variants[variant].cut.increment();
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
    retried: Counter,
    cut: Counter,
    codes: [std::sync::OnceLock<Box<Codes>>; MethodLabel::ALL.len()],
    duration: Histogram,
    ttfb: Histogram,
    connect: Histogram,
    pub(super) visitors: Visitors,
}

impl VariantShard {
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
            retried: self.retried.read(),
            cut: self.cut.read(),
        }
    }
}
