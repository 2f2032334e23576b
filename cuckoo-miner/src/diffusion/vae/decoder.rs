//! From latents to pixels.

use candle_core::Tensor;

use super::middle::Middle;
use super::{EPS, VaeConfig};
use crate::diffusion::error::Result;
use crate::diffusion::layers::{Conv2d, GroupNorm};
use crate::diffusion::resnet::{ResnetBlock, ResnetStyle, Upsample};
use crate::diffusion::weights::{Part, Weights};
use crate::kernels::{Activation, Kernels};

/// The decoder with its weights.
#[derive(Debug)]
pub(super) struct Decoder {
    post_quant_conv: Option<Conv2d>,
    conv_in: Conv2d,
    middle: Middle,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    pub(super) fn load(
        weights: &Weights,
        config: &VaeConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let part = weights.part("decoder");
        let (finest, coarsest) = (config.finest(), config.coarsest());
        let post_quant_conv = || {
            let part = weights.part("post_quant_conv");
            Conv2d::load(&part, config.latents, config.latents, 1)
        };
        let mut up = Vec::new();
        let mut inputs = coarsest;
        for (i, outputs) in config.channels.iter().rev().enumerate() {
            let last = i + 1 == config.channels.len();
            up.push(UpBlock::load(
                &part.at(format_args!("up_blocks.{i}")),
                (inputs, *outputs),
                config.layers + 1,
                last,
                config.style(),
                kernels,
            )?);
            inputs = *outputs;
        }
        Ok(Self {
            post_quant_conv: config.post_quant_conv.then(post_quant_conv).transpose()?,
            conv_in: Conv2d::load(&part.at("conv_in"), config.latents, coarsest, 3)?,
            middle: Middle::load(&part.at("mid_block"), config, kernels)?,
            up,
            norm_out: GroupNorm::load(
                &part.at("conv_norm_out"),
                finest,
                config.groups,
                EPS,
                Activation::Silu,
            )?,
            conv_out: Conv2d::load(&part.at("conv_out"), finest, 3, 3)?,
        })
    }

    pub(super) fn forward(&self, kernels: &dyn Kernels, latents: &Tensor) -> Result<Tensor> {
        let mut x = match &self.post_quant_conv {
            Some(conv) => conv.forward(kernels, latents)?,
            None => latents.clone(),
        };
        x = self
            .middle
            .forward(kernels, &self.conv_in.forward(kernels, &x)?)?;
        for block in &self.up {
            x = block.forward(kernels, x)?;
        }
        self.conv_out
            .forward(kernels, &self.norm_out.forward(kernels, &x)?)
    }
}

/// One resolution of the decoder.
#[derive(Debug)]
struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsample: Option<Upsample>,
}

impl UpBlock {
    fn load(
        part: &Part<'_>,
        (inputs, outputs): (usize, usize),
        layers: usize,
        last: bool,
        style: ResnetStyle,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let resnet = |i| {
            let inputs = if i == 0 { inputs } else { outputs };
            ResnetBlock::load(
                &part.at(format_args!("resnets.{i}")),
                inputs,
                outputs,
                style,
                kernels,
            )
        };
        Ok(Self {
            resnets: (0..layers).map(resnet).collect::<Result<_>>()?,
            upsample: (!last).then(|| Upsample::load(part, outputs)).transpose()?,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, mut x: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(kernels, &x, None)?;
        }
        match &self.upsample {
            Some(upsample) => {
                let (_, _, height, width) = x.dims4()?;
                upsample.forward(kernels, &x, (height * 2, width * 2))
            }
            None => Ok(x),
        }
    }
}
