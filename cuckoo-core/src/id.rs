//! Names of tasks, leases, nodes and models, each its own type.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use crate::{Entropy, Error, Result, Timestamp};

macro_rules! word_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = crate::schema::Word)]
        pub struct $name(B256);

        impl $name {
            /// A fresh random id.
            pub fn random(entropy: &dyn Entropy) -> Self {
                Self(entropy.word())
            }

            /// The 32 bytes that are signed.
            pub const fn word(self) -> B256 {
                self.0
            }
        }

        impl From<B256> for $name {
            fn from(word: B256) -> Self {
                Self(word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                text.parse().map(Self).map_err(|_| {
                    Error::invalid(concat!("a ", $what, " id is 0x and 64 hexadecimal digits"))
                })
            }
        }
    };
}

word_id!(
    /// A task: one thing a requester asked for.
    TaskId,
    "task"
);
word_id!(
    /// A lease: one task given to one miner once.
    LeaseId,
    "lease"
);

impl TaskId {
    /// A fresh id of a task submitted at `time`: six bytes of milliseconds, then random ones, as a UUID of version 7 has
    /// them (RFC 9562). Ids that grow go to the end of a store's index, where the last ones are; scattered ones cost a
    /// page each.
    pub fn at(time: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut word = entropy.word();
        let millis = time.as_millis().to_be_bytes();
        word[..6].copy_from_slice(&millis[2..]);
        Self(word)
    }
}

/// A node's number in the staking contract, from 1. It outlives operator keys.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// The public name of a model, such as `shapes`: 1 to 128 letters, digits and `-_./:`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[0-9A-Za-z_./:-]{1,128}$", example = "shapes")]
pub struct ModelId(
    // Each task names its model: they share the text.
    Arc<str>,
);

impl ModelId {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModelId {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
        if name.is_empty() || name.len() > Self::MAX_LEN || !name.bytes().all(allowed) {
            return Err(Error::invalid(
                "a model name is 1 to 128 letters, digits and the characters - _ . / :",
            ));
        }
        Ok(Self(name.into()))
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::try_from(name.to_owned())
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
