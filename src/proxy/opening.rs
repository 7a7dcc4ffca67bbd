//! The first bytes of a connection: PROXY header → TLS or not → HTTP/2 or HTTP/1.
//!
//! All of it under one deadline, so that whoever says nothing, or says it slowly, is gone when it is over. Only what
//! comes out of here is a client; who never becomes one is counted by the reason.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;

use super::client_identity::ClientIdentity;
use super::guests::AddressSeat;
use super::proxy_header::{Beginning, begin};
use super::wire::{Primed, Wire};
use super::worker::Worker;
use super::{LiveSettings, TlsSettings};
use crate::telemetry::{ConnectionRefusal as Refusal, Limit};

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of a TLS record that begins a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;
/// Read at once while the protocol is not known: most requests fit.
const FIRST_BYTES: usize = 2048;
/// What is read and thrown away after an answer, so that closing does not take the answer back: the system resets a
/// connection that is closed with bytes unread.
const LINGER_BYTES_MAX: usize = 64 * 1024;

const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n\
    cache-control: no-store\r\ncontent-length: 36\r\nconnection: close\r\n\r\n\
    the request did not arrive in time.\n";
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    cache-control: no-store\r\ncontent-length: 49\r\nconnection: close\r\n\r\n\
    this port speaks TLS; ask with https:// instead.\n";

/// A client that is about to send requests.
pub(super) struct Opened {
    pub(super) wire: Wire,
    /// Who it is, if a PROXY header said so: he and nobody else.
    pub(super) peer: IpAddr,
    pub(super) is_http2: bool,
    /// What TLS has shown.
    pub(super) secured: Option<Secured>,
    pub(super) seat: Option<AddressSeat>,
}

/// What is known of a client through TLS.
#[derive(Debug)]
pub(super) struct Secured {
    /// The name it asked for, in lower case (SNI, RFC 6066 §3).
    pub(super) server_name: Option<Box<str>>,
    /// Who it has proven to be.
    pub(super) identity: Option<ClientIdentity>,
}

impl Secured {
    /// Whether the client asked for this host when the connection was made. A name that it could not send, an
    /// address, counts as asked for when it sent none (RFC 6066 §3).
    pub(super) fn is_for(&self, host: &str) -> bool {
        match &self.server_name {
            Some(name) => **name == *host,
            None => host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok(),
        }
    }
}

/// Leads a connection to its first request; `None` when it does not get there, which is then counted.
pub(super) async fn open(
    worker: &Worker,
    live: &LiveSettings,
    listener: usize,
    stream: TcpStream,
    peer: IpAddr,
    timer: Pin<&mut Sleep>,
) -> Option<Opened> {
    let mut opening = Opening { worker, primed: Primed { stream, first: Vec::new() }, timer };
    match opening.run(live, listener, peer).await {
        Ok((peer, seat, protocol)) => {
            let (wire, is_http2, secured) = match protocol {
                Protocol::Plain { is_http2 } => (Wire::Plain(opening.primed), is_http2, None),
                // Boxed, so that those in the clear need not keep room for it.
                Protocol::Tls(settings) => Box::pin(opening.handshake(listener, &settings)).await?,
            };
            Some(Opened { wire, peer, is_http2, secured, seat })
        }
        Err(Closed::Gone) => None,
        Err(Closed::Refused(why)) => {
            refuse(worker, why);
            None
        }
    }
}

fn refuse(worker: &Worker, why: Refusal) {
    worker.tally.connection_refused(why);
    match why {
        Refusal::Slow => worker.tally.limit_hit(Limit::Handshake),
        Refusal::AddressFull => worker.tally.limit_hit(Limit::ConnectionsPerAddress),
        Refusal::Full | Refusal::ProxyHeader | Refusal::Tls | Refusal::Plaintext | Refusal::Resets => {}
    }
}

/// Why a connection comes to nothing.
enum Closed {
    /// The client went away.
    Gone,
    Refused(Refusal),
}

enum Protocol {
    Plain { is_http2: bool },
    Tls(std::sync::Arc<TlsSettings>),
}

struct Opening<'o> {
    worker: &'o Worker,
    primed: Primed,
    timer: Pin<&'o mut Sleep>,
}

