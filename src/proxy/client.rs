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
use tokio::net::TcpStream;

use super::LiveSettings;
use super::exchange::Attention;
use super::worker::Worker;
use crate::clock;

/// Until a request says which service it is for, a client that does not read its answer is given so long.
const BODY_IDLE: Duration = Duration::from_secs(60);

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
    pub(super) attention: Rc<Attention>,
    /// How long the client may take over a piece of a body; as the service of its latest request says.
    pub(super) body_idle: Cell<Duration>,
    /// Close with a reset: the end of the stream would be taken for the end of the response.
    ends_with_reset: Cell<bool>,
    /// For the executor: the stream whose handler was made last.
    pub(super) stream: RefCell<Option<Rc<Attention>>>,
    open: Cell<u32>,
    has_begun: Cell<bool>,
    /// Whether bytes without an open request may be anything else than the next one's head: HTTP/2 keeps itself
    /// alive and opens its windows between requests, too.
    is_chatty: Cell<bool>,
    since: Cell<Instant>,
    blocked: Cell<Option<Instant>>,
}

/// Which deadline toward the client comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// The head of the request that has begun.
    Head,
    /// The next request.
    Idle,
    /// The client reads no more.
    Blocked,
}

impl Client {
    pub(super) fn new(worker: Rc<Worker>, live: Arc<LiveSettings>, peer: IpAddr, now: Instant) -> Self {
        let peer = peer.to_canonical();
        let peer_text = HeaderValue::try_from(peer.to_string());
        Self {
            is_trusted: live.trusted_proxies.trusts(peer),
            peer_text: peer_text.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            worker,
            live,
            peer,
            attention: Rc::default(),
            body_idle: Cell::new(BODY_IDLE),
            ends_with_reset: Cell::new(false),
            stream: RefCell::default(),
            open: Cell::new(0),
            has_begun: Cell::new(false),
            is_chatty: Cell::new(false),
            since: Cell::new(now),
            blocked: Cell::new(None),
        }
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
        } else {
            (since + timeouts.keep_alive_idle, Deadline::Idle)
        })
    }

    /// Whether the next byte begins a request.
    fn waits_for_a_head(&self) -> bool {
        self.open.get() == 0 && !self.has_begun.get() && !self.is_chatty.get()
    }

    /// The client was told to go after an idle time: it may take as long as over a head.
    pub(super) fn leaves(&self, now: Instant) {
        self.has_begun.set(true);
        self.since.set(now);
    }

    /// A complete request head has arrived.
    pub(super) fn begin(self: &Rc<Self>, is_http1: bool) -> Turn {
        self.open.set(self.open.get() + 1);
        self.has_begun.set(false);
        self.is_chatty.set(!is_http1);
        Turn(self.clone())
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

/// The client's socket, with the bytes read before the protocol was known in front.
#[derive(Debug)]
pub(super) struct ClientSocket {
    stream: TcpStream,
    first: Vec<u8>,
    client: Rc<Client>,
}

impl ClientSocket {
    pub(super) fn new(stream: TcpStream, first: Vec<u8>, client: Rc<Client>) -> Self {
        Self { stream, first, client }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if self.client.ends_with_reset.get() {
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if !me.first.is_empty() {
            let count = me.first.len().min(buf.remaining());
            buf.put_slice(&me.first[..count]);
            me.first.drain(..count);
            if me.first.is_empty() {
                me.first = Vec::new();
            }
            me.client.has_begun.set(me.client.open.get() == 0);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut me.stream).poll_read(cx, buf);
        let client = &me.client;
        if buf.filled().len() > before && client.waits_for_a_head() {
            client.has_begun.set(true);
            client.since.set(clock::now());
        }
        read
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        let blocked = &self.client.blocked;
        match written {
            Poll::Ready(_) => blocked.set(None),
            Poll::Pending if blocked.get().is_none() => blocked.set(Some(clock::now())),
            Poll::Pending => {}
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
