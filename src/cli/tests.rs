use std::time::Duration;

use clap::CommandFactory;

use super::args::{Break, Demo};
use super::*;
use crate::traffic::Weight;

fn parse(line: &str) -> Result<Verb, clap::Error> {
    let words = std::iter::once("tidegate").chain(line.split_whitespace());
    CommandLine::try_parse_from(words).map(|command| command.verb)
}

fn words(list: &[String]) -> String {
    list.join(" ")
}

#[test]
fn the_command_line_holds_together() {
    CommandLine::command().debug_assert();
}

#[test]
fn flags_may_stand_anywhere() {
    for line in [
        "shift shop=25% cart=10% --if-generation 41 --reason why --as alice --wait --timeout 5s --json --idempotency-key k",
        "shift --if-generation 41 --reason why --as alice --wait --timeout 5s --json --idempotency-key k shop=25% cart=10%",
    ] {
        let Verb::Shift(shift) = parse(line).unwrap() else { panic!("{line}") };
        assert_eq!(words(&shift.words), "shop=25% cart=10%");
        assert_eq!(shift.if_generation, Some(41));
        assert_eq!(shift.change.reason.as_deref(), Some("why"));
        assert_eq!(shift.change.claim.claimed.as_deref(), Some("alice"));
        assert_eq!(shift.change.once.idempotency_key.as_deref(), Some("k"));
        assert_eq!(shift.reach.timeout, Some(Duration::from_secs(5)));
        assert!(shift.wait && shift.reach.json);
    }
}

#[test]
fn each_verb_takes_what_it_needs() {
    let Verb::Kill(kill) = parse("kill shop cart").unwrap() else { panic!() };
    assert_eq!((words(&kill.services).as_str(), kill.all), ("shop cart", false));
    let Verb::Kill(kill) = parse("kill --all").unwrap() else { panic!() };
    assert!(kill.services.is_empty() && kill.all);
    let Verb::Arm(arm) = parse("arm shop --note fixed").unwrap() else { panic!() };
    assert_eq!((words(&arm.services).as_str(), arm.note.as_str()), ("shop", "fixed"));
    let Verb::Deploy(deploy) = parse("deploy shop http://a:1 http://b:2 --version 2.0.1 --wait").unwrap()
    else {
        panic!()
    };
    assert_eq!(words(&deploy.words), "shop http://a:1 http://b:2");
    assert_eq!((deploy.version.as_deref(), deploy.wait), (Some("2.0.1"), true));
    let Verb::Endpoint(endpoint) =
        parse("endpoint add shop green http://a:1 --weight 2 --wait --force --if-generation 4").unwrap()
    else {
        panic!()
    };
    let super::args::EndpointVerb::Add(add) = endpoint.verb else { panic!() };
    assert_eq!((words(&add.endpoints.words).as_str(), add.weight), ("shop green http://a:1", Some(2)));
    assert!(add.endpoints.wait && add.endpoints.force && add.endpoints.if_generation == Some(4));
    assert!(parse("endpoint remove shop green http://a:1 --weight 2").is_err());
    let Verb::Reload(reload) = parse("reload --dry-run --discard-overlay").unwrap() else { panic!() };
    assert!(reload.dry_run && reload.discard_overlay);
    let Verb::Explain(explain) = parse("explain shop --user alice").unwrap() else { panic!() };
    assert_eq!((explain.service.as_deref(), explain.user.as_deref()), (Some("shop"), Some("alice")));
    let Verb::Explain(explain) = parse("explain shop").unwrap() else { panic!() };
    assert!(explain.user.is_none() && explain.visitor.is_none());
    let Verb::Events(events) = parse("events -f").unwrap() else { panic!() };
    assert_eq!((events.last, events.follow), (20, true));
    let Verb::Override(tester) = parse("override shop green --for 2h").unwrap() else { panic!() };
    assert_eq!((words(&tester.words).as_str(), tester.span), ("shop green", Duration::from_secs(7200)));
    let Verb::Status(status) = parse("status -w").unwrap() else { panic!() };
    assert!(status.watch && status.service.is_none());
    let Verb::Run(run) = parse("run -c t.yaml --listen :80,:81 --threads 2 --access-log all").unwrap() else {
        panic!()
    };
    let overrides = crate::config::Overrides::from(run.overrides);
    assert_eq!((words(&overrides.listen).as_str(), overrides.threads.unwrap().get()), (":80 :81", 2));
    assert_eq!(overrides.access_log.as_deref(), Some("all"));
}

