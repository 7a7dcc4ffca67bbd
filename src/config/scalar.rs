//! What a single value can mean, and how the schema describes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;
use schemars::{Schema, json_schema};

use super::meant::{did_you_mean, listed};
use super::units;
use crate::hooks::AlertAction;
use crate::proxy::{ForwardedHeader, TlsVersion};
use crate::rollout::{GuardMode, OnFail, OnInconclusive};
use crate::routing::{HostPattern, PathPrefix, UpgradeToken, UserKey, WhenUnhealthy};
use crate::traffic::{By, Otherwise, Variant, Weight};
use crate::upstream::{EndpointUrl, Protocol};

/// Something that a value of the file can be read as.
pub(super) trait Scalar: Sized {
    /// The meaning, or why there is none and what to write instead.
    fn read(text: &str) -> Result<Self, String>;

    /// What an editor needs to know.
    fn schema() -> Schema;
}

impl Scalar for Duration {
    fn read(text: &str) -> Result<Self, String> {
        units::parse_duration(text)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d)$", "examples": ["300ms", "2s", "5m", "1h"] })
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes(pub(super) u64);

impl Scalar for Bytes {
    fn read(text: &str) -> Result<Self, String> {
        units::bytes(text).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$", "examples": ["64KiB", "10MiB"] })
    }
}

impl Scalar for Weight {
    fn read(text: &str) -> Result<Self, String> {
        text.parse::<Self>().map_err(|error| error.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [{ "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,3}0*)? ?%$" }, { "const": 0 }],
            "examples": ["25%", "0.1%"],
        })
    }
}

/// How many: at least 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(pub(super) u32);

impl Scalar for Count {
    fn read(text: &str) -> Result<Self, String> {
        match text.parse::<u32>() {
            Ok(0) => Err("must be at least 1".to_owned()),
            Ok(count) => Ok(Self(count)),
            Err(_) => Err(format!("{text:?} is not a whole number from 1 to {}", u32::MAX)),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    }
}

impl Scalar for bool {
    fn read(text: &str) -> Result<Self, String> {
        choose(text, &[("true", true), ("false", false)])
    }

    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// Any text that is fit to be shown in a line.
impl Scalar for String {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; write something or leave the key out".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("has control characters".to_owned());
        }
        if text.len() > 128 {
            return Err(format!("has {} bytes; 128 are enough", text.len()));
        }
        Ok(text.to_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

impl Scalar for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err("is no path".to_owned());
        }
        Ok(Self::from(text))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// Where clients connect: `:8080`, `127.0.0.1:8080` or `[::1]:8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenAddress(pub(super) SocketAddr);

impl Scalar for ListenAddress {
    fn read(text: &str) -> Result<Self, String> {
        socket_addr(text, Ipv6Addr::UNSPECIFIED.into()).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": ":[0-9]+$", "examples": [":8080", "127.0.0.1:8080"] })
    }
}

/// A time that may be years.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongTime(pub(super) Duration);

impl Scalar for LongTime {
    fn read(text: &str) -> Result<Self, String> {
        units::long_time(text).map(Self)
    }

    fn schema() -> Schema {
        Duration::schema()
    }
}

/// Where https is spoken, if requests are sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RedirectPort(pub(super) Option<u16>);

impl Scalar for RedirectPort {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self(Some(443))),
            "false" => Ok(Self(None)),
            _ => match text.parse() {
                Ok(0) | Err(_) => Err(format!("{text:?} is neither true nor a port from 1 to 65535")),
                Ok(port) => Ok(Self(Some(port))),
            },
        }
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "integer", "minimum": 1, "maximum": 65535 }] })
    }
}

/// Whether clients must show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuthMode {
    Required,
    Optional,
}

impl Scalar for TlsVersion {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            "1.0" | "1.1" | "1" => Err("is not spoken any more (RFC 8996); write 1.2 or 1.3".to_owned()),
            _ => Err("is neither 1.2 nor 1.3".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["1.2", "1.3", 1.2, 1.3] })
    }
}

/// Where telemetry is served; `off` is nowhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct TelemetryAddress(pub(super) Option<SocketAddr>);

impl Scalar for TelemetryAddress {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            "on" => Err("write an address such as 127.0.0.1:9900, or leave the key out".to_owned()),
            _ => socket_addr(text, Ipv6Addr::UNSPECIFIED.into()).map(|addr| Self(Some(addr))),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^off$|:[0-9]+$", "examples": ["127.0.0.1:9900", "off"] })
    }
}

