//! Models: from the hub to the cache, and looked at before they are offered.

mod cached;
pub(crate) mod embedding;
pub(crate) mod picture;
mod progress;
mod pull;
pub(crate) mod speech;
pub(crate) mod text;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cuckoo_core::{Error, Result};

use crate::{FolderKind, ModelStore};

pub(crate) use progress::Progress;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  PROGRAM models pull Qwen/Qwen2.5-0.5B-Instruct
  PROGRAM models check Qwen/Qwen2.5-0.5B-Instruct --prompt 'Why do cuckoos call?'
  PROGRAM models list
  PROGRAM models verify
  PROGRAM models rm Qwen/Qwen2.5-0.5B-Instruct")]
pub(crate) enum Command {
    Pull(pull::Arguments),
    List(cached::ListArgs),
    Rm(cached::RemoveArgs),
    Verify(cached::VerifyArgs),
    /// Loads a model's folder and prints what a receipt would name; with --prompt, draws a picture, writes a text or embeds it,
    /// with --audio, writes down a recording.
    #[command(after_help = "\
A folder with model_index.json is a pipeline in the layout of diffusers; one with modules.json, or whose config.json names an
encoder of the BERT family, a sentence encoder; one whose config.json names Whisper writes down recordings; any other is a
language model in the layout of Hugging Face, or in a GGUF file.

Examples:
  PROGRAM models check examples/models/shapes
  PROGRAM models check examples/models/shapes --prompt 'a large red circle' --out circle.png
  PROGRAM models check Qwen/Qwen2.5-0.5B-Instruct --prompt 'Once upon a time' --together 8
  PROGRAM models check ~/models/chat.Q4_K_M.gguf --prompt 'Once upon a time'
  PROGRAM models check ~/models/all-MiniLM-L6-v2 --prompt 'Why do cuckoos call?' --together 32
  PROGRAM models check openai/whisper-small --audio interview.wav")]
    Check(CheckArgs),
}

/// Which cache is meant.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// The cache; that of Hugging Face's tools (HF_HUB_CACHE, HF_HOME, ~/.cache/huggingface/hub) when absent.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl CacheArgs {
    /// Whether it is another one than that of the environment.
    fn is_chosen(&self) -> bool {
        self.cache.is_some()
    }

    fn store(&self) -> ModelStore {
        match &self.cache {
            Some(folder) => ModelStore::new(folder),
            None => ModelStore::from_env(),
        }
    }

    /// The folder that is meant: one on disk, or that of a model in the cache.
    pub(crate) fn locate(&self, folder: &Path) -> Result<PathBuf> {
        match folder.to_str() {
            Some(name) => self.store().locate(name),
            None => Ok(folder.to_owned()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The model's folder or its GGUF file, or the name on the hub of a model in the cache.
    folder: PathBuf,
    #[command(flatten)]
    cache: CacheArgs,
    /// Draws this, goes on from it, or embeds it, and says how long it took; with --audio, what the recording is about.
    #[arg(long)]
    prompt: Option<String>,
    /// Writes down this WAV file, and says how long it took.
    #[arg(long, value_name = "FILE")]
    audio: Option<PathBuf>,
    /// What is spoken in it, such as en; the model finds out unless given.
    #[arg(long, value_name = "CODE", requires = "audio")]
    language: Option<String>,
    /// Picks the noise that a picture starts from, and the words of a text; 1 unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the picture goes; picture.png unless given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Steps of the picture; the model's own unless given.
    #[arg(long)]
    steps: Option<usize>,
    /// How strongly the prompt pulls; the model's own unless given.
    #[arg(long)]
    guidance: Option<f64>,
    /// The most tokens of the text; 64 unless given.
    #[arg(long)]
    max_tokens: Option<u32>,
    /// So many texts at once, with seeds that count on; so many copies of one to embed; 1 unless given.
    #[arg(long)]
    together: Option<u32>,
}

impl CheckArgs {
    fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    fn together(&self) -> u32 {
        self.together.unwrap_or(1)
    }

    /// Refuses options that would do nothing with a model of `kind`.
    fn suit(&self, kind: FolderKind) -> Result<()> {
        use FolderKind::{Embedding, Image, Other, Speech, Text};
        if kind == Other {
            return Ok(());
        }
        let options: [(&str, bool, &[FolderKind]); 9] = [
            ("--audio", self.audio.is_some(), &[Speech]),
            ("--language", self.language.is_some(), &[Speech]),
            (
                "--prompt",
                self.prompt.is_some(),
                &[Image, Text, Embedding, Speech],
            ),
            ("--seed", self.seed.is_some(), &[Image, Text, Speech]),
            ("--out", self.out.is_some(), &[Image]),
            ("--steps", self.steps.is_some(), &[Image]),
            ("--guidance", self.guidance.is_some(), &[Image]),
            ("--max-tokens", self.max_tokens.is_some(), &[Text]),
            ("--together", self.together.is_some(), &[Text, Embedding]),
        ];
        let (folder, model) = (self.folder.display(), kind.phrase());
        let foreign =
            |(_, given, kinds): &&(&str, bool, &[FolderKind])| *given && !kinds.contains(&kind);
        if let Some((option, ..)) = options.iter().find(foreign) {
            let own: Vec<&str> = options
                .iter()
                .filter(|(_, _, kinds)| kinds.contains(&kind))
                .map(|(option, ..)| *option)
                .collect();
            return Err(Error::invalid(format!(
                "{folder} holds {model}, with which {option} does nothing; use {} instead",
                own.join(", ")
            )));
        }
        if kind == Speech && self.prompt.is_some() && self.audio.is_none() {
            return Err(Error::invalid(format!(
                "{folder} holds {model}, whose --prompt says what a recording is about; give it one with --audio"
            )));
        }
        Ok(())
    }
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Pull(arguments) => pull::pull(arguments).await,
        Command::List(arguments) => cached::list(&arguments),
        Command::Rm(arguments) => cached::remove(&arguments),
        Command::Verify(arguments) => cached::verify(&arguments),
        Command::Check(arguments) => check(arguments).await,
    }
}

async fn check(mut arguments: CheckArgs) -> Result<()> {
    arguments.folder = arguments.cache.locate(&arguments.folder)?;
    let kind = FolderKind::of(&arguments.folder);
    arguments.suit(kind)?;
    match kind {
        FolderKind::Image => picture::check(&arguments),
        FolderKind::Embedding => embedding::check(&arguments),
        FolderKind::Speech => speech::check(&arguments),
        FolderKind::Text | FolderKind::Other => text::check(&arguments).await,
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
            // Of what a link leads to, since a cache is made of them.
            bytes += file
                .and_then(|file| fs::metadata(file.path()))
                .map_err(unreadable)?
                .len();
        }
        Ok(bytes)
    };
    let mut parts = Vec::new();
    if folder.is_file() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        parts.push((name.into_owned(), size(folder.to_owned())?));
        return Ok(parts);
    }
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        parts.push((name, size(entry.path())?));
    }
    parts.sort();
    Ok(parts)
}
