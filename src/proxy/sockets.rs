//! The listening sockets, apart from the threads that accept on them: they may be bound before anything is served, come
//! from somebody else, and be passed on.
//!
//! With `SO_REUSEPORT` the kernel decides by each connection's addresses in which socket's queue it waits. A socket that
//! is closed takes its queue with it, so what was given to us is never closed while its address is served: if
//! there are more sockets than threads, some threads accept on several.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::ProxySettings;
use super::listener::{BindError, bind};

/// The sockets of all addresses, in the order of the settings.
#[derive(Debug)]
pub struct Sockets {
    places: Vec<Place>,
}

/// All sockets of one address.
#[derive(Debug)]
pub struct Place {
    /// The address as it was configured; its port may be 0.
    pub configured: SocketAddr,
    /// The sockets.
    pub sockets: Vec<TcpListener>,
}

impl Sockets {
    /// Listens on all addresses of the settings, with at least one socket for each thread. `inherited` sockets are
    /// kept where an address is configured as theirs was, or is where they are; the others are closed here.
    pub fn bind(settings: &ProxySettings, mut inherited: Vec<Place>) -> Result<Self, BindError> {
        let mut places = Vec::with_capacity(settings.listen.len());
        for configured in settings.listen.iter().copied() {
            let is_there = |place: &Place| {
                let at = place.sockets.first().and_then(|socket| socket.local_addr().ok());
                place.configured == configured || at == Some(configured)
            };
            let kept = inherited.iter().position(is_there).map(|at| inherited.remove(at).sockets);
            let sockets = bind(configured, settings.threads.get(), kept.unwrap_or_default())?;
            places.push(Place { configured, sockets });
        }
        Ok(Self { places })
    }

    /// Where they listen, with port numbers filled in.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let first = |place: &Place| place.sockets.first().and_then(|socket| socket.local_addr().ok());
        self.places.iter().filter_map(first).collect()
    }

    /// Copies that share their queues with these.
    pub fn try_clone(&self) -> io::Result<Self> {
        let copy = |place: &Place| {
            let sockets = place.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
            Ok(Place { configured: place.configured, sockets })
        };
        Ok(Self { places: self.places.iter().map(copy).collect::<io::Result<_>>()? })
    }

    /// The sockets by address.
    pub fn into_places(self) -> Vec<Place> {
        self.places
    }

    /// Every thread's sockets, with the place of their address in the settings: of each address one, and more where
    /// there are more sockets than threads.
    pub(super) fn deal(self, threads: usize) -> Vec<Vec<(usize, TcpListener)>> {
        let mut dealt: Vec<Vec<(usize, TcpListener)>> = Vec::new();
        dealt.resize_with(threads, Vec::new);
        for (number, place) in self.places.into_iter().enumerate() {
            let mut next = (0..threads).cycle();
            for (socket, thread) in place.sockets.into_iter().zip(next.by_ref()) {
                dealt[thread].push((number, socket));
            }
        }
        dealt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &[SocketAddr], threads: usize) -> ProxySettings {
        ProxySettings {
            listen: listen.to_vec(),
            threads: threads.try_into().unwrap(),
            drain: std::time::Duration::ZERO,
            handover: std::time::Duration::ZERO,
            live: Default::default(),
        }
    }

    const ANY: &str = "127.0.0.1:0";

    #[test]
    fn what_is_inherited_is_kept_whatever_the_number_of_threads() {
        #[track_caller]
        fn check(had: usize, threads: usize, expected: usize) {
            let any: SocketAddr = ANY.parse().unwrap();
            let old = Sockets::bind(&settings(&[any], had), Vec::new()).unwrap();
            let passed_on = old.try_clone().unwrap().into_places();
            let new = Sockets::bind(&settings(&[any], threads), passed_on).unwrap();
            assert_eq!(new.addresses(), old.addresses(), "{had} → {threads}");
            let dealt = new.deal(threads);
            let each: Vec<_> = dealt.iter().map(Vec::len).collect();
            assert_eq!(each.iter().sum::<usize>(), expected, "{had} → {threads}: {each:?}");
            assert!(each.iter().all(|count| *count > 0), "{had} → {threads}: {each:?}");
        }
        check(2, 2, 2);
        check(1, 3, 3);
        check(5, 2, 5);
    }

    #[test]
    fn an_address_is_found_as_configured_or_where_it_is_and_others_are_bound() {
        let any: SocketAddr = ANY.parse().unwrap();
        let old = Sockets::bind(&settings(&[any], 1), Vec::new()).unwrap();
        let at = old.addresses();
        let new = Sockets::bind(&settings(&at, 1), old.try_clone().unwrap().into_places()).unwrap();
        assert_eq!(new.addresses(), at);
        let fresh = Sockets::bind(&settings(&[any, any], 1), old.try_clone().unwrap().into_places()).unwrap();
        let fresh = fresh.addresses();
        assert!(fresh[0] == at[0] && fresh[1] != at[0], "{fresh:?} {at:?}");
        // Nobody gets an address by the way.
        assert!(matches!(Sockets::bind(&settings(&at, 1), Vec::new()), Err(BindError::InUse(_))));
    }

    #[test]
    fn a_socket_that_cannot_be_joined_is_shared_by_the_threads() {
        let alone = TcpListener::bind(ANY).unwrap();
        let at = alone.local_addr().unwrap();
        let given = vec![Place { configured: at, sockets: vec![alone] }];
        let dealt = Sockets::bind(&settings(&[at], 3), given).unwrap().deal(3);
        assert!(dealt.iter().all(|sockets| sockets.len() == 1 && sockets[0].1.local_addr().unwrap() == at));
    }
}
