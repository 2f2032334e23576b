//! Registration of this miner.

use clap::Args;
use cuckoo_core::cli::RegisterArgs;
use cuckoo_core::{NodeKind, Result, Wei};

use crate::cli::PROGRAM;

/// Registers this miner: shows what is missing and what it costs, asks, and sends the transactions. Safe to repeat: what
/// was done stays done.
#[derive(Debug, Args)]
#[command(after_help = "\
The owner pays and stays offline afterwards; the operator's key, named in the settings, is the one that signs all day.

Examples:
  PROGRAM register --config SETTINGS --owner owner.json --name gpu-1
  PROGRAM register --config SETTINGS --owner owner.json --name gpu-1 --stake 50000 --commission 10 --yes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: RegisterArgs,
}

pub(crate) async fn register(arguments: Arguments) -> Result<()> {
    arguments
        .node
        .run(&PROGRAM, NodeKind::Miner, String::new(), Wei::ZERO)
        .await
}
