//! The running evidence of a rollout.
//!
//! Ordinary tests that are looked at every second fire by chance; these may be looked at as often as one likes. Each
//! gate is a mixture of bets ([`mixture`]) on which variant an event fell on, given how the traffic of that very
//! tick was split. It needs only that within a tick an event is as likely to fall on a request of either variant,
//! so outages, time of day and changing weights cancel out.
//!
//! - *errors*: failures that fall on the candidate too often, and (what matters at high weights, where stable has few
//!   requests) successes that fall on stable too often. During the warm-up of a stage only the boldest bets are
//!   made, against a much larger tolerance; the others rest and keep their stake.
//! - *errors-limit*: see [`limit`].
//! - *client-errors, latency, business*: likewise; they rest during the warm-up.
//! - *mirror*: in stages without weight, in place of all of these: see [`pairs`].
//! - *metrics, health, signals*: no statistics; outside the false-rollback budget.
//!
//! `E_total` is the weighted mean of the gates' evidence, with weights that are fixed at the start. It fails at
//! `1/(4α/5)`, the limit has the other `α/5`. What fails is the gate with the largest share of it, and every gate whose
//! share alone is enough: a pausing gate that went off long ago must not hide a failure that rolls back.
//! One cause is no proof: it takes three visitors, or where visitors are not known [`EVENTS_MIN`] events, because
//! a single client that repeats itself makes a burst of about five.
//!
//! New stake is placed at the start (0.2), with each stage (0.15 in all) and for ever (0.65 in all), so that
//! a regression that begins late is noticed nearly as fast. A tick without judged traffic changes no stake; what would
//! have been placed in it is placed with the next one.

mod budget;
mod dispersion;
pub(super) mod foresight;
mod limit;
mod mixture;
mod pairs;
mod permission;
mod readings;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::budget::Budget;
use self::dispersion::{Halves, Ticks};
use self::limit::Limit;
use self::mixture::{BREAKING, BROKEN, FEWER, Mixture, Placing, UNEVEN, WORSE, placed};
use self::pairs::Pairs;
use self::permission::Permission;
use self::sources::Source;
use super::evidence::{Count, Evidence, QUANTILES, Stratum, StratumEvidence};
use super::plan::{Gates, Plan};
use super::verdict::{Failure, GateReading, Wait};
use super::{PerRole, Stage};

/// Evidence that is suspicious.
const SUSPECT: f64 = 20.0;
/// Evidence between stable's halves that makes the environment noisy.
const NOISY: f64 = 100.0;
/// How many visitors have to have failed.
const VISITORS_MIN: u64 = 3;
/// How many events it takes where visitors are not known.
const EVENTS_MIN: u64 = 6;
/// Stake at the start, with all stages together, and for ever.
const AT_START: f64 = 0.2;
const WITH_STAGES: f64 = 0.15;
const FOR_EVER: f64 = 0.65;
/// So many times as much of what bets on successes is placed at the start and with stages, and less for ever.
const EARLY: f64 = 2.0;
/// The part of the errors gate that bets on successes and failures together. Both factors win nothing on average
/// whatever the other does, because requests fail one by one, so their product does not either.
///
/// In the bet on failures the chance of the draw stands for the split, where each request was drawn by itself: see
/// [`Placing::draw`]. Not so in the bet on successes: an answer that is late is no event yet, and a candidate that is
/// merely slow must not seem to lack them.
const ON_SUCCESSES: f64 = 0.2;
/// A candidate that succeeds less than this many times as often as stable is broken, whatever ratio of failures is
/// tolerated; also during the warm-up.
const BROKEN_BELOW: f64 = 0.5;
/// Of the candidate's failures in one tick so many count, and as many times what stable's share would make of its
/// units: leaving failures out is always safe, and one burst is one cause.
const BURST: (f64, f64) = (10.0, 3.0);
/// What is tolerated during the warm-up.
const WARMUP_RATIO: f64 = 5.0;
const WARMUP_LIMIT: f64 = 0.25;
/// The least part of the stake that is due which a tick places.
const AT_ONCE: f64 = 0.25;
/// Bets of [`WORSE`] from here on are made during the warm-up.
const BOLD: usize = 5;
/// What a single tick of stable's failures may add to their dispersion, in times of what is expected.
const TICK_BOUND: f64 = 16.0;
/// Without a candidate request for so long there is no traffic.
const IDLE: Duration = Duration::from_secs(300);

