//! Which bounds and deadlines were hit, under the names that they have in the configuration.

/// A bound or deadline of the process or of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// A client connection too many, by `limits.connections` or by the file descriptors there are.
    Connections,
    /// A client connection too many from one address.
    ConnectionsPerAddress,
    /// A request that was the last of its connection.
    RequestsPerConnection,
    /// A request head of HTTP/1 with too many bytes. HTTP/2 refuses such streams below us.
    Head,
    /// Too many header fields.
    Fields,
    /// A request target that is too long.
    Uri,
    /// As many streams at once on a connection of HTTP/2 as there may be; those beyond are refused below us.
    H2Streams,
    /// A request too many at once.
    Requests,
    /// A connection to an endpoint too many, by the file descriptors and ports there are.
    EndpointConnections,
    /// Nothing could be accepted, mostly for want of file descriptors.
    Descriptors,
    /// A connection without a first request in time.
    Handshake,
    /// A request head that was not complete in time.
    HeadTime,
    /// A connection on which no further request came in time.
    KeepAliveIdle,
    /// A client that did not take what was written for it, whatever it was.
    BodyIdle,
}

impl Limit {
    /// All of them: bounds, then deadlines.
    pub const ALL: [Self; 14] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::RequestsPerConnection,
        Self::Head,
        Self::Fields,
        Self::Uri,
        Self::H2Streams,
        Self::Requests,
        Self::EndpointConnections,
        Self::Descriptors,
        Self::Handshake,
        Self::HeadTime,
        Self::KeepAliveIdle,
        Self::BodyIdle,
    ];

    /// The label in metrics: the key in the configuration, where there is one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "limits.connections",
            Self::ConnectionsPerAddress => "limits.connections_per_address",
            Self::RequestsPerConnection => "limits.requests_per_connection",
            Self::Head => "limits.head",
            Self::Fields => "limits.fields",
            Self::Uri => "limits.uri",
            Self::H2Streams => "limits.h2_streams",
            Self::Requests => "limits.requests",
            Self::EndpointConnections => "endpoint_connections",
            Self::Descriptors => "descriptors",
            Self::Handshake => "timeouts.handshake",
            Self::HeadTime => "timeouts.head",
            Self::KeepAliveIdle => "timeouts.keep_alive_idle",
            Self::BodyIdle => "timeouts.body_idle",
        }
    }
}

/// A bound or deadline of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceLimit {
    /// A request body that is too large.
    Body,
    /// A request too many at once.
    Requests,
    /// No connection to an endpoint in time.
    Connect,
    /// No response head in time.
    FirstByte,
    /// A body that stood still, either way.
    BodyIdle,
    /// A tunnel in which nothing moved.
    TunnelIdle,
    /// A request that was not over in time.
    Total,
    /// A tunnel, an event stream or a gRPC call that went on for too long.
    Stream,
}

impl ServiceLimit {
    /// All of them: bounds, then deadlines in the order of a request's life.
    pub const ALL: [Self; 8] = [
        Self::Body,
        Self::Requests,
        Self::Connect,
        Self::FirstByte,
        Self::BodyIdle,
        Self::TunnelIdle,
        Self::Total,
        Self::Stream,
    ];

    /// The label in metrics: the key of the service in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "limits.body",
            Self::Requests => "limits.requests",
            Self::Connect => "timeouts.connect",
            Self::FirstByte => "timeouts.first_byte",
            Self::BodyIdle => "timeouts.body_idle",
            Self::TunnelIdle => "timeouts.tunnel_idle",
            Self::Total => "timeouts.total",
            Self::Stream => "timeouts.stream",
        }
    }
}
