//! A request on its way to an endpoint, until the response head is there.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;

use super::body::{RequestBody, RequestBodyError};
use super::error::Refusal;
use super::exchange::{Exchange, Lapse, Waiting};
use super::grpc::GrpcStatus;
use super::handler::Passage;
use super::place::{self, look_again};
use super::replay::Supply;
use super::retry::{self, Attempts, Trouble, is_repeatable};
use super::worker::{ServiceView, Worker};
use crate::clock;
use crate::routing::Retries;
use crate::telemetry::{Limit, ServiceLimit, UpstreamError};
use crate::upstream::{
    ConnectError, Connection, EndpointPool, EndpointUrl, Lease, ResponseBody, SendError, SendErrorKind, Sent,
};

/// So much of an answer that nobody gets is read to keep its connection, and for so long.
const DISCARDED_BYTES_MAX: u64 = 64 * 1024;
const DISCARD_PATIENCE: Duration = Duration::from_secs(1);

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
    let begun = view.clone();
    let retries = begun.service.settings.retries.as_ref();
    view.budgets[exchange.serving.get()].pay_in();
    let (mut head, body) = request.into_parts();
    let is_nameless = !head.headers.contains_key(HOST);
    let is_repeatable = retries.is_some_and(|retries| is_repeatable(&head.method, retries.methods));
    let mut supply = Supply::new(body, kept_for(retries, is_repeatable, exchange.is_grpc), &worker.kept);
    let mut attempts = Attempts::default();
    let mut held = None;
    let mut is_wary = false;

    loop {
        let lease = match held.take() {
            Some(lease) => lease,
            None => place::take(worker, exchange, &mut view, &mut attempts).await?,
        };
        let endpoint = lease.endpoint().clone();
        passage.at(&endpoint);
        if is_nameless {
            name_host(&mut head.headers, endpoint.url());
        }
        // Where a connection broke, others that were kept may have broken, too.
        let may_be_kept = !(is_wary && attempts.has_tried(endpoint.id()));
        let is_first = attempts.is_first();
        let request = |supply: &Supply| retry::Request { is_repeatable, is_whole: supply.is_whole() };

        let (trouble, error, answer) = match connect(worker, &view, exchange, &lease, may_be_kept).await {
            Err(Unconnected::Ours) => {
                // Neither charged to the endpoint nor tried again: it would be no better there.
                worker.tally.shed();
                worker.tally.limit_hit(Limit::EndpointConnections);
                return Err(Refusal::Full);
            }
            Err(Unconnected::Lapsed(lapse)) => {
                if let Some(error) = lapse.error() {
                    lease.attempted(true);
                    exchange.failed(error, is_first);
                }
                return Err(lapse.refusal());
            }
            Err(Unconnected::Theirs(error)) => (Trouble::Unconnected, Some(error), None),
            Ok((connection, was_kept)) => {
                if !was_kept {
                    let variant = exchange.serving.get();
                    view = look_again(worker, exchange, &view, &mut attempts);
                    if exchange.serving.get() != variant {
                        continue;
                    }
                }
                let Some(body) = supply.next() else { return Err(Refusal::BadGateway) };
                let may_give_up = || {
                    let may = attempts.may_follow(Trouble::Late, request(&supply), retries);
                    may && has_budget(&view, exchange, Trouble::Late)
                };
                exchange.per_try.set(retries.and_then(|retries| retries.per_try));
                let sending = connection.send(&head, body);
                match send(exchange, &passage.fault, was_kept, sending, may_give_up).await {
                    Outcome::Answered(sent) if !passage.is_answered_by(&sent) => {
                        lease.attempted(true);
                        exchange.failed(UpstreamError::Protocol, is_first);
                        return Err(Refusal::BadGateway);
                    }
                    Outcome::Answered(sent) => {
                        let (status, fields) = (sent.response.status(), sent.response.headers());
                        let trouble = Trouble::with_answer(retries, exchange.is_grpc, status, fields);
                        lease.attempted(is_unwell(exchange.is_grpc, status, fields) || trouble.is_some());
                        match trouble {
                            Some(trouble) => (trouble, None, Some(sent)),
                            None => return Ok(answered(exchange, &supply, sent, lease)),
                        }
                    }
                    Outcome::Refused(refusal, failed) => {
                        if let Some(failed) = failed {
                            lease.attempted(true);
                            exchange.failed(failed, is_first);
                        }
                        return Err(refusal);
                    }
                    Outcome::Failed(trouble, error, back) => {
                        back.into_iter().for_each(|body| supply.give_back(body));
                        (trouble, Some(error), None)
                    }
                }
            }
        };

        let mut follows = attempts.may_follow(trouble, request(&supply), retries);
        if follows && trouble != Trouble::Late {
            follows = has_budget(&view, exchange, trouble);
        }
        if follows {
            supply.rewind();
        }
        if trouble == Trouble::Stale && follows {
            view = look_again(worker, exchange, &view, &mut attempts);
            held = Some(lease).filter(|lease| place::is_usable(&view, exchange, lease.pool()));
            continue;
        }
        match (answer, error) {
            (Some(sent), _) if !follows => return Ok(answered(exchange, &supply, sent, lease)),
            (Some(sent), _) => {
                exchange.failed_by_answer(is_first);
                discard(sent, lease.pool());
            }
            (None, Some(error)) => {
                lease.attempted(true);
                exchange.failed(error, is_first);
                if !follows {
                    return Err(refusal_for(error));
                }
            }
            (None, None) => {}
        }
        is_wary = matches!(trouble, Trouble::Unconnected | Trouble::Reset { .. });
        attempts.failed_at(endpoint.id());
        exchange.tally.retried(exchange.serving.get(), trouble.reason());
        passage.retried();
        drop(lease);
        pause(worker, exchange, &view, &attempts, trouble).await?;
        view = look_again(worker, exchange, &view, &mut attempts);
    }
}

