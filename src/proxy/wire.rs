//! The bytes between a client and us, in the clear or through TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A socket, with the bytes that were read from it in advance in front.
#[derive(Debug)]
pub(super) struct Primed {
    pub(super) stream: TcpStream,
    pub(super) first: Vec<u8>,
}

/// What requests come through.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(Primed),
    /// Boxed, because it is large and most of what holds a wire does not need to be.
    Tls(Box<TlsStream<Primed>>),
}

impl Wire {
    pub(super) fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(primed) => &primed.stream,
            Self::Tls(tls) => &tls.get_ref().0.stream,
        }
    }

    /// Says something as far as the socket takes it at once: a client that does not read gets nothing.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(_)) = Pin::new(&mut *self).poll_write(&mut cx, bytes) {
            let _ = Pin::new(&mut *self).poll_flush(&mut cx);
        }
        let _ = Pin::new(self).poll_shutdown(&mut cx);
    }
}

impl AsyncRead for Primed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.first.is_empty() {
            return Pin::new(&mut me.stream).poll_read(cx, buf);
        }
        let count = me.first.len().min(buf.remaining());
        buf.put_slice(&me.first[..count]);
        me.first.drain(..count);
        if me.first.is_empty() {
            me.first = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Primed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    // All records of TLS that wait in one go; and when a handshake fails, the alert beside what comes before it: there
    // is no second write then.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(primed) => Pin::new(primed).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(primed) => Pin::new(primed).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(primed) => Pin::new(primed).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(primed) => Pin::new(primed).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
