//! How a receiver knows that a POST is ours, and not an old one.
//!
//! `x-tidegate-timestamp` is the time of this attempt in seconds since 1970, `x-tidegate-signature` is `sha256=` and
//! the HMAC-SHA-256 (RFC 2104) in lower-case hex of that number, a full stop, and the body as it was sent:
//!
//! ```text
//! expected = "sha256=" + hex(hmac_sha256(secret, timestamp + "." + body))
//! ```
//!
//! The time is inside what is signed, so a receiver that refuses what is older than a few minutes cannot be made
//! to take the same notification twice.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::settings::Token;
use crate::clock::Timestamp;

/// Carries [`sign`]'s result.
pub const SIGNATURE: &str = "x-tidegate-signature";
/// Carries the time that was signed, in seconds since 1970.
pub const TIMESTAMP: &str = "x-tidegate-timestamp";

/// `sha256=HEX` over `at` in seconds, a full stop and `body`.
pub fn sign(secret: &Token, at: Timestamp, body: &[u8]) -> String {
    let mut text = "sha256=".to_owned();
    // HMAC takes keys of every length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()) {
        mac.update(at.as_secs().to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_time_and_body() {
        let secret = Token::new("it is a secret");
        let at = Timestamp::from_millis(1_767_225_599_123);
        // printf '1767225599.{"a":1}' | openssl dgst -sha256 -hmac 'it is a secret'
        let expected = "sha256=af083998fbd336a8e9d2da0c1270fa79b2c3fe0c921bec05781f2496600a04c8";
        assert_eq!(sign(&secret, at, br#"{"a":1}"#), expected);
        assert_ne!(sign(&secret, Timestamp::from_millis(1_767_225_600_000), br#"{"a":1}"#), expected);
        assert_ne!(sign(&secret, at, br#"{"a":2}"#), expected);
        assert_ne!(sign(&Token::new("another"), at, br#"{"a":1}"#), expected);
    }
}
