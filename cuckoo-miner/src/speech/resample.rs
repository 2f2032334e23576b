//! Recordings of any rate at the rate that models hear: each new number is the sum of those around it, weighted by a sinc in a
//! Kaiser window (Kaiser and Schafer, "On the use of the I0-sinh window for spectrum analysis", 1980).
//!
//! Below 0.9 of the lower of both limits a tone keeps its level, and what is beyond the limit is 99 dB down. All of it is
//! arithmetic that rounds alike everywhere.

use rayon::prelude::*;

use crate::portable::sin_cos_turns;

/// Zeros of the sinc on either side of its middle.
const ZEROS: f64 = 64.0;
/// Where the sinc cuts off, of the lower limit.
const ROLL_OFF: f64 = 0.95;
/// Of the window: how far it keeps down what is beyond, against how fast it gets there.
const BETA: f64 = 10.0;
/// New numbers in one piece of work.
const PIECE: usize = 4096;

/// What was sampled `from` times a second, `to` times a second. Before and after it was silence.
pub(crate) fn resample(x: &[f32], from: u32, to: u32) -> Vec<f32> {
    if from == to {
        return x.to_vec();
    }
    let common = common_divisor(from, to);
    let (up, down) = (u64::from(to / common), u64::from(from / common));
    let cutoff = (f64::from(to) / f64::from(from)).min(1.0) * ROLL_OFF;
    let reach = ZEROS / cutoff;
    let count = (x.len() as u64 * up).div_ceil(down);
    // The new number i is at i * down / up of the old ones: there are as many filters as fractions of that.
    let filters: Vec<Vec<f32>> = (0..up.min(count))
        .into_par_iter()
        .map(|i| filter((i * down % up) as f64 / up as f64, cutoff, reach))
        .collect();
    let before = reach as u64;
    let mut out = vec![0.0; count as usize];
    out.par_chunks_mut(PIECE)
        .enumerate()
        .for_each(|(piece, out)| {
            for (i, out) in (piece as u64 * PIECE as u64..).zip(out) {
                let middle = i * down / up;
                let filter = &filters[(i % up) as usize];
                let (from, skipped) = match middle.checked_sub(before) {
                    Some(from) => (from, 0),
                    None => (0, before - middle),
                };
                let known = x.get(from as usize..).unwrap_or_default();
                *out = product(&filter[skipped as usize..], known) as f32;
            }
        });
    out
}

/// Weights of the numbers from `reach` before a place to `reach` and one after it, for one that is `fraction` beyond the place.
fn filter(fraction: f64, cutoff: f64, reach: f64) -> Vec<f32> {
    let before = reach as i64;
    let weight = |k: i64| {
        let distance = (fraction - k as f64).abs();
        match distance < reach {
            true => {
                let share = distance / reach;
                sinc(cutoff * distance) * bessel(BETA * (1.0 - share * share).sqrt())
            }
            false => 0.0,
        }
    };
    let weights: Vec<f64> = (-before..=before + 1).map(weight).collect();
    // So that a steady level stays what it is.
    let total: f64 = weights.iter().sum();
    weights
        .iter()
        .map(|weight| (weight / total) as f32)
        .collect()
}

/// sin(pi x) / (pi x), for x of 0 or more.
fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let half = x * 0.5;
    let (sin, _) = sin_cos_turns(half - half.floor());
    sin / (std::f64::consts::PI * x)
}

/// The modified Bessel function of the first kind and order 0, by its series, for x up to 10.
fn bessel(x: f64) -> f64 {
    let quarter = x * x * 0.25;
    let (mut term, mut sum) = (1.0, 1.0);
    // The first omitted term, 25^40 / 40!^2, is below 1e-39.
    for k in 1..40 {
        term *= quarter / f64::from(k * k);
        sum += term;
    }
    sum
}

/// Sum of the products, as far as both go, in eight interleaved lanes and always in the same order.
fn product(a: &[f32], b: &[f32]) -> f64 {
    let count = a.len().min(b.len());
    let (a, b) = (&a[..count], &b[..count]);
    let mut lanes = [0.0_f64; 8];
    let mut add = |a: &[f32], b: &[f32]| {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += f64::from(*a) * f64::from(*b);
        }
    };
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = (left.remainder(), right.remainder());
    left.zip(right).for_each(|(a, b)| add(a, b));
    add(rest.0, rest.1);
    lanes.iter().sum()
}

fn common_divisor(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        b => common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` numbers of a tone, at so many a second.
    fn tone(hertz: f64, rate: u32, count: usize) -> Vec<f32> {
        let angle = |i: usize| std::f64::consts::TAU * hertz * i as f64 / f64::from(rate);
        (0..count).map(|i| (0.5 * angle(i).sin()) as f32).collect()
    }

    /// The largest difference from 20 ms after the beginning to 20 ms before the end.
    fn apart(a: &[f32], b: &[f32]) -> f32 {
        let inner = 320..a.len() - 320;
        let pairs = a[inner.clone()].iter().zip(&b[inner]);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn tones_are_what_they_were_and_what_is_too_high_is_gone() {
        for (rate, hertz) in [
            (8_000, 440.0),
            (8_000, 3_500.0),
            (11_025, 1_000.0),
            (44_100, 7_000.0),
            (48_000, 3_000.0),
            (192_000, 100.0),
            (15_999, 5_000.0),
        ] {
            let out = resample(&tone(hertz, rate, rate as usize / 4), rate, 16_000);
            let expected = tone(hertz, 16_000, out.len());
            assert!(out.len().abs_diff(4_000) <= 1, "{rate}: {}", out.len());
            let apart = apart(&out, &expected);
            assert!(apart < 2e-5, "{hertz} Hz at {rate}: {apart}");
        }
        let out = resample(&tone(9_000.0, 48_000, 12_000), 48_000, 16_000);
        assert!(apart(&out, &vec![0.0; out.len()]) < 2e-5);
    }

    #[test]
    fn lengths_are_rounded_up_and_levels_stay() {
        assert_eq!(resample(&[0.5, -0.25], 16_000, 16_000), [0.5, -0.25]);
        assert!(resample(&[], 8_000, 16_000).is_empty());
        assert_eq!(resample(&[1.0], 192_000, 16_000).len(), 1);
        assert_eq!(resample(&[1.0; 3], 44_100, 16_000).len(), 2);
        let level = resample(&[0.5; 4_410], 44_100, 16_000);
        assert!(level[700..900].iter().all(|x| (x - 0.5).abs() < 1e-6));
    }
}
