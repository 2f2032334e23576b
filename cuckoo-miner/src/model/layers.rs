//! Layers that models of several kinds are built of: learned tensors and the kernel that applies them.

use candle_core::Tensor;

use super::error::Result;
use super::weights::Part;
use crate::kernels::{Kernels, Norm, Packed};

/// Linear layers with the same input, side by side, for rows that must not depend on each other.
#[derive(Debug)]
pub(crate) struct Projection {
    weight: Packed,
    bias: Option<Tensor>,
}

impl Projection {
    /// The layers `names`, each with the width of its output.
    pub(crate) fn load(
        kernels: &dyn Kernels,
        part: &Part<'_>,
        names: &[(&str, usize)],
        inputs: usize,
        biased: bool,
    ) -> Result<Self> {
        let weights = names
            .iter()
            .map(|(name, outputs)| part.at(name).tensor("weight", &[*outputs, inputs]))
            .collect::<Result<_>>()?;
        let biases = names
            .iter()
            .filter(|_| biased)
            .map(|(name, outputs)| part.at(name).tensor("bias", &[*outputs]))
            .collect::<Result<_>>()?;
        Self::of(kernels, weights, biases)
    }

    /// Layers of these weights, each `[out, in]`, and biases, if they have any.
    pub(crate) fn of(
        kernels: &dyn Kernels,
        weights: Vec<Tensor>,
        biases: Vec<Tensor>,
    ) -> Result<Self> {
        let join = |tensors: Vec<Tensor>| match <[Tensor; 1]>::try_from(tensors) {
            Ok([tensor]) => Ok(tensor),
            Err(tensors) => Tensor::cat(&tensors, 0),
        };
        let biased = !biases.is_empty();
        Ok(Self {
            weight: kernels.pack(&join(weights)?)?,
            bias: biased.then(|| join(biases)).transpose()?,
        })
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        Ok(kernels.project(x, &self.weight, self.bias.as_ref())?)
    }
}

/// Root-mean-square normalisation of the last dimension.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn load(part: &Part<'_>, width: usize, eps: f64) -> Result<Self> {
        Ok(Self::of(part.tensor("weight", &[width])?, eps))
    }

    /// That of this weight, one number a channel.
    pub(crate) fn of(weight: Tensor, eps: f64) -> Self {
        Self { weight, eps }
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        Ok(kernels.rms_norm(x, &self.weight, self.eps)?)
    }

    /// Normalises each head of `x`, `[tokens, heads * channels]`, by itself.
    pub(crate) fn by_head(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let depth = self.weight.elem_count();
        let heads = x.contiguous()?.reshape((rows * width / depth, depth))?;
        Ok(self.forward(kernels, &heads)?.reshape((rows, width))?)
    }
}

/// Layer normalisation of the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(part: &Part<'_>, width: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: part.tensor("weight", &[width])?,
            bias: part.tensor("bias", &[width])?,
            eps,
        })
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        Ok(kernels.layer_norm(
            x,
            Norm {
                weight: &self.weight,
                bias: &self.bias,
                eps: self.eps,
            },
        )?)
    }
}
