use proptest::prelude::*;

use super::foresight::foresee;
use super::*;
use crate::rollout::evidence::{Reading, Signal};
use crate::rollout::plan::{
    Compare, Confirms, Hold, MetricGate, MetricSource, OnFail, OnInconclusive, Slo, Stage,
};
use crate::rollout::{Verdict, Windows};
use crate::traffic::Weight;

fn plan(percents: &[u32]) -> Plan {
    Plan {
        name: "test".into(),
        delay: Duration::ZERO,
        stages: percents
            .iter()
            .map(|percent| Stage {
                weight: Weight::from_percent(*percent).unwrap(),
                mirror: None,
                hold: Hold::For(Duration::from_secs(900)),
                min_requests: 0,
                max_hold: None,
                approval: false,
                gates: None,
                tolerate: None,
            })
            .collect(),
        gates: Gates::standard(),
        false_rollback: 0.01,
        warmup: Duration::from_secs(60),
        on_inconclusive: OnInconclusive::Hold,
        keep: Duration::ZERO,
        windows: Windows::default(),
        slo: None,
        confirm: Confirms::default(),
        notify: Vec::new(),
    }
}

/// A run of a judge, second by second.
struct Run {
    plan: Plan,
    judge: Judge,
    second: u64,
    stage: usize,
    began: u64,
}

impl Run {
    fn new(plan: Plan) -> Self {
        Self { judge: Judge::new(&plan), plan, second: 0, stage: 0, began: 0 }
    }

    fn tick(&mut self, evidence: &Evidence) -> Finding {
        self.second += 1;
        let moment = Moment {
            stage: self.stage,
            elapsed: Duration::from_secs(1),
            in_stage: Duration::from_secs(self.second - self.began),
            armed: Duration::from_secs(self.second),
        };
        self.judge.tick(&self.plan, moment, evidence)
    }

    /// After the warm-up, with calm traffic.
    fn warm(mut self) -> Self {
        for second in 0..120_u64 {
            let mut evidence = drawn((10, 0), (190, u64::from(second % 5 == 0)));
            evidence.strata[2].stable_half.events = u64::from(second % 10 == 0);
            self.tick(&evidence);
        }
        self
    }
}

/// Requests and failures of candidate and stable, drawn.
fn drawn(candidate: (u64, u64), stable: (u64, u64)) -> Evidence {
    let count = |(units, events)| Count { units, events };
    let mut evidence = Evidence {
        requests: PerRole { stable: stable.0, candidate: candidate.0 },
        failures: PerRole { stable: stable.1, candidate: candidate.1 },
        candidate_healthy: true,
        ..Evidence::default()
    };
    evidence.strata[2] = StratumEvidence {
        errors: PerRole { stable: count(stable), candidate: count(candidate) },
        stable_half: Count { units: stable.0 / 2, events: stable.1 / 2 },
        ..StratumEvidence::default()
    };
    evidence
}

#[test]
fn a_dead_candidate_fails_within_ten_requests() {
    #[track_caller]
    fn check(percent: u32, warm: bool, per_tick: u64) {
        let mut run = Run::new(plan(&[percent]));
        if warm {
            run = run.warm();
        }
        let stable = per_tick * u64::from(100 - percent) / u64::from(percent);
        let mut requests = 0;
        while requests < 10 {
            requests += per_tick;
            if let Some(failure) = run.tick(&drawn((per_tick, per_tick), (stable, 0))).failure {
                assert!(failure.rolls_back, "{failure:?}");
                return;
            }
        }
        panic!("{percent} %, warm: {warm}, {per_tick} a tick: evidence {}", run.judge.total());
    }
    for warm in [false, true] {
        for per_tick in [1, 5, 10] {
            check(1, warm, per_tick);
            check(5, warm, per_tick);
        }
    }
}

#[test]
fn in_short_ticks_the_chance_of_the_draw_says_more_than_who_was_there() {
    for warm in [false, true] {
        let after = |chance, stable| {
            let mut run = Run::new(plan(&[5]));
            if warm {
                run = run.warm();
            }
            let dead = Evidence { drawn: chance, ..drawn((5, 5), (stable, 0)) };
            run.tick(&dead);
            (run.tick(&dead).failure.is_some(), run.judge.total())
        };
        let ((_, seen), (has_failed, known)) = (after(None, 45), after(Some(0.05), 45));
        assert!(has_failed && known > seen, "warm: {warm}, {known} {seen}");
        // Far more than the draw explains came together: one client, not one release.
        assert_eq!(after(None, 2), after(Some(0.05), 2));
        assert_eq!(after(None, 45), after(Some(f64::NAN), 45));
    }
}

