//! Names of endpoints and the addresses they have at the moment.
//!
//! The data plane never looks a name up: it reads what stands here, and waits only for the very first answer.
//! One place in the process asks again when an answer's time is over and puts what it learns here, for all
//! threads. Addresses that were good are kept when nobody answers: an old address is more likely to work than
//! none at all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

/// The names in use, each once, however many endpoints have it.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<HashMap<Arc<str>, Weak<Name>>>>);

impl Names {
    /// The name, as everybody knows it.
    pub fn of(&self, host: &Arc<str>) -> Arc<Name> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(host).and_then(Weak::upgrade) {
            return name;
        }
        names.retain(|_, name| name.strong_count() > 0);
        let name = Arc::new(Name { host: host.clone(), found: watch::Sender::new(Found::NotYet) });
        names.insert(host.clone(), Arc::downgrade(&name));
        name
    }
}

/// A name and what is known about it.
#[derive(Debug)]
pub struct Name {
    host: Arc<str>,
    found: watch::Sender<Found>,
}

#[derive(Clone, Debug)]
enum Found {
    NotYet,
    Nothing(Arc<str>),
    Addresses(Arc<Addresses>),
}

impl Name {
    /// So many addresses of a name are endpoints of their own at most.
    pub const SPREAD_MAX: usize = 64;

    /// The name itself.
    pub fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// Takes in the answer to a look-up. What is known stays if it is the same, or if there is no answer. Returns
    /// whether [`Name::spread`] is another one now.
    pub fn learn(&self, answer: Result<Vec<IpAddr>, Arc<str>>) -> bool {
        let before = self.spread();
        self.found.send_if_modified(|found| {
            match (answer, &*found) {
                (Ok(list), Found::Addresses(old)) if old.has_same(&list) => {
                    // Time to give those another chance that failed.
                    old.failed.store(0, Ordering::Relaxed);
                    return false;
                }
                (Err(_), Found::Addresses(_)) => return false,
                (Ok(list), _) => *found = Found::Addresses(Arc::new(Addresses::new(list))),
                (Err(why), _) => *found = Found::Nothing(why),
            }
            true
        });
        self.spread() != before
    }

    /// The addresses that are endpoints of their own, sorted: all of one family if it has several, IPv4's if both
    /// families do, at most [`Name::SPREAD_MAX`]. Empty for a name with one address, or with one of each family: these
    /// are most often the same machine, and whichever of them answers will do.
    pub fn spread(&self) -> Vec<IpAddr> {
        let mut all = self.spread_in_full();
        all.truncate(Self::SPREAD_MAX);
        all
    }

    /// How many addresses are left out because there are too many.
    pub fn left_out(&self) -> usize {
        self.spread_in_full().len().saturating_sub(Self::SPREAD_MAX)
    }

    fn spread_in_full(&self) -> Vec<IpAddr> {
        let Found::Addresses(known) = &*self.found.borrow() else { return Vec::new() };
        let (mut four, mut six): (Vec<_>, Vec<_>) =
            known.list.iter().copied().partition(|address| address.is_ipv4());
        four.sort_unstable();
        six.sort_unstable();
        match (four.len(), six.len()) {
            (0 | 1, 0 | 1) => Vec::new(),
            (0 | 1, _) => six,
            _ => four,
        }
    }

    /// Its addresses; waits for the first answer as long as the caller does.
    pub(super) async fn addresses(&self) -> Result<Arc<Addresses>, Arc<str>> {
        let mut found = self.found.subscribe();
        // The sender lives as long as the name does.
        let known = found.wait_for(|found| !matches!(found, Found::NotYet)).await;
        match known.as_deref() {
            Ok(Found::Addresses(addresses)) => Ok(addresses.clone()),
            Ok(Found::Nothing(why)) => Err(why.clone()),
            Ok(Found::NotYet) | Err(_) => Err("nobody looks names up any more".into()),
        }
    }

    /// Whether `address` is one of those it has now.
    #[cfg(test)]
    pub(super) fn has(&self, address: IpAddr) -> bool {
        matches!(&*self.found.borrow(), Found::Addresses(known) if known.list.contains(&address))
    }
}

/// How many addresses it is remembered of that they failed.
const REMEMBERED: usize = u64::BITS as usize;

/// What a name led to, until it is looked up again.
#[derive(Debug)]
pub(super) struct Addresses {
    list: Box<[IpAddr]>,
    next: AtomicUsize,
    failed: AtomicU64,
}

impl Addresses {
    fn new(list: Vec<IpAddr>) -> Self {
        Self { list: list.into(), next: AtomicUsize::new(0), failed: AtomicU64::new(0) }
    }

