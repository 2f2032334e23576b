//! Registration of this coordinator.

use clap::Args;
use cuckoo_core::cli::RegisterArgs;
use cuckoo_core::{NodeKind, Result, Wei, parse_cai};

use crate::PROGRAM;

/// Registers this coordinator: shows what is missing and what it costs, asks, and sends the transactions. Safe to repeat:
/// what was done stays done.
#[derive(Debug, Args)]
#[command(after_help = "\
The owner pays and stays offline afterwards; the operator's key, named in the settings, is the one that signs all day.

Example:
  PROGRAM register --config SETTINGS --owner owner.json --name demo --escrow 1000")]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: RegisterArgs,
    /// Where miners reach it, such as https://coordinator.example.org.
    #[arg(long, value_name = "URL", default_value = "")]
    endpoint: String,
    /// From which miners are paid.
    #[arg(long, value_name = "CAI", value_parser = parse_cai, default_value = "0")]
    escrow: Wei,
}

pub(crate) async fn register(arguments: Arguments) -> Result<()> {
    let Arguments {
        node,
        endpoint,
        escrow,
    } = arguments;
    node.run(&PROGRAM, NodeKind::Coordinator, endpoint, escrow)
        .await
}
