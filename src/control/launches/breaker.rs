//! What ends a launch at once: limits that its traffic may not cross.
//!
//! Pure: what was counted is an argument. Nothing is judged before enough requests have come, and nothing that was so before the
//! launch is held against it.

use std::time::Duration;

use crate::launch::Breaker;
use crate::rollout::{grouped, span};
use crate::telemetry::Lately;
use crate::traffic::{PerVariant, Variant};

/// Checks of an endpoint that failed one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    pub variant: Variant,
    pub endpoint: String,
    pub times: u32,
    /// The last one.
    pub why: String,
}

/// The first limit that is crossed, as a sentence with its numbers. `lately` is of the last `over`; `failing` of variants that
/// get traffic.
pub(super) fn crossed(
    breaker: &Breaker,
    over: Duration,
    lately: &PerVariant<Lately>,
    failing: &[Failing],
) -> Option<String> {
    for (variant, seen) in lately.iter() {
        if seen.requests == 0 || seen.requests < breaker.min_requests {
            continue;
        }
        let ratio = seen.failure_ratio();
        if let Some(limit) = breaker.error_rate.filter(|limit| ratio > *limit) {
            return Some(format!(
                "{variant} fails {} ({} of {}) in {}; the limit is {}",
                percent(ratio),
                grouped(seen.failures),
                grouped(seen.requests),
                span(over),
                percent(limit)
            ));
        }
        if let (Some(limit), Some(p99)) = (breaker.latency_p99, seen.ttfb.p99)
            && p99 > limit
        {
            return Some(format!(
                "{variant} answers 99 % of {} requests within {} only, in {}; the limit is {}",
                grouped(seen.requests),
                millis(p99),
                span(over),
                millis(limit)
            ));
        }
    }
    let limit = breaker.health_check_failures?;
    let worst =
        failing.iter().filter(|failing| failing.times >= limit).max_by_key(|failing| failing.times)?;
    let Failing { variant, endpoint, times, why } = worst;
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    Some(format!("{times} health checks of {variant} {endpoint} in a row failed{why}; the limit is {limit}"))
}

fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let text = if percent < 1.0 { format!("{percent:.3}") } else { format!("{percent:.1}") };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{} %", if text.is_empty() { "0" } else { text })
}

fn millis(time: Duration) -> String {
    format!("{} ms", grouped(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Quantiles;

    #[test]
    fn a_limit_is_crossed_only_above_it_and_with_enough_requests() {
        #[track_caller]
        fn check(requests: u64, failures: u64, p99_ms: u64, times: u32, expected: Option<&str>) {
            let breaker = Breaker {
                error_rate: Some(0.02),
                latency_p99: Some(Duration::from_millis(800)),
                health_check_failures: Some(3),
                ..Breaker::default()
            };
            let p99 = Some(Duration::from_millis(p99_ms));
            let green = Lately {
                requests,
                failures,
                ttfb: Quantiles { p99, ..Quantiles::default() },
                ..Lately::default()
            };
            let lately = PerVariant { blue: Lately::default(), green };
            let failing = Failing {
                variant: Variant::Green,
                endpoint: "http://g:1".to_owned(),
                times,
                why: "refused".to_owned(),
            };
            let sentence = crossed(&breaker, Duration::from_secs(60), &lately, &[failing]);
            assert_eq!(sentence.as_deref(), expected);
        }
        check(1000, 20, 800, 2, None);
        check(49, 49, 9000, 0, None);
        check(0, 0, 9000, 0, None);
        check(1000, 21, 0, 0, Some("green fails 2.1 % (21 of 1,000) in 1 min; the limit is 2 %"));
        check(50, 50, 0, 0, Some("green fails 100 % (50 of 50) in 1 min; the limit is 2 %"));
        let slow = "green answers 99 % of 1,000 requests within 801 ms only, in 1 min; the limit is 800 ms";
        check(1000, 0, 801, 0, Some(slow));
        let sick = "3 health checks of green http://g:1 in a row failed (refused); the limit is 3";
        check(0, 0, 0, 3, Some(sick));
    }

    #[test]
    fn what_has_no_limit_is_not_watched() {
        let lately = Lately { requests: 1000, failures: 1000, ..Lately::default() };
        let all = PerVariant { blue: lately.clone(), green: lately };
        assert_eq!(crossed(&Breaker::default(), Duration::from_secs(10), &all, &[]), None);
    }

    #[test]
    fn small_shares_keep_their_digits() {
        let texts = [0.0005, 0.001, 0.02, 0.125, 1.0].map(percent);
        assert_eq!(texts, ["0.05 %", "0.1 %", "2 %", "12.5 %", "100 %"]);
    }
}
