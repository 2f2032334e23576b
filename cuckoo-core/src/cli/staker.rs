//! The way of stake: in, voted, earning, and out again.

use clap::{Args, Subcommand};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::account::AT_ONCE;
use super::amounts::Part;
use super::{Program, Sender, Wallet, parse_node, parse_number, span_text, time_text};
use crate::amount::{Wei, format_cai, parse_cai};
use crate::{Action, Error, NodeId, Result, U256};

/// The most nodes that one transaction is for.
const MOST_NODES: usize = 100;

/// Commands of stakers.
#[derive(Debug, Subcommand)]
pub enum StakerCommand {
    /// Puts CAI into the account's free stake, to vote with.
    #[command(after_help = "\
Free stake is not at risk and can be withdrawn at any time; only what is voted for a node can be slashed.

Example:
  PROGRAM stake 1000 --config SETTINGS --keystore staker.json")]
    Stake(AmountArgs),
    /// Votes free stake for a node: it counts from the next epoch, earns rewards, and can be slashed.
    #[command(after_help = "\
Example, 500 CAI for node 3:
  PROGRAM vote 3 500 --rpc http://127.0.0.1:8545 --deployment deployment.toml --keystore staker.json")]
    Vote(VoteArgs),
    /// Takes a vote back, in part or all of it; gives a ticket, which can be released after the unbonding period.
    #[command(after_help = "\
Until it is released, the stake can still be slashed for what the node did.

Examples:
  PROGRAM unvote 3 250.5 --config SETTINGS --keystore staker.json
  PROGRAM unvote 3 all --config SETTINGS --keystore staker.json")]
    Unvote(UnvoteArgs),
    /// Turns the ticket of an unvote into free stake, once it is unlocked.
    #[command(after_help = "\
Example:
  PROGRAM release 7 --config SETTINGS --keystore staker.json")]
    Release(TicketArgs),
    /// Pays free stake out to the account.
    #[command(after_help = "\
Example:
  PROGRAM withdraw 1000 --config SETTINGS --keystore staker.json")]
    Withdraw(AmountArgs),
    /// Pays out what votes earned, an owner's commission included.
    #[command(after_help = "\
Examples, for two nodes, and for all that owe something:
  PROGRAM claim 3 5 --config SETTINGS --keystore staker.json
  PROGRAM claim --config SETTINGS --keystore staker.json")]
    Claim(NodesArgs),
    /// Brings rewards up to date with votes: counts what was voted in earlier epochs, and pays out what nodes earned.
    #[command(after_help = "\
Votes earn from the first time that anybody sends this in an epoch after theirs. What a node has earned when it is sent is
paid out, to all who vote for it, over the time of an epoch.

Examples, for two nodes, and for all:
  PROGRAM sync 3 5 --config SETTINGS --keystore staker.json
  PROGRAM sync --config SETTINGS --keystore staker.json")]
    Sync(NodesArgs),
}

/// An amount, and who sends.
#[derive(Debug, Args)]
pub struct AmountArgs {
    /// How much.
    #[arg(value_name = "CAI", value_parser = parse_cai)]
    amount: Wei,
    #[command(flatten)]
    sender: Sender,
}

/// A vote.
#[derive(Debug, Args)]
pub struct VoteArgs {
    /// The node's number.
    #[arg(value_parser = parse_node)]
    node: NodeId,
    /// How much.
    #[arg(value_name = "CAI", value_parser = parse_cai)]
    amount: Wei,
    #[command(flatten)]
    sender: Sender,
}

/// A part of a vote.
#[derive(Debug, Args)]
pub struct UnvoteArgs {
    /// The node's number.
    #[arg(value_parser = parse_node)]
    node: NodeId,
    /// How much in CAI, or `all`.
    #[arg(value_name = "CAI|all")]
    part: String,
    #[command(flatten)]
    sender: Sender,
}

/// A ticket.
#[derive(Debug, Args)]
pub struct TicketArgs {
    /// The number that `unvote` printed.
    #[arg(value_parser = parse_number)]
    ticket: U256,
    #[command(flatten)]
    sender: Sender,
}

/// Nodes.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// The nodes' numbers; all that it concerns when absent.
    #[arg(value_name = "NODE", value_parser = parse_node)]
    nodes: Vec<NodeId>,
    #[command(flatten)]
    sender: Sender,
}

