//! The life of a request: route → visitor → assign → prepare → forward → observe.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, STRICT_TRANSPORT_SECURITY, TRAILER, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::{AnswerBody, RequestBody, RequestBodyError};
use super::client::{Client, Task, Turn, Unanswered};
use super::cookies;
use super::error::{Asked, Refusal};
use super::exchange::{Admission, Attention, Begun, Exchange, Ongoing, Patience};
use super::forward::{Answered, forward};
use super::forwarded::Origin;
use super::grpc;
use super::headers::{self, Told, X_TIDEGATE_VARIANT};
use super::judged::Judged;
use super::mirror::{self, Copying};
use super::note::{Ending, Note};
use super::pair::Original;
use super::redirect::location;
use super::target::Target;
use super::tunnel::{Landing, Tunnel};
use super::upgrade::{self, Upgrade};
use super::visitor::{Decision, Ignored, Means, address_hash, decide};
use super::worker::ServiceView;
use crate::clock;
use crate::routing::Limits;
use crate::telemetry::{Limit, ServiceLimit};
use crate::traffic::{RatchetCookie, VisitorCookie, Weight};
use crate::upstream::{Endpoint, Sent};

/// A request whose variant is decided, on its way.
pub(super) struct Passage {
    pub(super) ongoing: Ongoing,
    /// Why its body failed, if it did.
    pub(super) fault: Rc<Cell<Option<RequestBodyError>>>,
    decision: Decision,
    origin: Origin,
    /// What the endpoint is asked to change to.
    upgrade: Option<Upgrade>,
    /// Learns what the client gets, if the request is mirrored.
    original: Option<Box<Original>>,
}

/// Answers a request. `attention` wakes and ends what drives it; on HTTP/1.1, `landing` is where a tunnel is left that is
/// to take over the connection.
pub(super) async fn handle(
    client: Rc<Client>,
    attention: Rc<Attention>,
    landing: Option<Rc<Landing>>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let is_http1 = request.version() < Version::HTTP_2;
    let turn = client.begin(is_http1);
    let arrived = clock::now();
    let unanswered = Unanswered::new(&client, arrived);
    let worker = &client.worker;
    let (mut head, body) = request.into_parts();
    let version = head.version;
    let asked =
        Asked { is_head: head.method == Method::HEAD, is_grpc: grpc::is_call(&head.headers), is_http1 };
    let request_id = headers::request_id(&head.headers, client.is_trusted, &mut worker.random.borrow_mut());

    // route, visitor, assign
    let begun = begin(&client, &head, &request_id, asked, arrived, attention);
    let (mut passage, view) = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            unrouted(&client, &head, &request_id, refusal, arrived);
            let mut answer = refusal.answer(request_id, asked, turn);
            if refusal == Refusal::Moved
                && let Some(location) = moved(&client, &head)
            {
                answer.headers_mut().insert(LOCATION, location);
            }
            finish(&client, version, &mut answer);
            unanswered.answered();
            return Ok(answer);
        }
    };

    // prepare, forward
    let exchange = passage.ongoing.exchange().clone();
    let settings = &view.service.settings;
    client.body_idle.set(settings.timeouts.body_idle);
    if let Some(landing) = landing.as_ref().filter(|_| head.headers.contains_key(UPGRADE)) {
        landing.asked();
    }
    let is_mirrored = view.service.mirror > Weight::ZERO
        && mirror::is_chosen(worker, &view, &passage.decision, passage.origin, &head);
    let upgrade = check_length(&head.headers, &settings.limits)
        .and_then(|()| Upgrade::asked(&mut head, !body.is_end_stream(), &settings.upgrades));
    let forwarded = match upgrade {
        Err(refusal) => Err(refusal),
        Ok(upgrade) => {
            passage.upgrade = upgrade;
            let told = Told {
                settings,
                variant: exchange.assigned.variant,
                visitor: passage.decision.id,
                request_id: &request_id,
                origin: passage.origin,
            };
            headers::prepare_request(&mut head, &client, &told);
            let mut upload = None;
            if is_mirrored && passage.upgrade.is_none() {
                let copying = mirror::begin(worker, &view, &head, !body.is_end_stream());
                if let Some(Copying { original, upload: copy }) = copying {
                    passage.original = Some(Box::new(original));
                    upload = copy;
                }
            }
            if let Some(upgrade) = &mut passage.upgrade {
                upgrade.ask(&mut head, &mut worker.random.borrow_mut());
            }
            let body = RequestBody::new(body, settings, &exchange, &passage.fault, upload);
            forward(worker, &passage, view.clone(), Request::from_parts(head, body)).await
        }
    };

    // observe
    let mut answer = match forwarded {
        Ok(answered) => pass_on(&client, passage, &view, answered, version, landing, turn),
        Err(refusal) => refuse(passage, refusal, request_id, asked, turn),
    };
    finish(&client, version, &mut answer);
    unanswered.answered();
    Ok(answer)
}