/// Where a tick is in the rollout. Armed time only: it stands still while the process does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The stage's index.
    pub stage: usize,
    /// Since the previous tick.
    pub elapsed: Duration,
    /// Since the stage began, this tick included.
    pub in_stage: Duration,
    /// Since the rollout began, this tick included.
    pub armed: Duration,
}

/// What the gates say after a tick, before holds, windows and people are asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// The gravest failure.
    pub failure: Option<Failure>,
    /// What speaks against going on for now, gravest first; empty when nothing does.
    pub doubts: Vec<Wait>,
    /// Whether the evidence permits to go on (GATES: permission); with nothing to measure, it does not.
    pub permits: bool,
    /// Every gate's numbers.
    pub readings: Vec<GateReading>,
}

/// The evidence of one rollout so far. Saved and read back it goes on exactly as it would have.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Judge {
    /// Each list's part in `E_total`.
    shares: [f64; LISTS],
    stage: usize,
    furthest: usize,
    /// Armed time at the last tick with judged traffic, in s.
    seen_s: f64,
    /// Stake of stages that is to be placed.
    due: f64,
    errors: Mixture,
    broken: Mixture,
    /// As `errors`, against the null that both are alike.
    worse: Mixture,
    limit: Limit,
    client_errors: Mixture,
    slow: Vec<Mixture>,
    business: Mixture,
    uneven: Mixture,
    halves: Halves,
    ticks: Vec<Ticks>,
    permission: Permission,
    /// By list, latency by quantile, since the stage began.
    counts: Vec<PerRole<Count>>,
    /// Likewise the candidate's events since the rollout began; of business its units.
    witnesses: Vec<u64>,
    /// Of the candidate's failures those of visitors, and those that were drawn.
    repeated: u64,
    drawn: u64,
    /// All candidate requests since the stage began.
    requests: u64,
    idle_ms: u64,
    unhealthy_ms: u64,
    sources: BTreeMap<Arc<str>, Source>,
    budget: Budget,
    excess: f64,
    #[serde(default)]
    pairs: Pairs,
}

/// Lists with a part in `E_total`.
const LISTS: usize = 4;
/// Their places, and what each would have if all were configured.
const ERRORS: usize = 0;
const CLIENT_ERRORS: usize = 1;
const LATENCY: usize = 2;
const BUSINESS: usize = 3;
const SHARES: [f64; LISTS] = [0.5, 0.1, 0.3, 0.2];
/// Places of what is counted: failures, 4xx, slow by quantile, business.
const SLOW: usize = 2;
const SUCCESSES: usize = SLOW + QUANTILES.len();
const COUNTED: usize = SUCCESSES + 1;

impl Judge {
    /// Nothing has been seen.
    pub fn new(plan: &Plan) -> Self {
        let has = |asks: fn(&Gates) -> bool| {
            asks(&plan.gates) || plan.stages.iter().any(|stage| stage.gates.as_ref().is_some_and(asks))
        };
        let configured = [
            has(|gates| gates.errors.is_some()),
            has(|gates| gates.client_errors.is_some()),
            has(|gates| gates.latency.is_some()),
            has(|gates| gates.business.is_some()),
        ];
        let mut shares = [0.0; LISTS];
        let whole: f64 = SHARES.iter().zip(configured).filter(|(_, has)| *has).map(|(share, _)| share).sum();
        for ((own, share), has) in shares.iter_mut().zip(SHARES).zip(configured) {
            *own = if has { share / whole } else { 0.0 };
        }
        let due = AT_START + if plan.stages.len() <= 1 { WITH_STAGES } else { 0.0 };
        Self {
            shares,
            stage: 0,
            furthest: 0,
            seen_s: 0.0,
            due,
            errors: Mixture::new(WORSE.len(), 0.0),
            broken: Mixture::new(BROKEN.len(), 0.0),
            worse: Mixture::new(WORSE.len(), 0.0),
            limit: Limit::new(0.0),
            client_errors: Mixture::new(WORSE.len(), 0.0),
            slow: vec![Mixture::new(WORSE.len(), 0.0); QUANTILES.len()],
            business: Mixture::new(FEWER.len(), 0.0),
            uneven: Mixture::new(UNEVEN.len(), 0.0),
            halves: Halves::default(),
            ticks: vec![Ticks::default(); COUNTED],
            permission: Permission::new(),
            counts: vec![PerRole::default(); COUNTED],
            witnesses: vec![0; COUNTED],
            repeated: 0,
            drawn: 0,
            requests: 0,
            idle_ms: 0,
            unhealthy_ms: 0,
            sources: BTreeMap::new(),
            budget: Budget::default(),
            excess: 0.0,
            pairs: Pairs::default(),
        }
    }

