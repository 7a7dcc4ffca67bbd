//! The head of a response, as an endpoint writes it.

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use httparse::{ParserConfig, Response, Status};
use hyper::ext::ReasonPhrase;

use super::fields::{Malformed, Scan, collect};

/// A response head may be this large.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A response may have so many fields.
pub(super) const FIELDS_MAX: usize = 256;

/// Status line and fields.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    /// Where it differs from the usual words.
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) is_http_10: bool,
    pub(super) headers: HeaderMap,
}

/// Takes a head from the front of what was read; `None`: it is not whole yet.
pub(super) fn take(input: &mut BytesMut, scan: &mut Scan) -> Result<Option<ResponseHead>, Malformed> {
    let beginning = input.get(..8).unwrap_or(input);
    if ![b"HTTP/1.1", b"HTTP/1.0"].iter().any(|http| http.starts_with(beginning)) {
        return Err(Malformed::NotHttp);
    }
    match scan.end(input, HEAD_BYTES_MAX)? {
        None => Ok(None),
        Some(bytes) => {
            *scan = Scan::default();
            parse(input, bytes).map(Some)
        }
    }
}

fn parse(input: &mut BytesMut, bytes: usize) -> Result<ResponseHead, Malformed> {
    let head = input.split_to(bytes).freeze();
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, &head, &mut fields);
    match parsed {
        Ok(Status::Complete(end)) if end == head.len() => {}
        Ok(_) => return Err(Malformed::Field),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
        Err(httparse::Error::Version | httparse::Error::Status) => return Err(Malformed::StatusLine),
        Err(_) => return Err(Malformed::Field),
    }
    let code = response.code.ok_or(Malformed::StatusLine)?;
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::StatusLine)?;
    let reason = match response.reason {
        Some(reason) if Some(reason) != status.canonical_reason() => {
            let reason = head.slice_ref(reason.as_bytes());
            Some(ReasonPhrase::try_from(reason).map_err(|_| Malformed::StatusLine)?)
        }
        Some(_) | None => None,
    };
    let is_http_10 = response.version == Some(0);
    Ok(ResponseHead { status, reason, is_http_10, headers: collect(&head, response.headers)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read = Result<Option<(u16, bool, Vec<(String, Vec<u8>)>)>, Malformed>;

    /// Reads `bytes` as they come in pieces of `step`.
    fn read(bytes: &[u8], step: usize) -> Read {
        let (mut input, mut scan) = (BytesMut::new(), Scan::default());
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            let Some(head) = take(&mut input, &mut scan)? else { continue };
            let fields = head.headers.iter();
            let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
            return Ok(Some((head.status.as_u16(), head.is_http_10, fields.collect())));
        }
        Ok(None)
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&[(&str, &str)], Malformed>) {
        let expected = expected.map(|fields| {
            fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
        });
        let got = read(text.as_bytes(), 7).map(|head| head.map_or(Vec::new(), |(.., fields)| fields));
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn a_head_is_read_as_it_stands_or_not_at_all() {
        use Malformed::{Field, LineEnd, NotHttp, StatusLine};
        check("HTTP/1.1 200 OK\r\n\r\n", Ok(&[]));
        check("HTTP/1.0 200\r\n\r\n", Ok(&[]));
        check("HTTP/1.1 200 \r\na: b\r\nA:\t c \r\nx:\r\n\r\n", Ok(&[("a", "b"), ("a", "c"), ("x", "")]));
        check("HTTP/1.1 200 Fine, \u{fc}\r\na: \u{fc}\r\n\r\n", Ok(&[("a", "\u{fc}")]));
        // RFC 9112 §4
        check("HTTP/1.1  200 OK\r\n\r\n", Err(StatusLine));
        check("HTTP/1.1 20 OK\r\n\r\n", Err(StatusLine));
        check("HTTP/1.1 2000 OK\r\n\r\n", Err(StatusLine));
        check("HTTP/1.1 099 OK\r\n\r\n", Err(StatusLine));
        check("HTTP/1.1 +20 OK\r\n\r\n", Err(StatusLine));
        check("HTTP/1.1\t200 OK\r\n\r\n", Err(StatusLine));
        check("HTTP/1.1 200 O\0K\r\n\r\n", Err(StatusLine));
        for start in ["HTTP/2.0 200", "HTTP/1.2 200", "http/1.1 200", "\r\nHTTP/1.1 200", " HTTP/1.1 200"] {
            check(&format!("{start} OK\r\n\r\n"), Err(NotHttp));
        }
        check("SSH-2.0-x\r\n", Err(NotHttp));
        check("<html>", Err(NotHttp));
        // RFC 9112 §2.2
        check("HTTP/1.1 200 OK\n\n", Err(LineEnd));
        check("HTTP/1.1 200 OK\r\na: b\n\r\n", Err(LineEnd));
        check("HTTP/1.1 200 OK\r\na: b\r\n\n", Err(LineEnd));
        check("HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n", Err(Field));
        // RFC 9112 §5, RFC 9110 §5.5
        for line in ["a : b", "a\t: b", " a: b", "a", ": b", "a b: c", "a: b\r\n c", "a: b\r\n\tc"] {
            check(&format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"), Err(Field));
        }
        for control in ['\0', '\u{1}', '\u{8}', '\u{b}', '\u{1f}', '\u{7f}', '\r'] {
            check(&format!("HTTP/1.1 200 OK\r\na: b{control}c\r\n\r\n"), Err(Field));
            check(&format!("HTTP/1.1 200 OK\r\na{control}: c\r\n\r\n"), Err(Field));
        }
    }

    #[test]
    fn heads_are_bounded() {
        let of = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(matches!(read(of(FIELDS_MAX).as_bytes(), 4096), Ok(Some((200, ..)))));
        assert_eq!(read(of(FIELDS_MAX + 1).as_bytes(), 4096), Err(Malformed::TooManyFields));
        let long = |bytes: usize| format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(bytes - 24));
        assert!(matches!(read(long(HEAD_BYTES_MAX).as_bytes(), 4096), Ok(Some((200, ..)))));
        assert_eq!(read(long(HEAD_BYTES_MAX + 1).as_bytes(), 4096), Err(Malformed::TooLong));
        assert_eq!(
            read(&long(HEAD_BYTES_MAX + 9).as_bytes()[..HEAD_BYTES_MAX], 4096),
            Err(Malformed::TooLong)
        );
    }

    #[test]
    fn unusual_words_for_a_status_are_kept() {
        let mut input = BytesMut::from("HTTP/1.1 200 Fine\r\n\r\nrest");
        let head = take(&mut input, &mut Scan::default()).unwrap().unwrap();
        assert_eq!((head.reason.unwrap().as_bytes(), &input[..]), (&b"Fine"[..], &b"rest"[..]));
    }

    proptest! {
        #[test]
        fn how_a_head_arrives_changes_nothing(
            text in "HTTP/1\\.[01] [1-5][0-9]{2}( [a-z]{0,3})?(\r\n[a-c]{1,2}:[ \tx-z,\u{e4}\0]{0,4}|\n|\r|\r\n){0,5}\r\n\r\n",
            step in 1_usize..20,
        ) {
            prop_assert_eq!(read(text.as_bytes(), step), read(text.as_bytes(), text.len()));
        }

        #[test]
        fn no_bytes_whatever_are_too_much(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            begins in any::<bool>(),
        ) {
            if begins {
                bytes.splice(0..0, *b"HTTP/1.1 200 OK\r\n");
            }
            let _ = read(&bytes, 16);
        }
    }
}
