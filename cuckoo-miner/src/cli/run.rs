//! Running, from the first look at the models to the last output handed in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::cli::{ChainConfig, watch_signals};
use cuckoo_core::{Clock as _, Error, ErrorKind, Result, StakingContract, SystemClock, format_cai};
use tokio_util::sync::CancellationToken;

use crate::cli::config::{Config, Kind, ModelConfig};
use crate::cli::models::Progress;
use crate::cli::status::StatusPage;
use crate::cli::{Host, vouchers};
use crate::{
    EmbeddingExecutor, Executor, HttpCoordinator, Hub, ImageExecutor, Miner, ModelStore, PullEvent,
    PullOptions, SpeechExecutor, TextExecutor, WarmPool,
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often new vouchers are written to disk.
const VOUCHER_INTERVAL: Duration = Duration::from_secs(2);

/// Works until the first signal, then drains; the second ends the process.
pub(crate) async fn run(path: &Path, host: &Host) -> Result<()> {
    let config = Config::load(path)?;
    // What the operator can put right by hand comes first, before anything is waited for.
    if config.coordinators.is_empty() {
        return Err(Error::invalid(
            "no coordinator to serve; set coordinators = [\"http://...\"]",
        ));
    }
    if config.models.is_empty() && !host.brings_executors() {
        return Err(Error::invalid(
            "no model to offer; add a [[models]] section with name, and folder or hub",
        ));
    }
    config.chain.contracts()?;
    let operator = config.operator.load_key()?;
    let kept = vouchers::read(&config.vouchers)?;
    let mut builder = Miner::builder()
        .operator(operator)
        .settings(config.settings.clone())
        .vouchers(kept);
    for url in &config.coordinators {
        if is_open(url) {
            tracing::warn!(
                "{url} is not encrypted; whoever is in between can read tasks and tokens"
            );
        }
        builder = builder.coordinator(Arc::new(HttpCoordinator::new(url)?));
    }
    let signalled = watch_signals()?;
    let page = StatusPage::open(config.status.as_ref()).await?;
    for model in &config.models {
        match fetch(model, &signalled).await {
            Err(_) if signalled.is_cancelled() => return Ok(()),
            fetched => fetched?,
        }
    }
    let pool = config.warm_mib.map(|mib| WarmPool::new(mib << 20));
    for executor in load_all(&config, pool.as_ref()).await? {
        builder = builder.executor(executor);
    }
    for executor in host.load(&config)? {
        announce(&*executor);
        builder = builder.executor(executor);
    }
    let chain = tokio::select! {
        () = signalled.cancelled() => return Ok(()),
        chain = connect(&config.chain) => chain?,
    };
    let miner = builder.chain(chain).start().await?;
    page.show(&miner, pool.as_ref());
    tracing::info!(
        operator = %miner.status().operator,
        slots = config.settings.slots,
        "started; {} coordinators to serve",
        config.coordinators.len()
    );
    let ended = tokio::select! {
        ended = miner.finished() => ended,
        () = keep_vouchers(&miner, &config.vouchers) => Ok(()),
        () = signalled.cancelled() => {
            tracing::info!(
                "stopping: no more work, up to {} s for what is begun; signal again to stop at once",
                config.drain_seconds
            );
            miner.shutdown(Duration::from_secs(config.drain_seconds)).await;
            Ok(())
        }
    };
    vouchers::write(&config.vouchers, &miner.vouchers())?;
    let status = miner.status();
    tracing::info!(
        completed = status.completed,
        failed = status.failed,
        refused = status.refused,
        cancelled = status.cancelled,
        "stopped"
    );
    ended
}

/// Whether others on the way can read what is said to this coordinator.
pub(crate) fn is_open(url: &str) -> bool {
    url.starts_with("http://") && !url.contains("127.0.0.1") && !url.contains("localhost")
}

/// Loads every model of the settings; with a pool (`warm_mib`), to take turns in its memory.
async fn load_all(config: &Config, pool: Option<&WarmPool>) -> Result<Vec<Arc<dyn Executor>>> {
    let slots = config.settings.slots;
    let mut executors = Vec::new();
    for model in &config.models {
        executors.push(match pool {
            None => load(model, slots)?,
            Some(pool) => {
                let model = model.clone();
                pool.add(move || load(&model, slots)).await?
            }
        });
    }
    Ok(executors)
}

/// Pulls a model that is named by the hub and not in the cache yet.
async fn fetch(model: &ModelConfig, stop: &CancellationToken) -> Result<()> {
    let Some(hub) = model.hub.as_ref() else {
        return Ok(());
    };
    let store = ModelStore::from_env();
    if let Some(cached) = store.find(hub)?.filter(|cached| cached.lacks.is_none()) {
        tracing::info!(
            commit = cached.commit,
            "model `{}`: {hub} is in the cache",
            model.name
        );
        return Ok(());
    }
    let progress = Progress::logged();
    let options = PullOptions::default();
    let watch = |event: PullEvent<'_>| progress.watch(event);
    let pulled = store
        .pull(&Hub::from_env()?, hub, &options, &watch, stop)
        .await
        .map_err(|error| {
            let message = format!(
                "model `{}` cannot be pulled: {}",
                model.name,
                error.message()
            );
            Error::new(error.kind(), message).with_source(error)
        })?;
    tracing::info!("model `{}`: pulled {pulled}", model.name);
    Ok(())
}

/// Loads a model; blocks, which before the start nobody minds.
pub(crate) fn load(model: &ModelConfig, slots: u32) -> Result<Arc<dyn Executor>> {
    let folder = model.located()?;
    let executor: Arc<dyn Executor> = match model.kind {
        Kind::Image => Arc::new(load_image(&folder, model, slots)?),
        Kind::Text => Arc::new(
            TextExecutor::load(&folder, model.name.clone())?
                .with_min_price(model.min_price)
                .with_limits(model.text_limits(slots))?,
        ),
        Kind::Embedding => Arc::new(
            EmbeddingExecutor::load(&folder, model.name.clone())?
                .with_min_price(model.min_price)
                .with_limits(model.embedding_limits())?,
        ),
        Kind::Speech => Arc::new(
            SpeechExecutor::load(&folder, model.name.clone())?
                .with_min_price(model.min_price)
                .with_limits(model.speech_limits())?,
        ),
    };
    announce(&*executor);
    Ok(executor)
}

fn announce(executor: &dyn Executor) {
    for offer in executor.capabilities() {
        tracing::info!(
            hash = %offer.model_hash,
            kernels = offer.kernels,
            min_price = format_cai(offer.min_price),
            "model `{}` loaded",
            offer.model
        );
    }
}

fn load_image(folder: &Path, model: &ModelConfig, slots: u32) -> Result<ImageExecutor> {
    let executor = ImageExecutor::load_with_loras(folder, &model.loras, model.name.clone())?
        .with_min_price(model.min_price)
        .with_runs(slots);
    let (pixels, steps) = executor.limits();
    Ok(executor.with_limits(
        model.max_pixels.unwrap_or(pixels),
        model.max_steps.unwrap_or(steps),
    ))
}

/// Connects to the chain, again and again while it cannot be reached.
async fn connect(chain: &ChainConfig) -> Result<Arc<dyn StakingContract>> {
    let mut pause = FIRST_PAUSE;
    loop {
        match chain.connect().await {
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                tracing::warn!(
                    "the chain cannot be reached, trying again in {} s; is the node at [chain] rpc running? ({error})",
                    pause.as_secs()
                );
                SystemClock.sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            connected => return connected,
        }
    }
}

/// Writes vouchers to disk whenever they changed; never completes.
async fn keep_vouchers(miner: &Miner, path: &Path) {
    let mut written = miner.vouchers();
    loop {
        SystemClock.sleep(VOUCHER_INTERVAL).await;
        let vouchers = miner.vouchers();
        if vouchers == written {
            continue;
        }
        match vouchers::write(path, &vouchers) {
            Ok(()) => written = vouchers,
            Err(error) => tracing::error!(%error, "vouchers are in memory only"),
        }
    }
}
