//! Gaussian noise that is the same, bit for bit, on every machine.
//!
//! A coordinator picks a seed; the miner that runs the task and every miner that audits it must start from the same
//! noise. So the generator is counter-based (Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011) and the step from uniform to normal (Box and Muller, 1958) uses nothing but additions,
//! multiplications, divisions and square roots of `f64`, which IEEE 754 rounds the same everywhere. No function of a
//! system's mathematics library takes part: those differ in their last bits between platforms.

use crate::portable::{ln, sin_cos_turns};

/// Multipliers and Weyl increments of Philox4x32 (Salmon et al., section 4.3).
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// A stream of standard normal numbers, fixed by a 64-bit seed.
///
/// Numbers are made in blocks of four. Each call of [`Philox::normal`] starts a new block, so asking for 3 and then
/// for 1 is not the same as asking for 4.
#[derive(Debug, Clone)]
pub struct Philox {
    key: [u32; 2],
    counter: u128,
}

impl Philox {
    /// The stream of `seed`: key = seed (low word first), counter from 0.
    pub fn new(seed: u64) -> Self {
        Self::stream(seed, 0)
    }

    /// The stream `number` of `seed`, of which the first is 0: counter from `number * 2^64`, so that no two meet.
    pub fn stream(seed: u64, number: u64) -> Self {
        Self {
            key: halves(seed),
            counter: u128::from(number) << 64,
        }
    }

    /// The next `n` independent normal numbers with mean 0 and variance 1, within about 6.7 of zero.
    pub fn normal(&mut self, n: usize) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(n.next_multiple_of(4));
        while numbers.len() < n {
            let words = philox4x32(words(self.counter), self.key);
            self.counter = self.counter.wrapping_add(1);
            numbers.extend(box_muller(words[0], words[1]));
            numbers.extend(box_muller(words[2], words[3]));
        }
        numbers.truncate(n);
        numbers
    }
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn words(counter: u128) -> [u32; 4] {
    let (low, high) = (halves(counter as u64), halves((counter >> 64) as u64));
    [low[0], low[1], high[0], high[1]]
}

/// Four uniform words for one counter and key: ten rounds of Philox4x32.
fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let [low0, high0] = halves(u64::from(MULTIPLIERS[0]) * u64::from(counter[0]));
        let [low1, high1] = halves(u64::from(MULTIPLIERS[1]) * u64::from(counter[2]));
        counter = [
            high1 ^ counter[1] ^ key[0],
            low1,
            high0 ^ counter[3] ^ key[1],
            low0,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Two normal numbers from two uniform words.
fn box_muller(radius: u32, angle: u32) -> [f32; 2] {
    const STEP: f64 = 1.0 / 4_294_967_296.0;
    // In (0, 1], so that the logarithm is finite.
    let u = (f64::from(radius) + 1.0) * STEP;
    let r = (-2.0 * ln(u)).sqrt();
    let (sin, cos) = sin_cos_turns(f64::from(angle) * STEP);
    [(r * cos) as f32, (r * sin) as f32]
}

/// A number from 0 to just below 1, in steps of 2^-53, fixed by a seed and an index: the draw for the `index`-th token
/// of a text does not depend on how many draws were made before.
pub(crate) fn uniform(seed: u64, index: u64) -> f64 {
    let [a, b, ..] = philox4x32(words(u128::from(index)), halves(seed));
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    bits as f64 * (1.0 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' Random123 library (its file `kat_vectors`).
    #[test]
    fn philox_gives_the_known_answers() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        for (counter, key, expected) in [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                pi,
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    /// Pins the stream: a change here changes every picture on the network.
    #[test]
    fn stream_is_pinned() {
        let bits: Vec<u32> = Philox::new(42)
            .normal(6)
            .iter()
            .map(|x| x.to_bits())
            .collect();
        assert_eq!(bits, PINNED);
    }

    const PINNED: [u32; 6] = [
        0xbf78_5e5c,
        0x3e46_ace8,
        0xbf9e_28d2,
        0x3ff6_433b,
        0xbd95_e030,
        0x3e0e_7a0f,
    ];

    #[test]
    fn numbers_look_normal() {
        let n = 200_000;
        let x = Philox::new(7).normal(n);
        let moment = |p: i32| x.iter().map(|v| f64::from(*v).powi(p)).sum::<f64>() / n as f64;
        assert!(moment(1).abs() < 0.01, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.015, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.03, "skew {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.08, "kurtosis {}", moment(4));
        let lag = x.windows(2).map(|w| f64::from(w[0] * w[1])).sum::<f64>() / n as f64;
        assert!(lag.abs() < 0.01, "lag-1 correlation {lag}");
    }

    #[test]
    fn uniform_numbers_fill_their_range_and_depend_on_seed_and_index() {
        let n = 100_000;
        let mean = (0..n).map(|i| uniform(3, i)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "mean {mean}");
        assert!((0..n).all(|i| (0.0..1.0).contains(&uniform(3, i))));
        assert_ne!(uniform(3, 0), uniform(4, 0));
        assert_eq!(uniform(3, 7), uniform(3, 7));
    }

    #[test]
    fn seeds_and_calls_give_different_numbers() {
        assert_ne!(Philox::new(1).normal(4), Philox::new(1 << 32).normal(4));
        let mut stream = Philox::new(1);
        assert_ne!(stream.normal(4), stream.normal(4));
        assert_eq!(Philox::new(1).normal(8)[..5], Philox::new(1).normal(5)[..]);
        assert_eq!(Philox::new(1).normal(4), Philox::stream(1, 0).normal(4));
        assert_ne!(Philox::new(1).normal(4), Philox::stream(1, 1).normal(4));
        let last = Philox::stream(1, u64::MAX).normal(4);
        assert_ne!(last, Philox::stream(1, 1).normal(4));
    }
}
