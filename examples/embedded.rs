//! A coordinator inside your program that forgets nothing: tasks outlive the process that submitted them.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{
    Coordinator, ListedState, ModelSettings, Quote, Settings, StoreSettings, TaskFilter, router,
    serve,
};
use cuckoo_core::*;
use cuckoo_miner::{Execution, Executor, Miner, TaskContext};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Counts words: any JSON goes in, any bytes come out.
#[derive(Debug)]
struct WordCount(ModelId);

#[async_trait::async_trait]
impl Executor for WordCount {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = payload_hash(b"word-count, version 1");
        vec![Capability::new(self.0.clone(), hash, "words-1")]
    }

    async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
        let input: Value = serde_json::from_str(&task.input).unwrap_or_default();
        let text = input["text"].as_str();
        let text = text.ok_or_else(|| Error::invalid("give `text`: the words to count"))?;
        let count = json!({ "words": text.split_whitespace().count() });
        let output = Output::new("application/json", count.to_string());
        Ok(Execution::new(output))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy::new()?));
    let (dev, treasury) = (DevChain::new(clock.clone()), Key::random(&*entropy));
    dev.fund(treasury.address(), cai(3_000_000));
    let chain = dev.deploy(&treasury, &DeployConfig::demo()).await?;
    let market = LocalMarket::new(chain.clone(), treasury, entropy);
    let (vote, escrow, patience) = (cai(2_000_000), cai(10), Duration::from_secs(9));
    let host = market.add_coordinator("host", vote, escrow).await?;
    let worker = market.add_miner("worker", cai(20_000)).await?;
    market.settle(&[&host, &worker], &*clock, patience).await?;

    let words: ModelId = "words".parse()?;
    let start = || async {
        let settings = Settings {
            models: vec![ModelSettings::new(words.clone(), cai(1))],
            ..Settings::default()
        };
        let builder = Coordinator::builder().settings(settings);
        // One SQLite file; a folder beside it for large outputs.
        let store = StoreSettings::at("coordinator.db").open().await?;
        let builder = builder.chain(chain.clone()).operator(host.operator.clone());
        builder.store(store).start().await
    };

    // Asked, submitted, stored; then the program ends before anybody has done it.
    let coordinator = start().await?;
    let task = TaskSpec::new(words.clone(), json!({ "text": "to be or not to be" }))
        .with_priority(5)
        .with_timeout(Duration::from_secs(60))
        .with_idempotency_key("order-17");
    match coordinator.quote(task.clone()) {
        Quote::Feasible { price, .. } => println!("it costs {} CAI", format_cai(price)),
        Quote::Refused { reason } => println!("not now: {}", reason.message),
    }
    let id = coordinator.submit(task.clone()).await?.id();
    coordinator.shutdown(Duration::ZERO).await;
    drop(coordinator);

    // Started again: the task is there, and the same submission makes no second one.
    let coordinator = start().await?;
    assert_eq!(coordinator.submit(task).await?.id(), id);
    let miner = Miner::builder()
        .operator(worker.operator)
        .chain(chain.clone());
    let miner = miner.executor(Arc::new(WordCount(words)));
    let _miner = miner.coordinator(coordinator.protocol()).start().await?;
    let task = coordinator.task(id).await?;
    let mut states = task.watch();
    while let Some(state) = states.next().await {
        println!("{state:?}");
    }
    let result = task.result().await?;
    println!("{}", String::from_utf8_lossy(&result.output.bytes));
    let filter = TaskFilter {
        state: Some(ListedState::Completed),
        limit: 10,
        ..TaskFilter::default()
    };
    println!("{} completed", coordinator.list(&filter).await?.len());

    // The same over HTTP, for everything that is not in this process.
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(|source| Error::unavailable("no port").with_source(source))?;
    serve(listener, router(coordinator.clone()), async {}).await;
    coordinator.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
