//! Both forms become the launch that they mean, and whatever is wrong is told with its place and its cure.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::launch::{
    Action, Check, CheckKind, Command, ItemKind, Phase, Rollout, SchemaCheck, Tier, Variable,
};
use crate::traffic::Weight;

const OWN: &str = r#"launch: shop-2.0.2
service: shop
window: {from: "2026-12-20 14:00 UTC", for: 1h}
rollback_within: 5m
breaker: {error_rate: 2%, latency_p99: 800ms, health_check_failures: 3}
checklist: [{id: db-backup, sign: devops, due: -24h, evidence: required}, {id: smoke, auto: [./smoke]}]
go_nogo: {roles: [pm, tech-lead, devops, qa, sponsor], due: -1h}
phases:
  - {id: expand,  check: [{schema_compatibility: {command: [./check-schema]}}], do: [./migrate, up], undo: none, timeout: 30s}
  - {id: deploy,  check: [{image_digest: {image: "${IMAGE}", digest: "${DIGEST}"}}], do: [./deploy, "${IMAGE}"], undo: [./deploy, "${PREVIOUS}"],
     verify: [{http_status: {path: /up, expected: 200, retries: 3}}]}
  - {id: traffic, rollout: canary, check: [{feature_flag_evaluation: {provider: "http://127.0.0.1:8016", flags: [new_checkout], expect: on}}]}
  - {id: observe, for: 30m}
"#;

const OLDER: &str = r#"launch:
  environment: production
  rollback_threshold: {error_rate: 0.02, latency_p99_ms: 800, health_check_failures: 3}
  phases:
    - id: migrate
      name: Migrate the database
      timeout_ms: 30000
      rollback_on_failure: true
      validators:
        - {type: schema_compatibility, config: {command: "check_schema --both"}}
      actions: {execute: "run_migration --direction up", rollback: "run_migration --direction down"}
    - id: deploy
      name: Deploy
      timeout_ms: 120000
      rollback_on_failure: true
      validators:
        - {type: image_digest, config: {image: "registry.internal:5000/shop:${IMAGE_TAG}", expected_digest: "${DIGEST}"}}
      actions: {execute: "deploy --tag ${IMAGE_TAG}", rollback: "deploy --tag '${PREVIOUS}'"}
    - id: smoke
      validators: [{type: http_status, config: {path: /up, expected_status: [200, 204], retries: 3, timeout_ms: 5000}}]
      actions: {execute: run_synthetic_tests}
    - id: traffic
      name: Shift
      timeout_ms: 60000
      rollback_on_failure: false
      validators:
        - {type: feature_flag_evaluation, config: {provider: "http://127.0.0.1:8016", flags: [new_checkout], expected: true}}
      actions: {execute: "shift_traffic --percent 25", rollback: disable_traffic}
"#;

fn digest() -> String {
    format!("sha256:{}", "0123456789abcdef".repeat(4))
}

fn variable(name: &str) -> Option<String> {
    match name {
        "IMAGE" => Some("127.0.0.1:5000/shop:2.0.2".to_owned()),
        "IMAGE_TAG" => Some("2.0.2".to_owned()),
        "PREVIOUS" => Some("127.0.0.1:5000/shop:2.0.1".to_owned()),
        "DIGEST" => Some(digest()),
        "FLAGS_TOKEN" | "MINE" => Some("hush".to_owned()),
        "HOME" => Some("/home/ops".to_owned()),
        _ => None,
    }
}

fn around(folder: &Path) -> Around<'_> {
    let at = "2026-11-21T08:00:00Z".parse().unwrap();
    Around { variable: &variable, service: None, at, folder }
}

fn with_service(text: &str) -> Result<Read, String> {
    let around = Around { service: Some("shop"), ..around(Path::new("/nowhere")) };
    read(text, "launches/shop release.yaml", &around).map_err(|error| error.to_string())
}

#[track_caller]
fn launched(text: &str) -> Launch {
    let read = read(text, "l.yaml", &around(Path::new("/nowhere"))).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.warnings, []);
    let saved = serde_json::to_string(&*read.launch).unwrap();
    assert_eq!(serde_json::from_str::<Launch>(&saved).unwrap(), *read.launch);
    Launch::clone(&read.launch)
}

