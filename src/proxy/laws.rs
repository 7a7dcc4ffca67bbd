//! What holds for whatever clients, and proxies in front of us, write at the head of connections and requests.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;

use super::cookies::{keep_others, values};
use super::proxy_header::{Beginning, begin};
use super::scrutiny::Scrutiny;
use super::target::Target;
use super::{ClientLimits, CookieNames, ForwardedHeader, Origin, TrustedProxies};
use crate::clock::Timestamp;
use crate::routing::{Host, normalise};
use crate::traffic::{Key, Keys, OverrideCookie, RatchetCookie, Variant, VisitorCookie, VisitorId};

/// Enough for hyper to answer all that fits into 4 KiB.
const TURNS: usize = 40;

/// A PROXY header ends where it says, however it arrives, and what comes behind it is not looked at.
pub fn proxy_header(data: &[u8]) {
    const LONGEST: usize = 4096;
    let whole = begin(data);
    let mut answer = Beginning::Partial;
    // Longer ones take too long to be tried at every place.
    for end in 0..=data.len().min(600) {
        let now = begin(&data[..end]);
        if answer == Beginning::Partial {
            answer = now;
        }
        assert_eq!(now, answer, "after {end} bytes");
    }
    assert!(data.len() > 600 || answer == whole);
    assert!(answer == Beginning::Partial || answer == whole);
    match whole {
        Beginning::Header { length, source } => {
            assert!((15..=LONGEST.min(data.len())).contains(&length));
            assert_eq!(begin(&data[..length]), whole, "without what is behind it");
            assert_eq!(begin(&data[..length - 1]), Beginning::Partial, "without its last byte");
            if let Some(source) = source {
                assert_eq!(source, source.to_canonical());
                let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
                let line = format!("PROXY {family} {source} {source} 1 2\r\n");
                let length = line.len();
                assert_eq!(begin(line.as_bytes()), Beginning::Header { length, source: Some(source) });
            }
        }
        Beginning::Partial => assert!(data.len() < LONGEST),
        Beginning::Other | Beginning::Malformed => {}
    }
}

/// Nobody but a trusted proxy has a say in who the client is. The first byte says who asks; each line of the rest is a field.
pub fn forwarded(data: &[u8]) {
    let [how, text @ ..] = data else { return };
    let (is_trusted, is_https) = (how & 1 == 0, how & 2 != 0);
    let header = [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded][usize::from(how >> 2 & 1)];
    let proxies = TrustedProxies { from: vec![net("10.0.0.0/8"), net("fd00::/8")], header };
    let peer = Origin { addr: IpAddr::from([if is_trusted { 10 } else { 203 }, 0, 113, 7]), is_https };
    let headers = headers(text);
    let read = |headers: &HeaderMap| Origin::of(peer, headers, &proxies, proxies.trusts(peer.addr));

    let origin = read(&headers);
    assert_eq!(origin.addr, origin.addr.to_canonical());
    if !is_trusted {
        assert_eq!(origin, peer);
        return;
    }
    let name = match header {
        ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
        ForwardedHeader::Forwarded => http::header::FORWARDED,
    };
    let fields: Vec<&HeaderValue> = headers.get_all(&name).iter().collect();

    // Only the configured one counts.
    let mut others = headers.clone();
    others.insert("x-real-ip", HeaderValue::from_static("6.6.6.6"));
    others.insert("x-client-ip", HeaderValue::from_static("6.6.6.6"));
    assert_eq!(read(&others), origin);

    // A list may be cut into fields anywhere (RFC 9110 §5.3).
    if fields.iter().all(|field| field.to_str().is_ok()) {
        let mut cut = headers.clone();
        cut.remove(&name);
        for element in fields.iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b',')) {
            cut.append(&name, HeaderValue::from_bytes(element).expect("a part of one"));
        }
        assert_eq!(read(&cut), origin, "cut into one field for each");
    }

    // Once the client is found, what he has written to the left of it changes nothing.
    if !proxies.trusts(origin.addr) {
        for made_up in
            ["6.6.6.6", "for=6.6.6.6;proto=https", "for=6.6.6.6;proto=http", "unknown", "\"", "for=\"x"]
        {
            let mut more = headers.clone();
            more.remove(&name);
            more.append(&name, HeaderValue::from_static(made_up));
            for field in &fields {
                more.append(&name, (*field).clone());
            }
            assert_eq!(read(&more), origin, "{made_up}");
        }
    }
}

