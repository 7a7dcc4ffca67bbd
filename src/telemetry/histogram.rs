//! How long things took: counts in buckets whose edges are round decimal numbers.
//!
//! Log-linear like an HDR histogram, but decimal instead of binary: each decade from 1 µs to 1000 s
//! has 20 buckets from 1 to 2, 30 from 2 to 5 and 25 from 5 to 10, so none is wider than 5 % of its
//! lower edge, and every bound that Prometheus users choose (0.0025, 0.3, 10) *is* an edge. What
//! `/metrics` says about a bound is then a count, not an estimate, and a gate that reads the same
//! histogram agrees with it.
//!
//! Buckets are `(lower, upper]`, as Prometheus' `le` is inclusive. This is the one place with intervals
//! open below.

use std::sync::OnceLock;
use std::time::Duration;

use super::counter::Counter;

/// Buckets per decade.
const PER_DECADE: usize = 75;
/// From 1 µs to 1000 s.
const DECADES: usize = 9;
/// All buckets: one for up to 1 µs, the decades, one above 1000 s.
const BUCKETS: usize = DECADES * PER_DECADE + 2;
/// The bucket of everything up to 1 µs.
const UNDERFLOW: usize = 0;
/// The bucket of everything above 1000 s.
const OVERFLOW: usize = BUCKETS - 1;

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 1_000_000_000_000;
/// A twentieth of each decade's first number: the width of its narrowest buckets.
const TWENTIETH_NS: [u64; DECADES] =
    [50, 500, 5_000, 50_000, 500_000, 5_000_000, 50_000_000, 500_000_000, 5_000_000_000];

/// Durations counted by one thread and read by others. A decade costs 600 bytes from its first sample on.
#[derive(Debug, Default)]
pub struct Histogram {
    under: Counter,
    over: Counter,
    decades: [OnceLock<Box<Decade>>; DECADES],
    sum_ns: Counter,
}

#[derive(Debug)]
struct Decade([Counter; PER_DECADE]);

impl Histogram {
    /// Counts one duration. Only the owning thread calls it.
    pub(super) fn record(&self, duration: Duration) {
        let ns = whole_ns(duration);
        match bucket_of(ns) {
            UNDERFLOW => self.under.increment(),
            OVERFLOW => self.over.increment(),
            bucket => {
                let (decade, within) = ((bucket - 1) / PER_DECADE, (bucket - 1) % PER_DECADE);
                self.decades[decade].get_or_init(Box::default).0[within].increment();
            }
        }
        self.sum_ns.add(ns);
    }

    /// What has been counted so far.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut buckets = Vec::new();
        let mut put = |bucket: usize, count: u64| {
            if count > 0 {
                buckets.push((bucket as u16, count));
            }
        };
        put(UNDERFLOW, self.under.read());
        for (decade, block) in self.decades.iter().enumerate() {
            for (within, count) in block.get().iter().flat_map(|block| block.0.iter().enumerate()) {
                put(1 + decade * PER_DECADE + within, count.read());
            }
        }
        put(OVERFLOW, self.over.read());
        HistogramSnapshot { buckets, sum_ns: self.sum_ns.read() }
    }
}

impl Default for Decade {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// Counts at one moment: plain, mergeable, and small when the durations are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Bucket and count, in order; never a count of zero.
    buckets: Vec<(u16, u64)>,
    sum_ns: u64,
}

