//! Whether a failed attempt is followed by another one.
//!
//! Retries stay inside the variant, so that a good stable never hides a bad candidate, and they never
//! do anything twice: another attempt needs either the certainty that nothing was sent, or a method that may
//! be repeated (RFC 9110 §9.2.2) and no body. An idle connection that the endpoint closed at the wrong
//! moment is nobody's fault and does not use up an attempt.

use http::Method;

/// Attempts on endpoints; stale connections do not count.
const ATTEMPTS_MAX: u32 = 3;

/// What is known about an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Whether the connection had carried requests before.
    pub(super) is_reused: bool,
    /// Whether nothing of the request was sent.
    pub(super) is_unsent: bool,
    /// Whether the request may be sent twice: an idempotent method and no body.
    pub(super) is_repeatable: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Once more on a connection of its own to the same endpoint, or on another idle one.
    Anew {
        /// Not on a pooled connection again.
        on_fresh: bool,
    },
    /// At another endpoint, if there is one.
    Elsewhere,
    /// Tell the client.
    GiveUp,
}

/// The attempts of one request.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    made: u32,
    was_repeated: bool,
}

impl Attempts {
    /// Whether no attempt has failed yet, stale connections apart.
    pub(super) fn is_first(&self) -> bool {
        self.made == 0 && !self.was_repeated
    }

    /// After an attempt failed.
    pub(super) fn after(&mut self, attempt: Attempt) -> Next {
        match attempt {
            Attempt { is_unsent: true, is_reused: true, .. } => Next::Anew { on_fresh: false },
            Attempt { is_unsent: true, is_reused: false, .. } => {
                self.made += 1;
                if self.made < ATTEMPTS_MAX { Next::Elsewhere } else { Next::GiveUp }
            }
            Attempt { is_unsent: false, is_reused: true, is_repeatable: true } if !self.was_repeated => {
                self.was_repeated = true;
                Next::Anew { on_fresh: true }
            }
            Attempt { is_unsent: false, .. } => Next::GiveUp,
        }
    }
}

/// RFC 9110 §9.2.2.
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Attempt = Attempt { is_reused: true, is_unsent: true, is_repeatable: false };
    const REFUSED: Attempt = Attempt { is_reused: false, is_unsent: true, is_repeatable: false };
    const RESET: Attempt = Attempt { is_reused: true, is_unsent: false, is_repeatable: true };

    #[track_caller]
    fn check(failures: &[Attempt], expected: &[Next]) {
        let mut attempts = Attempts::default();
        let next: Vec<_> = failures.iter().map(|failure| attempts.after(*failure)).collect();
        assert_eq!(next, expected, "{failures:?}");
    }

    #[test]
    fn what_may_have_been_processed_is_never_sent_again() {
        use Next::{Anew, Elsewhere, GiveUp};
        let again = Anew { on_fresh: false };
        let fresh = Anew { on_fresh: true };
        check(&[REFUSED, REFUSED, REFUSED], &[Elsewhere, Elsewhere, GiveUp]);
        check(&[STALE, STALE, STALE, STALE, REFUSED], &[again, again, again, again, Elsewhere]);
        check(&[RESET, RESET], &[fresh, GiveUp]);
        check(&[RESET, REFUSED], &[fresh, Elsewhere]);
        check(&[Attempt { is_repeatable: false, ..RESET }], &[GiveUp]);
        check(&[Attempt { is_reused: false, ..RESET }], &[GiveUp]);
    }

    #[test]
    fn posts_and_patches_are_not_idempotent() {
        for (method, expected) in
            [("GET", true), ("PUT", true), ("POST", false), ("PATCH", false), ("X", false)]
        {
            assert_eq!(is_idempotent(&method.parse().unwrap()), expected, "{method}");
        }
    }
}
