//! Stories of rollouts: whole ones, and ones that are cut off by kills, crashes and disks that are stuck.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::Timestamp;
use crate::rollout::{
    Act, Compare, Ending, Hold, Line, MetricGate, MetricSource, OnFail, PerRole, Phase, Plan, Rollout,
    Signal, Stage, Stop, Stratum, Verb, replay,
};
use crate::telemetry::{Failure, Judged, MethodLabel, Outcome, ServiceSlot, WorkerTally};
use crate::traffic::Reason;

const SECOND: Duration = Duration::from_secs(1);

/// Stages of ten seconds without gates: only time decides.
fn plan(weights: &[u32]) -> Plan {
    let stage = |weight: &u32| Stage::new(percent(*weight), Hold::For(10 * SECOND));
    Plan { gates: Gates::none(), ..Plan::new("canary-7", weights.iter().map(stage).collect()) }
}

fn begin(service: &str, plan: Plan) -> Change {
    Change::Start { service: service.into(), plan: Arc::new(plan) }
}

fn verb(service: &str, verb: Verb) -> Change {
    Change::Rollout { service: service.into(), act: Act::Verb(verb) }
}

fn critical() -> Signal {
    Signal { name: "db_corruption".into(), critical: true, actor: "uid 7".into() }
}

/// A clock that is moved by hand.
struct Beat {
    now: Instant,
    at: u64,
}

impl Beat {
    fn new() -> Self {
        Self { now: clock::now(), at: clock::wall().as_millis() }
    }

    /// A second passes.
    fn tick(&mut self, control: &Control) {
        self.now += SECOND;
        self.at += 1000;
        control.tick_rollouts(self.now, Timestamp::from_millis(self.at));
    }

    /// Seconds pass until `done`; what waits for the disk gets its time after each.
    async fn until(&mut self, control: &Control, mut done: impl FnMut(&Control) -> bool) {
        for _ in 0..10_000 {
            if done(control) {
                return;
            }
            self.tick(control);
            settle(control).await;
        }
        panic!("it never came to that");
    }
}

/// Waits for the steps that are under way over the disk.
async fn settle(control: &Control) {
    while control.steps_under_way() > 0 {
        tokio::task::yield_now().await;
    }
}

fn rollout(control: &Control, service: &str) -> Arc<Rollout> {
    control.desired().service(service).unwrap().rollout.clone().unwrap()
}

fn stands(control: &Control, service: &str) -> (Variant, Weight) {
    let state = control.desired().service(service).unwrap().clone();
    (state.stable, weight(control, service))
}

/// What happened, as far as it is about rollouts.
fn events(control: &Control) -> Vec<String> {
    let all = control.events().last(1000).unwrap().into_iter();
    let about = all.filter(|entry| entry.what.starts_with("rollout") || entry.what == "freeze");
    about.map(|entry| entry.what).collect()
}

