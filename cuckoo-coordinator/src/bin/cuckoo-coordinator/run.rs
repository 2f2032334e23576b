//! Serving, from the first connection to the chain to the last answer.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, Front, Server, TaskStore, Tls, router_with};
use cuckoo_core::cli::watch_signals;
use cuckoo_core::{Clock as _, Error, ErrorKind, Key, Result, SystemClock};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::traces::{self, Traces};
use crate::{certificate, open_files};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the latest traces may take on their way out.
#[cfg(feature = "otel")]
const TRACES_PATIENCE: Duration = Duration::from_secs(5);

/// Serves until the first signal, then drains; the second ends the process.
pub(crate) async fn run(config: Config, traces: Option<Traces>) -> Result<()> {
    traces::explain();
    let result = serve(config, traces.as_ref()).await;
    #[cfg(feature = "otel")]
    if let Some(traces) = traces {
        traces.shutdown(TRACES_PATIENCE).await;
    }
    result
}

async fn serve(config: Config, traces: Option<&Traces>) -> Result<()> {
    let operator = config.operator.load_key()?;
    let tls = config.tls.clone().map(Tls::load).transpose()?;
    let front = Front::new(config.http.clone(), &config.api_keys)?;
    if config.allow_public && config.api_keys.is_empty() {
        tracing::warn!(
            "anybody who reaches {} may submit tasks; set [[api_keys]]",
            config.listen
        );
    }
    let signalled = watch_signals()?;
    // Before the chain, so that a port in use shows at once.
    let listener = TcpListener::bind(config.listen).await.map_err(|source| {
        Error::unavailable(format!(
            "cannot listen on {}; is another coordinator running? Set `listen` to another port",
            config.listen
        ))
        .with_source(source)
    })?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let store = config.store.open().await?;
    let coordinator = tokio::select! {
        () = signalled.cancelled() => return Ok(()),
        coordinator = start(&config, operator, store, traces) => coordinator?,
    };
    let routes = router_with(coordinator.clone(), front);
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!("listening on {scheme}://{address}");
    let drained = async {
        signalled.cancelled().await;
        tracing::info!(
            "stopping: no new tasks, up to {} s for those begun; signal again to stop at once",
            config.drain_seconds
        );
        coordinator
            .shutdown(Duration::from_secs(config.drain_seconds))
            .await;
    };
    let mut server =
        Server::new(listener).max_connections(open_files::room_for(config.http.max_connections));
    if let Some(tls) = tls {
        tokio::spawn(certificate::keep_fresh(tls.clone())?);
        server = server.tls(tls);
    }
    server.serve(routes, drained).await;
    tracing::info!("stopped");
    Ok(())
}

/// Connects to the chain and starts the coordinator, again and again while the chain cannot be reached.
async fn start(
    config: &Config,
    operator: Key,
    store: Arc<dyn TaskStore>,
    traces: Option<&Traces>,
) -> Result<Coordinator> {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = async {
            let mut coordinator = Coordinator::builder()
                .settings(config.settings())
                .chain(config.chain.connect().await?)
                .operator(operator.clone())
                .store(Arc::clone(&store));
            if let Some(webhooks) = &config.webhooks {
                coordinator = coordinator.webhooks(webhooks.load()?);
            }
            match traces {
                #[cfg(feature = "otel")]
                Some(traces) => coordinator = coordinator.traces(traces),
                #[cfg(not(feature = "otel"))]
                Some(never) => match *never {},
                None => {}
            }
            coordinator.start().await
        };
        match attempt.await {
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                tracing::warn!(
                    "the chain cannot be reached, trying again in {} s; is the node at [chain] rpc running? ({error})",
                    pause.as_secs()
                );
                SystemClock.sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            started => return started,
        }
    }
}
