//! A store in one file: SQLite, with large outputs beside it.

mod connection;
mod fault;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod log;
mod read;
mod row;
mod schema;
mod sweep;
mod tables;
mod upkeep;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{B256, Error, LeaseId, Output, Result, TaskId, Timestamp};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::connection::Lock;
use self::fault::fault;
use self::log::{Checkpointer, Length};
use self::read::Readers;
use self::row::Kept;
use self::tables::{PutBlob, Tables};
use self::writer::{Done, Writer};
use super::objects::Objects;
use super::{
    Account, Change, Commit, Content, LeaseRecord, NonceRecord, OutputStream, Payment,
    RequesterUsage, SessionRecord, StagedOutput, StoreSettings, TaskFilter, TaskRecord, TaskStore,
    Versioned,
};
use crate::Evidence;

#[cfg(feature = "fuzzing")]
pub use fuzzing::{RowStore, Stored};
pub use upkeep::StoreStats;

/// Keeps everything in a SQLite database, and outputs above a size beside it in an object store.
///
/// One thread writes; calls that wait share a transaction and what its way to the disk costs. Dropping the store waits
/// until what was begun is durable.
pub struct SqliteStore {
    // Dropped in this order: the file is free once both threads have ended.
    _checkpointer: Checkpointer,
    writer: Writer,
    readers: Readers,
    objects: Objects,
    inline_bytes: usize,
    blobs_max_bytes: u64,
    _orphans: AbortOnDropHandle<()>,
    _lock: Lock,
}

impl SqliteStore {
    /// Lists of freed objects that may wait for their removal.
    const FREED: usize = 4_096;

    /// Opens the store that `settings` describe, made when there is none yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` for settings out of bounds or a file that is no store of this or an earlier version, `Conflict` when
    /// another process has it open or the place for outputs belongs to another store, `Unavailable` when the disk or the
    /// object store does not let us, `Internal` for a damaged file.
    pub async fn open(settings: &StoreSettings) -> Result<Self> {
        settings.validate()?;
        let mut opened = {
            let settings = settings.clone();
            let opening = tokio::task::spawn_blocking(move || Opened::open(&settings));
            let stopped = |source| Error::internal("opening the store stopped").with_source(source);
            opening.await.map_err(stopped)??
        };
        let (mark, run) = opened
            .begin_run()
            .map_err(|error| fault(&opened.path, error))?;
        let objects = Objects::open(settings, &mark, run).await?;
        let length = Arc::new(Length::default());
        let checkpointer = Checkpointer::start(
            &mut opened.tables.connection,
            opened.second,
            Arc::clone(&opened.path),
            Arc::clone(&length),
        )?;
        let (freed, removable) = mpsc::channel(Self::FREED);
        tokio::spawn(remove(objects.clone(), removable));
        let readers = Readers::new(Arc::clone(&opened.path), settings.cache_bytes);
        let orphans = tokio::spawn(remove_orphans(objects.clone(), readers.clone()));
        Ok(Self {
            writer: Writer::start(opened.tables, opened.path, length, freed)?,
            _checkpointer: checkpointer,
            readers,
            objects,
            inline_bytes: settings.inline_output_bytes,
            blobs_max_bytes: settings.blobs_max_bytes,
            _orphans: AbortOnDropHandle::new(orphans),
            _lock: opened.lock,
        })
    }

    async fn keep(&self, payload: Output) -> Result<(String, u64, Content)> {
        let size = payload.bytes.len() as u64;
        let content = if payload.bytes.len() <= self.inline_bytes {
            Content::Inline(payload.bytes)
        } else {
            Content::Object(self.objects.put(payload.bytes).await?)
        };
        Ok((payload.media_type, size, content))
    }

    async fn discard_content(&self, content: Content) {
        if let Content::Object(name) = content {
            self.objects.remove(vec![name]).await;
        }
    }

