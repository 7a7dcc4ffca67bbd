//! Plans of rollouts: what is taken, in each of the forms, and what is refused in which words.

use std::path::Path;
use std::time::Duration;

use tidegate::config::{self, Config, Overrides, PlanRequest};
use tidegate::rollout::{Compare, Gates, GuardMode, Hold, MetricSource, OnFail, OnInconclusive, Plan};

const CONFIG: &str = r#"
tiers: {payment: {errors: {ratio: 1.05, limit: 0.1%}}, tools: {latency: none}}
hooks: {smoke: {command: [bin/smoke, --quick]}, board: {url: "https://changes.example.com/x", timeout: 3s}}
sources: {prom: {prometheus: "http://prometheus:9090/"}}
notify: {team: {slack: "https://hooks.example.com/T1", every: 30m, escalate: {after: 15m, to: oncall}}, oncall: {url: "http://pager:80/"}}
services: {shop: {blue: "http://a:1", green: "http://b:1"}}
"#;

fn configured(text: &str) -> Config {
    config::parse(text, "tidegate.yaml", Path::new("/etc/tidegate"), &Overrides::default()).unwrap()
}

fn request(plan: &str) -> PlanRequest {
    PlanRequest {
        service: "shop".to_owned(),
        file: Some(("plan.yaml".to_owned(), plan.to_owned())),
        version: Some("2.1.0".to_owned()),
        ..PlanRequest::default()
    }
}

#[track_caller]
fn plan(text: &str) -> Plan {
    let plan = configured(CONFIG).planner.compile(&request(text)).map(|(plan, _)| plan);
    (*plan.unwrap_or_else(|problems| panic!("{problems}"))).clone()
}

fn steps(plan: &Plan) -> String {
    let step = |stage: &tidegate::rollout::Stage| match &stage.hold {
        Hold::For(time) => format!("{} {}", stage.weight, config::show_duration(*time)),
        Hold::Until { minute_of_day, zone } => format!("{} until {minute_of_day} {zone}", stage.weight),
        Hold::Endless => format!("{} endless", stage.weight),
    };
    plan.stages.iter().map(step).collect::<Vec<_>>().join(", ")
}

#[test]
fn each_schedule_has_its_weights_and_times() {
    #[track_caller]
    fn check(schedule: &str, delay: &str, expected: &str) {
        let of_file = plan(&format!("schedule: {schedule}"));
        let by_name = PlanRequest {
            service: "shop".to_owned(),
            schedule: Some(schedule.to_owned()),
            version: Some("2.1.0".to_owned()),
            ..PlanRequest::default()
        };
        let (by_name, _) = configured(CONFIG).planner.compile(&by_name).unwrap();
        assert_eq!(by_name.stages, of_file.stages);
        assert_eq!(config::show_duration(of_file.delay), delay);
        assert_eq!(steps(&of_file), expected);
    }
    check("canary", "0s", "1% 15m, 5% 15m, 25% 15m, 50% 15m, 100% 15m");
    check("payment", "0s", "1% 1h, 10% 1h, 100% 1h");
    check("aggressive", "15m", "1% 15m, 5% 30m, 10% 1h, 25% 2h, 50% 4h, 100% 1h");
    check("conservative", "48h", "0.1% 24h, 1% 24h, 5% 72h, 10% 72h, 25% 96h, 50% 168h, 100% 1h");
    check("emergency", "5m", "10% 10m, 50% 15m, 100% 15m");
    check("hourly", "0s", "5% 1h, 10% 1h, 25% 2h, 50% 4h, 75% 4h, 100% 1h");
    check("blue-green", "0s", "100% 5m");
    assert_eq!(plan("schedule: blue-green").keep, Duration::from_secs(3600));
}

