//! How many requests are under way at once, over all threads: one too many is turned away before it costs anything.
//!
//! A count that every request of every thread changed would make the threads wait for each other, and a share of
//! the limit for each thread would turn requests away while other threads have room: the kernel spreads connections,
//! not requests, and one connection of HTTP/2 brings a hundred of them. So threads take places in batches from what
//! is left for all, and give back what they do not use. There are never more requests than the limit says. Places
//! that lie unused with other threads can turn a request away early, but they are less than an eighth of the limit, and
//! none of them stays for longer than a beat; where the limit is so small that an eighth of it is no batch, each
//! place is taken and given back by itself, and the count is exact.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// All threads' unused places together are so small a part of the limit.
const UNUSED_PART: u32 = 16;
/// More at once make the shared count no quieter.
const BATCH_MAX: u32 = 64;

/// What all threads share of one limit.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    taken: AtomicU32,
}

/// One thread's way in.
#[derive(Debug)]
pub(super) struct Turnstile {
    crowd: Arc<Crowd>,
    threads: u32,
    unused: Cell<u32>,
    batch: Cell<u32>,
}

/// A request counts while this exists.
#[derive(Debug)]
pub(super) struct Place(Rc<Turnstile>);

impl Crowd {
    /// Takes up to `wanted` places of `most`; how many it got.
    fn take(&self, wanted: u32, most: u32) -> u32 {
        let mut got = 0;
        // The closure says what is added: nothing when all are taken.
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            got = wanted.min(most.saturating_sub(taken));
            (got > 0).then(|| taken + got)
        });
        if taken.is_ok() { got } else { 0 }
    }

    fn give_back(&self, count: u32) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Turnstile {
    /// Of one of so many threads.
    pub(super) fn new(crowd: Arc<Crowd>, threads: u32) -> Rc<Self> {
        Rc::new(Self { crowd, threads, unused: Cell::new(0), batch: Cell::new(1) })
    }

    /// One more, unless there are `most` already.
    pub(super) fn enter(self: &Rc<Self>, most: u32) -> Option<Place> {
        let mut unused = self.unused.get();
        if unused == 0 {
            let batch = most / self.threads.saturating_mul(UNUSED_PART);
            self.batch.set(batch.clamp(1, BATCH_MAX));
            unused = self.crowd.take(self.batch.get(), most);
        }
        self.unused.set(unused.checked_sub(1)?);
        Some(Place(self.clone()))
    }

    /// Gives back what is not used at the moment; also what a lower limit has no room for any more.
    pub(super) fn rest(&self) {
        let unused = self.unused.take();
        if unused > 0 {
            self.crowd.give_back(unused);
        }
    }

    fn leave(&self) {
        let (unused, batch) = (self.unused.get() + 1, self.batch.get());
        self.unused.set(unused);
        if batch == 1 {
            self.rest();
        } else if unused >= 2 * batch {
            self.unused.set(unused - batch);
            self.crowd.give_back(batch);
        }
    }
}

impl Drop for Turnstile {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_limit_is_exact_on_every_thread() {
        let crowd = Arc::<Crowd>::default();
        let turnstiles = [Turnstile::new(crowd.clone(), 2), Turnstile::new(crowd.clone(), 2)];
        for most in [1, 2, 31] {
            let mut places: Vec<_> = (0..most).map(|_| turnstiles[0].enter(most).unwrap()).collect();
            assert!(turnstiles.iter().all(|turnstile| turnstile.enter(most).is_none()));
            places.pop();
            assert!(turnstiles[1].enter(most).is_some(), "what one thread leaves is there for the other");
        }
        assert_eq!(crowd.taken.load(Ordering::Relaxed), 0);
        assert!(turnstiles[0].enter(0).is_none());
    }

    #[test]
    fn a_lower_limit_counts_after_a_beat_and_a_higher_one_at_once() {
        let turnstile = Turnstile::new(Arc::default(), 1);
        let places: Vec<_> = (0..100).map(|_| turnstile.enter(1000).unwrap()).collect();
        turnstile.rest();
        assert!(turnstile.enter(100).is_none());
        assert!(turnstile.enter(101).is_some());
        drop(places);
        assert_eq!(turnstile.crowd.taken.load(Ordering::Relaxed), turnstile.unused.get());
    }

    proptest! {
        #[test]
        fn never_too_many_and_turned_away_only_when_less_than_an_eighth_is_left(
            most in 1_u32..3000,
            threads in 1_u32..9,
            steps in prop::collection::vec((any::<bool>(), 0_usize..9, 1_usize..400), 1..60),
        ) {
            let crowd = Arc::<Crowd>::default();
            let turnstiles: Vec<_> =
                (0..threads).map(|_| Turnstile::new(crowd.clone(), threads)).collect();
            let mut inside: Vec<Vec<Place>> = (0..threads).map(|_| Vec::new()).collect();
            for (comes, thread, count) in steps {
                let thread = thread % turnstiles.len();
                for _ in 0..count {
                    if !comes {
                        inside[thread].pop();
                    } else if let Some(place) = turnstiles[thread].enter(most) {
                        inside[thread].push(place);
                    } else {
                        let there: usize = inside.iter().map(Vec::len).sum();
                        prop_assert!(most as usize - there <= most as usize / 8, "{there} of {most}");
                        break;
                    }
                }
                let there: usize = inside.iter().map(Vec::len).sum();
                prop_assert!(there <= most as usize, "{there} of {most}");
            }
            drop(inside);
            drop(turnstiles);
            prop_assert_eq!(crowd.taken.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn threads_together_never_let_in_more_than_there_is_room_for() {
        let (crowd, inside) = (Arc::<Crowd>::default(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let turnstile = Turnstile::new(crowd.clone(), 4);
                    for _ in 0..2000 {
                        let places: Vec<_> = (0..100).map_while(|_| turnstile.enter(300)).collect();
                        let count = places.len() as u32;
                        assert!(inside.fetch_add(count, Ordering::SeqCst) + count <= 300);
                        inside.fetch_sub(count, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(crowd.taken.load(Ordering::Relaxed), 0);
    }
}