/// Everybody's cookies but ours reach the endpoint, each once and in order, and nobody can make one of ours. Each line of
/// the input is a field.
pub fn cookies(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    let before = headers.clone();
    keep_others(&mut headers);
    let after = headers.clone();
    keep_others(&mut headers);
    assert_eq!(headers, after, "taken out twice");
    assert!(after.get_all(COOKIE).iter().count() <= 1, "RFC 9113 §8.2.3");
    let names = CookieNames::of("shop");
    for is_https in [false, true] {
        for name in [names.visitor(is_https), names.ratchet(is_https), names.wish(is_https)] {
            assert_eq!(values(&after, name).next(), None, "{name} goes on");
        }
    }
    assert_eq!(pairs(&after), pairs(&before).into_iter().filter(|pair| !is_ours(pair)).collect::<Vec<_>>());
    for name in ["uid", "a"] {
        assert!(values(&before, name).eq(values(&after, name)), "{name:?}");
    }

    let keys = Keys::new(key(1), vec![key(2)]);
    for name in ["tidegate", "__Host-tidegate", "tidegate-r-shop", "tidegate-o-shop"] {
        // Ours have one spelling only.
        for value in values(&before, name).chain([data]) {
            if let Ok(cookie) = VisitorCookie::open(&keys, name, value, Timestamp::from_millis(0)) {
                assert_eq!(cookie.seal(&keys, name).as_bytes(), value);
            }
            if let Ok(cookie) = RatchetCookie::open(&keys, name, value) {
                assert_eq!(cookie.seal(&keys, name).as_bytes(), value);
            }
            if let Ok(cookie) = OverrideCookie::open(&keys, name, value, Timestamp::from_millis(0)) {
                assert_eq!(cookie.seal(&keys, name).as_bytes(), value);
            }
        }
    }
    if let Some((numbers, [place, flip, ..])) = data.split_at_checked(16) {
        sealed(&keys, numbers, usize::from(*place), *flip);
    }
}

/// What we sign is what we read; one bit changed and it is nobody's.
fn sealed(keys: &Keys, numbers: &[u8], place: usize, flip: u8) {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (id, other) = (number(&numbers[..8]), number(&numbers[8..16]));
    let at = Timestamp::from_millis(other / 1000 * 1000);
    let visitor = VisitorCookie { id: VisitorId(id), issued: at };
    let ratchet = RatchetCookie { epoch: id };
    let variant = if id % 2 == 0 { Variant::Blue } else { Variant::Green };
    let wish = OverrideCookie { variant, expires: at };
    let open_visitor = |value: &[u8]| VisitorCookie::open(keys, "tidegate", value, at);
    let open_ratchet = |value: &[u8]| RatchetCookie::open(keys, "tidegate-r-shop", value);
    let open_wish =
        |value: &[u8]| OverrideCookie::open(keys, "tidegate-o-shop", value, Timestamp::from_millis(0));
    let mut values = [
        visitor.seal(keys, "tidegate").into_bytes(),
        ratchet.seal(keys, "tidegate-r-shop").into_bytes(),
        wish.seal(keys, "tidegate-o-shop").into_bytes(),
    ];
    assert_eq!(open_visitor(&values[0]), Ok(visitor));
    assert_eq!(open_ratchet(&values[1]), Ok(ratchet));
    assert_eq!(open_wish(&values[2]).ok(), (at > Timestamp::from_millis(0)).then_some(wish));
    assert!(open_visitor(&values[1]).is_err() && open_ratchet(&values[0]).is_err());
    for value in &mut values {
        let at = place % value.len();
        value[at] ^= flip.max(1);
    }
    assert!(
        open_visitor(&values[0]).is_err()
            && open_ratchet(&values[1]).is_err()
            && open_wish(&values[2]).is_err()
    );
}

