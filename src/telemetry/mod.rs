//! What happened, and who may know.
//!
//! The proxy counts into the [`Tallies`] and writes the access log; control, `status` and `/metrics` read
//! the same numbers. Nothing here is waited for by a request: counting is a plain store, and a full log
//! drops its line and counts that.

mod counter;
mod histogram;
mod tally;

pub use histogram::{Histogram, HistogramSnapshot};
pub use tally::{
    CodeLabel, Failure, MethodLabel, Outcome, ProcessCounts, ServiceSlot, ServiceTally, Tallies, Totals,
    UpstreamError, VariantCounts, WorkerTally,
};
