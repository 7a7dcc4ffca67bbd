//! What a request asks for, or why it is refused before any service is looked for.
//!
//! Two readers of one request must not come to two conclusions: whatever another implementation could
//! read differently (two hosts, an odd transfer coding, encoded slashes) ends here.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use hyper::ext::Protocol;

use super::ClientLimits;
use super::error::Refusal;
use crate::routing::{Host, normalise};

/// Where a request wants to go, ready to be routed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'r> {
    /// The host; `None` only for HTTP/1.0 clients that do not say.
    pub(super) host: Option<Host<'r>>,
    /// The path as routes compare it.
    pub(super) path: Cow<'r, str>,
}

impl<'r> Target<'r> {
    /// Reads and checks a request's head.
    pub(super) fn read(head: &'r Parts, limits: &ClientLimits) -> Result<Self, Refusal> {
        check_framing(head)?;
        check_values(head)?;
        if head.headers.len() > limits.fields_max {
            return Err(Refusal::TooManyFields);
        }
        if head.method == Method::TRACE || (head.method == Method::CONNECT && !is_extended(head)) {
            return Err(Refusal::Method);
        }
        if let Some(scheme) = head.uri.scheme_str()
            && !matches!(scheme, "http" | "https")
        {
            return Err(Refusal::Bad("the target's scheme is not http\n"));
        }
        let host = host(head)?;
        let path_and_query = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if path_and_query.len() > limits.uri_bytes_max {
            return Err(Refusal::UriTooLong);
        }
        if head.method == Method::OPTIONS && head.uri.path() == "*" {
            return Err(Refusal::Options);
        }
        // What is beyond ASCII has to be encoded (RFC 3986 §2); an endpoint may take its bytes for anything.
        if !path_and_query.is_ascii() {
            return Err(Refusal::Bad("the path is malformed\n"));
        }
        let path = normalise(head.uri.path()).map_err(|_| Refusal::Bad("the path is malformed\n"))?;
        Ok(Self { host, path })
    }
}

/// CONNECT that names what to speak with the target (RFC 8441 §4), not where to lead.
fn is_extended(head: &Parts) -> bool {
    head.version == Version::HTTP_2
        && head.uri.scheme().is_some()
        && head.extensions.get::<Protocol>().is_some()
}

/// RFC 9112 §6: hyper has refused differing lengths and chunked as not the last coding; we take chunked alone. Of HTTP/2,
/// it also takes lengths that are no numbers.
fn check_framing(head: &Parts) -> Result<(), Refusal> {
    let is_number = |value: &http::HeaderValue| {
        !value.is_empty() && value.len() < 20 && value.as_bytes().iter().all(u8::is_ascii_digit)
    };
    if !head.headers.get_all(CONTENT_LENGTH).iter().all(is_number) {
        return Err(Refusal::Bad("the length is no number\n"));
    }
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if head.version != Version::HTTP_11
        || codings.next().is_some()
        || !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
    {
        return Err(Refusal::Bad("the transfer coding is not supported\n"));
    }
    if head.headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::Bad("the request has two lengths\n"));
    }
    Ok(())
}

/// RFC 9113 §8.2.1: blanks around a value are malformed; the `h2` crate takes them. HTTP/1 has them trimmed.
fn check_values(head: &Parts) -> Result<(), Refusal> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if head.version == Version::HTTP_2
        && head.headers.values().any(|value| {
            let bytes = value.as_bytes();
            is_blank(bytes.first()) || is_blank(bytes.last())
        })
    {
        return Err(Refusal::Bad("a field value has blanks around it\n"));
    }
    Ok(())
}