#[test]
fn a_dead_candidate_fails_at_any_weight() {
    for percent in [10, 25, 50, 75, 99] {
        let mut run = Run::new(plan(&[percent]));
        let candidate = 2 * u64::from(percent);
        let failed = (1..=30)
            .find(|_| run.tick(&drawn((candidate, candidate), (200 - candidate, 0))).failure.is_some());
        assert!(failed.is_some(), "{percent} %");
    }
}

#[test]
fn five_failures_of_one_cause_are_no_proof() {
    let mut run = Run::new(plan(&[5])).warm();
    assert_eq!(run.tick(&drawn((10, 5), (190, 0))).failure, None);
    let mut run = Run::new(plan(&[5])).warm();
    let of_visitors = |visitors| {
        let mut evidence = drawn((10, 10), (190, 0));
        evidence.strata.swap(1, 2);
        Evidence { failed_visitors: Some(visitors), ..evidence }
    };
    assert_eq!(run.tick(&of_visitors(2)).failure, None);
    assert!(run.tick(&of_visitors(20)).failure.is_some());
}

#[test]
fn a_failure_is_a_sentence_with_its_numbers() {
    let mut run = Run::new(plan(&[5])).warm();
    let failure = run.tick(&drawn((10, 10), (190, 0))).failure.unwrap();
    let start = "the candidate fails 0.83 % (10 of 1,210), stable 0.10 % (24 of 22,990); evidence ";
    assert!(failure.sentence.starts_with(start), "{}", failure.sentence);
    assert!(failure.sentence.ends_with(" of 125"), "{}", failure.sentence);
}

#[test]
fn an_outage_of_both_is_nobodys_fault() {
    for percent in [5, 50, 99] {
        let candidate = 2 * u64::from(percent);
        let stable = 200 - candidate;
        let mut run = Run::new(plan(&[percent]));
        for _ in 0..300 {
            run.tick(&drawn((candidate, 0), (stable, 0)));
        }
        let mut shared = false;
        for _ in 0..60 {
            let finding = run.tick(&drawn((candidate, candidate), (stable, stable)));
            assert_eq!(finding.failure, None, "{percent} %");
            shared |= finding.doubts.contains(&Wait::SharedIncident);
        }
        assert!(shared, "{percent} %");
        for _ in 0..180 {
            shared = run.tick(&drawn((candidate, 0), (stable, 0))).doubts.contains(&Wait::SharedIncident);
        }
        assert!(!shared, "{percent} %");
    }
}

#[test]
fn a_service_that_is_always_over_the_limit_has_no_incident() {
    let mut run = Run::new(plan(&[50]));
    for second in 0..600 {
        let failed = 4 + second % 3;
        let finding = run.tick(&drawn((100, failed), (100, failed)));
        assert_eq!(finding.failure, None);
        assert!(!finding.doubts.contains(&Wait::SharedIncident), "second {second}");
    }
}

#[test]
fn a_good_candidate_is_permitted_and_a_new_stage_asks_again() {
    let mut run = Run::new(plan(&[5, 25]));
    let mut finding = Finding::default();
    for second in 0..600_u64 {
        finding = run.tick(&drawn((10, u64::from(second % 20 == 0)), (190, 2)));
    }
    assert!(finding.permits, "{finding:?}");
    run.stage = 1;
    run.began = run.second;
    let finding = run.tick(&drawn((50, 0), (150, 2)));
    assert!(!finding.permits);
    assert!(finding.readings[0].missing.is_some_and(|missing| missing > 100), "{finding:?}");
}

#[test]
fn nothing_measured_permits_nothing() {
    let mut run = Run::new(plan(&[5]));
    let finding = run.tick(&Evidence { candidate_healthy: true, ..Evidence::default() });
    assert!(!finding.permits);
    assert_eq!(finding.doubts, [Wait::NoTraffic]);
    let mut run = Run::new(Plan { gates: Gates::none(), ..plan(&[5]) });
    assert!(run.tick(&drawn((1, 0), (9, 0))).permits);
}

