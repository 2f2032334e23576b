//! The denoiser: a UNet that predicts the noise in latents from their time and a prompt (Rombach et al.,
//! "High-resolution image synthesis with latent diffusion models", 2022). Layer names and configuration follow
//! diffusers' `UNet2DConditionModel`.

mod blocks;
mod config;
mod time;
mod transformer;

use candle_core::Tensor;

use super::error::Result;
use super::folder::Folder;
use super::layers::{Conv2d, GroupNorm};
use super::resnet::ResnetStyle;
use super::weights::Weights;
use crate::kernels::Kernels;
use blocks::{DownBlock, MidBlock, UpBlock};
use config::UNetConfig;
use time::TimeEmbedding;

/// The UNet with its weights.
#[derive(Debug)]
pub(crate) struct UNet {
    config: UNetConfig,
    conv_in: Conv2d,
    time: TimeEmbedding,
    down: Vec<DownBlock>,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet {
    /// Reads `unet/`.
    pub(crate) fn load(folder: &mut Folder, kernels: &dyn Kernels) -> Result<Self> {
        let config = UNetConfig::load(folder)?;
        let weights = Weights::open(folder, "unet", "diffusion_pytorch_model", kernels.device())?;
        let part = weights.part("");
        let first = config.blocks[0].channels;
        let style = ResnetStyle {
            groups: config.groups,
            eps: config.eps,
            activation: config.activation,
            time: Some(config.time_width()),
        };

        let mut down = Vec::new();
        // Channels of every tensor the way up will be given, in the order of the way down.
        let mut skips = vec![first];
        let mut channels = first;
        for (i, block) in config.blocks.iter().enumerate() {
            let last = i + 1 == config.blocks.len();
            down.push(DownBlock::load(
                &part.at(format_args!("down_blocks.{i}")),
                channels,
                block,
                last,
                &config,
                style,
            )?);
            channels = block.channels;
            skips.extend(std::iter::repeat_n(
                channels,
                block.layers + usize::from(!last),
            ));
        }
        let mid = MidBlock::load(&part.at("mid_block"), &config, style)?;
        let mut up = Vec::new();
        for (i, block) in config.up_blocks().iter().enumerate() {
            let last = i + 1 == config.blocks.len();
            // As many as the block has residual blocks: one more than on the way down.
            let taken = skips.split_off(skips.len().saturating_sub(block.layers + 1));
            up.push(UpBlock::load(
                &part.at(format_args!("up_blocks.{i}")),
                channels,
                &taken,
                block,
                last,
                &config,
                style,
            )?);
            channels = block.channels;
        }
        let unet = Self {
            conv_in: Conv2d::load(&part.at("conv_in"), config.inputs, first, config.kernel_in)?,
            time: TimeEmbedding::load(&part.at("time_embedding"), &config)?,
            down,
            mid,
            up,
            norm_out: GroupNorm::load(
                &part.at("conv_norm_out"),
                first,
                config.groups,
                config.eps,
                config.activation,
            )?,
            conv_out: Conv2d::load(
                &part.at("conv_out"),
                first,
                config.outputs,
                config.kernel_out,
            )?,
            config,
        };
        weights.finish(&[])?;
        Ok(unet)
    }

    /// Channels of the latents it takes and gives.
    pub(crate) fn channels(&self) -> usize {
        self.config.inputs
    }

    /// Width of the prompt's tokens it attends to.
    pub(crate) fn context(&self) -> usize {
        self.config.context
    }

    /// The latents' height and width it was trained on, if the configuration says.
    pub(crate) fn sample_size(&self) -> Option<(usize, usize)> {
        self.config.sample_size
    }

    /// Predicts, from latents `[batch, channels, height, width]` at `time` (in training steps) and the prompts'
    /// tokens `[batch, tokens, width]`, what the scheduler's `prediction_type` names.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        latents: &Tensor,
        time: f32,
        prompts: &Tensor,
    ) -> Result<Tensor> {
        let time = self.time.forward(kernels, time)?;
        let mut x = self.conv_in.forward(kernels, latents)?;
        let mut skips = vec![x.clone()];
        for block in &self.down {
            x = block.forward(kernels, x, &time, prompts, &mut skips)?;
        }
        x = self.mid.forward(kernels, x, &time, prompts)?;
        for block in &self.up {
            x = block.forward(kernels, x, &time, prompts, &mut skips)?;
        }
        let x = self.norm_out.forward(kernels, &x)?;
        self.conv_out.forward(kernels, &x)
    }
}
