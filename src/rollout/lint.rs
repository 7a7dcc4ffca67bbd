//! Mistakes that people make in plans.

use std::time::Duration;

use super::mistake::{Mistake, Severity};
use super::plan::{Compare, Gates, Hold, OnInconclusive, Plan};
use super::sentences::span;
use crate::traffic::Weight;

/// More than this at first is no small step.
const FIRST_WEIGHT_MAX: u32 = 25;
const LAST_HOLD_MIN: Duration = Duration::from_secs(60);

/// What is allowed in a plan, and hardly ever right. `critical`: much hangs on the service.
pub fn lint(plan: &Plan, critical: bool) -> Vec<Mistake> {
    let mut found = Found(Vec::new());
    let risk = if critical { Severity::Danger } else { Severity::Warning };
    if plan.stages.iter().any(|stage| stage.gates.is_none()) {
        found.gates("gates", &plan.gates);
    }
    for (at, stage) in plan.stages.iter().enumerate() {
        if let Some(gates) = &stage.gates {
            found.gates(&format!("stages[{at}].gates"), gates);
        }
    }
    let weighted = || plan.stages.iter().enumerate().filter(|(_, stage)| stage.mirror.is_none());
    let small = Weight::from_percent(FIRST_WEIGHT_MAX).unwrap_or(Weight::FULL);
    if let Some((at, first)) = weighted().next() {
        let place = format!("stages[{at}].weight");
        if critical && first.weight > small {
            let what = format!("the first stage is {} of a service that much hangs on", first.weight);
            found.add(place, what, "begin with 1%, or with the schedule payment", Severity::Danger);
        } else if first.weight == Weight::FULL && plan.keep.is_zero() {
            let what = "everybody at once, and stable is let go as soon as it is promoted";
            let cure = "keep it warm, such as keep: 1h, so that the way back is short";
            found.add(place, what, cure, Severity::Warning);
        }
    }
    if let Some((at, last)) = weighted().next_back() {
        if last.weight < Weight::FULL {
            let what = match last.hold {
                Hold::Endless => format!("the split stays at {} until somebody decides", last.weight),
                Hold::For(_) | Hold::Until { .. } => {
                    format!("the split stays at {} when it is over", last.weight)
                }
            };
            let cure = "add a stage of 100%, or let split.expires of the service remind you";
            found.add(format!("stages[{at}]"), what, cure, Severity::Warning);
        } else if let Hold::For(hold) = last.hold
            && hold.saturating_add(plan.keep) < LAST_HOLD_MIN
        {
            let what = format!("100 % is only watched for {}", span(hold));
            found.add(format!("stages[{at}].hold"), what, "hold it for some minutes, such as 15m", risk);
        }
    }
    if plan.on_inconclusive == OnInconclusive::Advance {
        let what = "stages advance without a verdict";
        let cure = "write on_inconclusive: hold, or raise max_hold until there is evidence";
        found.add("on_inconclusive", what, cure, risk);
    }
    found.0.sort_by_key(|mistake| std::cmp::Reverse(mistake.severity));
    found.0
}

struct Found(Vec<Mistake>);

impl Found {
    fn add(
        &mut self,
        place: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
        severity: Severity,
    ) {
        self.0.push(Mistake { place: place.into(), what: what.into(), cure: cure.into(), severity });
    }

    fn gates(&mut self, place: &str, gates: &Gates) {
        self.0.extend(lint_gates(place, gates));
    }
}

/// What is allowed in gates, and hardly ever right.
pub fn lint_gates(place: &str, gates: &Gates) -> Vec<Mistake> {
    let mut found = Found(Vec::new());
    if !gates.measure() {
        let what = "no gate watches the candidate's traffic";
        let cure = "leave gates out for the usual ones: errors, client_errors, latency, health";
        found.add(place, what, cure, Severity::Danger);
    }
    let errors = gates.errors.as_ref();
    for (key, share) in [("limit", errors.and_then(|e| e.limit)), ("floor", errors.and_then(|e| e.floor))] {
        if share == Some(0.0) {
            let what = "hard-coded at 0: the first request that fails decides";
            let cure = format!("write what stable does, too, such as {key}: 0.5%, or leave it out");
            found.add(format!("{place}.errors.{key}"), what, cure, Severity::Warning);
        }
    }
    for metric in &gates.metrics {
        if matches!(metric.pass_if, Compare::AtMost(limit) if limit <= 0.0) {
            let what = "hard-coded at 0: a single one decides";
            let cure = "compare with stable, such as pass_if: \"<= stable * 1.1\"";
            found.add(format!("{place}.metrics.{}.pass_if", metric.name), what, cure, Severity::Warning);
        }
    }
    found.0
}

#[cfg(test)]
mod tests {
    use super::super::plan::Stage;
    use super::super::schedule::{SCHEDULES, schedule};
    use super::*;

    fn percent(percent: u32) -> Weight {
        Weight::from_percent(percent).unwrap()
    }

    fn minutes(count: u64) -> Hold {
        Hold::For(Duration::from_secs(60 * count))
    }

    #[test]
    fn each_mistake_of_a_plan_is_named_with_its_cure() {
        #[track_caller]
        fn check(critical: bool, change: impl FnOnce(&mut Plan), expected: &[(&str, &str)]) {
            let stages = vec![Stage::new(percent(5), minutes(15)), Stage::new(Weight::FULL, minutes(15))];
            let mut plan = Plan::new("p", stages);
            change(&mut plan);
            let found = lint(&plan, critical);
            let got: Vec<_> = found.iter().map(|m| (m.place.as_str(), m.severity.as_str())).collect();
            assert_eq!(got, expected, "{found:?}");
            assert!(found.iter().all(|mistake| !mistake.what.is_empty() && !mistake.cure.is_empty()));
        }
        check(true, |_| {}, &[]);
        check(false, |plan| plan.gates = Gates::none(), &[("gates", "danger")]);
        check(false, |plan| plan.stages[0].gates = Some(Gates::none()), &[("stages[0].gates", "danger")]);
        check(
            false,
            |plan| plan.gates.errors.as_mut().unwrap().limit = Some(0.0),
            &[("gates.errors.limit", "warning")],
        );
        check(true, |plan| plan.stages[0].weight = percent(26), &[("stages[0].weight", "danger")]);
        check(true, |plan| plan.stages[0].weight = percent(25), &[]);
        check(false, |plan| plan.stages[0].weight = percent(50), &[]);
        check(false, |plan| drop(plan.stages.remove(0)), &[("stages[0].weight", "warning")]);
        check(false, |plan| plan.stages[1].weight = percent(99), &[("stages[1]", "warning")]);
        check(
            true,
            |plan| plan.stages[1].hold = Hold::For(Duration::from_secs(5)),
            &[("stages[1].hold", "danger")],
        );
        check(
            false,
            |plan| plan.on_inconclusive = OnInconclusive::Advance,
            &[("on_inconclusive", "warning")],
        );
    }

    #[test]
    fn no_schedule_has_a_mistake() {
        for name in SCHEDULES {
            assert_eq!(lint(&schedule(name).unwrap(), false), [], "{name}");
        }
        for name in ["canary", "payment", "conservative", "hourly", "aggressive"] {
            assert_eq!(lint(&schedule(name).unwrap(), true), [], "{name}");
        }
    }
}
