//! Text to image by latent diffusion: any Stable Diffusion pipeline in the folder layout of diffusers.
//!
//! ```text
//! prompt -> tokenizer -> clip ----------.
//! seed   -> noise -----> schedule <-> unet -> vae -> image
//! ```
//!
//! A folder holds `model_index.json` and one sub-folder a part, each with its own configuration and safetensors
//! weights (F32, F16 or BF16; computed in F32). All sizes come from those files. What a configuration asks for and
//! this pipeline does not do is an error that names the setting. Two things are left out on purpose: the encoder of the
//! autoencoder, which text-to-image does not use, and the optional safety checker, which judges pictures and does
//! not make them.

mod clip;
mod ddim;
mod euler;
mod image;
mod layers;
mod request;
mod resnet;
mod schedule;
mod tokenizer;
mod unet;
mod vae;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use cuckoo_core::Result;
use serde_json::json;

use crate::kernels::{CpuKernels, Kernels};
use crate::model::{error, folder, marks, settings, weights};
use crate::noise::Philox;
use clip::ClipText;
use error::Error;
use folder::{Folder, SETTINGS_LIMIT};
pub use image::Image;
use request::Size;
pub use request::{ImageRequest, Progress, Sampler};
use schedule::Schedule;
use settings::Settings;
use tokenizer::PromptTokenizer;
use unet::UNet;
use vae::VaeDecoder;

/// A loaded pipeline. Runs share it; each call computes on the calling thread and the threads of the current rayon
/// pool, so call it from a thread that may block.
#[derive(Debug)]
pub struct StableDiffusion {
    kernels: Arc<dyn Kernels>,
    tokenizer: PromptTokenizer,
    clip: ClipText,
    unet: UNet,
    vae: VaeDecoder,
    schedule: Schedule,
    hash: [u8; 32],
    memory: u64,
}

