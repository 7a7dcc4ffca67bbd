//! Whose requests are copied to the candidate while stable answers them.
//!
//! The next in line: of the visitors that stable has, those whose buckets come first after the candidate's. So the
//! share of stable's visitors is exact, and whoever is mirrored at one share or weight is at every higher one mirrored
//! or on the candidate.

use super::{Bucket, Weight};

/// Whether a request that stable answers is mirrored. `bucket`: the visitor's, if he was recognised; `draw` is asked
/// for a position otherwise.
pub fn is_mirrored(
    weight: Weight,
    share: Weight,
    bucket: Option<Bucket>,
    draw: impl FnOnce() -> Bucket,
) -> bool {
    if share == Weight::ZERO || share == Weight::FULL {
        return share == Weight::FULL;
    }
    match bucket {
        Some(bucket) => bucket.index() < end(weight, share),
        None => draw().index() < share.millipercent(),
    }
}

/// The first position that is neither on the candidate nor mirrored.
fn end(weight: Weight, share: Weight) -> u32 {
    let rest = u64::from(weight.rest().millipercent());
    let mirrored = rest * u64::from(share.millipercent()) / u64::from(Weight::FULL.millipercent());
    weight.millipercent() + u32::try_from(mirrored).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_weight() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0u32), Just(1), Just(99_999), Just(100_000), 0u32..=100_000]
    }

    fn weight(millipercent: u32) -> Weight {
        Weight::from_millipercent(millipercent).unwrap()
    }

    proptest! {
        #[test]
        fn raising_weight_or_share_never_takes_a_visitor_away_from_the_candidate_and_his_copies(
            one in (any_weight(), any_weight()), more in (any_weight(), any_weight()), position in 0u32..100_000,
        ) {
            let (low, high) = (
                (one.0.min(more.0), one.1.min(more.1)),
                (one.0.max(more.0), one.1.max(more.1)),
            );
            let bucket = Bucket::from_index(position).unwrap();
            let reaches = |(at, share): (u32, u32)| {
                position < at || is_mirrored(weight(at), weight(share), Some(bucket), || bucket)
            };
            prop_assert!(!reaches(low) || reaches(high), "at {low:?} but not at {high:?}");
        }

        #[test]
        fn the_share_of_stables_visitors_is_exact(at in any_weight(), share in any_weight()) {
            let mirrored = (at..100_000)
                .filter_map(Bucket::from_index)
                .filter(|bucket| is_mirrored(weight(at), weight(share), Some(*bucket), || *bucket))
                .count() as u64;
            prop_assert_eq!(mirrored, u64::from(100_000 - at) * u64::from(share) / 100_000);
        }
    }

    #[test]
    fn whom_nobody_recognises_is_drawn() {
        let at = |index| move || Bucket::from_index(index).unwrap();
        let share = weight(10_000);
        assert!(is_mirrored(weight(50_000), share, None, at(9_999)));
        assert!(!is_mirrored(weight(50_000), share, None, at(10_000)));
        assert!(!is_mirrored(Weight::ZERO, Weight::ZERO, None, || unreachable!()));
        assert!(is_mirrored(Weight::ZERO, Weight::FULL, None, || unreachable!()));
    }
}
