//! Models in the cache: listed, removed, checked.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use cuckoo_core::cli::{Asking, time_text};
use cuckoo_core::{Error, ErrorKind, Result};
use indicatif::ProgressBar;

use super::CacheArgs;
use crate::cli::table::print_table;
use crate::{CachedModel, HubModel, Verified, size_text};

/// Digits of a commit that are shown, which is enough to name it.
const SHORT: usize = 12;

/// Lists the models in the cache, those included that Hugging Face's own tools have put there.
#[derive(Debug, Args)]
#[command(after_help = "\
`image`, `text`, `embedding` and `speech` are kinds that this miner runs; a model that lacks a file is pulled on with
`models pull`.

Examples:
  PROGRAM models list
  PROGRAM models list --json --cache /data/models")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    cache: CacheArgs,
    /// As JSON, with folders and full commits.
    #[arg(long)]
    json: bool,
}

/// Removes a model from the cache, and says what room that gives.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a revision all of the model goes; with one, only what no other revision of it has.

Examples:
  PROGRAM models rm org/name
  PROGRAM models rm org/name@v1.0 --dry-run
  PROGRAM models rm org/name@0123456789ab --yes")]
pub(crate) struct RemoveArgs {
    /// org/name, or org/name@revision; the first digits of a commit will do.
    model: HubModel,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    asking: Asking,
}

/// Hashes every file of models in the cache, and says which are truncated, corrupt or missing.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads all of it, as fast as the disk does. Ends with status 1 when something is wrong, and says how to mend it.

Examples:
  PROGRAM models verify
  PROGRAM models verify org/name
  PROGRAM models verify org/name --remove-damaged && PROGRAM models pull org/name")]
pub(crate) struct VerifyArgs {
    /// org/name; all models when absent.
    model: Option<HubModel>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Removes what is truncated or corrupt, so that the next pull fetches it again.
    #[arg(long)]
    remove_damaged: bool,
}

pub(crate) fn list(arguments: &ListArgs) -> Result<()> {
    let store = arguments.cache.store();
    let models = store.list()?;
    if arguments.json {
        let json = serde_json::to_string_pretty(&models)
            .map_err(|source| Error::internal("the list has no JSON form").with_source(source))?;
        println!("{json}");
        return Ok(());
    }
    if models.is_empty() {
        println!(
            "no models in {}; `cuckoo-miner models pull org/name` brings one",
            store.folder().display()
        );
        return Ok(());
    }
    let head = ["NAME", "REVISION", "SIZE", "LAST USED", "KIND", "IN CACHE"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head)
        .chain(models.iter().map(row))
        .collect();
    print_table(&rows);
    println!("\nin {}", store.folder().display());
    Ok(())
}

fn row(model: &CachedModel) -> [String; 6] {
    let commit: String = model.commit.chars().take(SHORT).collect();
    let revision = match model.revisions.is_empty() {
        true => commit,
        false => format!("{} ({commit})", model.revisions.join(", ")),
    };
    [
        model.name.clone(),
        revision,
        size_text(model.bytes),
        model
            .used_at
            .map_or_else(|| "-".to_owned(), |at| time_text(at.as_secs())),
        model.kind.as_str().to_owned(),
        match &model.lacks {
            None => "complete".to_owned(),
            Some(file) => format!("lacks {file}"),
        },
    ]
}

pub(crate) fn remove(arguments: &RemoveArgs) -> Result<()> {
    let model = &arguments.model;
    let removal = arguments.cache.store().removal(model)?;
    println!("removes {model}");
    for commit in &removal.commits {
        println!("  commit {commit}");
    }
    for revision in &removal.revisions {
        println!("  revision {revision}");
    }
    println!("  {} become free", size_text(removal.bytes));
    if arguments.asking.agreed_or("nothing was removed")? {
        let bytes = removal.bytes;
        removal.carry_out()?;
        println!("removed; {} are free again", size_text(bytes));
    }
    Ok(())
}

pub(crate) fn verify(arguments: &VerifyArgs) -> Result<()> {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    let store = arguments.cache.store();
    let found = store.verify(arguments.model.as_ref(), |path, size| {
        bar.set_message(format!("{} ({})", path.display(), size_text(size)));
    })?;
    bar.finish_and_clear();
    report(&found);
    let removed = match arguments.remove_damaged {
        true => found.remove_damaged()?,
        false => 0,
    };
    if found.faults.is_empty() {
        return Ok(());
    }
    let mut models: Vec<&str> = found
        .faults
        .iter()
        .map(|fault| fault.model.as_str())
        .collect();
    models.dedup();
    if removed > 0 {
        println!("{removed} damaged files were removed");
    }
    let mend: Vec<String> = models
        .iter()
        .map(|model| match arguments.remove_damaged {
            true => format!("`cuckoo-miner models pull {model}`"),
            false => format!(
                "`cuckoo-miner models verify {model} --remove-damaged`, then `cuckoo-miner models pull {model}`"
            ),
        })
        .collect();
    Err(Error::new(
        ErrorKind::Unverified,
        format!(
            "{} files are not as they should be; mend with {}",
            found.faults.len(),
            mend.join(", and ")
        ),
    ))
}

fn report(found: &Verified) {
    for fault in &found.faults {
        println!("FAIL  {} {}: {}", fault.model, fault.file, fault.problem);
        println!("      {}", fault.path.display());
    }
    for path in &found.incomplete {
        println!("note  {} is not here in full yet", path.display());
    }
    for path in &found.unknown {
        println!(
            "note  {} has no hash for a name and cannot be checked",
            path.display()
        );
    }
    println!(
        "{} files are sound, {} were read",
        found.sound,
        size_text(found.bytes)
    );
}
