//! How a service did lately: the last ten seconds and the last minute, for `status`.
//!
//! The tally only counts up, so a window is a difference of two looks at it. Once a second the sums of
//! every service are compared with the last look; only for services where something happened a ring of
//! looks is kept: sums each second, histograms each five seconds. Quantiles of a window therefore reach
//! up to five seconds further back than its rates. Ten thousand idle services cost one comparison each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::histogram::HistogramSnapshot;
use super::tally::{ServiceSlot, Tallies, Totals, VariantCounts};
use crate::traffic::{PerVariant, Variant};

const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);
/// How often histograms are looked at.
const HISTOGRAMS_EVERY: Duration = Duration::from_secs(5);

/// What lately means, for every service.
#[derive(Debug)]
pub struct Windows {
    tallies: Arc<Tallies>,
    /// By slot.
    tracks: Vec<Option<Box<Track>>>,
    /// The first and the last look.
    sampled: Option<(Instant, Instant)>,
}

/// Both windows of a variant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowView {
    /// The last ten seconds.
    pub short: Lately,
    /// The last minute.
    pub long: Lately,
}

/// What happened in a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lately {
    /// How long the window really is: shorter in a service's first seconds; zero without any look back.
    pub span: Duration,
    /// Outcomes.
    pub requests: u64,
    /// Failures, late ones included.
    pub failures: u64,
    /// Answers with a 4xx code.
    pub client_errors: u64,
    /// To the response head; see [`VariantCounts::ttfb`].
    pub ttfb: Quantiles,
    /// To the last byte; see [`VariantCounts::duration`].
    pub duration: Quantiles,
}

/// Half, nearly all, and all but the worst hundredth; `None` when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the quantile of its name")]
pub struct Quantiles {
    pub p50: Option<Duration>,
    pub p95: Option<Duration>,
    pub p99: Option<Duration>,
}

impl Windows {
    /// Nothing has been looked at yet.
    pub fn new(tallies: Arc<Tallies>) -> Self {
        Self { tallies, tracks: Vec::new(), sampled: None }
    }

    /// Looks at these services; call it once a second. A slot that is left out keeps what is known of it.
    pub fn sample(&mut self, now: Instant, slots: impl IntoIterator<Item = ServiceSlot>) {
        for slot in slots {
            let Some(totals) = self.tallies.cheap(slot) else { continue };
            let index = slot.0 as usize;
            if self.tracks.len() <= index {
                self.tracks.resize_with(index + 1, || None);
            }
            match &mut self.tracks[index] {
                Some(track) => track.look(now, totals, &self.tallies, slot),
                // Before the last look there was nothing; before the first one nobody knows.
                empty => {
                    let (tallies, before) = (&self.tallies, self.sampled);
                    let mut track = match before {
                        Some((_, before)) => Track::from_nothing(before),
                        None => Track::from_here(now, totals, tallies, slot),
                    };
                    track.look(now, totals, tallies, slot);
                    *empty = Some(Box::new(track));
                }
            }
        }
        self.sampled = Some((self.sampled.map_or(now, |(first, _)| first), now));
    }

    /// Forgets what a service did up to now: other software runs there from here on.
    pub fn restart(&mut self, slot: ServiceSlot, now: Instant) {
        let Some(totals) = self.tallies.cheap(slot) else { return };
        if let Some(Some(track)) = self.tracks.get_mut(slot.0 as usize) {
            **track = Track::from_here(now, totals, &self.tallies, slot);
        }
    }

    /// What happened in the last `window`, at most a minute.
    pub fn lately(&self, slot: ServiceSlot, now: Instant, window: Duration) -> PerVariant<Lately> {
        let track = self.tracks.get(slot.0 as usize).and_then(Option::as_ref);
        let (Some(track), Some(counts)) = (track, self.tallies.merged(slot)) else {
            return PerVariant::default();
        };
        let window = window.min(LONG);
        PerVariant::from_fn(|variant| track.lately(now, window, Duration::ZERO, variant, &counts[variant]))
    }

    /// The windows that end now. All zero for a service that was never seen to do anything.
    pub fn view(&self, slot: ServiceSlot, now: Instant) -> PerVariant<WindowView> {
        let track = self.tracks.get(slot.0 as usize).and_then(Option::as_ref);
        let (Some(track), Some((first, _)), Some(counts)) = (track, self.sampled, self.tallies.merged(slot))
        else {
            return PerVariant::default();
        };
        // A service that woke up within the window was silent before, and that is part of its rate.
        let watched = now.saturating_duration_since(first);
        let lately = |window: Duration, variant| {
            track.lately(now, window, window.min(watched), variant, &counts[variant])
        };
        PerVariant::from_fn(|variant| WindowView {
            short: lately(SHORT, variant),
            long: lately(LONG, variant),
        })
    }
}