/// Routes and assigns a request by the newest table, and counts that.
fn begin(
    client: &Client,
    head: &Parts,
    request_id: &HeaderValue,
    asked: Asked,
    arrived: Instant,
    attention: Rc<Attention>,
) -> Result<(Passage, Rc<ServiceView>), Refusal> {
    let worker = &client.worker;
    if headers::has_passed(&head.headers, &worker.passed) {
        return Err(Refusal::Loop);
    }
    if client.is_ambiguous() {
        return Err(Refusal::Bad("the request could be read in two ways\n"));
    }
    let target = Target::read(head, &client.live.limits)?;
    let peer = Origin { addr: client.peer, is_https: client.secured.is_some() };
    let origin = Origin::of(peer, &head.headers, &client.live.trusted_proxies, client.is_trusted);
    check_listener(client, &target, origin)?;
    let place = worker.enter().ok_or(Refusal::Crowded)?;
    worker.table(|table| {
        let service = table.route(target.host.as_ref(), &target.path).ok_or(Refusal::NoService)?;
        let view = worker.view(service);
        // Before anybody is assigned: no variant is charged.
        let Ok(place_of_service) = view.enter() else {
            view.tally.limit_hit(ServiceLimit::Requests);
            return Err(Refusal::ServiceCrowded);
        };
        let admission = Admission { _of_all: place, _of_service: place_of_service };
        let keys = worker.keys.borrow();
        let means = Means { keys: &keys, random: &mut worker.random.borrow_mut(), now: worker.wall() };
        let decision = decide(service, &view.names, head, origin, means, |ignored| match ignored {
            Ignored::Cookie(error) => worker.tally.cookie_ignored(error),
            Ignored::Override => worker.tally.override_refused(),
        });
        let assigned = decision.assignment;
        if let Some(visitor) = decision.recognised {
            view.tally.visitor(assigned.variant, visitor, worker.wall());
        }
        let trialled = view.tally.trialled(service.era, assigned.variant, assigned.reason, || {
            decision.unit().unwrap_or_else(|| address_hash(origin.addr))
        });
        let judged = trialled.map(|trialled| {
            let rule = service.success.as_ref().filter(|rule| rule.is_about(&head.method, &target.path));
            let success = rule.map(|rule| rule.status.clone());
            Judged::new(trialled, (&head.method).into(), &head.uri, request_id, success)
        });
        let timeouts = &service.settings.timeouts;
        let exchange = Exchange::start(Begun {
            tally: view.tally.clone(),
            slot: service.slot,
            assigned,
            generation: table.generation(),
            method: (&head.method).into(),
            arrived,
            patience: Patience {
                first_byte: timeouts.first_byte,
                body_idle: timeouts.body_idle,
                tunnel_idle: timeouts.tunnel_idle,
                total: timeouts.total,
                stream: timeouts.stream,
            },
            attention,
            note: Note::take(worker, head, request_id, origin.addr, Some(&service.settings.name)),
            judged,
            is_grpc: asked.is_grpc,
        });
        let ongoing = Ongoing::new(exchange, worker, admission);
        Ok((Passage { ongoing, fault: Rc::default(), decision, origin, upgrade: None, original: None }, view))
    })
}

impl Passage {
    /// An attempt at an endpoint begins.
    pub(super) fn at(&self, endpoint: &Arc<Endpoint>) {
        let exchange = self.ongoing.exchange();
        if let Some(note) = &exchange.note {
            *note.endpoint.borrow_mut() = Some(endpoint.label().clone());
        }
        if let Some(judged) = &exchange.judged {
            judged.at(endpoint.label());
        }
    }

