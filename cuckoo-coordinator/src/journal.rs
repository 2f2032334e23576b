//! The journal: carries out the market's writes in order, many in one commit, and tells the market when they are durable.
//!
//! While a commit is under way the next writes gather, so that under load many tasks share what a commit costs, and a
//! task that comes alone waits for nobody.

mod commit;
mod evidence;

use std::sync::{Arc, Weak};

use cuckoo_core::{Clock, LeaseId, NodeId, Result, SignedVoucher, TaskId, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Evidence;
use crate::coordinator::Inner;
use crate::settle::Ledger;
use crate::store::{
    Change, LeaseRecord, NonceRecord, Payment, SessionRecord, StagedOutput, TaskRecord, TaskStore,
};
use crate::telemetry::CommitCost;

pub(crate) use commit::tried;

/// The most writes in one commit.
const MAX_BATCH: usize = 512;

/// Something to write once the market's lock is free.
#[derive(Debug)]
pub(crate) enum Write {
    /// A new task.
    Insert {
        record: Arc<TaskRecord>,
        reply: oneshot::Sender<Result<TaskId>>,
    },
    /// A task with a receipt, and the output that came with it.
    Receive {
        lease: LeaseId,
        output: StagedOutput,
        record: Arc<TaskRecord>,
        version: u64,
    },
    /// A task without the outputs it had.
    Reopen {
        record: Arc<TaskRecord>,
        version: u64,
        dropped: Vec<LeaseId>,
    },
    /// A task's end, with all that follows from it.
    Conclude(Box<Conclude>),
    /// A lease was granted.
    PutLease(LeaseRecord),
    /// A lease ended without its task.
    RemoveLease { task: TaskId, lease: LeaseId },
    /// A session that was asked for.
    OpenSession(Box<OpenSession>),
    /// A miner's session ended.
    RemoveSession(NodeId),
    /// The webhook of a task was told of its end, or given up.
    Notified(TaskId),
}

/// A session, the request that it was asked for with, and who waits for it.
#[derive(Debug)]
pub(crate) struct OpenSession {
    pub(crate) session: SessionRecord,
    pub(crate) nonce: NonceRecord,
    pub(crate) at: Timestamp,
    pub(crate) reply: oneshot::Sender<Result<NodeId>>,
}

/// How a task ends.
#[derive(Debug)]
pub(crate) struct Conclude {
    pub(crate) record: Arc<TaskRecord>,
    pub(crate) version: u64,
    /// The output that ended it, when it came only now.
    pub(crate) output: Option<StagedOutput>,
    pub(crate) payments: Vec<Payment>,
    pub(crate) conviction: Option<Conviction>,
    pub(crate) at: Timestamp,
}

/// Who is convicted, and whose output is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conviction {
    pub(crate) convicted: NodeId,
    pub(crate) accepted: NodeId,
}

/// What became of a write; the market takes it from here.
#[derive(Debug)]
pub(crate) enum Written {
    /// The task, or the one that its idempotency key names already.
    Inserted {
        id: TaskId,
        written: Result<Admitted>,
        reply: oneshot::Sender<Result<TaskId>>,
    },
    Received {
        lease: LeaseId,
        written: Result<u64>,
    },
    Reopened {
        id: TaskId,
        written: Result<u64>,
    },
    Concluded {
        id: TaskId,
        written: Result<Concluded>,
    },
    SessionOpened {
        asked: Box<OpenSession>,
        written: Result<()>,
    },
}

/// Where a new task went.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Admitted {
    /// Into the store, at this version.
    New(u64),
    /// Nowhere: this one was asked for before.
    Known(TaskId),
}

/// What was made durable when a task ended.
#[derive(Debug)]
pub(crate) struct Concluded {
    pub(crate) version: u64,
    /// What was paid, and each miner's voucher with that included.
    pub(crate) paid: Vec<(Payment, SignedVoucher)>,
    pub(crate) evidence: Option<Evidence>,
}

/// The one that writes.
pub(crate) struct Journal {
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Ledger,
    /// What the commits of the batch in work cost.
    pub(crate) costs: Vec<CommitCost>,
}

impl Journal {
    /// Writes what comes until nobody can send any more, or `stop` and nothing is left.
    pub(crate) async fn run(
        mut self,
        inner: Weak<Inner>,
        mut writes: mpsc::UnboundedReceiver<Write>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        loop {
            // Whoever is ready to run enqueues its write first: under load more tasks share a commit and a voucher.
            tokio::task::yield_now().await;
            let count = tokio::select! {
                biased;
                count = writes.recv_many(&mut batch, MAX_BATCH) => count,
                () = stop.cancelled(), if !writes.is_closed() => {
                    writes.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            let written = self.write(std::mem::take(&mut batch)).await;
            let costs = std::mem::take(&mut self.costs);
            if let Some(inner) = inner.upgrade() {
                inner.with(|market, now| {
                    market.tally.committed(&costs, now);
                    for written in written {
                        market.written(written, now);
                    }
                });
            }
        }
    }
}

impl Write {
    /// The task as it is to be stored.
    fn record(&self) -> Option<&TaskRecord> {
        match self {
            Self::Insert { record, .. }
            | Self::Receive { record, .. }
            | Self::Reopen { record, .. } => Some(record),
            Self::Conclude(conclude) => Some(&conclude.record),
            _ => None,
        }
    }

    fn payments(&self) -> &[Payment] {
        match self {
            Self::Conclude(conclude) => &conclude.payments,
            _ => &[],
        }
    }

    /// What it asks of the store.
    fn changes(&self, evidence: Option<&Evidence>) -> Vec<Change> {
        match self {
            Self::Insert { record, .. } => vec![Change::Insert(Arc::clone(record))],
            Self::Receive {
                output,
                record,
                version,
                ..
            } => vec![Change::Replace {
                record: Arc::clone(record),
                expected: *version,
                output: Some(output.clone()),
                dropped: Vec::new(),
            }],
            Self::Reopen {
                record,
                version,
                dropped,
            } => vec![Change::Replace {
                record: Arc::clone(record),
                expected: *version,
                output: None,
                dropped: dropped.clone(),
            }],
            Self::Conclude(conclude) => {
                let evidence =
                    evidence.map(|evidence| Change::AddEvidence(evidence.clone().into()));
                let replace = Change::Replace {
                    record: Arc::clone(&conclude.record),
                    expected: conclude.version,
                    output: conclude.output.clone(),
                    dropped: Vec::new(),
                };
                let pay = conclude.payments.iter().cloned().map(Change::Pay);
                evidence.into_iter().chain([replace]).chain(pay).collect()
            }
            Self::PutLease(lease) => vec![Change::PutLease(lease.clone())],
            Self::RemoveLease { task, lease } => vec![Change::RemoveLease {
                task: *task,
                lease: *lease,
            }],
            Self::OpenSession(asked) => vec![
                Change::PutNonce {
                    nonce: asked.nonce.clone(),
                    at: asked.at,
                },
                Change::PutSession(asked.session.clone()),
            ],
            Self::RemoveSession(miner) => vec![Change::RemoveSession(*miner)],
            Self::Notified(task) => vec![Change::Notified(*task)],
        }
    }
}
