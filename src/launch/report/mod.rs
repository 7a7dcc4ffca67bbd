//! What is left of a launch: what was done, what traffic did meanwhile, what went wrong, who said yes.
//!
//! All of it comes from the journal, so anybody who has the records can write the same report. It says what was counted and never more: where
//! the daemon was not there to count, the report has a gap and says so, and `zero downtime` is claimed of what was seen only.

mod html;
mod incidents;
mod markdown;
mod page;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::incidents::{Incident, Kind};
use super::entry::{Entry, Record, Step, Stop, Verdict};
use super::figures::{Minute, Total};
use super::ledger::{Ledger, Misfit};
use super::plan::{Item, ItemKind, Launch, Tier, Undo};
use super::run::{PhaseState, State};
use crate::clock::Timestamp;
use crate::traffic::{PerVariant, Variant, Weight};
use crate::wording::{grouped, span};

/// Less than this between two stretches that were counted is how their ends are measured: 2 s.
const GAP_MIN: Duration = Duration::from_secs(2);

/// A launch, told from its end.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Report {
    /// Its name.
    pub launch: Arc<str>,
    /// The service that it released.
    pub service: Arc<str>,
    /// The version that it brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// For instance `production`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Arc<str>>,
    /// How much hung on it.
    pub tier: Tier,
    /// The place that the version came to; known once it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Variant>,
    /// What became of it; `RUNNING`: the report is of what there is so far.
    pub result: State,
    /// Why it was undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When it was put on the book, in this form.
    pub planned: Timestamp,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// From the start to the end, or to the report, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// The phases, in their order.
    pub phases: Vec<PhaseStory>,
    /// What traffic did from the start to the end.
    pub traffic: Traffic,
    /// What went wrong, in the order it did.
    pub incidents: Vec<Incident>,
    /// How long users were in between; absent if the candidate never had weight, or it is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_stable: Option<TimeToStable>,
    /// The checklist, with who signed.
    pub checklist: Vec<Signed>,
    /// Who had a vote, and what it was.
    pub votes: Vec<Voted>,
    /// What was unmet at the start, and started all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Overridden>,
    /// When the report was written.
    pub written: Timestamp,
}

/// What became of a phase.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PhaseStory {
    /// Its id.
    pub id: Arc<str>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// What it did, in a few words.
    pub action: String,
    /// What undoes it, in a few words.
    pub undo: String,
    /// What became of it.
    pub state: PhaseState,
    /// When its first step began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// When its last step ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Its steps, in the order they began.
    pub steps: Vec<StepStory>,
}

/// One attempt at a step.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct StepStory {
    /// Which.
    pub step: Step,
    /// When it began.
    pub began: Timestamp,
    /// How it ended; absent: it was cut off, or is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// How long it took, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// What was said, if it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Traffic {
    /// Requests and failures of both variants.
    pub all: Transactions,
    /// By place.
    pub variants: PerVariant<Transactions>,
    /// The 95th percentile of time to the response head; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95: Option<P95>,
    /// Seconds in which there were requests and all of them failed.
    pub down_seconds: u64,
    /// Whether there were requests, none of those seconds, and no gap.
    pub zero_downtime: bool,
    /// How long was counted, in ms.
    pub counted_ms: u64,
    /// When nothing was counted: the daemon was not there, or its last minute is lost.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gaps: Vec<Gap>,
    /// What can be said about downtime, as a sentence.
    pub sentence: String,
}

/// Requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Transactions {
    /// All of them.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// The share that failed, 0 to 1; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
}

/// The 95th percentiles of time to the response head over both variants, one a minute. That of the whole time cannot be had from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct P95 {
    /// The greatest, in microseconds.
    pub worst_minute_us: u64,
    /// The middle one, in microseconds; of an even number the lower.
    pub median_minute_us: u64,
    /// Of how many.
    pub minutes: usize,
}

/// A time in which nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Gap {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// How long users were in between versions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TimeToStable {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// The time between, in ms.
    pub took_ms: u64,
    /// What that means.
    pub what: String,
}

/// An item of the checklist.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Signed {
    /// Its id.
    pub item: Arc<str>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// Whether it was a yes; absent: nobody said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// The role that signs; absent: a command checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Arc<str>>,
    /// Who signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What proves it, or what the command said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Arc<str>>,
}

/// A vote that somebody had.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Voted {
    /// In which role.
    pub role: Arc<str>,
    /// Go or no-go; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go: Option<bool>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Arc<str>>,
}

/// A start although something spoke against it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Overridden {
    /// Who started.
    pub by: Arc<str>,
    /// What was unmet, each as a sentence.
    pub unmet: Vec<String>,
    /// Why it was started all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

