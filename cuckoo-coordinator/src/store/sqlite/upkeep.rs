//! What an operator does with the file, also while a coordinator runs: look at it, check it, copy it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use cuckoo_core::{Error, NodeId, Result, Wei};
use rusqlite::Connection;
use serde::Serialize;

use super::fault::fault;
use super::row::{number, wei};
use super::{SqliteStore, connection, read, schema};
use crate::store::StoreSettings;
use crate::store::objects::Objects;

/// What a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StoreStats {
    /// The version of its tables.
    pub schema: i32,
    /// Tasks without an outcome.
    pub open: u64,
    /// Tasks with one.
    pub finished: u64,
    /// Leases that have not ended.
    pub leases: u64,
    /// Sessions of miners.
    pub sessions: u64,
    /// Miners that were promised anything.
    pub accounts: u64,
    /// Verdicts with their evidence.
    pub evidence: u64,
    /// Bytes of outputs, wherever they are.
    pub output_bytes: u64,
    /// Bytes of blobs.
    pub blob_bytes: u64,
    /// Bytes of the database's file, without its log.
    pub file_bytes: u64,
}

impl SqliteStore {
    /// Counts what is in a store.
    ///
    /// # Errors
    /// `NotFound` when there is none, else as [`SqliteStore::open`].
    pub async fn stats(settings: &StoreSettings) -> Result<StoreStats> {
        at(settings, stats).await
    }

    /// Looks for damage; one line for each thing that is wrong. Reads all of the file.
    ///
    /// # Errors
    /// As [`SqliteStore::stats`].
    pub async fn check(settings: &StoreSettings) -> Result<Vec<String>> {
        let (mut wrong, objects) = at(settings, |connection| {
            Ok((check(connection)?, read::objects(connection)?))
        })
        .await?;
        if !objects.is_empty() {
            let place = Objects::find(settings)?;
            for (name, what) in objects {
                if !place.has(&name).await? {
                    wrong.push(format!("{what} is missing: object {name}"));
                }
            }
        }
        Ok(wrong)
    }

    /// Writes a copy as of now to the new file `to`; what is kept outside the database is not in it.
    ///
    /// # Errors
    /// As [`SqliteStore::stats`]; `Conflict` when there is such a file already, `Unavailable` when it cannot be written.
    pub async fn backup(settings: &StoreSettings, to: &Path) -> Result<()> {
        if to.exists() {
            return Err(Error::conflict(format!(
                "{} is there already: name a new file",
                to.display()
            )));
        }
        let copy: Arc<Path> = to.into();
        let file = Arc::clone(&copy);
        let copied = at(settings, move |connection| {
            let name = file.to_string_lossy();
            connection
                .execute("VACUUM INTO ?", [name.as_ref()])
                .map(drop)
        })
        .await;
        let synced = copied.and_then(|()| {
            let sync = File::open(&copy).and_then(|file| file.sync_all());
            sync.map_err(|source| {
                Error::unavailable(format!("{} cannot be written", copy.display()))
                    .with_source(source)
            })
        });
        if synced.is_err() {
            let _ = std::fs::remove_file(&copy);
        }
        synced
    }
}

/// Runs a query on a store that a coordinator may have open.
async fn at<T: Send + 'static>(
    settings: &StoreSettings,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T> {
    let (path, cache_bytes) = (settings.path.clone(), settings.cache_bytes);
    if settings.in_memory() || !path.exists() {
        return Err(Error::not_found(format!(
            "there is no store at {}",
            path.display()
        )));
    }
    let reading = tokio::task::spawn_blocking(move || {
        let connection =
            connection::for_reading(&path, cache_bytes).map_err(|error| fault(&path, error))?;
        schema::recognise(&connection, &path)?;
        query(&connection).map_err(|error| fault(&path, error))
    });
    let stopped = |source| Error::internal("reading the store stopped").with_source(source);
    reading.await.map_err(stopped)?
}

