//! Figures as people read them: `25 %`, `12.1 ms`, `1,204`.

use crate::rollout::grouped;
use crate::traffic::Weight;

/// What stands where there is nothing to measure.
pub(super) const NOTHING: &str = "–";

/// A configured share, exact: `0.001 %`.
pub(super) fn share(weight: Weight) -> String {
    weight.to_string().replace('%', " %")
}

/// A part of a whole, 0 to 1: one decimal, two below one percent, and never a zero that is none.
pub(super) fn ratio(part: Option<f64>) -> String {
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
pub(super) fn millis(time: Option<f64>) -> String {
    match time {
        None => NOTHING.to_owned(),
        Some(ms) if ms >= 10_000.0 => format!("{:.1} s", ms / 1000.0),
        Some(ms) if ms >= 100.0 => format!("{ms:.0} ms"),
        Some(ms) if ms >= 10.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.2} ms"),
    }
}

/// How much longer green takes than blue: `+0.80 ms (+7 %)`.
pub(super) fn slower(blue: Option<f64>, green: Option<f64>) -> Option<String> {
    let (blue, green) = (blue?, green?);
    let difference = green - blue;
    let sign = if difference < 0.0 { '−' } else { '+' };
    let absolute = millis(Some(difference.abs()));
    if blue <= 0.0 {
        return Some(format!("{sign}{absolute}"));
    }
    Some(format!("{sign}{absolute} ({sign}{:.0} %)", (difference / blue * 100.0).abs()))
}

/// How many more of green's requests: `+2.1 points`, of a hundred.
pub(super) fn more(blue: Option<f64>, green: Option<f64>) -> Option<String> {
    let points = (green? - blue?) * 100.0;
    if points.abs() < 0.005 {
        return None;
    }
    let sign = if points < 0.0 { '−' } else { '+' };
    let decimals = if points.abs() < 0.995 { 2 } else { 1 };
    Some(format!("{sign}{:.decimals$} points", points.abs()))
}

/// A rate by the second: one decimal below a hundred.
pub(super) fn rate(rate: f64) -> String {
    if rate >= 100.0 || rate == 0.0 { count(rate.round() as u64) } else { format!("{rate:.1}") }
}

/// A count with its thousands apart.
pub(super) fn count(count: u64) -> String {
    grouped(count)
}

/// How long it took until a change was in force.
pub(super) fn live(micros: u64) -> String {
    let ms = micros as f64 / 1000.0;
    match ms {
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 0.1 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_matter() {
        let rows = [
            (share(Weight::from_millipercent(1).unwrap()), "0.001 %"),
            (share(Weight::FULL), "100 %"),
            (ratio(None), "–"),
            (ratio(Some(0.0)), "0 %"),
            (ratio(Some(0.000_01)), "<0.01 %"),
            (ratio(Some(0.001_2)), "0.12 %"),
            (ratio(Some(0.009_96)), "1.0 %"),
            (ratio(Some(0.249_6)), "25.0 %"),
            (ratio(Some(0.999_99)), "99.9 %"),
            (ratio(Some(1.0)), "100 %"),
            (millis(Some(0.213)), "0.21 ms"),
            (millis(Some(12.34)), "12.3 ms"),
            (millis(Some(123.4)), "123 ms"),
            (millis(Some(12_345.0)), "12.3 s"),
            (slower(Some(10.0), Some(10.7)).unwrap(), "+0.70 ms (+7 %)"),
            (slower(Some(10.0), Some(8.0)).unwrap(), "−2.00 ms (−20 %)"),
            (slower(Some(0.0), Some(8.0)).unwrap(), "+8.00 ms"),
            (more(Some(0.003), Some(0.024)).unwrap(), "+2.1 points"),
            (more(Some(0.003), Some(0.0)).unwrap(), "−0.30 points"),
            (rate(0.0), "0"),
            (rate(7.25), "7.2"),
            (rate(312.4), "312"),
            (count(1_234_567), "1,234,567"),
            (count(100), "100"),
            (live(15), "0.01 ms"),
            (live(213), "0.2 ms"),
            (live(123_456), "123 ms"),
        ];
        for (got, expected) in rows {
            assert_eq!(got, expected);
        }
        assert_eq!(slower(None, Some(1.0)), None);
        assert_eq!(more(Some(0.1), Some(0.1)), None);
    }
}
