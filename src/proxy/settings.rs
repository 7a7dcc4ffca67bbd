//! What the data plane is told by the configuration.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TlsSettings;

/// What is fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// How many worker threads; default one per core.
    pub threads: NonZeroUsize,
    /// How long open requests may go on after a stop was asked for; default 30 s.
    pub drain: Duration,
    /// How long tunnels and other long streams may go on in this process after another one has taken over; default
    /// 12 h.
    pub handover: Duration,
    /// What a reload may change.
    pub live: LiveSettings,
}

/// What a reload may change; it holds for connections accepted afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSettings {
    /// Whose word about the client counts.
    pub trusted_proxies: TrustedProxies,
    /// Deadlines toward clients.
    pub timeouts: ClientTimeouts,
    /// Bounds on what clients send.
    pub limits: ClientLimits,
    /// How long open streams of a killed variant may go on.
    pub grace: Grace,
    /// How each address of [`ProxySettings::listen`] is served, in the same order; plainly where there is none.
    pub listeners: Vec<ListenerSettings>,
}

impl LiveSettings {
    /// How the address with this number is served.
    pub fn listener(&self, number: usize) -> &ListenerSettings {
        static PLAIN: ListenerSettings = ListenerSettings::plain();
        self.listeners.get(number).unwrap_or(&PLAIN)
    }

    /// The listeners brought into the order of the addresses that are listened on, which need not be those of
    /// the file any more: what is not in the file is served as it was.
    pub fn arrange(&mut self, in_file: &[SocketAddr], listened_on: &[SocketAddr], before: &Self) {
        let mut new: Vec<_> = in_file
            .iter()
            .enumerate()
            .map(|(number, address)| (*address, self.listener(number).clone()))
            .collect();
        self.listeners = listened_on
            .iter()
            .enumerate()
            .map(|(number, address)| match new.iter().position(|(other, _)| other == address) {
                Some(at) => new.remove(at).1,
                None => before.listener(number).clone(),
            })
            .collect();
    }
}

/// How clients of one address are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerSettings {
    /// TLS; without it clients speak in the clear.
    pub tls: Option<Arc<TlsSettings>>,
    /// The load balancers that begin every connection with a PROXY header. Others must not, and are served as they
    /// come: health checks and people on the inside need not pretend.
    pub proxy_protocol: Vec<IpNet>,
    /// Requests are sent to https on this port (308).
    pub redirect_https: Option<u16>,
    /// `Strict-Transport-Security` (RFC 6797) of responses that have none of their own.
    pub hsts: Option<HeaderValue>,
}

impl ListenerSettings {
    /// Everybody is served in the clear.
    pub const fn plain() -> Self {
        Self { tls: None, proxy_protocol: Vec::new(), redirect_https: None, hsts: None }
    }

    /// Whether this peer has to begin with a PROXY header.
    pub(super) fn expects_header(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxy_protocol.iter().any(|net| net.contains(&peer))
    }

    /// Whether clients of this address are told apart by certificates.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some())
    }
}

/// How long open streams (tunnels, server-sent events, long bodies) of the losing variant may go on after a
/// kill; default 10 s. Each ends up to a quarter later, at random, so that clients do not come back all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(pub Duration);

impl Default for Grace {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

/// The proxies in front whose forwarding headers are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Their addresses; none by default.
    pub from: Vec<IpNet>,
    /// The one header that they set. All others are dropped and rebuilt.
    pub header: ForwardedHeader,
}

impl TrustedProxies {
    /// Whether `peer` is one of them. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.from.iter().any(|net| net.contains(&peer))
    }
}

/// Where a trusted proxy says who the client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Deadlines toward clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From the connection accepted to the first request's first byte: PROXY header, TLS, the protocol; default 10 s.
    pub handshake: Duration,
    /// From a request's first byte to its complete head; default 10 s.
    pub head: Duration,
    /// Between two requests of a connection; default 75 s.
    pub keep_alive_idle: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(75),
        }
    }
}

/// Bounds on what clients send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// A request head in bytes; default 32 KiB, at least 8 KiB.
    pub head_bytes_max: usize,
    /// Header fields of a request; default 100.
    pub fields_max: usize,
    /// Path and query in bytes; default 8 KiB.
    pub uri_bytes_max: usize,
    /// Streams at once on an HTTP/2 connection; default 100.
    pub h2_streams_max: u32,
    /// Client connections at once; by default as many as there are descriptors for.
    pub connections_max: Option<u32>,
    /// Client connections at once from one address, or one /64 of IPv6, trusted proxies apart. No limit by default:
    /// a company or a content network comes from few addresses, and who that is only the operator knows.
    pub connections_per_address_max: Option<u32>,
    /// Requests on one connection; the last answer ends it. Default no limit.
    pub requests_per_connection_max: Option<u32>,
    /// Requests at once, streams of HTTP/2 and tunnels among them; by default as many as there are descriptors.
    pub requests_max: Option<u32>,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            uri_bytes_max: 8 * 1024,
            h2_streams_max: 100,
            connections_max: None,
            connections_per_address_max: None,
            requests_per_connection_max: None,
            requests_max: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_keep_to_their_addresses_whatever_the_file_says_now() {
        let to = |port| ListenerSettings { redirect_https: Some(port), ..ListenerSettings::plain() };
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let live = |ports: &[u16]| LiveSettings {
            listeners: ports.iter().map(|port| to(*port)).collect(),
            ..LiveSettings::default()
        };
        #[track_caller]
        fn check(
            mut new: LiveSettings,
            old: &LiveSettings,
            file: &[SocketAddr],
            ours: &[SocketAddr],
            expected: &[u16],
        ) {
            new.arrange(file, ours, old);
            let ports: Vec<_> = new.listeners.iter().filter_map(|listener| listener.redirect_https).collect();
            assert_eq!(ports, expected);
        }
        let (a, b, any) = (address("1.1.1.1:1"), address("1.1.1.1:2"), address("127.0.0.1:0"));
        let old = live(&[1, 2]);
        check(live(&[3, 4]), &old, &[a, b], &[a, b], &[3, 4]);
        check(live(&[4, 3]), &old, &[b, a], &[a, b], &[3, 4]);
        check(live(&[3]), &old, &[a], &[a, b], &[3, 2]);
        check(live(&[3, 4]), &old, &[any, b], &[a, b], &[1, 4]);
        check(live(&[3, 4]), &old, &[any, any], &[any, any], &[3, 4]);
        check(live(&[]), &old, &[], &[a, b], &[1, 2]);
    }
}
