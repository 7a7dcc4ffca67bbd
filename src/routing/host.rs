//! Host names as routes compare them: lower case, without port and final dot.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is not a host.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// Characters that no host name has.
    #[error("{0:?} is not a host name")]
    NotAHost(String),
    /// A star anywhere but as the first label.
    #[error("{0:?}: a wildcard stands for the first labels, as in *.example.com")]
    Wildcard(String),
    /// Routes ignore ports.
    #[error("{0:?}: routes compare hosts without their port; leave it out")]
    Port(String),
}

/// A host from a request, ready to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'r>(Cow<'r, str>);

impl<'r> Host<'r> {
    /// From a `Host` field or an authority, with or without port. `None` if it is no host: other than
    /// `reg-name`, IPv4 or bracketed IPv6 of RFC 3986 §3.2.2, with an empty label (RFC 1035 §3.1), or with a port that is not
    /// a number up to 65535.
    pub fn parse(text: &'r str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        if !port.is_empty() && port.parse::<u16>().is_err() {
            return None;
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.starts_with('[') {
            host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().ok()?;
        } else if !host.split('.').all(|label| !label.is_empty() && label.bytes().all(is_name_byte)) {
            return None;
        }
        Some(Self(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            host.to_ascii_lowercase().into()
        } else {
            host.into()
        }))
    }

    /// Lower case, without port and final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Host and port text; the port must be digits. `None` for a bracket that does not close.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let end_of_host =
        if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(end_of_host);
    match rest.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, port)),
        None if rest.is_empty() => Some((host, "")),
        _ => None,
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~')
}

/// Which hosts a route is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(into = "String", try_from = "String")]
pub enum HostPattern {
    /// This one.
    Exact(Arc<str>),
    /// Every name below this one: `*.example.com` is kept as `example.com`. Not `example.com` itself.
    Below(Arc<str>),
    /// All: `*`.
    Any,
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(HostError::Wildcard(text.to_owned()));
        }
        let host = Host::parse(name).ok_or_else(|| HostError::NotAHost(text.to_owned()))?;
        if split_port(name).is_some_and(|(host, _)| host.len() != name.len()) {
            return Err(HostError::Port(text.to_owned()));
        }
        let host: Arc<str> = host.as_str().into();
        Ok(if wildcard { Self::Below(host) } else { Self::Exact(host) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.pad(host),
            Self::Below(host) => write!(f, "*.{host}"),
            Self::Any => f.pad("*"),
        }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_compare_without_case_port_and_final_dot() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(Host::parse(text).as_ref().map(Host::as_str), expected, "{text:?}");
        }
        check("shop.example.com", Some("shop.example.com"));
        check("Shop.Example.COM.:8080", Some("shop.example.com"));
        check("shop:", Some("shop"));
        check("127.0.0.1:80", Some("127.0.0.1"));
        check("[::1]:80", Some("[::1]"));
        check("[::1]", Some("[::1]"));
        for text in [
            "", ":80", ".", "[::1", "[]", "[zz]", "[::1]80", "a b", "a/b", "a@b", "a:8x", "a:99999", "a:1:2",
            "a\0", "ä", "a..", "a..b", ".a", "..", "[::1].",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_pattern_is_exact_below_or_any() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            match (text.parse::<HostPattern>(), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.to_string(), expected),
                (Err(got), Err(expected)) => assert!(got.to_string().contains(expected), "{got}"),
                (got, expected) => panic!("{text:?}: {got:?} instead of {expected:?}"),
            }
        }
        check("Shop.example.com", Ok("shop.example.com"));
        check("*.Example.com", Ok("*.example.com"));
        check("*", Ok("*"));
        check("shop.*.com", Err("stands for the first labels"));
        check("*.*.com", Err("stands for the first labels"));
        check("*shop.com", Err("stands for the first labels"));
        check("shop.com:8080", Err("without their port"));
        check("http://shop.com", Err("is not a host name"));
        check("", Err("is not a host name"));
    }
}
