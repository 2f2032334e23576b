//! The coarsest resolution, which encoder and decoder have alike.

use candle_core::Tensor;

use super::{EPS, VaeConfig};
use crate::diffusion::error::Result;
use crate::diffusion::layers::{GroupNorm, to_image, to_tokens};
use crate::diffusion::resnet::ResnetBlock;
use crate::diffusion::weights::Part;
use crate::kernels::{Activation, Kernels};
use crate::model::layers::Projection;

/// Residual block, attention, residual block.
#[derive(Debug)]
pub(super) struct Middle {
    first: ResnetBlock,
    attention: Option<PixelAttention>,
    second: ResnetBlock,
}

impl Middle {
    pub(super) fn load(part: &Part<'_>, config: &VaeConfig, kernels: &dyn Kernels) -> Result<Self> {
        let channels = config.coarsest();
        let resnet = |i| {
            ResnetBlock::load(
                &part.at(format_args!("resnets.{i}")),
                channels,
                channels,
                config.style(),
                kernels,
            )
        };
        let attention = || {
            let part = part.at("attentions.0");
            PixelAttention::load(&part, channels, config.groups, kernels)
        };
        Ok(Self {
            first: resnet(0)?,
            attention: config.attention.then(attention).transpose()?,
            second: resnet(1)?,
        })
    }

    pub(super) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(kernels, x, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(kernels, &x)?;
        }
        self.second.forward(kernels, &x, None)
    }
}

/// Attention of one head among all pixels, added to them.
#[derive(Debug)]
struct PixelAttention {
    norm: GroupNorm,
    query: Projection,
    key: Projection,
    value: Projection,
    out: Projection,
}

impl PixelAttention {
    fn load(
        part: &Part<'_>,
        channels: usize,
        groups: usize,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        // Checkpoints from before diffusers 0.12 have the second name.
        let project = |name: &str, old: &str| {
            let name = if part.has(&format!("{name}.weight")) {
                name
            } else {
                old
            };
            Projection::load(kernels, part, &[(name, channels)], channels, true)
        };
        Ok(Self {
            norm: GroupNorm::load(
                &part.at("group_norm"),
                channels,
                groups,
                EPS,
                Activation::Identity,
            )?,
            query: project("to_q", "query")?,
            key: project("to_k", "key")?,
            value: project("to_v", "value")?,
            out: project("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, image: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = image.dims4()?;
        let x = to_tokens(&self.norm.forward(kernels, image)?)?;
        let (query, key) = (
            self.query.forward(kernels, &x)?,
            self.key.forward(kernels, &x)?,
        );
        let x = kernels.attention(&query, &key, &self.value.forward(kernels, &x)?, 1, false)?;
        let x = to_image(&self.out.forward(kernels, &x)?, height, width)?;
        Ok(kernels.add(image, &x)?)
    }
}
