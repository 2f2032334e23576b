//! Models in the cache of Hugging Face's tools: found, pulled from the hub, listed, checked and removed.
//!
//! `hub` speaks the hub's HTTP interface, `listing` reads what it says of a model's files, `choice` picks those that are
//! read, `fetch` brings one content to the disk (`partial` is what is there so far), `pull` all of them; `repo` is the
//! layout on disk, `cached`, `verify` and `remove` look after what is there.

mod cached;
mod choice;
mod content;
mod environment;
mod fetch;
mod hub;
mod kind;
mod listing;
mod name;
mod partial;
mod patience;
mod pull;
mod remove;
mod repo;
mod space;
mod trouble;
mod verify;

use std::path::{Path, PathBuf};

pub use cached::CachedModel;
pub use hub::Hub;
pub use kind::FolderKind;
pub use name::HubModel;
pub use pull::{PullEvent, PullOptions, Pulled};
pub use remove::Removal;
pub use space::free_space;
pub use verify::{Fault, Problem, Verified};

/// A cache of models on disk, shared with `huggingface_hub`, transformers and diffusers: what one of them has pulled, all
/// others find.
///
/// Several processes may use one cache at once; no content is fetched by two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStore {
    folder: PathBuf,
}

impl ModelStore {
    /// The cache in `folder`, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The cache that Hugging Face's tools use: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `hub` in `HF_HOME`, or
    /// `~/.cache/huggingface/hub`.
    pub fn from_env() -> Self {
        Self::new(environment::of_process().cache())
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A size for people, such as `1.4 GiB`.
pub fn size_text(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} bytes");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // As it is rounded, so that 1023.95 KiB is a MiB.
    while size >= 1023.95 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_500_000_000, "1.4 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
