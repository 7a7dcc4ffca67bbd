//! One address of a variant.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Gauge, Seen, Way};

/// Where an endpoint listens: `http://host:port`, port 80 unless given; `https://host:port`, port 443 unless
/// given; or `unix:/path`, the absolute path of a socket. Host is a name, an IPv4 address or an IPv6 address in
/// brackets. No path, no user, no query: requests keep their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct EndpointUrl(Place);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    Host { is_tls: bool, host: Arc<str>, port: u16 },
    Socket(Arc<str>),
}

/// Why a text is not the address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointUrlError {
    /// Not a URL.
    #[error("{0:?} is not an endpoint; write http://host:port, https://host:port or unix:/path")]
    NotAUrl(String),
    /// No `http://` in front.
    #[error("{0:?} lacks its scheme; did you mean http://{0}?")]
    NoScheme(String),
    /// Some other scheme.
    #[error("{0:?}: the scheme {1} is not supported; endpoints speak http://, https:// or unix:")]
    Scheme(String, String),
    /// `https+unix:` and the like.
    #[error("{0:?}: what comes through a unix socket is plain HTTP, without TLS; write unix:/path")]
    TlsOverSocket(String),
    /// A path, query or user name.
    #[error(
        "{0:?}: an endpoint has no {1}; requests are forwarded with their own path, write {2}://host:port"
    )]
    Surplus(String, &'static str, &'static str),
    /// A socket's path that begins anywhere.
    #[error("{0:?}: the path of a socket is absolute; did you mean unix:/{1}?")]
    RelativeSocket(String, String),
    /// A socket's path that the system would not take.
    #[error("{0:?}: a socket's path has 1 to {SOCKET_BYTES_MAX} bytes, none of them a control character")]
    SocketPath(String),
    /// No server could have a certificate for it.
    #[error("{0:?}: no certificate can be for this host; use a host name of letters, digits and -")]
    Uncertifiable(String),
}

/// What a socket's address holds on Linux, without its final NUL (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

impl EndpointUrl {
    pub(super) fn place(&self) -> &Place {
        &self.0
    }

    /// Whether it is spoken to by TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.0, Place::Host { is_tls: true, .. })
    }

    /// What a request names it by in `Host` (RFC 9110 §7.2): the port unless it is the scheme's own, and
    /// `localhost` for a socket.
    pub fn authority(&self) -> String {
        match &self.0 {
            Place::Host { is_tls, host, port } if *port == default_port(*is_tls) => bracketed(host),
            Place::Host { host, port, .. } => format!("{}:{port}", bracketed(host)),
            Place::Socket(_) => "localhost".to_owned(),
        }
    }
}

fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use EndpointUrlError::{NoScheme, NotAUrl, Scheme, Surplus, TlsOverSocket, Uncertifiable};
        let owned = || text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return socket(text, path);
        }
        if text.starts_with("https+unix:") || text.starts_with("http+unix:") {
            return Err(TlsOverSocket(owned()));
        }
        let uri: Uri = text.parse().map_err(|_| NotAUrl(owned()))?;
        let authority = uri.authority().ok_or_else(|| NotAUrl(owned()))?;
        let scheme = match uri.scheme_str() {
            None if authority.port_u16().is_some() => return Err(NoScheme(owned())),
            None => return Err(NotAUrl(owned())),
            Some("http") => "http",
            Some("https") => "https",
            Some(other) => return Err(Scheme(owned(), other.to_owned())),
        };
        let is_tls = scheme == "https";
        if authority.as_str().contains('@') {
            return Err(Surplus(owned(), "user", scheme));
        }
        if !matches!(uri.path(), "" | "/") {
            return Err(Surplus(owned(), "path", scheme));
        }
        if uri.query().is_some() {
            return Err(Surplus(owned(), "query", scheme));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
        let port = match (after_host, authority.port_u16()) {
            ("", _) => default_port(is_tls),
            (_, Some(port)) if port != 0 => port,
            _ => return Err(NotAUrl(owned())),
        };
        if host.is_empty() {
            return Err(NotAUrl(owned()));
        }
        if is_tls && ServerName::try_from(host).is_err() {
            return Err(Uncertifiable(owned()));
        }
        Ok(Self(Place::Host { is_tls, host: host.to_ascii_lowercase().into(), port }))
    }
}

