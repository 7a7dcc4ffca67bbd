//! When an endpoint gets a pause because requests fail there, whatever its checks say.
//!
//! Two signs: several failures in a row on one thread, and a success rate that stands out from its peers'. The second
//! is Envoy's outlier detection: below the mean by some standard deviations, over an interval in which enough endpoints
//! had enough requests. Two things are added. What chance alone does is no outlier: the endpoint must be three standard
//! errors below the mean of its peers, too, or a group that fails evenly would lose one endpoint after the other. And it
//! must have failed often enough to be ejected for a row.
//!
//! A pause is longer each time, and what was long ago is forgotten. All of this only says who is suspect and whose pause
//! is over. Whether there is room for one more ejection is asked of the group as it is at that moment ([`has_room`]),
//! and who is out stands in the routing table. Pure: time and counts are arguments.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::Seen;
use crate::traffic::Weight;

/// How many standard errors of its own an endpoint has to be below its peers.
const NOISE: f64 = 3.0;

/// When endpoints are ejected, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionSettings {
    /// Failures in a row on one thread; default 5.
    pub failures: u64,
    /// Outliers among peers; `None`: not looked for.
    pub success_rate: Option<SuccessRate>,
    /// The first pause, and how much longer each further one is; default 30 s. So long in service without an ejection
    /// takes one off the count.
    pub pause: Duration,
    /// The longest pause; default 5 min.
    pub pause_max: Duration,
    /// How many may be out at once; default half.
    pub max_ejected: MaxEjected,
}

impl Default for EjectionSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            success_rate: Some(SuccessRate::default()),
            pause: Duration::from_secs(30),
            pause_max: Duration::from_secs(300),
            max_ejected: MaxEjected::HALF,
        }
    }
}

/// What an outlier is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// So many standard deviations below the mean of all; default 1.9.
    pub deviations: f64,
    /// Over how long; default 10 s.
    pub interval: Duration,
    /// Requests that an endpoint needs in that time to be compared; default 100.
    pub requests: u64,
    /// Endpoints with so many requests that it takes to compare; default 5.
    pub endpoints: usize,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { deviations: 1.9, interval: Duration::from_secs(10), requests: 100, endpoints: 5 }
    }
}

/// How much of a group ejections may take out. What checks have taken out counts, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxEjected {
    /// This share, below 100 %, rounded down to whole endpoints.
    Share(Weight),
    /// Every one, if somebody wants that.
    All,
}

impl MaxEjected {
    /// The default.
    pub const HALF: Self = match Weight::from_percent(50) {
        Some(half) => Self::Share(half),
        None => Self::All,
    };
}

/// What is known about a member of a group when one more is to be ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whether checks pass.
    pub is_healthy: bool,
    /// Whether it is ejected.
    pub is_ejected: bool,
    /// Whether somebody takes it out: it is no part of the group any more.
    pub is_draining: bool,
}

impl Place {
    fn is_in_use(self) -> bool {
        self.is_healthy && !self.is_ejected && !self.is_draining
    }
}

/// Whether `suspect`, one of the members of a group by index, may be ejected. What is out is out for users whatever the
/// reason, so unhealthy endpoints count against the share; and one that is in use is never the last one.
pub fn has_room(members: &[Place], suspect: usize, max: MaxEjected) -> bool {
    let Some(place) = members.get(suspect) else { return false };
    if place.is_draining || place.is_ejected {
        return false;
    }
    let MaxEjected::Share(share) = max else { return true };
    let group = members.iter().filter(|member| !member.is_draining);
    let others = || members.iter().enumerate().filter(|(index, _)| *index != suspect);
    let out = others().filter(|(_, member)| !member.is_draining && !member.is_in_use()).count() + 1;
    let most = group.count() as u64 * u64::from(share.millipercent()) / 100_000;
    out as u64 <= most && others().any(|(_, member)| member.is_in_use())
}

