//! The body of a request, for as many attempts as it takes.
//!
//! A body that may have to be sent again is kept while it is sent: handles to the pieces that were read, no copies. It is
//! given up as soon as it is longer than it may be, or the thread keeps too much of all bodies together; from then on it
//! goes through as any other. What is kept goes when an attempt is answered.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::body::{ClientBody, RequestBody, RequestBodyError};

/// So much of all bodies together is kept by a thread.
pub(super) const KEPT_BYTES_MAX: usize = 16 << 20;
/// What a piece, or a field of the trailers, costs beside its bytes.
const PIECE_BYTES: usize = 64;
/// So many pieces of a body are kept, however small they are.
pub(super) const PIECES_MAX: usize = 1024;

/// What attempts are given as the body.
#[derive(Debug)]
pub(super) enum Supply {
    /// There is none.
    Empty,
    /// For one attempt, unless it comes back untouched.
    Once(Option<RequestBody>),
    /// For as many as it is kept for.
    Kept(Rc<Kept>),
}

impl Supply {
    /// Keeps up to so many bytes, if any. `memory` is what this thread keeps already.
    pub(super) fn new(body: RequestBody, bytes_max: Option<usize>, memory: &Rc<Cell<usize>>) -> Self {
        let bytes_max = bytes_max.filter(|bytes_max| {
            let expected = body.size_hint().exact().unwrap_or(1);
            *bytes_max as u64 >= expected
        });
        match (body, bytes_max) {
            (RequestBody::Empty, _) => Self::Empty,
            (RequestBody::Client(source), Some(bytes_max)) => {
                let hold = Hold { memory: memory.clone(), bytes: 0 };
                let kept =
                    Keeping { source, pieces: Vec::new(), next: 0, left: Some(bytes_max), attempt: 0, hold };
                Self::Kept(Rc::new(Kept(RefCell::new(kept))))
            }
            (body, _) => Self::Once(Some(body)),
        }
    }

    /// Whether there is a body for one more attempt.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body) => body.is_some(),
            Self::Kept(kept) => kept.0.borrow().left.is_some(),
        }
    }

    /// The body for the next attempt. `None` if it is not whole any more.
    pub(super) fn next(&mut self) -> Option<RequestBody> {
        match self {
            Self::Empty => Some(RequestBody::Empty),
            Self::Once(body) => body.take(),
            Self::Kept(kept) => {
                let attempt = kept.0.borrow().attempt;
                let body = KeptBody { kept: kept.clone(), attempt };
                self.is_whole().then_some(RequestBody::Kept(body))
            }
        }
    }

    /// Takes back what an attempt has not touched.
    pub(super) fn give_back(&mut self, body: RequestBody) {
        if let Self::Once(once) = self {
            *once = Some(body);
        }
    }

    /// An attempt is over: what is still sent for it ends, and the next begins at the beginning.
    pub(super) fn rewind(&self) {
        if let Self::Kept(kept) = self {
            let mut keeping = kept.0.borrow_mut();
            keeping.attempt += 1;
            keeping.next = 0;
            keeping.source.rest();
        }
    }

    /// No attempt will follow: nothing more is kept, and what was sent goes.
    pub(super) fn settle(&self) {
        if let Self::Kept(kept) = self {
            let mut keeping = kept.0.borrow_mut();
            keeping.left = None;
            keeping.let_go();
        }
    }
}

/// A body that is kept while it is sent.
#[derive(Debug)]
pub(super) struct Kept(RefCell<Keeping>);

#[derive(Debug)]
struct Keeping {
    source: ClientBody,
    pieces: Vec<Piece>,
    /// The piece that the attempt takes next.
    next: usize,
    /// How much more may be kept; `None`: no more attempts.
    left: Option<usize>,
    /// The one that may take from it.
    attempt: u32,
    hold: Hold,
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// What a body takes of the thread's memory.
#[derive(Debug)]
struct Hold {
    memory: Rc<Cell<usize>>,
    bytes: usize,
}

impl Keeping {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if let Some(piece) = self.pieces.get(self.next) {
            self.next += 1;
            let frame = piece.frame();
            self.let_go();
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = self.source.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.keep(frame);
        }
        polled
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(left) = self.left else { return };
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Piece::Data(data.clone()),
            (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
            (None, None) => return,
        };
        let fits = self.pieces.len() < PIECES_MAX && self.hold.take(piece.bytes() + PIECE_BYTES);
        self.left = left.checked_sub(piece.bytes()).filter(|_| fits);
        if self.left.is_some() {
            self.pieces.push(piece);
            self.next += 1;
        } else {
            self.next = self.pieces.len();
            self.let_go();
        }
    }

    /// Nothing is kept for nobody.
    fn let_go(&mut self) {
        if self.left.is_none() && self.next >= self.pieces.len() {
            self.pieces = Vec::new();
            self.next = 0;
            self.hold.give_back();
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.pieces.len() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.pieces.get(self.next..).unwrap_or_default();
        match self.source.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + ahead.iter().map(Piece::data_bytes).sum::<u64>()),
            None => SizeHint::default(),
        }
    }
}

impl Piece {
    fn frame(&self) -> Frame<Bytes> {
        match self.clone() {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }

    fn data_bytes(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(_) => 0,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(trailers) => trailers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + PIECE_BYTES)
                .sum::<usize>(),
        }
    }
}

impl Hold {
    fn take(&mut self, bytes: usize) -> bool {
        let taken = self.memory.get() + bytes;
        let fits = taken <= KEPT_BYTES_MAX;
        if fits {
            self.memory.set(taken);
            self.bytes += bytes;
        }
        fits
    }

    fn give_back(&mut self) {
        self.memory.set(self.memory.get().saturating_sub(self.bytes));
        self.bytes = 0;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A kept body, as one attempt sends it.
#[derive(Debug)]
pub struct KeptBody {
    kept: Rc<Kept>,
    attempt: u32,
}

impl KeptBody {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let mut keeping = self.kept.0.borrow_mut();
        if keeping.attempt != self.attempt {
            return Poll::Ready(Some(Err(RequestBodyError::Broken)));
        }
        keeping.poll_frame(cx)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.kept.0.borrow().is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.kept.0.borrow().size_hint()
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        let keeping = self.kept.0.borrow();
        if keeping.attempt == self.attempt {
            keeping.source.rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_only_so_much_and_gets_it_back() {
        let memory = Rc::<Cell<usize>>::default();
        let hold = || Hold { memory: memory.clone(), bytes: 0 };
        let (mut one, mut other) = (hold(), hold());
        assert!(one.take(KEPT_BYTES_MAX - 10) && other.take(10));
        assert!(!other.take(1) && memory.get() == KEPT_BYTES_MAX);
        one.give_back();
        assert!(other.take(1) && memory.get() == 11);
        drop(other);
        assert_eq!(memory.get(), 0);
    }
}
