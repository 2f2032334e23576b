//! A store in memory whose rows come from `fuzz/`.

use std::path::Path;

use cuckoo_core::{Result, TaskId, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::fault::fault;
use super::tables::Tables;
use super::{read, row, schema};
use crate::Evidence;
use crate::store::{
    Account, Change, LeaseRecord, NonceRecord, RequesterUsage, SessionRecord, TaskRecord, Versioned,
};

/// What a coordinator reads of its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Tasks, open and ended.
    pub tasks: Vec<TaskRecord>,
    /// Leases of open tasks.
    pub leases: Vec<LeaseRecord>,
    /// Open sessions.
    pub sessions: Vec<SessionRecord>,
    /// Session requests that were used.
    pub nonces: Vec<NonceRecord>,
    /// What miners are owed.
    pub accounts: Vec<Versioned<Account>>,
    /// What convicted miners.
    pub evidence: Vec<Evidence>,
    /// What quotas count.
    pub usage: Vec<RequesterUsage>,
}

/// The tables that rows come to.
const WRITTEN: [&str; 13] = [
    "exhibits",
    "evidence",
    "untold",
    "leases",
    "outputs",
    "payments",
    "accounts",
    "forgotten",
    "sessions",
    "nonces",
    "open",
    "ended",
    "tasks",
];

/// An empty store, for any number of inputs.
pub struct RowStore(Tables);

impl std::fmt::Debug for RowStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowStore")
    }
}

impl RowStore {
    /// A store in memory.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open() -> Result<Self> {
        let mut connection = Connection::open_in_memory().map_err(told)?;
        connection.set_prepared_statement_cache_capacity(64);
        schema::bring_up(&mut connection, Path::new("memory"))?;
        Ok(Self(Tables::new(connection, u64::MAX).map_err(told)?))
    }

    /// Puts rows into tables as they are, and reads all of them as a coordinator does that starts; leaves nothing behind.
    ///
    /// # Errors
    /// What SQLite or the reading says.
    pub fn read(&mut self, rows: &[(&str, Vec<Value>)]) -> Result<Stored> {
        self.undone(|tables| {
            for (table, columns) in rows {
                let places = vec!["?"; columns.len()].join(", ");
                let sql = format!("INSERT INTO {table} VALUES ({places})");
                tables.execute(&sql, params_from_iter(columns))?;
            }
            everything(&tables.connection)
        })
    }

    /// Writes what was read as the coordinator does, and reads that.
    ///
    /// # Errors
    /// What SQLite or the reading says.
    pub fn rewrite(&mut self, stored: &Stored) -> Result<Stored> {
        self.undone(|tables| {
            for task in &stored.tasks {
                let mut changes = vec![Change::Insert(task.clone().into())];
                if task.outcome.is_some() {
                    changes.push(Change::Replace {
                        record: task.clone().into(),
                        expected: 1,
                        output: None,
                        dropped: Vec::new(),
                    });
                }
                tables.change(changes)?;
            }
            let leases = stored.leases.iter().cloned().map(Change::PutLease);
            let sessions = stored.sessions.iter().cloned().map(Change::PutSession);
            let nonces = stored.nonces.iter().cloned();
            let nonces = nonces.map(|nonce| Change::PutNonce {
                nonce,
                at: Timestamp::default(),
            });
            let accounts = stored.accounts.iter().map(|account| Change::Account {
                account: account.value.clone(),
                expected: 0,
            });
            let evidence = stored.evidence.iter().cloned().map(Box::new);
            let evidence = evidence.map(Change::AddEvidence);
            let changes = leases.chain(sessions).chain(nonces);
            let changes = changes.chain(accounts).chain(evidence);
            tables.change(changes.collect())?;
            everything(&tables.connection)
        })
    }

    fn undone<T>(&mut self, work: impl FnOnce(&mut Tables) -> rusqlite::Result<T>) -> Result<T> {
        let counts = self.0.counts;
        let done = work(&mut self.0);
        // Not undone by a transaction: some of the reading has its own.
        for table in WRITTEN {
            let sql = format!("DELETE FROM {table}");
            self.0.execute(&sql, []).map_err(told)?;
        }
        self.0.counts = counts;
        done.map_err(told)
    }
}

fn everything(connection: &Connection) -> rusqlite::Result<Stored> {
    let ids = connection
        .prepare_cached("SELECT id FROM tasks ORDER BY sequence")?
        .query_map([], |found| row::word(found, 0).map(TaskId::from))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut tasks = Vec::new();
    for id in ids {
        tasks.extend(read::load(connection, id)?.map(|task| task.value));
    }
    read::unfinished(connection, None, 100)?;
    read::unnotified(connection, 100)?;
    Ok(Stored {
        tasks,
        leases: read::leases(connection)?,
        sessions: read::sessions(connection)?,
        nonces: read::nonces(connection, Timestamp::default())?,
        accounts: read::accounts(connection)?,
        evidence: read::evidence(connection)?,
        usage: read::usage(connection, Timestamp::default())?,
    })
}

fn told(error: rusqlite::Error) -> cuckoo_core::Error {
    fault(Path::new("memory"), error)
}
