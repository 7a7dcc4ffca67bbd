//! Who the client is, behind the proxies in front of us.
//!
//! A forwarding header is believed only from a trusted peer, and only the one that is configured. It is
//! read from the right, where the nearest proxy wrote: the first address that is no trusted proxy is the
//! client; whatever stands left of it the client may have made up.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::headers::{X_FORWARDED_FOR, X_FORWARDED_PROTO};
use super::{ForwardedHeader, TrustedProxies};

/// What is known about the client itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its address.
    pub addr: IpAddr,
    /// Whether it speaks https, as far as we know.
    pub is_https: bool,
}

impl Origin {
    /// The client behind the `peer` itself, whose connection speaks https or not. A trusted one that does not say what
    /// the client speaks has only its own word to go by.
    pub(super) fn of(peer: Self, headers: &HeaderMap, proxies: &TrustedProxies, is_trusted: bool) -> Self {
        if !is_trusted {
            return peer;
        }
        let is_https =
            |proto: Option<&str>| proto.map_or(peer.is_https, |proto| proto.eq_ignore_ascii_case("https"));
        let peer = peer.addr;
        match proxies.header {
            ForwardedHeader::XForwardedFor => Self {
                addr: client(peer, elements(headers, &X_FORWARDED_FOR).map(parse_addr), proxies),
                is_https: is_https(elements(headers, &X_FORWARDED_PROTO).next()),
            },
            ForwardedHeader::Forwarded => {
                // Of what was looked at on the way to the client only: he may have written what stands left of it.
                let mut proto = None;
                let addrs = elements(headers, &FORWARDED).map(|element| {
                    proto = proto.or_else(|| parameter(element, "proto"));
                    parameter(element, "for").and_then(parse_addr)
                });
                let addr = client(peer, addrs, proxies);
                Self { addr, is_https: is_https(proto) }
            }
        }
    }
}

/// The network that stands for a household: /24 or /56, so that its visitors stay together when their
/// addresses rotate.
pub fn masked(addr: IpAddr) -> IpNet {
    let addr = addr.to_canonical();
    let bits = if addr.is_ipv4() { 24 } else { 56 };
    IpNet::new(addr, bits).unwrap_or_else(|_| addr.into()).trunc()
}

/// The first address that is no trusted proxy; the last one that could be read if all are.
fn client(
    peer: IpAddr,
    from_the_right: impl Iterator<Item = Option<IpAddr>>,
    proxies: &TrustedProxies,
) -> IpAddr {
    let mut nearest = peer;
    for addr in from_the_right {
        // `unknown` or an obfuscated name: nothing left of it can be told from an invention.
        let Some(addr) = addr else { return nearest };
        nearest = addr;
        if !proxies.trusts(addr) {
            return addr;
        }
    }
    nearest
}

/// The comma-separated elements of all fields of a name, from the right.
fn elements<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or("unknown").rsplit(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// RFC 7239 §4: `name=value` pairs between semicolons, names in any case, values perhaps quoted.
fn parameter<'e>(element: &'e str, name: &str) -> Option<&'e str> {
    element.split(';').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// An address, with or without port; IPv6 in brackets if there is one.