    /// Takes in a tick, and says what the gates say now.
    pub fn tick(&mut self, plan: &Plan, moment: Moment, evidence: &Evidence) -> Finding {
        let Some(stage) = plan.stages.get(moment.stage) else { return Finding::default() };
        let gates = stage.gates.as_ref().unwrap_or(&plan.gates);
        self.enter(plan, moment.stage);
        if evidence.strata != <[StratumEvidence; 3]>::default() {
            self.weigh(plan, stage, moment, evidence);
        }
        if stage.mirror.is_some() {
            return self.tick_mirrored(plan, stage, gates, moment, evidence);
        }
        self.look_around(plan, gates, moment.elapsed, evidence);
        self.find(plan, stage, gates, evidence)
    }

    /// Nobody is on the candidate: what reads its visitors' traffic has nothing to say, and copies do in its place.
    fn tick_mirrored(
        &mut self,
        plan: &Plan,
        stage: &Stage,
        gates: &Gates,
        moment: Moment,
        evidence: &Evidence,
    ) -> Finding {
        let rest = gates.without_traffic();
        self.look_around(plan, &rest, moment.elapsed, evidence);
        let mut finding = self.find(plan, stage, &rest, evidence);
        if let Some(gate) = &gates.errors {
            let is_warm = moment.in_stage.saturating_sub(moment.elapsed) >= plan.warmup;
            self.pairs.weigh(gate, is_warm, evidence.mirrored);
            self.pairs.find(plan, stage, gate, &mut finding);
        }
        finding
    }

    /// `E_total`: the evidence of all lists together; fails at `1.25 / false_rollback`.
    pub fn total(&self) -> f64 {
        let parts = [
            self.errors_evidence(),
            self.client_errors.evidence(),
            self.latency_evidence(),
            self.business.evidence(),
        ];
        self.shares.iter().zip(parts).map(|(share, evidence)| share * evidence).sum()
    }

    /// Failures that the candidate had beyond what stable's share of failures at the same moments explains, since
    /// the rollout began. Negative if it fails less.
    pub fn excess_failures(&self) -> f64 {
        self.excess
    }

    fn errors_evidence(&self) -> f64 {
        (1.0 - ON_SUCCESSES) * self.errors.evidence() + ON_SUCCESSES * self.broken.evidence()
    }

    fn worse_evidence(&self) -> f64 {
        (1.0 - ON_SUCCESSES) * self.worse.evidence() + ON_SUCCESSES * self.broken.evidence()
    }

    fn latency_evidence(&self) -> f64 {
        self.slow.iter().map(Mixture::evidence).sum::<f64>() / QUANTILES.len() as f64
    }

    fn errors_spread(&self) -> f64 {
        let ticks = self.ticks.first().map_or(1.0, Ticks::spread);
        self.halves.spread().max(ticks)
    }

    /// How many failures each failed visitor of the candidate had, on average: one client that fails for ever, once
    /// in each window, is one witness.
    fn repetition(&self, visitors: Option<u64>) -> f64 {
        match visitors {
            Some(visitors) if visitors > 0 => (self.repeated as f64 / visitors as f64).clamp(1.0, 1e6),
            Some(_) | None => 1.0,
        }
    }

