//! A picture's way through the pipeline, whole and in its stages.

use std::ops::ControlFlow;

use candle_core::Tensor;
use cuckoo_core::Result;

use super::ImageModel;
use super::conditioning::Conditioning;
use super::denoiser::Moment;
use super::error::{self, Error};
use super::image::Image;
use super::index::Family;
use super::progress::{Progress, Seen};
use super::request::{ImageRequest, Size};
use super::schedule::Run;
use crate::noise::Philox;

/// The stream of a seed's noise that draws a picture's latents from what its encoder says; stream 0 is the noise that a run
/// starts from, and stream 1 + i what the i-th step of a schedule adds.
const ENCODER_STREAM: u64 = u64::MAX;

impl ImageModel {
    /// Checks a request against this model without running it.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid); the message names the field and what it may be.
    pub fn check(&self, request: &ImageRequest) -> Result<()> {
        let size = self.size(request)?;
        self.run(request, size)?;
        self.first_step(request)?;
        Ok(())
    }

    /// Width and height in pixels of the picture that a request asks for.
    ///
    /// # Errors
    /// As [`ImageModel::check`].
    pub fn picture_size(&self, request: &ImageRequest) -> Result<(usize, usize)> {
        let size = self.size(request)?;
        Ok((size.width, size.height))
    }

    /// Bytes that a run holds at once beside the weights, about: the larger of what the denoiser and the autoencoder need.
    ///
    /// # Errors
    /// As [`ImageModel::check`].
    pub fn run_memory(&self, request: &ImageRequest) -> Result<u64> {
        let size = self.size(request)?;
        let [_, _, height, width] = self.latents(size);
        let batch = if self.is_guided(request) { 2 } else { 1 };
        let tokens = self.encoders.length();
        let denoiser = self.denoiser.numbers(height * width, tokens) * batch;
        let autoencoder = self.vae.numbers_per_pixel() * size.width * size.height;
        Ok((denoiser.max(autoencoder) as u64).saturating_mul(4))
    }