/// How much of a body is kept, if it may be sent again after something of it was taken.
fn kept_for(retries: Option<&Retries>, is_repeatable: bool, is_grpc: bool) -> Option<usize> {
    let retries = retries?;
    let may_be_needed = is_repeatable || is_grpc && retries.on.grpc_unavailable;
    (may_be_needed && retries.body_bytes_max > 0).then_some(retries.body_bytes_max)
}

/// Takes one more attempt out of the budget, if it needs any.
fn has_budget(view: &ServiceView, exchange: &Exchange, trouble: Trouble) -> bool {
    let serving = exchange.serving.get();
    let has_some = trouble.is_free() || view.budgets[serving].take(clock::now());
    if !has_some {
        exchange.tally.budget_exhausted(serving);
    }
    has_some
}

fn answered(
    exchange: &Exchange,
    supply: &Supply,
    sent: Sent<RequestBody>,
    lease: Lease<RequestBody>,
) -> Answered {
    supply.settle();
    let ttfb = clock::now().saturating_duration_since(sent.written);
    if sent.informational > 0 {
        exchange.tally.informed(exchange.serving.get(), sent.informational);
    }
    Answered { response: sent.response, lease, ttfb }
}

/// Lets go of an answer that nobody gets. Its connection is kept if what is left of it is short and comes soon; else it
/// is closed, or by HTTP/2 the stream.
fn discard(sent: Sent<RequestBody>, pool: &Rc<EndpointPool<RequestBody>>) {
    let (mut body, pool) = (sent.response.into_body(), pool.clone());
    if body.size_hint().lower() > DISCARDED_BYTES_MAX {
        return;
    }
    let draining = async move {
        let mut left = DISCARDED_BYTES_MAX;
        loop {
            match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                None => break,
                Some(Err(_)) => return,
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let Some(rest) = left.checked_sub(bytes) else { return };
                    left = rest;
                }
            }
        }
        if let Some(connection) = body.release() {
            pool.keep(connection, clock::now());
        }
    };
    tokio::task::spawn_local(tokio::time::timeout(DISCARD_PATIENCE, draining));
}

