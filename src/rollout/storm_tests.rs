//! Laws of the machine under random evidence, verbs, crashes and jumps of the clock. The judge's findings are
//! random, too: nothing here relies on statistics.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::act::{Act, Circumstances, Effect, Refusal, Shift, Step, Verb};
use super::evidence::{Evidence, Signal};
use super::guard::{Guard, TICK_COUNTED_MAX, Tick};
use super::judge::Finding;
use super::machine::{Ending, GuardMode, Phase, Rollout, Stop};
use super::per_role::PerRole;
use super::plan::{Gates, Hold, OnInconclusive, Plan, Stage};
use super::verdict::{Failure, Verdict, Wait};
use crate::clock::Timestamp;
use crate::traffic::{Cause, Weight};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Tick { elapsed_ms: u64, says: Says, requests: u64, frozen: bool },
    Verb(Verb),
    Shift { percent: u32, take_over: bool },
    Crash { guard_lost: bool },
    ClockJump { to_ms: u64 },
    Signal,
    Stale(Step),
}

/// What the judge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Good,
    Unsure,
    Suspect,
    Fails { rolls_back: bool },
}

fn finding(says: Says) -> Finding {
    let failure = |rolls_back| Failure { gate: "errors".into(), rolls_back, sentence: "it fails".into() };
    let suspect = Wait::Suspect { gate: "errors".into(), evidence: 25.0, limit: 125.0 };
    match says {
        Says::Good => Finding { permits: true, ..Finding::default() },
        Says::Unsure => Finding::default(),
        Says::Suspect => Finding { doubts: vec![suspect], permits: true, ..Finding::default() },
        Says::Fails { rolls_back } => Finding { failure: Some(failure(rolls_back)), ..Finding::default() },
    }
}

/// A service as the control plane keeps it, as far as weights go.
#[derive(Clone, Debug)]
struct World {
    rollout: Option<Rollout>,
    guard: Option<Guard>,
    weight: Weight,
    locked: bool,
    at: Timestamp,
    generation: u64,
    swaps: u32,
    signals: Vec<Signal>,
}

impl World {
    fn new() -> Self {
        Self {
            rollout: None,
            guard: None,
            weight: Weight::ZERO,
            locked: false,
            at: Timestamp::from_millis(1_767_225_600_000),
            generation: 1,
            swaps: 0,
            signals: Vec::new(),
        }
    }

    fn around(&self, frozen: bool) -> Circumstances {
        Circumstances {
            at: self.at,
            actor: "ann".into(),
            frozen,
            locked: self.locked,
            candidate_healthy: true,
        }
    }

    fn start(&mut self, plan: Plan) {
        self.generation += 1;
        let (rollout, effect) = Rollout::start(self.generation, Arc::new(plan), &self.around(false)).unwrap();
        self.apply(rollout, &effect);
    }

    fn apply(&mut self, rollout: Rollout, effect: &Effect) {
        if let Some(weight) = effect.weight {
            self.weight = weight;
        }
        self.locked |= effect.lock.is_some();
        self.swaps += u32::from(effect.swaps_roles);
        let guard = self.guard.take();
        self.guard = Some(Guard::resume(&rollout, guard));
        self.rollout = Some(rollout);
    }

    fn take(&mut self, act: &Act, frozen: bool) -> Result<bool, Refusal> {
        let Some(rollout) = &self.rollout else { return Err(Refusal::None) };
        let taken = rollout.take(act, &self.around(frozen))?;
        Ok(taken.map(|(rollout, effect)| self.apply(rollout, &effect)).is_some())
    }

    fn tick(&mut self, elapsed_ms: u64, says: Says, requests: u64, frozen: bool) -> Option<Tick> {
        let (rollout, guard) = (self.rollout.as_ref()?, self.guard.as_mut()?);
        if rollout.has_ended() {
            return None;
        }
        let evidence = Evidence {
            requests: PerRole { stable: requests, candidate: requests },
            candidate_healthy: true,
            frozen,
            signals: std::mem::take(&mut self.signals),
            ..Evidence::default()
        };
        let elapsed = Duration::from_millis(elapsed_ms);
        Some(guard.tick_with(rollout, self.at, elapsed, &evidence, |_, _, _, _| finding(says)))
    }

