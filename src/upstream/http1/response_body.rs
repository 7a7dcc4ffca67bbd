//! The body of a response: it owns its connection until its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::chunks::{Chunks, Piece};
use super::connection::{Connection, Wire};
use super::fields::Malformed;
use super::framing::Framing;
use super::upgraded::Upgraded;

/// The body of a response, in the pieces it arrives in, each little more than 64 KiB at most.
#[derive(Debug)]
pub struct ResponseBody<B> {
    /// None after an error, and when the connection was let go of.
    wire: Option<Box<Wire<B>>>,
    rest: Rest,
    keeps_alive: bool,
}

/// What of a body is still to come.
#[derive(Debug)]
enum Rest {
    Nothing,
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Switched,
}

/// A response body that did not come to its announced end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The connection ended first.
    #[error("the endpoint ended the response before its end")]
    Truncated,
    /// Its chunks are none.
    #[error("the endpoint garbled the response: {0}")]
    Protocol(#[source] Malformed),
    /// The request's body broke off, so that its response is worth nothing.
    #[error("the request body broke off while the response was read")]
    RequestBody,
}

impl<B> ResponseBody<B> {
    pub(super) fn new(wire: Box<Wire<B>>, framing: Framing, keeps_alive: bool) -> Self {
        let rest = match framing {
            Framing::Empty | Framing::Length(0) => Rest::Nothing,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Chunks::new()),
            Framing::UntilClose => Rest::UntilClose,
            Framing::Switched => Rest::Switched,
        };
        Self { wire: Some(wire), rest, keeps_alive }
    }

    /// The connection, once the response was read to its end, if it may carry another request. If it may not it
    /// is closed.
    pub fn release(&mut self) -> Option<Connection<B>> {
        let wire = self.wire.take()?;
        if self.keeps_alive && self.rest.is_over() { Connection::again(wire) } else { None }
    }

    /// After 101 (Switching Protocols): the bare bytes, both ways. `None` after any other status.
    pub fn into_upgraded(self) -> Option<Upgraded> {
        match self.rest {
            Rest::Switched => self.wire.map(|wire| Upgraded::new(*wire)),
            Rest::Nothing | Rest::Length(_) | Rest::Chunked(_) | Rest::UntilClose => None,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> ResponseBody<B> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        let Some(wire) = &mut self.wire else { return Poll::Ready(Ok(Piece::End)) };
        if let Poll::Ready(Err(_)) = wire.upload.poll(&mut wire.stream, cx) {
            return Poll::Ready(Err(BodyError::RequestBody));
        }
        loop {
            match self.rest.take(&mut wire.input) {
                Ok(None) => {}
                Ok(Some(piece)) => return Poll::Ready(Ok(piece)),
                Err(malformed) => return Poll::Ready(Err(BodyError::Protocol(malformed))),
            }
            match wire.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(Ok(_)) if matches!(self.rest, Rest::UntilClose) => self.rest = Rest::Nothing,
                Poll::Ready(Ok(_) | Err(_)) => return Poll::Ready(Err(BodyError::Truncated)),
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_piece(cx).map(|piece| match piece {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End) => None,
            Err(error) => {
                self.wire = None;
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            Rest::Nothing => SizeHint::with_exact(0),
            Rest::Length(left) => SizeHint::with_exact(left),
            Rest::Chunked(_) | Rest::UntilClose | Rest::Switched => SizeHint::default(),
        }
    }
}

impl Rest {
    fn is_over(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::Length(_) | Self::UntilClose | Self::Switched => false,
        }
    }

    /// Takes what comes next from the front of what was read; `None`: more has to be read first.
    fn take(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        match self {
            Self::Nothing | Self::Switched => Ok(Some(Piece::End)),
            Self::Chunked(chunks) => chunks.next(input),
            Self::Length(_) | Self::UntilClose if input.is_empty() => Ok(None),
            Self::UntilClose => Ok(Some(Piece::Data(input.split().freeze()))),
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                if *left == 0 {
                    *self = Self::Nothing;
                }
                Ok(Some(Piece::Data(input.split_to(count).freeze())))
            }
        }
    }
}
