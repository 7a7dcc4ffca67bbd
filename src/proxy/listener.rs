//! Where clients connect.
//!
//! Every thread listens on every address (`SO_REUSEPORT`), and the kernel spreads connections over them, so
//! no thread hands a connection to another. The same option lets any process of the same user join in
//! silently; therefore a port is first tried without it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};

use super::connection::{Accepted, serve};
use super::worker::Worker;
use crate::clock;
use crate::telemetry::{ConnectionRefusal, Limit};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// After a failed accept, mostly for want of descriptors: long enough not to spin, short enough not to be felt.
const PAUSE: Duration = Duration::from_millis(20);

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody else does.
    #[error("address {0} is in use; stop what listens there, or choose another port")]
    InUse(SocketAddr),
    /// Ports below 1024 need a privilege.
    #[error("address {0} needs a privilege; choose a port above 1023, or grant CAP_NET_BIND_SERVICE")]
    NotAllowed(SocketAddr),
    /// Anything else.
    #[error("listen on {address}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// So many sockets for one address; a port 0 is chosen once, for all. `inherited` are those that listen there already:
/// all of them are kept, and only what is missing is bound.
pub(super) fn bind(
    address: SocketAddr,
    count: usize,
    inherited: Vec<StdListener>,
) -> Result<Vec<StdListener>, BindError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        io::ErrorKind::PermissionDenied => BindError::NotAllowed(address),
        _ => BindError::Other { address, source },
    };
    let mut address = match inherited.first() {
        Some(first) => first.local_addr().map_err(failed)?,
        None => {
            if address.port() != 0 {
                open(address, false).map_err(failed)?;
            }
            address
        }
    };
    let mut listeners = inherited;
    for listener in &listeners {
        listener.set_nonblocking(true).map_err(failed)?;
    }
    for missing in listeners.len()..count {
        let socket = open(address, true).and_then(|socket| {
            socket.listen(BACKLOG)?;
            Ok(socket)
        });
        let listener: StdListener = match socket {
            // Somebody else bound what we were given, and for one socket only: threads share it.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !listeners.is_empty() => {
                let shared = &listeners[missing % listeners.len()];
                shared.try_clone().map_err(failed)?
            }
            socket => socket.map_err(failed)?.into(),
        };
        address = listener.local_addr().map_err(failed)?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn open(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepts connections until `until` is over, then what has already been waiting.
/// `number` says which of the addresses it is.
pub(super) async fn accept(
    worker: Rc<Worker>,
    number: usize,
    listener: TcpListener,
    until: impl Future<Output = ()>,
) {
    let mut until = pin!(until);
    loop {
        let accepted = poll_fn(|cx| {
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            listener.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            None => break,
            Some(Ok((stream, peer))) => welcome(&worker, number, stream, peer),
            Some(Err(error)) if is_only_theirs(&error) => {}
            Some(Err(_)) => {
                worker.tally.limit_hit(Limit::Descriptors);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, peer)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            welcome(&worker, number, stream, peer);
        }
    }
}

/// Errors of the one connection that was about to be accepted.
fn is_only_theirs(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn welcome(worker: &Rc<Worker>, number: usize, stream: TcpStream, peer: SocketAddr) {
    let Some(seat) = worker.lobby.guests.take(worker.connections_max()) else {
        // Closed by being dropped: cheaper than an answer, and it may not even have asked yet.
        worker.tally.shed();
        worker.tally.connection_refused(ConnectionRefusal::Full);
        worker.tally.limit_hit(Limit::Connections);
        return;
    };
    // Without it answers would only be slower.
    drop(stream.set_nodelay(true));
    let accepted = Accepted { listener: number, stream, peer: peer.ip(), at: clock::now(), seat };
    tokio::task::spawn_local(serve(worker.clone(), accepted));
}
