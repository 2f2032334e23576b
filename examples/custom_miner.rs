//! A miner of your own: numbers in, a bar chart (SVG) out. All there is to write is an `Executor`.

use std::{sync::Arc, time::Duration};

use cuckoo_coordinator::{Coordinator, ModelSettings, Settings};
use cuckoo_core::*;
use cuckoo_miner::{Execution, Executor, Miner, TaskContext};
use serde_json::{Value, json};

#[derive(Debug)]
pub(crate) struct Charts(pub(crate) ModelId);

#[async_trait::async_trait]
impl Executor for Charts {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = payload_hash(b"charts, version 1");
        vec![Capability::new(self.0.clone(), hash, "svg-1")]
    }

    async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
        let input: Value = serde_json::from_str(&task.input).unwrap_or_default();
        let bars = input["bars"].as_array();
        let bars = bars.ok_or_else(|| Error::invalid("give `bars`: numbers from 0 to 100"))?;
        let mut svg = "<svg xmlns='http://www.w3.org/2000/svg' transform='scale(1 -1)'>".to_owned();
        for (i, bar) in bars.iter().enumerate() {
            let (x, height) = (10 * i, bar.as_u64().unwrap_or(0).min(100));
            svg += &format!("<rect x='{x}' width='8' height='{height}'/>");
        }
        Ok(Execution::new(Output::new("image/svg+xml", svg + "</svg>")))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // A market in this process: the contracts on a chain, a coordinator and a miner.
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy::new()?));
    let (chain, treasury) = (DevChain::new(clock.clone()), Key::random(&*entropy));
    chain.fund(treasury.address(), cai(3_000_000));
    let chain = chain.deploy(&treasury, &DeployConfig::demo()).await?;
    let market = LocalMarket::new(chain.clone(), treasury, entropy);
    let (vote, escrow, patience) = (cai(2_000_000), cai(1), Duration::from_secs(9));
    let host = market.add_coordinator("host", vote, escrow).await?;
    let artist = market.add_miner("artist", cai(20_000)).await?;
    market.settle(&[&host, &artist], &*clock, patience).await?;
    let name: ModelId = "charts".parse()?;
    let settings = Settings {
        models: vec![ModelSettings::new(name.clone(), cai(1))],
        ..Settings::default()
    };
    let host = Coordinator::builder().operator(host.operator);
    let host = host.chain(chain.clone()).settings(settings).start().await?;
    let miner = Miner::builder().operator(artist.operator).chain(chain);
    let miner = miner.executor(Arc::new(Charts(name.clone())));
    // Elsewhere, `HttpCoordinator::new("https://...")` takes the place of `protocol()`.
    let _miner = miner.coordinator(host.protocol()).start().await?;
    let task = TaskSpec::new(name, json!({ "bars": [20, 60, 35, 90] }));
    let result = host.submit(task).await?.result().await?;
    println!("{:?}\n{:#}", result.output.bytes, json!(result.receipt));
    Ok(())
}
