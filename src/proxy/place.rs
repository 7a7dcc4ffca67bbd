//! A place at an endpoint: chosen among those of the variant, and waited for where all of them are full.
//!
//! What is full is left out before anybody waits, and who waits is given the first place that becomes free at any of them.
//! The table is looked at again before a place is used: who waited while the candidate was killed goes to stable, who
//! waited only for endpoints that take no part any more chooses again, and an endpoint that comes is waited for, too.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::body::RequestBody;
use super::error::Refusal;
use super::exchange::{Exchange, Lapse, Waiting};
use super::retry::Attempts;
use super::worker::{Places, ServiceView, Worker};
use crate::clock;
use crate::routing::WhenUnhealthy;
use crate::telemetry::{Crowding, UpstreamError};
use crate::traffic::{Role, Variant};
use crate::upstream::{EndpointPool, Lease, Turn};

type Pool = Rc<EndpointPool<RequestBody>>;

/// A place for the next attempt, by the newest view if it had to be waited for.
pub(super) async fn take(
    worker: &Rc<Worker>,
    exchange: &Exchange,
    view: &mut Rc<ServiceView>,
    attempts: &mut Attempts,
) -> Result<Lease<RequestBody>, Refusal> {
    loop {
        match choose(worker, view, exchange, attempts) {
            Choice::Free(pool) => {
                exchange.has_place();
                return Ok(pool.lease());
            }
            Choice::Crowded(pools, places) => {
                let lease = wait(worker, exchange, view, attempts, pools, places).await?;
                if let Some(lease) = lease {
                    exchange.has_place();
                    return Ok(lease);
                }
            }
            Choice::Full => {
                crowded_out(worker, exchange, Crowding::Full);
                return Err(Refusal::NoPlace);
            }
            Choice::Nobody => {
                exchange.failed(UpstreamError::NoHealthyEndpoint, attempts.is_first());
                return Err(Refusal::NoEndpoint);
            }
        }
    }
}

/// Before another attempt, and after a wait: a candidate that was killed meanwhile gets nothing more.
pub(super) fn look_again(
    worker: &Worker,
    exchange: &Exchange,
    view: &Rc<ServiceView>,
    attempts: &mut Attempts,
) -> Rc<ServiceView> {
    let Some(now) = worker.view_of(exchange.slot) else { return view.clone() };
    let split = &now.service.split;
    if split.is_killed() && exchange.serving.get() == split.candidate {
        exchange.serving.set(split.stable());
        exchange.spare();
        attempts.forget();
    }
    now
}

/// Whether an endpoint still takes part where the request goes.
pub(super) fn is_usable(view: &ServiceView, exchange: &Exchange, pool: &Pool) -> bool {
    view.pools[exchange.serving.get()].iter().any(|other| Rc::ptr_eq(other, pool))
}

fn crowded_out(worker: &Worker, exchange: &Exchange, why: Crowding) {
    worker.tally.shed();
    exchange.tally.crowded_out(exchange.serving.get(), why);
}

enum Choice {
    /// It has a place.
    Free(Pool),
    /// They have none, but may be waited for.
    Crowded(Vec<Pool>, Places),
    /// None has a place, and none may be waited for.
    Full,
    /// None takes part.
    Nobody,
}

/// An endpoint of the variant; of stable, if the candidate has none and spills.
fn choose(worker: &Worker, view: &ServiceView, exchange: &Exchange, attempts: &Attempts) -> Choice {
    let serving = exchange.serving.get();
    let service = &view.service;
    let spills = service.split.role(serving) == Role::Candidate
        && service.settings.when_unhealthy[serving] == WhenUnhealthy::Spill;
    if !view.pools[serving].is_empty() || !spills {
        return among(worker, view, serving, attempts);
    }
    let stable = service.split.stable();
    let choice = among(worker, view, stable, attempts);
    if !matches!(choice, Choice::Nobody) {
        exchange.failed(UpstreamError::NoHealthyEndpoint, attempts.is_first());
        exchange.tally.spilled(serving);
        exchange.serving.set(stable);
    }
    choice
}

