//! Numbers with their units: `300ms`, `64KiB`.
//!
//! A bare number is refused: half of the world's proxies mean seconds by it, the other half milliseconds.

use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A time as people write it: `300ms`, `2s`, `5m`, `1h` or `7d`, a whole number and its unit, at most a year. The
/// error says what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    time_within(text, YEAR, "a year")
}

/// As [`parse_duration`], of at most ten years.
pub(super) fn long_time(text: &str) -> Result<Duration, String> {
    time_within(text, YEAR * 10, "ten years")
}

fn time_within(text: &str, most: Duration, in_words: &str) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or_else(|| {
        format!("{text:?} is not a time; write a whole number and its unit, such as 300ms or 5s")
    })?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        "" => return Err(format!("a time needs its unit; did you mean {number}s?")),
        other => return Err(format!("{other:?} is not a unit of time; use ms, s, m, h or d")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .filter(|time| *time <= most)
        .ok_or_else(|| format!("{text} is longer than {in_words}"))
}

/// `512B`, `64KiB`, `10MiB` or `1GiB`, in bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)
        .ok_or_else(|| format!("{text:?} is not a size; write a whole number and its unit, such as 64KiB"))?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err(format!("a size needs its unit; did you mean {number}KiB or {number}B?")),
        other => {
            let meant = match other.to_ascii_lowercase().as_str() {
                "b" | "byte" | "bytes" => "B",
                "k" | "kb" | "kib" => "KiB",
                "m" | "mb" | "mib" => "MiB",
                "g" | "gb" | "gib" => "GiB",
                _ => return Err(format!("{other:?} is not a unit of size; use B, KiB, MiB or GiB")),
            };
            return Err(format!("{other} is not a unit of size; did you mean {number}{meant}?"));
        }
    };
    let number: Option<u64> = number.parse().ok();
    number.and_then(|number| number.checked_mul(factor)).ok_or_else(|| format!("{text} is too large"))
}

/// Digits, then a unit of letters, with or without a space between them.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    (!number.is_empty() && unit.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some((number, unit))
}

/// A time as one writes it in the file.
pub fn show_duration(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// A size as one writes it in the file.
pub(super) fn show_bytes(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_its_unit() {
        #[track_caller]
        fn check(text: &str, expected: Result<u64, &str>) {
            match (parse_duration(text), expected) {
                (Ok(got), Ok(millis)) => assert_eq!(got, Duration::from_millis(millis), "{text:?}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text:?}: {got}"),
                (got, expected) => panic!("{text:?}: {got:?} instead of {expected:?}"),
            }
        }
        check("0s", Ok(0));
        check("300ms", Ok(300));
        check("2s", Ok(2_000));
        check("5 m", Ok(300_000));
        check("1h", Ok(3_600_000));
        check("8760h", Ok(YEAR.as_millis() as u64));
        check("8761h", Err("longer than a year"));
        check("99999999999999999999s", Err("longer than a year"));
        check("18446744073709551615h", Err("longer than a year"));
        check("5", Err("did you mean 5s?"));
        check("5sec", Err("use ms, s, m, h or d"));
        check("5S", Err("use ms, s, m, h or d"));
        check("7d", Ok(7 * 86_400_000));
        check("5w", Err("use ms, s, m, h or d"));
        for text in ["", "s", "-5s", "1.5s", "5s5", "1e3s", "٥s", "5ß"] {
            check(text, Err("is not a time"));
        }
    }

    #[test]
    fn a_size_is_written_with_its_binary_unit() {
        #[track_caller]
        fn check(text: &str, expected: Result<u64, &str>) {
            match (bytes(text), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text:?}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text:?}: {got}"),
                (got, expected) => panic!("{text:?}: {got:?} instead of {expected:?}"),
            }
        }
        check("512B", Ok(512));
        check("64KiB", Ok(65_536));
        check("10 MiB", Ok(10 << 20));
        check("1GiB", Ok(1 << 30));
        check("64KB", Err("did you mean 64KiB?"));
        check("64k", Err("did you mean 64KiB?"));
        check("64mib", Err("did you mean 64MiB?"));
        check("64", Err("did you mean 64KiB or 64B?"));
        check("64parsecs", Err("use B, KiB, MiB or GiB"));
        check("18446744073709551615GiB", Err("too large"));
        for text in ["", "KiB", "-1KiB", "1.5MiB"] {
            check(text, Err("is not a size"));
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for millis in [0, 1, 999, 1000, 1500, 60_000, 61_000, 3_600_000, 5_400_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(time)), Ok(time));
        }
        for size in [0, 1, 1023, 1024, 1025, 65_536, 1 << 20, 3 << 30] {
            assert_eq!(bytes(&show_bytes(size)), Ok(size));
        }
    }
}
