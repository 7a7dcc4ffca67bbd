//! What is left of a connection when the endpoint has changed the protocol.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::Slot;
use super::super::stream::Stream;
use super::connection::Wire;

/// The bare bytes to and from an endpoint after 101 (Switching Protocols), beginning right behind its head.
/// Dropping it closes the connection.
#[derive(Debug)]
pub struct Upgraded {
    stream: Stream,
    /// Read together with the head.
    first: Bytes,
    /// Last, so that it is free when the socket is closed.
    _slot: Slot,
}

impl Upgraded {
    pub(super) fn new<B>(wire: Wire<B>) -> Self {
        // Without bytes it would still hold the buffer, for as long as the protocol is spoken.
        let first = if wire.input.is_empty() { Bytes::new() } else { wire.input.freeze() };
        Self { stream: wire.stream, first, _slot: wire.slot }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.first.len().min(buf.remaining());
        buf.put_slice(self.first.get(..count).unwrap_or_default());
        self.first.advance(count);
        if self.first.is_empty() {
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
