//! One address of a variant.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Uri;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where an endpoint listens: `http://host:port`, port 80 unless given. Host is a name, an IPv4
/// address or an IPv6 address in brackets. No path, no user, no query: requests keep their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct EndpointUrl {
    host: Arc<str>,
    port: u16,
}

/// Why a text is not the address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointUrlError {
    /// Not a URL.
    #[error("{0:?} is not an endpoint; write http://host:port")]
    NotAUrl(String),
    /// No `http://` in front.
    #[error("{0:?} lacks its scheme; did you mean http://{0}?")]
    NoScheme(String),
    /// Some other scheme.
    #[error("{0:?}: the scheme {1} is not supported; endpoints speak http://")]
    Scheme(String, String),
    /// A path, query or user name.
    #[error(
        "{0:?}: an endpoint has no {1}; requests are forwarded with their own path, write http://host:port"
    )]
    Surplus(String, &'static str),
}

impl EndpointUrl {
    /// The host without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, when the host is one and needs no look-up.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use EndpointUrlError::{NoScheme, NotAUrl, Scheme, Surplus};
        let owned = || text.to_owned();
        let uri: Uri = text.parse().map_err(|_| NotAUrl(owned()))?;
        let authority = uri.authority().ok_or_else(|| NotAUrl(owned()))?;
        match uri.scheme_str() {
            None if authority.port_u16().is_some() => return Err(NoScheme(owned())),
            None => return Err(NotAUrl(owned())),
            Some("http") => {}
            Some(other) => return Err(Scheme(owned(), other.to_owned())),
        }
        if authority.as_str().contains('@') {
            return Err(Surplus(owned(), "user"));
        }
        if !matches!(uri.path(), "" | "/") {
            return Err(Surplus(owned(), "path"));
        }
        if uri.query().is_some() {
            return Err(Surplus(owned(), "query"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match (after_host, authority.port_u16()) {
            ("", _) => 80,
            (_, Some(port)) if port != 0 => port,
            _ => return Err(NotAUrl(owned())),
        };
        if host.is_empty() {
            return Err(NotAUrl(owned()));
        }
        Ok(Self { host: host.to_ascii_lowercase().into(), port })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "http://[{host}]:{port}")
        } else {
            write!(f, "http://{host}:{port}")
        }
    }
}

impl From<EndpointUrl> for String {
    fn from(url: EndpointUrl) -> Self {
        url.to_string()
    }
}

impl TryFrom<String> for EndpointUrl {
    type Error = EndpointUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// An endpoint as somebody asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndpointSpec {
    /// Where it listens.
    pub url: EndpointUrl,
    /// Its share among the endpoints of its variant, 1 to 1000, default 1. It never affects the
    /// split between the variants.
    #[serde(default = "one")]
    pub weight: u16,
}

fn one() -> u16 {
    1
}

/// An endpoint in service. Its identity outlives routing tables.
#[derive(Debug)]
pub struct Endpoint {
    id: u32,
    spec: EndpointSpec,
    label: Arc<str>,
    retired: AtomicBool,
}

impl Endpoint {
    /// `id` is unique within the process and never reused.
    pub fn new(id: u32, spec: EndpointSpec) -> Self {
        let label = spec.url.to_string().into();
        Self { id, spec, label, retired: AtomicBool::new(false) }
    }

    /// Unique within the process.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where it listens.
    pub fn url(&self) -> &EndpointUrl {
        &self.spec.url
    }

    /// Its share among its peers.
    pub fn weight(&self) -> u16 {
        self.spec.weight
    }

    /// The URL as text, for logs and labels.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Says that no later table holds it: its idle connections may go.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether it is out of every later table.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_host_and_port() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            let got = text.parse::<EndpointUrl>();
            match expected {
                Ok(url) => assert_eq!(got.unwrap().to_string(), url),
                Err(message) => {
                    let got = got.unwrap_err().to_string();
                    assert!(got.contains(message), "{text}: {got}");
                }
            }
        }
        check("http://127.0.0.1:3000", Ok("http://127.0.0.1:3000"));
        check("http://127.0.0.1:3000/", Ok("http://127.0.0.1:3000"));
        check("http://Shop-Blue", Ok("http://shop-blue:80"));
        check("http://[::1]:3000", Ok("http://[::1]:3000"));
        check("127.0.0.1:3000", Err("did you mean http://127.0.0.1:3000?"));
        check("shop", Err("write http://host:port"));
        check("", Err("write http://host:port"));
        check("http://", Err("write http://host:port"));
        check("http://a:99999", Err("write http://host:port"));
        check("http://a:0", Err("write http://host:port"));
        check("http://a:", Err("write http://host:port"));
        check("https://a:1", Err("scheme https is not supported"));
        check("ftp://a:1", Err("scheme ftp is not supported"));
        check("http://u:p@a:1", Err("has no user"));
        check("http://a:1/path", Err("has no path"));
        check("http://a:1?q", Err("has no query"));
    }

    #[test]
    fn an_address_needs_no_look_up() {
        let addr = |text: &str| text.parse::<EndpointUrl>().unwrap().socket_addr();
        assert_eq!(addr("http://[::1]:3000"), "[::1]:3000".parse().ok());
        assert_eq!(addr("http://localhost:3000"), None);
    }
}
