//! Layers that every part is built of: learned tensors and the kernel that applies them.

use candle_core::Tensor;

use super::error::Result;
use super::weights::Part;
use crate::kernels::{Activation, Kernels, Norm};

/// Two-dimensional convolution.
#[derive(Debug)]
pub(crate) struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// A square `kernel` that keeps the image's size.
    pub(crate) fn load(
        part: &Part<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> Result<Self> {
        Self::with_stride(part, inputs, outputs, kernel, 1, (kernel - 1) / 2)
    }

    /// A square `kernel` with its own stride and padding.
    pub(crate) fn with_stride(
        part: &Part<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let weight = part.tensor("weight", &[outputs, inputs, kernel, kernel])?;
        Ok(Self {
            weight,
            bias: part.tensor("bias", &[outputs])?,
            stride,
            padding,
        })
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        Ok(kernels.conv2d(x, &self.weight, &self.bias, self.stride, self.padding)?)
    }
}

/// Group normalisation followed by an activation.
#[derive(Debug)]
pub(crate) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
    activation: Activation,
}

impl GroupNorm {
    pub(crate) fn load(
        part: &Part<'_>,
        channels: usize,
        groups: usize,
        eps: f64,
        activation: Activation,
    ) -> Result<Self> {
        if !channels.is_multiple_of(groups) {
            return Err(part.error(
                "weight",
                format!("has {channels} channels, which {groups} groups do not divide"),
            ));
        }
        let (weight, bias) = (
            part.tensor("weight", &[channels])?,
            part.tensor("bias", &[channels])?,
        );
        Ok(Self {
            weight,
            bias,
            groups,
            eps,
            activation,
        })
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let norm = Norm {
            weight: &self.weight,
            bias: &self.bias,
            eps: self.eps,
        };
        Ok(kernels.group_norm(x, norm, self.groups, self.activation)?)
    }
}

/// `[batch, channels, height, width]` as `[batch, height * width, channels]`.
pub(crate) fn to_tokens(image: &Tensor) -> Result<Tensor> {
    Ok(image.flatten_from(2)?.transpose(1, 2)?.contiguous()?)
}

/// The inverse of [`to_tokens`] for an image of the given size.
pub(crate) fn to_image(tokens: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, _, channels) = tokens.dims3()?;
    Ok(tokens
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch, channels, height, width))?)
}
