use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::telemetry::{Failure, Judged, MethodLabel, Outcome, ServiceTally, WorkerTally};
use crate::traffic::Reason::{self, Cookie, Draw, Killed, Override, Ratchet, User, Weight};
use crate::traffic::Variant::{Blue, Green};

const SHOP: ServiceSlot = ServiceSlot(1);
const GAUGE: Gauge = Gauge { era: 7, candidate: Green, rollout: 7, latency_ratio: 1.2 };
const WELL: Judged =
    Judged { is_failure: false, is_client_error: false, is_success: false, waited: None, is_again: false };
const FAILING: Judged = Judged { is_failure: true, ..WELL };

struct Scene {
    tallies: Arc<Tallies>,
    workers: Vec<WorkerTally>,
    trials: Trials,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        let tallies = Tallies::new(2);
        let workers = vec![tallies.worker(0), tallies.worker(1)];
        let mut trials = Trials::new(tallies.clone());
        trials.arm(SHOP, GAUGE);
        Self { tallies, workers, trials, start: clock::now() }
    }

    fn shop(&self, worker: usize) -> Rc<ServiceTally> {
        self.workers[worker].service(SHOP)
    }

    fn judge(&self, variant: Variant, reason: Reason, unit: u64, judged: Judged) -> bool {
        let shop = self.shop(0);
        shop.trialled(self.era(), variant, reason, || unit).is_some_and(|unit| shop.judge(&unit, judged))
    }

    fn era(&self) -> u64 {
        self.trials.running[SHOP.0 as usize].as_ref().map_or(GAUGE.era, |trial| trial.gauge.era)
    }

    fn look(&mut self, second: u64) -> TrialLook {
        self.trials.look(SHOP, self.start + Duration::from_secs(second)).unwrap()
    }
}

fn units(units: u64, events: u64) -> Units {
    Units { units, events }
}

#[test]
fn only_what_chance_assigned_is_judged() {
    let scene = Scene::new();
    for reason in Reason::ALL {
        let is_judged = scene.judge(Green, reason, 1, WELL);
        assert_eq!(is_judged, matches!(reason, User | Cookie | Draw), "{reason:?}");
    }
    let shop = scene.shop(0);
    for reason in [Killed, Override, Weight, Ratchet] {
        assert!(shop.trialled(7, Green, reason, || unreachable!("nobody asks")).is_none());
    }
    assert!(shop.trialled(6, Green, Draw, || 1).is_none());
    assert!(shop.trialled(8, Green, Draw, || 1).is_none());
}

#[test]
fn every_draw_is_a_unit_and_a_visitor_is_one_for_each_window() {
    let mut scene = Scene::new();
    for _ in 0..10 {
        scene.judge(Green, Draw, 1, FAILING);
        scene.judge(Green, User, 1, FAILING);
        scene.judge(Green, Cookie, 1, WELL);
        scene.judge(Blue, Cookie, 2, WELL);
    }
    let look = scene.look(0);
    assert_eq!(look.strata[0].errors.green, units(1, 1));
    assert_eq!(look.strata[1].errors.green, units(1, 0));
    assert_eq!(look.strata[1].errors.blue, units(1, 0));
    assert_eq!(look.strata[2].errors.green, units(10, 10));
    assert_eq!(look.failed_visitors, 11);

    // He is still there, but he has failed; the one who has not is at risk without coming again.
    let look = scene.look(1);
    assert_eq!(look.strata[0].errors.green, units(0, 0));
    assert_eq!(look.strata[1].errors.green, units(1, 0));
    assert_eq!(look.strata[2].errors.green, units(0, 0));
    assert_eq!(look.failed_visitors, 11);
}

#[test]
fn kinds_are_told_apart() {
    let mut scene = Scene::new();
    scene.judge(Green, User, 1, Judged { is_client_error: true, ..WELL });
    scene.judge(Green, User, 2, Judged { is_success: true, ..WELL });
    scene.judge(Green, User, 3, FAILING);
    scene.judge(Green, User, 4, Judged { waited: Some(Duration::MAX), ..WELL });
    let green = scene.look(0).strata[0];
    assert_eq!(green.errors.green, units(4, 1));
    assert_eq!(green.client_errors.green, units(4, 1));
    assert_eq!(green.business.green, units(4, 1));
    assert_eq!(green.slow[0].green, units(4, 0), "nothing is slow while nothing is known");
}

#[test]
fn a_visitor_on_two_threads_is_one() {
    let mut scene = Scene::new();
    for worker in [0, 1] {
        let shop = scene.shop(worker);
        for visitor in 0..100 {
            let unit = shop.trialled(7, Blue, Cookie, || visitor).unwrap();
            shop.judge(&unit, Judged { is_failure: visitor < 40, ..WELL });
        }
    }
    let errors = scene.look(0).strata[1].errors.blue;
    assert!(errors.units.abs_diff(100) <= 2 && errors.events.abs_diff(40) <= 2, "{errors:?}");
}

