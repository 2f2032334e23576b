//! The process of a coordinator: the chain over JSON-RPC, the store in a file, the interface over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, Settings, SqliteStore, StoreSettings, router, serve};
use cuckoo_core::{
    B256, Clock as _, Deployment, Key, Result, Retry, RpcSettings, RpcStaking, StakingContract,
    SystemClock,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::process::Said;

const PAUSE: Duration = Duration::from_millis(20);

/// What a coordinator is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hosting {
    pub(crate) chain: Chain,
    pub(crate) operator: B256,
    pub(crate) folder: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) settings: Settings,
}

/// Where a market's contracts are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Chain {
    pub(crate) rpc: RpcSettings,
    pub(crate) deployment: Deployment,
}

impl Chain {
    pub(crate) async fn open(&self) -> Result<Arc<dyn StakingContract>> {
        let clock = Arc::new(SystemClock);
        let rpc = RpcStaking::open(&self.rpc, self.deployment.chain_id, clock).await?;
        rpc.contracts(self.deployment).await
    }

    /// The same once the node answers in time, which it need not at once.
    pub(crate) async fn reached(&self) -> Arc<dyn StakingContract> {
        loop {
            match self.open().await {
                Ok(contracts) => return contracts,
                Err(error) => assert_eq!(error.retry(), Retry::Later, "{error}"),
            }
            SystemClock.sleep(PAUSE).await;
        }
    }
}

/// The store of a coordinator whose folder this is: of the outputs some go beside the database.
pub(crate) fn store(folder: &std::path::Path) -> StoreSettings {
    StoreSettings {
        inline_output_bytes: 1_024,
        ..StoreSettings::at(folder.join("coordinator.db"))
    }
}

impl Hosting {
    /// Serves until `closed`.
    pub(crate) async fn host(self, closed: JoinHandle<()>) {
        let store = Arc::new(SqliteStore::open(&store(&self.folder)).await.unwrap());
        let coordinator = loop {
            match self.start(Arc::clone(&store)).await {
                Ok(coordinator) => break coordinator,
                // The chain stands still, say.
                Err(error) => assert_eq!(error.retry(), Retry::Later, "{error}"),
            }
            SystemClock.sleep(PAUSE).await;
        };
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                // The one before may be dying still.
                Err(error) => eprintln!("{error}"),
            }
            SystemClock.sleep(PAUSE).await;
        };
        Said::Serving(listener.local_addr().unwrap()).say();
        serve(listener, router(coordinator.clone()), async {
            let _ = closed.await;
        })
        .await;
        coordinator.shutdown(Duration::from_secs(1)).await;
    }

    async fn start(&self, store: Arc<SqliteStore>) -> Result<Coordinator> {
        Coordinator::builder()
            .settings(self.settings.clone())
            .chain(self.chain.open().await?)
            .operator(Key::from_bytes(self.operator)?)
            .store(store)
            .start()
            .await
    }
}
