//! A Rust service with a coordinator inside: asks for a picture and saves it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, ModelSettings, Settings};
use cuckoo_core::{
    DeployConfig, DevChain, Key, LocalMarket, OsEntropy, SystemClock, TaskSpec, cai,
};
use cuckoo_miner::{ImageExecutor, Miner};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A chain in this process; `RpcStaking::connect` reaches a real one.
    let (chain, entropy) = (
        DevChain::new(Arc::new(SystemClock)),
        Arc::new(OsEntropy::new()?),
    );
    let treasury = Key::random(entropy.as_ref());
    chain.fund(treasury.address(), cai(10_000_000));
    let contracts = chain.deploy(&treasury, &DeployConfig::demo()).await?;
    let market = LocalMarket::new(contracts.clone(), treasury, entropy);
    let host = market
        .add_coordinator("host", cai(2_000_000), cai(100))
        .await?;
    let painter = market.add_miner("painter", cai(20_000)).await?;
    market
        .settle(&[&host, &painter], &SystemClock, Duration::from_secs(10))
        .await?;

    let shapes = ModelSettings::new("shapes".parse()?, cai(1));
    let coordinator = Coordinator::builder()
        .settings(Settings {
            models: vec![shapes],
            ..Settings::default()
        })
        .chain(contracts.clone())
        .operator(host.operator)
        .start()
        .await?;
    let miner = Miner::builder()
        .operator(painter.operator)
        .chain(contracts)
        .coordinator(coordinator.protocol())
        .executor(Arc::new(ImageExecutor::load(
            "examples/models/shapes",
            "shapes".parse()?,
        )?))
        .start()
        .await?;

    let input = json!({ "prompt": "a large red circle on a blue background" });
    let task = coordinator
        .submit(TaskSpec::new("shapes".parse()?, input))
        .await?;
    let result = task.result().await?;
    std::fs::write("circle.png", &result.output.bytes)?;
    println!(
        "circle.png, signed by {}",
        result.receipt.signer(&market.chain().deployment())?
    );

    miner.shutdown(Duration::from_secs(5)).await;
    coordinator.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