    fn enter(&mut self, plan: &Plan, stage: usize) {
        if stage == self.stage {
            return;
        }
        self.stage = stage;
        self.permission = Permission::new();
        self.pairs.enter();
        self.counts = vec![PerRole::default(); COUNTED];
        self.requests = 0;
        if stage > self.furthest {
            let rises = plan.stages.len().saturating_sub(1).max(1) as f64;
            self.due += WITH_STAGES * (stage - self.furthest) as f64 / rises;
            self.furthest = stage;
        }
    }

    fn weigh(&mut self, plan: &Plan, stage: &Stage, moment: Moment, evidence: &Evidence) {
        let gates = stage.gates.as_ref().unwrap_or(&plan.gates);
        let now_s = moment.armed.as_secs_f64().max(self.seen_s);
        let elapsed_s = now_s - self.seen_s;
        let is_warm = moment.in_stage.saturating_sub(moment.elapsed) >= plan.warmup;
        let warmup_s = if is_warm { 0.0 } else { plan.warmup.saturating_sub(moment.in_stage).as_secs_f64() };
        self.place(now_s, warmup_s);
        let spreads: Vec<f64> = self.ticks.iter().map(Ticks::spread).collect();
        let spread_of = |list: usize| spreads.get(list).copied().unwrap_or(1.0);
        self.compare_errors(plan, stage, is_warm, now_s, evidence);
        if is_warm {
            let lists = &evidence.strata;
            if let Some(gate) = &gates.client_errors {
                let growth = growth(lists, |s| s.client_errors, gate.ratio, &WORSE, spread_of(CLIENT_ERRORS));
                self.client_errors.grow(&growth);
            }
            if gates.latency.is_some() {
                for (at, mixture) in self.slow.iter_mut().enumerate() {
                    let growth = growth(lists, |s| slow(s, at), 1.0, &WORSE, spread_of(SLOW + at));
                    mixture.grow(&growth);
                }
            }
            if let Some(gate) = &gates.business {
                let growth = growth(lists, |s| s.business, gate.ratio, &FEWER, spread_of(SUCCESSES));
                self.business.grow(&growth);
            }
        }
        self.count(evidence, is_warm, elapsed_s);
        self.seen_s = now_s;
    }

    /// Places the stake that is due, evenly over what is left of the warm-up: a bold bet on a candidate that
    /// dies in the middle of it has lost all stake from before.
    fn place(&mut self, now_s: f64, warmup_s: f64) {
        let elapsed_s = now_s - self.seen_s;
        // A part at once, for a candidate that is dead from its first request; bets that rest keep theirs.
        let part = if warmup_s > 0.0 { (elapsed_s / (elapsed_s + warmup_s)).max(AT_ONCE) } else { 1.0 };
        let now = self.due * part;
        self.due -= now;
        let endless = placed(now_s / 3600.0) - placed(self.seen_s / 3600.0);
        let stake = now + FOR_EVER * endless;
        // Early stake is what shuts a dead candidate. This one needs little later: it is the quickest of all then.
        self.broken.add(EARLY * now + (1.0 - EARLY * (AT_START + WITH_STAGES)) * endless);
        let single = [
            &mut self.errors,
            &mut self.worse,
            &mut self.client_errors,
            &mut self.business,
            &mut self.uneven,
        ];
        for mixture in single.into_iter().chain(&mut self.slow) {
            mixture.add(stake);
        }
        self.limit.add(stake);
    }

