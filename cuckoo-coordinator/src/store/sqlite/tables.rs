//! The tables as the writer sees them: one change at a time, inside a transaction that another file begins and ends.

use cuckoo_core::{B256, LeaseId, NodeId, TaskId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::row::{
    OUTPUTS, amount, count, first_place, integer, millis, number, progress, to_json, word,
};
use crate::Evidence;
use crate::store::{
    Account, Change, Commit, Committed, Content, LeaseRecord, ListedState, NonceRecord, Payment,
    SessionRecord, StagedOutput, Submission, TaskRecord,
};

/// The writer's connection and what it counts.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) connection: Connection,
    pub(super) counts: Counts,
    /// The most bytes of finished tasks' outputs.
    pub(super) outputs_max_bytes: u64,
    /// Objects that nothing names once the transaction is durable.
    pub(super) freed: Vec<String>,
}

/// What is counted rather than looked up; changes with the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) next_sequence: i64,
    pub(super) next_position: i64,
    pub(super) finished: u64,
    pub(super) output_bytes: u64,
    pub(super) blob_bytes: u64,
    /// Tasks that ended up to this position lost their outputs to the size budget.
    pub(super) emptied: i64,
}

/// What is known of an open task.
struct OpenTask {
    sequence: i64,
    version: u64,
}

impl Tables {
    pub(super) fn new(connection: Connection, outputs_max_bytes: u64) -> Result<Self> {
        let counts = connection.query_row(
            "SELECT finished, output_bytes, blob_bytes, emptied,
                    coalesce((SELECT max(sequence) FROM tasks), 0),
                    coalesce((SELECT max(position) FROM ended), 0)
             FROM state",
            [],
            |row| {
                let emptied = row.get(3)?;
                Ok(Counts {
                    finished: number(row, 0)?,
                    output_bytes: number(row, 1)?,
                    blob_bytes: number(row, 2)?,
                    emptied,
                    next_sequence: row.get::<_, i64>(4)? + 1,
                    next_position: row.get::<_, i64>(5)?.max(emptied) + 1,
                })
            },
        )?;
        Ok(Self {
            connection,
            counts,
            outputs_max_bytes,
            freed: Vec::new(),
        })
    }

