//! Time as the UNet sees it: waves of geometrically spaced frequencies (Vaswani et al., 2017), then a perceptron.

use candle_core::Tensor;

use super::config::UNetConfig;
use crate::diffusion::error::Result;
use crate::diffusion::layers::Linear;
use crate::diffusion::weights::Part;
use crate::kernels::{Activation, Kernels};

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

    /// The embedding of `time`, `[1, width]`, with the activation that every residual block would apply to it.
    pub(super) fn forward(&self, kernels: &dyn Kernels, time: f32) -> Result<Tensor> {
        let waves = waves(time, self.width, self.cosine_first, self.frequency_shift);
        let x = Tensor::from_vec(waves, (1, self.width), kernels.device())?;
        let x = kernels.activate(&self.up.forward(kernels, &x)?, self.activation)?;
        Ok(kernels.activate(&self.down.forward(kernels, &x)?, self.activation)?)
    }
}

/// `width` / 2 sines and as many cosines of `time`.
fn waves(time: f32, width: usize, cosine_first: bool, frequency_shift: f64) -> Vec<f32> {
    let half = width / 2;
    let angle = |i: usize| {
        f64::from(time) * (-SLOWEST.ln() * i as f64 / (half as f64 - frequency_shift)).exp()
    };
    let sines = (0..half).map(|i| angle(i).sin() as f32);
    let cosines = (0..half).map(|i| angle(i).cos() as f32);
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
