//! How long a snapshot of a large market takes from a real chain node.
//!
//! `cargo run --release -p cuckoo-core --all-features --example snapshot -- [nodes] [votes per node] [runs]` starts anvil, has
//! a contract register the nodes and cast the votes by calling the staking contract, and reads the snapshot over JSON-RPC.
//! Then the same of a legacy network with 43 miners and as many voters as the market has nodes.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a measurement ends where it fails"
)]

mod crowd;
mod meter;
#[path = "../../tests/legacy/network.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod network;

use std::sync::Arc;

use alloy::primitives::{Address, U256, keccak256};
use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Clock as _, Error, LegacyNetwork, LegacySettings, LegacyStaking, Result, RpcSettings,
    RpcStaking, Snapshot, StakingContract, SystemClock, Timestamp, cai,
};

use crowd::Crowd;
use meter::Meter;
use network::Network;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next() {
        Some(argument) => argument
            .parse::<u64>()
            .map_err(|_| Error::invalid(format!("`{argument}` is no number"))),
        None => Ok(default),
    };
    let (nodes, votes, runs) = (number(10_000)?, number(10)?, number(9)?.max(1));
    println!(
        "| contracts | nodes | votes | requests | sent, MB | received, MB | seconds, least | median | most |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    market(nodes, votes, runs).await?;
    legacy(nodes, runs).await
}

async fn market(nodes: u64, votes: u64, runs: u64) -> Result<()> {
    // Large transactions fill the market in a minute; to a reader this is anvil as always.
    let anvil = Anvil::start_with(&["--hardfork", "cancun", "--gas-limit", "3000000000"]).await?;
    let begun = SystemClock.now();
    let deployment = Crowd::new(&anvil).await?.fill(nodes, votes).await?;
    filled(begun);
    let meter = Meter::start(anvil.url()).await?;
    let settings = RpcSettings::new(meter.url());
    let chain = RpcStaking::connect(&settings, deployment, Arc::new(SystemClock)).await?;
    let right = |snapshot: &Snapshot| {
        let weight = Crowd::weight(votes);
        snapshot.nodes.len() as u64 == nodes
            && snapshot
                .nodes
                .iter()
                .all(|node| node.active && node.weight == weight)
    };
    measure(
        "Cuckoo's",
        &*chain,
        &meter,
        (nodes, nodes * votes),
        runs,
        right,
    )
    .await
}

async fn legacy(voters: u64, runs: u64) -> Result<()> {
    const MINERS: u64 = 43;
    const VOTES: u64 = 3;
    let account = |kind: &str, number| Address::from_word(keccak256(format!("{kind} {number}")));
    let network = Network::start(LegacyNetwork::CUCKOO_CHAIN).await;
    let begun = SystemClock.now();
    let stakes: Vec<_> = (0..voters)
        .map(|number| (account("voter", number), cai(3)))
        .collect();
    let votes: Vec<_> = (0..voters * VOTES)
        .map(|vote| {
            let (voter, choice) = (vote / VOTES, vote % VOTES);
            (
                account("voter", voter),
                account("miner", (voter + choice) % MINERS),
            )
        })
        .collect();
    network.set_stakes(&stakes).await;
    network.add_votes(&votes).await;
    filled(begun);
    let meter = Meter::start(network.anvil.url()).await?;
    let settings = LegacySettings::new(network.contracts, vec![account("miner", 0)]);
    let rpc = RpcSettings::new(meter.url());
    let chain = LegacyStaking::connect(&rpc, settings, Arc::new(SystemClock)).await?;
    let staked = cai(3) * U256::from(voters);
    let right =
        |snapshot: &Snapshot| snapshot.nodes.iter().map(|node| node.weight).sum::<U256>() == staked;
    let size = (MINERS, voters * VOTES);
    measure("legacy", &*chain, &meter, size, runs, right).await
}

fn filled(begun: Timestamp) {
    let seconds = SystemClock.now().since(begun).as_secs_f64();
    eprintln!("filled in {seconds:.1} s");
}

/// Reads the snapshot so many times and prints a row.
async fn measure(
    contracts: &str,
    chain: &dyn StakingContract,
    meter: &Meter,
    (nodes, votes): (u64, u64),
    runs: u64,
    right: impl Fn(&Snapshot) -> bool,
) -> Result<()> {
    let mut seconds = Vec::new();
    let mut traffic = meter.read();
    for _ in 0..runs {
        let before = meter.read();
        let begun = SystemClock.now();
        let snapshot = chain.snapshot().await?;
        seconds.push(SystemClock.now().since(begun).as_secs_f64());
        traffic = meter.read() - before;
        assert!(right(&snapshot), "the snapshot is wrong");
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "| {contracts} | {nodes} | {votes} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
        traffic.requests,
        traffic.sent as f64 / 1e6,
        traffic.received as f64 / 1e6,
        seconds[0],
        seconds[seconds.len() / 2],
        seconds[seconds.len() - 1],
    );
    Ok(())
}
