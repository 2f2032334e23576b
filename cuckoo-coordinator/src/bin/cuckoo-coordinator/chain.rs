//! The contracts: put on a chain, looked at.

use clap::{Args, Subcommand};
use cuckoo_core::cli::{MarketArgs, span_text};
use cuckoo_core::{NodeKind, Result, StakingContract, format_cai};

use crate::PROGRAM;
use crate::deploy;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Deploys a market's contracts, paid for by the key, and writes where they are.
    Deploy(deploy::Arguments),
    /// Prints the contracts, what they hold, the nodes and the coordinators' escrows.
    Status(StatusArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  PROGRAM chain status --config SETTINGS
  PROGRAM chain status --rpc http://127.0.0.1:8545 --deployment deployment.toml")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    market: MarketArgs,
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Deploy(arguments) => deploy::deploy(arguments).await,
        Command::Status(arguments) => {
            let chain = arguments.market.connect(&PROGRAM).await?;
            contracts(chain.as_ref()).await?;
            nodes(chain.as_ref()).await
        }
    }
}

async fn contracts(chain: &dyn StakingContract) -> Result<()> {
    let contracts = chain.contracts();
    let market = contracts.market;
    println!(
        "chain {}: Staking {}, Payments {}",
        market.chain_id, market.staking, market.payments
    );
    println!(
        "least vote of an owner: {} CAI for a miner, {} CAI for a coordinator; unbonding takes {}",
        format_cai(chain.minimum_vote(NodeKind::Miner).await?),
        format_cai(chain.minimum_vote(NodeKind::Coordinator).await?),
        span_text(chain.unbonding_seconds().await?)
    );
    let rewards = chain.rewards().await?;
    println!(
        "rewards: {} CAI an epoch, from a budget of {} CAI",
        format_cai(rewards.per_epoch),
        format_cai(rewards.amount)
    );
    if let Some(court) = contracts.court {
        let terms = chain.court_terms().await?;
        println!(
            "court {court}: bond {} CAI, a convicted miner loses {} CAI, a juror earns {} CAI",
            format_cai(terms.bond),
            format_cai(terms.penalty),
            format_cai(terms.jury_fee)
        );
    }
    for (name, address) in [
        ("equivocation verifier", contracts.equivocation),
        ("unpaid voucher verifier", contracts.unpaid_voucher),
        ("timelock", contracts.timelock),
    ] {
        if let Some(address) = address {
            println!("{name} {address}");
        }
    }
    if let Some(faucet) = contracts.faucet {
        let balance = chain.balance(faucet).await?;
        println!("faucet {faucet} holds {} CAI", format_cai(balance));
    }
    Ok(())
}

async fn nodes(chain: &dyn StakingContract) -> Result<()> {
    let snapshot = chain.snapshot().await?;
    println!(
        "block {}, epoch {}, {} nodes",
        snapshot.block,
        snapshot.epoch,
        snapshot.nodes.len()
    );
    for node in &snapshot.nodes {
        let kind = match node.kind {
            NodeKind::Miner => "miner",
            NodeKind::Coordinator => "coordinator",
        };
        let active = if node.active { "active" } else { "not active" };
        print!(
            "{} {kind} `{}` operator {} weight {} CAI, {active}",
            node.id,
            node.profile.name,
            node.operator,
            format_cai(node.weight)
        );
        if node.kind == NodeKind::Coordinator {
            let escrow = chain.escrow(node.id).await?;
            print!(
                ", escrow {} CAI of which {} are leaving",
                format_cai(escrow.amount),
                format_cai(escrow.leaving)
            );
        }
        println!();
    }
    Ok(())
}
