//! How long a snapshot of a large market takes from a real chain node.
//!
//! `cargo run --release -p cuckoo-core --example snapshot -- [nodes] [votes per node] [runs]` starts anvil, has a contract
//! register the nodes and cast the votes by calling the staking contract, and reads the snapshot over JSON-RPC.

#![allow(clippy::expect_used, reason = "a measurement ends where it fails")]

mod crowd;
mod meter;

use std::sync::Arc;

use cuckoo_core::testing::Anvil;
use cuckoo_core::{Clock as _, Error, RpcSettings, RpcStaking, SystemClock};

use crowd::Crowd;
use meter::Meter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next() {
        Some(argument) => argument
            .parse::<u64>()
            .map_err(|_| Error::invalid(format!("`{argument}` is no number"))),
        None => Ok(default),
    };
    let (nodes, votes, runs) = (number(10_000)?, number(10)?, number(9)?.max(1));

    // Large transactions fill the market in a minute; readers find anvil as they always do.
    let anvil = Anvil::start_with(&["--hardfork", "cancun", "--gas-limit", "3000000000"]).await?;
    let begun = SystemClock.now();
    let deployment = Crowd::new(&anvil).await?.fill(nodes, votes).await?;
    eprintln!(
        "{nodes} nodes and {} votes after {:.1} s",
        nodes * votes,
        SystemClock.now().since(begun).as_secs_f64()
    );

    let meter = Meter::start(anvil.url()).await?;
    let settings = RpcSettings::new(meter.url());
    let chain = RpcStaking::connect(&settings, deployment, Arc::new(SystemClock)).await?;
    let mut seconds = Vec::new();
    let mut traffic = meter.read();
    for _ in 0..runs {
        let before = meter.read();
        let begun = SystemClock.now();
        let snapshot = chain.snapshot().await?;
        seconds.push(SystemClock.now().since(begun).as_secs_f64());
        traffic = meter.read() - before;
        assert_eq!(snapshot.nodes.len() as u64, nodes);
        assert!(
            snapshot
                .nodes
                .iter()
                .all(|node| node.active && node.weight == Crowd::weight(votes)),
            "every node has its votes"
        );
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "| nodes | votes | requests | sent, MB | received, MB | seconds, least | median | most |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {nodes} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
        nodes * votes,
        traffic.requests,
        traffic.sent as f64 / 1e6,
        traffic.received as f64 / 1e6,
        seconds[0],
        seconds[seconds.len() / 2],
        seconds[seconds.len() - 1],
    );
    Ok(())
}
