//! Lines of fields, and why a message is not one.
//!
//! Line ends are looked at before anything is parsed: each is CR LF. RFC 9112 §2.2 lets a recipient take a
//! lone LF for one, and that is where readers differ, so we do not.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// Why what an endpoint sent is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It does not begin as HTTP/1.1 or HTTP/1.0 does.
    #[error("the response does not begin with HTTP/1.1 or HTTP/1.0")]
    NotHttp,
    /// By HTTP/2: it is not one, or its connection is out of order (RFC 9113 §5.4, §8.1.1).
    #[error("the response is not HTTP/2")]
    Http2,
    /// The status line is not one (RFC 9112 §4).
    #[error("the status line is malformed")]
    StatusLine,
    /// A line does not end with CR LF (RFC 9112 §2.2).
    #[error("a line ends with a lone line feed")]
    LineEnd,
    /// A field is not `name: value`, is folded, or bears control characters (RFC 9112 §5, RFC 9110 §5.5).
    #[error("a field is malformed")]
    Field,
    /// Too many bytes before the empty line.
    #[error("the head or the trailers are too long")]
    TooLong,
    /// Too many fields.
    #[error("too many fields")]
    TooManyFields,
    /// `Content-Length` is not one number, said once (RFC 9110 §8.6).
    #[error("content-length is not one number")]
    Length,
    /// A transfer coding other than `chunked`, alone (RFC 9112 §6.1, §7).
    #[error("the transfer coding is not chunked, or not chunked alone")]
    Coding,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.1).
    #[error("content-length and transfer-encoding in one response")]
    TwoLengths,
    /// `Transfer-Encoding` in HTTP/1.0 (RFC 9112 §6.1).
    #[error("transfer-encoding in an HTTP/1.0 response")]
    OldCoding,
    /// An informational response that announces content (RFC 9110 §15.2).
    #[error("an informational response with content")]
    InformationalContent,
    /// Informational responses without end.
    #[error("too many informational responses")]
    TooManyInformational,
    /// 101 that nobody asked for, or before the request was whole (RFC 9110 §7.8).
    #[error("a change of protocol that was not asked for")]
    Switch,
    /// A chunk's size is not hexadecimal, too large, or not followed by its line end (RFC 9112 §7.1).
    #[error("a chunk's size is malformed")]
    ChunkSize,
    /// Chunk extensions are too long, or bear control characters (RFC 9112 §7.1.1).
    #[error("a chunk's extension is too long or malformed")]
    ChunkExtension,
    /// A chunk does not end where its size says.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
}

/// Looks for the empty line that ends a section, each byte once however it arrives.
#[derive(Debug, Default)]
pub(super) struct Scan {
    looked_at: usize,
    line: usize,
}

impl Scan {
    /// How many bytes the section has, its empty line included; `None`: it goes on after `bytes`. `bytes` begin
    /// with the section and are those of the last call and more.
    pub(super) fn end(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, Malformed> {
        while let Some(found) = memchr::memchr(b'\n', bytes.get(self.looked_at..).unwrap_or_default()) {
            let line_feed = self.looked_at + found;
            let before = line_feed.checked_sub(1).filter(|at| bytes.get(*at) == Some(&b'\r'));
            let Some(before) = before else { return Err(Malformed::LineEnd) };
            if line_feed >= bytes_max {
                return Err(Malformed::TooLong);
            }
            self.looked_at = line_feed + 1;
            if before == self.line {
                return Ok(Some(line_feed + 1));
            }
            self.line = line_feed + 1;
        }
        self.looked_at = bytes.len();
        if bytes.len() >= bytes_max { Err(Malformed::TooLong) } else { Ok(None) }
    }
}

/// Parsed fields, whose values go on sharing the bytes of `section`.
pub(super) fn collect(section: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Field)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value));
        map.append(name, value.map_err(|_| Malformed::Field)?);
    }
    Ok(map)
}

/// Takes a whole trailer section of `bytes` bytes from the front.
pub(super) fn take_trailers(
    input: &mut BytesMut,
    bytes: usize,
    fields_max: usize,
) -> Result<HeaderMap, Malformed> {
    let section = input.split_to(bytes).freeze();
    let mut fields = vec![httparse::EMPTY_HEADER; fields_max];
    match httparse::parse_headers(&section, &mut fields) {
        Ok(httparse::Status::Complete((end, fields))) if end == section.len() => collect(&section, fields),
        Err(httparse::Error::TooManyHeaders) => Err(Malformed::TooManyFields),
        Ok(_) | Err(_) => Err(Malformed::Field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_at_its_empty_line_however_it_arrives() {
        #[track_caller]
        fn check(text: &str, expected: Result<Option<usize>, Malformed>) {
            for step in 1..=text.len() {
                let mut scan = Scan::default();
                let mut got = Ok(None);
                for end in (step..text.len()).step_by(step).chain([text.len()]) {
                    got = scan.end(&text.as_bytes()[..end], 40);
                    if got != Ok(None) {
                        break;
                    }
                }
                assert_eq!(got, expected, "{text:?} by {step}");
            }
        }
        check("a\r\n\r\nrest", Ok(Some(5)));
        check("\r\nrest", Ok(Some(2)));
        check("a\r\nb\r\n\r\n\r\n", Ok(Some(8)));
        check("a\r\nb\r\n", Ok(None));
        check("a\r\nb\r\n\r", Ok(None));
        check("a\nb\r\n\r\n", Err(Malformed::LineEnd));
        check("\n", Err(Malformed::LineEnd));
        check("a\r\n\n", Err(Malformed::LineEnd));
        check(&"a".repeat(39), Ok(None));
        check(&"a".repeat(40), Err(Malformed::TooLong));
        check(&("a".repeat(36) + "\r\n\r\n"), Ok(Some(40)));
        check(&("a".repeat(37) + "\r\n\r\n"), Err(Malformed::TooLong));
    }
}
