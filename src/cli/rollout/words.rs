//! What a rollout says, in words: phases, verdicts, and what is waited for.

use std::sync::Arc;

use crate::cli::figures;
use crate::rollout::{Phase, Stop, Verdict, Wait, Waiting};
use crate::traffic::Variant;

/// A verdict as a sentence with its numbers.
pub(super) fn verdict(verdict: &Verdict, candidate: Variant) -> String {
    match verdict {
        Verdict::Pass => "pass: good enough to go on".to_owned(),
        Verdict::Wait { why } => format!("wait: {}", wait(why, candidate)),
        Verdict::Fail { why } => format!("fail: {}", why.sentence),
    }
}

fn wait(why: &Wait, candidate: Variant) -> String {
    let stable = candidate.other();
    match why {
        Wait::Hold { left_ms } => format!("the hold has {} left", span(*left_ms)),
        Wait::Requests { missing } => {
            format!("{} more requests of {candidate} are needed", figures::count(*missing))
        }
        Wait::Inconclusive { missing, about_ms } => {
            let mut text = format!("the evidence does not say yet that {candidate} is good enough");
            if let Some(missing) = missing {
                text.push_str(&format!("; about {} more requests of it", figures::count(*missing)));
            }
            if let Some(about) = about_ms {
                text.push_str(&format!(", about {}", span(*about)));
            }
            text
        }
        Wait::Suspect { gate, evidence, limit } => {
            format!("{gate} makes {candidate} suspect: evidence {} of {}", amount(*evidence), amount(*limit))
        }
        Wait::SharedIncident => {
            format!("{stable} and {candidate} both fail too often, so it is not the release")
        }
        Wait::Burn { rate } => format!("the error budget burns {} times too fast", amount(*rate)),
        Wait::NoTraffic => format!("nobody was on {candidate}"),
        Wait::NoEvidence { gate, silent_ms } => {
            format!("the source of {gate} has been silent for {}", span(*silent_ms))
        }
        Wait::Noisy => format!("two halves of {stable} differ, so gates may only pause"),
    }
}

/// What a rollout that does not move waits for, with the command that ends the waiting if there is one. `None`: for the
/// gates, and the verdict says so already.
pub(super) fn waiting(waiting: &Waiting, service: &str) -> Option<String> {
    Some(match waiting {
        Waiting::Verdict { .. } => return None,
        Waiting::Delay { left_ms } => format!("for its first stage, {} from now", span(*left_ms)),
        Waiting::Window { opens: Some(at) } => format!("for its window, which opens at {at}"),
        Waiting::Window { opens: None } => "for a window, and none opens within a year".to_owned(),
        Waiting::Confirm { hooks } => format!("for a yes of {}", names(hooks)),
        Waiting::Approval => format!("for an approval: tidegate rollout advance {service}"),
        Waiting::Resume => format!("for a person: tidegate rollout resume {service}"),
        Waiting::Thaw => format!("for the end of the freeze: tidegate freeze off {service}"),
        Waiting::Keep { left_ms } => format!("while stable is kept warm, {} more", span(*left_ms)),
    })
}

fn names(names: &[Arc<str>]) -> String {
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")
}

/// What a rollout does.
pub(super) fn phase(phase: &Phase) -> String {
    match phase {
        Phase::Waiting => "waiting for its first stage".to_owned(),
        Phase::Holding => "holding".to_owned(),
        Phase::Paused { why, .. } => match why {
            Stop::Person { actor } => format!("paused by {actor}"),
            Stop::Shift { actor } => format!("paused, because {actor} shifted down"),
            Stop::Gate { .. } => "paused by a gate".to_owned(),
        },
        Phase::Keeping => "all stages done, stable kept warm".to_owned(),
        Phase::Ended { how } => how.to_string(),
    }
}

/// A time as people say it, in its two largest units: `12m 3s`. What has begun counts as whole.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis.div_ceil(1000);
    let (days, hours, minutes, rest) =
        (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let two = |large: u64, unit: char, small: u64, other: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{other}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => two(minutes, 'm', rest, 's'),
        (0, _, _) => two(hours, 'h', minutes, 'm'),
        _ => two(days, 'd', hours, 'h'),
    }
}

