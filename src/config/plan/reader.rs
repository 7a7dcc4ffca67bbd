//! Reads the parts of a plan, and remembers where each stood, so that what is wrong with the plan as a whole can be told with
//! its line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::words::Name;
use crate::config::meant::{did_you_mean, listed};
use crate::config::problem::{Findings, below};
use crate::config::scalar::Scalar;
use crate::config::written::{List, Short, Written};
use crate::rollout::{Gates, Plan, PlanError};

/// Everything that the configuration names and plans refer to.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Known {
    pub(in crate::config) tiers: BTreeMap<Arc<str>, Gates>,
    pub(in crate::config) hooks: BTreeSet<Arc<str>>,
    pub(in crate::config) sources: BTreeSet<Arc<str>>,
    pub(in crate::config) channels: BTreeSet<Arc<str>>,
}

/// Reads values at places below `at`.
#[derive(Debug)]
pub(in crate::config) struct Reader<'f> {
    pub(in crate::config) findings: &'f mut Findings,
    at: String,
    line: u64,
    seen: BTreeMap<String, (u64, Option<String>)>,
    names_elsewhere: bool,
}

impl<'f> Reader<'f> {
    pub(in crate::config) fn new(findings: &'f mut Findings, at: &str, line: u64) -> Self {
        Self { findings, at: at.to_owned(), line: line.max(1), seen: BTreeMap::new(), names_elsewhere: false }
    }

    /// Where no configuration is at hand: any name may be in it.
    pub(in crate::config) fn with_names_elsewhere(mut self) -> Self {
        self.names_elsewhere = true;
        self
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The value, if it is written and right.
    pub(super) fn read<T: Scalar>(&mut self, place: &str, written: Option<&Written<T>>) -> Option<T> {
        let written = written?;
        self.saw(place, written.line, Some(&written.text));
        let place = self.full(place);
        self.findings.read(&place, written)
    }

    /// That something stands at a place.
    pub(super) fn saw(&mut self, place: &str, line: u64, value: Option<&str>) {
        self.seen.insert(place.to_owned(), (line, value.map(str::to_owned)));
    }

    pub(super) fn wrong<T>(&mut self, place: &str, written: &Written<T>, why: impl Into<String>) {
        let place = self.full(place);
        self.findings.wrong(&place, written, why);
    }

    pub(super) fn wrong_at(&mut self, place: &str, value: Option<&str>, line: u64, why: impl Into<String>) {
        let place = self.full(place);
        self.findings.wrong_at(&place, value, line.max(1), why);
    }

    pub(super) fn doubt<T>(&mut self, place: &str, written: &Written<T>, why: impl Into<String>) {
        let place = self.full(place);
        self.findings.doubt(&place, written, why);
    }

    /// A name, if there is such a thing.
    pub(in crate::config) fn known<'k>(
        &mut self,
        place: &str,
        written: Option<&Written<Name>>,
        kind: &str,
        section: &str,
        names: impl Iterator<Item = &'k Arc<str>> + Clone,
    ) -> Option<Arc<str>> {
        let Name(name) = self.read(place, written)?;
        let is_elsewhere = self.names_elsewhere && kind != "schedule";
        if is_elsewhere || names.clone().any(|known| *known == name) {
            return Some(name);
        }
        let why = unknown(&name, kind, section, names.map(|name| &**name));
        self.wrong(place, written?, why);
        None
    }

    pub(super) fn known_list(
        &mut self,
        place: &str,
        written: Option<List<Name>>,
        kind: &str,
        section: &str,
        names: &BTreeSet<Arc<str>>,
    ) -> Vec<Arc<str>> {
        let mut found: Vec<Arc<str>> = Vec::new();
        for item in written.map(Short::into_items).unwrap_or_default() {
            let Some(name) = self.known(place, Some(&item), kind, section, names.iter()) else { continue };
            if found.contains(&name) {
                self.wrong(place, &item, "stands here twice; leave one out");
            } else {
                found.push(name);
            }
        }
        found
    }

    fn full(&self, place: &str) -> String {
        match (self.at.as_str(), place) {
            ("", "") => "the plan".to_owned(),
            (at, "") => at.to_owned(),
            (at, place) => below(at, place),
        }
    }

    /// Tells everything that is wrong with the plan as a whole.
    pub(in crate::config) fn check(&mut self, plan: &Plan) {
        for error in plan.check() {
            self.plan_error(&PlanError { place: place_in_file(plan, &error.place), why: error.why });
        }
    }

    /// Warns if a plan that does not say so itself has stages that nothing watches.
    pub(in crate::config) fn doubt_unwatched(&mut self, plan: &Plan) {
        let is_unwatched = |gates: &Gates| !gates.measure() && gates.health.is_none();
        if is_unwatched(&plan.gates) && plan.stages.iter().any(|stage| stage.gates.is_none()) {
            let why = "nothing watches this rollout, because the service or the tier says gates: none; write gates into a plan \
                       if that is not meant";
            self.findings.doubt_at(&self.full("gates"), self.line, why);
        }
    }

    /// With the nearest line.
    fn plan_error(&mut self, error: &PlanError) {
        let mut place = error.place.as_str();
        let mut exact = true;
        let (line, value) = loop {
            if let Some((line, value)) = self.seen.get(place) {
                break (*line, value.clone().filter(|_| exact));
            }
            exact = false;
            match place.rfind(['.', '[']) {
                Some(end) => place = &place[..end],
                None => break (self.line, None),
            }
        };
        self.wrong_at(&error.place, value.as_deref(), line, error.why.clone());
    }
}

/// Where something of a plan stands in its file: metrics go by name there.
fn place_in_file(plan: &Plan, place: &str) -> String {
    let named = || {
        let (before, rest) = place.split_once(".metrics[")?;
        let (at, rest) = rest.split_once(']')?;
        let stage = before.strip_prefix("stages[").and_then(|stage| stage.split_once(']'));
        let gates = match stage {
            Some((stage, _)) => plan.stages.get(stage.parse::<usize>().ok()?)?.gates.as_ref()?,
            None => &plan.gates,
        };
        let metric = gates.metrics.get(at.parse::<usize>().ok()?)?;
        Some(format!("{before}.metrics.{}{}", metric.name, rest.strip_suffix(".name").unwrap_or(rest)))
    };
    named().unwrap_or_else(|| place.to_owned())
}

/// Why a name means nothing, and what there is.
pub(in crate::config) fn unknown<'n>(
    name: &str,
    kind: &str,
    section: &str,
    names: impl Iterator<Item = &'n str> + Clone,
) -> String {
    match did_you_mean(name, names.clone()) {
        Some(meant) => format!("there is no {kind} {name}; did you mean {meant}?"),
        None if names.clone().next().is_none() => {
            format!("there is no {kind} at all; name it under {section} in the configuration")
        }
        None => format!("there is no {kind} {name}; there is {}", listed(names)),
    }
}
