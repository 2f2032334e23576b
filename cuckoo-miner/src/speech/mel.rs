//! What a model hears: the strength of bands of frequencies, a hundred times a second, as logarithms (Stevens et al., "A scale
//! for the measurement of the psychological magnitude pitch", 1937; the bands of Slaney's "Auditory toolbox", 1998).
//!
//! As `WhisperFeatureExtractor` of transformers computes it. All of it is in `f64` with functions that round alike everywhere,
//! and the results are `f32`.

use rayon::prelude::*;

use crate::portable::{exp, ln, sin_cos_turns};

/// Numbers of a recording between one frame and the next.
pub(crate) const HOP: usize = 160;
/// How long that is.
pub(crate) const FRAME_MILLIS: u64 = 10;
/// Numbers that a frame looks at.
pub(crate) const SPAN: usize = 400;
/// Frequencies told apart, in steps of 40 Hz from 0 on.
const BINS: usize = SPAN / 2 + 1;
/// 400 as a product, by which its transform is taken apart.
const RADICES: [usize; 4] = [4, 4, 5, 5];
/// What counts as silence.
const FLOOR: f64 = 1e-10;
/// How far below the loudest a band may be, in powers of ten.
const DEPTH: f32 = 8.0;

/// Tables for a number of bands.
#[derive(Debug)]
pub(crate) struct Mel {
    /// Hann's.
    window: Vec<f64>,
    /// The `SPAN`-th roots of 1: cosine and sine of -i / `SPAN` turns.
    roots: Vec<(f64, f64)>,
    /// For each band its first frequency, and the weights from there on.
    bands: Vec<(usize, Vec<f64>)>,
}

impl Mel {
    pub(crate) fn new(bands: usize) -> Self {
        let turn = |i: usize| sin_cos_turns(i as f64 / SPAN as f64);
        Self {
            window: (0..SPAN).map(|i| 0.5 - 0.5 * turn(i).1).collect(),
            roots: (0..SPAN).map(turn).map(|(sin, cos)| (cos, -sin)).collect(),
            bands: filters(bands),
        }
    }

    /// The frames of a recording of more than half a [`SPAN`], `[frames, bands]`: one for each whole [`HOP`].
    pub(crate) fn features(&self, samples: &[f32]) -> Vec<f32> {
        let (bands, frames) = (self.bands.len(), samples.len() / HOP);
        let mut out = vec![0.0; frames * bands];
        // Two frames at a time: one is the real part of what is transformed, the other the imaginary one.
        out.par_chunks_mut(2 * bands)
            .enumerate()
            .for_each(|(pair, out)| {
                let mut x: Vec<(f64, f64)> = (0..SPAN)
                    .map(|i| {
                        let at = |frame: usize| self.window[i] * around(samples, frame * HOP + i);
                        let second = if out.len() > bands {
                            at(2 * pair + 1)
                        } else {
                            0.0
                        };
                        (at(2 * pair), second)
                    })
                    .collect();
                self.transform(&mut x);
                for (part, out) in out.chunks_exact_mut(bands).enumerate() {
                    let powers = powers(&x, part);
                    for (out, (first, weights)) in out.iter_mut().zip(&self.bands) {
                        let pairs = weights.iter().zip(&powers[*first..]);
                        let strength: f64 = pairs.map(|(weight, power)| weight * power).sum();
                        *out = (ln(strength.max(FLOOR)) / std::f64::consts::LN_10) as f32;
                    }
                }
            });
        let loudest = out.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for x in &mut out {
            *x = (x.max(loudest - DEPTH) + 4.0) / 4.0;
        }
        out
    }

    /// Fourier's transform, by the parts of its length (Cooley and Tukey, 1965, in the order of Stockham's).
    fn transform(&self, x: &mut Vec<(f64, f64)>) {
        let mut y = vec![(0.0, 0.0); SPAN];
        let (mut left, mut step) = (SPAN, 1);
        for radix in RADICES {
            let rest = left / radix;
            for p in 0..rest {
                for k in 0..radix {
                    for q in 0..step {
                        let mut sum = (0.0, 0.0);
                        for j in 0..radix {
                            // The radix's own root, then the twist of what follows.
                            let turn = (j * k * (SPAN / radix) + p * k * step) % SPAN;
                            let (cos, sin) = self.roots[turn];
                            let (re, im) = x[q + step * (p + rest * j)];
                            sum.0 += re * cos - im * sin;
                            sum.1 += re * sin + im * cos;
                        }
                        y[q + step * (radix * p + k)] = sum;
                    }
                }
            }
            std::mem::swap(x, &mut y);
            left = rest;
            step *= radix;
        }
    }
}

