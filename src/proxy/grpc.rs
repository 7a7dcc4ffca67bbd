//! What gRPC says beside HTTP: its status comes last, in the trailers, and over a response that says 200.
//!
//! So a call is judged when it ends, and where the proxy answers for an endpoint it must speak gRPC too, or the
//! caller sees a broken transport instead of the reason.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

/// What the body of an answer in gRPC form is said to be.
pub(super) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What HTTP/1.1 has to announce at the head (RFC 9110 §6.6.2) and gRPC by HTTP/2 never does.
pub(super) const TRAILERS: HeaderValue =
    HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");

/// A status code of gRPC, 0 to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrpcStatus(u8);

/// As they appear in logs, by code.
const WORDS: [&str; 17] = [
    "grpc_ok",
    "grpc_cancelled",
    "grpc_unknown",
    "grpc_invalid_argument",
    "grpc_deadline_exceeded",
    "grpc_not_found",
    "grpc_already_exists",
    "grpc_permission_denied",
    "grpc_resource_exhausted",
    "grpc_failed_precondition",
    "grpc_aborted",
    "grpc_out_of_range",
    "grpc_unimplemented",
    "grpc_internal",
    "grpc_unavailable",
    "grpc_data_loss",
    "grpc_unauthenticated",
];

impl GrpcStatus {
    pub(super) const UNKNOWN: Self = Self(2);
    pub(super) const DEADLINE_EXCEEDED: Self = Self(4);
    pub(super) const RESOURCE_EXHAUSTED: Self = Self(8);
    pub(super) const UNIMPLEMENTED: Self = Self(12);
    pub(super) const INTERNAL: Self = Self(13);
    pub(super) const UNAVAILABLE: Self = Self(14);

    /// What a head or trailers say; `None` where they say nothing. What is no code is UNKNOWN, as it is to callers.
    pub(super) fn told(fields: &HeaderMap) -> Option<Self> {
        let value = fields.get(GRPC_STATUS)?;
        let code = value.to_str().ok().and_then(|text| text.parse().ok());
        Some(code.filter(|code| usize::from(*code) < WORDS.len()).map_or(Self::UNKNOWN, Self))
    }

    pub(super) const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// Whether it says that the endpoint is unwell, and not something about the call: UNKNOWN, INTERNAL, UNAVAILABLE and
    /// DATA_LOSS.
    pub(super) const fn is_endpoints_fault(self) -> bool {
        matches!(self.0, 2 | 13..=15)
    }

    pub(super) fn as_str(self) -> &'static str {
        WORDS.get(usize::from(self.0)).copied().unwrap_or("grpc_unknown")
    }

    pub(super) fn value(self) -> HeaderValue {
        HeaderValue::from(u16::from(self.0))
    }
}

/// Whether a request is a gRPC call: by its content type, with or without a format or parameters behind it.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return false };
    let Some((start, rest)) = content_type.as_bytes().split_at_checked(GRPC.len()) else { return false };
    start.eq_ignore_ascii_case(GRPC.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// A `grpc-message`: percent-encoded but for printable ASCII (gRPC over HTTP/2, "Responses").
pub(super) fn message(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => {
                encoded.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    let digit = char::from_digit(u32::from(nibble), 16).unwrap_or('0');
                    encoded.push(digit.to_ascii_uppercase());
                }
            }
        }
    }
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_content_type() {
        #[track_caller]
        fn check(content_type: &'static str, expected: bool) {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            assert_eq!(is_call(&headers), expected, "{content_type}");
        }
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("Application/gRPC;charset=utf-8", true);
        check("application/grpc-web", false);
        check("application/grp", false);
        check("text/plain", false);
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn a_status_is_a_code_or_unknown() {
        #[track_caller]
        fn check(value: &'static str, expected: &str) {
            let mut fields = HeaderMap::new();
            fields.insert(GRPC_STATUS, HeaderValue::from_static(value));
            assert_eq!(GrpcStatus::told(&fields).unwrap().as_str(), expected, "{value}");
        }
        check("0", "grpc_ok");
        check("14", "grpc_unavailable");
        check("16", "grpc_unauthenticated");
        check("17", "grpc_unknown");
        check("-1", "grpc_unknown");
        check("", "grpc_unknown");
        assert_eq!(GrpcStatus::told(&HeaderMap::new()), None);
    }

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(message("so it is, 100%\n"), "so it is, 100%25%0A");
        assert_eq!(message("\u{e9}"), "%C3%A9");
    }
}
