//! Text and image to image as an executor: JSON input, a PNG as output.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_core::{
    Assignment, B256, BlobId, Capability, Error, ModelId, Output, Result, Usage, Wei,
};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::diffusion::{Image, ImageModel, ImageRequest, Lora, Progress, Sampler};
use crate::kernels::CpuKernels;
use crate::model::memory;
use crate::{Execution, Executor, TaskContext, Trial};

/// What may stand before a picture in base64.
const DATA_URL: &str = "data:image/png;base64,";

/// The most previews of a picture.
const PREVIEWS: usize = 8;

/// The task's input, as requesters write it and the coordinator completes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageInput {
    prompt: String,
    negative_prompt: Option<String>,
    width: Option<usize>,
    height: Option<usize>,
    steps: Option<usize>,
    guidance: Option<f64>,
    seed: u64,
    sampler: Option<Sampler>,
    image: Option<String>,
    strength: Option<f64>,
}

impl ImageInput {
    fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|source| {
            Error::invalid(
                "the input is not {\"prompt\": text, \"seed\": number} with, where wanted, negative_prompt, width, \
                 height, steps, guidance, sampler, image, strength",
            )
            .with_source(source)
        })
    }

    /// The request it makes of `pipeline`, which has the defaults: the same for every miner of that model, since an audit
    /// repeats a task on another one. `image` is the picture that it names.
    fn request(self, pipeline: &ImageModel, image: Option<Image>) -> ImageRequest {
        ImageRequest {
            prompt: self.prompt,
            negative_prompt: self.negative_prompt,
            image,
            strength: self.strength,
            width: self.width,
            height: self.height,
            steps: self.steps.unwrap_or_else(|| pipeline.default_steps()),
            guidance: self.guidance.unwrap_or_else(|| pipeline.default_guidance()),
            seed: self.seed,
            sampler: self.sampler,
        }
    }
}

/// The picture that an input's `image` stands for: a blob's name, or a PNG in base64.
async fn picture(image: &str, context: &TaskContext) -> Result<Image> {
    if let Ok(blob) = image.parse::<BlobId>() {
        return Image::from_png(&context.blob(blob).await?.bytes);
    }
    let text = image.strip_prefix(DATA_URL).unwrap_or(image);
    let png = STANDARD.decode(text).map_err(|source| {
        Error::invalid(format!(
            "`image` is neither the name of a blob (`blob:0x` and 64 digits) nor a PNG in base64, with or without \
             `{DATA_URL}` before it"
        ))
        .with_source(source)
    })?;
    Image::from_png(&png)
}

/// Makes pictures with a Stable Diffusion or FLUX.1 pipeline on this machine.
///
/// The input is a JSON object: `prompt` and `seed`, and where wanted `negative_prompt`, `width` and `height` (pixels),
/// `steps`, `guidance`, `sampler` (`ddim`, `euler`, `euler_ancestral`, `dpmpp_2m`, `dpmpp_2m_karras`), and to begin from a
/// picture `image` (a PNG: the name of a blob, or base64) and `strength`. What it leaves open the model decides. The output
/// is a PNG; up to eight previews, of at most 64 pixels a side, come before it. Equal inputs give equal bytes on all miners
/// whose kernels have the same name. Clones share the weights.
#[derive(Debug, Clone)]
pub struct ImageExecutor {
    pipeline: Arc<ImageModel>,
    model: ModelId,
    min_price: Wei,
    max_pixels: usize,
    max_steps: usize,
    at_once: usize,
    runs: Arc<Semaphore>,
}

impl ImageExecutor {
    /// Loads the pipeline in `folder` (the layout of diffusers) and offers it as `model`. Blocks while it reads.
    ///
    /// As many runs at once as the machine has cores; pictures of up to four times the model's own area; at most 150
    /// steps; free of charge.
    ///
    /// # Errors
    /// `NotFound` when the folder or a file in it is missing, `Invalid` when one is damaged or asks for something the
    /// pipeline does not do.
    pub fn load(folder: impl AsRef<Path>, model: ModelId) -> Result<Self> {
        Self::load_with_loras(folder, &[], model)
    }

