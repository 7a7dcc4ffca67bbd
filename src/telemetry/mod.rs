//! What happened, and who may know.
//!
//! The proxy counts into the [`Tallies`] and writes the access log; control, `status` and `/metrics` read
//! the same numbers. Nothing here is waited for by a request: counting is a plain store, and a full log
//! drops its line and counts that.

mod access_log;
pub mod control_metrics;
mod counter;
mod histogram;
pub mod listener;
pub mod names;
pub mod page;
mod tally;
mod trial;
mod window;

pub use access_log::{
    AccessEntry, AccessLog, AccessLogError, AccessLogHandle, AccessLogSettings, AccessLogTarget,
    AccessLogWrite,
};
pub use control_metrics::ControlMetrics;
pub use histogram::{Histogram, HistogramSnapshot};
pub use page::{
    CertificateFacts, EndpointFacts, Facts, LaunchFacts, RolloutFacts, ServiceFacts, VariantFacts,
};
pub use tally::{
    CodeLabel, ConnectionRefusal, Crowding, Failure, Judged, Limit, MethodLabel, MirrorCounts, MirrorDrop,
    MirrorResult, Mirrored, Outcome, ProcessCounts, QueueCounts, RetryReason, ServiceLimit, ServiceSlot,
    ServiceTally, Tallies, Totals, Trialled, TunnelCounts, UpstreamError, VariantCounts, WorkerTally,
};
pub use trial::{
    FailureNote, Gauge, RecentFailure, Remembered, SLOW_LIMITS, STALL_MIN, StratumLook, TrialLook, Trials,
    Units,
};
pub use window::{Lately, Quantiles, WindowView, Windows};
