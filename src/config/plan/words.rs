//! What single values of a plan can mean.

use std::sync::Arc;
use std::time::Duration;

use schemars::{Schema, json_schema};

use crate::config::meant::{did_you_mean, listed};
use crate::config::scalar::Scalar;
use crate::config::units::parse_duration;
use crate::rollout::{Compare, Hold, Window};
use crate::traffic::Weight;

const NAME_CHARS_MAX: usize = 63;
const TEXT_BYTES_MAX: usize = 4096;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A name that people choose: of a plan, a tier, a hook, a metric.
#[derive(Clone, Debug)]
pub(in crate::config) struct Name(pub(in crate::config) Arc<str>);

impl Scalar for Name {
    fn read(text: &str) -> Result<Self, String> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !begins || text.len() > NAME_CHARS_MAX || !text.bytes().all(letters) {
            return Err(format!(
                "a name has letters, digits, ., _ and -, at most {NAME_CHARS_MAX}, and begins with a letter or digit"
            ));
        }
        Ok(Self(text.into()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number"], "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" })
    }
}

/// A name made of any text: what names may not have becomes `-`.
pub(in crate::config) fn name_of(text: &str) -> Arc<str> {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = text.chars().map(|c| if letters(c) { c } else { '-' }).collect();
    let name: String = name.trim_start_matches(['.', '_', '-']).chars().take(NAME_CHARS_MAX).collect();
    if name.is_empty() { "rollout".into() } else { name.into() }
}

/// A longer text, also of several lines: a query, an argument.
#[derive(Clone, Debug)]
pub(in crate::config) struct Text(pub(in crate::config) Arc<str>);

impl Scalar for Text {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('\n');
        if text.trim().is_empty() {
            return Err("is empty; write something or leave the key out".to_owned());
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err("has control characters".to_owned());
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("has {} bytes; {TEXT_BYTES_MAX} are enough", text.len()));
        }
        Ok(Self(text.into()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

/// A share that is not a weight: `0.5%` is 0.005.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Share(pub(in crate::config) f64);

impl Scalar for Share {
    fn read(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        match trimmed.strip_suffix('%').map(|number| (number, hundredths(number))) {
            Some((_, Some(share))) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            Some((_, Some(_))) => Err(format!("{text} is outside 0% to 100%")),
            None if number(trimmed).is_some() => {
                Err(format!("a share needs its unit; did you mean {trimmed}%?"))
            }
            Some((_, None)) | None => {
                Err(format!("{text:?} is not a share; write a percentage such as 0.5%"))
            }
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?%$", "examples": ["0.5%"] })
    }
}

/// A share, or `none`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Limit(pub(in crate::config) Option<f64>);

impl Scalar for Limit {
    fn read(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        Share::read(text).map(|Share(share)| Self(Some(share)))
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [Share::schema(), { "const": "none" }] })
    }
}

/// How many times as much: more than 0.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Ratio(pub(in crate::config) f64);

impl Scalar for Ratio {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(ratio) = number(text).filter(|ratio| *ratio > 0.0) {
            return Ok(Self(ratio));
        }
        let meant = text
            .strip_suffix('%')
            .and_then(hundredths)
            .or_else(|| text.strip_suffix(['x', '×']).and_then(|text| number(text.trim())));
        Err(match meant.filter(|ratio| *ratio > 0.0) {
            Some(meant) => format!("a ratio has no unit; did you mean {meant}?"),
            None => format!("{text:?} is no ratio; write a number such as 1.1"),
        })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0 })
    }
}

/// A share as forms have it that mean percent by a bare number: `5`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Percent(pub(in crate::config) Weight);

impl Scalar for Percent {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let with_unit = if text.ends_with('%') { text.to_owned() } else { format!("{text}%") };
        with_unit.parse().map(Self).map_err(|error: crate::traffic::ShareError| error.to_string())
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 100 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,3}0*)? ?%$" },
        ] })
    }
}

