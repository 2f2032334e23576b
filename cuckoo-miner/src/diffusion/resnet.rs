//! The residual block of the UNet and the decoder (He et al., 2016, in the form of Ho et al., 2020), and the steps
//! between resolutions.

use candle_core::Tensor;

use super::error::Result;
use super::layers::{Conv2d, GroupNorm};
use super::weights::Part;
use crate::kernels::{Activation, Kernels};
use crate::model::layers::Projection;

/// What the residual blocks of one model have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResnetStyle {
    pub(crate) groups: usize,
    pub(crate) eps: f64,
    pub(crate) activation: Activation,
    /// Width of the time embedding; none in a decoder.
    pub(crate) time: Option<usize>,
}

/// Two normalised convolutions, with the time embedding added between them, around a shortcut.
#[derive(Debug)]
pub(crate) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Projection>,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub(crate) fn load(
        part: &Part<'_>,
        inputs: usize,
        outputs: usize,
        style: ResnetStyle,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let ResnetStyle {
            groups,
            eps,
            activation,
            time,
        } = style;
        let projection =
            |width| Projection::load(kernels, part, &[("time_emb_proj", outputs)], width, true);
        let shortcut = || Conv2d::load(&part.at("conv_shortcut"), inputs, outputs, 1);
        Ok(Self {
            norm1: GroupNorm::load(&part.at("norm1"), inputs, groups, eps, activation)?,
            conv1: Conv2d::load(&part.at("conv1"), inputs, outputs, 3)?,
            time: time.map(projection).transpose()?,
            norm2: GroupNorm::load(&part.at("norm2"), outputs, groups, eps, activation)?,
            conv2: Conv2d::load(&part.at("conv2"), outputs, outputs, 3)?,
            shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// `time` is the activated time embedding, `[batch, width]`.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        time: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mut y = self
            .conv1
            .forward(kernels, &self.norm1.forward(kernels, x)?)?;
        if let (Some(projection), Some(time)) = (&self.time, time) {
            let time = projection.forward(kernels, time)?;
            y = kernels.add(&y, &time.unsqueeze(2)?.unsqueeze(3)?)?;
        }
        let y = self
            .conv2
            .forward(kernels, &self.norm2.forward(kernels, &y)?)?;
        match &self.shortcut {
            Some(shortcut) => Ok(kernels.add(&shortcut.forward(kernels, x)?, &y)?),
            None => Ok(kernels.add(x, &y)?),
        }
    }
}

/// Enlarges by repeating pixels, then convolves.
#[derive(Debug)]
pub(crate) struct Upsample(Conv2d);

impl Upsample {
    pub(crate) fn load(part: &Part<'_>, channels: usize) -> Result<Self> {
        Ok(Self(Conv2d::load(
            &part.at("upsamplers.0.conv"),
            channels,
            channels,
            3,
        )?))
    }

    /// To `size` (height, width): twice the input, or one less where halving had rounded up.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        size: (usize, usize),
    ) -> Result<Tensor> {
        self.0
            .forward(kernels, &x.upsample_nearest2d(size.0, size.1)?)
    }
}

/// Halves the size (rounded up) by a convolution of stride 2.
#[derive(Debug)]
pub(crate) struct Downsample(Conv2d);

impl Downsample {
    pub(crate) fn load(part: &Part<'_>, channels: usize) -> Result<Self> {
        Ok(Self(Conv2d::with_stride(
            &part.at("downsamplers.0.conv"),
            channels,
            channels,
            3,
            2,
            1,
        )?))
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        self.0.forward(kernels, x)
    }
}
