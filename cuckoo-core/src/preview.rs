//! Previews: small pictures, or the like, of an output in the making.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Output;

/// What an output looks like while it is made, where its own beginning would show nothing: a small picture of a picture.
///
/// It promises nothing. Nobody signs for it, and the output may turn out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Preview {
    /// Media type of `data`, such as `image/png`; of at most [`Preview::MAX_MEDIA_TYPE`] bytes.
    pub media_type: String,
    /// At most [`Preview::MAX_BYTES`] bytes, as base64.
    #[serde(with = "base64_text")]
    #[schema(value_type = String, pattern = "^[0-9A-Za-z+/]*={0,2}$")]
    pub data: Bytes,
}

impl Preview {
    /// The most bytes that are shown.
    pub const MAX_BYTES: usize = 16 * 1024;
    /// The longest media type, in bytes.
    pub const MAX_MEDIA_TYPE: usize = 128;

    /// Whether it is within the bounds; a coordinator passes over one that is not.
    pub fn fits(&self) -> bool {
        self.data.len() <= Self::MAX_BYTES && self.media_type.len() <= Self::MAX_MEDIA_TYPE
    }
}

impl From<Output> for Preview {
    fn from(output: Output) -> Self {
        Self {
            media_type: output.media_type,
            data: output.bytes,
        }
    }
}

/// Bytes as base64 with padding (RFC 4648, section 4).
mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Bytes,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text);
        bytes
            .map(Bytes::from)
            .map_err(|error| D::Error::custom(format!("a preview's data is not base64: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_base64_and_bounded() {
        let preview = Preview::from(Output::new("image/png", b"\x89PNG".to_vec()));
        let text = serde_json::to_string(&preview).unwrap();
        assert_eq!(text, r#"{"media_type":"image/png","data":"iVBORw=="}"#);
        assert_eq!(serde_json::from_str::<Preview>(&text).unwrap(), preview);
        assert!(preview.fits());
        let long = "x".repeat(Preview::MAX_MEDIA_TYPE + 1);
        for (media_type, length, fits) in [
            ("image/png", Preview::MAX_BYTES, true),
            ("image/png", Preview::MAX_BYTES + 1, false),
            (long.as_str(), 1, false),
        ] {
            let preview = Preview::from(Output::new(media_type, vec![0; length]));
            assert_eq!(preview.fits(), fits, "{length}");
        }
        let bad = r#"{"media_type":"image/png","data":"no base64"}"#;
        let error = serde_json::from_str::<Preview>(bad).unwrap_err();
        assert!(error.to_string().contains("base64"), "{error}");
    }
}
