//! Mistakes in files of any kind: what is allowed in a configuration, a plan or a launch, and hardly ever right.

use std::path::Path;
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::launch::{self, Around};
use super::meant::did_you_mean;
use super::planner::check_plan;
use super::problem::{ConfigError, Problem};
use super::written::Named;
use super::{Overrides, parse, yaml};
use crate::control::ServiceConfig;
use crate::launch::{Action, Tier, lint as lint_launch};
use crate::rollout::{GuardMode, Mistake, Severity, lint as lint_plan, lint_gates};
use crate::upstream::Probe;

/// What kind of file was looked at, and what was found.
#[derive(Clone, Debug)]
pub struct Linted {
    /// `configuration`, `plan` or `launch`.
    pub kind: &'static str,
    /// The worst first.
    pub mistakes: Vec<Mistake>,
}

/// Keys by which a plan is known.
const OF_PLANS: [&str; 9] = [
    "stages",
    "schedule",
    "analysis",
    "canaryAnalysis",
    "apiVersion",
    "gates",
    "on_inconclusive",
    "false_rollback",
    "spec",
];

/// Looks for mistakes in a configuration, a plan or a launch: its top-level keys tell which one it is. Relative paths start from
/// `around.folder`.
///
/// # Errors
///
/// Whatever keeps the file from being used at all.
pub fn lint_file(text: &str, name: &str, around: &Around<'_>) -> Result<Linted, ConfigError> {
    let top: Option<Named<IgnoredAny, true>> = yaml::read(text, name)?;
    let keys: Vec<String> =
        top.map(|top| top.0).unwrap_or_default().into_iter().map(|(key, _)| key.text).collect();
    let has = |key: &str| keys.iter().any(|known| known == key);
    let (kind, mut mistakes) = if has("services") {
        ("configuration", configuration(text, name, around.folder)?)
    } else if has("launch") || has("phases") {
        ("launch", launch(text, name, around)?)
    } else if OF_PLANS.iter().any(|key| has(key)) {
        let plan = check_plan(name, text)?;
        // A plan does not say how much hangs on its service.
        ("plan", lint_plan(&plan, false))
    } else {
        return Err(unknown_kind(name, &keys));
    };
    mistakes.sort_by_key(|mistake| std::cmp::Reverse(mistake.severity));
    Ok(Linted { kind, mistakes })
}

fn unknown_kind(name: &str, keys: &[String]) -> ConfigError {
    let meant = keys.iter().find_map(|key| {
        let words = ["services", "launch", "phases"].into_iter().chain(OF_PLANS);
        did_you_mean(key, words).map(|word| (key, word))
    });
    let why = match meant {
        Some((key, word)) => format!("what is it? It has {key}; did you mean {word}?"),
        None => {
            "what is it? A configuration has services, a plan has stages or schedule, a launch has launch"
                .to_owned()
        }
    };
    let place = "the file".to_owned();
    let problems = vec![Problem { place, value: None, line: Some(1), why }];
    ConfigError::Problems { name: name.to_owned(), problems }
}

fn launch(text: &str, name: &str, around: &Around<'_>) -> Result<Vec<Mistake>, ConfigError> {
    let read = launch::read(text, name, around)?;
    let launch = &read.launch;
    let mut mistakes = lint_launch(launch);
    for phase in &launch.phases {
        if let Action::Rollout(rollout) = &phase.action
            && let Some((plan_name, plan)) = &rollout.plan
        {
            let plan = check_plan(plan_name, plan)?;
            mistakes.extend(lint_plan(&plan, launch.tier == Tier::Critical).into_iter().map(|mistake| {
                Mistake { place: format!("phases.{}.rollout.plan: {}", phase.id, mistake.place), ..mistake }
            }));
        }
    }
    for id in &read.untimed {
        mistakes.push(Mistake {
            place: format!("phases.{id}.timeout"),
            what: "nobody said how long it may take, so it is 10m".to_owned(),
            cure: "write a little more than it takes on a bad day, such as timeout: 2m".to_owned(),
            severity: Severity::Note,
        });
    }
    mistakes.extend(read.warnings.iter().map(doubtful));
    Ok(mistakes)
}

fn configuration(text: &str, name: &str, folder: &Path) -> Result<Vec<Mistake>, ConfigError> {
    let config = parse(text, name, folder, &Overrides::default())?;
    let mut mistakes: Vec<Mistake> = config.warnings.iter().map(doubtful).collect();
    for service in &config.control.services {
        mistakes.extend(of_service(service));
    }
    Ok(mistakes)
}

/// What works, but hardly as it was meant.
fn doubtful(warning: &Problem) -> Mistake {
    let (what, cure) = warning.why.split_once("; ").unwrap_or((&warning.why, "see whether it is meant"));
    Mistake {
        place: warning.place.clone(),
        what: what.to_owned(),
        cure: cure.to_owned(),
        severity: Severity::Warning,
    }
}

