//! What a plan does, in words, before it does it.

use std::time::Duration;

use super::words;
use crate::admin::api::Compiled;
use crate::admin::client::printable;
use crate::cli::figures;
use crate::cli::paint::{Line, Span, Style};
use crate::rollout::{
    Compare, Gates, Hold, MetricGate, MetricSource, OnFail, OnInconclusive, Plan, Stage, Window, Windows,
    foresee, span,
};

/// The whole plan in lines.
pub(super) fn told(compiled: &Compiled, width: usize, color: bool) -> String {
    let plan = &*compiled.plan;
    let count = plan.stages.len();
    let mut lines = vec![
        Line::new()
            .then(Style::Bold, &compiled.service)
            .then(Style::Plain, &format!(": rollout {}, {count} {}", plan.name, many(count, "stage")))
            .then(Style::Dim, &format!(", {} at least", least(plan))),
    ];
    lines.extend(stages(plan));
    for (index, stage) in plan.stages.iter().enumerate() {
        if let Some(own) = &stage.gates {
            lines.push(Line::new().then(Style::Dim, &format!("  gates of stage {}", index + 1)));
            lines.extend(gates(own));
        }
    }
    if plan.stages.iter().any(|stage| stage.gates.is_none()) {
        lines.push(Line::new().then(Style::Dim, "  gates"));
        lines.extend(gates(&plan.gates));
    }
    lines.extend(rest(plan).into_iter().map(|(label, text)| {
        Line::new().column(Span::new(Style::Dim, &format!("  {label}")), 20).then(Style::Plain, &text)
    }));
    let mut text = String::new();
    for line in lines {
        line.paint(width, color, &mut text);
    }
    for sentence in noticed(compiled) {
        text.push_str(&format!("{}\n", printable(&sentence)));
    }
    for warning in &compiled.warnings {
        text.push_str(&format!("  warning: {}\n", printable(warning)));
    }
    text
}

/// What each stage could notice at the live rate, one sentence each.
fn noticed(compiled: &Compiled) -> Vec<String> {
    let Some(rate) = compiled.rate.filter(|rate| *rate > 0.0) else {
        return vec![
            "  what each stage could notice depends on the traffic, and there is none to go by".to_owned(),
        ];
    };
    let failing = compiled.failure_ratio.unwrap_or(0.0);
    foresee(&compiled.plan, rate, failing).iter().map(|stage| format!("  {}", stage.sentence)).collect()
}

fn stages(plan: &Plan) -> Vec<Line> {
    let row = |stage: &str, weight: &str, hold: &str, more: &str| {
        Line::new()
            .column(Span::new(Style::Dim, &format!("  {stage}")), 10)
            .right(Span::new(Style::Bold, weight), 8)
            .then(Style::Plain, "  ")
            .column(Span::new(Style::Plain, hold), 24)
            .then(Style::Plain, more)
    };
    let mut lines = vec![row("stage", "weight", "hold", "and")];
    for (index, stage) in plan.stages.iter().enumerate() {
        let mut more = Vec::new();
        if let Some(share) = stage.mirror {
            more.push(format!("mirroring {}", figures::share(share)));
        }
        if stage.min_requests > 0 {
            more.push(format!("{} requests", figures::count(stage.min_requests)));
        }
        if let Some(max) = stage.max_hold {
            more.push(format!("at most {}", span(max)));
        }
        if let Some(tolerate) = stage.tolerate {
            more.push(format!("tolerates {} × to go on", words::amount(tolerate)));
        }
        if stage.approval {
            more.push("an approval".to_owned());
        }
        let hold = match &stage.hold {
            Hold::For(hold) => span(*hold),
            Hold::Until { minute_of_day, zone } => format!("until {} {zone}", time_of_day(*minute_of_day)),
            Hold::Endless => "until somebody decides".to_owned(),
        };
        lines.push(row(&(index + 1).to_string(), &figures::share(stage.weight), &hold, &more.join(", ")));
    }
    lines
}

