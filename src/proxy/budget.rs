//! How many retries there may be: a share of the requests, and a few a second whatever the share says.
//!
//! When everything fails, retries without a bound multiply the load on what fails already. With one, endpoints get at
//! most that share on top. Each request pays its share of a retry in, and a retry takes a whole one out; what is not
//! used is kept up to a small burst, so that a budget that was saved in good times cannot make a storm of a bad one.
//!
//! One for each variant of a service and each thread, so nothing is shared: a bad candidate does not use up what stable
//! needs. The floor is split over the threads.

use std::cell::Cell;
use std::time::Instant;

use crate::routing::Retries;

/// One retry; smaller parts of it are counted in millionths.
const RETRY: u64 = 1_000_000;
/// So many retries may come at once on top of what the floor gives.
const BURST: u64 = 10;
/// So many seconds of the floor may come at once.
const FLOOR_SECONDS: u64 = 10;

/// What a budget gets and keeps, in millionths of a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// With each request.
    share: u64,
    /// With each second.
    floor: u64,
    /// At most.
    kept_max: u64,
}

impl Terms {
    /// For one of `threads` threads.
    pub(super) fn of(retries: Option<&Retries>, threads: u32) -> Self {
        let Some(retries) = retries else { return Self { share: 0, floor: 0, kept_max: 0 } };
        let share = u64::from(retries.budget.millipercent()) * RETRY / 100_000;
        let floor = u64::from(retries.budget_floor) * RETRY / u64::from(threads.max(1));
        let burst = if share == 0 && floor == 0 { 0 } else { BURST * RETRY };
        Self { share, floor, kept_max: burst + floor * FLOOR_SECONDS }
    }
}

/// What is left for retries. Full at first.
#[derive(Debug)]
pub(super) struct Budget {
    terms: Cell<Terms>,
    left: Cell<u64>,
    /// Up to when the floor was paid in.
    paid: Cell<Instant>,
}

impl Budget {
    pub(super) fn new(terms: Terms, now: Instant) -> Self {
        Self { terms: Cell::new(terms), left: Cell::new(terms.kept_max), paid: Cell::new(now) }
    }

    /// Other terms from now on; what they do not let it keep is gone.
    pub(super) fn change(&self, terms: Terms) {
        self.terms.set(terms);
        self.left.set(self.left.get().min(terms.kept_max));
    }

    /// A request pays its share in.
    pub(super) fn pay_in(&self) {
        let Terms { share, kept_max, .. } = self.terms.get();
        self.left.set((self.left.get() + share).min(kept_max));
    }

    /// Takes a retry out, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let Terms { floor, kept_max, .. } = self.terms.get();
        let elapsed = now.saturating_duration_since(self.paid.get());
        self.paid.set(self.paid.get().max(now));
        let floor = u128::from(floor) * elapsed.as_micros() / 1_000_000;
        let floor = u64::try_from(floor).unwrap_or(kept_max).min(kept_max);
        let left = (self.left.get() + floor).min(kept_max);
        let rest = left.checked_sub(RETRY);
        self.left.set(rest.unwrap_or(left));
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock;
    use crate::traffic::Weight;

    fn retries(percent: u32, budget_floor: u32) -> Retries {
        Retries { budget: Weight::from_percent(percent).unwrap(), budget_floor, ..Retries::default() }
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Requests(u64),
        Passes(Duration),
        Fails(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0u64..2000).prop_map(Event::Requests),
            (0u64..20_000).prop_map(|millis| Event::Passes(Duration::from_millis(millis))),
            (0u64..500).prop_map(Event::Fails),
        ]
    }

    proptest! {
        #[test]
        fn retries_never_exceed_floor_share_and_burst(
            percent in 0u32..=100,
            floor in 0u32..50,
            threads in 1u32..9,
            events in prop::collection::vec(event(), 0..40),
        ) {
            let begun = clock::now();
            let terms = Terms::of(Some(&retries(percent, floor)), threads);
            let budget = Budget::new(terms, begun);
            let (mut requests, mut made, mut now) = (0u64, 0u64, begun);
            for event in events {
                match event {
                    Event::Requests(count) => {
                        (0..count).for_each(|_| budget.pay_in());
                        requests += count;
                    }
                    Event::Passes(time) => now += time,
                    Event::Fails(count) => made += (0..count).filter(|_| budget.take(now)).count() as u64,
                }
                let floor = f64::from(floor) / f64::from(threads) * (now - begun).as_secs_f64();
                let burst = 10.0 + f64::from(terms.floor as u32) * 10.0 / 1e6;
                let allowed = floor + f64::from(percent) / 100.0 * requests as f64 + burst;
                prop_assert!(made as f64 <= allowed + 1e-3, "{made} of {allowed}");
            }
        }

        #[test]
        fn who_fails_less_than_the_share_is_always_tried_again(percent in 1u32..=100, requests in 0u64..5000) {
            let now = clock::now();
            let budget = Budget::new(Terms::of(Some(&retries(percent, 0)), 1), now);
            let every = u64::from(100u32.div_ceil(percent));
            for number in 0..requests {
                budget.pay_in();
                prop_assert!(!number.is_multiple_of(every) || budget.take(now));
            }
        }
    }

    #[test]
    fn the_floor_comes_with_time_and_is_split_over_the_threads() {
        let now = clock::now();
        let budget = Budget::new(Terms::of(Some(&retries(0, 4)), 2), now);
        let take = |now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(take(now), 30);
        assert_eq!(take(now + Duration::from_millis(499)), 0);
        assert_eq!(take(now + Duration::from_millis(500)), 1);
        assert_eq!(take(now), 0);
        assert_eq!(take(now + Duration::from_secs(2)), 3);
        assert_eq!(take(now + Duration::from_secs(3600)), 30);
    }

    #[test]
    fn without_share_and_floor_there_is_nothing_and_new_terms_take_what_is_too_much() {
        let now = clock::now();
        let nothing = Terms::of(Some(&retries(0, 0)), 1);
        assert_eq!(nothing, Terms::of(None, 1));
        let budget = Budget::new(Terms::of(Some(&retries(100, 100)), 1), now);
        assert!(budget.take(now));
        budget.change(nothing);
        budget.pay_in();
        assert!(!budget.take(now + Duration::from_secs(60)));
    }
}
