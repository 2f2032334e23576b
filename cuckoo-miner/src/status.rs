//! What a miner says about itself.

use cuckoo_core::{Address, ModelId, NodeId, TaskId, Timestamp, Wei};
use serde::{Deserialize, Serialize};

/// A miner at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinerStatus {
    /// The address it signs with.
    pub operator: Address,
    /// The moment.
    pub at: Timestamp,
    /// When it was started.
    pub started_at: Timestamp,
    /// Tasks it may run at once.
    pub slots: u32,
    /// Tasks it runs now, those whose output is being handed in included.
    pub running: u32,
    /// Outputs that coordinators accepted.
    pub completed: u64,
    /// Runs that failed, or whose output no coordinator took.
    pub failed: u64,
    /// Tasks given back without fault: they were more than it can do or would finish in time, or there was no room.
    #[serde(default)]
    pub refused: u64,
    /// Runs stopped because their result was not wanted any more.
    pub cancelled: u64,
    /// What vouchers paid for work since the start, in wei.
    pub earned: Wei,
    /// What an hour like the last ones brings, in wei.
    pub hourly: Wei,
    /// The tasks it runs now.
    pub runs: Vec<RunStatus>,
    /// The coordinators it serves, in the order given.
    pub coordinators: Vec<CoordinatorStatus>,
}

/// A task that a miner runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The task.
    pub task: TaskId,
    /// Whose it is.
    pub coordinator: NodeId,
    /// On which model.
    pub model: ModelId,
    /// Share done, 0 to 1000 thousandths, as the executor says.
    pub progress: u16,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// When it must be done.
    pub deadline: Timestamp,
}

/// A miner's relation to one coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Its node; absent until the first session.
    pub node: Option<NodeId>,
    /// The miner's own node, as this coordinator knows it; absent until the first session.
    pub miner: Option<NodeId>,
    /// Whether a session is open.
    pub connected: bool,
    /// Whether it was given up for good; `last_error` says why.
    pub dropped: bool,
    /// The latest trouble, absent once a call succeeded.
    pub last_error: Option<String>,
    /// Its weight on chain, in wei.
    pub stake: Wei,
    /// Its share of the slots' time, in thousandths: what it gets while all coordinators have work.
    pub share: u16,
    /// How long small calls to it take, in milliseconds; absent until one was made.
    pub latency_millis: Option<u64>,
    /// Outputs of this miner that it accepted.
    pub completed: u64,
    /// Runs for it that failed, or whose output it did not take.
    pub failed: u64,
    /// Tasks of it that were given back without fault.
    #[serde(default)]
    pub refused: u64,
    /// What its vouchers paid for work since the start, in wei.
    pub earned: Wei,
    /// What an hour like the last ones brings from it, in wei.
    pub hourly: Wei,
    /// What its latest voucher is worth in all, in wei.
    pub owed: Wei,
    /// What of that was redeemed, in wei, at the last look at the chain.
    pub redeemed: Wei,
    /// What its escrow holds, for all miners, in wei; absent until it was looked at, which a first voucher starts.
    pub escrow: Option<Wei>,
    /// What it promised beyond what was redeemed and is in escrow, in wei.
    pub uncovered: Wei,
    /// What it accepted and promised no pay for, less the forgiven share, in wei.
    pub unpaid: Wei,
    /// The price of its tasks in work, in wei.
    pub in_work: Wei,
    /// Since when it owes more than it may.
    pub held_since: Option<Timestamp>,
    /// Why it is asked for no work, and what to do about that.
    pub held: Option<String>,
}
