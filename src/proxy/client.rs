//! A client's connection: who it is, and what it is doing.
//!
//! Whatever a deadline needs is noted here in plain cells: by the socket when bytes move, by the handler when
//! a request begins and ends. The connection's one timer looks at it when it fires, so requests cost no
//! timer operation.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Attention;
use super::opening::Secured;
use super::scrutiny::Scrutiny;
use super::tunnel::Carrier;
use super::wire::Wire;
use super::worker::Worker;
use super::{ListenerSettings, LiveSettings};
use crate::clock;
use crate::telemetry::{ConnectionRefusal, Limit};

/// Until a request says which service it is for, a client that does not read its answer is given so long.
const BODY_IDLE: Duration = Duration::from_secs(60);

/// So many requests may be taken back at once; more of them, if they are most of all, are a flood (CVE-2023-44487): each
/// costs an endpoint work, and the client nothing.
const TAKEN_BACK_MAX: u32 = 100;
/// Who waits so long for an answer has reason to give up.
const PATIENT: Duration = Duration::from_secs(1);

/// One client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) live: Arc<LiveSettings>,
    pub(super) peer: IpAddr,
    /// The peer as a field value.
    pub(super) peer_text: HeaderValue,
    /// Whether the peer's word about the client counts.
    pub(super) is_trusted: bool,
    /// What TLS has shown; `None` for one who speaks in the clear.
    pub(super) secured: Option<Secured>,
    pub(super) attention: Rc<Attention>,
    /// How long the client may take over a piece of a body; as the service of its latest request says.
    pub(super) body_idle: Cell<Duration>,
    /// Close with a reset: the end of the stream would be taken for the end of the response.
    ends_with_reset: Cell<bool>,
    /// For the executor: what the next task is.
    pub(super) task: RefCell<Option<Task>>,
    listener: usize,
    open: Cell<u32>,
    /// Requests so far.
    begun: Cell<u32>,
    /// Requests that were taken back before anybody could have answered them.
    taken_back: Cell<u32>,
    /// The number of the request that could be read in two ways; 0: none.
    ambiguous: Cell<u32>,
    has_begun: Cell<bool>,
    /// Whether bytes without an open request may be anything else than the next one's head: HTTP/2 keeps itself
    /// alive and opens its windows between requests, too.
    is_chatty: Cell<bool>,
    since: Cell<Instant>,
    blocked: Cell<Option<Instant>>,
}

/// What hyper hands over on an HTTP/2 connection.
#[derive(Debug)]
pub(super) enum Task {
    /// A stream, as far as its answer's head if it becomes a tunnel.
    Stream(Rc<Attention>),
    /// The half of a tunnel that sends to the client.
    Sending(Rc<Carrier>),
}

/// Which deadline toward the client comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// The head of the request that has begun.
    Head,
    /// The next request, which has not even begun while a head would have had to be complete.
    Doze,
    /// The next request.
    Idle,
    /// The client reads no more.
    Blocked,
}

/// How a client came.
pub(super) struct Coming {
    /// By which of the addresses.
    pub(super) listener: usize,
    pub(super) peer: IpAddr,
    pub(super) accepted: Instant,
    pub(super) secured: Option<Secured>,
}

impl Client {
    pub(super) fn new(
        worker: Rc<Worker>,
        live: Arc<LiveSettings>,
        attention: Rc<Attention>,
        coming: Coming,
    ) -> Self {
        let peer = coming.peer.to_canonical();
        let peer_text = HeaderValue::try_from(peer.to_string());
        Self {
            is_trusted: live.trusted_proxies.trusts(peer),
            peer_text: peer_text.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            worker,
            live,
            peer,
            secured: coming.secured,
            attention,
            body_idle: Cell::new(BODY_IDLE),
            ends_with_reset: Cell::new(false),
            task: RefCell::default(),
            listener: coming.listener,
            open: Cell::new(0),
            begun: Cell::new(0),
            taken_back: Cell::new(0),
            ambiguous: Cell::new(0),
            has_begun: Cell::new(false),
            is_chatty: Cell::new(false),
            since: Cell::new(coming.accepted),
            blocked: Cell::new(None),
        }
    }

    /// How the address it came by is served.
    pub(super) fn listener(&self) -> &ListenerSettings {
        self.live.listener(self.listener)
    }

    /// Whether it has had as many answers as a connection may have.
    pub(super) fn is_worn(&self) -> bool {
        self.live.limits.requests_per_connection_max.is_some_and(|most| self.begun.get() >= most)
    }

    /// Whether the request that has begun last could be read in two ways.
    pub(super) fn is_ambiguous(&self) -> bool {
        (1..=self.begun.get()).contains(&self.ambiguous.get())
    }

    /// The next deadline, if the client is the one to move.
    pub(super) fn deadline(&self) -> Option<(Instant, Deadline)> {
        if let Some(since) = self.blocked.get() {
            return Some((since + self.body_idle.get(), Deadline::Blocked));
        }
        if self.open.get() > 0 {
            return None;
        }
        let timeouts = &self.live.timeouts;
        let since = self.since.get();
        Some(if self.has_begun.get() {
            (since + timeouts.head, Deadline::Head)
        } else if self.begun.get() == 0 {
            (since + timeouts.handshake, Deadline::Idle)
        } else if !self.is_chatty.get() && timeouts.head < timeouts.keep_alive_idle {
            (since + timeouts.head, Deadline::Doze)
        } else {
            (since + timeouts.keep_alive_idle, Deadline::Idle)
        })
    }

