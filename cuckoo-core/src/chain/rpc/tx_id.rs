//! Names that callers give to transactions, so that asking twice does not send twice.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A caller's name for one transaction of one key, like `redeem/7/12`: whoever asks again under the same name gets the
/// first one's outcome. 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TxId(String);

impl TxId {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// The name `id`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is empty, too long, or has other than visible ASCII
    /// characters.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        if id.is_empty()
            || id.len() > Self::MAX_BYTES
            || !id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Error::invalid(format!(
                "a transaction's id is 1 to {} visible ASCII characters",
                Self::MAX_BYTES
            )));
        }
        Ok(Self(id))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TxId {
    type Error = Error;

    fn try_from(id: String) -> Result<Self> {
        Self::new(id)
    }
}

impl From<TxId> for String {
    fn from(id: TxId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded() {
        assert_eq!(TxId::new("redeem/7/12").unwrap().as_str(), "redeem/7/12");
        for bad in ["", "two words", "caf\u{e9}", "line\n", &"x".repeat(129)] {
            assert!(TxId::new(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<TxId>(bad.into()).is_err());
        }
    }
}
