//! What makes a plan impossible: all of it at once, each with its place and the cure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::{
    BusinessGate, Compare, ErrorsGate, Gates, Hold, MetricGate, MetricSource, Plan, PlanError, Stage,
};
use super::windows::{is_zone, unknown_zone};
use crate::traffic::Weight;

/// The names of gates that metrics must not have.
const OWN_GATES: [&str; 10] = [
    "mirror",
    "errors",
    "errors-limit",
    "client-errors",
    "latency",
    "business",
    "health",
    "signal",
    "hook",
    "stop-loss",
];

/// More stages than weights that anybody tells apart: a plan is read, printed and saved as a whole.
const STAGES_MAX: usize = 1_000;

impl Plan {
    /// Everything that is wrong with it; empty when nothing is.
    pub fn check(&self) -> Vec<PlanError> {
        let mut found = Problems::default();
        if self.name.trim().is_empty() {
            found.add("name", "a rollout needs a name");
        }
        if self.stages.is_empty() {
            found.add("stages", "a plan needs at least one stage");
        }
        if self.stages.len() > STAGES_MAX {
            let count = self.stages.len();
            found.add("stages", format!("{count} are more than {STAGES_MAX}; take larger steps"));
            return found.0;
        }
        let mut before = None;
        if self.stages.iter().any(|stage| stage.gates.is_none()) {
            found.gates("gates", &self.gates);
        }
        for (at, stage) in self.stages.iter().enumerate() {
            let place = format!("stages[{at}]");
            match stage.mirror {
                Some(share) => found.mirror(&place, share, stage, before),
                None => found.weight(&place, stage.weight, before),
            }
            found.hold(&place, stage);
            if let Some(own) = &stage.gates {
                found.gates(&format!("{place}.gates"), own);
            }
            before = Some(stage.weight).filter(|_| stage.mirror.is_none()).or(before);
        }
        if before.is_none() && !self.stages.is_empty() {
            found.add("stages", "they only mirror; a plan needs a stage with weight");
        }
        found.metrics_agree(self);
        if !(self.false_rollback > 0.0 && self.false_rollback <= 0.2) {
            found.add("false_rollback", "it has to be more than 0% and at most 20%; the default is 1%");
        }
        if let Some(slo) = self.slo {
            if !(slo.objective > 0.0 && slo.objective < 1.0) {
                found
                    .add("slo.objective", "it has to be more than 0% and less than 100%, for instance 99.9%");
            }
            if !(slo.budget_cap > 0.0 && slo.budget_cap <= 1.0) {
                found
                    .add("slo.budget_cap", "it has to be more than 0% and at most 100%; the default is 0.5%");
            }
        }
        for (place, why) in self.windows.problems() {
            found.add(format!("windows.{place}"), why);
        }
        found.0
    }
}

#[derive(Default)]
struct Problems(Vec<PlanError>);

impl Problems {
    fn add(&mut self, place: impl Into<String>, why: impl Into<String>) {
        self.0.push(PlanError { place: place.into(), why: why.into() });
    }

    fn weight(&mut self, place: &str, weight: Weight, before: Option<Weight>) {
        let place = format!("{place}.weight");
        match before {
            _ if weight == Weight::ZERO => {
                self.add(place, "a stage needs more than 0%; use `delay` to wait before the first one")
            }
            Some(before) if weight < before => {
                self.add(
                    place,
                    format!("{weight} after {before}: weights have to rise; put the stages in order"),
                );
            }
            Some(before) if weight == before => {
                self.add(
                    place,
                    format!("{weight} again: weights have to rise; hold the stage before for longer"),
                );
            }
            _ => {}
        }
    }

    fn mirror(&mut self, place: &str, share: Weight, stage: &Stage, before: Option<Weight>) {
        let place = format!("{place}.mirror");
        if share == Weight::ZERO {
            self.add(place, "it copies nothing; leave the stage out, or use `delay`");
        } else if stage.weight > Weight::ZERO {
            self.add(place, "a stage mirrors or has weight; make two of it, the one that mirrors first");
        } else if before.is_some() {
            self.add(place, "it comes after a stage with weight; stages that mirror come first");
        }
    }

