//! The durable truth: tasks, outputs, pay and evidence.
//!
//! Every change of a task or an account is a compare-and-set on its version, and nothing assumes shared memory, so that
//! an embedded database and a cluster's key-value store both fit.

mod memory;

use std::fmt;

use async_trait::async_trait;
use cuckoo_core::{
    ErrorKind, Fault, LeaseId, NodeId, Output, Result, SignedReceipt, SignedVoucher, Task, TaskId,
    Wei,
};
use serde::{Deserialize, Serialize};

use crate::Evidence;

pub use memory::MemoryStore;

/// Where a coordinator keeps what must survive it. Writes return once they are durable.
///
/// # Errors
/// `Conflict` when a version is not the expected one; `Unavailable` when the store cannot be reached, which callers
/// retry. Every write but [`insert`](Self::insert) may be repeated without harm.
#[async_trait]
pub trait TaskStore: fmt::Debug + Send + Sync + 'static {
    /// Adds a task; gives its first version. `Conflict` when the id is taken.
    async fn insert(&self, record: TaskRecord) -> Result<u64>;
    /// A task and its version, when it is there.
    async fn load(&self, task: TaskId) -> Result<Option<Versioned<TaskRecord>>>;
    /// Replaces a task whose version is `expected`; gives the next version.
    async fn replace(&self, record: TaskRecord, expected: u64) -> Result<u64>;
    /// All tasks without an outcome, oldest first: what a coordinator that starts again takes up.
    async fn unfinished(&self) -> Result<Vec<Versioned<TaskRecord>>>;
    /// Forgets a task, its outputs and its payments (not the accounts they added to).
    async fn remove(&self, task: TaskId) -> Result<()>;

    /// Keeps what came back for a lease of a task.
    async fn put_output(&self, task: TaskId, lease: LeaseId, output: Output) -> Result<()>;
    /// What came back for a lease, when it is kept.
    async fn output(&self, lease: LeaseId) -> Result<Option<Output>>;
    /// Forgets what came back for a lease.
    async fn remove_output(&self, lease: LeaseId) -> Result<()>;

    /// What a miner is owed; an empty account of version 0 when it never earned anything.
    async fn account(&self, miner: NodeId) -> Result<Versioned<Account>>;
    /// All accounts, by miner.
    async fn accounts(&self) -> Result<Vec<Account>>;
    /// Adds to the account of version `expected` of the miner that a payment names, and notes the payment under its
    /// lease, both or neither. A lease that was paid already changes nothing, whatever `expected` is.
    async fn pay(&self, payment: Payment, expected: u64) -> Result<PaymentReply>;

    /// Keeps what convicted a miner, once for each task.
    async fn add_evidence(&self, evidence: Evidence) -> Result<()>;
    /// All evidence, oldest first.
    async fn evidence(&self) -> Result<Vec<Evidence>>;
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
    /// What admission accepted.
    pub task: Task,
    /// What was handed in and verified, in order of arrival.
    pub received: Vec<Received>,
    /// How it ended, once it did.
    pub outcome: Option<Outcome>,
}

/// A verified receipt and what an audit must know besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// What the miner signed.
    pub receipt: SignedReceipt,
    /// The arithmetic it announced: only equal kernels are compared.
    pub kernels: String,
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

/// Pay for one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The lease: paid at most once.
    pub lease: LeaseId,
    /// Its task.
    pub task: TaskId,
    /// What it earned, in wei.
    pub amount: Wei,
    /// The voucher with this payment included; names the miner.
    pub voucher: SignedVoucher,
}

/// What became of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentReply {
    /// It is noted.
    Paid,
    /// The lease was paid before, with this payment.
    PaidBefore(Box<Payment>),
}

/// What a coordinator owes one miner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The miner.
    pub miner: NodeId,
    /// The latest voucher over all it ever earned.
    pub voucher: Option<SignedVoucher>,
}

impl Account {
    /// All that was ever promised, in wei.
    pub fn cumulative(&self) -> Wei {
        self.voucher
            .as_ref()
            .map_or(Wei::ZERO, |voucher| voucher.value.cumulative)
    }
}