fn stats(connection: &Connection) -> rusqlite::Result<StoreStats> {
    let count = |what: &str| {
        connection.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| {
            number(row, 0)
        })
    };
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let sql = "SELECT finished, output_bytes, blob_bytes FROM state";
    let (finished, output_bytes, blob_bytes) = connection.query_row(sql, [], |row| {
        Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?))
    })?;
    Ok(StoreStats {
        schema: schema::version(connection)?,
        open: count("open")?,
        finished,
        leases: count("leases")?,
        sessions: count("sessions")?,
        accounts: count("accounts")?,
        evidence: count("evidence")?,
        output_bytes,
        blob_bytes,
        file_bytes: (pages * page).cast_unsigned(),
    })
}

/// What SQLite finds wrong, and what of ours does not add up.
fn check(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    // All of it as of one moment.
    let seen = connection.unchecked_transaction()?;
    let mut wrong: Vec<String> = Vec::new();
    {
        let mut pragma = seen.prepare("PRAGMA integrity_check")?;
        let found = pragma.query_map([], |row| row.get::<_, String>(0))?;
        for line in found {
            let line = line?;
            if line != "ok" {
                wrong.push(line);
            }
        }
    }
    for (what, sql) in [
        (
            "tasks that are neither open nor ended",
            "SELECT count(*) FROM tasks WHERE sequence NOT IN (SELECT sequence FROM open)
                 AND sequence NOT IN (SELECT sequence FROM ended)",
        ),
        (
            "tasks that are both open and ended",
            "SELECT count(*) FROM open JOIN ended USING (sequence)",
        ),
        (
            "rows of open and ended without their task",
            "SELECT count(*) FROM (SELECT sequence FROM open UNION ALL SELECT sequence FROM ended)
             WHERE sequence NOT IN (SELECT sequence FROM tasks)",
        ),
        (
            "leases of tasks that are not open",
            "SELECT count(*) FROM leases WHERE sequence NOT IN (SELECT sequence FROM open)",
        ),
        (
            "payments without their task",
            "SELECT count(*) FROM payments WHERE sequence NOT IN (SELECT sequence FROM tasks)",
        ),
        (
            "outputs without their task",
            "SELECT count(*) FROM outputs WHERE place / 65536 NOT IN (SELECT sequence FROM tasks)",
        ),
        (
            "finished tasks more or fewer than counted",
            "SELECT abs((SELECT count(*) FROM ended) - finished) FROM state",
        ),
        (
            "bytes of outputs more or fewer than counted",
            "SELECT abs((SELECT coalesce(sum(size), 0) FROM outputs) - output_bytes) FROM state",
        ),
        (
            "bytes of blobs more or fewer than counted",
            "SELECT abs((SELECT coalesce(sum(size), 0) FROM blobs) - blob_bytes) FROM state",
        ),
    ] {
        let count: i64 = seen.query_row(sql, [], |row| row.get(0))?;
        if count > 0 {
            wrong.push(format!("{count} {what}"));
        }
    }
    wrong.extend(overpaid(&seen)?);
    Ok(wrong)
}

/// Miners whose payments exceed what their voucher promises.
fn overpaid(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut paid: BTreeMap<NodeId, Wei> = BTreeMap::new();
    let mut payments = connection.prepare("SELECT miner, amount FROM payments")?;
    let mut rows = payments.query([])?;
    while let Some(row) = rows.next()? {
        let sum = paid.entry(NodeId(number(row, 0)?)).or_default();
        *sum = sum.saturating_add(wei(row, 1)?);
    }
    for account in read::accounts(connection)? {
        let promised = account.value.cumulative();
        paid.retain(|miner, sum| *miner != account.value.miner || *sum > promised);
    }
    let line = |(miner, sum)| format!("{miner} was paid {sum} wei, more than its voucher says");
    Ok(paid.into_iter().map(line).collect())
}
