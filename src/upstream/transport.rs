//! The way to an endpoint: names, addresses and sockets, before anything is said on them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;
use tokio::net::TcpStream;

use super::stream::Stream;
use super::{Endpoint, EndpointUrl};

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("look up {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address accepted; the error is the last one's.
    #[error("connect to {address}: {source}")]
    Refused {
        /// The last address tried.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Looking up and connecting took too long.
    #[error("connect to {url}: timed out after {limit:?}")]
    TimedOut {
        /// Where to.
        url: EndpointUrl,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// Whether an error of connecting is about this machine alone, which ran out of descriptors, ports or memory,
/// and says nothing about the other side.
pub fn is_local(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

/// Looks the name up and tries its addresses in turn. Whoever calls it bounds its time.
pub(super) async fn open(endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    let url = endpoint.url();
    if let Some(address) = url.socket_addr() {
        return connect_to(address).await;
    }
    let unresolved = |source| ConnectError::Resolve { host: url.host().to_owned(), source };
    let addresses = tokio::net::lookup_host((url.host(), url.port())).await.map_err(unresolved)?;
    let mut last = unresolved(io::Error::other("the name has no address"));
    for address in addresses {
        match connect_to(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(address: SocketAddr) -> Result<Stream, ConnectError> {
    let refused = |source| ConnectError::Refused { address, source };
    let stream = TcpStream::connect(address).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    Ok(Stream::Tcp(stream))
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
