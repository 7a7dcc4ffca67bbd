//! What each thread sees of an endpoint, for others to read.
//!
//! Every thread has a gauge of its own and is its only writer, so counting costs two plain moves and no cache
//! line goes back and forth; whoever wants to know adds the gauges up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One thread's view of an endpoint. Only that thread writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Gauge {
    in_flight: AtomicU64,
    attempts: AtomicU64,
    failures: AtomicU64,
    run: AtomicU64,
}

/// What has been seen of an endpoint, by one thread or by all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests and tunnels that are under way there.
    pub in_flight: u64,
    /// Attempts that ended with a response head or with an error of the endpoint.
    pub attempts: u64,
    /// Those of them that failed: 5xx, no connection, a broken one, a missed deadline.
    pub failures: u64,
    /// Failures in a row up to now; of several threads the longest row.
    pub run: u64,
}

impl Gauge {
    pub(super) fn began(&self) {
        self.in_flight.store(self.in_flight.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub(super) fn ended(&self) {
        self.in_flight.store(self.in_flight.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// An attempt is over. Returns how many have failed in a row, this one included.
    pub(crate) fn attempted(&self, has_failed: bool) -> u64 {
        self.attempts.store(self.attempts.load(Relaxed).wrapping_add(1), Relaxed);
        let run = if has_failed {
            self.failures.store(self.failures.load(Relaxed).wrapping_add(1), Relaxed);
            self.run.load(Relaxed).saturating_add(1)
        } else {
            0
        };
        // Most requests succeed after one that did: they leave the line as it is.
        if self.run.load(Relaxed) != run {
            self.run.store(run, Relaxed);
        }
        run
    }

    /// What this thread has seen.
    pub fn read(&self) -> Seen {
        Seen {
            in_flight: self.in_flight.load(Relaxed),
            attempts: self.attempts.load(Relaxed),
            failures: self.failures.load(Relaxed),
            run: self.run.load(Relaxed),
        }
    }
}

impl Seen {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            in_flight: self.in_flight + other.in_flight,
            attempts: self.attempts.wrapping_add(other.attempts),
            failures: self.failures.wrapping_add(other.failures),
            run: self.run.max(other.run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let gauge = Gauge::default();
        let runs: Vec<_> =
            [true, true, false, true].into_iter().map(|failed| gauge.attempted(failed)).collect();
        assert_eq!(runs, [1, 2, 0, 1]);
        assert_eq!(gauge.read(), Seen { in_flight: 0, attempts: 4, failures: 3, run: 1 });
        let other = Seen { in_flight: 2, attempts: 1, failures: 1, run: 5 };
        assert_eq!(gauge.read().and(other), Seen { in_flight: 2, attempts: 5, failures: 4, run: 5 });
    }
}
