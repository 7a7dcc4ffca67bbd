//! A recorded rollout, computed again: every verdict equal to the bit, or the first that is not.

use std::io::{BufRead, Read as _};
use std::time::Duration;

use serde::Serialize;

use crate::cli::Failure;
use crate::rollout::{Guard, Line, Rollout, Tick};

/// A line longer than this is none of a record.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// What was computed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Replayed {
    /// How many verdicts were the same.
    pub(super) verdicts: u64,
    /// How many pieces the record has: a new one begins with each start and after each gap.
    pub(super) pieces: u64,
}

/// Computes everything again. `name` is what errors call the record.
pub(super) fn replay(mut record: impl BufRead, name: &str) -> Result<Replayed, Failure> {
    let mut replayed = Replayed::default();
    let mut running: Option<(Rollout, Guard)> = None;
    let mut text = Vec::new();
    for number in 1u64.. {
        text.clear();
        let length = record.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut text)?;
        if length == 0 {
            break;
        }
        let wrong = |why: String| Failure::Failed(format!("{name}, line {number}: {why}"));
        if length as u64 > LINE_BYTES_MAX {
            return Err(wrong("longer than any line of a record".to_owned()));
        }
        let line: Line = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("not a line of a record: {error}")))?;
        match line {
            Line::Begin { rollout, guard, .. } => {
                replayed.pieces += 1;
                running = Some((*rollout, *guard));
            }
            Line::Change { rollout: next, .. } => match &mut running {
                Some((rollout, guard)) => {
                    if next.id != rollout.id {
                        *guard = Guard::new(&next);
                    }
                    *rollout = *next;
                }
                None => return Err(wrong("a record begins with a line `begin`".to_owned())),
            },
            Line::Tick { at, evidence, elapsed_ms, tick: recorded } => {
                let Some((rollout, guard)) = &mut running else {
                    return Err(wrong("a record begins with a line `begin`".to_owned()));
                };
                let tick = guard.tick(rollout, at, Duration::from_millis(elapsed_ms), &evidence);
                if let Some(difference) = difference(&recorded, &tick) {
                    return Err(wrong(format!("at {at} {difference}")));
                }
                replayed.verdicts += 1;
            }
        }
    }
    if replayed.pieces == 0 {
        return Err(Failure::Failed(format!("{name} is empty: there is nothing to replay")));
    }
    Ok(replayed)
}

/// The first part in which two ticks differ, as both wrote it.
fn difference(recorded: &Tick, computed: &Tick) -> Option<String> {
    let fields = |tick: &Tick| match serde_json::to_value(tick) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (recorded, computed) = (fields(recorded), fields(computed));
    let field = computed.iter().find(|(name, value)| recorded.get(*name) != Some(value));
    field.map(|(name, value)| {
        let before = recorded.get(name).map(ToString::to_string).unwrap_or_default();
        format!("{name} was {before} and is computed as {value}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_told_with_its_line() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let error = replay(text.as_bytes(), "a.jsonl").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("", "a.jsonl is empty");
        check("{}\n", "a.jsonl, line 1: not a line of a record");
        check("not json", "a.jsonl, line 1: not a line of a record");
    }
}
