//! Where a response ends (RFC 9112 §6.3), and whether its connection may go on afterwards.
//!
//! Everything that could be read in two ways is refused. That includes a length said twice, even if it is
//! the same both times: RFC 9112 §6.3 lets a recipient take two equal ones for one, but no framework writes them, and
//! whoever adds a field to what another wrote may one day add a different one.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::fields::Malformed;
use super::response_head::ResponseHead;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
    /// HTTP ends with the head: the protocol changes.
    Switched,
}

/// What of the request its response is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    is_head: bool,
    upgrade: bool,
    close: bool,
}

/// Where a response ends, and whether another request may follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) framing: Framing,
    pub(super) keeps_alive: bool,
}

impl Asked {
    pub(super) fn by(method: &Method, headers: &HeaderMap) -> Self {
        let has_connection = headers.contains_key(CONNECTION);
        Self {
            is_head: method == Method::HEAD,
            upgrade: has_connection && headers.contains_key(UPGRADE) && says(headers, "upgrade"),
            close: has_connection && says(headers, "close"),
        }
    }
}

/// Reads a response head. Takes out the length of a 204, which must not bear one (RFC 9110 §8.6), and leading zeros, which
/// make some readers think of base eight.
pub(super) fn shape(head: &mut ResponseHead, asked: Asked) -> Result<Shape, Malformed> {
    let length = length(&head.headers)?;
    let is_chunked = is_chunked(&head.headers)?;
    if is_chunked && head.is_http_10 {
        return Err(Malformed::OldCoding);
    }
    if is_chunked && length.is_some() {
        return Err(Malformed::TwoLengths);
    }
    if let Some(length) = length
        && head
            .headers
            .get(CONTENT_LENGTH)
            .is_some_and(|field| field.len() > 1 && field.as_bytes().starts_with(b"0"))
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let announces_content = is_chunked || length.is_some_and(|length| length > 0);
    let mut keeps_alive = !head.is_http_10 && !asked.close && !says(&head.headers, "close");
    let framing = if head.status.is_informational() {
        if announces_content {
            return Err(Malformed::InformationalContent);
        }
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS if asked.upgrade && !head.is_http_10 => Framing::Switched,
            StatusCode::SWITCHING_PROTOCOLS => return Err(Malformed::Switch),
            _ => Framing::Empty,
        }
    } else if head.status == StatusCode::NO_CONTENT {
        // Whoever announces content may well send it, later, when the next response is waited for.
        keeps_alive &= !announces_content;
        head.headers.remove(CONTENT_LENGTH);
        Framing::Empty
    } else if asked.is_head || head.status == StatusCode::NOT_MODIFIED {
        Framing::Empty
    } else if is_chunked {
        Framing::Chunked
    } else {
        length.map_or(Framing::UntilClose, Framing::Length)
    };
    keeps_alive &= !matches!(framing, Framing::UntilClose | Framing::Switched);
    Ok(Shape { framing, keeps_alive })
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Malformed::Length);
    }
    let number = field.as_bytes().iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    });
    number.filter(|_| !field.is_empty()).map(Some).ok_or(Malformed::Length)
}

fn is_chunked(headers: &HeaderMap) -> Result<bool, Malformed> {
    let mut fields = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(field) = fields.next() else { return Ok(false) };
    if fields.next().is_some() || !field.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Malformed::Coding);
    }
    Ok(true)
}

