//! Times and numbers as the sentences of rollouts have them.

use std::time::Duration;

use crate::cli::figures;
use crate::rollout;

/// A time in milliseconds as people say it.
pub(super) fn span(millis: u64) -> String {
    rollout::span(Duration::from_millis(millis))
}

/// A number without a unit: evidence, or what a metric measures.
pub(super) fn amount(number: f64) -> String {
    let (size, whole) = (number.abs(), number.fract() == 0.0);
    match number {
        _ if !number.is_finite() => "beyond measure".to_owned(),
        _ if size >= 1e6 => format!("{number:.1e}"),
        _ if size >= 1000.0 && number > 0.0 => figures::count(number.round() as u64),
        _ if whole || size >= 100.0 => format!("{number:.0}"),
        _ => {
            let decimals = if size >= 10.0 { 1 } else { 2 + usize::from(size < 1.0) };
            format!("{number:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.0, "0"),
            (0.0042, "0.004"),
            (0.98, "0.98"),
            (1.1, "1.1"),
            (12.34, "12.3"),
            (125.0, "125"),
            (412.4, "412"),
            (12_345.6, "12,346"),
            (2.5e9, "2.5e9"),
            (-3.25, "-3.25"),
            (f64::INFINITY, "beyond measure"),
        ] {
            assert_eq!(amount(number), expected, "{number}");
        }
    }
}