impl HistogramSnapshot {
    /// How many durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// All durations added up, to the nanosecond.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The duration that the share `q` (0.0 to 1.0, clamped) of all durations does not exceed, by nearest
    /// rank, interpolated inside its bucket: within 5 % of the exact one from 1 µs to 1000 s. Above
    /// that it says 1000 s. `None` when nothing was counted.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 || q.is_nan() {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0;
        for &(bucket, within) in &self.buckets {
            if below + within >= rank {
                let (lower, upper) = (lower_ns(bucket.into()), upper_ns(bucket.into()));
                let part = (rank - below) as f64 / within as f64;
                return Some(Duration::from_nanos(lower + ((upper - lower) as f64 * part) as u64));
            }
            below += within;
        }
        None
    }

    /// The edge at or above [`HistogramSnapshot::quantile`]: how many durations are longer than it is known exactly.
    /// `None` when nothing was counted, or the quantile is above 1000 s, where there is no edge.
    pub fn quantile_edge(&self, q: f64) -> Option<Duration> {
        edge_above(self.quantile(q)?)
    }

    /// How many durations were at most `le`: exact when `le` is an edge, otherwise those up to the
    /// next lower edge.
    pub fn cumulative(&self, le: Duration) -> u64 {
        let le = whole_ns(le);
        let inside = |bucket: u16| usize::from(bucket) != OVERFLOW && upper_ns(bucket.into()) <= le;
        self.buckets.iter().take_while(|(bucket, _)| inside(*bucket)).map(|(_, count)| count).sum()
    }

    /// How many durations were longer than `limit`: exact when it is an edge, otherwise those above the
    /// next lower edge.
    pub fn count_above(&self, limit: Duration) -> u64 {
        self.count() - self.cumulative(limit)
    }

    /// Both together.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        self.combine(other, u64::saturating_add)
    }

    /// What was counted after `earlier`; what `earlier` has more of counts as zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.combine(earlier, u64::saturating_sub)
    }

    fn combine(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        let mut buckets = Vec::with_capacity(self.buckets.len().max(other.buckets.len()));
        let (mut mine, mut theirs) = (self.buckets.iter().peekable(), other.buckets.iter().peekable());
        loop {
            let bucket = match (mine.peek(), theirs.peek()) {
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((bucket, _)), None) | (None, Some((bucket, _))) => *bucket,
                (None, None) => break,
            };
            let a = mine.next_if(|(a, _)| *a == bucket).map_or(0, |(_, count)| *count);
            let b = theirs.next_if(|(b, _)| *b == bucket).map_or(0, |(_, count)| *count);
            let count = with(a, b);
            if count > 0 {
                buckets.push((bucket, count));
            }
        }
        Self { buckets, sum_ns: with(self.sum_ns, other.sum_ns) }
    }
}

/// The first edge that is not below `duration`; `None` above 1000 s.
pub(super) fn edge_above(duration: Duration) -> Option<Duration> {
    let bucket = bucket_of(whole_ns(duration));
    (bucket != OVERFLOW).then(|| Duration::from_nanos(upper_ns(bucket)))
}

fn whole_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The bucket whose `(lower, upper]` holds `ns`.
fn bucket_of(ns: u64) -> usize {
    if ns <= LOWEST_NS {
        return UNDERFLOW;
    }
    if ns > HIGHEST_NS {
        return OVERFLOW;
    }
    // The last nanosecond that belongs below an edge is the edge itself.
    let ns = ns - 1;
    let decade = ns.ilog10() as usize - 3;
    // In twentieths of the decade's first number: 20..200.
    let twentieths = (ns / TWENTIETH_NS[decade]) as usize;
    let within = match twentieths {
        ..40 => twentieths - 20,
        40..100 => 20 + (twentieths - 40) / 2,
        100.. => 50 + (twentieths - 100) / 4,
    };
    1 + decade * PER_DECADE + within
}

/// The largest duration of a bucket; for the last one, which has none, its lower edge.
fn upper_ns(bucket: usize) -> u64 {
    match bucket {
        UNDERFLOW => LOWEST_NS,
        OVERFLOW.. => HIGHEST_NS,
        _ => {
            let (decade, within) = ((bucket - 1) / PER_DECADE, (bucket - 1) % PER_DECADE + 1);
            let twentieths = match within {
                ..=20 => 20 + within,
                21..=50 => 40 + (within - 20) * 2,
                51.. => 100 + (within - 50) * 4,
            };
            twentieths as u64 * TWENTIETH_NS[decade]
        }
    }
}

