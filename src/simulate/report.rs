//! What came out, beside what has to.

use std::fmt;

use serde::Serialize;

use super::cell::{Cell, Wanted, Worse};
use super::run::{Outcome, plan};
use super::{Extent, RUNS};
use crate::rollout::foresee;

/// The chance of a false rollback that is promised, and what its bound may be.
const FALSE_MAX: f64 = 0.01;
const FALSE_BOUND_MAX: f64 = 0.013;
const PROMOTED_MIN: f64 = 0.98;
/// What is to be noticed at once may now and then be hidden by chance: the share of runs in which it is not.
const NEARLY_ALWAYS: f64 = 0.999;
/// With fewer runs than [`RUNS`] a figure misses only beyond this chance.
const SURE: f64 = 0.001;

/// Everything that was simulated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Where chance began.
    pub seed: u64,
    /// Runs of each cell.
    pub runs: usize,
    /// One figure for each cell.
    pub figures: Vec<Figure>,
    /// What bad releases cost.
    pub excess: Vec<Excess>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Of which traffic.
    pub name: String,
    /// As it is printed.
    pub figure: String,
    /// What it is at most (or at least) in truth, with 95 % certainty.
    pub bound: String,
    /// What it has to be; empty if it is only printed.
    pub target: String,
    /// Whether it is.
    pub is_met: bool,
    /// What naive rule, z-test and Flagger's rule did on the same traffic.
    pub others: String,
}

/// Failed requests beyond stable's share until weight 0, on average.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Excess {
    /// Of which traffic.
    pub name: String,
    /// Tidegate's gates.
    pub ours: f64,
    /// More than 1.1 × stable's rate.
    pub naive: f64,
    /// A two-proportion z-test at p < 0.01, looked at every second.
    pub z_test: f64,
    /// Success of 99 %, asked every 60 s, five misses.
    pub flagger: f64,
}

/// The outcomes of a cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(extent: Extent, cells: &[Cell], tallies: &[Tally]) -> Self {
        let medians: Vec<(&str, Option<f64>)> = cells
            .iter()
            .zip(tallies)
            .map(|(cell, tally)| (cell.name.as_str(), tally.quantile(0.5)))
            .collect();
        let figures = cells.iter().zip(tallies).map(|(cell, tally)| tally.figure(cell, &medians)).collect();
        let excess = cells
            .iter()
            .zip(tallies)
            .filter(|(cell, _)| matches!(cell.onset, Some((_, Worse::Failing(_) | Worse::Dead))))
            .map(|(cell, tally)| tally.excess(cell))
            .collect();
        Self { seed: extent.seed, runs: extent.runs.max(1), figures, excess }
    }

    /// Whether every figure meets its target.
    pub fn is_met(&self) -> bool {
        self.figures.iter().all(|figure| figure.is_met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} runs of each, seed {}", self.runs, self.seed)?;
        let others = "naive · z · Flagger";
        writeln!(
            f,
            "\n{:<46} {:>18} {:>9}  {:<22} {:<7} {others}",
            "traffic", "figure", "bound", "target", ""
        )?;
        for figure in &self.figures {
            let verdict = match (figure.is_met, figure.target.is_empty()) {
                (_, true) => "",
                (true, _) => "ok",
                (false, _) => "MISSED",
            };
            let Figure { name, figure, bound, target, others, .. } = figure;
            let line = format!("{name:<46} {figure:>18} {bound:>9}  {target:<22} {verdict:<7} {others}");
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(
            f,
            "\n{:<46} {:>9} {:>9} {:>9} {:>9}",
            "excess failed requests until weight 0", "tidegate", "naive", "z-test", "Flagger"
        )?;
        for row in &self.excess {
            let Excess { name, ours, naive, z_test, flagger } = row;
            writeln!(f, "{name:<46} {ours:>9.0} {naive:>9.0} {z_test:>9.0} {flagger:>9.0}")?;
        }
        Ok(())
    }
}

