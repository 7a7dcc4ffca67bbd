//! Schedules by name, and the plan that everything starts from.

use std::sync::Arc;
use std::time::Duration;

use crate::rollout::{Confirms, Gates, Hold, OnInconclusive, Plan, Stage, Windows};
use crate::traffic::Weight;

const HOUR: u64 = 60;
const DAY: u64 = 24 * HOUR;

/// When each weight begins, in minutes after the start, and the weight in thousandths of a percent.
const SCHEDULES: [(&str, &[(u64, u32)]); 7] = [
    ("canary", &[(0, 1_000), (15, 5_000), (30, 25_000), (45, 50_000), (60, 100_000)]),
    ("payment", &[(0, 1_000), (HOUR, 10_000), (2 * HOUR, 100_000)]),
    (
        "aggressive",
        &[
            (15, 1_000),
            (30, 5_000),
            (HOUR, 10_000),
            (2 * HOUR, 25_000),
            (4 * HOUR, 50_000),
            (8 * HOUR, 100_000),
        ],
    ),
    (
        "conservative",
        &[
            (2 * DAY, 100),
            (3 * DAY, 1_000),
            (4 * DAY, 5_000),
            (7 * DAY, 10_000),
            (10 * DAY, 25_000),
            (14 * DAY, 50_000),
            (21 * DAY, 100_000),
        ],
    ),
    ("emergency", &[(5, 10_000), (15, 50_000), (30, 100_000)]),
    (
        "hourly",
        &[
            (0, 5_000),
            (HOUR, 10_000),
            (2 * HOUR, 25_000),
            (4 * HOUR, 50_000),
            (8 * HOUR, 75_000),
            (12 * HOUR, 100_000),
        ],
    ),
    ("blue-green", &[(0, 100_000)]),
];

/// The plan of a schedule, with the standard gates. A stage is held until the next begins, the last one as long as the one
/// before, but at most an hour; blue-green, which has one, 5 min.
pub(in crate::config) fn schedule(name: &str) -> Option<Plan> {
    let (_, starts) = SCHEDULES.iter().find(|(known, _)| *known == name)?;
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut plan = empty();
    plan.delay = minutes(starts.first()?.0);
    let mut hold = minutes(5);
    for (at, (begins, millipercent)) in starts.iter().enumerate() {
        hold = match starts.get(at + 1) {
            Some((next, _)) => minutes(next - begins),
            None => hold.min(minutes(HOUR)),
        };
        plan.stages.push(Stage {
            weight: Weight::from_millipercent(*millipercent)?,
            hold: Hold::For(hold),
            min_requests: 0,
            max_hold: None,
            approval: false,
            gates: None,
            tolerate: None,
        });
    }
    if name == "blue-green" {
        plan.keep = minutes(HOUR);
    }
    Some(plan)
}

/// The names of all schedules.
pub(in crate::config) fn schedules() -> Vec<Arc<str>> {
    SCHEDULES.iter().map(|(name, _)| Arc::from(*name)).collect()
}

/// A plan with every default and no stage.
pub(super) fn empty() -> Plan {
    Plan {
        name: "rollout".into(),
        delay: Duration::ZERO,
        stages: Vec::new(),
        gates: Gates::standard(),
        false_rollback: 0.01,
        warmup: Duration::from_secs(60),
        on_inconclusive: OnInconclusive::default(),
        keep: Duration::ZERO,
        windows: Windows::default(),
        slo: None,
        confirm: Confirms::default(),
        notify: Vec::new(),
    }
}