/// `every` is what an address without a host means.
fn socket_addr(text: &str, every: IpAddr) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(addr);
    }
    if text.parse::<u16>().is_ok() {
        return Err(format!("a port alone; did you mean :{text}?"));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        return Err(format!("lacks its port; did you mean {host}:8080?"));
    }
    let not_an_address = || format!("{text:?} is not an address; write :PORT, or IP:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(not_an_address)?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = match port.parse() {
        Ok(port) if digits => port,
        _ if digits => return Err(format!("{port} is no port; ports end at 65535")),
        _ => return Err(not_an_address()),
    };
    match host {
        "" => Ok(SocketAddr::new(every, port)),
        "*" => Err(format!("did you mean :{port}? That is every address of this machine")),
        "localhost" => {
            Err(format!("names are not looked up here; did you mean {}:{port}?", Ipv4Addr::LOCALHOST))
        }
        _ if host.parse::<Ipv6Addr>().is_ok() => {
            Err(format!("an IPv6 address stands in brackets; did you mean [{host}]:{port}?"))
        }
        _ => Err(format!("{host:?} is no IP address, and names are not looked up here; write IP:{port}")),
    }
}

/// A network, or one address.
impl Scalar for IpNet {
    fn read(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        let net: Self = text
            .parse()
            .map_err(|_| format!("{text:?} is no network; write one such as 10.0.0.0/8 or 192.0.2.7"))?;
        if net != net.trunc() {
            return Err(format!(
                "{text} has bits set below its prefix; did you mean {} or {}?",
                net.trunc(),
                net.addr()
            ));
        }
        Ok(net)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["10.0.0.0/8", "192.0.2.7"] })
    }
}

/// What is its own text and explains itself when it is not.
macro_rules! from_str {
    ($($of:ty: $schema:tt;)*) => {$(
        impl Scalar for $of {
            fn read(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|error| error.to_string())
            }

            fn schema() -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

from_str! {
    HostPattern: { "type": "string", "minLength": 1, "examples": ["shop.example.com", "*.example.com"] };
    PathPrefix: { "type": "string", "pattern": "^/" };
    EndpointUrl: { "type": "string", "pattern": "^(https?://|unix:/)", "examples": ["http://127.0.0.1:3001", "https://10.0.0.1:8443", "unix:/run/shop.sock"] };
    UserKey: { "type": "string", "pattern": "^((header|cookie|query):.+|client_addr)$" };
    UpgradeToken: { "type": "string", "pattern": "^[^/, ]+(/[^/, ]+)?$", "examples": ["websocket"] };
}

impl Scalar for HeaderName {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is not a header name"))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// The path and query of a health check.
#[derive(Clone, Debug)]
pub(super) struct CheckPath(pub(super) String);

impl Scalar for CheckPath {
    fn read(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("a path begins with a slash; did you mean /{text}?"));
        }
        text.parse::<http::uri::PathAndQuery>()
            .map(|path| Self(path.as_str().to_owned()))
            .map_err(|_| format!("{text:?} cannot be asked for; write a path such as /up"))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^/" })
    }
}

/// `on` or `off`, which YAML may take for a truth value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switch(pub(super) bool);

impl Scalar for Switch {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" | "on" => Ok(Self(true)),
            "false" | "off" => Ok(Self(false)),
            _ => Err("write off, or {key: value, …} for what differs".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["on", "off", true, false] })
    }
}

/// Where a secret is kept. Never the secret itself: a configuration is copied, shown and committed.
#[derive(Clone, Debug)]
pub(super) enum SecretSource {
    /// `file:PATH`.
    File(PathBuf),
    /// `env:NAME`.
    Env(String),
}

impl Scalar for SecretSource {
    fn read(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() && !path.contains('\0') => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(Self::Env(name.to_owned()))
            }
            _ => Err("a secret does not stand in the configuration; write file:PATH or env:NAME".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^(file|env):.+$" })
    }
}

/// What an endpoint or a client may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Variant,
    Visitor,
}

/// What access log lines are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogMode {
    Off,
    Sampled,
    All,
}

/// `none`, where leaving a key out would mean the default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nothing;

/// What people may be told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event(pub(super) &'static str);

/// What is one of a few words.
macro_rules! words {
    ($($of:ty: $($word:literal => $value:expr),*;)*) => {$(
        impl Scalar for $of {
            fn read(text: &str) -> Result<Self, String> {
                choose(text, &[$(($word, $value)),*])
            }

            fn schema() -> Schema {
                json_schema!({ "enum": [$($word),*] })
            }
        }
    )*};
}

