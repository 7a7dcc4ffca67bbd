//! A visitor's fixed position among all visitors.
//!
//! murmur3 (x86, 32 bit, seed 0) over key and salt, spread over 100 000 positions so that for whole
//! percentages `bucket < weight` is exactly the widespread `hash % 100 < percentage`, and a step of
//! 0.001 % still resolves: the last two decimal digits of the hash say which percent, the next three where in it.

use std::io::Read;

/// A position in 0..100 000 for one key and one salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u32);

impl Bucket {
    /// How many positions there are.
    pub const COUNT: u32 = 100_000;

    /// The position of `key` under `salt`.
    pub fn of(key: &[u8], salt: &[u8]) -> Self {
        Self::from_hash(murmur3_x86_32(key, salt))
    }

    /// The position itself; `None` from 100 000 up.
    pub const fn from_index(index: u32) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index)) } else { None }
    }

    /// 0 to 99 999.
    pub const fn index(self) -> u32 {
        self.0
    }

    const fn from_hash(hash: u32) -> Self {
        Self((hash % 100) * 1000 + (hash / 100) % 1000)
    }
}

fn murmur3_x86_32(key: &[u8], salt: &[u8]) -> u32 {
    // Reading from memory cannot fail.
    murmur3::murmur3_32(&mut key.chain(salt), 0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!(murmur3_x86_32(b"hello", b""), 0x248b_fa47);
        assert_eq!(murmur3_x86_32(b"hel", b"lo"), 0x248b_fa47);
        assert_eq!(murmur3_x86_32(b"", b""), 0);
        for (user, percent) in [("user-1", 97), ("alice", 94), ("bob", 45)] {
            let hash = murmur3_x86_32(user.as_bytes(), b"new-checkout-flow");
            assert_eq!(hash % 100, percent, "{user}");
            assert_eq!(Bucket::from_hash(hash).index() / 1000, percent, "{user}");
        }
    }

    #[test]
    fn positions_stay_in_range() {
        for hash in [0, 1, 99, 100, u32::MAX - 1, u32::MAX] {
            assert!(Bucket::from_hash(hash).index() < Bucket::COUNT);
        }
        assert_eq!(Bucket::from_hash(99_999).index(), 99_999);
        assert_eq!(Bucket::from_index(100_000), None);
    }

    #[test]
    fn visitors_spread_evenly() {
        let mut percents = [0u32; 100];
        for user in 0..100_000 {
            percents[(Bucket::of(format!("user-{user}").as_bytes(), b"s").index() / 1000) as usize] += 1;
        }
        // 1,000 each, standard deviation 31.5: five of them on either side.
        assert!(percents.iter().all(|count| (842..=1158).contains(count)), "{percents:?}");
    }
}
