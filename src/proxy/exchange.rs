//! One request from its routing decision to its last byte, as the tally sees it.
//!
//! One request = one outcome, charged to the variant it was assigned to: told at the response head or at
//! the error, whatever a retry or a spill hid from the client. The end comes once, too, also when the
//! client goes away in the middle: dropping [`Ongoing`] is enough.
//!
//! Deadlines cost a request no timer. An exchange only notes what it waits for and since when; the worker's
//! beat looks at all open exchanges now and then and tells those that wait too long.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::crowd::Place;
use super::error::Refusal;
use super::grpc::GrpcStatus;
use super::judged::{Judged, Word};
use super::note::{Ending, Note};
use super::worker::Worker;
use crate::clock;
use crate::telemetry::{Failure, MethodLabel, Outcome, ServiceLimit, ServiceTally, UpstreamError};
use crate::traffic::{Assignment, Variant};

/// What a client that went away before its answer is counted under, after nginx' custom.
const CLIENT_GONE: u16 = 499;

/// What wakes the task that drives an exchange, and ends it.
#[derive(Debug, Default)]
pub(super) struct Attention {
    waker: RefCell<Option<Waker>>,
    ended: Cell<bool>,
}

impl Attention {
    /// The task that polls with `waker` is the one to wake.
    pub(super) fn listen(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        match &mut *known {
            Some(known) if known.will_wake(waker) => {}
            known => *known = Some(waker.clone()),
        }
    }

    pub(super) fn wake(&self) {
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection, or the HTTP/2 stream, has to go without another word.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.wake();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.get()
    }
}

/// What an exchange waits for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For nothing that has a deadline here.
    No,
    /// A place at an endpoint, until then.
    Place(Instant),
    /// The endpoint's response head.
    FirstByte(Instant),
    /// The next piece of the response body.
    Endpoint(Instant),
    /// The client, to take the next piece.
    Client(Instant),
    /// Either side of a tunnel, to say something.
    Tunnel(Instant),
}

/// Why an exchange is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// No place at an endpoint in time.
    Place,
    /// No response head in time.
    FirstByte,
    /// The response body stood still.
    Endpoint,
    /// The client neither sent its request body nor took its response.
    Client,
    /// Nothing moved through the tunnel.
    Idle,
    /// The request was not over in time, and the endpoint was the one to move.
    Total,
    /// The stream went on for as long as a stream may.
    Stream,
    /// Its variant was killed, and the grace period is over.
    Cut,
}

impl Lapse {
    /// What the client is told, if it has no response head yet.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Place => Refusal::NoPlace,
            Self::Client => Refusal::SlowBody,
            Self::FirstByte | Self::Endpoint | Self::Total | Self::Stream => Refusal::Late,
            Self::Idle | Self::Cut => Refusal::BadGateway,
        }
    }

    /// The part in it of the endpoint that is asked at that moment, if it has one.
    pub(super) fn error(self) -> Option<UpstreamError> {
        match self {
            Self::Total => Some(UpstreamError::TotalTimeout),
            Self::FirstByte | Self::Endpoint => Some(UpstreamError::FirstByteTimeout),
            Self::Place | Self::Client | Self::Idle | Self::Stream | Self::Cut => None,
        }
    }
}

/// What the beat compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) first_byte: Duration,
    pub(super) body_idle: Duration,
    pub(super) tunnel_idle: Duration,
    /// For what has an end.
    pub(super) total: Option<Duration>,
    /// For what has none of its own: tunnels, event streams, gRPC.
    pub(super) stream: Option<Duration>,
}

/// What is known about a request when its variant is.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) tally: Rc<ServiceTally>,
    pub(super) slot: u32,
    pub(super) assigned: Assignment,
    pub(super) generation: u64,
    pub(super) method: MethodLabel,
    pub(super) arrived: Instant,
    pub(super) patience: Patience,
    pub(super) attention: Rc<Attention>,
    pub(super) note: Option<Box<Note>>,
    pub(super) judged: Option<Judged>,
    /// A gRPC call, whose outcome its trailers tell.
    pub(super) is_grpc: bool,
}