/// A request that is taken asks for one host and one path, and is framed in one way. The first line is method, target and
/// version, each further one a field.
pub fn target(data: &[u8]) {
    let Some(mut head) = head(data) else { return };
    let limits = ClientLimits::default();
    let Ok(Target { host, path }) = Target::read(&head, &limits) else { return };
    assert!(path.starts_with('/') && path.is_ascii());
    assert_eq!(normalise(&path).as_deref(), Ok(&*path));
    assert!(head.method != Method::TRACE && head.headers.len() <= limits.fields_max);
    let fields: Vec<&HeaderValue> = head.headers.get_all(HOST).iter().collect();
    assert!(fields.len() <= 1, "RFC 9112 §3.2");
    assert!(host.is_some() || (head.version == Version::HTTP_10 && head.uri.authority().is_none()));
    for text in fields
        .iter()
        .filter_map(|field| field.to_str().ok())
        .chain(head.uri.authority().map(|it| it.as_str()))
    {
        assert_eq!(Host::parse(text), host, "two hosts");
    }
    let has_coding = head.headers.contains_key(TRANSFER_ENCODING);
    assert!(!has_coding || !head.headers.contains_key(CONTENT_LENGTH), "RFC 9112 §6.1");
    assert!(!has_coding || head.version == Version::HTTP_11);

    let had_host = !fields.is_empty();
    for (name, value, must_not) in [
        (HOST, "6.6.6.6.6", true),
        (CONTENT_LENGTH, "1", has_coding),
        (CONTENT_LENGTH, "1x", true),
        (TRANSFER_ENCODING, "gzip", true),
        (TRANSFER_ENCODING, "chunked", has_coding || head.version != Version::HTTP_11),
    ] {
        let before = head.headers.clone();
        head.headers.append(&name, HeaderValue::from_static(value));
        let is_allowed = name == HOST && !had_host && head.version == Version::HTTP_10;
        let is_refused = Target::read(&head, &limits).is_err();
        assert!(is_refused || !must_not || is_allowed, "{name}: {value}");
        head.headers = before;
    }
}

/// Where no doubt is raised, hyper reads the requests that were looked at and no others.
pub fn scrutiny(data: &[u8]) {
    let [cut, bytes @ ..] = data else { return };
    let bytes = bytes.get(..4096).unwrap_or(bytes);
    let looked = |step: usize| {
        let mut scrutiny = Scrutiny::new();
        let doubt = bytes.chunks(step.max(1)).fold(None, |found, piece| found.or(scrutiny.look(piece)));
        (doubt, scrutiny.heads())
    };
    let (doubt, heads) = looked(bytes.len());
    assert_eq!(looked(usize::from(*cut)), (doubt, heads), "it depends on how it arrives");
    if let Some(number) = doubt {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        assert!(number >= 1 && usize::try_from(number).is_ok_and(|number| number <= lines));
        return;
    }
    let taken = taken_by_hyper(bytes);
    assert!(taken.requests <= heads, "{} requests, {heads} looked at", taken.requests);
    if taken.is_clean {
        assert_eq!(taken.requests, heads);
    }
}

struct Taken {
    requests: u32,
    /// hyper was content with all of them, and would go on.
    is_clean: bool,
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
}

fn taken_by_hyper(bytes: &[u8]) -> Taken {
    let (requests, is_clean) = (Cell::new(0), Cell::new(true));
    let service = service_fn(|request: Request<Incoming>| {
        requests.set(requests.get() + 1);
        let may_end = request.version() != Version::HTTP_11
            || request.headers().contains_key(CONNECTION)
            || request.headers().contains_key(UPGRADE)
            || request.method() == Method::CONNECT;
        is_clean.set(is_clean.get() && !may_end);
        let is_clean = &is_clean;
        async move {
            if request.into_body().collect().await.is_err() {
                is_clean.set(false);
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            let _ = client.write_all(bytes).await;
            let connection = http1::Builder::new().serve_connection(TokioIo::new(server), &service);
            tokio::select! {
                biased;
                _ = connection => is_clean.set(false),
                () = async { for _ in 0..TURNS { yield_now().await } } => {}
            }
        });
    });
    Taken { requests: requests.get(), is_clean: is_clean.get() }
}

fn head(data: &[u8]) -> Option<http::request::Parts> {
    let (line, fields) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, uri, version) = (words.next()?, words.next()?, words.next()?);
    let version = match version {
        "1.0" => Version::HTTP_10,
        "1.1" => Version::HTTP_11,
        "2" => Version::HTTP_2,
        _ => return None,
    };
    let mut head = Request::builder().method(method).uri(uri).version(version).body(()).ok()?.into_parts().0;
    if let Some(protocol) = words.next() {
        head.extensions.insert(Protocol::from_static(if protocol == "w" { "websocket" } else { "x" }));
    }
    head.headers = headers(fields);
    Some(head)
}

/// `name: value` in each line; what is none is passed over.
fn headers(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(40) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// What stands between semicolons, blanks around it apart.
fn pairs(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let fields = headers.get_all(COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.map(|pair| pair.trim_ascii().to_vec()).filter(|pair| !pair.is_empty()).collect()
}

fn is_ours(pair: &[u8]) -> bool {
    let Some(end) = pair.iter().position(|byte| *byte == b'=') else { return false };
    let name = pair[..end].trim_ascii_end();
    let name = name.strip_prefix(b"__Host-").unwrap_or(name);
    name == b"tidegate" || name.starts_with(b"tidegate-r-") || name.starts_with(b"tidegate-o-")
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).expect("32 bytes are enough")
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().expect("a network")
}
