//! What happens in the market, as a bounded stream for logs, progress bars and reports.

use cuckoo_core::{
    ErrorKind, Fault, LeaseId, NodeId, SignedReceipt, SignedVoucher, TaskId, Timestamp, Wei,
};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::Verdict;

/// Something that happened, when, and to which task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MarketEvent {
    /// When, by the coordinator's clock.
    pub at: Timestamp,
    /// The task it concerns, where it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// The steps of a task's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// It was accepted and waits for a miner.
    Submitted,
    /// A miner got it.
    Assigned {
        /// The miner.
        miner: NodeId,
        /// Its lease.
        lease: LeaseId,
    },
    /// A miner reported progress.
    Progress {
        /// The miner.
        miner: NodeId,
        /// Share done, 0 to 1000 thousandths.
        progress: u16,
    },
    /// A miner handed in an output whose receipt holds.
    Received {
        /// The miner.
        miner: NodeId,
        /// What it signed.
        receipt: SignedReceipt,
    },
    /// A second miner was drawn to repeat it.
    AuditDrawn {
        /// The auditor.
        auditor: NodeId,
        /// Its lease.
        lease: LeaseId,
    },
    /// The auditor got an output that was handed in before.
    AuditMatched {
        /// The auditor.
        auditor: NodeId,
    },
    /// The auditor got another output than any before.
    AuditMismatched {
        /// The auditor.
        auditor: NodeId,
    },
    /// It is decided which output counts, and why.
    Verdict {
        /// The decision.
        verdict: Verdict,
    },
    /// A miner was promised its pay.
    Paid {
        /// The miner.
        miner: NodeId,
        /// What this work earned, in wei.
        #[schema(value_type = cuckoo_core::schema::Amount)]
        amount: Wei,
        /// The voucher over all it ever earned.
        voucher: SignedVoucher,
    },
    /// A miner was convicted and gets no more sessions.
    Suspended {
        /// The miner.
        miner: NodeId,
        /// Index into [`Coordinator::evidence`](crate::Coordinator::evidence).
        evidence: usize,
    },
    /// A lease ended without an output, and the task waits again.
    Requeued {
        /// The miner that held it.
        miner: NodeId,
        /// Why, in words.
        reason: String,
    },
    /// It ended well.
    Completed {
        /// The miner whose output counts.
        miner: NodeId,
    },
    /// It ended without an output.
    Failed {
        /// What went wrong.
        kind: ErrorKind,
        /// The same in words.
        message: String,
        /// Who caused it.
        fault: Fault,
    },
    /// Its requester cancelled it.
    Cancelled,
}

/// The sender's side: never blocks; a receiver that lags learns how many events it missed.
#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    sender: broadcast::Sender<MarketEvent>,
}

impl EventLog {
    /// Events a slow receiver may be behind.
    const CAPACITY: usize = 4_096;

    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(Self::CAPACITY),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<MarketEvent> {
        self.sender.subscribe()
    }

    pub(crate) fn publish(&self, at: Timestamp, task: Option<TaskId>, event: Event) {
        tracing::debug!(
            task = task.map(tracing::field::display),
            ?event,
            "market event"
        );
        // No receiver is no error: events are for whoever looks.
        let _ = self.sender.send(MarketEvent { at, task, event });
    }
}
