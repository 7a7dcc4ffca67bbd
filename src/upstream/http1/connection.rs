//! One connection to an endpoint, and one request at a time on it.
//!
//! An error says the one thing that decides about a retry: whether anything of the request can have reached the
//! endpoint.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::super::stream::Stream;
use super::super::transport::{self, ConnectError};
use super::super::{Endpoint, Slot};
use super::fields::{Malformed, Scan};
use super::framing::{Asked, Framing, shape};
use super::response_body::ResponseBody;
use super::response_head::{self, ResponseHead};
use super::upload::Upload;
use crate::clock;

/// So much is read at once, at first and while there is little; also what an idle connection may keep.
const READ_BYTES: usize = 8 * 1024;
/// So much while the endpoint has that much to say.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Less room is not worth a read.
const READ_BYTES_MIN: usize = 2 * 1024;
/// Heads before the final one.
const INFORMATIONAL_MAX: u32 = 16;

/// Why there is no response.
#[derive(Debug)]
pub struct SendError<B> {
    /// What happened.
    pub kind: SendErrorKind,
    /// Whether nothing of the request was sent: it may go elsewhere whatever its method.
    pub is_unsent: bool,
    /// The body as it was, if nothing of it was taken and no byte of a response was read.
    pub body: Option<B>,
}

/// What happened to a request without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The connection ended before the response head.
    Reset,
    /// What came back is not HTTP/1.1, or not unambiguously.
    Protocol(Malformed),
    /// The endpoint turned it away unseen: by HTTP/2, REFUSED_STREAM (RFC 9113 §8.7).
    Refused,
    /// The request's own body failed, or was not as long as it said.
    RequestBody,
}

/// A response whose body is still to be read.
#[derive(Debug)]
pub struct Sent<B> {
    /// Head and body. 101 only if the request asked for it; then [`ResponseBody::into_upgraded`] is what follows.
    pub response: Response<ResponseBody<B>>,
    /// When the first byte of the request head was written.
    pub written: Instant,
    /// Informational responses that came before and were swallowed, 100 (Continue) apart; at most 16.
    pub informational: u32,
}

/// A connection that carries one request at a time. Stays on its thread.
#[derive(Debug)]
pub struct Connection<B> {
    wire: Box<Wire<B>>,
}

/// What a connection consists of, whoever owns it at the moment.
#[derive(Debug)]
pub(super) struct Wire<B> {
    pub(super) stream: Stream,
    /// Read, and not yet given on.
    pub(super) input: BytesMut,
    pub(super) upload: Upload<B>,
    read_bytes: usize,
    /// Last, so that it is free when the socket is closed.
    pub(super) slot: Slot,
}

impl<B> Connection<B> {
    /// Looks the name up, tries its addresses in turn, and is done within `limit`. The slot is taken until
    /// the socket is closed.
    pub async fn connect(endpoint: &Endpoint, limit: Duration, slot: Slot) -> Result<Self, ConnectError> {
        Ok(Self::over(transport::open(endpoint.way(), limit).await?, slot))
    }

    /// By what is open already, and was not used.
    pub(super) fn over(stream: Stream, slot: Slot) -> Self {
        let (input, upload) = (BytesMut::new(), Upload::new());
        Self { wire: Box::new(Wire { stream, input, upload, read_bytes: READ_BYTES, slot }) }
    }

    /// One whose last response was read to its end, if nothing is owed on it.
    pub(super) fn again(mut wire: Box<Wire<B>>) -> Option<Self> {
        if !wire.input.is_empty() || !wire.upload.is_done() {
            return None;
        }
        wire.upload.shrink(READ_BYTES);
        if wire.read_bytes > READ_BYTES {
            wire.read_bytes = READ_BYTES;
            wire.input = BytesMut::new();
        }
        Some(Self { wire })
    }