    fn compare_errors(&mut self, plan: &Plan, stage: &Stage, is_warm: bool, now_s: f64, evidence: &Evidence) {
        let gates = stage.gates.as_ref().unwrap_or(&plan.gates);
        let lists = &evidence.strata;
        for (stratum, kind) in lists.iter().zip(Stratum::ALL) {
            let events = stratum.errors.candidate.events;
            let sum = if kind == Stratum::Draw { &mut self.drawn } else { &mut self.repeated };
            *sum = sum.saturating_add(events);
        }
        let spread = self.errors_spread().max(self.repetition(evidence.failed_visitors));
        let mut uneven = [0.0; UNEVEN.len()];
        for stratum in lists {
            let (units, events) = numbers(stratum.errors.stable);
            let (half_units, half_events) = numbers(stratum.stable_half);
            let rest = ((units - half_units).max(0.0), (events - half_events).max(0.0));
            if let Some(placing) = Placing::new((half_units, rest.0), (half_events.min(events), rest.1)) {
                placing.grow(&mut uneven, 1.0, &UNEVEN, spread);
            }
        }
        self.uneven.grow(&uneven);
        let Some(gate) = &gates.errors else { return };
        let at_least = if is_warm { 1.0 } else { WARMUP_RATIO };
        let usual = self.ticks.first().and_then(Ticks::share).unwrap_or(0.0);
        let failures = |s: &StratumEvidence| {
            let mut errors = s.errors;
            let (units, events) = numbers(errors.stable);
            // What stable has at the same moment is no burst of the candidate's.
            let usual = usual.max(if units > 0.0 { events / units } else { 0.0 });
            let most = BURST.0 + BURST.1 * usual * numbers(errors.candidate).0;
            errors.candidate.events = errors.candidate.events.min(most as u64);
            errors
        };
        let mut errors = growth(lists, failures, gate.ratio.max(at_least), &WORSE, spread);
        let mut worse = growth(lists, failures, at_least, &WORSE, spread);
        if !is_warm {
            errors.iter_mut().chain(&mut worse).enumerate().for_each(|(at, growth)| {
                if at % WORSE.len() < BOLD {
                    *growth = 0.0;
                }
            });
        }
        self.errors.grow(&errors);
        self.worse.grow(&worse);
        let mut broken = growth(lists, |s| rest(s.errors), BROKEN_BELOW, &BROKEN, spread);
        for (stratum, kind) in lists.iter().zip(Stratum::ALL) {
            let counts = failures(stratum);
            if let Some(mut placing) = placing(counts) {
                if let Some(chance) = evidence.drawn.filter(|_| kind == Stratum::Draw) {
                    placing.draw(chance, (numbers(counts.candidate).0, numbers(counts.stable).0));
                }
                placing.grow(&mut broken, gate.ratio.max(at_least), &BREAKING, spread);
            }
        }
        self.broken.grow(&broken);

        let candidate = sum(lists, |s| s.errors.candidate);
        let stable = sum(lists, |s| s.errors.stable);
        if let Some(usual) = gate.limit.filter(|limit| *limit > 0.0 && *limit < 1.0) {
            let limit = if is_warm { usual } else { usual.max(WARMUP_LIMIT) };
            self.limit.see(candidate, stable, limit, usual, spread, now_s);
            self.limit.conclude(readings::limit_fails_at(plan));
        }
        if is_warm {
            let tolerated = permission::tolerated(stage);
            for stratum in lists {
                if let Some(placing) = placing(stratum.errors) {
                    self.permission.compare(&placing, tolerated, spread);
                }
            }
            let floor = permission::floor(gate);
            if floor > 0.0 && floor < 1.0 {
                self.permission.measure(candidate, floor, spread);
            }
            self.permission.conclude();
        }
    }

    fn count(&mut self, evidence: &Evidence, is_warm: bool, elapsed_s: f64) {
        let lists = &evidence.strata;
        for (list, of) in LISTED.iter().enumerate() {
            let mut both = PerRole::default();
            for stratum in lists {
                both = plus(both, of(stratum));
            }
            let bound = if list == ERRORS { TICK_BOUND } else { f64::INFINITY };
            if let Some(ticks) = self.ticks.get_mut(list) {
                ticks.see(numbers(both.stable), elapsed_s, bound);
            }
            if list != ERRORS && !is_warm {
                continue;
            }
            if let Some(counts) = self.counts.get_mut(list) {
                *counts = plus(*counts, if list == ERRORS { outcomes(evidence) } else { both });
            }
            let candidate = both.candidate;
            if let Some(witnesses) = self.witnesses.get_mut(list) {
                let seen = if list == SUCCESSES { candidate.units } else { candidate.events };
                *witnesses = witnesses.saturating_add(seen);
            }
        }
        for stratum in lists {
            self.halves.see(numbers(stratum.errors.stable), numbers(stratum.stable_half));
        }
    }

