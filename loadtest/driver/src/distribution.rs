//! Durations, in order.

use std::time::Duration;

pub struct Distribution(Vec<Duration>);

impl Distribution {
    pub fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// The smallest sample that `part` (0 to 1) of all samples do not exceed; zero without samples.
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = (part * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// `min p50 p90 p99 max` in microseconds, 9 characters each.
    pub fn row(&self) -> String {
        let at = |part: f64| format!("{:>9}", self.quantile(part).as_micros());
        [0.0, 0.5, 0.9, 0.99, 1.0].map(at).concat()
    }
}
