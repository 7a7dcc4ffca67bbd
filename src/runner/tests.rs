//! What follows from what is seen: the parts of a runner that decide.

use std::collections::BTreeMap;

use super::Orders;
use super::attend::{Move, next_move};
use super::journal::fits;
use super::prepare::wrong;
use super::traffic::{Progress, progress};
use crate::admin::api::{Note, ProbeAnswer, Probed, RolloutStatus};
use crate::clock::Timestamp;
use crate::launch::{Next, Outcome, State, Step, Verdict};
use crate::rollout::{Ending, GuardMode, Moving, Phase, Stop};
use crate::traffic::{Variant, Weight};

#[test]
fn what_nobody_knows_is_asked_unless_it_was_said_beforehand() {
    #[track_caller]
    fn check(next: Next, (redo, undo): (bool, bool), expected: Move) {
        let orders = Orders { redo, undo, keeper: "tidegate".into(), folder: ".".into() };
        assert_eq!(next_move(next, &orders), expected);
    }
    let open = |step| Next::Choose { phase: 2, step };
    let (nothing, redo, undo) = ((false, false), (true, false), (false, true));
    check(open(Step::Execute), nothing, Move::Ask { phase: 2, step: Step::Execute });
    check(open(Step::Execute), redo, Move::Choose { phase: 2, redo: true });
    check(open(Step::Execute), undo, Move::Choose { phase: 2, redo: false });
    check(open(Step::Undo), nothing, Move::Choose { phase: 2, redo: false });
    check(open(Step::Undo), redo, Move::Choose { phase: 2, redo: true });
    check(Next::Nothing, redo, Move::Over);
    check(Next::Finish(State::Completed), nothing, Move::Wait);
    check(Next::Do { phase: 0, step: Step::Undo }, nothing, Move::Do { phase: 0, step: Step::Undo });
}

#[test]
fn a_note_is_repeated_only_while_it_is_its_turn() {
    let outcome = Outcome { verdict: Verdict::Passed, said: String::new(), took_ms: 1 };
    let began = Note::Began { phase: 1, step: Step::Execute };
    let ended = Note::Ended { phase: 1, step: Step::Execute, outcome };
    let chose = Note::Chose { phase: 1, redo: true };
    let (to_do, under_way) =
        (Next::Do { phase: 1, step: Step::Execute }, Next::Await { phase: 1, step: Step::Execute });
    assert!(fits(&began, to_do) && !fits(&began, under_way));
    // Somebody stopped the launch meanwhile.
    assert!(!fits(&began, Next::Do { phase: 0, step: Step::Undo }));
    assert!(fits(&ended, under_way) && !fits(&ended, to_do));
    assert!(fits(&chose, Next::Choose { phase: 1, step: Step::Execute }));
    assert!(!fits(&chose, Next::Choose { phase: 0, step: Step::Undo }));
}

fn rollout(phase: Phase) -> RolloutStatus {
    RolloutStatus {
        name: "shop-2.0.2".into(),
        manual: false,
        mode: GuardMode::Rollback,
        stage: 2,
        stages: 5,
        weight: "25%".parse().unwrap_or(Weight::FULL),
        phase,
        since: Timestamp::from_millis(2000),
        started: Timestamp::from_millis(1000),
        tick: None,
        held_ms: 0,
        freeze: None,
    }
}

#[test]
fn a_phase_goes_on_with_its_own_rollout_only() {
    #[track_caller]
    fn check(rollout: Option<&RolloutStatus>, since: u64, expected: Progress) {
        assert_eq!(progress(rollout, "shop-2.0.2", Some(Timestamp::from_millis(since))), expected);
    }
    let holding = rollout(Phase::Holding);
    check(None, 0, Progress::Absent);
    check(Some(&holding), 1000, Progress::Running("25%, stage 2 of 5: holding".into()));
    check(Some(&holding), 1001, Progress::Absent);
    check(Some(&RolloutStatus { manual: true, ..holding.clone() }), 0, Progress::Absent);
    check(Some(&RolloutStatus { name: "shop-2.0.1".into(), ..holding }), 0, Progress::Absent);

    let paused = Phase::Paused { why: Stop::Person { actor: "ada".into() }, was: Moving::Holding };
    check(Some(&rollout(paused)), 0, Progress::Running("25%, stage 2 of 5: paused by ada".into()));
    let ended = |how| rollout(Phase::Ended { how });
    let passed = (Verdict::Passed, "the rollout shop-2.0.2 promoted".into());
    check(Some(&ended(Ending::Promoted)), 0, Progress::Ended(passed));
    let why = "green fails 9 %".to_owned();
    let failed = (Verdict::Failed, "the rollout shop-2.0.2: rolled back: green fails 9 %".into());
    check(Some(&ended(Ending::RolledBack { why })), 0, Progress::Ended(failed));
    let killed = (Verdict::Failed, "the rollout shop-2.0.2: killed".into());
    check(Some(&ended(Ending::Killed)), 0, Progress::Ended(killed));
}

#[test]
fn what_a_probe_found_is_said_endpoint_by_endpoint() {
    let probed = |passed, status, why: Option<&str>| Probed {
        path: "/up".into(),
        passed,
        status,
        why: why.map(str::to_owned),
        attempts: 1,
        ttfb_us: 1,
    };
    let answer = |endpoints: &[(&str, Probed)]| ProbeAnswer {
        variant: Variant::Green,
        endpoints: endpoints
            .iter()
            .map(|(url, probed)| ((*url).to_owned(), vec![probed.clone()]))
            .collect::<BTreeMap<_, _>>(),
    };
    let found = answer(&[
        ("http://a", probed(true, Some(200), None)),
        ("http://b", probed(false, Some(500), None)),
        ("http://c", probed(false, None, Some("connection refused"))),
    ]);
    assert_eq!(wrong(&found), "http://b/up: status 500\nhttp://c/up: connection refused");
    assert_eq!(wrong(&answer(&[])), "green has no endpoint");
}
