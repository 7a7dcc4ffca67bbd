//! Draws from the distributions that counts have. Exact for any mean, from a seed.

/// A seeded source of chance.
#[derive(Debug)]
pub(super) struct Chance(fastrand::Rng);

/// Above this mean, rejection is quicker than counting.
const MEAN_SMALL: f64 = 10.0;
/// A Poisson count is a binomial one of so many tries.
const TRIES: u64 = 1 << 40;

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// 0 to 1, without 1.
    pub(super) fn uniform(&mut self) -> f64 {
        self.0.f64()
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound.max(1))
    }

    /// The time to the next arrival.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -libm::log(1.0 - self.uniform()) * mean
    }

    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        self.binomial(TRIES, (mean / TRIES as f64).min(1.0))
    }

    pub(super) fn binomial(&mut self, tries: u64, share: f64) -> u64 {
        if tries == 0 || share <= 0.0 {
            0
        } else if share >= 1.0 {
            tries
        } else if share > 0.5 {
            tries - self.binomial(tries, 1.0 - share)
        } else if tries as f64 * share < MEAN_SMALL {
            self.by_gaps(tries, share)
        } else {
            self.by_rejection(tries as f64, share)
        }
    }

    /// Gaps between successes are geometric.
    fn by_gaps(&mut self, tries: u64, share: f64) -> u64 {
        let miss = libm::log1p(-share);
        let (mut at, mut hits) = (0.0, 0);
        loop {
            at += libm::floor(libm::log(1.0 - self.uniform()) / miss) + 1.0;
            if at > tries as f64 {
                return hits;
            }
            hits += 1;
        }
    }

    /// BTRS: Hörmann, "The generation of binomial random variates", J. Stat. Comput. Simul. 46 (1993).
    fn by_rejection(&mut self, tries: f64, share: f64) -> u64 {
        let deviation = libm::sqrt(tries * share * (1.0 - share));
        let b = 1.15 + 2.53 * deviation;
        let a = -0.0873 + 0.0248 * b + 0.01 * share;
        let c = tries * share + 0.5;
        let squeeze = 0.92 - 4.2 / b;
        let odds = share / (1.0 - share);
        let alpha = (2.83 + 5.1 / b) * deviation;
        let mode = libm::floor((tries + 1.0) * share);
        loop {
            let u = self.uniform() - 0.5;
            let mut v = self.uniform();
            let us = 0.5 - u.abs();
            let k = libm::floor((2.0 * a / us + b) * u + c);
            if us >= 0.07 && v <= squeeze {
                return k as u64;
            }
            if k < 0.0 || k > tries {
                continue;
            }
            v = libm::log(v * alpha / (a / (us * us) + b));
            let bound = (mode + 0.5) * libm::log((mode + 1.0) / (odds * (tries - mode + 1.0)))
                + (tries + 1.0) * libm::log((tries - mode + 1.0) / (tries - k + 1.0))
                + (k + 0.5) * libm::log(odds * (tries - k + 1.0) / (k + 1.0))
                + stirling(mode)
                + stirling(tries - mode)
                - stirling(k)
                - stirling(tries - k);
            if v <= bound {
                return k as u64;
            }
        }
    }
}

/// What Stirling's formula for ln k! lacks.
fn stirling(k: f64) -> f64 {
    const SMALL: [f64; 10] = [
        0.081_061_466_795_327_26,
        0.041_340_695_955_409_29,
        0.027_677_925_684_998_34,
        0.020_790_672_103_765_09,
        0.016_644_691_189_821_19,
        0.013_876_128_823_070_748,
        0.011_896_709_945_891_77,
        0.010_411_265_261_972_09,
        0.009_255_462_182_712_733,
        0.008_330_563_433_362_87,
    ];
    if let Some(value) = SMALL.get(k as usize) {
        return *value;
    }
    let next = k + 1.0;
    let square = next * next;
    (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / square) / square) / next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_right_mean_and_variance() {
        for (tries, share) in [(10, 0.3), (190, 0.01), (1000, 0.02), (1000, 0.7), (20_000, 0.05)] {
            let mut chance = Chance::new(7);
            let drawn: Vec<f64> = (0..20_000).map(|_| chance.binomial(tries, share) as f64).collect();
            let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
            let variance = drawn.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / drawn.len() as f64;
            let (expected, spread) = (tries as f64 * share, tries as f64 * share * (1.0 - share));
            assert!((mean - expected).abs() < 5.0 * libm::sqrt(spread / 20_000.0), "{tries} {share} {mean}");
            assert!((variance / spread - 1.0).abs() < 0.06, "{tries} {share} {variance}");
        }
        let mut chance = Chance::new(7);
        let mean = (0..20_000).map(|_| chance.poisson(50.0) as f64).sum::<f64>() / 20_000.0;
        assert!((mean - 50.0).abs() < 0.3, "{mean}");
    }
}
