//! Model folders, looked at before they are offered.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cuckoo_core::{B256, Clock as _, Error, Result, SystemClock};
use cuckoo_miner::{ImageRequest, StableDiffusion};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Loads a folder in the layout of diffusers and prints what a receipt would name; with --prompt, draws a picture.
    #[command(after_help = "\
Examples:
  cuckoo-miner models check examples/models/shapes
  cuckoo-miner models check examples/models/shapes --prompt 'a large red circle' --out circle.png")]
    Check {
        /// The folder that holds model_index.json.
        folder: PathBuf,
        /// Draws this, and says how long it took.
        #[arg(long)]
        prompt: Option<String>,
        /// Where the picture goes.
        #[arg(long, value_name = "FILE", default_value = "picture.png")]
        out: PathBuf,
        /// Steps of the picture.
        #[arg(long, default_value_t = 20)]
        steps: usize,
        /// How strongly the prompt pulls.
        #[arg(long, default_value_t = 2.0)]
        guidance: f64,
        /// Picks the noise the picture starts from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

pub(crate) fn execute(command: Command) -> Result<()> {
    let Command::Check {
        folder,
        prompt,
        out,
        steps,
        guidance,
        seed,
    } = command;
    let model = StableDiffusion::load(&folder)?;
    let (width, height) = model.default_size();
    println!("hash     {}", B256::from(model.model_hash()));
    println!("kernels  {}", model.kernels());
    println!(
        "pictures {width} x {height}, sides in multiples of {}",
        model.size_multiple()
    );
    for (part, bytes) in parts(&folder)? {
        println!("{part:<16} {bytes:>12} bytes");
    }
    if let Some(prompt) = prompt {
        let request = ImageRequest {
            prompt,
            negative_prompt: None,
            width: None,
            height: None,
            steps,
            guidance,
            seed,
            sampler: None,
        };
        draw(&model, &request, &out)?;
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

/// The sub-folders and the sizes of the files in them, by name.
fn parts(folder: &Path) -> Result<Vec<(String, u64)>> {
    let unreadable =
        |source| Error::not_found(format!("cannot list {}", folder.display())).with_source(source);
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.path().is_dir() {
            continue;
        }
        let mut bytes = 0;
        for file in fs::read_dir(entry.path()).map_err(unreadable)? {
            bytes += file
                .and_then(|file| file.metadata())
                .map_err(unreadable)?
                .len();
        }
        parts.push((entry.file_name().to_string_lossy().into_owned(), bytes));
    }
    parts.sort();
    Ok(parts)
}
