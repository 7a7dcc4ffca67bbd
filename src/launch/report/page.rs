//! What a report says, before it is written in one form or another.

use std::time::Duration;

use super::{PhaseStory, Report, Signed, StepStory, Transactions, Voted};
use crate::clock::Timestamp;
use crate::launch::entry::Verdict;
use crate::launch::plan::Tier;
use crate::launch::run::{PhaseState, State};
use crate::launch::sentences::whole;
use crate::traffic::Variant;
use crate::wording::{NOTHING, grouped, millis, printable, ratio, span};

/// A report's text, without a form. All of it is printable.
pub(super) struct Page {
    pub(super) title: String,
    pub(super) result: (Tone, String),
    pub(super) sections: Vec<Section>,
    /// When and of what it was written.
    pub(super) foot: String,
}

pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

pub(super) enum Block {
    Text(String),
    Table {
        heads: Vec<&'static str>,
        rows: Vec<Vec<Cell>>,
    },
    /// What a program said, by line.
    Said {
        head: String,
        lines: Vec<String>,
    },
}

pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
}

pub(super) fn of(report: &Report) -> Page {
    let version = report.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let mut sections = vec![
        Section { title: "Summary", blocks: summary(report) },
        Section { title: "Phases", blocks: phases(report) },
        Section { title: "Traffic", blocks: traffic(report) },
        Section { title: "Incidents", blocks: incidents(report) },
    ];
    if !report.checklist.is_empty() {
        sections.push(Section { title: "Checklist", blocks: vec![checklist(&report.checklist)] });
    }
    if !report.votes.is_empty() {
        sections.push(Section { title: "Go or no-go", blocks: vec![votes(&report.votes)] });
    }
    if let Some(overridden) = &report.overridden {
        let mut blocks = vec![Block::Text(printable(&format!(
            "{} started it although something spoke against it{}.",
            overridden.by,
            overridden.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
        )))];
        let rows = overridden.unmet.iter().map(|unmet| vec![plain(unmet)]).collect();
        blocks.push(Block::Table { heads: vec!["unmet"], rows });
        sections.push(Section { title: "Override", blocks });
    }
    Page {
        title: printable(&format!("Launch {}: {}{version}", report.launch, report.service)),
        result: result(report),
        sections,
        foot: format!("Written {} from the launch's journal.", seconds(report.written)),
    }
}

fn result(report: &Report) -> (Tone, String) {
    let tone = match report.result {
        State::Completed => Tone::Good,
        State::RolledBack | State::Failed => Tone::Bad,
        State::Idle | State::Running => Tone::Plain,
    };
    let why = report.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    (tone, printable(&format!("{}{why}", report.result.as_str())))
}

fn summary(report: &Report) -> Vec<Block> {
    let mut rows = Vec::new();
    let mut fact = |label: &str, text: String| rows.push(vec![plain(label), plain(&text)]);
    fact("service", report.service.to_string());
    if let Some(version) = &report.version {
        let place = report.candidate.map(|place| format!(", on {place}")).unwrap_or_default();
        fact("version", format!("{version}{place}"));
    }
    if let Some(environment) = &report.environment {
        fact("environment", environment.to_string());
    }
    let tier = match report.tier {
        Tier::Critical => "critical",
        Tier::Standard => "standard",
        Tier::Internal => "internal",
    };
    fact("tier", tier.to_owned());
    fact("started", report.started.map_or_else(|| "not yet".to_owned(), seconds));
    if let (Some(took), true) = (report.took_ms, report.started.is_some()) {
        let until = report.ended.map(|at| format!("{} (after ", seconds(at)));
        let length = length(took);
        fact(
            "ended",
            until.map_or_else(|| format!("not yet, {length} so far"), |text| format!("{text}{length})")),
        );
    }
    if let Some(stable) = &report.time_to_stable {
        fact("time to stable", format!("{} ({})", length(stable.took_ms), stable.what));
    }
    let all = &report.traffic.all;
    fact("transactions", transactions(all));
    if let Some(p95) = &report.traffic.p95 {
        let ms = |us: u64| millis(Some(us as f64 / 1000.0));
        fact(
            "p95",
            format!(
                "{} in the worst minute, {} in the median one",
                ms(p95.worst_minute_us),
                ms(p95.median_minute_us)
            ),
        );
    }
    fact("downtime", report.traffic.sentence.clone());
    fact("incidents", report.incidents.len().to_string());
    vec![Block::Table { heads: vec!["", ""], rows }]
}

fn phases(report: &Report) -> Vec<Block> {
    let rows = report.phases.iter().map(|phase| {
        let title = phase.title.as_ref().map(|title| format!(" ({title})")).unwrap_or_default();
        let began = phase.began.map_or_else(|| NOTHING.to_owned(), seconds);
        let took = phase.began.zip(phase.ended).map(|(began, ended)| span(whole(ended.since(began))));
        vec![
            plain(&format!("{}{title}", phase.id)),
            Cell { text: phase.state.as_str().to_owned(), tone: tone(phase.state) },
            plain(&phase.action),
            plain(&began),
            plain(&took.unwrap_or_else(|| NOTHING.to_owned())),
        ]
    });
    let heads = vec!["phase", "state", "action", "began", "took"];
    let mut blocks = vec![Block::Table { heads, rows: rows.collect() }];
    blocks.extend(
        report.phases.iter().flat_map(|phase| phase.steps.iter().filter_map(|step| said(phase, step))),
    );
    blocks
}

