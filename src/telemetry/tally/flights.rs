//! Which generations still have requests in flight.
//!
//! The owning thread keeps a short queue of (generation, how many), oldest first, without empty
//! entries, so it is never longer than the requests in flight. Others see the oldest only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// The oldest generation of one thread's requests to one service; `u64::MAX` means none.
#[derive(Debug)]
pub(super) struct OldestInFlight(AtomicU64);

impl Default for OldestInFlight {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl OldestInFlight {
    /// `None` when nothing is in flight.
    pub(super) fn read(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|generation| *generation != u64::MAX)
    }
}

/// Requests in flight by generation; stays on its thread.
#[derive(Debug, Default)]
pub(super) struct Flights(VecDeque<(u64, u64)>);

impl Flights {
    pub(super) fn started(&mut self, generation: u64, oldest: &OldestInFlight) {
        match self.0.back_mut() {
            Some((last, count)) if *last == generation => *count += 1,
            Some((last, _)) if *last > generation => self.started_late(generation),
            _ => self.0.push_back((generation, 1)),
        }
        self.publish(oldest);
    }

    pub(super) fn finished(&mut self, generation: u64, oldest: &OldestInFlight) {
        if let Ok(place) = self.0.binary_search_by_key(&generation, |(generation, _)| *generation) {
            let (_, count) = &mut self.0[place];
            *count -= 1;
            if *count == 0 {
                self.0.remove(place);
            }
        }
        self.publish(oldest);
    }

    /// A request that decided by a table which others have already left.
    fn started_late(&mut self, generation: u64) {
        match self.0.binary_search_by_key(&generation, |(generation, _)| *generation) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => self.0.insert(place, (generation, 1)),
        }
    }

    fn publish(&self, oldest: &OldestInFlight) {
        let generation = self.0.front().map_or(u64::MAX, |(generation, _)| *generation);
        oldest.0.store(generation, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_oldest_is_the_smallest_of_those_that_have_not_finished(steps in prop::collection::vec((0u64..6, any::<bool>()), 0..200)) {
            let (mut flights, oldest) = (Flights::default(), OldestInFlight::default());
            let mut model: Vec<u64> = Vec::new();
            for (generation, starts) in steps {
                if starts {
                    flights.started(generation, &oldest);
                    model.push(generation);
                } else {
                    flights.finished(generation, &oldest);
                    if let Some(place) = model.iter().position(|other| *other == generation) {
                        model.remove(place);
                    }
                }
                prop_assert_eq!(oldest.read(), model.iter().min().copied());
                prop_assert!(flights.0.len() <= model.len());
            }
        }
    }
}