impl Tally {
    fn figure(&self, cell: &Cell, medians: &[(&str, Option<f64>)]) -> Figure {
        let name = cell.name.clone();
        let rivals = |at: usize| percent(self.share(|outcome| outcome.rivals.get(at) == Some(&true)));
        match cell.wanted {
            Wanted::Kept => {
                let (bound, is_met) = self.at_most(FALSE_MAX, FALSE_BOUND_MAX, |outcome| outcome.rolled_back);
                let paused = self.share(|outcome| outcome.paused);
                let paused =
                    if paused > 0.0 { format!(" (paused {})", percent(paused)) } else { String::new() };
                Figure {
                    name,
                    figure: format!("{}{paused}", percent(self.share(|outcome| outcome.rolled_back))),
                    bound: percent(bound),
                    target: format!("≤ {} (≤ {})", percent(FALSE_MAX), percent(FALSE_BOUND_MAX)),
                    is_met,
                    others: format!("{} · {} · {}", rivals(0), rivals(1), rivals(2)),
                }
            }
            Wanted::Promoted => {
                let plan = plan(cell);
                let decides = foresee(&plan, cell.rate, cell.failing).iter().all(|stage| stage.decidable);
                let (bound, is_met) = self.at_most(1.0 - PROMOTED_MIN, 1.0, |outcome| !outcome.on_schedule);
                Figure {
                    name,
                    figure: percent(self.share(|outcome| outcome.on_schedule)),
                    bound: format!("≥ {}", percent(1.0 - bound)),
                    target: if decides { format!("≥ {}", percent(PROMOTED_MIN)) } else { String::new() },
                    is_met: is_met || !decides,
                    others: String::new(),
                }
            }
            Wanted::Noticed { median, most } => self.noticed(name, median, most),
            Wanted::NoticedLike { cell, times } => {
                let like = medians.iter().find(|(name, _)| *name == cell).and_then(|(_, median)| *median);
                self.noticed(name, like.map_or(f64::INFINITY, |like| like * times), None)
            }
            Wanted::NoticedWithin { requests } => {
                // A false alarm before it got worse is none of its delays.
                let kept = self.outcomes.iter().filter(|outcome| !outcome.rolled_back);
                let kept = Self { outcomes: kept.cloned().collect() };
                let [usual, worst] = [NEARLY_ALWAYS, 1.0].map(|at| kept.quantile(at));
                let shown =
                    |most: Option<f64>| most.map_or_else(|| "never".to_owned(), |most| format!("{most:.0}"));
                Figure {
                    name,
                    figure: format!("{}, worst {}", shown(usual), shown(worst)),
                    bound: String::new(),
                    target: format!("99.9 % ≤ {requests:.0}"),
                    is_met: usual.is_some_and(|usual| usual <= requests),
                    others: String::new(),
                }
            }
        }
    }

