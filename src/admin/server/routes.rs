//! What can be asked for, and what happens then.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::StreamExt as _;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use tokio_stream::wrappers::BroadcastStream;

use super::answer::{body, json, problem};
use super::places::Places;
use super::{endpoints, launches, probes, rollouts, status};
use crate::admin::api::{
    ArmRequest, BreakRequest, Changed, DeployRequest, Event, Explanation, IDEMPOTENCY_KEY, KillRequest,
    MirrorRequest, OverrideAnswer, OverrideRequest, PlanRequest, Predecessor, Problem, ProblemKind,
    ReloadRequest, Reloaded, ServiceChange, ServiceStatus, ShiftRequest, Status, StopRequest, Stopping,
    UpgradeRequest, Upgraded, WaitQuery, unknown_service,
};
use crate::clock::{self, Timestamp};
use crate::control::{self, Change, Committed, Control, Delta, Deployed, IdempotencyKey, Selection, Who};
use crate::launch::Launch;
use crate::rollout::{Act, Plan, Verb};
use crate::routing::Service;
use crate::telemetry::names;
use crate::traffic::{Bucket, By, Keys, OverrideCookie, Reason, Visitor, VisitorId, Weight, assign};
use crate::upstream::EndpointUrl;

/// The longest idempotency key in bytes.
const KEY_BYTES_MAX: usize = 128;
/// The longest reason, note or claimed name in bytes.
const TEXT_BYTES_MAX: usize = 1024;
const EVENTS_DEFAULT: usize = 20;
const EVENTS_MAX: usize = 1000;
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(600);
const WAIT_STEP: Duration = Duration::from_millis(20);
const UPGRADE_MS_MAX: u64 = 600_000;
const OVERRIDE_SECONDS_MAX: u64 = 7 * 24 * 3600;

type Later<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;
/// Reads the configuration file again.
pub type Reload = Box<dyn Fn(ReloadRequest, Who) -> Later<Reloaded> + Send + Sync>;
/// Passes everything on to another process; returns once that one serves, or why it does not.
pub type Upgrade = Box<dyn Fn(UpgradeRequest, Who) -> Later<Upgraded> + Send + Sync>;
/// Begins to stop; `true`: without waiting for open requests.
pub type Stop = Box<dyn Fn(bool, Who) -> Stopping + Send + Sync>;
/// Makes a plan of what was asked for at a moment; the error is the text of all its problems.
pub type MakePlan =
    Box<dyn Fn(PlanRequest, Timestamp) -> Result<(Arc<Plan>, Vec<String>), String> + Send + Sync>;
/// What could be better about a launch, as far as the configuration knows, or all that it lacks for one.
pub type Admit = Box<dyn Fn(&Launch, Timestamp) -> Result<Vec<String>, Vec<String>> + Send + Sync>;
/// Whether a user may speak for a role in launches; the error says who may.
pub type Speaks = Box<dyn Fn(&str, Option<&str>) -> Result<(), String> + Send + Sync>;
/// Makes the demo's green misbehave.
pub type Break = Box<dyn Fn(BreakRequest) -> Result<(), Problem> + Send + Sync>;

/// What the server needs from the rest of the process.
pub struct Ties {
    /// The control plane.
    pub control: Control,
    /// For testers' cookies.
    pub keys: Arc<ArcSwap<Keys>>,
    /// The host's name.
    pub host: String,
    /// When the process started.
    pub started: Timestamp,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// Those of them where they speak TLS.
    pub secure: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Whether the process is on its way out.
    pub draining: Box<dyn Fn() -> bool + Send + Sync>,
    /// Settings of the file that wait for a restart.
    pub drift: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Reads the configuration file again.
    pub reload: Reload,
    /// Begins to stop.
    pub stop: Stop,
    /// Passes everything on to another process.
    pub upgrade: Upgrade,
    /// Makes plans for rollouts, from schedules, files and what the configuration names.
    pub plan: MakePlan,
    /// Whether the configuration has what a launch needs.
    pub admit: Admit,
    /// Who may sign and vote.
    pub speaks: Speaks,
    /// In the demo: makes green misbehave.
    pub breaks: Option<Break>,
}