/// Squares of the lengths, of the one of two real sequences that were transformed together.
fn powers(x: &[(f64, f64)], part: usize) -> [f64; BINS] {
    std::array::from_fn(|i| {
        let ((a, b), (c, d)) = (x[i], x[(SPAN - i) % SPAN]);
        let (re, im) = match part {
            0 => (a + c, b - d),
            _ => (b + d, c - a),
        };
        (re * re + im * im) * 0.25
    })
}

/// The number at `i`, counted from half a [`SPAN`] before the first one. Beyond both ends a recording runs backwards.
fn around(samples: &[f32], i: usize) -> f64 {
    let (half, last) = (SPAN / 2, samples.len() - 1);
    let i = match i.checked_sub(half) {
        Some(i) if i > last => 2 * last - i,
        Some(i) => i,
        None => half - i,
    };
    f64::from(samples[i])
}

/// Triangles of equal area, evenly apart in mels from 0 to 8000 Hz.
fn filters(bands: usize) -> Vec<(usize, Vec<f64>)> {
    let top = mels(8000.0);
    let corner = |i: usize| hertz(top * i as f64 / (bands + 1) as f64);
    let filter = |band: usize| {
        let [low, middle, high] = [corner(band), corner(band + 1), corner(band + 2)];
        let weight = |bin: usize| {
            let hertz = (bin * 40) as f64;
            let (up, down) = (
                (hertz - low) / (middle - low),
                (high - hertz) / (high - middle),
            );
            up.min(down).max(0.0) * 2.0 / (high - low)
        };
        let first = (0..BINS).find(|bin| weight(*bin) > 0.0).unwrap_or(0);
        let weights = (first..BINS).map(weight).take_while(|weight| *weight > 0.0);
        (first, weights.collect())
    };
    (0..bands).map(filter).collect()
}

/// From here on mels are logarithms of frequencies, below in proportion to them.
const CORNER: f64 = 1000.0;
/// Mels at the corner.
const BELOW: f64 = 15.0;

fn mels(hertz: f64) -> f64 {
    match hertz < CORNER {
        true => hertz * BELOW / CORNER,
        false => BELOW + ln(hertz / CORNER) * 27.0 / ln(6.4),
    }
}

fn hertz(mels: f64) -> f64 {
    match mels < BELOW {
        true => mels * CORNER / BELOW,
        false => CORNER * exp((mels - BELOW) * ln(6.4) / 27.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_follows_its_definition() {
        let mel = Mel::new(80);
        let number = |i: usize| ((i * 29 % 19) as f64 / 6.0 - 1.5, (i * 13 % 23) as f64 / 9.0);
        let x: Vec<_> = (0..SPAN).map(number).collect();
        let mut y = x.clone();
        mel.transform(&mut y);
        for (k, (re, im)) in y.iter().enumerate() {
            let mut sum = (0.0, 0.0);
            for (i, (a, b)) in x.iter().enumerate() {
                let (sin, cos) = (-std::f64::consts::TAU * (i * k) as f64 / SPAN as f64).sin_cos();
                sum.0 += a * cos - b * sin;
                sum.1 += a * sin + b * cos;
            }
            assert!((re - sum.0).abs().max((im - sum.1).abs()) < 1e-10, "{k}");
        }
    }

    #[test]
    fn a_tone_is_loudest_in_its_band_and_silence_is_even() {
        for bands in [80, 128] {
            let mel = Mel::new(bands);
            let tone =
                |i: usize| (std::f64::consts::TAU * 1000.0 * i as f64 / 16_000.0).sin() as f32;
            let samples: Vec<_> = (0..16_000).map(tone).collect();
            let features = mel.features(&samples);
            assert_eq!(features.len(), 100 * bands);
            let frame = &features[50 * bands..51 * bands];
            let loudest = (0..bands).max_by(|a, b| frame[*a].total_cmp(&frame[*b]));
            let middle = hertz(mels(8000.0) * (loudest.unwrap() + 1) as f64 / (bands + 1) as f64);
            assert!((middle - 1000.0).abs() < 40.0, "{middle}");
            let silence = mel.features(&[0.0; 1600]);
            assert!(silence.iter().all(|x| *x == -1.5));
        }
    }

    #[test]
    fn every_band_hears_something_and_its_area_is_one() {
        for bands in [80, 128] {
            for (first, weights) in filters(bands) {
                assert!(first + weights.len() <= BINS && !weights.is_empty());
                // Of the narrow ones a step of frequencies is as wide as they are.
                let area: f64 = weights.iter().sum::<f64>() * 40.0;
                assert!((0.4..1.7).contains(&area), "{area}");
            }
        }
    }
}
