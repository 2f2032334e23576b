//! A process of its own that sends transactions, to be killed at any moment.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    B256, Clock as _, Deployment, Key, Retry, RpcSettings, RpcStaking, SystemClock, TxId, U256,
};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

/// Names the variable that makes the test `worker` of this binary a worker.
const ORDER: &str = "CUCKOO_TEST_WORKER";

/// What a worker is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) settings: RpcSettings,
    pub(crate) deployment: Deployment,
    pub(crate) secret: B256,
    /// Stakes so many times one wei, under the ids `wei-0` and on; a line to standard output for each.
    pub(crate) stakes: usize,
    /// Begins with this one.
    pub(crate) first: usize,
    /// Then stays, and the key's journal with it.
    pub(crate) stay: bool,
}

impl Order {
    /// Starts a worker. Its standard output says what it has done; it ends when its standard input does.
    pub(crate) fn start(&self) -> (Child, ChildStdin) {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["worker", "--exact", "--nocapture"])
            .env(ORDER, serde_json::to_string(self).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        (process, input)
    }

    /// The order that this process was started with.
    pub(crate) fn given() -> Option<Self> {
        let text = std::env::var(ORDER).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// Does it.
    pub(crate) async fn obey(self) {
        // Not even a test that fails leaves a worker behind.
        std::thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(1);
        });
        let key = Key::from_bytes(self.secret).unwrap();
        let chain = loop {
            let clock = Arc::new(SystemClock);
            match RpcStaking::open(&self.settings, self.deployment.chain_id, clock).await {
                Ok(chain) => break chain,
                Err(error) => assert_eq!(error.retry(), Retry::Later, "{error}"),
            }
        };
        let stakes = (0..self.stakes).map(|number| {
            let number = (self.first + number) % self.stakes;
            let chain = chain.with_id(TxId::new(format!("wei-{number}")).unwrap());
            let key = key.clone();
            async move {
                loop {
                    let stake = async {
                        let contracts = chain.contracts(self.deployment).await?;
                        contracts.stake(&key, U256::ONE).await
                    };
                    match stake.await {
                        Ok(_) => break,
                        Err(error) => assert_eq!(error.retry(), Retry::Later, "{error}"),
                    }
                    SystemClock.sleep(Duration::from_millis(20)).await;
                }
                println!("staked {number}");
            }
        });
        futures::stream::iter(stakes)
            .buffer_unordered(40)
            .collect::<Vec<_>>()
            .await;
        assert_eq!(chain.unfinished().await, 0);
        if self.stay {
            std::future::pending::<()>().await;
        }
    }
}

/// How many transactions a journal holds that have not ended, and how many signed forms in all.
pub(crate) fn journal(folder: &Path) -> (usize, usize) {
    let mut open = std::collections::HashSet::new();
    let mut signed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "journal")
        {
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let record: serde_json::Value = serde_json::from_str(&line[9..]).unwrap();
                let number = |kind: &str| record[kind]["number"].as_u64();
                if let Some(number) = number("signed") {
                    open.insert(number);
                    signed += 1;
                }
                if let Some(number) = number("ended") {
                    open.remove(&number);
                }
            }
        }
    }
    (open.len(), signed)
}
