//! The way to an endpoint: names, addresses, sockets and TLS, before anything is said on them.
//!
//! Of several addresses the next one is tried as soon as one has failed, and beside it when it is merely silent
//! (after RFC 8305): one that is dead costs a connection little of its time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::endpoint::Place;
use super::names::Addresses;
use super::stream::{Carrier, Stream};
use super::way::Host;
use super::{EndpointTls, EndpointUrl, Protocol, TlsError, Way};

/// How long an address may be silent before the next one is tried, too: the Connection Attempt Delay of
/// RFC 8305 §5.
const SILENCE_MAX: Duration = Duration::from_millis(250);

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("look up {host}: {why}")]
    Resolve {
        /// The name.
        host: Arc<str>,
        /// What the resolver said.
        why: Arc<str>,
    },
    /// No address accepted; the error is the last one's.
    #[error("connect to {address}: {source}")]
    Refused {
        /// The last address tried.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The socket did not accept.
    #[error("connect to {url}: {source}")]
    Socket {
        /// Where to.
        url: EndpointUrl,
        /// Why.
        source: io::Error,
    },
    /// The endpoint did not prove to be who it should be.
    #[error("the certificate of {url} is refused: {source}")]
    Unverified {
        /// Where to.
        url: EndpointUrl,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// There was no agreement on TLS, or on HTTP/2.
    #[error("agree with {url} on what to speak: {source}")]
    Handshake {
        /// Where to.
        url: EndpointUrl,
        /// Why not.
        source: io::Error,
    },
    /// TLS cannot be spoken from here.
    #[error("TLS with {url}: {source}")]
    NoTls {
        /// Where to.
        url: EndpointUrl,
        /// Why not.
        source: Arc<TlsError>,
    },
    /// Looking up, connecting and TLS took too long.
    #[error("connect to {url}: timed out after {limit:?}")]
    TimedOut {
        /// Where to.
        url: EndpointUrl,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl ConnectError {
    /// Whether this machine ran out of something, so that it says nothing about the other side.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Refused { source, .. } | Self::Socket { source, .. } => is_local(source),
            Self::Resolve { .. }
            | Self::Unverified { .. }
            | Self::Handshake { .. }
            | Self::NoTls { .. }
            | Self::TimedOut { .. } => false,
        }
    }

    /// In a word, for logs: `connect`, `connect_timeout`, `look_up`, `certificate` or `tls`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "look_up",
            Self::Refused { .. } | Self::Socket { .. } => "connect",
            Self::Unverified { .. } => "certificate",
            Self::Handshake { .. } | Self::NoTls { .. } => "tls",
            Self::TimedOut { .. } => "connect_timeout",
        }
    }
}

/// Whether an error of connecting is about this machine alone, which ran out of descriptors, ports or memory,
/// and says nothing about the other side.
fn is_local(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

/// Goes a way to its end: looks up, tries addresses, agrees on TLS, all of it within `limit`.
///
/// # Errors
///
/// When there is no connection in time, for whatever reason.
pub async fn open(way: &Way, limit: Duration) -> Result<Stream, ConnectError> {
    let timed_out = || ConnectError::TimedOut { url: way.url().clone(), limit };
    tokio::time::timeout(limit, go(way, limit)).await.map_err(|_| timed_out())?
}

async fn go(way: &Way, limit: Duration) -> Result<Stream, ConnectError> {
    let (host, port) = match way.url().place() {
        Place::Host { host, port, .. } => (host, *port),
        Place::Socket(path) => {
            let refused = |source| ConnectError::Socket { url: way.url().clone(), source };
            return Ok(Stream(Carrier::Socket(UnixStream::connect(&**path).await.map_err(refused)?)));
        }
    };
    match way.host() {
        Host::Address(address) | Host::Of(_, address) => {
            let stream = connect_to(SocketAddr::new(*address, port)).await?;
            secured(way, host, stream).await
        }
        Host::Name(name) => {
            let unresolved = |why| ConnectError::Resolve { host: host.clone(), why };
            let addresses = name.addresses().await.map_err(unresolved)?;
            let (index, stream) = race(&addresses, port, limit).await?;
            let secured = secured(way, host, stream).await;
            addresses.note(index, secured.is_ok());
            secured
        }
        Host::Socket => Err(ConnectError::Resolve { host: host.clone(), why: "it is a socket".into() }),
    }
}

/// The first of the addresses that accepts, and which one it is.
async fn race(addresses: &Addresses, port: u16, limit: Duration) -> Result<(usize, TcpStream), ConnectError> {
    // With little time, all addresses should have some of it.
    let silence = SILENCE_MAX.min(limit / 4);
    let attempt = |(index, address): (usize, IpAddr)| async move {
        (index, connect_to(SocketAddr::new(address, port)).await)
    };
    let mut waiting = addresses.in_turn().peekable();
    let mut begun = Vec::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        if let Some(next) = waiting.next() {
            begun.push(next.0);
            under_way.push(attempt(next));
        }
        let ended = match waiting.peek() {
            Some(_) => tokio::time::timeout(silence, under_way.next()).await.ok(),
            None => Some(under_way.next().await),
        };
        match ended {
            Some(Some((index, Ok(stream)))) => {
                let before = begun.iter().take_while(|other| **other != index);
                before.for_each(|silent| addresses.note(*silent, false));
                return Ok((index, stream));
            }
            Some(Some((index, Err(error)))) => {
                addresses.note(index, error.is_local());
                if under_way.is_empty() && waiting.peek().is_none() {
                    return Err(error);
                }
            }
            // Nothing is under way only where there was no address at all.
            Some(None) => {
                let source = io::Error::from(io::ErrorKind::AddrNotAvailable);
                return Err(ConnectError::Refused { address: ([0; 4], port).into(), source });
            }
            // Silence.
            None => {}
        }
    }
}

async fn connect_to(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let refused = |source| ConnectError::Refused { address, source };
    let stream = TcpStream::connect(address).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    Ok(stream)
}

/// By TLS, if the way is.
async fn secured(way: &Way, host: &str, stream: TcpStream) -> Result<Stream, ConnectError> {
    let url = || way.url().clone();
    let tls: &EndpointTls = match way.tls() {
        None => return Ok(Stream(Carrier::Tcp(stream))),
        Some(Ok(tls)) => tls,
        Some(Err(source)) => return Err(ConnectError::NoTls { url: url(), source: source.clone() }),
    };
    let name = match tls.server_name() {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.to_owned())
            .map_err(|_| ConnectError::NoTls { url: url(), source: Arc::new(TlsError::ServerName) })?,
    };
    let secured = TlsConnector::from(tls.client(way.protocol())).connect(name, stream).await;
    match secured {
        Ok(stream)
            if way.protocol() == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") =>
        {
            let why = "it does not agree to speak HTTP/2 (ALPN h2)";
            let source = io::Error::new(io::ErrorKind::InvalidData, why);
            Err(ConnectError::Handshake { url: url(), source })
        }
        Ok(stream) => Ok(Stream(Carrier::Tls(Box::new(stream)))),
        Err(source) => match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
                Err(ConnectError::Unverified { url: url(), source: error.clone() })
            }
            _ => Err(ConnectError::Handshake { url: url(), source }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_no_endpoints_fault() {
        #[track_caller]
        fn check(error: io::Error, expected: bool) {
            assert_eq!(is_local(&error), expected, "{error}");
        }
        for ours in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            check(ours.into(), true);
        }
        for theirs in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::TIMEDOUT] {
            check(theirs.into(), false);
        }
        check(io::Error::other("the name has no address"), false);
    }
}
