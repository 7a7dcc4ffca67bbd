//! What people are told, and in what words.
//!
//! A notice is made from an audit entry, so that the log, `tidegate events` and a channel say the same. As JSON it is
//! one flat object:
//!
//! | field | is |
//! |---|---|
//! | `event` | what happened, as in the audit log: `rollout-stage`, `rollout-rollback`, `kill`, …; `rollout-progress` while one runs, `escalation`, `lost` |
//! | `service` | which service, if it is about one |
//! | `sentence` | what happened and why, for people |
//! | `launch` | the launch's name, if it is about one |
//! | `from`, `to` | the state before and after |
//! | `actor` | who; `tidegate` for what it did by itself |
//! | `time`, `generation`, `host` | when (RFC 3339), from which generation, on which host |
//! | `rollout`, `stage`, `stages` | the rollout's name, its stage from 1, and how many there are |
//! | `candidate`, `version`, `weight` | the place on trial, its version and its share |
//! | `missed` | how many notices before this one were dropped, because this channel was too slow for them |
//!
//! Fields without a value are left out.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::settings::{Channel, Style};
use crate::clock::Timestamp;
use crate::rollout::{Phase, Verdict, View, Wait, Waiting, span};
use crate::store::AuditEntry;
use crate::traffic::{Variant, Weight};

/// The actor of what Tidegate does by itself.
pub const TIDEGATE: &str = "tidegate";
/// The actor of what an alert has brought about.
pub const ALERTMANAGER: &str = "alertmanager";

/// One thing to tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Notice {
    /// As in the audit log.
    pub event: String,
    /// Which service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// For people.
    pub sentence: String,
    /// The launch, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// After.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who.
    pub actor: String,
    /// When.
    pub time: Timestamp,
    /// From which generation.
    pub generation: u64,
    /// Where Tidegate runs.
    pub host: Arc<str>,
    /// The rollout.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Place>,
    /// How many were dropped before this one.
    #[serde(skip_serializing_if = "is_zero")]
    pub missed: u64,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// Its name.
    pub rollout: Arc<str>,
    /// From 1.
    pub stage: usize,
    /// How many there are.
    pub stages: usize,
    /// The place on trial.
    pub candidate: Variant,
    /// What runs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// Its share.
    pub weight: Weight,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde passes")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a channel's `on` calls an event; `None`: nobody is told of it.
pub fn topic(what: &str) -> Option<&'static str> {
    Some(match what {
        "rollout-start" => "start",
        "rollout-stage" => "stage",
        "rollout-suspect" | "signal" => "suspect",
        "rollout-pause" | "rollout-resume" | "freeze" => "pause",
        "rollout-rollback" | "kill" => "rollback",
        "rollout-promotion" => "promotion",
        "rollout-keep-over" => "keep-over",
        "rollout-progress" => "progress",
        "launch-soon" | "launch-start" | "launch-progress" | "launch-overdue" | "launch-unattended"
        | "launch-unwatched" | "launch-flags" | "launch-stop" | "launch-end" => "launch",
        "launch-plan" => "launch-plan",
        "launch-sign" => "launch-sign",
        "launch-vote" => "launch-vote",
        "launch-phase" => "launch-phase",
        "launch-attended" => "launch-attended",
        _ => return None,
    })
}

/// Whether `channel` is told of `what` that happened to the service of `view`.
pub fn is_told(name: &str, channel: &Channel, what: &str, view: Option<&View>) -> bool {
    let Some(topic) = topic(what) else { return false };
    let word = what.strip_prefix("rollout-").unwrap_or(what);
    let wants = channel.on.iter().any(|on| **on == *topic || **on == *word);
    wants && is_named(name, view)
}

/// Whether the plan lets `channel` be told; one that names nobody lets everybody.
pub fn is_named(channel: &str, view: Option<&View>) -> bool {
    view.is_none_or(|view| {
        let notify = &view.rollout.plan.notify;
        notify.is_empty() || notify.iter().any(|name| **name == *channel)
    })
}

/// Whether a person stands behind it.
pub fn is_person(actor: &str) -> bool {
    !matches!(actor, "" | TIDEGATE | ALERTMANAGER)
}

