//! The coordinator under load: a process of its own, so that its memory and its processor time are its own too. It has a
//! development chain inside, on which itself and the miners are registered.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use cuckoo_coordinator::{
    Coordinator, ModelSettings, Settings, StoreSettings, TaskStore, router, serve,
};
use cuckoo_core::{
    B256, DeployConfig, DevChain, Key, LocalMarket, ModelId, OsEntropy, StakingContract,
    SystemClock, Wei, cai,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::process::Usage;
use crate::{Failure, Result};

/// The model that tasks are for.
pub(crate) const MODEL: &str = "nothing";
/// How long votes may take to count.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a host is started with.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostOptions {
    /// How many miners are registered.
    #[arg(long, default_value_t = 4)]
    pub(crate) miners: usize,
    /// The file of its store; `:memory:` keeps nothing.
    #[arg(long, default_value = StoreSettings::MEMORY)]
    pub(crate) store: PathBuf,
    /// How often an output is repeated by a second miner.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) audits: f64,
}

/// What a host tells of itself, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hosted {
    pub(crate) address: SocketAddr,
    /// The operators' keys, which are worth nothing anywhere else.
    pub(crate) miners: Vec<B256>,
}

/// Settings of every coordinator measured: the defaults, but for audits and limits that a measurement would run into.
pub(crate) fn settings(audits: f64) -> Result<Settings> {
    Ok(Settings {
        models: vec![ModelSettings::new(
            model()?,
            cai(1) / cuckoo_core::Wei::from(1_000),
        )],
        audit_probability: audits,
        ..Settings::default()
    })
}

pub(crate) fn model() -> Result<ModelId> {
    Ok(MODEL.parse()?)
}

/// What a verified task earns.
pub(crate) fn price() -> Wei {
    cai(1) / Wei::from(1_000)
}

/// A chain in this process with a coordinator and so many miners registered; gives their operators.
pub(crate) async fn chain(miners: usize) -> Result<(Arc<dyn StakingContract>, Key, Vec<Key>)> {
    let (chain, entropy) = (
        DevChain::new(Arc::new(SystemClock)),
        Arc::new(OsEntropy::new()?),
    );
    let treasury = Key::random(entropy.as_ref());
    let vote = cai(20_000);
    chain.fund(
        treasury.address(),
        cai(5_000_000) + (vote + cai(2)) * Wei::from(miners),
    );
    let contracts = chain.deploy(&treasury, &DeployConfig::demo()).await?;
    let market = LocalMarket::new(Arc::clone(&contracts), treasury, entropy);
    let host = market
        .add_coordinator("host", cai(2_000_000), cai(1_000_000))
        .await?;
    let mut members = Vec::with_capacity(miners);
    for _ in 0..miners {
        members.push(market.add_miner("miner", vote).await?);
    }
    let everybody: Vec<_> = members.iter().chain([&host]).collect();
    market.settle(&everybody, &SystemClock, PATIENCE).await?;
    let operators = members.into_iter().map(|member| member.operator).collect();
    Ok((contracts, host.operator, operators))
}

/// A coordinator that works.
pub(crate) async fn coordinator(
    settings: Settings,
    chain: Arc<dyn StakingContract>,
    operator: Key,
    store: Arc<dyn TaskStore>,
) -> Result<Coordinator> {
    let builder = Coordinator::builder()
        .settings(settings)
        .chain(chain)
        .operator(operator)
        .store(store);
    Ok(builder.start().await?)
}

/// Hosts until whoever started this closes its standard input.
pub(crate) async fn run(options: HostOptions) -> Result<()> {
    let (chain, operator, operators) = chain(options.miners).await?;
    let store = StoreSettings::at(&options.store).open().await?;
    let coordinator = coordinator(settings(options.audits)?, chain, operator, store).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let hosted = Hosted {
        address: listener.local_addr()?,
        miners: operators.iter().map(Key::secret_bytes).collect(),
    };
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&hosted)?)?;
    out.flush()?;
    let closed =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    serve(listener, router(coordinator.clone()), async {
        let _ = closed.await;
    })
    .await;
    coordinator.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

/// A host in a child process; it ends with this value.
#[derive(Debug)]
pub(crate) struct Host {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) miners: Vec<Key>,
}

impl Host {
    pub(crate) fn start(options: &HostOptions) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("host")
            .args(["--miners", &options.miners.to_string()])
            .args(["--audits", &options.audits.to_string()])
            .arg("--store")
            .arg(&options.store);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let hosted: Hosted = match serde_json::from_str(&line) {
            Ok(hosted) => hosted,
            Err(_) => {
                let status = child.wait()?;
                return Err(Failure::from(format!(
                    "the coordinator did not start: {status}"
                )));
            }
        };
        Ok(Self {
            child,
            address: hosted.address,
            miners: hosted
                .miners
                .into_iter()
                .map(Key::from_bytes)
                .collect::<cuckoo_core::Result<_>>()?,
        })
    }

    /// What its process has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its input closes; a host that hangs is ended.
        drop(self.child.stdin.take());
        if crate::process::wait(&mut self.child, Duration::from_secs(10)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