/// What a kill -9 now would leave behind.
fn copy(from: &Path, to: &Path) {
    for file in ["state", "state.previous", "kills", "guards"] {
        if from.join(file).exists() {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_rollout_goes_through_its_stages_swaps_the_roles_and_there_is_a_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let mut beat = Beat::new();
    let started = commit(&control, &begin("shop", plan(&[5, 50, 100]))).await.unwrap();
    assert_eq!(started.changes[0].happened.as_ref().unwrap().what, "start");
    assert_eq!(weight(&control, "shop"), percent(5));
    assert_eq!(
        &*control.desired().service("shop").unwrap().recognition.salt,
        "canary-7",
        "its name is the salt"
    );
    for _ in 0..9 {
        beat.tick(&control);
        settle(&control).await;
    }
    assert_eq!(weight(&control, "shop"), percent(5), "not before its hold is over");
    assert!(control.drift("shop").iter().all(|sentence| !sentence.contains("split settings")));
    beat.until(&control, |control| weight(control, "shop") == percent(50)).await;
    beat.until(&control, |control| weight(control, "shop") == percent(100)).await;
    let epoch = control.desired().service("shop").unwrap().epoch;
    beat.until(&control, |control| rollout(control, "shop").has_ended()).await;

    assert_eq!(stands(&control, "shop"), (Variant::Green, Weight::ZERO));
    assert_eq!(rollout(&control, "shop").phase, Phase::Ended { how: Ending::Promoted });
    let shop = control.desired().service("shop").unwrap().clone();
    assert!(shop.epoch > epoch && &*shop.recognition.salt == "shop", "anew, and as configured");
    assert!(
        control.drift("shop").iter().any(|sentence| sentence.contains("stable")),
        "{:?}",
        control.drift("shop")
    );
    assert!(control.rollouts().is_empty() && control.rollout("shop").is_some());

    let back = commit(&control, &verb("shop", Verb::Rollback)).await.unwrap();
    assert_eq!((stands(&control, "shop"), back.changes[0].swapped), ((Variant::Blue, Weight::ZERO), true));
    let again = commit(&control, &verb("shop", Verb::Rollback)).await.unwrap();
    assert!(!again.changes[0].changed, "last-known-good is where it is already");
    assert!(control.stop());
    assert_eq!(
        events(&control),
        ["rollout-start", "rollout-stage", "rollout-stage", "rollout-promotion", "rollout-rollback"]
    );
}

#[tokio::test]
async fn a_deployment_over_the_old_stable_ends_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    commit(&control, &begin("shop", plan(&[100]))).await.unwrap();
    commit(&control, &verb("shop", Verb::Promote)).await.unwrap();
    assert_eq!(stands(&control, "shop"), (Variant::Green, Weight::ZERO));
    let endpoints = vec![EndpointSpec { url: "http://next:80".parse().unwrap(), weight: 1 }];
    let deployed = Deployed { endpoints, version: None };
    let taken = vec![EndpointSpec { url: "http://green.shop:80".parse().unwrap(), weight: 1 }];
    let onto_stable =
        Change::Deploy { service: "shop".into(), deployed: Deployed { endpoints: taken, version: None } };
    let refused = commit(&control, &onto_stable).await.unwrap_err();
    assert!(refused.to_string().contains("an endpoint of green, the stable variant"), "{refused}");
    commit(&control, &Change::Deploy { service: "shop".into(), deployed }).await.unwrap();
    all_healthy(&control);
    let back = commit(&control, &verb("shop", Verb::Rollback)).await.unwrap();
    assert!(!back.changes[0].changed);
    assert_eq!(stands(&control, "shop"), (Variant::Green, Weight::ZERO));

    // The next rollout tries blue.
    commit(&control, &begin("shop", plan(&[5, 100]))).await.unwrap();
    let table = control.table();
    assert_eq!((table.services()[0].split.candidate, weight(&control, "shop")), (Variant::Blue, percent(5)));
}

#[tokio::test]
async fn other_endpoints_by_a_reload_end_the_way_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    commit(&control, &begin("shop", plan(&[100]))).await.unwrap();
    commit(&control, &verb("shop", Verb::Promote)).await.unwrap();
    let mut other = config("shop");
    other.endpoints.blue[0].url = "http://elsewhere:80".parse().unwrap();
    control.reload(vec![other], Keep::All, &ops()).await.unwrap();
    all_healthy(&control);
    let refused = commit(&control, &verb("shop", Verb::Rollback)).await.unwrap_err();
    assert!(refused.to_string().contains("blue has other endpoints than when it was stable"), "{refused}");
    assert_eq!(stands(&control, "shop"), (Variant::Green, Weight::ZERO));
}

#[tokio::test]
async fn after_a_crash_at_any_transition_it_goes_on_and_never_higher() {
    for crash_at in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let left_behind = tempfile::tempdir().unwrap();
        let control = start(folder.path(), &["shop"]);
        let mut beat = Beat::new();
        commit(&control, &begin("shop", plan(&[1, 5, 50, 100]))).await.unwrap();
        for _ in 0..crash_at {
            let before = rollout(&control, "shop").transitions;
            beat.until(&control, |control| rollout(control, "shop").transitions > before).await;
        }
        let (before, stood) = (rollout(&control, "shop"), stands(&control, "shop"));
        copy(folder.path(), left_behind.path());
        crash(control);

        let control = start(left_behind.path(), &["shop"]);
        assert_eq!((rollout(&control, "shop"), stands(&control, "shop")), (before, stood), "{crash_at}");
        beat.until(&control, |control| rollout(control, "shop").has_ended()).await;
        assert_eq!(stands(&control, "shop"), (Variant::Green, Weight::ZERO), "{crash_at}");
    }
}

