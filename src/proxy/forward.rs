//! A request on its way to an endpoint, until the response head is there.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};

use super::body::{RequestBody, RequestBodyError};
use super::error::Refusal;
use super::exchange::{Exchange, Lapse, Waiting};
use super::handler::Passage;
use super::retry::{Attempt, Attempts, Next, is_idempotent};
use super::worker::{ServiceView, Worker};
use crate::clock;
use crate::routing::WhenUnhealthy;
use crate::telemetry::UpstreamError;
use crate::traffic::{Role, Variant};
use crate::upstream::{
    ConnectError, Connection, EndpointPool, Lease, ResponseBody, SendError, SendErrorKind, Sent, pick,
};

/// An endpoint's answer, its body still to come.
pub(super) struct Answered {
    pub(super) response: Response<ResponseBody<RequestBody>>,
    pub(super) lease: Lease<RequestBody>,
    pub(super) ttfb: Duration,
}

/// Sends a request to an endpoint of its variant, again if that is safe.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    passage: &Passage,
    mut view: Rc<ServiceView>,
    request: Request<RequestBody>,
) -> Result<Answered, Refusal> {
    let exchange = passage.ongoing.exchange();
    let (mut head, mut body) = request.into_parts();
    let is_repeatable = body.is_empty() && is_idempotent(&head.method);
    let mut attempts = Attempts::default();
    let mut tried: Vec<u32> = Vec::new();
    let mut on_fresh = false;
    let mut error;

    loop {
        let Some(pool) = choose(worker, &view, exchange, &tried, &attempts) else {
            exchange.failed(UpstreamError::NoHealthyEndpoint, attempts.is_first());
            return Err(Refusal::NoEndpoint);
        };
        let endpoint = pool.endpoint().clone();
        passage.at(&endpoint);
        let lease = pool.lease();
        let idle = if on_fresh { None } else { lease.idle_connection(clock::now()) };
        let is_reused = idle.is_some();
        let mut attempt = Attempt { is_reused, is_unsent: true, is_repeatable };

        let connected = match idle {
            Some(connection) => Ok(connection),
            None => connect(worker, &view, exchange, &pool).await,
        };
        match connected {
            Err(Unconnected::Ours) => {
                // Neither charged to the endpoint nor tried again: it would be no better there.
                worker.tally.shed();
                return Err(Refusal::Full);
            }
            Err(Unconnected::Theirs(failed)) => error = failed,
            Ok(connection) => {
                name_host(&mut head.headers, endpoint.url());
                match send(exchange, &passage.fault, connection, &head, body).await {
                    Outcome::Answered(sent) if !passage.is_answered_by(&sent) => {
                        lease.attempted(true);
                        exchange.failed(UpstreamError::Protocol, attempts.is_first());
                        return Err(Refusal::BadGateway);
                    }
                    Outcome::Answered(sent) => {
                        let ttfb = clock::now().saturating_duration_since(sent.written);
                        lease.attempted(sent.response.status().is_server_error());
                        if sent.informational > 0 {
                            exchange.tally.informed(exchange.serving.get(), sent.informational);
                        }
                        return Ok(Answered { response: sent.response, lease, ttfb });
                    }
                    Outcome::Refused(refusal, failed) => {
                        if let Some(failed) = failed {
                            lease.attempted(true);
                            exchange.failed(failed, attempts.is_first());
                        }
                        return Err(refusal);
                    }
                    Outcome::Unsent(back, was_refused) => {
                        body = back;
                        // What is alive and turns requests away is not stale.
                        attempt.is_reused &= !was_refused;
                        error = UpstreamError::Reset;
                    }
                    Outcome::Lost(failed, back) => {
                        error = failed;
                        attempt.is_unsent = false;
                        match back {
                            Some(back) if is_reused && is_repeatable => body = back,
                            Some(_) | None => {
                                lease.attempted(true);
                                exchange.failed(error, attempts.is_first());
                                return Err(Refusal::BadGateway);
                            }
                        }
                    }
                }
            }
        }

        let is_stale = attempt.is_unsent && attempt.is_reused;
        let is_first = attempts.is_first();
        let next = attempts.after(attempt);
        if !is_stale {
            lease.attempted(true);
            exchange.failed(error, is_first);
        }
        match next {
            Next::GiveUp => return Err(refusal_for(error)),
            Next::Anew { on_fresh: fresh } => on_fresh = fresh,
            Next::Elsewhere => {
                tried.push(endpoint.id());
                on_fresh = false;
            }
        }
        if !is_stale {
            exchange.tally.retried(exchange.serving.get());
            passage.retried();
        }
        drop(lease);
        view = look_again(worker, exchange, view, &mut tried);
    }
}

/// An endpoint of the variant that has not been tried; of stable, if the candidate has none and spills.
fn choose(
    worker: &Worker,
    view: &ServiceView,
    exchange: &Exchange,
    tried: &[u32],
    attempts: &Attempts,
) -> Option<Rc<EndpointPool<RequestBody>>> {
    let serving = exchange.serving.get();
    if let Some(pool) = among(worker, view, serving, tried) {
        return Some(pool);
    }
    let service = &view.service;
    if !view.pools[serving].is_empty() {
        // All were tried. Once more at any of them is better than giving up with attempts left.
        return among(worker, view, serving, &[]);
    }
    if service.split.role(serving) == Role::Stable
        || service.settings.when_unhealthy[serving] != WhenUnhealthy::Spill
    {
        return None;
    }
    let stable = service.split.stable();
    let pool = among(worker, view, stable, tried)?;
    exchange.failed(UpstreamError::NoHealthyEndpoint, attempts.is_first());
    exchange.tally.spilled(serving);
    exchange.serving.set(stable);
    Some(pool)
}

