//! What the data plane is told by the configuration.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// How many worker threads; default one per core.
    pub threads: NonZeroUsize,
    /// How long open requests may go on after a stop was asked for; default 30 s.
    pub drain: Duration,
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
    /// From the connection accepted to the protocol known; default 10 s.
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
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { head_bytes_max: 32 * 1024, fields_max: 100, uri_bytes_max: 8 * 1024, h2_streams_max: 100 }
    }
}
