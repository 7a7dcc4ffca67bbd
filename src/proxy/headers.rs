//! What of a message's head goes on, and what stops here.
//!
//! Fields about one connection end with it (RFC 9110 §7.6.1), both ways: the listed ones and whatever
//! `Connection` names. Not everything it names, though: a client that writes `Connection: content-length`
//! must not change how a message is framed, nor have the facts removed that a trusted proxy in front of us
//! added for the endpoint.
//!
//! Forwarding fields are believed only from trusted peers; then the configured one is kept and extended.
//! All others are dropped, because an endpoint cannot know who wrote them.
//!
//! Trailers pass the same walls: some frameworks merge them into the head, and what was kept out there must not
//! come in by the back door.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::ForwardedHeader;
use super::client::Client;
use super::client_identity::{CLIENT_CERT, X_FORWARDED_CLIENT_CERT};
use super::cookies;
use super::forwarded::Origin;
use crate::routing::ServiceSettings;
use crate::traffic::{Variant, VisitorId};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_TIDEGATE_VARIANT: HeaderName = HeaderName::from_static("x-tidegate-variant");
/// What marks copies of requests that a visitor gets nothing of.
pub(super) const X_TIDEGATE_MIRROR: HeaderName = HeaderName::from_static("x-tidegate-mirror");
/// Whom a request has passed (RFC 8586).
const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const X_TIDEGATE_VISITOR: HeaderName = HeaderName::from_static("x-tidegate-visitor");
/// Longer ids are not taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// How many fields we add to a request, most of the time at most.
const ADDED_FIELDS: usize = 8;

/// Fields that end with the connection they came on. `TE` and `Expect` are looked at apart.
fn ends_here(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields that `Connection` cannot take away: they frame the message or say whom it is for.
fn is_protected(name: &HeaderName) -> bool {
    matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING | HOST | FORWARDED)
        || *name == CDN_LOOP
        || name.as_str().starts_with("x-forwarded-")
        || *name == X_REQUEST_ID
}

/// Where proxies and their frameworks say or look up who the client is, `X-Forwarded-*` and `Forwarded` apart.
const CLIENT_ADDRESSES: [&str; 15] = [
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "x-client-ip",
    "x-real-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-remote-addr",
    "x-remote-ip",
    "x-envoy-external-address",
    "fastly-client-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "client-ip",
];

/// How the names begin under which proxies tell of a client's certificate, `X-Forwarded-Client-Cert` apart.
const CLIENT_CERTIFICATES: [&str; 5] =
    ["client-cert", "x-client-cert", "ssl-client-", "x-ssl-client-", "x-amzn-mtls-"];

