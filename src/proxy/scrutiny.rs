//! A second, stricter look at what HTTP/1 clients send.
//!
//! hyper takes some things that RFC 9112 lets a recipient take, and that another implementation in front of us may have
//! read differently: a lone line feed for a line end (§2.2), `Content-Length` beside `Transfer-Encoding` (§6.1), blanks and
//! control bytes behind a chunk's size (§7.1). Whoever puts one of these into a request may mean us to see another request
//! than the proxy before us did. Endpoints never see any of it, for what they get is written anew; but what stands behind
//! such a request would still be answered. So it is refused, and its connection ends.
//!
//! Nothing is kept or copied but the beginning of a line that is not whole yet. What hyper refuses by itself is not
//! looked for.

/// So much of a line is kept until its end comes: more than any length, coding or chunk size has.
const LINE_BYTES_MAX: usize = 1024;

/// What was seen of a connection so far.
#[derive(Debug)]
pub(super) struct Scrutiny {
    at: At,
    /// Whole heads.
    heads: u32,
    /// A line whose end has not come.
    line: Line,
    has_begun: bool,
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    /// So many bytes of content; behind them the line end of a chunk, or the next head.
    Content(u64),
    ChunkEnd,
    ChunkSize,
    Trailers,
    /// Nothing more is worth a look: hyper, or the handler, ends this.
    Over,
}

#[derive(Debug, Default)]
struct Line {
    start: Vec<u8>,
    is_long: bool,
    ends_with_cr: bool,
}

/// It could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ambiguous;

impl Scrutiny {
    pub(super) fn new() -> Self {
        Self {
            at: At::Head,
            heads: 0,
            line: Line::default(),
            has_begun: false,
            length: None,
            is_chunked: false,
        }
    }

    /// Looks at the next bytes: the number of the request, from 1, that must not be answered, if they are of such a one.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> Option<u32> {
        while !bytes.is_empty() {
            match self.at {
                At::Over => return None,
                At::Content(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(count..).unwrap_or_default();
                    let left = left - count as u64;
                    self.at = match left {
                        0 if self.is_chunked => At::ChunkEnd,
                        0 => self.next_head(),
                        left => At::Content(left),
                    };
                }
                At::Head | At::ChunkEnd | At::ChunkSize | At::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.line.keep(bytes);
                        return None;
                    };
                    let (line, rest) = bytes.split_at(end);
                    bytes = rest.get(1..).unwrap_or_default();
                    let number = self.heads + u32::from(self.at == At::Head);
                    if self.take(line).is_err() {
                        self.at = At::Over;
                        return Some(number);
                    }
                }
            }
        }
        None
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn heads(&self) -> u32 {
        self.heads
    }

    /// A line without its line feed.
    fn take(&mut self, end: &[u8]) -> Result<(), Ambiguous> {
        if self.line.is_empty() {
            return self.read(end.strip_suffix(b"\r").ok_or(Ambiguous)?, end.len() > LINE_BYTES_MAX);
        }
        let mut line = std::mem::take(&mut self.line);
        line.keep(end);
        if !line.ends_with_cr {
            return Err(Ambiguous);
        }
        let text = line.start.strip_suffix(b"\r").unwrap_or(&line.start);
        self.read(text, line.is_long)
    }

    /// A line without its end. `is_long`: it is only the beginning.
    fn read(&mut self, line: &[u8], is_long: bool) -> Result<(), Ambiguous> {
        match self.at {
            At::Head if line.is_empty() => return self.end_head(),
            At::Head => {
                self.field(line, is_long)?;
                self.has_begun = true;
            }
            At::ChunkEnd if line.is_empty() => self.at = At::ChunkSize,
            At::ChunkEnd => return Err(Ambiguous),
            At::ChunkSize => {
                let size = chunk_size(line).filter(|_| !is_long).ok_or(Ambiguous)?;
                self.at = if size == 0 { At::Trailers } else { At::Content(size) };
            }
            At::Trailers if line.is_empty() => self.at = self.next_head(),
            At::Trailers | At::Content(_) | At::Over => {}
        }
        Ok(())
    }

    /// Only those that say where the request ends matter.
    fn field(&mut self, line: &[u8], is_long: bool) -> Result<(), Ambiguous> {
        let (Some(b'c' | b'C' | b't' | b'T'), true) = (line.first(), self.has_begun) else { return Ok(()) };
        let Some(colon) = memchr::memchr(b':', line) else { return Ok(()) };
        let (name, value) = line.split_at(colon);
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        let is_coding = name.eq_ignore_ascii_case(b"transfer-encoding");
        if (is_length || is_coding) && is_long {
            return Err(Ambiguous);
        }
        self.is_chunked |= is_coding;
        if is_length {
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            // If it is none, hyper says so.
            self.length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok()).or(Some(0));
        }
        Ok(())
    }

    fn end_head(&mut self) -> Result<(), Ambiguous> {
        if !self.has_begun {
            // RFC 9112 §2.2: an empty line before a request is skipped.
            return Ok(());
        }
        if self.is_chunked && self.length.is_some() {
            return Err(Ambiguous);
        }
        self.heads = self.heads.saturating_add(1);
        self.at = match self.length {
            _ if self.is_chunked => At::ChunkSize,
            Some(length) if length > 0 => At::Content(length),
            _ => self.next_head(),
        };
        Ok(())
    }

    fn next_head(&mut self) -> At {
        (self.has_begun, self.length, self.is_chunked) = (false, None, false);
        At::Head
    }
}

