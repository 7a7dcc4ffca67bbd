//! The closed sets that requests are counted by.
//!
//! Everything that a stranger may choose freely is folded into a few names here, so that no request
//! can make a new series.

use std::fmt;

use crate::traffic::CookieError;

/// What went wrong between the proxy and an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpstreamError {
    /// The endpoint refused the connection or could not be reached.
    Connect,
    /// It did not accept the connection in time.
    ConnectTimeout,
    /// The response head did not come in time.
    FirstByteTimeout,
    /// The connection broke before the response head was complete.
    Reset,
    /// What it sent is not HTTP, or is ambiguous.
    Protocol,
    /// The response body ended before its announced end.
    Truncated,
    /// The response body stood still for too long.
    BodyTimeout,
    /// The request was not over in time, and the endpoint was the one to move.
    TotalTimeout,
    /// There was no healthy endpoint to ask.
    NoHealthyEndpoint,
}

impl UpstreamError {
    /// All of them, in the order of a request's life.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::ConnectTimeout,
        Self::FirstByteTimeout,
        Self::Reset,
        Self::Protocol,
        Self::Truncated,
        Self::BodyTimeout,
        Self::TotalTimeout,
        Self::NoHealthyEndpoint,
    ];

    /// The label in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Truncated => "truncated",
            Self::BodyTimeout => "body_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::NoHealthyEndpoint => "no_healthy_endpoint",
        }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why there was one more attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryReason {
    /// There was no connection.
    Connect,
    /// The endpoint turned the request away unseen.
    Refused,
    /// The connection broke before the response head.
    Reset,
    /// The response head did not come within the time of one attempt.
    Timeout,
    /// The endpoint answered with a status that is tried again.
    Status,
    /// A gRPC call was answered with UNAVAILABLE.
    GrpcUnavailable,
}

impl RetryReason {
    /// All of them, in the order of a request's life.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::Refused, Self::Reset, Self::Timeout, Self::Status, Self::GrpcUnavailable];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::GrpcUnavailable => "grpc_unavailable",
        }
    }
}

/// Why a request found no place at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Crowding {
    /// As many wait already as may.
    Full,
    /// It has waited for as long as it may.
    Timeout,
}

impl Crowding {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Full, Self::Timeout];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Timeout => "timeout",
        }
    }
}

/// Why we ended a client's connection: before its first request, or for what it did with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionRefusal {
    /// As many are open as there may be.
    Full,
    /// As many are open from its address as there may be.
    AddressFull,
    /// A PROXY header that is missing, malformed, or from somebody who may not send one.
    ProxyHeader,
    /// TLS did not come about: no common version, a certificate that is missing or not believed.
    Tls,
    /// It spoke in the clear where TLS is spoken.
    Plaintext,
    /// It took too long over its beginning.
    Slow,
    /// It asked for more than it waited for: most of its HTTP/2 streams were reset before they were answered.
    Resets,
}

impl ConnectionRefusal {
    /// All of them, in the order of a connection's life.
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::AddressFull,
        Self::ProxyHeader,
        Self::Tls,
        Self::Plaintext,
        Self::Slow,
        Self::Resets,
    ];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::ProxyHeader => "proxy_header",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
            Self::Slow => "slow",
            Self::Resets => "resets",
        }
    }
}

/// Why a request counts as a failure of its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The endpoint itself said so: a 5xx, or a gRPC status that is not OK or missing.
    Status,
    /// It never answered properly.
    Upstream(UpstreamError),
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// A request method as a label; what RFC 9110 and RFC 5789 do not name is `OTHER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the method of its name")]
pub enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    Connect,
    Trace,
    Other,
}

impl MethodLabel {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Patch,
        Self::Options,
        Self::Connect,
        Self::Trace,
        Self::Other,
    ];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Other => "OTHER",
        }
    }
}

impl From<&http::Method> for MethodLabel {
    fn from(method: &http::Method) -> Self {
        match *method {
            http::Method::GET => Self::Get,
            http::Method::HEAD => Self::Head,
            http::Method::POST => Self::Post,
            http::Method::PUT => Self::Put,
            http::Method::DELETE => Self::Delete,
            http::Method::PATCH => Self::Patch,
            http::Method::OPTIONS => Self::Options,
            http::Method::CONNECT => Self::Connect,
            http::Method::TRACE => Self::Trace,
            _ => Self::Other,
        }
    }
}

/// A status code as a label: 100 to 599, or `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodeLabel(Option<u16>);

impl CodeLabel {
    /// The label of a status code.
    pub const fn of(code: u16) -> Self {
        if code >= 100 && code <= 599 { Self(Some(code)) } else { Self(None) }
    }

    /// The code; `None` for `other`.
    pub const fn code(self) -> Option<u16> {
        self.0
    }

    /// Whether it says that the client is at fault: 400 to 499.
    pub fn is_client_error(self) -> bool {
        self.0.is_some_and(|code| (400..500).contains(&code))
    }
}

impl fmt::Display for CodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "{code}"),
            None => f.write_str("other"),
        }
    }
}

/// Why a cookie was not believed, each with its label, in the order of [`CookieError`].
pub(in crate::telemetry) const IGNORED_COOKIES: [(CookieError, &str); 3] =
    [(CookieError::Garbled, "garbled"), (CookieError::Forged, "forged"), (CookieError::Expired, "expired")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_choose_is_folded_into_a_few_names() {
        for (code, label) in
            [(99, "other"), (100, "100"), (599, "599"), (600, "other"), (0, "other"), (999, "other")]
        {
            assert_eq!(CodeLabel::of(code).to_string(), label);
        }
        for label in MethodLabel::ALL {
            let method = http::Method::from_bytes(label.as_str().as_bytes()).unwrap();
            assert_eq!(MethodLabel::from(&method), label);
        }
        for method in ["get", "PROPFIND", "X"] {
            let method = http::Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(MethodLabel::from(&method), MethodLabel::Other);
        }
    }

    #[test]
    fn every_label_has_its_index() {
        for (index, error) in UpstreamError::ALL.into_iter().enumerate() {
            assert_eq!(error as usize, index);
        }
        for (index, reason) in RetryReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, crowding) in Crowding::ALL.into_iter().enumerate() {
            assert_eq!(crowding as usize, index);
        }
        for (index, method) in MethodLabel::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
        }
        for (index, (error, _)) in IGNORED_COOKIES.iter().enumerate() {
            assert_eq!(*error as usize, index);
        }
        for (index, reason) in crate::traffic::Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
