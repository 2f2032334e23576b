//! What a tokenizer's folder says beside its vocabulary: special tokens, lengths, templates.

use serde_json::Value;

use super::error::{Error, Result};
use super::folder::{Folder, TABLE_LIMIT};

/// The first of the files that are read.
pub(crate) const FILE: &str = "tokenizer_config.json";

/// `tokenizer_config.json` and `special_tokens_map.json`, both optional; what the first says wins.
#[derive(Debug)]
pub(crate) struct Marks {
    settings: Vec<Value>,
}

impl Marks {
    /// Reads the two files in the sub-folder `within` (with its `/`, or empty).
    pub(crate) fn load(folder: &mut Folder, within: &str) -> Result<Self> {
        let mut settings = Vec::new();
        for name in [FILE, "special_tokens_map.json"] {
            let file = format!("{within}{name}");
            if folder.has(&file) {
                // Some models list thousands of added tokens here.
                let bytes = folder.bytes(&file, TABLE_LIMIT)?;
                let value = serde_json::from_slice(&bytes)
                    .map_err(|source| Error::Json { file, source })?;
                settings.push(value);
            }
        }
        Ok(Self { settings })
    }

    /// A special token: a string, or an object that holds it as `content`.
    pub(crate) fn token(&self, key: &str) -> Option<&str> {
        self.settings
            .iter()
            .find_map(|s| s[key].as_str().or_else(|| s[key]["content"].as_str()))
    }

    /// A number that says something: writers without a limit put 1e30.
    pub(crate) fn length(&self, key: &str) -> Option<usize> {
        self.settings
            .iter()
            .filter_map(|s| s[key].as_f64())
            .find(|length| *length < 1e9)
            .map(|length| length as usize)
    }

    /// Any value.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.settings.iter().find_map(|s| s.get(key))
    }
}