/// Why an endpoint is suspect.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// So many failures in a row.
    Row(u64),
    /// A success rate that stands out, as shares of one.
    Outlier {
        /// Its own.
        rate: f64,
        /// The mean of all that were compared.
        mean: f64,
        /// Below which it is ejected.
        limit: f64,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(failures) => write!(f, "{failures} failures in a row"),
            Self::Outlier { rate, mean, limit } => {
                let percent = |share: &f64| share * 100.0;
                let (rate, mean, limit) = (percent(rate), percent(mean), percent(&limit.max(0.0)));
                write!(f, "{rate:.1} % successes, its peers {mean:.1} %; below {limit:.1} % stands out")
            }
        }
    }
}

/// What a group's ejections were like up to now. Endpoints go by their ids.
#[derive(Debug, Default)]
pub struct Watch {
    records: HashMap<u32, Record>,
    compared: Option<Instant>,
}

#[derive(Debug, Default)]
struct Record {
    /// As of the last look.
    last: Vec<Seen>,
    /// As of when failures began to count: since it came, or came back.
    base: Vec<Seen>,
    /// As of the last comparison.
    compared: Seen,
    times: u32,
    total: u64,
    back: Option<Instant>,
    ejected: Option<Ejected>,
}

/// An ejection that lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct Ejected {
    /// When the pause is over.
    pub until: Instant,
    /// Why.
    pub cause: Cause,
}

/// An endpoint at the moment of a look.
#[derive(Clone, Copy, Debug)]
pub struct Look<'s> {
    /// Its id.
    pub id: u32,
    /// What each thread has seen, always in the same order.
    pub seen: &'s [Seen],
    /// Whether it is ejected, as the table says.
    pub is_ejected: bool,
    /// Whether requests may be sent there.
    pub is_in_use: bool,
}

/// What a look has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Who should be ejected, the worst first.
    pub suspects: Vec<(u32, Cause)>,
    /// Whose pause is over.
    pub back: Vec<u32>,
    /// Who is in use again before that, because the table says so.
    pub relieved: Vec<u32>,
}

