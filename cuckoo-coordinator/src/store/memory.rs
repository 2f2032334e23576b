//! A store in memory: for tests, demos and apps that may lose what is open when they end.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cuckoo_core::{Error, LeaseId, NodeId, Output, Result, TaskId};

use super::{Account, Payment, PaymentReply, TaskRecord, TaskStore, Versioned};
use crate::Evidence;

/// Keeps everything in memory, as long as the coordinator's retention says; gone with the process. When outputs exceed
/// its capacity, those of the tasks that finished first go first.
#[derive(Debug)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Tables {
    tasks: HashMap<TaskId, Versioned<TaskRecord>>,
    /// Tasks without an outcome, in order of submission.
    unfinished: BTreeMap<u64, TaskId>,
    sequence: HashMap<TaskId, u64>,
    next: u64,
    /// Tasks whose outputs may go, in order of their end.
    finished: VecDeque<TaskId>,
    outputs: HashMap<LeaseId, Output>,
    output_bytes: usize,
    payments: HashMap<LeaseId, Payment>,
    leases: HashMap<TaskId, HashSet<LeaseId>>,
    accounts: BTreeMap<NodeId, Versioned<Account>>,
    evidence: Vec<Evidence>,
}

impl MemoryStore {
    const DEFAULT_CAPACITY: usize = 1 << 30;

    /// An empty store for 1 GiB of outputs.
    pub fn new() -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY)
    }

    /// An empty store for so many bytes of outputs. Those of open tasks are kept even beyond it.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            tables: Mutex::default(),
            capacity,
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change below is complete before anything can panic, so a poisoned table is whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Tables {
    fn remove_output(&mut self, lease: LeaseId) {
        if let Some(output) = self.outputs.remove(&lease) {
            self.output_bytes -= output.bytes.len();
        }
    }

    fn make_room(&mut self, capacity: usize) {
        while self.output_bytes > capacity {
            let Some(oldest) = self.finished.pop_front() else {
                return;
            };
            let leases = self.leases.get(&oldest).cloned().unwrap_or_default();
            leases
                .into_iter()
                .for_each(|lease| self.remove_output(lease));
        }
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
            tables.finished.push_back(id);
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
            tables.remove_output(lease);
            tables.payments.remove(&lease);
        }
        if tables.finished.front() == Some(&task) {
            tables.finished.pop_front();
        }
        Ok(())
    }

    async fn put_output(&self, task: TaskId, lease: LeaseId, output: Output) -> Result<()> {
        let mut tables = self.tables();
        tables.leases.entry(task).or_default().insert(lease);
        tables.remove_output(lease);
        tables.output_bytes += output.bytes.len();
        tables.outputs.insert(lease, output);
        tables.make_room(self.capacity);
        Ok(())
    }

    async fn output(&self, lease: LeaseId) -> Result<Option<Output>> {
        Ok(self.tables().outputs.get(&lease).cloned())
    }

    async fn remove_output(&self, lease: LeaseId) -> Result<()> {
        self.tables().remove_output(lease);
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
            return Ok(PaymentReply::PaidBefore(Box::new(before.clone())));
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

#[cfg(test)]
mod tests {
    use cuckoo_core::{B256, ErrorKind, ModelId, Task, Timestamp, Wei};

    use super::*;
    use crate::Outcome;

    fn record(number: u8, outcome: Option<Outcome>) -> TaskRecord {
        let task = Task {
            id: TaskId::from(B256::repeat_byte(number)),
            model: "shapes".parse::<ModelId>().unwrap(),
            input: "{}".into(),
            input_hash: B256::ZERO,
            price: Wei::ZERO,
            submitted_at: Timestamp::default(),
            deadline: Timestamp::default(),
        };
        TaskRecord {
            task,
            received: Vec::new(),
            outcome,
        }
    }

    fn output(size: usize) -> Output {
        Output {
            media_type: "image/png".into(),
            bytes: vec![0; size].into(),
        }
    }

    #[tokio::test]
    async fn a_version_that_moved_on_conflicts() {
        let store = MemoryStore::new();
        let version = store.insert(record(1, None)).await.unwrap();
        let conflict = |result: Result<u64>| result.unwrap_err().kind() == ErrorKind::Conflict;
        assert!(conflict(store.insert(record(1, None)).await));
        let next = store.replace(record(1, None), version).await.unwrap();
        assert!(next > version);
        assert!(conflict(store.replace(record(1, None), version).await));
        assert!(conflict(store.replace(record(2, None), version).await));
        assert_eq!(store.unfinished().await.unwrap().len(), 1);
        let ended = record(1, Some(Outcome::Cancelled));
        store.replace(ended.clone(), next).await.unwrap();
        assert!(store.unfinished().await.unwrap().is_empty());
        let loaded = store.load(ended.task.id).await.unwrap().unwrap();
        assert_eq!(loaded.value, ended);
    }

    #[tokio::test]
    async fn outputs_beyond_the_capacity_go_by_age_but_never_those_of_open_tasks() {
        let store = MemoryStore::with_capacity(10);
        let lease = |number: u8| LeaseId::from(B256::repeat_byte(number));
        for number in 1..=3 {
            let open = record(number, None);
            let id = open.task.id;
            let version = store.insert(open).await.unwrap();
            store
                .put_output(id, lease(number), output(4))
                .await
                .unwrap();
            if number < 3 {
                let ended = record(number, Some(Outcome::Cancelled));
                store.replace(ended, version).await.unwrap();
            }
        }
        assert_eq!(store.output(lease(1)).await.unwrap(), None);
        assert!(store.output(lease(2)).await.unwrap().is_some());
        let open = record(3, None).task.id;
        store.put_output(open, lease(4), output(20)).await.unwrap();
        assert_eq!(store.output(lease(2)).await.unwrap(), None);
        assert!(store.output(lease(3)).await.unwrap().is_some());
        assert!(store.output(lease(4)).await.unwrap().is_some());
        store.remove(open).await.unwrap();
        assert_eq!(store.output(lease(4)).await.unwrap(), None);
        assert_eq!(store.tables().output_bytes, 0);
    }
}