impl StableDiffusion {
    /// Reads a pipeline's folder, to run on this machine's processor.
    ///
    /// # Errors
    /// [`NotFound`](cuckoo_core::ErrorKind::NotFound) when the folder or a file in it is missing,
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when a file is damaged, does not fit the others, or asks for
    /// something this pipeline does not do; the message names the file and the setting or tensor.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::load_with(folder, Arc::new(CpuKernels::new()))
    }

    /// As [`StableDiffusion::load`], to run on the given kernels.
    ///
    /// # Errors
    /// As [`StableDiffusion::load`].
    pub fn load_with(folder: &Path, kernels: Arc<dyn Kernels>) -> Result<Self> {
        Ok(Self::read(&mut Folder::open(folder)?, kernels)?)
    }

    fn read(folder: &mut Folder, kernels: Arc<dyn Kernels>) -> error::Result<Self> {
        check_index(folder)?;
        let clip = ClipText::load(folder, &*kernels)?;
        let tokenizer = PromptTokenizer::load(folder, clip.positions(), clip.vocabulary())?;
        let unet = UNet::load(folder, &*kernels)?;
        let vae = VaeDecoder::load(folder, &*kernels)?;
        let schedule = Schedule::load(folder)?;
        let mismatch = |key: &str, problem: String| {
            Err(Error::Setting {
                file: "unet/config.json".to_owned(),
                key: key.to_owned(),
                problem,
            })
        };
        if unet.channels() != vae.channels() {
            return mismatch(
                "in_channels",
                format!(
                    "is {}, but vae/config.json has {}",
                    unet.channels(),
                    vae.channels()
                ),
            );
        }
        if unet.context() != clip.width() {
            let problem = format!(
                "is {}, but the text encoder's hidden_size is {}",
                unet.context(),
                clip.width()
            );
            return mismatch("cross_attention_dim", problem);
        }
        let hash = folder.hash();
        Ok(Self {
            kernels,
            tokenizer,
            clip,
            unet,
            vae,
            schedule,
            hash,
            memory: folder.memory(),
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

    /// Checks a request against this model without running it.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid); the message names the field and what it may be.
    pub fn check(&self, request: &ImageRequest) -> Result<()> {
        self.size(request)?;
        self.schedule.run(request.sampler, request.steps)?;
        Ok(())
    }

    /// Makes a picture. `progress` is called before the first step and after each; when it breaks, the run ends.
    ///
    /// The same request on the same model and kernels gives the same bytes, on any number of threads.
    ///
    /// # Errors
    /// As [`StableDiffusion::check`]; [`Cancelled`](cuckoo_core::ErrorKind::Cancelled) when `progress` breaks;
    /// [`Execution`](cuckoo_core::ErrorKind::Execution) when the numbers diverge or a layer fails.
    pub fn generate(
        &self,
        request: &ImageRequest,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Image> {
        let latents = self.denoise(request, self.noise(request)?, progress)?;
        self.decode(request, &latents)
    }

    /// The first stage: the noise that `request` starts from, `channels x height x width` latents.
    ///
    /// # Errors
    /// As [`StableDiffusion::check`].
    pub fn noise(&self, request: &ImageRequest) -> Result<Vec<f32>> {
        let shape = self.latents(self.size(request)?);
        Ok(Philox::new(request.seed).normal(shape.iter().product()))
    }

    /// The text encoder's last hidden state for `prompt`, `tokens x width`.
    ///
    /// # Errors
    /// [`Execution`](cuckoo_core::ErrorKind::Execution) when a layer fails.
    pub fn embed(&self, prompt: &str) -> Result<Vec<f32>> {
        Ok(self
            .embeddings(&[prompt])
            .and_then(|embedding| flat(&embedding))?)
    }

    /// One call of the denoiser without guidance: what it predicts from latents at `time` (in training steps).
    ///
    /// # Errors
    /// As [`StableDiffusion::check`], and when `latents` does not fit the request's size.
    pub fn predict(&self, request: &ImageRequest, latents: &[f32], time: f32) -> Result<Vec<f32>> {
        let shape = self.latents(self.size(request)?);
        let prompts = self.embeddings(&[&request.prompt])?;
        Ok(self.run_unet(shape, latents, time, &prompts)?)
    }

    /// The middle stage: from noise to the finished picture's latents.
    ///
    /// # Errors
    /// As [`StableDiffusion::generate`], and when `noise` does not fit the request's size.
    pub fn denoise(
        &self,
        request: &ImageRequest,
        noise: Vec<f32>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<f32>> {
        let shape = self.latents(self.size(request)?);
        Ok(self.sample(request, shape, noise, progress)?)
    }

    /// The last stage: latents to pixels.
    ///
    /// # Errors
    /// As [`StableDiffusion::generate`], and when `latents` does not fit the request's size.
    pub fn decode(&self, request: &ImageRequest, latents: &[f32]) -> Result<Image> {
        let size = self.size(request)?;
        let latents = self.tensor(self.latents(size), latents)?;
        let planes = flat(&self.vae.decode(&*self.kernels, &latents)?)?;
        Ok(Image::from_planes(&planes, size.width, size.height)?)
    }

    fn sample(
        &self,
        request: &ImageRequest,
        shape: [usize; 4],
        mut latents: Vec<f32>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> error::Result<Vec<f32>> {
        self.tensor(shape, &latents)?;
        let run = self.schedule.run(request.sampler, request.steps)?;
        let negative = request.negative_prompt.as_deref().unwrap_or_default();
        let prompts: &[&str] = if request.is_guided() {
            &[negative, &request.prompt]
        } else {
            &[&request.prompt]
        };
        let embeddings = self.embeddings(prompts)?;
        let steps = run.times().len();
        let mut report = |step| match progress(Progress { step, steps }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled { step, steps }),
        };
        report(0)?;
        run.begin(&mut latents);
        for (i, time) in run.times().iter().enumerate() {
            let input = run.input(i, &latents);
            let prediction = self.run_unet(shape, &input, *time, &embeddings)?;
            let prediction = match prediction.split_at_checked(latents.len()) {
                Some((without, with)) if request.is_guided() => {
                    guide(without, with, request.guidance as f32)
                }
                _ => prediction,
            };
            run.step(i, &prediction, &mut latents);
            if !latents.iter().all(|x| x.is_finite()) {
                return Err(Error::Diverged {
                    stage: "the latents",
                });
            }
            report(i + 1)?;
        }
        Ok(latents)
    }

    /// The UNet's predictions for each of the prompts, one after another.
    fn run_unet(
        &self,
        shape: [usize; 4],
        latents: &[f32],
        time: f32,
        prompts: &Tensor,
    ) -> error::Result<Vec<f32>> {
        let latents = self.tensor(shape, latents)?;
        let latents = latents.repeat((prompts.dim(0)?, 1, 1, 1))?;
        flat(&self.unet.forward(&*self.kernels, &latents, time, prompts)?)
    }

    fn embeddings(&self, prompts: &[&str]) -> error::Result<Tensor> {
        let tokens = prompts
            .iter()
            .map(|prompt| self.tokenizer.encode(prompt))
            .collect::<error::Result<Vec<_>>>()?;
        self.clip.forward(&*self.kernels, &tokens)
    }

    fn tensor(&self, shape: [usize; 4], values: &[f32]) -> error::Result<Tensor> {
        if values.len() != shape.iter().product::<usize>() {
            return Err(Error::request(
                "latents",
                format!("has {} numbers, not {shape:?}", values.len()),
            ));
        }
        Ok(Tensor::from_slice(values, &shape, self.kernels.device())?)
    }

    fn size(&self, request: &ImageRequest) -> error::Result<Size> {
        request.check(self.default(), self.vae.scale())
    }

    fn default(&self) -> Size {
        // 64 x 64 latents where the folder does not say, as in diffusers.
        let (height, width) = self.unet.sample_size().unwrap_or((64, 64));
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

/// Classifier-free guidance (Ho and Salimans, 2022): the prediction without the prompt, moved towards and past the one
/// with it.
fn guide(without: &[f32], with: &[f32], guidance: f32) -> Vec<f32> {
    without
        .iter()
        .zip(with)
        .map(|(without, with)| without + guidance * (with - without))
        .collect()
}

fn flat(tensor: &Tensor) -> error::Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Reads `model_index.json`: which class each part is, as far as it decides what is computed.
fn check_index(folder: &mut Folder) -> error::Result<()> {
    const FILE: &str = "model_index.json";
    let mut s = Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)?;
    s.only("_class_name", &[json!("StableDiffusionPipeline")])?;
    for (part, library, class) in [
        ("text_encoder", "transformers", "CLIPTextModel"),
        ("unet", "diffusers", "UNet2DConditionModel"),
        ("vae", "diffusers", "AutoencoderKL"),
    ] {
        s.only(part, &[json!([library, class])])?;
    }
    let tokenizers =
        ["CLIPTokenizer", "CLIPTokenizerFast"].map(|class| json!(["transformers", class]));
    s.only("tokenizer", &tokenizers)?;
    // An adapter for pictures as prompts changes what is made; the checker and its pre-processor do not.
    s.only("image_encoder", &[json!([null, null])])?;
    s.ignore(&[
        "scheduler",
        "safety_checker",
        "feature_extractor",
        "requires_safety_checker",
    ]);
    s.finish()
}

#[cfg(test)]
mod tests;
