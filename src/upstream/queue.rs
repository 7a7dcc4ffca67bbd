//! Requests that wait for a place at an endpoint: first come, first served.
//!
//! A place that becomes free is given to the first who waits before anybody else can see it, so nobody who comes later
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
    /// It has a place, and does not know yet.
    Given,
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

    /// Gives the first one a place if `in_flight` leaves one to it.
    pub(super) fn give(&self, in_flight: u32) -> bool {
        let mut waiters = self.0.borrow_mut();
        if waiters.front().is_none_or(|first| in_flight >= first.places.get()) {
            return false;
        }
        let Some(first) = waiters.pop_front() else { return false };
        drop(waiters);
        first.stage.set(Stage::Given);
        let waker = first.waker.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
        true
    }
}

/// A request's turn at an endpoint. Whoever drops it waits no more.
pub struct Turn<B: Upload> {
    pool: Rc<EndpointPool<B>>,
    waiter: Rc<Waiter>,
}

impl<B: Upload> Turn<B> {
    pub(super) fn new(pool: &Rc<EndpointPool<B>>, places: u32) -> Self {
        let waiter = Rc::new(Waiter {
            places: Cell::new(places),
            stage: Cell::new(Stage::Waiting),
            waker: RefCell::default(),
        });
        pool.queue.0.borrow_mut().push_back(waiter.clone());
        pool.admit();
        Self { pool: pool.clone(), waiter }
    }

    /// The endpoint's pool.
    pub fn pool(&self) -> &Rc<EndpointPool<B>> {
        &self.pool
    }

    /// From now on so many may be under way there at once.
    pub fn allow(&self, places: u32) {
        self.waiter.places.set(places);
        self.pool.admit();
    }

    /// Ready, once, when there is a place.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lease<B>> {
        if self.waiter.stage.get() == Stage::Given {
            self.waiter.stage.set(Stage::Taken);
            return Poll::Ready(Lease::given(&self.pool));
        }
        *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<B: Upload> Drop for Turn<B> {
    fn drop(&mut self) {
        match self.waiter.stage.get() {
            Stage::Waiting => {
                self.pool.queue.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.waiter));
                // Who comes next may be allowed more.
                self.pool.admit();
            }
            Stage::Given => self.pool.left(),
            Stage::Taken => {}
        }
    }
}

impl<B: Upload> std::fmt::Debug for Turn<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Turn").field(self.pool.endpoint().label()).field(&self.waiter.stage.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::Empty;
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::{Endpoint, Names, Pools, Reach, Way};

    type Pool = Rc<EndpointPool<Empty<Bytes>>>;

    fn pool() -> Pool {
        let way = Way::new("http://127.0.0.1:1".parse().unwrap(), &Reach::default(), &Names::default());
        Pools::new(9).of(&Arc::new(Endpoint::new(1, way, 1)))
    }

    fn poll(turn: &mut Turn<Empty<Bytes>>) -> Option<Lease<Empty<Bytes>>> {
        match turn.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lease) => Some(lease),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_free_place_goes_to_the_first_and_to_nobody_who_comes_later() {
        let pool = pool();
        let busy = pool.lease();
        assert!(pool.is_full(Some(1)) && !pool.is_full(Some(2)) && !pool.is_full(None));
        let (mut first, mut second) = (pool.wait(1), pool.wait(1));
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
        let (first, mut second) = (pool.wait(1), pool.wait(1));
        drop(busy);
        drop(first);
        assert!(poll(&mut second).is_some());
    }

    #[test]
    fn more_places_are_taken_at_once_and_fewer_are_waited_for() {
        let pool = pool();
        let busy = [pool.lease(), pool.lease()];
        let (mut first, mut second) = (pool.wait(2), pool.wait(2));
        first.allow(3);
        let third = poll(&mut first).unwrap();
        assert!(poll(&mut second).is_none());
        second.allow(1);
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
                        turns.push((came, pool.wait(places)));
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
                prop_assert_eq!(pool.load().in_flight as usize, leases.len());
                prop_assert!(turns.is_empty() || leases.len() == places as usize);
                prop_assert_eq!(pool.queued() as usize, turns.len());
            }
        }
    }
}
