//! Reading, beside the writer: a few connections that see what is durable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuckoo_core::{B256, Error, LeaseId, NodeId, Result, TaskId, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};
use tokio::sync::Semaphore;

use super::connection;
use super::fault::fault;
use super::row::{self, Kept, OUTPUTS, TASK_COLUMNS, count, integer, number, wei, word};
use crate::Evidence;
use crate::store::{
    Account, Hour, LeaseRecord, ListedState, NonceRecord, Payment, RequesterUsage, SessionRecord,
    TaskFilter, TaskRecord, Versioned,
};

/// The most that read at once.
const READERS: usize = 4;

/// Connections for reading.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    path: Arc<Path>,
    cache_bytes: usize,
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: Arc<Path>, cache_bytes: usize) -> Self {
        Self {
            path,
            cache_bytes: cache_bytes / READERS,
            idle: Arc::default(),
            turns: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Runs a query on a thread that may wait for the disk.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = |_| Error::unavailable("the store is closed");
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let readers = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let connection = readers
                .take()
                .map_err(|error| fault(&readers.path, error))?;
            let answer = query(&connection);
            readers.idle().push(connection);
            answer.map_err(|error| fault(&readers.path, error))
        });
        reading
            .await
            .map_err(|source| Error::internal("a query stopped").with_source(source))?
    }

    /// Closes connections that nobody uses.
    pub(super) fn close(&self) {
        self.idle().clear();
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle().pop();
        idle.map_or_else(|| connection::for_reading(&self.path, self.cache_bytes), Ok)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of `open o` or `ended e`, whichever has the task.
const EITHER: &str = "coalesce(o.version, e.version), coalesce(o.progress, e.progress), e.ended_at";
const OF_OPEN: &str = "o.version, o.progress, NULL";
const OF_ENDED: &str = "e.version, e.progress, e.ended_at";

/// Every row of a query.
fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(params, read)?.collect()
}

pub(super) fn load(
    connection: &Connection,
    task: TaskId,
) -> rusqlite::Result<Option<Versioned<TaskRecord>>> {
    let sql = format!(
        "SELECT {TASK_COLUMNS}, {EITHER}
         FROM tasks t LEFT JOIN open o USING (sequence) LEFT JOIN ended e USING (sequence) WHERE t.id = ?"
    );
    connection
        .prepare_cached(&sql)?
        .query_row([task.word().as_slice()], row::task)
        .optional()
}

fn sequence(connection: &Connection, task: TaskId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT sequence FROM tasks WHERE id = ?")?
        .query_row([task.word().as_slice()], |row| row.get(0))
        .optional()
}

pub(super) fn unfinished(
    connection: &Connection,
    after: Option<TaskId>,
    limit: usize,
) -> rusqlite::Result<Vec<Versioned<TaskRecord>>> {
    let after = after.map(|task| sequence(connection, task)).transpose()?;
    let sql = format!(
        "SELECT {TASK_COLUMNS}, {OF_OPEN}
         FROM open o CROSS JOIN tasks t USING (sequence) WHERE o.sequence > ? ORDER BY o.sequence LIMIT ?"
    );
    let after = after.flatten().unwrap_or(0);
    all(connection, &sql, params![after, count(limit)], row::task)
}

pub(super) fn list(
    connection: &Connection,
    filter: &TaskFilter,
) -> rusqlite::Result<Vec<TaskRecord>> {
    // What is rare is looked through first: few tasks are open, few fail.
    let (of, from) = match filter.state {
        None => (
            EITHER,
            "tasks t LEFT JOIN open o USING (sequence) LEFT JOIN ended e USING (sequence) WHERE true",
        ),
        Some(ListedState::Open) => (
            OF_OPEN,
            "open o CROSS JOIN tasks t USING (sequence) WHERE true",
        ),
        Some(ListedState::Completed) => (
            OF_ENDED,
            "tasks t CROSS JOIN ended e USING (sequence) WHERE e.state = 1",
        ),
        Some(ListedState::Failed) => (
            OF_ENDED,
            "ended e CROSS JOIN tasks t USING (sequence) WHERE e.state = 2",
        ),
        Some(ListedState::Cancelled) => (
            OF_ENDED,
            "ended e CROSS JOIN tasks t USING (sequence) WHERE e.state = 3",
        ),
    };
    let mut sql = format!("SELECT {TASK_COLUMNS}, {of} FROM {from}");
    let mut values: Vec<Value> = Vec::new();
    if let Some(task) = filter.before {
        // Of a task that was forgotten, nothing is known that came before it.
        sql.push_str(" AND t.sequence < ?");
        values.push(sequence(connection, task)?.unwrap_or(0).into());
    }
    if let Some(requester) = &filter.requester {
        sql.push_str(" AND t.requester = ?");
        values.push(requester.clone().into());
    }
    if let Some(model) = &filter.model {
        sql.push_str(" AND t.model = ?");
        values.push(model.as_str().to_owned().into());
    }
    sql.push_str(" ORDER BY t.sequence DESC LIMIT ?");
    values.push(count(filter.limit).into());
    all(connection, &sql, params_from_iter(values), |row| {
        row::task(row).map(|task| task.value)
    })
}

