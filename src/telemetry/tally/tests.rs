use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::traffic::{Reason, Variant};

const SHOP: ServiceSlot = ServiceSlot(3);

fn ok(variant: Variant) -> Outcome {
    let ttfb = Some(Duration::from_millis(3));
    Outcome { variant, code: 200, method: MethodLabel::Get, ttfb, failure: None }
}

fn request(tally: &ServiceTally, variant: Variant, generation: u64) {
    tally.started(variant, generation);
    tally.assigned(variant, Reason::Draw);
    tally.outcome(ok(variant));
    tally.finished(variant, generation, Duration::from_millis(4), None);
}

#[test]
fn counts_of_all_workers_add_up_by_place() {
    let tallies = Tallies::new(2);
    assert_eq!(tallies.merged(SHOP), None);
    assert_eq!(tallies.cheap(SHOP), None);
    let workers = [tallies.worker(0), tallies.worker(1)];
    for worker in &workers {
        let shop = worker.service(SHOP);
        request(&shop, Variant::Blue, 1);
        request(&shop, Variant::Green, 1);
        shop.outcome(Outcome {
            code: 502,
            ttfb: None,
            failure: Some(UpstreamError::Reset.into()),
            ..ok(Variant::Green)
        });
        shop.outcome(Outcome { code: 503, failure: Some(Failure::Status), ..ok(Variant::Green) });
        shop.outcome(Outcome { code: 404, ..ok(Variant::Green) });
        shop.retried(Variant::Green, RetryReason::Reset);
        shop.spilled(Variant::Green);
        shop.cut(Variant::Blue);
        shop.connect(Variant::Blue, Duration::from_micros(100));
        shop.upstream_error(Variant::Green, UpstreamError::Connect);
    }
    let merged = tallies.merged(SHOP).unwrap();
    assert_eq!(merged.blue.totals.requests, 2);
    assert_eq!(merged.blue.assigned(Reason::Draw), 2);
    assert_eq!(merged.blue.ttfb.count(), 2);
    assert_eq!(merged.blue.connect.count(), 2);
    assert_eq!(merged.blue.cut, 2);
    let green = merged.green;
    assert_eq!((green.totals.requests, green.totals.failures, green.totals.client_errors), (8, 4, 2));
    assert_eq!(green.requests[&(MethodLabel::Get, CodeLabel::of(502))], 2);
    assert_eq!(green.requests[&(MethodLabel::Get, CodeLabel::of(200))], 2);
    assert_eq!(green.upstream_errors[&UpstreamError::Reset], 2);
    assert_eq!(green.upstream_errors[&UpstreamError::Connect], 2);
    assert_eq!(green.upstream_errors.len(), 2);
    assert_eq!((green.retried(), green.spilled), (2, 2));
    assert_eq!(green.ttfb.count(), 6);
    assert_eq!(tallies.cheap(SHOP).unwrap().green, green.totals);
    assert_eq!(tallies.merged(ServiceSlot(0)), None);
}

#[test]
fn a_truncated_response_is_a_late_failure_beside_its_outcome() {
    let tallies = Tallies::new(1);
    let shop = tallies.worker(0).service(SHOP);
    shop.started(Variant::Blue, 1);
    shop.outcome(ok(Variant::Blue));
    assert_eq!(tallies.cheap(SHOP).unwrap().blue.in_flight(), 1);
    shop.finished(Variant::Blue, 1, Duration::from_secs(1), Some(UpstreamError::Truncated));
    let blue = tallies.merged(SHOP).unwrap().blue;
    assert_eq!((blue.totals.requests, blue.totals.failures, blue.totals.late_failures), (1, 0, 1));
    assert_eq!(blue.upstream_errors[&UpstreamError::Truncated], 1);
    assert_eq!(blue.totals.in_flight(), 0);
}

#[test]
fn counts_go_on_when_a_worker_is_replaced() {
    let tallies = Tallies::new(1);
    request(&tallies.worker(0).service(SHOP), Variant::Blue, 1);
    request(&tallies.worker(0).service(SHOP), Variant::Blue, 1);
    request(&tallies.worker(5).service(SHOP), Variant::Blue, 1);
    assert_eq!(tallies.cheap(SHOP).unwrap().blue.requests, 3);
}

