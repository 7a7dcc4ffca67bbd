//! Cookies: finding ours among what a client sends, taking them out, and setting them.
//!
//! What clients send is read as bytes, because browsers pass on whatever any page ever stored, 8-bit
//! garbage included (RFC 6265 §5.4 forbids little). Everybody else's cookies reach the endpoint byte by byte.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::traffic::{OverrideCookie, RatchetCookie, VisitorCookie};

/// What browsers accept over https only, for the whole host only.
const HOST_PREFIX: &str = "__Host-";

/// The names of a service's cookies, for http and https.
#[derive(Clone, Debug)]
pub struct CookieNames {
    visitor: [String; 2],
    ratchet: [String; 2],
    wish: [String; 2],
}

impl CookieNames {
    /// The names for a service.
    pub fn of(service: &str) -> Self {
        let both = |name: String| [name.clone(), format!("{HOST_PREFIX}{name}")];
        Self {
            visitor: both(VisitorCookie::NAME.to_owned()),
            ratchet: both(format!("{}{service}", RatchetCookie::NAME_PREFIX)),
            wish: both(format!("{}{service}", OverrideCookie::NAME_PREFIX)),
        }
    }

    /// The visitor cookie's.
    pub fn visitor(&self, is_https: bool) -> &str {
        &self.visitor[usize::from(is_https)]
    }

    /// The ratchet's.
    pub fn ratchet(&self, is_https: bool) -> &str {
        &self.ratchet[usize::from(is_https)]
    }

    /// The tester's.
    pub fn wish(&self, is_https: bool) -> &str {
        &self.wish[usize::from(is_https)]
    }
}

/// All values that the client sent under `name`, in order.
pub(super) fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';')).filter_map(
        move |pair| {
            let (found, value) = split_pair(pair);
            (found == name.as_bytes()).then_some(value)
        },
    )
}

fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    let pair = pair.trim_ascii();
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (pair[..at].trim_ascii_end(), pair[at + 1..].trim_ascii_start()),
        None => (&[], pair),
    }
}

/// Whether a cookie is one of ours, of any service.
fn is_ours(pair: &[u8]) -> bool {
    let (name, _) = split_pair(pair);
    let name = name.strip_prefix(HOST_PREFIX.as_bytes()).unwrap_or(name);
    name == VisitorCookie::NAME.as_bytes()
        || name.starts_with(RatchetCookie::NAME_PREFIX.as_bytes())
        || name.starts_with(OverrideCookie::NAME_PREFIX.as_bytes())
}

/// Takes our cookies out of what the endpoint gets, and joins the several fields that HTTP/2 allows into
/// the one that HTTP/1.1 knows (RFC 9113 §8.2.3).
pub(super) fn keep_others(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(COOKIE).iter();
    let Some(first) = fields.next() else { return };
    let has_ours = |field: &HeaderValue| field.as_bytes().split(|byte| *byte == b';').any(is_ours);
    let is_single = fields.next().is_none();
    if is_single && !has_ours(first) {
        return;
    }
    let mut kept = Vec::new();
    for field in headers.get_all(COOKIE) {
        if !has_ours(field) {
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(field.as_bytes());
            continue;
        }
        for pair in field.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_ours(pair)) {
            if kept.is_empty() {
                kept.extend_from_slice(pair.trim_ascii_start());
            } else {
                kept.push(b';');
                if !pair.first().is_some_and(u8::is_ascii_whitespace) {
                    kept.push(b' ');
                }
                kept.extend_from_slice(pair);
            }
        }
    }
    match HeaderValue::from_bytes(&kept) {
        Ok(value) if !kept.is_empty() => {
            headers.insert(COOKIE, value);
        }
        _ => {
            headers.remove(COOKIE);
        }
    }
}

/// Sets a cookie of ours on a response.
pub(super) fn set(headers: &mut HeaderMap, name: &str, value: String, max_age: Duration, is_https: bool) {
    let cookie = Cookie::build((name, value))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(is_https)
        .max_age(cookie::time::Duration::seconds(max_age.as_secs().cast_signed()))
        .build();
    if let Ok(value) = HeaderValue::try_from(cookie.to_string()) {
        headers.append(SET_COOKIE, value);
        keep_private(headers);
    }
}