#[test]
fn ten_seconds_without_an_endpoint_roll_back() {
    let mut run = Run::new(plan(&[5]));
    let sick = Evidence { candidate_healthy: false, ..drawn((0, 0), (200, 0)) };
    for _ in 0..9 {
        assert_eq!(run.tick(&sick).failure, None);
    }
    let failure = run.tick(&sick).failure.unwrap();
    assert_eq!((&*failure.gate, failure.rolls_back), ("health", true));
    assert_eq!(run.tick(&drawn((1, 0), (9, 0))).failure, None);
}

#[test]
fn a_critical_signal_rolls_back() {
    let mut run = Run::new(plan(&[5]));
    let signal = |critical| Signal { name: "db_corruption".into(), critical, actor: "pager".into() };
    let evidence = Evidence { signals: vec![signal(false)], ..drawn((1, 0), (9, 0)) };
    assert_eq!(run.tick(&evidence).failure, None);
    let evidence = Evidence { signals: vec![signal(true)], ..drawn((1, 0), (9, 0)) };
    let failure = run.tick(&evidence).failure.unwrap();
    assert_eq!(failure.sentence, "pager signalled db_corruption, which is critical");
}

#[test]
fn metrics_miss_in_a_row_and_silence_is_neither() {
    #[track_caller]
    fn check(readings: &[Option<(f64, u64)>], fails: bool, permits: bool, silent: bool) {
        let gate = MetricGate {
            name: "revenue".into(),
            source: MetricSource::Pushed { stale_after: Duration::from_secs(5) },
            pass_if: Compare::AtLeastStable(0.95),
            on_fail: OnFail::Pause,
            misses: 2,
        };
        let gates = Gates { metrics: vec![gate], ..Gates::none() };
        let mut run = Run::new(Plan { gates, ..plan(&[5]) });
        let mut finding = Finding::default();
        for reading in readings {
            let mut evidence = drawn((1, 0), (9, 0));
            if let Some((value, age_ms)) = *reading {
                let value = PerRole { stable: Some(10.0), candidate: Some(value) };
                evidence.metrics.insert("revenue".into(), Reading { value, age_ms });
            }
            finding = run.tick(&evidence);
        }
        let is_silent = finding.doubts.iter().any(|doubt| matches!(doubt, Wait::NoEvidence { .. }));
        assert_eq!((finding.failure.is_some(), finding.permits, is_silent), (fails, permits, silent));
    }
    check(&[None], false, false, true);
    check(&[Some((10.0, 0))], false, true, false);
    check(&[Some((9.0, 0))], false, false, false);
    check(&[Some((9.0, 0)), Some((9.0, 1000))], false, false, false);
    check(&[Some((9.0, 0)), Some((9.0, 0))], true, false, false);
    check(&[Some((9.0, 0)), Some((9.5, 0)), Some((9.0, 0))], false, false, false);
    check(&[Some((9.0, 0)), Some((9.0, 0)), Some((9.0, 6000))], false, false, true);
    check(&[Some((f64::NAN, 0))], false, false, true);
}

#[test]
fn a_burning_budget_waits_and_only_the_candidates_own_part_rolls_back() {
    let slo = Slo { objective: 0.999, budget_cap: 0.00001 };
    let plan = Plan { slo: Some(slo), ..plan(&[50]) };
    let mut run = Run::new(plan.clone());
    let mut finding = Finding::default();
    for _ in 0..700 {
        finding = run.tick(&drawn((100, 10), (100, 10)));
    }
    assert_eq!(finding.failure, None);
    assert!(finding.doubts.iter().any(|doubt| matches!(doubt, Wait::Burn { rate } if *rate > 90.0)));
    let mut run = Run::new(plan);
    for _ in 0..700 {
        assert_eq!(run.tick(&drawn((100, 2), (100, 2))).failure, None);
    }
    let failed = (0..600).find_map(|_| run.tick(&drawn((100, 5), (100, 2))).failure).unwrap();
    assert!(failed.rolls_back, "{failed:?}");
}

