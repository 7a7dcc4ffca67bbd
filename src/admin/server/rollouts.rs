//! What can be asked for around rollouts.
//!
//! Nothing here decides: a start and each verb become one change for the control plane, which may refuse it.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};

use super::answer::{json, problem};
use super::explain::{self, Counted, Seen};
use super::places::Places;
use super::routes::{Answer, Asked, Peer, Tied, Ties, find, selection, text};
use crate::admin::api::{
    ActRequest, Changed, Compiled, FailureStory, FreezeRequest, PLAN_BYTES_MAX, PlanRequest, Problem,
    ProblemKind, ReadingRequest, RolloutChange, SignalRequest, StartRequest,
};
use crate::clock;
use crate::control::{Change, Control, Who};
use crate::rollout::{Act, PerRole, Plan, Signal, Verb, View};
use crate::routing::Service;
use crate::telemetry::{ServiceSlot, VariantCounts};
use crate::traffic::PerVariant;

/// The longest name of a signal, a rollout or a schedule in bytes.
const NAME_BYTES_MAX: usize = 128;

pub(super) fn routes() -> Router<Arc<Ties>> {
    Router::new()
        .route("/v1/rollouts", get(show_all))
        .route("/v1/plan", post(compile))
        .route("/v1/freeze", post(freeze))
        .route("/v1/services/{service}/rollout", get(show).post(start))
        .route("/v1/services/{service}/rollout/{verb}", post(act))
        .route("/v1/services/{service}/signal", post(signal))
        .route("/v1/services/{service}/metrics/{gate}", post(reading))
        .route("/v1/services/{service}/failures", get(failures))
}

async fn show_all(State(ties): Tied, Extension(places): Extension<Places>) -> Result<Response, Problem> {
    places.status(move || serde_json::to_vec(&ties.control.rollouts())).await
}

async fn show(State(ties): Tied, Path(name): Path<String>) -> Answer<View> {
    find(&ties, &name)?;
    ties.control.rollout(&name).map(Json).ok_or_else(|| no_rollout(&name))
}

fn no_rollout(service: &str) -> Problem {
    let error =
        format!("{service} has had no rollout; start one with `tidegate rollout start {service}`, or shift");
    problem(ProblemKind::NotFound, error)
}

async fn compile(State(ties): Tied, request: Request) -> Answer<Compiled> {
    let asked = Asked::read(request).await?;
    let request: PlanRequest = json(&asked.body)?;
    let service = find(&ties, &request.service)?;
    let (plan, warnings) = plan(&ties, &service, request).await?;
    let windows = ties.control.windows().view(ServiceSlot(service.slot), clock::now());
    let stable = &windows[service.split.stable()].long;
    let is_known = !stable.span.is_zero();
    Ok(Json(Compiled {
        service: service.settings.name.to_string(),
        plan,
        warnings,
        rate: is_known.then(|| windows.blue.long.request_rate() + windows.green.long.request_rate()),
        failure_ratio: (stable.requests > 0).then(|| stable.failure_ratio()),
    }))
}

async fn start(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let StartRequest { schedule, plan: file, name: named, version, take_over, reason, claimed } =
        json(&asked.body)?;
    let service = find(&ties, &name)?;
    let who = peer.who(claimed, reason)?;
    let request = PlanRequest { service: name.clone(), schedule, plan: file, name: named, version };
    let (plan, _) = plan(&ties, &service, request).await?;
    if take_over {
        roll_back_another(&ties, &asked, &name, &peer, &who).await?;
    }
    asked.commit(&ties, &Change::Start { service: name.into(), plan }, &who).await
}

/// The plan that was asked for, and what to think of. Away from this thread: reading a long one must not delay somebody's kill.
async fn plan(
    ties: &Arc<Ties>,
    service: &Service,
    request: PlanRequest,
) -> Result<(Arc<Plan>, Vec<String>), Problem> {
    let PlanRequest { service: name, schedule, plan, name: named, version } = request;
    if schedule.is_some() && plan.is_some() {
        return Err(problem(ProblemKind::Invalid, "name a schedule or send a plan, not both"));
    }
    if let Some(plan) = &plan
        && plan.text.len() > PLAN_BYTES_MAX
    {
        let error = format!("the plan is longer than {} KiB", PLAN_BYTES_MAX / 1024);
        return Err(problem(ProblemKind::TooLarge, error));
    }
    let version = match label("version", version)? {
        Some(version) => Some(version),
        None => service.groups[service.split.candidate].version().map(ToString::to_string),
    };
    let request = PlanRequest {
        service: name,
        schedule: label("schedule", schedule)?,
        plan,
        name: label("name", named)?,
        version,
    };
    let ties = ties.clone();
    let made = tokio::task::spawn_blocking(move || (ties.plan)(request, clock::wall())).await;
    match made {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(problems)) => Err(problem(ProblemKind::Invalid, problems)),
        Err(_) => Err(problem(ProblemKind::Internal, "making the plan broke off")),
    }
}

