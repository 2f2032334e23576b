//! What the database says, in our words.

use std::path::Path;

use cuckoo_core::{Error, Retry};
use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

/// An error that says what to do about the file at `path`.
pub(super) fn fault(path: &Path, error: rusqlite::Error) -> Error {
    let file = path.display();
    // What a full disk leaves no room for may also be the log's index; that has a code of its own.
    let extended = error.sqlite_error().map(|error| error.extended_code);
    let mapped = match error.sqlite_error_code() {
        code if code == Some(ErrorCode::DiskFull) || extended == Some(SQLITE_IOERR_SHMSIZE) => {
            Error::unavailable(format!(
                "the disk that holds {file} is full: free some space; nothing was lost, and it goes on by itself"
            ))
        }
        Some(ErrorCode::SystemIoFailure) => Error::unavailable(format!(
            "{file} cannot be read or written: look at the disk and the system's log"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::unavailable(format!(
            "another program holds {file}: end it, or let it finish"
        )),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            Error::unavailable(format!(
                "{file} cannot be opened for writing: look at the permissions of the file and its folder"
            ))
        }
        Some(ErrorCode::OutOfMemory) => Error::unavailable("the store has no memory left"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::internal(format!(
            "{file} is damaged: stop, run `cuckoo-coordinator store check`, and restore a backup"
        ))
        .with_retry(Retry::Never),
        Some(ErrorCode::TooBig) => Error::invalid("it is larger than the store can keep"),
        _ => Error::internal(format!("the store at {file} does not understand itself")),
    };
    mapped.with_source(error)
}
