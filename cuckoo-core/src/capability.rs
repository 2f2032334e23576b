//! What a miner can run.

use alloy::primitives::{B256, U256};
use serde::{Deserialize, Serialize};

use crate::ModelId;

/// One model that a miner offers, and with which limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Capability {
    /// The model's public name.
    pub model: ModelId,
    /// Hash of the model's files: what a receipt names.
    #[schema(value_type = crate::schema::Word)]
    pub model_hash: B256,
    /// The arithmetic used, such as `cpu-f32-candle-0.11`. Equal names promise equal bytes for equal inputs, so audits
    /// compare exactly among them. At most 64 bytes.
    #[schema(max_length = 64)]
    pub kernels: String,
    /// Longest input accepted, in bytes.
    pub max_input_bytes: u64,
    /// Least pay asked for a task, in wei.
    #[serde(with = "crate::wei_text")]
    #[schema(value_type = crate::schema::Amount)]
    pub min_price: U256,
}

impl Capability {
    /// Longest input accepted unless another limit is set, in bytes.
    pub const MAX_INPUT_BYTES: u64 = 64 * 1024;

    /// A model that is run for any price, on inputs of up to 64 KiB.
    pub fn new(model: ModelId, model_hash: B256, kernels: impl Into<String>) -> Self {
        Self {
            model,
            model_hash,
            kernels: kernels.into(),
            max_input_bytes: Self::MAX_INPUT_BYTES,
            min_price: U256::ZERO,
        }
    }
}
