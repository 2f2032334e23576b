//! Draws every prompt of the shapes model's grammar with the Rust executor, for `score.py` to judge.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Parser;
use cuckoo_core::{Error, Result};
use cuckoo_miner::{ImageModel, ImageRequest};
use indicatif::ProgressBar;
use serde_json::json;

/// Draws the full grid of prompts and writes the pictures with a manifest that `score.py` reads.
#[derive(Parser)]
#[command(name = "render-grid")]
struct Arguments {
    /// Folder of the model, in the layout of diffusers.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/models/shapes"))]
    model: PathBuf,
    /// Where the pictures go.
    #[arg(long, default_value = "target/grid")]
    out: PathBuf,
    /// Seeds for each prompt.
    #[arg(long, default_value_t = 4)]
    seeds: u64,
    /// Steps of the sampler.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Classifier-free guidance.
    #[arg(long, default_value_t = 2.0)]
    guidance: f64,
}

fn main() {
    if let Err(error) = run(Arguments::parse()) {
        eprintln!("render-grid: {error}");
        std::process::exit(1);
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let pipeline = ImageModel::load(&arguments.model)?;
    std::fs::create_dir_all(&arguments.out).map_err(unwritable)?;
    let prompts = cuckoo_examples::grid();
    let bar = ProgressBar::new(prompts.len() as u64 * arguments.seeds);
    let mut manifest = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        for seed in 0..arguments.seeds {
            let request = ImageRequest {
                prompt: prompt.clone(),
                negative_prompt: None,
                image: None,
                strength: None,
                width: None,
                height: None,
                steps: arguments.steps,
                guidance: arguments.guidance,
                seed,
                sampler: None,
            };
            let picture = pipeline.generate(&request, &mut |_| ControlFlow::Continue(()))?;
            let file = format!("{index:03}-{seed}.png");
            std::fs::write(arguments.out.join(&file), picture.to_png()?).map_err(unwritable)?;
            manifest.push(json!({ "file": file, "prompt": prompt, "seed": seed }));
            bar.inc(1);
        }
    }
    bar.finish();
    let manifest = serde_json::Value::Array(manifest).to_string();
    std::fs::write(arguments.out.join("manifest.json"), manifest).map_err(unwritable)
}

fn unwritable(source: std::io::Error) -> Error {
    Error::unavailable("cannot write the pictures; choose another folder with --out")
        .with_source(source)
}