impl Line {
    fn is_empty(&self) -> bool {
        self.start.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.start.len();
        self.is_long |= bytes.len() > room;
        self.start.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if let Some(last) = bytes.last() {
            self.ends_with_cr = *last == b'\r';
        }
    }
}

/// RFC 9112 §7.1: digits, and extensions of text behind a semicolon; blanks only before that.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let begins = extensions.trim_ascii_start().first().is_none_or(|byte| *byte == b';');
    let only_blanks = !extensions.is_empty() && extensions.trim_ascii().is_empty();
    if !begins || only_blanks || !extensions.iter().all(is_text) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(text: &[u8], step: usize) -> Option<u32> {
        let mut scrutiny = Scrutiny::new();
        text.chunks(step).fold(None, |found, bytes| found.or(scrutiny.look(bytes)))
    }

    #[track_caller]
    fn check(text: &str, expected: Option<u32>) {
        for step in [1, 2, 7, text.len()] {
            assert_eq!(look(text.as_bytes(), step), expected, "{text:?} by {step}");
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";

    fn post(fields: &str, body: &str) -> String {
        format!("POST / HTTP/1.1\r\nhost: shop\r\n{fields}\r\n{body}")
    }

    #[test]
    fn plain_requests_raise_no_doubt() {
        check(GET, None);
        check(&format!("\r\n{GET}\r\n\r\n{GET}"), None);
        check(&(post("content-length: 3\r\n", "a\nb") + &post("content-length: 0\r\n", "") + GET), None);
        check(
            &(post(
                "Transfer-Encoding: chunked\r\n",
                "3;a=\"b\"\r\na\nb\r\nA ;x\r\n0123\r\n6789\r\n0\r\nx: y\r\n\r\n",
            ) + GET),
            None,
        );
        check(&post(&format!("x: {}\r\n", "y".repeat(5000)), ""), None);
        check("transfer-encoding: x HTTP/1.1\r\ncontent-length: 0\r\n\r\n", None);
    }

    #[test]
    fn a_request_that_could_be_read_in_two_ways_is_named() {
        check("GET / HTTP/1.1\nhost: shop\r\n\r\n", Some(1));
        check("GET / HTTP/1.1\r\nhost: shop\n\r\n", Some(1));
        check("GET / HTTP/1.1\r\nhost: shop\r\n\n", Some(1));
        check("\nGET / HTTP/1.1\r\n\r\n", Some(1));
        check(&format!("{GET}GET / HTTP/1.1\nhost: shop\r\n\r\n"), Some(2));
        check(&(post("content-length: 3\r\n", "abc") + "GET / HTTP/1.1\n\n"), Some(2));
        check(&post("content-length: 3\r\ntransfer-encoding: chunked\r\n", ""), Some(1));
        check(&post("Transfer-Encoding: chunked\r\nx: y\r\nContent-Length:0\r\n", ""), Some(1));
        let chunked = |body: &str| GET.to_owned() + &post("transfer-encoding: chunked\r\n", body);
        for size in ["1 ", "1\t", "1\n", "1 \n", "1;\u{b}", "1;\0", "1\u{c}", "", "x", "1 x", "-1", "1\r"] {
            check(&chunked(&format!("{size}\r\na\r\n0\r\n\r\n")), Some(2));
        }
        check(&chunked("1\r\na\n0\r\n\r\n"), Some(2));
        check(&chunked("1\r\nab\r\n0\r\n\r\n"), Some(2));
        check(&chunked("1\r\na\r\n0\r\nx: y\n\r\n"), Some(2));
        check(&chunked("1\r\na\r\n0\r\n\n"), Some(2));
    }

    proptest! {
        #[test]
        fn how_bytes_arrive_changes_nothing(
            text in "(GET / HTTP/1.1\r?\n(content-length: [0-3]\r\n|transfer-encoding: chunked\r\n|x: y\r?\n){0,2}\r\n[0-2a \r\n]{0,6}){1,3}",
            step in 1_usize..9,
        ) {
            prop_assert_eq!(look(text.as_bytes(), step), look(text.as_bytes(), text.len().max(1)));
        }

        #[test]
        fn no_bytes_whatever_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            look(&bytes, step);
        }
    }
}
