//! The journal: carries out the market's writes, one task's in order, and tells the market when they are durable.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    Clock, Error, ErrorKind, LeaseId, NodeId, Output, Result, Retry, TaskId, TaskState, Timestamp,
};
use futures::future::{self, Either};
use tokio::sync::{oneshot, watch};

use crate::coordinator::Inner;
use crate::market::Concluded;
use crate::settle;
use crate::store::TaskRecord;
use crate::{Evidence, Exhibit};

/// Something to write once the market's lock is free.
#[derive(Debug)]
pub(crate) enum Write {
    /// A new task.
    Insert {
        record: TaskRecord,
        reply: oneshot::Sender<Result<watch::Receiver<TaskState>>>,
    },
    /// An output and the task with its receipt.
    Receive {
        lease: LeaseId,
        output: Output,
        record: TaskRecord,
        version: u64,
    },
    /// A task without the outputs it had.
    Reopen {
        record: TaskRecord,
        version: u64,
        dropped: Vec<LeaseId>,
    },
    /// A task's end, with all that follows from it.
    Conclude {
        record: TaskRecord,
        version: u64,
        paid: Vec<LeaseId>,
        conviction: Option<Conviction>,
        at: Timestamp,
    },
    /// A task that was kept long enough.
    Forget(TaskId),
}

/// Who is convicted, and whose output is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conviction {
    pub(crate) convicted: NodeId,
    pub(crate) accepted: NodeId,
}

/// How often a write is tried, and how long each try may take.
const TRIES: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);

impl Inner {
    /// Carries out one write. Runs detached from whoever caused it, so that a dropped caller stops nothing half-way.
    pub(crate) async fn carry_out(self: Arc<Self>, write: Write) {
        match write {
            Write::Insert { record, reply } => {
                let id = record.task.id;
                let written = self.insert(record).await;
                self.with(|market, now| market.admitted(id, written, reply, now));
            }
            Write::Receive {
                lease,
                output,
                record,
                version,
            } => {
                let written = self.receive(lease, output, record, version).await;
                self.with(|market, now| market.received(lease, written, now));
            }
            Write::Reopen {
                record,
                version,
                dropped,
            } => {
                let id = record.task.id;
                let written = self.replace(record, version).await;
                self.with(|market, now| market.reopened(id, written, now));
                self.drop_outputs(dropped).await;
            }
            Write::Conclude {
                record,
                version,
                paid,
                conviction,
                at,
            } => {
                let id = record.task.id;
                let written = self.conclude(record, version, paid, conviction, at).await;
                self.with(|market, now| market.concluded(id, written, now));
            }
            Write::Forget(id) => {
                if let Err(error) = self.durably(|| self.store.remove(id)).await {
                    tracing::warn!(task = %id, %error, "a finished task could not be removed from the store");
                }
                self.with(|market, _| market.forgotten(id));
            }
        }
    }

    async fn receive(
        &self,
        lease: LeaseId,
        output: Output,
        record: TaskRecord,
        version: u64,
    ) -> Result<u64> {
        let task = record.task.id;
        self.durably(|| self.store.put_output(task, lease, output.clone()))
            .await?;
        self.replace(record, version).await
    }

    async fn insert(&self, record: TaskRecord) -> Result<u64> {
        let written = self.durably(|| self.store.insert(record.clone())).await;
        self.or_as_meant(written, &record).await
    }

    async fn replace(&self, record: TaskRecord, version: u64) -> Result<u64> {
        let written = self
            .durably(|| self.store.replace(record.clone(), version))
            .await;
        self.or_as_meant(written, &record).await
    }

    /// A repeated write conflicts with itself when only the first try's answer was lost: then all is as meant.
    async fn or_as_meant(&self, written: Result<u64>, record: &TaskRecord) -> Result<u64> {
        let Err(error) = written else { return written };
        if error.kind() == ErrorKind::Conflict
            && let Some(stored) = self.durably(|| self.store.load(record.task.id)).await?
            && stored.value == *record
        {
            return Ok(stored.version);
        }
        Err(error)
    }

    /// Evidence and pay first, the outcome last: after a crash in between, the task is still open and is judged again,
    /// and what was paid is not paid twice.
    async fn conclude(
        self: &Arc<Self>,
        record: TaskRecord,
        version: u64,
        paid: Vec<LeaseId>,
        conviction: Option<Conviction>,
        at: Timestamp,
    ) -> Result<Concluded> {
        let mut concluded = Concluded::default();
        if let Some(conviction) = conviction {
            let evidence = self.gather(&record, conviction, at).await?;
            self.durably(|| self.store.add_evidence(evidence.clone()))
                .await?;
            concluded.evidence = Some(evidence);
        }
        for received in &record.received {
            let receipt = &received.receipt.value;
            if paid.contains(&receipt.lease) {
                let voucher = settle::pay(self, &record.task, receipt).await?;
                concluded.vouchers.insert(receipt.lease, voucher);
            }
        }
        concluded.version = self.replace(record.clone(), version).await?;
        let accepted = match &record.outcome {
            Some(crate::store::Outcome::Completed { receipt }) => Some(receipt.value.lease),
            _ => None,
        };
        let leases = record
            .received
            .iter()
            .map(|received| received.receipt.value.lease);
        self.drop_outputs(leases.filter(|lease| Some(*lease) != accepted).collect())
            .await;
        Ok(concluded)
    }

    async fn gather(
        &self,
        record: &TaskRecord,
        conviction: Conviction,
        at: Timestamp,
    ) -> Result<Evidence> {
        let mut exhibits = Vec::new();
        for received in &record.received {
            let lease = received.receipt.value.lease;
            let output = self.durably(|| self.store.output(lease)).await?;
            let output = output.ok_or_else(|| Error::internal("the store lost an output"))?;
            exhibits.push(Exhibit {
                receipt: received.receipt.clone(),
                output_hash: received.receipt.value.output_hash,
                media_type: output.media_type,
                output: output.bytes,
            });
        }
        Ok(Evidence {
            task: record.task.clone(),
            at,
            convicted: conviction.convicted,
            accepted: conviction.accepted,
            exhibits,
        })
    }

    async fn drop_outputs(&self, leases: Vec<LeaseId>) {
        for lease in leases {
            if let Err(error) = self.durably(|| self.store.remove_output(lease)).await {
                // It goes with its task at the latest.
                tracing::warn!(%lease, %error, "an output that is not needed could not be removed");
            }
        }
    }

    /// Tries a store operation again while the store says that later may help.
    pub(crate) async fn durably<T, F>(&self, operation: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let clock: &dyn Clock = self.clock.as_ref();
        let mut pause = FIRST_PAUSE;
        for tries in 1.. {
            let patience = clock.sleep(PATIENCE);
            let outcome = match future::select(Box::pin(operation()), patience).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(_) => Err(Error::unavailable("the store did not answer in time")),
            };
            match outcome {
                Err(error) if error.retry() == Retry::Later && tries < TRIES => {
                    tracing::warn!(%error, tries, "the store failed; trying again");
                }
                outcome => return outcome,
            }
            clock.sleep(pause).await;
            pause *= 4;
        }
        Err(Error::internal("no try was made"))
    }
}
