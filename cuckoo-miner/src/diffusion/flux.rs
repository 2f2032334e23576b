//! The denoiser of FLUX.1: a transformer over patches of the latents and the prompt's tokens together (Esser et al.,
//! "Scaling rectified flow transformers for high-resolution image synthesis", 2024; Black Forest Labs, "FLUX.1", 2024). Layer
//! names and configuration follow diffusers' `FluxTransformer2DModel`.
//!
//! The first blocks have layers of their own for patches and for tokens, which meet in attention; the others have one set
//! for both. What the picture is like as a whole (its time, the guidance, the whole prompt) scales and shifts every layer's
//! input and output.

mod block;
mod config;
mod patches;
mod positions;
mod whole;

use candle_core::Tensor;

use super::conditioning::Conditioning;
use super::error::{Error, Result};
use super::folder::Folder;
use super::weights::Weights;
use crate::kernels::Kernels;
use crate::model::layers::Projection;
use block::{DoubleBlock, SingleBlock, modulated, parts};
use config::FluxConfig;
use patches::{from_patches, to_patches};
use positions::Turns;
use whole::Whole;

/// Numbers that a patch or token holds at once, about, for each of its width: what a single block makes of it (queries,
/// keys, values and a perceptron four times as wide), copies of those in parts, and what comes in and goes out.
const HELD: usize = 24;

/// The transformer with its weights.
#[derive(Debug)]
pub(crate) struct Flux {
    config: FluxConfig,
    enter: Projection,
    enter_prompt: Projection,
    whole: Whole,
    double: Vec<DoubleBlock>,
    single: Vec<SingleBlock>,
    /// Scale and shift before the last layer.
    modulate: Projection,
    leave: Projection,
}

impl Flux {
    /// Reads `transformer/`.
    pub(crate) fn load(folder: &mut Folder, kernels: &dyn Kernels) -> Result<Self> {
        let config = FluxConfig::load(folder)?;
        let stem = "diffusion_pytorch_model";
        let weights = Weights::open(folder, "transformer", stem, kernels.device())?;
        weights.fit(folder)?;
        let part = weights.part("");
        let (width, channels) = (config.width(), config.channels);
        let project = |name: &str, inputs, outputs| {
            Projection::load(kernels, &part, &[(name, outputs)], inputs, true)
        };
        let double = |i| {
            let part = part.at(format_args!("transformer_blocks.{i}"));
            DoubleBlock::load(&part, &config, kernels)
        };
        let single = |i| {
            let part = part.at(format_args!("single_transformer_blocks.{i}"));
            SingleBlock::load(&part, &config, kernels)
        };
        let flux = Self {
            enter: project("x_embedder", channels, width)?,
            enter_prompt: project("context_embedder", config.context, width)?,
            whole: Whole::load(&part.at("time_text_embed"), &config, kernels)?,
            double: (0..config.double).map(double).collect::<Result<_>>()?,
            single: (0..config.single).map(single).collect::<Result<_>>()?,
            modulate: project("norm_out.linear", width, width * 2)?,
            leave: project("proj_out", width, channels)?,
            config,
        };
        weights.finish(&[])?;
        Ok(flux)
    }

    /// Channels of the latents it takes and gives.
    pub(crate) fn channels(&self) -> usize {
        self.config.channels / patches::AREA
    }

    /// Width of the prompt's tokens it attends to.
    pub(crate) fn context(&self) -> usize {
        self.config.context
    }

    /// Width of the whole prompt.
    pub(crate) fn pooled(&self) -> usize {
        self.config.pooled
    }

    /// Whether it is told how strongly the prompt pulls.
    pub(crate) fn is_guided(&self) -> bool {
        self.config.guided
    }

    /// Numbers held at once for latents of `area` and a prompt of so many `tokens`, about.
    pub(crate) fn numbers(&self, area: usize, tokens: usize) -> usize {
        (area / patches::AREA + tokens) * self.config.width() * HELD
    }

    /// Predicts the direction from picture to noise, of latents `[1, channels, height, width]` of even sides at `time` (in
    /// training steps, 0 to 1000) and a prompt.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        latents: &Tensor,
        time: f32,
        guidance: f32,
        prompt: &Conditioning,
    ) -> Result<Tensor> {
        let pooled = prompt.pooled.as_ref().ok_or_else(|| {
            Error::Compute(candle_core::Error::Msg(
                "the text encoders gave no prompt as a whole".to_owned(),
            ))
        })?;
        let (_, _, height, width) = latents.dims4()?;
        let whole = self.whole.forward(kernels, time, guidance, pooled)?;
        let image = self.enter.forward(kernels, &to_patches(latents)?)?;
        let text = prompt.tokens.squeeze(0)?;
        let text = self.enter_prompt.forward(kernels, &text)?;
        let (tokens, patches) = (text.dim(0)?, image.dim(0)?);
        let turns = Turns::new(&self.config, tokens, (height, width), kernels.device())?;
        let (mut image, mut text) = (image, text);
        for block in &self.double {
            (image, text) = block.forward(kernels, &image, &text, &whole, &turns)?;
        }
        let mut x = Tensor::cat(&[text, image], 0)?;
        for block in &self.single {
            x = block.forward(kernels, &x, &whole, &turns)?;
        }
        let x = x.narrow(0, tokens, patches)?.contiguous()?;
        let [scale, shift] = parts::<2>(&self.modulate.forward(kernels, &whole)?)?;
        let x = modulated(kernels, &x, &shift, &scale)?;
        from_patches(&self.leave.forward(kernels, &x)?, height, width)
    }
}
