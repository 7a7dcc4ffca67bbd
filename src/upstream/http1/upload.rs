//! Writing a request: its head, then its body as it comes.
//!
//! A piece of the body is asked for when all before it is written, so that a slow endpoint slows the client
//! down. What is small goes out in one write with what frames it; large pieces are written from where they are.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::request::Parts;
use http_body::Body;
use tokio::io::AsyncWrite;
use tokio::time::Sleep;

use super::super::stream::Stream;
use super::request_head::{self, Todo};
use crate::clock;

/// How long a body waits for 100 (Continue): RFC 9110 §10.1.1 forbids to wait for ever.
const CONTINUE_AFTER: Duration = Duration::from_secs(1);
/// So much of a piece is copied to go out together with what stands before it.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// A request on its way out.
#[derive(Debug)]
pub(super) struct Upload<B> {
    out: Vec<u8>,
    out_written: usize,
    piece: Bytes,
    todo: Todo,
    body: Option<B>,
    is_touched: bool,
    /// The body waits for 100 (Continue), or for this.
    held: Option<Pin<Box<Sleep>>>,
    owes_line_end: bool,
    owes_flush: bool,
    began: Option<Instant>,
    has_sent: bool,
    /// No more is written, though not all was.
    is_cut: bool,
}

/// The request's own body did not come as it was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadBody;

impl<B> Upload<B> {
    pub(super) fn new() -> Self {
        Self {
            out: Vec::new(),
            out_written: 0,
            piece: Bytes::new(),
            todo: Todo::Nothing,
            body: None,
            is_touched: false,
            held: None,
            owes_line_end: false,
            owes_flush: false,
            began: None,
            has_sent: false,
            is_cut: false,
        }
    }

    /// When the first byte was about to be written.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Whether a byte of the request can have reached the endpoint.
    pub(super) fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// Whether the request was wholly written.
    pub(super) fn is_done(&self) -> bool {
        !self.is_cut
            && self.todo == Todo::Nothing
            && self.out_written == self.out.len()
            && self.piece.is_empty()
            && !self.owes_flush
    }

    /// The body, if nothing of it was taken.
    pub(super) fn take_untouched(&mut self) -> Option<B> {
        if self.is_touched { None } else { self.body.take() }
    }

    /// The endpoint has said 100 (Continue).
    pub(super) fn go_ahead(&mut self) {
        self.held = None;
    }

    /// The endpoint has answered: a body that still waits is not asked for any more.
    pub(super) fn answered(&mut self) {
        if self.held.take().is_some() {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.is_cut = true;
        if self.is_touched {
            self.body = None;
        }
    }

    /// Lets go of a buffer larger than `bytes_max`.
    pub(super) fn shrink(&mut self, bytes_max: usize) {
        if self.out.capacity() > bytes_max {
            self.out = Vec::new();
            self.out_written = 0;
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B> {
    /// The next request; nothing is written yet.
    pub(super) fn begin(&mut self, head: &Parts, body: B) {
        let todo = Todo::with(&body);
        self.out.clear();
        request_head::write(&mut self.out, head, todo);
        let waits = todo != Todo::Nothing && request_head::expects_continue(&head.headers);
        *self = Self {
            out: std::mem::take(&mut self.out),
            todo,
            body: Some(body),
            held: waits.then(|| Box::pin(tokio::time::sleep(CONTINUE_AFTER))),
            ..Self::new()
        };
    }

    /// Writes on. Ready when all is written, or nothing more can be: that the endpoint takes no more is no error
    /// as long as it may have answered.
    pub(super) fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), BadBody>> {
        if self.is_cut || self.is_done() {
            return Poll::Ready(Ok(()));
        }
        if self.began.is_none() {
            self.began = Some(clock::now());
        }
        loop {
            if ready!(self.poll_write(stream, cx)).is_err() {
                self.cut();
                return Poll::Ready(Ok(()));
            }
            if self.todo == Todo::Nothing {
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(cx) {
                Poll::Ready(filled) => filled?,
                Poll::Pending if self.owes_line_end => {
                    self.owes_line_end = false;
                    self.write_first(b"\r\n");
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes what there is.
    fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let rest = self.out.get(self.out_written..).unwrap_or_default();
            let bytes = if rest.is_empty() { &self.piece[..] } else { rest };
            if bytes.is_empty() {
                break;
            }
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_sent = true;
            self.owes_flush = true;
            if rest.is_empty() {
                self.piece.advance(count);
            } else {
                self.out_written += count;
            }
        }
        if self.owes_flush {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.owes_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece of the body; all before it is written.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BadBody>> {
        if let Some(held) = &mut self.held {
            ready!(held.as_mut().poll(cx));
            self.held = None;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Err(BadBody)) };
        self.is_touched = true;
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            Some(Ok(Ok(data))) => self.fill(data),
            Some(Ok(Err(frame))) => self.end(frame.into_trailers().ok().as_ref()),
            None => self.end(None),
            Some(Err(_)) => Err(BadBody),
        })
    }

    fn fill(&mut self, data: Bytes) -> Result<(), BadBody> {
        match &mut self.todo {
            _ if data.is_empty() => {}
            Todo::Nothing => return Err(BadBody),
            Todo::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(BadBody)?;
                if *left == 0 {
                    self.all_taken();
                }
                self.piece = data;
            }
            Todo::Chunked => {
                self.begin_out();
                request_head::write_chunk_size(&mut self.out, data.len());
                let (copied, rest) = data.split_at(data.len().min(COPIED_BYTES_MAX));
                self.out.extend_from_slice(copied);
                self.owes_line_end = !rest.is_empty();
                if rest.is_empty() {
                    self.out.extend_from_slice(b"\r\n");
                } else {
                    self.piece = data.slice(copied.len()..);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), BadBody> {
        match self.todo {
            Todo::Nothing => {}
            Todo::Length(_) => return Err(BadBody),
            Todo::Chunked => {
                self.begin_out();
                request_head::write_end(&mut self.out, trailers);
                self.all_taken();
            }
        }
        Ok(())
    }

    fn all_taken(&mut self) {
        self.todo = Todo::Nothing;
        self.body = None;
    }

    /// Starts the next bytes to be written, with the line end that the last chunk still lacks.
    fn begin_out(&mut self) {
        let line_end: &[u8] = if self.owes_line_end { b"\r\n" } else { b"" };
        self.owes_line_end = false;
        self.write_first(line_end);
    }

    fn write_first(&mut self, bytes: &[u8]) {
        self.out.clear();
        self.out_written = 0;
        self.out.extend_from_slice(bytes);
    }
}