    /// As [`load`](Self::load), with changes merged into the weights. All miners that offer such a model have the same LoRAs
    /// in the same order at the same scales.
    ///
    /// # Errors
    /// As [`load`](Self::load); `Invalid` too for a LoRA that is missing or does not fit.
    pub fn load_with_loras(
        folder: impl AsRef<Path>,
        loras: &[Lora],
        model: ModelId,
    ) -> Result<Self> {
        let kernels = Arc::new(CpuKernels::new());
        let pipeline = ImageModel::load_with_loras(folder.as_ref(), loras, kernels)?;
        Ok(Self::new(Arc::new(pipeline), model))
    }

    /// Offers a loaded pipeline as `model`, with the limits of [`load`](Self::load).
    pub fn new(pipeline: Arc<ImageModel>, model: ModelId) -> Self {
        let (width, height) = pipeline.default_size();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            pipeline,
            model,
            min_price: Wei::ZERO,
            max_pixels: width.saturating_mul(height).saturating_mul(4),
            max_steps: 150,
            at_once: cores,
            runs: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Asks at least `price` wei for a picture.
    #[must_use]
    pub fn with_min_price(mut self, price: Wei) -> Self {
        self.min_price = price;
        self
    }

    /// Makes pictures of at most `pixels` in at most `steps` steps; a larger request is given back for another miner.
    #[must_use]
    pub fn with_limits(mut self, pixels: usize, steps: usize) -> Self {
        self.max_pixels = pixels;
        self.max_steps = steps;
        self
    }

    /// The most pixels and steps of a picture.
    pub fn limits(&self) -> (usize, usize) {
        (self.max_pixels, self.max_steps)
    }

    /// Makes at most `runs` pictures at once; others wait.
    #[must_use]
    pub fn with_runs(mut self, runs: u32) -> Self {
        self.at_once = runs.max(1) as usize;
        self.runs = Arc::new(Semaphore::new(self.at_once));
        self
    }

    /// The loaded pipeline.
    pub fn pipeline(&self) -> &ImageModel {
        &self.pipeline
    }

    /// Checks a request against the model, this miner's limits and its memory; gives its pixels.
    fn check(&self, request: &ImageRequest) -> Result<usize> {
        self.pipeline.check(request)?;
        let (width, height) = self.pipeline.picture_size(request)?;
        let pixels = width * height;
        if pixels > self.max_pixels || request.steps > self.max_steps {
            return Err(Error::rejected(format!(
                "{pixels} pixels in {} steps are beyond this miner's limits of {} and {}",
                request.steps, self.max_pixels, self.max_steps
            )));
        }
        let needed = self.pipeline.run_memory(request)?;
        memory::admit(&format!("a picture of {width} x {height}"), needed)?;
        Ok(pixels)
    }
}

#[async_trait]
impl Executor for ImageExecutor {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = B256::from(self.pipeline.model_hash());
        vec![Capability {
            min_price: self.min_price,
            ..Capability::new(self.model.clone(), hash, self.pipeline.kernels())
        }]
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let input = ImageInput::parse(&task.input)?;
        let image = match &input.image {
            Some(image) => Some(picture(image, &context).await?),
            None => None,
        };
        let request = input.request(&self.pipeline, image);
        let pixels = self.check(&request)?;
        let permit = tokio::select! {
            permit = Arc::clone(&self.runs).acquire_owned() => permit,
            () = context.cancelled() => return Err(Error::cancelled("cancelled before the first step")),
        };
        let permit = permit.map_err(|_| Error::internal("the executor's runs were closed"))?;
        // Dropping this future stops the thread after its current step.
        let _guard = CancelOnDrop(context.clone());
        let pipeline = Arc::clone(&self.pipeline);
        let run = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let image = pipeline.generate(&request, &mut |done| report(&context, done))?;
            image.to_png()
        });
        let png = run.await.map_err(|join| {
            Error::execution("the pipeline stopped in the middle of a picture").with_source(join)
        })??;
        let usage = Usage {
            output_units: pixels as u64,
            ..Usage::default()
        };
        let output = Output::new("image/png", png);
        Ok(Execution::new(output).with_usage(usage))
    }

    fn memory(&self) -> u64 {
        self.pipeline.memory()
    }

    /// Pixels times runs of the denoiser; unknown for a picture of the size of another one, which is not here yet.
    fn work(&self, task: &Assignment) -> Option<f64> {
        let mut input = ImageInput::parse(&task.input).ok()?;
        let share = match (input.image.take(), input.strength.take()) {
            (Some(_), strength) if input.width.is_some() && input.height.is_some() => {
                strength.unwrap_or(ImageRequest::STRENGTH)
            }
            (Some(_), _) => return None,
            (None, _) => 1.0,
        };
        let request = input.request(&self.pipeline, None);
        self.pipeline.check(&request).ok()?;
        let (width, height) = self.pipeline.picture_size(&request).ok()?;
        let runs = if self.pipeline.is_guided(&request) {
            2.0
        } else {
            1.0
        };
        Some((width * height * request.steps) as f64 * runs * share)
    }

    fn concurrency(&self) -> usize {
        self.at_once
    }

    fn trials(&self, _: &ModelId) -> Vec<Trial> {
        let (width, height) = self.pipeline.default_size();
        let trial = |steps: usize| {
            let what = format!("a picture of {width}x{height} in {steps} steps");
            let input = format!(r#"{{"prompt":"a first task","seed":1,"steps":{steps}}}"#);
            Trial::new(what, input)
        };
        [1, 4].map(trial).into()
    }
}