impl Scalar for Hold {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text {
            "endless" => return Ok(Self::Endless),
            "infinity" | "infinite" | "forever" | "inf" => {
                return Err("did you mean endless?".to_owned());
            }
            _ => {}
        }
        let Some(rest) = text.strip_prefix("until").map(str::trim) else {
            return parse_duration(text).map(Self::For).map_err(|why| {
                if why.contains("is not a time") {
                    format!("{text:?} is no hold; write 15m, until 09:00 Europe/Berlin, or endless")
                } else {
                    why
                }
            });
        };
        let Some((time, zone)) = rest.split_once(char::is_whitespace) else {
            return Err(format!("in which time zone? Write until {rest} Europe/Berlin, or UTC"));
        };
        let minute_of_day = clock_time(time)
            .filter(|minute| *minute < 1440)
            .ok_or_else(|| format!("{time:?} is no time of day; write HH:MM, such as 09:00"))?;
        let Zone(zone) = Zone::read(zone.trim())?;
        Ok(Self::Until { minute_of_day, zone })
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]+ ?(ms|s|m|h|d)|endless|until [0-9]{1,2}:[0-9]{2} .+)$",
            "examples": ["15m", "until 09:00 Europe/Berlin", "endless"],
        })
    }
}

/// A duration of the form with percentages: `30m`, or `infinity`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Lasting {
    For(Duration),
    Infinity,
}

impl Scalar for Lasting {
    fn read(text: &str) -> Result<Self, String> {
        match text.trim() {
            "infinity" | "Infinity" | "infinite" | ".inf" | "forever" | "endless" => Ok(Self::Infinity),
            text => compound(text).map(Self::For),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["30m", "infinity"] })
    }
}

/// A duration as Go writes it: `1m30s`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct GoDuration(pub(in crate::config) Duration);

impl Scalar for GoDuration {
    fn read(text: &str) -> Result<Self, String> {
        compound(text.trim()).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["1m", "1m30s"] })
    }
}

/// An IANA time zone.
#[derive(Clone, Debug)]
pub(in crate::config) struct Zone(pub(in crate::config) Arc<str>);

impl Scalar for Zone {
    fn read(text: &str) -> Result<Self, String> {
        match jiff::tz::TimeZone::get(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err(format!(
                "{text:?} is no time zone; write one of the IANA database, such as Europe/Berlin"
            )),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["Europe/Berlin", "UTC"] })
    }
}

/// A date: `2026-12-24`.
#[derive(Clone, Debug)]
pub(in crate::config) struct Date(pub(in crate::config) Arc<str>);

impl Scalar for Date {
    fn read(text: &str) -> Result<Self, String> {
        match text.parse::<jiff::civil::Date>() {
            Ok(date) if date.to_string() == text => Ok(Self(text.into())),
            _ => Err(format!("{text:?} is no date; write YYYY-MM-DD, such as 2026-12-24")),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" })
    }
}

/// `Mon-Fri 09:00-17:00`, `Sat,Sun`, `22:00-06:00`.
impl Scalar for Window {
    fn read(text: &str) -> Result<Self, String> {
        let (mut days, mut times) = (None, None);
        for part in text.split_whitespace() {
            let slot = if part.contains(':') { &mut times } else { &mut days };
            if slot.replace(part).is_some() {
                return Err(format!("{text:?} is no window; write one such as Mon-Fri 09:00-17:00"));
            }
        }
        if days.is_none() && times.is_none() {
            return Err("is empty; write a window such as Mon-Fri 09:00-17:00".to_owned());
        }
        let days = days.map(days_of).transpose()?.unwrap_or_default();
        let Some(times) = times else { return Ok(Self { days, from: 0, to: 1440 }) };
        let (from, to) = times
            .split_once(['-', '–'])
            .and_then(|(from, to)| Some((clock_time(from)?, clock_time(to)?)))
            .filter(|(from, _)| *from < 1440)
            .ok_or_else(|| format!("{times:?} is no time of day; write from and to, such as 09:00-17:00"))?;
        if from == to {
            return Err(format!("{times} never opens; write 00:00-24:00 for the whole day"));
        }
        Ok(Self { days, from, to: if to == 0 { 1440 } else { to } })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["Mon-Fri 09:00-17:00", "Sat,Sun"] })
    }
}

