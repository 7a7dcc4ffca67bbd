//! What traffic did while a launch ran, a minute at a time.
//!
//! The tally only counts up, so a minute is a difference of two looks at it. Seconds in which everybody failed are found by looking
//! each second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::launch::{Minute, Total};
use crate::telemetry::{HistogramSnapshot, ServiceSlot, Tallies, Totals, VariantCounts};
use crate::traffic::PerVariant;

/// The meters of all launches that run.
pub(super) struct Meters {
    tallies: Arc<Tallies>,
    running: Mutex<HashMap<Arc<str>, Meter>>,
}

struct Meter {
    slot: ServiceSlot,
    since: Instant,
    counts: PerVariant<VariantCounts>,
    /// The last look of a second.
    totals: PerVariant<Totals>,
    down_seconds: u64,
}

/// A stretch that was measured, and is not forgotten before it is noted.
pub(super) struct Measured {
    pub minute: Minute,
    until: Instant,
    counts: PerVariant<VariantCounts>,
}

impl Meters {
    pub fn new(tallies: Arc<Tallies>) -> Self {
        Self { tallies, running: Mutex::default() }
    }

    /// Counts from now on, if it does not yet.
    pub fn begin(&self, launch: &Arc<str>, slot: ServiceSlot, now: Instant) {
        let is_new = |meter: &Meter| meter.slot != slot;
        let mut running = self.running();
        if running.get(launch).is_none_or(is_new) {
            running.insert(launch.clone(), Meter::new(slot, now, &self.tallies));
        }
    }

    /// Looks whether somebody was answered in the last second.
    pub fn second(&self, launch: &str) {
        if let Some(meter) = self.running().get_mut(launch) {
            meter.second(&self.tallies);
        }
    }

    /// What traffic did since it was last noted.
    pub fn measure(&self, launch: &str, now: Instant) -> Option<Measured> {
        self.running().get(launch).map(|meter| meter.measure(&self.tallies, now))
    }

    /// It is noted.
    pub fn noted(&self, launch: &str, measured: Measured) {
        if let Some(meter) = self.running().get_mut(launch) {
            meter.down_seconds = meter.down_seconds.saturating_sub(measured.minute.down_seconds);
            (meter.since, meter.counts) = (measured.until, measured.counts);
        }
    }

    /// Nothing is counted for a launch any more.
    pub fn end(&self, launch: &str) {
        self.running().remove(launch);
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Arc<str>, Meter>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    fn new(slot: ServiceSlot, now: Instant, tallies: &Tallies) -> Self {
        Self {
            slot,
            since: now,
            counts: tallies.merged(slot).unwrap_or_default(),
            totals: tallies.cheap(slot).unwrap_or_default(),
            down_seconds: 0,
        }
    }

    fn second(&mut self, tallies: &Tallies) {
        let totals = tallies.cheap(self.slot).unwrap_or_default();
        let before = std::mem::replace(&mut self.totals, totals);
        let (mut requests, mut failures) = (0_u64, 0_u64);
        for (variant, totals) in totals.iter() {
            requests += totals.requests.saturating_sub(before[variant].requests);
            failures += totals.failures.saturating_sub(before[variant].failures);
        }
        if requests > 0 && failures >= requests {
            self.down_seconds += 1;
        }
    }

    fn measure(&self, tallies: &Tallies, now: Instant) -> Measured {
        let counts = tallies.merged(self.slot).unwrap_or_default();
        let since = |variant| counts[variant].totals.since(self.counts[variant].totals);
        let variants = PerVariant::from_fn(|variant| {
            let totals = since(variant);
            Total {
                requests: totals.requests,
                failures: totals.failures.saturating_add(totals.late_failures),
            }
        });
        let ttfb = |variant| counts[variant].ttfb.since(&self.counts[variant].ttfb);
        let both: PerVariant<HistogramSnapshot> = PerVariant::from_fn(ttfb);
        let p95 = both.blue.merge(&both.green).quantile(0.95);
        let minute = Minute {
            span_ms: u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX),
            variants,
            down_seconds: self.down_seconds,
            p95_us: p95.map(|p95| u64::try_from(p95.as_micros()).unwrap_or(u64::MAX)),
        };
        Measured { minute, until: now, counts }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::telemetry::{Failure, MethodLabel, Outcome};
    use crate::traffic::Variant;

    #[test]
    fn a_minute_is_what_came_since_the_last_one_that_was_noted() {
        let tallies = Tallies::new(1);
        let shop = tallies.worker(0).service(ServiceSlot(0));
        let request = |variant, code: u16| {
            let failure = (code >= 500).then_some(Failure::Status);
            let ttfb = Some(Duration::from_millis(10));
            shop.started(variant, 1);
            shop.outcome(Outcome { variant, code, method: MethodLabel::Get, ttfb, failure });
        };
        let (launch, start): (Arc<str>, _) = ("l".into(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        request(Variant::Blue, 500);
        let meters = Meters::new(tallies.clone());
        meters.begin(&launch, ServiceSlot(0), start);
        meters.second("l");
        let total = |requests, failures| Total { requests, failures };
        assert_eq!(
            meters.measure("l", start).unwrap().minute,
            Minute::default(),
            "what was before does not count"
        );

        request(Variant::Blue, 200);
        request(Variant::Green, 503);
        meters.second("l");
        request(Variant::Green, 503);
        meters.second("l");
        meters.second("l");
        meters.begin(&launch, ServiceSlot(0), at(3));
        let first = meters.measure("l", at(3)).unwrap();
        assert_eq!(
            (first.minute.span_ms, first.minute.down_seconds),
            (3000, 1),
            "one second was all failures"
        );
        assert_eq!(first.minute.variants, PerVariant { blue: total(1, 0), green: total(2, 2) });
        assert!(first.minute.p95_us.is_some_and(|p95| (9_500..=10_500).contains(&p95)));

        request(Variant::Green, 200);
        meters.noted("l", first);
        let second = meters.measure("l", at(63)).unwrap().minute;
        assert_eq!((second.span_ms, second.down_seconds), (60_000, 0));
        assert_eq!(
            second.variants,
            PerVariant { blue: total(0, 0), green: total(1, 0) },
            "nothing is lost between"
        );
        meters.end("l");
        assert!(meters.measure("l", at(64)).is_none());
    }
}
