//! What single values of a launch can mean.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use schemars::{Schema, json_schema};

use crate::clock::Timestamp;
use crate::config::plan::Name;
use crate::config::scalar::{Scalar, choose};
use crate::config::units::{parse_duration, show_duration};
use crate::launch;

const TEXT_BYTES_MAX: usize = 4096;
const SCRIPT_BYTES_MAX: usize = 64 * 1024;
const VARIABLE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}";

/// A name: of a launch, a phase, a role.
#[derive(Clone, Debug)]
pub(super) struct Word(pub(super) Arc<str>);

impl Scalar for Word {
    fn read(text: &str) -> Result<Self, String> {
        Name::read(text).map(|Name(name)| Self(name))
    }

    fn schema() -> Schema {
        let pattern = format!("^([A-Za-z0-9]|{VARIABLE})([A-Za-z0-9._-]|{VARIABLE})*$");
        json_schema!({ "type": ["string", "number"], "pattern": pattern })
    }
}

/// A text of one or more lines.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) Arc<str>);

impl Scalar for Text {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('\n');
        if text.trim().is_empty() {
            return Err("is empty; write something or leave the key out".to_owned());
        }
        plain(text, TEXT_BYTES_MAX).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// An argument of a command: may be empty.
#[derive(Clone, Debug)]
pub(super) struct Argument(pub(super) Arc<str>);

impl Scalar for Argument {
    fn read(text: &str) -> Result<Self, String> {
        plain(text, TEXT_BYTES_MAX).map(Self)
    }

    fn schema() -> Schema {
        Text::schema()
    }
}

/// What a shell runs.
#[derive(Clone, Debug)]
pub(super) struct Script(pub(super) Arc<str>);

impl Scalar for Script {
    fn read(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is empty; write what the shell has to run".to_owned());
        }
        plain(text, SCRIPT_BYTES_MAX).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

fn plain(text: &str, bytes_max: usize) -> Result<Arc<str>, String> {
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err("has control characters".to_owned());
    }
    if text.len() > bytes_max {
        return Err(format!("has {} bytes; {bytes_max} are enough", text.len()));
    }
    Ok(text.into())
}

/// How much hangs on a launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tier(pub(super) launch::Tier);

impl Scalar for Tier {
    fn read(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "high" | "gold" | "tier-1" | "tier1" | "1" => return Err("did you mean critical?".to_owned()),
            "medium" | "normal" | "silver" | "default" | "tier-2" | "tier2" | "2" => {
                return Err("did you mean standard?".to_owned());
            }
            "low" | "bronze" | "tier-3" | "tier3" | "3" => return Err("did you mean internal?".to_owned()),
            _ => {}
        }
        let tiers = [
            ("critical", launch::Tier::Critical),
            ("standard", launch::Tier::Standard),
            ("internal", launch::Tier::Internal),
        ];
        choose(text, &tiers).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["critical", "standard", "internal"] })
    }
}

/// A moment with its time zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub(super) Timestamp);

impl Scalar for Moment {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self(at));
        }
        let none =
            || format!("{text:?} is no moment; write date, time and time zone, such as 2026-12-20 14:00 UTC");
        let (day, rest) = text.split_once(['T', ' ']).ok_or_else(none)?;
        let (time, zone) = match rest.trim().split_once(char::is_whitespace) {
            Some((time, zone)) => (time, zone.trim()),
            None => (rest.trim(), ""),
        };
        let date: Date = day.parse().map_err(|_| none())?;
        let time: Time = time.parse().map_err(|_| none())?;
        if zone.is_empty() {
            return Err(format!("in which time zone? Write {text} UTC, or {text} Europe/Berlin"));
        }
        if zone.starts_with(['+', '-']) {
            return format!("{date}T{time}{zone}").parse().map(Self).map_err(|_| none());
        }
        let zone = match zone {
            "UTC" | "GMT" | "Z" => TimeZone::UTC,
            _ => TimeZone::get(zone).map_err(|_| {
                format!("{zone:?} is no time zone; write one of the IANA database, such as Europe/Berlin")
            })?,
        };
        let at = zone
            .to_ambiguous_timestamp(date.to_datetime(time))
            .unambiguous()
            .map_err(|_| format!("{text} is no moment, or two: clocks are changed there; write it in UTC"))?;
        Ok(Self(Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "examples": ["2026-12-20 14:00 UTC", "2026-12-20 14:00 Europe/Berlin", "2026-12-20T14:00:00Z"],
        })
    }
}

/// How long before something: `-24h`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due(pub(super) Duration);

