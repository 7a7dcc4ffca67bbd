//! Which of a variant's endpoints takes a request.
//!
//! By default the less busy of two random ones. Round robin sends as much to a struggling instance as to a quick one;
//! always taking the least busy makes all threads run to the same place at once. Two random choices (Mitzenmacher 1996)
//! come close to the least busy without the stampede, and need only what this thread knows. Weights count twice, as
//! they should: heavy endpoints are drawn more often, and are allowed more requests before they count as busy.
//!
//! Round robin is the smooth one of nginx: each endpoint earns its weight with every request, the richest takes it and
//! pays what all have earned. Over a round everybody gets exactly its share, and heavy ones are not served in bursts.
//!
//! An endpoint that has just come back gets less at first. Its ramp is relative to its peers', so that a group of which
//! all came back together shares as usual; the ramp thins out what the endpoint would have got otherwise, because one
//! with nothing under way would win every comparison.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How requests are spread over the endpoints of a variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The less busy of two random ones.
    #[default]
    LeastRequests,
    /// One after the other, by weight.
    RoundRobin,
}

/// The choice among a variant's endpoints. It never touches the split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BalanceSettings {
    /// Default: the less busy of two.
    pub policy: Policy,
    /// How long an endpoint that has come back takes until it gets its full share; zero, the default: at once.
    pub slow_start: Duration,
}

/// What an endpoint gets of its share, in parts of [`Ramp::PARTS`]; at least a twentieth, so that it warms up at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ramp(u16);

impl Ramp {
    const PARTS: u16 = 1000;
    const LEAST: u16 = Self::PARTS / 20;

    /// All of it.
    pub const FULL: Self = Self(Self::PARTS);

    /// `elapsed` after the endpoint came back, if it takes `slow_start` in all.
    pub fn after(elapsed: Duration, slow_start: Duration) -> Self {
        if elapsed >= slow_start {
            return Self::FULL;
        }
        let part = elapsed.as_nanos() * u128::from(Self::PARTS) / slow_start.as_nanos().max(1);
        Self(u16::try_from(part).unwrap_or(Self::PARTS).clamp(Self::LEAST, Self::PARTS))
    }

    /// The ramp at `now` of an endpoint that is in use since then; `None`: since nobody knows when.
    pub fn at(now: Instant, since: Option<Instant>, slow_start: Duration) -> Self {
        since.map_or(Self::FULL, |since| Self::after(now.saturating_duration_since(since), slow_start))
    }
}

/// What is known about an endpoint when a request needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its share among its peers; 0 takes it out of the choice.
    pub weight: u16,
    /// Requests that this thread has under way there.
    pub in_flight: u32,
    /// How much of its share it gets by now.
    pub ramp: Ramp,
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
    let (winner, loser) = if one.is_busier_than(other) {
        ((second, other), (first, one))
    } else {
        ((first, one), (second, other))
    };
    let (ramp, peer) = (winner.1.ramp.0, loser.1.ramp.0);
    Some(if ramp >= peer || random.u16(0..peer) < ramp { winner.0 } else { loser.0 })
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

/// What an endpoint has earned and not yet spent in round robin. One thread's.
#[derive(Debug, Default)]
pub struct Credit(Cell<i64>);

