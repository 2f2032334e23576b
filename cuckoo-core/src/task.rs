//! A task's life: what is asked, what a miner is given, what comes back, and who was at fault.

use std::time::Duration;

use alloy::primitives::{B256, U256};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ErrorKind, LeaseId, ModelId, NodeId, TaskId, Timestamp, Usage};

/// What a requester asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskSpec {
    /// The model to run.
    pub model: ModelId,
    /// What the model takes: a JSON object such as `{"prompt": "a red circle"}`. A `seed` that is absent is added by
    /// the coordinator, so that a second miner can repeat the task exactly. Strings that are a [`BlobId`](crate::BlobId)
    /// stand for bytes that the coordinator was given before.
    #[schema(value_type = Object)]
    pub input: Value,
    /// Time from submission to the result, in milliseconds; the coordinator's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_millis: Option<u64>,
    /// The most the requester pays, in wei; the coordinator's price for the model when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::wei_text::option"
    )]
    #[schema(value_type = Option<crate::schema::Amount>)]
    pub max_price: Option<U256>,
    /// Among the tasks that wait for a model, those of higher priority go first; 0 when absent.
    #[serde(default, skip_serializing_if = "is_ordinary")]
    #[schema(minimum = -128, maximum = 127)]
    pub priority: i8,
    /// Names this submission: submitting again with the same key gives the task that the first one made, as long as that
    /// is kept. 1 to [`TaskSpec::MAX_KEY`] visible ASCII characters; each requester has keys of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128, pattern = "^[!-~]+$")]
    pub idempotency_key: Option<String>,
    /// An `https` address that is told of the task's end; see `docs/protocol.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

fn is_ordinary(priority: &i8) -> bool {
    *priority == 0
}

impl TaskSpec {
    /// The longest idempotency key, in bytes.
    pub const MAX_KEY: usize = 128;

    /// A task for `model` with the JSON object `input`.
    pub fn new(model: ModelId, input: Value) -> Self {
        Self {
            model,
            input,
            timeout_millis: None,
            max_price: None,
            priority: 0,
            idempotency_key: None,
            webhook: None,
        }
    }

    /// Sets the place among waiting tasks: higher goes first.
    #[must_use]
    pub fn with_priority(mut self, priority: i8) -> Self {
        self.priority = priority;
        self
    }

    /// Names the submission, so that it can be repeated without making a second task.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets the time from submission to the result.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout_millis = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

/// A task that admission accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// The model to run.
    pub model: ModelId,
    /// The input: the exact JSON text that is hashed and signed for.
    pub input: String,
    /// keccak256 of `input`.
    #[schema(value_type = crate::schema::Word)]
    pub input_hash: B256,
    /// What verified work earns, in wei.
    #[serde(with = "crate::wei_text")]
    #[schema(value_type = crate::schema::Amount)]
    pub price: U256,
    /// When it was accepted.
    pub submitted_at: Timestamp,
    /// When its result must be there.
    pub deadline: Timestamp,
    /// Among waiting tasks, higher goes first.
    #[serde(default, skip_serializing_if = "is_ordinary")]
    pub priority: i8,
}

/// A task given to one miner, and the time it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Assignment {
    /// The lease that the receipt must name.
    pub lease: LeaseId,
    /// The task.
    pub task: TaskId,
    /// The coordinator that gives it.
    pub coordinator: NodeId,
    /// The model to run.
    pub model: ModelId,
    /// The model's files, as the miner announced them.
    #[schema(value_type = crate::schema::Word)]
    pub model_hash: B256,
    /// The input: the exact text that `input_hash` is over, a JSON object.
    pub input: String,
    /// keccak256 of `input`.
    #[schema(value_type = crate::schema::Word)]
    pub input_hash: B256,
    /// What verified work earns, in wei.
    #[serde(with = "crate::wei_text")]
    #[schema(value_type = crate::schema::Amount)]
    pub price: U256,
    /// When the lease ends unless a heartbeat extends it (milliseconds since the Unix epoch, coordinator's clock).
    pub lease_expires_at: Timestamp,
    /// How often to send a heartbeat, in milliseconds.
    pub heartbeat_millis: u64,
    /// When the result must be there at the latest.
    pub deadline: Timestamp,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Media type of `bytes`, such as `image/png`.
    pub media_type: String,
    /// The payload.
    pub bytes: Bytes,
}

impl Output {
    /// A payload of this media type.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self {
            media_type: media_type.into(),
            bytes: bytes.into(),
        }
    }
}

/// Who caused a task to end as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The requester: bad input, cancellation.
    Requester,
    /// The coordinator.
    Coordinator,
    /// A miner.
    Miner,
    /// The chain.
    Chain,
    /// Nobody: it ended well, or no one could help it.
    Nobody,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for a miner.
    Queued,
    /// A miner works on it.
    Running {
        /// The miner.
        miner: NodeId,
        /// Share done, 0 to 1000 thousandths.
        progress: u16,
    },
    /// The output is there and is being audited by other miners.
    Auditing {
        /// The miner whose output is audited.
        miner: NodeId,
    },
    /// Ended well.
    Completed {
        /// The miner whose output was accepted.
        miner: NodeId,
    },
    /// Ended without an output.
    Failed {
        /// What went wrong.
        kind: ErrorKind,
        /// The same in words, with what to do next.
        message: String,
        /// Who caused it.
        fault: Fault,
    },
    /// The requester cancelled it.
    Cancelled,
}

impl TaskState {
    /// Whether nothing can follow.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Completed { .. } | Self::Failed { .. } | Self::Cancelled
        )
    }

    /// Who caused a terminal state.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Completed { .. } => Some(Fault::Nobody),
            Self::Failed { fault, .. } => Some(*fault),
            Self::Cancelled => Some(Fault::Requester),
            Self::Queued | Self::Running { .. } | Self::Auditing { .. } => None,
        }
    }
}

/// A finished task: the output, who made it and what they signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskResult {
    /// The task.
    pub task: TaskId,
    /// What came back.
    pub output: Output,
    /// The accepted miner's receipt.
    pub receipt: crate::SignedReceipt,
    /// What it consumed.
    pub usage: Usage,
}
