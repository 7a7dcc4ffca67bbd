//! A connection that speaks HTTP no more: bytes both ways between a client and an endpoint, after 101.
//!
//! To the tally it is the rest of a request: its outcome was told with the 101, it stays where it was assigned
//! whatever becomes of the weight, and after a kill its grace is that of every open stream. No timer is its own: the
//! worker's beat sees since when nothing has moved.
//!
//! Either side may end its half and go on listening. An end that is not in order, because a side broke off, time is up
//! or the variant was killed, reaches the client as a reset: for a protocol that we do not know, a mere end could mean
//! that all was said.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::RequestBody;
use super::client::Turn;
use super::exchange::{Attention, Ongoing, Waiting};
use super::pipe::{Broken, Pipe};
use super::worker::Worker;
use crate::clock;
use crate::telemetry::UpstreamError;
use crate::traffic::Variant;
use crate::upstream::{Lease, Upgraded};

/// A tunnel whose client end is not there yet.
#[derive(Debug)]
pub(super) struct Tunnel {
    worker: Rc<Worker>,
    endpoint: Upgraded,
    held: Held,
}

/// What a tunnel holds until it ends, in whatever way.
#[derive(Debug)]
struct Held {
    ongoing: Ongoing,
    /// Where it leads.
    variant: Variant,
    is_orderly: bool,
    carrier: Option<Rc<Carrier>>,
    turn: Turn,
    _lease: Lease<RequestBody>,
}

/// Where a tunnel waits for the HTTP/1.1 connection that it is to take over.
#[derive(Debug, Default)]
pub(super) struct Landing {
    tunnel: RefCell<Option<Tunnel>>,
    was_asked: Cell<bool>,
}

/// What an HTTP/2 tunnel and hyper's task that sends for it know of each other: hyper would tell the client of an
/// orderly end whenever its other half is dropped.
#[derive(Debug)]
pub(super) struct Carrier {
    sending: Attention,
    tunnel: Rc<Attention>,
    is_over: Cell<bool>,
}

impl Tunnel {
    /// Counts from now on, also if it never comes to carry anything.
    pub(super) fn new(
        worker: &Rc<Worker>,
        endpoint: Upgraded,
        ongoing: Ongoing,
        lease: Lease<RequestBody>,
        turn: Turn,
    ) -> Self {
        let exchange = ongoing.exchange();
        let variant = exchange.serving.get();
        exchange.tunnelled.set(true);
        exchange.waiting.set(Waiting::Tunnel(clock::now()));
        exchange.tally.tunnel_opened(variant);
        turn.needs_reset(true);
        let held = Held { ongoing, variant, is_orderly: false, carrier: None, turn, _lease: lease };
        Self { worker: worker.clone(), endpoint, held }
    }

    /// The client's end will be a stream of HTTP/2.
    pub(super) fn carried(&mut self) -> Rc<Carrier> {
        let tunnel = self.held.ongoing.exchange().attention.clone();
        let carrier = Rc::new(Carrier { sending: Attention::default(), tunnel, is_over: Cell::new(false) });
        self.held.carrier = Some(carrier.clone());
        carrier
    }

    /// Passes bytes until both sides have ended, or one failed. `first` was read from the client too early.
    pub(super) async fn run(self, mut client: impl AsyncRead + AsyncWrite + Unpin, first: Bytes) {
        let Self { worker, mut endpoint, mut held } = self;
        let mut both = Both { up: Some(Pipe::new(first)), down: Some(Pipe::new(Bytes::new())) };
        held.is_orderly = poll_fn(|cx| both.poll(cx, &worker, &held, &mut client, &mut endpoint)).await;
        // Only now the client's end may go: how it goes depends on this.
        held.turn.needs_reset(!held.is_orderly);
        held.carrier.iter().filter(|_| !held.is_orderly).for_each(|carrier| carrier.sending.end());
    }
}

/// The pipes that are not over.
struct Both {
    /// To the endpoint.
    up: Option<Pipe>,
    /// To the client.
    down: Option<Pipe>,
}

impl Both {
    /// Ready with whether it ended in good order.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        held: &Held,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        endpoint: &mut Upgraded,
    ) -> Poll<bool> {
        let exchange = held.ongoing.exchange();
        exchange.attention.listen(cx.waker());
        if exchange.lapse().is_some() || exchange.attention.is_ended() {
            return Poll::Ready(false);
        }
        let mut room = worker.room.borrow_mut();
        let (mut sent, mut received, mut failed) = (0, 0, None);
        if let Some(up) = &mut self.up {
            let before = up.bytes();
            let polled = up.poll(cx, client, endpoint, &mut room);
            received = up.bytes() - before;
            match polled {
                Poll::Pending => {}
                Poll::Ready(Err(Broken::Source)) => failed = Some(Broken::Sink),
                // What the endpoint has said before may still be on its way.
                Poll::Ready(Ok(()) | Err(Broken::Sink)) => self.up = None,
            }
        }
        if let Some(down) = &mut self.down {
            let before = down.bytes();
            let polled = down.poll(cx, endpoint, client, &mut room);
            sent = down.bytes() - before;
            match polled {
                Poll::Pending => {}
                Poll::Ready(Err(Broken::Source)) => failed = Some(Broken::Source),
                Poll::Ready(Ok(()) | Err(Broken::Sink)) => self.down = None,
            }
        }
        if sent + received > 0 {
            exchange.waiting.set(Waiting::Tunnel(clock::now()));
            exchange.bytes.set(exchange.bytes.get() + sent);
            exchange.received.set(exchange.received.get() + received);
            exchange.tally.tunnelled(held.variant, received, sent);
        }
        if let Some(failed) = failed {
            if failed == Broken::Source {
                exchange.tunnel_broke(UpstreamError::Reset);
            }
            return Poll::Ready(false);
        }
        let is_gone = held.carrier.as_ref().is_some_and(|carrier| carrier.is_over.get());
        match (&self.up, &self.down) {
            (None, None) => Poll::Ready(true),
            (_, Some(_)) if is_gone => Poll::Ready(false),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ongoing.exchange().tally.tunnel_closed(self.variant);
    }
}

impl Landing {
    pub(super) fn put(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    pub(super) fn take(&self) -> Option<Tunnel> {
        self.tunnel.borrow_mut().take()
    }

    /// A request on the connection has named another protocol.
    pub(super) fn asked(&self) {
        self.was_asked.set(true);
    }

    pub(super) fn was_asked(&self) -> bool {
        self.was_asked.get()
    }
}

impl Carrier {
    /// What wakes and ends the task that sends.
    pub(super) fn sending(&self) -> &Attention {
        &self.sending
    }

    /// The task that sends is over, because all was sent or the client wants no more.
    pub(super) fn over(&self) {
        self.is_over.set(true);
        self.tunnel.wake();
    }
}
