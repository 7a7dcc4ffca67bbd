//! A share of traffic, exact to a thousandth of a percent.
//!
//! An integer, so that shares add up and compare without rounding. People write `25%`; a bare
//! number is refused because `0.25` and `25` have both been meant as a quarter, at night, in production.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The candidate's share: 0 to 100 000 thousandths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct Weight(u32);

/// Why a text is not a share.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShareError {
    /// A number without its unit.
    #[error("a share needs its unit; did you mean {0}%?")]
    NoUnit(String),
    /// Not a number at all.
    #[error("{0:?} is not a share; write a percentage such as 25%, 0.1% or 0")]
    NotANumber(String),
    /// Below 0 % or above 100 %.
    #[error("{0} is outside 0% to 100%")]
    OutOfRange(String),
    /// More than three decimals.
    #[error("{0} is finer than the smallest step, 0.001%")]
    TooFine(String),
}

impl Weight {
    /// Nobody.
    pub const ZERO: Self = Self(0);
    /// Everybody.
    pub const FULL: Self = Self(100_000);

    /// From thousandths of a percent; `None` above 100 000.
    pub const fn from_millipercent(value: u32) -> Option<Self> {
        if value <= Self::FULL.0 { Some(Self(value)) } else { None }
    }

    /// From a whole percentage; `None` above 100.
    pub const fn from_percent(percent: u32) -> Option<Self> {
        if percent <= 100 { Some(Self(percent * 1000)) } else { None }
    }

    /// Thousandths of a percent, 0 to 100 000.
    pub const fn millipercent(self) -> u32 {
        self.0
    }

    /// 0.0 to 1.0.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(Self::FULL.0)
    }

    /// What is left for the other variant.
    pub const fn rest(self) -> Self {
        Self(Self::FULL.0 - self.0)
    }

    /// Whether a visitor's fate is open: neither nobody nor everybody.
    pub const fn is_partial(self) -> bool {
        self.0 > 0 && self.0 < Self::FULL.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        let text = if rest == 0 {
            format!("{whole}%")
        } else {
            format!("{whole}.{}%", format!("{rest:03}").trim_end_matches('0'))
        };
        f.pad(&text)
    }
}

impl FromStr for Weight {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let Some(number) = text.strip_suffix('%').map(str::trim_end) else {
            return match text {
                "0" => Ok(Self::ZERO),
                _ if text.parse::<f64>().is_ok() => Err(ShareError::NoUnit(text.to_owned())),
                _ => Err(ShareError::NotANumber(text.to_owned())),
            };
        };
        let not_a_number = || ShareError::NotANumber(text.to_owned());
        let out_of_range = || ShareError::OutOfRange(text.to_owned());
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());

        let (negative, unsigned) = match number.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, number),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        if whole.is_empty() || fraction.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(not_a_number());
        }
        if negative {
            return Err(out_of_range());
        }
        let fraction = fraction.trim_end_matches('0');
        let whole: u32 = whole.parse().map_err(|_| out_of_range())?;
        if whole > 100 {
            return Err(out_of_range());
        }
        if fraction.len() > 3 {
            return Err(ShareError::TooFine(text.to_owned()));
        }
        let thousandths: u32 = format!("{fraction:0<3}").parse().map_err(|_| not_a_number())?;
        Self::from_millipercent(whole * 1000 + thousandths).ok_or_else(out_of_range)
    }
}

impl From<Weight> for String {
    fn from(weight: Weight) -> Self {
        weight.to_string()
    }
}

impl TryFrom<String> for Weight {
    type Error = ShareError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_share_is_written_with_its_unit() {
        #[track_caller]
        fn check(text: &str, expected: Result<u32, &str>) {
            let got = text.parse::<Weight>();
            match expected {
                Ok(millipercent) => assert_eq!(got.unwrap().millipercent(), millipercent, "{text}"),
                Err(message) => assert_eq!(got.unwrap_err().to_string(), message, "{text}"),
            }
        }
        check("0", Ok(0));
        check("0%", Ok(0));
        check("0.001%", Ok(1));
        check("0.1%", Ok(100));
        check("25%", Ok(25_000));
        check(" 25 % ", Ok(25_000));
        check("99.999%", Ok(99_999));
        check("99.9990%", Ok(99_999));
        check("100%", Ok(100_000));
        check("5", Err("a share needs its unit; did you mean 5%?"));
        check("0.25", Err("a share needs its unit; did you mean 0.25%?"));
        check("101%", Err("101% is outside 0% to 100%"));
        check("100.001%", Err("100.001% is outside 0% to 100%"));
        check("-1%", Err("-1% is outside 0% to 100%"));
        check("99999999999%", Err("99999999999% is outside 0% to 100%"));
        check("0.0001%", Err("0.0001% is finer than the smallest step, 0.001%"));
        for text in ["", "%", ".5%", "5.%", "1e2%", "+5%", "five", "5%%", "٥%"] {
            assert!(matches!(text.parse::<Weight>(), Err(ShareError::NotANumber(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millipercent in 0u32..=100_000) {
            let weight = Weight::from_millipercent(millipercent).unwrap();
            prop_assert_eq!(weight.to_string().parse::<Weight>().unwrap(), weight);
            prop_assert_eq!(weight.millipercent() + weight.rest().millipercent(), 100_000);
        }
    }
}
