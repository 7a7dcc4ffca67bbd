//! Who sent a request, as far as the split needs to know, and what he is told about himself.
//!
//! Only what can decide is looked at: no signature is checked while no cookie matters, so that traffic
//! at 0 % and 100 % costs nothing and stays cacheable.

use std::net::IpAddr;

use http::HeaderMap;
use http::request::Parts;

use super::cookies::{self, CookieNames};
use super::forwarded::{Origin, masked};
use crate::clock::Timestamp;
use crate::routing::{Service, TesterOverride, UserKey};
use crate::traffic::{
    Assignment, Bucket, By, CookieError, Keys, Otherwise, OverrideCookie, RatchetCookie, Reason, RingSet,
    Variant, Visitor, VisitorCookie, VisitorId, assign,
};

/// What visitors show that is not what it claims to be. Counted, and otherwise ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A cookie of our name.
    Cookie(CookieError),
    /// An override without the right secret, or more than one.
    Override,
}

/// A request's variant, and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where it goes, and why.
    pub assignment: Assignment,
    /// The visitor's id: proven, or new.
    pub id: Option<VisitorId>,
    /// A hash of who he is, if he was recognised.
    pub recognised: Option<u64>,
    /// The visitor cookie to set when an endpoint of the assigned variant answers.
    pub visitor_cookie: Option<VisitorCookie>,
    /// The ratchet cookie to set then.
    pub ratchet_cookie: Option<RatchetCookie>,
}

impl Decision {
    /// A hash of the visitor that was assigned; `None` when each request was drawn for itself.
    pub(super) fn unit(&self) -> Option<u64> {
        match self.assignment.reason {
            Reason::User => self.recognised,
            Reason::Cookie => self.id.map(|id| id.0),
            Reason::Killed | Reason::Override | Reason::Weight | Reason::Ratchet | Reason::Draw => None,
        }
    }
}

/// A hash of a client's address.
pub(super) fn address_hash(addr: IpAddr) -> u64 {
    match addr {
        IpAddr::V4(addr) => fnv1a(&addr.octets()),
        IpAddr::V6(addr) => fnv1a(&addr.octets()),
    }
}

/// What decisions are made with.
#[derive(Debug)]
pub struct Means<'m> {
    /// They sign cookies.
    pub keys: &'m Keys,
    /// For draws and new ids.
    pub random: &'m mut fastrand::Rng,
    /// The wall clock.
    pub now: Timestamp,
}

/// Decides on a request for `service`. `ignored` is told what was not believed.
pub fn decide(
    service: &Service,
    names: &CookieNames,
    request: &Parts,
    origin: Origin,
    means: Means<'_>,
    mut ignored: impl FnMut(Ignored),
) -> Decision {
    let Means { keys, random, now } = means;
    let (split, headers) = (&service.split, &request.headers);
    let is_https = origin.is_https;
    let is_partial = split.weight.is_partial();

    let wish = service
        .settings
        .tester
        .as_ref()
        .and_then(|tester| wish(tester, headers, names.wish(is_https), keys, now, &mut ignored));
    let user = if split.by == By::User && is_partial {
        user_key(&service.user_keys, request, origin, &split.salt)
    } else {
        None
    };
    let wants_cookie = split.wants_cookie(user.is_some());
    let known = if wants_cookie {
        let name = names.visitor(is_https);
        proven(headers, name, |value| VisitorCookie::open(keys, name, value, now), &mut ignored)
    } else {
        None
    };
    let id = match known {
        Some(cookie) => Some(cookie.id),
        None => wants_cookie.then(|| VisitorId(random.u64(..))),
    };
    let ratchet = if split.ratchet && is_partial {
        let name = names.ratchet(is_https);
        proven(headers, name, |value| RatchetCookie::open(keys, name, value), &mut ignored)
    } else {
        None
    };

    let visitor = Visitor {
        wish,
        ratchet_epoch: ratchet.map(|cookie| cookie.epoch),
        user: user.map(|(bucket, _)| bucket),
        cookie: id.map(|id| id.bucket(&split.salt)),
        rings: RingSet::default(),
    };
    let assignment = assign(split, &visitor, || {
        Bucket::from_index(random.u32(0..Bucket::COUNT)).unwrap_or_else(|| Bucket::of(b"", b""))
    });

    let visitor_cookie = match known {
        Some(cookie) if !cookie.wants_renewal(now) => None,
        _ => id.map(|id| VisitorCookie { id, issued: now }),
    };
    let is_new_there = split.ratchet
        && is_partial
        && assignment.variant == split.candidate
        && matches!(assignment.reason, Reason::User | Reason::Cookie | Reason::Draw);
    Decision {
        assignment,
        id,
        recognised: user.map(|(_, hash)| hash).or(known.map(|cookie| cookie.id.0)),
        visitor_cookie,
        ratchet_cookie: is_new_there.then_some(RatchetCookie { epoch: split.epoch }),
    }
}