    fn hold(&mut self, place: &str, stage: &Stage) {
        match &stage.hold {
            Hold::For(hold) if hold.is_zero() => {
                self.add(format!("{place}.hold"), "a stage needs a hold, for instance 15m");
            }
            Hold::For(hold) => {
                if stage.max_hold.is_some_and(|max_hold| max_hold < *hold) {
                    self.add(format!("{place}.max_hold"), "it is shorter than the hold");
                }
            }
            Hold::Until { minute_of_day, zone } => {
                if *minute_of_day >= 24 * 60 {
                    self.add(format!("{place}.hold"), "a time of day is 00:00 to 23:59");
                }
                if !is_zone(zone) {
                    self.add(format!("{place}.hold"), unknown_zone(zone));
                }
            }
            Hold::Endless => {}
        }
        if stage.max_hold.is_some_and(|max_hold| max_hold.is_zero()) {
            self.add(format!("{place}.max_hold"), "it has to be longer than 0s");
        }
        if stage.tolerate.is_some_and(|tolerate| !(tolerate > 1.0 && tolerate <= 1000.0)) {
            self.add(format!("{place}.tolerate"), "it has to be more than 1, for instance 2");
        }
    }

    fn gates(&mut self, place: &str, gates: &Gates) {
        if !gates.measure() && gates.health.is_none() && !gates.none_said {
            self.add(
                place,
                "no gate watches this; leave `gates` out for the usual ones, or say `gates: none`",
            );
        }
        if let Some(ErrorsGate { ratio, limit, floor, on_fail: _ }) = &gates.errors {
            self.tolerated(format!("{place}.errors.ratio"), *ratio);
            self.share(format!("{place}.errors.limit"), *limit);
            self.share(format!("{place}.errors.floor"), *floor);
            if let (Some(limit), Some(floor)) = (limit, floor)
                && floor > limit
            {
                self.add(
                    format!("{place}.errors.floor"),
                    "it is above the limit: what may go on would be rolled back",
                );
            }
        }
        if let Some(gate) = &gates.client_errors {
            self.tolerated(format!("{place}.client_errors.ratio"), gate.ratio);
        }
        if let Some(gate) = &gates.latency {
            self.tolerated(format!("{place}.latency.ratio"), gate.ratio);
        }
        if let Some(BusinessGate { path, status: (from, to), ratio, .. }) = &gates.business {
            if !(*ratio > 0.0 && *ratio <= 1.0) {
                self.add(
                    format!("{place}.business.ratio"),
                    "it has to be more than 0 and at most 1, for instance 0.95",
                );
            }
            if !path.starts_with('/') {
                self.add(format!("{place}.business.path"), "a path begins with /");
            }
            if !(100..=599).contains(from) || !(100..=599).contains(to) || from > to {
                self.add(
                    format!("{place}.business.status"),
                    "status codes go from 100 to 599, the lower one first",
                );
            }
        }
        for (at, gate) in gates.metrics.iter().enumerate() {
            let twice = gates.metrics[..at].iter().any(|earlier| earlier.name == gate.name);
            self.metric(&format!("{place}.metrics[{at}]"), gate, twice);
        }
        if gates.health.as_ref().is_some_and(|health| health.unhealthy_for < Duration::from_secs(1)) {
            self.add(format!("{place}.health.unhealthy_for"), "it has to be at least 1s; the default is 10s");
        }
    }

