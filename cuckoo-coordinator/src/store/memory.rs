//! A store in memory: for tests, demos and apps that may lose what is open when they end.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cuckoo_core::{B256, LeaseId, NodeId, Output, Result, TaskId, Timestamp, Wei};

use super::{
    Account, Change, Commit, Committed, Content, Hour, LeaseRecord, NonceRecord, Outcome, Payment,
    RequesterUsage, SessionRecord, StagedOutput, TaskFilter, TaskRecord, TaskStore, Versioned,
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
    tasks: HashMap<TaskId, Box<Row>>,
    /// Tasks by when they were inserted.
    sequence: BTreeMap<u64, TaskId>,
    unfinished: BTreeMap<u64, TaskId>,
    /// In order of their end, which is the order in which they are forgotten.
    finished: VecDeque<TaskId>,
    next: u64,
    keys: HashMap<(Option<String>, String), TaskId>,
    unnotified: BTreeMap<u64, TaskId>,
    sessions: HashMap<NodeId, SessionRecord>,
    /// When session requests that were used expire.
    nonces: HashMap<(NodeId, B256), Timestamp>,
    /// Finished tasks whose output may go, in order of their end.
    evictable: VecDeque<TaskId>,
    output_bytes: usize,
    accounts: BTreeMap<NodeId, Versioned<Account>>,
    evidence: Vec<Evidence>,
    blobs: HashMap<B256, (Output, Timestamp)>,
    /// Usage by tasks that were forgotten.
    forgotten: BTreeMap<(String, Hour), (u64, Wei)>,
}

#[derive(Debug)]
struct Row {
    /// Shared with the coordinator that wrote it.
    record: Arc<TaskRecord>,
    version: u64,
    sequence: u64,
    outputs: BTreeMap<LeaseId, Output>,
    payments: BTreeMap<LeaseId, Payment>,
    leases: BTreeMap<LeaseId, LeaseRecord>,
}

impl Row {
    /// The version of an open task.
    fn open_version(&self) -> Option<u64> {
        let open = self.record.outcome.is_none();
        open.then_some(self.version)
    }

    fn stored(&self) -> Versioned<TaskRecord> {
        Versioned {
            value: TaskRecord::clone(&self.record),
            version: self.version,
        }
    }

    fn output_bytes(&self) -> usize {
        let outputs = self.outputs.values();
        outputs.map(|output| output.bytes.len()).sum()
    }
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

/// What the changes before, as far as they fit, will have made of what is stored.
#[derive(Default)]
struct Ahead {
    /// Versions of open tasks; none of those that ended.
    tasks: HashMap<TaskId, Option<u64>>,
    keys: HashSet<(Option<String>, String)>,
    accounts: HashMap<NodeId, u64>,
    paid: HashSet<(TaskId, LeaseId)>,
    nonces: HashMap<(NodeId, B256), Timestamp>,
    /// Requests that expired until then are forgotten.
    forgotten_until: Timestamp,
}

impl Tables {
    /// Whether a change fits what is stored and the changes before it.
    fn fits(&self, change: &Change, ahead: &mut Ahead) -> bool {
        match change {
            Change::Insert(record) => {
                let id = record.task.id;
                let key = key(record);
                let asked_before = key.as_ref().is_some_and(|key| ahead.keys.contains(key));
                if asked_before || self.known(record).is_some() {
                    return true;
                }
                let fits = !self.tasks.contains_key(&id) && !ahead.tasks.contains_key(&id);
                if fits {
                    ahead.tasks.insert(id, Some(1));
                    ahead.keys.extend(key);
                }
                fits
            }
            Change::Replace {
                record, expected, ..
            } => {
                let id = record.task.id;
                let stored = || Some(self.tasks.get(&id)?.open_version());
                let version = ahead.tasks.get(&id).copied().or_else(stored).flatten();
                let fits = version == Some(*expected);
                if fits {
                    let next = record.outcome.is_none().then_some(expected + 1);
                    ahead.tasks.insert(id, next);
                }
                fits
            }
            Change::Pay(payment) => {
                let stored = self.tasks.get(&payment.task);
                let kept = stored.is_some() || ahead.tasks.contains_key(&payment.task);
                let paid = stored.is_some_and(|row| row.payments.contains_key(&payment.lease));
                kept && !paid && ahead.paid.insert((payment.task, payment.lease))
            }
            Change::Account { account, expected } => {
                let stored = self.accounts.get(&account.miner);
                let stored = stored.map_or(0, |account| account.version);
                let version = ahead.accounts.get(&account.miner).copied();
                let fits = version.unwrap_or(stored) == *expected;
                if fits {
                    ahead.accounts.insert(account.miner, expected + 1);
                }
                fits
            }
            Change::PutNonce { nonce, at } => {
                let key = (nonce.miner, nonce.nonce);
                let used = ahead.nonces.get(&key).or_else(|| self.nonces.get(&key));
                let forgotten = ahead.forgotten_until.max(*at);
                let fits = used.is_none_or(|expires_at| *expires_at <= forgotten);
                if fits {
                    ahead.nonces.insert(key, nonce.expires_at);
                    ahead.forgotten_until = forgotten;
                }
                fits
            }
            Change::PutLease(_)
            | Change::RemoveLease { .. }
            | Change::PutSession(_)
            | Change::RemoveSession(_)
            | Change::AddEvidence(_)
            | Change::Notified(_) => true,
        }
    }