fn among(
    worker: &Worker,
    view: &ServiceView,
    variant: Variant,
    tried: &[u32],
) -> Option<Rc<EndpointPool<RequestBody>>> {
    let pools = &view.pools[variant];
    let load = |index: usize| {
        let pool = &pools[index];
        (!tried.contains(&pool.endpoint().id())).then(|| pool.load())
    };
    let index = pick(pools.len(), load, &mut worker.random.borrow_mut())?;
    pools.get(index).cloned()
}

/// Whose fault it is that there is no connection.
enum Unconnected {
    /// This process, or its machine, has no room for one more.
    Ours,
    Theirs(UpstreamError),
}

async fn connect(
    worker: &Worker,
    view: &ServiceView,
    exchange: &Exchange,
    pool: &EndpointPool<RequestBody>,
) -> Result<Connection<RequestBody>, Unconnected> {
    let slot = worker.slot().ok_or(Unconnected::Ours)?;
    let began = clock::now();
    let limit = view.service.settings.timeouts.connect;
    match pool.connect(limit, slot).await {
        Ok(connection) => {
            let took = clock::now().saturating_duration_since(began);
            exchange.tally.connect(exchange.serving.get(), took);
            Ok(connection)
        }
        Err(error) if error.is_local() => Err(Unconnected::Ours),
        Err(error) => {
            if let Some(note) = &exchange.note {
                note.unconnected.set(note.unconnected.get().or(Some(error.word())));
            }
            Err(Unconnected::Theirs(match error {
                ConnectError::TimedOut { .. } => UpstreamError::ConnectTimeout,
                _ => UpstreamError::Connect,
            }))
        }
    }
}

enum Outcome {
    Answered(Sent<RequestBody>),
    /// It ends here, with the endpoint's part in it, if it has one.
    Refused(Refusal, Option<UpstreamError>),
    /// Nothing was sent, or nothing of it was looked at; whether the endpoint said so itself.
    Unsent(RequestBody, bool),
    /// It may have been processed. Given back is what an endpoint has said nothing to.
    Lost(UpstreamError, Option<RequestBody>),
}

async fn send(
    exchange: &Exchange,
    fault: &std::cell::Cell<Option<RequestBodyError>>,
    connection: Connection<RequestBody>,
    head: &Parts,
    body: RequestBody,
) -> Outcome {
    exchange.waiting.set(Waiting::FirstByte(clock::now()));
    let mut sending = pin!(connection.send(head, body));
    let outcome = poll_fn(|cx| {
        // The endpoint may have answered in the same moment; its answer is worth more.
        if let Poll::Ready(result) = sending.as_mut().poll(cx) {
            return Poll::Ready(match result {
                Ok(sent) => Outcome::Answered(sent),
                Err(SendError { is_unsent: true, body: Some(body), kind }) => {
                    Outcome::Unsent(body, kind == SendErrorKind::Refused)
                }
                Err(SendError { kind, body, .. }) => match kind {
                    SendErrorKind::Reset | SendErrorKind::Refused => {
                        Outcome::Lost(UpstreamError::Reset, body)
                    }
                    SendErrorKind::Protocol(_) => Outcome::Lost(UpstreamError::Protocol, None),
                    SendErrorKind::RequestBody => Outcome::Refused(body_refusal(fault.get()), None),
                },
            });
        }
        if fault.get().is_some() {
            return Poll::Ready(Outcome::Refused(body_refusal(fault.get()), None));
        }
        match exchange.lapse() {
            None => Poll::Pending,
            Some(Lapse::Client) => Poll::Ready(Outcome::Refused(Refusal::SlowBody, None)),
            // Only a tunnel can be idle, and this is none yet.
            Some(Lapse::Cut | Lapse::Idle) => Poll::Ready(Outcome::Refused(Refusal::BadGateway, None)),
            Some(Lapse::FirstByte | Lapse::Endpoint) => {
                Poll::Ready(Outcome::Refused(Refusal::Late, Some(UpstreamError::FirstByteTimeout)))
            }
        }
    })
    .await;
    exchange.waiting.set(Waiting::No);
    outcome
}

fn body_refusal(fault: Option<RequestBodyError>) -> Refusal {
    match fault {
        Some(RequestBodyError::TooLarge) => Refusal::BodyTooLarge,
        Some(RequestBodyError::Broken) | None => Refusal::BrokenBody,
    }
}

fn refusal_for(error: UpstreamError) -> Refusal {
    match error {
        UpstreamError::ConnectTimeout | UpstreamError::FirstByteTimeout | UpstreamError::BodyTimeout => {
            Refusal::Late
        }
        UpstreamError::NoHealthyEndpoint => Refusal::NoEndpoint,
        UpstreamError::Connect
        | UpstreamError::Reset
        | UpstreamError::Protocol
        | UpstreamError::Truncated => Refusal::BadGateway,
    }
}

/// Before another attempt: a candidate that was killed meanwhile gets nothing more.
fn look_again(
    worker: &Rc<Worker>,
    exchange: &Exchange,
    view: Rc<ServiceView>,
    tried: &mut Vec<u32>,
) -> Rc<ServiceView> {
    let Some(now) = worker.view_of(exchange.slot) else { return view };
    let split = &now.service.split;
    if split.is_killed() && exchange.serving.get() == split.candidate {
        exchange.serving.set(split.stable());
        tried.clear();
    }
    now
}

/// HTTP/1.0 clients may leave the host out; HTTP/1.1 needs one.
fn name_host(headers: &mut HeaderMap, url: &crate::upstream::EndpointUrl) {
    if !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(&url.authority())
    {
        headers.insert(HOST, host);
    }
}
