//! CAI of a test network, for the asking.

use clap::{Args, Subcommand};

use super::{Program, Sender};
use crate::amount::format_cai;
use crate::{Action, Address, Result};

/// Asks the faucet of a test network.
#[derive(Debug, Subcommand)]
pub enum FaucetCommand {
    /// Has the faucet give CAI to an account; whoever asks pays the gas and waits like the receiver for the next time.
    #[command(after_help = "\
Example, for an account that holds nothing yet:
  PROGRAM faucet drip 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --config SETTINGS --keystore friend.json")]
    Drip(DripArgs),
}

/// Who gets it.
#[derive(Debug, Args)]
pub struct DripArgs {
    /// Who gets it; the sender when absent.
    to: Option<Address>,
    #[command(flatten)]
    sender: Sender,
}

impl FaucetCommand {
    /// Does it.
    ///
    /// # Errors
    /// As [`Wallet`](super::Wallet)'s; `Invalid` when the market has no faucet.
    pub async fn run(self, program: &Program) -> Result<()> {
        let Self::Drip(arguments) = self;
        let wallet = arguments.sender.open(program).await?;
        let to = arguments.to.unwrap_or(wallet.account());
        if wallet.perform(Action::Drip { to }).await?.is_some() {
            println!(
                "{to} holds {} CAI now",
                format_cai(wallet.chain.balance(to).await?)
            );
        }
        Ok(())
    }
}