/// What the client was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    code: u16,
    at: Instant,
    upstream: Option<Duration>,
}

/// A response head of a gRPC call that says 200, which is no outcome yet.
#[derive(Clone, Copy, Debug)]
struct Held {
    ttfb: Option<Duration>,
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) tally: Rc<ServiceTally>,
    pub(super) slot: u32,
    pub(super) assigned: Assignment,
    pub(super) generation: u64,
    pub(super) method: MethodLabel,
    pub(super) arrived: Instant,
    pub(super) patience: Patience,
    pub(super) attention: Rc<Attention>,
    /// The place that answers: another than the assigned one after a spill, or after a kill before a retry.
    pub(super) serving: Cell<Variant>,
    pub(super) waiting: Cell<Waiting>,
    /// How long an attempt waits for its response head; none where no other may follow.
    pub(super) per_try: Cell<Option<Duration>>,
    /// How long attempts before this one have waited.
    pub(super) waited: Cell<Duration>,
    /// Whether this attempt has waited for too long.
    pub(super) is_late: Cell<bool>,
    /// Since when the endpoint waits for more of the client's request body.
    pub(super) uploading: Cell<Option<Instant>>,
    pub(super) bytes: Cell<u64>,
    /// What came from the client through a tunnel.
    pub(super) received: Cell<u64>,
    /// Whether it has become a tunnel.
    pub(super) tunnelled: Cell<bool>,
    /// Whether its answer has no end of its own.
    pub(super) is_endless: Cell<bool>,
    pub(super) note: Option<Box<Note>>,
    /// Only while the gates look at its service.
    pub(super) judged: Option<Judged>,
    pub(super) is_grpc: bool,
    held: Cell<Option<Held>>,
    /// Wakes whoever sends the request body on.
    upload: Attention,
    is_complete: Cell<bool>,
    grpc: Cell<Option<GrpcStatus>>,
    lapse: Cell<Option<Lapse>>,
    cut_at: Cell<Option<Instant>>,
    failure: Cell<Option<Failure>>,
    /// Another attempt followed on a failure that an endpoint answered with.
    is_hidden: Cell<bool>,
    late_failure: Cell<Option<UpstreamError>>,
    tunnel_error: Cell<Option<UpstreamError>>,
    told: Cell<Option<Told>>,
}

impl Exchange {
    /// Counts the decision. Nothing may be awaited between the decision and this.
    pub(super) fn start(begun: Begun) -> Self {
        let Begun {
            tally,
            slot,
            assigned,
            generation,
            method,
            arrived,
            patience,
            attention,
            note,
            judged,
            is_grpc,
        } = begun;
        tally.started(assigned.variant, generation);
        tally.assigned(assigned.variant, assigned.reason);
        Self {
            tally,
            slot,
            assigned,
            generation,
            method,
            arrived,
            patience,
            attention,
            serving: Cell::new(assigned.variant),
            waiting: Cell::new(Waiting::No),
            per_try: Cell::new(None),
            waited: Cell::new(Duration::ZERO),
            is_late: Cell::new(false),
            uploading: Cell::new(None),
            bytes: Cell::new(0),
            received: Cell::new(0),
            tunnelled: Cell::new(false),
            is_endless: Cell::new(false),
            note,
            judged,
            is_grpc,
            held: Cell::new(None),
            upload: Attention::default(),
            is_complete: Cell::new(false),
            grpc: Cell::new(None),
            lapse: Cell::new(None),
            cut_at: Cell::new(None),
            failure: Cell::new(None),
            is_hidden: Cell::new(false),
            late_failure: Cell::new(None),
            tunnel_error: Cell::new(None),
            told: Cell::new(None),
        }
    }