/// Whether `Connection` lists `option`.
fn says(headers: &HeaderMap, option: &str) -> bool {
    headers.get_all(CONNECTION).iter().any(|field| {
        let mut options = field.as_bytes().split(|byte| *byte == b',');
        options.any(|found| found.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::fields::Scan;
    use super::super::response_head::take;
    use super::Framing::{Chunked, Empty, Length, Switched, UntilClose};
    use super::*;

    const GET: Asked = Asked { is_head: false, upgrade: false, close: false };
    const HEAD: Asked = Asked { is_head: true, ..GET };
    const UPGRADING: Asked = Asked { upgrade: true, ..GET };

    #[track_caller]
    fn check(asked: Asked, text: &str, expected: Result<(Framing, bool), Malformed>) {
        let mut input = BytesMut::from(format!("HTTP/{}\r\n\r\n", text.replace('|', "\r\n")).as_str());
        let mut head = take(&mut input, &mut Scan::default()).unwrap().unwrap();
        let got = shape(&mut head, asked).map(|shape| (shape.framing, shape.keeps_alive));
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn a_body_ends_where_every_reader_says_it_does() {
        check(GET, "1.1 200 OK|content-length: 5", Ok((Length(5), true)));
        check(GET, "1.1 200 OK|content-length: 0", Ok((Length(0), true)));
        check(GET, "1.1 200 OK|content-length: 007", Ok((Length(7), true)));
        check(GET, "1.1 200 OK|content-length: 18446744073709551615", Ok((Length(u64::MAX), true)));
        check(GET, "1.1 200 OK|transfer-encoding: Chunked", Ok((Chunked, true)));
        check(GET, "1.1 200 OK", Ok((UntilClose, false)));
        check(GET, "1.0 200 OK|content-length: 5", Ok((Length(5), false)));
        check(GET, "1.0 200 OK|connection: keep-alive|content-length: 5", Ok((Length(5), false)));
        check(GET, "1.1 200 OK|connection: x, Close|content-length: 5", Ok((Length(5), false)));
        check(GET, "1.1 200 OK|connection: x|connection: close|content-length: 5", Ok((Length(5), false)));
        check(Asked { close: true, ..GET }, "1.1 200 OK|content-length: 5", Ok((Length(5), false)));
    }

    #[test]
    fn some_responses_have_no_body_whatever_they_say() {
        check(HEAD, "1.1 200 OK|content-length: 5", Ok((Empty, true)));
        check(HEAD, "1.1 200 OK|transfer-encoding: chunked", Ok((Empty, true)));
        check(HEAD, "1.1 200 OK", Ok((Empty, true)));
        check(GET, "1.1 304 Not Modified|content-length: 5", Ok((Empty, true)));
        check(GET, "1.1 204 No Content", Ok((Empty, true)));
        check(GET, "1.1 204 No Content|content-length: 0", Ok((Empty, true)));
        check(GET, "1.1 204 No Content|content-length: 5", Ok((Empty, false)));
        check(GET, "1.1 204 No Content|transfer-encoding: chunked", Ok((Empty, false)));
        check(GET, "1.1 103 Early Hints|link: x", Ok((Empty, true)));
        check(GET, "1.1 103 Early Hints|content-length: 5", Err(Malformed::InformationalContent));
        check(GET, "1.1 100 Continue|transfer-encoding: chunked", Err(Malformed::InformationalContent));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for length in
            ["", "+5", "-5", "5x", "0x5", "5 5", "5,5", "5, 5", "5,6", "5.0", "18446744073709551616"]
        {
            check(GET, &format!("1.1 200 OK|content-length: {length}"), Err(Malformed::Length));
            check(HEAD, &format!("1.1 200 OK|content-length: {length}"), Err(Malformed::Length));
        }
        for second in [5, 6] {
            let text = format!("1.1 200 OK|content-length: 5|content-length: {second}");
            check(GET, &text, Err(Malformed::Length));
        }
        for coding in [
            "",
            "gzip",
            "gzip, chunked",
            "chunked, gzip",
            "chunked, chunked",
            "chunked;x",
            "identity",
            "xchunked",
            "\"chunked\"",
            ",chunked",
        ] {
            check(GET, &format!("1.1 200 OK|transfer-encoding: {coding}"), Err(Malformed::Coding));
        }
        check(
            GET,
            "1.1 200 OK|transfer-encoding: chunked|transfer-encoding: chunked",
            Err(Malformed::Coding),
        );
        check(GET, "1.1 200 OK|transfer-encoding: chunked|content-length: 5", Err(Malformed::TwoLengths));
        check(HEAD, "1.1 200 OK|content-length: 0|transfer-encoding: chunked", Err(Malformed::TwoLengths));
        check(GET, "1.0 200 OK|transfer-encoding: chunked", Err(Malformed::OldCoding));
    }

    #[test]
    fn the_protocol_changes_only_when_it_was_asked_to() {
        let switch = "1.1 101 Switching Protocols|connection: upgrade|upgrade: x";
        check(UPGRADING, switch, Ok((Switched, false)));
        check(GET, switch, Err(Malformed::Switch));
        check(UPGRADING, "1.0 101 Switching Protocols", Err(Malformed::Switch));
        check(UPGRADING, "1.1 200 OK|content-length: 1", Ok((Length(1), true)));
        let asks = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            Asked::by(&Method::GET, &headers).upgrade
        };
        assert!(asks(&[("connection", "x, Upgrade"), ("upgrade", "websocket")]));
        assert!(!asks(&[("upgrade", "websocket")]) && !asks(&[("connection", "upgrade")]));
    }
}