    fn tick_and_act(&mut self, elapsed_ms: u64, says: Says, requests: u64, frozen: bool) -> Option<Tick> {
        let tick = self.tick(elapsed_ms, says, requests, frozen)?;
        if let Some(act) = &tick.act {
            self.take(act, frozen).unwrap();
        }
        Some(tick)
    }

    fn crash(&mut self, guard_lost: bool) {
        if let Some(rollout) = &self.rollout {
            let text = serde_json::to_string(rollout).unwrap();
            let rollout: Rollout = serde_json::from_str(&text).unwrap();
            let text = serde_json::to_string(&self.guard).unwrap();
            let guard: Option<Guard> = serde_json::from_str(&text).unwrap();
            self.guard = Some(Guard::resume(&rollout, guard.filter(|_| !guard_lost)));
            self.rollout = Some(rollout);
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Tick { elapsed_ms, says, requests, frozen } => {
                self.at = Timestamp::from_millis(self.at.as_millis() + elapsed_ms);
                self.tick_and_act(*elapsed_ms, *says, *requests, *frozen);
            }
            Event::Verb(verb) => drop(self.take(&Act::Verb(*verb), false)),
            Event::Shift { percent, take_over } => self.shift(*percent, *take_over),
            Event::Crash { guard_lost } => self.crash(*guard_lost),
            Event::ClockJump { to_ms } => self.at = Timestamp::from_millis(*to_ms),
            Event::Signal => {
                self.signals.push(Signal { name: "db".into(), critical: true, actor: "cron".into() });
            }
            Event::Stale(step) => {
                let stale = self.rollout.as_ref().map_or(0, |rollout| rollout.transitions.wrapping_sub(1));
                assert!(self.take(&Act::Step { after: stale, step: step.clone() }, false) != Ok(true));
            }
        }
    }

    fn shift(&mut self, percent: u32, take_over: bool) {
        let weight = Weight::from_percent(percent).unwrap();
        if weight > self.weight && self.locked {
            return;
        }
        self.generation += 1;
        let shift =
            Shift { weight, take_over, mode: GuardMode::Rollback, gates: Gates::standard(), slo: None };
        let shifted = Rollout::shifted(self.rollout.as_ref(), self.generation, &shift, &self.around(false));
        if let Ok(rollout) = shifted {
            self.weight = weight;
            self.guard = rollout.as_ref().map(|rollout| Guard::resume(rollout, self.guard.take()));
            self.rollout = rollout;
        }
    }
}

fn plan(stages: &[(u32, u64)]) -> Plan {
    let stages = stages.iter().map(|(percent, hold)| {
        Stage::new(Weight::from_percent(*percent).unwrap(), Hold::For(Duration::from_secs(*hold)))
    });
    Plan::new("shop", stages.collect())
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        8 => Just(Says::Good),
        3 => Just(Says::Unsure),
        2 => Just(Says::Suspect),
        1 => any::<bool>().prop_map(|rolls_back| Says::Fails { rolls_back }),
    ]
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        Just(Verb::Pause),
        Just(Verb::Resume),
        Just(Verb::Advance),
        Just(Verb::Promote),
        Just(Verb::Rollback),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Advance),
        Just(Step::Keep),
        Just(Step::Finish),
        Just(Step::Fail { cause: Cause::FailedRollout, sentence: "late".into() }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        24 => (0u64..20_000, says(), 0u64..100, prop::bool::weighted(0.1))
            .prop_map(|(elapsed_ms, says, requests, frozen)| Event::Tick { elapsed_ms, says, requests, frozen }),
        3 => verb().prop_map(Event::Verb),
        2 => (0u32..=100, any::<bool>()).prop_map(|(percent, take_over)| Event::Shift { percent, take_over }),
        2 => prop::bool::weighted(0.3).prop_map(|guard_lost| Event::Crash { guard_lost }),
        1 => (0u64..4_000_000_000_000).prop_map(|to_ms| Event::ClockJump { to_ms }),
        1 => Just(Event::Signal),
        1 => step().prop_map(Event::Stale),
    ]
}

