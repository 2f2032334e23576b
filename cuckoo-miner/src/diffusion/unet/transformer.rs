//! The transformer inside a UNet's block: every pixel attends to every other, then to the prompt.

use candle_core::Tensor;

use super::config::{Attention, UNetConfig};
use crate::diffusion::error::Result;
use crate::diffusion::layers::{Conv2d, GroupNorm, Linear, to_image, to_tokens};
use crate::diffusion::weights::Part;
use crate::kernels::{Activation, Kernels};
use crate::model::layers::LayerNorm;

/// Fixed in diffusers' `Transformer2DModel`, whatever the UNet's own `norm_eps`.
const GROUP_EPS: f64 = 1e-6;
const LAYER_EPS: f64 = 1e-5;

/// Some transformer layers over an image, added to it.
#[derive(Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    projection: Projection,
    layers: Vec<Layer>,
}

/// How channels enter and leave: the same numbers, as 1x1 convolutions or as linear layers.
#[derive(Debug)]
enum Projection {
    Convolution { enter: Conv2d, leave: Conv2d },
    Linear { enter: Linear, leave: Linear },
}

impl Transformer {
    pub(super) fn load(
        part: &Part<'_>,
        channels: usize,
        attention: Attention,
        config: &UNetConfig,
    ) -> Result<Self> {
        let (enter, leave) = (part.at("proj_in"), part.at("proj_out"));
        let projection = if config.linear_projection {
            let (enter, leave) = (
                Linear::load(&enter, channels, channels)?,
                Linear::load(&leave, channels, channels)?,
            );
            Projection::Linear { enter, leave }
        } else {
            let (enter, leave) = (
                Conv2d::load(&enter, channels, channels, 1)?,
                Conv2d::load(&leave, channels, channels, 1)?,
            );
            Projection::Convolution { enter, leave }
        };
        let layer = |i| {
            Layer::load(
                &part.at(format_args!("transformer_blocks.{i}")),
                channels,
                attention.heads,
                config.context,
            )
        };
        Ok(Self {
            norm: GroupNorm::load(
                &part.at("norm"),
                channels,
                config.groups,
                GROUP_EPS,
                Activation::Identity,
            )?,
            projection,
            layers: (0..attention.layers).map(layer).collect::<Result<_>>()?,
        })
    }

    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        image: &Tensor,
        prompts: &Tensor,
    ) -> Result<Tensor> {
        let (_, _, height, width) = image.dims4()?;
        let x = self.norm.forward(kernels, image)?;
        let mut x = match &self.projection {
            Projection::Convolution { enter, .. } => to_tokens(&enter.forward(kernels, &x)?)?,
            Projection::Linear { enter, .. } => enter.forward(kernels, &to_tokens(&x)?)?,
        };
        for layer in &self.layers {
            x = layer.forward(kernels, x, prompts)?;
        }
        let x = match &self.projection {
            Projection::Convolution { leave, .. } => {
                leave.forward(kernels, &to_image(&x, height, width)?)?
            }
            Projection::Linear { leave, .. } => {
                to_image(&leave.forward(kernels, &x)?, height, width)?
            }
        };
        Ok((image + x)?)
    }
}

/// Attention among pixels, attention to the prompt, gated perceptron.
#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    pixels: AttentionLayer,
    norm2: LayerNorm,
    prompt: AttentionLayer,
    norm3: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Layer {
    fn load(part: &Part<'_>, width: usize, heads: usize, context: usize) -> Result<Self> {
        let norm = |name| LayerNorm::load(&part.at(name), width, LAYER_EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            pixels: AttentionLayer::load(&part.at("attn1"), width, width, heads)?,
            norm2: norm("norm2")?,
            prompt: AttentionLayer::load(&part.at("attn2"), width, context, heads)?,
            norm3: norm("norm3")?,
            up: Linear::load(&part.at("ff.net.0.proj"), width, width * 8)?,
            down: Linear::load(&part.at("ff.net.2"), width * 4, width)?,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, x: Tensor, prompts: &Tensor) -> Result<Tensor> {
        let y = self.norm1.forward(kernels, &x)?;
        let x = (x + self.pixels.forward(kernels, &y, &y)?)?;
        let y = self.norm2.forward(kernels, &x)?;
        let x = (x + self.prompt.forward(kernels, &y, prompts)?)?;
        let y = self
            .up
            .forward(kernels, &self.norm3.forward(kernels, &x)?)?;
        Ok((x + self.down.forward(kernels, &kernels.geglu(&y)?)?)?)
    }
}

/// Queries from one sequence, keys and values from another.
#[derive(Debug)]
struct AttentionLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

impl AttentionLayer {
    fn load(part: &Part<'_>, width: usize, context: usize, heads: usize) -> Result<Self> {
        Ok(Self {
            query: Linear::without_bias(&part.at("to_q"), width, width)?,
            key: Linear::without_bias(&part.at("to_k"), context, width)?,
            value: Linear::without_bias(&part.at("to_v"), context, width)?,
            out: Linear::load(&part.at("to_out.0"), width, width)?,
            heads,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let query = self.query.forward(kernels, x)?;
        let (key, value) = (
            self.key.forward(kernels, context)?,
            self.value.forward(kernels, context)?,
        );
        self.out.forward(
            kernels,
            &kernels.attention(&query, &key, &value, self.heads, false)?,
        )
    }
}