pub(super) fn output(
    connection: &Connection,
    task: TaskId,
    lease: LeaseId,
) -> rusqlite::Result<Option<Kept>> {
    connection
        .prepare_cached(
            "SELECT o.media_type, o.size, o.bytes, o.object
             FROM tasks t CROSS JOIN outputs o ON o.place BETWEEN t.sequence * ?1 AND t.sequence * ?1 + ?1 - 1
             WHERE t.id = ?2 AND o.lease = ?3",
        )?
        .query_row(
            params![OUTPUTS, task.word().as_slice(), lease.word().as_slice()],
            row::kept,
        )
        .optional()
}

pub(super) fn blob(connection: &Connection, hash: B256) -> rusqlite::Result<Option<Kept>> {
    connection
        .prepare_cached("SELECT media_type, size, bytes, object FROM blobs WHERE hash = ?")?
        .query_row([hash.as_slice()], row::kept)
        .optional()
}

/// Whether an output or a blob is in this object.
pub(super) fn names(connection: &Connection, object: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM outputs WHERE object = ?1)
                 OR EXISTS (SELECT 1 FROM blobs WHERE object = ?1)",
        )?
        .query_row([object], |row| row.get(0))
}

/// Every object that is named, and what is in it.
pub(super) fn objects(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    all(
        connection,
        "SELECT object, 'the output of a lease, ' || hex(lease) FROM outputs WHERE object IS NOT NULL
         UNION ALL
         SELECT object, 'a blob, ' || hex(hash) FROM blobs WHERE object IS NOT NULL",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

pub(super) fn leases(connection: &Connection) -> rusqlite::Result<Vec<LeaseRecord>> {
    let sql = "SELECT t.id, l.lease, l.miner, l.audit, l.model_hash, l.kernels, l.granted_at
               FROM leases l CROSS JOIN tasks t USING (sequence)";
    all(connection, sql, [], row::lease)
}

pub(super) fn sessions(connection: &Connection) -> rusqlite::Result<Vec<SessionRecord>> {
    let sql = "SELECT miner, token_hash, operator, expires_at FROM sessions";
    all(connection, sql, [], |row| {
        Ok(SessionRecord {
            miner: NodeId(number(row, 0)?),
            token_hash: word(row, 1)?,
            operator: row::address(row, 2)?,
            expires_at: row::time(row, 3)?,
        })
    })
}

pub(super) fn nonces(connection: &Connection, at: Timestamp) -> rusqlite::Result<Vec<NonceRecord>> {
    let sql = "SELECT miner, nonce, expires_at FROM nonces WHERE expires_at > ?";
    all(connection, sql, [row::millis(at)], |row| {
        Ok(NonceRecord {
            miner: NodeId(number(row, 0)?),
            nonce: word(row, 1)?,
            expires_at: row::time(row, 2)?,
        })
    })
}

pub(super) fn accounts(connection: &Connection) -> rusqlite::Result<Vec<Versioned<Account>>> {
    let sql = "SELECT miner, version, voucher FROM accounts ORDER BY miner";
    all(connection, sql, [], |row| {
        Ok(Versioned {
            value: Account {
                miner: NodeId(number(row, 0)?),
                voucher: row::json(row, 2)?,
            },
            version: number(row, 1)?,
        })
    })
}

pub(super) fn payment(
    connection: &Connection,
    task: TaskId,
    lease: LeaseId,
) -> rusqlite::Result<Option<Payment>> {
    connection
        .prepare_cached(
            "SELECT p.miner, p.amount FROM tasks t CROSS JOIN payments p USING (sequence)
             WHERE t.id = ? AND p.lease = ?",
        )?
        .query_row([task.word().as_slice(), lease.word().as_slice()], |row| {
            Ok(Payment {
                lease,
                task,
                miner: NodeId(number(row, 0)?),
                amount: wei(row, 1)?,
            })
        })
        .optional()
}

pub(super) fn evidence(connection: &Connection) -> rusqlite::Result<Vec<Evidence>> {
    let seen = connection.unchecked_transaction()?;
    let found = all(
        &seen,
        "SELECT number, record FROM evidence ORDER BY number",
        [],
        |row| Ok((row.get::<_, i64>(0)?, row::json::<Evidence>(row, 1)?)),
    )?;
    let mut evidence = Vec::with_capacity(found.len());
    for (number, mut record) in found {
        let outputs = all(
            &seen,
            "SELECT output FROM exhibits WHERE evidence = ? ORDER BY position",
            [number],
            |row| row.get::<_, Vec<u8>>(0),
        )?;
        for (exhibit, output) in record.exhibits.iter_mut().zip(outputs) {
            exhibit.output = output.into();
        }
        evidence.push(record);
    }
    Ok(evidence)
}

pub(super) fn unnotified(
    connection: &Connection,
    limit: usize,
) -> rusqlite::Result<Vec<TaskRecord>> {
    let sql = format!(
        "SELECT {TASK_COLUMNS}, {OF_ENDED}
         FROM untold u CROSS JOIN tasks t USING (sequence) CROSS JOIN ended e USING (sequence)
         ORDER BY u.sequence LIMIT ?"
    );
    all(connection, &sql, [count(limit)], |row| {
        row::task(row).map(|task| task.value)
    })
}

pub(super) fn usage(
    connection: &Connection,
    since: Timestamp,
) -> rusqlite::Result<Vec<RequesterUsage>> {
    let seen = connection.unchecked_transaction()?;
    let mut usage = BTreeMap::new();
    let open = all(
        &seen,
        "SELECT t.requester, count(*) FROM open o CROSS JOIN tasks t USING (sequence)
         WHERE t.requester IS NOT NULL GROUP BY t.requester",
        [],
        |row| Ok((row.get(0)?, number(row, 1)?)),
    )?;
    for (requester, open) in open {
        entry(&mut usage, requester).open = open;
    }
    let mut forgotten =
        seen.prepare_cached("SELECT requester, tasks, spent FROM forgotten WHERE hour >= ?")?;
    let mut rows = forgotten.query([integer(Hour::of(since).0)])?;
    while let Some(row) = rows.next()? {
        let entry = entry(&mut usage, row.get(0)?);
        entry.tasks = entry.tasks.saturating_add(number(row, 1)?);
        entry.spent = entry.spent.saturating_add(wei(row, 2)?);
    }
    let mut since_then = seen.prepare_cached(
        "SELECT t.requester, t.price,
                EXISTS (SELECT 1 FROM ended e WHERE e.sequence = t.sequence AND e.state <> 1)
         FROM tasks t INDEXED BY tasks_by_time WHERE t.submitted_at >= ? AND t.requester IS NOT NULL",
    )?;
    let mut rows = since_then.query([row::millis(since)])?;
    while let Some(row) = rows.next()? {
        let requester = row.get_ref(0)?.as_str()?;
        if !usage.contains_key(requester) {
            entry(&mut usage, requester.to_owned());
        }
        if let Some(entry) = usage.get_mut(requester) {
            entry.tasks = entry.tasks.saturating_add(1);
            if !row.get::<_, bool>(2)? {
                entry.spent = entry.spent.saturating_add(wei(row, 1)?);
            }
        }
    }
    Ok(usage.into_values().collect())
}

fn entry(usage: &mut BTreeMap<String, RequesterUsage>, requester: String) -> &mut RequesterUsage {
    usage
        .entry(requester.clone())
        .or_insert_with(|| RequesterUsage::none(requester))
}
