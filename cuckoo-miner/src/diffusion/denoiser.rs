//! The part that a family is known by: what predicts, from latents and a prompt, where the picture is.

use candle_core::Tensor;

use super::conditioning::{Conditioning, TextEncoders};
use super::error::{Error, Result};
use super::flux::Flux;
use super::folder::Folder;
use super::index::Family;
use super::lora::Loras;
use super::request::Size;
use super::unet::UNet;
use crate::kernels::Kernels;

/// Latents along each side of one when the folder does not say, as in diffusers.
const SMALL: usize = 64;
const LARGE: usize = 128;

/// A denoiser with its weights.
#[derive(Debug)]
pub(crate) enum Denoiser {
    UNet(Box<UNet>),
    Flux(Box<Flux>),
}

/// What a denoiser is told beside latents and prompts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Of the picture.
    pub(crate) size: Size,
    /// In training steps.
    pub(crate) time: f32,
    /// How strongly the prompt pulls, for those that were distilled to know.
    pub(crate) guidance: f32,
}

impl Denoiser {
    pub(crate) fn load(
        folder: &mut Folder,
        family: Family,
        loras: &Loras,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        Ok(match family {
            Family::StableDiffusion | Family::Xl { .. } => {
                Self::UNet(Box::new(UNet::load(folder, loras, kernels)?))
            }
            Family::Flux => Self::Flux(Box::new(Flux::load(folder, kernels)?)),
        })
    }

    /// Fails where the other parts, of which the autoencoder has so many channels, do not fit it.
    pub(crate) fn fits(&self, channels: usize, encoders: &TextEncoders) -> Result<()> {
        let file = match self {
            Self::UNet(_) => "unet/config.json",
            Self::Flux(_) => "transformer/config.json",
        };
        let mismatch = |key: &str, problem: String| {
            Err(Error::Setting {
                file: file.to_owned(),
                key: key.to_owned(),
                problem,
            })
        };
        if self.channels() != channels {
            let area = self.patch() * self.patch();
            let (inputs, needed) = (self.channels() * area, channels * area);
            let problem = format!("is {inputs}, but vae/config.json needs {needed}");
            return mismatch("in_channels", problem);
        }
        let (width, pooled) = (encoders.width(), encoders.pooled_width());
        match self {
            Self::UNet(unet) if unet.context() != width => {
                let context = unet.context();
                let problem =
                    format!("is {context}, but the text encoders' hidden_size is {width}");
                mismatch("cross_attention_dim", problem)
            }
            Self::UNet(unet) => match (unet.added(), pooled) {
                (None, None) => Ok(()),
                (Some(added), Some(pooled)) if added.prompt_width() == Some(pooled) => Ok(()),
                (Some(_), None) => {
                    let problem = "is text_time, which StableDiffusionXLPipeline alone has";
                    mismatch("addition_embed_type", problem.to_owned())
                }
                (None, Some(_)) => {
                    let problem = "is absent, and StableDiffusionXLPipeline needs text_time";
                    mismatch("addition_embed_type", problem.to_owned())
                }
                (Some(added), Some(pooled)) => {
                    let problem = format!(
                        "is {}, which is not six times addition_time_embed_dim and text_encoder_2's projection_dim of {pooled}",
                        added.width
                    );
                    mismatch("projection_class_embeddings_input_dim", problem)
                }
            },
            Self::Flux(flux) if flux.context() != width => {
                let context = flux.context();
                let problem = format!("is {context}, but text_encoder_2's d_model is {width}");
                mismatch("joint_attention_dim", problem)
            }
            Self::Flux(flux) if pooled != Some(flux.pooled()) => {
                let problem = format!(
                    "is {}, but text_encoder's hidden_size is {}",
                    flux.pooled(),
                    pooled.unwrap_or(0)
                );
                mismatch("pooled_projection_dim", problem)
            }
            Self::Flux(_) => Ok(()),
        }
    }

    /// Channels of the latents it takes and gives.
    pub(crate) fn channels(&self) -> usize {
        match self {
            Self::UNet(unet) => unet.channels(),
            Self::Flux(flux) => flux.channels(),
        }
    }

    /// Latents along each side of what it sees as one.
    pub(crate) fn patch(&self) -> usize {
        match self {
            Self::UNet(_) => 1,
            Self::Flux(_) => 2,
        }
    }

    /// Height and width in latents of a picture when nobody says.
    pub(crate) fn default_size(&self, family: Family) -> (usize, usize) {
        match (self, family) {
            (Self::UNet(unet), Family::StableDiffusion) => {
                unet.sample_size().unwrap_or((SMALL, SMALL))
            }
            (Self::UNet(unet), _) => unet.sample_size().unwrap_or((LARGE, LARGE)),
            (Self::Flux(_), _) => (LARGE, LARGE),
        }
    }

    /// Numbers held at once for latents of `area` and one prompt of so many `tokens`, about.
    pub(crate) fn numbers(&self, area: usize, tokens: usize) -> usize {
        match self {
            Self::UNet(unet) => unet.numbers(area),
            Self::Flux(flux) => flux.numbers(area, tokens),
        }
    }

    /// Predicts from latents `[1, channels, height, width]`, for each of the prompts, what the scheduler steps by.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        latents: &Tensor,
        moment: Moment,
        prompts: &Conditioning,
    ) -> Result<Tensor> {
        let Moment {
            size,
            time,
            guidance,
        } = moment;
        match self {
            Self::UNet(unet) => {
                let latents = latents.repeat((prompts.tokens.dim(0)?, 1, 1, 1))?;
                let size = (size.height, size.width);
                unet.forward(kernels, &latents, size, time, prompts)
            }
            Self::Flux(flux) => flux.forward(kernels, latents, time, guidance, prompts),
        }
    }
}