#[test]
fn a_client_that_fails_for_ever_is_one_failure_in_all() {
    let mut scene = Scene::new();
    let mut events = 0;
    for second in 0..3_600 {
        scene.judge(Green, Cookie, 1, FAILING);
        scene.judge(Green, Cookie, 2, WELL);
        events += scene.look(second).strata[1].errors.green.events;
    }
    assert_eq!(events, 1);
    assert_eq!(scene.look(3_600).failed_visitors, 1);
}

#[test]
fn who_did_well_for_a_window_may_fail_again() {
    let mut scene = Scene::new();
    let mut events = Vec::new();
    for (second, judged) in [(0, FAILING), (300, WELL), (600, WELL), (900, FAILING)] {
        scene.judge(Green, Cookie, 1, judged);
        let errors = scene.look(second).strata[1].errors.green;
        events.push((errors.units, errors.events));
        // The window turns at the end of this look, so the second is the last of the first window.
    }
    assert_eq!(events, [(1, 1), (0, 0), (0, 0), (1, 1)]);
}

#[test]
fn a_window_ends_early_when_its_table_is_half_full() {
    let mut scene = Scene::new();
    for visitor in 0..50_000 {
        scene.judge(Blue, Cookie, visitor, WELL);
    }
    let seen = scene.look(0).strata[1].errors.blue.units;
    assert!(seen.abs_diff(50_000) < 500, "{seen}");
    assert_eq!(scene.look(1).strata[1].errors.blue.units, 0);
}

#[test]
fn what_was_assigned_in_another_era_is_not_judged() {
    let mut scene = Scene::new();
    let shop = scene.shop(0);
    let early = shop.trialled(7, Green, Draw, || 1).unwrap();
    assert!(shop.judge(&early, FAILING));
    scene.look(0);
    scene.trials.arm(SHOP, Gauge { era: 9, ..GAUGE });
    assert!(!shop.judge(&early, FAILING));
    assert!(scene.judge(Green, Draw, 2, WELL));
    let look = scene.look(1);
    assert_eq!((look.strata[2].errors.green, look.failed_visitors), (units(1, 0), 1));
    scene.trials.disarm(SHOP);
    assert!(!scene.judge(Green, Draw, 2, WELL));
    assert_eq!(scene.trials.look(SHOP, scene.start), None);
}

#[test]
fn counts_of_an_era_are_not_told_again_to_another_rollout() {
    let mut scene = Scene::new();
    scene.judge(Green, Draw, 1, FAILING);
    scene.judge(Green, User, 1, FAILING);
    assert_eq!(scene.look(0).failed_visitors, 2);
    scene.trials.arm(SHOP, Gauge { rollout: 8, ..GAUGE });
    assert_eq!(scene.look(1), TrialLook::default());
    scene.trials.disarm(SHOP);
    scene.trials.arm(SHOP, GAUGE);
    assert_eq!(scene.look(2), TrialLook::default());
    scene.judge(Green, User, 1, FAILING);
    assert_eq!(scene.look(3).strata[0].errors.green, units(1, 1));
}

#[test]
fn a_higher_weight_does_not_give_a_broken_client_another_failure() {
    let mut scene = Scene::new();
    scene.judge(Green, User, 1, FAILING);
    scene.look(0);
    scene.trials.arm(SHOP, Gauge { era: 8, ..GAUGE });
    scene.judge(Green, User, 1, FAILING);
    let look = scene.look(1);
    assert_eq!((look.strata[0].errors.green, look.failed_visitors), (units(0, 0), 1));
}

#[test]
fn arming_again_changes_nothing() {
    let mut scene = Scene::new();
    scene.judge(Green, User, 1, FAILING);
    scene.trials.arm(SHOP, GAUGE);
    scene.trials.arm(SHOP, Gauge { latency_ratio: 2.0, ..GAUGE });
    assert_eq!(scene.look(0).strata[0].errors.green, units(1, 1));
}

#[test]
fn all_outcomes_are_told_with_the_ones_that_are_judged() {
    let mut scene = Scene::new();
    let outcome =
        |variant, failure| Outcome { variant, code: 200, method: MethodLabel::Get, ttfb: None, failure };
    let shop = scene.shop(1);
    shop.outcome(outcome(Blue, None));
    shop.outcome(outcome(Green, Some(Failure::Status)));
    let look = scene.look(0);
    assert_eq!(look.requests, PerVariant { blue: 1, green: 1 });
    assert_eq!(look.failures, PerVariant { blue: 0, green: 1 });
    assert_eq!(scene.look(1), TrialLook::default());
}

