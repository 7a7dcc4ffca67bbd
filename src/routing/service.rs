//! What the configuration says about a service: everything but where its traffic is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{EndpointLimits, MirrorSettings, Retries, Route, UpgradeToken};
use crate::traffic::{By, Otherwise, PerVariant};
use crate::upstream::{BalanceSettings, EjectionSettings, HealthSettings};

/// A service's settings. They change with a reload, never with a shift.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSettings {
    /// The name: lower-case letters, digits and `-`, at most 63.
    pub name: Arc<str>,
    /// What it is for.
    pub routes: Vec<Route>,
    /// How its variants' endpoints are checked.
    pub health: PerVariant<HealthSettings>,
    /// How requests are spread over the endpoints of a variant.
    pub balance: BalanceSettings,
    /// When endpoints get a pause for what fails there; `None`: never.
    pub ejection: Option<EjectionSettings>,
    /// What happens to a variant's requests when none of its endpoints is healthy.
    pub when_unhealthy: PerVariant<WhenUnhealthy>,
    /// How testers choose their variant, if they may.
    pub tester: Option<TesterOverride>,
    /// Who is told what.
    pub tell: Tell,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// How requests are tried again; `None`: not at all.
    pub retries: Option<Retries>,
    /// Bounds.
    pub limits: Limits,
    /// What a connection may change to, in the order in which it stands in the file; `websocket` by default.
    pub upgrades: Vec<UpgradeToken>,
    /// How requests are copied to the candidate, when they are.
    pub mirror: MirrorSettings,
}

/// How visitors are recognised. In force from one moment at 0 % or 100 % to the next, because a change
/// in between would move people without anybody having shifted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Recognition {
    /// What a visitor is recognised by.
    pub by: By,
    /// Where the user key is looked for; the first place that has one decides.
    pub user_keys: Vec<UserKey>,
    /// What happens to visitors without a user key.
    pub otherwise: Otherwise,
    /// Once on the candidate, always on the candidate, within an epoch.
    pub ratchet: bool,
    /// Mixed into every bucket.
    pub salt: Arc<str>,
}

/// Where a user's key stands in a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(into = "String", try_from = "String")]
pub enum UserKey {
    /// `header:NAME`.
    Header(HeaderName),
    /// `cookie:NAME`.
    Cookie(Arc<str>),
    /// `query:NAME`, its value as it is written.
    Query(Arc<str>),
    /// `client_addr`: the first address that is no trusted proxy, masked to /24 or /56, so that a
    /// household stays together when its addresses rotate.
    ClientAddr,
}

impl FromStr for UserKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let token = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"=;,&#?".contains(&byte))
        };
        match text.split_once(':') {
            Some(("header", name)) => {
                let name = name.parse().map_err(|_| format!("{name:?} is not a header name"))?;
                Ok(Self::Header(name))
            }
            Some(("cookie", name)) if token(name) => Ok(Self::Cookie(name.into())),
            Some(("query", name)) if token(name) => Ok(Self::Query(name.into())),
            None if text == "client_addr" => Ok(Self::ClientAddr),
            _ => Err(format!(
                "{text:?} is no place for a user key; write header:NAME, cookie:NAME, query:NAME or client_addr"
            )),
        }
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::ClientAddr => f.pad("client_addr"),
        }
    }
}

impl From<UserKey> for String {
    fn from(key: UserKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for UserKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What happens to a variant's requests when none of its endpoints is healthy. Stable never spills to
/// the candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenUnhealthy {
    /// Stable answers in the candidate's place; it is still charged to the candidate.
    #[default]
    Spill,
    /// 503.
    Fail,
}

/// How testers choose their variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TesterOverride {
    /// The field that carries `VARIANT:SECRET`; default `x-tidegate-override`. It never reaches an endpoint.
    pub header: HeaderName,
    /// What testers know.
    pub secret: Secret,
}

/// Something that must not show up in a log, and is compared in constant time.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// From its bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Whether `other` is the same, in a time that tells nothing about where they differ.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Who is told which facts about the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// The endpoint gets `X-Tidegate-Variant`; default true.
    pub endpoint_variant: bool,
    /// The endpoint gets `X-Tidegate-Visitor`, the visitor id; default false.
    pub endpoint_visitor: bool,
    /// The client gets `X-Tidegate-Variant`; default false.
    pub client_variant: bool,
}

impl Default for Tell {
    fn default() -> Self {
        Self { endpoint_variant: true, endpoint_visitor: false, client_variant: false }
    }
}

/// Deadlines of a request on its way to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to be accepted; default 2 s.
    pub connect: Duration,
    /// From the request head written to the response head read; default 60 s.
    pub first_byte: Duration,
    /// Between two pieces of a body, either way; default 60 s.
    pub body_idle: Duration,
    /// While nothing moves through a tunnel, either way; default 1 h.
    pub tunnel_idle: Duration,
    /// From a request's head read to the last byte of its response, for what has an end: not for tunnels, event
    /// streams and gRPC. At least `first_byte`; unlimited by default.
    pub total: Option<Duration>,
    /// The same for tunnels, event streams and gRPC; unlimited by default.
    pub stream: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            connect: Duration::from_secs(2),
            first_byte: minute,
            body_idle: minute,
            tunnel_idle: 60 * minute,
            total: None,
            stream: None,
        }
    }
}

/// Bounds on what a request may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body in bytes; unlimited by default.
    pub body_bytes_max: Option<u64>,
    /// Requests at once, to both variants together; unlimited by default.
    pub requests_max: Option<u32>,
    /// What each endpoint gets at once; unlimited by default.
    pub endpoint: Option<EndpointLimits>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_key_names_its_place() {
        for text in ["header:x-user-id", "cookie:uid", "query:user", "client_addr"] {
            assert_eq!(text.parse::<UserKey>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "header:",
            "header:a b",
            "cookie:",
            "cookie:a;b",
            "cookie:ä",
            "client_addr:x",
            "body:x",
            "uid",
        ] {
            assert!(text.parse::<UserKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new(b"hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(secret.matches(b"hunter2") && !secret.matches(b"hunter") && !secret.matches(b"hunter3"));
    }
}