fn said(phase: &PhaseStory, step: &StepStory) -> Option<Block> {
    let how = match step.verdict {
        None | Some(Verdict::Passed) => return None,
        Some(Verdict::Failed) => "failed",
        Some(Verdict::TimedOut) => "was not done in time",
    };
    let took = step.took_ms.map(|took| format!(" after {}", length(took))).unwrap_or_default();
    let head = printable(&format!("{}: {} {how}{took}", phase.id, step.step.as_str()));
    Some(match step.said.trim().is_empty() {
        true => Block::Text(format!("{head}; it said nothing.")),
        false => Block::Said { head: format!("{head}:"), lines: step.said.lines().map(printable).collect() },
    })
}

fn tone(state: PhaseState) -> Tone {
    match state {
        PhaseState::Verified => Tone::Good,
        PhaseState::Failed | PhaseState::RollbackFailed | PhaseState::RolledBack => Tone::Bad,
        PhaseState::Pending
        | PhaseState::Validating
        | PhaseState::Executing
        | PhaseState::Verifying
        | PhaseState::RollingBack
        | PhaseState::Skipped => Tone::Plain,
    }
}

fn traffic(report: &Report) -> Vec<Block> {
    let traffic = &report.traffic;
    let row = |name: &str, of: &Transactions| {
        vec![
            plain(name),
            plain(&grouped(of.requests)),
            plain(&grouped(of.failures)),
            plain(&ratio(of.error_rate)),
        ]
    };
    let named = |place: Variant| match report.candidate {
        None => place.to_string(),
        Some(candidate) if candidate == place => format!("{place} (candidate)"),
        Some(_) => format!("{place} (stable)"),
    };
    let mut rows: Vec<_> = traffic.variants.iter().map(|(place, of)| row(&named(place), of)).collect();
    rows.push(row("together", &traffic.all));
    let mut text = traffic.sentence.clone();
    if let Some(first) = text.get(..1).map(str::to_uppercase) {
        text.replace_range(..1, &first);
    }
    let mut blocks = vec![
        Block::Text(text + "."),
        Block::Table { heads: vec!["variant", "transactions", "failed", "error rate"], rows },
    ];
    if let Some(p95) = &traffic.p95 {
        let minutes =
            if p95.minutes == 1 { "1 minute".to_owned() } else { format!("{} minutes", p95.minutes) };
        blocks.push(Block::Text(format!(
            "p95 is of the time to the response head over both variants, one for each of {minutes}: the worst {}, the median {}.",
            millis(Some(p95.worst_minute_us as f64 / 1000.0)),
            millis(Some(p95.median_minute_us as f64 / 1000.0)),
        )));
    }
    blocks
}

fn incidents(report: &Report) -> Vec<Block> {
    if report.incidents.is_empty() {
        return vec![Block::Text("None.".to_owned())];
    }
    let row = |incident: &super::Incident| {
        let kind = Cell { text: incident.kind.as_str().to_owned(), tone: Tone::Bad };
        vec![plain(&seconds(incident.at)), kind, plain(&incident.text)]
    };
    let rows = report.incidents.iter().map(row).collect();
    vec![Block::Table { heads: vec!["time", "kind", "what"], rows }]
}

fn checklist(items: &[Signed]) -> Block {
    let rows = items.iter().map(|item| {
        let title = item.title.as_ref().map(|title| format!(" ({title})")).unwrap_or_default();
        let (tone, state) = match item.passed {
            Some(true) => (Tone::Good, "✓ yes"),
            Some(false) => (Tone::Bad, "✗ no"),
            None => (Tone::Bad, "✗ open"),
        };
        let by = match (&item.by, &item.role) {
            (Some(by), Some(role)) => format!("{by} as {role}"),
            (Some(by), None) => format!("a command, run by {by}"),
            (None, Some(role)) => format!("{role} did not sign"),
            (None, None) => "its command was not run".to_owned(),
        };
        vec![
            plain(&format!("{}{title}", item.item)),
            Cell { text: state.to_owned(), tone },
            plain(&by),
            plain(&item.at.map_or_else(|| NOTHING.to_owned(), seconds)),
            plain(item.evidence.as_deref().unwrap_or_default()),
        ]
    });
    Block::Table { heads: vec!["item", "answer", "by", "at", "evidence"], rows: rows.collect() }
}

fn votes(votes: &[Voted]) -> Block {
    let rows = votes.iter().map(|vote| {
        let (tone, said) = match vote.go {
            Some(true) => (Tone::Good, "✓ go"),
            Some(false) => (Tone::Bad, "✗ no-go"),
            None => (Tone::Bad, "✗ none"),
        };
        vec![
            plain(&vote.role),
            Cell { text: said.to_owned(), tone },
            plain(vote.by.as_deref().unwrap_or(NOTHING)),
            plain(&vote.at.map_or_else(|| NOTHING.to_owned(), seconds)),
            plain(vote.note.as_deref().unwrap_or_default()),
        ]
    });
    Block::Table { heads: vec!["role", "vote", "by", "at", "why"], rows: rows.collect() }
}

fn transactions(of: &Transactions) -> String {
    let rate = of.error_rate.map(|_| format!(" ({})", ratio(of.error_rate))).unwrap_or_default();
    format!("{}, {} failed{rate}", grouped(of.requests), grouped(of.failures))
}

fn plain(text: &str) -> Cell {
    Cell { text: printable(text), tone: Tone::Plain }
}

fn length(ms: u64) -> String {
    span(whole(Duration::from_millis(ms)))
}

/// `2026-12-20 14:03:21 UTC`.
fn seconds(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((whole, _)) => format!("{} UTC", whole.replacen('T', " ", 1)),
        None => text,
    }
}