/// Who is at the other end of the socket.
#[derive(Clone, Debug)]
pub struct Peer {
    pub(super) actor: String,
    /// The name of the user, if it has one.
    pub(super) user: Option<Arc<str>>,
    /// Whether it could do whatever this process can, anyway.
    is_owner: bool,
}

impl Peer {
    /// As the kernel says.
    pub fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred();
        let is_owner = credentials
            .as_ref()
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw());
        let user = credentials.as_ref().ok().and_then(|peer| user_name(peer.uid()));
        let actor = match (credentials, &user) {
            (Ok(peer), Some(name)) => format!("uid {} ({name})", peer.uid()),
            (Ok(peer), None) => format!("uid {}", peer.uid()),
            (Err(_), _) => "unknown".to_owned(),
        };
        Self { actor, user: user.map(Into::into), is_owner }
    }

    pub(super) fn who(&self, claimed: Option<String>, reason: Option<String>) -> Result<Who, Problem> {
        Ok(Who { actor: self.actor.clone(), claimed: text("as", claimed)?, reason: text("reason", reason)? })
    }
}

fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

pub(super) type Tied = State<Arc<Ties>>;
pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// All of `/v1`.
pub fn router(ties: Arc<Ties>) -> Router {
    Router::new()
        .route("/v1/status", get(show_status))
        .route("/v1/shift", post(shift))
        .route("/v1/mirror", post(mirror))
        .route("/v1/kill", post(kill))
        .route("/v1/arm", post(arm))
        .route("/v1/services/{service}", get(show_service))
        .route("/v1/services/{service}/deploy", post(deploy))
        .route("/v1/services/{service}/explain", get(explain))
        .route("/v1/services/{service}/override", post(tester_cookie))
        .merge(endpoints::routes())
        .merge(rollouts::routes())
        .merge(launches::routes())
        .merge(probes::routes())
        .route("/v1/wait", get(wait))
        .route("/v1/events", get(events))
        .route("/v1/reload", post(reload))
        .route("/v1/upgrade", post(upgrade))
        .route("/v1/demo/break", post(break_green))
        .fallback(|| async { problem(ProblemKind::NotFound, "there is nothing here; see /v1/status") })
        .method_not_allowed_fallback(|| async {
            problem(ProblemKind::MethodNotAllowed, "this path takes another method")
        })
        .layer(axum::middleware::from_fn_with_state(ties.clone(), refuse_while_closed))
        // However it stands, it can be stopped.
        .route("/v1/stop", post(stop))
        .layer(Extension(Places::default()))
        .layer(axum::middleware::map_response(count))
        .with_state(ties)
}

/// Nothing is changed while another process takes over, and nothing is lost by that: whoever asks is told to ask again.
async fn refuse_while_closed(
    State(ties): Tied,
    request: Request,
    next: axum::middleware::Next,
) -> Result<Response, Response> {
    if *request.method() != axum::http::Method::GET
        && let Some(why) = ties.control.closed()
    {
        let refusal = problem(ProblemKind::Unavailable, format!("nothing changed: {why}"));
        return Err(([(header::RETRY_AFTER, "1")], refusal).into_response());
    }
    Ok(next.run(request).await)
}

async fn count(response: Response) -> Response {
    let code = response.status().as_str().to_owned();
    metrics::counter!(names::ADMIN_REQUESTS.name, "code" => code).increment(1);
    response
}

async fn show_status(State(ties): Tied, Extension(places): Extension<Places>) -> Result<Response, Problem> {
    places.status(move || serde_json::to_vec(&whole_status(&ties))).await
}

fn whole_status(ties: &Ties) -> Status {
    let control = &ties.control;
    let (now, wall) = (clock::now(), clock::wall());
    let (table, desired) = (control.table(), control.desired());
    let services =
        table.services().iter().map(|service| status::service(control, &desired, service, now, wall));
    Status {
        host: ties.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: ties.started,
        generation: table.generation(),
        saved: control.is_saved(),
        draining: (ties.draining)(),
        listen: ties.listen.clone(),
        secure: (ties.secure)(),
        services: services.collect(),
        drift: (ties.drift)(),
        predecessors: control.predecessors().all().into_iter().map(predecessor).collect(),
    }
}