    async fn fetch(&self, kept: Option<Kept>) -> Result<Option<Output>> {
        Ok(match kept {
            None => None,
            Some(Kept::Here(output)) => Some(output),
            Some(Kept::Object {
                media_type, name, ..
            }) => {
                let bytes = self.objects.get(&name).await?;
                bytes.map(|bytes| Output { media_type, bytes })
            }
        })
    }
}

impl Drop for SqliteStore {
    /// Lets go of what a search for orphans may still hold: the next to open the file finds it free.
    fn drop(&mut self) {
        self.readers.close();
    }
}

/// A file that is ours.
struct Opened {
    path: Arc<Path>,
    tables: Tables,
    /// For the checkpointer.
    second: rusqlite::Connection,
    lock: Lock,
}

impl Opened {
    fn open(settings: &StoreSettings) -> Result<Self> {
        let path: Arc<Path> = settings.path.as_path().into();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| {
                Error::unavailable(format!("cannot make the folder {}", folder.display()))
                    .with_source(source)
            })?;
        }
        let lock = Lock::take(&path)?;
        connection::prepare(&path)?;
        let open = || {
            let writing = connection::for_writing(&path, settings)?;
            let second = connection::for_writing(&path, settings)?;
            Ok((Tables::new(writing, settings.outputs_max_bytes)?, second))
        };
        let (tables, second) = open().map_err(|error| fault(&path, error))?;
        Ok(Self {
            path,
            tables,
            second,
            lock,
        })
    }

    /// What marks its objects, and how often it has been opened with this time.
    fn begin_run(&self) -> rusqlite::Result<(String, u64)> {
        let sql = "UPDATE state SET runs = runs + 1 RETURNING mark, runs";
        self.tables
            .connection
            .query_row(sql, [], |row| Ok((row.get(0)?, row::number(row, 1)?)))
    }
}

/// Removes objects once no row names them.
async fn remove(objects: Objects, mut removable: mpsc::Receiver<Vec<String>>) {
    while let Some(names) = removable.recv().await {
        objects.remove(names).await;
    }
}

