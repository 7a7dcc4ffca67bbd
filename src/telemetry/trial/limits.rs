//! From when on a request is slow: what stable did in the five minutes before.
//!
//! Limits are settled before the requests that they judge, once a minute, and both variants' are edges of the same
//! histogram: whoever counts with the histogram finds what the workers found. When stable has answered
//! hardly anything of late, all it ever did in this process decides; when it has done nothing at all, nothing is
//! slow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::board::Limits;
use super::{SLOW_LIMITS, STALL_MIN};
use crate::telemetry::histogram::{HistogramSnapshot, edge_above};
use crate::traffic::{PerVariant, Variant};

const QUANTILES: [f64; SLOW_LIMITS] = [0.50, 0.90, 0.95, 0.99];
const STEP: Duration = Duration::from_secs(60);
const REACH: Duration = Duration::from_secs(300);
/// Fewer answers than this say too little.
const ANSWERS_MIN: u64 = 100;
/// A stall is so many times stable's last quantile.
const STALL_TIMES: u32 = 10;

/// Looks at stable's time to the response head, oldest first.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    looks: VecDeque<(Instant, HistogramSnapshot)>,
}

impl Latencies {
    /// Whether it is time for another look.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.looks.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= STEP)
    }

    /// Takes in everything that stable ever did, and says what is slow from now on. `None`: nothing is known of it.
    pub(super) fn look(
        &mut self,
        ever: HistogramSnapshot,
        now: Instant,
        candidate: Variant,
        ratio: f64,
    ) -> Option<Limits> {
        let age = |at: Instant| now.saturating_duration_since(at);
        while self.looks.get(1).is_some_and(|(at, _)| age(*at) >= REACH) {
            self.looks.pop_front();
        }
        let lately = self.looks.front().map(|(_, before)| ever.since(before));
        let basis = lately.filter(|lately| lately.count() >= ANSWERS_MIN);
        let limits = limits(basis.as_ref().unwrap_or(&ever), candidate, ratio);
        // Until something is known, every look counts as the first.
        if limits.is_some() {
            self.looks.push_back((now, ever));
        }
        limits
    }
}

fn limits(stable: &HistogramSnapshot, candidate: Variant, ratio: f64) -> Option<Limits> {
    let worst = stable.quantile_edge(QUANTILES[SLOW_LIMITS - 1])?;
    let edges = QUANTILES.map(|q| stable.quantile_edge(q));
    let ratio = if ratio.is_finite() { ratio.clamp(1.0, 1e6) } else { 1.0 };
    let slow = PerVariant::from_fn(|variant| {
        let is_candidate = variant == candidate;
        edges.map(|edge| if is_candidate { edge_above(edge?.mul_f64(ratio)) } else { edge })
    });
    Some(Limits { slow, stall: Some(worst.saturating_mul(STALL_TIMES).max(STALL_MIN)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::telemetry::Histogram;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn nothing_is_slow_until_stable_has_answered() {
        let mut latencies = Latencies::default();
        let now = clock::now();
        assert_eq!(latencies.look(HistogramSnapshot::default(), now, Variant::Green, 1.2), None);
        assert!(latencies.are_due(now));
        let histogram = Histogram::default();
        histogram.record(ms(10));
        let limits = latencies.look(histogram.snapshot(), now, Variant::Green, 1.2).unwrap();
        assert_eq!(limits.slow.blue, [Some(ms(10)); SLOW_LIMITS]);
        assert_eq!(limits.slow.green, [Some(ms(12)); SLOW_LIMITS]);
        assert_eq!(limits.stall, Some(STALL_MIN));
        assert!(!latencies.are_due(now + ms(59_999)) && latencies.are_due(now + ms(60_000)));
    }

    #[test]
    fn limits_follow_the_last_five_minutes() {
        let (mut latencies, histogram, start) = (Latencies::default(), Histogram::default(), clock::now());
        for minute in 0..=12 {
            let limits = latencies.look(histogram.snapshot(), start + minute * STEP, Variant::Green, 2.0);
            match minute {
                0 => assert_eq!(limits, None),
                1..=6 => assert_eq!(limits.unwrap().slow.blue[3], Some(ms(1_000)), "{minute}"),
                // Both kinds are within reach: the slow ones are the worst of it.
                7..=10 => assert_eq!(limits.unwrap().slow.blue[3], Some(ms(1_000)), "{minute}"),
                11.. => {
                    let limits = limits.unwrap();
                    assert_eq!((limits.slow.blue[3], limits.slow.green[3]), (Some(ms(10)), Some(ms(20))));
                }
            }
            let took = if minute < 6 { ms(1_000) } else { ms(10) };
            (0..200).for_each(|_| histogram.record(took));
        }
        assert!(latencies.looks.len() <= 7);
    }

    #[test]
    fn a_stall_is_ten_times_the_worst_but_never_short() {
        let histogram = Histogram::default();
        histogram.record(ms(2_000));
        let limits = limits(&histogram.snapshot(), Variant::Blue, f64::NAN).unwrap();
        assert_eq!(limits.stall, Some(ms(20_000)));
        assert_eq!(limits.slow.blue, limits.slow.green);
    }
}
