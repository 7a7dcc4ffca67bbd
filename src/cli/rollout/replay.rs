//! A recorded rollout, computed again: every verdict equal to the bit, or the first that is not.

use std::error::Error;
use std::io::{BufRead, Read as _};

use crate::cli::Failure;
use crate::cli::figures::count;
use crate::rollout::{self, Line, Replayed};

/// A line longer than this is none of a record.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Computes everything again. `name` is what errors call the record.
pub(super) fn replay(record: impl BufRead, name: &str) -> Result<Replayed, Failure> {
    let replayed = rollout::replay(lines(record)).map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::Failed(format!("{name}: {error}{cause}"))
    })?;
    if replayed.lines == 0 {
        return Err(Failure::Failed(format!("{name} is empty: there is nothing to replay")));
    }
    Ok(replayed)
}

/// What was found, in a line.
pub(super) fn told(replayed: &Replayed, name: &str) -> String {
    let Replayed { begins, changes, ticks, passes, waits, fails, is_torn, .. } = replayed;
    let torn = if *is_torn { "; the last line is cut off, as after a crash, and left out" } else { "" };
    let gaps = match begins.saturating_sub(1) {
        0 => String::new(),
        1 => ", with one gap".to_owned(),
        gaps => format!(", with {gaps} gaps"),
    };
    let many =
        |number: u64, noun: &str| format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" });
    format!(
        "{name}: {} ({} pass, {} wait, {} fail) and {}{gaps}, all verdicts equal to the bit{torn}",
        many(*ticks, "tick"),
        count(*passes),
        count(*waits),
        count(*fails),
        many(*changes, "transition"),
    )
}

fn lines(mut record: impl BufRead) -> impl Iterator<Item = Result<Line, Box<dyn Error + Send + Sync>>> {
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let mut text = Vec::new();
        match record.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut text) {
            Ok(0) => None,
            Ok(length) if length as u64 > LINE_BYTES_MAX => {
                is_over = true;
                Some(Err("longer than any line of a record".into()))
            }
            Ok(_) => Some(serde_json::from_slice(&text).map_err(Into::into)),
            Err(error) => {
                is_over = true;
                Some(Err(error.into()))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::rollout::{Circumstances, Evidence, Guard, Hold, Plan, Rollout, Stage};
    use crate::traffic::Weight;

    /// A record of three minutes, as it is written.
    fn record() -> String {
        let stage = Stage::new(Weight::from_percent(5).unwrap(), Hold::For(Duration::from_secs(60)));
        let at = |second: u64| Timestamp::from_millis(1_767_225_600_000 + second * 1000);
        let around = Circumstances {
            at: at(0),
            actor: "uid 0".into(),
            frozen: false,
            locked: false,
            candidate_healthy: true,
        };
        let (rollout, _) = Rollout::start(7, Arc::new(Plan::new("2.0.1", vec![stage])), &around).unwrap();
        let mut guard = Guard::new(&rollout);
        let (service, begin) = ("shop".to_owned(), Box::new(rollout.clone()));
        let mut lines =
            vec![Line::Begin { service, at: at(0), rollout: begin, guard: Box::new(guard.clone()) }];
        for second in 1..=180 {
            let evidence = Evidence { candidate_healthy: true, ..Evidence::default() };
            let tick = Box::new(guard.tick(&rollout, at(second), Duration::from_secs(1), &evidence));
            let evidence = Box::new(evidence);
            lines.push(Line::Tick { at: at(second), evidence, elapsed_ms: 1000, tick });
        }
        lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
    }

    #[test]
    fn a_record_is_computed_again() {
        let replayed = replay(record().as_bytes(), "a.jsonl").unwrap();
        assert_eq!((replayed.begins, replayed.ticks), (1, 180));
        let text = told(&Replayed { begins: 3, is_torn: true, ..replayed }, "a.jsonl");
        assert!(text.starts_with("a.jsonl: 180 ticks ("), "{text}");
        assert!(
            text.contains("with 2 gaps, all verdicts equal to the bit; the last line is cut off"),
            "{text}"
        );
    }

    #[test]
    fn a_verdict_that_differs_is_told_with_line_and_place() {
        let wrong = record().replace(r#""left_ms":"#, r#""left_ms":1"#);
        let error = replay(wrong.as_bytes(), "a.jsonl").unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(text.starts_with("a.jsonl: line ") && text.contains("left_ms"), "{text}");
    }

    #[test]
    fn what_is_no_record_is_told_with_its_line() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let error = replay(text.as_bytes(), "a.jsonl").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("", "a.jsonl is empty");
        check("{}\n", "a.jsonl: line 1 is unreadable: missing field");
        check("not json", "a.jsonl: line 1 is unreadable: expected");
    }
}