fn predecessor(known: control::Predecessor) -> Predecessor {
    let control::Predecessor { pid, version, since, holds, .. } = known;
    Predecessor { pid, version, since, tunnels: holds.tunnels, requests: holds.requests }
}

async fn show_service(State(ties): Tied, Path(name): Path<String>) -> Answer<ServiceStatus> {
    let service = find(&ties, &name)?;
    let desired = ties.control.desired();
    Ok(Json(status::service(&ties.control, &desired, &service, clock::now(), clock::wall())))
}

async fn shift(State(ties): Tied, Extension(peer): Extension<Peer>, request: Request) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let ShiftRequest { services, take_over, reason, claimed } = json(&asked.body)?;
    let change = Change::Shift { weights: shares(services)?, if_generation: asked.if_match()?, take_over };
    asked.commit(&ties, &change, &peer.who(claimed, reason)?).await
}

async fn mirror(State(ties): Tied, Extension(peer): Extension<Peer>, request: Request) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let MirrorRequest { services, reason, claimed } = json(&asked.body)?;
    let change = Change::Mirror { shares: shares(services)?, if_generation: asked.if_match()? };
    asked.commit(&ties, &change, &peer.who(claimed, reason)?).await
}

fn shares(written: BTreeMap<String, String>) -> Result<BTreeMap<Arc<str>, Weight>, Problem> {
    let read = written.into_iter().map(|(name, share)| match share.parse::<Weight>() {
        Ok(weight) => Ok((name.into(), weight)),
        Err(error) => Err(problem(ProblemKind::Invalid, format!("{name}: {error}"))),
    });
    read.collect()
}

async fn kill(State(ties): Tied, Extension(peer): Extension<Peer>, request: Request) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let KillRequest { services, all, reason, claimed } = json(&asked.body)?;
    let change = Change::Kill(selection(services, all)?);
    asked.commit(&ties, &change, &peer.who(claimed, reason)?).await
}

async fn arm(State(ties): Tied, Extension(peer): Extension<Peer>, request: Request) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let ArmRequest { services, all, note, claimed } = json(&asked.body)?;
    if note.trim().is_empty() {
        return Err(problem(ProblemKind::Invalid, "arm needs a note: what was found out?"));
    }
    let change = Change::Arm(selection(services, all)?);
    asked.commit(&ties, &change, &peer.who(claimed, Some(note))?).await
}

async fn deploy(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let DeployRequest { endpoints, version, reason, claimed } = json(&asked.body)?;
    let endpoints = endpoints::specs(&name, &endpoints, 1)?;
    let candidate = find(&ties, &name)?.split.candidate;
    endpoints::can_be_reached(&ties, &name, candidate, &endpoints).await?;
    let version = text("version", version)?.map(Into::into);
    let change = Change::Deploy { service: name.into(), deployed: Deployed { endpoints, version } };
    asked.commit(&ties, &change, &peer.who(claimed, reason)?).await
}

#[derive(Deserialize)]
struct ExplainQuery {
    user: Option<String>,
    visitor: Option<String>,
}