fn days_of(text: &str) -> Result<Vec<u8>, String> {
    let day = |name: &str| {
        let at = DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
        at.and_then(|at| u8::try_from(at).ok()).ok_or_else(|| match did_you_mean(name, DAYS) {
            Some(day) => format!("{name:?} is no day; did you mean {day}?"),
            None => format!("{name:?} is no day; days are {}", listed(DAYS)),
        })
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once(['-', '–']).unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7;
        days.extend((0..=count).map(|after| (first + after) % 7));
    }
    days.sort_unstable();
    days.dedup();
    Ok(days)
}

/// Status codes: `200-299`, `201`, `2xx`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Statuses(pub(in crate::config) u16, pub(in crate::config) u16);

impl Scalar for Statuses {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        let class = text.strip_suffix("xx").and_then(|class| code(&format!("{class}00")));
        let (from, to) = match (class, text.split_once(['-', '–'])) {
            (Some(class), _) => (Some(class), Some(class + 99)),
            (None, Some((from, to))) => (code(from), code(to)),
            (None, None) => (code(text), code(text)),
        };
        match (from, to) {
            (Some(from), Some(to)) if from <= to => Ok(Self(from, to)),
            _ => Err(format!("{text:?} is no status; write 200-299, 2xx or 201")),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "examples": ["200-299", "2xx", 201] })
    }
}

/// A comparison: `< 0.5%`, `>= stable * 0.95`. `<` and `<=` mean the same: no measurement is that exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) struct Threshold {
    pub(in crate::config) at_most: bool,
    pub(in crate::config) than: Than,
}

/// What is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) enum Than {
    /// A bare number.
    Number(f64),
    /// A percentage, as a share.
    Share(f64),
    /// A time.
    Time(Duration),
    /// So many times stable's value.
    Stable(f64),
}

impl Scalar for Threshold {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (at_most, rest) = [("<=", true), (">=", false), ("≤", true), ("≥", false), ("<", true), (">", false)]
            .into_iter()
            .find_map(|(sign, at_most)| Some((at_most, text.strip_prefix(sign)?.trim())))
            .ok_or_else(|| {
                format!(
                    "{text:?} begins with none of <, <=, >, >=; an unquoted > at its beginning is lost to YAML, so \
                     put it in quotes: \"> {text}\""
                )
            })?;
        let than = than(rest).ok_or_else(|| {
            format!("{rest:?} is nothing to compare with; write a number, 0.5%, or stable * 0.95")
        })?;
        Ok(Self { at_most, than })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^ *(<=?|>=?|≤|≥)", "examples": ["< 0.5%", ">= stable * 0.95"] })
    }
}

impl Threshold {
    /// As a metric gate compares: numbers only.
    pub(in crate::config) fn compare(self) -> Result<Compare, String> {
        Ok(match (self.at_most, self.than) {
            (true, Than::Number(value) | Than::Share(value)) => Compare::AtMost(value),
            (false, Than::Number(value) | Than::Share(value)) => Compare::AtLeast(value),
            (true, Than::Stable(ratio)) => Compare::AtMostStable(ratio),
            (false, Than::Stable(ratio)) => Compare::AtLeastStable(ratio),
            (_, Than::Time(_)) => {
                return Err(
                    "metrics are plain numbers; leave the unit out and use that of the query".to_owned()
                );
            }
        })
    }
}