impl Opening<'_> {
    async fn run(
        &mut self,
        live: &LiveSettings,
        listener: usize,
        peer: IpAddr,
    ) -> Result<(IpAddr, Option<AddressSeat>, Protocol), Closed> {
        let settings = live.listener(listener);
        let peer = if settings.proxy_protocol.is_empty() {
            peer
        } else {
            self.proxy_header(peer, settings.expects_header(peer)).await?
        };
        let seat = match live.limits.connections_per_address_max {
            Some(most) if !live.trusted_proxies.trusts(peer) => {
                let seat = self.worker.lobby.guests.take_from(peer, most);
                Some(seat.ok_or(Closed::Refused(Refusal::AddressFull))?)
            }
            _ => None,
        };
        let protocol = match &settings.tls {
            Some(tls) => {
                self.hello().await?;
                Protocol::Tls(tls.clone())
            }
            None => Protocol::Plain { is_http2: self.preface().await? },
        };
        Ok((peer, seat, protocol))
    }

    /// The address that a trusted peer's header says, or the peer's own.
    async fn proxy_header(&mut self, peer: IpAddr, is_expected: bool) -> Result<IpAddr, Closed> {
        let refused = Err(Closed::Refused(Refusal::ProxyHeader));
        loop {
            match begin(&self.primed.first) {
                Beginning::Partial => self.more().await?,
                Beginning::Header { length, source } if is_expected => {
                    self.primed.first.drain(..length);
                    return Ok(source.unwrap_or(peer));
                }
                Beginning::Other if !is_expected => return Ok(peer),
                Beginning::Header { .. } | Beginning::Other | Beginning::Malformed => return refused,
            }
        }
    }

    /// Waits for the first byte of TLS; who speaks something else is told.
    async fn hello(&mut self) -> Result<(), Closed> {
        while self.primed.first.is_empty() {
            self.more().await?;
        }
        if self.primed.first.first() == Some(&TLS_HANDSHAKE) {
            return Ok(());
        }
        let first = &self.primed.first;
        if first.first().is_some_and(u8::is_ascii_graphic) && first.is_ascii() {
            self.worker.tally.unrouted(400);
            self.farewell(NOT_TLS).await;
        }
        Err(Closed::Refused(Refusal::Plaintext))
    }

    /// Waits until it is known whether the client speaks HTTP/2 with prior knowledge (RFC 9113 §3.3).
    async fn preface(&mut self) -> Result<bool, Closed> {
        loop {
            let first = &self.primed.first;
            if first.starts_with(PREFACE) {
                return Ok(true);
            }
            if !PREFACE.starts_with(first) {
                return Ok(false);
            }
            let has_spoken = !first.is_empty();
            let more = self.more().await;
            if has_spoken && matches!(more, Err(Closed::Refused(Refusal::Slow))) {
                self.worker.tally.unrouted(408);
                // A client that does not read, either, gets nothing.
                drop(self.primed.stream.try_write(SLOW_HEAD));
            }
            more?;
        }
    }

    async fn handshake(
        mut self,
        listener: usize,
        settings: &std::sync::Arc<TlsSettings>,
    ) -> Option<(Wire, bool, Option<Secured>)> {
        let worker = self.worker;
        let Some(config) = worker.tls(listener, settings) else {
            worker.tally.connection_refused(Refusal::Tls);
            return None;
        };
        let accept = TlsAcceptor::from(config).accept(self.primed);
        let stream = tokio::select! {
            biased;
            accepted = accept => match accepted {
                Ok(stream) => stream,
                Err(_) => {
                    worker.tally.connection_refused(Refusal::Tls);
                    return None;
                }
            },
            () = self.timer.as_mut() => {
                refuse(worker, Refusal::Slow);
                return None;
            }
        };
        let connection = stream.get_ref().1;
        let is_http2 = connection.alpn_protocol() == Some(b"h2");
        let secured = Secured {
            server_name: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
            identity: connection
                .peer_certificates()
                .and_then(<[CertificateDer<'_>]>::first)
                .and_then(ClientIdentity::of),
        };
        Some((Wire::Tls(Box::new(stream)), is_http2, Some(secured)))
    }

    /// Reads what there is.
    async fn more(&mut self) -> Result<(), Closed> {
        loop {
            tokio::select! {
                biased;
                ready = self.primed.stream.readable() => ready.map_err(|_| Closed::Gone)?,
                () = self.timer.as_mut() => return Err(Closed::Refused(Refusal::Slow)),
            }
            let mut chunk = [0; FIRST_BYTES];
            match self.primed.stream.try_read(&mut chunk) {
                Ok(0) => return Err(Closed::Gone),
                Ok(count) => {
                    self.primed.first.extend_from_slice(&chunk[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Closed::Gone),
            }
        }
    }

    /// Says one thing, and listens until the client has heard it.
    async fn farewell(&mut self, text: &[u8]) {
        drop(self.primed.stream.try_write(text));
        let socket = socket2::SockRef::from(&self.primed.stream);
        drop(socket.shutdown(std::net::Shutdown::Write));
        let mut listened = 0;
        while listened < LINGER_BYTES_MAX {
            self.primed.first.clear();
            if self.more().await.is_err() {
                return;
            }
            listened += self.primed.first.len();
        }
    }
}

/// Tells a client that its request took too long.
pub(super) fn too_slow(worker: &Worker, wire: &mut Wire) {
    worker.tally.unrouted(408);
    wire.say(SLOW_HEAD);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_written_by_hand_have_the_length_they_say() {
        for text in [SLOW_HEAD, NOT_TLS] {
            let text = std::str::from_utf8(text).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        }
    }
}