fn storm() -> impl Strategy<Value = (u64, bool, Vec<Event>)> {
    (0u64..20, any::<bool>(), prop::collection::vec(event(), 1..80))
}

/// What holds after each event, given the world before it.
fn check(before: &World, event: &Event, after: &World) {
    let Some(rollout) = &after.rollout else { return };
    assert!(after.weight <= rollout.weight_max(), "{event:?}: {} is more than the stage's", after.weight);
    let was = before.rollout.as_ref();
    if let Some(was) = was.filter(|was| was.has_ended() && was.id == rollout.id) {
        let undone = matches!(was.phase, Phase::Ended { how: Ending::Promoted });
        assert!(rollout == was || (undone && matches!(event, Event::Verb(Verb::Rollback))), "{event:?}");
    }
    if after.weight > before.weight {
        match event {
            Event::Tick { says, frozen, .. } => {
                // Into the first stage nothing has to pass: nobody is there yet.
                let enters = was.is_some_and(|was| was.phase == Phase::Waiting);
                assert!(enters || *says == Says::Good, "risen without a pass");
                assert!(!frozen, "risen while frozen");
                assert!(before.signals.is_empty());
            }
            Event::Verb(verb) => {
                assert!(matches!(verb, Verb::Advance | Verb::Promote | Verb::Resume), "{event:?}");
            }
            Event::Shift { percent, .. } => assert_eq!(after.weight, Weight::from_percent(*percent).unwrap()),
            Event::Crash { .. } | Event::ClockJump { .. } | Event::Signal | Event::Stale(_) => {
                panic!("{event:?} has raised the weight");
            }
        }
    }
    let fails = match event {
        Event::Tick { says, .. } => *says == Says::Fails { rolls_back: true } || !before.signals.is_empty(),
        _ => false,
    };
    if fails && was.is_some_and(|was| was.current_stage().is_some()) {
        assert_eq!(after.weight, Weight::ZERO);
        assert!(after.locked && rollout.has_ended(), "a failure ends it within the tick");
    }
}

proptest! {
    #[test]
    fn no_storm_breaks_the_laws((delay, keeps, events) in storm()) {
        let keep = Duration::from_secs(if keeps { 30 } else { 0 });
        let mut world = World::new();
        world.start(Plan { keep, delay: Duration::from_secs(delay), ..plan(&[(1, 10), (25, 20), (99, 5)]) });
        for event in &events {
            let before = world.clone();
            world.happen(event);
            check(&before, event, &world);
        }
    }

    #[test]
    fn what_is_restored_goes_on_as_if_it_had_never_stopped((delay, keeps, events) in storm()) {
        let keep = Duration::from_secs(if keeps { 30 } else { 0 });
        let mut unbroken = World::new();
        unbroken.start(Plan { keep, delay: Duration::from_secs(delay), ..plan(&[(1, 10), (25, 20), (99, 5)]) });
        let mut restored = unbroken.clone();
        for event in events.iter().filter(|event| !matches!(event, Event::Crash { .. })) {
            restored.crash(false);
            unbroken.happen(event);
            restored.happen(event);
            prop_assert_eq!(&unbroken.rollout, &restored.rollout);
            prop_assert_eq!(&unbroken.guard, &restored.guard);
        }
    }

    #[test]
    fn a_verb_said_twice_is_done_once((delay, keeps, events) in storm(), verb in verb()) {
        let keep = Duration::from_secs(if keeps { 30 } else { 0 });
        let mut world = World::new();
        world.start(Plan { keep, delay: Duration::from_secs(delay), ..plan(&[(1, 10), (25, 20), (99, 5)]) });
        events.iter().for_each(|event| world.happen(event));
        let first = world.take(&Act::Verb(verb), false);
        let once = world.clone();
        let again = world.take(&Act::Verb(verb), false);
        // An advance is one stage each time.
        if first == Ok(true) && verb != Verb::Advance {
            // A rollback of what was never promoted is done; of a promotion it is done once, too.
            prop_assert_ne!(again, Ok(true));
            prop_assert_eq!(world.rollout, once.rollout);
            prop_assert_eq!(world.swaps, once.swaps);
        }
    }

    #[test]
    fn a_hold_counts_armed_time_only(
        lengths in prop::collection::vec(0u64..60_000, 1..200),
        lost_at in 0usize..200,
    ) {
        let mut world = World::new();
        world.start(plan(&[(5, 60), (50, 60)]));
        let mut armed = 0;
        for (at, elapsed_ms) in lengths.iter().enumerate() {
            if at == lost_at {
                world.crash(true);
                armed = 0;
            }
            armed += elapsed_ms.min(&5000);
            world.tick_and_act(*elapsed_ms, Says::Good, 1, false);
            let has_advanced = world.rollout.as_ref().unwrap().stage == 1;
            prop_assert_eq!(has_advanced, armed >= 60_000);
            if has_advanced {
                break;
            }
        }
    }
}

