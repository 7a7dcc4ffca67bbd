//! A rollout as it is shown: where it stands, what each gate has against the candidate, the verdict, and what is
//! waited for. Pure, for `status`, `rollout status` and the demo alike.

use super::words;
use crate::admin::api::RolloutStatus;
use crate::cli::figures;
use crate::cli::paint::{Line, Span, Style};
use crate::cli::status::note;
use crate::rollout::{Count, Ending, GateReading, GuardMode, Phase, Stop, Tick, Verdict, Wait, Waiting};
use crate::traffic::{Variant, Weight};

const BAR_WIDTH: usize = 10;
/// From this evidence on a gate is suspicious of the candidate.
const SUSPECT: f64 = 20.0;
/// Gates whose evidence is an e-value; of the others it is what was measured.
const E_VALUES: [&str; 6] = ["mirror", "errors", "errors-limit", "client-errors", "latency", "business"];

/// In lines for people, at most `width` columns wide as far as that can be.
pub(in crate::cli) fn lines(
    service: &str,
    candidate: Variant,
    rollout: &RolloutStatus,
    width: usize,
) -> Vec<Line> {
    if is_history(rollout) {
        return Vec::new();
    }
    let mut lines = note(style(rollout), head(rollout), &state(rollout), width);
    if let Some(Tick { verdict, waiting, readings, .. }) =
        rollout.tick.as_ref().filter(|_| !rollout.has_ended())
    {
        let is_alone = rollout.weight == Weight::FULL;
        let shown = readings.iter().filter(|reading| !is_alone || !E_VALUES.contains(&&*reading.gate));
        lines.extend(shown.map(|reading| gate(reading, candidate)));
        if is_alone && readings.iter().any(|reading| E_VALUES.contains(&&*reading.gate)) {
            let stable = candidate.other();
            let text =
                format!("nobody is left on {stable}, so nothing is compared; 99 % keeps the comparison");
            lines.extend(note(Style::Bold, "at 100 %", &text, width));
        }
        let style = if is_bad(verdict) { Style::Trouble } else { Style::Plain };
        lines.extend(note(style, "verdict", &verdict.to_string(), width));
        if let Some(waiting) = waiting.as_ref().filter(|waiting| is_more(waiting)) {
            lines.extend(note(Style::Bold, "now", &waiting.to_string(), width));
        }
    }
    if let Some(freeze) = &rollout.freeze {
        let reason = freeze.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let text =
            format!("by {}, {}{reason}; to go on: tidegate freeze off {service}", freeze.actor, freeze.at);
        lines.extend(note(Style::Bold, "frozen", &text, width));
    }
    lines
}

/// In a few words, for lists and plain lines; `None` when there is nothing to say.
pub(in crate::cli) fn remark(rollout: &RolloutStatus) -> Option<(Style, String)> {
    if is_history(rollout) {
        return None;
    }
    let mut text = match (&rollout.phase, rollout.manual) {
        (Phase::Ended { .. }, _) => format!("rollout {}: {}", rollout.name, rollout.phase),
        (_, true) => "guarded".to_owned(),
        (phase, false) => {
            format!("rollout {}: {} of {}, {}", rollout.name, rollout.stage, rollout.stages, phase)
        }
    };
    if let Some(tick) = rollout.tick.as_ref().filter(|tick| is_bad(&tick.verdict) && !rollout.has_ended()) {
        let suspect = matches!(tick.verdict, Verdict::Wait { .. });
        text.push_str(if suspect { ", suspect" } else { ", failing" });
    }
    Some((style(rollout), text))
}

/// The verdict and what is waited for, as one plain sentence; empty without a tick.
pub(super) fn sentence(rollout: &RolloutStatus) -> String {
    let Some(tick) = rollout.tick.as_ref().filter(|_| !rollout.has_ended()) else { return String::new() };
    match tick.waiting.as_ref().filter(|waiting| is_more(waiting)) {
        Some(waiting) => format!("{}; {waiting}", tick.verdict),
        None => tick.verdict.to_string(),
    }
}

/// Whether it is for more than the gates: those are what the verdict is about.
fn is_more(waiting: &Waiting) -> bool {
    !matches!(waiting, Waiting::Verdict { .. })
}

/// Over, with nothing that anybody would have to know: told by `rollout status` and the log.
fn is_history(rollout: &RolloutStatus) -> bool {
    match &rollout.phase {
        Phase::Ended { how: Ending::RolledBack { .. } } => false,
        Phase::Ended { how: Ending::Promoted | Ending::Killed | Ending::TakenOver { .. } } => rollout.manual,
        Phase::Waiting | Phase::Holding | Phase::Paused { .. } | Phase::Keeping => {
            rollout.manual && rollout.mode == GuardMode::Off
        }
    }
}

fn head(rollout: &RolloutStatus) -> &'static str {
    if rollout.manual { "guard" } else { "rollout" }
}