/// RFC 9112 §3.2: exactly one, valid, and the same as in the target if that has one.
fn host(head: &Parts) -> Result<Option<Host<'_>>, Refusal> {
    let mut fields = head.headers.get_all(HOST).iter();
    let (field, authority) = (fields.next(), head.uri.authority());
    if fields.next().is_some() {
        return Err(Refusal::Bad("the request has several hosts\n"));
    }
    let text = match (field, authority) {
        (None, None) if head.version <= Version::HTTP_10 => return Ok(None),
        (None, None) => return Err(Refusal::Bad("the request names no host\n")),
        (None, Some(_)) if head.version == Version::HTTP_11 => {
            return Err(Refusal::Bad("the request names no host\n"));
        }
        (None, Some(authority)) => authority.as_str(),
        (Some(field), authority) => {
            let text = field.to_str().map_err(|_| Refusal::Bad("the host is malformed\n"))?;
            if authority.is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(text)) {
                return Err(Refusal::Bad("the request has several hosts\n"));
            }
            text
        }
    };
    Host::parse(text).map(Some).ok_or(Refusal::Bad("the host is malformed\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, StatusCode};

    #[track_caller]
    fn check(request: http::request::Builder, expected: Result<(&str, &str), u16>) {
        let head = request.body(()).unwrap().into_parts().0;
        let limits = ClientLimits { fields_max: 3, uri_bytes_max: 20, ..ClientLimits::default() };
        let got = Target::read(&head, &limits);
        let got = got
            .as_ref()
            .map(|target| (target.host.as_ref().map_or("", |host| host.as_str()), target.path.as_ref()));
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(refusal), Err(status)) => {
                assert_eq!(refusal.status(), StatusCode::from_u16(status).unwrap())
            }
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    fn get(uri: &str) -> http::request::Builder {
        Request::get(uri)
    }

    #[test]
    fn a_request_names_one_host_and_one_path() {
        check(get("/a").header("host", "Shop.example:80"), Ok(("shop.example", "/a")));
        check(get("/%61/../b").header("host", "s"), Ok(("s", "/b")));
        check(get("http://s/a").header("host", "S"), Ok(("s", "/a")));
        check(get("https://s").header("host", "s"), Ok(("s", "/")));
        check(get("https://s/a").version(Version::HTTP_2), Ok(("s", "/a")));
        check(get("https://s/a").version(Version::HTTP_2).header("host", "s"), Ok(("s", "/a")));
        check(get("/a").version(Version::HTTP_10), Ok(("", "/a")));
        for request in [
            get("/"),
            get("http://s/"),
            get("/").header("host", ""),
            get("/").header("host", "a b"),
            get("/").header("host", "a@b"),
            get("/").header("host", "a:99999"),
            get("/").header("host", &b"\xe4"[..]),
            get("/").header("host", "s").header("host", "s"),
            get("http://s/").header("host", "t"),
            get("http://s/").header("host", "s:81"),
            get("ftp://s/").header("host", "s"),
            get("https://s/a").version(Version::HTTP_2).header("host", "t"),
            get("/a%2fb").header("host", "s"),
            get("/\u{e4}").header("host", "s"),
            get("/a?\u{e4}").header("host", "s"),
            get("/a%zz").header("host", "s"),
            Request::put("*").header("host", "s"),
        ] {
            check(request, Err(400));
        }
    }

    #[test]
    fn what_cannot_be_forwarded_is_refused() {
        let with = |name, value| Request::post("/").header("host", "s").header(name, value);
        check(with("transfer-encoding", "chunked"), Ok(("s", "/")));
        check(with("transfer-encoding", "Chunked"), Ok(("s", "/")));
        check(with("transfer-encoding", "gzip, chunked"), Err(400));
        check(with("transfer-encoding", "identity"), Err(400));
        check(with("transfer-encoding", "chunked").header("transfer-encoding", "chunked"), Err(400));
        check(with("transfer-encoding", "chunked").header("content-length", "3"), Err(400));
        check(with("transfer-encoding", "chunked").version(Version::HTTP_10), Err(400));
        check(with("a", "1").header("b", "2").header("c", "3"), Err(431));
        check(get("/2345678901234567890").header("host", "s"), Ok(("s", "/2345678901234567890")));
        check(get("/2345678901234567890?").header("host", "s"), Err(414));
        check(Request::options("*").header("host", "s"), Err(200));
        check(Request::connect("s:443").header("host", "s:443"), Err(405));
        check(Request::builder().method("TRACE").uri("/").header("host", "s"), Err(405));
    }
}
