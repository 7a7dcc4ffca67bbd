//! Protocols that a connection may change to in the middle (RFC 9110 §7.8).

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;

const WEBSOCKET: &str = "websocket";

/// The name of a protocol, perhaps with its version: `websocket`, `IRC/6.9`. Letters' case does not count.
///
/// Never HTTP itself: whoever speaks it behind us unseen could send requests past everything that is decided here.
#[derive(Clone, Debug)]
pub struct UpgradeToken(HeaderValue);

impl UpgradeToken {
    /// `websocket` (RFC 6455).
    pub const fn websocket() -> Self {
        Self(HeaderValue::from_static(WEBSOCKET))
    }

    /// Whether it is `websocket`.
    pub fn is_websocket(&self) -> bool {
        self.is(WEBSOCKET.as_bytes())
    }

    /// Whether `name` means the same.
    pub fn is(&self, name: &[u8]) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(name)
    }

    /// As the value of a field.
    pub const fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl PartialEq for UpgradeToken {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for UpgradeToken {}

impl FromStr for UpgradeToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token = |part: &str| {
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !part.is_empty() && part.bytes().all(letters)
        };
        let (name, version) = text.split_once('/').unwrap_or((text, "1"));
        if !is_token(name) || !is_token(version) {
            return Err(format!(
                "{text:?} is no protocol; write its name, such as websocket, or NAME/VERSION"
            ));
        }
        if ["h2c", "h2", "h3", "http"].iter().any(|http| name.eq_ignore_ascii_case(http)) {
            return Err("would carry requests past Tidegate unseen; HTTP/2 needs no upgrade here".to_owned());
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| format!("{text:?} is no protocol"))
    }
}

impl fmt::Display for UpgradeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Made of such letters alone.
        f.pad(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_name_and_perhaps_a_version_and_never_http() {
        for text in ["websocket", "WebSocket", "IRC/6.9", "x-echo", "connect-udp", "TLS/1.0"] {
            assert_eq!(text.parse::<UpgradeToken>().unwrap().to_string(), text);
        }
        for text in [
            "", "a b", "a,b", "a/", "/1", "a/b/c", "a\r\nb", "ä", "h2c", "H2C", "h2", "h3", "HTTP/2.0",
            "http",
        ] {
            assert!(text.parse::<UpgradeToken>().is_err(), "{text:?}");
        }
        let token: UpgradeToken = "WebSocket".parse().unwrap();
        assert!(token.is_websocket() && token == UpgradeToken::websocket() && !token.is(b"websocket/13"));
    }
}
