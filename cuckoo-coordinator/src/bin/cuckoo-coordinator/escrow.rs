//! A coordinator's escrow: what its miners are paid from.

use clap::{Args, Subcommand};
use cuckoo_core::cli::{Sender, Wallet, parse_node, time_text};
use cuckoo_core::{Action, NodeId, Result, Wei, format_cai, parse_cai};

use crate::PROGRAM;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adds CAI to the escrow; anybody may.
    #[command(after_help = "\
Example, 500 CAI for coordinator 1:
  PROGRAM escrow deposit 1 500 --config SETTINGS --keystore owner.json")]
    Deposit(AmountArgs),
    /// Announces that a part will leave; until the delay is over it still pays vouchers. Only the owner.
    #[command(after_help = "\
A later request replaces an earlier one.

Example:
  PROGRAM escrow request 1 200 --config SETTINGS --keystore owner.json")]
    Request(AmountArgs),
    /// After the delay, pays what was announced to the owner.
    #[command(after_help = "\
Example:
  PROGRAM escrow withdraw 1 --config SETTINGS --keystore owner.json")]
    Withdraw(NodeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AmountArgs {
    /// The coordinator's number.
    #[arg(value_parser = parse_node)]
    coordinator: NodeId,
    /// How much.
    #[arg(value_name = "CAI", value_parser = parse_cai)]
    amount: Wei,
    #[command(flatten)]
    sender: Sender,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The coordinator's number.
    #[arg(value_parser = parse_node)]
    coordinator: NodeId,
    #[command(flatten)]
    sender: Sender,
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    let (coordinator, sender, action) = match command {
        Command::Deposit(arguments) => {
            let AmountArgs {
                coordinator,
                amount,
                sender,
            } = arguments;
            let action = Action::DepositEscrow {
                coordinator,
                amount,
            };
            (coordinator, sender, action)
        }
        Command::Request(arguments) => {
            let AmountArgs {
                coordinator,
                amount,
                sender,
            } = arguments;
            let action = Action::RequestEscrow {
                coordinator,
                amount,
            };
            (coordinator, sender, action)
        }
        Command::Withdraw(arguments) => {
            let NodeArgs {
                coordinator,
                sender,
            } = arguments;
            (coordinator, sender, Action::WithdrawEscrow { coordinator })
        }
    };
    let wallet = sender.open(&PROGRAM).await?;
    show(&wallet, coordinator).await?;
    if let Some(done) = wallet.perform(action).await? {
        if !done.value.is_zero() {
            println!("{} CAI were paid out", format_cai(done.value));
        }
        show(&wallet, coordinator).await?;
    }
    Ok(())
}

async fn show(wallet: &Wallet, coordinator: NodeId) -> Result<()> {
    let escrow = wallet.chain.escrow(coordinator).await?;
    print!(
        "the escrow of {coordinator} holds {} CAI",
        format_cai(escrow.amount)
    );
    if escrow.leaving.is_zero() {
        println!();
    } else {
        println!(
            ", of which {} CAI may leave from {}",
            format_cai(escrow.leaving),
            time_text(escrow.unlocks_at)
        );
    }
    Ok(())
}
