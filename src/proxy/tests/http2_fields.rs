//! What must not come through from HTTP/2 to an endpoint that speaks HTTP/1.1 (RFC 9113 §8).

use super::frames::{DATA, END_HEADERS, END_STREAM, Fate, Frames, HEADERS, block};
use super::{Gate, answer, gate};

const CONNECT: (&str, &str) = (":method", "CONNECT");
const METHOD: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "shop");

fn with<'f>(fields: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    [&[METHOD, SCHEME, PATH, AUTHORITY], fields].concat()
}

fn send(gate: &Gate, fields: &[(&str, &str)], body: Option<&[u8]>) -> Fate {
    let mut frames = Frames::open(gate.address());
    match body {
        None => drop(frames.headers(END_STREAM, 1, fields)),
        Some(body) => {
            frames.headers(0, 1, fields);
            frames.send(DATA, END_STREAM, 1, body);
        }
    }
    frames.fate(1)
}

#[track_caller]
fn check(gate: &Gate, fields: &[(&str, &str)], body: Option<&[u8]>) {
    let fate = send(gate, fields, body);
    assert!(is_refused(fate), "{fields:?}, {body:?}: {fate:?}");
}

fn is_refused(fate: Fate) -> bool {
    matches!(fate, Fate::Reset | Fate::Closed | Fate::Answered(400 | 405 | 431 | 501))
}

#[test]
fn malformed_fields_never_reach_an_endpoint() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    for fields in [
        // §8.2: names in lower case, of token characters.
        &[("X-Upper", "1")][..],
        &[("x upper", "1")],
        &[("x:y", "1")],
        &[("x\0y", "1")],
        &[("x\r\ny", "1")],
        &[("", "1")],
        &[("x\u{ff}", "1")],
        // §8.2.1: values without CR, LF and NUL, and without blanks around them.
        &[("x", "a\r\nsmuggled: b")],
        &[("x", "a\nb")],
        &[("x", "a\rb")],
        &[("x", "a\0b")],
        &[("x", " a")],
        &[("x", "a ")],
        &[("x", "\ta")],
        &[("x", "a\t")],
        // §8.2.2: nothing that is about the connection.
        &[("connection", "close")],
        &[("connection", "x")],
        &[("keep-alive", "timeout=5")],
        &[("proxy-connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "identity")],
        &[("upgrade", "h2c")],
        &[("te", "gzip")],
        &[("te", "trailers, gzip")],
        // §8.3: pseudo-fields first, once, and no others.
        &[(":path", "/other")],
        &[("x", "1"), (":method", "GET")],
        &[(":status", "200")],
        &[(":unknown", "1")],
        // §8.1.1, RFC 9110 §8.6: a length that is one.
        &[("content-length", "5")],
        &[("content-length", "0"), ("content-length", "5")],
        &[("content-length", "+0")],
        &[("content-length", "-1")],
        &[("content-length", "0x0")],
        &[("content-length", "0, 0")],
        &[("content-length", "")],
        &[("content-length", "99999999999999999999999")],
        // RFC 9110 §7.2: one host.
        &[("host", "other")],
        &[("host", "shop"), ("host", "shop")],
    ] {
        check(&gate, &with(fields), None);
    }
    assert!(blue.seen().is_empty(), "{:?}", blue.seen());
}

#[test]
fn pseudo_fields_that_make_no_request_never_reach_an_endpoint() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    for fields in [
        &[SCHEME, PATH, AUTHORITY][..],
        &[METHOD, PATH, AUTHORITY],
        &[METHOD, SCHEME, AUTHORITY],
        &[METHOD, SCHEME, PATH],
        &[METHOD, METHOD, SCHEME, PATH, AUTHORITY],
        &[METHOD, SCHEME, SCHEME, PATH, AUTHORITY],
        &[METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY],
        &[("x", "1"), METHOD, SCHEME, PATH, AUTHORITY],
        &[("x", "1")],
        &[(":method", "GE T"), SCHEME, PATH, AUTHORITY],
        &[(":method", "GET / HTTP/1.1\r\nx: y"), SCHEME, PATH, AUTHORITY],
        &[(":method", ""), SCHEME, PATH, AUTHORITY],
        &[METHOD, (":scheme", "ftp"), PATH, AUTHORITY],
        &[METHOD, (":scheme", "ht tp"), PATH, AUTHORITY],
        &[METHOD, SCHEME, (":path", ""), AUTHORITY],
        &[METHOD, SCHEME, (":path", "a"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "*"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/ HTTP/1.1\r\nx: y"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/a b"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "http://other/"), AUTHORITY],
        &[METHOD, SCHEME, PATH, (":authority", "user@shop")],
        &[METHOD, SCHEME, PATH, (":authority", "shop/a")],
        &[METHOD, SCHEME, PATH, (":authority", "shop:x")],
        &[METHOD, SCHEME, PATH, (":authority", "a b")],
        &[METHOD, SCHEME, PATH, (":authority", "")],
        &[CONNECT, (":authority", "shop:443")],
        &[METHOD, (":protocol", "websocket"), SCHEME, PATH, AUTHORITY],
        &[CONNECT, (":protocol", "websocket"), PATH, AUTHORITY],
        &[CONNECT, (":protocol", "websocket"), SCHEME, AUTHORITY],
        &[CONNECT, (":protocol", "websocket"), SCHEME, PATH],
        &[CONNECT, (":protocol", "websocket"), (":protocol", "websocket"), SCHEME, PATH, AUTHORITY],
        &[CONNECT, (":protocol", "websocket"), (":scheme", "ftp"), PATH, AUTHORITY],
        &[CONNECT, (":protocol", "websocket"), SCHEME, PATH, AUTHORITY, ("content-length", "1")],
        &[CONNECT, (":protocol", "websocket"), SCHEME, PATH, AUTHORITY, ("connection", "upgrade")],
        &[CONNECT, (":protocol", "websocket"), SCHEME, PATH, AUTHORITY, ("upgrade", "websocket")],
        &[CONNECT, (":protocol", "web\r\nsocket"), SCHEME, PATH, AUTHORITY],
        &[CONNECT, (":protocol", ""), SCHEME, PATH, AUTHORITY],
        &[CONNECT, SCHEME, PATH, AUTHORITY],
        &[(":method", "TRACE"), SCHEME, PATH, AUTHORITY],
    ] {
        check(&gate, fields, None);
    }
    assert!(blue.seen().is_empty(), "{:?}", blue.seen());
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_not_taken_for_a_request() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    for (length, body) in [("3", &b"12345"[..]), ("5", b"123"), ("0", b"1"), ("1", b"")] {
        check(&gate, &with(&[("content-length", length)]), Some(body));
    }
    assert!(blue.seen().is_empty(), "{:?}", blue.seen());
    assert_eq!(send(&gate, &with(&[("content-length", "5")]), Some(b"12345")), Fate::Answered(200));
    assert_eq!((blue.last().one("content-length"), &blue.last().body[..]), ("5", &b"12345"[..]));
}

