//! What a command says: as much of it as a person reads, however much it is, and no secret.
//!
//! Bytes come in whatever pieces the pipe gives. Secrets are looked for across the pieces, so as many bytes as the longest secret
//! may have stay back until the next piece. What is known to be clean goes into a beginning and an end of fixed size; what is between them is
//! counted and forgotten.

use std::collections::VecDeque;
use std::fmt::Write as _;

use memchr::memmem::Finder;

use crate::launch::Variable;

/// How much of the beginning is kept.
const HEAD_BYTES: usize = 1024;

/// How much of the end is kept: there a command says why.
const TAIL_BYTES: usize = 2560;

/// What an outcome may say.
pub(super) const SAID_BYTES_MAX: usize = 4096;

/// How much of the last line is said of a success.
const LINE_BYTES_MAX: usize = 256;

/// A shorter secret would be found in every other word.
const SECRET_BYTES_MIN: usize = 4;

/// Of a secret of several lines, a line shorter than this is not looked for by itself.
const SECRET_LINE_BYTES_MIN: usize = 8;

const MASK: &[u8] = b"***";

/// What must not be said.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    finders: Vec<Finder<'static>>,
    longest: usize,
}

impl Secrets {
    /// Of a launch: the values of its secret variables.
    pub(super) fn of<'a>(
        variables: impl IntoIterator<Item = (&'a str, &'a Variable)>,
        value: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let names = variables.into_iter().filter(|(_, variable)| **variable == Variable::Secret);
        Self::new(names.filter_map(|(name, _)| value(name)))
    }

    fn new(values: impl Iterator<Item = String>) -> Self {
        let mut secrets = Self::default();
        for value in values {
            let whole = value.trim();
            // A key in several lines may be said line by line.
            let lines = whole.lines().map(str::trim).filter(|line| line.len() >= SECRET_LINE_BYTES_MIN);
            for text in lines.chain([whole]).filter(|text| text.len() >= SECRET_BYTES_MIN) {
                secrets.finders.push(Finder::new(text).into_owned());
                secrets.longest = secrets.longest.max(text.len());
            }
        }
        secrets
    }

    /// A text without them.
    pub(super) fn mask(&self, text: &str) -> String {
        let covered = self.covered(text.as_bytes());
        let mut masked = Vec::with_capacity(text.len());
        copy(text.as_bytes(), &covered, 0, text.len(), |bytes| masked.extend_from_slice(bytes));
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// Where they are, in order, without overlap.
    fn covered(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for finder in &self.finders {
            let mut from = 0;
            while let Some(at) = finder.find(&bytes[from..]) {
                found.push((from + at, from + at + finder.needle().len()));
                // It may overlap with itself.
                from += at + 1;
            }
        }
        found.sort_unstable();
        found.dedup_by(|later, earlier| {
            let joins = later.0 < earlier.1;
            if joins {
                earlier.1 = earlier.1.max(later.1);
            }
            joins
        });
        found
    }
}

/// Gives what is between `from` and `to`, with a mask in place of what is covered. A mask belongs to where its secret begins.
fn copy(bytes: &[u8], covered: &[(usize, usize)], from: usize, to: usize, mut give: impl FnMut(&[u8])) {
    let mut at = from;
    for &(begin, end) in covered.iter().filter(|(begin, end)| *end > from && *begin < to) {
        if begin > at {
            give(&bytes[at..begin]);
        }
        if begin >= from {
            give(MASK);
        }
        at = end;
    }
    if at < to {
        give(&bytes[at..to]);
    }
}

/// What came so far.
pub(super) struct Output {
    secrets: Secrets,
    /// What may be the beginning of a secret, and how much of its beginning is part of one that has a mask already.
    held: Vec<u8>,
    masked: usize,
    kept: Kept,
}

#[derive(Default)]
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// What was between them.
    left_out: u64,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES - self.head.len();
        let (head, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(head);
        let too_many = (self.tail.len() + rest.len()).saturating_sub(TAIL_BYTES);
        self.left_out = self.left_out.saturating_add(u64::try_from(too_many).unwrap_or(u64::MAX));
        let old = too_many.min(self.tail.len());
        self.tail.drain(..old);
        self.tail.extend(&rest[too_many - old..]);
    }
}

