//! What a model on the hub is called.

use std::fmt;
use std::str::FromStr;

use cuckoo_core::{Error, Result};
use serde::Deserialize;

/// The revision that is meant where none is named.
pub(super) const DEFAULT_REVISION: &str = "main";

const LONGEST_NAME: usize = 96;
const LONGEST_REVISION: usize = 255;

/// A model on the hub: `org/name`, or `org/name@revision` with a branch, a tag or a commit.
///
/// A commit (40 hexadecimal digits) names the same files for ever; a branch moves. Without a revision, `main` is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HubModel {
    name: String,
    revision: Option<String>,
}

impl HubModel {
    /// `org/name`, or for the oldest models of the hub `name` alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The branch, tag or commit; `main` unless named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// Whether a revision was named.
    pub fn is_pinned(&self) -> bool {
        self.revision.is_some()
    }

    /// The same model at `commit`.
    #[must_use]
    pub fn at(&self, commit: &str) -> Self {
        Self {
            name: self.name.clone(),
            revision: Some(commit.to_owned()),
        }
    }
}

/// Whether `text` is the full name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the hub would take `name`, and a folder can be called after it.
pub(super) fn is_model_name(name: &str) -> bool {
    let parts = name.split('/').collect::<Vec<_>>();
    let part = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
    };
    parts.len() <= 2
        && parts.iter().all(part)
        && name.len() <= LONGEST_NAME
        && !name.contains("--")
        && !name.contains("..")
}

/// Whether git would take `revision` as a branch's name, and a file below `refs` can be called after it.
fn is_revision(revision: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.ends_with('.')
            && !part.ends_with(".lock")
    };
    revision.len() <= LONGEST_REVISION
        && revision
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte))
        && !revision.contains("..")
        && revision.split('/').all(part)
}

impl FromStr for HubModel {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Invalid`](cuckoo_core::ErrorKind::Invalid) that says how a model is named.
    fn from_str(text: &str) -> Result<Self> {
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (text, None),
        };
        if !is_model_name(name) {
            return Err(Error::invalid(format!(
                "`{}` is not the name of a model on the hub; write it like org/name or org/name@revision",
                text.escape_debug()
            )));
        }
        if let Some(revision) = revision.filter(|revision| !is_revision(revision)) {
            return Err(Error::invalid(format!(
                "`{}` is not a revision; name a branch, a tag or a commit behind the @ of {name}",
                revision.escape_debug()
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }
}

impl TryFrom<String> for HubModel {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for (text, name, revision) in [
            ("org/name", "org/name", "main"),
            ("gpt2", "gpt2", "main"),
            ("Qwen/Qwen2.5-0.5B_x@v1.0", "Qwen/Qwen2.5-0.5B_x", "v1.0"),
            ("a/b@refs/pr/7", "a/b", "refs/pr/7"),
        ] {
            let model: HubModel = text.parse().unwrap();
            assert_eq!((model.name(), model.revision()), (name, revision));
            assert_eq!(model.to_string(), text);
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        for bad in [
            "",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            "a/.b",
            "-a/b",
            "a--b/c",
            "a/b c",
            "a\\b",
            "a/b@",
            "a/b@..",
            "a/b@/x",
            "a/b@x/",
            "a/b@x/../../y",
            "a/b@x//y",
            "a/b@-x",
            "a/b@x y",
            "a/b@x.lock",
            "a/b@.git",
            "a/b@c@d",
            "C:/b",
            "a/b\n",
        ] {
            assert!(bad.parse::<HubModel>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(97).parse::<HubModel>().is_err());
        assert!(
            format!("a/b@{}", "c".repeat(256))
                .parse::<HubModel>()
                .is_err()
        );
    }
}