async fn explain(
    State(ties): Tied,
    Path(name): Path<String>,
    query: Result<Query<ExplainQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer<Explanation> {
    let Query(ExplainQuery { user, visitor }) = query.map_err(|error| invalid_query(&error))?;
    let service = find(&ties, &name)?;
    let split = &service.split;
    let by_key = user.is_some();
    let (subject, bucket, visitor) = match (user, visitor) {
        (Some(user), None) => {
            let bucket = Bucket::of(user.as_bytes(), split.salt.as_bytes());
            (format!("user {user}"), bucket, Visitor { user: Some(bucket), ..Visitor::default() })
        }
        (None, Some(id)) => {
            let id = visitor_id(&id)?;
            let bucket = id.bucket(&split.salt);
            (format!("visitor {id}"), bucket, Visitor { cookie: Some(bucket), ..Visitor::default() })
        }
        _ => return Err(problem(ProblemKind::Invalid, "name a user key or a visitor id, one of the two")),
    };
    // What a draw would say does not matter: a sentence says so below.
    let assignment = assign(split, &visitor, || bucket);
    let role = split.role(assignment.variant);
    let (rule, variant, at) = (assignment.reason, assignment.variant, split.weight);
    let is_drawn = rule == Reason::Draw;
    if is_drawn && by_key && split.by == By::Cookie {
        let error = format!("{name} recognises visitors by cookie; ask with --visitor ID");
        return Err(problem(ProblemKind::Conflict, error));
    }
    let candidate = split.candidate;
    let sentence = match rule {
        Reason::Killed => format!("{name} is killed, so {subject} gets {variant}"),
        Reason::Weight if at != Weight::ZERO && at != Weight::FULL => {
            format!("{name} sends everybody without a user key to stable, so {subject} gets {variant}")
        }
        Reason::Weight => format!("{candidate} is at {at}, so {subject} gets {variant}"),
        Reason::Draw => {
            format!("{name} draws each request anew, so {subject} gets {candidate} with a chance of {at}")
        }
        _ => {
            let is = if bucket.index() < at.millipercent() { "below" } else { "not below" };
            let (bucket, weight) = (bucket.index(), at.millipercent());
            format!(
                "bucket {bucket} of {subject} is {is} {weight} ({at}), so {subject} gets {variant} ({role})"
            )
        }
    };
    Ok(Json(Explanation {
        service: name,
        subject,
        bucket: bucket.index(),
        salt: split.salt.to_string(),
        weight: at,
        rule: rule.as_str().to_owned(),
        variant: (!is_drawn).then_some(variant),
        role: (!is_drawn).then_some(role),
        sentence,
    }))
}

fn visitor_id(text: &str) -> Result<VisitorId, Problem> {
    // Digits only: `from_str_radix` takes a sign, too.
    let is_id = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = is_id.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    id.map(VisitorId)
        .ok_or_else(|| problem(ProblemKind::Invalid, format!("{text:?} is no visitor id: 16 hex digits")))
}

async fn tester_cookie(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<OverrideAnswer> {
    let asked = Asked::read(request).await?;
    let OverrideRequest { variant, seconds, claimed } = json(&asked.body)?;
    let service = find(&ties, &name)?;
    if service.settings.tester.is_none() {
        let error =
            format!("{name} takes no testers; give it an `override` with a secret in the configuration");
        return Err(problem(ProblemKind::Conflict, error));
    }
    if !(1..=OVERRIDE_SECONDS_MAX).contains(&seconds) {
        return Err(problem(ProblemKind::Invalid, "a tester's cookie is for 1 s to 7 days"));
    }
    let who = peer.who(claimed, None)?;
    let keys = ties.keys.load();
    let expires = Timestamp::from_millis(clock::wall().as_millis() + seconds * 1000);
    let cookie = OverrideCookie { variant, expires };
    let name_on_http = format!("{}{name}", OverrideCookie::NAME_PREFIX);
    let name_on_https = format!("__Host-{name_on_http}");
    ties.control.record(Event {
        time: clock::wall(),
        what: "override".to_owned(),
        generation: ties.control.generation(),
        actor: who.actor,
        claimed: who.claimed,
        service: Some(name),
        to: Some(format!("a tester's cookie for {variant} until {expires}")),
        ..Event::default()
    });
    Ok(Json(OverrideAnswer {
        value: cookie.seal(&keys, &name_on_http),
        https_value: cookie.seal(&keys, &name_on_https),
        name: name_on_http,
        https_name: name_on_https,
        expires,
    }))
}

async fn wait(
    State(ties): Tied,
    Extension(places): Extension<Places>,
    query: Result<Query<WaitQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(WaitQuery { service, generation, variant, endpoint, timeout_ms }) =
        query.map_err(|error| invalid_query(&error))?;
    let at = match (variant, endpoint) {
        (None, None) => None,
        (Some(variant), Some(url)) => match url.parse::<EndpointUrl>() {
            Ok(url) => Some((variant, url)),
            Err(error) => return Err(problem(ProblemKind::Invalid, error.to_string())),
        },
        _ => return Err(problem(ProblemKind::Invalid, "an endpoint is named with its variant")),
    };
    let slot = find(&ties, &service)?.slot;
    let _place = places.wait()?;
    let patience = timeout_ms.map_or(WAIT_DEFAULT, Duration::from_millis).min(WAIT_MAX);
    let drained = async {
        let is_done = || match &at {
            None => ties.control.is_drained(slot, generation),
            Some((variant, url)) => ties.control.under_way(&service, *variant, url, generation).is_none(),
        };
        while !is_done() {
            // Workers that have ended never see a newer generation.
            if (ties.draining)() {
                return Err(problem(ProblemKind::Unavailable, "tidegate is stopping"));
            }
            tokio::time::sleep(WAIT_STEP).await;
        }
        Ok(StatusCode::NO_CONTENT)
    };
    match tokio::time::timeout(patience, drained).await {
        Ok(done) => done,
        Err(_) => {
            let millis = patience.as_millis();
            let error = match &at {
                None => format!(
                    "{service}: after {millis} ms there are still open requests older than generation {generation}"
                ),
                Some((variant, url)) => {
                    let left = ties.control.under_way(&service, *variant, url, generation).unwrap_or(0);
                    let what = match left {
                        0 => "not all threads know yet that it is out".to_owned(),
                        1 => "1 request or tunnel is still under way there".to_owned(),
                        left => format!("{left} requests and tunnels are still under way there"),
                    };
                    format!("{service}: {variant} {url}: {what} after {millis} ms; it gets nothing new")
                }
            };
            Err(problem(ProblemKind::TimedOut, error))
        }
    }
}

#[derive(Deserialize)]
struct EventsQuery {
    last: Option<usize>,
    #[serde(default)]
    follow: bool,
}

async fn events(
    State(ties): Tied,
    Extension(places): Extension<Places>,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(EventsQuery { last, follow }) = query.map_err(|error| invalid_query(&error))?;
    if follow {
        let place = places.follow()?;
        let entries = BroadcastStream::new(ties.control.events().follow());
        let lines = entries.map(move |entry| {
            // Free again when the stream is dropped.
            let _ = &place;
            let line = match entry {
                Ok(entry) => format!("data: {}\n\n", serde_json::to_string(&entry).unwrap_or_default()),
                Err(lagged) => format!(": {lagged}\n\n"),
            };
            Ok::<_, Infallible>(line)
        });
        // The first bytes say that the stream is open.
        let opening = tokio_stream::once(Ok(": events\n\n".to_owned()));
        let body = Body::from_stream(opening.chain(lines));
        return Ok(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response());
    }
    let last = last.unwrap_or(EVENTS_DEFAULT);
    if last > EVENTS_MAX {
        return Err(problem(ProblemKind::Invalid, format!("at most {EVENTS_MAX} events at once")));
    }
    let read = tokio::task::spawn_blocking(move || ties.control.events().last(last)).await;
    match read {
        Ok(Ok(entries)) => Ok(Json(entries).into_response()),
        Ok(Err(error)) => {
            Err(problem(ProblemKind::Internal, format!("the audit log cannot be read: {error}")))
        }
        Err(_) => Err(problem(ProblemKind::Internal, "reading the audit log failed")),
    }
}

async fn reload(State(ties): Tied, Extension(peer): Extension<Peer>, request: Request) -> Answer<Reloaded> {
    let asked = Asked::read(request).await?;
    let request: ReloadRequest = json(&asked.body)?;
    let who = peer.who(request.claimed.clone(), None)?;
    (ties.reload)(request, who).await.map(Json)
}

async fn stop(State(ties): Tied, Extension(peer): Extension<Peer>, request: Request) -> Answer<Stopping> {
    let asked = Asked::read(request).await?;
    let request: StopRequest = json(&asked.body)?;
    let who = peer.who(request.claimed, None)?;
    Ok(Json((ties.stop)(request.now, who)))
}

async fn upgrade(State(ties): Tied, Extension(peer): Extension<Peer>, request: Request) -> Answer<Upgraded> {
    let asked = Asked::read(request).await?;
    let request: UpgradeRequest = json(&asked.body)?;
    if request.binary.is_some() && !peer.is_owner {
        let error = "only root and the user that runs tidegate may say which binary is started";
        return Err(problem(ProblemKind::Invalid, error));
    }
    if request.timeout_ms.is_some_and(|millis| !(1..=UPGRADE_MS_MAX).contains(&millis)) {
        return Err(problem(ProblemKind::Invalid, "an upgrade may take 1 ms to 10 min to become ready"));
    }
    let who = peer.who(request.claimed.clone(), request.reason.clone())?;
    (ties.upgrade)(request, who).await.map(Json)
}

async fn break_green(State(ties): Tied, request: Request) -> Result<StatusCode, Problem> {
    let asked = Asked::read(request).await?;
    match &ties.breaks {
        Some(breaks) => breaks(json(&asked.body)?).map(|()| StatusCode::NO_CONTENT),
        None => {
            Err(problem(ProblemKind::NotFound, "only the demo can be broken on purpose; this is not a demo"))
        }
    }
}

/// A request for a change, read to its end.
pub(super) struct Asked {
    headers: HeaderMap,
    path: String,
    pub(super) body: axum::body::Bytes,
    pub(super) read_at: Instant,
}

impl Asked {
    pub(super) async fn read(request: Request) -> Result<Self, Problem> {
        let (headers, path) = (request.headers().clone(), request.uri().path().to_owned());
        let body = body(request).await?;
        Ok(Self { headers, path, body, read_at: clock::now() })
    }

    pub(super) fn if_match(&self) -> Result<Option<u64>, Problem> {
        let Some(value) = self.headers.get(header::IF_MATCH) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
        text.parse().map(Some).map_err(|_| {
            problem(ProblemKind::Invalid, "If-Match takes one generation number, as in If-Match: 41")
        })
    }

    pub(super) fn key(&self) -> Result<Option<IdempotencyKey>, Problem> {
        let Some(value) = self.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let key = value.to_str().unwrap_or_default();
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let error = format!("an idempotency key has 1 to {KEY_BYTES_MAX} visible characters");
            return Err(problem(ProblemKind::Invalid, error));
        }
        let digest =
            Sha256::new().chain_update(&self.path).chain_update(b"\n").chain_update(&self.body).finalize();
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(IdempotencyKey { key: key.to_owned(), digest }))
    }

    pub(super) async fn commit(&self, ties: &Ties, change: &Change, who: &Who) -> Answer<Changed> {
        let key = self.key()?;
        let committed = ties.control.commit(change, who, key.as_ref(), self.read_at).await?;
        Ok(Json(changed(ties, change, committed)))
    }
}