#[test]
fn a_noisy_environment_only_pauses() {
    let mut run = Run::new(plan(&[5])).warm();
    let mut noisy = drawn((10, 0), (190, 8));
    noisy.strata[2].stable_half.events = 8;
    let mut finding = Finding::default();
    for _ in 0..60 {
        finding = run.tick(&noisy);
    }
    assert!(finding.doubts.contains(&Wait::Noisy), "{finding:?}");
    let failure = (0..60).find_map(|_| run.tick(&drawn((10, 10), (190, 0))).failure).unwrap();
    assert!(!failure.rolls_back);
}

#[test]
fn slow_requests_and_4xx_pause_after_the_warm_up() {
    let mut run = Run::new(plan(&[5]));
    let mut slow = drawn((10, 0), (190, 0));
    slow.strata[2].slow[3] =
        PerRole { stable: Count { units: 190, events: 2 }, candidate: Count { units: 10, events: 8 } };
    for _ in 0..60 {
        assert_eq!(run.tick(&slow).failure, None);
    }
    let failure = (0..10).find_map(|_| run.tick(&slow).failure).unwrap();
    assert_eq!((&*failure.gate, failure.rolls_back), ("latency", false));
    // What went off long ago hides no failure that rolls back.
    let mut dead = drawn((10, 10), (190, 0));
    dead.strata[2].slow[3] = slow.strata[2].slow[3];
    let failure = run.tick(&dead).failure.unwrap();
    assert_eq!((&*failure.gate, failure.rolls_back), ("errors", true));
}

#[test]
fn state_and_a_reading_are_small() {
    let run = Run::new(plan(&[1, 5, 25, 50, 100])).warm();
    let text = serde_json::to_string(&run.judge).unwrap();
    assert!(text.len() <= 4096, "{} bytes", text.len());
    let verdict = Verdict::Wait { why: Wait::Noisy };
    assert!(serde_json::to_string(&verdict).is_ok());
}

#[test]
fn a_plan_is_told_what_it_could_notice() {
    #[track_caller]
    fn check(percent: u32, rate: f64, failing: f64, decidable: bool, sentence: &str) {
        let seen = foresee(&plan(&[percent]), rate, failing);
        assert_eq!((seen[0].decidable, seen[0].sentence.as_str()), (decidable, sentence));
    }
    check(1, 20.0, 0.01, true, "1 % for 15 min at 20 req/s sees only 10 × or worse; 5 % would see 4 ×");
    check(5, 200.0, 0.01, true, "5 % for 15 min at 200 req/s sees 2 × or worse");
    check(
        1,
        20.0,
        0.0,
        false,
        "1 % for 15 min at 20 req/s sees only 5 % failures or worse; 5 % would see 1 % failures; a good candidate needs about 73 min to be permitted",
    );
    check(
        100,
        20.0,
        0.01,
        true,
        "100 % for 15 min at 20 req/s has nobody left on stable to compare failures with; 99 % has",
    );
}

fn count() -> BoxedStrategy<Count> {
    let number = prop_oneof![Just(0), 0..300_u64, Just(u64::MAX), any::<u64>()].boxed();
    (number.clone(), number).prop_map(|(units, events)| Count { units, events }).boxed()
}

fn both() -> BoxedStrategy<PerRole<Count>> {
    (count(), count()).prop_map(|(stable, candidate)| PerRole { stable, candidate }).boxed()
}

fn stratum() -> BoxedStrategy<StratumEvidence> {
    (both(), both(), prop::collection::vec(both(), QUANTILES.len()), both(), count())
        .prop_map(|(errors, client_errors, slow, business, stable_half)| StratumEvidence {
            errors,
            client_errors,
            slow: slow.try_into().unwrap(),
            business,
            stable_half,
        })
        .boxed()
}

fn anything() -> BoxedStrategy<Evidence> {
    let chance = prop_oneof![Just(None), (0.0..=1.0f64).prop_map(Some), prop::num::f64::ANY.prop_map(Some)];
    (prop::collection::vec(stratum(), 3), any::<u64>(), any::<u64>(), any::<bool>(), chance)
        .prop_map(|(strata, requests, failures, candidate_healthy, drawn)| Evidence {
            strata: strata.try_into().unwrap(),
            drawn,
            requests: PerRole { stable: requests, candidate: requests / 3 },
            failures: PerRole { stable: failures, candidate: failures / 5 },
            candidate_healthy,
            ..Evidence::default()
        })
        .boxed()
}