#[test]
fn gates_come_in_layers_and_none_takes_one_away() {
    let standard = plan("schedule: canary");
    assert_eq!(standard.gates, Gates::standard());
    let layered = plan(
        "{tier: payment, gates: {latency: none, client_errors: {ratio: 2}}, stages: [{weight: 5%, hold: 1h}, \
         {weight: 50%, hold: endless, gates: {errors: {limit: 2%}}}, {weight: 99%, hold: 5m, gates: none}]}",
    );
    let errors = layered.gates.errors.clone().unwrap();
    assert_eq!((errors.ratio, errors.limit), (1.05, Some(0.001)));
    assert!(layered.gates.latency.is_none() && layered.gates.health.is_some());
    assert_eq!(layered.gates.client_errors.as_ref().unwrap().ratio, 2.0);
    assert_eq!(layered.stages[0].gates, None);
    let own = layered.stages[1].gates.as_ref().unwrap();
    assert_eq!(own.errors.as_ref().map(|gate| (gate.ratio, gate.limit)), Some((1.05, Some(0.02))));
    assert!(own.latency.is_none());
    assert_eq!(layered.stages[2].gates, Some(Gates::none()));
}

#[test]
fn a_stage_may_mirror_before_there_is_any_weight() {
    let plan = plan(
        "stages: [{mirror: 10%, hold: 10m, min_requests: 500}, {mirror: 100%, hold: 1m}, {weight: 1%, hold: 5m}]",
    );
    let mirrors: Vec<_> =
        plan.stages.iter().map(|stage| stage.mirror.map(|share| share.to_string())).collect();
    assert_eq!(mirrors, [Some("10%".to_owned()), Some("100%".to_owned()), None]);
    assert_eq!(steps(&plan), "0% 10m, 0% 1m, 1% 5m");
    assert_eq!((plan.stages[0].min_requests, plan.check()), (500, Vec::new()));
}

#[test]
fn stages_with_percentages_and_criteria_are_read() {
    let plan = plan(
        r#"
stages:
  - percentage: 5
    duration: 30m
    success_criteria: [{metric: error_rate, threshold: "< 0.5%"}, {metric: revenue_per_user, threshold: ">= baseline * 0.95"}]
  - percentage: 25%
    duration: 1h30m
    success_criteria: [{metric: p99_latency, threshold: "< baseline * 1.3"}, {metric: success_rate, threshold: "> 99.5%"}]
  - {percentage: 99.9, duration: infinity}
"#,
    );
    assert_eq!(steps(&plan), "5% 30m, 25% 90m, 99.9% endless");
    let first = plan.stages[0].gates.as_ref().unwrap();
    assert_eq!(first.errors.as_ref().unwrap().limit, Some(0.005));
    let revenue = &first.metrics[0];
    assert_eq!((&*revenue.name, revenue.pass_if), ("revenue_per_user", Compare::AtLeastStable(0.95)));
    assert!(matches!(revenue.source, MetricSource::Pushed { .. }));
    let second = plan.stages[1].gates.as_ref().unwrap();
    assert_eq!(second.latency.as_ref().unwrap().ratio, 1.3);
    assert_eq!(second.errors.as_ref().unwrap().limit, Some(0.005));
    assert!(second.metrics.is_empty() && plan.stages[2].gates.is_none());
}

#[test]
fn flaggers_analysis_is_read_alone_and_in_its_resource() {
    let analysis = "{interval: 1m30s, threshold: 5, maxWeight: 50, stepWeight: 20, metrics: [{name: request-success-rate, \
                    thresholdRange: {min: 99}, interval: 1m}], webhooks: [{name: board, type: confirm-promotion}]}";
    let alone = plan(&format!("analysis: {analysis}"));
    assert_eq!(steps(&alone), "20% 90s, 40% 90s, 50% 90s, 100% 90s");
    assert_eq!(alone.gates.errors.as_ref().unwrap().limit, Some(0.01));
    assert_eq!(alone.gates.latency, Gates::standard().latency);
    assert_eq!(alone.confirm.promotion, ["board".into()]);
    let resource = plan(&format!(
        "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {{name: podinfo}}\nspec: {{targetRef: {{kind: Deployment}}, \
         analysis: {analysis}}}"
    ));
    assert_eq!(resource, alone);
    let (_, warnings) =
        configured(CONFIG).planner.compile(&request(&format!("analysis: {analysis}"))).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let steps_of = steps(&plan("analysis: {interval: 1m, stepWeights: [1, 2, 10, 80]}"));
    assert_eq!(steps_of, "1% 1m, 2% 1m, 10% 1m, 80% 1m, 100% 1m");
}

