//! Text and image to image by latent diffusion: Stable Diffusion pipelines in the folder layout of diffusers.
//!
//! ```text
//! prompt -> tokenizers -> clip -> conditioning --.
//! seed   -> noise ---------+---> schedule <-> unet -> vae -> image
//! image  -> vae -----------'
//! ```
//!
//! Between the steps, `progress` tells how far a run is and, by the `palette`, what its picture looks like.
//!
//! A folder holds `model_index.json` and one sub-folder a part, each with its own configuration and safetensors
//! weights (F32, F16 or BF16; computed in F32). All sizes come from those files. What a configuration asks for and
//! this pipeline does not do is an error that names the setting. One thing is left out on purpose: the optional safety
//! checker, which judges pictures and does not make them.

mod clip;
mod conditioning;
mod ddim;
mod dpm;
mod euler;
mod image;
mod index;
mod layers;
mod lora;
mod palette;
mod progress;
mod request;
mod resnet;
mod schedule;
mod stages;
mod tokenizer;
mod unet;
mod vae;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use cuckoo_core::Result;

use crate::kernels::{CpuKernels, Kernels};
use crate::model::{error, folder, marks, settings, weights};
use conditioning::TextEncoders;
use error::Error;
use folder::Folder;
pub use image::Image;
use index::Family;
pub use lora::Lora;
use lora::Loras;
use palette::Palette;
pub use progress::Progress;
use request::Size;
pub use request::{ImageRequest, Sampler};
use schedule::Schedule;
use unet::UNet;
use vae::Vae;

/// A loaded pipeline. Runs share it; each call computes on the calling thread and the threads of the current rayon
/// pool, so call it from a thread that may block.
#[derive(Debug)]
pub struct StableDiffusion {
    kernels: Arc<dyn Kernels>,
    family: Family,
    encoders: TextEncoders,
    unet: UNet,
    vae: Vae,
    schedule: Schedule,
    /// Found when a preview is first asked for.
    palette: OnceLock<Palette>,
    hash: [u8; 32],
    memory: u64,
}

