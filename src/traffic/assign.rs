//! The rule table: first rule that applies decides.
//!
//! | # | rule | reason |
//! |---|---|---|
//! | 1 | killed → stable, testers included | `killed` |
//! | 2 | a tester's proven wish → as asked, also at weight 0 | `override` |
//! | 3 | effective weight 0 → stable; 100 % → candidate | `weight` |
//! | 4 | ratchet on, and the visitor reached the candidate in this epoch → candidate | `ratchet` |
//! | 5 | recognised by user key or cookie → bucket < effective weight | `user`, `cookie` |
//! | 6 | otherwise draw < effective weight | `draw` |
//!
//! The effective weight is the public weight or, if larger, that of a ring the visitor is proven to be
//! in. There are no rings yet; [`RingSet`] is the seam. Attributes of visitors never reach this file.

use std::fmt;

use super::{Bucket, By, Otherwise, Split, Variant, Weight};

/// The rings a visitor is proven to be in, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingSet(pub u64);

/// What is known about who sent a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visitor {
    /// Where an authenticated tester asked to go.
    pub wish: Option<Variant>,
    /// The epoch in which a proven ratchet cookie says the visitor reached the candidate.
    pub ratchet_epoch: Option<u64>,
    /// The bucket of the user key, if there is one.
    pub user: Option<Bucket>,
    /// The bucket of the visitor cookie: a proven one, or one about to be issued.
    pub cookie: Option<Bucket>,
    /// Proven rings.
    pub rings: RingSet,
}

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The candidate is killed.
    Killed,
    /// A tester asked.
    Override,
    /// Nobody or everybody goes to the candidate; also a keyless visitor whom `otherwise: stable` keeps.
    Weight,
    /// The visitor was there before.
    Ratchet,
    /// The bucket of the user key.
    User,
    /// The bucket of the visitor cookie.
    Cookie,
    /// Chance.
    Draw,
}

impl Reason {
    /// Every reason, in the order of the rules.
    pub const ALL: [Self; 7] =
        [Self::Killed, Self::Override, Self::Weight, Self::Ratchet, Self::User, Self::Cookie, Self::Draw];

    /// The label in metrics, logs and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Override => "override",
            Self::Weight => "weight",
            Self::Ratchet => "ratchet",
            Self::User => "user",
            Self::Cookie => "cookie",
            Self::Draw => "draw",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a request goes, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The place.
    pub variant: Variant,
    /// The rule that chose it.
    pub reason: Reason,
}

/// Applies the rule table. `draw` is asked at most once, for a position in 0..100 000.
pub fn assign(split: &Split, visitor: &Visitor, draw: impl FnOnce() -> Bucket) -> Assignment {
    let to = |variant, reason| Assignment { variant, reason };
    let by_position = |position: Bucket, weight: Weight, reason| {
        let on_candidate = position.index() < weight.millipercent();
        to(if on_candidate { split.candidate } else { split.stable() }, reason)
    };

    if split.is_killed() {
        return to(split.stable(), Reason::Killed);
    }
    if let Some(wish) = visitor.wish {
        return to(wish, Reason::Override);
    }
    let weight = effective_weight(split, visitor.rings);
    if weight == Weight::ZERO {
        return to(split.stable(), Reason::Weight);
    }
    if weight == Weight::FULL {
        return to(split.candidate, Reason::Weight);
    }
    if split.ratchet && visitor.ratchet_epoch == Some(split.epoch) {
        return to(split.candidate, Reason::Ratchet);
    }
    let keyless = match split.by {
        By::Request => Otherwise::Request,
        By::Cookie => Otherwise::Cookie,
        By::User => match visitor.user {
            Some(bucket) => return by_position(bucket, weight, Reason::User),
            None => split.otherwise,
        },
    };
    match (keyless, visitor.cookie) {
        (Otherwise::Stable, _) => to(split.stable(), Reason::Weight),
        (Otherwise::Cookie, Some(bucket)) => by_position(bucket, weight, Reason::Cookie),
        (Otherwise::Cookie, None) | (Otherwise::Request, _) => by_position(draw(), weight, Reason::Draw),
    }
}