/// A number without a unit: evidence, or what a metric measures.
pub(super) fn amount(number: f64) -> String {
    let (size, whole) = (number.abs(), number.fract() == 0.0);
    match number {
        _ if !number.is_finite() => "beyond measure".to_owned(),
        _ if size >= 1e6 => format!("{number:.1e}"),
        _ if size >= 1000.0 && number > 0.0 => figures::count(number.round() as u64),
        _ if whole || size >= 100.0 => format!("{number:.0}"),
        _ => {
            let decimals = if size >= 10.0 { 1 } else { 2 + usize::from(size < 1.0) };
            format!("{number:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::rollout::Failure;

    #[test]
    fn each_verdict_is_a_sentence() {
        #[track_caller]
        fn check(why: Wait, expected: &str) {
            assert_eq!(verdict(&Verdict::Wait { why }, Variant::Green), format!("wait: {expected}"));
        }
        check(Wait::Hold { left_ms: 722_001 }, "the hold has 12m 3s left");
        check(Wait::Requests { missing: 1200 }, "1,200 more requests of green are needed");
        let (missing, about_ms) = (Some(4000), Some(240_000));
        check(
            Wait::Inconclusive { missing, about_ms },
            "the evidence does not say yet that green is good enough; about 4,000 more requests of it, about 4m",
        );
        check(
            Wait::Suspect { gate: "errors".into(), evidence: 34.25, limit: 125.0 },
            "errors makes green suspect: evidence 34.2 of 125",
        );
        check(Wait::SharedIncident, "blue and green both fail too often, so it is not the release");
        check(Wait::Burn { rate: 21.6 }, "the error budget burns 21.6 times too fast");
        check(Wait::NoTraffic, "nobody was on green");
        check(
            Wait::NoEvidence { gate: "conversion".into(), silent_ms: 90_000 },
            "the source of conversion has been silent for 1m 30s",
        );
        check(Wait::Noisy, "two halves of blue differ, so gates may only pause");
        assert_eq!(verdict(&Verdict::Pass, Variant::Green), "pass: good enough to go on");
        let why = Failure { gate: "errors".into(), rolls_back: true, sentence: "green fails 2.4 %".into() };
        assert_eq!(verdict(&Verdict::Fail { why }, Variant::Green), "fail: green fails 2.4 %");
    }

    #[test]
    fn waiting_says_for_what_and_how_it_ends() {
        #[track_caller]
        fn check(what: Waiting, expected: Option<&str>) {
            assert_eq!(waiting(&what, "shop").as_deref(), expected);
        }
        check(Waiting::Verdict { wait: Wait::NoTraffic }, None);
        check(Waiting::Delay { left_ms: 1 }, Some("for its first stage, 1s from now"));
        let opens = Some(Timestamp::from_millis(0));
        check(Waiting::Window { opens }, Some("for its window, which opens at 1970-01-01T00:00:00.000Z"));
        check(Waiting::Confirm { hooks: vec!["qa".into(), "ops".into()] }, Some("for a yes of qa, ops"));
        check(Waiting::Approval, Some("for an approval: tidegate rollout advance shop"));
        check(Waiting::Resume, Some("for a person: tidegate rollout resume shop"));
        check(Waiting::Thaw, Some("for the end of the freeze: tidegate freeze off shop"));
        check(Waiting::Keep { left_ms: 3_600_000 }, Some("while stable is kept warm, 1h more"));
    }

    #[test]
    fn times_and_amounts_are_short() {
        for (millis, expected) in [
            (0, "0s"),
            (59_001, "1m"),
            (61_000, "1m 1s"),
            (3_600_000, "1h"),
            (5_400_000, "1h 30m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(span(millis), expected);
        }
        for (number, expected) in [
            (0.0, "0"),
            (0.0042, "0.004"),
            (0.98, "0.98"),
            (12.34, "12.3"),
            (125.0, "125"),
            (412.4, "412"),
            (12_345.6, "12,346"),
            (2.5e9, "2.5e9"),
            (-3.25, "-3.25"),
            (1.1, "1.1"),
            (f64::INFINITY, "beyond measure"),
        ] {
            assert_eq!(amount(number), expected, "{number}");
        }
    }
}
