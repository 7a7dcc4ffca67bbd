//! What is written down of a rollout, so that every verdict can be recomputed from it, equal to the bit.
//!
//! A record holds what went in (a rollout, a guard at some moment, the evidence and length of each tick) and what came
//! out. Replay puts the same in again. The guard's clocks and evidence depend on lengths, never on the wall
//! clock, so ticks that brought nothing may be written as one line: their lengths and the last one's outcome say all.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::evidence::Evidence;
use super::guard::{Guard, Tick};
use super::machine::Rollout;
use super::verdict::Verdict;
use crate::clock::Timestamp;

/// How many idle ticks become one line at most: what a crash may lose of a record.
pub const IDLE_MAX: usize = 60;

/// One line of a rollout's record. A record begins with a `Begin`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// From here on it can be replayed: also after a gap, and at the start of a new file.
    Begin {
        /// The service.
        service: String,
        /// When.
        at: Timestamp,
        /// The rollout at that moment.
        rollout: Box<Rollout>,
        /// Clocks and evidence at that moment.
        guard: Box<Guard>,
    },
    /// A transition.
    Change {
        /// When.
        at: Timestamp,
        /// The rollout after it.
        rollout: Box<Rollout>,
        /// What happened, as a sentence.
        sentence: String,
    },
    /// A tick.
    Tick {
        /// When.
        at: Timestamp,
        /// What it brought.
        evidence: Box<Evidence>,
        /// Since the previous tick, in ms.
        elapsed_ms: u64,
        /// What was concluded.
        tick: Box<Tick>,
    },
    /// Ticks that brought nothing and did nothing, each with the same evidence.
    Idle {
        /// When the last of them was.
        at: Timestamp,
        /// What each of them brought.
        evidence: Box<Evidence>,
        /// The length of each, in ms.
        elapsed_ms: Vec<u64>,
        /// What the last of them concluded.
        tick: Box<Tick>,
    },
}

/// Makes lines of ticks, and one line of idle ones. Whoever records a `Begin` or a `Change` flushes first.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    idle: Option<Line>,
}

impl Recorder {
    /// Takes in a tick. What is returned is to be written now, in this order.
    pub fn tick(&mut self, at: Timestamp, elapsed: Duration, evidence: Evidence, tick: Tick) -> Vec<Line> {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let merges = evidence.is_idle() && tick.act.is_none() && tick.news.is_none();
        if !merges {
            let line = Line::Tick { at, evidence: Box::new(evidence), elapsed_ms, tick: Box::new(tick) };
            return self.flush().into_iter().chain([line]).collect();
        }
        if let Some(Line::Idle { at: last, evidence: same, elapsed_ms: lengths, tick: newest }) =
            &mut self.idle
            && **same == evidence
        {
            (*last, **newest) = (at, tick);
            lengths.push(elapsed_ms);
            return if lengths.len() < IDLE_MAX { Vec::new() } else { self.flush().into_iter().collect() };
        }
        let (evidence, tick) = (Box::new(evidence), Box::new(tick));
        let begun = Line::Idle { at, evidence, elapsed_ms: vec![elapsed_ms], tick };
        self.idle.replace(begun).into_iter().collect()
    }

    /// What has not been written yet.
    pub fn flush(&mut self) -> Option<Line> {
        self.idle.take()
    }
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// How many lines.
    pub lines: u64,
    /// How many times it began: once, and after each gap.
    pub begins: u64,
    /// How many transitions.
    pub changes: u64,
    /// How many ticks were recomputed.
    pub ticks: u64,
    /// How many of them passed.
    pub passes: u64,
    /// How many of them waited.
    pub waits: u64,
    /// How many of them failed.
    pub fails: u64,
    /// Whether the last line was cut off, as after a crash.
    pub is_torn: bool,
}

/// Why a record cannot be replayed, or is not true.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// A line in the middle is no line of a record.
    #[error("line {line} is unreadable")]
    Unreadable {
        /// Counted from 1.
        line: u64,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It does not say where it starts from.
    #[error("line {line} comes before any beginning; a record starts with a line \"begin\"")]
    NotBegun {
        /// Counted from 1.
        line: u64,
    },
    /// The same evidence leads to something else.
    #[error(transparent)]
    Differs(Box<Difference>),
}

/// Where a record and its recomputation part.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, {at}: {place} was recorded as {recorded}, and is {recomputed}")]
pub struct Difference {
    /// Counted from 1.
    pub line: u64,
    /// The tick.
    pub at: Timestamp,
    /// Which value, for instance `readings[0].evidence`.
    pub place: String,
    /// As JSON.
    pub recorded: String,
    /// As JSON.
    pub recomputed: String,
}

