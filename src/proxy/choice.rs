//! Which endpoint of a variant takes a request, as this thread sees them.
//!
//! What the choice itself is stands in [`crate::upstream`]; here it gets what this thread knows: how busy it keeps each
//! endpoint, and while one has just come back, for how long it is back. The clock is asked only then.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::body::RequestBody;
use super::worker::{ServiceView, Worker};
use crate::clock;
use crate::routing::Group;
use crate::traffic::Variant;
use crate::upstream::{EndpointPool, Policy, Ramp, next_in_turn, pick};

/// Since when a variant's usable endpoints are in use.
#[derive(Debug)]
pub(super) struct Starts {
    since: Box<[Option<Instant>]>,
    /// When the last of them gets its full share; `None`: all do.
    until: Cell<Option<Instant>>,
}

impl Starts {
    pub(super) fn of(group: &Group, slow_start: Duration) -> Self {
        let since: Box<[_]> =
            group.members().iter().filter(|member| member.is_usable()).map(|member| member.since).collect();
        let latest = since.iter().flatten().max().filter(|_| !slow_start.is_zero());
        Self { until: Cell::new(latest.map(|since| *since + slow_start)), since }
    }

    /// The moment to compute ramps for; `None` if there are none.
    fn now(&self) -> Option<Instant> {
        let until = self.until.get()?;
        let now = clock::now();
        if now < until {
            return Some(now);
        }
        self.until.set(None);
        None
    }
}

impl ServiceView {
    /// One of a variant's usable endpoints for which `may` holds.
    pub(super) fn choose(
        &self,
        worker: &Worker,
        variant: Variant,
        may: impl Fn(&Rc<EndpointPool<RequestBody>>) -> bool,
    ) -> Option<Rc<EndpointPool<RequestBody>>> {
        let (pools, starts) = (&self.pools[variant], &self.starts[variant]);
        let balance = &self.service.settings.balance;
        let now = starts.now();
        let ramp = |index: usize| {
            let since = starts.since.get(index).copied().flatten();
            now.map_or(Ramp::FULL, |now| Ramp::at(now, since, balance.slow_start))
        };
        let load = |index: usize| {
            let pool = &pools[index];
            may(pool).then(|| pool.load(ramp(index)))
        };
        let index = match balance.policy {
            Policy::LeastRequests => pick(pools.len(), load, &mut worker.random.borrow_mut()),
            Policy::RoundRobin => {
                next_in_turn(pools.len(), load, |index| pools[index].credit(), worker.index)
            }
        };
        pools.get(index?).cloned()
    }
}