    /// The endpoint failed. The first failure of the first attempt is the request's; others are counted apart.
    pub(super) fn failed(&self, error: UpstreamError, is_first_attempt: bool) {
        if is_first_attempt && self.failure.get().is_none() {
            self.failure.set(Some(error.into()));
        } else {
            self.tally.upstream_error(self.serving.get(), error);
        }
    }

    /// The endpoint answered with a failure that the client will not see.
    pub(super) fn failed_by_answer(&self, is_first_attempt: bool) {
        if is_first_attempt && self.failure.get().is_none() {
            self.failure.set(Some(Failure::Status));
            self.is_hidden.set(true);
        }
    }

    /// The client gets an endpoint's response head, which is the outcome, unless it begins what a gRPC status ends.
    pub(super) fn tell_head(&self, code: u16, fields: &HeaderMap, ttfb: Option<Duration>) {
        if !self.is_grpc || code != 200 || self.told.get().is_some() {
            return self.tell(code, ttfb, true);
        }
        self.told.set(Some(Told { code, at: clock::now(), upstream: ttfb }));
        self.held.set(Some(Held { ttfb }));
        // A response without a body ("Trailers-Only") has its status in the head.
        if let Some(status) = GrpcStatus::told(fields) {
            self.tell_status(status);
        }
    }

    /// The trailers of a gRPC call came.
    pub(super) fn tell_trailers(&self, fields: &HeaderMap) {
        if self.held.get().is_some()
            && let Some(status) = GrpcStatus::told(fields)
        {
            self.tell_status(status);
        }
    }

    /// What the request body is watched by: it has to end when nobody waits for a response any more.
    pub(super) fn upload(&self) -> &Attention {
        &self.upload
    }

    /// The response is complete: a gRPC call that has been told no status has failed.
    pub(super) fn complete(&self) {
        self.is_complete.set(true);
        if self.held.get().is_some() {
            self.tell_status(GrpcStatus::UNKNOWN);
        }
    }

    fn tell_status(&self, status: GrpcStatus) {
        let Some(held) = self.held.take() else { return };
        self.grpc.set(Some(status));
        if !status.is_ok() && self.failure.get().is_none() {
            self.failure.set(Some(Failure::Status));
        }
        self.count(200, held.ttfb, status.is_ok());
    }

    /// Tells the outcome: the client gets `code`, from the endpoint after `ttfb` or from us.
    pub(super) fn tell(&self, code: u16, ttfb: Option<Duration>, is_endpoints_word: bool) {
        if self.told.get().is_some() {
            return;
        }
        self.told.set(Some(Told { code, at: clock::now(), upstream: ttfb }));
        if is_endpoints_word && code >= 500 && self.failure.get().is_none() {
            self.failure.set(Some(Failure::Status));
        }
        self.count(code, ttfb, is_endpoints_word);
    }

    fn count(&self, code: u16, ttfb: Option<Duration>, is_endpoints_word: bool) {
        let variant = self.assigned.variant;
        // What another place answered says nothing about how quick this one is.
        let ttfb = ttfb.filter(|_| self.serving.get() == variant);
        let failure = self.failure.get();
        self.tally.outcome(Outcome { variant, code, method: self.method, ttfb, failure });
        if let Some(judged) = &self.judged {
            let waited = match self.waiting.get() {
                // While the client still sends, the endpoint is not slow.
                Waiting::FirstByte(from) if self.uploading.get().is_none() => {
                    Some(clock::now().saturating_duration_since(from))
                }
                Waiting::FirstByte(_)
                | Waiting::No
                | Waiting::Place(_)
                | Waiting::Endpoint(_)
                | Waiting::Client(_)
                | Waiting::Tunnel(_) => None,
            };
            let word = Word {
                code,
                is_variants_word: is_endpoints_word && self.serving.get() == variant,
                is_failure: failure.is_some(),
                error: self.first_error(),
                waited: ttfb.or(waited),
            };
            judged.tell(&self.tally, word);
        }
    }