fn argv(words: &[&str]) -> Command {
    Command::Argv(words.iter().map(|word| Arc::from(*word)).collect())
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn the_form_of_the_field_becomes_the_launch_that_it_means() {
    let launch = launched(OWN);
    assert_eq!((&*launch.name, &*launch.service, launch.tier), ("shop-2.0.2", "shop", Tier::Standard));
    let window = launch.window.unwrap();
    assert_eq!(window.from.to_string(), "2026-12-20T14:00:00.000Z");
    assert_eq!(window.lasts, seconds(3600));
    let breaker = launch.breaker;
    assert_eq!((breaker.error_rate, breaker.latency_p99), (Some(0.02), Some(Duration::from_millis(800))));
    assert_eq!(
        (breaker.health_check_failures, breaker.over, breaker.min_requests),
        (Some(3), seconds(60), 50)
    );
    let [backup, smoke] = &launch.checklist[..] else { panic!("{:?}", launch.checklist) };
    assert_eq!(
        backup.kind,
        ItemKind::Person { role: "devops".into(), due: Some(seconds(86_400)), evidence: true }
    );
    assert_eq!(smoke.kind, ItemKind::Command { run: argv(&["./smoke"]), timeout: seconds(300) });
    let asked = launch.go_nogo.unwrap();
    assert_eq!((asked.roles.len(), asked.due), (5, Some(seconds(3600))));
    assert_eq!((launch.comms.before, launch.comms.every), (vec![seconds(3600)], Some(seconds(1800))));

    let [expand, deploy, traffic, observe] = &launch.phases[..] else { panic!("{:?}", launch.phases) };
    assert_eq!(expand.action, Action::Command { run: argv(&["./migrate", "up"]) });
    assert_eq!((&expand.undo, expand.timeout), (&Undo::None, Some(seconds(30))));
    let run = SchemaCheck::Run(argv(&["./check-schema"]));
    assert_eq!(expand.check, [Check { kind: CheckKind::SchemaCompatibility(run), timeout: seconds(30) }]);
    assert_eq!(deploy.undo, Undo::Command { run: argv(&["./deploy", "${PREVIOUS}"]) });
    let image =
        CheckKind::ImageDigest { image: "${IMAGE}".into(), digest: "${DIGEST}".into(), plain_http: None };
    assert_eq!(deploy.check[0].kind, image);
    let up = HttpCheck { path: "/up".into(), expected: vec![(200, 200)], contains: None, retries: 3 };
    assert_eq!(deploy.verify()[0].kind, CheckKind::HttpStatus(up));
    assert_eq!((deploy.timeout, deploy.undo_timeout), (Some(seconds(600)), seconds(150)), "half of 5 min");
    let canary = Rollout { schedule: Some("canary".into()), plan: None };
    assert_eq!((&traffic.action, traffic.timeout), (&Action::Rollout(canary), None));
    assert_eq!((&traffic.undo, traffic.undo_timeout), (&Undo::DisableTraffic, seconds(150)));
    let CheckKind::FeatureFlagEvaluation { provider, flags, expect, .. } = &traffic.check[0].kind else {
        panic!("{traffic:?}")
    };
    assert_eq!((&**provider, &*flags[0], expect), ("http://127.0.0.1:8016", "new_checkout", &true.into()));
    assert_eq!((&observe.action, &observe.undo), (&Action::Observe { lasts: seconds(1800) }, &Undo::None));
    assert!(observe.timeout.unwrap() > seconds(1800));
    assert!(launch.phases.iter().all(|phase| phase.rollback_on_failure));

    let variables: Vec<&str> = launch.variables.keys().map(|name| &**name).collect();
    assert_eq!(variables, ["DIGEST", "IMAGE", "PREVIOUS"]);
    assert_eq!(launch.variables["IMAGE"], Variable::Value("127.0.0.1:5000/shop:2.0.2".into()));
}

#[test]
fn the_older_form_becomes_the_launch_that_it_means() {
    let launch = with_service(OLDER).unwrap().launch;
    assert_eq!((&*launch.name, &*launch.service), ("shop-release", "shop"));
    assert_eq!(launch.environment.as_deref(), Some("production"));
    let breaker = launch.breaker;
    assert_eq!((breaker.error_rate, breaker.latency_p99), (Some(0.02), Some(Duration::from_millis(800))));
    assert_eq!(breaker.health_check_failures, Some(3));
    let [migrate, deploy, smoke, traffic] = &launch.phases[..] else { panic!("{:?}", launch.phases) };
    assert_eq!(migrate.title.as_deref(), Some("Migrate the database"));
    assert_eq!(migrate.action, Action::Command { run: argv(&["run_migration", "--direction", "up"]) });
    assert_eq!(migrate.undo, Undo::Command { run: argv(&["run_migration", "--direction", "down"]) });
    assert_eq!((migrate.timeout, migrate.undo_timeout), (Some(seconds(30)), seconds(30)));
    let run = SchemaCheck::Run(argv(&["check_schema", "--both"]));
    assert_eq!(migrate.check[0].kind, CheckKind::SchemaCompatibility(run));
    assert_eq!(deploy.action, Action::Command { run: argv(&["deploy", "--tag", "${IMAGE_TAG}"]) });
    assert_eq!(deploy.undo, Undo::Command { run: argv(&["deploy", "--tag", "${PREVIOUS}"]) });
    assert_eq!((&smoke.action, &smoke.undo), (&Action::Synthetic, &Undo::None));
    assert_eq!(smoke.check[0].timeout, seconds(5));
    let CheckKind::HttpStatus(up) = &smoke.check[0].kind else { panic!("{smoke:?}") };
    assert_eq!(up.expected, [(200, 200), (204, 204)]);
    assert_eq!(traffic.action, Action::Shift { weight: Weight::from_percent(25).unwrap() });
    assert_eq!((&traffic.undo, traffic.rollback_on_failure), (&Undo::DisableTraffic, false));
    assert_eq!(launch.variables["IMAGE_TAG"], Variable::Value("2.0.2".into()));
    assert!(launch.comms.before.is_empty(), "without a window");
}

#[test]
fn json_is_read_as_well() {
    let value: serde_json::Value = serde_json::json!({
        "launch": { "environment": "production", "service": "shop", "name": "shop-${IMAGE_TAG}", "phases": [
            { "id": "traffic", "actions": { "execute": "shift_traffic --percent=12.5%" } },
        ] },
    });
    let text = serde_json::to_string_pretty(&value).unwrap();
    let launch = launched(&text);
    assert_eq!(&*launch.name, "shop-2.0.2");
    let weight = "12.5%".parse().unwrap();
    let Phase { action, undo, .. } = &launch.phases[0];
    assert_eq!((action, undo), (&Action::Shift { weight }, &Undo::DisableTraffic));
}

#[test]
fn each_preset_is_a_launch_without_mistakes() {
    let variable = |name: &str| match name {
        "WINDOW" => Some("2026-12-20 14:00 Europe/Berlin".to_owned()),
        other => variable(other),
    };
    let around = Around { variable: &variable, ..around(Path::new("/nowhere")) };
    for name in PRESETS {
        let text = preset(name, "shop", "2.0.2").unwrap();
        let read = read(&text, name, &around).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read.warnings, []);
        assert_eq!((&*read.launch.name, &*read.launch.service), ("shop-2.0.2", "shop"));
        assert!(read.launch.phases.len() >= 3 && text.starts_with("# "), "{name}");
        let linted = crate::config::lint_file(&text, name, &around).unwrap();
        assert_eq!((linted.kind, linted.mistakes), ("launch", Vec::new()), "{name}");
    }
    assert_eq!(preset("yolo", "shop", "1"), None);
}