fn than(text: &str) -> Option<Than> {
    let stable = |text: &str| matches!(text.trim(), "stable" | "baseline" | "control" | "primary");
    let factor = |text: &str| {
        let text = text.trim();
        text.strip_suffix('%').map_or_else(|| number(text), hundredths).filter(|factor| *factor > 0.0)
    };
    if stable(text) {
        return Some(Than::Stable(1.0));
    }
    if let Some((a, b)) = text.split_once(['*', '×']) {
        return match (stable(a), stable(b)) {
            (true, false) => factor(b).map(Than::Stable),
            (false, true) => factor(a).map(Than::Stable),
            _ => None,
        };
    }
    if let Some(share) = text.strip_suffix('%') {
        return hundredths(share).map(Than::Share);
    }
    number(text).map(Than::Number).or_else(|| parse_duration(text).ok().map(Than::Time))
}

/// A plain decimal number.
pub(in crate::config) fn number(text: &str) -> Option<f64> {
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
    text.parse::<f64>().ok().filter(|value| value.is_finite() && text.chars().all(plain))
}

/// A hundredth of a number, to the bit what one would write as a fraction.
fn hundredths(text: &str) -> Option<f64> {
    let text = text.trim();
    number(text)?;
    format!("{text}e-2").parse().ok()
}

/// Minutes since midnight, 24:00 included.
fn clock_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| {
        let fits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if fits { text.parse::<u16>().ok() } else { None }
    };
    let (hour, minute) = (digits(hour)?, digits(minute).filter(|minute| *minute < 60)?);
    Some(hour * 60 + minute).filter(|minutes| *minutes <= 1440)
}