#[test]
fn a_long_storm_keeps_the_laws() {
    // Xorshift (Marsaglia, 2003), seeded.
    let mut seed = 0x5eed_u64;
    let mut draw = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let (mut promoted, mut failed) = (0, 0);
    for _ in 0..300 {
        let mut world = World::new();
        world.start(plan(&[(1, 30), (10, 30), (50, 30), (100, 30)]));
        for _ in 0..400 {
            let event = match draw(1000) {
                0 => Event::Verb([Verb::Pause, Verb::Advance, Verb::Rollback][draw(3) as usize]),
                1..20 => Event::Verb(Verb::Resume),
                20..40 => Event::Crash { guard_lost: draw(10) == 0 },
                40 => Event::Shift { percent: draw(101) as u32, take_over: draw(2) == 0 },
                41..45 => Event::ClockJump { to_ms: draw(4_000_000_000_000) },
                45 => Event::Tick {
                    elapsed_ms: 1000,
                    says: Says::Fails { rolls_back: true },
                    requests: 9,
                    frozen: false,
                },
                46 => Event::Tick {
                    elapsed_ms: 1000,
                    says: Says::Fails { rolls_back: false },
                    requests: 9,
                    frozen: false,
                },
                47..300 => Event::Tick {
                    elapsed_ms: draw(3000),
                    says: Says::Unsure,
                    requests: draw(50),
                    frozen: draw(9) == 0,
                },
                _ => Event::Tick {
                    elapsed_ms: draw(3000),
                    says: Says::Good,
                    requests: draw(50),
                    frozen: false,
                },
            };
            let before = world.clone();
            world.happen(&event);
            check(&before, &event, &world);
        }
        match world.rollout.map(|rollout| rollout.phase) {
            Some(Phase::Ended { how: Ending::Promoted }) => promoted += 1,
            Some(Phase::Ended { how: Ending::RolledBack { .. } }) => failed += 1,
            _ => {}
        }
    }
    assert!(
        promoted > 20 && failed > 20,
        "the storm reaches both ends: {promoted} promoted, {failed} failed"
    );
}

#[test]
fn a_good_candidate_goes_through_all_stages() {
    let mut world = World::new();
    world.start(Plan {
        keep: Duration::from_secs(10),
        delay: Duration::from_secs(3),
        ..plan(&[(5, 4), (99, 4)])
    });
    let mut seen = Vec::new();
    for _ in 0..40 {
        world.tick_and_act(1000, Says::Good, 10, false);
        let rollout = world.rollout.as_ref().unwrap();
        seen.push((rollout.phase.clone(), world.weight));
        seen.dedup();
    }
    let weights: Vec<_> = seen.iter().map(|(phase, weight)| format!("{phase}, {weight}")).collect();
    assert_eq!(
        weights,
        [
            "before the first stage, 0%",
            "holding, 5%",
            "holding, 99%",
            "through its stages, stable is kept warm, 99%",
            "promoted, 0%",
        ]
    );
    assert_eq!(world.swaps, 1);
    assert_eq!(world.take(&Act::Verb(Verb::Rollback), true), Ok(true), "it also works while frozen");
    assert_eq!(world.take(&Act::Verb(Verb::Rollback), true), Ok(false));
    assert_eq!(world.swaps, 2);
}

