//! A store in memory: for tests, demos and apps that may lose what is open when they end.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cuckoo_core::{B256, LeaseId, NodeId, Output, Result, TaskId, Timestamp, Wei};

use super::{
    Account, Change, Commit, Committed, LeaseRecord, Outcome, Payment, RequesterUsage,
    SessionRecord, StagedOutput, TaskFilter, TaskRecord, TaskStore, Versioned,
};
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
    tasks: HashMap<TaskId, Row>,
    /// Tasks by when they were inserted.
    sequence: BTreeMap<u64, TaskId>,
    unfinished: BTreeMap<u64, TaskId>,
    /// In order of their end, which is the order in which they are forgotten.
    finished: VecDeque<TaskId>,
    next: u64,
    keys: HashMap<(Option<String>, String), TaskId>,
    unnotified: BTreeMap<u64, TaskId>,
    leases: HashMap<LeaseId, LeaseRecord>,
    sessions: HashMap<NodeId, SessionRecord>,
    outputs: HashMap<LeaseId, Output>,
    /// Finished tasks whose output may go, in order of their end.
    evictable: VecDeque<TaskId>,
    output_bytes: usize,
    payments: HashMap<LeaseId, Payment>,
    accounts: BTreeMap<NodeId, Versioned<Account>>,
    evidence: Vec<Evidence>,
    blobs: HashMap<B256, (Output, Timestamp)>,
}

#[derive(Debug)]
struct Row {
    stored: Versioned<TaskRecord>,
    sequence: u64,
    outputs: HashSet<LeaseId>,
    paid: Vec<LeaseId>,
    leases: Vec<LeaseId>,
}

impl MemoryStore {
    const DEFAULT_CAPACITY: usize = 1 << 30;
    /// The most tasks that one sweep forgets.
    const SWEEP: usize = 1_000;

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

/// Versions as they will be once the changes before have been made.
#[derive(Default)]
struct Ahead {
    tasks: HashMap<TaskId, u64>,
    accounts: HashMap<NodeId, u64>,
    paid: HashSet<LeaseId>,
}

impl Tables {
    /// Whether a change fits what is stored and the changes before it.
    fn fits(&self, change: &Change, ahead: &mut Ahead) -> bool {
        match change {
            Change::Insert(record) => {
                let id = record.task.id;
                self.known(record).is_some()
                    || !self.tasks.contains_key(&id) && ahead.tasks.insert(id, 1).is_none()
            }
            Change::Replace {
                record, expected, ..
            } => {
                let id = record.task.id;
                let stored = self.tasks.get(&id).map(|row| row.stored.version);
                let version = ahead.tasks.get(&id).copied().or(stored);
                ahead.tasks.insert(id, expected + 1);
                version == Some(*expected)
            }
            Change::Pay(payment) => {
                !self.payments.contains_key(&payment.lease) && ahead.paid.insert(payment.lease)
            }
            Change::Account { account, expected } => {
                let stored = self.accounts.get(&account.miner);
                let stored = stored.map_or(0, |account| account.version);
                let version = ahead.accounts.insert(account.miner, expected + 1);
                version.unwrap_or(stored) == *expected
            }
            Change::PutLease(_)
            | Change::RemoveLease(_)
            | Change::PutSession(_)
            | Change::RemoveSession(_)
            | Change::AddEvidence(_)
            | Change::Notified(_) => true,
        }
    }

    /// The task that a submission's idempotency key names already.
    fn known(&self, record: &TaskRecord) -> Option<&TaskRecord> {
        let submission = &record.submission;
        let key = submission.idempotency_key.clone()?;
        let id = self.keys.get(&(submission.requester.clone(), key))?;
        Some(&self.tasks.get(id)?.stored.value)
    }

    fn apply(&mut self, change: Change) -> Committed {
        match change {
            Change::Insert(record) => {
                if let Some(known) = self.known(&record) {
                    return Committed::Known {
                        task: known.task.id,
                        digest: known.submission.digest,
                    };
                }
                self.insert(Arc::unwrap_or_clone(record));
                return Committed::Version(1);
            }
            Change::Replace {
                record,
                expected,
                output,
                dropped,
            } => {
                self.replace(Arc::unwrap_or_clone(record), expected + 1, output, dropped);
                return Committed::Version(expected + 1);
            }
            Change::Account { account, expected } => {
                let version = expected + 1;
                let value = Versioned {
                    value: account,
                    version,
                };
                self.accounts.insert(value.value.miner, value);
                return Committed::Version(version);
            }
            Change::Pay(payment) => {
                if let Some(row) = self.tasks.get_mut(&payment.task) {
                    row.paid.push(payment.lease);
                }
                self.payments.insert(payment.lease, payment);
            }
            Change::PutLease(lease) => {
                // One that ended meanwhile needs none.
                if let Some(row) = self.tasks.get_mut(&lease.task)
                    && row.stored.value.outcome.is_none()
                {
                    row.leases.push(lease.lease);
                    self.leases.insert(lease.lease, lease);
                }
            }
            Change::RemoveLease(lease) => {
                self.leases.remove(&lease);
            }
            Change::PutSession(session) => {
                self.sessions.insert(session.miner, session);
            }
            Change::RemoveSession(miner) => {
                self.sessions.remove(&miner);
            }
            Change::AddEvidence(evidence) => {
                let known = |known: &Evidence| known.task.id == evidence.task.id;
                if !self.evidence.iter().any(known) {
                    self.evidence.push(*evidence);
                }
            }
            Change::Notified(task) => {
                if let Some(row) = self.tasks.get(&task) {
                    self.unnotified.remove(&row.sequence);
                }
            }
        }
        Committed::Version(0)
    }