impl Lately {
    /// Requests per second.
    pub fn request_rate(&self) -> f64 {
        if self.span.is_zero() { 0.0 } else { self.requests as f64 / self.span.as_secs_f64() }
    }

    /// Failures per request, 0.0 to 1.0; zero without requests.
    pub fn failure_ratio(&self) -> f64 {
        self.ratio(self.failures)
    }

    /// 4xx per request, 0.0 to 1.0; zero without requests.
    pub fn client_error_ratio(&self) -> f64 {
        self.ratio(self.client_errors)
    }

    fn ratio(&self, part: u64) -> f64 {
        if self.requests == 0 { 0.0 } else { (part as f64 / self.requests as f64).min(1.0) }
    }
}

impl Quantiles {
    /// Of all durations in a histogram.
    pub fn of(histogram: &HistogramSnapshot) -> Self {
        Self { p50: histogram.quantile(0.5), p95: histogram.quantile(0.95), p99: histogram.quantile(0.99) }
    }
}

/// The looks at one service, oldest first; never without one of each kind.
#[derive(Debug)]
struct Track {
    sums: VecDeque<(Instant, PerVariant<Totals>)>,
    histograms: VecDeque<(Instant, PerVariant<Latencies>)>,
}

#[derive(Clone, Debug, Default)]
struct Latencies {
    ttfb: HistogramSnapshot,
    duration: HistogramSnapshot,
}

impl Track {
    fn from_nothing(at: Instant) -> Self {
        Self {
            sums: VecDeque::from([(at, PerVariant::default())]),
            histograms: VecDeque::from([(at, PerVariant::default())]),
        }
    }

    fn from_here(at: Instant, totals: PerVariant<Totals>, tallies: &Tallies, slot: ServiceSlot) -> Self {
        Self {
            sums: VecDeque::from([(at, totals)]),
            histograms: VecDeque::from([(at, latencies(tallies, slot))]),
        }
    }

    fn look(&mut self, now: Instant, totals: PerVariant<Totals>, tallies: &Tallies, slot: ServiceSlot) {
        self.sums.push_back((now, totals));
        forget(&mut self.sums, now);
        let idle = self.sums.front().is_some_and(|(_, oldest)| *oldest == totals);
        let due = self.histograms.back().is_none_or(|(at, _)| elapsed(*at, now) >= HISTOGRAMS_EVERY);
        if idle {
            // Nothing happened in the whole ring: one look says it all.
            self.sums = VecDeque::from([(now, totals)]);
            if self.histograms.len() > 1 {
                self.histograms = VecDeque::from([(now, latencies(tallies, slot))]);
            }
        } else if due {
            self.histograms.push_back((now, latencies(tallies, slot)));
            forget(&mut self.histograms, now);
        }
    }

    fn lately(
        &self,
        now: Instant,
        window: Duration,
        span_min: Duration,
        variant: Variant,
        counts: &VariantCounts,
    ) -> Lately {
        let (Some((since, sums)), Some((_, latencies))) =
            (baseline(&self.sums, now, window), baseline(&self.histograms, now, window))
        else {
            return Lately::default();
        };
        let sums = counts.totals.since(sums[variant]);
        let before = &latencies[variant];
        Lately {
            span: elapsed(*since, now).max(span_min),
            requests: sums.requests,
            failures: sums.failures + sums.late_failures,
            client_errors: sums.client_errors,
            ttfb: Quantiles::of(&counts.ttfb.since(&before.ttfb)),
            duration: Quantiles::of(&counts.duration.since(&before.duration)),
        }
    }
}

fn latencies(tallies: &Tallies, slot: ServiceSlot) -> PerVariant<Latencies> {
    let counts = tallies.merged(slot).unwrap_or_default();
    counts.map(|_, counts| Latencies { ttfb: counts.ttfb, duration: counts.duration })
}

/// The newest look that is at least a window old, or the oldest there is.
fn baseline<T>(looks: &VecDeque<(Instant, T)>, now: Instant, window: Duration) -> Option<&(Instant, T)> {
    looks.iter().rev().find(|(at, _)| elapsed(*at, now) >= window).or(looks.front())
}

/// Drops what no window reaches back to.
fn forget<T>(looks: &mut VecDeque<(Instant, T)>, now: Instant) {
    while looks.get(1).is_some_and(|(at, _)| elapsed(*at, now) >= LONG) {
        looks.pop_front();
    }
}