impl Report {
    /// Of a whole journal, written at a moment.
    ///
    /// # Errors
    /// The first record that does not fit those before it, or that there are none.
    pub fn of(records: &[Record], at: Timestamp) -> Result<Self, Misfit> {
        let (first, rest) = records.split_first().ok_or(Misfit::Unplanned)?;
        let mut ledger = Ledger::begin(first)?;
        for record in rest {
            ledger = ledger.with(record)?;
        }
        let (launch, run) = (&ledger.launch, &ledger.run);
        let until = run.ended.unwrap_or(at);
        let traffic = traffic(&ledger, records, until);
        let steps = steps(launch, records);
        Ok(Self {
            launch: launch.name.clone(),
            service: launch.service.clone(),
            version: launch.version.clone(),
            environment: launch.environment.clone(),
            tier: launch.tier,
            candidate: ledger.candidate,
            result: run.state,
            why: ledger.why_stopped(),
            planned: ledger.planned,
            started: run.started,
            ended: run.ended,
            took_ms: run.started.map(|start| millis(until.since(start))),
            incidents: incidents::of(&ledger, records, &traffic, until),
            time_to_stable: time_to_stable(&ledger, records),
            traffic,
            phases: phases(&ledger, steps),
            checklist: launch.checklist.iter().map(|item| signed(&ledger, item)).collect(),
            votes: votes(&ledger),
            overridden: records.iter().find_map(overridden),
            written: at,
        })
    }

    /// As Markdown (CommonMark, with tables as GitHub has them).
    pub fn markdown(&self) -> String {
        markdown::write(&page::of(self))
    }