/// The bucket of who is recognised, also while nothing of the split depends on it.
pub(super) fn recognised_bucket(
    service: &Service,
    names: &CookieNames,
    request: &Parts,
    origin: Origin,
    means: &Means<'_>,
) -> Option<Bucket> {
    let split = &service.split;
    let by_cookie = || {
        let name = names.visitor(origin.is_https);
        let open = |value: &[u8]| VisitorCookie::open(means.keys, name, value, means.now);
        let cookie = proven(&request.headers, name, open, &mut |_| {})?;
        Some(cookie.id.bucket(&split.salt))
    };
    match (split.by, split.otherwise) {
        (By::Request, _) => None,
        (By::Cookie, _) => by_cookie(),
        (By::User, otherwise) => {
            let key = user_key(&service.user_keys, request, origin, &split.salt);
            key.map(|(bucket, _)| bucket).or_else(|| by_cookie().filter(|_| otherwise == Otherwise::Cookie))
        }
    }
}

/// The first of a cookie's values that is genuine.
fn proven<C>(
    headers: &HeaderMap,
    name: &str,
    open: impl Fn(&[u8]) -> Result<C, CookieError>,
    ignored: &mut impl FnMut(Ignored),
) -> Option<C> {
    cookies::values(headers, name)
        .find_map(|value| open(value).map_err(|error| ignored(Ignored::Cookie(error))).ok())
}

/// Where an authenticated tester wants to go: by header for one request, else by cookie.
fn wish(
    tester: &TesterOverride,
    headers: &HeaderMap,
    cookie_name: &str,
    keys: &Keys,
    now: Timestamp,
    ignored: &mut impl FnMut(Ignored),
) -> Option<Variant> {
    let mut fields = headers.get_all(&tester.header).iter();
    if let Some(field) = fields.next() {
        let wish = if fields.next().is_none() { wish_in(tester, field.as_bytes()) } else { None };
        if wish.is_some() {
            return wish;
        }
        ignored(Ignored::Override);
    }
    let open = |value: &[u8]| OverrideCookie::open(keys, cookie_name, value, now);
    proven(headers, cookie_name, open, ignored).map(|cookie| cookie.variant)
}

fn wish_in(tester: &TesterOverride, field: &[u8]) -> Option<Variant> {
    let at = field.iter().position(|byte| *byte == b':')?;
    let is_proven = tester.secret.matches(&field[at + 1..]);
    let variant = std::str::from_utf8(&field[..at]).ok()?.parse().ok()?;
    is_proven.then_some(variant)
}

/// The bucket of the first key that the request has, and a hash of the key. An empty value is none.
fn user_key(places: &[UserKey], request: &Parts, origin: Origin, salt: &str) -> Option<(Bucket, u64)> {
    let found = |key: &[u8]| (Bucket::of(key, salt.as_bytes()), fnv1a(key));
    places.iter().find_map(|place| match place {
        UserKey::Header(name) => request
            .headers
            .get(name)
            .map(http::HeaderValue::as_bytes)
            .filter(|key| !key.is_empty())
            .map(found),
        UserKey::Cookie(name) => {
            cookies::values(&request.headers, name).find(|key| !key.is_empty()).map(found)
        }
        UserKey::Query(name) => query_value(request.uri.query()?, name).map(str::as_bytes).map(found),
        UserKey::ClientAddr => Some(found(masked(origin.addr).to_string().as_bytes())),
    })
}

fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(found, value)| (found == name && !value.is_empty()).then_some(value))
}

/// FNV-1a, 64 bit (Fowler, Noll, Vo): spreads keys for counting visitors, protects nothing.
fn fnv1a(key: &[u8]) -> u64 {
    key.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