#[tokio::test]
async fn clocks_and_evidence_go_on_exactly_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop", "cart"]);
    let mut beat = Beat::new();
    commit(&control, &begin("shop", plan(&[5, 100]))).await.unwrap();
    commit(&control, &shift(&[("cart", 10)])).await.unwrap();
    for _ in 0..8 {
        beat.tick(&control);
    }
    let held_ms = control.rollout("shop").unwrap().held_ms;
    assert!((4000..=8000).contains(&held_ms), "{held_ms}");
    let before = control.guards();
    assert!(control.stop());
    drop(control);
    let control = start(folder.path(), &["shop", "cart"]);
    beat.tick(&control);
    let mut after = control.guards();
    for (service, guard) in &mut after {
        let before = &before.iter().find(|(name, _)| name == service).unwrap().1;
        assert!(guard.held_ms >= before.held_ms && guard.held_ms <= before.held_ms + 1000);
        (guard.held_ms, guard.armed_ms, guard.rate) = (before.held_ms, before.armed_ms, before.rate);
    }
    assert_eq!(after, before);
    let lost = |control: &Control| {
        control.events().last(100).unwrap().iter().filter(|entry| entry.what == "recovery").count()
    };
    assert!(control.stop());
    assert_eq!(lost(&control), 0);
    drop(control);

    // A checkpoint that cannot be read is no reason not to start: the stage is held anew, and it is said.
    let mut bytes = std::fs::read(folder.path().join("guards")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path().join("guards"), bytes).unwrap();
    let control = start(folder.path(), &["shop", "cart"]);
    beat.tick(&control);
    assert_eq!(weight(&control, "shop"), percent(5));
    assert!(control.guards().iter().all(|(_, guard)| guard.held_ms <= 1000));
    assert!(control.stop());
    assert_eq!(lost(&control), 2, "the file, and the rollout that is judged by what came since");
}

#[tokio::test]
async fn a_stuck_disk_holds_up_an_advance_and_no_rollback() {
    let (control, disk) = SlowDisk::control(true);
    let mut beat = Beat::new();
    let starting = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &begin("shop", plan(&[5, 100]))).await }
    });
    until_written(&disk).await;
    disk.ends_well();
    starting.await.unwrap().unwrap();
    for _ in 0..12 {
        beat.tick(&control);
    }
    until_written(&disk).await;
    beat.tick(&control);
    assert_eq!(
        (weight(&control, "shop"), control.steps_under_way()),
        (percent(5), 1),
        "risk waits for the disk"
    );

    assert!(control.signal("shop", critical()) && !control.signal("nope", critical()));
    control.alarmed().await;
    control.tick_rollouts(beat.now, Timestamp::from_millis(beat.at));
    let shop = control.desired().service("shop").unwrap().clone();
    assert_eq!(
        (weight(&control, "shop"), shop.lock.as_ref().unwrap().cause),
        (Weight::ZERO, Cause::FailedRollout)
    );
    for _ in 0..8 {
        disk.ends_well();
    }
    settle(&control).await;
    assert_eq!(weight(&control, "shop"), Weight::ZERO, "the advance is void");
    assert!(matches!(rollout(&control, "shop").phase, Phase::Ended { how: Ending::RolledBack { .. } }));
    beat.tick(&control);
    assert_eq!(control.running_rollouts(), 0);
}

#[tokio::test]
async fn a_failed_rollout_survives_though_the_state_was_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    let left_behind = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    commit(&control, &begin("shop", plan(&[5, 100]))).await.unwrap();
    std::fs::copy(folder.path().join("state"), left_behind.path().join("state")).unwrap();
    let mut beat = Beat::new();
    beat.tick(&control);
    control.signal("shop", critical());
    beat.tick(&control);
    assert!(control.stop());
    std::fs::copy(folder.path().join("kills"), left_behind.path().join("kills")).unwrap();
    let control = start(left_behind.path(), &["shop"]);
    let shop = control.desired().service("shop").unwrap().clone();
    assert_eq!((shop.weight, shop.lock.as_ref().unwrap().cause), (Weight::ZERO, Cause::FailedRollout));
    assert!(rollout(&control, "shop").has_ended());
    let refused = commit(&control, &begin("shop", plan(&[5]))).await.unwrap_err();
    assert!(refused.to_string().contains("shop is locked (failed-rollout, by tidegate"), "{refused}");
}