impl Notice {
    /// Of what the audit log says.
    pub fn of(entry: &AuditEntry, host: &Arc<str>, view: Option<&View>) -> Self {
        Self {
            event: entry.what.clone(),
            service: entry.service.clone(),
            sentence: sentence(entry, view),
            launch: entry.launch.clone(),
            from: entry.from.clone(),
            to: entry.to.clone(),
            actor: entry.claimed.clone().unwrap_or_else(|| entry.actor.clone()),
            time: entry.time,
            generation: entry.generation,
            host: host.clone(),
            rollout: view.map(place),
            missed: 0,
        }
    }

    /// How far a rollout is.
    pub fn progress(view: &View, host: &Arc<str>, at: Timestamp, generation: u64) -> Self {
        Self {
            event: "rollout-progress".to_owned(),
            service: Some(view.service.to_string()),
            sentence: progress(view),
            actor: TIDEGATE.to_owned(),
            time: at,
            generation,
            host: host.clone(),
            rollout: Some(place(view)),
            ..Self::default()
        }
    }

    /// The body of a POST, or what a program reads.
    pub fn body(&self, style: Style) -> Bytes {
        let text = match style {
            Style::Json => serde_json::to_vec(self),
            Style::Slack => serde_json::to_vec(&Text { text: self.text() }),
        };
        // Strings and numbers always become JSON.
        text.unwrap_or_default().into()
    }

    /// One line for a chat.
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(service) = &self.service {
            let _ = write!(text, "*{}*: ", escaped(service));
        }
        text.push_str(&escaped(&self.sentence));
        if let (Some(from), Some(to)) = (&self.from, &self.to)
            && from != to
        {
            let _ = write!(text, " ({} → {})", escaped(from), escaped(to));
        }
        let _ = write!(text, " [{}, generation {}]", escaped(&self.host), self.generation);
        if self.actor != TIDEGATE {
            let _ = write!(text, " by {}", escaped(&self.actor));
        }
        if self.missed > 0 {
            let _ =
                write!(text, "\n{} notices before this one were dropped; see `tidegate events`", self.missed);
        }
        text
    }
}

#[derive(Serialize)]
struct Text {
    text: String,
}

/// Slack's three characters of control. What a service or a person wrote cannot become a link or call a channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn place(view: &View) -> Place {
    Place {
        rollout: view.rollout.plan.name.clone(),
        stage: view.rollout.stage + 1,
        stages: view.rollout.plan.stages.len(),
        candidate: view.candidate,
        version: view.versions[view.candidate].clone(),
        weight: view.weight,
    }
}

fn sentence(entry: &AuditEntry, view: Option<&View>) -> String {
    let why = entry.reason.as_deref().filter(|reason| !reason.is_empty());
    match (entry.what.as_str(), why) {
        ("rollout-keep-over", why) => {
            // The roles have swapped: what is on trial next is the place that was stable.
            let idle = view.map_or("the former stable variant", |view| view.candidate.as_str());
            let over = format!("keep is over: {idle} may be stopped");
            match why {
                Some(why) if why.contains("may be stopped") => why.to_owned(),
                Some(why) => format!("{over}; {why}"),
                None => over,
            }
        }
        ("kill", None) => "killed: everybody is on stable".to_owned(),
        ("kill", Some(why)) => format!("killed: everybody is on stable; {why}"),
        ("freeze", None) => "advances are frozen, or may go on".to_owned(),
        (_, Some(why)) => why.to_owned(),
        (what, None) => what.replace('-', " "),
    }
}

fn progress(view: &View) -> String {
    let (rollout, plan) = (&view.rollout, &view.rollout.plan);
    let version =
        view.versions[view.candidate].as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let mut text = format!(
        "{}: stage {} of {}, {}{version} has {} for {}",
        plan.name,
        rollout.stage + 1,
        plan.stages.len(),
        view.candidate,
        view.weight,
        span(Duration::from_millis(view.held_ms)),
    );
    if !matches!(rollout.phase, Phase::Holding) {
        let _ = write!(text, "; {}", rollout.phase);
    }
    if let Some(freeze) = &view.freeze {
        let _ = write!(text, "; frozen by {}", freeze.actor);
    }
    if let Some(tick) = &view.tick {
        if let Verdict::Fail { why } = &tick.verdict {
            let _ = write!(text, "; {}", why.sentence);
        }
        let holds = matches!(tick.waiting, Some(Waiting::Verdict { wait: Wait::Hold { .. } }));
        if let Some(waiting) = tick.waiting.as_ref().filter(|_| !holds) {
            let _ = write!(text, "; {waiting}");
        }
        if let Some(left) = tick.left_ms {
            let _ = write!(text, "; {} left", span(Duration::from_millis(left)));
        }
    }
    text
}