#[test]
fn flaggers_milliseconds_give_way_to_a_comparison_with_stable() {
    #[track_caller]
    fn check(metric: &str, more: &str, place: &str, (ratio, on_fail): (f64, OnFail)) {
        let text = format!(
            "{{analysis: {{interval: 1m, stepWeight: 10, metrics: [{{name: request-duration, {metric}}}]}}{more}}}"
        );
        let (plan, warnings) = configured(CONFIG).planner.compile(&request(&text)).unwrap();
        let latency = plan.gates.latency.as_ref().unwrap();
        assert_eq!((latency.ratio, latency.on_fail), (ratio, on_fail), "{text}");
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert_eq!((warning.place.as_str(), warning.value.as_deref()), (place, Some("500")));
        let word = if on_fail == OnFail::Pause { "pause" } else { "rollback" };
        let gate = format!("replaced by the latency gate relative to stable (ratio {ratio}, {word})");
        assert!(warning.why.contains(&gate), "{warning:?}");
    }
    let max = "analysis.metrics[0].thresholdRange.max";
    check("thresholdRange: {max: 500}", "", max, (1.2, OnFail::Pause));
    check("threshold: 500", "", "analysis.metrics[0].threshold", (1.2, OnFail::Pause));
    check("thresholdRange: {max: 500}", ", gates: {latency: none}", max, (1.2, OnFail::Pause));
    check("thresholdRange: {max: 500}", ", gates: none", max, (1.2, OnFail::Pause));
    let own = ", gates: {latency: {ratio: 1.5, on_fail: rollback}}";
    check("thresholdRange: {max: 500}", own, max, (1.5, OnFail::Rollback));
}

#[test]
fn nothing_is_unwatched_unless_somebody_says_none() {
    let watched = plan("stages: [{weight: 5%, hold: 5m}, {weight: 50%, hold: 5m, gates: none}]");
    assert_eq!((&watched.gates, &watched.stages[0].gates), (&Gates::standard(), &None));
    assert_eq!(watched.stages[1].gates, Some(Gates::none()));
    let by_percentage = plan("stages: [{percentage: 5, duration: 5m}]");
    assert_eq!((&by_percentage.gates, &by_percentage.stages[0].gates), (&Gates::standard(), &None));
    let again = plan("{gates: none, stages: [{weight: 5%, hold: 5m, gates: {latency: {ratio: 2}}}]}");
    let again = again.stages[0].gates.as_ref().unwrap();
    assert!(again.latency.is_some() && again.errors.is_none() && !again.none_said);

    let all = "{errors: none, client_errors: none, latency: none, health: none}";
    let why = "line 1: nothing is left that watches; leave a gate, or write gates: none if that is meant";
    for (text, place) in [
        (format!("{{schedule: canary, gates: {all}}}"), "gates"),
        (format!("stages: [{{weight: 5%, hold: 5m, gates: {all}}}]"), "stages[0].gates"),
    ] {
        assert_eq!(problems(&text), format!("plan.yaml has 1 problem {place} {why}"));
    }

    let config = configured(&CONFIG.replace("green:", "gates: none, rollout: canary, green:"));
    let unwatched = |warnings: &[tidegate::config::Problem], place: &str| {
        let [warning] = warnings else { panic!("{warnings:?}") };
        assert_eq!(warning.place, place);
        assert!(warning.why.contains("nothing watches this rollout"), "{warning:?}");
    };
    unwatched(&config.warnings, "services.shop.rollout.gates");
    let warnings = |request: PlanRequest| config.planner.compile(&request).unwrap().1;
    let schedule = Some("hourly".to_owned());
    unwatched(&warnings(PlanRequest { file: None, schedule, ..request("") }), "gates");
    unwatched(&warnings(request("stages: [{weight: 5%, hold: 5m}]")), "gates");
    assert_eq!(warnings(request("{gates: none, stages: [{weight: 5%, hold: 5m}]}")), []);
    assert_eq!(warnings(request("stages: [{weight: 5%, hold: 5m, gates: none}]")), []);
}