    /// The task that a submission's idempotency key names already.
    fn known(&self, record: &TaskRecord) -> Option<&TaskRecord> {
        let id = self.keys.get(&key(record)?)?;
        Some(&self.tasks.get(id)?.record)
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
                self.insert(record);
                return Committed::Version(1);
            }
            Change::Replace {
                record,
                expected,
                output,
                dropped,
            } => {
                self.replace(record, expected + 1, output, &dropped);
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
                    row.payments.insert(payment.lease, payment);
                }
            }
            Change::PutLease(lease) => {
                // One that ended meanwhile needs none.
                if let Some(row) = self.tasks.get_mut(&lease.task)
                    && row.record.outcome.is_none()
                {
                    row.leases.insert(lease.lease, lease);
                }
            }
            Change::RemoveLease { task, lease } => {
                if let Some(row) = self.tasks.get_mut(&task) {
                    row.leases.remove(&lease);
                }
            }
            Change::PutSession(session) => {
                self.sessions.insert(session.miner, session);
            }
            Change::RemoveSession(miner) => {
                self.sessions.remove(&miner);
            }
            Change::PutNonce { nonce, at } => {
                let key = (nonce.miner, nonce.nonce);
                self.nonces.insert(key, nonce.expires_at);
                self.nonces.retain(|_, expires_at| *expires_at > at);
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

    fn insert(&mut self, record: Arc<TaskRecord>) {
        let (id, sequence) = (record.task.id, self.next);
        self.next += 1;
        self.keys.extend(key(&record).map(|key| (key, id)));
        self.sequence.insert(sequence, id);
        self.unfinished.insert(sequence, id);
        let row = Row {
            record,
            version: 1,
            sequence,
            outputs: BTreeMap::new(),
            payments: BTreeMap::new(),
            leases: BTreeMap::new(),
        };
        self.tasks.insert(id, Box::new(row));
    }

    fn replace(
        &mut self,
        record: Arc<TaskRecord>,
        version: u64,
        output: Option<StagedOutput>,
        dropped: &[LeaseId],
    ) {
        let id = record.task.id;
        let Some(row) = self.tasks.get_mut(&id) else {
            return;
        };
        let before = row.output_bytes();
        if let Some(StagedOutput {
            lease,
            media_type,
            content: Content::Inline(bytes),
            ..
        }) = output
        {
            row.outputs.insert(lease, Output { media_type, bytes });
        }
        row.outputs.retain(|lease, _| !dropped.contains(lease));
        if let Some(outcome) = &record.outcome {
            let accepted = outcome.accepted();
            row.outputs.retain(|lease, _| Some(*lease) == accepted);
            row.leases.clear();
            self.unfinished.remove(&row.sequence);
            self.finished.push_back(id);
            self.evictable.push_back(id);
            if record.submission.webhook.is_some() {
                self.unnotified.insert(row.sequence, id);
            }
        }
        self.output_bytes = self.output_bytes - before + row.output_bytes();
        row.record = record;
        row.version = version;
    }

    fn make_room(&mut self, capacity: usize) {
        while self.output_bytes > capacity {
            let Some(oldest) = self.evictable.pop_front() else {
                return;
            };
            if let Some(row) = self.tasks.get_mut(&oldest) {
                self.output_bytes -= row.output_bytes();
                row.outputs.clear();
            }
        }
    }

    fn forget(&mut self, id: TaskId) {
        let Some(row) = self.tasks.remove(&id) else {
            return;
        };
        self.output_bytes -= row.output_bytes();
        self.sequence.remove(&row.sequence);
        self.unnotified.remove(&row.sequence);
        let record = &row.record;
        if let Some(key) = key(record) {
            self.keys.remove(&key);
        }
        if let Some(requester) = record.submission.requester.clone() {
            let hour = Hour::of(record.task.submitted_at);
            let sum = self.forgotten.entry((requester, hour)).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(cost(record)));
        }
        if self.evictable.front() == Some(&id) {
            self.evictable.pop_front();
        }
    }

    fn rows<'a>(
        &'a self,
        tasks: impl Iterator<Item = &'a TaskId> + 'a,
    ) -> impl Iterator<Item = &'a Row> + 'a {
        tasks.filter_map(|id| self.tasks.get(id).map(Box::as_ref))
    }
}

/// What names a submission, if its requester gave it a name.
fn key(record: &TaskRecord) -> Option<(Option<String>, String)> {
    let submission = &record.submission;
    let key = submission.idempotency_key.clone()?;
    Some((submission.requester.clone(), key))
}

