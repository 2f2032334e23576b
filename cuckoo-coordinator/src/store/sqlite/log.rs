//! The write-ahead log: given room before it is needed, and copied into the database while others write.
//!
//! SQLite would copy inside whichever commit finds the log long, and that one would wait for all of it. Here another
//! thread copies beside the writer, and the writer itself only the little that came meanwhile.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use cuckoo_core::{Error, Result};
use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;

use super::fault::fault;

/// Pages in the log from which on it is copied.
const LONG: i32 = 4_096;
/// Pages in the log from which on the writer does all of it: it must not outrun a slow disk for ever.
const TOO_LONG: i32 = 4 * LONG;
/// Bytes the log has from the start: what it holds when copying begins, and as much again for what comes meanwhile.
const ROOM: usize = 32 << 20;

/// How long the log is, and whether the writer is to copy the rest of it.
#[derive(Debug, Default)]
pub(super) struct Length {
    pages: AtomicI32,
    rest_is_short: AtomicBool,
    closing: AtomicBool,
    /// One copies at a time; the other would be sent away, and a writer that did not wait would outrun the disk.
    copying: Mutex<()>,
}

impl Length {
    /// Whether the writer is to copy; asked once, it is not any more.
    pub(super) fn writers_turn(&self) -> bool {
        self.rest_is_short.swap(false, Ordering::AcqRel)
            || self.pages.load(Ordering::Acquire) > TOO_LONG
    }
}

/// Copies as much of the log into the database as can be without waiting for those who read.
pub(super) fn checkpoint(connection: &Connection, length: &Length) -> rusqlite::Result<()> {
    let _copying = length
        .copying
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    connection
        .wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE)
        .map(drop)
}

/// Gives the log its room, unless there is a log. A commit that need not make a file longer takes half the time; and a
/// log of zeros is one that says nothing (<https://www.sqlite.org/fileformat2.html#walformat>).
pub(super) fn make_room(database: &Path) {
    let log = beside(database, "-wal");
    let Ok(file) = OpenOptions::new().write(true).create_new(true).open(&log) else {
        return;
    };
    if let Err(error) = fill(&file) {
        tracing::debug!(%error, "no room for the log ahead of time; it grows as it is written");
        let _ = std::fs::remove_file(&log);
    }
}

fn fill(mut file: &File) -> std::io::Result<()> {
    let zeros = vec![0; 1 << 20];
    for _ in 0..ROOM / zeros.len() {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

/// The path with `ending` after its last letter.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The thread that copies. It ends before the writer, whose connection is then the last and takes the log away.
#[derive(Debug)]
pub(super) struct Checkpointer {
    length: Arc<Length>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Watches what `writer` commits and copies over `own`. `length` says when the rest is the writer's to do.
    pub(super) fn start(
        writer: &mut Connection,
        own: Connection,
        path: Arc<Path>,
        length: Arc<Length>,
    ) -> Result<Self> {
        let (wake, woken) = sync_channel(1);
        watch(writer, wake.clone(), Arc::clone(&length)).map_err(|error| fault(&path, error))?;
        let watched = Arc::clone(&length);
        let thread = Builder::new()
            .name("cuckoo-store-log".into())
            .spawn(move || copy(&own, &woken, &path, &watched))
            .map_err(|source| {
                Error::unavailable("cannot start the store's thread").with_source(source)
            })?;
        Ok(Self {
            length,
            wake,
            thread: Some(thread),
        })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.length.closing.store(true, Ordering::Release);
        // Full: it wakes up anyway.
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// In place of SQLite's own checkpoints.
fn watch(
    writer: &mut Connection,
    wake: SyncSender<()>,
    length: Arc<Length>,
) -> rusqlite::Result<()> {
    writer.wal_hook(Some(move |_: &mut _, pages| {
        length.pages.store(pages, Ordering::Release);
        if pages >= LONG {
            // Full: it is awake already.
            let _ = wake.try_send(());
        }
        Ok(())
    }))
}

fn copy(own: &Connection, woken: &Receiver<()>, path: &Path, length: &Length) {
    while woken.recv().is_ok() && !length.closing.load(Ordering::Acquire) {
        // The second time takes what was written during the first, so that little is left.
        match checkpoint(own, length).and_then(|()| checkpoint(own, length)) {
            Ok(()) => length.rest_is_short.store(true, Ordering::Release),
            Err(error) => {
                let error = fault(path, error);
                tracing::warn!(%error, "the log could not be copied into the database yet");
            }
        }
    }
}