/// A launch with these lines beside its name, service and phases.
fn own(lines: &str) -> String {
    format!("launch: a\nservice: shop\nphases: [{{id: traffic, rollout: canary}}]\n{lines}\n")
}

/// A launch with this phase only, in line 3.
fn phase_of(phase: &str) -> String {
    format!("launch: a\nservice: shop\nphases: [{{id: p, {phase}}}]\n")
}

fn older_phase(phase: &str) -> String {
    format!("launch:\n  service: shop\n  phases: [{{id: p, {phase}}}]\n")
}

fn told(text: &str) -> String {
    let error = read(text, "l.yaml", &around(Path::new("/nowhere"))).expect_err(text);
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let got = told(text);
    assert!(got.contains(expected), "{text}\n got: {got}\nwant: {expected}");
    assert!(got.starts_with("l.yaml has 1 problem ") || got.starts_with("l.yaml line "), "{text}\n{got}");
}

#[test]
fn each_problem_of_a_launch_names_its_place_and_its_cure() {
    assert!(told("{}").starts_with("l.yaml has 3 problems "), "{}", told("{}"));
    check(
        "service: shop\nphases: [{id: a, rollout: canary}]",
        "launch line 1: what is it called? Add launch: NAME",
    );
    check(
        "launch: a b\nservice: s\nphases: [{id: a, rollout: canary}]",
        "launch = a b line 1: a name has letters",
    );
    check("launch: a\nphases: [{id: a, rollout: canary}]", "service line 1: which service does it release?");
    check("launch: a\nservice: shop", "phases line 1: there is no phase");
    check("launch: a\nservice: shop\nphases: []", "phases line 3: there is no phase");
    check(&own("tier: high"), "tier = high line 4: did you mean critical?");
    check(&own("tier: low"), "tier = low line 4: did you mean internal?");
    check(&own("window: {from: 2026-12-20, for: 1h}"), "is no moment; write date, time and time zone");
    check(
        &own("window: {from: '2026-12-20 14:00', for: 1h}"),
        "in which time zone? Write 2026-12-20 14:00 UTC",
    );
    check(&own("window: {from: '2026-12-20 14:00 Berlin', for: 1h}"), "\"Berlin\" is no time zone");
    check(
        &own("window: {from: '2027-03-28 02:30 Europe/Berlin', for: 1h}"),
        "clocks are changed there; write it in UTC",
    );
    check(
        &own("window: {from: '2026-11-20 14:00 UTC', for: 1h}"),
        "window.from = 2026-11-20 14:00 UTC line 4: it is over: the window closed at 2026-11-20T15:00:00.000Z",
    );
    check(&own("window: {from: '2026-12-20 14:00 UTC', for: 0s}"), "window.for = 0s line 4: never opens");
    check(&own("window: {from: '2026-12-20 14:00 UTC'}"), "window line 4: how long is it open?");
    check(&own("window: {for: 1h}"), "window line 4: when does it open?");
    check(&own("window: soon"), "window = soon line 4: a mapping (key: value) is expected here");
    check(&own("rollback_within: 0s"), "rollback_within = 0s line 4: no rollback takes no time");
    check(
        &own("breaker: {error_rate: 2}"),
        "breaker.error_rate = 2 line 4: a share needs its unit; did you mean 2%?",
    );
    check(&own("breaker: {error_rate: 0%}"), "the first request that fails would end the launch");
    check(&own("breaker: {error_rate: 100%}"), "never trips");
    check(&own("breaker: {latency_p99: 0s}"), "breaker.latency_p99 = 0s line 4: no time at all");
    check(&own("breaker: {min_requests: 10}"), "breaker line 4: watches nothing");
    check(
        &own("breaker: {error_rate: 2%, over: 5m}"),
        "breaker.over = 5m line 4: rates are kept of 10s and of 1m",
    );
    check(
        &own("breaker: {eror_rate: 2%}"),
        "line 4, column 11: unknown key \"eror_rate\"; did you mean error_rate?",
    );
    check(&own("flags: {names: [a]}"), "flags line 4: what switches them off? Add off: HOOK");
    check(&own("flags: {off: provider}"), "flags line 4: which flags?");
    check(&own("checklist: [{sign: qa}]"), "checklist[0] line 4: an item needs a name");
    check(
        &own("checklist: [{id: a}]"),
        "checklist[0] line 4: who checks it? Add sign: ROLE, or auto: [PROGRAM]",
    );
    check(&own("checklist: [{id: a, sign: qa, auto: [x]}]"), "auto checks it already");
    check(
        &own("checklist: [{id: a, sign: qa}, {id: a, sign: pm}]"),
        "checklist[1].id = a line 4: stands here twice (line 4)",
    );
    check(
        &own("window: {from: '2026-12-20 14:00 UTC', for: 1h}\nchecklist: [{id: a, sign: qa, due: 24h}]"),
        "checklist[0].due = 24h line 5: counts back from the opening of the window; did you mean -24h?",
    );
    check(&own("checklist: [{id: a, sign: qa, evidence: yes}]"), "is neither required nor optional");
    check(
        &own("checklist: [{id: a, auto: ./smoke --fast}]"),
        "no shell runs it; write a list: [./smoke, --fast]",
    );
    check(&own("checklist: [{id: a, sign: qa, timeout: 5m}]"), "is for auto; write due");
    check(&own("go_nogo: {roles: []}"), "go_nogo line 4: who votes?");
    check(
        &own("go_nogo: {roles: [pm, devopps]}"),
        "go_nogo.roles = devopps line 4: nobody has the role devopps; did you mean devops?",
    );
    check(&own("go_nogo: {roles: [ceo]}"), "nobody has the role ceo; known are dba, devops,");
    check(
        &own("roles: [ceo]\ngo_nogo: {roles: [pm]}"),
        "nobody has the role pm; known are ceo, or name it under roles",
    );
    check(&own("roles: [ceo]\nchecklist: [{id: a, sign: qa}]"), "a of the checklist is signed by qa");
    check(&own("go_nogo: {roles: [pm, pm]}"), "stands here twice");
    check(&own("warmup: {rps: 10}"), "warmup line 4: what is asked for?");
    check(
        &own("warmup: {urls: [up]}"),
        "warmup.urls = up line 4: a path begins with a slash; did you mean /up?",
    );
    check(&own("warmup: {urls: [/], rps: 5000}"), "is not a whole number from 1 to 1000");
    check(
        &own("warmup: {urls: [/], rps: 1, timeout: 10s}"),
        "warmup line 4: 1 requests a second do not come to 100 hits in 10s",
    );
    check(
        &own("warmup: {urls: [/], rps: 1, min_hits: 11, timeout: 10s}"),
        "warmup line 4: 1 requests a second do not come to 11 hits in 10s",
    );
    check(&own("synthetic: [{expected: 200}]"), "synthetic[0] line 4: what is asked for?");
    check(
        &own("synthetic: [{path: /, expected: ok}]"),
        "synthetic[0].expected = ok line 4: \"ok\" is no status",
    );
    check(&own("comms: {every: 1s}"), "comms.every = 1s line 4: nobody reads that often");
    check(&own("comms: off"), "comms = false line 4: is none of none");
    check(&own("contacts: [{role: dba}]"), "contacts[0] line 4: who is it?");
    check(&own("secrets: [A B]"), "secrets = A B line 4: is no name of a variable");
    check(&own("servce: x"), "line 4, column 1: unknown key \"servce\"; did you mean service?");
}

