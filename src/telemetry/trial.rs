//! What gates compare: the same traffic's outcomes, by the unit that was assigned.
//!
//! Only requests that chance assigned count (by user key, cookie or draw), and only those of the newest era: a
//! service's era is the generation at which its weight last changed, so that what was assigned under
//! one weight is never compared with what was assigned under another.
//!
//! ```text
//!   Trials ── arm, limits ──▶ board ◀── "is my era judged?" ── worker 0, 1, …
//!      ▲                        └─ visitors (shared: one byte each)  │
//!      └────────── look ─────── scores, memory ◀── counts ───────────┘
//! ```
//!
//! The unit is what was assigned: a draw's is the request, a user's or a cookie's is the visitor, who counts once in
//! a window of five minutes for each kind of event. At risk in a tick is therefore who was seen in the window and did
//! not have the event before the tick. Windows also end when a table is half full: linear counting is exact enough up to
//! there. A service without a trial costs a request one load and one branch.

mod board;
mod limits;
mod memory;
mod visitors;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tally::{MethodLabel, ServiceSlot, Tallies, Totals};
use crate::clock::Timestamp;
use crate::traffic::{PerVariant, Variant};
use board::{BARRED, HALF_FAILED, HALF_SEEN, KINDS, Sums};
pub(super) use board::{Board, Boards, DRAW, Found, Score, Unit, stratum};
use limits::Latencies;
pub(super) use memory::Memory;
use visitors::{BUCKETS, estimate};
pub(super) use visitors::{CLIENT_ERROR, FAILED, SUCCESS, mix};

/// How long a window of visitors lasts.
const WINDOW: Duration = Duration::from_secs(300);

/// How many quantiles of stable's latency slow requests are counted against.
pub const SLOW_LIMITS: usize = 4;

/// The reader's side of every service's trial.
#[derive(Debug)]
pub struct Trials {
    tallies: Arc<Tallies>,
    /// By slot.
    running: Vec<Option<Box<Trial>>>,
}

/// What has to be counted for a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gauge {
    /// The generation at which the weight last changed; requests carry it.
    pub era: u64,
    /// The place on trial.
    pub candidate: Variant,
    /// The generation at which the rollout began: visitors that failed are told apart since then.
    pub rollout: u64,
    /// How many times stable's quantile a request of the candidate may take.
    pub latency_ratio: f64,
}

/// Units at risk, and those of them that had the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// At risk; never less than `events`.
    pub units: u64,
    /// With the event, for the first time in their window.
    pub events: u64,
}

/// One way of assigning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StratumLook {
    /// Failures.
    pub errors: PerVariant<Units>,
    /// 4xx.
    pub client_errors: PerVariant<Units>,
    /// Slower than each limit.
    pub slow: [PerVariant<Units>; SLOW_LIMITS],
    /// Successes of business.
    pub business: PerVariant<Units>,
    /// Failures of one half of the units, told apart by another bit of the visitor, else of the client's address.
    pub half: PerVariant<Units>,
}

/// What a look found since the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrialLook {
    /// User, cookie, draw.
    pub strata: [StratumLook; 3],
    /// All outcomes.
    pub requests: PerVariant<u64>,
    /// All failures.
    pub failures: PerVariant<u64>,
    /// Different candidate visitors that failed since the rollout began.
    pub failed_visitors: u64,
}

/// One recent failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentFailure {
    /// When.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// The normalised path, with what looks like an id replaced by `*`, at most 200 bytes.
    pub path: String,
    /// The status the client got; 0 while he still waited.
    pub status: u16,
    /// What went wrong, unless it was the status alone; `stalled`: no response head for too long.
    pub error: Option<&'static str>,
    /// The endpoint, if it got that far.
    pub endpoint: Option<Arc<str>>,
    /// The request's id.
    pub request_id: String,
    /// A hash of the visitor.
    pub visitor: Option<u64>,
}

/// What the proxy knows of a failure.
#[derive(Clone, Debug)]
pub struct FailureNote {
    /// The method.
    pub method: MethodLabel,
    /// The normalised path, as it came.
    pub path: String,
    /// The status the client got.
    pub status: u16,
    /// What went wrong, unless it was the status alone.
    pub error: Option<&'static str>,
    /// The endpoint, if it got that far.
    pub endpoint: Option<Arc<str>>,
    /// The request's id.
    pub request_id: String,
}