impl Output {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new(), masked: 0, kept: Kept::default() }
    }

    /// Takes what came.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.secrets.longest == 0 {
            self.kept.take(bytes);
            return;
        }
        self.held.extend_from_slice(bytes);
        let sure = (self.held.len() + 1).saturating_sub(self.secrets.longest);
        self.let_go(sure);
    }

    /// Lets go of the first `sure` bytes: no secret that begins in them is still to be completed.
    fn let_go(&mut self, sure: usize) {
        let covered = self.secrets.covered(&self.held);
        let from = self.masked.min(sure);
        copy(&self.held, &covered, from, sure, |bytes| self.kept.take(bytes));
        let beyond = covered.iter().filter(|(begin, _)| *begin < sure).map(|(_, end)| *end).max();
        let masked = self.masked.max(beyond.unwrap_or(0));
        self.held.drain(..sure);
        self.masked = masked.saturating_sub(sure);
    }

    /// All that is kept of it.
    pub(super) fn whole(mut self) -> String {
        self.let_go(self.held.len());
        let Kept { head, mut tail, left_out } = self.kept;
        let tail = tail.make_contiguous();
        if left_out == 0 {
            return printable(&String::from_utf8_lossy(&[&head, &*tail].concat()));
        }
        // Whole lines, where there are any.
        let head_end = head.iter().rposition(|byte| *byte == b'\n').unwrap_or(head.len());
        let tail_begin = tail.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let left_out = left_out + (head.len() - head_end + tail_begin) as u64;
        let mut text = printable(&String::from_utf8_lossy(&head[..head_end]));
        _ = write!(text, "\n… {left_out} bytes left out …\n");
        text + &printable(&String::from_utf8_lossy(&tail[tail_begin..]))
    }
}

/// The last line that says something.
pub(super) fn last_line(text: &str) -> &str {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    &line[..boundary(line, LINE_BYTES_MAX)]
}

/// The end of the last whole character within so many bytes.
fn boundary(text: &str, bytes_max: usize) -> usize {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// As much as an outcome may say, cut at the end.
pub(super) fn bounded(mut text: String) -> String {
    const CUT: &str = "…";
    if text.len() > SAID_BYTES_MAX {
        text.truncate(boundary(&text, SAID_BYTES_MAX - CUT.len()));
        text.push_str(CUT);
    }
    text
}

/// As a terminal would show it, without anything that it would obey: colours and movements are gone, of a line that was written over and over (a
/// progress bar) the last state is left.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        let line = line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
        let mut chars = line.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                    // ECMA-48, section 5.4: parameters, and a final byte from @ to ~.
                    let _final = chars.find(|char| ('@'..='~').contains(char));
                }
                '\t' => shown.push(' '),
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
                char if char.is_control() => {}
                char => shown.push(char),
            }
        }
        shown.push('\n');
    }
    shown.truncate(shown.trim_end().len());
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        Secrets::new(values.iter().map(|value| (*value).to_owned()))
    }

    fn said(secrets: &Secrets, pieces: &[&[u8]]) -> String {
        let mut output = Output::new(secrets.clone());
        pieces.iter().for_each(|piece| output.take(piece));
        output.whole()
    }

    #[test]
    fn secrets_are_masked_however_the_output_is_cut() {
        let secrets = secrets(&["hunter22", "ter22-more", "abab", "no", "line one of it\nline two of it\n"]);
        let check = |text: &str, expected: &str| {
            for size in 1..=text.len() {
                let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
                assert_eq!(said(&secrets, &pieces), expected, "{text:?} in pieces of {size}");
            }
            assert_eq!(secrets.mask(text), expected, "{text:?} at once");
        };
        check("password hunter22 is wrong", "password *** is wrong");
        check("hunter22hunter22", "******");
        check("hunter2", "hunter2");
        check("hunter22-more", "***");
        check("xabababx", "x***x");
        check("no, this is short", "no, this is short");
        check("key: line two of it", "key: ***");
        check("ends in hunter22", "ends in ***");
    }

    #[test]
    fn of_much_the_beginning_and_the_end_are_kept() {
        let mut output = Output::new(Secrets::default());
        output.take(b"first line\n");
        for number in 0..100_000 {
            output.take(format!("line {number}\n").as_bytes());
        }
        let kept = output.kept.head.len() + output.kept.tail.len();
        assert!(kept <= HEAD_BYTES + TAIL_BYTES);
        let text = output.whole();
        assert!(text.starts_with("first line\nline 0\n"), "{text}");
        assert!(text.ends_with("line 99998\nline 99999"), "{text}");
        assert!(text.contains(" bytes left out …\nline 9"), "{text}");
        assert!(text.len() <= SAID_BYTES_MAX);
    }

    #[test]
    fn what_a_terminal_would_obey_is_gone() {
        let check = |text: &str, expected: &str| assert_eq!(printable(text), expected);
        check("\u{1b}[1;31mred\u{1b}[0m\r\nand\tmore\u{7}\n\n", "red\nand more");
        check("10 %\r50 %\r100 %\r\ndone", "100 %\ndone");
        check("\u{202e}evil\u{1b}]0;title", "evil]0;title");
        check("", "");
        assert_eq!(last_line("a\nthe last\n  \n"), "the last");
        assert_eq!(bounded("ü".repeat(4000)).len(), SAID_BYTES_MAX - 1);
    }

    proptest! {
        #[test]
        fn no_secret_is_ever_said(
            noise in proptest::collection::vec("[ab]{0,9}", 1..8),
            secret in "[ab]{4,6}",
            size in 1..9_usize,
        ) {
            let text = noise.join(&secret);
            let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
            let masked = said(&secrets(&[&secret]), &pieces);
            prop_assert!(!masked.contains(&secret), "{masked}");
            prop_assert_eq!(masked, secrets(&[&secret]).mask(&text));
        }
    }
}
