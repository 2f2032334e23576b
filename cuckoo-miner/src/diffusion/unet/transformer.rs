//! The transformer inside a UNet's block: every pixel attends to every other, then to the prompt.

use candle_core::Tensor;

use super::config::{Attention, UNetConfig};
use crate::diffusion::error::Result;
use crate::diffusion::layers::{Conv2d, GroupNorm, to_image, to_tokens};
use crate::diffusion::weights::Part;
use crate::kernels::{Activation, Kernels};
use crate::model::layers::{LayerNorm, Projection};

/// Fixed in diffusers' `Transformer2DModel`, whatever the UNet's own `norm_eps`.
const GROUP_EPS: f64 = 1e-6;
const LAYER_EPS: f64 = 1e-5;

/// Some transformer layers over an image, added to it.
#[derive(Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    passage: Passage,
    layers: Vec<Layer>,
}

/// How channels enter and leave: the same numbers, as 1x1 convolutions or as linear layers.
#[derive(Debug)]
enum Passage {
    Convolution {
        enter: Conv2d,
        leave: Conv2d,
    },
    Linear {
        enter: Projection,
        leave: Projection,
    },
}

impl Transformer {
    pub(super) fn load(
        part: &Part<'_>,
        channels: usize,
        attention: Attention,
        config: &UNetConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let passage = if config.linear_projection {
            let project =
                |name| Projection::load(kernels, part, &[(name, channels)], channels, true);
            Passage::Linear {
                enter: project("proj_in")?,
                leave: project("proj_out")?,
            }
        } else {
            let convolve = |name| Conv2d::load(&part.at(name), channels, channels, 1);
            Passage::Convolution {
                enter: convolve("proj_in")?,
                leave: convolve("proj_out")?,
            }
        };
        let layer = |i| {
            Layer::load(
                &part.at(format_args!("transformer_blocks.{i}")),
                channels,
                attention.heads,
                config.context,
                kernels,
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
            passage,
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
        let mut x = match &self.passage {
            Passage::Convolution { enter, .. } => to_tokens(&enter.forward(kernels, &x)?)?,
            Passage::Linear { enter, .. } => enter.forward(kernels, &to_tokens(&x)?)?,
        };
        for layer in &self.layers {
            x = layer.forward(kernels, &x, prompts)?;
        }
        let x = match &self.passage {
            Passage::Convolution { leave, .. } => {
                leave.forward(kernels, &to_image(&x, height, width)?)?
            }
            Passage::Linear { leave, .. } => to_image(&leave.forward(kernels, &x)?, height, width)?,
        };
        Ok(kernels.add(image, &x)?)
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
    up: Projection,
    down: Projection,
}

impl Layer {
    fn load(
        part: &Part<'_>,
        width: usize,
        heads: usize,
        context: usize,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let norm = |name| LayerNorm::load(&part.at(name), width, LAYER_EPS);
        let attention =
            |name, context| AttentionLayer::load(&part.at(name), width, context, heads, kernels);
        let project = |name, inputs, outputs| {
            Projection::load(kernels, part, &[(name, outputs)], inputs, true)
        };
        Ok(Self {
            norm1: norm("norm1")?,
            pixels: attention("attn1", width)?,
            norm2: norm("norm2")?,
            prompt: attention("attn2", context)?,
            norm3: norm("norm3")?,
            up: project("ff.net.0.proj", width, width * 8)?,
            down: project("ff.net.2", width * 4, width)?,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, x: &Tensor, prompts: &Tensor) -> Result<Tensor> {
        let y = self.norm1.forward(kernels, x)?;
        let x = kernels.add(x, &self.pixels.forward(kernels, &y, &y)?)?;
        let y = self.norm2.forward(kernels, &x)?;
        let x = kernels.add(&x, &self.prompt.forward(kernels, &y, prompts)?)?;
        let y = self
            .up
            .forward(kernels, &self.norm3.forward(kernels, &x)?)?;
        Ok(kernels.add(&x, &self.down.forward(kernels, &kernels.geglu(&y)?)?)?)
    }
}

/// Queries from one sequence, keys and values from another.
#[derive(Debug)]
struct AttentionLayer {
    query: Projection,
    key: Projection,
    value: Projection,
    out: Projection,
    heads: usize,
}

impl AttentionLayer {
    fn load(
        part: &Part<'_>,
        width: usize,
        context: usize,
        heads: usize,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let project = |name, inputs, biased| {
            Projection::load(kernels, part, &[(name, width)], inputs, biased)
        };
        Ok(Self {
            query: project("to_q", width, false)?,
            key: project("to_k", context, false)?,
            value: project("to_v", context, false)?,
            out: project("to_out.0", width, true)?,
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
