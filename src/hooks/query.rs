//! Values for gates from a Prometheus, or what speaks its query API.
//!
//! An instant query per role. Exactly one finite sample is a value; all else is no evidence, and is said with its cure. Values that are filled into a query are escaped for a PromQL string, so a version called
//! `1.0"} or vector(1)` stays a version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::call::Caller;
use super::desk::Desk;
use super::rounds::Rounds;
use super::settings::{HookSettings, Source};
use crate::outbound::causes;
use crate::outbound::prometheus::{NoValue, parse};
use crate::rollout::{Gates, MetricSource, PerRole, View};
use crate::traffic::Role;

/// How many questions one source is asked at a time.
const AT_ONCE_MAX: usize = 8;
/// Whatever a plan says, no gate is asked more often.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A gate of a rollout that asks a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    service: Arc<str>,
    gate: Arc<str>,
    rollout: u64,
}

/// The queries of all running rollouts.
#[derive(Default)]
pub struct Querying {
    rounds: Rounds<Asked>,
    places: BTreeMap<Arc<str>, Arc<Semaphore>>,
}

impl Querying {
    /// Asks what is to be asked now.
    pub fn ask(
        &mut self,
        now: Instant,
        settings: &HookSettings,
        views: &[View],
        caller: &Caller,
        desk: &Desk,
    ) {
        let mut wanted = BTreeSet::new();
        for view in views {
            for gate in &gates(view).metrics {
                let MetricSource::Query { source: name, query, interval } = &gate.source else { continue };
                let (service, rollout) = (view.service.clone(), view.rollout.id);
                let asked = Asked { service, gate: gate.name.clone(), rollout };
                wanted.insert(asked.clone());
                if self.rounds.due(&asked, now).is_none() {
                    continue;
                }
                let Some(source) = settings.sources.get(name).cloned() else {
                    let sentence = format!("the source {name:?} is not configured any more");
                    desk.complain("metric", Some(&asked.service), &asked.gate, &sentence);
                    (desk.push)(&asked.service, &asked.gate, PerRole::default());
                    continue;
                };
                let new = || Arc::new(Semaphore::new(AT_ONCE_MAX));
                let places = self.places.entry(name.clone()).or_insert_with(new).clone();
                let queries = filled_in(query, view);
                let (caller, desk, task) = (caller.clone(), desk.clone(), asked.clone());
                let running = tokio::spawn(async move {
                    let _place = places.acquire().await;
                    read(&task, &source, &queries, &caller, &desk).await;
                });
                self.rounds.started(asked, running, now + (*interval).max(INTERVAL_MIN));
            }
        }
        self.rounds.keep(&wanted);
        self.places.retain(|source, _| settings.sources.contains_key(source));
    }
}

async fn read(asked: &Asked, source: &Source, queries: &PerRole<String>, caller: &Caller, desk: &Desk) {
    let candidate = value(source, &queries.candidate, caller).await;
    let stable = match queries.stable == queries.candidate {
        true => candidate.as_ref().ok().copied(),
        false => heard(asked, Role::Stable, value(source, &queries.stable, caller).await, desk),
    };
    let candidate = heard(asked, Role::Candidate, candidate, desk);
    (desk.push)(&asked.service, &asked.gate, PerRole { stable, candidate });
}

fn heard(asked: &Asked, role: Role, value: Result<f64, NoValue>, desk: &Desk) -> Option<f64> {
    value
        .map_err(|why| {
            let sentence = format!(
                "no evidence from the metric {} for the {}: {}",
                asked.gate,
                role.as_str(),
                causes(&why)
            );
            desk.complain(
                "metric",
                Some(&asked.service),
                &format!("{} {}", asked.gate, role.as_str()),
                &sentence,
            );
        })
        .ok()
}

async fn value(source: &Source, query: &str, caller: &Caller) -> Result<f64, NoValue> {
    let (status, body) = caller.ask(source, query).await?;
    parse(status, &body)
}

/// The gates in force.
fn gates(view: &View) -> &Gates {
    let (rollout, plan) = (&view.rollout, &view.rollout.plan);
    plan.stages.get(rollout.stage).and_then(|stage| stage.gates.as_ref()).unwrap_or(&plan.gates)
}

/// The query of each role.
fn filled_in(query: &str, view: &View) -> PerRole<String> {
    PerRole { stable: Role::Stable, candidate: Role::Candidate }.map(|_, role| {
        let variant = match role {
            Role::Stable => view.candidate.other(),
            Role::Candidate => view.candidate,
        };
        let version = view.versions[variant].as_deref().unwrap_or_default();
        let values = [
            ("service", &*view.service),
            ("variant", variant.as_str()),
            ("version", version),
            ("role", role.as_str()),
        ];
        fill(query, &values)
    })
}

/// Replaces each `{{name}}` in one pass, so that a value with braces in it stays a value. Unknown names stay, and the source
/// will say so.
fn fill(query: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(query.len());
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let found = after.split_once("}}").and_then(|(name, behind)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name.trim())?;
            Some((value, behind))
        });
        match found {
            Some((value, behind)) => {
                filled.push_str(&in_promql(value));
                rest = behind;
            }
            None => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// A value inside a PromQL string, whichever of its three quotes is around it: quotes as `\xNN`, which each of the two
/// that know escapes takes, and which cannot end the third.
fn in_promql(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '\\' => escaped.push_str("\\\\"),
            '"' | '\'' | '`' | '\0'..='\x1f' | '\x7f' => {
                let _ = write!(escaped, "\\x{:02x}", u32::from(char));
            }
            _ => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fill_a_query_and_never_leave_their_string() {
        let values = [("service", "shop"), ("version", "1\"} or vector(1) # {{service}} ' ` \\ \n")];
        assert_eq!(fill("a{{service}}b{{ service }}{{nope}}{{", &values), "ashopbshop{{nope}}{{");
        let filled = fill(r#"x{v="{{version}}"}"#, &values);
        assert_eq!(filled, r#"x{v="1\x22} or vector(1) # {{service}} \x27 \x60 \\ \x0a"}"#);
    }
}
