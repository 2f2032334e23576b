//! A look at a pipeline that makes pictures.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use cuckoo_core::{B256, Clock as _, Error, Result, SystemClock};

use super::{CheckArgs, parts};
use crate::{ImageRequest, StableDiffusion};

/// Loads the folder; draws the prompt, if there is one.
pub(super) fn check(arguments: &CheckArgs) -> Result<()> {
    let model = StableDiffusion::load(&arguments.folder)?;
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
        let request = ImageRequest {
            prompt: prompt.clone(),
            negative_prompt: None,
            image: None,
            strength: None,
            width: None,
            height: None,
            steps: arguments.steps.unwrap_or_else(|| model.default_steps()),
            guidance: arguments
                .guidance
                .unwrap_or_else(|| model.default_guidance()),
            seed: arguments.seed,
            sampler: None,
        };
        draw(&model, &request, &arguments.out)?;
    }
    Ok(())
}

fn draw(model: &StableDiffusion, request: &ImageRequest, out: &Path) -> Result<()> {
    let clock = SystemClock;
    let started = clock.now();
    let image = model.generate(request, &mut |_| ControlFlow::Continue(()))?;
    let took = clock.now().since(started);
    fs::write(out, image.to_png()?).map_err(|source| {
        Error::unavailable(format!("cannot write {}", out.display())).with_source(source)
    })?;
    println!(
        "{} drawn in {:.2} s, {} steps",
        out.display(),
        took.as_secs_f64(),
        request.steps
    );
    Ok(())
}
