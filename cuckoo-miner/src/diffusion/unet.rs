//! The denoiser: a UNet that predicts the noise in latents from their time and a prompt (Rombach et al.,
//! "High-resolution image synthesis with latent diffusion models", 2022). Layer names and configuration follow
//! diffusers' `UNet2DConditionModel`.

mod blocks;
mod config;
mod time;
mod transformer;

use candle_core::Tensor;

use super::conditioning::Conditioning;
use super::error::{Error, Result};
use super::folder::Folder;
use super::layers::{Conv2d, GroupNorm};
use super::lora::Loras;
use super::weights::Weights;
use crate::kernels::Kernels;
use blocks::{DownBlock, MidBlock, UpBlock};
use config::{Added, UNetConfig};
use time::{AddedEmbedding, TimeEmbedding};

/// The UNet with its weights.
#[derive(Debug)]
pub(crate) struct UNet {
    config: UNetConfig,
    conv_in: Conv2d,
    time: TimeEmbedding,
    added: Option<AddedEmbedding>,
    down: Vec<DownBlock>,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet {
    /// Reads `unet/`.
    pub(crate) fn load(folder: &mut Folder, loras: &Loras, kernels: &dyn Kernels) -> Result<Self> {
        let config = UNetConfig::load(folder)?;
        let mut weights =
            Weights::open(folder, "unet", "diffusion_pytorch_model", kernels.device())?;
        loras.merge("unet", &mut weights)?;
        weights.fit(folder)?;
        let part = weights.part("");
        let first = config.blocks[0].channels;
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
                kernels,
            )?);
            channels = block.channels;
            skips.extend(std::iter::repeat_n(
                channels,
                block.layers + usize::from(!last),
            ));
        }
        let mid = MidBlock::load(&part.at("mid_block"), &config, kernels)?;
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
                kernels,
            )?);
            channels = block.channels;
        }
        let unet = Self {
            conv_in: Conv2d::load(&part.at("conv_in"), config.inputs, first, config.kernel_in)?,
            time: TimeEmbedding::load(&part.at("time_embedding"), &config, kernels)?,
            added: config
                .added
                .map(|added| {
                    AddedEmbedding::load(&part.at("add_embedding"), added, &config, kernels)
                })
                .transpose()?,
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

    /// What it is told beside time, if anything.
    pub(crate) fn added(&self) -> Option<Added> {
        self.config.added
    }

    /// Numbers held at once for latents of `area` and one prompt, about: what the way down leaves, and the finest
    /// resolution's transformer, whose perceptron is eight times as wide as it, beside four tensors of its own.
    pub(crate) fn numbers(&self, area: usize) -> usize {
        let blocks = &self.config.blocks;
        let left: usize = blocks
            .iter()
            .enumerate()
            .map(|(i, block)| (block.layers + 1) * block.channels * area.div_ceil(1 << (2 * i)))
            .sum();
        let widest = blocks
            .iter()
            .enumerate()
            .map(|(i, block)| block.channels * area.div_ceil(1 << (2 * i)))
            .max();
        left + widest.unwrap_or(0) * 12
    }

    /// The latents' height and width it was trained on, if the configuration says.
    pub(crate) fn sample_size(&self) -> Option<(usize, usize)> {
        self.config.sample_size
    }

    /// Predicts, from latents `[batch, channels, height, width]` of a picture of `size` (height and width in pixels) at
    /// `time` (in training steps) and as many prompts, what the scheduler's `prediction_type` names.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        latents: &Tensor,
        size: (usize, usize),
        time: f32,
        prompts: &Conditioning,
    ) -> Result<Tensor> {
        let mut time = self.time.forward(kernels, time)?;
        if let Some(added) = &self.added {
            let pooled = prompts.pooled.as_ref().ok_or_else(|| {
                Error::Compute(candle_core::Error::Msg(
                    "the text encoders gave no prompt as a whole".to_owned(),
                ))
            })?;
            time = added.forward(kernels, pooled, size)?.broadcast_add(&time)?;
        }
        // Every residual block would begin with it.
        let time = kernels.activate(&time, self.config.activation)?;
        let prompts = &prompts.tokens;
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