    /// In any order: name servers shuffle their answers.
    fn has_same(&self, list: &[IpAddr]) -> bool {
        self.list.len() == list.len() && list.iter().all(|address| self.list.contains(address))
    }

    /// All of them, each call beginning with the next one, so that every one has its share of connections; last
    /// come those that failed.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, IpAddr)> {
        let count = self.list.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let failed = self.failed.load(Ordering::Relaxed);
        let has_failed = move |index: usize| index < REMEMBERED && failed & (1 << index) != 0;
        let mut order: Vec<usize> = (0..count).map(|step| (first.wrapping_add(step)) % count).collect();
        order.sort_by_key(|index| has_failed(*index));
        order.into_iter().filter_map(|index| Some((index, *self.list.get(index)?)))
    }

    /// Remembers how it went.
    pub(super) fn note(&self, index: usize, is_good: bool) {
        if index < REMEMBERED {
            let bit = 1 << index;
            if is_good {
                self.failed.fetch_and(!bit, Ordering::Relaxed);
            } else {
                self.failed.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn firsts(addresses: &Addresses) -> Vec<IpAddr> {
        (0..6).map(|_| addresses.in_turn().next().unwrap().1).collect()
    }

    #[test]
    fn every_address_has_its_turn_and_those_that_failed_come_last() {
        let addresses = Addresses::new(vec![ip(1), ip(2), ip(3)]);
        assert_eq!(firsts(&addresses), [ip(1), ip(2), ip(3), ip(1), ip(2), ip(3)]);
        addresses.note(1, false);
        assert!(!firsts(&addresses).contains(&ip(2)));
        assert_eq!(addresses.in_turn().last().unwrap().1, ip(2));
        addresses.note(1, true);
        assert!(firsts(&addresses).contains(&ip(2)));
    }

    #[tokio::test]
    async fn old_addresses_outlive_a_failed_look_up() {
        let names = Names::default();
        let name = names.of(&"shop".into());
        assert!(Arc::ptr_eq(&name, &names.of(&"shop".into())));
        name.learn(Err("no such name".into()));
        assert_eq!(&*name.addresses().await.unwrap_err(), "no such name");
        name.learn(Ok(vec![ip(1), ip(2)]));
        let known = name.addresses().await.unwrap();
        name.learn(Err("no answer".into()));
        name.learn(Ok(vec![ip(2), ip(1)]));
        assert!(Arc::ptr_eq(&known, &name.addresses().await.unwrap()));
        name.learn(Ok(vec![ip(3)]));
        assert!(name.has(ip(3)) && !name.has(ip(1)));
    }

    #[test]
    fn a_name_with_several_addresses_is_spread_over_those_of_one_family() {
        #[track_caller]
        fn check(answer: &[&str], expected: &[&str]) {
            let parse = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
            let name = Names::default().of(&"shop".into());
            assert_eq!(name.learn(Ok(parse(answer))), !expected.is_empty());
            assert_eq!(name.spread(), parse(expected));
            assert!(!name.learn(Err("no answer".into())), "old ones stay");
            assert_eq!(name.spread(), parse(expected));
        }
        check(&["10.0.0.1"], &[]);
        // Most often one machine that has both.
        check(&["127.0.0.1", "::1"], &[]);
        check(&["10.0.0.2", "10.0.0.1"], &["10.0.0.1", "10.0.0.2"]);
        check(&["::2", "::1"], &["::1", "::2"]);
        check(&["::1", "10.0.0.2", "::2", "10.0.0.1"], &["10.0.0.1", "10.0.0.2"]);
        check(&["::1", "10.0.0.2", "::2"], &["::1", "::2"]);
    }

    #[test]
    fn too_many_addresses_are_left_out_and_counted() {
        let name = Names::default().of(&"shop".into());
        let all: Vec<_> = (0..70).rev().map(ip).collect();
        assert!(name.learn(Ok(all)));
        assert_eq!((name.spread().len(), name.left_out()), (Name::SPREAD_MAX, 6));
        assert_eq!(name.spread()[0], ip(0), "the same ones, however the answer is shuffled");
    }

    #[tokio::test]
    async fn who_comes_before_the_first_answer_waits_for_it() {
        let name = Names::default().of(&"shop".into());
        let waiting = name.addresses();
        let answering = async { assert!(!name.learn(Ok(vec![ip(1)]))) };
        let (addresses, ()) = tokio::join!(waiting, answering);
        assert_eq!(addresses.unwrap().in_turn().count(), 1);
    }
}