#[tokio::test]
async fn an_advance_that_the_disk_refuses_is_made_later_and_once() {
    let (control, disk) = SlowDisk::control(true);
    let mut beat = Beat::new();
    let starting = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &begin("shop", plan(&[5, 100]))).await }
    });
    until_written(&disk).await;
    disk.ends_well();
    starting.await.unwrap().unwrap();
    let before = rollout(&control, "shop").transitions;
    for _ in 0..14 {
        beat.tick(&control);
    }
    until_written(&disk).await;
    disk.tell.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    settle(&control).await;
    assert_eq!(weight(&control, "shop"), percent(5));
    // What is in force overrules the refused state on the disk.
    disk.ends_well();
    for _ in 0..4 {
        disk.ends_well();
    }
    beat.until(&control, |control| weight(control, "shop") == percent(100)).await;
    assert_eq!(rollout(&control, "shop").transitions, before + 1);
    for _ in 0..8 {
        disk.ends_well();
    }
}

#[tokio::test]
async fn people_overrule_a_rollout_only_in_the_ways_that_are_safe() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop", "cart"]);
    let mut beat = Beat::new();
    commit(&control, &begin("shop", plan(&[5, 50, 100]))).await.unwrap();
    let refused = async |change: &Change| commit(&control, change).await.unwrap_err().to_string();
    let second = refused(&begin("shop", plan(&[5]))).await;
    assert!(
        second.contains("the rollout canary-7 runs; let it end, or `tidegate rollout rollback shop`"),
        "{second}"
    );
    let driven = refused(&shift(&[("shop", 20)])).await;
    assert!(driven.contains("`tidegate rollout pause shop` first, or shift with --take-over"), "{driven}");
    let deployed = Deployed { endpoints: vec![], version: None };
    let deploy = refused(&Change::Deploy { service: "shop".into(), deployed }).await;
    assert!(deploy.contains("5%"), "{deploy}");

    // Less is always fine, and pauses.
    let less = commit(&control, &shift(&[("shop", 2)])).await.unwrap();
    assert_eq!(less.changes[0].happened.as_ref().unwrap().what, "pause");
    let stop = Stop::Shift { actor: "uid 1000 (ops)".into() };
    assert!(matches!(&rollout(&control, "shop").phase, Phase::Paused { why, .. } if *why == stop));
    for _ in 0..20 {
        beat.tick(&control);
        settle(&control).await;
    }
    assert_eq!(weight(&control, "shop"), percent(2), "a paused one goes nowhere");
    commit(&control, &verb("shop", Verb::Resume)).await.unwrap();
    assert_eq!(weight(&control, "shop"), percent(5));

    // Frozen, it stays, and nothing starts; everything toward stable works.
    let freeze = |on| Change::Freeze { selection: Selection::All, on };
    commit(&control, &freeze(true)).await.unwrap();
    for _ in 0..20 {
        beat.tick(&control);
        settle(&control).await;
    }
    assert_eq!(weight(&control, "shop"), percent(5));
    let frozen = refused(&begin("cart", plan(&[5]))).await;
    assert!(frozen.contains("cart is frozen (by uid 1000 (ops)"), "{frozen}");
    assert!(refused(&shift(&[("cart", 5)])).await.contains("`tidegate freeze off cart` first"));
    assert!(!commit(&control, &freeze(true)).await.unwrap().changes[0].changed, "once is enough");
    commit(&control, &freeze(false)).await.unwrap();

    // Taken over, the plan is over.
    let take_over = Change::Shift {
        weights: BTreeMap::from([("shop".into(), percent(30))]),
        if_generation: None,
        take_over: true,
    };
    commit(&control, &take_over).await.unwrap();
    assert_eq!((weight(&control, "shop"), rollout(&control, "shop").manual), (percent(30), true));
    // A manual one gives way to a plan.
    commit(&control, &begin("shop", plan(&[5, 100]))).await.unwrap();
    assert_eq!((weight(&control, "shop"), rollout(&control, "shop").manual), (percent(5), false));
    commit(&control, &Change::Kill(named(&["shop"]))).await.unwrap();
    assert_eq!(rollout(&control, "shop").phase, Phase::Ended { how: Ending::Killed });
    beat.tick(&control);
    assert_eq!(control.running_rollouts(), 0);
}

