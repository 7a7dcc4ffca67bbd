//! What went wrong.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Gap, Traffic};
use crate::clock::Timestamp;
use crate::launch::entry::{Entry, Record, Step, Stop, Told, Verdict};
use crate::launch::ledger::Ledger;
use crate::launch::sentences::Story;
use crate::wording::{printable, span};

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Incident {
    /// When.
    pub at: Timestamp,
    /// Of what kind.
    pub kind: Kind,
    /// What happened, in one line.
    pub text: String,
}

/// Kinds of things that go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was started although something spoke against it.
    Override,
    /// A step failed, or was not done in time.
    StepFailed,
    /// An undo failed.
    UndoFailed,
    /// A step was cut off; nobody knew whether it was done.
    Unknown,
    /// A limit was crossed.
    Breaker,
    /// A person had it undone.
    Stopped,
    /// Nobody attended to it.
    Unattended,
    /// Flags were not switched off.
    Flags,
    /// There were seconds in which every request failed.
    Downtime,
    /// Nothing was counted: the daemon was not there.
    NotCounted,
    /// The rollback took longer than promised.
    SlowRollback,
}

impl Kind {
    /// In a word or two.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::StepFailed => "step failed",
            Self::UndoFailed => "undo failed",
            Self::Unknown => "unknown",
            Self::Breaker => "breaker",
            Self::Stopped => "stopped",
            Self::Unattended => "unattended",
            Self::Flags => "flags",
            Self::Downtime => "downtime",
            Self::NotCounted => "not counted",
            Self::SlowRollback => "slow rollback",
        }
    }
}

pub(super) fn of(ledger: &Ledger, records: &[Record], traffic: &Traffic, until: Timestamp) -> Vec<Incident> {
    let mut found = Vec::new();
    let mut story = Story::new();
    let mut under_way: Option<(usize, Step)> = None;
    for record in records {
        let sentence = story.tell(record);
        match record.entry {
            Entry::Began { phase, step } => under_way = Some((phase, step)),
            Entry::Ended { .. } => under_way = None,
            _ => {}
        }
        if let Some(kind) = kind(&record.entry, under_way) {
            let text = match (&record.entry, under_way.take_if(|_| kind == Kind::Unknown)) {
                (Entry::Leased { holder }, Some((phase, step))) => {
                    let id = ledger.launch.phases.get(phase).map_or("a phase", |phase| &*phase.id);
                    printable(&format!(
                        "{} of {id} was cut off; {holder} took over, and nobody knew whether it was done",
                        step.as_str()
                    ))
                }
                _ => format!("{}: {}", sentence.about, sentence.text),
            };
            found.push(Incident { at: record.at, kind, text });
        }
    }
    found.extend(traffic.gaps.iter().map(not_counted));
    found.extend(slow_rollback(ledger, until));
    found.sort_by_key(|incident| incident.at);
    found
}

fn kind(entry: &Entry, under_way: Option<(usize, Step)>) -> Option<Kind> {
    match entry {
        Entry::Started { unmet, .. } => (!unmet.is_empty()).then_some(Kind::Override),
        Entry::Ended { outcome, .. } if outcome.verdict == Verdict::Passed => None,
        Entry::Ended { step: Step::Undo, .. } => Some(Kind::UndoFailed),
        Entry::Ended { .. } => Some(Kind::StepFailed),
        Entry::Leased { .. } => under_way.map(|_| Kind::Unknown),
        Entry::Unattended { .. } => Some(Kind::Unattended),
        Entry::Stopped { why: Stop::Breaker { .. } } => Some(Kind::Breaker),
        Entry::Stopped { why: Stop::Person { .. } } => Some(Kind::Stopped),
        // The step that failed has said so.
        Entry::Stopped { why: Stop::Phase { .. } } => None,
        Entry::Minute(minute) => (minute.down_seconds > 0).then_some(Kind::Downtime),
        Entry::Told { about: Told::FlagsOff { done: false } } => Some(Kind::Flags),
        Entry::Told { .. }
        | Entry::Planned { .. }
        | Entry::Signed { .. }
        | Entry::Checked { .. }
        | Entry::Voted { .. }
        | Entry::Attended
        | Entry::Began { .. }
        | Entry::Chose { .. }
        | Entry::Finished { .. } => None,
    }
}

fn not_counted(gap: &Gap) -> Incident {
    let length = span(gap.until.since(gap.from));
    let text =
        format!("nothing was counted for {length}: the daemon was not there, or its last minute is lost");
    Incident { at: gap.from, kind: Kind::NotCounted, text }
}

/// Also of one that is still under way.
fn slow_rollback(ledger: &Ledger, until: Timestamp) -> Option<Incident> {
    let (promised, stopped) = ledger.launch.rollback_within.zip(ledger.run.stopped_at)?;
    let took = until.since(stopped);
    let whole = Duration::from_secs(took.as_secs());
    let text = match ledger.run.ended {
        Some(_) => format!("the rollback took {}, and {} were promised", span(whole), span(promised)),
        None => {
            format!("the rollback has taken {} so far, and {} were promised", span(whole), span(promised))
        }
    };
    (took > promised).then_some(Incident { at: until, kind: Kind::SlowRollback, text })
}