#[test]
fn a_generation_is_left_when_every_worker_has_left_it_and_its_requests_are_over() {
    let tallies = Tallies::new(2);
    let workers = [tallies.worker(0), tallies.worker(1)];
    assert_eq!(tallies.seen_generation(), 0);
    workers[0].seen(7);
    assert_eq!(tallies.seen_generation(), 0);
    workers[1].seen(5);
    assert_eq!(tallies.seen_generation(), 5);
    workers[1].seen(7);
    assert_eq!(tallies.seen_generation(), 7);

    let (one, other) = (workers[0].service(SHOP), workers[1].service(SHOP));
    assert_eq!(tallies.oldest_in_flight(SHOP), None);
    one.started(Variant::Blue, 6);
    one.started(Variant::Green, 7);
    other.started(Variant::Blue, 5);
    assert_eq!(tallies.oldest_in_flight(SHOP), Some(5));
    other.finished(Variant::Blue, 5, Duration::ZERO, None);
    assert_eq!(tallies.oldest_in_flight(SHOP), Some(6));
    one.finished(Variant::Blue, 6, Duration::ZERO, None);
    assert_eq!(tallies.oldest_in_flight(SHOP), Some(7));
    one.finished(Variant::Green, 7, Duration::ZERO, None);
    assert_eq!(tallies.oldest_in_flight(SHOP), None);
    assert_eq!(Tallies::new(0).seen_generation(), u64::MAX);
}

#[test]
fn what_reaches_no_service_is_counted_for_the_process() {
    let tallies = Tallies::new(2);
    for index in 0..2 {
        let worker = tallies.worker(index);
        worker.connection_opened();
        worker.connection_opened();
        worker.connection_closed();
        worker.unrouted(404);
        worker.unrouted(9999);
        worker.shed();
        worker.override_refused();
        worker.cookie_ignored(CookieError::Forged);
    }
    let process = tallies.process();
    assert_eq!((process.connections_accepted, process.connections_open), (4, 2));
    assert_eq!(process.unrouted, BTreeMap::from([(CodeLabel::of(404), 2), (CodeLabel::of(0), 2)]));
    assert_eq!((process.shed, process.overrides_refused), (2, 2));
    assert_eq!(process.cookies_ignored, [0, 2, 0]);
}

#[test]
fn a_visitor_of_two_workers_is_one_visitor() {
    let tallies = Tallies::new(2);
    let now = Timestamp::from_millis(1_800_000_000_000);
    for index in 0..2 {
        let shop = tallies.worker(index).service(SHOP);
        (0..10).for_each(|visitor| shop.visitor(Variant::Green, visitor, now));
    }
    assert_eq!(tallies.visitors(SHOP, now), PerVariant { blue: 0, green: 10 });
    assert_eq!(tallies.visitors(ServiceSlot(0), now), PerVariant::default());
}

#[test]
fn readers_never_see_a_count_go_back_while_a_worker_writes() {
    const REQUESTS: u64 = 20_000;
    let tallies = Tallies::new(1);
    let reader = |tallies: Arc<Tallies>| {
        std::thread::spawn(move || {
            let (mut last, mut looks) = (VariantCounts::default(), 0u64);
            while last.totals.finished < REQUESTS {
                let Some(now) = tallies.merged(SHOP).map(|merged| merged.blue) else { continue };
                assert!(now.totals.requests >= last.totals.requests);
                assert!(now.totals.started >= last.totals.started);
                assert!(now.totals.finished >= last.totals.finished);
                assert!(now.totals.in_flight() <= REQUESTS);
                assert!(now.ttfb.sum() >= last.ttfb.sum());
                assert_eq!(last.ttfb.since(&now.ttfb).count(), 0, "a bucket went back");
                assert_eq!(last.duration.since(&now.duration).count(), 0, "a bucket went back");
                for (key, count) in &last.requests {
                    assert!(now.requests[key] >= *count);
                }
                last = now;
                looks += 1;
            }
            looks
        })
    };
    let readers = [reader(tallies.clone()), reader(tallies.clone())];
    let shop = tallies.worker(0).service(SHOP);
    for nth in 0..REQUESTS {
        shop.started(Variant::Blue, nth);
        shop.assigned(Variant::Blue, Reason::Draw);
        let ttfb = Some(Duration::from_micros(nth));
        shop.outcome(Outcome { code: 200 + (nth % 300) as u16, ttfb, ..ok(Variant::Blue) });
        shop.finished(Variant::Blue, nth, Duration::from_micros(nth * 3), None);
    }
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    assert_eq!(tallies.cheap(SHOP).unwrap().blue.requests, REQUESTS);
}
