//! One run of a cell: a rollout on schedule, judged at every tick.

use std::sync::Arc;
use std::time::Duration;

use super::cell::{Cell, HANG_S, Shape, Wanted, Worse};
use super::rivals::Rivals;
use super::traffic::Traffic;
use crate::rollout::{Confirms, Gates, Hold, Judge, Moment, OnInconclusive, Plan, Stage, Wait, Windows};
use crate::traffic::Weight;

/// When the pause of a paused rollout begins, how long it is, and its ticks.
const PAUSE_AT_S: f64 = 1_000.0;
const PAUSE_S: f64 = 36_000.0;
const PAUSE_TICK_S: f64 = 10.0;

/// What came out of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Whether a gate rolled back though the candidate was as good as stable.
    pub(super) rolled_back: bool,
    /// Whether a gate paused it then.
    pub(super) paused: bool,
    /// Candidate requests from the moment it got worse until a gate failed; `None`: never.
    pub(super) requests: Option<f64>,
    /// Whether it never had to wait for its permission.
    pub(super) on_schedule: bool,
    /// Whether naive rule, z-test and Flagger's rule rolled back.
    pub(super) rivals: [bool; 3],
    /// Failed requests beyond stable's share until weight 0: ours, then the rivals'.
    pub(super) excess: [f64; 4],
}

/// The plan of a cell.
pub(super) fn plan(cell: &Cell) -> Plan {
    let stage = |(percent, seconds): &(u32, u32)| Stage {
        weight: Weight::from_percent(*percent).unwrap_or(Weight::FULL),
        mirror: None,
        hold: Hold::For(Duration::from_secs(u64::from(*seconds))),
        min_requests: 0,
        max_hold: None,
        approval: false,
        gates: None,
        tolerate: None,
    };
    Plan {
        name: Arc::from("simulated"),
        delay: Duration::ZERO,
        stages: cell.stages.iter().map(stage).collect(),
        gates: Gates::standard(),
        false_rollback: 0.01,
        warmup: Duration::from_secs(60),
        on_inconclusive: OnInconclusive::Hold,
        keep: Duration::ZERO,
        windows: Windows::default(),
        slo: None,
        confirm: Confirms::default(),
        notify: Vec::new(),
    }
}

/// The same cell and seed have the same outcome.
pub(super) fn run(cell: &Cell, seed: u64) -> Outcome {
    let plan = plan(cell);
    let mut judge = Judge::new(&plan);
    let mut traffic = Traffic::new(cell, seed);
    let mut rivals = Rivals::default();
    let mut outcome = Outcome { on_schedule: true, ..Outcome::default() };
    let onset = cell.onset.map_or(f64::INFINITY, |(onset, _)| f64::from(onset));
    let goes_on = matches!(cell.onset, Some((_, Worse::Failing(_) | Worse::Dead)));
    let (mut at_s, mut paused_s, mut since_onset, mut has_failed) = (0.0, 0.0, 0.0, false);
    let mut began_s = 0.0;
    for (stage, (percent, seconds)) in cell.stages.iter().enumerate() {
        let began_armed_s = began_s + paused_s;
        let ends_s = began_s + f64::from(*seconds);
        rivals.enter();
        let mut permits = false;
        while at_s < ends_s - 1e-9 {
            let is_pause = cell.shape == Shape::Paused && at_s >= PAUSE_AT_S && paused_s < PAUSE_S;
            let until_next = libm::floor(at_s + 1.0 + 1e-9) - at_s;
            let length_s = if is_pause { PAUSE_TICK_S } else { until_next };
            let share = traffic.share(at_s, *percent);
            let (evidence, elapsed_s) = traffic.tick(at_s, share, length_s);
            let is_worse = at_s >= onset;
            if is_pause {
                paused_s += elapsed_s;
            } else {
                at_s += elapsed_s;
                if (at_s - at_s.round()).abs() < 1e-9 {
                    at_s = at_s.round();
                }
            }
            if is_worse {
                since_onset += evidence.requests.candidate as f64;
            }
            let excess =
                evidence.failures.candidate as f64 - evidence.requests.candidate as f64 * cell.failing;
            if is_worse {
                let stopped = [has_failed, rivals.fired[0], rivals.fired[1], rivals.fired[2]];
                for (sum, stopped) in outcome.excess.iter_mut().zip(stopped) {
                    *sum += if stopped { 0.0 } else { excess };
                }
            }
            if !is_pause {
                rivals.see(at_s, &evidence);
            }
            if !has_failed {
                let armed_s = at_s + paused_s;
                let moment = Moment {
                    stage,
                    elapsed: Duration::from_secs_f64(elapsed_s),
                    in_stage: Duration::from_secs_f64((armed_s - began_armed_s).max(0.0)),
                    armed: Duration::from_secs_f64(armed_s),
                };
                let finding = judge.tick(&plan, moment, &evidence);
                let doubts = |wait: &Wait| {
                    matches!(wait, Wait::Suspect { .. } | Wait::SharedIncident | Wait::NoTraffic)
                };
                permits = finding.permits && !finding.doubts.iter().any(doubts);
                if let Some(failure) = finding.failure {
                    if is_worse {
                        has_failed = true;
                        let sent_before = match cell.onset {
                            Some((_, Worse::Hung)) => cell.rate * share * HANG_S,
                            _ => 0.0,
                        };
                        outcome.requests = Some(since_onset + sent_before);
                    } else if failure.rolls_back {
                        has_failed = true;
                        outcome.rolled_back = true;
                    } else {
                        outcome.paused = true;
                    }
                }
            }
            let all_stopped = has_failed && (!goes_on || rivals.fired == [true; 3]);
            if all_stopped {
                outcome.rivals = rivals.fired;
                outcome.on_schedule = false;
                return outcome;
            }
        }
        began_s = ends_s;
        outcome.on_schedule &= permits && !has_failed;
        if cell.wanted == Wanted::Promoted && !outcome.on_schedule {
            break;
        }
    }
    outcome.rivals = rivals.fired;
    outcome
}
