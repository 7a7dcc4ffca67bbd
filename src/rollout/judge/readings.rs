//! From evidence to what the gates say: failures, doubts, and numbers for people.

use std::sync::{Arc, LazyLock};

use super::mixture::Mixture;
use super::permission::{self, NEEDED};
use super::sources::bound;
use super::{
    BUSINESS, CLIENT_ERRORS, ERRORS, EVENTS_MIN, Finding, IDLE, Judge, LATENCY, NOISY, SLOW, SUCCESSES,
    SUSPECT, VISITORS_MIN,
};
use crate::rollout::evidence::{Count, Evidence, QUANTILES};
use crate::rollout::plan::{Compare, Gates, OnFail, Plan, Stage};
use crate::rollout::sentences::grouped;
use crate::rollout::verdict::{Failure, GateReading, Wait};
use crate::rollout::{MetricGate, PerRole};
use crate::traffic::Weight;

/// The gates' names.
static NAMES: LazyLock<[Arc<str>; 8]> = LazyLock::new(|| {
    ["errors", "client-errors", "latency", "business", "errors-limit", "health", "signal", "stop-loss"]
        .map(Arc::from)
});
const LIMIT: usize = 4;
const HEALTH: usize = 5;
const SIGNAL: usize = 6;
const STOP_LOSS: usize = 7;

/// A gate with a part in `E_total`.
struct List {
    at: usize,
    on_fail: OnFail,
    evidence: f64,
    share: f64,
    counts: PerRole<Count>,
    witnesses: u64,
}

impl Judge {
    pub(super) fn find(&self, plan: &Plan, stage: &Stage, gates: &Gates, evidence: &Evidence) -> Finding {
        let lists = self.lists(gates);
        let total: f64 = lists.iter().map(|list| list.share * list.evidence).sum();
        let largest = lists.iter().reduce(|one, other| {
            if other.share * other.evidence > one.share * one.evidence { other } else { one }
        });
        let permits = self.permits(stage, gates);
        let mut failures = self.statistical(plan, gates, &lists, total, evidence);
        if self.uneven.evidence() >= NOISY {
            failures.iter_mut().for_each(|failure| failure.rolls_back = false);
        }
        failures.extend(self.others(gates, evidence));
        // The first of the gravest.
        let at = failures.iter().position(|failure| failure.rolls_back).unwrap_or(0);
        let failure = (!failures.is_empty()).then(|| failures.swap_remove(at));
        Finding {
            failure,
            doubts: self.doubts(plan, gates, total, largest),
            permits,
            readings: self.readings(plan, stage, gates, &lists),
        }
    }

    fn lists(&self, gates: &Gates) -> Vec<List> {
        let list = |at, place: usize, on_fail, evidence| List {
            at,
            on_fail,
            evidence,
            share: self.shares.get(at).copied().unwrap_or(0.0),
            counts: self.counts.get(place).copied().unwrap_or_default(),
            witnesses: self.witnesses.get(place).copied().unwrap_or(0),
        };
        let mut lists = Vec::with_capacity(self.shares.len());
        if let Some(gate) = &gates.errors {
            lists.push(list(ERRORS, ERRORS, gate.on_fail, self.errors_evidence()));
        }
        if let Some(gate) = &gates.latency {
            let place = SLOW + self.slowest();
            lists.push(list(LATENCY, place, gate.on_fail, self.latency_evidence()));
        }
        if let Some(gate) = &gates.business {
            lists.push(list(BUSINESS, SUCCESSES, gate.on_fail, self.business.evidence()));
        }
        if let Some(gate) = &gates.client_errors {
            lists.push(list(CLIENT_ERRORS, CLIENT_ERRORS, gate.on_fail, self.client_errors.evidence()));
        }
        lists
    }

    /// The quantile that speaks most against the candidate.
    fn slowest(&self) -> usize {
        let evidence = |at: usize| self.slow.get(at).map_or(0.0, Mixture::evidence);
        (0..QUANTILES.len()).fold(
            QUANTILES.len() - 1,
            |best, at| {
                if evidence(at) > evidence(best) { at } else { best }
            },
        )
    }

