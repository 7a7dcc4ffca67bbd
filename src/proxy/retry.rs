//! Whether a failed attempt is followed by another one, and how soon.
//!
//! Retries stay inside the variant, so that a good stable never hides a bad candidate, and they never
//! do anything twice: another attempt needs either the certainty that nothing was processed, or a method that may
//! be repeated (RFC 9110 §9.2.2) and a body that is still known from its beginning. An idle connection that the endpoint
//! closed at the wrong moment is nobody's fault and does not use up an attempt.
//!
//! What reached no endpoint needs no budget, because no endpoint has more to do by it; all else does. The first retry
//! after a refused or broken connection goes out at once if it goes elsewhere, or if the connection had been kept: what
//! went wrong there says nothing about where it goes now. Everything else waits a little, at random, so that those who
//! failed together do not come back together.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use super::grpc::GrpcStatus;
use crate::routing::{Retries, RetryMethods};
use crate::telemetry::RetryReason;

/// Pauses grow up to so many times the first.
const BACKOFF_TIMES_MAX: u32 = 10;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection had been kept, and was closed before anything was sent.
    Stale,
    /// There was no connection.
    Unconnected,
    /// The endpoint turned it away unseen.
    TurnedAway,
    /// The connection broke before the response head was whole.
    Reset {
        /// Whether it had carried requests before.
        was_kept: bool,
    },
    /// The response head did not come within the time of one attempt.
    Late,
    /// A response with this status.
    Status(u16),
    /// The whole answer to a gRPC call is UNAVAILABLE.
    Unavailable,
}

/// What is known of a request that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Its method may be repeated.
    pub(super) is_repeatable: bool,
    /// Its body is still there from the beginning, or it has none.
    pub(super) is_whole: bool,
}

/// The attempts of one request.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Those that failed, stale connections apart.
    failed: u32,
    tried: Vec<u32>,
}

impl Attempts {
    /// Whether no attempt has failed yet.
    pub(super) fn is_first(&self) -> bool {
        self.failed == 0
    }

    /// Whether an attempt at this endpoint has failed.
    pub(super) fn has_tried(&self, endpoint: u32) -> bool {
        self.tried.contains(&endpoint)
    }

    /// An attempt at this endpoint failed.
    pub(super) fn failed_at(&mut self, endpoint: u32) {
        self.failed += 1;
        self.tried.push(endpoint);
    }

    /// The request goes to the other variant: what was tried says nothing there.
    pub(super) fn forget(&mut self) {
        self.tried.clear();
    }

    /// Whether settings and request allow one more attempt after the one that is over now and is not counted yet.
    pub(super) fn may_follow(&self, trouble: Trouble, request: Request, retries: Option<&Retries>) -> bool {
        let Some(retries) = retries else { return trouble == Trouble::Stale && request.is_whole };
        let is_repeatable = request.is_repeatable;
        let is_meant = match trouble {
            Trouble::Stale => return request.is_whole,
            Trouble::Unconnected | Trouble::TurnedAway => retries.on.connect,
            Trouble::Reset { .. } => retries.on.reset && is_repeatable,
            Trouble::Late => is_repeatable,
            Trouble::Status(code) => retries.on.statuses.contains(&code) && is_repeatable,
            Trouble::Unavailable => retries.on.grpc_unavailable,
        };
        is_meant && request.is_whole && self.failed < retries.attempts
    }

    /// How long to wait before the next attempt, after the last one was counted. `is_elsewhere`: there is an endpoint
    /// that has not been tried. `draw` is from 0 to 1.
    pub(super) fn pause(
        &self,
        trouble: Trouble,
        is_elsewhere: bool,
        backoff: Duration,
        draw: f64,
    ) -> Duration {
        let is_at_once = match trouble {
            Trouble::Stale => true,
            Trouble::Reset { was_kept: true } => self.failed <= 1,
            Trouble::Unconnected => self.failed <= 1 && is_elsewhere,
            Trouble::TurnedAway
            | Trouble::Reset { was_kept: false }
            | Trouble::Late
            | Trouble::Status(_)
            | Trouble::Unavailable => false,
        };
        if is_at_once {
            return Duration::ZERO;
        }
        let times = 1u32.checked_shl(self.failed.saturating_sub(1)).unwrap_or(u32::MAX);
        (backoff * times.clamp(1, BACKOFF_TIMES_MAX)).mul_f64(draw.clamp(0.0, 1.0))
    }
}

impl Trouble {
    /// What an answer is, if it is one that may be tried again.
    pub(super) fn with_answer(
        retries: Option<&Retries>,
        is_grpc: bool,
        status: StatusCode,
        fields: &HeaderMap,
    ) -> Option<Self> {
        let retries = retries?;
        if status.is_server_error() {
            let code = status.as_u16();
            return retries.on.statuses.contains(&code).then_some(Self::Status(code));
        }
        let is_unavailable = is_grpc
            && retries.on.grpc_unavailable
            && GrpcStatus::told(fields) == Some(GrpcStatus::UNAVAILABLE);
        is_unavailable.then_some(Self::Unavailable)
    }

    /// Whether another attempt gives no endpoint more to do.
    pub(super) fn is_free(self) -> bool {
        matches!(self, Self::Stale | Self::Unconnected)
    }

