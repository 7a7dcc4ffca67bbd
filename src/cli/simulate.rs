//! `simulate`: how often the gates are wrong, and how quick, as figures.

use std::io::Write;

use super::args::Simulate;
use super::{Failure, json};
use crate::simulate::{Extent, RUNS_QUICK};

/// Prints the report; it fails if a target is missed.
pub(super) fn simulate(order: &Simulate, out: &mut dyn Write) -> Result<(), Failure> {
    let runs = if order.quick { RUNS_QUICK } else { usize::try_from(order.runs).unwrap_or(RUNS_QUICK) };
    let report = crate::simulate::simulate(Extent { seed: order.seed, runs });
    if order.json {
        json(out, &report)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    let missed = report.figures.iter().filter(|figure| !figure.is_met).count();
    match missed {
        0 => Ok(()),
        1 => Err(Failure::Failed("a target is missed".to_owned())),
        _ => Err(Failure::Failed(format!("{missed} targets are missed"))),
    }
}
