//! Bytes beside an input: pictures, sound and files that a task's JSON refers to by their hash.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, payload_hash};

/// Names a blob: `blob:` and keccak256 of its bytes, as 0x and 64 small hexadecimal digits.
///
/// An input refers to a blob by a string that is its name and nothing else, at any place. So whoever signs for the input's
/// hash signs for the blob's bytes too.
///
/// ```
/// use cuckoo_core::BlobId;
///
/// let id = BlobId::of(b"some bytes");
/// let input = serde_json::json!({ "prompt": "louder", "sound": id, "masks": [id] });
/// assert_eq!(BlobId::named_in(&input), [id]);
/// assert_eq!(id.to_string().parse::<BlobId>()?, id);
/// # Ok::<(), cuckoo_core::Error>(())
/// ```
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
#[serde(try_from = "String", into = "String")]
#[schema(
    value_type = String,
    pattern = "^blob:0x[0-9a-f]{64}$",
    description = "Names a blob: `blob:` and keccak256 of its bytes, as 0x and 64 small hexadecimal digits."
)]
pub struct BlobId(B256);

impl BlobId {
    /// The most blobs that one input may name.
    pub const MAX_IN_INPUT: usize = 64;

    const SCHEME: &str = "blob:";

    /// The name of a blob with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(payload_hash(bytes))
    }

    /// keccak256 of its bytes.
    pub const fn hash(self) -> B256 {
        self.0
    }

    /// Every blob that an input names, each once, in the order of their hashes.
    pub fn named_in(input: &Value) -> Vec<Self> {
        let mut named = Vec::new();
        collect(input, &mut named);
        named.sort_unstable();
        named.dedup();
        named
    }
}

fn collect(value: &Value, named: &mut Vec<BlobId>) {
    match value {
        Value::String(text) => {
            if text.starts_with(BlobId::SCHEME)
                && let Ok(id) = text.parse()
            {
                named.push(id);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, named)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:#x}", Self::SCHEME, self.0)
    }
}

impl FromStr for BlobId {
    type Err = Error;

    /// One way of writing only: a text search for a name must find every place that has it.
    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix(Self::SCHEME)
            .filter(|hash| hash.starts_with("0x") && hash.len() == 66)
            .and_then(|hash| hash.parse().ok())
            .map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| {
                Error::invalid("a blob is named `blob:0x` and 64 small hexadecimal digits")
            })
    }
}

impl TryFrom<String> for BlobId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_whole_strings_in_the_one_form_are_names() {
        let (first, second) = (BlobId::of(b"1"), BlobId::of(b"2"));
        let input = json!({
            "a": first,
            "b": [{ "c": second }, [first]],
            "text": format!("see {first}"),
            "shout": second.to_string().to_uppercase(),
            "bare": second.hash(),
            "short": "blob:0x12",
            "number": 3,
        });
        let mut expected = [first, second];
        expected.sort_unstable();
        assert_eq!(BlobId::named_in(&input), expected);
        for bad in [
            "",
            "blob:",
            "blob:0x",
            &first.hash().to_string(),
            &first.to_string().replace("0x", "0X"),
            &format!("{first} "),
        ] {
            assert!(bad.parse::<BlobId>().is_err(), "{bad}");
        }
    }
}