/// Removes what earlier runs wrote and no row names.
async fn remove_orphans(objects: Objects, readers: Readers) {
    const PIECE: usize = 256;
    let torn = objects.clone();
    let torn = tokio::task::spawn_blocking(move || torn.remove_torn());
    if let Ok(Err(error)) = torn.await {
        tracing::warn!(%error, "files that an earlier run had begun are left");
    }
    let mut names = objects.of_earlier_runs().try_chunks(PIECE);
    while let Some(piece) = names.next().await {
        let nameless = match piece {
            Ok(piece) => {
                let look = move |connection: &rusqlite::Connection| {
                    let mut nameless = Vec::new();
                    for name in piece {
                        if !read::names(connection, &name)? {
                            nameless.push(name);
                        }
                    }
                    Ok(nameless)
                };
                readers.read(look).await
            }
            Err(error) => Err(error.1),
        };
        match nameless {
            Ok(nameless) if nameless.is_empty() => {}
            Ok(nameless) => {
                tracing::info!("removing {} outputs that no task names", nameless.len());
                objects.remove(nameless).await;
            }
            Err(error) => {
                tracing::warn!(%error, "outputs of earlier runs are left for the next start");
                return;
            }
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("readers", &self.readers)
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TaskStore for SqliteStore {
    async fn commit(&self, changes: Vec<Change>) -> Result<Commit> {
        self.writer
            .call(move |tables| {
                Ok(match tables.change(changes)? {
                    done @ Commit::Done(_) => Done::Keep(done),
                    conflict @ Commit::Conflict(_) => Done::Undo(conflict),
                })
            })
            .await
    }

    async fn stage(&self, lease: LeaseId, output: Output) -> Result<StagedOutput> {
        let (media_type, size, content) = self.keep(output).await?;
        Ok(StagedOutput {
            lease,
            media_type,
            size,
            content,
        })
    }

    async fn discard(&self, staged: StagedOutput) -> Result<()> {
        self.discard_content(staged.content).await;
        Ok(())
    }

    async fn output(&self, task: TaskId, lease: LeaseId) -> Result<Option<Output>> {
        let kept = self
            .readers
            .read(move |connection| read::output(connection, task, lease));
        self.fetch(kept.await?).await
    }

    async fn output_stream(&self, task: TaskId, lease: LeaseId) -> Result<Option<OutputStream>> {
        let kept = self
            .readers
            .read(move |connection| read::output(connection, task, lease));
        Ok(match kept.await? {
            None => None,
            Some(Kept::Here(output)) => Some(output.into()),
            Some(Kept::Object {
                media_type,
                size,
                name,
            }) => {
                let chunks = self.objects.stream(&name).await?;
                chunks.map(|chunks| OutputStream {
                    media_type,
                    size,
                    chunks,
                })
            }
        })
    }

    async fn load(&self, task: TaskId) -> Result<Option<Versioned<TaskRecord>>> {
        self.readers
            .read(move |connection| read::load(connection, task))
            .await
    }

    async fn unfinished(
        &self,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Versioned<TaskRecord>>> {
        self.readers
            .read(move |connection| read::unfinished(connection, after, limit))
            .await
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        let filter = filter.clone();
        self.readers
            .read(move |connection| read::list(connection, &filter))
            .await
    }

    async fn sweep(&self, before: Timestamp, keep: usize) -> Result<usize> {
        self.writer
            .call(move |tables| tables.sweep(before, keep).map(Done::Keep))
            .await
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>> {
        self.readers.read(read::leases).await
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>> {
        self.readers.read(read::sessions).await
    }

    async fn nonces(&self, at: Timestamp) -> Result<Vec<NonceRecord>> {
        self.readers
            .read(move |connection| read::nonces(connection, at))
            .await
    }

    async fn accounts(&self) -> Result<Vec<Versioned<Account>>> {
        self.readers.read(read::accounts).await
    }

    async fn payment(&self, task: TaskId, lease: LeaseId) -> Result<Option<Payment>> {
        self.readers
            .read(move |connection| read::payment(connection, task, lease))
            .await
    }

    async fn evidence(&self) -> Result<Vec<Evidence>> {
        self.readers.read(read::evidence).await
    }

    async fn unnotified(&self, limit: usize) -> Result<Vec<TaskRecord>> {
        self.readers
            .read(move |connection| read::unnotified(connection, limit))
            .await
    }

    async fn usage(&self, since: Timestamp) -> Result<Vec<RequesterUsage>> {
        self.readers
            .read(move |connection| read::usage(connection, since))
            .await
    }

    async fn put_blob(&self, hash: B256, blob: Output, at: Timestamp) -> Result<()> {
        if self.extend_blob(hash, at).await? {
            return Ok(());
        }
        let max_bytes = self.blobs_max_bytes;
        let (media_type, size, content) = self.keep(blob).await?;
        let spare = content.clone();
        let put = self.writer.call(move |tables| {
            let blob = (media_type, size, content);
            tables.put_blob(hash, blob, at, max_bytes).map(Done::Keep)
        });
        match put.await {
            Ok(PutBlob::New) => Ok(()),
            Ok(PutBlob::Known) => {
                self.discard_content(spare).await;
                Ok(())
            }
            Ok(PutBlob::NoRoom) => {
                self.discard_content(spare).await;
                Err(Error::rejected(format!(
                    "blobs take all of their {max_bytes} bytes: wait until old ones are gone, or raise \
                     store.blobs_max_bytes"
                )))
            }
            Err(error) => Err(error),
        }
    }

    async fn extend_blob(&self, hash: B256, at: Timestamp) -> Result<bool> {
        self.writer
            .call(move |tables| tables.extend_blob(hash, at).map(Done::Keep))
            .await
    }

    async fn blob(&self, hash: B256) -> Result<Option<Output>> {
        let kept = self
            .readers
            .read(move |connection| read::blob(connection, hash));
        self.fetch(kept.await?).await
    }
}

#[cfg(test)]
mod tests;
