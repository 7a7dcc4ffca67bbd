//! What a request travels on, whichever HTTP is spoken there.
//!
//! The narrow waist between what the proxy decides and how bytes travel: send one request, read its response.
//! Retries and pools know nothing beyond this file.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1::{self, BodyError, SendError, Upgraded};
use super::http2::{Stream, Upload};

/// What one request at a time travels on: a connection, or a stream of one. Stays on its thread.
pub struct Connection<B: Upload>(pub(super) Carrier<B>);

pub(super) enum Carrier<B: Upload> {
    Http1(http1::Connection<B>),
    Http2(Stream<B>),
}

/// A response whose body is still to be read.
#[derive(Debug)]
pub struct Sent<B: Upload> {
    /// Head and body. 101 only if the request asked for it; then [`ResponseBody::into_upgraded`] is what follows.
    pub response: Response<ResponseBody<B>>,
    /// When the request head was written.
    pub written: Instant,
    /// Informational responses that came before and were swallowed, 100 (Continue) apart; those by HTTP/2 are not
    /// counted.
    pub informational: u32,
}

impl<B: Upload> Connection<B> {
    /// Whether the next request can be sent.
    pub fn is_idle(&mut self) -> bool {
        match &mut self.0 {
            Carrier::Http1(connection) => connection.is_idle(),
            Carrier::Http2(stream) => !stream.is_closed(),
        }
    }

    /// Sends a request and waits for the final response head. When the future is dropped the request is cancelled.
    ///
    /// # Errors
    ///
    /// When there is no response; it says whether the request may go elsewhere.
    pub async fn send(self, head: &Parts, body: B) -> Result<Sent<B>, SendError<B>> {
        match self.0 {
            Carrier::Http1(connection) => {
                let http1::Sent { response, written, informational } = connection.send(head, body).await?;
                let response = response.map(|body| ResponseBody(Content::Http1(body)));
                Ok(Sent { response, written, informational })
            }
            Carrier::Http2(stream) => {
                let (response, written) = stream.send(head, body).await?;
                let response = response.map(|body| ResponseBody(Content::Http2 { body, _stream: stream }));
                Ok(Sent { response, written, informational: 0 })
            }
        }
    }
}

impl<B: Upload> std::fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Carrier::Http1(_) => "Connection(HTTP/1.1)",
            Carrier::Http2(_) => "Connection(HTTP/2)",
        })
    }
}

/// The body of a response, in the pieces it arrives in.
pub struct ResponseBody<B: Upload>(Content<B>);

enum Content<B: Upload> {
    Http1(http1::ResponseBody<B>),
    Http2 {
        body: Incoming,
        /// Last, so that it counts as open until the body is gone.
        _stream: Stream<B>,
    },
}

impl<B: Upload> ResponseBody<B> {
    /// The connection, once the response was read to its end, if it has to be given back. One that is shared
    /// has not.
    pub fn release(&mut self) -> Option<Connection<B>> {
        match &mut self.0 {
            Content::Http1(body) => body.release().map(|connection| Connection(Carrier::Http1(connection))),
            Content::Http2 { .. } => None,
        }
    }

    /// After 101 (Switching Protocols): the bare bytes, both ways. `None` after any other status.
    pub fn into_upgraded(self) -> Option<Upgraded> {
        match self.0 {
            Content::Http1(body) => body.into_upgraded(),
            Content::Http2 { .. } => None,
        }
    }
}

impl<B: Upload> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Content::Http1(body) => Pin::new(body).poll_frame(cx),
            Content::Http2 { body, .. } => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|_| BodyError::Truncated))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Http1(body) => body.is_end_stream(),
            Content::Http2 { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Http1(body) => body.size_hint(),
            Content::Http2 { body, .. } => body.size_hint(),
        }
    }
}

impl<B: Upload> std::fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Content::Http1(_) => "ResponseBody(HTTP/1.1)",
            Content::Http2 { .. } => "ResponseBody(HTTP/2)",
        })
    }
}