    /// Whether the next request can be sent: the endpoint has neither hung up nor said anything unasked. Costs no
    /// system call unless the socket has something to tell.
    pub fn is_idle(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.wire.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Connection<B> {
    /// Sends a request and waits for the final response head; the body is written meanwhile, and further on
    /// while the response body is read, if the response comes early. With `Expect: 100-continue` the body is not
    /// asked for before the endpoint said 100, or one second has passed. When the future is dropped the
    /// connection ends.
    ///
    /// The method is any but CONNECT. `Content-Length` and `Transfer-Encoding` are written as the body is, whatever
    /// stands among the fields.
    pub async fn send(self, head: &Parts, body: B) -> Result<Sent<B>, SendError<B>> {
        let mut wire = self.wire;
        let asked = Asked::by(&head.method, &head.headers);
        wire.upload.begin(head, body);
        let mut reading =
            Reading { asked, scan: Scan::default(), heads: 0, informational: 0, has_read: false };
        match poll_fn(|cx| reading.poll(&mut wire, cx)).await {
            Ok((head, framing, keeps_alive)) => {
                let written = wire.upload.began().unwrap_or_else(clock::now);
                let body = ResponseBody::new(wire, framing, keeps_alive);
                let response = response(head, body);
                Ok(Sent { response, written, informational: reading.informational })
            }
            Err(kind) => Err(reading.error(kind, &mut wire)),
        }
    }
}

fn response<B>(head: ResponseHead, body: ResponseBody<B>) -> Response<ResponseBody<B>> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    response
}

/// Waiting for the head of the final response.
struct Reading {
    asked: Asked,
    scan: Scan,
    /// Those before the final one.
    heads: u32,
    informational: u32,
    has_read: bool,
}

impl Reading {
    fn poll<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        wire: &mut Wire<B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(ResponseHead, Framing, bool), SendErrorKind>> {
        loop {
            let uploaded = wire.upload.poll(&mut wire.stream, cx);
            if let Poll::Ready(Err(_)) = uploaded {
                return Poll::Ready(Err(SendErrorKind::RequestBody));
            }
            if !wire.upload.has_sent() {
                // What comes now answers no request of ours.
                return uploaded.map(|_| Err(SendErrorKind::Reset));
            }
            match ready!(wire.poll_read(cx)) {
                Ok(count) if count > 0 => self.has_read = true,
                Ok(_) | Err(_) => return Poll::Ready(Err(SendErrorKind::Reset)),
            }
            match self.read(wire) {
                Ok(None) => {}
                Ok(Some(read)) => return Poll::Ready(Ok(read)),
                Err(malformed) => return Poll::Ready(Err(SendErrorKind::Protocol(malformed))),
            }
        }
    }

    /// The final head, if it is whole; deals with those before it.
    fn read<B>(&mut self, wire: &mut Wire<B>) -> Result<Option<(ResponseHead, Framing, bool)>, Malformed> {
        while !wire.input.is_empty() {
            let Some(mut head) = response_head::take(&mut wire.input, &mut self.scan)? else { break };
            let shape = shape(&mut head, self.asked)?;
            match head.status {
                StatusCode::SWITCHING_PROTOCOLS if !wire.upload.is_done() => return Err(Malformed::Switch),
                StatusCode::CONTINUE => wire.upload.go_ahead(),
                status if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS => {
                    self.informational += 1;
                }
                _ => {
                    wire.upload.answered();
                    return Ok(Some((head, shape.framing, shape.keeps_alive)));
                }
            }
            self.heads += 1;
            if self.heads > INFORMATIONAL_MAX {
                return Err(Malformed::TooManyInformational);
            }
        }
        Ok(None)
    }

    fn error<B>(&self, kind: SendErrorKind, wire: &mut Wire<B>) -> SendError<B> {
        let is_unsent = !wire.upload.has_sent();
        let body = if self.has_read { None } else { wire.upload.take_untouched() };
        SendError { kind, is_unsent, body }
    }
}

impl<B> Wire<B> {
    /// Reads on behind what was read; zero: the endpoint has closed its side.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < READ_BYTES_MIN {
            self.input.reserve(self.read_bytes);
        }
        let room = READ_BYTES_MAX.min(self.input.capacity() - self.input.len());
        let mut input = (&mut self.input).limit(room);
        let count = ready!(pin!(self.stream.read_buf(&mut input)).poll(cx))?;
        if count == room {
            self.read_bytes = READ_BYTES_MAX.min(self.read_bytes * 2);
        }
        Poll::Ready(Ok(count))
    }
}
