//! Model folders, looked at before they are offered.

mod embedding;
mod picture;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cuckoo_core::{
    Assignment, B256, Clock as _, Error, LeaseId, ModelId, NodeId, Result, SystemClock, TaskId,
    Wei, payload_hash,
};

use crate::EmbeddingModel;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Loads a model's folder and prints what a receipt would name; with --prompt, draws a picture, writes a text or embeds it.
    #[command(after_help = "\
A folder with model_index.json is a pipeline in the layout of diffusers; one with modules.json, or whose config.json names an
encoder of the BERT family, a sentence encoder; any other a language model in the layout of Hugging Face.

Examples:
  PROGRAM models check examples/models/shapes
  PROGRAM models check examples/models/shapes --prompt 'a large red circle' --out circle.png
  PROGRAM models check ~/models/chat --prompt 'Once upon a time' --together 8
  PROGRAM models check ~/models/all-MiniLM-L6-v2 --prompt 'Why do cuckoos call?' --together 32")]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The model's folder.
    folder: PathBuf,
    /// Draws this, goes on from it, or embeds it, and says how long it took.
    #[arg(long)]
    prompt: Option<String>,
    /// Picks the noise that a picture starts from, and the words of a text.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the picture goes.
    #[arg(long, value_name = "FILE", default_value = "picture.png")]
    out: PathBuf,
    /// Steps of the picture.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// How strongly the prompt pulls.
    #[arg(long, default_value_t = 2.0)]
    guidance: f64,
    /// The most tokens of the text.
    #[arg(long, default_value_t = 64)]
    max_tokens: u32,
    /// So many texts at once, with seeds that count on; so many copies of one to embed.
    #[arg(long, default_value_t = 1)]
    together: u32,
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    let Command::Check(arguments) = command;
    if arguments.folder.join("model_index.json").is_file() {
        picture::check(&arguments)
    } else if EmbeddingModel::recognises(&arguments.folder) {
        embedding::check(&arguments)
    } else {
        text::check(&arguments).await
    }
}

/// The files and sub-folders of a folder and their sizes, by name.
fn parts(folder: &Path) -> Result<Vec<(String, u64)>> {
    let unreadable =
        |source| Error::not_found(format!("cannot list {}", folder.display())).with_source(source);
    let size = |path: PathBuf| -> Result<u64> {
        if path.is_file() {
            return Ok(fs::metadata(path).map_err(unreadable)?.len());
        }
        let mut bytes = 0;
        for file in fs::read_dir(path).map_err(unreadable)? {
            bytes += file
                .and_then(|file| file.metadata())
                .map_err(unreadable)?
                .len();
        }
        Ok(bytes)
    };
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        parts.push((name, size(entry.path())?));
    }
    parts.sort();
    Ok(parts)
}

/// A task that nobody gave, to try a model with.
pub(crate) fn trial(model: ModelId, input: String) -> Assignment {
    let now = SystemClock.now();
    Assignment {
        lease: LeaseId::from(B256::ZERO),
        task: TaskId::from(B256::ZERO),
        coordinator: NodeId(0),
        model,
        model_hash: B256::ZERO,
        input_hash: payload_hash(input.as_bytes()),
        input,
        price: Wei::ZERO,
        lease_expires_at: now,
        heartbeat_millis: 0,
        deadline: now,
    }
}