#[test]
fn a_rollout_inside_a_service_is_checked_with_the_configuration() {
    #[track_caller]
    fn check(keys: &str, expected: &str) {
        let text = format!("services:\n  shop:\n    blue: http://a:1\n    {keys}\n");
        let error = config::parse(&text, "t.yaml", Path::new("/nowhere"), &Overrides::default()).unwrap_err();
        let got = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let one = got.strip_prefix("t.yaml has 1 problem ");
        assert!(one.is_some_and(|one| one.starts_with(expected)), "{keys}\n got: {got}\nwant: {expected}");
    }
    check(
        "rollout: canry",
        "services.shop.rollout = canry line 4: there is no schedule canry; did you mean canary?",
    );
    check(
        "rollout: {stages: [{weight: 5%, hold: 5m}, {weight: 1%, hold: 5m}]}",
        "services.shop.rollout.stages[1].weight = 1% line 4: falls",
    );
    let health = "{pushed: true, pass_if: '< 1'}";
    check(
        &format!("rollout: {{schedule: canary, gates: {{metrics: {{health: {health}}}}}}}"),
        "services.shop.rollout.gates.metrics.health = health line 4: \"health\" is a gate of its own; call the metric",
    );
    check(
        &format!("rollout: {{stages: [{{weight: 5%, hold: 5m, gates: {{metrics: {{health: {health}}}}}}}]}}"),
        "services.shop.rollout.stages[0].gates.metrics.health = health line 4: \"health\" is a gate of its own",
    );
    check(
        &format!("gates: {{metrics: {{health: {health}}}}}\n    rollout: canary"),
        "services.shop.gates.metrics.health = health line 4: \"health\" is a gate of its own",
    );
    check(
        "gates: {errors: {ratio: 0.5}}\n    rollout: {schedule: payment}",
        "services.shop.gates.errors.ratio = 0.5 line 4: must be 1 to 100",
    );
    check(
        "slo: {objective: 99.9%, budget_cap: 0%}\n    rollout: canary",
        "services.shop.slo.budget_cap = 0% line 4: nothing could be burnt at all",
    );
    check(
        "rollout: {schedule: canary, gates: {health: {unhealthy_for: 10ms}}}",
        "services.shop.rollout.gates.health.unhealthy_for = 10ms line 4: it has to be at least 1s",
    );
}