/// The edge that a bucket starts above.
fn lower_ns(bucket: usize) -> u64 {
    if bucket == UNDERFLOW { 0 } else { upper_ns(bucket - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(ns: impl IntoIterator<Item = u64>) -> HistogramSnapshot {
        let histogram = Histogram::default();
        ns.into_iter().for_each(|ns| histogram.record(Duration::from_nanos(ns)));
        histogram.snapshot()
    }

    fn any_ns() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..3_000, 900_000u64..3_000_000, 1u64..=HIGHEST_NS, any::<u64>()]
    }

    #[test]
    fn an_edge_belongs_to_the_bucket_below_it() {
        for bucket in 0..OVERFLOW {
            let edge = upper_ns(bucket);
            assert_eq!(bucket_of(edge), bucket, "{edge}");
            assert_eq!(bucket_of(edge + 1), bucket + 1, "{edge}");
            assert!(lower_ns(bucket) < edge);
            if bucket > UNDERFLOW {
                assert!(
                    (edge - lower_ns(bucket)) * 20 <= lower_ns(bucket),
                    "bucket below {edge} is wider than 5 %"
                );
            }
        }
        assert_eq!(bucket_of(0), UNDERFLOW);
        assert_eq!(bucket_of(u64::MAX), OVERFLOW);
        assert_eq!(upper_ns(OVERFLOW - 1), HIGHEST_NS);
    }

    #[test]
    fn a_quantile_of_nothing_is_nothing() {
        assert_eq!(HistogramSnapshot::default().quantile(0.5), None);
        assert_eq!(of([5]).quantile(f64::NAN), None);
        assert_eq!(of([HIGHEST_NS + 1]).quantile(0.5), Some(Duration::from_secs(1000)));
    }

    #[test]
    fn nothing_is_exact_below_and_above_the_range_but_everything_is_counted() {
        let all = of([0, 1, 1_000, HIGHEST_NS, HIGHEST_NS + 1, u64::MAX]);
        assert_eq!(all.count(), 6);
        assert_eq!(all.cumulative(Duration::from_micros(1)), 3);
        assert_eq!(all.cumulative(Duration::from_secs(1000)), 4);
        assert_eq!(all.cumulative(Duration::MAX), 4);
        assert_eq!(all.count_above(Duration::from_secs(1000)), 2);
    }

    #[test]
    fn a_limit_is_rounded_up_to_an_edge() {
        for (ns, edge) in
            [(0, 1_000), (1_000, 1_000), (1_001, 1_050), (2_000, 2_000), (2_001, 2_100), (9_999, 10_000)]
        {
            assert_eq!(edge_above(Duration::from_nanos(ns)), Some(Duration::from_nanos(edge)));
            assert_eq!(of([ns]).quantile_edge(0.99), Some(Duration::from_nanos(edge)));
        }
        assert_eq!(edge_above(Duration::from_nanos(HIGHEST_NS)), Some(Duration::from_secs(1000)));
        assert_eq!(edge_above(Duration::from_nanos(HIGHEST_NS + 1)), None);
        assert_eq!(HistogramSnapshot::default().quantile_edge(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_five_percent_of_the_exact_one(
            mut ns in prop::collection::vec(LOWEST_NS + 1..=HIGHEST_NS, 1..200), q in 0.0f64..=1.0,
        ) {
            let got = of(ns.iter().copied()).quantile(q).unwrap().as_nanos() as f64;
            ns.sort_unstable();
            let rank = ((q * ns.len() as f64).ceil() as usize).clamp(1, ns.len());
            let exact = ns[rank - 1] as f64;
            prop_assert!((got - exact).abs() <= exact * 0.05, "{} for {}", got, exact);
        }

        #[test]
        fn merging_is_counting_together(a in prop::collection::vec(any_ns(), 0..50), b in prop::collection::vec(any_ns(), 0..50)) {
            let wrapping: u64 = a.iter().chain(&b).fold(0, |sum, ns| sum.wrapping_add(*ns));
            let mut merged = of(a.iter().copied()).merge(&of(b.iter().copied()));
            merged.sum_ns = wrapping;
            prop_assert_eq!(merged, of(a.into_iter().chain(b)));
        }

        #[test]
        fn what_was_before_can_be_taken_away(
            a in prop::collection::vec(0u64..=HIGHEST_NS, 0..50), b in prop::collection::vec(0u64..=HIGHEST_NS, 0..50),
        ) {
            let (before, after) = (of(a.iter().copied()), of(a.iter().chain(&b).copied()));
            prop_assert_eq!(after.since(&before), of(b));
            prop_assert_eq!(before.since(&after), HistogramSnapshot::default());
        }

        #[test]
        fn counts_at_an_edge_are_exact(ns in prop::collection::vec(any_ns(), 0..100), bucket in 0..OVERFLOW) {
            let edge = upper_ns(bucket);
            let exact = ns.iter().filter(|ns| **ns <= edge).count() as u64;
            let snapshot = of(ns);
            prop_assert_eq!(snapshot.cumulative(Duration::from_nanos(edge)), exact);
            prop_assert_eq!(snapshot.count_above(Duration::from_nanos(edge)), snapshot.count() - exact);
        }
    }
}