#[test]
fn a_frozen_rollout_never_advances_and_still_fails() {
    let mut world = World::new();
    world.start(plan(&[(5, 4), (99, 4)]));
    for _ in 0..100 {
        world.tick_and_act(1000, Says::Good, 10, true);
    }
    assert_eq!(world.weight.to_string(), "5%");
    for verb in [Verb::Advance, Verb::Promote] {
        assert_eq!(world.take(&Act::Verb(verb), true), Err(Refusal::Frozen));
    }
    let tick = world.tick_and_act(1000, Says::Good, 10, true).unwrap();
    assert_eq!(tick.waiting.unwrap().to_string(), "waiting for `tidegate freeze off`");
    world.tick_and_act(1000, Says::Fails { rolls_back: true }, 10, true);
    assert_eq!((world.weight, world.locked), (Weight::ZERO, true));
}

#[test]
fn a_gate_that_pauses_is_excused_by_a_resume() {
    let mut world = World::new();
    world.start(plan(&[(5, 4), (99, 4)]));
    let fails = Says::Fails { rolls_back: false };
    world.tick_and_act(1000, fails, 10, false);
    assert_eq!(world.rollout.as_ref().unwrap().phase.to_string(), "paused because it fails");
    assert_eq!(world.take(&Act::Verb(Verb::Advance), false), Err(Refusal::GateFailed("it fails".into())));
    let tick = world.tick_and_act(1000, fails, 10, false).unwrap();
    assert_eq!((tick.act, tick.news), (None, None), "it is told once");
    assert_eq!(world.take(&Act::Verb(Verb::Resume), false), Ok(true));
    assert_eq!(world.take(&Act::Verb(Verb::Resume), false), Err(Refusal::NotPaused));
    world.tick_and_act(1000, fails, 10, false);
    assert_eq!(world.rollout.as_ref().unwrap().phase, Phase::Holding);
    world.tick_and_act(1000, Says::Fails { rolls_back: true }, 10, false);
    assert!(world.rollout.unwrap().has_ended(), "what rolls back is never excused");
}

#[test]
fn a_shift_down_stands_the_hold_still_until_a_resume() {
    let mut world = World::new();
    world.start(plan(&[(5, 4), (50, 10)]));
    (0..6).for_each(|_| drop(world.tick_and_act(1000, Says::Good, 10, false)));
    assert_eq!(world.weight.to_string(), "50%");
    let held = world.guard.as_ref().unwrap().held_ms;
    world.shift(20, false);
    let paused = &world.rollout.as_ref().unwrap().phase;
    assert!(matches!(paused, Phase::Paused { why: Stop::Shift { .. }, .. }), "{paused}");
    (0..60).for_each(|_| drop(world.tick_and_act(1000, Says::Good, 10, false)));
    assert_eq!((world.weight.to_string(), world.guard.as_ref().unwrap().held_ms), ("20%".into(), held));
    world.take(&Act::Verb(Verb::Resume), false).unwrap();
    assert_eq!(world.weight.to_string(), "50%");

    world.shift(60, false);
    assert_eq!(world.weight.to_string(), "50%", "a rollout that drives gives way to nobody");
    world.shift(60, true);
    assert!(world.rollout.as_ref().unwrap().manual);
    assert_eq!(world.take(&Act::Verb(Verb::Advance), false), Err(Refusal::Manual));
    world.shift(0, false);
    assert_eq!(world.rollout.unwrap().phase.to_string(), "taken over by ann");
}