    /// As it is counted.
    pub(super) fn reason(self) -> RetryReason {
        match self {
            Self::Unconnected => RetryReason::Connect,
            Self::TurnedAway => RetryReason::Refused,
            Self::Stale | Self::Reset { .. } => RetryReason::Reset,
            Self::Late => RetryReason::Timeout,
            Self::Status(_) => RetryReason::Status,
            Self::Unavailable => RetryReason::GrpcUnavailable,
        }
    }
}

/// Whether a request with this method may be sent again although it may have been processed.
pub(super) fn is_repeatable(method: &Method, methods: RetryMethods) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => true,
        Method::PUT | Method::DELETE => methods == RetryMethods::Idempotent,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::RetryOn;

    const GET: Request = Request { is_repeatable: true, is_whole: true };
    const POST: Request = Request { is_repeatable: false, is_whole: true };
    const RESET: Trouble = Trouble::Reset { was_kept: false };

    fn all() -> Retries {
        let on = RetryOn { connect: true, reset: true, grpc_unavailable: true, statuses: vec![502, 503] };
        Retries { on, ..Retries::default() }
    }

    #[test]
    fn what_may_have_been_processed_follows_only_if_it_may_be_repeated() {
        #[track_caller]
        fn check(trouble: Trouble, request: Request, by_default: bool, with_all: bool) {
            let attempts = Attempts::default();
            assert_eq!(attempts.may_follow(trouble, request, Some(&Retries::default())), by_default);
            assert_eq!(attempts.may_follow(trouble, request, Some(&all())), with_all);
            assert_eq!(attempts.may_follow(trouble, request, None), trouble == Trouble::Stale);
        }
        for request in [GET, POST] {
            check(Trouble::Stale, request, true, true);
            check(Trouble::Unconnected, request, true, true);
            check(Trouble::TurnedAway, request, true, true);
            check(Trouble::Unavailable, request, false, true);
        }
        check(RESET, GET, true, true);
        check(RESET, POST, false, false);
        check(Trouble::Reset { was_kept: true }, POST, false, false);
        check(Trouble::Late, GET, true, true);
        check(Trouble::Late, POST, false, false);
        check(Trouble::Status(503), GET, false, true);
        check(Trouble::Status(503), POST, false, false);
        check(Trouble::Status(500), GET, false, false);
    }

    #[test]
    fn nothing_follows_when_the_body_is_gone_or_the_attempts_are_used_up() {
        let every = [Trouble::Stale, Trouble::Unconnected, RESET, Trouble::Status(502), Trouble::Unavailable];
        for trouble in every {
            let gone = Request { is_whole: false, ..GET };
            assert!(!Attempts::default().may_follow(trouble, gone, Some(&all())), "{trouble:?}");
        }
        let mut attempts = Attempts::default();
        attempts.failed_at(1);
        assert!(attempts.may_follow(RESET, GET, Some(&all())));
        attempts.failed_at(2);
        assert!(!attempts.may_follow(RESET, GET, Some(&all())));
        assert!(attempts.may_follow(Trouble::Stale, GET, Some(&all())));
    }

    #[test]
    fn the_first_retry_goes_out_at_once_where_waiting_would_help_nobody() {
        #[track_caller]
        fn check(failed: u32, trouble: Trouble, is_elsewhere: bool, expected: u64) {
            let attempts = Attempts { failed, tried: Vec::new() };
            let pause = attempts.pause(trouble, is_elsewhere, Duration::from_millis(20), 0.5);
            assert_eq!(pause, Duration::from_millis(expected), "{failed} {trouble:?}");
        }
        check(1, Trouble::Unconnected, true, 0);
        check(1, Trouble::Unconnected, false, 10);
        check(1, Trouble::Reset { was_kept: true }, false, 0);
        check(1, RESET, true, 10);
        check(1, Trouble::Status(503), true, 10);
        check(2, Trouble::Unconnected, true, 20);
        check(3, Trouble::Late, true, 40);
        check(4, Trouble::Late, true, 80);
        check(5, Trouble::Late, true, 100);
        check(99, Trouble::Late, true, 100);
        check(99, Trouble::Stale, true, 0);
    }

    #[test]
    fn an_answer_is_tried_again_only_if_it_is_named() {
        #[track_caller]
        fn check(status: u16, grpc: Option<&'static str>, expected: Option<Trouble>) {
            let mut fields = HeaderMap::new();
            if let Some(status) = grpc {
                fields.insert("grpc-status", http::HeaderValue::from_static(status));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Trouble::with_answer(Some(&all()), grpc.is_some(), status, &fields), expected);
            assert_eq!(Trouble::with_answer(None, true, status, &fields), None);
        }
        check(200, None, None);
        check(404, None, None);
        check(500, None, None);
        check(503, None, Some(Trouble::Status(503)));
        check(200, Some("14"), Some(Trouble::Unavailable));
        check(200, Some("13"), None);
        check(200, Some("0"), None);
    }

    #[test]
    fn posts_and_patches_are_not_idempotent() {
        for (method, idempotent, safe) in [
            ("GET", true, true),
            ("HEAD", true, true),
            ("PUT", true, false),
            ("DELETE", true, false),
            ("POST", false, false),
            ("PATCH", false, false),
            ("X", false, false),
        ] {
            let method = method.parse().unwrap();
            assert_eq!(is_repeatable(&method, RetryMethods::Idempotent), idempotent, "{method}");
            assert_eq!(is_repeatable(&method, RetryMethods::Safe), safe, "{method}");
        }
    }
}
