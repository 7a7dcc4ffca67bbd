//! How many clients are here, and how many of them come from one address.
//!
//! The kernel spreads the connections of one client over all threads, so a share of the limit for each thread would
//! turn a client away that has few. Hence one table for all threads, looked at when a connection comes and
//! goes and never for a request, in shards so that two threads rarely meet.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Few threads meet in one of so many.
const SHARDS: usize = 64;

/// Everybody who is connected.
#[derive(Debug)]
pub(super) struct Guests {
    all: AtomicUsize,
    by_address: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
    hasher: RandomState,
}

/// A connection counts while this exists.
#[derive(Debug)]
pub(super) struct Seat(Arc<Guests>);

/// A connection counts for its address while this exists.
#[derive(Debug)]
pub(super) struct AddressSeat {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            all: AtomicUsize::new(0),
            by_address: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        })
    }

    /// One more, unless there are `most` already.
    pub(super) fn take(self: &Arc<Self>, most: usize) -> Option<Seat> {
        let taken = self.all.fetch_add(1, Ordering::Relaxed);
        // From here on it is given back when it is dropped, also at once.
        let seat = Seat(self.clone());
        (taken < most).then_some(seat)
    }

    /// One more from this address, unless there are `most` already.
    pub(super) fn take_from(self: &Arc<Self>, address: IpAddr, most: u32) -> Option<AddressSeat> {
        let address = household(address);
        let mut shard = self.shard(address);
        let count = shard.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(AddressSeat { guests: self.clone(), address })
    }

    fn shard(&self, address: IpAddr) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u32>> {
        let index = self.hasher.hash_one(address) as usize % SHARDS;
        self.by_address[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for AddressSeat {
    fn drop(&mut self) {
        let mut shard = self.guests.shard(self.address);
        if let Some(count) = shard.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: of IPv6 the /64, because whoever has one address there has all of them.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_when_it_is_left() {
        let guests = Guests::new();
        let (first, second) = (guests.take(2), guests.take(2));
        assert!(first.is_some() && second.is_some() && guests.take(2).is_none());
        assert!(guests.take(3).is_some());
        drop(first);
        assert!(guests.take(2).is_some());

        let address = |text: &str| text.parse().unwrap();
        let one = guests.take_from(address("203.0.113.7"), 1);
        assert!(one.is_some() && guests.take_from(address("::ffff:203.0.113.7"), 1).is_none());
        assert!(guests.take_from(address("203.0.113.8"), 1).is_some());
        let six = guests.take_from(address("2001:db8::1"), 1);
        assert!(six.is_some() && guests.take_from(address("2001:db8::ffff:2"), 1).is_none());
        assert!(guests.take_from(address("2001:db8:0:1::1"), 1).is_some());
        drop((one, six));
        assert!(guests.by_address.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn threads_never_seat_more_than_there_is_room_for() {
        let guests = Guests::new();
        let seated = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if let Some(seat) = guests.take_from(IpAddr::from([10, 0, 0, 1]), 3) {
                            assert!(seated.fetch_add(1, Ordering::SeqCst) < 3);
                            seated.fetch_sub(1, Ordering::SeqCst);
                            drop(seat);
                        }
                    }
                });
            }
        });
    }
}
