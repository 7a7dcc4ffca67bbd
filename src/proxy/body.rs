//! Bodies on their way through: never collected, only watched.
//!
//! A piece is asked for when the other side can take one, so a slow reader slows the writer down and
//! memory stays bounded. What passes is counted, and who is waited for is noted for the deadlines.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::client::Turn;
use super::exchange::{Exchange, Ongoing, Waiting};
use super::headers::{prepare_request_trailers, prepare_response_trailers};
use super::mirror::BodyCopy;
use super::pair::Original;
use super::replay::KeptBody;
use crate::clock;
use crate::routing::ServiceSettings;
use crate::telemetry::UpstreamError;
use crate::upstream::{BodyError, Lease, ResponseBody};

/// Why a request body did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestBodyError {
    /// The client broke it off, or garbled it.
    #[error("the client did not finish its request body")]
    Broken,
    /// It is larger than the service allows.
    #[error("the request body is larger than allowed")]
    TooLarge,
}

/// The body of a request on its way to an endpoint.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// What the client sends.
    Client(ClientBody),
    /// The same, kept so that it can be sent again.
    Kept(KeptBody),
    /// What a client has sent, for a copy of its request.
    Copied(Copied),
}

/// A request body in pieces that are all there.
#[derive(Debug)]
pub struct Copied {
    pieces: std::vec::IntoIter<Bytes>,
    bytes_left: u64,
}

/// A request body as it comes from the client.
#[derive(Debug)]
pub struct ClientBody {
    inner: Incoming,
    exchange: Rc<Exchange>,
    fault: Rc<Cell<Option<RequestBodyError>>>,
    bytes_left: Option<u64>,
    override_header: Option<HeaderName>,
    copy: Option<BodyCopy>,
}

impl RequestBody {
    /// For a service with these settings; `fault` is where the handler learns why a body failed.
    pub(super) fn new(
        inner: Incoming,
        settings: &ServiceSettings,
        exchange: &Rc<Exchange>,
        fault: &Rc<Cell<Option<RequestBodyError>>>,
        copy: Option<BodyCopy>,
    ) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        let (exchange, fault) = (exchange.clone(), fault.clone());
        let bytes_left = settings.limits.body_bytes_max;
        let override_header = settings.tester.as_ref().map(|tester| tester.header.clone());
        Self::Client(ClientBody { inner, exchange, fault, bytes_left, override_header, copy })
    }

    /// Of these pieces.
    pub(super) fn copied(pieces: Vec<Bytes>) -> Self {
        let bytes_left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self::Copied(Copied { pieces: pieces.into_iter(), bytes_left })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => body.poll_frame(cx),
            Self::Copied(Copied { pieces, bytes_left }) => {
                let piece = pieces.next();
                *bytes_left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Kept(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_end_stream(),
            Self::Kept(body) => body.is_end_stream(),
            Self::Copied(body) => body.bytes_left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
            Self::Kept(body) => body.size_hint(),
            Self::Copied(body) => SizeHint::with_exact(body.bytes_left),
        }
    }
}

