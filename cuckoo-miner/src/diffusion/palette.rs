//! Latents as small pictures without the decoder: each colour as a sum of the latents' channels. The
//! weights are found by least squares against the decoder itself, so they are there for any model.

use super::error::{Error, Result};
use super::image::Image;
use crate::noise::Philox;

/// The longest side of a small picture, in pixels.
const SIDE: usize = 64;
/// Random colours a channel that the weights are found from.
const PER_CHANNEL: usize = 16;
/// Latents along each side of a picture of one such colour.
pub(super) const PATCH: usize = 2;
/// Keeps weights small where the decoder hardly tells two channels apart.
const RIDGE: f64 = 1e-3;

/// How much of each colour a latent is.
#[derive(Debug)]
pub(super) struct Palette {
    /// Red, green and blue, -1 to 1, of each channel; last, what is there without any.
    weights: Vec<[f64; 3]>,
}

impl Palette {
    /// Finds the weights for latents of so many `channels`. `decode` gives the pixels, `[n, 3, height, width]` from -1 to 1,
    /// of latents `[n, channels, PATCH, PATCH]`, when told `n`.
    pub(super) fn fit(
        channels: usize,
        decode: impl Fn(usize, &[f32]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let size = channels + 1;
        // The normal equations: of the latents with themselves, and with each colour.
        let mut square = vec![vec![0.0; size]; size];
        let mut weights = vec![[0.0; 3]; size];
        let mut noise = Philox::new(0);
        for _ in 0..channels {
            let colours: Vec<_> = (0..PER_CHANNEL).map(|_| noise.normal(channels)).collect();
            let spread = |value: &f32| [*value; PATCH * PATCH];
            let latents: Vec<_> = colours.iter().flatten().flat_map(spread).collect();
            let pixels = decode(PER_CHANNEL, &latents)?;
            let area = pixels.len() / (PER_CHANNEL * 3);
            if area == 0 || !pixels.iter().all(|pixel| pixel.is_finite()) {
                return Err(Error::Diverged {
                    stage: "the decoded colours",
                });
            }
            for (colour, pixels) in colours.iter().zip(pixels.chunks_exact(area * 3)) {
                let row: Vec<_> = colour.iter().map(|x| f64::from(*x)).chain([1.0]).collect();
                let planes: Vec<_> = pixels.chunks_exact(area).map(mean).collect();
                for (i, x) in row.iter().enumerate() {
                    for (sum, y) in square[i].iter_mut().zip(&row) {
                        *sum += x * y;
                    }
                    for (sum, plane) in weights[i].iter_mut().zip(&planes) {
                        *sum += x * plane;
                    }
                }
            }
        }
        let ridge = RIDGE * (channels * PER_CHANNEL) as f64;
        for (i, row) in square.iter_mut().enumerate() {
            row[i] += ridge;
        }
        solve(square, &mut weights);
        Ok(Self { weights })
    }

    /// `latents`, `[channels, height, width]`, as a picture of at most [`SIDE`] pixels a side: one for each latent, or for a
    /// square of them.
    pub(super) fn picture(&self, latents: &[f32], height: usize, width: usize) -> Result<Image> {
        let area = height * width;
        let Some((bias, weights)) = self.weights.split_last() else {
            return Err(Error::request("latents", "have no channels"));
        };
        if area == 0 || latents.len() != weights.len() * area {
            return Err(Error::request("latents", "are not of this size"));
        }
        let step = height.max(width).div_ceil(SIDE);
        let (rows, columns) = (height.div_ceil(step), width.div_ceil(step));
        let mut planes = vec![0.0; 3 * rows * columns];
        for row in 0..rows {
            for column in 0..columns {
                let mut colour = *bias;
                for (weights, channel) in weights.iter().zip(latents.chunks_exact(area)) {
                    let lines = row * step..height.min((row + 1) * step);
                    let from_to = column * step..width.min((column + 1) * step);
                    let count = lines.len() * from_to.len();
                    let sum: f64 = lines
                        .flat_map(|y| &channel[y * width..][from_to.clone()])
                        .map(|x| f64::from(*x))
                        .sum();
                    for (colour, weight) in colour.iter_mut().zip(weights) {
                        *colour += weight * sum / count as f64;
                    }
                }
                for (plane, colour) in colour.iter().enumerate() {
                    planes[(plane * rows + row) * columns + column] = *colour as f32;
                }
            }
        }
        Image::from_planes(&planes, columns, rows)
    }
}

/// Of pixels as they are shown: what is beyond black and white is cut.
fn mean(pixels: &[f32]) -> f64 {
    let sum: f64 = pixels
        .iter()
        .map(|pixel| f64::from(pixel.clamp(-1.0, 1.0)))
        .sum();
    sum / pixels.len() as f64
}

/// Solves `square * x = right` in place by Gauss's elimination. `square` is symmetric and positive definite, so its diagonal
/// serves as it comes.
fn solve(mut square: Vec<Vec<f64>>, right: &mut [[f64; 3]]) {
    let size = right.len();
    for i in 0..size {
        let (pivot, known) = (square[i].clone(), right[i]);
        for j in (0..size).filter(|j| *j != i) {
            let factor = square[j][i] / pivot[i];
            for (x, y) in square[j].iter_mut().zip(&pivot) {
                *x -= factor * y;
            }
            for (x, y) in right[j].iter_mut().zip(&known) {
                *x -= factor * y;
            }
        }
    }
    for (i, row) in right.iter_mut().enumerate() {
        row.iter_mut().for_each(|x| *x /= square[i][i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder of four pixels a latent, each colour a sum of two channels and a constant.
    fn linear(n: usize, latents: &[f32]) -> Result<Vec<f32>> {
        let latent = |i: usize, channel: usize| latents[(i * 2 + channel) * PATCH * PATCH];
        let pixels = (0..n).flat_map(|i| {
            let (a, b) = (latent(i, 0), latent(i, 1));
            [0.1 * a, 0.1 - 0.05 * b, 0.05 * a + 0.1 * b]
                .into_iter()
                .flat_map(|plane| [plane; 4 * PATCH * PATCH])
        });
        Ok(pixels.collect())
    }

    #[test]
    fn a_linear_decoder_is_found() {
        let palette = Palette::fit(2, linear).unwrap();
        let expected = [[0.1, 0.0, 0.05], [0.0, -0.05, 0.1], [0.0, 0.1, 0.0]];
        for (weights, expected) in palette.weights.iter().zip(expected) {
            for (weight, expected) in weights.iter().zip(expected) {
                assert!((weight - expected).abs() < 2e-3, "{:?}", palette.weights);
            }
        }
    }

    #[test]
    fn pictures_are_at_most_64_pixels_a_side() {
        let palette = Palette::fit(2, linear).unwrap();
        for (height, width, size) in [
            (3, 5, (5, 3)),
            (64, 64, (64, 64)),
            (65, 10, (5, 33)),
            (1, 1_024, (64, 1)),
        ] {
            let image = palette.picture(&vec![0.0; 2 * height * width], height, width);
            let image = image.unwrap();
            assert_eq!((image.width, image.height), size);
        }
        // Squares of two by two are averaged, and what is left at the edge by itself.
        let (height, width) = (1, 65);
        let mut latents = vec![0.0; 2 * width];
        (latents[0], latents[1], latents[64]) = (4.0, -4.0, 5.0);
        let image = palette.picture(&latents, height, width).unwrap();
        let red: Vec<_> = image.rgb.iter().step_by(3).copied().collect();
        assert_eq!(red.len(), 33);
        assert!(
            red[0].abs_diff(128) <= 1 && red[32].abs_diff(191) <= 1,
            "{red:?}"
        );
        assert!(palette.picture(&latents, 2, 65).is_err());
        assert!(palette.picture(&[f32::NAN; 2], 1, 1).is_err());
    }

    #[test]
    fn a_decoder_that_fails_gives_no_palette() {
        assert!(Palette::fit(2, |n, _| Ok(vec![f32::NAN; n * 12])).is_err());
        assert!(Palette::fit(2, |_, _| Ok(Vec::new())).is_err());
    }
}