words! {
    Variant: "blue" => Self::Blue, "green" => Self::Green;
    By: "cookie" => Self::Cookie, "user" => Self::User, "request" => Self::Request;
    Otherwise: "cookie" => Self::Cookie, "request" => Self::Request, "stable" => Self::Stable;
    WhenUnhealthy: "spill" => Self::Spill, "fail" => Self::Fail;
    Protocol: "http1" => Self::Http1, "h2" => Self::Http2;
    ForwardedHeader: "x-forwarded-for" => Self::XForwardedFor, "forwarded" => Self::Forwarded;
    ClientAuthMode: "required" => Self::Required, "optional" => Self::Optional;
    Fact: "variant" => Self::Variant, "visitor" => Self::Visitor;
    Compared: "status" => Self::Status, "latency" => Self::Latency, "body" => Self::Body;
    LogMode: "off" => Self::Off, "sampled" => Self::Sampled, "all" => Self::All;
    GuardMode: "rollback" => Self::Rollback, "notify" => Self::Notify, "off" => Self::Off;
    OnFail: "rollback" => Self::Rollback, "pause" => Self::Pause;
    OnInconclusive: "hold" => Self::Hold, "advance" => Self::Advance, "rollback" => Self::Rollback;
    AlertAction: "freeze" => Self::Freeze, "rollback" => Self::Rollback;
    Nothing: "none" => Self;
    Event: "start" => Self("start"), "stage" => Self("stage"), "suspect" => Self("suspect"),
        "pause" => Self("pause"), "rollback" => Self("rollback"), "promotion" => Self("promotion"),
        "keep-over" => Self("keep-over"), "progress" => Self("progress"),
        "launch" => Self("launch"), "launch-soon" => Self("launch-soon"), "launch-start" => Self("launch-start"), "launch-progress" => Self("launch-progress"), "launch-overdue" => Self("launch-overdue"), "launch-unattended" => Self("launch-unattended"), "launch-unwatched" => Self("launch-unwatched"), "launch-flags" => Self("launch-flags"), "launch-stop" => Self("launch-stop"), "launch-end" => Self("launch-end"), "launch-plan" => Self("launch-plan"), "launch-sign" => Self("launch-sign"), "launch-vote" => Self("launch-vote"), "launch-attended" => Self("launch-attended"), "launch-phase" => Self("launch-phase");
}

/// A method that is mirrored, or which ones are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MirrorMethod {
    Safe,
    All,
    Named(Method),
}

impl Scalar for MirrorMethod {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "safe" => return Ok(Self::Safe),
            "all" => return Ok(Self::All),
            "CONNECT" => {
                return Err("is never mirrored; neither is what asks for another protocol".to_owned());
            }
            _ => {}
        }
        let upper = text.to_ascii_uppercase();
        match Method::from_bytes(text.as_bytes()) {
            Ok(method) if upper == text => Ok(Self::Named(method)),
            Ok(_) if Method::from_bytes(upper.as_bytes()).is_ok() => Err(format!("did you mean {upper}?")),
            Ok(_) | Err(_) => Err("is no method; write safe, all, or methods such as [GET, POST]".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["safe", "all", "GET", "POST"] })
    }
}

/// What of two answers is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Status,
    Latency,
    Body,
}

pub(super) fn choose<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words = choices.iter().map(|(word, _)| *word);
    Err(match did_you_mean(text, words.clone()) {
        Some(word) => format!("did you mean {word}?"),
        None => format!("is none of {}", listed(words)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_and_no_name() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            match (ListenAddress::read(text), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.0.to_string(), expected),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text:?}: {got}"),
                (got, expected) => panic!("{text:?}: {got:?} instead of {expected:?}"),
            }
        }
        check(":8080", Ok("[::]:8080"));
        check(":0", Ok("[::]:0"));
        check("127.0.0.1:80", Ok("127.0.0.1:80"));
        check("[::1]:80", Ok("[::1]:80"));
        check("8080", Err("did you mean :8080?"));
        check("127.0.0.1", Err("did you mean 127.0.0.1:8080?"));
        check("::1", Err("did you mean [::1]:8080?"));
        check("*:80", Err("did you mean :80?"));
        check("localhost:80", Err("did you mean 127.0.0.1:80?"));
        check("web-1:80", Err("names are not looked up"));
        check(":99999", Err("ports end at 65535"));
        check(":+80", Err("is not an address"));
        check(":", Err("is not an address"));
        check("", Err("is not an address"));
        check("http://a:80", Err("names are not looked up"));
    }

    #[test]
    fn a_network_has_no_bits_below_its_prefix() {
        assert_eq!(IpNet::read("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(IpNet::read("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert!(IpNet::read("10.1.0.0/8").unwrap_err().contains("did you mean 10.0.0.0/8 or 10.1.0.0?"));
        for text in ["", "10.0.0.0/33", "10.0.0/8", "shop"] {
            assert!(IpNet::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_word_is_guessed_or_the_choices_are_told() {
        assert_eq!(By::read("user"), Ok(By::User));
        assert_eq!(By::read("cokie").unwrap_err(), "did you mean cookie?");
        assert_eq!(By::read("ip").unwrap_err(), "is none of cookie, user, request");
        assert_eq!(bool::read("ture").unwrap_err(), "did you mean true?");
    }
}
