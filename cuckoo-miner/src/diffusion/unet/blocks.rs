//! One resolution of the UNet: residual blocks, each followed by a transformer where the block attends to the prompt.

use candle_core::Tensor;

use super::config::{Attention, Block, UNetConfig};
use super::transformer::Transformer;
use crate::diffusion::error::{Error, Result};
use crate::diffusion::resnet::{Downsample, ResnetBlock, Upsample};
use crate::diffusion::weights::Part;
use crate::kernels::Kernels;

/// A residual block and the transformer after it.
#[derive(Debug)]
struct Stage {
    resnet: ResnetBlock,
    transformer: Option<Transformer>,
}

impl Stage {
    fn load(
        part: &Part<'_>,
        i: usize,
        (inputs, outputs): (usize, usize),
        attention: Option<Attention>,
        config: &UNetConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let transformer = |attention| {
            Transformer::load(
                &part.at(format_args!("attentions.{i}")),
                outputs,
                attention,
                config,
                kernels,
            )
        };
        Ok(Self {
            resnet: ResnetBlock::load(
                &part.at(format_args!("resnets.{i}")),
                inputs,
                outputs,
                config.style(),
                kernels,
            )?,
            transformer: attention.map(transformer).transpose()?,
        })
    }

    fn forward(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        time: &Tensor,
        prompts: &Tensor,
    ) -> Result<Tensor> {
        let x = self.resnet.forward(kernels, x, Some(time))?;
        match &self.transformer {
            Some(transformer) => transformer.forward(kernels, &x, prompts),
            None => Ok(x),
        }
    }
}

/// Towards coarser resolution; leaves what it computed for the way up.
#[derive(Debug)]
pub(super) struct DownBlock {
    stages: Vec<Stage>,
    downsample: Option<Downsample>,
}

impl DownBlock {
    pub(super) fn load(
        part: &Part<'_>,
        inputs: usize,
        block: &Block,
        last: bool,
        config: &UNetConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let stage = |i| {
            let inputs = if i == 0 { inputs } else { block.channels };
            Stage::load(
                part,
                i,
                (inputs, block.channels),
                block.attention,
                config,
                kernels,
            )
        };
        Ok(Self {
            stages: (0..block.layers).map(stage).collect::<Result<_>>()?,
            downsample: (!last)
                .then(|| Downsample::load(part, block.channels))
                .transpose()?,
        })
    }

    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        mut x: Tensor,
        time: &Tensor,
        prompts: &Tensor,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for stage in &self.stages {
            x = stage.forward(kernels, &x, time, prompts)?;
            skips.push(x.clone());
        }
        if let Some(downsample) = &self.downsample {
            x = downsample.forward(kernels, &x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// The coarsest resolution: residual block, transformer, residual block.
#[derive(Debug)]
pub(super) struct MidBlock {
    stage: Stage,
    resnet: ResnetBlock,
}

impl MidBlock {
    pub(super) fn load(
        part: &Part<'_>,
        config: &UNetConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let channels = config.blocks[config.blocks.len() - 1].channels;
        Ok(Self {
            stage: Stage::load(
                part,
                0,
                (channels, channels),
                Some(config.mid),
                config,
                kernels,
            )?,
            resnet: ResnetBlock::load(
                &part.at("resnets.1"),
                channels,
                channels,
                config.style(),
                kernels,
            )?,
        })
    }

    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        x: Tensor,
        time: &Tensor,
        prompts: &Tensor,
    ) -> Result<Tensor> {
        let x = self.stage.forward(kernels, &x, time, prompts)?;
        self.resnet.forward(kernels, &x, Some(time))
    }
}

/// Towards finer resolution; each residual block also sees what the way down left.
#[derive(Debug)]
pub(super) struct UpBlock {
    stages: Vec<Stage>,
    upsample: Option<Upsample>,
}

impl UpBlock {
    /// `skips` are the channels of the tensors left by the way down, of which the last is taken first.
    pub(super) fn load(
        part: &Part<'_>,
        inputs: usize,
        skips: &[usize],
        block: &Block,
        last: bool,
        config: &UNetConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let stage = |(i, skip): (usize, &usize)| {
            let inputs = if i == 0 { inputs } else { block.channels };
            Stage::load(
                part,
                i,
                (inputs + skip, block.channels),
                block.attention,
                config,
                kernels,
            )
        };
        Ok(Self {
            stages: skips
                .iter()
                .rev()
                .enumerate()
                .map(stage)
                .collect::<Result<_>>()?,
            upsample: (!last)
                .then(|| Upsample::load(part, block.channels))
                .transpose()?,
        })
    }

    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        mut x: Tensor,
        time: &Tensor,
        prompts: &Tensor,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let empty = || {
            Error::Compute(candle_core::Error::Msg(
                "the way down left too little for the way up".to_owned(),
            ))
        };
        for stage in &self.stages {
            let skip = skips.pop().ok_or_else(empty)?;
            x = stage.forward(kernels, &Tensor::cat(&[&x, &skip], 1)?, time, prompts)?;
        }
        if let Some(upsample) = &self.upsample {
            let (_, _, height, width) = skips.last().ok_or_else(empty)?.dims4()?;
            x = upsample.forward(kernels, &x, (height, width))?;
        }
        Ok(x)
    }
}