/// Waits before the next attempt, if it has to.
async fn pause(
    worker: &Worker,
    exchange: &Exchange,
    view: &ServiceView,
    attempts: &Attempts,
    trouble: Trouble,
) -> Result<(), Refusal> {
    let Some(retries) = &view.service.settings.retries else { return Ok(()) };
    let pools = &view.pools[exchange.serving.get()];
    let is_elsewhere = pools.iter().any(|pool| !attempts.has_tried(pool.endpoint().id()));
    let draw = worker.random.borrow_mut().f64();
    let pause = attempts.pause(trouble, is_elsewhere, retries.backoff, draw);
    if pause.is_zero() {
        return Ok(());
    }
    exchange.unless_lapsed(tokio::time::sleep(pause)).await.map_err(Lapse::refusal)
}

/// Why there is no connection.
enum Unconnected {
    /// This process, or its machine, has no room for one more.
    Ours,
    /// The request has to end before.
    Lapsed(Lapse),
    Theirs(UpstreamError),
}

/// A connection, and whether it was kept from earlier requests.
async fn connect(
    worker: &Worker,
    view: &ServiceView,
    exchange: &Exchange,
    lease: &Lease<RequestBody>,
    may_be_kept: bool,
) -> Result<(Connection<RequestBody>, bool), Unconnected> {
    // Nothing is sent any more for who has to end.
    if let Some(lapse) = exchange.lapse() {
        return Err(Unconnected::Lapsed(lapse));
    }
    if may_be_kept && let Some(connection) = lease.idle_connection(clock::now()) {
        return Ok((connection, true));
    }
    let slot = worker.slot().ok_or(Unconnected::Ours)?;
    let began = clock::now();
    let limit = view.service.settings.timeouts.connect;
    match exchange.unless_lapsed(lease.pool().connect(limit, slot)).await.map_err(Unconnected::Lapsed)? {
        Ok(connection) => {
            let took = clock::now().saturating_duration_since(began);
            exchange.tally.connect(exchange.serving.get(), took);
            Ok((connection, false))
        }
        Err(error) if error.is_local() => Err(Unconnected::Ours),
        Err(error) => {
            if let Some(note) = &exchange.note {
                note.unconnected.set(note.unconnected.get().or(Some(error.word())));
            }
            Err(Unconnected::Theirs(match error {
                ConnectError::TimedOut { .. } => {
                    exchange.tally.limit_hit(ServiceLimit::Connect);
                    UpstreamError::ConnectTimeout
                }
                _ => UpstreamError::Connect,
            }))
        }
    }
}

enum Outcome {
    Answered(Sent<RequestBody>),
    /// It ends here, with the endpoint's part in it, if it has one.
    Refused(Refusal, Option<UpstreamError>),
    /// Another attempt may follow; with the body, if nothing of it was taken.
    Failed(Trouble, UpstreamError, Option<RequestBody>),
}

/// `may_give_up`: whether to leave an attempt that is late for another one, asked once.
async fn send(
    exchange: &Exchange,
    fault: &Cell<Option<RequestBodyError>>,
    was_kept: bool,
    sending: impl Future<Output = Result<Sent<RequestBody>, SendError<RequestBody>>>,
    may_give_up: impl Fn() -> bool,
) -> Outcome {
    exchange.is_late.set(false);
    exchange.waiting.set(Waiting::FirstByte(clock::now()));
    let mut sending = pin!(sending);
    let outcome = poll_fn(|cx| {
        // The endpoint may have answered in the same moment; its answer is worth more.
        if let Poll::Ready(result) = sending.as_mut().poll(cx) {
            return Poll::Ready(match result {
                Ok(sent) => Outcome::Answered(sent),
                Err(error) => failed(error, was_kept, fault.get()),
            });
        }
        if fault.get().is_some() {
            return Poll::Ready(Outcome::Refused(body_refusal(fault.get()), None));
        }
        match exchange.lapse() {
            None if exchange.is_late.get() && exchange.per_try.get().is_some() => {
                // Where nothing may follow, a late answer is better than none.
                exchange.per_try.set(None);
                if !may_give_up() {
                    return Poll::Pending;
                }
                Poll::Ready(Outcome::Failed(Trouble::Late, UpstreamError::FirstByteTimeout, None))
            }
            None => Poll::Pending,
            Some(lapse) => Poll::Ready(Outcome::Refused(lapse.refusal(), lapse.error())),
        }
    })
    .await;
    if let (Outcome::Failed(..), Waiting::FirstByte(from)) = (&outcome, exchange.waiting.get()) {
        exchange.waited.set(exchange.waited.get() + clock::now().saturating_duration_since(from));
    }
    exchange.waiting.set(Waiting::No);
    outcome
}

