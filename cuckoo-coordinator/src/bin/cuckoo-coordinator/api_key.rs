//! Keys for requesters.

use clap::{Args, Subcommand};
use cuckoo_coordinator::{ApiKeySettings, new_api_key};
use cuckoo_core::{OsEntropy, Result};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a key and prints it, once, with what to add to the settings; those hold only its hash.
    #[command(after_help = "\
The coordinator reads its settings when it starts. Limits can stand beside the hash; the example settings list them.

Example:
  PROGRAM api-key new --name app")]
    New(NewArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// What its requester is called in logs, limits and metrics.
    #[arg(long)]
    name: String,
    /// Lets it see what concerns everybody, too: dashboard, metrics, evidence.
    #[arg(long)]
    operator: bool,
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        let Self::New(NewArgs { name, operator }) = self;
        let key = new_api_key(&OsEntropy::new()?);
        let settings = ApiKeySettings {
            key_hash: Some(key.hash()),
            operator,
            ..ApiKeySettings::named(name)
        };
        settings.validate()?;
        println!("{}", key.expose());
        println!(
            "\nThe key is shown only now. Add this to the settings and start the coordinator again:\n"
        );
        println!("[[api_keys]]\nname = \"{}\"", settings.name);
        println!("key_hash = \"{}\"", key.hash());
        if operator {
            println!("operator = true");
        }
        Ok(())
    }
}
