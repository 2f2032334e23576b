//! A store to try, of either kind.

use std::sync::Arc;

use cuckoo_coordinator::{MemoryStore, SqliteStore, StoreSettings, SyncLevel, TaskStore};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
}

/// A store, and where it is.
pub(crate) struct Subject {
    store: Option<Arc<dyn TaskStore>>,
    home: Option<(TempDir, StoreSettings)>,
}

impl Subject {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with_room(kind, u64::MAX).await
    }

    /// One that keeps so many bytes of finished tasks' outputs.
    pub(crate) async fn with_room(kind: Kind, outputs_max_bytes: u64) -> Self {
        match kind {
            Kind::Memory => Self {
                store: Some(Arc::new(MemoryStore::with_capacity(
                    usize::try_from(outputs_max_bytes).unwrap(),
                ))),
                home: None,
            },
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let settings = StoreSettings {
                    outputs_max_bytes,
                    ..settings(&folder)
                };
                let store = SqliteStore::open(&settings).await.unwrap();
                Self {
                    store: Some(Arc::new(store)),
                    home: Some((folder, settings)),
                }
            }
        }
    }

    pub(crate) fn store(&self) -> &dyn TaskStore {
        self.store.as_deref().unwrap()
    }

    /// Ends the process, so to say, and starts it again; what is in memory stays in its own.
    pub(crate) async fn reopen(&mut self) {
        if let Some((_, settings)) = &self.home {
            self.store = None;
            self.store = Some(Arc::new(SqliteStore::open(settings).await.unwrap()));
        }
    }
}

/// A store on disk in `folder`, quick, with even small outputs outside the database.
pub(crate) fn settings(folder: &TempDir) -> StoreSettings {
    StoreSettings {
        sync: SyncLevel::Normal,
        inline_output_bytes: 64,
        ..StoreSettings::at(folder.path().join("coordinator.db"))
    }
}

/// Tests that run on every kind of store.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::subject::Kind::Memory).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::subject::Kind::Sqlite).await;
            })*
        }
    };
}
pub(crate) use on_every_store;