/// The public weight, or the largest weight of the visitor's rings.
fn effective_weight(split: &Split, _rings: RingSet) -> Weight {
    split.weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Cause;
    use proptest::prelude::*;

    fn split(weight: u32) -> Split {
        Split {
            candidate: Variant::Green,
            weight: Weight::from_millipercent(weight).unwrap(),
            by: By::Cookie,
            otherwise: Otherwise::Cookie,
            ratchet: false,
            epoch: 7,
            salt: "salt".into(),
            lock: None,
        }
    }

    fn bucket(index: u32) -> Option<Bucket> {
        Bucket::from_index(index)
    }

    fn no_draw() -> Bucket {
        unreachable!("this rule needs no chance")
    }

    #[track_caller]
    fn check(split: &Split, visitor: Visitor, variant: Variant, reason: Reason) {
        let got = assign(split, &visitor, no_draw);
        assert_eq!(got, Assignment { variant, reason });
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        use {Reason as R, Variant::*};
        let wishes = Visitor {
            wish: Some(Green),
            ratchet_epoch: Some(7),
            user: bucket(0),
            cookie: bucket(0),
            rings: RingSet(0),
        };
        let tester = Visitor { wish: Some(Blue), cookie: bucket(0), ..Visitor::default() };
        let pinned = Visitor { ratchet_epoch: Some(7), cookie: bucket(99_999), ..Visitor::default() };
        let first = Visitor { cookie: bucket(0), ..Visitor::default() };
        let last = Visitor { cookie: bucket(99_999), ..Visitor::default() };

        let killed = Split { lock: Some(Cause::Kill), weight: Weight::ZERO, ..split(0) };
        check(&killed, wishes, Blue, R::Killed);
        let lost = Split { lock: Some(Cause::StateLost), ..split(0) };
        check(&lost, wishes, Green, R::Override);
        check(&split(0), wishes, Green, R::Override);
        check(&split(100_000), tester, Blue, R::Override);
        check(&split(0), first, Blue, R::Weight);
        check(&split(100_000), last, Green, R::Weight);

        let ratchet = Split { ratchet: true, ..split(1) };
        check(&ratchet, pinned, Green, R::Ratchet);
        check(&Split { epoch: 8, ..ratchet.clone() }, pinned, Blue, R::Cookie);
        check(&Split { ratchet: false, ..ratchet.clone() }, pinned, Blue, R::Cookie);
        check(&Split { weight: Weight::ZERO, ..ratchet }, pinned, Blue, R::Weight);

        check(&split(1), first, Green, R::Cookie);
        check(&split(1), Visitor { cookie: bucket(1), ..first }, Blue, R::Cookie);
        check(&split(99_999), last, Blue, R::Cookie);
        check(&split(99_999), Visitor { cookie: bucket(99_998), ..last }, Green, R::Cookie);
    }

    #[test]
    fn a_visitor_without_a_user_key_does_what_otherwise_says() {
        use {Reason as R, Variant::*};
        let user = |otherwise| Split { by: By::User, otherwise, ..split(50_000) };
        let keyed = Visitor { user: bucket(49_999), cookie: bucket(99_999), ..Visitor::default() };
        let keyless = Visitor { user: None, ..keyed };
        for otherwise in [Otherwise::Cookie, Otherwise::Request, Otherwise::Stable] {
            check(&user(otherwise), keyed, Green, R::User);
        }
        check(&user(Otherwise::Cookie), keyless, Blue, R::Cookie);
        check(&user(Otherwise::Stable), keyless, Blue, R::Weight);
        let drawn = assign(&user(Otherwise::Request), &keyless, || Bucket::from_index(0).unwrap());
        assert_eq!(drawn, Assignment { variant: Green, reason: R::Draw });
    }

    #[test]
    fn the_candidate_may_be_blue() {
        let swapped = Split { candidate: Variant::Blue, ..split(1) };
        let first = Visitor { cookie: bucket(0), ..Visitor::default() };
        check(&swapped, first, Variant::Blue, Reason::Cookie);
    }

    prop_compose! {
        fn any_visitor()(
            wish in proptest::option::of(prop_oneof![Just(Variant::Blue), Just(Variant::Green)]),
            ratchet_epoch in proptest::option::of(6u64..9),
            user in proptest::option::of(0u32..100_000),
            cookie in proptest::option::of(0u32..100_000),
        ) -> Visitor {
            Visitor { wish, ratchet_epoch, user: user.and_then(bucket), cookie: cookie.and_then(bucket), rings: RingSet(0) }
        }
    }

    prop_compose! {
        fn any_split()(
            weight in prop_oneof![Just(0u32), Just(1), Just(99_999), Just(100_000), 0u32..=100_000],
            by in prop_oneof![Just(By::Request), Just(By::Cookie), Just(By::User)],
            otherwise in prop_oneof![Just(Otherwise::Cookie), Just(Otherwise::Request), Just(Otherwise::Stable)],
            ratchet: bool,
            green: bool,
            lock in prop_oneof![Just(None), Just(Some(Cause::Kill)), Just(Some(Cause::StateLost))],
        ) -> Split {
            let candidate = if green { Variant::Green } else { Variant::Blue };
            Split { by, otherwise, ratchet, candidate, lock, ..split(weight) }
        }
    }

    proptest! {
        #[test]
        fn raising_never_takes_a_visitor_off_and_lowering_never_adds_one(
            split in any_split(), visitor in any_visitor(), other in prop_oneof![Just(0u32), Just(1), Just(99_999), Just(100_000), 0u32..=100_000], draw in 0u32..100_000,
        ) {
            let other = Split { weight: Weight::from_millipercent(other).unwrap(), ..split.clone() };
            let (low, high) = if split.weight <= other.weight { (&split, &other) } else { (&other, &split) };
            let on = |split: &Split| {
                assign(split, &visitor, || Bucket::from_index(draw).unwrap()).variant == split.candidate
            };
            prop_assert!(!on(low) || on(high), "on the candidate at {} but not at {}", low.weight, high.weight);
        }

        #[test]
        fn a_kill_sends_everybody_to_stable(split in any_split(), visitor in any_visitor()) {
            let killed = Split { lock: Some(Cause::Kill), ..split };
            prop_assert_eq!(assign(&killed, &visitor, no_draw).variant, killed.stable());
        }

        #[test]
        fn shares_are_exact_over_all_positions(weight in prop_oneof![Just(0u32), Just(1), Just(99_999), Just(100_000), 0u32..=100_000]) {
            let split = split(weight);
            let on = (0..Bucket::COUNT)
                .filter(|index| {
                    let visitor = Visitor { cookie: bucket(*index), ..Visitor::default() };
                    assign(&split, &visitor, no_draw).variant == split.candidate
                })
                .count();
            prop_assert_eq!(on, weight as usize);
        }
    }
}
