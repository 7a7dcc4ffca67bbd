use super::*;
use crate::admin::api::RolloutChange;
use crate::traffic::{Variant, Weight};

fn change(from: u32, to: u32, done: &str, phase: &str) -> ServiceChange {
    ServiceChange {
        service: "shop".to_owned(),
        candidate: Variant::Green,
        from: Weight::from_percent(from).unwrap(),
        to: Weight::from_percent(to).unwrap(),
        mirror_from: Weight::ZERO,
        mirror: Weight::ZERO,
        lock: None,
        changed: true,
        endpoints: Vec::new(),
        version: None,
        endpoints_changed: None,
        rollout: Some(RolloutChange {
            name: "2.0.1".to_owned(),
            phase: serde_json::from_str(phase).unwrap(),
            done: done.to_owned(),
        }),
    }
}

const HOLDING: &str = r#"{"phase":"holding"}"#;
const PROMOTED: &str = r#"{"phase":"ended","how":{"how":"promoted"}}"#;
const ROLLED_BACK: &str = r#"{"phase":"ended","how":{"how":"rolled-back","why":"uid 0 said so"}}"#;

#[test]
fn a_start_is_told_with_all_that_goes_with_a_change() {
    let changed = Changed {
        host: "web-1".to_owned(),
        generation: 41,
        saved: true,
        unconfirmed: Vec::new(),
        live_us: 210,
        changes: vec![change(0, 1, "started", HOLDING)],
        undo: Some("tidegate rollback shop".to_owned()),
    };
    assert_eq!(
        reply_to_act(&changed),
        "shop: rollout 2.0.1 started: green 0 % → 1 %, live in 0.2 ms, saved [web-1, generation 41]\n\
         undo: tidegate rollback shop\n"
    );
}

#[test]
fn each_act_is_told_in_its_own_words() {
    #[track_caller]
    fn check(change: &ServiceChange, expected: &str) {
        assert_eq!(acted(change), expected);
    }
    check(&change(5, 25, "advanced", HOLDING), "rollout 2.0.1 advanced: green 5 % → 25 %");
    check(
        &change(5, 5, "paused", r#"{"phase":"paused","why":{"by":"person","actor":"uid 0"}}"#),
        "rollout 2.0.1 paused: green stays at 5 %",
    );
    check(&change(25, 0, "promoted", PROMOTED), "rollout 2.0.1 promoted: everybody is on it");
    check(&change(25, 0, "rolled back", ROLLED_BACK), "rollout 2.0.1 rolled back: green 25 % → 0 %");
    check(
        &change(0, 0, "started", r#"{"phase":"waiting"}"#),
        "rollout 2.0.1 started and waits for its first stage: green stays at 0 %",
    );
    check(&change(0, 0, "rolled back", ROLLED_BACK), "rollout 2.0.1 rolled back: everybody is on blue");
    let again = ServiceChange { changed: false, ..change(0, 0, "rolled back", ROLLED_BACK) };
    check(&again, "rollout 2.0.1: nothing to do, green stays at 0 %");
    check(&ServiceChange { rollout: None, ..again.clone() }, "no rollout, green stays at 0 %");
    assert_eq!(frozen(&again), "frozen already, green stays at 0 %");
    assert_eq!(thawed(&ServiceChange { changed: true, ..again }), "may advance again, green stays at 0 %");
}

/// A rollout in its first stage of two; `phase` is JSON.
fn view(phase: &str) -> RolloutView {
    let stage = |weight: &str| {
        serde_json::json!({"weight": weight, "hold": {"for": {"secs": 60, "nanos": 0}}, "min_requests": 0,
            "max_hold": null, "approval": false, "gates": null, "tolerate": null})
    };
    let second = serde_json::json!({"secs": 1, "nanos": 0});
    let gates = serde_json::to_value(crate::rollout::Gates::none()).unwrap();
    serde_json::from_value(serde_json::json!({
        "service": "shop", "candidate": "green", "weight": "5%", "versions": {"blue": "2.0.0", "green": "2.0.1"},
        "rollout": {
            "id": 41, "manual": false, "mode": "rollback", "started": "2026-01-01T00:00:00Z", "actor": "uid 0",
            "stage": 0, "since": "2026-01-01T00:00:00Z", "transitions": 1,
            "phase": serde_json::from_str::<serde_json::Value>(phase).unwrap(),
            "plan": {
                "name": "autumn", "delay": second, "stages": [stage("5%"), stage("50%")], "gates": gates,
                "false_rollback": 0.01, "warmup": second, "on_inconclusive": "hold", "keep": second,
                "windows": {}, "slo": null, "confirm": {}, "notify": [],
            },
        },
        "tick": null, "held_ms": 3000, "freeze": null,
    }))
    .unwrap()
}

#[test]
fn who_waits_hears_how_it_came_out() {
    #[track_caller]
    fn check(phase: &str, expected: Option<Result<(), &str>>) {
        let got = end(&view(phase));
        match (got, expected) {
            (None, None) | (Some(Ok(())), Some(Ok(()))) => {}
            (Some(Err(failure)), Some(Err(text))) => {
                assert_eq!((failure.to_string().as_str(), failure.exit_code()), (text, 4));
            }
            (got, expected) => panic!("{phase}: {got:?} instead of {expected:?}"),
        }
    }
    check(HOLDING, None);
    check(r#"{"phase":"paused","why":{"by":"person","actor":"uid 0"}}"#, None);
    check(PROMOTED, Some(Ok(())));
    check(ROLLED_BACK, Some(Err("shop: rollout autumn: rolled back: uid 0 said so")));
    check(
        r#"{"phase":"paused","why":{"by":"gate","gate":"latency","sentence":"green is slower"}}"#,
        Some(Err("shop: rollout autumn: paused: green is slower")),
    );
}

#[test]
fn a_status_of_rollouts_has_a_head_and_lines_each() {
    assert_eq!(
        rendered(&[], 80, false),
        "no rollout is running; `tidegate rollout log` tells of those that were\n"
    );
    assert_eq!(
        rendered(&[view(HOLDING), view(PROMOTED)], 80, false),
        "shop  green 2.0.1  at 5 %\n  rollout: autumn, stage 1 of 2 at 5 %, holding\n\n\
         shop  green 2.0.1  at 5 %\n  rollout: autumn, promoted\n"
    );
    assert_eq!(plain(&view(HOLDING)), "shop: rollout autumn: 1 of 2, holding, green 5 %\n");
}
