//! Time as the UNet sees it: waves of geometrically spaced frequencies (Vaswani et al., 2017), then a perceptron.

use candle_core::Tensor;

use super::config::{Added, UNetConfig};
use crate::diffusion::error::Result;
use crate::diffusion::layers::Linear;
use crate::diffusion::weights::Part;
use crate::kernels::{Activation, Kernels};
use crate::portable::{exp, ln, sin_cos};

/// The slowest wave has a period of about this many training steps (times 2 pi).
const SLOWEST: f64 = 10_000.0;

#[derive(Debug)]
pub(super) struct TimeEmbedding {
    width: usize,
    cosine_first: bool,
    frequency_shift: f64,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl TimeEmbedding {
    pub(super) fn load(part: &Part<'_>, config: &UNetConfig) -> Result<Self> {
        let (width, hidden) = (config.blocks[0].channels, config.time_width());
        Ok(Self {
            width,
            cosine_first: config.cosine_first,
            frequency_shift: config.frequency_shift,
            up: Linear::load(&part.at("linear_1"), width, hidden)?,
            down: Linear::load(&part.at("linear_2"), hidden, hidden)?,
            activation: config.activation,
        })
    }

    /// The embedding of `time`, `[1, width]`.
    pub(super) fn forward(&self, kernels: &dyn Kernels, time: f32) -> Result<Tensor> {
        let waves = waves(time, self.width, self.cosine_first, self.frequency_shift);
        let x = Tensor::from_vec(waves, (1, self.width), kernels.device())?;
        let x = kernels.activate(&self.up.forward(kernels, &x)?, self.activation)?;
        self.down.forward(kernels, &x)
    }
}

/// What Stable Diffusion XL is told beside time: the prompt as a whole, and sizes in the manner of times (Podell et al.,
/// 2023, section 2.2).
#[derive(Debug)]
pub(super) struct AddedEmbedding {
    width: usize,
    cosine_first: bool,
    frequency_shift: f64,
    up: Linear,
    down: Linear,
}

impl AddedEmbedding {
    pub(super) fn load(part: &Part<'_>, added: Added, config: &UNetConfig) -> Result<Self> {
        let hidden = config.time_width();
        Ok(Self {
            width: added.size_width,
            cosine_first: config.cosine_first,
            frequency_shift: config.frequency_shift,
            up: Linear::load(&part.at("linear_1"), added.width, hidden)?,
            down: Linear::load(&part.at("linear_2"), hidden, hidden)?,
        })
    }

    /// The embedding of `pooled` prompts, `[batch, width]`, for a picture of `size` (height and width in pixels) of which
    /// nothing is cut off.
    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        pooled: &Tensor,
        (height, width): (usize, usize),
    ) -> Result<Tensor> {
        // The size of the whole, where it is cut, the size that is wanted.
        let sizes = [height, width, 0, 0, height, width];
        let waves: Vec<f32> = sizes
            .iter()
            .flat_map(|size| {
                waves(
                    *size as f32,
                    self.width,
                    self.cosine_first,
                    self.frequency_shift,
                )
            })
            .collect();
        let sizes = Tensor::from_vec(waves, (1, self.width * sizes.len()), kernels.device())?;
        let sizes = sizes.repeat((pooled.dim(0)?, 1))?;
        let x = Tensor::cat(&[pooled, &sizes], 1)?;
        let x = kernels.activate(&self.up.forward(kernels, &x)?, Activation::Silu)?;
        self.down.forward(kernels, &x)
    }
}

/// `width` / 2 sines and as many cosines of `time`.
fn waves(time: f32, width: usize, cosine_first: bool, frequency_shift: f64) -> Vec<f32> {
    let half = width / 2;
    let wave = |i: usize| {
        let frequency = exp(-ln(SLOWEST) * i as f64 / (half as f64 - frequency_shift));
        sin_cos(f64::from(time) * frequency)
    };
    let sines = (0..half).map(|i| wave(i).0 as f32);
    let cosines = (0..half).map(|i| wave(i).1 as f32);
    if cosine_first {
        cosines.chain(sines).collect()
    } else {
        sines.chain(cosines).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_match_diffusers() {
        // diffusers 0.42: get_timestep_embedding(torch.tensor([7.0]), 8, flip_sin_to_cos=True, downscale_freq_shift=0).
        let expected = [
            0.753_902_3,
            0.764_842_2,
            0.997_551_1,
            0.999_975_5,
            0.656_986_6,
            0.644_217_7,
            0.069_942_84,
            0.006_999_943,
        ];
        for (got, expected) in waves(7.0, 8, true, 0.0).iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} for {expected}");
        }
        let swapped = waves(7.0, 8, false, 0.0);
        assert_eq!(swapped[..4], waves(7.0, 8, true, 0.0)[4..]);
        // With a shift of 1 the slowest wave is exactly 1 / 10,000.
        assert!((waves(1.0, 8, false, 1.0)[3] - 1e-4).abs() < 1e-9);
    }
}