    /// Whether an endpoint's answer is one to what it was asked.
    pub(super) fn is_answered_by(&self, sent: &Sent<RequestBody>) -> bool {
        let (status, headers) = (sent.response.status(), sent.response.headers());
        self.upgrade.as_ref().is_none_or(|upgrade| upgrade.is_answered_by(status, headers))
    }

    /// One more attempt.
    pub(super) fn retried(&self) {
        if let Some(note) = &self.ongoing.exchange().note {
            note.retries.set(note.retries.get() + 1);
        }
    }
}

/// Counts and logs a request that reached no service.
fn unrouted(client: &Client, head: &Parts, request_id: &HeaderValue, refusal: Refusal, arrived: Instant) {
    let status = refusal.status().as_u16();
    let tally = &client.worker.tally;
    tally.unrouted(status);
    match refusal {
        Refusal::Crowded => {
            tally.shed();
            tally.limit_hit(Limit::Requests);
        }
        Refusal::ServiceCrowded => tally.shed(),
        Refusal::TooManyFields => tally.limit_hit(Limit::Fields),
        Refusal::UriTooLong => tally.limit_hit(Limit::Uri),
        _ => {}
    }
    if let Some(note) = Note::take(&client.worker, head, request_id, client.peer, None) {
        let duration = clock::now().saturating_duration_since(arrived);
        let ending = Ending { status: Some(status), duration, error: refusal.word(), ..Ending::default() };
        note.record(&client.worker, &ending);
    }
}

/// A body that says it is too large is not even begun.
fn check_length(headers: &HeaderMap, limits: &Limits) -> Result<(), Refusal> {
    let Some(bytes_max) = limits.body_bytes_max else { return Ok(()) };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max) { Err(Refusal::BodyTooLarge) } else { Ok(()) }
}