fn failed(error: SendError<RequestBody>, was_kept: bool, fault: Option<RequestBodyError>) -> Outcome {
    let SendError { kind, is_unsent, body } = error;
    let trouble = match kind {
        SendErrorKind::RequestBody => return Outcome::Refused(body_refusal(fault), None),
        SendErrorKind::Protocol(_) => {
            return Outcome::Refused(Refusal::BadGateway, Some(UpstreamError::Protocol));
        }
        // What is alive and turns requests away is not stale.
        SendErrorKind::Refused if is_unsent => Trouble::TurnedAway,
        SendErrorKind::Reset if is_unsent && was_kept => Trouble::Stale,
        SendErrorKind::Reset if is_unsent => Trouble::Unconnected,
        SendErrorKind::Reset | SendErrorKind::Refused => Trouble::Reset { was_kept },
    };
    Outcome::Failed(trouble, UpstreamError::Reset, body)
}

/// Whether an answer speaks against the endpoint that gave it. A gRPC call that fails later, in its trailers, is charged to
/// the variant and not to the endpoint, whose connection may carry hundreds of others that are well.
fn is_unwell(is_grpc: bool, status: StatusCode, fields: &HeaderMap) -> bool {
    status.is_server_error()
        || is_grpc && GrpcStatus::told(fields).is_some_and(GrpcStatus::is_endpoints_fault)
}

fn body_refusal(fault: Option<RequestBodyError>) -> Refusal {
    match fault {
        Some(RequestBodyError::TooLarge) => Refusal::BodyTooLarge,
        Some(RequestBodyError::Broken) | None => Refusal::BrokenBody,
    }
}

fn refusal_for(error: UpstreamError) -> Refusal {
    match error {
        UpstreamError::ConnectTimeout
        | UpstreamError::FirstByteTimeout
        | UpstreamError::BodyTimeout
        | UpstreamError::TotalTimeout => Refusal::Late,
        UpstreamError::NoHealthyEndpoint => Refusal::NoEndpoint,
        UpstreamError::Connect
        | UpstreamError::Reset
        | UpstreamError::Protocol
        | UpstreamError::Truncated => Refusal::BadGateway,
    }
}

/// HTTP/1.0 clients may leave the host out; HTTP/1.1 needs one, and each attempt its own.
pub(super) fn name_host(headers: &mut HeaderMap, url: &EndpointUrl) {
    if let Ok(host) = HeaderValue::from_str(&url.authority()) {
        headers.insert(HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::grpc::GRPC_STATUS;

    #[test]
    fn what_is_said_about_the_call_does_not_speak_against_the_endpoint() {
        #[track_caller]
        fn check(status: u16, grpc: Option<&'static str>, expected: bool) {
            let fields = grpc.map(|code| (GRPC_STATUS, HeaderValue::from_static(code)));
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_unwell(grpc.is_some(), status, &fields.into_iter().collect()), expected);
        }
        check(200, None, false);
        check(404, None, false);
        check(503, None, true);
        check(200, Some("0"), false);
        check(200, Some("5"), false);
        check(200, Some("14"), true);
        check(200, Some("nonsense"), true);
    }
}