impl ClientBody {
    pub(super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    /// Nobody asks for more of it at the moment.
    pub(super) fn rest(&self) {
        self.exchange.uploading.set(None);
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let exchange = &self.exchange;
        if exchange.upload().is_ended() {
            return Poll::Ready(Some(Err(RequestBodyError::Broken)));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let Poll::Ready(frame) = polled else {
            exchange.upload().listen(cx.waker());
            if exchange.uploading.get().is_none() {
                exchange.uploading.set(Some(clock::now()));
            }
            return Poll::Pending;
        };
        exchange.uploading.set(None);
        match exchange.waiting.get() {
            // What the endpoint has not been sent yet it cannot answer.
            Waiting::FirstByte(_) => exchange.waiting.set(Waiting::FirstByte(clock::now())),
            // Where both talk at once, neither is idle while one of them does.
            Waiting::Endpoint(_) => exchange.waiting.set(Waiting::Endpoint(clock::now())),
            Waiting::No | Waiting::Place(_) | Waiting::Client(_) | Waiting::Tunnel(_) => {}
        }
        let failed = |error| {
            self.fault.set(Some(error));
            self.exchange.attention.wake();
            Poll::Ready(Some(Err(error)))
        };
        match frame {
            None => {
                if let Some(copy) = &mut self.copy {
                    copy.ended();
                }
                Poll::Ready(None)
            }
            Some(Err(_)) => failed(RequestBodyError::Broken),
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    prepare_request_trailers(trailers, self.override_header.as_ref());
                }
                if let (Some(left), Some(data)) = (&mut self.bytes_left, frame.data_ref()) {
                    match left.checked_sub(data.len() as u64) {
                        Some(rest) => *left = rest,
                        None => return failed(RequestBodyError::TooLarge),
                    }
                }
                if let Some(copy) = &mut self.copy {
                    if let Some(data) = frame.data_ref() {
                        copy.piece(data);
                    }
                    if self.inner.is_end_stream() {
                        copy.ended();
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        self.rest();
    }
}

/// What a client gets as a body.
#[derive(Debug)]
pub(super) struct AnswerBody {
    content: Content,
    /// Last, so that the client's next deadline starts when all else is over. None before a tunnel, which has it.
    turn: Option<Turn>,
}

#[derive(Debug)]
enum Content {
    Own(Option<Bytes>),
    Forwarded(Box<Forwarded>),
}

#[derive(Debug)]
struct Forwarded {
    inner: ResponseBody<RequestBody>,
    lease: Option<Lease<RequestBody>>,
    ongoing: Option<Ongoing>,
    /// Compares the body with that of a copy's answer.
    original: Option<Box<Original>>,
    is_complete: bool,
    is_broken: bool,
}

/// Why an answer ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum AnswerBodyError {
    #[error("the endpoint ended the response before its end")]
    Truncated,
    #[error("the response waited too long, or its variant was killed")]
    Lapsed,
}

impl AnswerBody {
    pub(super) fn own(text: Bytes, turn: Turn) -> Self {
        Self { content: Content::Own(Some(text).filter(|text| !text.is_empty())), turn: Some(turn) }
    }

    /// Of the head that a tunnel follows.
    pub(super) const fn before_tunnel() -> Self {
        Self { content: Content::Own(None), turn: None }
    }

    pub(super) fn forwarded(
        inner: ResponseBody<RequestBody>,
        lease: Lease<RequestBody>,
        ongoing: Ongoing,
        original: Option<Box<Original>>,
        turn: Turn,
    ) -> Self {
        let exchange = ongoing.exchange();
        let mut forwarded = Forwarded {
            inner,
            lease: Some(lease),
            ongoing: None,
            original,
            is_complete: false,
            is_broken: false,
        };
        if forwarded.inner.is_end_stream() {
            exchange.waiting.set(Waiting::No);
            forwarded.ongoing = Some(ongoing);
            forwarded.finish();
            turn.needs_reset(false);
        } else {
            exchange.waiting.set(Waiting::Client(clock::now()));
            forwarded.ongoing = Some(ongoing);
        }
        Self { content: Content::Forwarded(Box::new(forwarded)), turn: Some(turn) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerBodyError>>> {
        let me = &mut *self;
        match &mut me.content {
            Content::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Content::Forwarded(forwarded) => {
                let polled = forwarded.poll_frame(cx);
                if let Some(turn) = me.turn.as_ref().filter(|_| forwarded.is_complete) {
                    turn.needs_reset(false);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(text) => text.is_none(),
            Content::Forwarded(forwarded) => forwarded.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Content::Forwarded(forwarded) => forwarded.inner.size_hint(),
        }
    }
}

impl Forwarded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerBodyError>>> {
        if self.is_broken {
            return Poll::Ready(Some(Err(AnswerBodyError::Truncated)));
        }
        let Some(exchange) = self.ongoing.as_ref().map(Ongoing::exchange) else {
            return Poll::Ready(None);
        };
        if exchange.lapse().is_some() {
            return Poll::Ready(Some(Err(AnswerBodyError::Lapsed)));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if !matches!(exchange.waiting.get(), Waiting::Endpoint(_)) {
                exchange.waiting.set(Waiting::Endpoint(clock::now()));
            }
            return Poll::Pending;
        };
        match frame {
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    exchange.tell_trailers(trailers);
                    prepare_response_trailers(trailers);
                }
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                exchange.bytes.set(exchange.bytes.get() + bytes);
                if let (Some(original), Some(data)) = (&mut self.original, frame.data_ref()) {
                    original.piece(data);
                }
                if self.inner.is_end_stream() {
                    self.finish();
                } else {
                    let now = clock::now();
                    exchange.waiting.set(Waiting::Client(now));
                    if exchange.uploading.get().is_some() {
                        exchange.uploading.set(Some(now));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                match error {
                    BodyError::Truncated => exchange.failed_late(UpstreamError::Truncated),
                    BodyError::Protocol(_) => exchange.failed_late(UpstreamError::Protocol),
                    // That is the client's doing.
                    BodyError::RequestBody => {}
                }
                if let Some(mut original) = self.original.take().filter(|_| error != BodyError::RequestBody) {
                    original.ended(false);
                }
                self.lease = None;
                self.ongoing = None;
                self.is_broken = true;
                // Not yet: with the error goes whatever hyper has not sent, and what came before is the client's.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// The response is complete: its connection may take the next request.
    fn finish(&mut self) {
        if let Some(ongoing) = &self.ongoing {
            ongoing.exchange().complete();
        }
        let lapsed = self.ongoing.as_ref().and_then(|ongoing| ongoing.exchange().lapse());
        if let (Some(lease), Some(connection), None) = (self.lease.take(), self.inner.release(), lapsed) {
            lease.give_back(connection, clock::now());
        }
        if let Some(mut original) = self.original.take() {
            original.ended(true);
        }
        self.is_complete = true;
        self.ongoing = None;
    }
}
