//! What a second of a cell's traffic counts.

use std::collections::VecDeque;

use super::cell::{Cell, HANG_S, Shape, Worse};
use super::chance::Chance;
use crate::rollout::{Count, Evidence, PerRole, QUANTILES, StratumEvidence};

/// Places of the strata in [`Evidence::strata`].
const COOKIE: usize = 1;
const DRAW: usize = 2;
const OUTAGE_S: std::ops::Range<f64> = 1_200.0..1_260.0;
const DROP_S: f64 = 1_230.0;
const WINDOW_S: u64 = 300;
/// Exponent and largest size of heavy-tailed bursts, and the mean size that follows.
const TAIL: f64 = 1.5;
const BURST_MAX: f64 = 200.0;
const BURST_MEAN: f64 = 2.47;
const SIGMA: f64 = 0.5;
/// c of the standard latency gate.
const TOLERATED: f64 = 1.2;
/// A worker wakes the guard after so many failures in a row, and again after as many more.
const WAKES: u64 = 5;

/// A cell's traffic, second by second.
#[derive(Debug)]
pub(super) struct Traffic<'a> {
    cell: &'a Cell,
    pub(super) chance: Chance,
    /// When requests time out, how many of each variant, and under which weight they were assigned.
    late: VecDeque<(f64, PerRole<u64>, f64)>,
    visitors: u64,
    in_a_row: u64,
    /// The second of the minute, and the length, of each variant's stall.
    stalls: PerRole<(u64, f64)>,
}

