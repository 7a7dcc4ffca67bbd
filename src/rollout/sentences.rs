//! How states, verdicts and what is waited for are said: one sentence each, with its numbers, the same everywhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::guard::{News, Waiting};
use super::machine::{Ending, Moving, Phase, Stop};
use super::verdict::{Failure, Verdict, Wait};

/// A length of time as people say it, in its two largest units: `45 s`, `15 min`, `1 h 30 min`, `2 d`.
pub fn span(length: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let Some(at) = UNITS.iter().position(|(unit, _)| ms >= *unit) else {
        return if ms == 0 { "0 s".to_owned() } else { format!("{ms} ms") };
    };
    let (unit, name) = UNITS[at];
    let large = format!("{} {name}", ms / unit);
    match UNITS.get(at + 1) {
        Some((smaller, name)) if ms % unit >= *smaller => format!("{large} {} {name}", ms % unit / smaller),
        _ => large,
    }
}

/// A count with its thousands apart: `1,200`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

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
