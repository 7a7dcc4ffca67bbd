//! How much more than by chance events come together.
//!
//! One cause may make many failures: a client that repeats itself, a server that stops for 300 ms. Then events are not
//! as many witnesses as they look, and every growth of evidence is divided by how many times as much as chance alone
//! stable's own counts vary: between two halves of its visitors, and from tick to tick. What is shared by both
//! variants, such as an outage, cancels out in the gates, so a tick of errors counts here only up to a bound.

use serde::{Deserialize, Serialize};

/// Expected events that are worth as much as what is assumed before anything is seen.
const PRIOR: f64 = 20.0;
/// What was seen counts half after this long.
const HALF_LIFE_S: f64 = 600.0;

/// From tick to tick, on stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Ticks {
    units: f64,
    events: f64,
    varied: f64,
    expected: f64,
}

/// Between two halves of stable's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Halves {
    varied: f64,
    events: f64,
}

impl Ticks {
    /// A tick, `elapsed_s` after the one before; what exceeds `bound` times its expectation is left out.
    pub(super) fn see(&mut self, (units, events): (f64, f64), elapsed_s: f64, bound: f64) {
        if units == 0.0 {
            return;
        }
        let fade = libm::exp2(-elapsed_s.max(0.0) / HALF_LIFE_S);
        let mut usual = events;
        if self.units > 0.0 {
            let share = (self.events + 0.5) / (self.units + 1.0);
            let expected = units * share * (1.0 - share);
            let off = events - units * share;
            let most = bound * expected.max(1.0);
            self.varied = self.varied * fade + (off * off).min(most);
            usual = events.min(units * share + libm::sqrt(most));
            self.expected = self.expected * fade + expected;
        }
        self.units = self.units * fade + units;
        self.events = self.events * fade + usual;
    }

    /// Stable's share of units with the event, of late; `None` before anything is seen.
    pub(super) fn share(&self) -> Option<f64> {
        (self.units > 0.0).then(|| self.events / self.units)
    }

    /// φ: at least 1.
    pub(super) fn spread(&self) -> f64 {
        beyond_chance(self.varied, self.expected)
    }
}

impl Halves {
    /// A tick: stable's (units, events), and those of one half of it. A half that had nobody, or everybody, says nothing:
    /// behind another proxy all draws may have one address.
    pub(super) fn see(&mut self, (units, events): (f64, f64), (half_units, half_events): (f64, f64)) {
        if half_units <= 0.0 || half_units >= units {
            return;
        }
        let share = half_units / units;
        let off = half_events.min(events) - events * share;
        self.varied += off * off / (share * (1.0 - share));
        self.events += events;
    }

    /// φ: at least 1.
    pub(super) fn spread(&self) -> f64 {
        beyond_chance(self.varied, self.events)
    }
}

/// How many times as much as expected, less the error that this estimate itself has.
fn beyond_chance(varied: f64, expected: f64) -> f64 {
    let expected = PRIOR + expected;
    ((PRIOR + varied) / expected - libm::sqrt(2.0 / expected)).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_by_fives_count_a_fifth() {
        let mut halves = Halves::default();
        for at in 0..400 {
            halves.see((100.0, 5.0), (50.0, if at % 2 == 0 { 5.0 } else { 0.0 }));
        }
        assert!((halves.spread() - 5.0).abs() < 0.1, "{}", halves.spread());
    }

    #[test]
    fn a_single_address_says_nothing_of_halves() {
        let mut halves = Halves::default();
        for _ in 0..400 {
            halves.see((1000.0, 20.0), (1000.0, 20.0));
            halves.see((1000.0, 20.0), (0.0, 0.0));
        }
        assert!((halves.spread() - 1.0).abs() < 1e-12, "{}", halves.spread());
        for _ in 0..400 {
            halves.see((1000.0, 20.0), (900.0, 18.0));
        }
        assert!((halves.spread() - 1.0).abs() < 1e-12, "{}", halves.spread());
    }

    #[test]
    fn even_traffic_is_not_spread() {
        let mut ticks = Ticks::default();
        for at in 0..1000 {
            ticks.see((100.0, f64::from(at % 3)), 1.0, f64::INFINITY);
        }
        assert_eq!(ticks.spread(), 1.0);
        assert!((ticks.share().unwrap() - 0.01).abs() < 0.001);
    }

    #[test]
    fn a_stall_a_minute_is_seen() {
        let mut ticks = Ticks::default();
        for at in 0..600 {
            ticks.see((190.0, if at % 60 == 30 { 57.0 } else { 2.0 }), 1.0, f64::INFINITY);
        }
        assert!(ticks.spread() > 10.0, "{}", ticks.spread());
    }

    #[test]
    fn an_outage_does_not_deafen_for_long() {
        let mut ticks = Ticks::default();
        for at in 0..1800 {
            let failed = if (600..660).contains(&at) { 190.0 } else { 2.0 };
            ticks.see((190.0, failed), 1.0, 16.0);
        }
        assert!(ticks.spread() < 2.5, "{}", ticks.spread());
    }
}
