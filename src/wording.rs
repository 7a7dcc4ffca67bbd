//! How figures are written for people, and how text from outside is made fit to be shown.
//!
//! One way for all of them, so that the same figure reads the same in a sentence of the daemon's, in a table and in a report.

use std::time::Duration;

/// What stands where there is nothing to measure.
pub const NOTHING: &str = "–";

/// `text` without anything that a terminal would obey: control characters are left out, line breaks and
/// tabs become spaces, and so do the marks that reverse the direction of writing.
pub fn printable(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            c if c.is_control() => None,
            c => Some(c),
        })
        .collect()
}

/// A length of time as people say it, in its two largest units: `45 s`, `15 min`, `1 h 30 min`, `2 d`.
pub fn span(length: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let Some(at) = UNITS.iter().position(|(unit, _)| ms >= *unit) else {
        return if ms == 0 { "0 s".to_owned() } else { format!("{ms} ms") };
    };
    let (unit, name) = UNITS[at];
    let large = format!("{} {name}", ms / unit);
    match UNITS.get(at + 1) {
        Some((smaller, name)) if ms % unit >= *smaller => format!("{large} {} {name}", ms % unit / smaller),
        _ => large,
    }
}

/// A count with its thousands apart: `1,200`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole, 0 to 1: one decimal, two below one percent, and never a zero that is none.
pub fn ratio(part: Option<f64>) -> String {
    let Some(percent) = part.map(|part| part * 100.0) else { return NOTHING.to_owned() };
    match percent {
        0.0 => "0 %".to_owned(),
        p if p < 0.01 => "<0.01 %".to_owned(),
        p if p < 0.995 => format!("{p:.2} %"),
        p if p < 100.0 => format!("{:.1} %", p.min(99.9)),
        p => format!("{p:.0} %"),
    }
}

/// A time in milliseconds: three digits where there are as many.
pub fn millis(time: Option<f64>) -> String {
    match time {
        None => NOTHING.to_owned(),
        Some(ms) if ms >= 10_000.0 => format!("{:.1} s", ms / 1000.0),
        Some(ms) if ms >= 100.0 => format!("{ms:.0} ms"),
        Some(ms) if ms >= 10.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.2} ms"),
    }
}

/// A rate by the second: one decimal below a hundred.
pub fn rate(rate: f64) -> String {
    if rate >= 100.0 || rate == 0.0 { grouped(rate.round() as u64) } else { format!("{rate:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_matter() {
        let rows = [
            (ratio(None), "–"),
            (ratio(Some(0.0)), "0 %"),
            (ratio(Some(0.000_01)), "<0.01 %"),
            (ratio(Some(0.001_2)), "0.12 %"),
            (ratio(Some(0.009_96)), "1.0 %"),
            (ratio(Some(0.249_6)), "25.0 %"),
            (ratio(Some(0.999_99)), "99.9 %"),
            (ratio(Some(1.0)), "100 %"),
            (millis(None), "–"),
            (millis(Some(0.213)), "0.21 ms"),
            (millis(Some(12.34)), "12.3 ms"),
            (millis(Some(123.4)), "123 ms"),
            (millis(Some(12_345.0)), "12.3 s"),
            (rate(0.0), "0"),
            (rate(7.25), "7.2"),
            (rate(312.4), "312"),
            (grouped(1_234_567), "1,234,567"),
            (grouped(100), "100"),
        ];
        for (got, expected) in rows {
            assert_eq!(got, expected);
        }
    }
}
