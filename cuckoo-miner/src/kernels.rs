//! The hot layers of every model, behind one seam, so that a model is written once and runs on any device.
//!
//! A model's structure (which layer follows which) is the business of its own module; how a convolution or an
//! attention is computed is the business of a [`Kernels`]. [`CpuKernels`] is the implementation every build has, and
//! the oracle that others are measured against.

mod cpu;

use std::fmt;

use candle_core::{Device, Result, Tensor};

pub use cpu::CpuKernels;

/// A function applied to each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x
    Identity,
    /// x * sigmoid(x), also called swish (Hendrycks and Gimpel, 2016).
    Silu,
    /// x * Phi(x) with the error function, not its tanh form.
    Gelu,
    /// x * sigmoid(1.702 x), as in the first CLIP.
    QuickGelu,
    /// max(x, 0)
    Relu,
}

/// The layers a device must be able to run. All tensors are `f32` unless an implementation says otherwise; images are
/// `[batch, channels, height, width]`, sequences `[batch, tokens, width]`.
///
/// An implementation gives the same bits for the same inputs, however many threads it uses and whatever else runs.
pub trait Kernels: Send + Sync + fmt::Debug {
    /// Names the arithmetic: two miners with equal names on equal inputs are expected to produce equal bytes, so
    /// audits compare their outputs exactly.
    fn name(&self) -> &str;

    /// Where tensors for these kernels live.
    fn device(&self) -> &Device;

    /// Two-dimensional convolution with zero padding on all four sides. `weight` is
    /// `[out, in, kernel height, kernel width]`, `bias` is `[out]`.
    fn conv2d(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        stride: usize,
        padding: usize,
    ) -> Result<Tensor>;

    /// `x weightᵀ + bias` over the last dimension. `weight` is `[out, in]`, `bias` is `[out]`.
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>;

    /// Normalises each of `groups` groups of channels to mean 0 and variance 1, scales and shifts each channel, and
    /// applies `activation` (Wu and He, 2018). `x` is `[batch, channels, ...]`.
    fn group_norm(
        &self,
        x: &Tensor,
        norm: Norm<'_>,
        groups: usize,
        activation: Activation,
    ) -> Result<Tensor>;

    /// Normalises the last dimension to mean 0 and variance 1, scales and shifts it (Ba et al., 2016).
    fn layer_norm(&self, x: &Tensor, norm: Norm<'_>) -> Result<Tensor>;

    /// Scaled dot-product attention of `heads` heads laid side by side in the width. `q` is `[batch, n, width]`; `k`
    /// and `v` are `[batch, m, width]`. With `causal`, query i sees keys 0 to i.
    fn attention(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        causal: bool,
    ) -> Result<Tensor>;

    /// Applies `activation` to each element.
    fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor>;

    /// Splits the last dimension into halves a and b and returns `a * gelu(b)` (Shazeer, 2020).
    fn geglu(&self, x: &Tensor) -> Result<Tensor>;
}

/// The learned part of a normalisation.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Scale, one a channel.
    pub weight: &'a Tensor,
    /// Shift, one a channel.
    pub bias: &'a Tensor,
    /// Added to the variance before its square root.
    pub eps: f64,
}