#[test]
fn each_problem_of_a_phase_names_its_place_and_its_cure() {
    let phases = |phases: &str| format!("launch: a\nservice: shop\nphases:\n{phases}\n");
    check(&phases("- {rollout: canary}"), "phases[0] line 4: a phase needs a name");
    check(&phases("- deploy"), "phases[0] = deploy line 4: a mapping (key: value) is expected here");
    check(
        &phases("- {id: a, rollout: canary}\n- {id: a, for: 1m}"),
        "phases[1].id = a line 5: stands here twice (line 4)",
    );
    check(&phases("- {id: a, for: 1m, needs: [a]}"), "phases.a.needs = a line 4: needs itself");
    check(
        &phases("- {id: a, for: 1m, needs: [bb]}\n- {id: b, for: 1m}"),
        "there is no phase bb; there is a, b",
    );
    check(&phases("- {id: a, for: 1m, needs: b}\n- {id: b, for: 1m}"), "comes after a; put b before it");
    check(
        &phases(
            "- {id: a, for: 1m, needs: c}\n- {id: b, for: 1m, needs: a}\n- {id: c, for: 1m, depends_on: [b]}",
        ),
        "phases.a.needs = c line 4: a cycle: a needs c, which needs b, which needs a; cut it",
    );
    let many: String = (0..101).map(|at| format!("- {{id: p{at}, for: 1m}}\n")).collect();
    check(&phases(&many), "phases line 4: 101 are more than 100");
    check(&phase_of("timeout: 5m"), "phases.p line 3: what does it do? Add one of do, rollout, shift");
    check(&phase_of("for: 5m, shift: 5%"), "phases.p line 3: does more than one thing");
    check(&phase_of("do: [./up]"), "phases.p line 3: what undoes it? Add undo, or undo: none");
    check(
        &phase_of("do: ./up now, undo: none"),
        "phases.p.do = ./up now line 3: no shell runs it; write a list: [./up, now]",
    );
    check(&phase_of("do: run_synthetic_tests, undo: none"), "write synthetic: true in place of do");
    check(&phase_of("do: [], undo: none"), "phases.p.do line 3: which program?");
    check(&phase_of("do: {}, undo: none"), "phases.p.do line 3: what is run? Add sh");
    check(&phase_of("do: {shell: x}, undo: none"), "unknown key \"shell\"");
    check(
        &phase_of("do: [x], undo: ./down"),
        "phases.p.undo = ./down line 3: is neither none nor disable_traffic; a command is a list: [./down]",
    );
    check(
        &phase_of("rollout: cannary"),
        "phases.p.rollout = cannary line 3: there is no schedule cannary; did you mean canary?",
    );
    check(&phase_of("rollout: night.yaml"), "for a file write {plan: night.yaml}");
    check(&phase_of("rollout: {plan: night.yaml}"), "/nowhere/night.yaml does not exist");
    check(&phase_of("rollout: {plan: x, schedule: canary}"), "schedule is there, too");
    check(&phase_of("shift: 25"), "phases.p.shift = 25 line 3: a share needs its unit; did you mean 25%?");
    check(&phase_of("shift: 250%"), "250% is outside 0% to 100%");
    check(&phase_of("shift: 0%"), "nobody is on the candidate at 0%");
    check(&phase_of("for: 0s"), "phases.p.for = 0s line 3: is not more than 0s");
    check(&phase_of("for: 30"), "a time needs its unit; did you mean 30s?");
    check(
        &phase_of("for: 30m, timeout: 5m"),
        "phases.p.timeout = 5m line 3: is over before the observation, which lasts 30m",
    );
    check(&phase_of("synthetic: false"), "does nothing; write true");
    check(&phase_of("do: [x], undo: none, timeout: 0s"), "phases.p.timeout = 0s line 3: no time at all");
    check(&phase_of("do: [x], undo: none, timeout: 8d"), "is too long; write at most 168h");
    check(
        &format!("{}rollback_within: 1m\n", phase_of("do: [x], undo: [y], undo_timeout: 2m")),
        "rollback_within = 1m line 4: the undo timeouts of its phases come to 2m; raise it, or lower them",
    );
    check(
        "launch: a\nservice: shop\nrollback_within: 1m\nphases: [{id: p, do: [x], undo: [y], undo_timeout: 1m}, {id: q, shift: 5%}]",
        "rollback_within = 1m line 3: leaves 0s for each of 1 undos",
    );
    check(&phase_of("rollout: canary, rolback_on_failure: true"), "did you mean rollback_on_failure?");
}

