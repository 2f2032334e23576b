//! Text to image as an executor: JSON input, a PNG as output.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{Assignment, B256, Capability, Error, ModelId, Output, Result, Usage, Wei};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::diffusion::{ImageRequest, Progress, Sampler, StableDiffusion};
use crate::{Execution, Executor, TaskContext};

/// What an input leaves open. The same for every miner, since an audit repeats a task on another one; a change of
/// these is a change of what a signed input means.
const DEFAULT_STEPS: usize = 20;
const DEFAULT_GUIDANCE: f64 = 2.0;

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
}

impl ImageInput {
    fn parse(text: &str) -> Result<ImageRequest> {
        let input: Self = serde_json::from_str(text).map_err(|source| {
            Error::invalid(
                "the input is not {\"prompt\": text, \"seed\": number} with, where wanted, negative_prompt, width, \
                 height, steps, guidance, sampler",
            )
            .with_source(source)
        })?;
        Ok(ImageRequest {
            prompt: input.prompt,
            negative_prompt: input.negative_prompt,
            width: input.width,
            height: input.height,
            steps: input.steps.unwrap_or(DEFAULT_STEPS),
            guidance: input.guidance.unwrap_or(DEFAULT_GUIDANCE),
            seed: input.seed,
            sampler: input.sampler,
        })
    }
}

/// Makes pictures with a Stable Diffusion pipeline on this machine.
///
/// The input is a JSON object: `prompt` and `seed`, and where wanted `negative_prompt`, `width` and `height` (pixels),
/// `steps` (20), `guidance` (2) and `sampler` (`ddim` or `euler`). The output is a PNG. Equal inputs give equal bytes on
/// all miners whose kernels have the same name. Clones share the weights.
#[derive(Debug, Clone)]
pub struct ImageExecutor {
    pipeline: Arc<StableDiffusion>,
    model: ModelId,
    min_price: Wei,
    max_pixels: usize,
    max_steps: usize,
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
        let pipeline = StableDiffusion::load(folder.as_ref())?;
        Ok(Self::new(Arc::new(pipeline), model))
    }

    /// Offers a loaded pipeline as `model`, with the limits of [`load`](Self::load).
    pub fn new(pipeline: Arc<StableDiffusion>, model: ModelId) -> Self {
        let (width, height) = pipeline.default_size();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            pipeline,
            model,
            min_price: Wei::ZERO,
            max_pixels: width.saturating_mul(height).saturating_mul(4),
            max_steps: 150,
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
        self.runs = Arc::new(Semaphore::new(runs.max(1) as usize));
        self
    }

    /// The loaded pipeline.
    pub fn pipeline(&self) -> &StableDiffusion {
        &self.pipeline
    }

    /// Checks a request against the model and this miner's limits; gives its pixels.
    fn check(&self, request: &ImageRequest) -> Result<usize> {
        self.pipeline.check(request)?;
        let (width, height) = self.pipeline.default_size();
        let pixels = request.width.unwrap_or(width) * request.height.unwrap_or(height);
        if pixels > self.max_pixels || request.steps > self.max_steps {
            return Err(Error::rejected(format!(
                "{pixels} pixels in {} steps are beyond this miner's limits of {} and {}",
                request.steps, self.max_pixels, self.max_steps
            )));
        }
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
        let request = ImageInput::parse(&task.input)?;
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
}

fn report(context: &TaskContext, done: Progress) -> ControlFlow<()> {
    // The last thousandths are the decoder's.
    let thousandths = done.step * 990 / done.steps.max(1);
    context.progress(u16::try_from(thousandths).unwrap_or(990));
    if context.is_cancelled() {
        return ControlFlow::Break(());
    }
    ControlFlow::Continue(())
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
    fn inputs_are_completed_with_the_markets_defaults() {
        let request = ImageInput::parse(r#"{"prompt": "a red circle", "seed": 7}"#).unwrap();
        assert_eq!((request.steps, request.guidance), (20, 2.0));
        assert_eq!((request.width, request.sampler), (None, None));
        let request =
            ImageInput::parse(r#"{"prompt": "x", "seed": 7, "steps": 5, "sampler": "ddim"}"#)
                .unwrap();
        assert_eq!((request.steps, request.sampler), (5, Some(Sampler::Ddim)));
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
        };
        assert_eq!(report(&context, half), ControlFlow::Continue(()));
        assert_eq!(context.progress_made(), 495);
        drop(CancelOnDrop(context.clone()));
        assert_eq!(report(&context, half), ControlFlow::Break(()));
    }
}