    /// Runs one of our statements, prepared once; gives how many rows changed.
    pub(super) fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }

    /// The first row of one of our queries.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.connection
            .prepare_cached(sql)?
            .query_row(params, read)
            .optional()
    }

    /// Writes down what was counted.
    pub(super) fn keep_counts(&self) -> Result<()> {
        let Counts {
            finished,
            output_bytes,
            blob_bytes,
            emptied,
            ..
        } = self.counts;
        self.execute(
            "UPDATE state SET finished = ?, output_bytes = ?, blob_bytes = ?, emptied = ?",
            params![
                integer(finished),
                integer(output_bytes),
                integer(blob_bytes),
                emptied
            ],
        )?;
        Ok(())
    }

    /// Makes changes in order. When some conflict, what was made must be undone.
    pub(super) fn change(&mut self, changes: Vec<Change>) -> Result<Commit> {
        let mut done = Vec::with_capacity(changes.len());
        let mut conflicts = Vec::new();
        for (position, change) in changes.into_iter().enumerate() {
            match self.make(change)? {
                Some(committed) => done.push(committed),
                None => conflicts.push(position),
            }
        }
        Ok(if conflicts.is_empty() {
            Commit::Done(done)
        } else {
            Commit::Conflict(conflicts)
        })
    }

    /// Makes one change; `None` when it conflicts.
    fn make(&mut self, change: Change) -> Result<Option<Committed>> {
        match change {
            Change::Insert(record) => return self.insert(&record),
            Change::Replace {
                record,
                expected,
                output,
                dropped,
            } => return self.replace(&record, expected, output, &dropped),
            Change::Pay(payment) => {
                if !self.pay(&payment)? {
                    return Ok(None);
                }
            }
            Change::Account { account, expected } => return self.account(&account, expected),
            Change::PutLease(lease) => self.put_lease(&lease)?,
            Change::RemoveLease { task, lease } => self.remove_lease(task, lease)?,
            Change::PutSession(session) => self.put_session(&session)?,
            Change::RemoveSession(miner) => self.remove_session(miner)?,
            Change::PutNonce { nonce, at } => {
                if !self.put_nonce(&nonce, at)? {
                    return Ok(None);
                }
            }
            Change::AddEvidence(evidence) => self.add_evidence(&evidence)?,
            Change::Notified(task) => self.notified(task)?,
        }
        Ok(Some(Committed::Version(0)))
    }

    fn sequence(&self, task: TaskId) -> Result<Option<i64>> {
        let sql = "SELECT sequence FROM tasks WHERE id = ?";
        self.first(sql, [task.word().as_slice()], |row| row.get(0))
    }

    fn open_task(&self, task: TaskId) -> Result<Option<OpenTask>> {
        self.first(
            "SELECT o.sequence, o.version FROM tasks t JOIN open o USING (sequence) WHERE t.id = ?",
            [task.word().as_slice()],
            |row| {
                Ok(OpenTask {
                    sequence: row.get(0)?,
                    version: number(row, 1)?,
                })
            },
        )
    }

    /// The task that a submission's idempotency key names already.
    fn known(&self, submission: &Submission) -> Result<Option<Committed>> {
        let Some(key) = &submission.idempotency_key else {
            return Ok(None);
        };
        self.first(
            "SELECT id, digest FROM tasks WHERE idempotency_key = ? AND requester IS ?",
            params![key, submission.requester],
            |row| {
                Ok(Committed::Known {
                    task: TaskId::from(word(row, 0)?),
                    digest: word(row, 1)?,
                })
            },
        )
    }

    fn insert(&mut self, record: &TaskRecord) -> Result<Option<Committed>> {
        let TaskRecord {
            task, submission, ..
        } = record;
        if let Some(known) = self.known(submission)? {
            return Ok(Some(known));
        }
        if self.sequence(task.id)?.is_some() {
            return Ok(None);
        }
        let sequence = self.counts.next_sequence;
        self.execute(
            "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                sequence,
                task.id.word().as_slice(),
                task.model.as_str(),
                task.input,
                task.input_hash.as_slice(),
                amount(task.price),
                millis(task.submitted_at),
                millis(task.deadline),
                task.priority,
                submission.requester,
                submission.idempotency_key,
                submission.digest.as_slice(),
                submission.webhook,
            ],
        )?;
        self.counts.next_sequence += 1;
        self.execute(
            "INSERT INTO open VALUES (?, 1, ?)",
            params![sequence, progress(record)?],
        )?;
        Ok(Some(Committed::Version(1)))
    }

    fn replace(
        &mut self,
        record: &TaskRecord,
        expected: u64,
        output: Option<StagedOutput>,
        dropped: &[LeaseId],
    ) -> Result<Option<Committed>> {
        let Some(OpenTask { sequence, version }) = self.open_task(record.task.id)? else {
            return Ok(None);
        };
        if version != expected {
            return Ok(None);
        }
        let version = expected + 1;
        if let Some(output) = output {
            self.put_output(sequence, output)?;
        }
        if !dropped.is_empty() {
            self.drop_outputs(sequence, |lease| !dropped.contains(&lease))?;
        }
        if let Some(outcome) = &record.outcome {
            let accepted = outcome.accepted();
            self.drop_outputs(sequence, |lease| Some(lease) == accepted)?;
            self.end(sequence, version, record)?;
        } else {
            self.execute(
                "UPDATE open SET version = ?, progress = ? WHERE sequence = ?",
                params![integer(version), progress(record)?, sequence],
            )?;
        }
        Ok(Some(Committed::Version(version)))
    }

    fn end(&mut self, sequence: i64, version: u64, record: &TaskRecord) -> Result<()> {
        self.execute("DELETE FROM open WHERE sequence = ?", [sequence])?;
        self.execute("DELETE FROM leases WHERE sequence = ?", [sequence])?;
        self.execute(
            "INSERT INTO ended VALUES (?, ?, ?, ?, ?, ?)",
            params![
                sequence,
                self.counts.next_position,
                integer(version),
                state_number(record.listed_state()),
                record.ended_at.map(millis),
                progress(record)?,
            ],
        )?;
        self.counts.next_position += 1;
        self.counts.finished += 1;
        if record.submission.webhook.is_some() {
            self.execute("INSERT INTO untold VALUES (?)", [sequence])?;
        }
        Ok(())
    }

    fn put_output(&mut self, sequence: i64, output: StagedOutput) -> Result<()> {
        // One lease has one output: a later one takes the place of the earlier.
        self.drop_outputs(sequence, |lease| lease != output.lease)?;
        let (bytes, object) = match output.content {
            Content::Inline(bytes) => (Some(bytes), None),
            Content::Object(name) => (None, Some(name)),
        };
        let first = first_place(sequence);
        self.execute(
            "INSERT INTO outputs VALUES (
                 coalesce((SELECT max(place) FROM outputs WHERE place BETWEEN ?1 AND ?2), ?1 - 1) + 1,
                 ?3, ?4, ?5, ?6, ?7)",
            params![
                first,
                first + OUTPUTS - 1,
                output.lease.word().as_slice(),
                output.media_type,
                integer(output.size),
                bytes.as_deref(),
                object,
            ],
        )?;
        self.counts.output_bytes += output.size;
        Ok(())
    }

    /// Removes those outputs of a task that `keep` does not name.
    pub(super) fn drop_outputs(
        &mut self,
        sequence: i64,
        keep: impl Fn(LeaseId) -> bool,
    ) -> Result<()> {
        let first = first_place(sequence);
        let mut gone = Vec::new();
        {
            let mut outputs = self.connection.prepare_cached(
                "SELECT place, lease, size, object FROM outputs WHERE place BETWEEN ? AND ?",
            )?;
            let mut rows = outputs.query([first, first + OUTPUTS - 1])?;
            while let Some(row) = rows.next()? {
                if !keep(LeaseId::from(word(row, 1)?)) {
                    let place = row.get::<_, i64>(0)?;
                    gone.push((place, number(row, 2)?, row.get::<_, Option<String>>(3)?));
                }
            }
        }
        for (place, size, object) in gone {
            self.execute("DELETE FROM outputs WHERE place = ?", [place])?;
            self.counts.output_bytes = self.counts.output_bytes.saturating_sub(size);
            self.freed.extend(object);
        }
        Ok(())
    }

    /// Whether the lease was not paid yet and its task is kept.
    fn pay(&self, payment: &Payment) -> Result<bool> {
        let paid = self.execute(
            "INSERT OR IGNORE INTO payments SELECT sequence, ?2, ?3, ?4 FROM tasks WHERE id = ?1",
            params![
                payment.task.word().as_slice(),
                payment.lease.word().as_slice(),
                integer(payment.miner.0),
                amount(payment.amount),
            ],
        )?;
        Ok(paid == 1)
    }

    fn account(&self, account: &Account, expected: u64) -> Result<Option<Committed>> {
        let miner = integer(account.miner.0);
        let voucher = to_json(&account.voucher)?;
        let version = integer(expected + 1);
        let changed = if expected == 0 {
            let sql = "INSERT OR IGNORE INTO accounts VALUES (?, ?, ?)";
            self.execute(sql, params![miner, version, voucher])?
        } else {
            self.execute(
                "UPDATE accounts SET version = ?, voucher = ? WHERE miner = ? AND version = ?",
                params![version, voucher, miner, integer(expected)],
            )?
        };
        Ok((changed == 1).then_some(Committed::Version(expected + 1)))
    }

    /// Of a task that ended, none is kept.
    fn put_lease(&self, lease: &LeaseRecord) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO leases
             SELECT o.sequence, ?2, ?3, ?4, ?5, ?6, ?7
             FROM tasks t JOIN open o USING (sequence) WHERE t.id = ?1",
            params![
                lease.task.word().as_slice(),
                lease.lease.word().as_slice(),
                integer(lease.miner.0),
                lease.audit,
                lease.model_hash.as_slice(),
                lease.kernels,
                millis(lease.granted_at),
            ],
        )?;
        Ok(())
    }

    fn remove_lease(&self, task: TaskId, lease: LeaseId) -> Result<()> {
        self.execute(
            "DELETE FROM leases WHERE lease = ?2 AND sequence = (SELECT sequence FROM tasks WHERE id = ?1)",
            params![task.word().as_slice(), lease.word().as_slice()],
        )?;
        Ok(())
    }

    fn put_session(&self, session: &SessionRecord) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)",
            params![
                integer(session.miner.0),
                session.token_hash.as_slice(),
                session.operator.as_slice(),
                millis(session.expires_at),
            ],
        )?;
        Ok(())
    }

    fn remove_session(&self, miner: NodeId) -> Result<()> {
        self.execute("DELETE FROM sessions WHERE miner = ?", [integer(miner.0)])?;
        Ok(())
    }

    /// Whether the session request was not used before, or only so long ago that it had expired.
    fn put_nonce(&self, nonce: &NonceRecord, at: Timestamp) -> Result<bool> {
        let put = self.execute(
            "INSERT INTO nonces VALUES (?1, ?2, ?3) ON CONFLICT (miner, nonce)
             DO UPDATE SET expires_at = excluded.expires_at WHERE expires_at <= ?4",
            params![
                integer(nonce.miner.0),
                nonce.nonce.as_slice(),
                millis(nonce.expires_at),
                millis(at),
            ],
        )?;
        if put == 1 {
            self.execute("DELETE FROM nonces WHERE expires_at <= ?", [millis(at)])?;
        }
        Ok(put == 1)
    }

    fn add_evidence(&self, evidence: &Evidence) -> Result<()> {
        let added = self.execute(
            "INSERT OR IGNORE INTO evidence (task, record) VALUES (?, ?)",
            params![evidence.task.id.word().as_slice(), to_json(evidence)?],
        )?;
        if added == 1 {
            let number = self.connection.last_insert_rowid();
            for (position, exhibit) in evidence.exhibits.iter().enumerate() {
                self.execute(
                    "INSERT INTO exhibits VALUES (?, ?, ?)",
                    params![number, count(position), exhibit.output.as_ref()],
                )?;
            }
        }
        Ok(())
    }

    fn notified(&self, task: TaskId) -> Result<()> {
        self.execute(
            "DELETE FROM untold WHERE sequence = (SELECT sequence FROM tasks WHERE id = ?)",
            [task.word().as_slice()],
        )?;
        Ok(())
    }

    /// Keeps a blob that is there longer; tells whether it is there.
    pub(super) fn extend_blob(&mut self, hash: B256, at: Timestamp) -> Result<bool> {
        let known = self.execute(
            "UPDATE blobs SET kept_at = max(kept_at, ?) WHERE hash = ?",
            params![millis(at), hash.as_slice()],
        )?;
        Ok(known > 0)
    }

    /// Keeps a blob, or one of its name that is there longer.
    pub(super) fn put_blob(
        &mut self,
        hash: B256,
        (media_type, size, content): (String, u64, Content),
        at: Timestamp,
        max_bytes: u64,
    ) -> Result<PutBlob> {
        if self.extend_blob(hash, at)? {
            return Ok(PutBlob::Known);
        }
        if self.counts.blob_bytes.saturating_add(size) > max_bytes {
            return Ok(PutBlob::NoRoom);
        }
        let (bytes, object) = match content {
            Content::Inline(bytes) => (Some(bytes), None),
            Content::Object(name) => (None, Some(name)),
        };
        self.execute(
            "INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?)",
            params![
                hash.as_slice(),
                media_type,
                integer(size),
                millis(at),
                bytes.as_deref(),
                object
            ],
        )?;
        self.counts.blob_bytes += size;
        Ok(PutBlob::New)
    }
}

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutBlob {
    New,
    /// It was there: its bytes are not needed.
    Known,
    NoRoom,
}

/// `ended.state` of tasks with an output.
pub(super) const COMPLETED: i64 = 1;

/// As `ended.state` has it.
fn state_number(state: ListedState) -> i64 {
    match state {
        ListedState::Open => 0,
        ListedState::Completed => COMPLETED,
        ListedState::Failed => 2,
        ListedState::Cancelled => 3,
    }
}
