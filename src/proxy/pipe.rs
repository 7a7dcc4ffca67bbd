//! One direction of a tunnel.
//!
//! What is read goes straight on, from room that all tunnels of a thread share. Only what the other side does not
//! take at once is kept, and until that is gone nothing more is read. So a tunnel that has nothing to say holds no
//! buffer, and one whose reader is slow holds one and slows its writer down.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is read at once, and kept at most.
pub(super) const PIPE_BYTES: usize = 16 * 1024;

/// Bytes from a source to a sink.
#[derive(Debug)]
pub(super) struct Pipe {
    kept: Bytes,
    owes_flush: bool,
    flow: Flow,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// The source has ended, and the sink is to be told.
    Ending,
    Over,
}

/// Which end of a pipe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Source,
    Sink,
}

impl Pipe {
    /// `first` goes before all that is read.
    pub(super) fn new(first: Bytes) -> Self {
        // Without bytes it may still hold the buffer that they would have been in.
        let kept = if first.is_empty() { Bytes::new() } else { first };
        Self { kept, owes_flush: false, flow: Flow::Open, bytes: 0 }
    }

    /// How many bytes the sink has taken.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Passes on what there is. Ready when the sink was told that the source has ended, or nothing more can pass.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
        room: &mut [u8],
    ) -> Poll<Result<(), Broken>> {
        loop {
            if !self.kept.is_empty() {
                let mut kept = std::mem::take(&mut self.kept);
                let written = self.write(cx, sink, &kept);
                if let Ok(count) = written {
                    kept.advance(count);
                    if !kept.is_empty() {
                        self.kept = kept;
                        return Poll::Pending;
                    }
                }
                written.map_err(|_| Broken::Sink)?;
            }
            match self.flow {
                Flow::Open => {
                    let mut read = ReadBuf::new(room);
                    match Pin::new(&mut *source).poll_read(cx, &mut read) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Source)),
                        Poll::Pending => {
                            if self.owes_flush {
                                ready!(Pin::new(&mut *sink).poll_flush(cx)).map_err(|_| Broken::Sink)?;
                                self.owes_flush = false;
                            }
                            return Poll::Pending;
                        }
                    }
                    let read = read.filled();
                    if read.is_empty() {
                        self.flow = Flow::Ending;
                        continue;
                    }
                    let count = self.write(cx, sink, read).map_err(|_| Broken::Sink)?;
                    self.kept = Bytes::copy_from_slice(read.get(count..).unwrap_or_default());
                    if !self.kept.is_empty() {
                        return Poll::Pending;
                    }
                }
                Flow::Ending => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(|_| Broken::Sink)?;
                    self.flow = Flow::Over;
                }
                Flow::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes as much as is taken at once. If that is not all, the task is woken when more will be.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Poll::Ready(count) = Pin::new(&mut *sink).poll_write(cx, rest)? else { break };
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.owes_flush = true;
            self.bytes += count as u64;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn step(
        pipe: &mut Pipe,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        pipe.poll(&mut Context::from_waker(Waker::noop()), source, sink, &mut [0; PIPE_BYTES])
    }

    #[tokio::test]
    async fn a_slow_reader_slows_the_writer_down_and_little_is_kept() {
        let (mut writer, mut source) = duplex(1 << 20);
        let (mut sink, mut reader) = duplex(1000);
        let mut pipe = Pipe::new(Bytes::from_static(b"first"));
        writer.write_all(&[b'x'; 100_000]).await.unwrap();
        assert!(step(&mut pipe, &mut source, &mut sink).is_pending());
        assert!(pipe.kept.len() < PIPE_BYTES && pipe.bytes() == 1000, "{}", pipe.kept.len());
        let held = pipe.kept.len();
        assert!(step(&mut pipe, &mut source, &mut sink).is_pending());
        assert_eq!(pipe.kept.len(), held, "nothing more is read");
        drop(writer);
        let mut got = Vec::new();
        while step(&mut pipe, &mut source, &mut sink).is_pending() {
            let mut some = [0; 700];
            let count = reader.read(&mut some).await.unwrap();
            got.extend_from_slice(&some[..count]);
        }
        reader.read_to_end(&mut got).await.unwrap();
        assert_eq!((got.len(), &got[..6], pipe.bytes()), (100_005, &b"firstx"[..], 100_005));
        assert!(pipe.kept.is_empty());
    }

    #[tokio::test]
    async fn an_end_is_passed_on_and_a_broken_one_is_told_apart() {
        let (writer, mut source) = duplex(100);
        let (mut sink, mut reader) = duplex(100);
        let mut pipe = Pipe::new(Bytes::new());
        drop(writer);
        assert_eq!(step(&mut pipe, &mut source, &mut sink), Poll::Ready(Ok(())));
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);

        let (mut writer, mut source) = duplex(100);
        let (mut sink, reader) = duplex(100);
        let mut pipe = Pipe::new(Bytes::new());
        writer.write_all(b"x").await.unwrap();
        drop(reader);
        assert_eq!(step(&mut pipe, &mut source, &mut sink), Poll::Ready(Err(Broken::Sink)));
        let mut failing = reset();
        let mut pipe = Pipe::new(Bytes::new());
        assert_eq!(step(&mut pipe, &mut failing, &mut sink), Poll::Ready(Err(Broken::Source)));
    }

    /// A source that was reset.
    fn reset() -> impl AsyncRead + Unpin {
        struct Reset;
        impl AsyncRead for Reset {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        Reset
    }
}