    /// Everything that is not judged traffic.
    fn look_around(&mut self, plan: &Plan, gates: &Gates, elapsed: Duration, evidence: &Evidence) {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.requests = self.requests.saturating_add(evidence.requests.candidate);
        let since = |ms: u64, goes_on: bool| if goes_on { ms.saturating_add(elapsed_ms) } else { 0 };
        self.idle_ms = since(self.idle_ms, evidence.requests.candidate == 0);
        self.unhealthy_ms = since(self.unhealthy_ms, !evidence.candidate_healthy);
        if evidence.requests.stable > 0 {
            let of = |count: u64| count.min(UNITS_MAX) as f64;
            let share = of(evidence.failures.stable) / of(evidence.requests.stable);
            self.excess += of(evidence.failures.candidate) - of(evidence.requests.candidate) * share.min(1.0);
        }
        if plan.slo.is_some() {
            self.budget.see(evidence, elapsed.as_secs_f64());
        }
        for gate in &gates.metrics {
            let reading = evidence.metrics.get(&gate.name);
            self.sources.entry(gate.name.clone()).or_default().see(gate, reading, elapsed_ms);
        }
    }
}

/// Counts beyond this are taken for this.
const UNITS_MAX: u64 = 1 << 40;

type Of = fn(&StratumEvidence) -> PerRole<Count>;

/// What is counted, by place.
const LISTED: [Of; COUNTED] = [
    |s| s.errors,
    |s| s.client_errors,
    |s| slow(s, 0),
    |s| slow(s, 1),
    |s| slow(s, 2),
    |s| slow(s, 3),
    |s| s.business,
];

fn slow(stratum: &StratumEvidence, at: usize) -> PerRole<Count> {
    stratum.slow.get(at).copied().unwrap_or_default()
}

/// Units and events, bounded.
fn numbers(count: Count) -> (f64, f64) {
    let units = count.units.min(UNITS_MAX);
    (units as f64, count.events.min(units) as f64)
}

/// Requests and failures as people count them: visitors at risk, counted anew each tick, would say nothing to them.
fn outcomes(evidence: &Evidence) -> PerRole<Count> {
    let Evidence { requests, failures, .. } = evidence;
    // The request of a late failure may have been counted before.
    let count = |units: u64, events: u64| Count { units: units.max(events), events };
    PerRole {
        stable: count(requests.stable, failures.stable),
        candidate: count(requests.candidate, failures.candidate),
    }
}

/// Of the same units those without the event.
fn rest(counts: PerRole<Count>) -> PerRole<Count> {
    counts.map(|_, count| Count { events: count.units.saturating_sub(count.events), ..count })
}

fn plus(one: PerRole<Count>, other: PerRole<Count>) -> PerRole<Count> {
    let add = |a: Count, b: Count| Count {
        units: a.units.saturating_add(b.units),
        events: a.events.saturating_add(b.events),
    };
    PerRole { stable: add(one.stable, other.stable), candidate: add(one.candidate, other.candidate) }
}

fn sum(strata: &[StratumEvidence], of: impl Fn(&StratumEvidence) -> Count) -> (f64, f64) {
    strata.iter().map(|stratum| numbers(of(stratum))).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// Where the events fell, given on which units they could.
fn placing(counts: PerRole<Count>) -> Option<Placing> {
    let PerRole { stable, candidate } = counts.map(|_, count| numbers(count));
    Placing::new((candidate.0, stable.0), (candidate.1, stable.1))
}

/// How the stakes on `times` grow, over all strata in their order.
fn growth<const N: usize>(
    strata: &[StratumEvidence],
    of: impl Fn(&StratumEvidence) -> PerRole<Count>,
    tolerated: f64,
    times: &[f64; N],
    spread: f64,
) -> [f64; N] {
    let mut growth = [0.0; N];
    for stratum in strata {
        if let Some(placing) = placing(of(stratum)) {
            placing.grow(&mut growth, tolerated, times, spread);
        }
    }
    growth
}