    /// What went wrong in the first attempt, unless it was the status alone that the client gets.
    fn first_error(&self) -> Option<&'static str> {
        match self.failure.get() {
            Some(Failure::Upstream(error)) => Some(error.as_str()),
            Some(Failure::Status) => {
                let status = self.grpc.get().filter(|status| !status.is_ok()).map(GrpcStatus::as_str);
                status.or(self.is_hidden.get().then_some("status"))
            }
            None => None,
        }
    }

    /// The response broke after its head.
    pub(super) fn failed_late(&self, error: UpstreamError) {
        if let Some(held) = self.held.take() {
            // A gRPC call had no outcome yet; this is it.
            self.failed(error, true);
            return self.count(200, held.ttfb, false);
        }
        if self.late_failure.get().is_none() {
            self.late_failure.set(Some(error));
            if let Some(judged) = &self.judged {
                let code = self.told.get().map_or(0, |told| told.code);
                judged.broke(&self.tally, code, error.as_str());
            }
        }
    }

    /// The endpoint broke the tunnel off. Gates do not hear of it: how a tunnel ends is the app's business.
    pub(super) fn tunnel_broke(&self, error: UpstreamError) {
        self.tally.upstream_error(self.serving.get(), error);
        self.tunnel_error.set(Some(error));
    }

    /// Why it has to end, if it has to.
    pub(super) fn lapse(&self) -> Option<Lapse> {
        self.lapse.get()
    }

    /// What `future` comes to, unless the exchange has to end before.
    pub(super) async fn unless_lapsed<T>(&self, future: impl Future<Output = T>) -> Result<T, Lapse> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.lapse() {
            Some(lapse) => Poll::Ready(Err(lapse)),
            None => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// There is a place at an endpoint: that it was waited for too long at the same moment does not count.
    pub(super) fn has_place(&self) {
        if self.lapse.get() == Some(Lapse::Place) {
            self.lapse.set(None);
        }
    }

    /// After a kill: what is open on the losing variant ends at `at`.
    pub(super) fn cut_at(&self, at: Instant) {
        if self.cut_at.get().is_none() {
            self.cut_at.set(Some(at));
        }
    }

    /// It has gone to where no kill ends it.
    pub(super) fn spare(&self) {
        self.cut_at.set(None);
    }

    /// Whether something has waited too long, seen from the worker's beat.
    pub(super) fn look_at_deadlines(&self, now: Instant) {
        if self.lapse.get().is_some() {
            return;
        }
        let since = |from: Instant| now.saturating_duration_since(from);
        let Patience { first_byte, body_idle, tunnel_idle, .. } = self.patience;
        let (lapse, limit) = if self.cut_at.get().is_some_and(|at| at <= now) {
            (Lapse::Cut, None)
        } else if let Some((lapse, limit)) = self.overruns(since(self.arrived)) {
            (lapse, Some(limit))
        } else {
            let over = |waited: Duration, patience, lapse, limit| {
                (waited >= patience).then_some((lapse, Some(limit)))
            };
            let over = match (self.uploading.get(), self.waiting.get()) {
                // While the client still sends, the endpoint is not late.
                (Some(from), _) | (None, Waiting::Client(from)) => {
                    over(since(from), body_idle, Lapse::Client, ServiceLimit::BodyIdle)
                }
                (None, Waiting::No) => None,
                (None, Waiting::Place(until)) => (until <= now).then_some((Lapse::Place, None)),
                (None, Waiting::FirstByte(from)) => {
                    self.look_at_stall(since(from));
                    let is_late = self.per_try.get().is_some_and(|limit| since(from) >= limit);
                    if is_late && !self.is_late.replace(true) {
                        self.attention.wake();
                    }
                    let waited = since(from) + self.waited.get();
                    over(waited, first_byte, Lapse::FirstByte, ServiceLimit::FirstByte)
                }
                (None, Waiting::Endpoint(from)) => {
                    over(since(from), body_idle, Lapse::Endpoint, ServiceLimit::BodyIdle)
                }
                (None, Waiting::Tunnel(from)) => {
                    over(since(from), tunnel_idle, Lapse::Idle, ServiceLimit::TunnelIdle)
                }
            };
            let Some(over) = over else { return };
            over
        };
        if let (Lapse::FirstByte | Lapse::Total, Waiting::FirstByte(from), Some(judged)) =
            (lapse, self.waiting.get(), &self.judged)
        {
            judged.waited_in_vain(since(from));
        }
        self.lapse.set(Some(lapse));
        if let Some(limit) = limit {
            self.tally.limit_hit(limit);
        }
        match lapse {
            Lapse::Cut => self.tally.cut(self.assigned.variant),
            Lapse::Endpoint => self.failed_late(UpstreamError::BodyTimeout),
            Lapse::Total if self.told.get().is_some() => self.failed_late(UpstreamError::TotalTimeout),
            Lapse::Place | Lapse::FirstByte | Lapse::Client | Lapse::Idle | Lapse::Total | Lapse::Stream => {}
        }
        if self.told.get().is_some() {
            // Nobody may be polling the body: the client does not read. So its carrier ends.
            self.attention.end();
        } else {
            self.attention.wake();
        }
    }

    /// What ends what has gone on for so long, if that is too long: whoever is waited for at that moment is to blame, and
    /// nobody for a stream.
    fn overruns(&self, age: Duration) -> Option<(Lapse, ServiceLimit)> {
        if self.is_endless.get() || self.is_grpc {
            return self
                .patience
                .stream
                .is_some_and(|most| age >= most)
                .then_some((Lapse::Stream, ServiceLimit::Stream));
        }
        if self.patience.total.is_none_or(|most| age < most) {
            return None;
        }
        let is_clients_turn =
            self.uploading.get().is_some() || matches!(self.waiting.get(), Waiting::Client(_));
        Some((if is_clients_turn { Lapse::Client } else { Lapse::Total }, ServiceLimit::Total))
    }

    fn look_at_stall(&self, waited: Duration) {
        if let Some(judged) = &self.judged {
            judged.waits(&self.tally, waited);
        }
    }
}

