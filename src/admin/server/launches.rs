//! What can be asked for around launches.
//!
//! Nothing here decides what comes next in a launch: a request becomes one wish for the book, which may refuse it. What is checked
//! here is who asks, and what the configuration says.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;

use super::answer::{json, problem, with_causes};
use super::places::Places;
use super::routes::{Answer, Asked, Peer, Tied, Ties, invalid_query};
use crate::admin::api::{
    CheckedRequest, HeartbeatAnswer, HeartbeatRequest, LaunchRequest, LaunchRollbackRequest,
    LaunchStartRequest, LaunchSummary, LaunchView, LeaseAnswer, LeaseRequest, NoteRequest, Problem,
    ProblemKind, RECORDS_MAX, Records, SignRequest, VoteRequest,
};
use crate::clock;
use crate::control::{LaunchRefusal, Who, Wish, launch_problems};
use crate::launch::{Launch, Ledger, Misfit, Stop};

/// The longest evidence, note or output in bytes.
const SAID_BYTES_MAX: usize = 4096;
/// The longest name of an item, a role or a runner's place in bytes.
const NAME_BYTES_MAX: usize = 256;
const WAIT_MAX: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Router<Arc<Ties>> {
    Router::new()
        .route("/v1/launches", get(show_all))
        .route("/v1/launches/{launch}", get(show).put(plan))
        .route("/v1/launches/{launch}/sign", post(sign))
        .route("/v1/launches/{launch}/vote", post(vote))
        .route("/v1/launches/{launch}/checked", post(checked))
        .route("/v1/launches/{launch}/start", post(start))
        .route("/v1/launches/{launch}/lease", post(lease))
        .route("/v1/launches/{launch}/heartbeat", post(heartbeat))
        .route("/v1/launches/{launch}/note", post(note))
        .route("/v1/launches/{launch}/rollback", post(roll_back))
        .route("/v1/launches/{launch}/records", get(records))
}

async fn show_all(State(ties): Tied) -> Json<Vec<LaunchSummary>> {
    Json(ties.control.launches().iter().map(|ledger| LaunchSummary::of(ledger)).collect())
}

async fn show(State(ties): Tied, Path(name): Path<String>) -> Answer<LaunchView> {
    Ok(Json(view(&ties, &*ties.control.launch(&name)?)))
}

async fn plan(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<LaunchView> {
    let asked = Asked::read(request).await?;
    let LaunchRequest { launch, dry_run, claimed } = json(&asked.body)?;
    if *launch.name != *name {
        let error = format!("the launch is called {:?}, and the path says {name:?}", launch.name);
        return Err(problem(ProblemKind::Invalid, error));
    }
    let who = peer.who(claimed, None)?;
    let warnings = admitted(&ties, &launch).await?;
    let planned = if dry_run {
        Arc::new(ties.control.preview(&launch, &who)?)
    } else {
        ties.control.note_launch(&name, Wish::Plan { launch }, &who).await?
    };
    Ok(Json(LaunchView { warnings, ..view(&ties, &planned) }))
}

/// What could be better about a launch that can be run. Away from this thread: rollouts are planned for it.
async fn admitted(ties: &Arc<Ties>, launch: &Arc<Launch>) -> Result<Vec<String>, Problem> {
    let (tied, launch) = (ties.clone(), launch.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let at = clock::wall();
        let mut problems = launch_problems(&launch, at);
        let warnings = match (tied.admit)(&launch, at) {
            Ok(warnings) => warnings,
            Err(more) => {
                problems.extend(more);
                Vec::new()
            }
        };
        (problems, warnings)
    });
    match looked.await {
        Ok((problems, warnings)) if problems.is_empty() => Ok(warnings),
        Ok((problems, _)) => Err(LaunchRefusal::Invalid(problems).into()),
        Err(_) => Err(problem(ProblemKind::Internal, "looking at the launch broke off")),
    }
}