fn changed(ties: &Ties, change: &Change, committed: Committed) -> Changed {
    let Committed { generation, saved, unconfirmed, live, changes } = committed;
    Changed {
        host: ties.host.clone(),
        generation,
        saved,
        unconfirmed,
        live_us: u64::try_from(live.as_micros()).unwrap_or(u64::MAX),
        undo: undo(change, &changes),
        changes: changes
            .into_iter()
            .map(|delta| {
                let rollout = rollouts::change(&ties.control, change, &delta.service);
                ServiceChange { rollout, ..service_change(delta) }
            })
            .collect(),
    }
}

/// The command that takes a change back, if one does.
fn undo(change: &Change, changes: &[Delta]) -> Option<String> {
    let changed: Vec<&Delta> = changes.iter().filter(|delta| delta.changed).collect();
    let names = || changed.iter().map(|delta| &*delta.service).collect::<Vec<_>>().join(" ");
    match change {
        _ if changed.is_empty() => None,
        Change::Shift { .. } => {
            let back: Vec<_> =
                changed.iter().map(|delta| format!("{}={}", delta.service, delta.from)).collect();
            Some(format!("tidegate shift {}", back.join(" ")))
        }
        Change::Mirror { .. } => {
            let back: Vec<_> =
                changed.iter().map(|delta| format!("{}={}", delta.service, delta.mirror_before)).collect();
            Some(format!("tidegate mirror {}", back.join(" ")))
        }
        Change::Kill(_) => Some(format!("tidegate arm {} --note \"…\", then shift", names())),
        Change::Arm(_) => Some(format!("tidegate kill {}", names())),
        Change::Start { .. } => Some(format!("tidegate rollback {}", names())),
        Change::Rollout { act: Act::Verb(verb), .. } => match verb {
            Verb::Pause => Some(format!("tidegate rollout resume {}", names())),
            Verb::Resume => Some(format!("tidegate rollout pause {}", names())),
            Verb::Advance | Verb::Promote => Some(format!("tidegate rollback {}", names())),
            Verb::Rollback => None,
        },
        Change::Freeze { on, .. } => {
            Some(format!("tidegate freeze {} {}", if *on { "off" } else { "on" }, names()))
        }
        Change::Endpoints(_) => changed.first().and_then(|delta| {
            delta.endpoints.as_ref().and_then(|told| endpoints::undo(&delta.service, told))
        }),
        Change::Deploy { .. }
        | Change::Rollout { act: Act::Step { .. }, .. }
        | Change::Steps(_)
        | Change::Trip { .. } => None,
    }
}

