//! A model from the hub.

use std::path::{Path, PathBuf};

use clap::Args;
use cuckoo_core::cli::{read_secret, watch_signals};
use cuckoo_core::{B256, Error, ErrorKind, Result};

use super::{CacheArgs, Progress};
use crate::{
    EmbeddingModel, FolderKind, Hub, HubModel, ImageModel, LanguageModel, PullEvent, PullOptions,
    Pulled, SpeechModel, size_text,
};

/// Pulls a model from the hub into the cache, checks every file against its hash, and prints the section for miner.toml.
#[derive(Debug, Args)]
#[command(after_help = "\
The cache is that of Hugging Face's own tools: what they have pulled is found, and they find what this pulls. Ctrl-C keeps
what has come; the same command goes on from there. Only files that miners read are pulled, unless --include chooses.

A gated model needs a token: accept its terms on its page, and set HF_TOKEN, or run `hf auth login`, or use --token-file.
HF_ENDPOINT or --endpoint names a mirror of the hub, HF_HOME or --cache another place for models.

Examples:
  PROGRAM models pull Qwen/Qwen2.5-0.5B-Instruct
  PROGRAM models pull stable-diffusion-v1-5/stable-diffusion-v1-5@main --cache /data/models
  PROGRAM models pull org/name-GGUF --include '*Q4_K_M.gguf'
  PROGRAM models pull org/gated --token-file ~/.hub-token --endpoint https://mirror.example")]
pub(crate) struct Arguments {
    /// org/name, or org/name@revision with a branch, tag or commit.
    model: HubModel,
    /// The hub's address; that of HF_ENDPOINT, or https://huggingface.co, when absent.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Pulls the files that match, in the place of those that miners read; may be given again.
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    #[command(flatten)]
    cache: CacheArgs,
    /// A file with a token of the hub; without it HF_TOKEN, or the token of `hf auth login`, unless --endpoint is given.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Files fetched at once.
    #[arg(long, value_name = "NUMBER", default_value_t = PullOptions::default().at_once)]
    at_once: usize,
}

pub(crate) async fn pull(arguments: Arguments) -> Result<()> {
    let hub = hub(&arguments)?;
    // Settings name neither files nor caches, so what was chosen by hand is offered as a folder.
    let chosen = !arguments.include.is_empty() || arguments.cache.is_chosen();
    let options = PullOptions {
        include: arguments.include,
        at_once: arguments.at_once,
        ..PullOptions::default()
    };
    let stop = watch_signals()?;
    let progress = Progress::shown();
    let watch = |event: PullEvent<'_>| progress.watch(event);
    let pulled = arguments
        .cache
        .store()
        .pull(&hub, &arguments.model, &options, &watch, &stop)
        .await;
    let (here, all) = progress.end();
    let pulled = match pulled {
        Err(error) if error.kind() == ErrorKind::Cancelled => {
            return Err(Error::cancelled(format!(
                "stopped; {} of {} are here and kept: the same command goes on from there",
                size_text(here),
                size_text(all)
            )));
        }
        pulled => pulled?,
    };
    tokio::task::spawn_blocking(move || print(&pulled, chosen))
        .await
        .map_err(|join| Error::internal("the model's folder broke its reader").with_source(join))
}

fn hub(arguments: &Arguments) -> Result<Hub> {
    let hub = match &arguments.endpoint {
        Some(endpoint) => Hub::new(endpoint)?,
        None => Hub::from_env()?,
    };
    match &arguments.token_file {
        Some(file) => hub.with_token(&read_secret(file)?),
        // A token of the environment is for the hub of the environment, and goes nowhere else unasked.
        None if arguments.endpoint.is_some() => Ok(hub),
        None => hub.with_token_from_env(),
    }
}

/// What was pulled, and how it is offered.
fn print(pulled: &Pulled, chosen: bool) {
    let kind = FolderKind::of(&pulled.folder);
    println!("model    {}", pulled.model.name());
    println!("commit   {}", pulled.model.revision());
    println!(
        "files    {}, {} ({} over the network)",
        pulled.files,
        size_text(pulled.bytes),
        size_text(pulled.fetched)
    );
    println!("folder   {}", pulled.folder.display());
    println!("kind     {}", kind.as_str());
    match hash(kind, &pulled.folder) {
        Some(Ok(hash)) => println!("hash     {hash}"),
        Some(Err(error)) => println!("hash     not known, since it cannot be loaded here: {error}"),
        None => {
            println!(
                "\nNo executor of this miner runs it; one of your own finds it in the folder."
            );
            return;
        }
    }
    println!(
        "\nTo offer it, add to miner.toml:\n\n{}",
        section(pulled, kind, chosen)
    );
}

/// The hash that receipts will name; `None` for what no executor loads.
fn hash(kind: FolderKind, folder: &Path) -> Option<Result<B256>> {
    let hash = match kind {
        FolderKind::Image => ImageModel::load(folder).map(|model| model.model_hash()),
        FolderKind::Text => LanguageModel::load(folder).map(|model| model.model_hash()),
        FolderKind::Embedding => EmbeddingModel::load(folder).map(|model| model.model_hash()),
        FolderKind::Speech => SpeechModel::load(folder).map(|model| model.model_hash()),
        FolderKind::Other => return None,
    };
    Some(hash.map(B256::from))
}

fn section(pulled: &Pulled, kind: FolderKind, chosen: bool) -> String {
    let model = &pulled.model;
    let (_, name) = model.name().rsplit_once('/').unwrap_or(("", model.name()));
    let place = match chosen {
        true => format!("folder = '{}'", pulled.folder.display()),
        false => format!("hub = \"{model}\""),
    };
    format!(
        "[[models]]\nname = \"{}\"\n{place}\nkind = \"{}\"\nmin_price = \"0\"",
        name.to_ascii_lowercase(),
        kind.as_str()
    )
}
