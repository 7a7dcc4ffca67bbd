//! Whether an endpoint may be used, and when a run of check results changes that.
//!
//! A single bad check must not empty a variant and a single good one must not fill it with a limping
//! instance, so a flip needs several results in a row; only the first result ever decides at once,
//! because before it nothing is known.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// What is known about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not checked yet. It is used like a healthy one, but nothing waits for it.
    Unknown,
    /// Its checks pass.
    Healthy,
    /// Its checks fail.
    Unhealthy,
}

impl Health {
    /// Whether requests may be sent to it.
    pub const fn is_usable(self) -> bool {
        !matches!(self, Self::Unhealthy)
    }

    /// `unknown`, `healthy` or `unhealthy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How endpoints are checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthSettings {
    /// What is asked.
    pub probe: Probe,
    /// From one check to the next; default 2 s.
    pub interval: Duration,
    /// How long an answer may take; default 1 s.
    pub timeout: Duration,
    /// Passes in a row that make an unhealthy endpoint healthy; default 2.
    pub up: u32,
    /// Failures in a row that make a healthy endpoint unhealthy; default 3.
    pub down: u32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        Self { probe: Probe::Connect, interval, timeout, up: 2, down: 3 }
    }
}

/// What a check asks of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// To accept a connection.
    Connect,
    /// To answer a GET.
    Get {
        /// Of this path.
        path: Arc<str>,
        /// With one of these.
        expect: Expected,
    },
    /// To say that it serves, by `grpc.health.v1.Health/Check`.
    Grpc {
        /// This service; the empty name is the server as a whole.
        service: Arc<str>,
    },
}

/// The status codes that pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expected(Arc<[RangeInclusive<u16>]>);

impl Expected {
    /// Any of these ranges.
    pub fn new(ranges: Vec<RangeInclusive<u16>>) -> Self {
        Self(ranges.into())
    }

    /// They, in the order of the configuration.
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }

    /// Whether a code passes.
    pub fn has(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for Expected {
    /// 200 to 399.
    fn default() -> Self {
        Self::new(vec![200..=399])
    }
}

/// The run of results that an endpoint is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hysteresis {
    health: Health,
    against: u32,
}

impl Hysteresis {
    /// Nothing known yet.
    pub const fn new() -> Self {
        Self { health: Health::Unknown, against: 0 }
    }

    /// As another run of checks left it.
    pub const fn at(health: Health) -> Self {
        Self { health, against: 0 }
    }

    /// What the results so far say.
    pub const fn health(self) -> Health {
        self.health
    }

    /// After one more result.
    pub fn after(self, passed: bool, settings: &HealthSettings) -> Self {
        let (same, needed, flipped) = match self.health {
            Health::Unknown => (false, 1, if passed { Health::Healthy } else { Health::Unhealthy }),
            Health::Healthy => (passed, settings.down, Health::Unhealthy),
            Health::Unhealthy => (!passed, settings.up, Health::Healthy),
        };
        let against = if same { 0 } else { self.against + 1 };
        if against >= needed && !same {
            Self { health: flipped, against: 0 }
        } else {
            Self { against, ..self }
        }
    }
}

impl Default for Hysteresis {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flip_needs_several_results_in_a_row() {
        #[track_caller]
        fn check(results: &str, expected: &str) {
            let settings = HealthSettings { up: 2, down: 3, ..HealthSettings::default() };
            let mut state = Hysteresis::new();
            let seen: String = results
                .chars()
                .map(|result| {
                    state = state.after(result == '+', &settings);
                    match state.health() {
                        Health::Unknown => '?',
                        Health::Healthy => 'H',
                        Health::Unhealthy => 'U',
                    }
                })
                .collect();
            assert_eq!(seen, expected, "after {results}");
        }
        check("+", "H");
        check("-", "U");
        check("+--+---", "HHHHHHU");
        check("-+-++", "UUUUH");
        check("+---++", "HHHUUH");
    }

    proptest! {
        #[test]
        fn health_changes_only_after_a_full_run(results in proptest::collection::vec(any::<bool>(), 1..200), up in 1u32..5, down in 1u32..5) {
            let settings = HealthSettings { up, down, ..HealthSettings::default() };
            let mut state = Hysteresis::new().after(results[0], &settings);
            for at in 1..results.len() {
                let next = state.after(results[at], &settings);
                if next.health() != state.health() {
                    let run = if results[at] { up } else { down } as usize;
                    prop_assert!(results[at + 1 - run..=at].iter().all(|result| *result == results[at]));
                }
                state = next;
            }
        }
    }
}