/// Everything after the headline, in single spaces.
#[track_caller]
fn problems(text: &str) -> String {
    let error = configured(CONFIG).planner.compile(&request(text)).expect_err("problems");
    error.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_problem_of_a_plan_names_its_place_and_its_cure() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = problems(text);
        let one = got.strip_prefix("plan.yaml has 1 problem ");
        assert!(one.unwrap_or(&got).starts_with(expected), "{text}\n got: {got}\nwant: {expected}");
    }
    #[track_caller]
    fn stage(text: &str, expected: &str) {
        check(&format!("stages:\n  - {text}\n"), expected);
    }
    check("", "stages line 1: there is no stage; add stages");
    check("stages: []", "stages = [] line 1: there is no stage; add one");
    check("stages: 5%", "stages = 5% line 1: a list of stages is expected here");
    stage("{weight: 5%}", "stages[0] line 2: how long? Add hold, such as 15m, or endless");
    stage("{hold: 5m}", "stages[0] line 2: how much of the traffic? Add weight");
    stage("{weight: 5, hold: 5m}", "stages[0].weight = 5 line 2: a share needs its unit; did you mean 5%?");
    stage("{weight: 5%, hold: 5}", "stages[0].hold = 5 line 2: a time needs its unit; did you mean 5s?");
    stage("{weight: 5%, hold: 0s}", "stages[0].hold = 0s line 2: no gate can judge in no time");
    stage("{weight: 0%, hold: 5m}", "stages[0].weight = 0% line 2: nobody sees the candidate at 0%");
    stage("{weight: 5%, hold: 5m, gates: {}}", "stages[0].gates = {} line 2: there is no gate");
    stage(
        "{weight: 5%, hold: 5m, max_hold: 5m}",
        "stages[0].max_hold = 5m line 2: must be more than hold, 5m",
    );
    stage("{weight: 5%, hold: 5m, tolerate: 1}", "stages[0].tolerate = 1 line 2: must be more than 1");
    check(
        "stages:\n  - {weight: 5%, hold: 5m}\n  - {weight: 1%, hold: 5m}\n",
        "stages[1].weight = 1% line 3: falls: the stage before has 5%",
    );
    stage(
        "{mirror: 10%, weight: 5%, hold: 5m}",
        "stages[0].mirror = 10% line 2: a stage mirrors or has weight",
    );
    stage("{mirror: 0%, hold: 5m}", "stages[0].mirror = 0% line 2: copies nothing at 0%");
    check(
        "stages:\n  - {weight: 5%, hold: 5m}\n  - {mirror: 10%, hold: 5m}\n",
        "stages[1].mirror = 10% line 3: comes after a stage with weight",
    );
    check("{schedule: canry}", "schedule = canry line 1: there is no schedule canry; did you mean canary?");
    let canary = |line: &str| format!("schedule: canary\n{line}\n");
    let check = |line: &str, expected: &str| check(&canary(line), expected);
    check("tier: payments", "tier = payments line 2: there is no tier payments; did you mean payment?");
    check("notify: [ops]", "notify = ops line 2: there is no channel ops; there is oncall, team");
    check(
        "confirm: {rollout: [nobody]}",
        "confirm.rollout = nobody line 2: there is no hook nobody; there is board, smoke",
    );
    check("name: a b", "name = a b line 2: a name has letters");
    check("false_rollback: 50%", "false_rollback = 50% line 2: must be more than 0%");
    check("slo: 100%", "slo = 100% line 2: must be more than 0% and less than 100%");
    check("windows: {allow: []}", "windows.allow = [] line 2: never opens");
    check(
        "windows: {allow: ['Mon 09:00-09:00']}",
        "windows.allow[0] = Mon 09:00-09:00 line 2: 09:00-09:00 never opens",
    );
    check("windows: {zone: Berlin}", "windows.zone = Berlin line 2: \"Berlin\" is no time zone");
    check("gates: {errors: {ratio: 0.9}}", "gates.errors.ratio = 0.9 line 2: must be 1 to 100");
    check("gates: {errors: {limit: 0.5}}", "gates.errors.limit = 0.5 line 2: a share needs its unit");
    check("gates: {business: {ratio: 0.9}}", "gates.business line 1: which requests are a success?");
    check(
        "gates: {metrics: {a: {source: grafana, query: up, pass_if: '< 1'}}}",
        "gates.metrics.a.source = grafana line 2: there is no source grafana; there is prom",
    );
    check(
        "gates: {metrics: {a: {pass_if: '< 1'}}}",
        "gates.metrics.a line 2: where does the number come from?",
    );
    check(
        "gates: {metrics: {a: {pushed: true, pass_if: 10%}}}",
        "gates.metrics.a.pass_if = 10% line 2: \"10%\" begins with none of <, <=, >, >=",
    );
    check("wieght: 5", "plan.yaml line 2, column 1: unknown key \"wieght\"");
    for text in ["> 10%", ">10%", ">= stable * 0.95"] {
        let line = format!("gates:\n  metrics:\n    a:\n      pushed: true\n      pass_if: {text}");
        let got = problems(&canary(&line));
        assert!(got.contains(&format!("line 6, column 16: a value that begins with > is a block of text in YAML; put it in quotes: \"{text}\"")), "{got}");
    }
}

