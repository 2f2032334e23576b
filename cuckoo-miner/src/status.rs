//! What a miner says about itself.

use cuckoo_core::{Address, NodeId, Wei};
use serde::Serialize;

/// A miner at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MinerStatus {
    /// The address it signs with.
    pub operator: Address,
    /// Tasks it may run at once.
    pub slots: u32,
    /// Tasks it runs now, those whose output is being handed in included.
    pub running: u32,
    /// Outputs that coordinators accepted.
    pub completed: u64,
    /// Runs that failed, or whose output no coordinator took.
    pub failed: u64,
    /// Runs stopped because their result was not wanted any more.
    pub cancelled: u64,
    /// The coordinators it serves, in the order given.
    pub coordinators: Vec<CoordinatorStatus>,
}

/// A miner's relation to one coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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
    /// What its latest voucher is worth in all, in wei.
    pub owed: Wei,
}
