//! Where patches are, as turns of their queries and keys (Su et al., "RoFormer", 2021): each axis turns some pairs of numbers
//! of every head. A prompt's tokens are all at the origin.

use candle_core::{Device, Tensor};

use super::config::FluxConfig;
use crate::diffusion::error::Result;
use crate::kernels::Kernels;
use crate::portable::{exp, ln, sin_cos};

/// The slowest pair is turned by about one in so many rows or columns.
const SLOWEST: f64 = 10_000.0;

/// Cosines and sines of every turn, of the tokens and then of the patches.
#[derive(Debug)]
pub(super) struct Turns {
    cos: Tensor,
    sin: Tensor,
    heads: usize,
}

impl Turns {
    /// For a prompt of so many `tokens`, and patches of latents of the given height and width.
    pub(super) fn new(
        config: &FluxConfig,
        tokens: usize,
        (height, width): (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let patches =
            (0..height / 2).flat_map(|row| (0..width / 2).map(move |column| (row, column)));
        let places = std::iter::repeat_n((0, 0), tokens).chain(patches);
        let angles = places.flat_map(|(row, column)| {
            let axes = config.axes.into_iter().zip([0, row, column]);
            axes.flat_map(|(numbers, place)| {
                (0..numbers / 2).map(move |i| {
                    let frequency = exp(-ln(SLOWEST) * (2 * i) as f64 / numbers as f64);
                    sin_cos(place as f64 * frequency)
                })
            })
        });
        let (sin, cos): (Vec<f32>, Vec<f32>) =
            angles.map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        let shape = (tokens + height / 2 * (width / 2), config.depth / 2);
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
            heads: config.heads,
        })
    }

    /// Queries or keys, whose pairs were taken apart by [`apart`], of all tokens and patches.
    pub(super) fn apply(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        Ok(kernels.rotate(x, self.heads, &self.cos, &self.sin)?)
    }
}

/// What belongs to queries or keys of so many `heads` (a weight, a bias, a scale), with the first number of each pair before
/// the second of all: neighbours are a pair in diffusers, and here those half a head apart.
///
/// Products of queries and keys stay as they are when both are so reordered.
pub(super) fn apart(x: &Tensor, heads: usize) -> Result<Tensor> {
    let rows = x.dim(0)?;
    let pairs = rows / heads / 2;
    let rest = x.elem_count() / rows;
    Ok(x.reshape((heads, pairs, 2, rest))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape(x.shape())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::CpuKernels;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn pairs_are_taken_apart_in_each_head() {
        let rows: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let bias = Tensor::from_vec(rows[..8].to_vec(), 8, &Device::Cpu).unwrap();
        let two_heads = [0.0_f32, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(values(&apart(&bias, 2).unwrap()), two_heads);
        let weight = Tensor::from_vec(rows, (8, 2), &Device::Cpu).unwrap();
        let weight: Vec<Vec<f32>> = apart(&weight, 2).unwrap().to_vec2().unwrap();
        assert_eq!(
            (&weight[1][..], &weight[6][..]),
            (&[4.0, 5.0][..], &[10.0, 11.0][..])
        );
    }

    #[test]
    fn tokens_stay_and_patches_turn_by_row_and_column() {
        let config = FluxConfig {
            channels: 4,
            double: 0,
            single: 0,
            heads: 1,
            depth: 8,
            axes: [2, 2, 4],
            context: 1,
            pooled: 1,
            guided: false,
        };
        // Two tokens, then patches at (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2).
        let turns = Turns::new(&config, 2, (4, 6), &Device::Cpu).unwrap();
        let x = [1.0_f32, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0].repeat(8);
        let x = Tensor::from_vec(x, (8, 8), &Device::Cpu).unwrap();
        let turned = turns.apply(&CpuKernels::new(), &x).unwrap();
        let turned: Vec<Vec<f32>> = turned.to_vec2().unwrap();
        let first = x.to_vec2::<f32>().unwrap().remove(0);
        for stays in [0, 1, 2] {
            assert_eq!(turned[stays], first);
        }
        // The pairs are those of the first axis, of the row, and two of the column, the second a hundredth as fast.
        let angles = [0.0_f32, 1.0, 2.0, 0.02];
        for (i, angle) in angles.into_iter().enumerate() {
            let (sin, cos) = angle.sin_cos();
            let got = (turned[7][i], turned[7][i + 4]);
            assert!(
                (got.0 - cos).abs() < 1e-6 && (got.1 - sin).abs() < 1e-6,
                "{i}: {got:?}"
            );
        }
    }
}
