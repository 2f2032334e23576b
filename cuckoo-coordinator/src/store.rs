//! The durable truth: tasks, leases, sessions and the requests for them, outputs, pay and evidence.
//!
//! One call writes: [`TaskStore::commit`] takes a batch of [`Change`]s and makes all of them durable or none. Whoever
//! changes a task or an account names the version it read, so nothing assumes shared memory, and an embedded database
//! and a cluster's key-value store both fit.

mod memory;
mod objects;
mod record;
mod settings;
mod sqlite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cuckoo_core::{B256, LeaseId, ModelId, NodeId, Output, Result, TaskId, Timestamp, Wei};
use futures::stream::{self, BoxStream, StreamExt as _};
use serde::{Deserialize, Serialize};

use crate::Evidence;

pub use memory::MemoryStore;
pub(crate) use record::Hour;
pub use record::{
    Account, Failed, LeaseRecord, NonceRecord, Outcome, Payment, Received, SessionRecord,
    Submission, TaskRecord, Versioned,
};
pub use settings::{StoreSettings, SyncLevel};
#[cfg(feature = "fuzzing")]
pub use sqlite::{RowStore, Stored};
pub use sqlite::{SqliteStore, StoreStats};

/// Where a coordinator keeps what must survive it.
///
/// # Errors
/// `Unavailable` when the store cannot be reached or has no room, which callers retry; whether the call took effect is
/// then not known.
#[async_trait]
pub trait TaskStore: fmt::Debug + Send + Sync + 'static {
    /// Carries out `changes` in order, all or none, and returns once they are durable.
    async fn commit(&self, changes: Vec<Change>) -> Result<Commit>;

    /// Makes an output ready to be named by a [`Change`]: a large one is written where large ones are kept.
    async fn stage(&self, lease: LeaseId, output: Output) -> Result<StagedOutput>;
    /// Forgets an output that was staged and that no change named in the end.
    async fn discard(&self, staged: StagedOutput) -> Result<()>;
    /// The accepted or still undecided output of a task's lease, when it is kept.
    async fn output(&self, task: TaskId, lease: LeaseId) -> Result<Option<Output>>;
    /// The same piece by piece, so that a large one need not be in memory.
    async fn output_stream(&self, task: TaskId, lease: LeaseId) -> Result<Option<OutputStream>> {
        Ok(self.output(task, lease).await?.map(OutputStream::from))
    }

    /// A task and its version, when it is kept.
    async fn load(&self, task: TaskId) -> Result<Option<Versioned<TaskRecord>>>;
    /// Tasks without an outcome, in the order they were inserted, at most `limit` of those inserted after `after`: what
    /// a coordinator that starts again takes up.
    async fn unfinished(
        &self,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Versioned<TaskRecord>>>;
    /// Tasks that match, the latest inserted first.
    async fn list(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>>;
    /// Forgets finished tasks with their outputs and payments (not the accounts these added to): those that ended before
    /// `before`, and the oldest beyond `keep`. Does at most a bounded part of it and gives how many tasks went: zero
    /// when nothing is left to do.
    async fn sweep(&self, before: Timestamp, keep: usize) -> Result<usize>;

    /// Every lease that was granted and has not ended.
    async fn leases(&self) -> Result<Vec<LeaseRecord>>;
    /// Every session that was opened and not closed.
    async fn sessions(&self) -> Result<Vec<SessionRecord>>;
    /// Every session request that was used and has not expired at `at`.
    async fn nonces(&self, at: Timestamp) -> Result<Vec<NonceRecord>>;
    /// All accounts, by miner.
    async fn accounts(&self) -> Result<Vec<Versioned<Account>>>;
    /// The payment for a lease, while its task is kept.
    async fn payment(&self, task: TaskId, lease: LeaseId) -> Result<Option<Payment>>;
    /// All evidence, oldest first.
    async fn evidence(&self) -> Result<Vec<Evidence>>;

    /// Finished tasks whose webhook has not been told yet, oldest first, at most `limit`.
    async fn unnotified(&self, limit: usize) -> Result<Vec<TaskRecord>>;
    /// What each requester with a name submitted since a time, and has open. Tasks that were forgotten count by the hour
    /// they were submitted in, for 40 days.
    async fn usage(&self, since: Timestamp) -> Result<Vec<RequesterUsage>>;

    /// Keeps a blob that inputs may refer to, under keccak256 of its bytes; keeping it again at a later time extends its
    /// life.
    async fn put_blob(&self, hash: B256, blob: Output, at: Timestamp) -> Result<()>;
    /// Extends the life of a blob, if it is kept; tells whether it is.
    async fn extend_blob(&self, hash: B256, at: Timestamp) -> Result<bool>;
    /// A blob, while it is kept: a sweep takes those kept last before its time.
    async fn blob(&self, hash: B256) -> Result<Option<Output>>;
}

/// Something to be made durable.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new task, of version 1. When its requester's idempotency key names a task that is kept, nothing changes and the answer is
    /// [`Committed::Known`]. Conflicts when the id is taken.
    Insert(Arc<TaskRecord>),
    /// An open task of version `expected` becomes `record`. One that has an outcome now is finished: its leases go, of
    /// its outputs only that of the accepted receipt stays, and it never changes again.
    Replace {
        /// What it becomes.
        record: Arc<TaskRecord>,
        /// The version that was read.
        expected: u64,
        /// What came back for a lease, kept with the task.
        output: Option<StagedOutput>,
        /// Outputs that are needed no longer.
        dropped: Vec<LeaseId>,
    },
    /// Notes a payment under its lease. Conflicts when the lease was paid before, or its task is not kept.
    Pay(Payment),
    /// What a miner is owed becomes this, from version `expected`; version 0 is an account that never earned anything.
    Account {
        /// What it becomes.
        account: Account,
        /// The version that was read.
        expected: u64,
    },
    /// A lease was granted; nothing changes when its task has ended.
    PutLease(LeaseRecord),
    /// A lease ended otherwise than with its task.
    RemoveLease {
        /// Its task.
        task: TaskId,
        /// The lease.
        lease: LeaseId,
    },
    /// A session was opened; it replaces the miner's earlier one.
    PutSession(SessionRecord),
    /// A miner's session ended.
    RemoveSession(NodeId),
    /// A session request is used; those that have expired are forgotten. Conflicts when it was used before and has not
    /// expired.
    PutNonce {
        /// The request.
        nonce: NonceRecord,
        /// When it is used.
        at: Timestamp,
    },
    /// What convicted a miner, once for each task.
    AddEvidence(Box<Evidence>),
    /// A finished task's webhook was told, or given up.
    Notified(TaskId),
}

