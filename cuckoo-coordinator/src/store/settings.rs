//! Where a coordinator keeps things, as its operator sets it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cuckoo_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{MemoryStore, SqliteStore, TaskStore};

/// Where tasks, pay and outputs are kept. Every field has a default; sizes are in bytes.
///
/// ```
/// use cuckoo_coordinator::StoreSettings;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cuckoo_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// let settings = StoreSettings::at(folder.path().join("coordinator.db"));
/// let store = settings.open().await?;
/// assert!(store.leases().await?.is_empty());
///
/// // One process at a time.
/// assert!(settings.open().await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// The database's file, on a local disk (its write-ahead log needs shared memory, which network file systems lack).
    /// [`StoreSettings::MEMORY`] keeps everything in memory, gone with the process.
    pub path: PathBuf,
    /// Where outputs above `inline_output_bytes` go: a `file://` folder, or another scheme that `object_store` knows and
    /// this program was built for (`s3://bucket/folder` and the like, whose keys it reads from the environment). The
    /// folder `<path without extension>.outputs` beside the database when absent.
    pub outputs_url: Option<String>,
    /// What a commit waits for.
    pub sync: SyncLevel,
    /// Outputs up to this size are kept in the database itself.
    pub inline_output_bytes: usize,
    /// The most that outputs of finished tasks may take; beyond it those that ended first lose theirs. Outputs of open
    /// tasks and evidence are always kept.
    pub outputs_max_bytes: u64,
    /// The most that blobs may take; more are refused until old ones went.
    pub blobs_max_bytes: u64,
    /// Memory for the database's pages.
    pub cache_bytes: usize,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncLevel {
    /// The disk: survives a power failure.
    #[default]
    Full,
    /// The operating system: survives the end of the process, however abrupt, but a power failure may take the last
    /// seconds.
    Normal,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            path: "coordinator.db".into(),
            outputs_url: None,
            sync: SyncLevel::Full,
            inline_output_bytes: 16 << 10,
            outputs_max_bytes: 16 << 30,
            blobs_max_bytes: 4 << 30,
            cache_bytes: 64 << 20,
        }
    }
}

impl StoreSettings {
    /// The `path` that keeps everything in memory.
    pub const MEMORY: &str = ":memory:";

    /// The largest output that may be kept in the database: more would hold up other commits.
    const MAX_INLINE: usize = 1 << 20;

    /// The defaults, in a file of your choice.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// Opens the store, made when there is none yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub async fn open(&self) -> Result<Arc<dyn TaskStore>> {
        if self.in_memory() {
            let capacity = usize::try_from(self.outputs_max_bytes).unwrap_or(usize::MAX);
            return Ok(Arc::new(MemoryStore::with_capacity(capacity)));
        }
        Ok(Arc::new(SqliteStore::open(self).await?))
    }

    /// Whether nothing outlives the process.
    pub fn in_memory(&self) -> bool {
        self.path == Path::new(Self::MEMORY)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its bounds.
    pub fn validate(&self) -> Result<()> {
        if self.path.file_name().is_none() {
            return Err(Error::invalid(
                "store.path names the database's file, such as coordinator.db",
            ));
        }
        if self.inline_output_bytes > Self::MAX_INLINE {
            return Err(Error::invalid("store.inline_output_bytes is at most 1 MiB"));
        }
        Ok(())
    }

    /// Takes relative paths as relative to `folder`.
    pub fn resolve_paths(&mut self, folder: &Path) {
        if !self.in_memory() {
            self.path = folder.join(&self.path);
        }
    }

    /// The folder for large outputs when no URL is set.
    pub(crate) fn outputs_folder(&self) -> PathBuf {
        self.path.with_extension("outputs")
    }
}
