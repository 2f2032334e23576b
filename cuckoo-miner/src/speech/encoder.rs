//! The network that hears: two convolutions over the frames of a window, then layers in which every moment sees every other
//! (Radford et al., "Robust speech recognition via large-scale weak supervision", 2022).

use candle_core::{DType, Tensor};

use super::config::Config;
use super::layers::{Attention, EPS, Perceptron};
use crate::kernels::{Activation, Kernels};
use crate::model::error::Result;
use crate::model::layers::{LayerNorm, Projection};
use crate::model::weights::Part;

#[derive(Debug)]
pub(crate) struct Encoder {
    first: Convolution,
    second: Convolution,
    positions: Tensor,
    layers: Vec<(Attention, Perceptron)>,
    norm: LayerNorm,
    bands: usize,
}

impl Encoder {
    pub(crate) fn load(part: &Part<'_>, config: &Config, kernels: &dyn Kernels) -> Result<Self> {
        let (bands, width, stack) = (config.bands, config.width, config.encoder);
        let layers = part.at("layers");
        let layer = |i: usize| -> Result<_> {
            let layer = layers.at(i);
            let attention = Attention::load(kernels, &layer, "self_attn", config, stack)?;
            let perceptron = Perceptron::load(kernels, &layer, config, stack)?;
            Ok((attention, perceptron))
        };
        Ok(Self {
            first: Convolution::load(kernels, &part.at("conv1"), bands, width, 1)?,
            second: Convolution::load(kernels, &part.at("conv2"), width, width, 2)?,
            positions: part
                .at("embed_positions")
                .tensor("weight", &[config.sources, width])?,
            layers: (0..stack.layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&part.at("layer_norm"), width, EPS)?,
            bands,
        })
    }

    /// What each moment of a window became, `[moments, width]`. `frames` are two a moment, `[frames, bands]`; `goes_on` is
    /// asked between layers.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        frames: Vec<f32>,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<Tensor> {
        let shape = (frames.len() / self.bands, self.bands);
        let x = Tensor::from_vec(frames, shape, kernels.device())?;
        let x = self.first.forward(kernels, &x)?;
        let x = self.second.forward(kernels, &x)?;
        let mut x = kernels.add(&x, &self.positions)?;
        let moments = x.dim(0)?;
        for (attention, perceptron) in &self.layers {
            goes_on()?;
            let y = attention.norm.forward(kernels, &x)?;
            let q = attention.query.forward(kernels, &y)?;
            let k = attention.key.forward(kernels, &y)?;
            let v = attention.value.forward(kernels, &y)?;
            let y = kernels.attend_all(&q, &k, &v, &[moments], attention.heads, None)?;
            x = kernels.add(&x, &attention.output.forward(kernels, &y)?)?;
            x = perceptron.forward(kernels, &x)?;
        }
        self.norm.forward(kernels, &x)
    }
}

/// A convolution over three rows and GELU: a linear layer of each row with its neighbours, silence before and after all.
#[derive(Debug)]
struct Convolution {
    weight: Projection,
    step: usize,
}

/// Rows that are looked at together.
const SIGHT: usize = 3;

impl Convolution {
    fn load(
        kernels: &dyn Kernels,
        part: &Part<'_>,
        inputs: usize,
        outputs: usize,
        step: usize,
    ) -> Result<Self> {
        let weight = part.tensor("weight", &[outputs, inputs, SIGHT])?;
        // Row after row, as the rows will be.
        let weight = weight.permute((0, 2, 1))?.contiguous()?;
        let weight = weight.reshape((outputs, SIGHT * inputs))?;
        let bias = part.tensor("bias", &[outputs])?;
        Ok(Self {
            weight: Projection::of(kernels, vec![weight], vec![bias])?,
            step,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let silence = Tensor::zeros((1, width), DType::F32, x.device())?;
        let x = Tensor::cat(&[&silence, x, &silence], 0)?;
        let count = rows.div_ceil(self.step);
        let seen: Vec<u32> = (0..count)
            .flat_map(|row| row * self.step..row * self.step + SIGHT)
            .map(|row| row as u32)
            .collect();
        let seen = Tensor::from_vec(seen, count * SIGHT, x.device())?;
        let x = x.index_select(&seen, 0)?.reshape((count, SIGHT * width))?;
        let x = self.weight.forward(kernels, &x)?;
        Ok(kernels.activate(&x, Activation::Gelu)?)
    }
}
