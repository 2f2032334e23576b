//! Looking after the store, also while a coordinator runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cuckoo_coordinator::{SqliteStore, StoreSettings};
use cuckoo_core::{Error, Result};

use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Counts what is in it, as JSON.
    Stats(At),
    /// Reads all of it and looks for damage; fails when there is some.
    Check(At),
    /// Copies the database as of now into a new file.
    #[command(after_help = "\
Large outputs are not in the copy: copy their folder after it. To go back, stop the coordinator, put the copy in the
place of the database, and delete what else has its name (-wal, -shm).

Example:
  PROGRAM store backup --config coordinator.toml coordinator-$(date +%F).db")]
    Backup {
        #[command(flatten)]
        at: At,
        /// Where to.
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct At {
    /// The coordinator's settings.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl At {
    fn settings(&self) -> Result<StoreSettings> {
        Ok(Config::load(&self.config)?.store)
    }
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Stats(at) => {
            let stats = SqliteStore::stats(&at.settings()?).await?;
            let text = serde_json::to_string_pretty(&stats)
                .map_err(|source| Error::internal("the counts are not JSON").with_source(source))?;
            println!("{text}");
            Ok(())
        }
        Command::Check(at) => {
            let settings = at.settings()?;
            let wrong = SqliteStore::check(&settings).await?;
            for line in &wrong {
                println!("{line}");
            }
            if wrong.is_empty() {
                println!("{} is whole", settings.path.display());
                return Ok(());
            }
            Err(Error::internal(format!(
                "{} is damaged: stop the coordinator and go back to a backup",
                settings.path.display()
            )))
        }
        Command::Backup { at, to } => SqliteStore::backup(&at.settings()?, &to).await,
    }
}
