//! Looks at all that a miner needs, from its key to a first task, and says what to do about what is missing.

mod chain;
mod coordinators;
mod machine;
mod models;
mod report;

use std::path::PathBuf;

use clap::Args;
use cuckoo_core::{Error, Result};

use crate::cli::Host;
use crate::cli::config::Config;
use report::Report;

/// Checks keys, chain, registration, coordinators, machine and models, and runs one task of each model. Sends nothing but
/// questions: it can be used beside a running miner.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is `ok`, `note` (the miner works, but look at it) or `FAIL` with what to do about it. Ends with status 1 when
anything failed.

Examples:
  PROGRAM doctor --config miner.toml
  PROGRAM doctor --config miner.toml --skip-models")]
pub(crate) struct Arguments {
    /// The miner's settings.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Loads no model and runs no task, which may take minutes.
    #[arg(long)]
    skip_models: bool,
}

/// Looks, and prints what it finds as it finds it.
///
/// # Errors
/// `Invalid` when anything failed.
pub(crate) async fn doctor(arguments: Arguments, host: &Host) -> Result<()> {
    let config = Config::load(&arguments.config)?;
    let mut report = Report::default();
    report.good(
        "settings",
        format!(
            "{}: {} coordinators, {} models, {} slots",
            arguments.config.display(),
            config.coordinators.len(),
            config.models.len(),
            config.settings.slots
        ),
    );
    let operator = key(&config, &mut report);
    let chain = chain::check(&config, operator, &mut report).await;
    machine::check(&config, &mut report);
    let offers = if arguments.skip_models {
        Vec::new()
    } else {
        models::check(&config, host, &mut report).await
    };
    coordinators::check(&config, chain.as_ref(), &offers, &mut report).await;
    match report.failed() {
        0 => Ok(()),
        failed => Err(Error::invalid(format!(
            "{failed} of {} checks failed; each says what to do",
            report.checks()
        ))),
    }
}

/// Whether the key can be used; its address.
fn key(config: &Config, report: &mut Report) -> Option<cuckoo_core::Address> {
    match config.operator.load_key() {
        Ok(key) => {
            report.good("key", format!("operator {}", key.address()));
            Some(key.address())
        }
        Err(error) => {
            let remedy = "make one with `cuckoo-miner key new --keystore FILE`, name it in [operator], and give its password in \
                          password_file or CUCKOO_PASSWORD";
            report.bad("key", &error, remedy);
            None
        }
    }
}