fn parse_addr(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|addr| addr.ip()))
        .map(|addr: IpAddr| addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: ForwardedHeader, peer: &str, fields: &[(&str, &str)], expected: (&str, bool)) {
        let proxies = TrustedProxies { from: vec!["10.0.0.0/8".parse().unwrap()], header };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let addr = peer.parse().unwrap();
        let says_https = |is_https| {
            let origin = Origin::of(Origin { addr, is_https }, &headers, &proxies, proxies.trusts(addr));
            assert_eq!(origin.addr.to_string(), expected.0, "{fields:?}");
            origin.is_https
        };
        assert_eq!(says_https(false), expected.1, "{fields:?}");
        let says = fields.iter().any(|(name, value)| match header {
            ForwardedHeader::XForwardedFor => *name == "x-forwarded-proto",
            ForwardedHeader::Forwarded => *name == "forwarded" && value.to_lowercase().contains("proto="),
        });
        let is_believed = proxies.trusts(addr) && says;
        assert_eq!(says_https(true), if is_believed { expected.1 } else { true }, "{fields:?} over https");
    }

    #[test]
    fn the_client_is_the_first_address_from_the_right_that_is_no_trusted_proxy() {
        use ForwardedHeader::{Forwarded, XForwardedFor as Xff};
        let xff = |value| ("x-forwarded-for", value);
        check(Xff, "1.2.3.4", &[xff("9.9.9.9"), ("x-forwarded-proto", "https")], ("1.2.3.4", false));
        check(Xff, "10.0.0.1", &[xff("9.9.9.9")], ("9.9.9.9", false));
        check(Xff, "10.0.0.1", &[xff("6.6.6.6, 9.9.9.9")], ("9.9.9.9", false));
        check(Xff, "10.0.0.1", &[xff("6.6.6.6, 9.9.9.9, 10.0.0.2")], ("9.9.9.9", false));
        check(Xff, "10.0.0.1", &[xff("6.6.6.6"), xff("9.9.9.9,10.0.0.2")], ("9.9.9.9", false));
        check(Xff, "10.0.0.1", &[xff("10.0.0.3, 10.0.0.2")], ("10.0.0.3", false));
        check(Xff, "10.0.0.1", &[xff("6.6.6.6, unknown, 10.0.0.2")], ("10.0.0.2", false));
        check(Xff, "10.0.0.1", &[xff("9.9.9.9:1234")], ("9.9.9.9", false));
        check(Xff, "10.0.0.1", &[xff("2001:db8::1")], ("2001:db8::1", false));
        check(Xff, "10.0.0.1", &[xff("[2001:db8::1]:80")], ("2001:db8::1", false));
        check(Xff, "10.0.0.1", &[xff("::ffff:9.9.9.9")], ("9.9.9.9", false));
        check(Xff, "10.0.0.1", &[], ("10.0.0.1", false));
        check(Xff, "10.0.0.1", &[("x-forwarded-proto", "http, HTTPS")], ("10.0.0.1", true));
        check(Xff, "10.0.0.1", &[("forwarded", "for=9.9.9.9;proto=https")], ("10.0.0.1", false));
        check(Forwarded, "10.0.0.1", &[xff("9.9.9.9")], ("10.0.0.1", false));
        let fwd = |value| ("forwarded", value);
        check(Forwarded, "10.0.0.1", &[fwd("for=6.6.6.6, For=9.9.9.9; Proto=https")], ("9.9.9.9", true));
        check(Forwarded, "10.0.0.1", &[fwd("for=\"[2001:db8::1]:80\";proto=http")], ("2001:db8::1", false));
        check(Forwarded, "10.0.0.1", &[fwd("for=_hidden, for=10.0.0.2")], ("10.0.0.2", false));
        check(Forwarded, "1.2.3.4", &[fwd("for=9.9.9.9;proto=https")], ("1.2.3.4", false));
    }

    #[test]
    fn what_the_client_says_of_itself_makes_no_https() {
        let proxies =
            TrustedProxies { from: vec!["10.0.0.0/8".parse().unwrap()], header: ForwardedHeader::Forwarded };
        let says_https = |is_https, forwarded: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(FORWARDED, http::HeaderValue::from_static(forwarded));
            let peer = Origin { addr: "10.0.0.1".parse().unwrap(), is_https };
            Origin::of(peer, &headers, &proxies, true).is_https
        };
        assert!(!says_https(false, "for=6.6.6.6;proto=https, for=9.9.9.9"));
        assert!(says_https(true, "for=6.6.6.6;proto=http, for=9.9.9.9"));
        assert!(!says_https(false, "proto=https, for=_hidden, for=10.0.0.2"));
        assert!(says_https(false, "for=9.9.9.9;proto=https, for=10.0.0.2"));
    }

    #[test]
    fn a_household_shares_its_network() {
        let text = |addr: &str| masked(addr.parse().unwrap()).to_string();
        assert_eq!(text("203.0.113.77"), "203.0.113.0/24");
        assert_eq!(text("::ffff:203.0.113.77"), "203.0.113.0/24");
        assert_eq!(text("2001:db8:1:2ff:3::4"), "2001:db8:1:200::/56");
    }
}
