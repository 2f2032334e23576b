//! A look at a pipeline that makes pictures.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use cuckoo_core::{B256, Clock as _, Error, Result, SystemClock};

use super::{CheckArgs, parts};
use crate::{Image, ImageModel, ImageRequest};

/// Loads the folder; draws the prompt, if there is one.
pub(super) fn check(arguments: &CheckArgs) -> Result<()> {
    let model = ImageModel::load(&arguments.folder)?;
    let (width, height) = model.default_size();
    println!("hash     {}", B256::from(model.model_hash()));
    println!("kernels  {}", model.kernels());
    println!(
        "pictures {width} x {height}, sides in multiples of {}",
        model.size_multiple()
    );
    for (part, bytes) in parts(&arguments.folder)? {
        println!("{part:<16} {bytes:>12} bytes");
    }
    if let Some(prompt) = &arguments.prompt {
        let mut request = request(&model, prompt, arguments.seed());
        request.steps = arguments.steps.unwrap_or(request.steps);
        request.guidance = arguments.guidance.unwrap_or(request.guidance);
        let drawn = draw(&model, &request)?;
        let out = arguments.out.as_deref().unwrap_or(Path::new("picture.png"));
        fs::write(out, drawn.image.to_png()?).map_err(|source| {
            Error::unavailable(format!("cannot write {}", out.display())).with_source(source)
        })?;
        println!(
            "{} drawn in {:.2} s, {} steps",
            out.display(),
            drawn.took.as_secs_f64(),
            request.steps
        );
    }
    Ok(())
}

/// A picture of `prompt`, in all else as the model has it.
pub(crate) fn request(model: &ImageModel, prompt: &str, seed: u64) -> ImageRequest {
    ImageRequest {
        prompt: prompt.to_owned(),
        negative_prompt: None,
        image: None,
        strength: None,
        width: None,
        height: None,
        steps: model.default_steps(),
        guidance: model.default_guidance(),
        seed,
        sampler: None,
    }
}

/// A picture and how long it took.
pub(crate) struct Drawn {
    image: Image,
    pub(crate) took: Duration,
    /// How long so many of its steps took: all but the first, which comes after the prompt, unless there is no other.
    pub(crate) steps_took: Duration,
    pub(crate) timed_steps: usize,
}

pub(crate) fn draw(model: &ImageModel, request: &ImageRequest) -> Result<Drawn> {
    let clock = SystemClock;
    let started = clock.now();
    let (mut from, mut to) = (0, 0);
    let (mut began, mut ended) = (started, started);
    let image = model.generate(request, &mut |done| {
        ended = clock.now();
        to = done.step;
        if done.step < 2 && done.step < done.steps {
            (from, began) = (done.step, ended);
        }
        ControlFlow::Continue(())
    })?;
    Ok(Drawn {
        image,
        took: clock.now().since(started),
        steps_took: ended.since(began),
        timed_steps: to - from,
    })
}