#[test]
fn each_problem_of_a_check_names_its_place_and_its_cure() {
    #[track_caller]
    fn of(checked: &str, expected: &str) {
        check(&phase_of(&format!("for: 1m, check: [{checked}]")), expected);
    }
    of("{htp_status: /up}", "line 3, column 36: unknown key \"htp_status\"; did you mean http_status?");
    of("http_status", "a check is a mapping from its kind, one of http_status, schema_compatibility");
    of("{}", "phases.p.check[0] line 3: what is checked? Add one of http_status");
    of("{http_status: /up, tcp: 'a:1'}", "checks more than one thing");
    of(
        "{http_status: up}",
        "phases.p.check[0].http_status = up line 3: a path begins with a slash; did you mean /up?",
    );
    of("{http_status: {expected: 200}}", "what is asked for? Add path, such as /up");
    of("{http_status: {path: /, retries: 101}}", "is not a whole number from 0 to 100");
    of("{http_status: {path: /, expected: []}}", "no answer would do");
    of(
        "{http_status: /up, timeout: 2h}",
        "phases.p.check[0].timeout = 2h line 3: is too long; write at most 1h",
    );
    of(
        "{schema_compatibility: {}}",
        "what is looked at? Add command: [./check-schema], or files: [migrations/]",
    );
    of("{schema_compatibility: {files: [a], dialect: postgres}}", "did you mean postgresql?");
    of(
        "{schema_compatibility: {files: [a], dialect: oracle}}",
        "is none of generic, sqlite, postgresql, mysql",
    );
    of("{schema_compatibility: {command: [a], dialect: sqlite}}", "dialect and allow are for files");
    of(
        "{image_digest: {image: 'shop:1', digest: '${DIGEST}'}}",
        "shop:1 lacks its registry; did you mean docker.io/library/shop:1?",
    );
    of(
        "{image_digest: {image: 'https://a.b/shop:1', digest: '${DIGEST}'}}",
        "has a scheme; write HOST/NAME:TAG",
    );
    of(
        "{image_digest: {image: '${IMAGE}', digest: '${IMAGE}'}}",
        "is no digest; write sha256: and 64 hexadecimal digits",
    );
    of("{image_digest: {image: '${IMAGE}'}}", "which digest is it pinned to?");
    of("{feature_flag_evaluation: {flags: [a]}}", "who is asked? Add provider");
    of("{feature_flag_evaluation: {provider: 'http://f'}}", "which flags? Add flags: [KEY]");
    of(
        "{feature_flag_evaluation: {provider: 'flags:80', flags: a}}",
        "phases.p.check[0].feature_flag_evaluation.provider = flags:80 line 3: lacks its scheme",
    );
    of(
        "{feature_flag_evaluation: {provider: 'http://u:p@f', flags: a}}",
        "provider = (hidden) line 3: has a password in it",
    );
    of(
        "{feature_flag_evaluation: {provider: 'http://f', flags: a, token: abc}}",
        "token = (hidden) line 3: a secret does not stand in a launch",
    );
    of("{command: ./x}", "phases.p.check[0].command = ./x line 3: no shell runs it; write a list: [./x]");
    of("{prometheus: {url: 'http://p', query: up}}", "what has the value to be? Add max, min, or both");
    of("{prometheus: {url: 'http://p', query: up, max: 2%}}", "\"2%\" is no number; write it without a unit");
    of("{prometheus: {url: 'http://p', query: up, max: 1, min: 2}}", "is below min: no value would do");
    of("{prometheus: {url: 'ftp://p', query: up, max: 1}}", "ftp is not spoken; write http:// or https://");
    of("{tcp: db}", "phases.p.check[0].tcp = db line 3: is not HOST:PORT");
    of("{tcp: {}}", "where to? Add address: HOST:PORT");
    of("{policy: {}}", "who is asked? Add command: [conftest, test, -], or url");
}