/// What became of a batch of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// All are durable; one answer for each, in order.
    Done(Vec<Committed>),
    /// None is, for the changes at these positions conflict with what is stored or with those before them that do not:
    /// read again and decide anew.
    Conflict(Vec<usize>),
}

/// What became of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is durable; a task or account has this version now (0 for what has none).
    Version(u64),
    /// The idempotency key names this task already.
    Known {
        /// The task.
        task: TaskId,
        /// [`Submission::digest`] of what was asked then.
        digest: B256,
    },
}

/// An output on its way into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedOutput {
    /// The lease it came back for.
    pub lease: LeaseId,
    /// Media type, such as `image/png`.
    pub media_type: String,
    /// Its length, in bytes.
    pub size: u64,
    /// The bytes, or where [`TaskStore::stage`] has written them.
    pub content: Content,
}

/// A payload, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Small: to be kept with what it belongs to.
    Inline(Bytes),
    /// The name of an object, made for this payload alone.
    Object(String),
}

/// An output on its way out of the store.
pub struct OutputStream {
    /// Media type, such as `image/png`.
    pub media_type: String,
    /// Its length, in bytes.
    pub size: u64,
    /// The bytes.
    pub chunks: BoxStream<'static, Result<Bytes>>,
}

impl From<Output> for OutputStream {
    fn from(output: Output) -> Self {
        Self {
            media_type: output.media_type,
            size: output.bytes.len() as u64,
            chunks: stream::iter([Ok(output.bytes)]).boxed(),
        }
    }
}

impl fmt::Debug for OutputStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputStream")
            .field("media_type", &self.media_type)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What a requester submitted since a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequesterUsage {
    /// The name of its API key.
    pub requester: String,
    /// How many tasks.
    pub tasks: u64,
    /// Of those, how many have not ended.
    pub open: u64,
    /// The price of all of them, in wei; those that ended without an output cost nothing.
    pub spent: Wei,
}

impl RequesterUsage {
    /// Nothing yet.
    pub(crate) fn none(requester: String) -> Self {
        Self {
            requester,
            tasks: 0,
            open: 0,
            spent: Wei::ZERO,
        }
    }
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only those of this requester. `None` is all of them.
    pub requester: Option<String>,
    /// Only those for this model.
    pub model: Option<ModelId>,
    /// Only those that stand so.
    pub state: Option<ListedState>,
    /// Only those inserted before this task.
    pub before: Option<TaskId>,
    /// The most to give.
    pub limit: usize,
}

/// How a listed task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListedState {
    /// Not ended.
    Open,
    /// Ended with an output.
    Completed,
    /// Ended without one.
    Failed,
    /// Cancelled by its requester.
    Cancelled,
}