impl StakerCommand {
    /// Does it.
    ///
    /// # Errors
    /// As [`Wallet`]'s.
    pub async fn run(self, program: &Program) -> Result<()> {
        match self {
            Self::Stake(arguments) => {
                let wallet = arguments.sender.open(program).await?;
                let amount = arguments.amount;
                if wallet.perform(Action::Stake { amount }).await?.is_some() {
                    free_stake(&wallet).await?;
                }
            }
            Self::Vote(arguments) => {
                let wallet = arguments.sender.open(program).await?;
                let VoteArgs { node, amount, .. } = arguments;
                let vote = Action::Vote { node, amount };
                if wallet.perform(vote).await?.is_some() {
                    let vote = wallet.chain.vote_of(node, wallet.account()).await?;
                    println!(
                        "the account's vote for {node} is worth {} CAI; what is new in it counts from the next epoch, and earns once somebody sends `sync` then",
                        format_cai(vote.amount)
                    );
                }
            }
            Self::Unvote(arguments) => unvote(arguments, program).await?,
            Self::Release(arguments) => release(arguments, program).await?,
            Self::Withdraw(arguments) => {
                let wallet = arguments.sender.open(program).await?;
                let amount = arguments.amount;
                if wallet.perform(Action::Withdraw { amount }).await?.is_some() {
                    free_stake(&wallet).await?;
                }
            }
            Self::Claim(arguments) => claim(arguments, program).await?,
            Self::Sync(arguments) => sync(arguments, program).await?,
        }
        Ok(())
    }
}

async fn free_stake(wallet: &Wallet) -> Result<()> {
    let free = wallet.chain.free_stake(wallet.account()).await?;
    println!("the account's free stake is {} CAI", format_cai(free));
    Ok(())
}

async fn unvote(arguments: UnvoteArgs, program: &Program) -> Result<()> {
    let UnvoteArgs { node, part, sender } = arguments;
    let part: Part = part.parse()?;
    let wallet = sender.open(program).await?;
    let vote = wallet.chain.vote_of(node, wallet.account()).await?;
    let shares = part.shares(vote, node)?;
    println!(
        "the account's vote for {node} is worth {} CAI; what leaves it can be released after {}",
        format_cai(vote.amount),
        span_text(wallet.chain.unbonding_seconds().await?)
    );
    if let Some(done) = wallet.perform(Action::Unvote { node, shares }).await? {
        let ticket = wallet.chain.ticket(done.value).await?;
        println!(
            "ticket {}, worth {} CAI now, unlocks at {}; then: release {}",
            done.value,
            format_cai(ticket.amount),
            time_text(ticket.unlocks_at),
            done.value
        );
    }
    Ok(())
}

async fn release(arguments: TicketArgs, program: &Program) -> Result<()> {
    let wallet = arguments.sender.open(program).await?;
    let ticket = wallet.chain.ticket(arguments.ticket).await?;
    println!(
        "ticket {}, from {}, is worth {} CAI and unlocks at {}",
        arguments.ticket,
        ticket.node,
        format_cai(ticket.amount),
        time_text(ticket.unlocks_at)
    );
    let release = Action::Release {
        ticket: arguments.ticket,
    };
    if let Some(done) = wallet.perform(release).await? {
        println!(
            "{} CAI were added to the free stake",
            format_cai(done.value)
        );
        free_stake(&wallet).await?;
    }
    Ok(())
}

async fn claim(arguments: NodesArgs, program: &Program) -> Result<()> {
    let wallet = arguments.sender.open(program).await?;
    let asked = !arguments.nodes.is_empty();
    let nodes = if asked {
        arguments.nodes
    } else {
        let snapshot = wallet.chain.snapshot().await?;
        snapshot
            .nodes
            .iter()
            .map(|node| node.id)
            .collect::<Vec<_>>()
    };
    let owed = async |node: NodeId| {
        let amount = wallet.chain.claimable(node, wallet.account()).await?;
        Ok::<_, Error>((node, amount))
    };
    let amounts: Vec<_> = stream::iter(nodes.into_iter().map(owed))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut earned = Vec::new();
    for (node, amount) in amounts {
        if !amount.is_zero() {
            println!("{node}: {} CAI", format_cai(amount));
        }
        if asked || !amount.is_zero() {
            earned.push(node);
        }
    }
    if earned.is_empty() {
        println!(
            "nothing can be claimed; votes earn from the epoch after they are cast, once somebody sends `sync`"
        );
    }
    for nodes in earned.chunks(MOST_NODES) {
        let nodes = nodes.to_vec();
        if let Some(done) = wallet.perform(Action::Claim { nodes }).await? {
            println!("{} CAI were paid out", format_cai(done.value));
        }
    }
    Ok(())
}

async fn sync(arguments: NodesArgs, program: &Program) -> Result<()> {
    let wallet = arguments.sender.open(program).await?;
    let nodes = if arguments.nodes.is_empty() {
        let snapshot = wallet.chain.snapshot().await?;
        let active = snapshot.nodes.iter().filter(|node| node.active);
        active.map(|node| node.id).collect()
    } else {
        arguments.nodes
    };
    if nodes.is_empty() {
        println!("no node is active, so none earns");
    }
    for nodes in nodes.chunks(MOST_NODES) {
        let nodes = nodes.to_vec();
        wallet.perform(Action::SyncRewards { nodes }).await?;
    }
    Ok(())
}
