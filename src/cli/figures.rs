//! Figures as people read them: `25 %`, `12.1 ms`, `1,204`.

use crate::traffic::Weight;
pub(super) use crate::wording::{NOTHING, grouped as count, millis, rate, ratio};

/// A configured share, exact: `0.001 %`.
pub(super) fn share(weight: Weight) -> String {
    weight.to_string().replace('%', " %")
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
            (slower(Some(10.0), Some(10.7)).unwrap(), "+0.70 ms (+7 %)"),
            (slower(Some(10.0), Some(8.0)).unwrap(), "−2.00 ms (−20 %)"),
            (slower(Some(0.0), Some(8.0)).unwrap(), "+8.00 ms"),
            (more(Some(0.003), Some(0.024)).unwrap(), "+2.1 points"),
            (more(Some(0.003), Some(0.0)).unwrap(), "−0.30 points"),
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
