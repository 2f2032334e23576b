//! Draws every prompt of the shapes model's grammar with the Rust executor, for `score.py` to judge.

use std::path::PathBuf;

use clap::Parser;
use cuckoo_core::{Error, Result};

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
    steps: u32,
    /// Classifier-free guidance.
    #[arg(long, default_value_t = 2.0)]
    guidance: f32,
}

fn main() {
    if let Err(error) = run(Arguments::parse()) {
        eprintln!("render-grid: {error}");
        std::process::exit(1);
    }
}

fn run(_arguments: Arguments) -> Result<()> {
    Err(Error::unavailable("not yet"))
}