/// The one owner of an exchange's end.
#[derive(Debug)]
pub(super) struct Ongoing {
    exchange: Rc<Exchange>,
    worker: Rc<Worker>,
    number: usize,
    _admission: Admission,
}

/// A request's places among all requests, and among those to its service if they are limited.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) _of_all: Place,
    pub(super) _of_service: Option<Place>,
}

impl Ongoing {
    pub(super) fn new(exchange: Exchange, worker: &Rc<Worker>, admission: Admission) -> Self {
        let exchange = Rc::new(exchange);
        let number = worker.exchanges.join(exchange.clone());
        Self { exchange, worker: worker.clone(), number, _admission: admission }
    }

    pub(super) fn exchange(&self) -> &Rc<Exchange> {
        &self.exchange
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let exchange = &self.exchange;
        self.worker.exchanges.leave(self.number);
        if !exchange.is_complete.get() {
            // By HTTP/2 the upload is a task of its own, and would hold the streams of both sides open.
            exchange.upload.end();
        }
        let told = exchange.told.get();
        if told.is_none() {
            exchange.tell(CLIENT_GONE, None, false);
        }
        if let Some(held) = exchange.held.take() {
            // A gRPC call that its client gave up, or that we cut: whatever it would have become.
            exchange.count(200, held.ttfb, false);
        }
        let duration = clock::now().saturating_duration_since(exchange.arrived);
        let late = exchange.late_failure.get();
        // Hours of talk say nothing about how quick requests are: to them a tunnel is over with its head.
        let (is_tunnel, until_head) =
            (exchange.tunnelled.get(), told.map(|told| told.at.saturating_duration_since(exchange.arrived)));
        let counted = until_head.filter(|_| is_tunnel).unwrap_or(duration);
        exchange.tally.finished(exchange.assigned.variant, exchange.generation, counted, late);
        if let Some(note) = &exchange.note {
            let failed = match exchange.failure.get() {
                // More than metrics tell: a refused certificate is not a refused connection.
                Some(Failure::Upstream(UpstreamError::Connect)) => {
                    note.unconnected.get().or(exchange.first_error())
                }
                _ => exchange.first_error(),
            };
            let lapsed = match exchange.lapse.get() {
                Some(Lapse::Cut) => Some("cut"),
                Some(Lapse::Client) => Some("client_timeout"),
                Some(Lapse::Idle) => Some("tunnel_idle"),
                Some(Lapse::Place) => Some("queue_timeout"),
                Some(Lapse::Stream) => Some("stream_timeout"),
                Some(Lapse::FirstByte | Lapse::Endpoint | Lapse::Total) | None => None,
            };
            let ending = Ending {
                status: told.map(|told| told.code),
                bytes: exchange.bytes.get(),
                bytes_received: is_tunnel.then(|| exchange.received.get()),
                duration,
                ttfb: until_head,
                upstream: told.and_then(|told| told.upstream),
                assigned: Some((exchange.assigned, exchange.generation)),
                error: late.or(exchange.tunnel_error.get()).map(UpstreamError::as_str).or(failed).or(lapsed),
            };
            note.record(&self.worker, &ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::{ServiceSlot, Tallies};
    use crate::traffic::Reason;

    const SECOND: Duration = Duration::from_secs(1);

    fn exchange(arrived: Instant) -> Exchange {
        exchange_among(&Tallies::new(1), arrived)
    }

    fn exchange_among(tallies: &Arc<Tallies>, arrived: Instant) -> Exchange {
        Exchange::start(Begun {
            tally: tallies.worker(0).service(ServiceSlot(0)),
            slot: 0,
            assigned: Assignment { variant: Variant::Green, reason: Reason::Draw },
            generation: 1,
            method: MethodLabel::Post,
            arrived,
            patience: Patience {
                first_byte: 4 * SECOND,
                body_idle: 6 * SECOND,
                tunnel_idle: 8 * SECOND,
                total: Some(2000 * SECOND),
                stream: Some(3000 * SECOND),
            },
            attention: Rc::default(),
            note: None,
            judged: None,
            is_grpc: false,
        })
    }

    #[test]
    fn who_is_waited_for_decides_which_deadline_counts() {
        #[track_caller]
        fn check(waiting: fn(Instant) -> Waiting, uploading: bool, seconds: u32, expected: Option<Lapse>) {
            let start = clock::now();
            let exchange = exchange(start);
            exchange.waiting.set(waiting(start));
            exchange.uploading.set(uploading.then_some(start));
            exchange.look_at_deadlines(start + seconds * SECOND);
            assert_eq!(exchange.lapse(), expected);
        }
        check(|_| Waiting::No, false, 1000, None);
        check(Waiting::FirstByte, false, 3, None);
        check(Waiting::FirstByte, false, 4, Some(Lapse::FirstByte));
        check(Waiting::FirstByte, true, 5, None);
        check(Waiting::FirstByte, true, 6, Some(Lapse::Client));
        check(|start| Waiting::Place(start + SECOND), false, 0, None);
        check(|start| Waiting::Place(start + SECOND), false, 1, Some(Lapse::Place));
        check(Waiting::Endpoint, false, 5, None);
        check(Waiting::Endpoint, false, 6, Some(Lapse::Endpoint));
        check(Waiting::Client, false, 6, Some(Lapse::Client));
        check(Waiting::Tunnel, false, 7, None);
        check(Waiting::Tunnel, false, 8, Some(Lapse::Idle));
    }

    #[test]
    fn a_deadline_that_is_over_is_counted_once_under_its_name() {
        #[track_caller]
        fn check(waiting: fn(Instant) -> Waiting, is_endless: bool, expected: &[ServiceLimit]) {
            let (tallies, start) = (Tallies::new(1), clock::now());
            let exchange = exchange_among(&tallies, start);
            exchange.is_endless.set(is_endless);
            exchange.waiting.set(waiting(start));
            for _ in 0..2 {
                exchange.look_at_deadlines(start + 10 * SECOND);
            }
            let counted = ServiceLimit::ALL.into_iter().zip(tallies.limit_hits(ServiceSlot(0)));
            let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
            let expected: Vec<_> = expected.iter().map(|limit| (*limit, 1)).collect();
            assert_eq!(counted, expected);
        }
        check(|_| Waiting::No, false, &[]);
        check(Waiting::FirstByte, false, &[ServiceLimit::FirstByte]);
        check(Waiting::Endpoint, false, &[ServiceLimit::BodyIdle]);
        check(Waiting::Client, false, &[ServiceLimit::BodyIdle]);
        check(Waiting::Tunnel, true, &[ServiceLimit::TunnelIdle]);
    }

    #[test]
    fn what_has_an_end_is_over_after_its_total_time_and_what_has_none_after_its_own() {
        #[track_caller]
        fn check(waiting: fn(Instant) -> Waiting, is_endless: bool, seconds: u32, expected: Option<Lapse>) {
            let start = clock::now();
            let exchange = exchange(start);
            exchange.is_endless.set(is_endless);
            let now = start + seconds * SECOND;
            exchange.waiting.set(waiting(now - SECOND));
            exchange.look_at_deadlines(now);
            assert_eq!(exchange.lapse(), expected);
        }
        check(Waiting::Endpoint, false, 1999, None);
        check(Waiting::Endpoint, false, 2000, Some(Lapse::Total));
        check(Waiting::FirstByte, false, 2000, Some(Lapse::Total));
        check(|_| Waiting::No, false, 2000, Some(Lapse::Total));
        check(Waiting::Client, false, 2000, Some(Lapse::Client));
        check(Waiting::Endpoint, true, 2999, None);
        check(Waiting::Endpoint, true, 3000, Some(Lapse::Stream));
        check(Waiting::Tunnel, true, 3000, Some(Lapse::Stream));
    }

    #[test]
    fn an_attempt_is_late_before_its_request_is_and_what_earlier_ones_took_counts() {
        let start = clock::now();
        let exchange = exchange(start);
        exchange.waiting.set(Waiting::FirstByte(start));
        exchange.per_try.set(Some(SECOND));
        exchange.look_at_deadlines(start + SECOND / 2);
        assert!(!exchange.is_late.get());
        exchange.look_at_deadlines(start + SECOND);
        assert_eq!((exchange.is_late.get(), exchange.lapse()), (true, None));
        exchange.waited.set(3 * SECOND);
        exchange.look_at_deadlines(start + SECOND);
        assert_eq!(exchange.lapse(), Some(Lapse::FirstByte));
    }

    #[test]
    fn a_place_that_comes_at_the_last_moment_is_in_time_and_other_deadlines_go_on() {
        let start = clock::now();
        let exchange = exchange(start);
        exchange.waiting.set(Waiting::Place(start));
        exchange.look_at_deadlines(start);
        exchange.has_place();
        exchange.waiting.set(Waiting::FirstByte(start));
        exchange.look_at_deadlines(start + SECOND);
        assert_eq!(exchange.lapse(), None);
        exchange.look_at_deadlines(start + 4 * SECOND);
        exchange.has_place();
        assert_eq!(exchange.lapse(), Some(Lapse::FirstByte));
    }

    #[test]
    fn an_exchange_is_cut_at_its_time_and_ended_only_after_its_head() {
        let start = clock::now();
        let exchange = exchange(start);
        exchange.cut_at(start + SECOND);
        exchange.cut_at(start);
        exchange.look_at_deadlines(start);
        assert_eq!(exchange.lapse(), None);
        exchange.look_at_deadlines(start + SECOND);
        assert_eq!((exchange.lapse(), exchange.attention.is_ended()), (Some(Lapse::Cut), false));

        let exchange = self::exchange(start);
        exchange.tell(200, None, true);
        exchange.cut_at(start);
        exchange.look_at_deadlines(start);
        assert!(exchange.attention.is_ended());
    }
}