#[test]
fn each_problem_of_the_older_form_names_its_place_and_its_cure() {
    #[track_caller]
    fn of(phase: &str, expected: &str) {
        check(&older_phase(phase), expected);
    }
    of("name: Deploy", "launch.phases.p line 3: what does it do? Add actions");
    of(
        "actions: {execute: deploy}",
        "launch.phases.p.actions line 3: what undoes it? Add rollback to actions",
    );
    for (line, sign) in [
        ("a | b", "|"),
        ("a > b", ">"),
        ("a; b", ";"),
        ("a && b", "&&"),
        ("a `b`", "`"),
        ("a $(b)", "$("),
        ("a $B", "$ without braces"),
    ] {
        of(
            &format!("actions: {{execute: \"{line}\", rollback: none}}"),
            &format!(
                "launch.phases.p.actions.execute = {line} line 3: {sign} is for a shell, and none runs this"
            ),
        );
    }
    of("actions: {execute: shift_traffic}", "to how much? Write shift_traffic --percent 25");
    of("actions: {execute: shift_traffic --percent 150}", "150% is outside 0% to 100%");
    of("actions: {execute: shift_traffic --percent lots}", "is not a share");
    of("actions: {execute: disable_traffic now}", "disable_traffic takes no arguments");
    of("actions: {execute: none}", "does nothing; leave the phase out");
    of("actions: {execute: x, rollback: run_synthetic_tests}", "tests undo nothing");
    of(
        "timeout_ms: 30s, actions: {execute: run_synthetic_tests}",
        "is in milliseconds, without a unit; did you mean 30000?",
    );
    of("timeout_ms: 0, actions: {execute: run_synthetic_tests}", "no time at all");
    #[track_caller]
    fn validator(validator: &str, expected: &str) {
        of(&format!("validators: [{validator}], actions: {{execute: run_synthetic_tests}}"), expected);
    }
    validator(
        "{type: http_satus, config: {path: /}}",
        "launch.phases.p.validators[0].type = http_satus line 3: there is no validator http_satus; did you mean http_status?",
    );
    validator("{type: vibes}", "there is no validator vibes; is none of schema_compatibility, image_digest");
    validator("{config: {path: /}}", "the key type is missing");
    validator("{type: http_status}", "launch.phases.p.validators[0].config line 3: what is asked for?");
    validator(
        "{type: http_status, config: {path: /, image: a}}",
        "config.image line 3: means nothing to http_status; leave it out",
    );
    validator("{type: http_status, config: {pth: /}}", "unknown key \"pth\"; did you mean path?");
    validator(
        "{type: http_status, config: {url: 'ftp://x/'}}",
        "cannot be asked for; write a path such as /up",
    );
    validator(
        "{type: schema_compatibility, config: {command: 'a | b'}}",
        "config.command = a | b line 3: | is for a shell",
    );
    validator(
        "{type: image_digest, config: {image: '${IMAGE}', expected_digest: abc}}",
        "config.expected_digest = abc line 3: \"abc\" is no digest",
    );
    validator(
        "{type: feature_flag_evaluation, config: {provider: 'http://f', flags: [a], expected: [on, off]}}",
        "one value is expected here",
    );
    validator("{type: command}", "which command? Add command");
    validator("{type: tcp}", "where to? Add address");
    let threshold = |line: &str| {
        format!(
            "launch:\n  service: shop\n  rollback_threshold: {{{line}}}\n  phases: [{{id: p, actions: {{execute: run_synthetic_tests}}}}]\n"
        )
    };
    check(
        &threshold("error_rate: 2"),
        "launch.rollback_threshold.error_rate = 2 line 3: is a fraction of 1; did you mean 0.02, which is 2%?",
    );
    check(&threshold("error_rate: 0"), "must be more than 0 and less than 1");
    check(&threshold("latency_p99_ms: 800ms"), "is in milliseconds, without a unit; did you mean 800?");
    check(&threshold("health_check_failures: 0"), "must be at least 1");
    let both = "launch: {phases: [{id: a, actions: {execute: run_synthetic_tests}}]}\nservice: s\nphases: [{id: a, for: 1m}]";
    check(both, "phases line 3: launch.phases is there, too; leave one out");
}