    fn statistical(
        &self,
        plan: &Plan,
        gates: &Gates,
        lists: &[List],
        total: f64,
        evidence: &Evidence,
    ) -> Vec<Failure> {
        let fails = fails_at(plan);
        let largest = lists.iter().map(|list| list.share * list.evidence).fold(0.0, f64::max);
        let visitors = evidence.failed_visitors;
        let mut failures = Vec::new();
        // What was drawn has no visitors that could be told apart.
        let blames_failures = |witnesses: u64| match visitors {
            Some(visitors) => visitors >= VISITORS_MIN || self.drawn >= EVENTS_MIN,
            None => witnesses >= EVENTS_MIN,
        };
        for list in lists {
            let own = list.share * list.evidence;
            let is_it = total >= fails && (own >= largest || own >= fails);
            let has_witnesses = match list.at {
                ERRORS => blames_failures(list.witnesses),
                _ => list.witnesses >= EVENTS_MIN,
            };
            if is_it && has_witnesses {
                failures.push(Failure {
                    gate: name(list.at),
                    rolls_back: list.on_fail == OnFail::Rollback,
                    sentence: format!("{}; evidence {total:.0} of {fails:.0}", self.story(list)),
                });
            }
        }
        let Some(errors) = lists.iter().find(|list| list.at == ERRORS) else { return failures };
        let rolls_back = gates.errors.as_ref().is_some_and(|gate| gate.on_fail == OnFail::Rollback);
        if let Some(limit) = gates.errors.as_ref().and_then(|gate| gate.limit) {
            let (shown, fails) = (self.over_limit(), limit_fails_at(plan));
            if shown >= fails && !self.limit.is_loud() && blames_failures(errors.witnesses) {
                failures.push(Failure {
                    gate: name(LIMIT),
                    rolls_back,
                    sentence: format!(
                        "the candidate fails {}, more than the limit of {} and more than stable, {}; evidence {shown:.0} of {fails:.0}",
                        part(errors.counts.candidate),
                        percent(limit),
                        part(errors.counts.stable),
                    ),
                });
            }
        }
        if let Some(slo) = &plan.slo
            && let Some(cap) = self.budget.cap(slo)
            && self.excess > cap
            && errors.evidence >= SUSPECT
        {
            failures.push(Failure {
                gate: name(STOP_LOSS),
                rolls_back: true,
                sentence: format!(
                    "the candidate cost {:.0} failures more than stable would have, of {cap:.0} that the error budget \
                     allows one rollout; evidence {:.0} of {SUSPECT:.0}",
                    self.excess, errors.evidence
                ),
            });
        }
        failures
    }

    /// What fails without statistics.
    fn others(&self, gates: &Gates, evidence: &Evidence) -> Vec<Failure> {
        let mut failures = Vec::new();
        for signal in evidence.signals.iter().filter(|signal| signal.critical) {
            failures.push(Failure {
                gate: name(SIGNAL),
                rolls_back: true,
                sentence: format!("{} signalled {}, which is critical", signal.actor, signal.name),
            });
        }
        if let Some(gate) = &gates.health
            && u128::from(self.unhealthy_ms) >= gate.unhealthy_for.as_millis()
            && self.unhealthy_ms > 0
        {
            failures.push(Failure {
                gate: name(HEALTH),
                rolls_back: true,
                sentence: format!(
                    "the candidate has had no usable endpoint for {} s, of {} s that are tolerated",
                    self.unhealthy_ms / 1000,
                    gate.unhealthy_for.as_secs_f64(),
                ),
            });
        }
        for gate in &gates.metrics {
            let Some(source) = self.sources.get(&gate.name).filter(|source| source.fails(gate)) else {
                continue;
            };
            failures.push(Failure {
                gate: gate.name.clone(),
                rolls_back: gate.on_fail == OnFail::Rollback,
                sentence: missed(gate, source.value()),
            });
        }
        failures
    }

    fn doubts(&self, plan: &Plan, gates: &Gates, total: f64, largest: Option<&List>) -> Vec<Wait> {
        let mut doubts = Vec::new();
        if gates.errors.is_some() && self.limit.is_incident() {
            doubts.push(Wait::SharedIncident);
        }
        if total >= SUSPECT
            && let Some(list) = largest
        {
            doubts.push(Wait::Suspect { gate: name(list.at), evidence: total, limit: fails_at(plan) });
        }
        if let Some(rate) = plan.slo.as_ref().and_then(|slo| self.budget.burn(slo)) {
            doubts.push(Wait::Burn { rate });
        }
        if self.uneven.evidence() >= NOISY {
            doubts.push(Wait::Noisy);
        }
        for gate in &gates.metrics {
            if let Some(silent_ms) = self.sources.get(&gate.name).and_then(|source| source.silence(gate)) {
                doubts.push(Wait::NoEvidence { gate: gate.name.clone(), silent_ms });
            }
        }
        let is_idle = self.requests == 0 || u128::from(self.idle_ms) >= IDLE.as_millis();
        if is_idle && gates.read_traffic() {
            doubts.push(Wait::NoTraffic);
        }
        doubts
    }

    /// Failures need a permission where they are compared; at 100 % there is nothing to compare with. Metrics have
    /// to pass, and are asked for even if nothing else is.
    fn permits(&self, stage: &Stage, gates: &Gates) -> bool {
        let errors_permit = match &gates.errors {
            Some(_) if stage.weight < Weight::FULL => self.permission.is_granted(),
            Some(_) => self.requests > 0,
            None if gates.client_errors.is_some() || gates.latency.is_some() || gates.business.is_some() => {
                self.requests > 0
            }
            None => true,
        };
        let metrics_pass = gates
            .metrics
            .iter()
            .all(|gate| self.sources.get(&gate.name).is_some_and(|source| source.passes(gate)));
        errors_permit && metrics_pass
    }