/// What a task costs its requester: nothing once it ended without an output.
fn cost(record: &TaskRecord) -> Wei {
    match record.outcome {
        Some(Outcome::Failed { .. } | Outcome::Cancelled) => Wei::ZERO,
        Some(Outcome::Completed { .. }) | None => record.task.price,
    }
}

fn entry<'a>(
    usage: &'a mut BTreeMap<String, RequesterUsage>,
    requester: &str,
) -> &'a mut RequesterUsage {
    usage
        .entry(requester.to_owned())
        .or_insert_with(|| RequesterUsage::none(requester.to_owned()))
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
            content: Content::Inline(output.bytes),
        })
    }

    async fn discard(&self, _: StagedOutput) -> Result<()> {
        Ok(())
    }

    async fn output(&self, task: TaskId, lease: LeaseId) -> Result<Option<Output>> {
        let tables = self.tables();
        let row = tables.tasks.get(&task);
        Ok(row.and_then(|row| row.outputs.get(&lease).cloned()))
    }

    async fn load(&self, task: TaskId) -> Result<Option<Versioned<TaskRecord>>> {
        let tables = self.tables();
        Ok(tables.tasks.get(&task).map(|row| row.stored()))
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
        Ok(tables.rows(open).take(limit).map(Row::stored).collect())
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
        let records = tables.rows(latest).map(|row| row.record.as_ref());
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
            let ended = row.and_then(|row| row.record.ended_at);
            if tables.finished.len() <= keep && ended.is_some_and(|ended| ended >= before) {
                break;
            }
            tables.finished.pop_front();
            tables.forget(oldest);
            swept += 1;
        }
        let first = Hour::first_kept(before);
        tables.forgotten.retain(|(_, hour), _| *hour >= first);
        tables.blobs.retain(|_, (_, kept)| *kept >= before);
        Ok(swept)
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>> {
        let tables = self.tables();
        let open = tables.unfinished.values();
        let rows = tables.rows(open);
        Ok(rows.flat_map(|row| row.leases.values().cloned()).collect())
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>> {
        Ok(self.tables().sessions.values().cloned().collect())
    }

    async fn nonces(&self, at: Timestamp) -> Result<Vec<NonceRecord>> {
        let tables = self.tables();
        let live = tables
            .nonces
            .iter()
            .filter(|(_, expires_at)| **expires_at > at);
        let record = |(&(miner, nonce), &expires_at): (&(NodeId, B256), &Timestamp)| NonceRecord {
            miner,
            nonce,
            expires_at,
        };
        Ok(live.map(record).collect())
    }

    async fn accounts(&self) -> Result<Vec<Versioned<Account>>> {
        Ok(self.tables().accounts.values().cloned().collect())
    }

    async fn payment(&self, task: TaskId, lease: LeaseId) -> Result<Option<Payment>> {
        let tables = self.tables();
        let row = tables.tasks.get(&task);
        Ok(row.and_then(|row| row.payments.get(&lease).cloned()))
    }

    async fn evidence(&self) -> Result<Vec<Evidence>> {
        Ok(self.tables().evidence.clone())
    }

    async fn unnotified(&self, limit: usize) -> Result<Vec<TaskRecord>> {
        let tables = self.tables();
        let rows = tables.rows(tables.unnotified.values());
        Ok(rows
            .take(limit)
            .map(|row| TaskRecord::clone(&row.record))
            .collect())
    }

    async fn usage(&self, since: Timestamp) -> Result<Vec<RequesterUsage>> {
        let tables = self.tables();
        let mut usage = BTreeMap::new();
        for record in tables.tasks.values().map(|row| row.record.as_ref()) {
            let open = record.outcome.is_none();
            let counts = record.task.submitted_at >= since;
            if let Some(requester) = &record.submission.requester
                && (open || counts)
            {
                let entry = entry(&mut usage, requester);
                entry.open += u64::from(open);
                if counts {
                    entry.tasks += 1;
                    entry.spent = entry.spent.saturating_add(cost(record));
                }
            }
        }
        let hour = Hour::of(since);
        for ((requester, _), (tasks, spent)) in
            tables.forgotten.iter().filter(|((_, of), _)| *of >= hour)
        {
            let entry = entry(&mut usage, requester);
            entry.tasks += tasks;
            entry.spent = entry.spent.saturating_add(*spent);
        }
        Ok(usage.into_values().collect())
    }

    async fn put_blob(&self, hash: B256, blob: Output, at: Timestamp) -> Result<()> {
        let mut tables = self.tables();
        let (_, kept) = tables.blobs.entry(hash).or_insert((blob, at));
        *kept = at.max(*kept);
        Ok(())
    }

    async fn extend_blob(&self, hash: B256, at: Timestamp) -> Result<bool> {
        let mut tables = self.tables();
        let blob = tables.blobs.get_mut(&hash);
        Ok(blob.map(|(_, kept)| *kept = at.max(*kept)).is_some())
    }

    async fn blob(&self, hash: B256) -> Result<Option<Output>> {
        Ok(self.tables().blobs.get(&hash).map(|(blob, _)| blob.clone()))
    }
}
