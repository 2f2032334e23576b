//! What an account has at a market.

use clap::Args;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Keystore, MarketArgs, Program, parse_number, time_text};
use crate::amount::format_cai;
use crate::{Address, Error, NodeId, Result, U256};

/// Nodes asked about at once.
pub(super) const AT_ONCE: usize = 16;

/// Shows what an account has: CAI, free stake, its votes, what they earned, its nodes, and tickets.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  PROGRAM account 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266 --config SETTINGS
  PROGRAM account --keystore staker.json --ticket 7 --rpc http://127.0.0.1:8545 --deployment deployment.toml")]
pub struct AccountArgs {
    /// Whose; that of --keystore when absent.
    address: Option<Address>,
    #[command(flatten)]
    keystore: Option<Keystore>,
    /// A ticket to look at too, as `unvote` printed it; may be given again.
    #[arg(long = "ticket", value_name = "NUMBER", value_parser = parse_number)]
    tickets: Vec<U256>,
    #[command(flatten)]
    market: MarketArgs,
}

impl AccountArgs {
    /// Reads and prints.
    ///
    /// # Errors
    /// `Invalid` when no account is named, else as [`Keystore::load`] and [`MarketArgs::connect`].
    pub async fn run(self, program: &Program) -> Result<()> {
        let account = match (self.address, &self.keystore) {
            (Some(address), _) => address,
            (None, Some(keystore)) => keystore.load()?.address(),
            (None, None) => {
                return Err(Error::invalid(
                    "whose account? Give an address or --keystore",
                ));
            }
        };
        let chain = self.market.connect(program).await?;
        let chain = chain.as_ref();
        println!("account {account}");
        println!("balance {} CAI", format_cai(chain.balance(account).await?));
        println!(
            "free stake {} CAI",
            format_cai(chain.free_stake(account).await?)
        );
        let snapshot = chain.snapshot().await?;
        let read = async |id: NodeId| {
            let vote = chain.vote_of(id, account).await?;
            Ok::<_, Error>((id, vote, chain.claimable(id, account).await?))
        };
        let rows: Vec<_> = stream::iter(snapshot.nodes.iter().map(|node| read(node.id)))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (id, vote, claimable) in rows {
            if !vote.shares.is_zero() || !claimable.is_zero() {
                println!(
                    "vote for {id}: {} CAI, claimable {} CAI",
                    format_cai(vote.amount),
                    format_cai(claimable)
                );
            }
        }
        for node in snapshot.nodes.iter().filter(|node| node.owner == account) {
            let active = if node.active { "active" } else { "not active" };
            println!("owns {} `{}`, {active}", node.id, node.profile.name);
        }
        for number in self.tickets {
            let ticket = chain.ticket(number).await?;
            println!(
                "ticket {number} of {}: {} CAI from {}, unlocks at {}",
                ticket.staker,
                format_cai(ticket.amount),
                ticket.node,
                time_text(ticket.unlocks_at)
            );
        }
        Ok(())
    }
}