#[test]
fn an_address_of_the_older_form_is_asked_for_at_the_candidate() {
    let text = older_phase(
        "validators: [{type: http_status, config: {url: 'http://shop.internal:8080/health?full=1'}}], actions: {execute: run_synthetic_tests}",
    );
    let read = with_service(&text).unwrap();
    let CheckKind::HttpStatus(check) = &read.launch.phases[0].check[0].kind else { panic!() };
    assert_eq!((&*check.path, &check.expected[..]), ("/health?full=1", &[(200, 399)][..]));
    assert!(read.warnings[0].why.contains("whoever this names"), "{:?}", read.warnings);
}

#[test]
fn variables_are_set_or_it_is_said_which_is_not() {
    let using = |text: &str| phase_of(&format!("do: [x, \"{text}\"], undo: none"));
    check(
        &using("${NOPE}"),
        "phases.p.do = ${NOPE} line 3: the environment has no NOPE; set it, or write $${ for a plain ${",
    );
    check(&using("${1}"), "\"${1}\" is no variable; write ${NAME}");
    check(&using("a ${IMAGE"), "is no variable; write ${NAME}");
    check(
        "launch: \"a-${NOPE}\"\nservice: shop\nphases: [{id: p, for: 1m}]",
        "launch = a-${NOPE} line 1: the environment has no NOPE",
    );
    check(
        "launch: \"a-${FLAGS_TOKEN}\"\nservice: shop\nphases: [{id: p, for: 1m}]",
        "FLAGS_TOKEN is a secret, and this is shown",
    );
    check(
        "launch: \"a-${MINE}\"\nservice: shop\nsecrets: [MINE]\nphases: [{id: p, for: 1m}]",
        "MINE is a secret, and this is shown",
    );
    let twice = phase_of("do: [x, \"${NOPE}\", \"${NOPE}\", \"${NADA}\"], undo: [\"${NOPE}\"]");
    assert!(told(&twice).starts_with("l.yaml has 2 problems"), "each is told once: {}", told(&twice));

    let launch = launched(
        "launch: \"a-${IMAGE_TAG}\"\nservice: shop\nversion: \"${IMAGE_TAG}\"\nsecrets: [MINE]\nphases: [{id: p, do: [x, \"$${NOPE}\", \"${MINE}\", \"${FLAGS_TOKEN}\"], undo: none}]",
    );
    assert_eq!((&*launch.name, launch.version.as_deref()), ("a-2.0.2", Some("2.0.2")));
    assert_eq!(launch.variables["MINE"], Variable::Secret);
    assert_eq!(launch.variables["FLAGS_TOKEN"], Variable::Secret);
    assert_eq!(launch.variables.len(), 3);
    assert!(!serde_json::to_string(&launch).unwrap().contains("hush"));
}

