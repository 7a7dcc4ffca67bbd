//! Schedules that have names, so that a rollout needs no file.

use std::time::Duration;

use super::plan::{Hold, Plan, Stage};
use crate::traffic::Weight;

/// The names of all schedules.
pub const SCHEDULES: [&str; 7] =
    ["canary", "payment", "aggressive", "conservative", "emergency", "hourly", "blue-green"];

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The longest that a last stage is held, when its schedule does not say.
const LAST_HOLD_MAX: Duration = Duration::from_secs(HOUR);

/// A schedule as a plan, with every other default and the schedule's name; `None`: there is none of that name.
///
/// A schedule says at which moment after the start each weight begins. A stage is held until the next one begins, and the last one
/// as long as the one before, but at most an hour.
pub fn schedule(name: &str) -> Option<Plan> {
    // Seconds after the start, thousandths of a percent.
    let starts: &[(u64, u32)] = match name {
        "canary" => {
            &[(0, 1_000), (15 * MINUTE, 5_000), (30 * MINUTE, 25_000), (45 * MINUTE, 50_000), (HOUR, 100_000)]
        }
        "payment" => &[(0, 1_000), (HOUR, 10_000), (2 * HOUR, 100_000)],
        "aggressive" => &[
            (15 * MINUTE, 1_000),
            (30 * MINUTE, 5_000),
            (HOUR, 10_000),
            (2 * HOUR, 25_000),
            (4 * HOUR, 50_000),
            (8 * HOUR, 100_000),
        ],
        "conservative" => &[
            (2 * DAY, 100),
            (3 * DAY, 1_000),
            (4 * DAY, 5_000),
            (7 * DAY, 10_000),
            (10 * DAY, 25_000),
            (14 * DAY, 50_000),
            (21 * DAY, 100_000),
        ],
        "emergency" => &[(5 * MINUTE, 10_000), (15 * MINUTE, 50_000), (30 * MINUTE, 100_000)],
        "hourly" => &[
            (0, 5_000),
            (HOUR, 10_000),
            (2 * HOUR, 25_000),
            (4 * HOUR, 50_000),
            (8 * HOUR, 75_000),
            (12 * HOUR, 100_000),
        ],
        "blue-green" => {
            let stage = Stage::new(Weight::FULL, Hold::For(Duration::from_secs(5 * MINUTE)));
            return Some(Plan { keep: Duration::from_secs(HOUR), ..Plan::new(name, vec![stage]) });
        }
        _ => return None,
    };
    let mut last_hold = LAST_HOLD_MAX;
    let mut stages = Vec::with_capacity(starts.len());
    for (at, (begins, millipercent)) in starts.iter().enumerate() {
        let hold = match starts.get(at + 1) {
            Some((next, _)) => Duration::from_secs(next - begins),
            None => last_hold.min(LAST_HOLD_MAX),
        };
        stages.push(Stage::new(Weight::from_millipercent(*millipercent)?, Hold::For(hold)));
        last_hold = hold;
    }
    let delay = Duration::from_secs(starts.first()?.0);
    Some(Plan { delay, ..Plan::new(name, stages) })
}

#[cfg(test)]
mod tests {
    use super::super::sentences::span;
    use super::*;

    #[test]
    fn each_schedule_begins_its_weights_when_it_says() {
        #[track_caller]
        fn check(name: &str, expected: &str) {
            let plan = schedule(name).unwrap();
            assert_eq!(plan.check(), []);
            let mut begins = plan.delay;
            let mut text = String::new();
            for stage in &plan.stages {
                let Hold::For(hold) = stage.hold else { panic!("{name}") };
                text += &format!("{} {}, ", span(begins), stage.weight);
                begins += hold;
            }
            assert_eq!(format!("{text}over at {}, kept {}", span(begins), span(plan.keep)), expected);
        }
        check("canary", "0 s 1%, 15 min 5%, 30 min 25%, 45 min 50%, 1 h 100%, over at 1 h 15 min, kept 0 s");
        check("payment", "0 s 1%, 1 h 10%, 2 h 100%, over at 3 h, kept 0 s");
        check(
            "aggressive",
            "15 min 1%, 30 min 5%, 1 h 10%, 2 h 25%, 4 h 50%, 8 h 100%, over at 9 h, kept 0 s",
        );
        check(
            "conservative",
            "2 d 0.1%, 3 d 1%, 4 d 5%, 7 d 10%, 10 d 25%, 14 d 50%, 21 d 100%, over at 21 d 1 h, kept 0 s",
        );
        check("emergency", "5 min 10%, 15 min 50%, 30 min 100%, over at 45 min, kept 0 s");
        check("hourly", "0 s 5%, 1 h 10%, 2 h 25%, 4 h 50%, 8 h 75%, 12 h 100%, over at 13 h, kept 0 s");
        check("blue-green", "0 s 100%, over at 5 min, kept 1 h");
        assert!(SCHEDULES.iter().all(|name| schedule(name).is_some()));
        assert_eq!(schedule("yolo"), None);
    }
}
