//! A lease: one task given to one miner once.

use cuckoo_core::{
    B256, CompletionReply, Error, ErrorBody, ErrorKind, LeaseId, LeaseStatus, NodeId,
    SignedReceipt, TaskId, Timestamp, Wei,
};
use tokio::sync::watch;

use crate::preview::Streamed;
use crate::store::LeaseRecord;

/// What the miner of a completion is told, once it is known.
pub(crate) type Reply = Option<Result<CompletionReply, ErrorBody>>;

#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) task: TaskId,
    pub(crate) miner: NodeId,
    pub(crate) role: Role,
    pub(crate) model_hash: B256,
    pub(crate) kernels: String,
    pub(crate) granted_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// A poll has carried it to the miner.
    pub(crate) delivered: bool,
    /// The miner has reported progress.
    pub(crate) begun: bool,
    /// Until when its miner may refuse it without blame, if it has not begun.
    pub(crate) refusable_until: Timestamp,
    /// The store has been told of it.
    pub(crate) noted: bool,
    /// What the escrow holds ready for it, in wei.
    pub(crate) reserved: Wei,
    pub(crate) streamed: Streamed,
    pub(crate) state: LeaseState,
}

/// Why a lease was given. The miner cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The task's own work.
    Work,
    /// A repetition of a task whose output is there.
    Audit,
}

#[derive(Debug)]
pub(crate) enum LeaseState {
    /// In work.
    Active,
    /// An output came; `reply` tells what became of it.
    Received {
        receipt: Box<SignedReceipt>,
        reply: watch::Sender<Reply>,
    },
    /// Over without an output.
    Ended(LeaseEnd),
}

/// Why a lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseEnd {
    /// The task was cancelled or needs no audit any more.
    Cancelled,
    /// No heartbeat came in time.
    Expired,
    /// The miner gave it back, or its session ended.
    GivenBack,
    /// The task ended at its deadline.
    TaskEnded,
}

/// What a lease came to that ended without an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The miner failed it or let it expire, and is to blame.
    Failed,
    /// The miner calls the input invalid.
    Invalid,
    /// The task is more than this miner can do, or would finish in time: it is not asked again.
    Refused,
    /// The miner has no room now, closes or was cut off: it may be asked again soon.
    Returned,
}

impl Loss {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Failed, Self::Invalid, Self::Refused, Self::Returned];

    /// What a failure of this kind is, unless it is a refusal.
    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::Rejected
            | ErrorKind::Unavailable
            | ErrorKind::Closed
            | ErrorKind::Cancelled => Self::Returned,
            _ => Self::Failed,
        }
    }

    /// Its name among the numbers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Returned => "returned",
        }
    }
}

impl Lease {
    /// As it is stored.
    pub(crate) fn record(&self, id: LeaseId) -> LeaseRecord {
        LeaseRecord {
            lease: id,
            task: self.task,
            miner: self.miner,
            audit: self.role == Role::Audit,
            model_hash: self.model_hash,
            kernels: self.kernels.clone(),
            granted_at: self.granted_at,
        }
    }

    /// As it was stored, with time anew: the coordinator was away, not the miner.
    pub(crate) fn restored(record: LeaseRecord, reserved: Wei, expires_at: Timestamp) -> Self {
        Self {
            task: record.task,
            miner: record.miner,
            role: match record.audit {
                true => Role::Audit,
                false => Role::Work,
            },
            model_hash: record.model_hash,
            kernels: record.kernels,
            granted_at: record.granted_at,
            expires_at,
            delivered: true,
            begun: false,
            refusable_until: expires_at,
            noted: true,
            reserved,
            streamed: None,
            state: LeaseState::Active,
        }
    }

    /// Whether a refusal is a failure by now: who has begun with a task has taken it, and who looked at it for long keeps
    /// others from it.
    pub(crate) fn is_taken(&self, now: Timestamp) -> bool {
        self.begun || self.streamed.is_some() || now > self.refusable_until
    }

    pub(crate) fn is_active(&self) -> bool {
        matches!(self.state, LeaseState::Active)
    }

    /// What a heartbeat answers.
    pub(crate) fn status(&self) -> LeaseStatus {
        match self.state {
            LeaseState::Active => LeaseStatus::Active {
                expires_at: self.expires_at,
            },
            LeaseState::Ended(LeaseEnd::Cancelled) => LeaseStatus::Cancelled,
            LeaseState::Received { .. } | LeaseState::Ended(_) => LeaseStatus::Ended,
        }
    }
}

impl LeaseState {
    /// Answers the completion that came, once.
    pub(crate) fn answer(&self, outcome: impl FnOnce() -> Result<CompletionReply, ErrorBody>) {
        if let Self::Received { reply, .. } = self {
            reply.send_if_modified(|reply| {
                let first = reply.is_none();
                if first {
                    *reply = Some(outcome());
                }
                first
            });
        }
    }
}

impl LeaseEnd {
    /// What a completion that comes too late is told.
    pub(crate) fn refusal(self) -> Error {
        Error::conflict(match self {
            Self::Cancelled => "the task was cancelled; drop this output and poll again",
            Self::Expired => {
                "the lease expired and the task went to another miner; send heartbeats in time and poll again"
            }
            Self::GivenBack => "the lease was given back before; poll again",
            Self::TaskEnded => "the task ended at its deadline; poll again",
        })
    }
}