fn style(rollout: &RolloutStatus) -> Style {
    match &rollout.phase {
        Phase::Paused { why: Stop::Gate { .. }, .. }
        | Phase::Ended { how: Ending::RolledBack { .. } | Ending::Killed } => Style::Trouble,
        Phase::Paused { .. } => Style::Bold,
        Phase::Waiting | Phase::Holding | Phase::Keeping | Phase::Ended { .. } => Style::Plain,
    }
}

/// `2.0.1, stage 2 of 5 at 5 %, holding, 12 min 3 s left`.
fn state(rollout: &RolloutStatus) -> String {
    let RolloutStatus { name, manual, mode, stage, stages, weight, phase, tick, .. } = rollout;
    let mut parts = Vec::new();
    if !manual {
        parts.push(name.clone());
    }
    let has_ended = rollout.has_ended();
    if !manual && !has_ended {
        parts.push(format!("stage {stage} of {stages} at {}", figures::share(*weight)));
    }
    parts.push(match phase {
        Phase::Holding if *manual => {
            format!("a shift to {}, held {}", figures::share(*weight), words::span(rollout.held_ms))
        }
        phase => phase.to_string(),
    });
    match mode {
        GuardMode::Rollback => {}
        GuardMode::Notify => parts.push("gates only tell".to_owned()),
        GuardMode::Off => parts.push("gates off".to_owned()),
    }
    if let Some(left) = tick.as_ref().and_then(|tick| tick.left_ms).filter(|left| *left > 0 && !has_ended) {
        parts.push(format!("{} left", words::span(left)));
    }
    parts.join(", ")
}

/// `errors  ██████░░░░  34.2 of 125   green 2.4 % of 8,312, blue 0.30 %`.
fn gate(reading: &GateReading, candidate: Variant) -> Line {
    let GateReading { gate, evidence, limit, counts, .. } = reading;
    let is_e_value = E_VALUES.contains(&&**gate);
    let full = limit.is_some_and(|limit| *evidence >= limit);
    let bad = if is_e_value { *evidence >= SUSPECT || full } else { false };
    let style = if bad { Style::Trouble } else { Style::Plain };
    let of = limit.map(|limit| format!(" of {}", words::amount(limit))).unwrap_or_default();
    let bar = match limit {
        Some(limit) if is_e_value => bar(log_part(*evidence, *limit)),
        _ => " ".repeat(BAR_WIDTH),
    };
    // Little of it is no evidence, however little.
    let measured = if is_e_value && *evidence < 10.0 {
        words::amount((*evidence * 10.0).round() / 10.0)
    } else {
        words::amount(*evidence)
    };
    let mut line = Line::new()
        .then(Style::Plain, "    ")
        .column(Span::new(Style::Dim, gate).clipped(14), 15)
        .then(style, &bar)
        .then(Style::Plain, " ")
        .column(Span::new(style, &format!("{measured}{of}")), 14);
    if counts.candidate.units + counts.stable.units > 0 {
        let ratio = |count: Count| figures::ratio((count.units > 0).then(|| GateReading::ratio(count)));
        line = line.then(
            Style::Dim,
            &format!(
                "{candidate} {} of {}, {} {}",
                ratio(counts.candidate),
                figures::count(counts.candidate.units),
                candidate.other(),
                ratio(counts.stable),
            ),
        );
    }
    line
}

/// Evidence multiplies from request to request, so the way from 1 to the limit is shown by its logarithm.
fn log_part(evidence: f64, limit: f64) -> f64 {
    if evidence >= limit {
        1.0
    } else if evidence > 1.0 && limit > 1.0 {
        evidence.ln() / limit.ln()
    } else {
        0.0
    }
}

fn bar(part: f64) -> String {
    // Only what is over the limit fills the last block.
    let full = if part >= 1.0 { BAR_WIDTH } else { ((part * BAR_WIDTH as f64) as usize).min(BAR_WIDTH - 1) };
    "█".repeat(full) + &"░".repeat(BAR_WIDTH - full)
}

