//! A market on loopback for `make fuzz-api`: prints where it listens and the token of a miner's session, and ends when its
//! input does.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, ModelSettings, Settings, router, serve};
use cuckoo_core::*;
use cuckoo_miner::{Execution, Executor, Miner, TaskContext};
use tokio::net::TcpListener;

/// Gives every input back.
#[derive(Debug)]
struct Echo(ModelId);

#[async_trait::async_trait]
impl Executor for Echo {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = payload_hash(b"echo, version 1");
        vec![Capability::new(self.0.clone(), hash, "echo-1")]
    }

    async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
        let output = Output::new("application/octet-stream", task.input);
        Ok(Execution::new(output))
    }
}

/// Short waits, so that no request takes long.
fn settings(model: ModelId) -> Settings {
    Settings {
        models: vec![ModelSettings::new(model, cai(1))],
        poll_wait_millis: 100,
        lease_millis: 500,
        heartbeat_millis: 100,
        default_timeout_millis: 2_000,
        max_timeout_millis: 2_000,
        ..Settings::default()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .init();
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy::new()?));
    let (dev, treasury) = (DevChain::new(clock.clone()), Key::random(&*entropy));
    dev.fund(treasury.address(), cai(10_000_000));
    let chain = dev.deploy(&treasury, &DeployConfig::demo()).await?;
    let market = LocalMarket::new(chain.clone(), treasury, entropy.clone());
    let (vote, escrow, patience) = (cai(2_000_000), cai(1_000_000), Duration::from_secs(60));
    let host = market.add_coordinator("host", vote, escrow).await?;
    let worker = market.add_miner("worker", cai(60_000)).await?;
    let guest = market.add_miner("guest", cai(20_000)).await?;
    let members = [&host, &worker, &guest];
    market.settle(&members, &*clock, patience).await?;

    let model: ModelId = "shapes".parse()?;
    let coordinator = Coordinator::builder()
        .settings(settings(model.clone()))
        .chain(chain.clone())
        .operator(host.operator.clone())
        .start()
        .await?;
    let miner = Miner::builder()
        .operator(worker.operator)
        .chain(chain.clone())
        .coordinator(coordinator.protocol())
        .executor(Arc::new(Echo(model)))
        .start()
        .await?;
    let session = Session {
        coordinator: host.operator.address(),
        miner: guest.operator.address(),
        nonce: entropy.word(),
        expiry: clock.now().after(Duration::from_secs(60)),
    };
    let session = Signed::sign(session, &guest.operator, &chain.deployment());
    let opened = coordinator.protocol().open_session(session).await?;

    let refused = |source| Error::unavailable("no port on loopback").with_source(source);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    println!("http://{address} {}", opened.token.expose());
    let stop = async {
        let input = || std::io::stdin().read_to_end(&mut Vec::new());
        let _ = tokio::task::spawn_blocking(input).await;
    };
    serve(listener, router(coordinator.clone()), stop).await;
    miner.shutdown(Duration::from_secs(1)).await;
    coordinator.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
