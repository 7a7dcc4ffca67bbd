//! Times on the command line: `300ms`, `10s`, `5m`, `1h`, `7d`.
//!
//! A bare number is refused, as for shares: seconds and milliseconds have both been meant.

use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A whole number and its unit, at most a year.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("write a whole number and its unit, such as 300ms or 5s".to_owned());
    }
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("a time needs its unit; did you mean {number}s?")),
        _ => return Err("the units of time are ms, s, m, h and d".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .filter(|time| *time <= YEAR)
        .ok_or_else(|| "that is longer than a year".to_owned())
}

/// A time for people, in its largest unit that leaves no rest: `60s` is `1 min`.
pub(super) fn show(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    match units.iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", millis / unit),
        None => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_its_unit() {
        #[track_caller]
        fn check(text: &str, expected: Result<(u64, &str), &str>) {
            match expected {
                Ok((millis, shown)) => {
                    let time = parse(text).unwrap();
                    assert_eq!((time, show(time).as_str()), (Duration::from_millis(millis), shown), "{text}");
                }
                Err(message) => assert!(parse(text).unwrap_err().contains(message), "{text}"),
            }
        }
        check("0s", Ok((0, "0 ms")));
        check("300ms", Ok((300, "300 ms")));
        check("1500ms", Ok((1_500, "1500 ms")));
        check("60s", Ok((60_000, "1 min")));
        check("90s", Ok((90_000, "90 s")));
        check("1h", Ok((3_600_000, "1 h")));
        check("7d", Ok((604_800_000, "7 d")));
        check("365d", Ok((31_536_000_000, "365 d")));
        check("366d", Err("longer than a year"));
        check("18446744073709551615d", Err("longer than a year"));
        check("99999999999999999999s", Err("longer than a year"));
        check("5", Err("did you mean 5s?"));
        check("5 s", Err("units of time"));
        check("5S", Err("units of time"));
        for text in ["", "s", "-5s", "+5s", "٥s"] {
            check(text, Err("a whole number and its unit"));
        }
    }
}
