//! What counting costs a request, and what reading costs everybody else.
//!
//! `cargo bench --bench tally`

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use tidegate::clock::Timestamp;
use tidegate::telemetry::page::{self, EndpointFacts, Facts, ServiceFacts, VariantFacts};
use tidegate::telemetry::{
    Gauge, Judged, MethodLabel, Outcome, ServiceSlot, ServiceTally, Tallies, Trials, WorkerTally,
};
use tidegate::traffic::{PerVariant, Reason, Role, Variant, Weight};

fn main() {
    divan::main();
}

/// Durations from 0.1 to 100 ms, so that branches and cache lines are not always the same.
fn next(state: &Cell<u64>) -> Duration {
    state.set(state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    Duration::from_nanos(100_000 + (state.get() >> 33) % 99_900_000)
}

fn count_request(tally: &ServiceTally, took: Duration) {
    let variant = Variant::Green;
    tally.started(variant, 7);
    tally.assigned(variant, Reason::Cookie);
    let outcome = Outcome { variant, code: 200, method: MethodLabel::Get, ttfb: Some(took), failure: None };
    tally.outcome(outcome);
    tally.finished(variant, 7, took, None);
}

/// Everything a plain request counts, the look-up of its service included.
#[divan::bench(sample_size = 1000)]
fn request(bencher: Bencher<'_, '_>) {
    let (worker, state) = (Tallies::new(1).worker(0), Cell::new(1));
    bencher.bench_local(|| count_request(&worker.service(black_box(ServiceSlot(3))), next(&state)));
}

/// The unflattering case: each request is for another one of ten thousand services, so nothing is cached.
#[divan::bench(sample_size = 1000)]
fn request_over_ten_thousand_services(bencher: Bencher<'_, '_>) {
    let (_tallies, worker) = busy(10_000);
    let state = Cell::new(1);
    bencher.bench_local(|| {
        let took = next(&state);
        count_request(&worker.service(ServiceSlot((state.get() >> 40) as u32 % 10_000)), took);
    });
}

#[divan::bench(sample_size = 1000)]
fn visitor(bencher: Bencher<'_, '_>) {
    let (worker, state) = (Tallies::new(1).worker(0), Cell::new(1));
    let tally = worker.service(ServiceSlot(0));
    let now = Timestamp::from_millis(1_800_000_000_000);
    bencher.bench_local(|| tally.visitor(Variant::Green, next(&state).as_nanos() as u64, black_box(now)));
}

/// What being judged adds to a request: nothing on trial, each request drawn, visitors of a thousand or of a million.
#[divan::bench(sample_size = 1000, args = ["off", "draw", "few visitors", "many visitors"])]
fn judged(bencher: Bencher<'_, '_>, what: &str) {
    let (tallies, state) = (Tallies::new(1), Cell::new(1));
    let tally = tallies.worker(0).service(ServiceSlot(0));
    let mut trials = Trials::new(tallies);
    let (reason, visitors) = match what {
        "draw" => (Reason::Draw, 1),
        "few visitors" => (Reason::Cookie, 1_000),
        _ => (Reason::Cookie, 1_000_000),
    };
    if what != "off" {
        let gauge = Gauge { era: 7, candidate: Variant::Green, rollout: 7, latency_ratio: 1.2 };
        trials.arm(ServiceSlot(0), gauge);
    }
    bencher.bench_local(|| {
        let waited = Some(next(&state));
        let unit = || (state.get() >> 20) % visitors;
        if let Some(trialled) = tally.trialled(black_box(7), Variant::Green, reason, unit) {
            tally.judge(&trialled, Judged { waited, ..Judged::default() });
            tally.sampled(&trialled, MethodLabel::Get, || "/orders/17".into());
        }
    });
}

/// What one look a second costs for a service that is judged.
#[divan::bench]
fn look(bencher: Bencher<'_, '_>) {
    let (tallies, _worker) = busy(1);
    let mut trials = Trials::new(tallies);
    let gauge = Gauge { era: 7, candidate: Variant::Green, rollout: 7, latency_ratio: 1.2 };
    trials.arm(ServiceSlot(0), gauge);
    let now = tidegate::clock::now();
    bencher.bench_local(|| trials.look(black_box(ServiceSlot(0)), now));
}

#[divan::bench]
fn read_one_service(bencher: Bencher<'_, '_>) {
    let (tallies, _worker) = busy(1);
    bencher.bench_local(|| tallies.merged(black_box(ServiceSlot(0))));
}

#[divan::bench]
fn read_sums_of_ten_thousand_services(bencher: Bencher<'_, '_>) {
    let (tallies, _worker) = busy(10_000);
    bencher.bench_local(|| {
        (0..10_000)
            .filter_map(|slot| tallies.cheap(ServiceSlot(slot)))
            .map(|sums| sums.green.requests)
            .sum::<u64>()
    });
}

#[divan::bench(args = [1, 100, 10_000], sample_count = 10)]
fn page_of_busy_services(bencher: Bencher<'_, '_>, services: u32) {
    let (tallies, _worker) = busy(services);
    let facts = Facts { services: (0..services).map(describe).collect(), ..Facts::default() };
    bencher.bench_local(|| page::render(&tallies, &facts));
}

fn busy(services: u32) -> (Arc<Tallies>, WorkerTally) {
    let (tallies, state) = (Tallies::new(1), Cell::new(1));
    let worker = tallies.worker(0);
    for slot in 0..services {
        let tally = worker.service(ServiceSlot(slot));
        (0..10).for_each(|_| count_request(&tally, next(&state)));
    }
    (tallies, worker)
}

fn describe(slot: u32) -> ServiceFacts {
    let variant = |role, percent| VariantFacts {
        version: "2.0.1".into(),
        role,
        weight: Weight::from_percent(percent).unwrap_or_default(),
        endpoints: vec![EndpointFacts {
            address: "10.0.0.11:3000".into(),
            healthy: true,
            requests: 1_000_000,
            ..EndpointFacts::default()
        }],
    };
    ServiceFacts {
        name: format!("service-{slot}"),
        slot: ServiceSlot(slot),
        mirror: Weight::ZERO,
        locked: None,
        rollout: None,
        launch: None,
        variants: PerVariant { blue: variant(Role::Stable, 90), green: variant(Role::Candidate, 10) },
    }
}
