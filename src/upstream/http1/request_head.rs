//! The head of a request, as an endpoint gets it.
//!
//! How its body is framed is said here and nowhere else, from what the body says about itself: length and
//! coding that stand among the fields are not written. The target is written as it came, in origin form
//! (RFC 9112 §3.2.1).

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use http_body::Body;

/// How much of a request's body is to be sent, and how its end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    /// Nothing.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Chunks, whose last one is empty.
    Chunked,
}

impl Todo {
    pub(super) fn with(body: &impl Body) -> Self {
        match body.size_hint().exact() {
            _ if body.is_end_stream() => Self::Nothing,
            Some(0) => Self::Nothing,
            Some(length) => Self::Length(length),
            None => Self::Chunked,
        }
    }
}

/// Whether the body waits until the endpoint says 100 (RFC 9110 §10.1.1).
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Appends the head to `out`.
pub(super) fn write(out: &mut Vec<u8>, head: &Parts, todo: Todo) {
    let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.extend_from_slice(if target.starts_with(['/', '*']) { b" " } else { b" /" });
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // First, as RFC 9110 §7.2 asks for.
    if let Some(host) = head.headers.get(HOST) {
        write_field(out, "host", host.as_bytes());
    }
    match todo {
        Todo::Nothing if has_content_by_nature(&head.method) => write_field(out, "content-length", b"0"),
        Todo::Nothing => {}
        Todo::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_number(out, length, 10);
            out.extend_from_slice(b"\r\n");
        }
        Todo::Chunked => write_field(out, "transfer-encoding", b"chunked"),
    }
    let waits_for_nothing = todo == Todo::Nothing && expects_continue(&head.headers);
    for (name, value) in &head.headers {
        match *name {
            HOST | CONTENT_LENGTH | TRANSFER_ENCODING => {}
            EXPECT if waits_for_nothing => {}
            _ => write_field(out, name.as_str(), value.as_bytes()),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, with trailers if there are any.
pub(super) fn write_end(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        write_field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the line before a chunk's data.
pub(super) fn write_chunk_size(out: &mut Vec<u8>, bytes: usize) {
    write_number(out, bytes as u64, 16);
    out.extend_from_slice(b"\r\n");
}

/// Requests that say so when their content is empty (RFC 9110 §8.6).
fn has_content_by_nature(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Neither name nor value can hold a line end: `http` has looked at both.
fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_number(out: &mut Vec<u8>, mut number: u64, base: u64) {
    let start = out.len();
    loop {
        // Always one of the sixteen.
        let digit = char::from_digit((number % base) as u32, base as u32).unwrap_or('0');
        out.push(digit as u8);
        number /= base;
        if number == 0 {
            break;
        }
    }
    out[start..].reverse();
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(request: http::request::Builder, todo: Todo, expected: &str) {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        write(&mut out, &head, todo);
        assert_eq!(String::from_utf8(out).unwrap(), expected.replace('|', "\r\n"));
    }

    #[test]
    fn a_head_is_written_as_it_came_but_for_what_frames_it() {
        let of = |method: &str, uri: &str| Request::builder().method(method).uri(uri);
        check(of("GET", "/"), Todo::Nothing, "GET / HTTP/1.1||");
        let odd = of("PURGE", "/a/../%2e;x//?a=b%0d&c|d?e").header("X-A", "1").header("host", "shop");
        let line = "PURGE /a/../%2e;x//?a=b%0d&c\u{1}d?e HTTP/1.1|host: shop|x-a: 1||";
        let (head, ()) = odd.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        write(&mut out, &head, Todo::Nothing);
        assert_eq!(String::from_utf8(out).unwrap(), line.replace('|', "\r\n").replace('\u{1}', "|"));
        check(of("GET", "http://shop?x"), Todo::Nothing, "GET /?x HTTP/1.1||");
        check(of("GET", "http://shop"), Todo::Nothing, "GET / HTTP/1.1||");
        check(of("OPTIONS", "*"), Todo::Nothing, "OPTIONS * HTTP/1.1||");
        check(of("GET", "/").header("a", "1").header("a", "2"), Todo::Nothing, "GET / HTTP/1.1|a: 1|a: 2||");
    }

    #[test]
    fn framing_is_said_once_and_by_the_body() {
        let of = |method: &str| {
            Request::builder()
                .method(method)
                .uri("/")
                .header("content-length", "7")
                .header("transfer-encoding", "gzip, chunked")
        };
        check(of("GET"), Todo::Nothing, "GET / HTTP/1.1||");
        check(of("DELETE"), Todo::Nothing, "DELETE / HTTP/1.1||");
        for method in ["POST", "PUT", "PATCH"] {
            check(of(method), Todo::Nothing, &format!("{method} / HTTP/1.1|content-length: 0||"));
        }
        check(of("GET"), Todo::Length(1234567890), "GET / HTTP/1.1|content-length: 1234567890||");
        check(of("POST"), Todo::Chunked, "POST / HTTP/1.1|transfer-encoding: chunked||");
    }

    #[test]
    fn nothing_is_expected_for_a_body_that_is_not_there() {
        let of = |expect| Request::builder().uri("/").header("expect", expect);
        check(of("100-Continue"), Todo::Nothing, "GET / HTTP/1.1||");
        check(of("miracles"), Todo::Nothing, "GET / HTTP/1.1|expect: miracles||");
        check(of("100-continue"), Todo::Length(1), "GET / HTTP/1.1|content-length: 1|expect: 100-continue||");
    }

    #[test]
    fn chunks_have_sizes_in_hexadecimal() {
        for bytes in [0, 1, 9, 10, 15, 16, 255, 65_536, usize::MAX] {
            let mut out = Vec::new();
            write_chunk_size(&mut out, bytes);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{bytes:x}\r\n"));
        }
    }
}