    fn insert(&mut self, record: TaskRecord) {
        let (id, sequence) = (record.task.id, self.next);
        self.next += 1;
        if let Some(key) = record.submission.idempotency_key.clone() {
            self.keys
                .insert((record.submission.requester.clone(), key), id);
        }
        self.sequence.insert(sequence, id);
        self.unfinished.insert(sequence, id);
        let stored = Versioned {
            value: record,
            version: 1,
        };
        let row = Row {
            stored,
            sequence,
            outputs: HashSet::new(),
            paid: Vec::new(),
            leases: Vec::new(),
        };
        self.tasks.insert(id, row);
    }

    fn replace(
        &mut self,
        record: TaskRecord,
        version: u64,
        output: Option<StagedOutput>,
        mut dropped: Vec<LeaseId>,
    ) {
        let id = record.task.id;
        let Some(row) = self.tasks.get_mut(&id) else {
            return;
        };
        if let Some(output) = output {
            row.outputs.insert(output.lease);
            let bytes = output.inline.unwrap_or_default();
            self.output_bytes += bytes.len();
            let media_type = output.media_type;
            self.outputs
                .insert(output.lease, Output { media_type, bytes });
        }
        if let Some(outcome) = &record.outcome
            && self.unfinished.remove(&row.sequence).is_some()
        {
            let accepted = outcome.accepted();
            dropped.extend(row.outputs.iter().filter(|lease| Some(**lease) != accepted));
            self.finished.push_back(id);
            if !row.outputs.is_empty() {
                self.evictable.push_back(id);
            }
            if record.submission.webhook.is_some() {
                self.unnotified.insert(row.sequence, id);
            }
            for lease in row.leases.drain(..) {
                self.leases.remove(&lease);
            }
        }
        row.stored = Versioned {
            value: record,
            version,
        };
        self.drop_outputs(id, dropped);
    }

    fn drop_outputs(&mut self, task: TaskId, leases: impl IntoIterator<Item = LeaseId>) {
        for lease in leases {
            if let Some(output) = self.outputs.remove(&lease) {
                self.output_bytes -= output.bytes.len();
            }
            if let Some(row) = self.tasks.get_mut(&task) {
                row.outputs.remove(&lease);
            }
        }
    }

    fn make_room(&mut self, capacity: usize) {
        while self.output_bytes > capacity {
            let Some(oldest) = self.evictable.pop_front() else {
                return;
            };
            let outputs = self.tasks.get(&oldest).map(|row| row.outputs.clone());
            self.drop_outputs(oldest, outputs.unwrap_or_default());
        }
    }

    fn forget(&mut self, id: TaskId) {
        let Some(row) = self.tasks.get(&id) else {
            return;
        };
        let outputs = row.outputs.clone();
        self.drop_outputs(id, outputs);
        if let Some(row) = self.tasks.remove(&id) {
            self.sequence.remove(&row.sequence);
            self.unnotified.remove(&row.sequence);
            for lease in row.paid {
                self.payments.remove(&lease);
            }
            let submission = row.stored.value.submission;
            if let Some(key) = submission.idempotency_key {
                self.keys.remove(&(submission.requester, key));
            }
        }
        if self.evictable.front() == Some(&id) {
            self.evictable.pop_front();
        }
    }

    fn records<'a>(
        &'a self,
        tasks: impl Iterator<Item = &'a TaskId> + 'a,
    ) -> impl Iterator<Item = &'a Versioned<TaskRecord>> + 'a {
        tasks.filter_map(|id| self.tasks.get(id).map(|row| &row.stored))
    }
}

