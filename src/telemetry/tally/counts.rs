//! What the tally says at one moment: plain numbers, merged over the threads.

use std::collections::BTreeMap;

use super::super::histogram::HistogramSnapshot;
use super::labels::{CodeLabel, ConnectionRefusal, Crowding, MethodLabel, RetryReason, UpstreamError};
use super::limits::Limit;
use crate::traffic::Reason;

/// Everything counted for one variant of one service since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantCounts {
    /// The sums.
    pub totals: Totals,
    /// Outcomes by method and status code; never a zero.
    pub requests: BTreeMap<(MethodLabel, CodeLabel), u64>,
    /// From the request's arrival to the last byte of its response.
    pub duration: HistogramSnapshot,
    /// From the request head written to the response head received; what gates read.
    pub ttfb: HistogramSnapshot,
    /// From the start of a connection attempt to the connection.
    pub connect: HistogramSnapshot,
    /// Errors of endpoints, hidden ones included; never a zero.
    pub upstream_errors: BTreeMap<UpstreamError, u64>,
    /// Routing decisions by rule, in the order of [`Reason::ALL`].
    pub assignments: [u64; Reason::ALL.len()],
    /// Requests that another variant answered for this one.
    pub spilled: u64,
    /// Further attempts after a failed first one by what failed, in the order of [`RetryReason::ALL`].
    pub retries: [u64; RetryReason::ALL.len()],
    /// Failed attempts that nothing followed because the budget of retries was used up.
    pub budget_exhausted: u64,
    /// What waited for a place at an endpoint.
    pub queue: QueueCounts,
    /// Responses before the final one that end here, 100 (Continue) apart.
    pub informational: u64,
    /// Streams that were ended because their grace after a kill or rollback was over.
    pub cut: u64,
    /// What went through tunnels to it.
    pub tunnels: TunnelCounts,
}

/// Tunnels to one variant: connections that changed their protocol, such as WebSockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounts {
    /// Tunnels so far.
    pub opened: u64,
    /// Those that are over.
    pub closed: u64,
    /// Bytes that clients sent.
    pub bytes_from_client: u64,
    /// Bytes that endpoints sent.
    pub bytes_from_endpoint: u64,
}

impl TunnelCounts {
    /// How many are open.
    pub const fn open(self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }
}

/// Requests that waited for a place at an endpoint of one variant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Those that began to wait.
    pub entered: u64,
    /// Those that do not wait any more, for whatever reason.
    pub left: u64,
    /// How long they waited.
    pub duration: HistogramSnapshot,
    /// Those that found no place, in the order of [`Crowding::ALL`].
    pub shed: [u64; Crowding::ALL.len()],
}

impl QueueCounts {
    /// How many wait now.
    pub const fn waiting(&self) -> u64 {
        self.entered.saturating_sub(self.left)
    }
}

/// The sums of one variant: cheap enough to be read every second for ten thousand services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Outcomes: each request counts once, when its response head is there or cannot come.
    pub requests: u64,
    /// Outcomes that were failures.
    pub failures: u64,
    /// Responses that went wrong after their head: a second failure of the same request.
    pub late_failures: u64,
    /// Outcomes with a 4xx code, which are not failures.
    pub client_errors: u64,
    /// Requests whose routing decision was taken.
    pub started: u64,
    /// Requests that are over, to the last byte.
    pub finished: u64,
}

impl VariantCounts {
    /// How often this rule sent a request here.
    pub fn assigned(&self, reason: Reason) -> u64 {
        self.assignments[reason as usize]
    }

    /// How many further attempts there were, for whatever reason.
    pub fn retried(&self) -> u64 {
        self.retries.iter().sum()
    }

    /// Adds what another thread counted.
    pub(super) fn merge(&mut self, other: Self) {
        self.totals = self.totals.plus(other.totals);
        for (key, count) in other.requests {
            *self.requests.entry(key).or_default() += count;
        }
        self.duration = self.duration.merge(&other.duration);
        self.ttfb = self.ttfb.merge(&other.ttfb);
        self.connect = self.connect.merge(&other.connect);
        for (error, count) in other.upstream_errors {
            *self.upstream_errors.entry(error).or_default() += count;
        }
        for (mine, count) in self.assignments.iter_mut().zip(other.assignments) {
            *mine += count;
        }
        self.spilled += other.spilled;
        for (mine, count) in self.retries.iter_mut().zip(other.retries) {
            *mine += count;
        }
        self.budget_exhausted += other.budget_exhausted;
        self.queue.entered += other.queue.entered;
        self.queue.left += other.queue.left;
        self.queue.duration = self.queue.duration.merge(&other.queue.duration);
        for (mine, count) in self.queue.shed.iter_mut().zip(other.queue.shed) {
            *mine += count;
        }
        self.informational += other.informational;
        self.cut += other.cut;
        self.tunnels.opened += other.tunnels.opened;
        self.tunnels.closed += other.tunnels.closed;
        self.tunnels.bytes_from_client += other.tunnels.bytes_from_client;
        self.tunnels.bytes_from_endpoint += other.tunnels.bytes_from_endpoint;
    }
}

impl Totals {
    /// Requests that have started and are not over yet.
    pub const fn in_flight(self) -> u64 {
        self.started.saturating_sub(self.finished)
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            failures: self.failures + other.failures,
            late_failures: self.late_failures + other.late_failures,
            client_errors: self.client_errors + other.client_errors,
            started: self.started + other.started,
            finished: self.finished + other.finished,
        }
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
            late_failures: self.late_failures.saturating_sub(earlier.late_failures),
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
            started: self.started.saturating_sub(earlier.started),
            finished: self.finished.saturating_sub(earlier.finished),
        }
    }
}

/// What the whole process counted apart from any service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Client connections accepted.
    pub connections_accepted: u64,
    /// Client connections open now.
    pub connections_open: u64,
    /// Requests we answered without a service, by status code; never a zero.
    pub unrouted: BTreeMap<CodeLabel, u64>,
    /// Requests we refused to take on because a queue or a table was full.
    pub shed: u64,
    /// Cookies that were not believed, in the order garbled, forged, expired.
    pub cookies_ignored: [u64; 3],
    /// Testers' overrides that were not believed.
    pub overrides_refused: u64,
    /// Client connections that we ended, in the order of [`ConnectionRefusal::ALL`].
    pub connections_refused: [u64; ConnectionRefusal::ALL.len()],
    /// How often each bound and deadline was hit, in the order of [`Limit::ALL`].
    pub limit_hits: [u64; Limit::ALL.len()],
}

impl ProcessCounts {
    /// How many client connections we ended for this reason.
    pub const fn refused(&self, why: ConnectionRefusal) -> u64 {
        self.connections_refused[why as usize]
    }

    /// How often this bound or deadline was hit.
    pub const fn hits(&self, limit: Limit) -> u64 {
        self.limit_hits[limit as usize]
    }
}