fn elapsed(from: Instant, to: Instant) -> Duration {
    to.saturating_duration_since(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::telemetry::{Failure, MethodLabel, Outcome, ServiceTally};

    const SHOP: ServiceSlot = ServiceSlot(2);

    struct Scene {
        start: Instant,
        shop: std::rc::Rc<ServiceTally>,
        windows: Windows,
    }

    impl Scene {
        fn new() -> Self {
            let tallies = Tallies::new(1);
            let shop = tallies.worker(0).service(SHOP);
            Self { start: clock::now(), shop, windows: Windows::new(tallies) }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn sample(&mut self, seconds: u64) {
            self.windows.sample(self.at(seconds), [ServiceSlot(0), SHOP]);
        }

        fn green(&self, seconds: u64) -> WindowView {
            self.windows.view(SHOP, self.at(seconds)).green
        }

        fn request(&self, code: u16, ms: u64) {
            let (variant, ttfb) = (Variant::Green, Some(Duration::from_millis(ms)));
            let failure = (code >= 500).then_some(Failure::Status);
            self.shop.started(variant, 1);
            self.shop.outcome(Outcome { variant, code, method: MethodLabel::Get, ttfb, failure });
            self.shop.finished(variant, 1, Duration::from_millis(2 * ms), None);
        }
    }

    #[track_caller]
    fn near(got: Option<Duration>, ms: u64) {
        let (got, expected) = (got.expect("measured").as_secs_f64(), ms as f64 / 1000.0);
        assert!((got - expected).abs() <= expected * 0.05, "{got} is not near {expected}");
    }

    #[test]
    fn windows_hold_what_happened_in_them_and_nothing_older() {
        let mut scene = Scene::new();
        scene.sample(0);
        for second in 1..=120 {
            // Slow and failing in the first minute, fast and well in the second.
            for nth in 0..10 {
                let (code, ms) = if second > 60 { (200, 10) } else { (500 - 96 * (nth % 2), 100) };
                scene.request(code, ms);
            }
            scene.sample(second);
            if second == 60 {
                let Lately { requests, failures, client_errors, .. } = scene.green(60).long;
                assert_eq!((requests, failures, client_errors), (600, 300, 300));
                assert_eq!(scene.green(60).short.requests, 100);
                assert!((scene.green(60).short.failure_ratio() - 0.5).abs() < 1e-9);
                near(scene.green(60).short.ttfb.p99, 100);
            }
        }
        let WindowView { short, long } = scene.green(120);
        assert_eq!((short.span, short.requests, short.failures), (SHORT, 100, 0));
        assert_eq!((long.span, long.requests, long.failures), (LONG, 600, 0));
        assert!((short.request_rate() - 10.0).abs() < 1e-9);
        near(short.ttfb.p50, 10);
        near(short.ttfb.p99, 10);
        near(long.duration.p95, 20);
        assert_eq!(scene.windows.view(SHOP, scene.at(120)).blue.long.requests, 0);
    }

    #[test]
    fn the_newest_requests_count_without_waiting_for_a_look() {
        let mut scene = Scene::new();
        scene.request(200, 1);
        scene.sample(0);
        assert_eq!(scene.green(0).short.requests, 0, "what was before the first look is in no window");
        scene.request(200, 1);
        assert_eq!(scene.green(1).short.requests, 1);
        assert_eq!(scene.green(1).short.span, Duration::from_secs(1));
    }

    #[test]
    fn a_service_that_wakes_up_was_silent_for_the_rest_of_the_window() {
        let mut scene = Scene::new();
        for second in 0..30 {
            scene.sample(second);
        }
        (0..20).for_each(|_| scene.request(200, 5));
        scene.sample(30);
        let short = scene.green(30).short;
        assert_eq!((short.span, short.requests), (SHORT, 20));
        near(short.ttfb.p50, 5);
    }

    #[test]
    fn an_idle_service_keeps_one_look_and_forgets_its_past() {
        let mut scene = Scene::new();
        scene.sample(0);
        for second in 1..=200 {
            if second <= 20 || second == 200 {
                scene.request(200, if second <= 20 { 500 } else { 1 });
            }
            scene.sample(second);
            let track = scene.windows.tracks[2].as_ref().unwrap();
            assert!(track.sums.len() <= 62 && track.histograms.len() <= 14);
            if second == 199 {
                assert_eq!((track.sums.len(), track.histograms.len()), (1, 1));
                assert_eq!(scene.green(199).long.requests, 0);
                assert_eq!(scene.green(199).long.ttfb, Quantiles::default());
            }
        }
        assert_eq!(scene.green(200).long.requests, 1);
        near(scene.green(200).long.ttfb.p99, 1);
    }

    #[test]
    fn nothing_is_known_of_a_service_that_did_nothing() {
        let mut scene = Scene::new();
        scene.sample(0);
        let view = scene.windows.view(ServiceSlot(9), scene.at(1));
        assert_eq!(view, PerVariant::default());
        assert!(view.blue.short.request_rate().abs() < f64::EPSILON);
        assert!(view.blue.short.failure_ratio().abs() < f64::EPSILON);
    }
}
