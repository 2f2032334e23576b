//! The dispute court as the market sees it.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::SolValue as _;
use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::amount::Wei;

/// What can be done with a dispute now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputePhase {
    /// Anybody may answer for the accused.
    Answer,
    /// The jury can be drawn, once its block is reached.
    Draw,
    /// Jurors commit to their votes.
    Commit,
    /// Jurors reveal them.
    Reveal,
    /// It can be finished.
    Due,
    /// It is over.
    Closed,
}

/// How a dispute ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeOutcome {
    /// Most jurors got the receipt's output.
    Acquitted,
    /// Most jurors got one other output, or nobody answered.
    Convicted,
    /// Most jurors could not check.
    Unproven,
    /// Too few jurors, or no majority.
    Undecided,
}

/// A dispute as it stands. Times are seconds since the Unix epoch, zero until known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// What can be done now.
    pub phase: DisputePhase,
    /// How it ended, once it has.
    pub outcome: Option<DisputeOutcome>,
    /// Digest of the disputed receipt.
    pub receipt: B256,
    /// The output that the receipt claims.
    pub output_hash: B256,
    /// The miner that signed it.
    pub accused: NodeId,
    /// The coordinator that gave the lease.
    pub coordinator: NodeId,
    /// Who opened it.
    pub challenger: Address,
    /// When the present phase ends at the latest.
    pub deadline: u64,
    /// The first block in which a jury may be drawn.
    pub draw_block: u64,
}

/// A juror of a dispute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Juror {
    /// The miner.
    pub node: NodeId,
    /// Whether it has committed to a vote.
    pub committed: bool,
    /// The output that it got, once revealed.
    pub vote: Option<B256>,
}

/// What opening and losing a dispute costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourtTerms {
    /// What each side puts up, in wei.
    pub bond: Wei,
    /// What a convicted miner is slashed, in wei.
    pub penalty: Wei,
    /// What a juror earns with a dispute, in wei.
    pub jury_fee: Wei,
}

/// What a juror commits to: its vote, hidden by a salt of 32 random bytes and bound to chain, court, dispute and juror, so
/// that nobody can commit to another's vote.
pub fn vote_commitment(
    chain_id: u64,
    court: Address,
    dispute: U256,
    juror: NodeId,
    vote: B256,
    salt: B256,
) -> B256 {
    let bound = (
        U256::from(chain_id),
        court,
        dispute,
        U256::from(juror.0),
        vote,
        salt,
    );
    keccak256(bound.abi_encode())
}
