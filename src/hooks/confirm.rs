//! Asking hooks for a yes.
//!
//! The question is Flagger's, so that receivers made for its gates work here: a POST of `name`, `namespace`, `phase`,
//! `checksum` and `metadata`, and a 2xx is a yes. `metadata.type` says which gate is meant, in Flagger's words. Whoever
//! does not answer, or answers badly, has said nothing: the rollout goes on waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::call::Caller;
use super::desk::Desk;
use super::rounds::Rounds;
use super::settings::HookSettings;
use crate::outbound::causes;
use crate::rollout::{Phase, View, Waiting};

/// The pause after the first question; doubled until [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// The longest pause between two questions.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a hook is asked whether to roll back.
const ROLLBACK_EVERY: Duration = Duration::from_secs(5);
/// How many questions one hook is asked at a time.
const AT_ONCE_MAX: usize = 8;

/// What a hook is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The first stage.
    Rollout,
    /// A rise.
    TrafficIncrease,
    /// The swap of roles.
    Promotion,
    /// A rollback: here a yes is bad news.
    Rollback,
}

impl Gate {
    /// Flagger's word.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Rollout => "confirm-rollout",
            Self::TrafficIncrease => "confirm-traffic-increase",
            Self::Promotion => "confirm-promotion",
            Self::Rollback => "rollback",
        }
    }

    /// The state that Flagger's canary has when it asks.
    const fn phase(self) -> &'static str {
        match self {
            Self::Rollout => "Waiting",
            Self::TrafficIncrease | Self::Rollback => "Progressing",
            Self::Promotion => "WaitingPromotion",
        }
    }
}

/// A question. What was asked before a transition is not what is asked after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    service: Arc<str>,
    hook: Arc<str>,
    gate: Gate,
    rollout: u64,
    transitions: u64,
}

/// What a hook is sent.
#[derive(Serialize)]
struct Body<'a> {
    name: &'a str,
    namespace: &'static str,
    phase: &'static str,
    checksum: String,
    /// Strings only, as in Flagger.
    metadata: BTreeMap<&'static str, String>,
}

/// The questions that are open.
#[derive(Default)]
pub struct Confirming {
    rounds: Rounds<Question>,
    places: BTreeMap<Arc<str>, Arc<Semaphore>>,
}

impl Confirming {
    /// Asks what is to be asked now.
    pub fn ask(
        &mut self,
        now: Instant,
        settings: &HookSettings,
        views: &[View],
        caller: &Caller,
        desk: &Desk,
    ) {
        let mut wanted = BTreeSet::new();
        for view in views {
            for question in questions(view) {
                if let Some(times) = self.rounds.due(&question, now) {
                    self.start(now, times, &question, view, settings, caller, desk);
                }
                wanted.insert(question);
            }
        }
        self.rounds.keep(&wanted);
        self.places.retain(|hook, _| settings.hooks.contains_key(hook));
    }

    #[allow(clippy::too_many_arguments, reason = "one call, to keep the loop above readable")]
    fn start(
        &mut self,
        now: Instant,
        times: u32,
        question: &Question,
        view: &View,
        settings: &HookSettings,
        caller: &Caller,
        desk: &Desk,
    ) {
        let Some(call) = settings.hooks.get(&question.hook) else {
            let sentence = format!(
                "the hook {:?} is asked for a yes and is not configured any more; configure it, or advance the rollout",
                question.hook
            );
            desk.complain("hook", Some(&question.service), &question.hook, &sentence);
            return;
        };
        let new = || Arc::new(Semaphore::new(AT_ONCE_MAX));
        let places = self.places.entry(question.hook.clone()).or_insert_with(new).clone();
        let (call, caller, desk, asked) = (call.clone(), caller.clone(), desk.clone(), question.clone());
        let body = body(question, view);
        let running = tokio::spawn(async move {
            let _place = places.acquire().await;
            let answer = caller.call(&call, body).await;
            let current = (desk.look)(&asked.service).is_some_and(|view| {
                view.rollout.id == asked.rollout && view.rollout.transitions == asked.transitions
            });
            match answer {
                _ if !current => {}
                Ok(()) => (desk.confirm)(&asked.service, &asked.hook, true),
                Err(error) if error.is_answer() => (desk.confirm)(&asked.service, &asked.hook, false),
                Err(error) => {
                    let sentence = format!("the hook {:?} has not answered: {}", asked.hook, causes(&error));
                    desk.complain("hook", Some(&asked.service), &asked.hook, &sentence);
                }
            }
        });
        self.rounds.started(question.clone(), running, now + pause(question.gate, times));
    }
}

fn pause(gate: Gate, times: u32) -> Duration {
    match gate {
        Gate::Rollback => ROLLBACK_EVERY,
        Gate::Rollout | Gate::TrafficIncrease | Gate::Promotion => {
            PAUSE_MIN.saturating_mul(2_u32.saturating_pow(times)).min(PAUSE_MAX)
        }
    }
}

/// What a rollout has to be asked about now.
fn questions(view: &View) -> Vec<Question> {
    let rollout = &view.rollout;
    let question = |hook: &Arc<str>, gate| Question {
        service: view.service.clone(),
        hook: hook.clone(),
        gate,
        rollout: rollout.id,
        transitions: rollout.transitions,
    };
    let gate = match rollout.phase {
        Phase::Waiting => Gate::Rollout,
        Phase::Holding | Phase::Paused { .. } => Gate::TrafficIncrease,
        Phase::Keeping => Gate::Promotion,
        Phase::Ended { .. } => return Vec::new(),
    };
    let mut questions = Vec::new();
    if let Some(Waiting::Confirm { hooks }) = view.tick.as_ref().and_then(|tick| tick.waiting.as_ref()) {
        questions.extend(hooks.iter().map(|hook| question(hook, gate)));
    }
    // Before the first stage there is nothing to roll back.
    if rollout.phase != Phase::Waiting {
        questions.extend(rollout.plan.confirm.rollback.iter().map(|hook| question(hook, Gate::Rollback)));
    }
    questions
}

fn body(question: &Question, view: &View) -> Bytes {
    let version = |variant| view.versions[variant].as_deref().unwrap_or_default().to_owned();
    let body = Body {
        name: &view.service,
        namespace: "tidegate",
        phase: question.gate.phase(),
        checksum: question.rollout.to_string(),
        metadata: BTreeMap::from([
            ("type", question.gate.as_str().to_owned()),
            ("hook", question.hook.to_string()),
            ("rollout", view.rollout.plan.name.to_string()),
            ("stage", (view.rollout.stage + 1).to_string()),
            ("stages", view.rollout.plan.stages.len().to_string()),
            ("candidate", view.candidate.to_string()),
            ("version", version(view.candidate)),
            ("stable_version", version(view.candidate.other())),
            ("weight", view.weight.to_string()),
        ]),
    };
    serde_json::to_vec(&body).unwrap_or_default().into()
}