#[test]
fn what_is_well_formed_comes_through() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    for fields in [
        &[][..],
        &[("te", "trailers")],
        &[("x", "")],
        &[("x", "a b\tc")],
        &[("x", "caf\u{e9}")],
        &[("host", "shop")],
        &[("cookie", "a=1"), ("cookie", "b=2")],
        &[("content-length", "0")],
    ] {
        assert_eq!(send(&gate, &with(fields), None), Fate::Answered(200), "{fields:?}");
        let seen = blue.last();
        assert_eq!((seen.line.as_str(), seen.one("host")), ("POST / HTTP/1.1", "shop"));
    }
    assert_eq!(send(&gate, &[METHOD, SCHEME, PATH, ("host", "shop")], None), Fate::Answered(200));
    assert_eq!(send(&gate, &[METHOD, SCHEME, PATH, (":authority", "SHOP:80")], None), Fate::Answered(200));
}

/// A target has no fragment (RFC 9113 §8.3.1); what would be one is not part of what is routed, nor of what is sent on.
#[test]
fn a_fragment_goes_no_further() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    assert_eq!(send(&gate, &[METHOD, SCHEME, (":path", "/a#/../b"), AUTHORITY], None), Fate::Answered(200));
    assert_eq!(blue.last().line, "POST /a HTTP/1.1");
}

#[test]
fn trailers_carry_nothing_that_is_for_heads_or_connections() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    for (trailer, is_malformed) in [
        ((":path", "/other"), false),
        (("connection", "x"), true),
        (("content-length", "7"), false),
        (("host", "other"), false),
        (("X", "y"), true),
        (("x", "a\r\nb: c"), true),
    ] {
        let mut frames = Frames::open(gate.address());
        frames.headers(0, 1, &with(&[]));
        frames.send(DATA, 0, 1, b"body");
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[trailer]));
        let fate = frames.fate(1);
        assert_eq!(is_refused(fate), is_malformed, "{trailer:?}: {fate:?}");
    }
    let seen = blue.seen();
    assert!(seen.iter().all(|seen| seen.trailers.is_empty() && seen.line == "POST / HTTP/1.1"), "{seen:?}");
}