impl Watch {
    /// Looks at the group. `settings` without ejection: whoever is out comes back.
    pub fn look(&mut self, now: Instant, settings: Option<&EjectionSettings>, members: &[Look<'_>]) -> Found {
        self.records.retain(|id, _| members.iter().any(|member| member.id == *id));
        let mut found = Found::default();
        for member in members {
            let record = self.records.entry(member.id).or_insert_with(|| Record::of(member));
            if record.ejected.is_some() && !member.is_ejected {
                record.begin_anew(member.seen, now);
                if member.is_in_use {
                    found.relieved.push(member.id);
                }
            }
            if member.is_ejected
                && (settings.is_none() || record.ejected.as_ref().is_none_or(|ejected| ejected.until <= now))
            {
                found.back.push(member.id);
            }
            let row = record.take_row(member.seen);
            if let Some(settings) = settings
                && !member.is_ejected
                && row >= settings.failures.max(1)
            {
                found.suspects.push((member.id, Cause::Row(row)));
            }
        }
        if let Some(settings) = settings
            && let Some(rate) = &settings.success_rate
        {
            self.compare(now, settings.failures, rate, members, &mut found);
        }
        found
    }

    /// The table says now that the endpoint is out. Returns until when.
    pub fn ejected(&mut self, id: u32, cause: Cause, now: Instant, settings: &EjectionSettings) -> Instant {
        let record = self.records.entry(id).or_default();
        record.times = record.remembered(now, settings.pause).saturating_add(1);
        record.total += 1;
        let pause = settings.pause.saturating_mul(record.times).min(settings.pause_max.max(settings.pause));
        let until = now + pause;
        record.ejected = Some(Ejected { until, cause });
        until
    }

    /// The table says now that the endpoint is in service again.
    pub fn came_back(&mut self, id: u32, now: Instant) {
        if let Some(record) = self.records.get_mut(&id) {
            let seen = record.last.clone();
            record.begin_anew(&seen, now);
        }
    }

    /// The ejection that lasts, if one does.
    pub fn ejection(&self, id: u32) -> Option<&Ejected> {
        self.records.get(&id)?.ejected.as_ref()
    }

    /// How often it was ejected altogether.
    pub fn ejections(&self, id: u32) -> u64 {
        self.records.get(&id).map_or(0, |record| record.total)
    }

    fn compare(
        &mut self,
        now: Instant,
        failures_min: u64,
        settings: &SuccessRate,
        members: &[Look<'_>],
        found: &mut Found,
    ) {
        let began = *self.compared.get_or_insert(now);
        if now.saturating_duration_since(began) < settings.interval {
            return;
        }
        self.compared = Some(now);
        let mut rates = Vec::with_capacity(members.len());
        for member in members {
            let Some(record) = self.records.get_mut(&member.id) else { continue };
            let seen = sum(member.seen);
            let attempts = seen.attempts.saturating_sub(record.compared.attempts);
            let failures = seen.failures.saturating_sub(record.compared.failures).min(attempts);
            record.compared = seen;
            if member.is_in_use && attempts >= settings.requests.max(1) {
                rates.push(Rate { id: member.id, attempts, failures });
            }
        }
        if rates.len() < settings.endpoints.max(2) {
            return;
        }
        rates.sort_by(|one, other| one.success().total_cmp(&other.success()));
        let count = rates.len() as f64;
        let mean = rates.iter().map(Rate::success).sum::<f64>() / count;
        let deviation =
            (rates.iter().map(|rate| (rate.success() - mean).powi(2)).sum::<f64>() / count).sqrt();
        for (index, rate) in rates.iter().enumerate() {
            let peers = rates.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, peer)| peer);
            let (attempts, failures) = peers.fold((0, 0), |(attempts, failures), peer| {
                (attempts + peer.attempts, failures + peer.failures)
            });
            let expected = 1.0 - failures as f64 / attempts as f64;
            let error = (expected * (1.0 - expected) / rate.attempts as f64).sqrt();
            let limit = (mean - settings.deviations * deviation).min(expected - NOISE * error);
            let is_known = found.suspects.iter().any(|(id, _)| *id == rate.id);
            if rate.success() < limit && rate.failures >= failures_min && !is_known {
                found.suspects.push((rate.id, Cause::Outlier { rate: rate.success(), mean, limit }));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Rate {
    id: u32,
    attempts: u64,
    failures: u64,
}

impl Rate {
    fn success(&self) -> f64 {
        1.0 - self.failures as f64 / self.attempts as f64
    }
}

impl Record {
    fn of(member: &Look<'_>) -> Self {
        Self { compared: sum(member.seen), ..Self::default() }
    }

    /// Its ejection is over: what was before counts no more.
    fn begin_anew(&mut self, seen: &[Seen], now: Instant) {
        self.ejected = None;
        self.back = Some(now);
        self.base = seen.to_vec();
        self.last = seen.to_vec();
        self.compared = sum(seen);
    }

    /// The longest row of failures that goes on: of threads that had something to do since the last look. A row that
    /// was long ago on a thread that is idle says nothing of now.
    fn take_row(&mut self, seen: &[Seen]) -> u64 {
        let of = |list: &[Seen], thread: usize| list.get(thread).copied().unwrap_or_default();
        let rows = seen.iter().enumerate().map(|(thread, now)| {
            let is_fresh = now.attempts != of(&self.last, thread).attempts;
            let since = now.failures.saturating_sub(of(&self.base, thread).failures);
            if is_fresh { now.run.min(since) } else { 0 }
        });
        let row = rows.max().unwrap_or(0);
        self.last.clear();
        self.last.extend_from_slice(seen);
        row
    }

    /// The ejections that still count: one less for each pause's time in service.
    fn remembered(&self, now: Instant, pause: Duration) -> u32 {
        let Some(back) = self.back else { return self.times };
        let calm = now.saturating_duration_since(back).as_nanos() / pause.as_nanos().max(1);
        self.times.saturating_sub(u32::try_from(calm).unwrap_or(u32::MAX))
    }
}

fn sum(seen: &[Seen]) -> Seen {
    seen.iter().copied().fold(Seen::default(), Seen::and)
}

#[cfg(test)]
mod tests;