/// Units and events of one variant, and the events of one half of it.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    units: u64,
    events: u64,
    half: u64,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(cell: &'a Cell, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut stall = || (chance.below(60), 0.2 + 0.3 * chance.uniform());
        let stalls = PerRole { stable: stall(), candidate: stall() };
        Self { cell, chance, late: VecDeque::new(), visitors: 0, in_a_row: 0, stalls }
    }

    /// The candidate's share at a time of a stage's weight.
    pub(super) fn share(&self, at_s: f64, percent: u32) -> f64 {
        let drops = self.cell.shape == Shape::TimeOuts && (DROP_S..OUTAGE_S.end).contains(&at_s);
        if drops { 0.01 } else { f64::from(percent) / 100.0 }
    }

    /// What happens from `at_s` on, for `length_s` or until the guard is woken, and how long that is.
    pub(super) fn tick(&mut self, at_s: f64, share: f64, length_s: f64) -> (Evidence, f64) {
        let worse = self.cell.onset.filter(|(onset, _)| at_s >= f64::from(*onset)).map(|(_, worse)| worse);
        let (length_s, dead) = match worse {
            Some(Worse::Dead | Worse::Hung) => self.until_woken(share, length_s),
            _ => (length_s, None),
        };
        let rate = self.cell.rate * length_s;
        let arrived = PerRole {
            stable: self.chance.poisson(rate * (1.0 - share)),
            candidate: dead.unwrap_or_else(|| self.chance.poisson(rate * share)),
        };
        let failing = self.failing(at_s);
        let is_out = OUTAGE_S.contains(&at_s);
        let (stable, candidate) = match self.cell.shape {
            Shape::TimeOuts if is_out => {
                self.late.push_back((at_s + HANG_S, arrived, share));
                (Part::default(), Part::default())
            }
            Shape::Outage if is_out => (self.fail(arrived.stable, 1.0), self.fail(arrived.candidate, 1.0)),
            Shape::Bursts(_) | Shape::HeavyBursts => (
                self.burst(arrived.stable, rate * (1.0 - share)),
                self.burst(arrived.candidate, rate * share),
            ),
            _ => {
                let own = match worse {
                    Some(Worse::Failing(failing)) => failing,
                    Some(Worse::Dead | Worse::Hung) => 1.0,
                    Some(Worse::Slower(_)) | None => failing,
                };
                (self.fail(arrived.stable, failing), self.fail(arrived.candidate, own))
            }
        };
        let (mut stable, mut candidate) = (stable, candidate);
        while let Some((due, late, assigned)) = self.late.front().copied() {
            if due > at_s {
                break;
            }
            self.late.pop_front();
            // Outcomes of an older weight are counted by nobody.
            if assigned == share {
                let (a, b) = (self.fail(late.stable, 1.0), self.fail(late.candidate, 1.0));
                stable = a.plus(stable);
                candidate = b.plus(candidate);
            }
        }
        let evidence = self.evidence(at_s, worse, stable, candidate);
        (Evidence { drawn: Some(share), ..evidence }, length_s)
    }

    fn failing(&self, at_s: f64) -> f64 {
        match self.cell.shape {
            Shape::Drift => {
                let swing = 1.0 + 0.5 * libm::sin(at_s / 300.0 * std::f64::consts::TAU);
                self.cell.failing * (1.0 + 2.0 * at_s / 3_600.0) * swing
            }
            _ => self.cell.failing,
        }
    }

    /// Until the failures of a dead candidate wake the guard, if that is sooner.
    fn until_woken(&mut self, share: f64, length_s: f64) -> (f64, Option<u64>) {
        let mean = 1.0 / (self.cell.rate * share);
        let (mut at, mut arrived) = (self.chance.exponential(mean), 0);
        while at < length_s {
            arrived += 1;
            self.in_a_row += 1;
            if self.in_a_row.is_multiple_of(WAKES) {
                return (at, Some(arrived));
            }
            at += self.chance.exponential(mean);
        }
        (length_s, Some(arrived))
    }

    fn fail(&mut self, units: u64, share: f64) -> Part {
        let events = self.chance.binomial(units, share);
        Part { units, events, half: self.chance.binomial(events, 0.5) }
    }

    fn burst(&mut self, units: u64, expected: f64) -> Part {
        let mean = match self.cell.shape {
            Shape::Bursts(size) => size as f64,
            _ => BURST_MEAN,
        };
        let mut part = Part { units, ..Part::default() };
        for _ in 0..self.chance.poisson(expected * self.cell.failing / mean) {
            let size = match self.cell.shape {
                Shape::Bursts(size) => size,
                _ => libm::pow(1.0 - self.chance.uniform(), -1.0 / TAIL).min(BURST_MAX) as u64,
            };
            part.units += size;
            part.events += size;
            part.half += if self.chance.uniform() < 0.5 { size } else { 0 };
        }
        part
    }

    fn evidence(&mut self, at_s: f64, worse: Option<Worse>, stable: Part, candidate: Part) -> Evidence {
        let mut candidate = candidate;
        let sticks = self.cell.shape == Shape::StickyClient;
        self.visitors += if sticks { candidate.events } else { 0 };
        if sticks && (at_s as u64).is_multiple_of(WINDOW_S) {
            self.visitors += u64::from(at_s < WINDOW_S as f64);
            candidate = candidate.plus(Part { units: 1, events: 1, half: 0 });
        }
        let count = |part: Part| Count { units: part.units, events: part.events };
        let mut stratum = StratumEvidence {
            errors: PerRole { stable: count(stable), candidate: count(candidate) },
            stable_half: Count { units: stable.units / 2, events: stable.half },
            ..StratumEvidence::default()
        };
        let factor = match worse {
            Some(Worse::Slower(factor)) => Some(factor),
            _ if self.cell.shape == Shape::Stalls => Some(1.0 / TOLERATED),
            _ => None,
        };
        if let Some(factor) = factor {
            self.slow(&mut stratum, factor, at_s as u64 % 60);
        }
        let mut evidence = Evidence {
            requests: PerRole { stable: stable.units, candidate: candidate.units },
            failures: PerRole { stable: stable.events, candidate: candidate.events },
            failed_visitors: sticks.then_some(self.visitors),
            candidate_healthy: true,
            ..Evidence::default()
        };
        evidence.strata[if sticks { COOKIE } else { DRAW }] = stratum;
        evidence
    }

    /// Slow requests: of stable the share beyond each quantile, of the candidate what a lognormal latency times
    /// `factor` beyond the tolerated ratio makes of it; whatever arrives in a stall is slow.
    fn slow(&mut self, stratum: &mut StratumEvidence, factor: f64, second: u64) {
        const NORMAL: [f64; QUANTILES.len()] = [0.0, 1.281_551_565_545, 1.644_853_626_951, 2.326_347_874_041];
        let beyond = |by: f64| NORMAL.map(|z| 0.5 * libm::erfc((z - by) / std::f64::consts::SQRT_2));
        let shares = PerRole { stable: beyond(0.0), candidate: beyond(libm::log(factor) / SIGMA) };
        let stalls = self.stalls;
        let errors = stratum.errors;
        let mut draw = |units: u64, shares: [f64; QUANTILES.len()], (when, length): (u64, f64)| {
            let stalled = if self.cell.shape == Shape::Stalls && when == second {
                self.chance.binomial(units, length)
            } else {
                0
            };
            let (mut left, mut before) = (units - stalled, 1.0);
            shares.map(|share| {
                left = self.chance.binomial(left, share / before);
                before = share;
                Count { units, events: left + stalled }
            })
        };
        let stable = draw(errors.stable.units, shares.stable, stalls.stable);
        let candidate = draw(errors.candidate.units, shares.candidate, stalls.candidate);
        for (slow, (stable, candidate)) in stratum.slow.iter_mut().zip(stable.into_iter().zip(candidate)) {
            *slow = PerRole { stable, candidate };
        }
    }
}

impl Part {
    fn plus(self, other: Self) -> Self {
        Self {
            units: self.units + other.units,
            events: self.events + other.events,
            half: self.half + other.half,
        }
    }
}