fn report(context: &TaskContext, done: Progress<'_>) -> ControlFlow<()> {
    // The last thousandths are the decoder's.
    let thousandths = done.step * 990 / done.steps.max(1);
    context.progress(u16::try_from(thousandths).unwrap_or(990));
    if context.is_cancelled() {
        return ControlFlow::Break(());
    }
    // A preview is worth nothing to the run, so neither is one that failed.
    if is_shown(done.step, done.steps)
        && let Some(png) = done.preview().and_then(|image| image.to_png().ok())
    {
        context.preview(Output::new("image/png", png));
    }
    ControlFlow::Continue(())
}

/// Whether a picture is shown after so many of its steps: at even distances, but not after the last, when the picture itself
/// is about to come.
fn is_shown(step: usize, steps: usize) -> bool {
    step > 0 && step < steps && step.is_multiple_of(steps.div_ceil(PREVIEWS))
}

struct CancelOnDrop(TaskContext);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::ErrorKind;

    use super::*;

    #[test]
    fn inputs_leave_open_what_they_do_not_say() {
        let input = ImageInput::parse(r#"{"prompt": "a red circle", "seed": 7}"#).unwrap();
        assert_eq!((input.steps, input.guidance), (None, None));
        assert_eq!((input.width, input.sampler), (None, None));
        for (name, sampler) in [
            ("ddim", Sampler::Ddim),
            ("euler", Sampler::Euler),
            ("euler_ancestral", Sampler::EulerAncestral),
            ("dpmpp_2m", Sampler::DpmPlusPlus2M),
            ("dpmpp_2m_karras", Sampler::DpmPlusPlus2MKarras),
        ] {
            let input = format!(r#"{{"prompt": "x", "seed": 7, "steps": 5, "sampler": "{name}"}}"#);
            let input = ImageInput::parse(&input).unwrap();
            assert_eq!((input.steps, input.sampler), (Some(5), Some(sampler)));
        }
    }

    #[test]
    fn bad_inputs_blame_the_requester() {
        for bad in [
            "",
            "[]",
            r#"{"seed": 1}"#,
            r#"{"prompt": "x"}"#,
            r#"{"prompt": 5, "seed": 1}"#,
            r#"{"prompt": "x", "seed": -1}"#,
            r#"{"prompt": "x", "seed": 1, "stepz": 3}"#,
            r#"{"prompt": "x", "seed": 1, "sampler": "magic"}"#,
            r#"{"prompt": "x", "seed": 1, "steps": 1e99}"#,
        ] {
            let error = ImageInput::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn progress_ends_below_done_and_cancellation_breaks_the_run() {
        let context = TaskContext::new(cuckoo_core::Timestamp::from_millis(0));
        let half = Progress {
            step: 10,
            steps: 20,
            seen: None,
        };
        assert_eq!(report(&context, half), ControlFlow::Continue(()));
        assert_eq!(context.progress_made(), 495);
        drop(CancelOnDrop(context.clone()));
        assert_eq!(report(&context, half), ControlFlow::Break(()));
    }

    #[test]
    fn previews_are_few_and_none_is_of_the_whole() {
        let shown = |steps: usize| -> Vec<_> {
            let all = 0..=steps;
            all.filter(|step| is_shown(*step, steps)).collect()
        };
        assert!(shown(1).is_empty());
        assert_eq!(shown(4), [1, 2, 3]);
        assert_eq!(shown(20), [3, 6, 9, 12, 15, 18]);
        for steps in 1..=1_000 {
            assert!(shown(steps).len() <= PREVIEWS, "{steps}");
        }
    }
}