fn of_service(service: &ServiceConfig) -> Vec<Mistake> {
    let name: &Arc<str> = &service.settings.name;
    let at = |key: &str| format!("services.{name}.{key}");
    let mut found = Vec::new();
    let mut add = |severity, key: &str, what: &str, cure: &str| {
        found.push(Mistake { place: at(key), what: what.to_owned(), cure: cure.to_owned(), severity });
    };
    let candidate = service.stable.other();
    if service.endpoints[candidate].is_empty() {
        return found;
    }
    match service.guard {
        GuardMode::Off => add(
            Severity::Danger,
            "guard",
            "nothing watches a candidate that was shifted by hand, which is how most bad releases come",
            "leave it out: it rolls back what fails",
        ),
        GuardMode::Notify => add(
            Severity::Note,
            "guard",
            "a candidate that fails keeps its traffic until somebody reads of it",
            "leave it out once you trust it",
        ),
        GuardMode::Rollback => {}
    }
    if service.settings.health[candidate].probe == Probe::Connect {
        add(
            Severity::Warning,
            "health.path",
            "an app that hangs still accepts connections, and so counts as healthy",
            "add a path that answers only when the app can work, such as health: {path: /up}",
        );
    }
    if service.split_expires.is_none() {
        add(
            Severity::Note,
            "split.expires",
            "a split that was forgotten between 0 and 100 % stays there, and nobody is told",
            "write how long one may stand, such as expires: 24h",
        );
    }
    let gates = lint_gates(&at("gates"), &service.gates);
    found.extend(gates);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, kind: &str, expected: &[(&str, &str)]) {
        let variable = |_: &str| Some("2.0.1".to_owned());
        let at = "2026-11-21T08:00:00Z".parse().unwrap();
        let around = Around { variable: &variable, service: None, at, folder: Path::new("/nowhere") };
        let linted = lint_file(text, "f.yaml", &around).unwrap_or_else(|error| panic!("{error}"));
        let got: Vec<_> = linted.mistakes.iter().map(|m| (m.severity.as_str(), m.place.as_str())).collect();
        assert_eq!((linted.kind, &got[..]), (kind, expected), "{:#?}", linted.mistakes);
    }

    #[test]
    fn a_file_is_known_by_its_keys_and_its_mistakes_are_named() {
        check("schedule: canary", "plan", &[]);
        check("stages: [{weight: 5%, hold: endless}]", "plan", &[("warning", "stages[0]")]);
        check("{schedule: canary, gates: none}", "plan", &[("danger", "gates")]);
        let sound = "blue: \"http://a:1\", green: \"http://b:1\", health: {path: /up}, split: {expires: 24h}";
        let shop = |more: &str| format!("services: {{shop: {{{sound}{more}}}}}");
        check(&shop(""), "configuration", &[]);
        check("services: {shop: {blue: \"http://a:1\"}}", "configuration", &[]);
        check(
            "services: {shop: {blue: \"http://a:1\", green: \"http://b:1\"}}",
            "configuration",
            &[("warning", "services.shop.health.path"), ("note", "services.shop.split.expires")],
        );
        check(&shop(", guard: off"), "configuration", &[("danger", "services.shop.guard")]);
        check(&shop(", guard: notify"), "configuration", &[("note", "services.shop.guard")]);
        check(&shop(", gates: none"), "configuration", &[("danger", "services.shop.gates")]);
        check(
            &shop(", gates: {metrics: {refunds: {pushed: true, pass_if: '<= 0'}}}"),
            "configuration",
            &[("warning", "services.shop.gates.metrics.refunds.pass_if")],
        );
        let launch = "launch: a\nservice: shop\nbreaker: {error_rate: 2%}\nsynthetic: [/up]\nphases: [{id: t, rollout: canary}, {id: o, for: 30m}]";
        check(launch, "launch", &[]);
    }

    /// A launch of much that hangs on it, without a mistake.
    const SOUND: &str = "launch: a