/// Recomputes every tick of a record from its evidence, and compares it with what was recorded, floating-point
/// numbers by their bits. A last line that is cut off is left out.
pub fn replay<E>(lines: impl IntoIterator<Item = Result<Line, E>>) -> Result<Replayed, ReplayError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut found = Replayed::default();
    let mut state: Option<(Box<Rollout>, Box<Guard>)> = None;
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        let number = found.lines + 1;
        let line = match line {
            Ok(line) => line,
            Err(_) if lines.peek().is_none() && state.is_some() => {
                found.is_torn = true;
                break;
            }
            Err(source) => return Err(ReplayError::Unreadable { line: number, source: source.into() }),
        };
        found.lines = number;
        let not_begun = ReplayError::NotBegun { line: number };
        match line {
            Line::Begin { rollout, guard, .. } => {
                found.begins += 1;
                state = Some((rollout, guard));
            }
            Line::Change { rollout: after, .. } => {
                let (rollout, _) = state.as_mut().ok_or(not_begun)?;
                found.changes += 1;
                *rollout = after;
            }
            Line::Tick { at, evidence, elapsed_ms, tick } => {
                let (rollout, guard) = state.as_mut().ok_or(not_begun)?;
                let recomputed = guard.tick(rollout, at, Duration::from_millis(elapsed_ms), &evidence);
                found.count(&recomputed);
                compare(number, at, &tick, &recomputed)?;
            }
            Line::Idle { at, evidence, elapsed_ms, tick } => {
                let (rollout, guard) = state.as_mut().ok_or(not_begun)?;
                let mut last = None;
                for elapsed_ms in elapsed_ms {
                    let recomputed = guard.tick(rollout, at, Duration::from_millis(elapsed_ms), &evidence);
                    found.count(&recomputed);
                    last = Some(recomputed);
                }
                if let Some(recomputed) = last {
                    compare(number, at, &tick, &recomputed)?;
                }
            }
        }
    }
    Ok(found)
}

impl Replayed {
    fn count(&mut self, tick: &Tick) {
        self.ticks += 1;
        match tick.verdict {
            Verdict::Pass => self.passes += 1,
            Verdict::Wait { .. } => self.waits += 1,
            Verdict::Fail { .. } => self.fails += 1,
        }
    }
}

fn compare(line: u64, at: Timestamp, recorded: &Tick, recomputed: &Tick) -> Result<(), ReplayError> {
    let unreadable = |source: serde_json::Error| ReplayError::Unreadable { line, source: source.into() };
    // Written as JSON a number has all its bits, and a difference has a place.
    let recorded = serde_json::to_value(recorded).map_err(unreadable)?;
    let recomputed = serde_json::to_value(recomputed).map_err(unreadable)?;
    match first_difference("", &recorded, &recomputed) {
        None => Ok(()),
        Some((place, recorded, recomputed)) => {
            Err(ReplayError::Differs(Box::new(Difference { line, at, place, recorded, recomputed })))
        }
    }
}

