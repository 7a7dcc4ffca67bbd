//! Requests that wait for a place at any of some endpoints: first come, first served.
//!
//! Who waits stands in the queue of each of them, so that the first place that becomes free anywhere is his, whichever
//! endpoint is slow. A place is given to the first who waits before anybody else can see it, so nobody who comes later
//! is served earlier, and no place is lost when who was given one has gone meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{EndpointPool, Lease, Upload};

/// Who waits for places at one endpoint, on one thread.
#[derive(Debug, Default)]
pub(super) struct Queue(RefCell<VecDeque<Rc<Waiter>>>);

#[derive(Debug)]
struct Waiter {
    /// How many may be under way there at once.
    places: Cell<u32>,
    stage: Cell<Stage>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// The endpoint with this number has given it a place, and it does not know yet.
    Given(u32),
    /// Its place is a lease's.
    Taken,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Gives the first one a place of the endpoint with this number, if `in_flight` leaves one to it.
    pub(super) fn give(&self, endpoint: u32, in_flight: u32) -> bool {
        let mut waiters = self.0.borrow_mut();
        while let Some(first) = waiters.front() {
            if first.stage.get() != Stage::Waiting {
                // Another endpoint was quicker.
                waiters.pop_front();
            } else if in_flight >= first.places.get() {
                return false;
            } else {
                first.stage.set(Stage::Given(endpoint));
                let waker = first.waker.borrow_mut().take();
                waiters.pop_front();
                drop(waiters);
                waker.into_iter().for_each(Waker::wake);
                return true;
            }
        }
        false
    }

    fn join(&self, waiter: &Rc<Waiter>) {
        self.0.borrow_mut().push_back(waiter.clone());
    }

    fn leave(&self, waiter: &Rc<Waiter>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, waiter));
    }
}

/// A request's turn at one of some endpoints. Whoever drops it waits no more.
pub struct Turn<B: Upload> {
    pools: Vec<Rc<EndpointPool<B>>>,
    waiter: Rc<Waiter>,
}

impl<B: Upload> Turn<B> {
    /// Waits behind all who wait already for one of so many places at each of them.
    pub fn new(pools: Vec<Rc<EndpointPool<B>>>, places: u32) -> Self {
        let waiter = Rc::new(Waiter {
            places: Cell::new(places),
            stage: Cell::new(Stage::Waiting),
            waker: RefCell::default(),
        });
        pools.iter().for_each(|pool| pool.queue.join(&waiter));
        pools.iter().for_each(|pool| pool.admit());
        Self { pools, waiter }
    }

    /// Goes on waiting only where `may` allows it, and with so many places there. Whether there is such an endpoint.
    pub fn keep(&mut self, may: impl Fn(&Rc<EndpointPool<B>>) -> bool, places: u32) -> bool {
        self.waiter.places.set(places);
        self.pools.retain(|pool| {
            let stays = may(pool) || self.waiter.stage.get() == Stage::Given(pool.endpoint().id());
            if !stays {
                pool.queue.leave(&self.waiter);
            }
            stays
        });
        self.pools.iter().for_each(|pool| pool.admit());
        !self.pools.is_empty()
    }

    /// Waits for a place there, too.
    pub fn join(&mut self, pool: &Rc<EndpointPool<B>>) {
        let is_new = !self.pools.iter().any(|other| Rc::ptr_eq(other, pool));
        if is_new && self.waiter.stage.get() == Stage::Waiting {
            pool.queue.join(&self.waiter);
            self.pools.push(pool.clone());
            pool.admit();
        }
    }

    /// Ready, once, when there is a place.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lease<B>> {
        if let Stage::Given(endpoint) = self.waiter.stage.get()
            && let Some(pool) = self.pools.iter().find(|pool| pool.endpoint().id() == endpoint)
        {
            self.waiter.stage.set(Stage::Taken);
            return Poll::Ready(Lease::given(pool));
        }
        *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<B: Upload> Drop for Turn<B> {
    fn drop(&mut self) {
        let stage = self.waiter.stage.get();
        for pool in &self.pools {
            pool.queue.leave(&self.waiter);
            if stage == Stage::Given(pool.endpoint().id()) {
                pool.left();
            } else {
                // Who comes next may be allowed more.
                pool.admit();
            }
        }
    }
}

impl<B: Upload> std::fmt::Debug for Turn<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Turn").field(&self.pools).field(&self.waiter.stage.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::Empty;
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::{Endpoint, Names, Pools, Ramp, Reach, Way};

    type Pool = Rc<EndpointPool<Empty<Bytes>>>;

    fn pool() -> Pool {
        numbered(1)
    }

    fn numbered(id: u32) -> Pool {
        let way = Way::new("http://127.0.0.1:1".parse().unwrap(), &Reach::default(), &Names::default());
        Pools::new(9, Arc::default()).of(&Arc::new(Endpoint::new(id, way, 1)))
    }