#[tokio::test]
async fn a_rollout_that_failed_before_its_first_stage_stays_locked_though_the_state_was_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    let left_behind = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    commit(&control, &begin("shop", Plan { delay: 60 * SECOND, ..plan(&[5, 100]) })).await.unwrap();
    std::fs::copy(folder.path().join("state"), left_behind.path().join("state")).unwrap();
    let mut beat = Beat::new();
    beat.tick(&control);
    control.signal("shop", critical());
    beat.tick(&control);
    assert_eq!(control.desired().service("shop").unwrap().lock.as_ref().unwrap().cause, Cause::FailedRollout);
    assert!(control.stop());
    std::fs::copy(folder.path().join("kills"), left_behind.path().join("kills")).unwrap();
    let control = start(left_behind.path(), &["shop"]);
    let shop = control.desired().service("shop").unwrap().clone();
    assert_eq!((shop.weight, shop.lock.as_ref().unwrap().cause), (Weight::ZERO, Cause::FailedRollout));
    assert!(rollout(&control, "shop").has_ended());
}

#[tokio::test]
async fn a_record_says_of_a_transition_what_was_said_of_it_and_nothing_older() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let mut beat = Beat::new();
    commit(&control, &begin("shop", plan(&[5, 100]))).await.unwrap();
    beat.tick(&control);
    commit(&control, &verb("shop", Verb::Pause)).await.unwrap();
    beat.tick(&control);
    commit(&control, &Change::Kill(named(&["shop"]))).await.unwrap();
    beat.tick(&control);
    assert!(control.stop());
    let said = control.records("shop").unwrap().into_iter().flat_map(|path| {
        let lines = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Line> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.into_iter().filter_map(|line| match line {
            Line::Change { sentence, .. } => Some(sentence),
            Line::Begin { .. } | Line::Tick { .. } => None,
        })
    });
    let said: Vec<String> = said.collect();
    assert!(said.len() == 2 && said[0].contains("paused") && said[1].is_empty(), "{said:?}");
}

#[tokio::test]
async fn every_weight_has_a_guard() {
    let folder = tempfile::tempdir().unwrap();
    let mut shop = config("shop");
    shop.guard = GuardMode::Notify;
    shop.initial_weight = percent(5);
    let control = start_with(folder.path(), vec![shop.clone(), config("cart")]);
    let first = rollout(&control, "shop");
    assert_eq!((first.manual, first.mode, first.weight_max()), (true, GuardMode::Notify, percent(5)));
    assert!(control.desired().service("cart").unwrap().rollout.is_none());
    commit(&control, &shift(&[("cart", 1)])).await.unwrap();
    assert_eq!(rollout(&control, "cart").mode, GuardMode::Off);
    let mut late = config("late");
    late.initial_weight = percent(2);
    control.reload(vec![shop, late, config("cart")], Keep::All, &ops()).await.unwrap();
    assert_eq!(rollout(&control, "late").weight_max(), percent(2));
    // Somebody's alarm counts also where nothing is judged.
    let mut beat = Beat::new();
    beat.tick(&control);
    control.signal("cart", critical());
    beat.tick(&control);
    assert_eq!(weight(&control, "cart"), Weight::ZERO);
}

