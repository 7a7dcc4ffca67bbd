//! Answers of our own: one line of text, and nothing about what is behind us.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::AnswerBody;
use super::client::Turn;
use super::grpc::{GRPC, GRPC_MESSAGE, GRPC_STATUS, GrpcStatus, message};
use super::headers::X_REQUEST_ID;

/// What `Retry-After` says: about as long as an unhealthy endpoint takes to be noticed as healthy again.
const RETRY_AFTER_SECONDS: Duration = Duration::from_secs(5);
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Why a request gets no answer from an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 200: `OPTIONS *` asks about the proxy, not about a service (RFC 9110 §9.3.7).
    Options,
    /// 308: this listener speaks in the clear, and sends everybody to https.
    Moved,
    /// 400, with the reason.
    Bad(&'static str),
    /// 404.
    NoService,
    /// 405: CONNECT and TRACE.
    Method,
    /// 408: the client does not finish its request body.
    SlowBody,
    /// 400: the client broke its request body off.
    BrokenBody,
    /// 413.
    BodyTooLarge,
    /// 414.
    UriTooLong,
    /// 421: the certificate was shown for another host (RFC 9110 §15.5.20).
    Misdirected,
    /// 431.
    TooManyFields,
    /// 501: the `:protocol` of an extended CONNECT (RFC 9220 §3).
    Protocol,
    /// 502.
    BadGateway,
    /// 503: no healthy endpoint.
    NoEndpoint,
    /// 503: every endpoint of the variant has as many requests as it may have.
    NoPlace,
    /// 503: the proxy itself has no descriptor or port left.
    Full,
    /// 503: as many requests are under way as there may be, in all.
    Crowded,
    /// 503: the same for the service.
    ServiceCrowded,
    /// 504.
    Late,
    /// 508: it has been here before (RFC 5842 §7.2).
    Loop,
}

/// What an answer depends on beside its reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// With HEAD: the answer has no body.
    pub(super) is_head: bool,
    /// By a gRPC call.
    pub(super) is_grpc: bool,
    /// By a client that speaks HTTP/1.
    pub(super) is_http1: bool,
}

impl Refusal {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Options => StatusCode::OK,
            Self::Moved => StatusCode::PERMANENT_REDIRECT,
            Self::Bad(_) | Self::BrokenBody => StatusCode::BAD_REQUEST,
            Self::NoService => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Protocol => StatusCode::NOT_IMPLEMENTED,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::NoEndpoint | Self::NoPlace | Self::Full | Self::Crowded | Self::ServiceCrowded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Options => "",
            Self::Moved => "this service speaks https\n",
            Self::Bad(reason) => reason,
            Self::NoService => "no service for this host and path\n",
            Self::Method => "this method is not forwarded\n",
            Self::SlowBody => "the request body did not arrive in time\n",
            Self::BrokenBody => "the request body is broken\n",
            Self::BodyTooLarge => "the request body is too large\n",
            Self::UriTooLong => "the request target is too long\n",
            Self::Misdirected => "this connection was made for another host\n",
            Self::TooManyFields => "too many header fields\n",
            Self::Protocol => "this protocol is not spoken here\n",
            Self::BadGateway => "the service gave no valid answer\n",
            Self::NoEndpoint => "the service is not available at the moment\n",
            Self::NoPlace => "the service has too much to do at the moment\n",
            Self::Full => "too many connections at the moment\n",
            Self::Crowded | Self::ServiceCrowded => "too many requests at the moment\n",
            Self::Late => "the service did not answer in time\n",
            Self::Loop => "an endpoint of this service leads back to this proxy\n",
        }
    }

    /// What the access log calls it when the request itself was in order.
    pub(super) const fn word(self) -> Option<&'static str> {
        match self {
            Self::Crowded => Some("too_many_requests"),
            Self::ServiceCrowded => Some("too_many_requests_of_service"),
            Self::Loop => Some("loop"),
            _ => None,
        }
    }

    /// Whether what is left of the request cannot be trusted, or is not worth reading.
    const fn closes(self) -> bool {
        matches!(
            self,
            Self::Bad(_)
                | Self::Method
                | Self::SlowBody
                | Self::BrokenBody
                | Self::BodyTooLarge
                | Self::TooManyFields
        )
    }

    /// What a gRPC caller is told; `None` for what is no failure. As gRPC maps HTTP's status codes, where it knows no
    /// better one.
    const fn grpc_status(self) -> Option<GrpcStatus> {
        Some(match self {
            Self::Options | Self::Moved => return None,
            Self::Bad(_) | Self::BrokenBody | Self::Loop => GrpcStatus::INTERNAL,
            Self::NoService | Self::Method | Self::Protocol => GrpcStatus::UNIMPLEMENTED,
            Self::SlowBody | Self::Late => GrpcStatus::DEADLINE_EXCEEDED,
            Self::BodyTooLarge | Self::UriTooLong | Self::TooManyFields => GrpcStatus::RESOURCE_EXHAUSTED,
            Self::Misdirected => GrpcStatus::UNKNOWN,
            Self::BadGateway
            | Self::NoEndpoint
            | Self::NoPlace
            | Self::Full
            | Self::Crowded
            | Self::ServiceCrowded => GrpcStatus::UNAVAILABLE,
        })
    }

    /// The answer. `request_id` is repeated so that people can ask about it. A gRPC call gets 200 and everything
    /// in the head ("Trailers-Only"); metrics and logs still tell [`Refusal::status`].
    pub(super) fn answer(self, request_id: HeaderValue, asked: Asked, turn: Turn) -> Response<AnswerBody> {
        let grpc = self.grpc_status().filter(|_| asked.is_grpc);
        let text = if asked.is_head || grpc.is_some() { "" } else { self.text() };
        let mut response = Response::new(AnswerBody::own(Bytes::from_static(text.as_bytes()), turn));
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, request_id);
        if let Some(status) = grpc {
            headers.insert(CONTENT_TYPE, GRPC);
            headers.insert(GRPC_STATUS, status.value());
            headers.insert(GRPC_MESSAGE, message(self.text().trim_end()));
        } else {
            self.fill(headers);
            *response.status_mut() = self.status();
        }
        if asked.is_http1 && self.closes() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn fill(self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Options => {
                headers.insert(ALLOW, HeaderValue::from_static(METHODS));
                return;
            }
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static(METHODS));
            }
            Self::NoEndpoint | Self::NoPlace | Self::Full | Self::Crowded | Self::ServiceCrowded => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS.as_secs()));
            }
            _ => {}
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
}
