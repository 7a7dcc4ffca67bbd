//! Simulated traffic for the same gates that decide on live traffic, beside the rules that others use.
//!
//! Each cell is one kind of traffic, run many times from its own seed; what is printed beside each figure is what it
//! has to be and how large it may be in truth, given how often it was tried. All rules see the same traffic.

mod cell;
mod chance;
mod report;
mod rivals;
mod run;
mod traffic;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use self::report::Tally;
pub use self::report::{Excess, Figure, Report};
use self::run::Outcome;

/// How much is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where chance begins; the same seed gives the same report. Default 1.
    pub seed: u64,
    /// Runs of each cell, at least 1; default 2,000. With fewer, a figure misses its target only if that cannot be
    /// chance.
    pub runs: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Self { seed: 1, runs: RUNS }
    }
}

/// Runs that make figures as exact as the targets are.
pub const RUNS: usize = 2_000;
/// Runs that take seconds, and still notice what is broken.
pub const RUNS_QUICK: usize = 40;
const THREADS: usize = 2;
/// Runs that a thread takes at once.
const CHUNK: usize = 20;

/// Simulates every cell on two threads. It takes about ten minutes for 2,000 runs.
pub fn simulate(extent: Extent) -> Report {
    let cells = cell::cells();
    let runs = extent.runs.max(1);
    let chunks = runs.div_ceil(CHUNK);
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, usize, Vec<Outcome>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let (at, chunk) = (job / chunks, job % chunks);
                    let Some(cell) = cells.get(at) else { break };
                    let first = chunk * CHUNK;
                    let outcomes = (first..runs.min(first + CHUNK))
                        .map(|run| run::run(cell, seed(extent.seed, at, run)))
                        .collect();
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((at, chunk, outcomes));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(at, chunk, _)| (*at, *chunk));
    let mut tallies: Vec<Tally> = cells.iter().map(|_| Tally::default()).collect();
    for (at, _, outcomes) in found {
        if let Some(tally) = tallies.get_mut(at) {
            tally.outcomes.extend(outcomes);
        }
    }
    Report::new(extent, &cells, &tallies)
}

/// Differs for each run of each cell (SplitMix64).
fn seed(seed: u64, cell: usize, run: usize) -> u64 {
    // Far apart, or neighbouring seeds would have the same runs in another order.
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((cell as u64) << 40) ^ run as u64;
    for _ in 0..2 {
        mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_runs_of_everything_meet_every_target_and_repeat_themselves() {
        let report = simulate(Extent { seed: 3, runs: 2 });
        assert!(report.is_met(), "\n{report}");
        let one = cell::cells().swap_remove(0);
        assert_eq!(run::run(&one, 5), run::run(&one, 5));
    }
}