impl FailureNote {
    pub(super) fn remember(self, at: Timestamp, visitor: Option<u64>) -> RecentFailure {
        let Self { method, path, status, error, endpoint, request_id } = self;
        let (method, path) = (method.as_str().to_owned(), memory::pattern(&path));
        RecentFailure { at, method, path, status, error, endpoint, request_id, visitor }
    }
}

/// What is remembered of a variant for people: failures of late, and which requests it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Newest last; at most some hundreds.
    pub failures: Vec<RecentFailure>,
    /// A sample of all requests, one in 64 of each thread's: method and path as above, and how many of the sample.
    pub sample: Vec<((String, String), u64)>,
    /// Failures that were too many to be remembered.
    pub skipped: u64,
}

/// A request that waits longer than this for a response head is a failure for the gates, at that moment: the larger
/// of 5 s and ten times stable's p99.
pub const STALL_MIN: Duration = Duration::from_secs(5);

impl Trials {
    /// Nothing is on trial.
    pub fn new(tallies: Arc<Tallies>) -> Self {
        Self { tallies, running: Vec::new() }
    }

    /// Counts for a service from now on; another era or rollout begins anew. The same again changes nothing but the
    /// ratio. Look before another era: what was not looked at is lost.
    pub fn arm(&mut self, slot: ServiceSlot, gauge: Gauge) {
        let index = slot.0 as usize;
        if self.running.len() <= index {
            self.running.resize_with(index + 1, || None);
        }
        let tallies = &self.tallies;
        let running = &mut self.running[index];
        let Some(trial) = running else {
            tallies.memories(slot, |_, memory| memory.forget());
            let totals = tallies.cheap(slot).unwrap_or_default();
            *running = Some(Box::new(Trial::begin(tallies, slot, gauge, totals)));
            return;
        };
        let before = std::mem::replace(&mut trial.gauge, gauge);
        let is_same_rollout = before.rollout == gauge.rollout && before.candidate == gauge.candidate;
        if !is_same_rollout {
            tallies.memories(slot, |_, memory| memory.forget());
            **trial = Trial::begin(tallies, slot, gauge, trial.totals);
        } else if before.era != gauge.era {
            trial.begin_era();
        } else if before.latency_ratio.to_bits() != gauge.latency_ratio.to_bits() {
            trial.latencies = Latencies::default();
        }
    }

    /// Stops counting for it. What is remembered stays until it is armed again.
    pub fn disarm(&mut self, slot: ServiceSlot) {
        if let Some(trial) = self.running.get_mut(slot.0 as usize).and_then(Option::take) {
            trial.board.disarm();
        }
    }

    /// What happened since the last look; `None` if the service is not armed. Also moves the limits for slow requests,
    /// from stable's last 5 minutes before this moment, and begins new windows of visitors.
    pub fn look(&mut self, slot: ServiceSlot, now: Instant) -> Option<TrialLook> {
        let trial = self.running.get_mut(slot.0 as usize)?.as_mut()?;
        Some(trial.look(&self.tallies, slot, now))
    }

    /// What is remembered of each variant, newest failures last.
    pub fn remembered(&self, slot: ServiceSlot) -> PerVariant<Remembered> {
        let mut remembered = PerVariant::<Remembered>::default();
        self.tallies.memories(slot, |variant, memory| memory.add_to(&mut remembered[variant]));
        for variant in Variant::ALL {
            remembered[variant].failures.sort_by_key(|failure| failure.at);
        }
        remembered
    }
}

/// One service's trial.
#[derive(Debug)]
struct Trial {
    gauge: Gauge,
    board: Arc<Board>,
    /// At the last look.
    sums: Sums,
    /// At the beginning of the window.
    window: Sums,
    window_began: Option<Instant>,
    totals: PerVariant<Totals>,
    latencies: Latencies,
    /// Failed requests of the candidate that were drawn, up to the last look.
    failed_draws: u64,
}

impl Trial {
    fn begin(tallies: &Tallies, slot: ServiceSlot, gauge: Gauge, totals: PerVariant<Totals>) -> Self {
        let board = tallies.board(slot);
        board.arm(gauge.era, gauge.candidate, true);
        // The same era may have been judged before, in another rollout.
        let sums = sums(tallies, slot, gauge.era);
        Self {
            gauge,
            board,
            sums,
            window: sums,
            window_began: None,
            totals,
            latencies: Latencies::default(),
            failed_draws: 0,
        }
    }