/// `90s`, `1m30s`.
fn compound(text: &str) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut parts = 0;
    while let Some(unit) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let end = rest[unit..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |end| unit + end);
        total = total.saturating_add(parse_duration(&rest[..end])?);
        rest = &rest[end..];
        parts += 1;
    }
    if parts > 0 && rest.is_empty() { Ok(total) } else { parse_duration(text).map(|_| total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_has_a_sign_and_something_to_compare_with() {
        #[track_caller]
        fn check(text: &str, expected: Result<(bool, Than), &str>) {
            match (Threshold::read(text), expected) {
                (Ok(got), Ok((at_most, than))) => assert_eq!(got, Threshold { at_most, than }, "{text:?}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text:?}: {got}"),
                (got, expected) => panic!("{text:?}: {got:?} instead of {expected:?}"),
            }
        }
        check("< 0.5%", Ok((true, Than::Share(0.005))));
        check(">=99.5 %", Ok((false, Than::Share(0.995))));
        check("<= baseline * 1.1", Ok((true, Than::Stable(1.1))));
        check(">= 0.95 * stable", Ok((false, Than::Stable(0.95))));
        check(">= stable * 95%", Ok((false, Than::Stable(0.95))));
        check("< stable", Ok((true, Than::Stable(1.0))));
        check("< 200ms", Ok((true, Than::Time(Duration::from_millis(200)))));
        check("> -3.5", Ok((false, Than::Number(-3.5))));
        check("10%", Err("put it in quotes: \"> 10%\""));
        check("10%\n", Err("put it in quotes: \"> 10%\""));
        check("< baseline + 1%", Err("is nothing to compare with"));
        check("< baseline * -1", Err("is nothing to compare with"));
        check("< nan", Err("is nothing to compare with"));
        check("< 1e999", Err("is nothing to compare with"));
        check("<", Err("is nothing to compare with"));
    }

    #[test]
    fn a_hold_is_a_time_a_moment_or_endless() {
        #[track_caller]
        fn check(text: &str, expected: Result<Hold, &str>) {
            match (Hold::read(text), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text:?}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text:?}: {got}"),
                (got, expected) => panic!("{text:?}: {got:?} instead of {expected:?}"),
            }
        }
        let until = |minute_of_day| Hold::Until { minute_of_day, zone: "Europe/Berlin".into() };
        check("15m", Ok(Hold::For(Duration::from_secs(900))));
        check("endless", Ok(Hold::Endless));
        check("until 09:00 Europe/Berlin", Ok(until(540)));
        check("until 0:00 Europe/Berlin", Ok(until(0)));
        check("until 23:59 Europe/Berlin", Ok(until(1439)));
        check("until 24:00 UTC", Err("no time of day"));
        check("until 9 UTC", Err("no time of day"));
        check("until 09:00", Err("in which time zone?"));
        check("until 09:00 Berlin", Err("no time zone"));
        check("15", Err("did you mean 15s?"));
        check("infinity", Err("did you mean endless?"));
        check("a while", Err("write 15m, until 09:00 Europe/Berlin, or endless"));
    }

    #[test]
    fn a_window_has_days_or_times_and_opens() {
        #[track_caller]
        fn check(text: &str, expected: Result<(&[u8], u16, u16), &str>) {
            match (Window::read(text), expected) {
                (Ok(got), Ok((days, from, to))) => {
                    assert_eq!(got, Window { days: days.to_vec(), from, to }, "{text:?}");
                }
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text:?}: {got}"),
                (got, expected) => panic!("{text:?}: {got:?} instead of {expected:?}"),
            }
        }
        check("Mon-Fri 09:00-17:00", Ok((&[0, 1, 2, 3, 4], 540, 1020)));
        check("sat,Sun", Ok((&[5, 6], 0, 1440)));
        check("Sat-Mon 22:00-06:00", Ok((&[0, 5, 6], 1320, 360)));
        check("22:00-00:00", Ok((&[], 1320, 1440)));
        check("00:00-24:00", Ok((&[], 0, 1440)));
        check("Mon 09:00-09:00", Err("never opens"));
        check("Mon-Fry", Err("did you mean Fri?"));
        check("weekdays 09:00-17:00", Err("is no day"));
        check("09:00", Err("no time of day"));
        check("25:00-26:00", Err("no time of day"));
        check("", Err("is empty"));
        check("Mon Tue 09:00-10:00", Err("is no window"));
    }

    #[test]
    fn numbers_have_the_units_that_they_need() {
        assert_eq!(Share::read("0.5%").unwrap().0, 0.005);
        assert_eq!(Share::read("99.9%").unwrap().0, 0.999);
        assert!(Share::read("5").unwrap_err().contains("did you mean 5%?"));
        assert!(Share::read("101%").unwrap_err().contains("outside"));
        assert_eq!(Ratio::read("1.10").unwrap().0, 1.1);
        assert!(Ratio::read("110%").unwrap_err().contains("did you mean 1.1?"));
        assert!(Ratio::read("1.2x").unwrap_err().contains("did you mean 1.2?"));
        assert!(Ratio::read("0").is_err() && Ratio::read("-1").is_err() && Ratio::read("inf").is_err());
        assert_eq!(Percent::read("5").unwrap().0, Weight::from_percent(5).unwrap());
        assert_eq!(Percent::read("0.1").unwrap().0.to_string(), "0.1%");
        assert!(Percent::read("500").is_err());
        assert_eq!(GoDuration::read("1m30s").unwrap().0, Duration::from_secs(90));
        for text in ["", "1", "s", "1m30", "-1m", "1.5m"] {
            assert!(GoDuration::read(text).is_err(), "{text:?}");
        }
        for (text, from, to) in [("200-299", 200, 299), ("2xx", 200, 299), ("201", 201, 201)] {
            let Statuses(got_from, got_to) = Statuses::read(text).unwrap();
            assert_eq!((got_from, got_to), (from, to));
        }
        for text in ["", "99", "299-200", "9xx", "2x"] {
            assert!(Statuses::read(text).is_err(), "{text:?}");
        }
        assert!(Date::read("2026-12-24").is_ok());
        assert!(Date::read("2026-02-30").is_err() && Date::read("24.12.2026").is_err());
    }

    #[test]
    fn any_version_makes_a_name() {
        assert_eq!(&*name_of("2.0.1"), "2.0.1");
        assert_eq!(&*name_of("feat/new checkout"), "feat-new-checkout");
        assert_eq!(&*name_of("--"), "rollout");
        assert_eq!(name_of(&"x".repeat(100)).len(), 63);
    }
}