/// The index of the endpoint whose turn it is; `load` tells about each of `count`, `None` leaves it out. Ties go to the
/// first from `start` on: threads that start at different places do not all begin with the same endpoint.
pub fn next_in_turn<'c>(
    count: usize,
    load: impl Fn(usize) -> Option<Load>,
    credit: impl Fn(usize) -> &'c Credit,
    start: usize,
) -> Option<usize> {
    let mut total = 0;
    let mut richest: Option<(usize, i64)> = None;
    for step in 0..count {
        let index = (start % count + step) % count;
        let Some(load) = load(index).filter(|load| load.weight > 0) else { continue };
        let earned = i64::from(load.weight) * i64::from(load.ramp.0);
        total += earned;
        let Credit(has) = credit(index);
        has.set(has.get().saturating_add(earned));
        if richest.is_none_or(|(_, most)| has.get() > most) {
            richest = Some((index, has.get()));
        }
    }
    let (index, has) = richest?;
    credit(index).0.set(has - total);
    Some(index)
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
        Load { weight, in_flight, ramp: Ramp::FULL }
    }

    fn ramping(weight: u16, in_flight: u32, parts: u16) -> Load {
        Load { ramp: Ramp(parts), ..load(weight, in_flight) }
    }

    fn turns(loads: &[Load], credits: &[Credit], count: usize) -> Vec<usize> {
        let next = |_| next_in_turn(loads.len(), |index| Some(loads[index]), |index| &credits[index], 0);
        (0..count).map(|at| next(at).unwrap()).collect()
    }

    fn credits(count: usize) -> Vec<Credit> {
        (0..count).map(|_| Credit::default()).collect()
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

    #[test]
    fn what_has_just_come_back_gets_a_part_of_what_it_would_get_otherwise() {
        let idle = shares(&[ramping(1, 0, 200), load(1, 0)]);
        assert!((850..1_150).contains(&idle[0]), "a fifth of the half: {idle:?}");
        let wins = shares(&[ramping(1, 0, 200), load(1, 3)]);
        assert!((1_800..2_200).contains(&wins[0]), "a fifth of all, though it would win each time: {wins:?}");
        let together = shares(&[ramping(1, 0, 50), ramping(1, 0, 50)]);
        assert!((4_700..5_300).contains(&together[0]), "nobody to leave it to: {together:?}");
        assert_eq!(shares(&[ramping(1, 0, 50)]), [10_000]);
    }

    #[test]
    fn a_ramp_grows_from_a_twentieth_to_all() {
        let (full, second) = (Duration::from_secs(10), Duration::from_secs(1));
        for (elapsed, parts) in
            [(Duration::ZERO, 50), (second, 100), (5 * second, 500), (full, 1000), (2 * full, 1000)]
        {
            assert_eq!(Ramp::after(elapsed, full), Ramp(parts), "{elapsed:?}");
        }
        assert_eq!(Ramp::after(Duration::ZERO, Duration::ZERO), Ramp::FULL);
    }

    #[test]
    fn turns_are_taken_smoothly() {
        let loads = [load(5, 0), load(1, 0), load(1, 0)];
        assert_eq!(turns(&loads, &credits(3), 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
        let loads = [load(1, 9), load(1, 0), load(1, 5)];
        assert_eq!(turns(&loads, &credits(3), 6), [0, 1, 2, 0, 1, 2]);
        let first = |start| {
            let credits = credits(3);
            next_in_turn(3, |_| Some(load(1, 0)), |index| &credits[index], start).unwrap()
        };
        assert_eq!([first(0), first(1), first(5), first(usize::MAX)], [0, 1, 2, 0]);
    }

    /// How many of 10,000 requests, one each moment, the first of four endpoints gets that takes ten times as long.
    fn to_the_slow_one(mut choose: impl FnMut(&[Load]) -> usize) -> usize {
        let mut ends: Vec<Vec<usize>> = vec![Vec::new(); 4];
        let mut slow = 0;
        for now in 0..10_000 {
            ends.iter_mut().for_each(|ends| ends.retain(|end| *end > now));
            let loads: Vec<_> = ends.iter().map(|open| load(1, open.len().try_into().unwrap())).collect();
            let index = choose(&loads);
            ends[index].push(now + if index == 0 { 200 } else { 20 });
            slow += usize::from(index == 0);
        }
        slow
    }

    #[test]
    fn a_slow_endpoint_gets_far_less_by_least_requests_than_in_turn() {
        let (mut random, credits) = (fastrand::Rng::with_seed(7), credits(4));
        let least = to_the_slow_one(|loads| pick(4, |index| Some(loads[index]), &mut random).unwrap());
        let turn =
            |loads: &[Load]| next_in_turn(4, |index| Some(loads[index]), |index| &credits[index], 0).unwrap();
        assert_eq!(to_the_slow_one(turn), 2_500);
        assert!((200..600).contains(&least), "{least}; with as many under way everywhere it is one in 31");
    }

    proptest! {
        #[test]
        fn only_what_may_be_chosen_is_chosen(
            loads in prop::collection::vec(prop::option::of((0u16..5, 0u32..9, 50u16..=1000)), 0..8),
            start: usize,
            seed: u64,
        ) {
            let load = |index: usize| {
                loads[index].map(|(weight, in_flight, ramp)| Load { weight, in_flight, ramp: Ramp(ramp) })
            };
            let credits = credits(loads.len());
            let may = |index: usize| load(index).is_some_and(|load| load.weight > 0);
            for picked in [
                pick(loads.len(), load, &mut fastrand::Rng::with_seed(seed)),
                next_in_turn(loads.len(), load, |index| &credits[index], start),
            ] {
                match picked {
                    Some(index) => prop_assert!(may(index)),
                    None => prop_assert!(!(0..loads.len()).any(may)),
                }
            }
        }

        #[test]
        fn of_two_the_busier_is_never_chosen(a in (1u16..1000, 0u32..1000), b in (1u16..1000, 0u32..1000), seed: u64) {
            let loads = [load(a.0, a.1), load(b.0, b.1)];
            let index = pick(2, |index| Some(loads[index]), &mut fastrand::Rng::with_seed(seed)).unwrap();
            prop_assert!(!loads[index].is_busier_than(loads[1 - index]));
        }

        #[test]
        fn over_a_round_everybody_gets_exactly_its_share(weights in prop::collection::vec(1u16..20, 1..8), rounds in 1usize..4) {
            let loads: Vec<_> = weights.iter().map(|weight| load(*weight, 0)).collect();
            let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            let taken = turns(&loads, &credits(loads.len()), total * rounds);
            for (index, weight) in weights.iter().enumerate() {
                let got = taken.iter().filter(|turn| **turn == index).count();
                prop_assert_eq!(got, usize::from(*weight) * rounds);
            }
        }

        #[test]
        fn threads_with_turns_of_their_own_are_off_by_less_than_one_turn_each(
            count in 1usize..8, requests in prop::collection::vec(0usize..50, 1..8),
        ) {
            let loads = vec![load(1, 0); count];
            let mut seen = vec![0usize; count];
            for (thread, requests) in requests.iter().enumerate() {
                let credits = credits(count);
                for _ in 0..*requests {
                    seen[next_in_turn(count, |index| Some(loads[index]), |index| &credits[index], thread).unwrap()] += 1;
                }
            }
            let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
            prop_assert!(most - least <= requests.len(), "{:?}", seen);
        }
    }
}
