//! What is stored: plain data, the same for every store.

use cuckoo_core::{
    Address, B256, ErrorKind, Fault, LeaseId, NodeId, SignedReceipt, SignedVoucher, Task, TaskId,
    TaskState, Timestamp, Wei,
};
use serde::{Deserialize, Serialize};

use super::ListedState;

/// An hour since the Unix epoch began: usage of forgotten tasks is summed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hour(pub(crate) u64);

impl Hour {
    const MILLIS: u64 = 3_600_000;
    /// How long sums are kept after the tasks: longer than any month.
    const KEPT: u64 = 40 * 24;

    pub(crate) fn of(time: Timestamp) -> Self {
        Self(time.as_millis() / Self::MILLIS)
    }

    /// The first hour that still counts, when tasks are forgotten that ended before `before`.
    pub(crate) fn first_kept(before: Timestamp) -> Self {
        Self(Self::of(before).0.saturating_sub(Self::KEPT))
    }
}

/// A value and how often it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Grows with every change.
    pub version: u64,
}

/// A task as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// What admission accepted. It never changes.
    pub task: Task,
    /// Who asked for it and how. It never changes.
    pub submission: Submission,
    /// What was handed in and verified, in order of arrival.
    pub received: Vec<Received>,
    /// Leases that ended without an output, in order: noted with the task's next change.
    pub failures: Vec<Failed>,
    /// How it ended, once it did.
    pub outcome: Option<Outcome>,
    /// When it ended, once it did.
    pub ended_at: Option<Timestamp>,
}

impl TaskRecord {
    /// A task that was just accepted.
    pub fn new(task: Task, submission: Submission) -> Self {
        Self {
            task,
            submission,
            received: Vec::new(),
            failures: Vec::new(),
            outcome: None,
            ended_at: None,
        }
    }

    /// What is left of a task once it ended: whose it was and when, without what was asked, said and handed in.
    pub(crate) fn without_payload(&self) -> Self {
        let task = Task {
            model: self.task.model.clone(),
            input: String::new(),
            ..self.task
        };
        Self {
            ended_at: self.ended_at,
            ..Self::new(task, self.submission.clone())
        }
    }

    /// How it ended, as watchers learn it.
    pub fn terminal_state(&self) -> Option<TaskState> {
        Some(match self.outcome.as_ref()? {
            Outcome::Completed { receipt } => TaskState::Completed {
                miner: receipt.value.miner,
            },
            Outcome::Failed {
                kind,
                message,
                fault,
            } => TaskState::Failed {
                kind: *kind,
                message: message.clone(),
                fault: *fault,
            },
            Outcome::Cancelled => TaskState::Cancelled,
        })
    }

    /// How a list shows it.
    pub fn listed_state(&self) -> ListedState {
        match &self.outcome {
            None => ListedState::Open,
            Some(Outcome::Completed { .. }) => ListedState::Completed,
            Some(Outcome::Failed { .. }) => ListedState::Failed,
            Some(Outcome::Cancelled) => ListedState::Cancelled,
        }
    }
}

/// Who asked for a task and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The name of the requester's API key; none where requesters need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// What the requester calls this submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// keccak256 of all that was asked: a repeated key must come with the same.
    #[serde(default)]
    pub digest: B256,
    /// The address that is told of the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// A verified receipt and what an audit must know besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// What the miner signed.
    pub receipt: SignedReceipt,
    /// The arithmetic it announced: only equal kernels are compared.
    pub kernels: String,
}

/// A lease that ended without an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failed {
    /// The miner that held it.
    pub miner: NodeId,
    /// What went wrong.
    pub kind: ErrorKind,
    /// The same in the miner's words, or why it was taken away.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// With the output of this receipt.
    Completed {
        /// The accepted miner's receipt.
        receipt: Box<SignedReceipt>,
    },
    /// Without an output.
    Failed {
        /// What went wrong.
        kind: ErrorKind,
        /// The same in words, with what to do next.
        message: String,
        /// Who caused it.
        fault: Fault,
    },
    /// Its requester cancelled it.
    Cancelled,
}

impl Outcome {
    /// The lease whose output counts.
    pub fn accepted(&self) -> Option<LeaseId> {
        match self {
            Self::Completed { receipt } => Some(receipt.value.lease),
            Self::Failed { .. } | Self::Cancelled => None,
        }
    }
}

/// Pay for one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The lease: paid at most once.
    pub lease: LeaseId,
    /// Its task.
    pub task: TaskId,
    /// Who earned it.
    pub miner: NodeId,
    /// What it earned, in wei.
    pub amount: Wei,
}

/// What a coordinator owes one miner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The miner.
    pub miner: NodeId,
    /// The latest voucher over all it ever earned.
    pub voucher: SignedVoucher,
}

impl Account {
    /// All that was ever promised, in wei.
    pub fn cumulative(&self) -> Wei {
        self.voucher.value.cumulative
    }
}

/// A lease as stored: enough to take the miner's result after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The lease.
    pub lease: LeaseId,
    /// Its task.
    pub task: TaskId,
    /// Who holds it.
    pub miner: NodeId,
    /// Whether it repeats a task whose output is there.
    pub audit: bool,
    /// The model's files, as the miner announced them.
    pub model_hash: B256,
    /// The arithmetic it announced.
    pub kernels: String,
    /// Since when.
    pub granted_at: Timestamp,
}

/// A session as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// keccak256 of the token's text; the token itself is not kept.
    pub token_hash: B256,
    /// Whose it is.
    pub miner: NodeId,
    /// The operator that signed for it.
    pub operator: Address,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A session request that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonceRecord {
    /// Who sent it.
    pub miner: NodeId,
    /// What makes it different from the miner's other requests.
    pub nonce: B256,
    /// When it expires: nobody needs to know of it any more.
    pub expires_at: Timestamp,
}