    /// A deadline is over.
    pub(super) fn missed(&self, deadline: Deadline) {
        let limit = match deadline {
            // It has been told to go, and did not.
            Deadline::Head if self.is_chatty.get() => return,
            Deadline::Head => Limit::HeadTime,
            Deadline::Doze => return,
            Deadline::Idle if self.begun.get() == 0 => Limit::Handshake,
            Deadline::Idle => Limit::KeepAliveIdle,
            Deadline::Blocked => Limit::BodyIdle,
        };
        self.worker.tally.limit_hit(limit);
    }

    /// When it is hung up on if no further request begins.
    pub(super) fn idle_until(&self) -> Instant {
        self.since.get() + self.live.timeouts.keep_alive_idle
    }

    /// Whether it has had an answer and waits for nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.open.get() == 0 && self.begun.get() > 0 && !self.has_begun.get() && self.blocked.get().is_none()
    }

    /// Whether the next byte begins a request.
    fn waits_for_a_head(&self) -> bool {
        self.open.get() == 0 && !self.has_begun.get() && !self.is_chatty.get()
    }

    /// The client is told to go after an idle time: it may take as long as over a head.
    pub(super) fn leaves(&self, now: Instant) {
        self.missed(Deadline::Idle);
        self.has_begun.set(true);
        self.since.set(now);
    }

    /// A request was taken back so long after it came, without an answer. Ends the connection when that is all it does.
    fn takes_back(&self, waited: Duration) {
        if waited >= PATIENT {
            return;
        }
        let taken_back = self.taken_back.get().saturating_add(1);
        self.taken_back.set(taken_back);
        if taken_back >= TAKEN_BACK_MAX && taken_back > self.begun.get() / 2 && !self.attention.is_ended() {
            self.worker.tally.connection_refused(ConnectionRefusal::Resets);
            self.attention.end();
        }
    }

    /// A complete request head has arrived.
    pub(super) fn begin(self: &Rc<Self>, is_http1: bool) -> Turn {
        self.open.set(self.open.get() + 1);
        self.begun.set(self.begun.get().saturating_add(1));
        let limits = &self.live.limits;
        if limits.requests_per_connection_max == Some(self.begun.get()) {
            self.worker.tally.limit_hit(Limit::RequestsPerConnection);
        }
        if !is_http1 && self.open.get() == limits.h2_streams_max {
            self.worker.tally.limit_hit(Limit::H2Streams);
        }
        self.has_begun.set(false);
        self.is_chatty.set(!is_http1);
        Turn(self.clone())
    }
}

/// A request that has no answer yet; dropped before it has one, it was taken back.
pub(super) struct Unanswered {
    client: Rc<Client>,
    arrived: Instant,
    is_answered: bool,
}

impl Unanswered {
    pub(super) fn new(client: &Rc<Client>, arrived: Instant) -> Self {
        Self { client: client.clone(), arrived, is_answered: false }
    }

    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.is_answered {
            self.client.takes_back(clock::now().saturating_duration_since(self.arrived));
        }
    }
}

/// While one exists the client waits for us.
#[derive(Debug)]
pub(super) struct Turn(Rc<Client>);

impl Turn {
    /// Whether the connection has to end with a reset if it ended now: with HTTP/1.0 a mere end would be
    /// taken for the end of the answer.
    pub(super) fn needs_reset(&self, needs: bool) {
        self.0.ends_with_reset.set(needs);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        if self.0.open.get() == 0 {
            self.0.since.set(clock::now());
        }
    }
}

/// The client's socket, as hyper uses it: it notes what the deadlines look at.
#[derive(Debug)]
pub(super) struct ClientSocket {
    wire: Wire,
    /// Of HTTP/1 alone: HTTP/2 says where everything ends.
    scrutiny: Option<Scrutiny>,
    client: Rc<Client>,
}

impl ClientSocket {
    pub(super) fn new(wire: Wire, client: Rc<Client>, is_http2: bool) -> Self {
        Self { wire, scrutiny: (!is_http2).then(Scrutiny::new), client }
    }

    pub(super) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Since when the client has not taken what is written for it.
    fn note(&self, is_taken: bool) {
        let blocked = &self.client.blocked;
        if is_taken {
            blocked.set(None);
        } else if blocked.get().is_none() {
            blocked.set(Some(clock::now()));
        }
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if self.client.ends_with_reset.get() {
            drop(self.wire.stream().set_zero_linger());
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let me = &mut *self;
        let read = Pin::new(&mut me.wire).poll_read(cx, buf);
        let client = &me.client;
        if buf.filled().len() > before && client.waits_for_a_head() {
            client.has_begun.set(true);
            client.since.set(clock::now());
        }
        if let Some(scrutiny) = &mut me.scrutiny
            && let Some(number) = scrutiny.look(buf.filled().get(before..).unwrap_or_default())
        {
            client.ambiguous.set(number);
            if client.is_ambiguous() {
                // Its handler is at work already, and has to learn that the body is none.
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        read
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(cx, bytes);
        self.note(written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS takes a record before the socket does, so only here it shows that nobody reads.
        let flushed = Pin::new(&mut self.wire).poll_flush(cx);
        self.note(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
