//! What a coordinator tells about itself and its miners.

use cuckoo_core::{Address, ModelId, NodeId, Timestamp, Wei};
use serde::{Deserialize, Serialize};

/// The market as one coordinator sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MarketStatus {
    /// Its node in the staking contract.
    pub coordinator: NodeId,
    /// Its operator's address.
    #[schema(value_type = cuckoo_core::schema::Address)]
    pub operator: Address,
    /// The block that the weights were read at.
    pub block: u64,
    /// The epoch of that block.
    pub epoch: u64,
    /// Since when the chain could not be read, if it cannot be now; the last weights stay in force.
    pub weights_stale_since: Option<Timestamp>,
    /// What more can be promised to miners before the escrow must be filled up, in wei; absent until the chain was asked.
    #[schema(value_type = Option<cuckoo_core::schema::Amount>)]
    pub escrow_left: Option<Wei>,
    /// Tasks that wait for a miner.
    pub queued: u64,
    /// Tasks in work or under audit.
    pub running: u64,
    /// Tasks that ended well since the start.
    pub completed: u64,
    /// Tasks that failed since the start.
    pub failed: u64,
    /// Tasks cancelled since the start.
    pub cancelled: u64,
    /// Every miner that ever opened a session or was suspended, by node.
    pub miners: Vec<MinerStatus>,
}

/// One miner as its coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MinerStatus {
    /// Its node in the staking contract.
    pub node: NodeId,
    /// Its public name.
    pub name: String,
    /// Its operator's address.
    #[schema(value_type = cuckoo_core::schema::Address)]
    pub operator: Address,
    /// The votes that count for it in this epoch, in wei.
    #[schema(value_type = cuckoo_core::schema::Amount)]
    pub weight: Wei,
    /// Has a session and showed a sign of life within the length of a lease.
    pub connected: bool,
    /// Was convicted by an audit; gets no session.
    pub suspended: bool,
    /// Tasks it could take right now.
    pub free_slots: u32,
    /// Tasks given to it so far, audits not counted.
    pub assigned: u64,
    /// Of those, how many ended with its output accepted.
    pub completed: u64,
    /// Leases it failed or let expire.
    pub failed: u64,
    /// Leases it gave back since the task was more than it can do, or would finish in time: no fault.
    #[serde(default)]
    pub refused: u64,
    /// Audits it did for others.
    pub audits: u64,
    /// Audits that found its output wrong.
    pub audits_failed: u64,
    /// All that it was ever promised by vouchers, in wei.
    #[schema(value_type = cuckoo_core::schema::Amount)]
    pub owed: Wei,
    /// The models it offers.
    pub models: Vec<ModelId>,
}