#[tokio::test]
async fn a_service_that_leaves_the_configuration_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop", "cart"]);
    let mut beat = Beat::new();
    commit(&control, &begin("shop", plan(&[5, 100]))).await.unwrap();
    for _ in 0..8 {
        beat.tick(&control);
    }
    let held_ms = control.rollout("shop").unwrap().held_ms;
    control.reload(vec![config("cart")], Keep::All, &ops()).await.unwrap();
    for _ in 0..30 {
        beat.tick(&control);
        settle(&control).await;
    }
    assert!(control.rollout("shop").is_none() && control.running_rollouts() == 0);
    control.reload(vec![config("cart"), config("shop")], Keep::All, &ops()).await.unwrap();
    all_healthy(&control);
    beat.tick(&control);
    assert_eq!(weight(&control, "shop"), percent(5));
    let guards = control.guards();
    assert!((held_ms..=held_ms + 2000).contains(&guards[0].1.held_ms), "{held_ms} {guards:?}");
    beat.until(&control, |control| rollout(control, "shop").has_ended()).await;
}

#[tokio::test]
async fn what_was_recorded_replays_to_the_same_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let mut beat = Beat::new();
    let mut plan = plan(&[5, 100]);
    plan.gates.metrics.push(MetricGate {
        name: "orders".into(),
        source: MetricSource::Pushed { stale_after: 300 * SECOND },
        pass_if: Compare::AtLeastStable(0.95),
        on_fail: OnFail::Pause,
        misses: 3,
    });
    commit(&control, &begin("shop", plan)).await.unwrap();
    let value = PerRole { stable: Some(10.0), candidate: Some(10.5) };
    assert!(control.push_reading("shop", "orders", value));
    assert!(!control.push_reading("shop", "nope", value) && !control.push_reading("nope", "orders", value));
    for round in 0..40 {
        if round == 20 {
            commit(&control, &verb("shop", Verb::Pause)).await.unwrap();
        }
        beat.tick(&control);
        settle(&control).await;
    }
    assert!(control.stop());
    assert_eq!(control.records_dropped(), 0);
    assert_eq!(control.records("shop").unwrap().len(), 1);
    let text = control.record_reader().unwrap().tail("shop", None, 1 << 30).unwrap();
    let replayed = replay(text.lines().map(serde_json::from_str::<Line>)).unwrap();
    assert_eq!((replayed.begins, replayed.is_torn), (1, false));
    assert!(replayed.ticks >= 40 && replayed.changes >= 1, "{replayed:?}");
}

/// Requests of different visitors, one in `fails` of them failing; `None`: none.
fn serve(control: &Control, worker: &WorkerTally, service: &str, places: PerVariant<(u64, Option<u64>)>) {
    let table = control.table();
    let service = control.live().service(service).unwrap().clone();
    let tally = worker.service(ServiceSlot(service.slot));
    for (variant, (requests, fails)) in places.iter() {
        for request in 0..*requests {
            let is_failure = fails.is_some_and(|fails| request % fails == 0);
            tally.started(variant, table.generation());
            tally.assigned(variant, Reason::Cookie);
            let failure = is_failure.then_some(Failure::Status);
            let (ttfb, method) = (Some(Duration::from_millis(5)), MethodLabel::Get);
            tally.outcome(Outcome {
                variant,
                code: if is_failure { 500 } else { 200 },
                method,
                ttfb,
                failure,
            });
            if let Some(trialled) = tally.trialled(service.era, variant, Reason::Cookie, || request * 7919) {
                tally.judge(&trialled, Judged { is_failure, waited: ttfb, ..Judged::default() });
            }
            tally.finished(variant, table.generation(), Duration::from_millis(5), None);
        }
    }
}

#[tokio::test]
async fn what_the_data_plane_counts_by_place_is_judged_by_role() {
    let folder = tempfile::tempdir().unwrap();
    let mut shop = config("shop");
    shop.guard = GuardMode::Notify;
    shop.stable = Variant::Green;
    let control = start_with(folder.path(), vec![shop]);
    let worker = control.tallies().worker(0);
    let mut beat = Beat::new();
    commit(&control, &shift(&[("shop", 10)])).await.unwrap();
    beat.tick(&control);
    // Blue is the candidate.
    serve(&control, &worker, "shop", PerVariant { blue: (100, Some(10)), green: (900, None) });
    beat.tick(&control);
    let figures = control.rollout_figures(&control.desired(), "shop").unwrap();
    assert_eq!((figures.stage, figures.excess_failures), (1, 10.0));
    commit(&control, &shift(&[("shop", 0)])).await.unwrap();
    beat.tick(&control);
    let figures = control.rollout_figures(&control.desired(), "shop").unwrap();
    assert_eq!((figures.stage, figures.excess_failures), (0, 10.0), "counters outlive the rollout");
    assert!(control.stop());
    let text = control.record_reader().unwrap().tail("shop", None, 1 << 30).unwrap();
    let seen = text.lines().find_map(|line| match serde_json::from_str(line).unwrap() {
        Line::Tick { evidence, .. } if evidence.requests.candidate > 0 => Some(evidence),
        _ => None,
    });
    let seen = seen.unwrap();
    assert_eq!(seen.requests, PerRole { stable: 900, candidate: 100 });
    assert_eq!(seen.failures, PerRole { stable: 0, candidate: 10 });
    let by_cookie = &seen.strata[Stratum::Cookie as usize];
    assert_eq!((by_cookie.errors.candidate.events, by_cookie.errors.stable.events), (10, 0));
    assert!(by_cookie.errors.candidate.units >= 90 && by_cookie.errors.stable.units >= 850);
}

