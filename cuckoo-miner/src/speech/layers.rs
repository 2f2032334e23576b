//! What encoder and decoder are both made of (Vaswani et al., 2017), each layer normalised before and added to its input.

use candle_core::Tensor;

use super::config::{Config, Stack};
use crate::kernels::{Activation, Heads, Kernels};
use crate::model::error::Result;
use crate::model::layers::{LayerNorm, Projection};
use crate::model::weights::Part;

/// Added to variances, as everywhere in Whisper.
pub(crate) const EPS: f64 = 1e-5;

/// Queries of some rows, keys and values of the same or of others. Keys have no bias.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) norm: LayerNorm,
    pub(crate) query: Projection,
    pub(crate) key: Projection,
    pub(crate) value: Projection,
    pub(crate) output: Projection,
    pub(crate) heads: Heads,
}

impl Attention {
    /// The attention `name` of a layer, with the normalisation before it.
    pub(crate) fn load(
        kernels: &dyn Kernels,
        layer: &Part<'_>,
        name: &str,
        config: &Config,
        stack: Stack,
    ) -> Result<Self> {
        let width = config.width;
        let depth = width / stack.heads;
        let part = layer.at(name);
        let project = |name: &str, biased: bool| {
            Projection::load(kernels, &part, &[(name, width)], width, biased)
        };
        Ok(Self {
            norm: LayerNorm::load(&layer.at(format!("{name}_layer_norm")), width, EPS)?,
            query: project("q_proj", true)?,
            key: project("k_proj", false)?,
            value: project("v_proj", true)?,
            output: project("out_proj", true)?,
            heads: Heads {
                queries: stack.heads,
                keys: stack.heads,
                depth,
                scale: 1.0 / (depth as f32).sqrt(),
                window: None,
            },
        })
    }
}

/// The second half of a layer.
#[derive(Debug)]
pub(crate) struct Perceptron {
    norm: LayerNorm,
    up: Projection,
    down: Projection,
}

impl Perceptron {
    pub(crate) fn load(
        kernels: &dyn Kernels,
        layer: &Part<'_>,
        config: &Config,
        stack: Stack,
    ) -> Result<Self> {
        let (width, hidden) = (config.width, stack.hidden);
        Ok(Self {
            norm: LayerNorm::load(&layer.at("final_layer_norm"), width, EPS)?,
            up: Projection::load(kernels, layer, &[("fc1", hidden)], width, true)?
                .activated(Activation::Gelu),
            down: Projection::load(kernels, layer, &[("fc2", width)], hidden, true)?,
        })
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let y = self.norm.forward(kernels, x)?;
        let y = self.up.forward(kernels, &y)?;
        Ok(kernels.add(x, &self.down.forward(kernels, &y)?)?)
    }
}