#[test]
fn what_cannot_decide_does_what_the_plan_says() {
    #[track_caller]
    fn check(on_inconclusive: OnInconclusive, says: Says, weight: &str, locked: bool) {
        let mut world = World::new();
        let mut plan = Plan { on_inconclusive, ..plan(&[(5, 4), (50, 1000)]) };
        plan.stages[0].max_hold = Some(Duration::from_secs(20));
        world.start(plan);
        (0..19).for_each(|_| drop(world.tick_and_act(1000, says, 10, false)));
        assert_eq!(world.weight.to_string(), "5%");
        world.tick_and_act(1000, says, 10, false);
        assert_eq!((world.weight.to_string().as_str(), world.locked), (weight, locked));
    }
    check(OnInconclusive::Hold, Says::Unsure, "5%", false);
    check(OnInconclusive::Advance, Says::Unsure, "50%", false);
    check(OnInconclusive::Advance, Says::Suspect, "5%", false);
    check(OnInconclusive::Rollback, Says::Unsure, "0%", false);
    check(OnInconclusive::Rollback, Says::Suspect, "0%", false);
}

#[test]
fn a_guard_that_only_tells_tells_once() {
    let mut world = World::new();
    world.shift(50, false);
    world.rollout.as_mut().unwrap().mode = GuardMode::Notify;
    let fails = Says::Fails { rolls_back: true };
    let news: Vec<_> = (0..5).map(|_| world.tick_and_act(1000, fails, 10, false).unwrap().news).collect();
    assert_eq!(news.iter().flatten().count(), 1);
    assert_eq!(news[0].as_ref().unwrap().to_string(), "failing, and left to people: it fails");
    assert_eq!(world.weight.to_string(), "50%");

    world.rollout.as_mut().unwrap().mode = GuardMode::Off;
    let tick = world.tick_and_act(1000, fails, 10, false).unwrap();
    assert_eq!(tick.verdict, Verdict::Wait { why: Wait::Unguarded });
    world.happen(&Event::Signal);
    world.tick_and_act(1000, Says::Good, 10, false);
    assert_eq!((world.weight, world.locked), (Weight::ZERO, true), "a critical signal is no judgement");
}

#[test]
fn a_suspicion_is_told_once_and_when_it_has_passed() {
    let mut world = World::new();
    world.start(plan(&[(5, 1000)]));
    let mut news = Vec::new();
    for at in 0..100 {
        let says = if (10..40).contains(&at) && at % 3 != 0 { Says::Suspect } else { Says::Good };
        news.extend(
            world.tick_and_act(1000, says, 10, false).unwrap().news.map(|news| (at, news.to_string())),
        );
    }
    let suspect = "suspect: waiting for a suspicion to pass: evidence of errors 25 (fails at 125)".to_owned();
    assert_eq!(news, [(10, suspect), (68, "the suspicion of errors has passed".to_owned())]);
}

#[test]
fn a_hold_until_a_time_of_day_also_takes_the_armed_time_until_then() {
    let mut world = World::new();
    let mut plan = plan(&[(5, 4), (50, 4)]);
    // An hour after the world begins.
    plan.stages[0].hold = Hold::Until { minute_of_day: 60, zone: "UTC".into() };
    world.start(plan);
    let ticks = |world: &mut World, count: u32| {
        for _ in 0..count {
            world.at = Timestamp::from_millis(world.at.as_millis() + 1000);
            world.tick_and_act(1000, Says::Good, 1, false);
        }
        world.weight.to_string()
    };
    assert_eq!(ticks(&mut world, 1800), "5%");
    world.at = Timestamp::from_millis(world.at.as_millis() + 7_200_000);
    assert_eq!(ticks(&mut world, 1799), "5%", "the clock's jump ends no hold");
    assert_eq!(ticks(&mut world, 1), "50%");
}

#[test]
fn one_tick_counts_for_seconds_only() {
    let mut world = World::new();
    world.start(plan(&[(5, 60)]));
    world.tick_and_act(3_600_000, Says::Good, 10, false);
    assert_eq!(u128::from(world.guard.unwrap().held_ms), TICK_COUNTED_MAX.as_millis());
}
