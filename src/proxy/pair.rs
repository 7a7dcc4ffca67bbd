//! A mirrored request and its copy, and how their answers compare.
//!
//! Each side tells what it saw once, and whichever is later compares. A side that is dropped without a word has seen
//! nothing: a visitor who went away, a copy that was cut.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use bytes::Bytes;

use crate::telemetry::{MirrorDrop, MirrorResult, Mirrored, ServiceTally};
use crate::traffic::Variant;

/// So much of a body is compared.
const COMPARED_BYTES_MAX: usize = 1024 * 1024;

/// What a pair is counted under, and what of it is compared besides the status.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) tally: Rc<ServiceTally>,
    /// The place that gets the copy.
    pub(super) variant: Variant,
    pub(super) compares_latency: bool,
    pub(super) compares_body: bool,
    /// How long the copy was waited for: an original that took as long says nothing about it.
    pub(super) timeout: Duration,
}

#[derive(Debug)]
struct Pair {
    terms: Terms,
    original: Cell<Option<Side>>,
    copy: Cell<Option<Side>>,
}

/// What one side has to tell.
#[derive(Clone, Copy, Debug)]
enum Side {
    Nothing,
    Saw(Seen),
}

/// An answer.
#[derive(Clone, Copy, Debug)]
struct Seen {
    answer: Told,
    digest: Option<[u8; SHA256_OUTPUT_LEN]>,
    is_broken: bool,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    Head {
        code: u16,
        latency: Option<Duration>,
    },
    /// No answer at all.
    Failed,
    /// None in time.
    Late,
}

impl Seen {
    fn is_failure(&self) -> bool {
        match self.answer {
            Told::Head { code, .. } => code >= 500 || self.is_broken,
            Told::Failed | Told::Late => true,
        }
    }

    /// Hundreds of its status code; 0 without one.
    fn class(&self) -> u16 {
        match self.answer {
            Told::Head { code, .. } => code / 100,
            Told::Failed | Told::Late => 0,
        }
    }

    fn latency(&self) -> Option<Duration> {
        match self.answer {
            Told::Head { latency, .. } => latency,
            Told::Failed | Told::Late => None,
        }
    }
}

impl Pair {
    fn settle(&self) {
        let (Some(original), Some(copy)) = (self.original.get(), self.copy.get()) else { return };
        // Without a copy there is nothing but the reason, which is counted.
        let Side::Saw(copy) = copy else { return };
        let mirrored = match original {
            Side::Saw(original) => self.compare(&original, &copy),
            Side::Nothing => None,
        };
        let unpaired = Mirrored {
            result: MirrorResult::Unpaired,
            status_differs: false,
            body_differs: false,
            only_copy_failed: false,
            only_original_failed: false,
            latency: None,
        };
        self.terms.tally.mirrored(self.terms.variant, &mirrored.unwrap_or(unpaired));
    }

    fn compare(&self, original: &Seen, copy: &Seen) -> Option<Mirrored> {
        let is_as_late = || original.latency().is_none_or(|latency| latency >= self.terms.timeout);
        if matches!(copy.answer, Told::Late) && is_as_late() {
            return None;
        }
        let status_differs = original.class() != copy.class();
        let body_differs = matches!((original.digest, copy.digest), (Some(one), Some(other)) if one != other);
        let result = match copy.answer {
            Told::Failed | Told::Late => MirrorResult::Failed,
            Told::Head { .. } if status_differs || body_differs || copy.is_broken => MirrorResult::Different,
            Told::Head { .. } => MirrorResult::Equal,
        };
        let latency = copy.latency().zip(original.latency()).filter(|_| self.terms.compares_latency);
        Some(Mirrored {
            result,
            status_differs,
            body_differs,
            only_copy_failed: copy.is_failure() && !original.is_failure(),
            only_original_failed: original.is_failure() && !copy.is_failure(),
            latency,
        })
    }
}

/// Both sides of a request that is mirrored.
pub(super) fn pair(terms: Terms) -> (Original, Copy) {
    let compares_body = terms.compares_body;
    let pair = Rc::new(Pair { terms, original: Cell::default(), copy: Cell::default() });
    let body = || compares_body.then(|| Box::new(Digest::new()));
    let original =
        Original { pair: pair.clone(), head: None, body: body(), is_whole: false, is_broken: false };
    (original, Copy { pair, head: None, body: body(), is_broken: false })
}

