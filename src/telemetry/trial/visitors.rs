//! What each visitor of a variant has done in the current window, in one byte.
//!
//! A visitor is a bucket of 65 536, so nobody is remembered and the table has a bound. It is the one thing
//! that workers share while they count: the same visitor may come over two connections that live on two
//! threads, and must still count once. That costs little, because it is *read* by every judged request but
//! written once per visitor, kind and window: a worker looks first, and only what it finds clear it sets with a
//! read-modify-write. Whoever really set a bit counts it, on its own lines.
//!
//! A visitor that failed in one window is barred from the errors of the next: one broken client, failing for ever,
//! is one failure and not one every five minutes. Who is at risk is thus settled before the window begins, for both
//! variants by the same rule, so that it cannot favour either.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Buckets of a table.
pub(super) const BUCKETS: usize = 1 << 16;
/// Buckets of a block, which is made when the first of its visitors comes.
const BLOCK: usize = 1 << 10;
const WORDS: usize = BLOCK / 64;

/// Was seen.
pub(super) const SEEN: u8 = 1;
/// Failed.
pub(in crate::telemetry) const FAILED: u8 = 1 << 1;
/// Was answered with a 4xx by an endpoint.
pub(in crate::telemetry) const CLIENT_ERROR: u8 = 1 << 2;
/// Waited longer than the first limit; the other limits follow.
pub(super) const SLOW: u8 = 1 << 3;
/// Had a success of business.
pub(in crate::telemetry) const SUCCESS: u8 = 1 << 7;

/// One variant's visitors of one stratum.
#[derive(Debug)]
pub(super) struct VisitorTable {
    blocks: [OnceLock<Box<Block>>; BUCKETS / BLOCK],
    failed_ever: AtomicU64,
}

#[derive(Debug)]
struct Block {
    flags: [AtomicU8; BLOCK],
    /// Failed in the window before.
    barred: [AtomicU64; WORDS],
    /// Failed since the rollout began.
    failed: [AtomicU64; WORDS],
}

/// What was new about a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    /// The flags that nobody had set in this window.
    pub(super) new: u8,
    /// Whether he failed in the window before.
    pub(super) is_barred: bool,
}

impl VisitorTable {
    /// Notes what a visitor did; `visitor` is well mixed.
    pub(super) fn mark(&self, visitor: u64, flags: u8) -> Marked {
        let bucket = (visitor >> 48) as usize;
        let block = self.blocks[bucket / BLOCK].get_or_init(Box::default);
        let within = bucket % BLOCK;
        let cell = &block.flags[within];
        let new = match flags & !cell.load(Ordering::Relaxed) {
            0 => 0,
            _ => flags & !cell.fetch_or(flags, Ordering::Relaxed),
        };
        let (word, bit) = (within / 64, 1 << (within % 64));
        if new & FAILED != 0 && block.failed[word].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.failed_ever.fetch_add(1, Ordering::Relaxed);
        }
        Marked { new, is_barred: new != 0 && block.barred[word].load(Ordering::Relaxed) & bit != 0 }
    }

    /// How many different visitors failed since [`VisitorTable::clear`], as far as buckets tell them apart.
    pub(super) fn failed_ever(&self) -> u64 {
        estimate(self.failed_ever.load(Ordering::Relaxed))
    }

    /// Begins a new window.
    pub(super) fn turn(&self) {
        for block in self.blocks.iter().filter_map(OnceLock::get) {
            for (flags, barred) in block.flags.chunks(64).zip(&block.barred) {
                let failed = flags.iter().enumerate().fold(0, |failed, (at, cell)| {
                    let is_clear = cell.load(Ordering::Relaxed) == 0;
                    let had = if is_clear { 0 } else { cell.swap(0, Ordering::Relaxed) };
                    failed | u64::from(had & FAILED != 0) << at
                });
                barred.store(failed, Ordering::Relaxed);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.turn();
        for block in self.blocks.iter().filter_map(OnceLock::get) {
            block.barred.iter().chain(&block.failed).for_each(|word| word.store(0, Ordering::Relaxed));
        }
        self.failed_ever.store(0, Ordering::Relaxed);
    }
}

impl Default for VisitorTable {
    fn default() -> Self {
        Self { blocks: std::array::from_fn(|_| OnceLock::new()), failed_ever: AtomicU64::new(0) }
    }
}

impl Default for Block {
    fn default() -> Self {
        Self {
            flags: std::array::from_fn(|_| AtomicU8::new(0)),
            barred: std::array::from_fn(|_| AtomicU64::new(0)),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// About how many visitors set so many buckets: linear counting (Whang, Vander-Zanden, Taylor 1990),
/// −m ln(1 − z/m). Never less than `set`, and never less for more.
pub(super) fn estimate(set: u64) -> u64 {
    let buckets = BUCKETS as f64;
    let clear = (buckets - set as f64).max(1.0);
    ((-buckets * libm::log(clear / buckets)).round() as u64).max(set)
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): callers' hashes need not be well mixed.
pub(in crate::telemetry) fn mix(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flag_is_new_once_in_a_window() {
        let table = VisitorTable::default();
        let mark = |flags| table.mark(mix(7), flags).new;
        assert_eq!(mark(SEEN), SEEN);
        assert_eq!(mark(SEEN | SLOW), SLOW);
        assert_eq!(mark(SEEN | SLOW | SUCCESS), SUCCESS);
        assert_eq!(mark(SEEN | SUCCESS), 0);
        table.turn();
        assert_eq!(mark(SEEN | SLOW), SEEN | SLOW);
    }

    #[test]
    fn who_failed_is_barred_for_one_window_and_counted_once_for_ever() {
        let table = VisitorTable::default();
        let mark = |flags| table.mark(mix(7), flags);
        assert_eq!(mark(SEEN | FAILED), Marked { new: SEEN | FAILED, is_barred: false });
        table.turn();
        assert_eq!(mark(SEEN | FAILED), Marked { new: SEEN | FAILED, is_barred: true });
        table.turn();
        assert_eq!(mark(SEEN), Marked { new: SEEN, is_barred: true });
        table.turn();
        assert_eq!(mark(SEEN | FAILED), Marked { new: SEEN | FAILED, is_barred: false });
        assert_eq!(table.failed_ever(), 1);
        table.clear();
        assert_eq!(table.failed_ever(), 0);
        assert_eq!(mark(SEEN | FAILED), Marked { new: SEEN | FAILED, is_barred: false });
    }

    #[test]
    fn two_threads_that_see_the_same_visitors_count_each_once() {
        let table = VisitorTable::default();
        let count = || {
            let new = |visitor| u64::from(table.mark(mix(visitor), SEEN | FAILED).new & FAILED != 0);
            (0..20_000).map(new).sum::<u64>()
        };
        let both = std::thread::scope(|scope| {
            let threads = [scope.spawn(count), scope.spawn(count)];
            threads.map(|thread| thread.join().unwrap()).iter().sum::<u64>()
        });
        let alone = VisitorTable::default();
        let expected = (0..20_000).filter(|visitor| alone.mark(mix(*visitor), FAILED).new != 0).count();
        assert_eq!(both, expected as u64);
        assert!(estimate(both).abs_diff(20_000) < 200, "{}", estimate(both));
    }

    proptest! {
        #[test]
        fn an_estimate_never_falls_below_what_was_counted_nor_with_it(a in 0..=BUCKETS as u64, b in 0..=BUCKETS as u64) {
            prop_assert!(estimate(a) >= a);
            prop_assert!(a > b || estimate(a) <= estimate(b));
        }
    }
}
