//! The chain: is it there, is it current, and does it know this miner?

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::cli::span_text;
use cuckoo_core::{
    Address, Clock as _, Error, NodeKind, Result, Snapshot, StakingContract, SystemClock, Wei,
    format_cai,
};

use super::report::Report;
use crate::cli::config::Config;

/// How long the chain may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A newest block older than this is a chain that stands still, or a node that does not follow it.
const OLD_SECONDS: u64 = 600;

/// What the chain says of everybody, if it answers.
pub(super) async fn check(
    config: &Config,
    operator: Option<Address>,
    report: &mut Report,
) -> Option<Snapshot> {
    let reached = tokio::select! {
        reached = reach(config) => reached,
        () = SystemClock.sleep(PATIENCE) => Err(Error::timeout(format!(
            "no answer for {} s", PATIENCE.as_secs()
        ))),
    };
    let (chain, snapshot, block_time) = match reached {
        Ok(reached) => reached,
        Err(error) => {
            let remedy = "start the node at [chain] rpc or correct the address; chain id and contracts are those of the \
                          deployment file";
            report.bad("chain", error, remedy);
            return None;
        }
    };
    let age = (SystemClock.now().as_millis() / 1_000).saturating_sub(block_time);
    let found = format!(
        "chain {}, block {}, {} old; {} nodes registered",
        chain.deployment().chain_id,
        snapshot.block,
        span_text(age),
        snapshot.nodes.len()
    );
    if age > OLD_SECONDS {
        let remedy =
            "the node may be behind the chain, or this machine's clock ahead of it: compare both";
        report.note("chain", found, remedy);
    } else {
        report.good("chain", found);
    }
    if let Some(operator) = operator
        && let Err(error) = registration(chain.as_ref(), &snapshot, operator, report).await
    {
        report.bad("registration", error, "try again once the chain answers");
    }
    if let Some(operator) = operator
        && config.settings.redeem.is_some()
    {
        gas(chain.as_ref(), operator, report).await;
    }
    Some(snapshot)
}

async fn reach(config: &Config) -> Result<(Arc<dyn StakingContract>, Snapshot, u64)> {
    let chain = config.chain.connect().await?;
    let snapshot = chain.snapshot().await?;
    let time = chain.block_time().await?;
    Ok((chain, snapshot, time))
}

async fn registration(
    chain: &dyn StakingContract,
    snapshot: &Snapshot,
    operator: Address,
    report: &mut Report,
) -> Result<()> {
    const WHAT: &str = "registration";
    let Some(node) = snapshot.by_operator(operator) else {
        let remedy = "cuckoo-miner register --config miner.toml --owner owner.json --name NAME";
        report.bad(WHAT, "no node has this operator", remedy);
        return Ok(());
    };
    if node.kind != NodeKind::Miner {
        let remedy =
            "a miner needs a key of its own: `cuckoo-miner key new`, then `cuckoo-miner register`";
        report.bad(WHAT, format!("{} is a coordinator", node.id), remedy);
        return Ok(());
    }
    let least = chain.minimum_vote(NodeKind::Miner).await?;
    let found = format!(
        "{} `{}`, votes that count {} CAI, its owner's own {} CAI (least {})",
        node.id,
        node.profile.name,
        format_cai(node.weight),
        format_cai(node.owner_vote),
        format_cai(least)
    );
    if !node.active {
        let short = least.saturating_sub(node.owner_vote);
        let remedy = format!(
            "its owner {} must vote {} CAI more for it (`cuckoo-miner vote`), unless it was taken off the market by \
             `exit`, which is for good",
            node.owner,
            format_cai(short)
        );
        report.bad(WHAT, format!("not active: {found}"), remedy);
    } else if node.weight.is_zero() {
        report.note(
            WHAT,
            found,
            "votes count from the next epoch on; work comes then",
        );
    } else {
        report.good(WHAT, found);
    }
    Ok(())
}

/// Whether the operator can pay for the transactions that redeem vouchers.
async fn gas(chain: &dyn StakingContract, operator: Address, report: &mut Report) {
    match chain.balance(operator).await {
        Ok(balance) if balance == Wei::ZERO => report.note(
            "gas",
            "the operator's account is empty, so [settings.redeem] can send nothing",
            format!("send a little CAI to {operator}, or redeem from another account by `cuckoo-miner redeem`"),
        ),
        Ok(balance) => report.good("gas", format!("{} CAI in the operator's account", format_cai(balance))),
        Err(error) => report.bad("gas", error, "try again once the chain answers"),
    }
}