impl StableDiffusion {
    /// Reads a pipeline's folder, to run on this machine's processor.
    ///
    /// # Errors
    /// [`NotFound`](cuckoo_core::ErrorKind::NotFound) when the folder or a file in it is missing,
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when a file is damaged, does not fit the others, or asks for
    /// something this pipeline does not do, [`Unavailable`](cuckoo_core::ErrorKind::Unavailable) when the weights are more
    /// than the machine's free memory; the message names the file and the setting or tensor.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::load_with(folder, Arc::new(CpuKernels::new()))
    }

    /// As [`StableDiffusion::load`], to run on the given kernels.
    ///
    /// # Errors
    /// As [`StableDiffusion::load`].
    pub fn load_with(folder: &Path, kernels: Arc<dyn Kernels>) -> Result<Self> {
        Self::load_with_loras(folder, &[], kernels)
    }

    /// As [`StableDiffusion::load_with`], with changes merged into the weights, which are another model then.
    ///
    /// # Errors
    /// As [`StableDiffusion::load`]; [`Invalid`](cuckoo_core::ErrorKind::Invalid) too for a LoRA that is missing, has
    /// tensors that match no layer, or is of a kind that is not merged; the message names them.
    pub fn load_with_loras(
        folder: &Path,
        loras: &[Lora],
        kernels: Arc<dyn Kernels>,
    ) -> Result<Self> {
        Ok(Self::read(&mut Folder::open(folder)?, loras, kernels)?)
    }

    fn read(folder: &mut Folder, loras: &[Lora], kernels: Arc<dyn Kernels>) -> error::Result<Self> {
        let family = Family::load(folder)?;
        let loras = Loras::open(folder, loras, kernels.device())?;
        let encoders = TextEncoders::load(folder, family, &loras, &*kernels)?;
        let unet = UNet::load(folder, &loras, &*kernels)?;
        loras.finish()?;
        let vae = Vae::load(folder, &*kernels)?;
        let schedule = Schedule::load(folder, family == Family::StableDiffusion)?;
        let mismatch = |key: &str, problem: String| {
            Err(Error::Setting {
                file: "unet/config.json".to_owned(),
                key: key.to_owned(),
                problem,
            })
        };
        if unet.channels() != vae.channels() {
            let (unet, vae) = (unet.channels(), vae.channels());
            return mismatch(
                "in_channels",
                format!("is {unet}, but vae/config.json has {vae}"),
            );
        }
        if unet.context() != encoders.width() {
            let (context, width) = (unet.context(), encoders.width());
            let problem = format!("is {context}, but the text encoders' hidden_size is {width}");
            return mismatch("cross_attention_dim", problem);
        }
        match (unet.added(), encoders.pooled_width()) {
            (None, None) => {}
            (Some(added), Some(pooled)) if added.prompt_width() == Some(pooled) => {}
            (Some(_), None) => {
                let problem = "is text_time, which StableDiffusionXLPipeline alone has";
                return mismatch("addition_embed_type", problem.to_owned());
            }
            (None, Some(_)) => {
                let problem = "is absent, and StableDiffusionXLPipeline needs text_time";
                return mismatch("addition_embed_type", problem.to_owned());
            }
            (Some(added), Some(pooled)) => {
                let problem = format!(
                    "is {}, which is not six times addition_time_embed_dim and text_encoder_2's projection_dim of {pooled}",
                    added.width
                );
                return mismatch("projection_class_embeddings_input_dim", problem);
            }
        }
        let hash = folder.hash();
        Ok(Self {
            kernels,
            family,
            encoders,
            unet,
            vae,
            schedule,
            palette: OnceLock::new(),
            hash,
            memory: folder.memory,
        })
    }

    /// Names exactly which model this is: a SHA-256 over the names, sizes and contents of the files that were read.
    pub fn model_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// How much memory its weights take, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Names the arithmetic; outputs of miners with equal names are compared exactly. See [`Kernels::name`].
    pub fn kernels(&self) -> &str {
        self.kernels.name()
    }

    /// Width and height in pixels of a picture when a request names none.
    pub fn default_size(&self) -> (usize, usize) {
        let size = self.default();
        (size.width, size.height)
    }

    /// Widths and heights are multiples of this many pixels.
    pub fn size_multiple(&self) -> usize {
        self.vae.scale()
    }

    /// Steps of a picture when a request names none: 4 for models that were distilled to few (Turbo; known by Euler's method
    /// with `trailing` steps), 30 for Stable Diffusion XL, 20 for others. Decided by the folder, so that equal inputs mean
    /// the same to all who have the same model.
    pub fn default_steps(&self) -> usize {
        match self.family {
            _ if self.schedule.is_distilled() => 4,
            Family::Xl { .. } => 30,
            Family::StableDiffusion => 20,
        }
    }

    /// Guidance of a picture when a request names none: 1, which is none, for models that were distilled to few steps; 5 for
    /// Stable Diffusion XL, 7.5 for other models of at least 512 pixels, 2 for smaller ones.
    pub fn default_guidance(&self) -> f64 {
        match self.family {
            _ if self.schedule.is_distilled() => 1.0,
            Family::Xl { .. } => 5.0,
            Family::StableDiffusion if self.default().width.max(self.default().height) >= 512 => {
                7.5
            }
            Family::StableDiffusion => 2.0,
        }
    }

    fn size(&self, request: &ImageRequest) -> error::Result<Size> {
        request.check(self.default(), self.vae.scale())
    }

    fn default(&self) -> Size {
        // Where the folder does not say, as in diffusers.
        let latents = match self.family {
            Family::StableDiffusion => 64,
            Family::Xl { .. } => 128,
        };
        let (height, width) = self.unet.sample_size().unwrap_or((latents, latents));
        Size {
            width: width * self.vae.scale(),
            height: height * self.vae.scale(),
        }
    }

    fn latents(&self, size: Size) -> [usize; 4] {
        [
            1,
            self.unet.channels(),
            size.height / self.vae.scale(),
            size.width / self.vae.scale(),
        ]
    }
}

#[cfg(test)]
mod tests;