async fn sign(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<LaunchView> {
    let asked = Asked::read(request).await?;
    let SignRequest { item, role, evidence, claimed } = json(&asked.body)?;
    let (item, role) = (label("item", item)?, label("role", role)?);
    may_speak(&ties, &peer, &role)?;
    let evidence = said("the evidence", evidence.as_deref())?;
    wish(&ties, &name, Wish::Sign { item, role, evidence }, &peer.who(claimed, None)?).await
}

async fn vote(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<LaunchView> {
    let asked = Asked::read(request).await?;
    let VoteRequest { role, go, note, claimed } = json(&asked.body)?;
    let role = label("role", role)?;
    may_speak(&ties, &peer, &role)?;
    let note = said("the note", note.as_deref())?;
    wish(&ties, &name, Wish::Vote { role, go, note }, &peer.who(claimed, None)?).await
}

async fn checked(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<LaunchView> {
    let asked = Asked::read(request).await?;
    let CheckedRequest { item, passed, said: output } = json(&asked.body)?;
    let item = label("item", item)?;
    bounded("what the command said", &output)?;
    wish(&ties, &name, Wish::Checked { item, passed, said: output }, &peer.who(None, None)?).await
}

async fn start(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<LeaseAnswer> {
    let asked = Asked::read(request).await?;
    let LaunchStartRequest { holder, overrides, reason, claimed } = json(&asked.body)?;
    let holder = label("holder", holder)?;
    let who = peer.who(claimed, reason)?;
    let reason = who.reason.as_deref().map(Into::into);
    let ledger = ties.control.launch(&name)?;
    // The configuration may be another one than when it was planned.
    if ledger.run.state == crate::launch::State::Idle {
        fits(&ties, &ledger.launch).await?;
    }
    let started = ties.control.note_launch(&name, Wish::Start { holder, overrides, reason }, &who).await?;
    leased(&ties, &started)
}

/// Whether the daemon can still run it, apart from its window, which may be overridden.
async fn fits(ties: &Arc<Ties>, launch: &Arc<Launch>) -> Result<(), Problem> {
    let (tied, launch) = (ties.clone(), launch.clone());
    match tokio::task::spawn_blocking(move || (tied.admit)(&launch, clock::wall())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(problems)) => Err(problem(ProblemKind::Conflict, problems.join("\n"))),
        Err(_) => Err(problem(ProblemKind::Internal, "looking at the launch broke off")),
    }
}

async fn lease(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<LeaseAnswer> {
    let asked = Asked::read(request).await?;
    let LeaseRequest { holder, claimed } = json(&asked.body)?;
    let holder = label("holder", holder)?;
    let who = peer.who(claimed, None)?;
    leased(&ties, &*ties.control.note_launch(&name, Wish::Lease { holder }, &who).await?)
}

fn leased(ties: &Ties, ledger: &Ledger) -> Answer<LeaseAnswer> {
    let fence = ledger.lease.as_ref().map_or(0, |lease| lease.fence);
    Ok(Json(LeaseAnswer { fence, view: view(ties, ledger) }))
}

async fn heartbeat(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<HeartbeatAnswer> {
    let asked = Asked::read(request).await?;
    let HeartbeatRequest { fence, release } = json(&asked.body)?;
    let ledger = ties.control.heartbeat(&name, fence, release, &peer.who(None, None)?).await?;
    Ok(Json(HeartbeatAnswer { seq: ledger.seq, stopped: ledger.run.stopped.is_some() }))
}

async fn note(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<LaunchView> {
    let asked = Asked::read(request).await?;
    let NoteRequest { fence, after, note } = json(&asked.body)?;
    if let crate::admin::api::Note::Ended { outcome, .. } = &note {
        bounded("what was said", &outcome.said)?;
    }
    wish(&ties, &name, Wish::Note { fence, after, entry: note.into() }, &peer.who(None, None)?).await
}

async fn roll_back(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<LaunchView> {
    let asked = Asked::read(request).await?;
    let LaunchRollbackRequest { reason, claimed } = json(&asked.body)?;
    let who = peer.who(claimed, reason)?;
    let reason = who.reason.as_deref().map(Into::into);
    wish(&ties, &name, Wish::Stop { why: Stop::Person { reason } }, &who).await
}

#[derive(Deserialize)]
struct RecordsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: u64,
}

async fn records(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(places): Extension<Places>,
    query: Result<Query<RecordsQuery>, QueryRejection>,
) -> Answer<Records> {
    let Query(RecordsQuery { after, wait_ms }) = query.map_err(|error| invalid_query(&error))?;
    let patience = Duration::from_millis(wait_ms).min(WAIT_MAX);
    let _place = (!patience.is_zero()).then(|| places.wait()).transpose()?;
    Ok(Json(ties.control.launch_records(&name, after, RECORDS_MAX, patience).await?))
}

async fn wish(ties: &Ties, name: &str, wish: Wish, who: &Who) -> Answer<LaunchView> {
    Ok(Json(view(ties, &*ties.control.note_launch(name, wish, who).await?)))
}

fn view(ties: &Ties, ledger: &Ledger) -> LaunchView {
    let figures = ties.control.figures(&ledger.launch.service);
    LaunchView::of(ledger.clone(), figures, clock::wall())
}

/// Whether the configuration lets the peer speak for a role.
fn may_speak(ties: &Ties, peer: &Peer, role: &str) -> Result<(), Problem> {
    (ties.speaks)(role, peer.user.as_deref()).map_err(|why| problem(ProblemKind::Invalid, why))
}

/// A short name that is not empty.
fn label(what: &str, given: Arc<str>) -> Result<Arc<str>, Problem> {
    if given.trim().is_empty() || given.len() > NAME_BYTES_MAX {
        let error = format!("the {what} has 1 to {NAME_BYTES_MAX} bytes");
        return Err(problem(ProblemKind::Invalid, error));
    }
    Ok(if given.contains(char::is_control) { given.replace(char::is_control, " ").into() } else { given })
}

fn said(what: &str, given: Option<&str>) -> Result<Option<Arc<str>>, Problem> {
    let Some(given) = given.filter(|given| !given.trim().is_empty()) else { return Ok(None) };
    bounded(what, given)?;
    Ok(Some(given.replace(char::is_control, " ").into()))
}

fn bounded(what: &str, given: &str) -> Result<(), Problem> {
    if given.len() <= SAID_BYTES_MAX {
        return Ok(());
    }
    Err(problem(ProblemKind::Invalid, format!("{what} is longer than {SAID_BYTES_MAX} bytes")))
}

impl From<LaunchRefusal> for Problem {
    fn from(refusal: LaunchRefusal) -> Self {
        let kind = match &refusal {
            LaunchRefusal::Unknown { .. } => ProblemKind::NotFound,
            LaunchRefusal::Invalid(_) | LaunchRefusal::NoReason => ProblemKind::Invalid,
            LaunchRefusal::Misfit(misfit) => kind_of(misfit),
            LaunchRefusal::Damaged { .. }
            | LaunchRefusal::Unmet(_)
            | LaunchRefusal::NoService { .. }
            | LaunchRefusal::Locked { .. }
            | LaunchRefusal::Driven { .. }
            | LaunchRefusal::Running { .. }
            | LaunchRefusal::Held { .. }
            | LaunchRefusal::Fenced { .. }
            | LaunchRefusal::Full => ProblemKind::Conflict,
            LaunchRefusal::Stale { .. } => ProblemKind::Stale,
            LaunchRefusal::NotNoted(_) | LaunchRefusal::NotRead(_) => ProblemKind::Internal,
            LaunchRefusal::DiskTimeout => ProblemKind::TimedOut,
            LaunchRefusal::Busy | LaunchRefusal::Closed(_) => ProblemKind::Unavailable,
        };
        problem(kind, with_causes(&refusal))
    }
}

fn kind_of(misfit: &Misfit) -> ProblemKind {
    match misfit {
        Misfit::Unplanned | Misfit::NoItem(_) => ProblemKind::NotFound,
        Misfit::Started(_)
        | Misfit::NotStarted
        | Misfit::Over(_)
        | Misfit::OutOfTurn
        | Misfit::NothingToChoose
        | Misfit::Number { .. } => ProblemKind::Conflict,
        Misfit::OtherRole { .. }
        | Misfit::NotForPeople(_)
        | Misfit::NotForCommands(_)
        | Misfit::NoEvidence(_)
        | Misfit::NoVote { .. } => ProblemKind::Invalid,
    }
}