fn is_bad(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Fail { .. } | Verdict::Wait { why: Wait::Suspect { .. } } => true,
        Verdict::Wait { .. } | Verdict::Pass => false,
    }
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;
    use crate::rollout::PerRole;

    /// A rollout in the second of five stages; `phase` is JSON.
    pub fn example(phase: &str) -> RolloutStatus {
        let text = format!(
            r#"{{"name":"2.0.1","mode":"rollback","stage":2,"stages":5,"weight":"5%","since":"2025-12-31T23:59:59.000Z",
            "started":"2025-12-31T23:59:59.000Z","held_ms":180000,{phase}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    pub const HOLDING: &str = r#""phase":"holding""#;
    const PAUSED: &str = r#""phase":"paused","why":{"by":"gate","gate":"latency","sentence":"green is slower: p99 240 ms, blue 120 ms"}"#;
    const ROLLED_BACK: &str = r#""phase":"ended","how":{"how":"rolled-back","why":"green fails 2.4 % (203 of 8,312), blue 0.30 %"}"#;

    pub fn reading(gate: &str, evidence: f64, limit: Option<f64>) -> GateReading {
        let counts = PerRole {
            stable: Count { units: 10_000, events: 30 },
            candidate: Count { units: 8312, events: 203 },
        };
        GateReading { gate: gate.into(), evidence, limit, permission: None, counts, missing: None }
    }

    pub fn tick(verdict: Verdict, waiting: Option<Waiting>, readings: Vec<GateReading>) -> Option<Tick> {
        Some(Tick { verdict, waiting, readings, act: None, left_ms: Some(723_000), news: None })
    }

    #[track_caller]
    fn check(rollout: &RolloutStatus, width: usize, expected: &str) {
        let mut text = String::new();
        for line in lines("shop", Variant::Green, rollout, width) {
            line.paint(width, false, &mut text);
        }
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn a_rollout_shows_stage_evidence_verdict_and_what_it_waits_for() {
        let suspect = Wait::Suspect { gate: "errors".into(), evidence: 34.2, limit: 125.0 };
        let readings = vec![
            reading("errors", 34.2, Some(125.0)),
            reading("latency", 0.4, Some(125.0)),
            GateReading { counts: PerRole::default(), ..reading("conversion", 0.98, Some(0.95)) },
        ];
        let tick = tick(Verdict::Wait { why: suspect }, Some(Waiting::Thaw), readings);
        let rollout = RolloutStatus { tick, ..example(HOLDING) };
        check(
            &rollout,
            80,
            "  rollout: 2.0.1, stage 2 of 5 at 5 %, holding, 12 min 3 s left
    errors         ███████░░░ 34.2 of 125   green 2.4 % of 8,312, blue 0.30 %
    latency        ░░░░░░░░░░ 0.4 of 125    green 2.4 % of 8,312, blue 0.30 %
    conversion                0.98 of 0.95
  verdict: waiting for a suspicion to pass: evidence of errors 34 (fails at 125)
  now: waiting for `tidegate freeze off`
",
        );
        let (style, text) = remark(&rollout).unwrap();
        assert_eq!((style, text.as_str()), (Style::Plain, "rollout 2.0.1: 2 of 5, holding, suspect"));
    }

    #[test]
    fn at_100_percent_it_says_that_nothing_is_compared() {
        let readings = vec![
            reading("errors", 0.0, Some(125.0)),
            GateReading { counts: PerRole::default(), ..reading("health", 0.0, Some(10.0)) },
        ];
        let tick = tick(Verdict::Pass, None, readings);
        check(
            &RolloutStatus { tick, weight: Weight::FULL, stage: 5, ..example(HOLDING) },
            80,
            "  rollout: 2.0.1, stage 5 of 5 at 100 %, holding, 12 min 3 s left
    health                    0 of 10
  at 100 %: nobody is left on blue, so nothing is compared; 99 % keeps the
    comparison
  verdict: good enough to go on
",
        );
    }

    #[test]
    fn a_pause_and_a_rollback_say_why() {
        check(
            &example(PAUSED),
            120,
            "  rollout: 2.0.1, stage 2 of 5 at 5 %, paused because green is slower: p99 240 ms, blue 120 ms\n",
        );
        check(
            &example(ROLLED_BACK),
            120,
            "  rollout: 2.0.1, rolled back: green fails 2.4 % (203 of 8,312), blue 0.30 %\n",
        );
        assert_eq!(remark(&example(ROLLED_BACK)).unwrap().0, Style::Trouble);
    }

    #[test]
    fn a_guarded_shift_is_no_rollout_and_its_end_no_news() {
        let guarded = RolloutStatus { manual: true, stages: 1, stage: 1, ..example(HOLDING) };
        check(&guarded, 80, "  guard: a shift to 5 %, held 3 min\n");
        let notify = RolloutStatus { mode: GuardMode::Notify, ..guarded.clone() };
        check(&notify, 80, "  guard: a shift to 5 %, held 3 min, gates only tell\n");
        check(&RolloutStatus { mode: GuardMode::Off, ..guarded.clone() }, 80, "");
        let over = r#""phase":"ended","how":{"how":"taken-over","actor":"uid 0"}"#;
        check(&RolloutStatus { manual: true, ..example(over) }, 80, "");
        check(&example(over), 80, "  rollout: 2.0.1, taken over by uid 0\n");
    }

    #[test]
    fn a_bar_is_full_at_the_limit_only() {
        for (evidence, limit, expected) in [
            (0.2, 100.0, "░░░░░░░░░░"),
            (1.0, 100.0, "░░░░░░░░░░"),
            (10.0, 100.0, "█████░░░░░"),
            (99.9, 100.0, "█████████░"),
            (100.0, 100.0, "██████████"),
            (f64::INFINITY, 100.0, "██████████"),
            (f64::NAN, 100.0, "░░░░░░░░░░"),
        ] {
            assert_eq!(bar(log_part(evidence, limit)), expected, "{evidence}");
        }
    }
}