    fn begin_era(&mut self) {
        self.board.arm(self.gauge.era, self.gauge.candidate, false);
        (self.sums, self.window, self.window_began) = (Sums::default(), Sums::default(), None);
    }

    fn look(&mut self, tallies: &Tallies, slot: ServiceSlot, now: Instant) -> TrialLook {
        let candidate = self.gauge.candidate;
        let sums = sums(tallies, slot, self.gauge.era);
        let totals = tallies.cheap(slot).unwrap_or(self.totals);
        let since = PerVariant::from_fn(|variant| totals[variant].since(self.totals[variant]));
        let mut look = TrialLook {
            requests: since.map(|_, since| since.requests),
            failures: since.map(|_, since| since.failures + since.late_failures),
            ..TrialLook::default()
        };
        for (stratum, into) in look.strata.iter_mut().enumerate() {
            for variant in Variant::ALL {
                let of = |sums: &Sums| sums[variant][stratum];
                let tick = Tick {
                    before: of(&self.sums),
                    now: of(&sums),
                    window: (stratum != DRAW).then(|| of(&self.window)),
                };
                tick.tell(variant, into);
            }
        }
        self.failed_draws += look.strata[DRAW].errors[candidate].events;
        look.failed_visitors = self.board.failed_visitors(candidate) + self.failed_draws;
        (self.sums, self.totals) = (sums, totals);

        self.turn(now);
        if self.latencies.are_due(now) {
            let ever = tallies.ttfb(slot, candidate.other());
            if let Some(limits) = self.latencies.look(ever, now, candidate, self.gauge.latency_ratio) {
                self.board.set_limits(&limits);
            }
        }
        look
    }

    /// Begins a new window of visitors when it is time.
    fn turn(&mut self, now: Instant) {
        let began = *self.window_began.get_or_insert(now);
        let seen = |variant: Variant, stratum: usize| {
            self.sums[variant][stratum][0].saturating_sub(self.window[variant][stratum][0])
        };
        let is_full = Variant::ALL
            .iter()
            .any(|variant| (0..DRAW).any(|stratum| seen(*variant, stratum) * 2 >= BUCKETS as u64));
        if is_full || now.saturating_duration_since(began) >= WINDOW {
            self.board.turn();
            self.window = self.sums;
            self.window_began = Some(now);
        }
    }
}

/// What all workers counted in an era.
fn sums(tallies: &Tallies, slot: ServiceSlot, era: u64) -> Sums {
    let mut sums = Sums::default();
    tallies.scores(slot, |score| score.add_to(&mut sums, era));
    sums
}

/// What one variant's counts of one stratum were and are.
struct Tick {
    before: [u64; KINDS],
    now: [u64; KINDS],
    /// At the beginning of the window, where the units are visitors.
    window: Option<[u64; KINDS]>,
}

impl Tick {
    fn tell(&self, variant: Variant, look: &mut StratumLook) {
        const SEEN: usize = 0;
        let seen = |counts: &[u64; KINDS]| counts[SEEN].saturating_sub(counts[BARRED]);
        look.errors[variant] = self.units(seen, |counts| counts[1]);
        look.client_errors[variant] = self.units(|counts| counts[SEEN], |counts| counts[2]);
        for (at, slow) in look.slow.iter_mut().enumerate() {
            slow[variant] = self.units(|counts| counts[SEEN], |counts| counts[3 + at]);
        }
        look.business[variant] = self.units(|counts| counts[SEEN], |counts| counts[7]);
        look.half[variant] = self.units(|counts| counts[HALF_SEEN], |counts| counts[HALF_FAILED]);
    }

    fn units(&self, seen: impl Fn(&[u64; KINDS]) -> u64, had: impl Fn(&[u64; KINDS]) -> u64) -> Units {
        let (units, events) = match &self.window {
            None => (
                seen(&self.now).saturating_sub(seen(&self.before)),
                had(&self.now).saturating_sub(had(&self.before)),
            ),
            Some(window) => {
                let in_window = |now: u64, then: u64| estimate(now.saturating_sub(then));
                let before = in_window(had(&self.before), had(window));
                (
                    in_window(seen(&self.now), seen(window)).saturating_sub(before),
                    in_window(had(&self.now), had(window)).saturating_sub(before),
                )
            }
        };
        // A late failure has no request of its own; and counts may be read in the middle of an outcome.
        Units { units: units.max(events), events }
    }
}

#[cfg(test)]
mod tests;