#[test]
fn a_variable_within_brackets_needs_its_quotes() {
    check(
        &phase_of("do: [x, ${IMAGE}], undo: none"),
        "l.yaml line 3, column 26: within [ ] and { } a variable has to stand in quotes: \"${IMAGE}\"",
    );
}

#[test]
fn a_shell_has_its_variables_from_the_environment_or_sets_them() {
    let script = |text: &str| phase_of(&format!("do: {{sh: '{text}'}}, undo: {{sh: 'true'}}"));
    let launch = launched(&script("for f in *.sql; do psql -f ${f}; done; deploy ${IMAGE} $HOME ${X:-1} $$"));
    let Action::Command { run: Command::Shell(line) } = &launch.phases[0].action else { panic!() };
    assert!(line.contains("${IMAGE} $HOME ${X:-1} $$"), "{line}");
    let variables: Vec<&str> = launch.variables.keys().map(|name| &**name).collect();
    assert_eq!(variables, ["HOME", "IMAGE"]);
    check(&script("echo ${NOPE}"), "phases.p.do.sh = echo ${NOPE} line 3: the environment has no NOPE");
}

#[test]
fn a_plan_is_read_from_the_launchs_folder_and_whatever_is_wrong_with_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let plan = "{tier: ours, notify: [team], stages: [{weight: 5%, hold: 15m}], gates: {metrics: {a: {source: prom, query: up, pass_if: '< 1'}}}}";
    fs::write(folder.path().join("night.yaml"), plan).unwrap();
    fs::write(folder.path().join("bad.yaml"), "stages: [{weight: 5, hold: 15m}, {weight: 0%, hold: 15}]")
        .unwrap();
    let launch =
        read(&phase_of("rollout: {plan: night.yaml}"), "l.yaml", &around(folder.path())).unwrap().launch;
    let Action::Rollout(Rollout { plan: Some((name, text)), .. }) = &launch.phases[0].action else {
        panic!()
    };
    assert_eq!((&**name, &**text), ("night.yaml", plan));
    let error = read(&phase_of("rollout: {plan: bad.yaml}"), "l.yaml", &around(folder.path())).unwrap_err();
    let got = error.to_string();
    assert!(got.contains("stages[0].weight = 5") && got.contains("did you mean 5%?"), "{got}");
    assert!(got.contains("stages[1].hold = 15"), "{got}");
}

#[test]
fn the_command_line_says_which_service_and_wins() {
    let around = Around { service: Some("cart"), ..around(Path::new("/nowhere")) };
    let read = read(OWN, "l.yaml", &around).unwrap();
    assert_eq!(&*read.launch.service, "cart");
    assert!(read.warnings[0].why.contains("the command line says cart"), "{:?}", read.warnings);
}

#[test]
fn a_rollback_is_divided_over_the_undos_that_say_nothing() {
    let launch = launched(
        "launch: a\nservice: s\nrollback_within: 10m\nphases:\n- {id: a, do: [x], undo: none}\n- {id: b, do: [x], undo: [y], undo_timeout: 4m}\n- {id: c, do: [x], undo: [y]}\n- {id: d, shift: 50%}\n- {id: e, for: 1m}",
    );
    let timeouts: Vec<Duration> = launch.phases[1..4].iter().map(|phase| phase.undo_timeout).collect();
    assert_eq!(timeouts, [seconds(240), seconds(180), seconds(180)]);
}

#[test]
fn a_launch_is_no_larger_than_anybody_reads() {
    let text = format!("{OWN}\n#{}", "x".repeat(LAUNCH_BYTES_MAX));
    assert_eq!(told(&text), "l.yaml is larger than 1 MiB; that is no launch");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_a_file_says_it_is_read_or_told_why_not(
        older in any::<bool>(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[ -~\n]{0,6}"), 1..6),
    ) {
        let mut text = if older { OLDER } else { OWN }.to_owned();
        for (at, length, with) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.replace_range(at..end, &with);
        }
        crate::config::laws::launch(text.as_bytes());
    }
}
