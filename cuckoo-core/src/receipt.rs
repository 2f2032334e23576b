//! What a miner signs for work and a coordinator signs for pay.

use std::fmt;

use alloy::primitives::{B256, Keccak256, U256, keccak256};
use serde::{Deserialize, Serialize};

use crate::{LeaseId, NodeId, Signed, TaskId};

/// What a task consumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Usage {
    /// Units read: tokens of a prompt.
    pub input_units: u64,
    /// Units made: tokens of text, pixels of a picture.
    pub output_units: u64,
    /// Time spent computing, in milliseconds.
    pub compute_millis: u64,
}

/// A miner's claim, to be signed by its operator: this lease's task, on this model and input, gave this output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The coordinator that gave the lease.
    pub coordinator: NodeId,
    /// The miner that held it.
    pub miner: NodeId,
    /// The lease.
    pub lease: LeaseId,
    /// The task.
    pub task: TaskId,
    /// Hash of the model's files.
    #[schema(value_type = crate::schema::Word)]
    pub model_hash: B256,
    /// keccak256 of the input's bytes.
    #[schema(value_type = crate::schema::Word)]
    pub input_hash: B256,
    /// keccak256 of the output's bytes.
    #[schema(value_type = crate::schema::Word)]
    pub output_hash: B256,
    /// Merkle root over intermediate states; zero where the model gives none.
    #[schema(value_type = crate::schema::Word)]
    pub states_root: B256,
    /// What it consumed.
    pub usage: Usage,
}

/// A coordinator's promise of the cumulative amount it owes one miner; a later voucher replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Voucher {
    /// The coordinator that owes.
    pub coordinator: NodeId,
    /// The miner that is owed.
    pub miner: NodeId,
    /// All that was ever owed, in wei.
    #[serde(with = "crate::wei_text")]
    #[schema(value_type = crate::schema::Amount)]
    pub cumulative: U256,
}

/// Hash of a payload as receipts carry it.
pub fn payload_hash(bytes: &[u8]) -> B256 {
    keccak256(bytes)
}

/// Hashes a payload that comes in pieces; ends in the same [`payload_hash`].
#[derive(Clone, Default)]
pub struct PayloadHasher {
    state: Keccak256,
    length: u64,
}

impl PayloadHasher {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// How many bytes it took.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The hash of all bytes so far.
    pub fn hash(&self) -> B256 {
        self.state.clone().finalize()
    }
}

impl fmt::Debug for PayloadHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadHasher({} bytes)", self.length)
    }
}

/// A miner's signed receipt.
pub type SignedReceipt = Signed<Receipt>;
/// A coordinator's signed voucher.
pub type SignedVoucher = Signed<Voucher>;