#[test]
fn what_the_foreign_forms_say_and_tidegate_cannot_is_refused_with_its_cure() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = problems(text);
        assert!(got.contains(expected), "{text}\n got: {got}\nwant: {expected}");
    }
    #[track_caller]
    fn criterion(metric: &str, threshold: &str, expected: &str) {
        let criteria = format!("[{{metric: {metric}, threshold: \"{threshold}\"}}]");
        check(&format!("stages: [{{percentage: 5, duration: 30m, success_criteria: {criteria}}}]"), expected);
    }
    criterion("eror_rate", "< 1%", "there is no metric eror_rate; did you mean error_rate?");
    criterion("error_rate", "< 0.5", "a share needs its unit");
    criterion("error_rate", "> 1%", "this would demand errors");
    criterion("error_rate", "< baseline * 0.9", "stable itself would not pass");
    criterion("p99_latency", "< 500ms", "an absolute latency is not judged; write");
    criterion("latency_p75", "< baseline * 1.2", "judged are p50, p90, p95 and p99");
    criterion("client_error_rate", "< 5%", "4xx are judged against stable's");
    criterion("queue", "< 5s", "metrics are plain numbers");
    check(
        "stages: [{percentage: 5, duration: infinity}, {percentage: 50, duration: 1h}]",
        "stages[0].duration = infinity line 1: only the last stage may be without an end",
    );
    check("stages: [{percentage: 5, weight: 5%, duration: 1h}]", "weight says it already");
    check("stages: [{percentage: 5, duration: 1h, success_criteria: []}]", "there is no criterion");
    let flagger = |more: &str| format!("analysis: {{interval: 1m, stepWeight: 10, maxWeight: 50, {more}}}");
    check(
        &flagger("metrics: [{name: request-duration, thresholdRange: {max: 0.5s}}]"),
        "analysis.metrics[0].thresholdRange.max = 0.5s line 1: must be more than 0, in milliseconds, such as 500",
    );
    check(
        &flagger("metrics: [{name: request-duration, thresholdRange: {min: 500}}]"),
        "analysis.metrics[0].thresholdRange.min = 500 line 1: this would demand slowness; did you mean max?",
    );
    check(
        &flagger("metrics: [{name: request-success-rate, threshold: 99, thresholdRange: {min: 99}}]"),
        "analysis.metrics[0].threshold = 99 line 1: thresholdRange says it already (line 1); leave one out",
    );
    check(
        &flagger("metrics: [{name: request-success-rate, threshold: 100}]"),
        "analysis.metrics[0].threshold = 100 line 1: must be more than 0 and less than 100",
    );
    check(
        &flagger("webhooks: [{name: gate, type: confirm-rollout, url: 'http://x/'}]"),
        "commands, webhooks and query sources stand in the configuration only; name it under hooks there",
    );
    check(&flagger("webhooks: [{name: smoke, type: rollout}]"), "is not called here");
    check(
        &flagger("metrics: [{name: x, templateRef: {name: y}}]"),
        "queries are written as gates beside the analysis",
    );
    check(&flagger("metrics: [{name: request-success-rat}]"), "did you mean request-success-rate?");
    check(&flagger("mirror: true"), "requests are not mirrored");
    check(&flagger("iterations: 10"), "testing without traffic is not a rollout");
    check("analysis: {interval: 1m}", "there is no step; add stepWeight and maxWeight, or stepWeights");
    check("analysis: {stepWeight: 10}", "how long is each step held? Add interval");
    check("analysis: {interval: 1m, stepWeights: [5, 1]}", "weights rise from step to step");
    check("{kind: Deployment, spec: {}}", "of resources only Flagger's Canary is read");
}

#[test]
fn the_name_is_that_asked_for_or_the_plans_or_the_version_or_the_schedules() {
    let planner = configured(CONFIG).planner;
    #[track_caller]
    fn check(planner: &tidegate::config::Planner, request: PlanRequest, expected: &str) {
        let service = "shop".to_owned();
        let at = "2026-01-31T23:59:59Z".parse().unwrap();
        let (plan, _) = planner.compile(&PlanRequest { service, at, ..request }).unwrap();
        assert_eq!(&*plan.name, expected);
    }
    let named = Some(("p.yaml".to_owned(), "{name: own, schedule: payment}".to_owned()));
    let version = Some("2.1.0 beta".to_owned());
    check(&planner, PlanRequest::default(), "canary-20260131-2359");
    check(
        &planner,
        PlanRequest { schedule: Some("hourly".to_owned()), ..PlanRequest::default() },
        "hourly-20260131-2359",
    );
    check(&planner, PlanRequest { version: version.clone(), ..PlanRequest::default() }, "2.1.0-beta");
    let of_plan = PlanRequest { file: named, version, ..PlanRequest::default() };
    check(&planner, of_plan.clone(), "own");
    check(&planner, PlanRequest { name: Some("asked".to_owned()), ..of_plan }, "asked");
    let request = PlanRequest { service: "shopp".to_owned(), ..PlanRequest::default() };
    assert_eq!(planner.compile(&request).unwrap_err(), "there is no service shopp; did you mean shop?");
}

