//! Text and image to image by latent diffusion: Stable Diffusion and FLUX.1 pipelines in the folder layout of diffusers.
//!
//! ```text
//! prompt -> tokenizers -> clip, t5 -> conditioning --.
//! seed   -> noise ---------+---> scheduler <-> denoiser -> vae -> image
//! image  -> vae -----------'
//! ```
//!
//! The denoiser is a `unet` that a `schedule` of noise levels steps by, or the transformer of `flux`, whose way is a `flow`.
//! Between the steps, `progress` tells how far a run is and, by the `palette`, what its picture looks like.
//!
//! A folder holds `model_index.json` and one sub-folder a part, each with its own configuration and safetensors
//! weights (F32, F16 or BF16; computed in F32). All sizes come from those files. What a configuration asks for and
//! this pipeline does not do is an error that names the setting. One thing is left out on purpose: the optional safety
//! checker, which judges pictures and does not make them.

mod clip;
mod conditioning;
mod ddim;
mod denoiser;
mod dpm;
mod euler;
mod flow;
mod flux;
mod image;
mod index;
mod layers;
mod lora;
mod palette;
mod progress;
mod request;
mod resnet;
mod schedule;
mod scheduler;
mod stages;
mod t5;
mod tokenizer;
mod unet;
mod vae;
mod waves;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use cuckoo_core::Result;

use crate::kernels::{CpuKernels, Kernels};
use crate::model::{error, folder, marks, settings, weights};
use conditioning::TextEncoders;
use denoiser::Denoiser;
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
use scheduler::Scheduler;
use vae::Vae;

/// A loaded pipeline of Stable Diffusion or FLUX.1. Runs share it; each call computes on the calling thread and the threads of the current rayon
/// pool, so call it from a thread that may block.
#[derive(Debug)]
pub struct ImageModel {
    kernels: Arc<dyn Kernels>,
    family: Family,
    encoders: TextEncoders,
    denoiser: Denoiser,
    vae: Vae,
    scheduler: Scheduler,
    /// Found when a preview is first asked for.
    palette: OnceLock<Palette>,
    hash: [u8; 32],
    memory: u64,
    /// Names the arithmetic of all its layers.
    arithmetic: String,
}

impl ImageModel {
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

    /// As [`ImageModel::load`], to run on the given kernels.
    ///
    /// # Errors
    /// As [`ImageModel::load`].
    pub fn load_with(folder: &Path, kernels: Arc<dyn Kernels>) -> Result<Self> {
        Self::load_with_loras(folder, &[], kernels)
    }

    /// As [`ImageModel::load_with`], with changes merged into the weights, which are another model then.
    ///
    /// # Errors
    /// As [`ImageModel::load`]; [`Invalid`](cuckoo_core::ErrorKind::Invalid) too for a LoRA that is missing, has
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
        if let (Family::Flux, Some(lora)) = (family, loras.first()) {
            return Err(Error::Lora {
                file: lora.file.display().to_string(),
                problem: "this miner merges none into FLUX.1; leave `loras` out".to_owned(),
            });
        }
        let loras = Loras::open(folder, loras, kernels.device())?;
        // First the largest part, so that one that does not fit into memory is refused before other weights are read.
        let denoiser = Denoiser::load(folder, family, &loras, &*kernels)?;
        let encoders = TextEncoders::load(folder, family, &denoiser, &loras, &*kernels)?;
        loras.finish()?;
        let vae = Vae::load(folder, family == Family::Flux, &*kernels)?;
        let scheduler = Scheduler::load(folder, family)?;
        denoiser.fits(vae.channels(), &encoders)?;
        let arithmetic = match denoiser {
            Denoiser::UNet(_) => kernels.name().to_owned(),
            // It has layers of both kinds.
            Denoiser::Flux(_) => format!("{}+{}", kernels.name(), kernels.text_name()),
        };
        let hash = folder.hash();
        Ok(Self {
            kernels,
            family,
            encoders,
            denoiser,
            vae,
            scheduler,
            palette: OnceLock::new(),
            hash,
            memory: folder.memory,
            arithmetic,
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

    /// Names the arithmetic; outputs of miners with equal names are compared exactly. See [`Kernels::name`]; of FLUX.1, which
    /// has layers of texts too, that with [`Kernels::text_name`] behind a `+`.
    pub fn kernels(&self) -> &str {
        &self.arithmetic
    }

    /// Width and height in pixels of a picture when a request names none.
    pub fn default_size(&self) -> (usize, usize) {
        let size = self.default();
        (size.width, size.height)
    }

    /// Widths and heights are multiples of this many pixels.
    pub fn size_multiple(&self) -> usize {
        self.vae.scale() * self.denoiser.patch()
    }

    /// Steps of a picture when a request names none: 4 for models that were distilled to few (FLUX.1 without guidance; Turbo,
    /// known by Euler's method with `trailing` steps), 28 for FLUX.1 with guidance, 30 for Stable Diffusion XL, 20 for others.
    /// Decided by the folder, so that equal inputs mean the same to all who have the same model.
    pub fn default_steps(&self) -> usize {
        match (&self.denoiser, self.family) {
            (Denoiser::Flux(flux), _) if flux.is_guided() => 28,
            (Denoiser::Flux(_), _) => 4,
            _ if self.scheduler.is_distilled() => 4,
            (_, Family::Xl { .. }) => 30,
            _ => 20,
        }
    }

    /// Guidance of a picture when a request names none: 3.5 for FLUX.1; 1, which is none, for other models that were distilled
    /// to few steps; 5 for Stable Diffusion XL, 7.5 for other models of at least 512 pixels, 2 for smaller ones.
    pub fn default_guidance(&self) -> f64 {
        match self.family {
            Family::Flux => 3.5,
            _ if self.scheduler.is_distilled() => 1.0,
            Family::Xl { .. } => 5.0,
            Family::StableDiffusion if self.default().width.max(self.default().height) >= 512 => {
                7.5
            }
            Family::StableDiffusion => 2.0,
        }
    }

    /// Whether each step of a request runs the denoiser twice, with the prompt and without it.
    pub(crate) fn is_guided(&self, request: &ImageRequest) -> bool {
        match self.denoiser {
            Denoiser::UNet(_) => request.is_guided(),
            // It was distilled to need no second run, or to need no guidance.
            Denoiser::Flux(_) => false,
        }
    }

    /// Checks a request but for its steps; gives the picture's size.
    fn size(&self, request: &ImageRequest) -> error::Result<Size> {
        let negative = request.negative_prompt.as_deref().unwrap_or_default();
        if matches!(self.denoiser, Denoiser::Flux(_)) && !negative.is_empty() {
            let problem = "cannot be followed: this model runs with the prompt alone";
            return Err(Error::request("negative_prompt", problem));
        }
        request.check(self.default(), self.size_multiple())
    }

    fn default(&self) -> Size {
        let (height, width) = self.denoiser.default_size(self.family);
        Size {
            width: width * self.vae.scale(),
            height: height * self.vae.scale(),
        }
    }

    fn latents(&self, size: Size) -> [usize; 4] {
        [
            1,
            self.denoiser.channels(),
            size.height / self.vae.scale(),
            size.width / self.vae.scale(),
        ]
    }
}

#[cfg(test)]
mod tests;