    fn metric(&mut self, place: &str, gate: &MetricGate, twice: bool) {
        if gate.name.trim().is_empty() {
            self.add(format!("{place}.name"), "a metric needs a name");
        }
        if OWN_GATES.contains(&&*gate.name) {
            self.add(
                format!("{place}.name"),
                format!("{:?} is a gate of its own; call the metric something else", gate.name),
            );
        }
        if twice {
            self.add(
                format!("{place}.name"),
                format!("{:?} is there twice; a name is one metric", gate.name),
            );
        }
        let (Compare::AtMost(than)
        | Compare::AtLeast(than)
        | Compare::AtMostStable(than)
        | Compare::AtLeastStable(than)) = gate.pass_if;
        if !than.is_finite() {
            self.add(format!("{place}.pass_if"), "it has to be compared with a number");
        }
        if gate.misses == 0 {
            self.add(format!("{place}.misses"), "it has to miss at least once; the default is 3");
        }
        match &gate.source {
            MetricSource::Query { source, query, interval } => {
                if source.is_empty() {
                    self.add(format!("{place}.source"), "a query needs the name of a configured source");
                }
                if query.trim().is_empty() {
                    self.add(format!("{place}.query"), "the query is empty");
                }
                if *interval < Duration::from_secs(1) {
                    self.add(format!("{place}.interval"), "it has to be at least 1s; the default is 30s");
                }
            }
            MetricSource::Pushed { stale_after } => {
                if stale_after.is_zero() {
                    self.add(
                        format!("{place}.stale_after"),
                        "it has to be longer than 0s; the default is 5m",
                    );
                }
            }
        }
    }

    /// Values come by name, so a name has one source in the whole plan.
    fn metrics_agree(&mut self, plan: &Plan) {
        let mut sources = BTreeMap::new();
        let of_stages = plan.stages.iter().enumerate().filter_map(|(at, stage)| {
            stage.gates.as_ref().map(|gates| (format!("stages[{at}].gates"), gates))
        });
        for (place, gates) in std::iter::once(("gates".to_owned(), &plan.gates)).chain(of_stages) {
            for (at, gate) in gates.metrics.iter().enumerate() {
                if *sources.entry(&gate.name).or_insert(&gate.source) != &gate.source
                    && gates.metrics[..at].iter().all(|earlier| earlier.name != gate.name)
                {
                    let why = format!(
                        "{:?} has another source elsewhere in the plan; a name is one metric",
                        gate.name
                    );
                    self.add(format!("{place}.metrics[{at}].name"), why);
                }
            }
        }
    }

    fn tolerated(&mut self, place: String, ratio: f64) {
        if !(1.0..=1000.0).contains(&ratio) {
            self.add(place, "it has to be at least 1, for instance 1.2");
        }
    }

