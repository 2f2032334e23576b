//! A miner's place on the list that juries are drawn from.

use clap::{Args, Subcommand};
use cuckoo_core::cli::{Sender, parse_node};
use cuckoo_core::{Action, NodeId, Result, format_cai};

use crate::cli::PROGRAM;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Puts a miner on the list: it earns a fee per dispute, and is slashed when it is drawn and does not vote.
    #[command(after_help = "\
Its owner or its operator sends this.

Example:
  PROGRAM juror enlist 3 --config SETTINGS --keystore owner.json")]
    Enlist(NodeArgs),
    /// Takes a miner off the list; where it was drawn it still serves.
    #[command(after_help = "\
Example:
  PROGRAM juror leave 3 --config SETTINGS --keystore owner.json")]
    Leave(NodeArgs),
    /// Sets the weight that a miner is drawn by to its present weight; anybody may.
    #[command(after_help = "\
Example:
  PROGRAM juror refresh 3 --config SETTINGS --keystore owner.json")]
    Refresh(NodeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The miner's number.
    #[arg(value_parser = parse_node)]
    node: NodeId,
    #[command(flatten)]
    sender: Sender,
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    let (NodeArgs { node, sender }, action) = match command {
        Command::Enlist(arguments) => {
            let node = arguments.node;
            (arguments, Action::Enlist { node })
        }
        Command::Leave(arguments) => {
            let node = arguments.node;
            (arguments, Action::Delist { node })
        }
        Command::Refresh(arguments) => {
            let node = arguments.node;
            (arguments, Action::RefreshJuror { node })
        }
    };
    let wallet = sender.open(&PROGRAM).await?;
    let enlisting = matches!(action, Action::Enlist { .. });
    if enlisting {
        let terms = wallet.chain.court_terms().await?;
        println!(
            "a juror earns {} CAI with a dispute",
            format_cai(terms.jury_fee)
        );
    }
    if wallet.perform(action).await?.is_some() && enlisting {
        println!("{node} may be drawn from now on; keep it running, so that it votes");
    }
    Ok(())
}