    /// Makes a picture. `progress` is called before the first step and after each; when it breaks, the run ends.
    ///
    /// The same request on the same model and kernels gives the same bytes, on any number of threads.
    ///
    /// # Errors
    /// As [`ImageModel::check`]; [`Cancelled`](cuckoo_core::ErrorKind::Cancelled) when `progress` breaks;
    /// [`Execution`](cuckoo_core::ErrorKind::Execution) when the numbers diverge or a layer fails.
    pub fn generate(
        &self,
        request: &ImageRequest,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Image> {
        let latents = self.denoise(request, self.noise(request)?, progress)?;
        self.decode(request, &latents)
    }

    /// The first stage: the noise that `request` starts from, `channels x height x width` latents.
    ///
    /// # Errors
    /// As [`ImageModel::check`].
    pub fn noise(&self, request: &ImageRequest) -> Result<Vec<f32>> {
        let shape = self.latents(self.size(request)?);
        Ok(Philox::new(request.seed).normal(shape.iter().product()))
    }

    /// The text encoders' numbers for `prompt`, `tokens x width`: the last hidden state of Stable Diffusion's one, the last
    /// but one of both of Stable Diffusion XL's, side by side; what T5 says for FLUX.1.
    ///
    /// # Errors
    /// [`Execution`](cuckoo_core::ErrorKind::Execution) when a layer fails.
    pub fn embed(&self, prompt: &str) -> Result<Vec<f32>> {
        let encode = || flat(&self.embeddings(&[Some(prompt)])?.tokens);
        Ok(encode()?)
    }

    /// The numbers for `prompt` as a whole, which Stable Diffusion XL's second text encoder gives and FLUX.1's first; `None`
    /// for others.
    ///
    /// # Errors
    /// As [`ImageModel::embed`].
    pub fn pool(&self, prompt: &str) -> Result<Option<Vec<f32>>> {
        let encode = || {
            let pooled = self.embeddings(&[Some(prompt)])?.pooled;
            pooled.map(|pooled| flat(&pooled)).transpose()
        };
        Ok(encode()?)
    }

    /// One call of the denoiser, without classifier-free guidance: what it predicts from latents at `time` (in training
    /// steps).
    ///
    /// # Errors
    /// As [`ImageModel::check`], and when `latents` does not fit the request's size.
    pub fn predict(&self, request: &ImageRequest, latents: &[f32], time: f32) -> Result<Vec<f32>> {
        let size = self.size(request)?;
        let prompts = self.embeddings(&[Some(&request.prompt)])?;
        let moment = Moment {
            size,
            time,
            guidance: request.guidance as f32,
        };
        Ok(self.run_denoiser(latents, moment, &prompts)?)
    }

    /// The latents of the request's picture, resized where it has another size, drawn from the encoder's distribution by
    /// the seed; `None` for a request without one.
    ///
    /// # Errors
    /// As [`ImageModel::check`].
    pub fn encode(&self, request: &ImageRequest) -> Result<Option<Vec<f32>>> {
        let size = self.size(request)?;
        Ok(request
            .image
            .as_ref()
            .map(|image| self.run_encoder(image, size, request.seed))
            .transpose()?)
    }

    /// The middle stage: from noise, and the request's picture if it has one, to the finished picture's latents.
    ///
    /// # Errors
    /// As [`ImageModel::generate`], and when `noise` does not fit the request's size.
    pub fn denoise(
        &self,
        request: &ImageRequest,
        noise: Vec<f32>,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<f32>> {
        let size = self.size(request)?;
        Ok(self.sample(request, size, noise, progress)?)
    }

    /// The last stage: latents to pixels.
    ///
    /// # Errors
    /// As [`ImageModel::generate`], and when `latents` does not fit the request's size.
    pub fn decode(&self, request: &ImageRequest, latents: &[f32]) -> Result<Image> {
        let size = self.size(request)?;
        let planes = self.decode_latents(self.latents(size), latents)?;
        Ok(Image::from_planes(&planes, size.width, size.height)?)
    }

    /// Pixels `[n, 3, height, width]`, about -1 to 1, of latents of this shape.
    pub(super) fn decode_latents(
        &self,
        shape: [usize; 4],
        latents: &[f32],
    ) -> error::Result<Vec<f32>> {
        let latents = self.tensor(shape, latents)?;
        flat(&self.vae.decode(&*self.kernels, &latents)?)
    }

    fn sample(
        &self,
        request: &ImageRequest,
        size: Size,
        noise: Vec<f32>,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> error::Result<Vec<f32>> {
        self.tensor(self.latents(size), &noise)?;
        let mut run = self.run(request, size)?;
        let first = self.first_step(request)?;
        let steps = run.times().len() - first;
        let mut report =
            |step, seen: Option<Seen<'_>>| match progress(Progress { step, steps, seen }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Cancelled { step, steps }),
            };
        report(0, None)?;
        let guided = self.is_guided(request);
        let prompt = Some(request.prompt.as_str());
        let prompts = match guided {
            true => self.embeddings(&[self.negative(request), prompt])?,
            false => self.embeddings(&[prompt])?,
        };
        let mut latents = match &request.image {
            Some(image) => {
                let mut latents = self.run_encoder(image, size, request.seed)?;
                run.mix(first, &mut latents, &noise);
                latents
            }
            None => {
                let mut latents = noise;
                run.begin(&mut latents);
                latents
            }
        };
        // What came before may have taken as long as a step.
        report(0, None)?;
        let count = latents.len();
        for i in first..run.times().len() {
            let (time, input) = (run.times()[i], run.input(i, &latents));
            let moment = Moment {
                size,
                time,
                guidance: request.guidance as f32,
            };
            let prediction = self.run_denoiser(&input, moment, &prompts)?;
            let prediction = match prediction.split_at_checked(count) {
                Some((without, with)) if guided => guide(without, with, request.guidance as f32),
                _ => prediction,
            };
            let noise = || Philox::stream(request.seed, 1 + i as u64).normal(count);
            run.step(i, &prediction, &mut latents, &noise);
            if !latents.iter().all(|x| x.is_finite()) {
                return Err(Error::Diverged {
                    stage: "the latents",
                });
            }
            let [_, _, height, width] = self.latents(size);
            let seen = Seen {
                pipeline: self,
                height,
                width,
                shares: run.shares(i),
                input: &input,
                prediction: &prediction,
            };
            report(i + 1 - first, Some(seen))?;
        }
        Ok(latents)
    }

    /// The step that a run begins with: 0, or further on the nearer it stays to the request's picture.
    fn first_step(&self, request: &ImageRequest) -> error::Result<usize> {
        let Some(strength) = request.strength() else {
            return Ok(0);
        };
        if !self.vae.encodes() {
            return Err(Error::request(
                "image",
                "cannot be begun from; this model has the decoder of its autoencoder alone",
            ));
        }
        match self.scheduler.first(request.steps, strength) {
            first if first == request.steps => Err(Error::request(
                "strength",
                format!("is {strength}, of which {} steps leave none", request.steps),
            )),
            first => Ok(first),
        }
    }

    /// The way to the request's picture, of this size.
    fn run(&self, request: &ImageRequest, size: Size) -> error::Result<Box<dyn Run>> {
        let side = self.size_multiple();
        let patches = size.width / side * (size.height / side);
        self.scheduler.run(request.sampler, request.steps, patches)
    }

    /// What stands for the negative prompt; `None` for zeros.
    fn negative<'a>(&self, request: &'a ImageRequest) -> Option<&'a str> {
        match (&request.negative_prompt, self.family) {
            (Some(prompt), _) => Some(prompt),
            (
                None,
                Family::Xl {
                    zero_negative: true,
                },
            ) => None,
            (None, _) => Some(""),
        }
    }

    /// The denoiser's predictions for each of the prompts, one after another.
    fn run_denoiser(
        &self,
        latents: &[f32],
        moment: Moment,
        prompts: &Conditioning,
    ) -> error::Result<Vec<f32>> {
        let latents = self.tensor(self.latents(moment.size), latents)?;
        let kernels = &*self.kernels;
        flat(&self.denoiser.forward(kernels, &latents, moment, prompts)?)
    }

    fn run_encoder(&self, image: &Image, size: Size, seed: u64) -> error::Result<Vec<f32>> {
        let planes = image.resized(size.width, size.height).to_planes();
        let pixels = self.tensor([1, 3, size.height, size.width], &planes)?;
        let moments = self.vae.encode(&*self.kernels, &pixels)?.ok_or_else(|| {
            Error::request("image", "cannot be encoded; this model has no encoder")
        })?;
        let count = self.latents(size).iter().product();
        let mut latents = moments.draw(&Philox::stream(seed, ENCODER_STREAM).normal(count));
        self.vae.scale_latents(&mut latents);
        if latents.len() != count || !latents.iter().all(|x| x.is_finite()) {
            return Err(Error::Diverged {
                stage: "the encoded picture",
            });
        }
        Ok(latents)
    }

    fn embeddings(&self, prompts: &[Option<&str>]) -> error::Result<Conditioning> {
        self.encoders.encode(&*self.kernels, prompts)
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