fn first_difference(place: &str, one: &Value, other: &Value) -> Option<(String, String, String)> {
    match (one, other) {
        (Value::Object(fields), Value::Object(others)) => {
            let mut keys = fields.keys().chain(others.keys().filter(|key| !fields.contains_key(*key)));
            keys.find_map(|key| {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                let value = |fields: &serde_json::Map<_, _>| fields.get(key).cloned().unwrap_or_default();
                first_difference(&place, &value(fields), &value(others))
            })
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => items
            .iter()
            .zip(others)
            .enumerate()
            .find_map(|(at, (item, other))| first_difference(&format!("{place}[{at}]"), item, other)),
        _ => {
            let (one, other) = (one.to_string(), other.to_string());
            (one != other).then(|| (place.to_owned(), one, other))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::act::{Act, Circumstances, Verb};
    use super::super::evidence::{Count, StratumEvidence};
    use super::super::per_role::PerRole;
    use super::super::plan::{Hold, Plan, Stage};
    use super::*;
    use crate::traffic::Weight;

    fn start() -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000)
    }

    fn evidence(requests: u64) -> Evidence {
        let count = Count { units: requests, events: requests / 7 };
        let errors = PerRole { stable: count, candidate: count };
        let seen = StratumEvidence { errors, ..StratumEvidence::default() };
        Evidence {
            strata: [StratumEvidence::default(), StratumEvidence::default(), seen],
            requests: PerRole { stable: requests, candidate: requests },
            candidate_healthy: true,
            ..Evidence::default()
        }
    }

    /// A rollout of some minutes with busy and idle times, a resume from a checkpoint, and two transitions.
    fn record() -> Vec<Line> {
        let stage = |percent, hold| {
            Stage::new(Weight::from_percent(percent).unwrap(), Hold::For(Duration::from_secs(hold)))
        };
        let plan = Arc::new(Plan::new("shop", vec![stage(5, 60), stage(50, 600)]));
        let mut around = Circumstances {
            at: start(),
            actor: "ann".into(),
            frozen: false,
            locked: false,
            candidate_healthy: true,
        };
        let (mut rollout, _) = Rollout::start(7, plan, &around).unwrap();
        let mut guard = Guard::new(&rollout);
        let begin = |at, rollout: &Rollout, guard: &Guard| Line::Begin {
            service: "shop".to_owned(),
            at,
            rollout: Box::new(rollout.clone()),
            guard: Box::new(guard.clone()),
        };
        let mut lines = vec![begin(start(), &rollout, &guard)];
        let mut recorder = Recorder::default();
        for second in 1..=400_u64 {
            around.at = Timestamp::from_millis(start().as_millis() + second * 1000);
            let elapsed = Duration::from_micros(1_000_900 + second % 3 * 1000);
            let seen = evidence(if second % 100 < 70 { second % 13 } else { 0 });
            let tick = guard.tick(&rollout, around.at, elapsed, &seen);
            lines.extend(recorder.tick(around.at, elapsed, seen, tick));
            if second == 100 || second == 300 {
                lines.extend(recorder.flush());
                let verb = if second == 100 { Verb::Advance } else { Verb::Pause };
                let (after, effect) = rollout.take(&Act::Verb(verb), &around).unwrap().unwrap();
                rollout = after;
                let after = Box::new(rollout.clone());
                lines.push(Line::Change { at: around.at, rollout: after, sentence: effect.sentence });
            }
            if second == 200 {
                lines.extend(recorder.flush());
                guard = Guard::resume(&rollout, Some(guard));
                lines.push(begin(around.at, &rollout, &guard));
            }
        }
        lines.extend(recorder.flush());
        lines
    }

    fn written(lines: &[Line]) -> Vec<Result<Line, serde_json::Error>> {
        lines.iter().map(|line| serde_json::from_str(&serde_json::to_string(line).unwrap())).collect()
    }

    #[test]
    fn what_was_recorded_is_recomputed_to_the_bit() {
        let lines = record();
        let found = replay(written(&lines)).unwrap();
        assert_eq!((found.begins, found.changes, found.ticks), (2, 2, 400));
        assert_eq!(found.passes + found.waits + found.fails, 400);
        assert!(found.lines < 320, "idle ticks share lines: {}", found.lines);

        // From the middle on, as after a rotation.
        let second = lines.iter().rposition(|line| matches!(line, Line::Begin { .. })).unwrap();
        assert_eq!(replay(written(&lines[second..])).unwrap().ticks, 200);
    }

    #[test]
    fn another_value_is_found_with_its_time_and_place() {
        let mut lines = record();
        let at = lines.len() / 3;
        let changed = lines[at..].iter_mut().find_map(|line| match line {
            Line::Tick { at, tick, .. } => Some((*at, &mut tick.left_ms)),
            _ => None,
        });
        let (when, left_ms) = changed.unwrap();
        *left_ms = Some(123_456_789);
        let Err(ReplayError::Differs(difference)) = replay(written(&lines)) else { panic!() };
        assert_eq!((difference.at, difference.place.as_str()), (when, "left_ms"));
        assert_eq!(difference.recorded, "123456789");
    }

    #[test]
    fn only_the_last_line_may_be_torn() {
        let whole = record();
        let torn = || serde_json::from_str::<Line>("{\"line\":\"ti");
        let mut lines = written(&whole);
        lines.push(torn());
        assert!(replay(lines).unwrap().is_torn);

        let mut lines = written(&whole);
        lines.insert(3, torn());
        assert!(matches!(replay(lines), Err(ReplayError::Unreadable { line: 4, .. })));
        assert!(matches!(replay(written(&whole[1..])), Err(ReplayError::NotBegun { line: 1 })));
        assert!(matches!(replay([torn()]), Err(ReplayError::Unreadable { line: 1, .. })));
    }

    #[test]
    fn the_bits_of_a_number_tell() {
        let reading = |evidence: f64| serde_json::json!({"readings": [{"evidence": evidence}]});
        let same = first_difference("", &reading(0.1), &reading(0.1));
        assert_eq!(same, None);
        let (place, one, other) =
            first_difference("", &reading(0.1), &reading(f64::from_bits(0.1_f64.to_bits() + 1))).unwrap();
        assert_eq!((&*place, &*one, &*other), ("readings[0].evidence", "0.1", "0.10000000000000002"));
        assert!(first_difference("", &reading(0.0), &reading(-0.0)).is_some());
        assert!(first_difference("", &reading(1.0), &serde_json::json!({"readings": []})).is_some());
    }

    #[test]
    fn an_idle_second_is_small() {
        let idle = Evidence { candidate_healthy: true, ..Evidence::default() };
        assert_eq!(serde_json::to_string(&idle).unwrap(), r#"{"candidate_healthy":true}"#);
        let busy = serde_json::to_string(&evidence(14)).unwrap();
        assert!(busy.contains(r#"{"errors":{"stable":[14,2],"candidate":[14,2]}}"#), "{busy}");
        assert_eq!(serde_json::from_str::<Evidence>(&busy).unwrap(), evidence(14));
    }
}