/// What the visitor gets. It tells when it is dropped.
#[derive(Debug)]
pub(super) struct Original {
    pair: Rc<Pair>,
    head: Option<(u16, Option<Duration>)>,
    body: Option<Box<Digest>>,
    is_whole: bool,
    is_broken: bool,
}

impl Original {
    /// The answer's head is there; `ttfb` if an endpoint took that long.
    pub(super) fn answered(&mut self, code: u16, ttfb: Option<Duration>) {
        self.head = Some((code, ttfb));
    }

    /// A piece of its body passes.
    pub(super) fn piece(&mut self, piece: &[u8]) {
        if let Some(body) = &mut self.body {
            body.take(piece);
        }
    }

    /// The body is over, in good order or not.
    pub(super) fn ended(&mut self, is_whole: bool) {
        (self.is_whole, self.is_broken) = (is_whole, !is_whole);
    }

    /// Whether it wants to see the body.
    pub(super) fn wants_body(&self) -> bool {
        self.body.is_some()
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let side = match self.head {
            None => Side::Nothing,
            Some((code, latency)) => Side::Saw(Seen {
                answer: Told::Head { code, latency },
                digest: self.body.take().filter(|_| self.is_whole).map(|body| body.finish()),
                is_broken: self.is_broken,
            }),
        };
        self.pair.original.set(Some(side));
        self.pair.settle();
    }
}

/// What the candidate answers. Dropped without a word, it was cut.
#[derive(Debug)]
pub(super) struct Copy {
    pair: Rc<Pair>,
    head: Option<(u16, Duration)>,
    body: Option<Box<Digest>>,
    is_broken: bool,
}

impl Copy {
    /// The answer's head is there.
    pub(super) fn answered(&mut self, code: u16, latency: Duration) {
        self.head = Some((code, latency));
    }

    /// A piece of its body.
    pub(super) fn piece(&mut self, piece: &Bytes) {
        if let Some(body) = &mut self.body {
            body.take(piece);
        }
    }

    /// The body broke off.
    pub(super) fn broke(&mut self) {
        self.is_broken = true;
    }

    /// The answer is over: to its end, or to where it is compared.
    pub(super) fn ended(mut self) {
        let body = self.body.take().filter(|_| !self.is_broken);
        self.tell(body);
    }

    /// It took longer than a copy may take.
    pub(super) fn late(mut self) {
        // A head is an answer, whatever follows it.
        self.tell(None);
    }

    /// There is no answer, through the endpoint's fault.
    pub(super) fn failed(mut self) {
        self.say(Side::Saw(Seen { answer: Told::Failed, digest: None, is_broken: false }));
    }

    /// It does not count.
    pub(super) fn dropped(mut self, why: MirrorDrop) {
        self.pair.terms.tally.mirror_dropped(self.pair.terms.variant, why);
        self.say(Side::Nothing);
    }

    fn tell(&mut self, body: Option<Box<Digest>>) {
        let answer =
            self.head.map_or(Told::Late, |(code, latency)| Told::Head { code, latency: Some(latency) });
        let digest = body.map(|body| body.finish());
        self.say(Side::Saw(Seen { answer, digest, is_broken: self.is_broken }));
    }

    fn say(&mut self, side: Side) {
        self.pair.copy.set(Some(side));
        self.pair.settle();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if self.pair.copy.get().is_none() {
            self.pair.terms.tally.mirror_dropped(self.pair.terms.variant, MirrorDrop::Cut);
            self.say(Side::Nothing);
        }
    }
}

/// A digest of the first MiB of a body.
struct Digest {
    context: Context,
    left: usize,
}

impl Digest {
    fn new() -> Self {
        Self { context: Context::new(&SHA256), left: COMPARED_BYTES_MAX }
    }

    fn take(&mut self, piece: &[u8]) {
        let taken = &piece[..piece.len().min(self.left)];
        self.left -= taken.len();
        self.context.update(taken);
    }

