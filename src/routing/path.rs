//! Paths as routes compare them.
//!
//! A request is forwarded with its path as it came; only the comparison uses the normalised form
//! (RFC 3986 §6.2.2: unreserved characters decoded, dot segments removed). What an endpoint could read
//! differently from us, an encoded or plain backslash, an encoded slash or NUL, is refused instead of guessed.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a request's path cannot be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with /")]
    NotAbsolute,
    /// `%` without two hex digits.
    #[error("the path has a broken percent-encoding")]
    Encoding,
    /// A character that endpoints read in different ways.
    #[error("the path has an encoded slash or NUL, or a backslash")]
    Ambiguous,
}

/// The path that routes compare: borrowed unless something had to be changed.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let bytes = path.as_bytes();
    if bytes.iter().any(|byte| matches!(byte, b'\\' | 0)) {
        return Err(PathError::Ambiguous);
    }
    let decoded =
        if bytes.contains(&b'%') { Cow::Owned(decode_unreserved(path)?) } else { Cow::Borrowed(path) };
    if decoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Ok(Cow::Owned(without_dot_segments(&decoded)));
    }
    Ok(decoded)
}

fn decode_unreserved(path: &str) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).ok_or(PathError::Encoding)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(PathError::Encoding);
        }
        match u8::from_str_radix(digits, 16).map_err(|_| PathError::Encoding)? {
            b'/' | b'\\' | 0 => return Err(PathError::Ambiguous),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => {
                decoded.push(char::from(byte));
            }
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Ok(decoded)
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// The path at and below which a route applies, by whole segments: `/shop` is for `/shop` and
/// `/shop/cart`, not for `/shopping`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct PathPrefix(Arc<str>);

impl PathPrefix {
    /// Everything: `/`.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Normalised, without a final slash unless it is `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a normalised path is this one or below it.
    pub fn covers(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&*self.0) else { return false };
        rest.is_empty() || rest.starts_with('/') || self.0.ends_with('/')
    }
}

impl FromStr for PathPrefix {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = normalise(text)?;
        let trimmed = path.trim_end_matches('/');
        Ok(Self(if trimmed.is_empty() { "/".into() } else { trimmed.into() }))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<PathPrefix> for String {
    fn from(prefix: PathPrefix) -> Self {
        prefix.to_string()
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_compared_normalised_or_refused() {
        #[track_caller]
        fn check(path: &str, expected: Result<&str, PathError>) {
            assert_eq!(normalise(path).as_deref(), expected.as_ref().copied(), "{path:?}");
        }
        check("/", Ok("/"));
        check("/shop/cart", Ok("/shop/cart"));
        check("//shop", Ok("//shop"));
        check("/%73hop", Ok("/shop"));
        check("/sh%2dop%2E%7e", Ok("/sh-op.~"));
        check("/a%20b%c3%a4", Ok("/a%20b%C3%A4"));
        check("/a/../b", Ok("/b"));
        check("/a/./b/.", Ok("/a/b/"));
        check("/a/b/..", Ok("/a/"));
        check("/../../etc", Ok("/etc"));
        check("/a/%2e%2e/b", Ok("/b"));
        check("/a/.%2e/b", Ok("/b"));
        check("/...", Ok("/..."));
        check("", Err(PathError::NotAbsolute));
        check("shop", Err(PathError::NotAbsolute));
        check("*", Err(PathError::NotAbsolute));
        check("/%", Err(PathError::Encoding));
        check("/%4", Err(PathError::Encoding));
        check("/%zz", Err(PathError::Encoding));
        check("/%+1", Err(PathError::Encoding));
        check("/%ä", Err(PathError::Encoding));
        check("/a%2fb", Err(PathError::Ambiguous));
        check("/a%5Cb", Err(PathError::Ambiguous));
        check("/a%00", Err(PathError::Ambiguous));
        check("/a\\b", Err(PathError::Ambiguous));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(path in "/[a-z./%0-9A-F]{0,40}") {
            if let Ok(once) = normalise(&path) {
                prop_assert_eq!(normalise(&once).unwrap(), once.clone());
                prop_assert!(!once.split('/').any(|segment| segment == ".."));
            }
        }
    }
}
