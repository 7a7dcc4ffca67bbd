//! What became of requests that were copied to a variant, apart from everything that visitors got.

use std::time::Duration;

use super::super::counter::Counter;
use super::super::histogram::{Histogram, HistogramSnapshot};

/// Why a request that was to be mirrored was not, or its copy's answer did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MirrorDrop {
    /// As many copies are under way as there may be.
    InFlight,
    /// There is no connection to spare.
    NoConnection,
    /// The variant has no usable endpoint.
    NoEndpoint,
    /// The request's body is too large, or did not come to its end.
    Body,
    /// The endpoint closed an idle connection at the wrong moment, and the request must not be sent twice.
    Stale,
    /// Mirroring ended while it was under way.
    Cut,
}

impl MirrorDrop {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::InFlight, Self::NoConnection, Self::NoEndpoint, Self::Body, Self::Stale, Self::Cut];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::NoConnection => "no_connection",
            Self::NoEndpoint => "no_endpoint",
            Self::Body => "body",
            Self::Stale => "stale",
            Self::Cut => "cut",
        }
    }
}

/// What a copy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MirrorResult {
    /// Its answer is like stable's, as far as they are compared.
    Equal,
    /// It is not.
    Different,
    /// There was no answer: no connection, a reset, nonsense, or none in time.
    Failed,
    /// There was nothing of stable's to compare with: its visitor went away, or stable was as late.
    Unpaired,
}

impl MirrorResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Equal, Self::Different, Self::Failed, Self::Unpaired];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Failed => "failed",
            Self::Unpaired => "unpaired",
        }
    }
}

/// A copy that is over, beside its original.
#[derive(Clone, Copy, Debug)]
pub struct Mirrored {
    /// What it came to.
    pub result: MirrorResult,
    /// Whether the classes of the statuses differ.
    pub status_differs: bool,
    /// Whether the bodies differ.
    pub body_differs: bool,
    /// Whether the copy failed and its original did not.
    pub only_copy_failed: bool,
    /// Whether the original failed and its copy did not.
    pub only_original_failed: bool,
    /// Times to the response head, the copy's and the original's, where they are compared.
    pub latency: Option<(Duration, Duration)>,
}

/// One thread's counts.
#[derive(Debug, Default)]
pub(super) struct MirrorShard {
    results: [Counter; MirrorResult::ALL.len()],
    dropped: [Counter; MirrorDrop::ALL.len()],
    status_differs: Counter,
    body_differs: Counter,
    only_copy_failed: Counter,
    only_original_failed: Counter,
    copy: Histogram,
    original: Histogram,
}

impl MirrorShard {
    pub(super) fn count(&self, mirrored: &Mirrored) {
        // Before the result: whoever has read of a pair misses nothing of what is said about it.
        for (counter, is_so) in [
            (&self.status_differs, mirrored.status_differs),
            (&self.body_differs, mirrored.body_differs),
            (&self.only_copy_failed, mirrored.only_copy_failed),
            (&self.only_original_failed, mirrored.only_original_failed),
        ] {
            if is_so {
                counter.increment();
            }
        }
        if let Some((copy, original)) = mirrored.latency {
            self.copy.record(copy);
            self.original.record(original);
        }
        self.results[mirrored.result as usize].increment();
    }

    pub(super) fn drop_one(&self, why: MirrorDrop) {
        self.dropped[why as usize].increment();
    }

    /// Pairs, and of these those of which only the copy or only the original failed.
    pub(super) fn pairs(&self) -> [u64; 3] {
        let unpaired = self.results[MirrorResult::Unpaired as usize].read();
        let all: u64 = self.results.iter().map(Counter::read).sum();
        // In this order: see `count`.
        let only = [self.only_copy_failed.read(), self.only_original_failed.read()];
        [all.saturating_sub(unpaired), only[0], only[1]]
    }

    pub(super) fn counts(&self) -> MirrorCounts {
        MirrorCounts {
            results: std::array::from_fn(|result| self.results[result].read()),
            dropped: std::array::from_fn(|why| self.dropped[why].read()),
            status_differs: self.status_differs.read(),
            body_differs: self.body_differs.read(),
            only_copy_failed: self.only_copy_failed.read(),
            only_original_failed: self.only_original_failed.read(),
            copy: self.copy.snapshot(),
            original: self.original.snapshot(),
        }
    }
}

/// Everything counted of the requests that were copied to one variant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorCounts {
    results: [u64; MirrorResult::ALL.len()],
    dropped: [u64; MirrorDrop::ALL.len()],
    /// Pairs whose statuses are of different classes.
    pub status_differs: u64,
    /// Pairs whose bodies differ.
    pub body_differs: u64,
    /// Pairs of which only the copy failed.
    pub only_copy_failed: u64,
    /// Pairs of which only the original failed.
    pub only_original_failed: u64,
    /// Times to the response head of copies.
    pub copy: HistogramSnapshot,
    /// Times to the response head of their originals.
    pub original: HistogramSnapshot,
}

impl MirrorCounts {
    /// Copies that came to this.
    pub fn came_to(&self, result: MirrorResult) -> u64 {
        self.results[result as usize]
    }

    /// Copies that were dropped for this reason.
    pub fn dropped(&self, why: MirrorDrop) -> u64 {
        self.dropped[why as usize]
    }

    /// Copies that were dropped.
    pub fn all_dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Pairs: copies that could be compared with their originals.
    pub fn compared(&self) -> u64 {
        self.results.iter().sum::<u64>() - self.came_to(MirrorResult::Unpaired)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        self.combine(other, u64::saturating_add, HistogramSnapshot::merge)
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.combine(earlier, u64::saturating_sub, HistogramSnapshot::since)
    }

    fn combine(
        &self,
        other: &Self,
        with: fn(u64, u64) -> u64,
        histograms: fn(&HistogramSnapshot, &HistogramSnapshot) -> HistogramSnapshot,
    ) -> Self {
        Self {
            results: std::array::from_fn(|at| with(self.results[at], other.results[at])),
            dropped: std::array::from_fn(|at| with(self.dropped[at], other.dropped[at])),
            status_differs: with(self.status_differs, other.status_differs),
            body_differs: with(self.body_differs, other.body_differs),
            only_copy_failed: with(self.only_copy_failed, other.only_copy_failed),
            only_original_failed: with(self.only_original_failed, other.only_original_failed),
            copy: histograms(&self.copy, &other.copy),
            original: histograms(&self.original, &other.original),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_once_and_what_came_later_can_be_told() {
        let shard = MirrorShard::default();
        let equal = Mirrored {
            result: MirrorResult::Equal,
            status_differs: false,
            body_differs: false,
            only_copy_failed: false,
            only_original_failed: false,
            latency: Some((Duration::from_millis(20), Duration::from_millis(10))),
        };
        shard.count(&equal);
        let before = shard.counts();
        shard.count(&Mirrored {
            result: MirrorResult::Different,
            status_differs: true,
            only_copy_failed: true,
            latency: None,
            ..equal
        });
        shard.count(&Mirrored { result: MirrorResult::Unpaired, latency: None, ..equal });
        shard.drop_one(MirrorDrop::InFlight);
        let after = shard.counts();
        assert_eq!((before.compared(), after.compared(), after.all_dropped()), (1, 2, 1));
        let later = after.since(&before);
        assert_eq!((later.compared(), later.status_differs, later.only_copy_failed), (1, 1, 1));
        assert_eq!((later.copy.count(), after.original.count()), (0, 1));
        assert_eq!(before.merge(&later), after);
        assert!(after.since(&after).is_empty());
    }
}