    fn finish(self) -> [u8; SHA256_OUTPUT_LEN] {
        self.context.finish().as_ref().try_into().unwrap_or_default()
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{MirrorCounts, ServiceSlot, Tallies};

    const SECOND: Duration = Duration::from_secs(1);

    /// What is counted after both sides did so.
    fn counted(original: impl FnOnce(Original), copy: impl FnOnce(Copy)) -> MirrorCounts {
        let tallies = Tallies::new(1);
        let worker = tallies.worker(0);
        let (one, other) = pair(Terms {
            tally: worker.service(ServiceSlot(0)),
            variant: Variant::Green,
            compares_latency: true,
            compares_body: true,
            timeout: SECOND,
        });
        copy(other);
        assert_eq!(tallies.mirrored(ServiceSlot(0)).green.compared(), 0, "one side alone is no pair");
        original(one);
        tallies.mirrored(ServiceSlot(0)).green
    }

    fn says(code: u16, text: &'static str) -> impl FnOnce(Original) {
        move |mut original| {
            original.answered(code, Some(SECOND / 2));
            original.piece(text.as_bytes());
            original.ended(true);
        }
    }

    fn copies(code: u16, text: &'static str) -> impl FnOnce(Copy) {
        move |mut copy| {
            copy.answered(code, SECOND / 4);
            text.chars().for_each(|letter| copy.piece(&Bytes::from(letter.to_string())));
            copy.ended();
        }
    }

    #[track_caller]
    fn check(counts: &MirrorCounts, result: MirrorResult, differ: [u64; 2], failed: [u64; 2]) {
        assert_eq!(counts.came_to(result), 1, "{counts:?}");
        assert_eq!([counts.status_differs, counts.body_differs], differ, "{counts:?}");
        assert_eq!([counts.only_copy_failed, counts.only_original_failed], failed, "{counts:?}");
    }

    #[test]
    fn two_answers_are_equal_if_their_classes_and_bodies_are() {
        use MirrorResult::{Different, Equal, Failed};
        check(&counted(says(200, "abc"), copies(201, "abc")), Equal, [0, 0], [0, 0]);
        check(&counted(says(200, "abc"), copies(200, "abd")), Different, [0, 1], [0, 0]);
        check(&counted(says(200, "abc"), copies(404, "abc")), Different, [1, 0], [0, 0]);
        check(&counted(says(200, "abc"), copies(503, "abc")), Different, [1, 0], [1, 0]);
        check(&counted(says(500, "abc"), copies(200, "abc")), Different, [1, 0], [0, 1]);
        check(&counted(says(500, "abc"), copies(503, "abc")), Equal, [0, 0], [0, 0]);
        check(&counted(says(200, "abc"), Copy::failed), Failed, [1, 0], [1, 0]);
        check(&counted(says(502, "abc"), Copy::failed), Failed, [1, 0], [0, 0]);
    }

    #[test]
    fn a_copy_is_late_only_where_its_original_was_not() {
        let slow = |mut original: Original| {
            original.answered(200, Some(SECOND));
            original.ended(true);
        };
        check(&counted(says(200, ""), Copy::late), MirrorResult::Failed, [1, 0], [1, 0]);
        check(&counted(slow, Copy::late), MirrorResult::Unpaired, [0, 0], [0, 0]);
        let endless = |mut copy: Copy| {
            copy.answered(200, SECOND / 4);
            copy.late();
        };
        check(&counted(says(200, "abc"), endless), MirrorResult::Equal, [0, 0], [0, 0]);
    }

    #[test]
    fn who_goes_away_is_compared_with_nothing() {
        check(&counted(drop, copies(500, "")), MirrorResult::Unpaired, [0, 0], [0, 0]);
        let gone = counted(says(200, ""), drop);
        assert_eq!((gone.compared(), gone.dropped(MirrorDrop::Cut)), (0, 1));
        let full = counted(says(200, ""), |copy| copy.dropped(MirrorDrop::NoConnection));
        assert_eq!((full.all_dropped(), full.dropped(MirrorDrop::NoConnection)), (1, 1));
        let left = |mut original: Original| original.answered(200, None);
        check(&counted(left, copies(200, "abc")), MirrorResult::Equal, [0, 0], [0, 0]);
        let broken = |mut original: Original| {
            original.answered(200, None);
            original.ended(false);
        };
        check(&counted(broken, copies(200, "abc")), MirrorResult::Equal, [0, 0], [0, 1]);
    }
}
