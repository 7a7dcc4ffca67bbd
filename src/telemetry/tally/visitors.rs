//! How many different visitors there were, without remembering any of them.
//!
//! Linear counting (Whang, Vander-Zanden, Taylor 1990): a visitor sets one of m = 65 536 bits, and if a
//! share z/m of them is still clear, about −m ln(z/m) visitors came. At ten thousand visitors the
//! standard error is 0.3 %. Bit sets merge by OR, so threads count apart and a visitor seen by two of
//! them counts once.
//!
//! Two windows of five minutes take turns, the whole previous one and the current one; what status shows
//! is their union.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::clock::Timestamp;

/// How long a window lasts.
const WINDOW_SECONDS: u64 = 300;
/// Bits in a window.
const BITS: u64 = 1 << 16;
/// Words in a block, and blocks in a window: a block is made when a bit of it is first set.
const BLOCK_WORDS: usize = 16;
const BLOCKS: usize = BITS as usize / (BLOCK_WORDS * 64);

/// Visitors as seen by one thread.
#[derive(Debug, Default)]
pub(super) struct Visitors {
    windows: [OnceLock<Box<Window>>; 2],
}

#[derive(Debug)]
struct Window {
    /// Which five minutes since 1970 plus one; 0 while it is being cleared.
    number: AtomicU64,
    blocks: [OnceLock<Box<[AtomicU64; BLOCK_WORDS]>>; BLOCKS],
}

impl Visitors {
    /// Notes a visitor by any hash of who he is. Only the owning thread calls it.
    pub(super) fn record(&self, hash: u64, now: Timestamp) {
        let number = window_number(now);
        let window = self.windows[turn(number)].get_or_init(Box::default);
        if window.number.load(Ordering::Relaxed) != number {
            window.restart(number);
        }
        window.set(mix(hash) >> 48);
    }

    /// Adds the visitors of the current and the previous window to `seen`.
    pub(super) fn collect(&self, now: Timestamp, seen: &mut SeenVisitors) {
        let current = window_number(now);
        for number in [current - 1, current] {
            if let Some(window) = self.windows[turn(number)].get() {
                window.collect(number, seen);
            }
        }
    }
}

impl Window {
    /// Empties it for another five minutes. A reader in between sees the number change and lets go.
    fn restart(&self, number: u64) {
        self.number.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for word in self.blocks.iter().filter_map(OnceLock::get).flat_map(|block| block.iter()) {
            word.store(0, Ordering::Relaxed);
        }
        self.number.store(number, Ordering::Release);
    }

    fn set(&self, bit: u64) {
        let word = (bit / 64) as usize;
        let block = self.blocks[word / BLOCK_WORDS].get_or_init(Box::default);
        let word = &block[word % BLOCK_WORDS];
        let (before, mask) = (word.load(Ordering::Relaxed), 1 << (bit % 64));
        if before & mask == 0 {
            word.store(before | mask, Ordering::Relaxed);
        }
    }

    fn collect(&self, number: u64, seen: &mut SeenVisitors) {
        if self.number.load(Ordering::Acquire) != number {
            return;
        }
        let mut bits = SeenVisitors::default();
        for (index, block) in self.blocks.iter().enumerate() {
            for (within, word) in block.get().iter().flat_map(|block| block.iter().enumerate()) {
                bits.words[index * BLOCK_WORDS + within] = word.load(Ordering::Relaxed);
            }
        }
        fence(Ordering::Acquire);
        if self.number.load(Ordering::Relaxed) == number {
            for (all, these) in seen.words.iter_mut().zip(bits.words) {
                *all |= these;
            }
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { number: AtomicU64::new(0), blocks: std::array::from_fn(|_| OnceLock::new()) }
    }
}

/// The union of what several threads saw.
pub(super) struct SeenVisitors {
    words: Vec<u64>,
}

impl Default for SeenVisitors {
    fn default() -> Self {
        Self { words: vec![0; BITS as usize / 64] }
    }
}

impl SeenVisitors {
    /// About how many different visitors. When every bit is set, what one clear bit would mean.
    pub(super) fn estimate(&self) -> u64 {
        let set: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        let clear = (BITS - set).max(1);
        (-(BITS as f64) * (clear as f64 / BITS as f64).ln()).round() as u64
    }
}

fn window_number(now: Timestamp) -> u64 {
    now.as_secs() / WINDOW_SECONDS + 1
}

fn turn(number: u64) -> usize {
    (number % 2) as usize
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): callers' hashes need not be well mixed.
fn mix(hash: u64) -> u64 {
    let hash = (hash.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
    }

    fn count(all: &[&Visitors], now: Timestamp) -> u64 {
        let mut seen = SeenVisitors::default();
        all.iter().for_each(|visitors| visitors.collect(now, &mut seen));
        seen.estimate()
    }

    #[test]
    fn an_estimate_is_near_the_truth() {
        for truth in [0, 1, 10, 1_000, 10_000, 100_000] {
            let visitors = Visitors::default();
            for _ in 0..3 {
                (0..truth).for_each(|hash| visitors.record(hash, at(0)));
            }
            let estimate = count(&[&visitors], at(0));
            let slack = truth / 50 + 1;
            assert!(estimate.abs_diff(truth) <= slack, "{estimate} for {truth}");
        }
    }

    #[test]
    fn a_visitor_seen_by_two_threads_counts_once() {
        let (one, other) = (Visitors::default(), Visitors::default());
        (0..60).for_each(|hash| one.record(hash, at(0)));
        (40..100).for_each(|hash| other.record(hash, at(0)));
        assert!(count(&[&one, &other], at(0)).abs_diff(100) <= 2);
    }

    #[test]
    fn visitors_are_forgotten_after_the_window_that_follows_theirs() {
        let visitors = Visitors::default();
        (0..100).for_each(|hash| visitors.record(hash, at(299)));
        visitors.record(1_000, at(300));
        assert!(count(&[&visitors], at(300)) >= 99);
        assert!(count(&[&visitors], at(599)) >= 99);
        assert_eq!(count(&[&visitors], at(600)), 1);
        visitors.record(1_001, at(600));
        assert_eq!(count(&[&visitors], at(600)), 2);
        assert_eq!(count(&[&visitors], at(1_200)), 0);
    }
}