fn socket(text: &str, path: &str) -> Result<EndpointUrl, EndpointUrlError> {
    // unix://run/x could be meant as a host, and unix:///run/x says the same as unix:/run/x in another way: one
    // way of writing keeps one socket one endpoint.
    if !path.starts_with('/') || path.starts_with("//") {
        let path = path.trim_start_matches('/').to_owned();
        return Err(EndpointUrlError::RelativeSocket(text.to_owned(), path));
    }
    if path.len() > SOCKET_BYTES_MAX || path.ends_with('/') || path.chars().any(char::is_control) {
        return Err(EndpointUrlError::SocketPath(text.to_owned()));
    }
    Ok(EndpointUrl(Place::Socket(path.into())))
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Host { is_tls, host, port } => {
                let scheme = if *is_tls { "https" } else { "http" };
                write!(f, "{scheme}://{}:{port}", bracketed(host))
            }
            Place::Socket(path) => write!(f, "unix:{path}"),
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
    way: Way,
    weight: u16,
    label: Arc<str>,
    retired: AtomicBool,
    resting: AtomicBool,
    /// Zero: never.
    ring_after: AtomicU64,
    /// One for each thread that has a pool for it.
    gauges: Mutex<Vec<Arc<Gauge>>>,
}

impl Endpoint {
    /// `id` is unique within the process and never reused.
    pub fn new(id: u32, way: Way, weight: u16) -> Self {
        let label = way.to_string().into();
        Self {
            id,
            way,
            weight,
            label,
            retired: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            ring_after: AtomicU64::new(0),
            gauges: Mutex::default(),
        }
    }

    /// Unique within the process.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How it is reached.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Where it listens.
    pub fn url(&self) -> &EndpointUrl {
        self.way.url()
    }

    /// Its share among its peers.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// The URL as text, with the address if it is one of several, for logs and labels.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// A gauge for one more thread.
    pub fn gauge(&self) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).push(gauge.clone());
        gauge
    }

    /// What all threads have seen of it.
    pub fn seen(&self) -> Seen {
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.iter().map(|gauge| gauge.read()).fold(Seen::default(), Seen::and)
    }

    /// What each thread has seen of it, always in the same order.
    pub fn seen_by_thread(&self) -> Vec<Seen> {
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.iter().map(|gauge| gauge.read()).collect()
    }

    /// So many failures in a row on a thread, and each time as many more, are worth looking at right away; `None`, as at
    /// first: they are not.
    pub fn ring_after(&self, failures: Option<u64>) {
        self.ring_after.store(failures.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn rings_after(&self, run: u64) -> bool {
        let failures = self.ring_after.load(Ordering::Relaxed);
        failures > 0 && run.is_multiple_of(failures)
    }

    /// Says that no later table holds it: its idle connections may go.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Says whether it gets nothing new for now: idle connections would only keep it from ending.
    pub fn rest(&self, rests: bool) {
        self.resting.store(rests, Ordering::Release);
    }

    /// Whether connections to it are not kept.
    pub fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Acquire) || self.is_retired()
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
        check("https://Shop.example", Ok("https://shop.example:443"));
        check("https://10.0.0.1:8443", Ok("https://10.0.0.1:8443"));
        check("https://[::1]", Ok("https://[::1]:443"));
        check("https://a,b", Err("no certificate can be for this host"));
        check("https://a:1/path", Err("write https://host:port"));
        check("unix:/run/shop.sock", Ok("unix:/run/shop.sock"));
        check("unix:/run/a b?c", Ok("unix:/run/a b?c"));
        check("unix:run/shop.sock", Err("did you mean unix:/run/shop.sock?"));
        check("unix:///run/shop.sock", Err("did you mean unix:/run/shop.sock?"));
        check("unix:", Err("is absolute"));
        check("unix:/", Err("1 to 107 bytes"));
        check("unix:/run/\0", Err("1 to 107 bytes"));
        check(&format!("unix:/{}", "x".repeat(106)), Ok(&format!("unix:/{}", "x".repeat(106))));
        check(&format!("unix:/{}", "x".repeat(107)), Err("1 to 107 bytes"));
        check("https+unix:/run/shop.sock", Err("without TLS; write unix:/path"));
        check("ftp://a:1", Err("scheme ftp is not supported"));
        check("http://u:p@a:1", Err("has no user"));
        check("http://a:1/path", Err("has no path"));
        check("http://a:1?q", Err("has no query"));
    }

    #[test]
    fn a_host_is_named_without_the_port_of_its_scheme() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(text.parse::<EndpointUrl>().unwrap().authority(), expected);
        }
        check("http://shop", "shop");
        check("http://shop:443", "shop:443");
        check("https://shop:443", "shop");
        check("https://[::1]:80", "[::1]:80");
        check("unix:/run/shop.sock", "localhost");
    }
}
