//! The hot layers of every model, behind one seam, so that a model is written once and runs on any device.
//!
//! A model's structure (which layer follows which) is the business of its own module; how a convolution or an
//! attention is computed is the business of a [`Kernels`]. [`CpuKernels`] is the implementation every build has, and
//! the oracle that others are measured against.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use std::fmt;

use candle_core::{Device, Result, Tensor};

pub use cpu::CpuKernels;
#[cfg(feature = "cuda")]
pub use cuda::{CudaKernels, CudaTensor};

/// A function applied to each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x
    Identity,
    /// x * sigmoid(x), also called swish (Hendrycks and Gimpel, 2016).
    Silu,
    /// x * Phi(x) with the error function, not its tanh form.
    Gelu,
    /// x * Phi(x) with the tanh form of Phi, as in the first GPT (Hendrycks and Gimpel, 2016, section 2).
    GeluTanh,
    /// x * sigmoid(1.702 x), as in the first CLIP.
    QuickGelu,
    /// max(x, 0)
    Relu,
    /// (e^2x - 1) / (e^2x + 1)
    Tanh,
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

    /// Lays out `weight`, `[out, in]`, as [`project`](Self::project) reads it fastest. Numbers that are all of `f16` or of
    /// `bf16` may be held in 16 bits, which changes no bit of a result. Costs about a copy; done once, at load.
    fn pack(&self, weight: &Tensor) -> Result<Packed>;

    /// A linear layer: `activation(x weightᵀ + bias)`. `x` is `[rows, in]`, `weight` was `[out, in]`, `bias` is `[out]`.
    fn project(
        &self,
        x: &Tensor,
        weight: &Packed,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor>;

    /// Some rows of a packed weight, `[rows, in]`: of a table of embeddings, which may be the output layer's weight, too.
    fn rows(&self, weight: &Packed, rows: &[u32]) -> Result<Tensor>;

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

    /// `x + y`, of `x`'s shape. That of `y` is the same, or `[batch, channels, 1, 1]` on `[batch, channels, height, width]`,
    /// which shifts whole channels, those of every batch alike where it has but one.
    fn add(&self, x: &Tensor, y: &Tensor) -> Result<Tensor>;

    /// Applies `activation` to each element.
    fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor>;

    /// Splits the last dimension into halves a and b and returns `a * gelu(b)` (Shazeer, 2020).
    fn geglu(&self, x: &Tensor) -> Result<Tensor>;

    /// As [`name`](Self::name), for the layers of which models of texts are made: those below, [`project`](Self::project),
    /// [`rows`](Self::rows), [`layer_norm`](Self::layer_norm), [`add`](Self::add) and [`activate`](Self::activate). Their rows
    /// are tokens, of one text or of many, and each row of a result has the same bits whatever other rows there are.
    fn text_name(&self) -> &str;

    /// Divides the last dimension by the root of its mean square and scales it (Zhang and Sennrich, 2019). `weight` is
    /// one a channel; `eps` is added to the mean.
    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor>;

    /// Rotary position embedding (Su et al., 2021) of `heads` heads laid side by side in `x`, `[tokens, width]`. `cos` and
    /// `sin` are `[tokens, n]`: in each head, the pair of numbers at i and i + n is turned by the token's angle i. What is
    /// beyond 2n stays as it is.
    fn rotate(&self, x: &Tensor, heads: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor>;

    /// Splits the last dimension into halves a and b and returns `activation(a) * b` (Shazeer, 2020).
    fn gated(&self, x: &Tensor, activation: Activation) -> Result<Tensor>;

    /// Causal attention of texts over what they remember. `q` is `[tokens, heads * depth]`, the rows of the spans one
    /// after another; the result has its shape. A row at position p sees the keys of positions 0 to p, or the last
    /// `window` of them. The size of a page is part of the arithmetic.
    fn attend(&self, q: &Tensor, spans: &[Span<'_>], heads: Heads) -> Result<Tensor>;

    /// Attention of whole texts, in which every row sees every row of its text. The rows of the texts, `lengths` of them,
    /// are one after another in `q`, `[tokens, heads * depth]`, and in `k` and `v`, `[tokens, key heads * depth]`; the
    /// result has the shape of `q`. `heads` has no window.
    ///
    /// `bias` is `[query heads, 2n - 1]`, for texts of at most n rows: what row i makes of key j is shifted by the number at
    /// j - i + n - 1 (Shaw et al., 2018; Raffel et al., 2020).
    fn attend_all(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        lengths: &[usize],
        heads: Heads,
        bias: Option<&Tensor>,
    ) -> Result<Tensor>;
}

/// The weight of a linear layer, laid out by [`Kernels::pack`] for the same kernels.
#[derive(Debug, Clone)]
pub struct Packed {
    /// In an order of the kernels' own.
    pub data: Tensor,
    /// Rows of the weight.
    pub outputs: usize,
    /// Its columns.
    pub inputs: usize,
}

/// The next rows of one text, in [`Kernels::attend`].
#[derive(Debug, Clone)]
pub struct Span<'a> {
    /// Position of the first row in its text.
    pub start: usize,
    /// How many rows.
    pub rows: usize,
    /// Keys and values of the text from position 0 to its last row, in pages of `[page, key heads * depth]`, all equally
    /// large; what a last page holds beyond is not looked at.
    pub pages: Vec<(&'a Tensor, &'a Tensor)>,
}

/// Sizes of an attention layer, for [`Kernels::attend`] and [`Kernels::attend_all`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Heads of queries.
    pub queries: usize,
    /// Heads of keys and of values; as many queries share each (Ainslie et al., 2023).
    pub keys: usize,
    /// Numbers in one head.
    pub depth: usize,
    /// What products of queries and keys are multiplied by.
    pub scale: f32,
    /// How many positions a row sees, its own included; all up to its own when absent.
    pub window: Option<usize>,
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
