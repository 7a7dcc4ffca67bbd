//! How an endpoint is reached: what connecting needs to know, put together once.
//!
//! The URL comes from whoever adds an endpoint, the rest from the configuration of its variant. Two ways are
//! the same if they lead to the same place in the same manner, so that certificates which a reload has found
//! changed make another endpoint: its connections are made anew, under the new ones.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use super::endpoint::Place;
use super::names::Name;
use super::{EndpointTls, EndpointUrl, Names, TlsError};

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by prior knowledge where there is no TLS (RFC 9113 §3.3), by ALPN where there is.
    Http2,
}

/// What the configuration says about all endpoints of a variant, also of those that are added later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// What is spoken to them; default HTTP/1.1.
    pub protocol: Protocol,
    /// How `https://` endpoints are spoken to; `None`: verified by the system's root certificates.
    pub tls: Option<Arc<EndpointTls>>,
}

/// The way to one endpoint.
#[derive(Clone)]
pub struct Way {
    url: EndpointUrl,
    host: Host,
    protocol: Protocol,
    tls: Option<Result<Arc<EndpointTls>, Arc<TlsError>>>,
}

/// Where the addresses come from.
#[derive(Clone, Debug)]
pub(super) enum Host {
    Address(IpAddr),
    Name(Arc<Name>),
    /// One of several that a name has.
    Of(Arc<Name>, IpAddr),
    /// None are needed.
    Socket,
}

impl Way {
    /// The way to `url`. Names are shared through `names`.
    pub fn new(url: EndpointUrl, reach: &Reach, names: &Names) -> Self {
        let host = match url.place() {
            Place::Host { host, .. } => {
                host.parse().map_or_else(|_| Host::Name(names.of(host)), Host::Address)
            }
            Place::Socket(_) => Host::Socket,
        };
        let tls = url.is_tls().then(|| reach.tls.clone().map_or_else(EndpointTls::usual, Ok));
        Self { url, host, protocol: reach.protocol, tls }
    }

    /// Where it leads.
    pub fn url(&self) -> &EndpointUrl {
        &self.url
    }

    /// The name that has to be looked up, if there is one.
    pub fn name(&self) -> Option<&Arc<Name>> {
        match &self.host {
            Host::Name(name) | Host::Of(name, _) => Some(name),
            Host::Address(_) | Host::Socket => None,
        }
    }

    /// The same to one of the name's addresses only. What the name stands for otherwise stays: requests and
    /// certificates are for the name.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        match self.name() {
            Some(name) => Self { host: Host::Of(name.clone(), address), ..self.clone() },
            None => self.clone(),
        }
    }

    /// Which of the name's addresses it leads to, if to one of several.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Of(_, address) => Some(*address),
            Host::Address(_) | Host::Name(_) | Host::Socket => None,
        }
    }

    /// What is spoken there.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// How it is spoken to there, if by TLS; the error is why it cannot be.
    pub(super) fn tls(&self) -> Option<Result<&Arc<EndpointTls>, &Arc<TlsError>>> {
        self.tls.as_ref().map(Result::as_ref)
    }

    /// Whether `url` in the manner of `reach` is this way.
    pub fn is_to(&self, url: &EndpointUrl, reach: &Reach) -> bool {
        self.url == *url
            && self.protocol == reach.protocol
            && match (&self.tls, &reach.tls) {
                (None, _) | (Some(Err(_)), None) => true,
                (Some(Ok(has)), None) => has.is_usual(),
                (Some(Ok(has)), Some(wanted)) => has == wanted,
                (Some(Err(_)), Some(_)) => false,
            }
    }

    fn mark(&self) -> Option<Option<&EndpointTls>> {
        self.tls.as_ref().map(|tls| tls.as_deref().ok())
    }
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
            && self.address() == other.address()
            && self.protocol == other.protocol
            && self.mark() == other.mark()
    }
}

impl Eq for Way {}

impl Hash for Way {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.url.hash(state);
        self.address().hash(state);
    }
}

/// Where it leads, for people: `http://shop:80`, or `http://shop:80 (10.0.0.3)` for one of several addresses.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => write!(f, "{} ({address})", self.url),
            None => self.url.fmt(f),
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Way").field(&self.url).finish()
    }
}