    fn poll(turn: &mut Turn<Empty<Bytes>>) -> Option<Lease<Empty<Bytes>>> {
        match turn.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lease) => Some(lease),
            Poll::Pending => None,
        }
    }

    fn wait(pool: &Pool, places: u32) -> Turn<Empty<Bytes>> {
        Turn::new(vec![pool.clone()], places)
    }

    #[test]
    fn the_first_place_anywhere_is_taken_and_waiting_goes_on_where_it_may() {
        let (one, two) = (numbered(1), numbered(2));
        let busy = [one.lease(), two.lease()];
        let both = || vec![one.clone(), two.clone()];
        let (mut first, mut second, mut third) = (Turn::new(both(), 1), Turn::new(both(), 1), wait(&one, 1));
        let [at_one, at_two] = busy;
        drop(at_two);
        assert!(poll(&mut second).is_none());
        assert_eq!(poll(&mut first).unwrap().endpoint().id(), 2);
        drop(first);
        assert_eq!(poll(&mut second).unwrap().endpoint().id(), 2);
        drop(second);
        drop(at_one);
        assert_eq!(poll(&mut third).unwrap().endpoint().id(), 1);
        let held = one.lease();
        let mut only = Turn::new(both(), 1);
        assert_eq!(poll(&mut only).unwrap().endpoint().id(), 2);
        let mut gone = wait(&one, 1);
        assert!(!gone.keep(|_| false, 1));
        drop((held, gone, only));
        assert!(one.queued() == 0 && two.queued() == 0);
        assert_eq!((one.load(Ramp::FULL).in_flight, two.load(Ramp::FULL).in_flight), (0, 0));
    }

    #[test]
    fn a_place_elsewhere_is_taken_as_soon_as_it_may_be_and_only_one() {
        let (one, two) = (numbered(1), numbered(2));
        let (busy, also_busy) = (one.lease(), two.lease());
        let mut turn = wait(&one, 1);
        turn.join(&two);
        turn.join(&two);
        assert!(poll(&mut turn).is_none() && two.queued() == 1);
        drop((also_busy, busy));
        turn.join(&one);
        assert_eq!(poll(&mut turn).unwrap().endpoint().id(), 2);
        drop(turn);
        assert_eq!((one.queued(), one.load(Ramp::FULL).in_flight), (0, 0));
        assert_eq!((two.queued(), two.load(Ramp::FULL).in_flight), (0, 0));
    }

    #[test]
    fn a_free_place_goes_to_the_first_and_to_nobody_who_comes_later() {
        let pool = pool();
        let busy = pool.lease();
        assert!(pool.is_full(Some(1)) && !pool.is_full(Some(2)) && !pool.is_full(None));
        let (mut first, mut second) = (wait(&pool, 1), wait(&pool, 1));
        assert!(poll(&mut first).is_none() && pool.queued() == 2);
        drop(busy);
        assert!(pool.is_full(Some(1)));
        assert!(poll(&mut second).is_none());
        let lease = poll(&mut first).unwrap();
        drop((first, lease));
        drop(poll(&mut second).unwrap());
        assert!(!pool.is_full(Some(1)));
    }

    #[test]
    fn who_goes_away_with_a_place_in_hand_leaves_it_to_the_next() {
        let pool = pool();
        let busy = pool.lease();
        let (first, mut second) = (wait(&pool, 1), wait(&pool, 1));
        drop(busy);
        drop(first);
        assert!(poll(&mut second).is_some());
    }

    #[test]
    fn more_places_are_taken_at_once_and_fewer_are_waited_for() {
        let pool = pool();
        let busy = [pool.lease(), pool.lease()];
        let (mut first, mut second) = (wait(&pool, 2), wait(&pool, 2));
        assert!(first.keep(|_| true, 3));
        let third = poll(&mut first).unwrap();
        assert!(poll(&mut second).is_none());
        assert!(second.keep(|_| true, 1));
        drop(busy);
        assert!(poll(&mut second).is_none());
        drop(third);
        assert!(poll(&mut second).is_some());
    }

    proptest! {
        #[test]
        fn places_are_never_exceeded_nor_lost_and_turns_come_in_order(
            places in 1u32..5, events in prop::collection::vec((0u8..3, 0usize..8), 0..200),
        ) {
            let pool = pool();
            let (mut leases, mut turns, mut came) = (Vec::new(), Vec::new(), 0u32);
            let mut last = None;
            for (event, which) in events {
                match event {
                    0 if pool.is_full(Some(places)) => {
                        turns.push((came, wait(&pool, places)));
                        came += 1;
                    }
                    0 => leases.push(pool.lease()),
                    1 if !leases.is_empty() => drop(leases.swap_remove(which % leases.len())),
                    2 if !turns.is_empty() => drop(turns.remove(which % turns.len())),
                    _ => {}
                }
                while let Some(place) = turns.iter_mut().position(|(_, turn)| {
                    poll(turn).map(|lease| leases.push(lease)).is_some()
                }) {
                    let (number, _) = turns.remove(place);
                    prop_assert!(place == 0 && last.is_none_or(|last| last < number));
                    last = Some(number);
                }
                prop_assert!(leases.len() <= places as usize);
                prop_assert_eq!(pool.load(Ramp::FULL).in_flight as usize, leases.len());
                prop_assert!(turns.is_empty() || leases.len() == places as usize);
                prop_assert_eq!(pool.queued() as usize, turns.len());
            }
        }
    }
}