    /// As one HTML file that needs nothing else.
    pub fn html(&self) -> String {
        html::write(&page::of(self))
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

fn phases(ledger: &Ledger, mut steps: Vec<Vec<StepStory>>) -> Vec<PhaseStory> {
    let planned = ledger.launch.phases.iter().zip(&ledger.run.phases).enumerate();
    planned
        .map(|(index, (phase, run))| PhaseStory {
            id: phase.id.clone(),
            title: phase.title.clone(),
            action: phase.action.to_string(),
            undo: phase.undo.to_string(),
            state: run.state,
            began: run.since,
            ended: run.until,
            steps: steps.get_mut(index).map(std::mem::take).unwrap_or_default(),
        })
        .collect()
}

/// By phase.
fn steps(launch: &Launch, records: &[Record]) -> Vec<Vec<StepStory>> {
    let mut found: Vec<Vec<StepStory>> = vec![Vec::new(); launch.phases.len()];
    for record in records {
        match &record.entry {
            Entry::Began { phase, step } => {
                if let Some(steps) = found.get_mut(*phase) {
                    let (step, began) = (*step, record.at);
                    steps.push(StepStory { step, began, verdict: None, took_ms: None, said: String::new() });
                }
            }
            Entry::Ended { phase, outcome, .. } => {
                if let Some(last) = found.get_mut(*phase).and_then(|steps| steps.last_mut()) {
                    last.verdict = Some(outcome.verdict);
                    last.took_ms = Some(outcome.took_ms);
                    if outcome.verdict != Verdict::Passed {
                        last.said.clone_from(&outcome.said);
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn traffic(ledger: &Ledger, records: &[Record], until: Timestamp) -> Traffic {
    let Minute { span_ms, variants, down_seconds, .. } = &ledger.traffic;
    let gaps = gaps(ledger, records, until);
    let mut minutes: Vec<u64> = records.iter().filter_map(|record| minute(record)?.p95_us).collect();
    minutes.sort_unstable();
    let middle = minutes.len().saturating_sub(1) / 2;
    let p95 = minutes.last().zip(minutes.get(middle)).map(|(worst, median)| P95 {
        worst_minute_us: *worst,
        median_minute_us: *median,
        minutes: minutes.len(),
    });
    let all = Total { requests: ledger.traffic.requests(), failures: ledger.traffic.failures() };
    let zero_downtime = *down_seconds == 0 && gaps.is_empty() && all.requests > 0;
    Traffic {
        sentence: downtime(ledger, &gaps, all),
        all: all.into(),
        variants: variants.map(|_, total| total.into()),
        p95,
        down_seconds: *down_seconds,
        zero_downtime,
        counted_ms: *span_ms,
        gaps,
    }
}

fn minute(record: &Record) -> Option<&Minute> {
    match &record.entry {
        Entry::Minute(minute) => Some(minute),
        _ => None,
    }
}

/// What is said about downtime: of what was counted, and that there is more if there is.
fn downtime(ledger: &Ledger, gaps: &[Gap], all: Total) -> String {
    let (requests, failures) = (grouped(all.requests), grouped(all.failures));
    let of = format!("{failures} failed requests of {requests}");
    let down = ledger.traffic.down_seconds;
    let mut text = match (ledger.run.started, all.requests, down) {
        (None, ..) => return "not started, so nothing was counted".to_owned(),
        (_, 0, _) => "no requests were counted, so nothing can be said about downtime".to_owned(),
        (_, _, 0) if gaps.is_empty() => format!("zero downtime: 0 s in which every request failed, {of}"),
        (_, _, 0) => format!("no downtime in what was counted: 0 s in which every request failed, {of}"),
        (_, _, down) => format!("DOWNTIME: {} s in which every request failed, {of}", grouped(down)),
    };
    if !gaps.is_empty() {
        let missing =
            gaps.iter().map(|gap| gap.until.since(gap.from)).fold(Duration::ZERO, Duration::saturating_add);
        text.push_str(&format!(
            "; {} were not counted, and what happened in them is not known",
            span(missing)
        ));
    }
    text
}

/// What no stretch covers between the start and the end. Of a launch that runs, the minute that is not over yet is no gap.
fn gaps(ledger: &Ledger, records: &[Record], until: Timestamp) -> Vec<Gap> {
    let Some(start) = ledger.run.started else { return Vec::new() };
    let mut gaps = Vec::new();
    let mut covered = start;
    let mut missing = |from: Timestamp, until: Timestamp, min: Duration| {
        if until.since(from) > min {
            gaps.push(Gap { from, until });
        }
    };
    for record in records {
        let Some(minute) = minute(record) else { continue };
        let from = Timestamp::from_millis(record.at.as_millis().saturating_sub(minute.span_ms));
        missing(covered, from, GAP_MIN);
        covered = covered.max(record.at);
    }
    let patience = if ledger.run.ended.is_some() { GAP_MIN } else { Duration::from_secs(60) + GAP_MIN };
    missing(covered, until, patience);
    gaps
}

/// From the candidate's first weight to the end of the last phase that gave it some; of one that was undone, from the stop to when nobody was
/// on the candidate any more.
fn time_to_stable(ledger: &Ledger, records: &[Record]) -> Option<TimeToStable> {
    let launch = &ledger.launch;
    let gives_weight =
        |phase: usize| launch.phases.get(phase).is_some_and(|phase| phase.action.gives_weight());
    let began = records.iter().find_map(|record| match record.entry {
        Entry::Began { phase, step: Step::Execute } if gives_weight(phase) => Some(record.at),
        _ => None,
    })?;
    let passed = |wanted: Step, of: &dyn Fn(usize) -> bool| {
        records.iter().rev().find_map(|record| match &record.entry {
            Entry::Ended { phase, step, outcome }
                if *step == wanted && outcome.verdict == Verdict::Passed && of(*phase) =>
            {
                Some(record.at)
            }
            _ => None,
        })
    };
    let (from, until, what) = match (ledger.run.state, ledger.run.stopped_at) {
        (State::Completed, _) => {
            let until = passed(Step::Verify, &gives_weight)?;
            (
                began,
                until,
                "from the candidate's first weight to the end of the last phase that moves traffic",
            )
        }
        (_, Some(stopped)) => {
            let undoes = |phase: usize| {
                launch.phases.get(phase).is_some_and(|phase| {
                    phase.undo == Undo::DisableTraffic || phase.undo == Undo::Shift { weight: Weight::ZERO }
                })
            };
            // The breaker takes the weight away at once, before anything is undone.
            let is_off = |record: &&Record| {
                record.at >= stopped
                    && record.figures.as_ref().is_some_and(|figures| {
                        figures.weight == Weight::ZERO && figures.candidate == ledger.candidate
                    })
            };
            let is_tripped = matches!(ledger.run.stopped, Some(Stop::Breaker { .. }));
            let off = records.iter().find(is_off).map(|record| record.at).filter(|_| is_tripped);
            let until = off.or_else(|| passed(Step::Undo, &undoes)).filter(|until| *until >= stopped)?;
            (stopped, until, "from the stop to nobody on the candidate")
        }
        (_, None) => return None,
    };
    Some(TimeToStable { from, until, took_ms: millis(until.since(from)), what: what.to_owned() })
}

fn signed(ledger: &Ledger, item: &Item) -> Signed {
    let signature = ledger.signatures.get(&item.id);
    let role = match &item.kind {
        ItemKind::Person { role, .. } => Some(role.clone()),
        ItemKind::Command { .. } => None,
    };
    Signed {
        item: item.id.clone(),
        title: item.title.clone(),
        passed: signature.map(|signature| signature.passed),
        role,
        by: signature.map(|signature| signature.actor.clone()),
        at: signature.map(|signature| signature.at),
        evidence: signature.and_then(|signature| signature.evidence.clone()),
    }
}

fn votes(ledger: &Ledger) -> Vec<Voted> {
    let roles = ledger.launch.go_nogo.as_ref().map(|asked| asked.roles.as_slice()).unwrap_or_default();
    let voted = |role: &Arc<str>| {
        let vote = ledger.votes.get(role);
        Voted {
            role: role.clone(),
            go: vote.map(|vote| vote.go),
            by: vote.map(|vote| vote.actor.clone()),
            at: vote.map(|vote| vote.at),
            note: vote.and_then(|vote| vote.note.clone()),
        }
    };
    roles.iter().map(voted).collect()
}

fn overridden(record: &Record) -> Option<Overridden> {
    match &record.entry {
        Entry::Started { unmet, reason, .. } if !unmet.is_empty() => {
            Some(Overridden { by: record.actor.clone(), unmet: unmet.clone(), reason: reason.clone() })
        }
        _ => None,
    }
}

impl From<Total> for Transactions {
    fn from(Total { requests, failures }: Total) -> Self {
        let error_rate = (requests > 0).then(|| failures as f64 / requests as f64);
        Self { requests, failures, error_rate }
    }
}