/// The endpoint's answer, as the client gets it.
fn pass_on(
    client: &Client,
    passage: Passage,
    view: &ServiceView,
    answered: Answered,
    version: Version,
    landing: Option<Rc<Landing>>,
    turn: Turn,
) -> Response<AnswerBody> {
    let Passage { ongoing, decision, origin, upgrade, mut original, .. } = passage;
    let exchange = ongoing.exchange();
    let (mut head, body) = answered.response.into_parts();
    let upgrade = upgrade.filter(|_| head.status == StatusCode::SWITCHING_PROTOCOLS);
    let is_endless = upgrade.is_some() || head.headers.get(CONTENT_TYPE).is_some_and(is_event_stream);
    let is_tunnel = upgrade.is_some();
    exchange.is_endless.set(is_endless);

    let settings = &view.service.settings;
    let required = upgrade::required(&head, &settings.upgrades).filter(|_| version == Version::HTTP_11);
    headers::prepare_response(&mut head.headers);
    if let Some(required) = required {
        head.headers.insert(UPGRADE, required);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let stream = upgrade.and_then(|upgrade| upgrade.grant(&mut head));
    if let Some(original) = &mut original {
        original.answered(head.status.as_u16(), (!is_endless).then_some(answered.ttfb));
    }
    exchange.tell_head(head.status.as_u16(), &head.headers, (!is_endless).then_some(answered.ttfb));
    let variant = exchange.serving.get();
    if variant == decision.assignment.variant {
        set_cookies(client, view, &decision, origin, &mut head.headers);
    }
    if settings.tell.client_variant {
        head.headers.insert(X_TIDEGATE_VARIANT, HeaderValue::from_static(variant.as_str()));
    }
    if version == Version::HTTP_11 && exchange.is_grpc && !head.headers.contains_key(TRAILER) {
        head.headers.insert(TRAILER, grpc::TRAILERS);
    }
    head.version = Version::HTTP_11;
    if !is_tunnel {
        // HTTP/1.0 knows the end of such a body only by the end of the connection.
        turn.needs_reset(version == Version::HTTP_10);
        let original = original.filter(|original| original.wants_body());
        let body = AnswerBody::forwarded(body, answered.lease, ongoing, original, turn);
        return Response::from_parts(head, body);
    }
    if let Some(endpoint) = body.into_upgraded() {
        let tunnel = Tunnel::new(&client.worker, endpoint, ongoing, answered.lease, turn);
        lead(client, tunnel, stream, landing);
    }
    Response::from_parts(head, AnswerBody::before_tunnel())
}

/// Has a tunnel begin when the head before it is written.
fn lead(client: &Client, mut tunnel: Tunnel, stream: Option<OnUpgrade>, landing: Option<Rc<Landing>>) {
    if let Some(stream) = stream {
        client.task.replace(Some(Task::Sending(tunnel.carried())));
        tokio::task::spawn_local(async move {
            if let Ok(stream) = stream.await {
                tunnel.run(TokioIo::new(stream), Bytes::new()).await;
            }
        });
    } else if let Some(landing) = landing {
        landing.put(tunnel);
    }
}

fn is_event_stream(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}

fn set_cookies(
    client: &Client,
    view: &ServiceView,
    decision: &Decision,
    origin: Origin,
    headers: &mut HeaderMap,
) {
    let (keys, names, is_https) = (client.worker.keys.borrow(), &view.names, origin.is_https);
    if let Some(cookie) = decision.visitor_cookie {
        let name = names.visitor(is_https);
        cookies::set(headers, name, cookie.seal(&keys, name), VisitorCookie::MAX_AGE, is_https);
    }
    if let Some(cookie) = decision.ratchet_cookie {
        let name = names.ratchet(is_https);
        cookies::set(headers, name, cookie.seal(&keys, name), RatchetCookie::MAX_AGE, is_https);
    }
}

/// Our answer in an endpoint's place.
fn refuse(
    mut passage: Passage,
    refusal: Refusal,
    request_id: HeaderValue,
    asked: Asked,
    turn: Turn,
) -> Response<AnswerBody> {
    let code = refusal.status().as_u16();
    // What the client or we ourselves are to blame for is no answer of stable's.
    let is_endpoints = matches!(refusal, Refusal::BadGateway | Refusal::NoEndpoint | Refusal::Late);
    if let Some(original) = passage.original.as_mut().filter(|_| is_endpoints) {
        original.answered(code, None);
    }
    let exchange = passage.ongoing.exchange();
    if refusal == Refusal::BodyTooLarge {
        exchange.tally.limit_hit(ServiceLimit::Body);
    }
    exchange.tell(code, None, false);
    refusal.answer(request_id, asked, turn)
}

/// What the listener has against a request.
fn check_listener(client: &Client, target: &Target<'_>, origin: Origin) -> Result<(), Refusal> {
    let listener = client.listener();
    if listener.redirect_https.is_some() && !origin.is_https {
        let has_host = target.host.is_some();
        return Err(if has_host { Refusal::Moved } else { Refusal::Bad("the request names no host\n") });
    }
    // Who has shown a certificate for one name must not be taken for somebody who did for another.
    if let Some(secured) = &client.secured
        && listener.asks_for_certificates()
        && target.host.as_ref().is_none_or(|host| !secured.is_for(host.as_str()))
    {
        return Err(Refusal::Misdirected);
    }
    Ok(())
}

/// Where a request is to be sent instead.
fn moved(client: &Client, head: &Parts) -> Option<HeaderValue> {
    let target = Target::read(head, &client.live.limits).ok()?;
    location(&target, head, client.listener().redirect_https?)
}

/// What every answer gets at last. While draining, and after the last request that a connection may have, an answer over
/// HTTP/1.1 ends its connection; HTTP/2 has GOAWAY for that.
fn finish(client: &Client, version: Version, answer: &mut Response<AnswerBody>) {
    let is_http = answer.status() != StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    if is_http && version < Version::HTTP_2 && (client.worker.is_draining.get() || client.is_worn()) {
        let options = if headers.contains_key(UPGRADE) { "upgrade, close" } else { "close" };
        headers.insert(CONNECTION, HeaderValue::from_static(options));
    }
    if let Some(hsts) = &client.listener().hsts
        && !headers.contains_key(STRICT_TRANSPORT_SECURITY)
    {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    // A client of HTTP/1.0 that asked for it is told by hyper that its connection is kept, whatever else is said, unless
    // the answer is of that version, too.
    let ends = headers.contains_key(CONNECTION) || answer.body().size_hint().exact().is_none();
    if version == Version::HTTP_10 && ends {
        *answer.version_mut() = version;
    }
}
