//! How soon a coordinator is ready that finds many tasks in its store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use cuckoo_coordinator::{
    Change, Commit, Outcome, Payment, Received, StoreSettings, Submission, SyncLevel, TaskRecord,
    TaskStore,
};
use cuckoo_core::{
    Address, B256, Clock as _, Deployment, Entropy as _, Key, LeaseId, NodeId, OsEntropy, Output,
    Receipt, Signed, SignedReceipt, SystemClock, Task, TaskId, Timestamp, Usage, payload_hash,
};
use serde::{Deserialize, Serialize};

use crate::{Failure, OUTPUT, Result, host, input};

/// Tasks in a commit while the store is filled.
const BATCH: usize = 1_000;

/// What is in the store.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestartOptions {
    #[arg(long)]
    pub(crate) finished: usize,
    #[arg(long)]
    pub(crate) open: usize,
    #[arg(long)]
    pub(crate) store: PathBuf,
}

/// How long a start took.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Restarted {
    pub(crate) seconds: f64,
}

/// Fills a store as if a coordinator had done the tasks.
pub(crate) async fn fill(options: &RestartOptions) -> Result<()> {
    let quick = StoreSettings {
        sync: SyncLevel::Normal,
        ..StoreSettings::at(&options.store)
    };
    let store = quick.open().await?;
    let maker = Maker::new()?;
    for from in (0..options.finished).step_by(BATCH) {
        let mut changes = Vec::new();
        for _ in from..options.finished.min(from + BATCH) {
            let open = maker.open()?;
            changes.push(Change::Insert(Arc::new(open.clone())));
            changes.extend(maker.end(open, store.as_ref()).await?);
        }
        commit(store.as_ref(), changes).await?;
    }
    for from in (0..options.open).step_by(BATCH) {
        let count = options.open.min(from + BATCH) - from;
        let open = (0..count).map(|_| Ok(Change::Insert(Arc::new(maker.open()?))));
        commit(store.as_ref(), open.collect::<Result<_>>()?).await?;
    }
    Ok(())
}

/// Starts a coordinator on the store that was filled. The chain is there before, as it is in production.
pub(crate) async fn start(options: &RestartOptions) -> Result<Restarted> {
    let (chain, host, _) = host::chain(0).await?;
    let start = Instant::now();
    let store = StoreSettings::at(&options.store).open().await?;
    let coordinator = host::coordinator(host::settings(0.0)?, chain, host, store).await?;
    let seconds = start.elapsed().as_secs_f64();
    let queued = coordinator.status().queued;
    if queued != options.open as u64 {
        return Err(Failure::from(format!(
            "{queued} tasks are queued, not {}",
            options.open
        )));
    }
    coordinator.shutdown(Duration::ZERO).await;
    Ok(Restarted { seconds })
}

pub(crate) fn remove(store: &Path) -> Result<()> {
    if let Some(folder) = store.parent().filter(|folder| folder.exists()) {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Makes records shaped like those of the tasks that the other rows do. The signature is over one of them only: nobody
/// verifies what is in the store already.
#[derive(Debug)]
struct Maker {
    entropy: OsEntropy,
    receipt: SignedReceipt,
    now: Timestamp,
}

impl Maker {
    fn new() -> Result<Self> {
        let entropy = OsEntropy::new()?;
        let key = Key::random(&entropy);
        let deployment = Deployment {
            chain_id: 1337,
            staking: Address::repeat_byte(1),
            payments: Address::repeat_byte(2),
        };
        let receipt = Receipt {
            coordinator: NodeId(1),
            miner: NodeId(2),
            lease: LeaseId::from(B256::ZERO),
            task: TaskId::from(B256::ZERO),
            model_hash: B256::repeat_byte(1),
            input_hash: B256::ZERO,
            output_hash: payload_hash(OUTPUT),
            states_root: B256::ZERO,
            usage: Usage {
                input_units: 1,
                output_units: 1,
                compute_millis: 1,
            },
        };
        let receipt = Signed::sign(receipt, &key, &deployment);
        Ok(Self {
            entropy,
            receipt,
            now: SystemClock.now(),
        })
    }

    fn open(&self) -> Result<TaskRecord> {
        let input = serde_json::to_string(&input())?;
        let model = host::model()?;
        let task = Task {
            id: TaskId::random(&self.entropy),
            model,
            input_hash: payload_hash(input.as_bytes()),
            input,
            price: host::price(),
            submitted_at: self.now,
            deadline: self.now.after(Duration::from_secs(3600)),
            priority: 0,
        };
        Ok(TaskRecord::new(
            task,
            Submission {
                digest: self.entropy.word(),
                ..Submission::default()
            },
        ))
    }

    async fn end(&self, open: TaskRecord, store: &dyn TaskStore) -> Result<[Change; 2]> {
        let lease = LeaseId::random(&self.entropy);
        let mut receipt = self.receipt.clone();
        receipt.value.lease = lease;
        receipt.value.task = open.task.id;
        receipt.value.input_hash = open.task.input_hash;
        let payment = Payment {
            lease,
            task: open.task.id,
            miner: receipt.value.miner,
            amount: open.task.price,
        };
        let record = TaskRecord {
            received: vec![Received {
                receipt: receipt.clone(),
                kernels: "none".into(),
            }],
            outcome: Some(Outcome::Completed {
                receipt: Box::new(receipt),
            }),
            ended_at: Some(self.now),
            ..open
        };
        let replace = Change::Replace {
            record: Arc::new(record),
            expected: 1,
            output: Some(
                store
                    .stage(lease, Output::new("text/plain", OUTPUT))
                    .await?,
            ),
            dropped: Vec::new(),
        };
        Ok([replace, Change::Pay(payment)])
    }
}

async fn commit(store: &dyn TaskStore, changes: Vec<Change>) -> Result<()> {
    match store.commit(changes).await? {
        Commit::Done(_) => Ok(()),
        Commit::Conflict(_) => Err(Failure::from("the store does not take the tasks")),
    }
}
