//! The error budget of a service with an objective: how fast it burns, and how much of it the candidate cost.
//!
//! Each burn is looked at over a long and a short window together (Google SRE Workbook, "Alerting on SLOs"), so that
//! it is neither one spike nor long over. Windows fade instead of ending, which needs two numbers each.

use serde::{Deserialize, Serialize};

use crate::rollout::evidence::Evidence;
use crate::rollout::plan::Slo;

/// Length of the long window in s, and how many times faster than it lasts the budget may burn over it.
const WINDOWS: [(f64, f64); 3] = [(60.0, 21.6), (300.0, 8.64), (1800.0, 3.6)];
/// The short window is this part of the long one.
const SHORT: f64 = 1.0 / 12.0;
const FAILURES_MIN: f64 = 10.0;
const MONTH_S: f64 = 30.0 * 86_400.0;
/// The month's volume is extrapolated from this much at least.
const VOLUME_S: f64 = 600.0;

/// What a rollout's budget is doing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Budget {
    /// Requests and failures by window, long and short by turns.
    windows: Vec<(f64, f64)>,
    requests: f64,
    armed_s: f64,
}

impl Budget {
    pub(super) fn see(&mut self, evidence: &Evidence, elapsed_s: f64) {
        let sum = |role: crate::rollout::PerRole<u64>| role.stable as f64 + role.candidate as f64;
        let (requests, failures) = (sum(evidence.requests), sum(evidence.failures));
        self.windows.resize(WINDOWS.len() * 2, (0.0, 0.0));
        let lengths = WINDOWS.iter().flat_map(|(long, _)| [*long, long * SHORT]);
        for (window, length) in self.windows.iter_mut().zip(lengths) {
            let fade = libm::exp(-elapsed_s / length);
            *window = (window.0 * fade + requests, window.1 * fade + failures);
        }
        self.requests += requests;
        self.armed_s += elapsed_s;
    }

    /// How many times faster than it lasts, if that is too fast.
    pub(super) fn burn(&self, slo: &Slo) -> Option<f64> {
        let budget = 1.0 - slo.objective;
        let rate = |(requests, failures): (f64, f64)| {
            if requests > 0.0 { failures / requests / budget } else { 0.0 }
        };
        self.windows
            .chunks_exact(2)
            .zip(WINDOWS)
            .filter_map(|(pair, (_, limit))| match pair {
                [long, short] if long.1 >= FAILURES_MIN => {
                    let burn = rate(*long).min(rate(*short));
                    (burn >= limit).then_some(burn)
                }
                _ => None,
            })
            .reduce(f64::max)
    }

    /// How many failures of its own the candidate may cost; `None` before the volume is known.
    pub(super) fn cap(&self, slo: &Slo) -> Option<f64> {
        (self.armed_s >= VOLUME_S).then(|| {
            let month = self.requests / self.armed_s * MONTH_S;
            slo.budget_cap * (1.0 - slo.objective) * month
        })
    }
}