/// A short text that is not empty.
fn label(what: &str, given: Option<String>) -> Result<Option<String>, Problem> {
    match text(what, given)? {
        Some(given) if given.trim().is_empty() => {
            Err(problem(ProblemKind::Invalid, format!("the {what} is empty; leave it out")))
        }
        Some(given) if given.len() > NAME_BYTES_MAX => {
            let error = format!("the {what} is longer than {NAME_BYTES_MAX} bytes");
            Err(problem(ProblemKind::Invalid, error))
        }
        given => Ok(given),
    }
}

/// Ends the rollout that drives the service. The new one has another salt, which may only change at 0 %, so the way
/// leads through a rollback.
async fn roll_back_another(
    ties: &Ties,
    asked: &Asked,
    service: &str,
    peer: &Peer,
    who: &Who,
) -> Result<(), Problem> {
    let is_driven =
        ties.control.rollout(service).is_some_and(|view| !view.rollout.has_ended() && !view.rollout.manual);
    // A repeated request has its effect behind it: what drives the service now is what it started.
    let is_repeated = match asked.key()? {
        Some(key) => ties.control.desired().answer(&peer.actor, &key.key).is_some(),
        None => false,
    };
    if is_driven && !is_repeated {
        let change = Change::Rollout { service: service.into(), act: Act::Verb(Verb::Rollback) };
        ties.control.commit(&change, who, None, asked.read_at).await?;
    }
    Ok(())
}

async fn act(
    State(ties): Tied,
    Path((name, verb)): Path<(String, String)>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let ActRequest { reason, claimed } = json(&asked.body)?;
    let verb = match verb.as_str() {
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "advance" => Verb::Advance,
        "promote" => Verb::Promote,
        "rollback" => Verb::Rollback,
        _ => {
            let error = "a rollout can pause, resume, advance, promote and rollback";
            return Err(problem(ProblemKind::NotFound, error));
        }
    };
    find(&ties, &name)?;
    let change = Change::Rollout { service: name.into(), act: Act::Verb(verb) };
    asked.commit(&ties, &change, &peer.who(claimed, reason)?).await
}

/// What a change made of a service's rollout, if it was about that.
pub(super) fn change(control: &Control, change: &Change, service: &str) -> Option<RolloutChange> {
    let done = match change {
        Change::Start { .. } => "started",
        Change::Rollout { act: Act::Verb(verb), .. } => match verb {
            Verb::Pause => "paused",
            Verb::Resume => "resumed",
            Verb::Advance => "advanced",
            Verb::Promote => "promoted",
            Verb::Rollback => "rolled back",
        },
        _ => return None,
    };
    let rollout = control.rollout(service)?.rollout;
    Some(RolloutChange {
        name: rollout.plan.name.to_string(),
        phase: rollout.phase.clone(),
        done: done.to_owned(),
    })
}

async fn freeze(State(ties): Tied, Extension(peer): Extension<Peer>, request: Request) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let FreezeRequest { services, all, on, reason, claimed } = json(&asked.body)?;
    let change = Change::Freeze { selection: selection(services, all)?, on };
    asked.commit(&ties, &change, &peer.who(claimed, reason)?).await
}

async fn signal(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked = Asked::read(request).await?;
    let SignalRequest { name: signal, critical, claimed } = json(&asked.body)?;
    find(&ties, &name)?;
    let Some(signal) = label("signal's name", Some(signal))? else {
        return Err(problem(ProblemKind::Invalid, "a signal needs a name"));
    };
    let Who { actor, claimed, .. } = peer.who(claimed, None)?;
    let actor = claimed.map_or_else(|| actor.clone(), |claimed| format!("{actor} for {claimed}"));
    let signal = Signal { name: signal.into(), critical, actor: actor.into() };
    if ties.control.signal(&name, signal) { Ok(StatusCode::NO_CONTENT) } else { Err(no_rollout(&name)) }
}

async fn reading(
    State(ties): Tied,
    Path((name, gate)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked = Asked::read(request).await?;
    let ReadingRequest { stable, candidate } = json(&asked.body)?;
    find(&ties, &name)?;
    if ties.control.push_reading(&name, &gate, PerRole { stable, candidate }) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let error = format!("no rollout of {name} has a gate {gate:?} that takes pushed values now");
    Err(problem(ProblemKind::NotFound, error))
}

async fn failures(State(ties): Tied, Path(name): Path<String>) -> Answer<FailureStory> {
    let service = find(&ties, &name)?;
    let slot = ServiceSlot(service.slot);
    let (control, now) = (&ties.control, clock::wall());
    let windows = control.windows().view(slot, clock::now());
    let counts: PerVariant<VariantCounts> = control.tallies().merged(slot).unwrap_or_default();
    let remembered = control.remembered(&name).unwrap_or_default();
    let seen = PerVariant::from_fn(|variant| {
        let (minute, totals) = (&windows[variant].long, &counts[variant].totals);
        Seen {
            remembered: &remembered[variant],
            minute: Counted { requests: minute.requests, failures: minute.failures },
            ever: Counted {
                requests: totals.requests,
                failures: totals.failures.saturating_add(totals.late_failures),
            },
        }
    });
    Ok(Json(explain::story(&name, service.split.candidate, &seen, now)))
}