/// To a CGI, `X_Real_IP` and `X-Real-IP` are the same.
fn alike(name: &str, known: &str) -> bool {
    name.len() == known.len()
        && name.bytes().zip(known.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

/// Who is behind a request, in any spelling a framework might read: `X_Forwarded_For` is the same to a CGI.
fn is_forwarding(name: &str) -> bool {
    let is = |known: &str| alike(name, known);
    is("forwarded")
        || CLIENT_CERTIFICATES
            .into_iter()
            .any(|start| name.get(..start.len()).is_some_and(|found| alike(found, start)))
        || CLIENT_ADDRESSES.into_iter().any(is)
        || name.get(..11).is_some_and(|start| {
            start.bytes().zip("x-forwarded".bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
        })
}

/// What only we say.
fn is_our_word(name: &str) -> bool {
    name.get(..11).is_some_and(|start| {
        start.bytes().zip("x-tidegate-".bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    })
}

/// What must not stand in a trailer section, because it frames, routes, authenticates or modifies a message, or
/// says how to read it (RFC 9110 §6.5.1); hop-by-hop fields apart.
fn is_for_heads_alone(name: &str) -> bool {
    matches!(
        name,
        "age"
            | "authorization"
            | "cache-control"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "host"
            | "location"
            | "max-forwards"
            | "pragma"
            | "range"
            | "retry-after"
            | "set-cookie"
            | "te"
            | "trailer"
            | "vary"
            | "www-authenticate"
            | "x-request-id"
    ) || name.starts_with("if-")
}

/// Makes a client's trailers ones that an endpoint gets.
pub(super) fn prepare_request_trailers(trailers: &mut HeaderMap, override_header: Option<&HeaderName>) {
    drop_fields(trailers, |name| {
        let text = name.as_str();
        is_for_heads_alone(text) || is_our_word(text) || is_forwarding(text) || override_header == Some(name)
    });
}

/// Makes an endpoint's trailers ones that a client gets.
pub(super) fn prepare_response_trailers(trailers: &mut HeaderMap) {
    drop_fields(trailers, |name| is_for_heads_alone(name.as_str()));
}

/// Removes hop-by-hop fields, and what `also` says.
fn drop_fields(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let mut dropped: Vec<HeaderName> =
        headers.keys().filter(|name| ends_here(name.as_str()) || also(name)).cloned().collect();
    if dropped.is_empty() {
        return;
    }
    let named = headers.get_all(CONNECTION).iter().flat_map(|field| {
        field
            .as_bytes()
            .split(|byte| *byte == b',')
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !is_protected(name) && *name != TE)
    });
    dropped.extend(named);
    for name in dropped {
        headers.remove(name);
    }
}

/// What the endpoint is told.
pub(super) struct Told<'t> {
    pub(super) settings: &'t ServiceSettings,
    pub(super) variant: Variant,
    pub(super) visitor: Option<VisitorId>,
    pub(super) request_id: &'t HeaderValue,
    pub(super) origin: Origin,
}

/// Makes a client's request head one that an endpoint gets.
pub(super) fn prepare_request(head: &mut Parts, client: &Client, told: &Told<'_>) {
    let host = host_value(head);
    let trust = client.is_trusted.then_some(client.live.trusted_proxies.header);
    let override_header = told.settings.tester.as_ref().map(|tester| &tester.header);
    drop_fields(&mut head.headers, |name| {
        is_our_word(name.as_str())
            || override_header == Some(name)
            || (is_forwarding(name.as_str()) && !is_kept(name, trust))
    });
    let headers = &mut head.headers;
    // Once, and not in steps of one more.
    headers.reserve(ADDED_FIELDS);
    if let Some(identity) = client.secured.as_ref().and_then(|secured| secured.identity.as_ref()) {
        headers.insert(CLIENT_CERT, identity.certificate.clone());
        headers.insert(X_FORWARDED_CLIENT_CERT, identity.summary.clone());
    }
    cookies::keep_others(headers);
    keep_te_trailers(headers);
    // HTTP/1.0 knows no 100, so its clients wait for none (RFC 9110 §10.1.1).
    if head.version < Version::HTTP_11 {
        headers.remove(EXPECT);
    }

    let proto = HeaderValue::from_static(if told.origin.is_https { "https" } else { "http" });
    extend(headers, X_FORWARDED_FOR, &client.peer_text);
    if client.live.trusted_proxies.header == ForwardedHeader::Forwarded {
        let host = host.as_ref().and_then(|host| host.to_str().ok());
        let element = forwarded_element(client, host, &proto);
        if client.is_trusted {
            // Of the whole chain, the other field knows only its ends.
            let addr = told.origin.addr;
            if addr != client.peer
                && let Ok(chain) = HeaderValue::try_from(format!("{addr}, {}", client.peer))
            {
                headers.insert(X_FORWARDED_FOR, chain);
            }
        }
        if let Some(element) = element {
            extend(headers, FORWARDED, &element);
        }
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, proto);
    }
    if let Some(host) = host {
        if !headers.contains_key(X_FORWARDED_HOST) {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        if !headers.contains_key(HOST) {
            headers.insert(HOST, host);
        }
    }
    headers.append(CDN_LOOP, client.worker.passed.clone());
    headers.insert(X_REQUEST_ID, told.request_id.clone());
    if told.settings.tell.endpoint_variant {
        headers.insert(X_TIDEGATE_VARIANT, HeaderValue::from_static(told.variant.as_str()));
    }
    if told.settings.tell.endpoint_visitor
        && let Some(visitor) = told.visitor
        && let Ok(value) = HeaderValue::try_from(visitor.to_string())
    {
        headers.insert(X_TIDEGATE_VISITOR, value);
    }
    head.version = Version::HTTP_11;
    if head.uri.authority().is_some() {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = head.uri.path_and_query().cloned();
        head.uri = http::Uri::from_parts(parts).unwrap_or_default();
    }
}

/// Which forwarding fields a trusted peer may set.
fn is_kept(name: &HeaderName, trust: Option<ForwardedHeader>) -> bool {
    match trust {
        None => false,
        Some(ForwardedHeader::XForwardedFor) => {
            [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST].contains(name)
        }
        Some(ForwardedHeader::Forwarded) => *name == FORWARDED,
    }
}

fn host_value(head: &Parts) -> Option<HeaderValue> {
    match head.headers.get(HOST) {
        Some(host) => Some(host.clone()),
        None => HeaderValue::from_str(head.uri.authority()?.as_str()).ok(),
    }
}

/// Appends to a list field, so that it stays one field.
fn extend(headers: &mut HeaderMap, name: HeaderName, element: &HeaderValue) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    let value = if list.is_empty() {
        element.clone()
    } else {
        list.extend_from_slice(element.as_bytes());
        HeaderValue::from_bytes(&list).unwrap_or_else(|_| element.clone())
    };
    headers.insert(name, value);
}

/// RFC 7239 §4 and §6: IPv6 in brackets, everything but tokens quoted.
fn forwarded_element(client: &Client, host: Option<&str>, proto: &HeaderValue) -> Option<HeaderValue> {
    let peer = client.peer;
    let node = if peer.is_ipv6() { format!("\"[{peer}]\"") } else { peer.to_string() };
    let host = host.map(|host| format!(";host=\"{host}\"")).unwrap_or_default();
    let proto = proto.to_str().unwrap_or("http");
    HeaderValue::try_from(format!("for={node}{host};proto={proto}")).ok()
}

/// `TE` concerns the next hop alone, but that the client takes trailers is worth saying again: gRPC wants it.
fn keep_te_trailers(headers: &mut HeaderMap) {
    let Some(_) = headers.get(TE) else { return };
    let takes_trailers = headers.get_all(TE).iter().any(|te| {
        te.as_bytes()
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// Makes an endpoint's response head one that a client gets.
pub(super) fn prepare_response(headers: &mut HeaderMap) {
    drop_fields(headers, |name| *name == TE || *name == UPGRADE);
}

/// What this process adds to `CDN-Loop`. It is random, so that no stranger can have requests refused by it.
pub(super) fn passed_by(process: u64) -> HeaderValue {
    let text = format!("tidegate-{process:016x}");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("tidegate"))
}

/// Whether a request has passed here before: an endpoint leads back to us.
pub(super) fn has_passed(headers: &HeaderMap, passed: &HeaderValue) -> bool {
    headers.contains_key(&CDN_LOOP)
        && headers.get_all(&CDN_LOOP).iter().any(|field| {
            field
                .as_bytes()
                .split(|byte| *byte == b',')
                .any(|element| element.trim_ascii() == passed.as_bytes())
        })
}

/// The id of a request: what a trusted peer calls it, or a new random one.
pub(super) fn request_id(headers: &HeaderMap, is_trusted: bool, random: &mut fastrand::Rng) -> HeaderValue {
    let given = headers.get(&X_REQUEST_ID).filter(|_| is_trusted);
    if let Some(id) = given
        && (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte))
    {
        return id.clone();
    }
    let mut digits = [0; 32];
    let bits = random.u128(..);
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(bits >> (124 - 4 * at) & 0xf) as usize];
    }
    HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("-"))
}