/// One with a place that has not been tried, then one to wait for; once more at any of them is better than giving up
/// with attempts left.
fn among(worker: &Worker, view: &ServiceView, variant: Variant, attempts: &Attempts) -> Choice {
    let (pools, places) = (&view.pools[variant], view.places);
    let in_flight_max = places.map(|places| places.in_flight_max);
    let is_untried = |pool: &Pool| !attempts.has_tried(pool.endpoint().id());
    let free = |may: &dyn Fn(&Pool) -> bool| {
        let pool = view.choose(worker, variant, |pool| !pool.is_full(in_flight_max) && may(pool));
        pool.map(Choice::Free)
    };
    let crowded = |may: &dyn Fn(&Pool) -> bool| {
        let places = places?;
        let takes_part = |pool: &&Pool| pool.endpoint().weight() > 0 && may(pool);
        let pools: Vec<Pool> = pools.iter().filter(takes_part).cloned().collect();
        // Who waits stands in all queues, so each is as long as all of them may be together.
        let queue_max = places.queue_max.saturating_mul(u32::try_from(pools.len()).unwrap_or(u32::MAX));
        let has_room = pools.iter().any(|pool| pool.queued() < queue_max);
        has_room.then_some(Choice::Crowded(pools, places))
    };
    free(&is_untried)
        .or_else(|| crowded(&is_untried))
        .or_else(|| free(&|_| true))
        .or_else(|| crowded(&|_| true))
        .unwrap_or_else(|| if places.is_some() && !pools.is_empty() { Choice::Full } else { Choice::Nobody })
}

/// Waits for a place. `None`: no endpoint that was waited for takes part any more.
async fn wait(
    worker: &Rc<Worker>,
    exchange: &Exchange,
    view: &mut Rc<ServiceView>,
    attempts: &mut Attempts,
    pools: Vec<Pool>,
    places: Places,
) -> Result<Option<Lease<RequestBody>>, Refusal> {
    let mut queued = Queued::new(exchange, pools, places);
    let mut is_anew = true;
    poll_fn(|cx| {
        // Whatever woke it, the table may be another one.
        if !std::mem::take(&mut is_anew) {
            let before = std::mem::replace(view, look_again(worker, exchange, view, attempts));
            if !Rc::ptr_eq(&before, view) && !queued.look_around(view, attempts) {
                return Poll::Ready(Ok(None));
            }
        }
        if let Poll::Ready(lease) = queued.turn.poll(cx) {
            return Poll::Ready(Ok(Some(lease).filter(|lease| is_usable(view, exchange, lease.pool()))));
        }
        match exchange.lapse() {
            None => Poll::Pending,
            Some(lapse) => {
                if lapse == Lapse::Place {
                    crowded_out(worker, exchange, Crowding::Timeout);
                }
                Poll::Ready(Err(lapse.refusal()))
            }
        }
    })
    .await
}

/// A request that waits, in whatever way it ends.
struct Queued<'a> {
    exchange: &'a Exchange,
    turn: Turn<RequestBody>,
    variant: Variant,
    since: Instant,
}

impl<'a> Queued<'a> {
    fn new(exchange: &'a Exchange, pools: Vec<Pool>, places: Places) -> Self {
        let (variant, since) = (exchange.serving.get(), clock::now());
        exchange.tally.queued(variant);
        exchange.waiting.set(Waiting::Place(since + places.queue_timeout));
        Self { exchange, turn: Turn::new(pools, places.in_flight_max), variant, since }
    }

    /// Waits for what takes part by this view. Whether there is anything to wait for where the request goes.
    fn look_around(&mut self, view: &ServiceView, attempts: &Attempts) -> bool {
        let places = view.places.map_or(u32::MAX, |places| places.in_flight_max);
        let waits = self.turn.keep(|pool| is_usable(view, self.exchange, pool), places);
        if waits && self.exchange.serving.get() == self.variant {
            let untried = |pool: &&Pool| !attempts.has_tried(pool.endpoint().id());
            view.pools[self.variant].iter().filter(untried).for_each(|pool| self.turn.join(pool));
        }
        waits
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.exchange.waiting.set(Waiting::No);
        self.exchange.tally.dequeued(self.variant, clock::now().saturating_duration_since(self.since));
    }
}
