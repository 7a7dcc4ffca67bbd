//! The absolute limit: a share of failures that the candidate may not exceed, whatever stable does.
//!
//! Over the limit alone is nobody's fault: stable may be over it as well, always or during an incident. Whether it
//! is cannot be left to stable's own count, because at a high weight it has next to none. So the gate
//! fails only with two things proven at once: the candidate is over the limit, *and* it fails more often than stable
//! at the same moments, by however little (above the limit the tolerated ratio no longer excuses). Each alone is a
//! test of its own with the gate's share of α, so a candidate that is within the limit, or as good as stable, is
//! rolled back with at most that chance at any weight, base rate or outage.
//!
//! If stable is proven to be over the limit too, it is an incident of both, unless most of stable's minutes were:
//! then the limit does not fit the service, and the comparison alone decides.

use serde::{Deserialize, Serialize};

use super::mixture::{ABOVE, Mixture, against_limit};

/// Evidence of stable being over the limit that acquits the candidate.
const LOUD: f64 = 20.0;
/// Stake with which both begin anew.
const AFTERWARDS: f64 = 0.3;
const MINUTE_S: f64 = 60.0;

/// Both variants against the limit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Limit {
    candidate: Mixture,
    stable: Mixture,
    incident: bool,
    /// Stable's units and events in this minute of armed time.
    minute: (f64, f64, f64),
    /// Stable's minutes, and how many of them were over the limit; none of an incident.
    minutes: (u64, u64),
}

impl Limit {
    pub(super) fn new(stake: f64) -> Self {
        Self {
            candidate: Mixture::new(ABOVE.len(), stake),
            stable: Mixture::new(ABOVE.len(), stake),
            incident: false,
            minute: (0.0, 0.0, 0.0),
            minutes: (0, 0),
        }
    }

    pub(super) fn add(&mut self, stake: f64) {
        self.candidate.add(stake);
        self.stable.add(stake);
    }

    /// A tick's (units, events): `limit` is what applies, `usual` what applies after the warm-up.
    pub(super) fn see(
        &mut self,
        candidate: (f64, f64),
        stable: (f64, f64),
        limit: f64,
        usual: f64,
        spread: f64,
        armed_s: f64,
    ) {
        for (mixture, counts) in [(&mut self.candidate, candidate), (&mut self.stable, stable)] {
            let mut growth = [0.0; ABOVE.len()];
            against_limit(&mut growth, counts, limit, &ABOVE, spread);
            mixture.grow(&growth);
        }
        let minute = libm::floor(armed_s / MINUTE_S);
        if minute != self.minute.0 {
            self.close(usual);
            self.minute = (minute, 0.0, 0.0);
        }
        self.minute.1 += stable.0;
        self.minute.2 += stable.1;
    }

    /// After a tick: what fails at `fails`.
    pub(super) fn conclude(&mut self, fails: f64) {
        let (seen, over) = self.minutes;
        let is_usual = seen == 0 || over * 2 > seen;
        if !is_usual && self.candidate.evidence() >= fails && self.is_loud() {
            self.incident = true;
        }
    }

    /// That the candidate is over it.
    pub(super) fn evidence(&self) -> f64 {
        self.candidate.evidence()
    }

    /// Whether stable is over it, too.
    pub(super) fn is_loud(&self) -> bool {
        self.stable.evidence() >= LOUD
    }

    /// Whether both are, though stable usually is not.
    pub(super) fn is_incident(&self) -> bool {
        self.incident
    }

    fn close(&mut self, limit: f64) {
        let (_, units, events) = self.minute;
        if units == 0.0 {
            return;
        }
        let is_over = events > units * limit;
        match (self.incident, is_over) {
            (true, true) => {}
            (true, false) => {
                let minutes = self.minutes;
                *self = Self { minutes, ..Self::new(AFTERWARDS) };
            }
            (false, _) => {
                self.minutes.0 += 1;
                self.minutes.1 += u64::from(is_over);
            }
        }
    }
}