#[test]
fn each_verb_of_rollouts_takes_what_it_needs() {
    use super::rollout::args::{MetricVerb, OnOff, RolloutVerb};
    let rollout = |line: &str| match parse(line).unwrap() {
        Verb::Rollout(rollout) => rollout.verb,
        other => panic!("{other:?}"),
    };
    let RolloutVerb::Start(start) = rollout(
        "rollout start shop --schedule canary --name autumn --version 2.0.1 --take-over --wait --reason why",
    ) else {
        panic!()
    };
    assert_eq!((start.service.as_deref(), start.what.schedule.as_deref()), (Some("shop"), Some("canary")));
    assert_eq!((start.what.name.as_deref(), start.what.version.as_deref()), (Some("autumn"), Some("2.0.1")));
    assert!(start.take_over && start.wait && start.change.reason.is_some());
    let RolloutVerb::Plan(plan) = rollout("rollout plan -f plan.yaml -c tidegate.yaml --json") else {
        panic!()
    };
    assert!(plan.service.is_none() && plan.what.file.is_some() && plan.config.is_some() && plan.reach.json);
    let RolloutVerb::Status(status) = rollout("rollout status -w") else { panic!() };
    assert!(status.watch && status.service.is_none());
    for line in ["pause", "resume shop", "advance shop --as alice", "promote", "rollback shop --reason why"] {
        rollout(&format!("rollout {line}"));
    }
    let Verb::Rollback(act) = parse("rollback shop --idempotency-key k").unwrap() else { panic!() };
    assert_eq!(act.service.as_deref(), Some("shop"));
    assert!(matches!(rollout("rollout log shop"), RolloutVerb::Log(_)));
    assert!(matches!(rollout("rollout replay shop.jsonl"), RolloutVerb::Replay(_)));
    let Verb::Freeze(freeze) = parse("freeze on shop cart --reason incident").unwrap() else { panic!() };
    assert_eq!((freeze.state, words(&freeze.services).as_str()), (OnOff::On, "shop cart"));
    let Verb::Signal(signal) = parse("signal shop db_corruption --critical").unwrap() else { panic!() };
    assert_eq!((words(&signal.words).as_str(), signal.critical), ("shop db_corruption", true));
    let Verb::Metric(metric) = parse("metric push shop conversion --candidate -0.5 --stable 1").unwrap()
    else {
        panic!()
    };
    let MetricVerb::Push(push) = metric.verb;
    assert_eq!((push.candidate, push.stable), (-0.5, Some(1.0)));
    let Verb::Shift(shift) = parse("shift shop 25% --take-over").unwrap() else { panic!() };
    assert!(shift.take_over);
}

#[test]
fn a_demo_runs_or_is_broken() {
    let Verb::Demo(Demo { port, verb: None }) = parse("demo").unwrap() else { panic!() };
    assert_eq!(port, 8080);
    let line = "demo break --errors 5% --latency 200ms";
    let Verb::Demo(Demo { verb: Some(DemoVerb::Break(Break { errors, latency, .. })), .. }) =
        parse(line).unwrap()
    else {
        panic!()
    };
    assert_eq!(errors, Weight::from_percent(5));
    assert_eq!(latency, Some(Duration::from_millis(200)));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "",
        "shit shop 25%",
        "shift",
        "kill shop --all",
        "arm shop",
        "arm shop --note=",
        "deploy",
        "explain shop --user a --visitor b",
        "events -n 1001",
        "events -n -1",
        "override",
        "override shop green now",
        "run",
        "run -c t.yaml --threads 0",
        "check",
        "demo --port 0",
        "demo --port 65536",
        "demo break",
        "demo break --errors 5",
        "stop --timeout 5",
        "shift 5% --if-generation x",
        "shift 5% --idempotency-key=",
        "status --config x",
        "rollout",
        "rollout start shop --schedule canary -f plan.yaml",
        "rollout replay",
        "freeze",
        "freeze maybe",
        "freeze on shop --all",
        "signal",
        "metric push shop",
        "metric push shop conversion",
        "metric push shop conversion --candidate nan",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    let long = format!("kill --all --idempotency-key {}", "k".repeat(129));
    assert!(parse(&long).is_err());
}

#[test]
fn a_negative_share_is_told_as_such() {
    let Err(error) = parse("shift shop -1%") else { panic!() };
    assert_eq!(error.kind(), ErrorKind::UnknownArgument);
}