fn gates(gates: &Gates) -> Vec<Line> {
    let mut rows: Vec<(String, String, &str)> = Vec::new();
    let Gates { errors, client_errors, latency, business, metrics, health, .. } = gates;
    if let Some(gate) = errors {
        let limit =
            gate.limit.map(|limit| format!(", and {}", figures::ratio(Some(limit)))).unwrap_or_default();
        rows.push((
            "errors".into(),
            format!("at most {} × stable's{limit}", words::amount(gate.ratio)),
            on_fail(gate.on_fail),
        ));
    }
    if let Some(gate) = client_errors {
        rows.push((
            "client-errors".into(),
            format!("4xx at most {} × stable's", words::amount(gate.ratio)),
            on_fail(gate.on_fail),
        ));
    }
    if let Some(gate) = latency {
        rows.push((
            "latency".into(),
            format!("at most {} × stable's p50, p90, p95, p99", words::amount(gate.ratio)),
            on_fail(gate.on_fail),
        ));
    }
    if let Some(gate) = business {
        let method = gate.method.as_deref().unwrap_or("any method");
        let (from, to) = gate.status;
        let text = format!(
            "{method} {} with {from} to {to} at least {} × stable's",
            gate.path,
            words::amount(gate.ratio)
        );
        rows.push(("business".into(), text, on_fail(gate.on_fail)));
    }
    rows.extend(metrics.iter().map(|gate| (gate.name.to_string(), metric(gate), on_fail(gate.on_fail))));
    if let Some(gate) = health {
        let text = format!("{} without a usable endpoint", span(gate.unhealthy_for));
        rows.push(("health".into(), text, "rolls back"));
    }
    if rows.is_empty() {
        return vec![Line::new().then(Style::Trouble, "    none: nothing is watched")];
    }
    let line = |(name, demand, then): (String, String, &str)| {
        Line::new()
            .then(Style::Plain, "    ")
            .column(Span::new(Style::Plain, &name), 16)
            .column(Span::new(Style::Plain, &demand), 44)
            .then(Style::Plain, then)
    };
    rows.into_iter().map(line).collect()
}

fn metric(gate: &MetricGate) -> String {
    let demand = match gate.pass_if {
        Compare::AtMost(value) => format!("at most {}", words::amount(value)),
        Compare::AtLeast(value) => format!("at least {}", words::amount(value)),
        Compare::AtMostStable(ratio) => format!("at most {} × stable's", words::amount(ratio)),
        Compare::AtLeastStable(ratio) => format!("at least {} × stable's", words::amount(ratio)),
    };
    let source = match &gate.source {
        MetricSource::Query { source, interval, .. } => format!("{source} every {}", span(*interval)),
        MetricSource::Pushed { .. } => "pushed".to_owned(),
    };
    let misses = if gate.misses > 1 { format!(", {} times in a row", gate.misses) } else { String::new() };
    format!("{demand}{misses} ({source})")
}

fn on_fail(on_fail: OnFail) -> &'static str {
    match on_fail {
        OnFail::Rollback => "rolls back",
        OnFail::Pause => "pauses",
    }
}

/// What goes for the whole plan.
fn rest(plan: &Plan) -> Vec<(&'static str, String)> {
    let undecided = match plan.on_inconclusive {
        OnInconclusive::Hold => "goes on waiting",
        OnInconclusive::Advance => "advances all the same",
        OnInconclusive::Rollback => "rolls back, without a lock",
    };
    let mut rest = vec![
        (
            "false rollback",
            format!("{} at most, over the whole rollout", figures::ratio(Some(plan.false_rollback))),
        ),
        ("warm-up", format!("{} at the start of a stage", span(plan.warmup))),
        ("if undecided", undecided.to_owned()),
    ];
    if !plan.delay.is_zero() {
        rest.push(("starts", format!("after {}", span(plan.delay))));
    }
    if !plan.keep.is_zero() {
        rest.push(("keeps stable", format!("{} after the last stage", span(plan.keep))));
    }
    if let Some(windows) = windows(&plan.windows) {
        rest.push(("moves only", windows));
    }
    if let Some(slo) = plan.slo {
        let cap = figures::ratio(Some(slo.budget_cap));
        rest.push(("slo", format!("{} %, of whose monthly budget {cap} may go", slo.objective * 100.0)));
    }
    let confirm = &plan.confirm;
    for (label, hooks) in [
        ("asks to start", &confirm.rollout),
        ("asks to rise", &confirm.traffic_increase),
        ("asks to promote", &confirm.promotion),
        ("asks to roll back", &confirm.rollback),
        ("tells", &plan.notify),
    ] {
        if !hooks.is_empty() {
            rest.push((label, hooks.iter().map(|hook| &**hook).collect::<Vec<_>>().join(", ")));
        }
    }
    rest
}