#[test]
fn a_service_has_its_guard_its_tier_and_its_plan() {
    let text = CONFIG.replace(
        "green: \"http://b:1\"",
        "green: \"http://b:1\", guard: notify, tier: payment, gates: {latency: none}, slo: 99.9%, rollout: {schedule: hourly, \
         on_inconclusive: advance}",
    );
    let config = configured(&text);
    let service = &config.control.services[0];
    assert_eq!(service.guard, GuardMode::Notify);
    assert_eq!(service.gates.errors.as_ref().unwrap().ratio, 1.05);
    assert!(service.gates.latency.is_none());
    assert_eq!(service.slo.unwrap().objective, 0.999);
    let request = PlanRequest { service: "shop".to_owned(), ..PlanRequest::default() };
    let (plan, _) = config.planner.compile(&request).unwrap();
    assert_eq!((plan.stages.len(), plan.on_inconclusive), (6, OnInconclusive::Advance));
    assert_eq!((&plan.gates, plan.slo), (&service.gates, service.slo));
    assert_eq!(plan.gates.errors.as_ref().unwrap().on_fail, OnFail::Rollback);

    let team = &config.hooks.channels["team"];
    assert!(team.on.iter().any(|event| &**event == "progress"));
    assert_eq!(team.escalate.as_ref().map(|escalation| &*escalation.to), Some("oncall"));
    assert_eq!(&*config.hooks.sources["prom"].url, "http://prometheus:9090");
    let smoke = format!("{:?}", config.hooks.hooks["smoke"]);
    assert!(smoke.contains("/etc/tidegate/bin/smoke"), "{smoke}");
}

#[test]
fn each_problem_of_what_is_outside_names_its_place_and_its_cure() {
    #[track_caller]
    fn check(line: &str, expected: &str) {
        let text = format!("{line}\nservices: {{shop: {{blue: \"http://a:1\"}}}}\n");
        let error = config::parse(&text, "t.yaml", Path::new("/nowhere"), &Overrides::default()).unwrap_err();
        let got = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(got.strip_prefix("t.yaml has 1 problem "), Some(expected), "{got}");
    }
    check("hooks: {a: }", "hooks.a line 1: what is called? Add url: https://… or command: [PROGRAM, …]");
    check(
        "hooks: {a: {url: x.example.com}}",
        "hooks.a.url = x.example.com line 1: lacks its scheme; did you mean http://x.example.com?",
    );
    check(
        "hooks: {a: {url: 'http://u:p@x/'}}",
        "hooks.a.url = (hidden) line 1: has a password in it; leave that out, and write secret or token: file:PATH",
    );
    check(
        "hooks: {a: {command: make smoke}}",
        "hooks.a.command = make smoke line 1: no shell runs it; write a list: [make, smoke]",
    );
    check(
        "sources: {p: {timeout: 1s}}",
        "sources.p line 1: where is it? Add prometheus, such as http://prometheus:9090",
    );
    check(
        "notify: {a: {url: 'http://x/', escalate: {after: 5m, to: b}}}",
        "notify.a.escalate.to = b line 1: there is no channel at all; name it under notify in the configuration",
    );
    check(
        "notify: {a: {url: 'http://x/', on: [rolback]}}",
        "notify.a.on = rolback line 1: did you mean rollback?",
    );
    check(
        "tiers: {a: {errors: {ratio: 0}}}",
        "tiers.a.errors.ratio = 0 line 1: \"0\" is no ratio; write a number such as 1.1",
    );
}