fn service_change(delta: Delta) -> ServiceChange {
    let (endpoints, version) = match delta.deployed {
        Some(deployed) => {
            let urls = deployed.endpoints.iter().map(|endpoint| endpoint.url.to_string());
            (urls.collect(), deployed.version.map(|version| version.to_string()))
        }
        None => (Vec::new(), None),
    };
    ServiceChange {
        service: delta.service.to_string(),
        candidate: delta.candidate,
        from: delta.from,
        to: delta.to,
        mirror_from: delta.mirror_before,
        mirror: delta.mirror,
        lock: delta.lock,
        changed: delta.changed,
        endpoints,
        version,
        endpoints_changed: delta.endpoints.map(endpoints::told),
        rollout: None,
    }
}

pub(super) fn selection(services: Vec<String>, all: bool) -> Result<Selection, Problem> {
    match (services.is_empty(), all) {
        (true, true) => Ok(Selection::All),
        (false, false) => {
            // Once each: whoever names a service twice means it once.
            let mut seen = BTreeSet::new();
            let names = services.into_iter().filter(|name| seen.insert(name.clone()));
            Ok(Selection::Named(names.map(Into::into).collect()))
        }
        (true, false) => Err(problem(ProblemKind::Invalid, "name a service, or say all")),
        (false, true) => Err(problem(ProblemKind::Invalid, "either name services or say all, not both")),
    }
}