/// Every gate and an objective.
fn full() -> Plan {
    let business = crate::rollout::BusinessGate {
        method: None,
        path: "/orders".into(),
        status: (200, 299),
        ratio: 0.95,
        on_fail: OnFail::Rollback,
    };
    Plan {
        gates: Gates { business: Some(business), ..Gates::standard() },
        slo: Some(Slo { objective: 0.999, budget_cap: 0.005 }),
        ..plan(&[1, 5, 50, 100])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn evidence_is_always_a_number(ticks in prop::collection::vec((anything(), 0..4_usize, 0..100_000_u64), 1..30)) {
        let plan = full();
        let mut judge = Judge::new(&plan);
        let mut armed = 0;
        for (evidence, stage, elapsed) in ticks {
            armed += elapsed;
            let moment = Moment {
                stage,
                elapsed: Duration::from_secs(elapsed),
                in_stage: Duration::from_secs(armed),
                armed: Duration::from_secs(armed),
            };
            let finding = judge.tick(&plan, moment, &evidence);
            prop_assert!(judge.total().is_finite() && judge.excess_failures().is_finite());
            for reading in finding.readings {
                prop_assert!(reading.evidence.is_finite() && reading.evidence >= 0.0, "{reading:?}");
                prop_assert!(reading.permission.is_none_or(|(shown, _)| shown.is_finite()));
            }
            let text = serde_json::to_string(&judge).unwrap();
            prop_assert!(!text.contains("null,null") && text.len() < 8192);
        }
    }

    #[test]
    fn restored_it_goes_on_as_if_unbroken(ticks in prop::collection::vec(anything(), 2..20), at in 0..20_usize) {
        let mut unbroken = Run::new(full());
        let mut restored = Run::new(full());
        for (number, evidence) in ticks.iter().enumerate() {
            if number == at {
                let text = serde_json::to_string(&restored.judge).unwrap();
                restored.judge = serde_json::from_str(&text).unwrap();
            }
            prop_assert_eq!(unbroken.tick(evidence), restored.tick(evidence));
        }
        prop_assert_eq!(unbroken.judge, restored.judge);
    }

    #[test]
    fn ticks_without_evidence_change_only_time(ticks in prop::collection::vec(stratum(), 1..10), empty in 1..50_u64) {
        let plan = full();
        let evidence = |strata| Evidence { strata: [strata; 3], candidate_healthy: true, ..Evidence::default() };
        let (mut one, mut many) = (Judge::new(&plan), Judge::new(&plan));
        let mut armed = 0;
        for strata in ticks {
            let moment = |armed, elapsed| Moment {
                stage: 0,
                elapsed: Duration::from_secs(elapsed),
                in_stage: Duration::from_secs(armed),
                armed: Duration::from_secs(armed),
            };
            for second in 0..empty {
                many.tick(&plan, moment(armed + second + 1, 1), &Evidence { candidate_healthy: true, ..Evidence::default() });
            }
            one.tick(&plan, moment(armed + empty, empty), &Evidence { candidate_healthy: true, ..Evidence::default() });
            armed += empty + 1;
            one.tick(&plan, moment(armed, 1), &evidence(strata));
            many.tick(&plan, moment(armed, 1), &evidence(strata));
        }
        prop_assert_eq!(one.total(), many.total());
        prop_assert_eq!(one.errors, many.errors);
        prop_assert_eq!(one.limit, many.limit);
    }

    #[test]
    fn the_order_of_strata_matters_only_to_rounding(a in both(), b in both(), c in both()) {
        let small = |both: PerRole<Count>| both.map(|_, count| Count { units: count.units % 500, events: count.events % 50 });
        let plan = full();
        let total = |order: [PerRole<Count>; 3]| {
            let mut evidence = Evidence { candidate_healthy: true, ..Evidence::default() };
            for (stratum, errors) in evidence.strata.iter_mut().zip(order) {
                stratum.errors = small(errors);
            }
            let mut run = Run::new(plan.clone());
            for _ in 0..3 {
                run.tick(&evidence);
            }
            run.judge.total()
        };
        let (one, other) = (total([a, b, c]), total([c, a, b]));
        prop_assert!((one - other).abs() <= 1e-9 * one.max(1.0), "{one} {other}");
    }
}
