//! One HTTP/1.1 connection to an endpoint.
//!
//! The narrow waist between what the proxy decides and how bytes travel: connect, send one request, read
//! its response. Retries and pools know nothing beyond this file. An error says the one thing that decides
//! about a retry: whether anything of the request can have reached the endpoint.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;
use super::transport::{self, ConnectError};
use super::{Endpoint, Slot};
use crate::clock;

/// A response head may be this large.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A response may have so many fields.
const FIELDS_MAX: usize = 256;

/// Why there is no response.
#[derive(Debug)]
pub struct SendError<B> {
    /// The request, when nothing of it was sent: it may go elsewhere whatever its method.
    pub unsent: Option<Request<B>>,
    /// What happened.
    pub kind: SendErrorKind,
}

/// What happened to a request without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The connection ended before the response head.
    Reset,
    /// What came back is not HTTP/1.1, or not unambiguously.
    Protocol,
    /// The request's own body failed.
    RequestBody,
}

/// A response whose body is still to be read.
#[derive(Debug)]
pub struct Sent {
    /// Head and body.
    pub response: Response<ResponseBody>,
    /// When the first byte of the request head was written.
    pub written: Option<Instant>,
}

/// A connection that carries one request at a time. Stays on its thread.
#[derive(Debug)]
pub struct Connection<B> {
    requests: SendRequest<B>,
    wire: Rc<Wire>,
}

#[derive(Debug, Default)]
struct Wire {
    /// When writing began since the last request was handed over.
    written: Cell<Option<Instant>>,
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Looks the name up, tries its addresses in turn, and is done within `limit`. The slot is taken until
    /// the socket is closed. Runs inside a `LocalSet`.
    pub async fn connect(endpoint: &Endpoint, limit: Duration, slot: Slot) -> Result<Self, ConnectError> {
        let stream = transport::open(endpoint.way(), limit).await?;
        let wire = Rc::<Wire>::default();
        let io = TokioIo::new(Tapped { stream, wire: wire.clone(), _slot: slot });
        let (requests, driver) = http1::Builder::new()
            .writev(false)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(FIELDS_MAX)
            .handshake(io)
            .await
            .map_err(|error| ConnectError::Handshake {
                url: endpoint.url().clone(),
                source: io::Error::other(error),
            })?;
        // The driver's end is seen through `requests` and the response body.
        tokio::task::spawn_local(async move { drop(driver.await) });
        Ok(Self { requests, wire })
    }

    /// Whether the next request can be sent: the last one is over, and the endpoint has not hung up.
    pub fn is_idle(&self) -> bool {
        self.requests.is_ready()
    }

    /// Sends a request and waits for the response head; informational responses (1xx) are swallowed. When
    /// the future is dropped the connection ends.
    pub async fn send(&mut self, request: Request<B>) -> Result<Sent, SendError<B>> {
        // A fresh connection's driver has not run yet; a pooled one is ready, or gone.
        if !self.requests.is_ready() && poll_fn(|cx| self.requests.poll_ready(cx)).await.is_err() {
            return Err(SendError { unsent: Some(request), kind: SendErrorKind::Reset });
        }
        self.wire.written.set(None);
        match self.requests.try_send_request(request).await {
            Ok(response) => {
                let written = self.wire.written.get();
                Ok(Sent { response: response.map(ResponseBody), written })
            }
            Err(mut error) => {
                let unsent = error.take_message();
                let error = error.into_error();
                let kind = if error.is_user() {
                    SendErrorKind::RequestBody
                } else if error.is_parse() {
                    SendErrorKind::Protocol
                } else {
                    SendErrorKind::Reset
                };
                Err(SendError { unsent, kind })
            }
        }
    }
}

/// The body of a response, in the pieces it arrives in.
#[derive(Debug)]
pub struct ResponseBody(Incoming);

/// A response body that did not come to its announced end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the endpoint ended the response before its end")]
pub struct BodyError;

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A socket that notes when writing begins.
struct Tapped {
    stream: Stream,
    wire: Rc<Wire>,
    /// Last, so that it is free when the socket is closed.
    _slot: Slot,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.wire.written.get().is_none() {
            self.wire.written.set(Some(clock::now()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