    fn share(&mut self, place: String, share: Option<f64>) {
        if share.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
            self.add(place, "it has to be more than 0% and less than 100%, for instance 0.5%");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{HealthGate, OnFail, Slo};
    use super::super::windows::{Window, Windows};
    use super::*;

    fn stage(percent: u32) -> Stage {
        Stage::new(Weight::from_percent(percent).unwrap(), Hold::For(Duration::from_secs(60)))
    }

    fn metric(name: &str) -> MetricGate {
        MetricGate {
            name: name.into(),
            source: MetricSource::Pushed { stale_after: Duration::from_secs(300) },
            pass_if: Compare::AtMost(1.0),
            on_fail: OnFail::Pause,
            misses: 3,
        }
    }

    #[test]
    fn every_problem_is_said_with_its_place() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Plan), expected: &[&str]) {
            let mut plan = Plan::new("shop", vec![stage(5), stage(99)]);
            change(&mut plan);
            let found: Vec<_> = plan.check().iter().map(ToString::to_string).collect();
            let places: Vec<_> = found.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
            assert_eq!(places, expected, "{found:?}");
        }
        check(|_| {}, &[]);
        check(|plan| plan.stages.clear(), &["stages"]);
        check(|plan| plan.stages = vec![stage(5); STAGES_MAX + 1], &["stages"]);
        check(|plan| plan.name = " ".into(), &["name"]);
        check(
            |plan| plan.stages = vec![stage(25), stage(5), stage(5)],
            &["stages[1].weight", "stages[2].weight"],
        );
        check(|plan| plan.stages[0].weight = Weight::ZERO, &["stages[0].weight"]);
        let mirrored = |share| Stage::mirrored(share, Hold::For(Duration::from_secs(60)));
        check(|plan| plan.stages.insert(0, mirrored(Weight::FULL)), &[]);
        check(|plan| plan.stages.insert(0, mirrored(Weight::ZERO)), &["stages[0].mirror"]);
        check(|plan| plan.stages.push(mirrored(Weight::FULL)), &["stages[2].mirror"]);
        check(|plan| plan.stages[0].mirror = Some(Weight::FULL), &["stages[0].mirror"]);
        check(|plan| plan.stages = vec![mirrored(Weight::FULL)], &["stages"]);
        check(|plan| plan.stages[1].hold = Hold::For(Duration::ZERO), &["stages[1].hold"]);
        check(|plan| plan.stages[1].hold = Hold::Endless, &[]);
        check(|plan| plan.stages[1].max_hold = Some(Duration::from_secs(59)), &["stages[1].max_hold"]);
        check(|plan| plan.stages[1].max_hold = Some(Duration::from_secs(60)), &[]);
        check(
            |plan| plan.stages[0].hold = Hold::Until { minute_of_day: 1440, zone: "Berlin".into() },
            &["stages[0].hold", "stages[0].hold"],
        );
        check(|plan| plan.stages[0].tolerate = Some(1.0), &["stages[0].tolerate"]);
        check(|plan| plan.gates = Gates::none(), &[]);
        check(|plan| plan.gates = Gates { none_said: false, ..Gates::none() }, &["gates"]);
        check(|plan| plan.stages[1].gates = Some(Gates::default()), &["stages[1].gates"]);
        check(
            |plan| plan.gates.health = Some(HealthGate { unhealthy_for: Duration::ZERO }),
            &["gates.health.unhealthy_for"],
        );
        for alpha in [0.0, -0.1, 0.21, f64::NAN] {
            check(|plan| plan.false_rollback = alpha, &["false_rollback"]);
        }
        check(|plan| plan.false_rollback = 0.2, &[]);
        check(|plan| plan.gates.latency.as_mut().unwrap().ratio = 0.9, &["gates.latency.ratio"]);
        check(
            |plan| {
                let errors = plan.gates.errors.as_mut().unwrap();
                (errors.ratio, errors.limit, errors.floor) = (f64::INFINITY, Some(0.005), Some(0.01));
            },
            &["gates.errors.ratio", "gates.errors.floor"],
        );
        check(
            |plan| {
                plan.gates.metrics = vec![metric("revenue"), metric("revenue"), metric("errors")];
                plan.gates.metrics[2].misses = 0;
            },
            &["gates.metrics[1].name", "gates.metrics[2].name", "gates.metrics[2].misses"],
        );
        check(
            |plan| {
                let source = MetricSource::Pushed { stale_after: Duration::from_secs(60) };
                plan.gates.metrics = vec![metric("revenue")];
                let other = MetricGate { source, ..metric("revenue") };
                plan.stages[1].gates = Some(Gates { metrics: vec![other], ..Gates::default() });
            },
            &["stages[1].gates.metrics[0].name"],
        );
        check(
            |plan| {
                plan.gates.business = Some(BusinessGate {
                    method: None,
                    path: "orders".into(),
                    status: (299, 200),
                    ratio: 1.5,
                    on_fail: OnFail::Rollback,
                });
            },
            &["gates.business.ratio", "gates.business.path", "gates.business.status"],
        );
        check(
            |plan| plan.slo = Some(Slo { objective: 1.0, budget_cap: 0.0 }),
            &["slo.objective", "slo.budget_cap"],
        );
        check(
            |plan| {
                let allowed = vec![Window { days: vec![], from: 60, to: 60 }];
                plan.windows = Windows { allowed, denied: vec![], zone: "".into() };
            },
            &["windows.allowed[0]"],
        );
    }
}