    fn readings(&self, plan: &Plan, stage: &Stage, gates: &Gates, lists: &[List]) -> Vec<GateReading> {
        let mut readings = Vec::with_capacity(lists.len() + 3 + gates.metrics.len());
        for list in lists {
            let is_errors = list.at == ERRORS && stage.weight < Weight::FULL;
            readings.push(GateReading {
                gate: name(list.at),
                evidence: list.evidence,
                limit: (list.share > 0.0).then(|| fails_at(plan) / list.share),
                permission: is_errors.then(|| (self.permission.shown(), NEEDED)),
                counts: list.counts,
                missing: if is_errors { self.missing(stage, gates) } else { None },
            });
        }
        if gates.errors.as_ref().is_some_and(|gate| gate.limit.is_some()) {
            readings.push(GateReading {
                gate: name(LIMIT),
                evidence: self.over_limit(),
                limit: Some(limit_fails_at(plan)),
                permission: None,
                counts: self.counts.first().copied().unwrap_or_default(),
                missing: None,
            });
        }
        if let Some(gate) = &gates.health {
            readings.push(GateReading {
                gate: name(HEALTH),
                evidence: self.unhealthy_ms as f64 / 1000.0,
                limit: Some(gate.unhealthy_for.as_secs_f64()),
                permission: None,
                counts: PerRole::default(),
                missing: None,
            });
        }
        for gate in &gates.metrics {
            let value = self.sources.get(&gate.name).map(|source| source.value()).unwrap_or_default();
            let Some(candidate) = value.candidate else { continue };
            readings.push(GateReading {
                gate: gate.name.clone(),
                evidence: candidate,
                limit: bound(gate.pass_if, value.stable),
                permission: None,
                counts: PerRole::default(),
                missing: None,
            });
        }
        readings
    }

    /// About how many more candidate units until the permission.
    fn missing(&self, stage: &Stage, gates: &Gates) -> Option<u64> {
        let stable = self.ticks.first()?.share()?;
        let floor = permission::floor(gates.errors.as_ref()?);
        self.permission.missing(stage.weight.ratio(), stable, permission::tolerated(stage), floor)
    }

    /// What the limit's gate fails by: the weaker of its two proofs.
    fn over_limit(&self) -> f64 {
        self.limit.evidence().min(self.worse_evidence())
    }

    fn story(&self, list: &List) -> String {
        let (candidate, stable) = (part(list.counts.candidate), part(list.counts.stable));
        match list.at {
            CLIENT_ERRORS => format!("the candidate answers 4xx to {candidate}, stable to {stable}"),
            LATENCY => {
                let quantile = QUANTILES.get(self.slowest()).copied().unwrap_or(0.99) * 100.0;
                format!(
                    "{candidate} of the candidate's requests take longer than tolerated beside stable's p{quantile:.0}, \
                     of stable's {stable} take longer than that quantile"
                )
            }
            BUSINESS => format!("the candidate succeeds for {candidate}, stable for {stable}"),
            _ => format!("the candidate fails {candidate}, stable {stable}"),
        }
    }
}

/// Where `E_total` fails: 1/(4α/5).
fn fails_at(plan: &Plan) -> f64 {
    1.25 / alpha(plan)
}

pub(super) fn limit_fails_at(plan: &Plan) -> f64 {
    5.0 / alpha(plan)
}

fn alpha(plan: &Plan) -> f64 {
    if plan.false_rollback > 1e-9 && plan.false_rollback < 1.0 { plan.false_rollback } else { 0.01 }
}

fn name(at: usize) -> Arc<str> {
    NAMES.get(at).cloned().unwrap_or_else(|| "errors".into())
}

fn missed(gate: &MetricGate, value: PerRole<Option<f64>>) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "nothing".to_owned(), |value| format!("{value}"));
    let demand = match gate.pass_if {
        Compare::AtMost(limit) => format!("at most {limit}"),
        Compare::AtLeast(limit) => format!("at least {limit}"),
        Compare::AtMostStable(times) => format!("at most {times} × stable's {}", number(value.stable)),
        Compare::AtLeastStable(times) => format!("at least {times} × stable's {}", number(value.stable)),
    };
    let times = if gate.misses > 1 { format!(", {} times in a row", gate.misses) } else { String::new() };
    format!("the candidate's {} is {}, not {demand}{times}", gate.name, number(value.candidate))
}

/// `2.4 % (203 of 8,312)`.
fn part(count: Count) -> String {
    let share = GateReading::ratio(count);
    format!("{} ({} of {})", percent(share), grouped(count.events), grouped(count.units))
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.01 => "<0.01 %".to_owned(),
        percent if percent < 0.995 => format!("{percent:.2} %"),
        percent if percent < 99.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}
