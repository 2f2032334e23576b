//! What convicted a miner: everything needed to show it to others.

use cuckoo_core::{B256, Bytes, NodeId, Receipt, Signed, SignedReceipt, Task, Timestamp};
use serde::{Deserialize, Serialize};

/// Proof that a miner handed in a wrong output: what was asked and what each miner signed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Evidence {
    /// The task, with its input and model.
    pub task: Task,
    /// When the verdict fell.
    pub at: Timestamp,
    /// The miner whose output stands alone.
    pub convicted: NodeId,
    /// The miner whose output was accepted.
    pub accepted: NodeId,
    /// What each miner handed in, in order of arrival.
    pub exhibits: Vec<Exhibit>,
}

impl Evidence {
    /// What the convicted miner handed in.
    pub fn convicted_exhibit(&self) -> Option<&Exhibit> {
        self.by(self.convicted)
    }

    /// What the accepted miner handed in.
    pub fn accepted_exhibit(&self) -> Option<&Exhibit> {
        self.by(self.accepted)
    }

    fn by(&self, miner: NodeId) -> Option<&Exhibit> {
        self.exhibits
            .iter()
            .find(|exhibit| exhibit.receipt.value.miner == miner)
    }
}

/// One miner's signed claim and the output it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Exhibit {
    /// What the miner signed.
    #[schema(value_type = Signed<Receipt>)]
    pub receipt: SignedReceipt,
    /// keccak256 of `output`: the hash the receipt names.
    #[schema(value_type = cuckoo_core::schema::Word)]
    pub output_hash: B256,
    /// Media type of `output`.
    pub media_type: String,
    /// The output itself; left out when serialised, the receipt names its hash.
    #[serde(skip)]
    #[schema(ignore)]
    pub output: Bytes,
}
