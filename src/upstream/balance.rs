//! Which of a variant's endpoints takes a request: the less busy of two random ones.
//!
//! Round robin sends as much to a struggling instance as to a quick one; always taking the least busy makes
//! all threads run to the same place at once. Two random choices (Mitzenmacher 1996) come close to the least
//! busy without the stampede, and need only what this thread knows. Weights count twice, as they should:
//! heavy endpoints are drawn more often, and are allowed more requests before they count as busy.

/// What is known about an endpoint when a request needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its share among its peers; 0 takes it out of the choice.
    pub weight: u16,
    /// Requests that this thread has under way there.
    pub in_flight: u32,
}

impl Load {
    /// Whether this one is busier than `other`, each measured by its weight.
    fn is_busier_than(self, other: Self) -> bool {
        u64::from(self.in_flight) * u64::from(other.weight)
            > u64::from(other.in_flight) * u64::from(self.weight)
    }
}

/// The index of one of `count` endpoints; `load` tells about each, `None` leaves it out. `None` when all
/// are left out.
pub fn pick(count: usize, load: impl Fn(usize) -> Option<Load>, random: &mut fastrand::Rng) -> Option<usize> {
    if count == 1 {
        return load(0).filter(|load| load.weight > 0).map(|_| 0);
    }
    let total = (0..count).filter_map(&load).map(|load| u64::from(load.weight)).sum();
    let (first, one) = draw(count, &load, total, None, random)?;
    let Some((second, other)) = draw(count, &load, total - u64::from(one.weight), Some(first), random) else {
        return Some(first);
    };
    Some(if one.is_busier_than(other) { second } else { first })
}

/// One of them by weight, but not `except`; `total` is the weight of all others.
fn draw(
    count: usize,
    load: &impl Fn(usize) -> Option<Load>,
    total: u64,
    except: Option<usize>,
    random: &mut fastrand::Rng,
) -> Option<(usize, Load)> {
    if total == 0 {
        return None;
    }
    let mut position = random.u64(0..total);
    for index in (0..count).filter(|index| Some(*index) != except) {
        let Some(load) = load(index) else { continue };
        match position.checked_sub(u64::from(load.weight)) {
            None => return Some((index, load)),
            Some(rest) => position = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(loads: &[Load]) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut seen = vec![0; loads.len()];
        for _ in 0..10_000 {
            seen[pick(loads.len(), |index| Some(loads[index]), &mut random).unwrap()] += 1;
        }
        seen
    }

    fn load(weight: u16, in_flight: u32) -> Load {
        Load { weight, in_flight }
    }

    #[test]
    fn equals_share_alike_and_the_busiest_is_spared() {
        let even = shares(&[load(1, 0), load(1, 0), load(1, 0), load(1, 0)]);
        assert!(even.iter().all(|seen| (2_200..2_800).contains(seen)), "{even:?}");
        let busy = shares(&[load(1, 9), load(1, 0), load(1, 0)]);
        assert_eq!(busy[0], 0);
        let two = shares(&[load(1, 1), load(1, 0)]);
        assert_eq!(two, [0, 10_000]);
    }

    #[test]
    fn weights_allow_more_before_an_endpoint_counts_as_busy() {
        assert_eq!(shares(&[load(3, 2), load(1, 1)]), [10_000, 0]);
        assert_eq!(shares(&[load(3, 4), load(1, 1)]), [0, 10_000]);
        let idle = shares(&[load(3, 0), load(1, 0)]);
        assert!((7_200..7_800).contains(&idle[0]), "{idle:?}");
    }

    proptest! {
        #[test]
        fn only_what_may_be_chosen_is_chosen(
            loads in prop::collection::vec(prop::option::of((0u16..5, 0u32..9)), 0..8), seed: u64,
        ) {
            let load = |index: usize| loads[index].map(|(weight, in_flight)| Load { weight, in_flight });
            let picked = pick(loads.len(), load, &mut fastrand::Rng::with_seed(seed));
            let may = |index: usize| load(index).is_some_and(|load| load.weight > 0);
            match picked {
                Some(index) => prop_assert!(may(index)),
                None => prop_assert!(!(0..loads.len()).any(may)),
            }
        }

        #[test]
        fn of_two_the_busier_is_never_chosen(a in (1u16..1000, 0u32..1000), b in (1u16..1000, 0u32..1000), seed: u64) {
            let loads = [load(a.0, a.1), load(b.0, b.1)];
            let index = pick(2, |index| Some(loads[index]), &mut fastrand::Rng::with_seed(seed)).unwrap();
            prop_assert!(!loads[index].is_busier_than(loads[1 - index]));
        }
    }
}