#[async_trait]
impl TaskStore for MemoryStore {
    async fn commit(&self, changes: Vec<Change>) -> Result<Commit> {
        let mut tables = self.tables();
        let mut ahead = Ahead::default();
        let misfits: Vec<_> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| !tables.fits(change, &mut ahead))
            .map(|(index, _)| index)
            .collect();
        if !misfits.is_empty() {
            return Ok(Commit::Conflict(misfits));
        }
        let done = changes.into_iter().map(|change| tables.apply(change));
        let done = done.collect();
        tables.make_room(self.capacity);
        Ok(Commit::Done(done))
    }

    async fn stage(&self, lease: LeaseId, output: Output) -> Result<StagedOutput> {
        Ok(StagedOutput {
            lease,
            media_type: output.media_type,
            size: output.bytes.len() as u64,
            inline: Some(output.bytes),
        })
    }

    async fn discard(&self, _: StagedOutput) -> Result<()> {
        Ok(())
    }

    async fn output(&self, lease: LeaseId) -> Result<Option<Output>> {
        Ok(self.tables().outputs.get(&lease).cloned())
    }

    async fn load(&self, task: TaskId) -> Result<Option<Versioned<TaskRecord>>> {
        let tables = self.tables();
        Ok(tables.tasks.get(&task).map(|row| row.stored.clone()))
    }

    async fn unfinished(
        &self,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Versioned<TaskRecord>>> {
        let tables = self.tables();
        let after = after.and_then(|id| tables.tasks.get(&id));
        let from = after.map_or(0, |row| row.sequence + 1);
        let open = tables.unfinished.range(from..).map(|(_, id)| id);
        Ok(tables.records(open).take(limit).cloned().collect())
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        let tables = self.tables();
        let before = filter.before.map(|id| tables.tasks.get(&id));
        let before = match before {
            // Forgotten: so is all that came before it.
            Some(None) => 0,
            Some(Some(row)) => row.sequence,
            None => u64::MAX,
        };
        let matches = |record: &TaskRecord| {
            filter.requester.is_none() || record.submission.requester == filter.requester
        } && filter
            .model
            .as_ref()
            .is_none_or(|model| record.task.model == *model)
            && filter
                .state
                .is_none_or(|state| record.listed_state() == state);
        let latest = tables.sequence.range(..before).rev().map(|(_, id)| id);
        let records = tables.records(latest).map(|stored| &stored.value);
        Ok(records
            .filter(|record| matches(record))
            .take(filter.limit)
            .cloned()
            .collect())
    }

    async fn sweep(&self, before: Timestamp, keep: usize) -> Result<usize> {
        let mut tables = self.tables();
        let mut swept = 0;
        while swept < Self::SWEEP {
            let Some(oldest) = tables.finished.front().copied() else {
                break;
            };
            let row = tables.tasks.get(&oldest);
            let ended = row.and_then(|row| row.stored.value.ended_at);
            if tables.finished.len() <= keep && ended.is_some_and(|ended| ended >= before) {
                break;
            }
            tables.finished.pop_front();
            tables.forget(oldest);
            swept += 1;
        }
        tables.blobs.retain(|_, (_, kept)| *kept >= before);
        Ok(swept)
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>> {
        Ok(self.tables().leases.values().cloned().collect())
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>> {
        Ok(self.tables().sessions.values().cloned().collect())
    }

    async fn accounts(&self) -> Result<Vec<Versioned<Account>>> {
        Ok(self.tables().accounts.values().cloned().collect())
    }

    async fn payment(&self, lease: LeaseId) -> Result<Option<Payment>> {
        Ok(self.tables().payments.get(&lease).cloned())
    }

    async fn evidence(&self) -> Result<Vec<Evidence>> {
        Ok(self.tables().evidence.clone())
    }

    async fn unnotified(&self, limit: usize) -> Result<Vec<TaskRecord>> {
        let tables = self.tables();
        let records = tables.records(tables.unnotified.values());
        Ok(records
            .take(limit)
            .map(|stored| stored.value.clone())
            .collect())
    }

    async fn usage(&self, since: Timestamp) -> Result<Vec<RequesterUsage>> {
        let tables = self.tables();
        let mut usage: BTreeMap<String, RequesterUsage> = BTreeMap::new();
        for record in tables.tasks.values().map(|row| &row.stored.value) {
            let Some(requester) = &record.submission.requester else {
                continue;
            };
            let entry = usage
                .entry(requester.clone())
                .or_insert_with(|| RequesterUsage {
                    requester: requester.clone(),
                    tasks: 0,
                    open: 0,
                    spent: Wei::ZERO,
                });
            entry.open += u64::from(record.outcome.is_none());
            if record.task.submitted_at >= since {
                entry.tasks += 1;
                if !matches!(
                    record.outcome,
                    Some(Outcome::Failed { .. } | Outcome::Cancelled)
                ) {
                    entry.spent = entry.spent.saturating_add(record.task.price);
                }
            }
        }
        Ok(usage.into_values().collect())
    }

    async fn put_blob(&self, hash: B256, blob: Output, at: Timestamp) -> Result<()> {
        self.tables().blobs.insert(hash, (blob, at));
        Ok(())
    }

    async fn blob(&self, hash: B256) -> Result<Option<Output>> {
        Ok(self.tables().blobs.get(&hash).map(|(blob, _)| blob.clone()))
    }
}