    fn noticed(&self, name: String, median_max: f64, most: Option<f64>) -> Figure {
        let number =
            |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |value| format!("{value:.0}"));
        let (median, p95) = (self.quantile(0.5), self.quantile(0.95));
        let holds = |at: f64, limit: f64| {
            if self.outcomes.len() >= RUNS {
                return self.quantile(at).is_some_and(|value| value <= limit);
            }
            let within = self.count(|outcome| outcome.requests.is_some_and(|requests| requests <= limit));
            at_most_chance(within, self.outcomes.len(), at) > SURE
        };
        Figure {
            name,
            figure: format!("{}, p95 {}", number(median), number(p95)),
            bound: number(self.quantile(0.5 + 1.645 * self.error_of(0.5))),
            target: match most {
                Some(most) => format!("≤ {median_max:.0}, p95 ≤ {most:.0}"),
                None => format!("≤ {median_max:.0}"),
            },
            is_met: holds(0.5, median_max) && most.is_none_or(|most| holds(0.95, most)),
            others: String::new(),
        }
    }

    fn excess(&self, cell: &Cell) -> Excess {
        let mean = |at: usize| {
            let sum: f64 = self.outcomes.iter().filter_map(|outcome| outcome.excess.get(at)).sum();
            sum / self.outcomes.len().max(1) as f64
        };
        Excess { name: cell.name.clone(), ours: mean(0), naive: mean(1), z_test: mean(2), flagger: mean(3) }
    }

    fn count(&self, of: impl Fn(&Outcome) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| of(outcome)).count()
    }

    fn share(&self, of: impl Fn(&Outcome) -> bool) -> f64 {
        self.count(of) as f64 / self.outcomes.len().max(1) as f64
    }

    /// The upper 95 % bound, and whether the share is small enough as far as can be told.
    fn at_most(&self, most: f64, bound_max: f64, of: impl Fn(&Outcome) -> bool) -> (f64, bool) {
        let (hits, runs) = (self.count(of), self.outcomes.len());
        let bound = upper_bound(hits, runs, 0.05);
        let is_met = if runs >= RUNS {
            hits as f64 / runs as f64 <= most && bound <= bound_max
        } else {
            hits == 0 || 1.0 - at_most_chance(hits - 1, runs, most) > SURE
        };
        (bound, is_met)
    }

    /// Of the candidate requests until it was noticed; never noticed is infinitely many.
    fn quantile(&self, at: f64) -> Option<f64> {
        let mut all: Vec<f64> =
            self.outcomes.iter().map(|outcome| outcome.requests.unwrap_or(f64::INFINITY)).collect();
        all.sort_by(f64::total_cmp);
        let place = libm::ceil(all.len() as f64 * at.min(1.0)) as usize;
        all.get(place.saturating_sub(1)).copied().filter(|value| value.is_finite())
    }

    fn error_of(&self, at: f64) -> f64 {
        libm::sqrt(at * (1.0 - at) / self.outcomes.len().max(1) as f64)
    }
}

/// Clopper & Pearson's upper bound of a share (Biometrika 26, 1934).
fn upper_bound(hits: usize, runs: usize, chance: f64) -> f64 {
    if hits >= runs {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if at_most_chance(hits, runs, middle) > chance { low = middle } else { high = middle }
    }
    high
}

/// The chance of at most so many hits.
fn at_most_chance(hits: usize, runs: usize, share: f64) -> f64 {
    let runs = runs as f64;
    let (hit, miss) = (libm::log(share), libm::log1p(-share));
    let choose = |k: f64| libm::lgamma(runs + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(runs - k + 1.0);
    (0..=hits).map(|k| k as f64).map(|k| libm::exp(choose(k) + k * hit + (runs - k) * miss)).sum()
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == percent.round() { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_larger_than_the_figure_by_what_chance_allows() {
        #[track_caller]
        fn check(hits: usize, runs: usize, expected: f64) {
            assert!(
                (upper_bound(hits, runs, 0.05) - expected).abs() < 1e-5,
                "{}",
                upper_bound(hits, runs, 0.05)
            );
        }
        check(0, 2000, 0.001_497);
        check(2, 2, 1.0);
        check(0, 1, 0.95);
    }

    #[test]
    fn too_many_rollbacks_are_a_miss_however_few_the_runs() {
        let outcomes = |bad: usize, runs: usize| Tally {
            outcomes: (0..runs).map(|at| Outcome { rolled_back: at < bad, ..Outcome::default() }).collect(),
        };
        #[track_caller]
        fn check(tally: &Tally, is_met: bool) {
            assert_eq!(tally.at_most(FALSE_MAX, FALSE_BOUND_MAX, |outcome| outcome.rolled_back).1, is_met);
        }
        check(&outcomes(0, 2), true);
        check(&outcomes(2, 2), false);
        check(&outcomes(1, 40), true);
        check(&outcomes(5, 40), false);
        check(&outcomes(17, 2_000), true);
        check(&outcomes(30, 2_000), false);
    }
}