fn windows(windows: &Windows) -> Option<String> {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let window = |window: &Window| {
        let days: Vec<&str> =
            window.days.iter().filter_map(|day| DAYS.get(usize::from(*day)).copied()).collect();
        let days = if days.is_empty() { "daily".to_owned() } else { days.join(" ") };
        format!("{days} {}–{}", time_of_day(window.from), time_of_day(window.to))
    };
    let Windows { allowed, denied, zone } = windows;
    let mut parts: Vec<String> = allowed.iter().map(window).collect();
    if !denied.is_empty() {
        let dates: Vec<&str> = denied.iter().map(|date| &**date).collect();
        parts.push(format!("never on {}", dates.join(", ")));
    }
    let zone = if zone.is_empty() { "UTC" } else { zone };
    (!parts.is_empty()).then(|| format!("{} ({zone})", parts.join("; ")))
}

fn time_of_day(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// All holds that are known beforehand.
fn least(plan: &Plan) -> String {
    let hold = |stage: &Stage| match stage.hold {
        Hold::For(hold) => hold,
        Hold::Until { .. } | Hold::Endless => Duration::ZERO,
    };
    span(plan.stages.iter().map(hold).fold(plan.delay, Duration::saturating_add))
}

fn many(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rollout::{Confirms, Slo};
    use crate::traffic::Weight;

    fn stage(percent: u32, minutes: u64) -> Stage {
        Stage {
            weight: Weight::from_percent(percent).unwrap(),
            mirror: None,
            hold: Hold::For(Duration::from_secs(60 * minutes)),
            min_requests: 0,
            max_hold: None,
            approval: false,
            gates: None,
            tolerate: None,
        }
    }

    fn compiled() -> Compiled {
        let plan = Plan {
            name: "2.0.1".into(),
            delay: Duration::ZERO,
            stages: vec![
                Stage { min_requests: 1000, ..stage(1, 15) },
                Stage { approval: true, max_hold: Some(Duration::from_secs(7200)), ..stage(50, 60) },
                Stage {
                    hold: Hold::Until { minute_of_day: 540, zone: "Europe/Berlin".into() },
                    ..stage(100, 0)
                },
            ],
            gates: Gates::standard(),
            false_rollback: 0.01,
            warmup: Duration::from_secs(60),
            on_inconclusive: OnInconclusive::Hold,
            keep: Duration::from_secs(3600),
            windows: Windows::default(),
            slo: None,
            confirm: Confirms::default(),
            notify: Vec::new(),
        };
        Compiled {
            service: "shop".to_owned(),
            plan: Arc::new(plan),
            warnings: Vec::new(),
            rate: Some(20.0),
            failure_ratio: None,
        }
    }

    #[test]
    fn a_plan_is_told_stage_by_stage_with_its_gates() {
        let expected = "\
shop: rollout 2.0.1, 3 stages, 1 h 15 min at least
  stage     weight  hold                    and
  1            1 %  15 min                  1,000 requests
  2           50 %  1 h                     at most 2 h, an approval
  3          100 %  until 09:00 Europe/Berlin
  gates
    errors          at most 1.1 × stable's, and 0.50 %          rolls back
    client-errors   4xx at most 1.5 × stable's                  pauses
    latency         at most 1.2 × stable's p50, p90, p95, p99   pauses
    health          10 s without a usable endpoint              rolls back
  false rollback    1.0 % at most, over the whole rollout
  warm-up           1 min at the start of a stage
  if undecided      goes on waiting
  keeps stable      1 h after the last stage
  1 % for 15 min at 20 req/s sees only 5 % failures or worse; 5 % would see 1 % failures; a good candidate needs about 73 min to be permitted
  50 % for 60 min at 20 req/s sees only 0.1 % failures or worse
  100 % for a day at 20 req/s has nobody left on stable to compare failures with; 99 % has
";
        let text = told(&compiled(), 100, false);
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn what_is_unusual_is_told_too() {
        let Compiled { plan, .. } = compiled();
        let window = Window { days: vec![0, 4], from: 540, to: 1020 };
        let plan = Plan {
            gates: Gates::none(),
            windows: Windows {
                allowed: vec![window],
                denied: vec!["2026-12-24".into()],
                zone: "Europe/Berlin".into(),
            },
            slo: Some(Slo { objective: 0.999, budget_cap: 0.005 }),
            notify: vec!["ops\x1b[2J".into()],
            ..Plan::clone(&plan)
        };
        let text = told(&Compiled { plan: Arc::new(plan), rate: None, ..compiled() }, 100, false);
        for expected in [
            "    none: nothing is watched\n",
            "  moves only        Mon Fri 09:00–17:00; never on 2026-12-24 (Europe/Berlin)\n",
            "  slo               99.9 %, of whose monthly budget 0.50 % may go\n",
            "  tells             ops[2J\n",
            "  what each stage could notice depends on the traffic, and there is none to go by\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in\n{text}");
        }
        assert!(!text.contains("requests/s"));
    }
}
