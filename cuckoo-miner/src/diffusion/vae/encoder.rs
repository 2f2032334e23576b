//! From pixels to the distribution of their latents.

use candle_core::Tensor;

use super::middle::Middle;
use super::{EPS, VaeConfig};
use crate::diffusion::error::Result;
use crate::diffusion::layers::{Conv2d, GroupNorm};
use crate::diffusion::resnet::ResnetBlock;
use crate::diffusion::weights::{Part, Weights};
use crate::kernels::{Activation, Kernels};
use crate::portable::exp;

/// A normal distribution for each latent.
#[derive(Debug)]
pub(crate) struct Moments {
    mean: Vec<f32>,
    log_variance: Vec<f32>,
}

impl Moments {
    /// A draw from it, by as many standard normal numbers as there are latents.
    pub(crate) fn draw(&self, noise: &[f32]) -> Vec<f32> {
        self.mean
            .iter()
            .zip(&self.log_variance)
            .zip(noise)
            .map(|((mean, log), noise)| {
                // Held where diffusers holds it.
                let deviation = exp(0.5 * f64::from(log.clamp(-30.0, 20.0)));
                mean + deviation as f32 * noise
            })
            .collect()
    }
}

/// The encoder with its weights.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Option<Conv2d>,
}

impl Encoder {
    pub(super) fn load(
        weights: &Weights,
        config: &VaeConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let part = weights.part("encoder");
        let (finest, coarsest) = (config.finest(), config.coarsest());
        let moments = config.latents * 2;
        let quant_conv = || Conv2d::load(&weights.part("quant_conv"), moments, moments, 1);
        let mut down = Vec::new();
        let mut inputs = finest;
        for (i, outputs) in config.channels.iter().enumerate() {
            let last = i + 1 == config.channels.len();
            let part = part.at(format_args!("down_blocks.{i}"));
            let sizes = (inputs, *outputs);
            down.push(DownBlock::load(&part, sizes, last, config, kernels)?);
            inputs = *outputs;
        }
        Ok(Self {
            conv_in: Conv2d::load(&part.at("conv_in"), 3, finest, 3)?,
            down,
            middle: Middle::load(&part.at("mid_block"), config, kernels)?,
            norm_out: GroupNorm::load(
                &part.at("conv_norm_out"),
                coarsest,
                config.groups,
                EPS,
                Activation::Silu,
            )?,
            conv_out: Conv2d::load(&part.at("conv_out"), coarsest, moments, 3)?,
            quant_conv: config.quant_conv.then(quant_conv).transpose()?,
        })
    }

    pub(super) fn forward(&self, kernels: &dyn Kernels, pixels: &Tensor) -> Result<Moments> {
        let mut x = self.conv_in.forward(kernels, pixels)?;
        for block in &self.down {
            x = block.forward(kernels, x)?;
        }
        x = self.middle.forward(kernels, &x)?;
        x = self
            .conv_out
            .forward(kernels, &self.norm_out.forward(kernels, &x)?)?;
        if let Some(conv) = &self.quant_conv {
            x = conv.forward(kernels, &x)?;
        }
        let half = x.dim(1)? / 2;
        let flat =
            |first| -> Result<Vec<f32>> { Ok(x.narrow(1, first, half)?.flatten_all()?.to_vec1()?) };
        Ok(Moments {
            mean: flat(0)?,
            log_variance: flat(half)?,
        })
    }
}

/// One resolution of the encoder.
#[derive(Debug)]
struct DownBlock {
    resnets: Vec<ResnetBlock>,
    downsample: Option<Conv2d>,
}

impl DownBlock {
    fn load(
        part: &Part<'_>,
        (inputs, outputs): (usize, usize),
        last: bool,
        config: &VaeConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let resnet = |i| {
            let inputs = if i == 0 { inputs } else { outputs };
            let part = part.at(format_args!("resnets.{i}"));
            ResnetBlock::load(&part, inputs, outputs, config.style(), kernels)
        };
        let downsample = || {
            let part = part.at("downsamplers.0.conv");
            Conv2d::with_stride(&part, outputs, outputs, 3, 2, 0)
        };
        Ok(Self {
            resnets: (0..config.layers).map(resnet).collect::<Result<_>>()?,
            downsample: (!last).then(downsample).transpose()?,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, mut x: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(kernels, &x, None)?;
        }
        match &self.downsample {
            // Zeros are added at the right and below alone.
            Some(conv) => conv.forward(
                kernels,
                &x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?,
            ),
            None => Ok(x),
        }
    }
}
