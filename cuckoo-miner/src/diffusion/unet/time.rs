//! Time as the UNet sees it: waves of geometrically spaced frequencies (Vaswani et al., 2017), then a perceptron.

use candle_core::Tensor;

use super::config::{Added, UNetConfig};
use crate::diffusion::error::Result;
use crate::diffusion::waves::waves;
use crate::diffusion::weights::Part;
use crate::kernels::{Activation, Kernels};
use crate::model::layers::Projection;

#[derive(Debug)]
pub(super) struct TimeEmbedding {
    width: usize,
    cosine_first: bool,
    frequency_shift: f64,
    up: Projection,
    down: Projection,
}

impl TimeEmbedding {
    pub(super) fn load(
        part: &Part<'_>,
        config: &UNetConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let (width, hidden) = (config.blocks[0].channels, config.time_width());
        let (up, down) = perceptron(part, width, hidden, kernels)?;
        Ok(Self {
            width,
            cosine_first: config.cosine_first,
            frequency_shift: config.frequency_shift,
            up: up.activated(config.activation),
            down,
        })
    }

    /// The embedding of `time`, `[1, width]`.
    pub(super) fn forward(&self, kernels: &dyn Kernels, time: f32) -> Result<Tensor> {
        let waves = waves(time, self.width, self.cosine_first, self.frequency_shift);
        let x = Tensor::from_vec(waves, (1, self.width), kernels.device())?;
        let x = self.up.forward(kernels, &x)?;
        self.down.forward(kernels, &x)
    }
}

/// What Stable Diffusion XL is told beside time: the prompt as a whole, and sizes in the manner of times (Podell et al.,
/// 2023, section 2.2).
#[derive(Debug)]
pub(super) struct AddedEmbedding {
    width: usize,
    cosine_first: bool,
    frequency_shift: f64,
    up: Projection,
    down: Projection,
}

impl AddedEmbedding {
    pub(super) fn load(
        part: &Part<'_>,
        added: Added,
        config: &UNetConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let (up, down) = perceptron(part, added.width, config.time_width(), kernels)?;
        Ok(Self {
            width: added.size_width,
            cosine_first: config.cosine_first,
            frequency_shift: config.frequency_shift,
            up: up.activated(Activation::Silu),
            down,
        })
    }

    /// The embedding of `pooled` prompts, `[batch, width]`, for a picture of `size` (height and width in pixels) of which
    /// nothing is cut off.
    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        pooled: &Tensor,
        (height, width): (usize, usize),
    ) -> Result<Tensor> {
        // The size of the whole, where it is cut, the size that is wanted.
        let sizes = [height, width, 0, 0, height, width];
        let waves: Vec<f32> = sizes
            .iter()
            .flat_map(|size| {
                waves(
                    *size as f32,
                    self.width,
                    self.cosine_first,
                    self.frequency_shift,
                )
            })
            .collect();
        let sizes = Tensor::from_vec(waves, (1, self.width * sizes.len()), kernels.device())?;
        let sizes = sizes.repeat((pooled.dim(0)?, 1))?;
        let x = Tensor::cat(&[pooled, &sizes], 1)?;
        let x = self.up.forward(kernels, &x)?;
        self.down.forward(kernels, &x)
    }
}

/// The layers of an embedding of `hidden` numbers, made of `inputs`.
fn perceptron(
    part: &Part<'_>,
    inputs: usize,
    hidden: usize,
    kernels: &dyn Kernels,
) -> Result<(Projection, Projection)> {
    let layer = |name, inputs| Projection::load(kernels, part, &[(name, hidden)], inputs, true);
    Ok((layer("linear_1", inputs)?, layer("linear_2", hidden)?))
}
