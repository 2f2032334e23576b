//! How the file is opened.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use cuckoo_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::fault::fault;
use super::{log, schema};
use crate::store::{StoreSettings, SyncLevel};

/// How long a connection waits for another, which holds the file for moments only.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than there are statements.
const STATEMENTS: usize = 128;

/// Holds the file for this process. The operating system frees it when the process ends, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// # Errors
    /// `Conflict` when somebody else holds it, `Unavailable` when the folder cannot be written.
    pub(super) fn take(database: &Path) -> Result<Self> {
        let path = log::beside(database, ".lock");
        let file = database.display();
        let unwritable = |source| {
            Error::unavailable(format!(
                "the folder of {file} cannot be written: make it, or look at its permissions"
            ))
            .with_source(source)
        };
        let mut options = File::options();
        let lock = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _file: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::conflict(format!(
                "another process has {file} open: end it, or give this one a store of its own"
            ))),
            Err(TryLockError::Error(source)) => Err(unwritable(source)),
        }
    }
}

/// Makes the file fit to be used: the tables, the log. Nobody else has it open.
///
/// # Errors
/// `Invalid` when the file is not a store or of a later version; `Unavailable` or `Internal` when it cannot be used.
pub(super) fn prepare(path: &Path) -> Result<()> {
    let mut connection = open(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )
    .map_err(|error| fault(path, error))?;
    // What an earlier process left in the log goes into the database when this connection closes.
    schema::bring_up(&mut connection, path)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| connection.close().map_err(|(_, error)| error))
        .map_err(|error| fault(path, error))?;
    log::make_room(path);
    Ok(())
}

/// A connection that may write.
pub(super) fn for_writing(path: &Path, settings: &StoreSettings) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let level = match settings.sync {
        SyncLevel::Full => "FULL",
        SyncLevel::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", level)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    set_cache(&connection, settings.cache_bytes)?;
    Ok(connection)
}

/// A connection that reads.
pub(super) fn for_reading(path: &Path, cache_bytes: usize) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    set_cache(&connection, cache_bytes)?;
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time, which Rust sees to.
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Plans stay as they were made: else each new value may have its statement prepared again, a fifth of the work.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Negative means KiB.
fn set_cache(connection: &Connection, bytes: usize) -> rusqlite::Result<()> {
    let kib = i64::try_from(bytes / 1024).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -kib.max(256))
}
