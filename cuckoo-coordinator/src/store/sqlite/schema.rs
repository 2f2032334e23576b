//! The tables, and how a file of an earlier version becomes one of this.
//!
//! A task is two rows: what was asked is written once, what becomes of it is small and written anew. Numbers that only
//! grow name tasks inside the database, so that new rows of every table but the index of ids go to its end, and the rows
//! that one task needs lie together.

use std::path::Path;

use cuckoo_core::{Error, Result};
use rusqlite::Connection;

use super::fault::fault;
use super::row::count;

/// "cuko": marks the file as a coordinator's store.
const APPLICATION_ID: i32 = 0x6375_6b6f;

/// What each version of the schema adds to the one before it.
const STEPS: &[&str] = &[include_str!("schema/1.sql")];

/// The schema's version, as the file says it.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Makes the tables, or those that an older version lacks.
///
/// # Errors
/// `Invalid` when the file is something else or of a later version; else what the database says.
pub(super) fn bring_up(connection: &mut Connection, path: &Path) -> Result<()> {
    let from = recognise(connection, path)?;
    step_up(connection, from).map_err(|error| fault(path, error))
}

/// The version of a store's tables, 0 for an empty file.
///
/// # Errors
/// As [`bring_up`].
pub(super) fn recognise(connection: &Connection, path: &Path) -> Result<usize> {
    let file = path.display();
    let found = look(connection).map_err(|error| fault(path, error))?;
    let version = found.ok_or_else(|| {
        Error::invalid(format!(
            "{file} is some other program's database: give the path of a coordinator's store, or of a file to make"
        ))
    })?;
    if version > STEPS.len() {
        return Err(Error::invalid(format!(
            "{file} was written by a later version of this program (schema {version}, this one knows {}): update the \
             program, or give the path of another file",
            STEPS.len()
        )));
    }
    Ok(version)
}

/// The version of a store, or nothing for a file that is none.
fn look(connection: &Connection) -> rusqlite::Result<Option<usize>> {
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application == APPLICATION_ID {
        return Ok(usize::try_from(version(connection)?).ok());
    }
    let empty: bool = connection.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)",
        [],
        |row| row.get(0),
    )?;
    Ok((empty && application == 0).then_some(0))
}

fn step_up(connection: &mut Connection, from: usize) -> rusqlite::Result<()> {
    if from == STEPS.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in STEPS.iter().skip(from) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", count(STEPS.len()))?;
    transaction.commit()
}
