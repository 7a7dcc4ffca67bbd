//! How states, verdicts and what is waited for are said: one sentence each, with its numbers, the same everywhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::guard::{News, Waiting};
use super::machine::{Ending, Moving, Phase, Stop};
use super::verdict::{Failure, Verdict, Wait};
pub(super) use crate::wording::{grouped, span};

fn span_ms(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

/// A guess needs no second unit, and no digits that it does not have.
fn about(ms: u64) -> String {
    let minute = 60_000;
    match ms {
        0..60_000 => format!("{} s", ms.div_ceil(1000)),
        _ if ms < 100 * minute => format!("{} min", ms.div_ceil(minute)),
        _ if ms < 48 * 60 * minute => format!("{} h", ms.div_ceil(60 * minute)),
        _ => format!("{} d", grouped(ms.div_ceil(24 * 60 * minute))),
    }
}

/// Two digits of a count that is a guess.
fn guess(count: u64) -> String {
    let magnitude = 10u64.saturating_pow(count.checked_ilog10().unwrap_or(0).saturating_sub(1));
    grouped(count.div_ceil(magnitude).saturating_mul(magnitude))
}

fn requests(count: &str) -> &'static str {
    if count == "1" { "request" } else { "requests" }
}

/// Evidence of three digits needs no decimals.
fn evidence(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn listed(names: &[Arc<str>]) -> String {
    names.join(", ")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("good enough to go on"),
            Self::Wait { why: Wait::Unguarded } => f.write_str("the guard is off: nothing is judged"),
            Self::Wait { why } => write!(f, "waiting for {why}"),
            Self::Fail { why } => write!(f, "failed: {why}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Goes on after "waiting for".
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold { left_ms } => write!(f, "the end of the hold in {}", span_ms(*left_ms)),
            Self::Requests { missing } => {
                let count = grouped(*missing);
                write!(f, "{count} more candidate {}", requests(&count))
            }
            Self::Inconclusive { missing: Some(missing), about_ms } => {
                let count = guess(*missing);
                write!(f, "evidence: about {count} more candidate {}", requests(&count))?;
                match about_ms {
                    Some(ms) => write!(f, ", about {}", about(*ms)),
                    None => Ok(()),
                }
            }
            Self::Inconclusive { missing: None, .. } => f.write_str("evidence that it is good enough"),
            Self::Suspect { gate, evidence: found, limit } => {
                write!(f, "a suspicion to pass: evidence of {gate} {} (fails at {})", evidence(*found), evidence(*limit))
            }
            Self::SharedIncident => {
                f.write_str("the end of an incident: both variants fail more than the limit, so it is nobody's fault here")
            }
            Self::Burn { rate } => {
                write!(f, "the error budget: it burns {} times as fast as it may", evidence(*rate))
            }
            Self::NoTraffic => f.write_str("traffic: nobody was on the candidate"),
            Self::NoEvidence { gate, silent_ms } => {
                write!(f, "the metric {gate}: silent for {}", span_ms(*silent_ms))
            }
            Self::Noisy => {
                f.write_str("calm: two halves of stable differ more than chance allows, so gates only pause")
            }
            Self::Unguarded => f.write_str("nothing: the guard is off"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { wait } => write!(f, "waiting for {wait}"),
            Self::Delay { left_ms } => write!(f, "waiting for the first stage in {}", span_ms(*left_ms)),
            Self::Window { opens: Some(opens) } => write!(f, "waiting for the window that opens at {opens}"),
            Self::Window { opens: None } => f.write_str("waiting for a window, and none opens within a year"),
            Self::Confirm { hooks } => write!(f, "waiting for a yes of {}", listed(hooks)),
            Self::Endpoint => f.write_str("waiting for a healthy endpoint of the candidate"),
            Self::Approval => f.write_str("waiting for `tidegate rollout advance`"),
            Self::Resume => f.write_str("waiting for `tidegate rollout resume`"),
            Self::Thaw => f.write_str("waiting for `tidegate freeze off`"),
            Self::Keep { left_ms } => {
                write!(f, "waiting for the roles to swap in {}; stable is kept warm", span_ms(*left_ms))
            }
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("before the first stage"),
            Self::Holding => f.write_str("holding"),
            Self::Paused { why, was: Moving::Waiting } => write!(f, "paused before the first stage {why}"),
            Self::Paused { why, was: Moving::Holding } => write!(f, "paused {why}"),
            Self::Paused { why, was: Moving::Keeping } => write!(f, "paused after the last stage {why}"),
            Self::Keeping => f.write_str("through its stages, stable is kept warm"),
            Self::Ended { how } => how.fmt(f),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { actor } => write!(f, "by {actor}"),
            Self::Shift { actor } => write!(f, "because {actor} shifted it down"),
            Self::Gate { sentence, .. } => write!(f, "because {sentence}"),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promoted => f.write_str("promoted"),
            Self::RolledBack { why } => write!(f, "rolled back: {why}"),
            Self::Killed => f.write_str("killed"),
            Self::TakenOver { actor } => write!(f, "taken over by {actor}"),
        }
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspect { why } => write!(f, "suspect: waiting for {why}"),
            Self::Cleared { gate } => write!(f, "the suspicion of {gate} has passed"),
            Self::Failing { why } => write!(f, "failing, and left to people: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_counts_are_said_as_people_say_them() {
        #[track_caller]
        fn check(ms: u64, exactly: &str, roughly: &str) {
            assert_eq!((span_ms(ms).as_str(), about(ms).as_str()), (exactly, roughly));
        }
        check(0, "0 s", "0 s");
        check(999, "999 ms", "1 s");
        check(59_999, "59 s", "60 s");
        check(60_000, "1 min", "1 min");
        check(90_000, "1 min 30 s", "2 min");
        check(5_400_000, "1 h 30 min", "90 min");
        check(3_601_000, "1 h", "61 min");
        check(100_000_000, "1 d 3 h", "28 h");
        check(u64::MAX, "213503982334 d 14 h", "213,503,982,335 d");
        let counts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let guesses = [0, 7, 42, 101, 1_151, u64::MAX / 2].map(guess);
        assert_eq!(guesses[..5], ["0", "7", "42", "110", "1,200"]);
    }

    #[test]
    fn what_is_waited_for_is_one_sentence_with_its_numbers() {
        #[track_caller]
        fn check(wait: Wait, expected: &str) {
            assert_eq!(Waiting::Verdict { wait }.to_string(), format!("waiting for {expected}"));
        }
        let evidence = |missing, about_ms| Wait::Inconclusive { missing, about_ms };
        check(
            evidence(Some(1_151), Some(230_000)),
            "evidence: about 1,200 more candidate requests, about 4 min",
        );
        check(evidence(Some(1), None), "evidence: about 1 more candidate request");
        check(evidence(None, None), "evidence that it is good enough");
        check(Wait::Hold { left_ms: 720_000 }, "the end of the hold in 12 min");
        check(Wait::Requests { missing: 2000 }, "2,000 more candidate requests");
        check(
            Wait::Suspect { gate: "errors".into(), evidence: 34.56, limit: 125.0 },
            "a suspicion to pass: evidence of errors 35 (fails at 125)",
        );
        check(
            Wait::NoEvidence { gate: "revenue".into(), silent_ms: 61_000 },
            "the metric revenue: silent for 1 min 1 s",
        );
        check(Wait::Burn { rate: 2.345 }, "the error budget: it burns 2.3 times as fast as it may");
        let hooks = vec!["load-test".into(), "ops".into()];
        assert_eq!(Waiting::Confirm { hooks }.to_string(), "waiting for a yes of load-test, ops");
    }
}