#[test]
fn slow_is_longer_than_stable_was_before() {
    let mut scene = Scene::new();
    let shop = scene.shop(0);
    let ms = Duration::from_millis;
    for nth in 1..=100 {
        let ttfb = Some(ms(nth));
        shop.outcome(Outcome { variant: Blue, code: 200, method: MethodLabel::Get, ttfb, failure: None });
    }
    assert_eq!(shop.stall(), None);
    scene.look(0);
    assert_eq!(shop.stall(), Some(STALL_MIN));
    for variant in [Blue, Green] {
        for waited in [50, 51, 96, 101, 120, 121] {
            scene.judge(variant, Draw, 1, Judged { waited: Some(ms(waited)), ..WELL });
        }
    }
    let slow = scene.look(1).strata[2].slow;
    let events = |variant: Variant| slow.map(|limit| limit[variant].events);
    // p50, p90, p95, p99 of 1 to 100 ms, up to an edge: 50, 90, 96, 100 ms. A fifth more: 60, 110, 120, 120 ms.
    assert_eq!(events(Blue), [5, 4, 3, 3]);
    assert_eq!(events(Green), [4, 2, 1, 1]);
    assert!(slow.iter().all(|limit| limit.blue.units == 6));
}

#[test]
fn five_failures_of_the_candidate_in_a_row_ring() {
    let rings = |scene: &Scene| {
        let mut bell = std::pin::pin!(scene.tallies.alarm().notified());
        bell.as_mut().enable()
    };
    let scene = Scene::new();
    for nth in 0..20 {
        scene.judge(Green, Draw, nth, if nth % 5 == 4 { WELL } else { FAILING });
        scene.judge(Blue, Draw, nth, FAILING);
    }
    assert!(!rings(&scene), "four in a row, and stable's do not count");
    for nth in 0..5 {
        assert!(!rings(&scene));
        // What stable does in between says nothing about the candidate.
        scene.judge(Blue, Draw, nth, WELL);
        scene.judge(Green, Cookie, nth, FAILING);
    }
    assert!(rings(&scene));
    assert!(!rings(&scene), "once");
}

#[test]
fn a_late_failure_is_an_event_and_no_other_request() {
    let mut scene = Scene::new();
    let late = Judged { is_again: true, ..FAILING };
    for (unit, first) in [(1, WELL), (2, WELL), (3, FAILING)] {
        scene.judge(Green, Draw, unit, first);
        scene.judge(Green, User, unit, first);
    }
    scene.judge(Green, Draw, 1, late);
    scene.judge(Green, User, 1, late);
    let strata = scene.look(0).strata;
    assert_eq!(strata[2].errors.green, units(3, 2));
    assert_eq!(strata[0].errors.green, units(3, 2));
    scene.judge(Green, Draw, 2, late);
    assert_eq!(scene.look(1).strata[2].errors.green, units(1, 1));
}

#[test]
fn about_half_of_the_units_are_in_the_half() {
    let mut scene = Scene::new();
    for unit in 0..10_000 {
        scene.judge(Blue, Draw, unit, FAILING);
        scene.judge(Blue, User, unit, FAILING);
    }
    let look = scene.look(0);
    for stratum in [0, 2] {
        let half = look.strata[stratum].half.blue;
        assert!(half.events.abs_diff(5_000) < 600 && half.units == half.events, "{half:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Doing {
    Judge { worker: usize, variant: Variant, reason: Reason, unit: u64, judged: Judged },
    Look { seconds: u64 },
    Era,
}

fn doing() -> impl Strategy<Value = Doing> {
    let variant = prop_oneof![Just(Blue), Just(Green)];
    let reason = prop_oneof![Just(User), Just(Cookie), Just(Draw)];
    let judged = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(0..10u64))
        .prop_map(|(is_failure, is_client_error, is_success, is_again, waited)| Judged {
            is_failure,
            is_client_error,
            is_success,
            is_again,
            waited: waited.map(Duration::from_secs),
        });
    prop_oneof![
        20 => (0..2usize, variant, reason, 0..30u64, judged).prop_map(|(worker, variant, reason, unit, judged)| {
            Doing::Judge { worker, variant, reason, unit, judged }
        }),
        3 => (0..200u64).prop_map(|seconds| Doing::Look { seconds }),
        1 => Just(Doing::Era),
    ]
}

proptest! {
    #[test]
    fn there_are_never_more_events_than_units_nor_more_than_visitors_in_a_window(
        all in prop::collection::vec(doing(), 0..300),
    ) {
        let mut scene = Scene::new();
        let (mut second, mut era) = (0, 7);
        for doing in all {
            match doing {
                Doing::Judge { worker, variant, reason, unit, judged } => {
                    let shop = scene.shop(worker);
                    let unit = shop.trialled(era, variant, reason, || unit).unwrap();
                    prop_assert!(shop.judge(&unit, judged));
                }
                Doing::Look { seconds } => {
                    second += seconds;
                    let look = scene.look(second);
                    for (index, stratum) in look.strata.iter().enumerate() {
                        let lists = [stratum.errors, stratum.client_errors, stratum.business, stratum.half];
                        for list in lists.iter().chain(&stratum.slow) {
                            for (_, Units { units, events }) in list.iter() {
                                prop_assert!(units >= events);
                                prop_assert!(index == 2 || *units <= 30, "{look:?}");
                            }
                        }
                        for variant in Variant::ALL {
                            prop_assert!(stratum.half[variant].events <= stratum.errors[variant].events);
                        }
                    }
                }
                Doing::Era => {
                    era += 1;
                    scene.trials.arm(SHOP, Gauge { era, ..GAUGE });
                }
            }
        }
    }
}