/// A response that sets a visitor's cookie must not be handed to others by a shared cache: unless
/// `Cache-Control` says `no-store` or `private` already, `public` and `s-maxage` go and `private` comes; the
/// rest, `max-age` for instance, stays. What talks to CDNs alone goes.
fn keep_private(headers: &mut HeaderMap) {
    const FOR_CDNS: [HeaderName; 2] =
        [HeaderName::from_static("cdn-cache-control"), HeaderName::from_static("surrogate-control")];
    for name in FOR_CDNS {
        headers.remove(name);
    }
    let mut kept = Vec::new();
    for field in headers.get_all(CACHE_CONTROL) {
        for directive in field.to_str().unwrap_or_default().split(',').map(str::trim) {
            let name = directive.split('=').next().unwrap_or_default().trim_end();
            if name.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("private") {
                return;
            }
            let is_public =
                ["", "public", "s-maxage", "private"].iter().any(|public| name.eq_ignore_ascii_case(public));
            if !is_public {
                kept.push(directive);
            }
        }
    }
    kept.insert(0, "private");
    if let Ok(value) = HeaderValue::try_from(kept.join(", ")) {
        headers.insert(CACHE_CONTROL, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(fields: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        headers
    }

    #[test]
    fn our_cookies_are_taken_out_and_others_are_left_as_they_are() {
        #[track_caller]
        fn check(fields: &[&[u8]], expected: Option<&[u8]>) {
            let mut headers = request(fields);
            keep_others(&mut headers);
            let left: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(left, Vec::from_iter(expected));
        }
        check(&[], None);
        check(&[b"a=1"], Some(b"a=1"));
        check(
            &[b" a=1;b; ;=c ;\xff\xfe=\x80"],
            Some(b"a=1;b; ;=c ;\xff\xfe=\x80".as_slice()).map(|_| b" a=1;b; ;=c ;\xff\xfe=\x80".as_slice()),
        );
        check(&[b"tidegate=x"], None);
        check(&[b"tidegate=x; a=1"], Some(b"a=1"));
        check(&[b"a=1; tidegate=x"], Some(b"a=1"));
        check(&[b"a=1; tidegate=x; b=2"], Some(b"a=1; b=2"));
        check(&[b"a=1;tidegate=x;b=\xe4\"2"], Some(b"a=1; b=\xe4\"2"));
        check(
            &[b"__Host-tidegate=x; tidegate-r-shop=1; __Host-tidegate-o-shop=2; a=tidegate"],
            Some(b"a=tidegate"),
        );
        check(&[b"tidegate2=x; xtidegate=1; Tidegate=3"], Some(b"tidegate2=x; xtidegate=1; Tidegate=3"));
        check(&[b"a=1", b"b=2"], Some(b"a=1; b=2"));
        check(&[b"a=1", b"tidegate=2", b"b=2; c=3"], Some(b"a=1; b=2; c=3"));
        check(&[b"tidegate=2", b"tidegate=3"], None);
    }

    #[test]
    fn values_are_found_by_their_exact_name() {
        let headers = request(&[b"a=1; tidegate=x; \xff=\xfe", b"tidegate = y ;tidegate=\"z\"; nope"]);
        let found: Vec<_> = values(&headers, "tidegate").collect();
        assert_eq!(found, [&b"x"[..], b"y", b"\"z\""]);
        assert_eq!(values(&headers, "nope").count(), 0);
    }

    #[test]
    fn a_response_with_our_cookie_is_not_publicly_cacheable() {
        #[track_caller]
        fn check(fields: &[&str], expected: &str) {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(CACHE_CONTROL, field.parse().unwrap());
            }
            headers.insert("surrogate-control", HeaderValue::from_static("max-age=9"));
            set(&mut headers, "tidegate", "v".into(), Duration::from_secs(60), false);
            let got: Vec<_> =
                headers.get_all(CACHE_CONTROL).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(got.join("|"), expected);
            assert!(!headers.contains_key("surrogate-control"));
        }
        check(&[], "private");
        check(&["public, max-age=60"], "private, max-age=60");
        check(&["max-age=60, S-MaxAge=90, immutable"], "private, max-age=60, immutable");
        check(&["public", "max-age=5"], "private, max-age=5");
        check(&["private=\"set-cookie\", max-age=5"], "private, max-age=5");
        check(&["private, max-age=60"], "private, max-age=60");
        check(&["No-Store"], "No-Store");
        check(&["no-cache"], "private, no-cache");
    }

    #[test]
    fn our_cookies_are_for_the_browser_alone() {
        let set = |is_https| {
            let mut headers = HeaderMap::new();
            set(&mut headers, "tidegate", "v".into(), Duration::from_secs(60), is_https);
            headers[SET_COOKIE].to_str().unwrap().to_owned()
        };
        assert_eq!(set(false), "tidegate=v; HttpOnly; SameSite=Lax; Path=/; Max-Age=60");
        assert_eq!(set(true), "tidegate=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60");
    }

    proptest! {
        #[test]
        fn no_cookie_of_ours_is_left_and_none_of_theirs_is_lost(
            fields in prop::collection::vec("((tidegate|__Host-tidegate|a|b\\x7f{0}|)=?[a-z\"]{0,3}[; ]{0,3}){0,4}", 0..4),
        ) {
            let bytes: Vec<&[u8]> = fields.iter().map(String::as_bytes).collect();
            let mut headers = request(&bytes);
            let pairs = |headers: &HeaderMap| -> Vec<Vec<u8>> {
                headers.get_all(COOKIE).iter()
                    .flat_map(|field| field.as_bytes().split(|byte| *byte == b';').map(|pair| pair.trim_ascii().to_vec()).collect::<Vec<_>>())
                    .filter(|pair| !pair.is_empty())
                    .collect()
            };
            let expected: Vec<_> = pairs(&headers).into_iter().filter(|pair| !is_ours(pair)).collect();
            keep_others(&mut headers);
            prop_assert_eq!(pairs(&headers), expected);
            prop_assert!(headers.get_all(COOKIE).iter().count() <= 1);
        }
    }
}