impl Scalar for Due {
    fn read(text: &str) -> Result<Self, String> {
        match text.trim().strip_prefix(['-', '−']) {
            Some(time) => parse_duration(time.trim()).map(Self),
            None => Err(match parse_duration(text) {
                Ok(time) => format!(
                    "counts back from the opening of the window; did you mean -{}?",
                    show_duration(time)
                ),
                Err(_) => format!("{text:?} is no time before the window opens; write for instance -24h"),
            }),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^- ?[0-9]+ ?(ms|s|m|h|d)$", "examples": ["-24h", "-1h"] })
    }
}

/// The time that rates are of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over(pub(super) Duration);

impl Scalar for Over {
    fn read(text: &str) -> Result<Self, String> {
        match parse_duration(text)?.as_millis() {
            10_000 => Ok(Self(Duration::from_secs(10))),
            60_000 => Ok(Self(Duration::from_secs(60))),
            _ => Err("rates are kept of 10s and of 1m; write one of them".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["10s", "1m", "60s"] })
    }
}

/// Whether a signature needs something that proves it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence(pub(super) bool);

impl Scalar for Evidence {
    fn read(text: &str) -> Result<Self, String> {
        let words = [("required", true), ("optional", false), ("true", true), ("false", false)];
        choose(text, &words).map(Self).map_err(|why| {
            if why.starts_with("is none of") { "is neither required nor optional".to_owned() } else { why }
        })
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["required", "optional", true, false] })
    }
}

/// A dialect of SQL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect(pub(super) &'static str);

impl Scalar for Dialect {
    fn read(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "postgres" | "pg" | "pgsql" => return Err("did you mean postgresql?".to_owned()),
            "mariadb" => return Err("did you mean mysql?".to_owned()),
            "sqlite3" => return Err("did you mean sqlite?".to_owned()),
            _ => {}
        }
        let dialects = ["generic", "sqlite", "postgresql", "mysql"].map(|name| (name, name));
        choose(text, &dialects).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["generic", "sqlite", "postgresql", "mysql"] })
    }
}

/// Whole numbers within bounds.
macro_rules! whole {
    ($($(#[$doc:meta])* $name:ident($of:ty) $least:literal to $most:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name(pub(super) $of);

        impl Scalar for $name {
            fn read(text: &str) -> Result<Self, String> {
                match text.trim().parse::<$of>() {
                    Ok(number) if ($least..=$most).contains(&number) => Ok(Self(number)),
                    _ => Err(format!("{text:?} is not a whole number from {} to {}", $least, $most)),
                }
            }

            fn schema() -> Schema {
                json_schema!({ "type": "integer", "minimum": $least, "maximum": $most })
            }
        }
    )*};
}

whole! {
    /// Further attempts.
    Retries(u32) 0 to 100;
    /// Requests a second.
    Rps(u32) 1 to 1000;
    /// Answers.
    Hits(u64) 1 to 100_000;
}

/// Milliseconds as a bare number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Millis(pub(super) Duration);

impl Scalar for Millis {
    fn read(text: &str) -> Result<Self, String> {
        match text.trim().parse::<u32>() {
            Ok(0) => Err("no time at all; write for instance 30000".to_owned()),
            Ok(millis) => Ok(Self(Duration::from_millis(millis.into()))),
            Err(_) => Err(match parse_duration(text) {
                Ok(time) => {
                    format!("is in milliseconds, without a unit; did you mean {}?", time.as_millis())
                }
                Err(_) => format!("{text:?} is no number of milliseconds; write for instance 30000"),
            }),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    }
}

/// A share as a fraction or a percentage: `0.02`, `2%`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fraction(pub(super) f64);

impl Scalar for Fraction {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, by) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), 100.0),
            None => (text, 1.0),
        };
        let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match number.parse::<f64>() {
            Ok(number) if is_plain && number / by <= 1.0 => Ok(Self(number / by)),
            Ok(number) if is_plain && number <= 100.0 => {
                Err(format!("is a fraction of 1; did you mean {}, which is {text}%?", number / 100.0))
            }
            _ => Err(format!("{text:?} is no share; write a fraction such as 0.02, or 2%")),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 1 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?%$" },
        ] })
    }
}

/// A kind of validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validator {
    HttpStatus,
    SchemaCompatibility,
    ImageDigest,
    FeatureFlagEvaluation,
    Command,
    Prometheus,
    Tcp,
    Policy,
}

impl Validator {
    const ALL: [(&str, Self); 8] = [
        ("schema_compatibility", Self::SchemaCompatibility),
        ("image_digest", Self::ImageDigest),
        ("http_status", Self::HttpStatus),
        ("feature_flag_evaluation", Self::FeatureFlagEvaluation),
        ("command", Self::Command),
        ("prometheus", Self::Prometheus),
        ("tcp", Self::Tcp),
        ("policy", Self::Policy),
    ];
}

impl Scalar for Validator {
    fn read(text: &str) -> Result<Self, String> {
        choose(text, &Self::ALL).map_err(|why| format!("there is no validator {text}; {why}"))
    }

    fn schema() -> Schema {
        json_schema!({ "enum": Self::ALL.map(|(word, _)| word) })
    }
}