service: shop
tier: critical
window: {from: '2026-12-20 14:00 UTC', for: 1h}
rollback_within: 5m
breaker: {error_rate: 2%, latency_p99: 800ms}
checklist: [{id: backup, sign: dba, evidence: required}]
go_nogo: {roles: [pm]}
phases:
- {id: expand, do: [./migrate, up], undo: none, verify: [{tcp: 'db:1'}], timeout: 1m}
- {id: deploy, do: [./deploy], undo: [./undeploy], verify: [{http_status: /up}], timeout: 1m}
- {id: traffic, rollout: payment}
- {id: observe, for: 30m}
- {id: contract, do: [./migrate, contract], undo: none, verify: [{tcp: 'db:1'}], timeout: 1m}
";

    #[test]
    fn each_mistake_of_a_launch_is_named() {
        #[track_caller]
        fn changed(from: &str, to: &str, expected: &[(&str, &str)]) {
            assert!(SOUND.contains(from), "{from}");
            check(&SOUND.replace(from, to), "launch", expected);
        }
        changed("launch: a", "launch: b", &[]);
        changed("window: {from: '2026-12-20 14:00 UTC', for: 1h}\n", "", &[("warning", "window")]);
        changed("rollback_within: 5m\n", "", &[("warning", "rollback_within")]);
        changed("go_nogo: {roles: [pm]}\n", "", &[("warning", "go_nogo")]);
        changed(", evidence: required", "", &[("note", "checklist.backup")]);
        changed(
            "checklist: [{id: backup, sign: dba, evidence: required}]\n",
            "",
            &[("warning", "checklist")],
        );
        changed("breaker: {error_rate: 2%, latency_p99: 800ms}\n", "", &[("danger", "breaker")]);
        changed("latency_p99: 800ms", "min_requests: 3", &[("note", "breaker.min_requests")]);
        changed("undo: [./undeploy]", "undo: none", &[("danger", "phases.deploy.undo")]);
        changed("rollout: payment", "rollout: payment, undo: none", &[("danger", "phases.traffic.undo")]);
        changed(
            "rollout: payment",
            "rollout: payment, rollback_on_failure: false",
            &[("warning", "phases.traffic.rollback_on_failure")],
        );
        changed("verify: [{http_status: /up}]", "verify: []", &[("warning", "phases.deploy.verify")]);
        changed("[./deploy]", "[./deploy, \"${API_TOKEN}\"]", &[("warning", "phases.deploy.do")]);
        changed(
            "[./undeploy], verify: [{http_status: /up}], timeout: 1m",
            "[./undeploy], verify: [{http_status: /up}]",
            &[("note", "phases.deploy.timeout")],
        );
        changed("rollout: payment", "rollout: emergency", &[]);
        changed("rollout: payment", "rollout: blue-green", &[("danger", "phases.traffic.rollout")]);
        changed(
            "{id: traffic, rollout: payment}",
            "{id: traffic, shift: 100%}",
            &[("danger", "phases.traffic.shift")],
        );
        changed(
            "{id: traffic, rollout: payment}",
            "{id: some, shift: 10%}\n- {id: all, shift: 100%}",
            &[("danger", "phases.some.shift")],
        );
        changed(
            "{id: traffic, rollout: payment}\n- {id: observe, for: 30m}",
            "{id: some, shift: 10%}\n- {id: observe, for: 30m}",
            &[("danger", "phases.contract"), ("warning", "phases.some")],
        );
        changed(
            "- {id: observe, for: 30m}\n",
            "",
            &[("danger", "phases.traffic"), ("danger", "phases.contract")],
        );
        changed(
            "id: expand, do: [./migrate, up]",
            "id: first, do: [psql, -c, 'DROP TABLE a']",
            &[("danger", "phases.first")],
        );
        changed("id: expand, do: [./migrate, up]", "id: expand, do: [./contract-tests]", &[]);
        check(
            "{launch: a, service: s, breaker: {error_rate: 1%}, phases: [{id: t, rollout: canary}, {id: o, for: 30m}]}",
            "launch",
            &[("warning", "phases.t")],
        );
        check(
            "{launch: a, service: s, breaker: {error_rate: 1%}, synthetic: [/], phases: [{id: t, shift: 100%}, {id: o, for: 30m}]}",
            "launch",
            &[("warning", "phases.t.shift")],
        );
        check(
            "{launch: a, service: s, tier: internal, synthetic: [/], phases: [{id: t, shift: 100%}, {id: o, for: 30m}]}",
            "launch",
            &[("note", "breaker")],
        );
    }

    #[test]
    fn the_plan_of_a_launch_is_looked_at_as_well() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("p.yaml"),
            "{stages: [{weight: 50%, hold: 15m}], gates: {metrics: {a: {pushed: true, pass_if: '<= 0'}}}}",
        )
        .unwrap();
        let at = "2026-11-21T08:00:00Z".parse().unwrap();
        let around = Around { variable: &|_| None, service: None, at, folder: folder.path() };
        let linted = lint_file(&SOUND.replace("payment", "{plan: p.yaml}"), "l.yaml", &around).unwrap();
        let got: Vec<_> = linted.mistakes.iter().map(|mistake| mistake.place.as_str()).collect();
        assert_eq!(
            got,
            [
                "phases.traffic.rollout.plan: stages[0].weight",
                "phases.traffic.rollout.plan: gates.metrics.a.pass_if",
                "phases.traffic.rollout.plan: stages[0]",
            ]
        );
    }

    #[test]
    fn a_file_of_no_known_kind_is_told_what_it_may_have_meant() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let variable = |_: &str| None;
            let at = "2026-11-21T08:00:00Z".parse().unwrap();
            let around = Around { variable: &variable, service: None, at, folder: Path::new("/nowhere") };
            let error = lint_file(text, "f.yaml", &around).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("", "A configuration has services, a plan has stages or schedule");
        check("servces: {}", "It has servces; did you mean services?");
        check("launch: [", "f.yaml line 1");
        check("- a", "f.yaml line 1");
    }
}