/// Prints what a beat of many rollouts costs:
/// `cargo test --release --lib ten_thousand -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "prints figures"]
async fn ten_thousand_rollouts_tick_in_well_under_200_ms() {
    const MANY: usize = 10_000;
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) / 1024
    };
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..MANY).map(|at| format!("service-{at}")).collect();
    let configs =
        names.iter().map(|name| ServiceConfig { guard: GuardMode::Rollback, ..config(name) }).collect();
    let control = start_with(folder.path(), configs);
    let before = resident();
    let weights = names.iter().map(|name| (name.as_str().into(), percent(5))).collect();
    commit(&control, &Change::Shift { weights, if_generation: None, take_over: false }).await.unwrap();
    let mut beat = Beat::new();
    let mut costs = Vec::new();
    for _ in 0..20 {
        let begun = clock::now();
        beat.tick(&control);
        costs.push(clock::now() - begun);
    }
    assert_eq!(control.running_rollouts(), MANY);
    let figures = |costs: &mut Vec<Duration>| {
        costs.sort();
        format!("median {:?}, most {:?}", costs[costs.len() / 2], costs[costs.len() - 1])
    };
    let first = costs.remove(0);
    let idle = figures(&mut costs);
    println!("{MANY} idle: first {first:?}, {idle}; {} MiB more", resident().saturating_sub(before));

    // Each with some requests, a few of which fail.
    let worker = control.tallies().worker(0);
    let mut costs = Vec::new();
    for _ in 0..20 {
        for name in &names {
            serve(&control, &worker, name, PerVariant { blue: (4, Some(50)), green: (2, Some(40)) });
        }
        let begun = clock::now();
        beat.tick(&control);
        costs.push(clock::now() - begun);
    }
    println!("{MANY} busy: {}; {} MiB more", figures(&mut costs), resident().saturating_sub(before));
    println!("lines dropped: {}", control.records_dropped());
    control.stop();
}

#[tokio::test]
async fn a_split_that_nothing_moves_is_told_once_when_it_expires() {
    let folder = tempfile::tempdir().unwrap();
    let control =
        start_with(folder.path(), vec![ServiceConfig { split_expires: Some(60 * SECOND), ..config("shop") }]);
    let mut events = control.events().follow();
    let mut told = || {
        let mut count = 0;
        while let Ok(entry) = events.try_recv() {
            count += usize::from(entry.what == "split-expired");
        }
        count
    };
    let mut beat = Beat::new();
    commit(&control, &shift(&[("shop", 25)])).await.unwrap();
    for _ in 0..59 {
        beat.tick(&control);
    }
    assert_eq!((told(), control.split_expired("shop", Timestamp::from_millis(beat.at))), (0, None));
    for _ in 0..30 {
        beat.tick(&control);
    }
    let since = control.desired().service("shop").unwrap().running().unwrap().since;
    assert_eq!(control.split_expired("shop", Timestamp::from_millis(beat.at)), Some(since));
    assert_eq!(told(), 1);

    commit(&control, &shift(&[("shop", 100)])).await.unwrap();
    for _ in 0..90 {
        beat.tick(&control);
    }
    assert_eq!((told(), control.split_expired("shop", Timestamp::from_millis(beat.at))), (0, None));
}
