//! A store in memory: for tests, demos and apps that may lose what is open when they end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cuckoo_core::{Error, LeaseId, NodeId, Output, Result, TaskId};

use super::{Account, Payment, PaymentReply, TaskRecord, TaskStore, Versioned};
use crate::Evidence;

/// Keeps everything in memory, as long as the coordinator's retention says; gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    tasks: HashMap<TaskId, Versioned<TaskRecord>>,
    /// Tasks without an outcome, in order of submission.
    unfinished: BTreeMap<u64, TaskId>,
    sequence: HashMap<TaskId, u64>,
    next: u64,
    outputs: HashMap<LeaseId, Output>,
    payments: HashMap<LeaseId, Payment>,
    leases: HashMap<TaskId, HashSet<LeaseId>>,
    accounts: BTreeMap<NodeId, Versioned<Account>>,
    evidence: Vec<Evidence>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change below is complete before anything can panic, so a poisoned table is whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TaskStore for MemoryStore {
    async fn insert(&self, record: TaskRecord) -> Result<u64> {
        let mut tables = self.tables();
        let id = record.task.id;
        if tables.tasks.contains_key(&id) {
            return Err(Error::conflict(format!("task {id} is stored already")));
        }
        let sequence = tables.next;
        tables.next += 1;
        if record.outcome.is_none() {
            tables.unfinished.insert(sequence, id);
            tables.sequence.insert(id, sequence);
        }
        tables.tasks.insert(
            id,
            Versioned {
                value: record,
                version: 1,
            },
        );
        Ok(1)
    }

    async fn load(&self, task: TaskId) -> Result<Option<Versioned<TaskRecord>>> {
        Ok(self.tables().tasks.get(&task).cloned())
    }

    async fn replace(&self, record: TaskRecord, expected: u64) -> Result<u64> {
        let mut tables = self.tables();
        let id = record.task.id;
        let finished = record.outcome.is_some();
        let Some(stored) = tables.tasks.get_mut(&id) else {
            return Err(Error::conflict(format!("task {id} is stored no longer")));
        };
        if stored.version != expected {
            return Err(Error::conflict(format!(
                "task {id} changed meanwhile: version {} instead of {expected}; load it again",
                stored.version
            )));
        }
        let version = expected + 1;
        *stored = Versioned {
            value: record,
            version,
        };
        if finished && let Some(sequence) = tables.sequence.remove(&id) {
            tables.unfinished.remove(&sequence);
        }
        Ok(version)
    }

    async fn unfinished(&self) -> Result<Vec<Versioned<TaskRecord>>> {
        let tables = self.tables();
        let tasks = tables.unfinished.values();
        Ok(tasks
            .filter_map(|id| tables.tasks.get(id).cloned())
            .collect())
    }

    async fn remove(&self, task: TaskId) -> Result<()> {
        let mut tables = self.tables();
        tables.tasks.remove(&task);
        if let Some(sequence) = tables.sequence.remove(&task) {
            tables.unfinished.remove(&sequence);
        }
        for lease in tables.leases.remove(&task).unwrap_or_default() {
            tables.outputs.remove(&lease);
            tables.payments.remove(&lease);
        }
        Ok(())
    }

    async fn put_output(&self, task: TaskId, lease: LeaseId, output: Output) -> Result<()> {
        let mut tables = self.tables();
        tables.leases.entry(task).or_default().insert(lease);
        tables.outputs.insert(lease, output);
        Ok(())
    }

    async fn output(&self, lease: LeaseId) -> Result<Option<Output>> {
        Ok(self.tables().outputs.get(&lease).cloned())
    }

    async fn remove_output(&self, lease: LeaseId) -> Result<()> {
        self.tables().outputs.remove(&lease);
        Ok(())
    }

    async fn account(&self, miner: NodeId) -> Result<Versioned<Account>> {
        let empty = || Versioned {
            value: Account {
                miner,
                voucher: None,
            },
            version: 0,
        };
        Ok(self
            .tables()
            .accounts
            .get(&miner)
            .cloned()
            .unwrap_or_else(empty))
    }

    async fn accounts(&self) -> Result<Vec<Account>> {
        let tables = self.tables();
        Ok(tables
            .accounts
            .values()
            .map(|account| account.value.clone())
            .collect())
    }

    async fn pay(&self, payment: Payment, expected: u64) -> Result<PaymentReply> {
        let mut tables = self.tables();
        if let Some(before) = tables.payments.get(&payment.lease) {
            return Ok(PaymentReply::PaidBefore(before.clone()));
        }
        let miner = payment.voucher.value.miner;
        let version = tables
            .accounts
            .get(&miner)
            .map_or(0, |account| account.version);
        if version != expected {
            return Err(Error::conflict(format!(
                "the account of {miner} changed meanwhile: version {version} instead of {expected}; load it again"
            )));
        }
        let account = Account {
            miner,
            voucher: Some(payment.voucher.clone()),
        };
        tables.accounts.insert(
            miner,
            Versioned {
                value: account,
                version: version + 1,
            },
        );
        tables
            .leases
            .entry(payment.task)
            .or_default()
            .insert(payment.lease);
        tables.payments.insert(payment.lease, payment);
        Ok(PaymentReply::Paid)
    }

    async fn add_evidence(&self, evidence: Evidence) -> Result<()> {
        let mut tables = self.tables();
        if tables
            .evidence
            .iter()
            .all(|known| known.task.id != evidence.task.id)
        {
            tables.evidence.push(evidence);
        }
        Ok(())
    }

    async fn evidence(&self) -> Result<Vec<Evidence>> {
        Ok(self.tables().evidence.clone())
    }
}