pub(super) fn find(ties: &Ties, name: &str) -> Result<Arc<Service>, Problem> {
    let table = ties.control.table();
    table.services().iter().find(|service| &*service.settings.name == name).cloned().ok_or_else(|| {
        let names = table.services().iter().map(|service| service.settings.name.to_string());
        problem(ProblemKind::NotFound, unknown_service(name, names))
    })
}

/// A text that goes into the audit log: not too long, without control characters.
pub(super) fn text(what: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let Some(text) = text else { return Ok(None) };
    if text.len() > TEXT_BYTES_MAX {
        let error = format!("{what} is longer than {TEXT_BYTES_MAX} bytes");
        return Err(problem(ProblemKind::Invalid, error));
    }
    Ok(Some(text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()))
}

pub(super) fn invalid_query(error: &axum::extract::rejection::QueryRejection) -> Problem {
    problem(ProblemKind::Invalid, format!("the query is not what was expected: {}", error.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_named_twice_is_meant_once() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let chosen = selection(names(&["shop", "cart", "shop"]), false).unwrap();
        let Selection::Named(chosen) = chosen else { panic!("{chosen:?}") };
        assert_eq!(chosen.iter().map(|name| &**name).collect::<Vec<_>>(), ["shop", "cart"]);
        assert!(selection(Vec::new(), false).is_err() && selection(names(&["shop"]), true).is_err());
    }

    #[test]
    fn a_visitor_id_has_16_hex_digits() {
        assert_eq!(visitor_id("00000000000000aB").unwrap(), VisitorId(0xab));
        for wrong in
            ["", "ab", "+0000000000000ab", "00000000000000abc", "000000000000000g", "ü00000000000000"]
        {
            assert!(visitor_id(wrong).is_err(), "{wrong:?}");
        }
    }
}
