//! Records as rows and back.

use bytes::Bytes;
use cuckoo_core::{Address, B256, LeaseId, ModelId, NodeId, Output, Task, TaskId, Timestamp, Wei};
use rusqlite::types::{FromSql, FromSqlError, Type, ValueRef};
use rusqlite::{Error, Result, Row};
use serde::{Deserialize, Serialize};

use crate::store::{Failed, LeaseRecord, Outcome, Received, Submission, TaskRecord, Versioned};

/// What [`task`] reads, in its order: of `tasks t`, and of `open` or `ended` what the task has.
pub(super) const TASK_COLUMNS: &str = "t.id, t.model, t.input, t.input_hash, t.price, t.submitted_at, t.deadline, \
     t.priority, t.requester, t.idempotency_key, t.digest, t.webhook";

/// The number that names a task's first output; those of one task have [`OUTPUTS`] numbers.
pub(super) fn first_place(sequence: i64) -> i64 {
    sequence * OUTPUTS
}

/// The most outputs of one task.
pub(super) const OUTPUTS: i64 = 1 << 16;

/// SQLite's integers are signed; every number survives the way there and back.
pub(super) fn integer(number: u64) -> i64 {
    number.cast_signed()
}

/// How many rows; more than there can be are all.
pub(super) fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

pub(super) fn millis(time: Timestamp) -> i64 {
    integer(time.as_millis())
}

pub(super) fn amount(wei: Wei) -> Vec<u8> {
    wei.to_be_bytes_trimmed_vec()
}

/// A column that was written by something else, or is damaged.
fn damaged(
    column: usize,
    kind: Type,
    what: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::FromSqlConversionFailure(column, kind, what.into())
}

pub(super) fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    number(row, column).map(Timestamp::from_millis)
}

pub(super) fn wei(row: &Row<'_>, column: usize) -> Result<Wei> {
    let bytes = row.get_ref(column)?.as_blob()?;
    Wei::try_from_be_slice(bytes)
        .ok_or_else(|| damaged(column, Type::Blob, "an amount has more than 32 bytes"))
}

/// 32 bytes.
pub(super) fn word(row: &Row<'_>, column: usize) -> Result<B256> {
    row.get::<_, Word>(column).map(|word| word.0)
}

struct Word(B256);

impl FromSql for Word {
    fn column_result(value: ValueRef<'_>) -> Result<Self, FromSqlError> {
        let bytes = value.as_blob()?;
        B256::try_from(bytes)
            .map(Self)
            .map_err(|_| FromSqlError::InvalidBlobSize {
                expected_size: 32,
                blob_size: bytes.len(),
            })
    }
}

pub(super) fn json<'a, T: Deserialize<'a>>(row: &'a Row<'_>, column: usize) -> Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?)
        .map_err(|error| damaged(column, Type::Text, error))
}

/// JSON of our own types; that it cannot be written is a defect.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(error.into()))
}

/// What becomes of a task, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress<R, F> {
    received: R,
    failures: F,
    /// The place in `received` of the receipt that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted: Option<usize>,
    /// How it ended, unless `accepted` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

/// What becomes of a task; none while nothing has.
pub(super) fn progress(record: &TaskRecord) -> Result<Option<String>> {
    if record.received.is_empty() && record.failures.is_empty() && record.outcome.is_none() {
        return Ok(None);
    }
    let accepted = record.outcome.as_ref().and_then(|outcome| match outcome {
        Outcome::Completed { receipt } => {
            let mut received = record.received.iter();
            received.position(|received| received.receipt == **receipt)
        }
        Outcome::Failed { .. } | Outcome::Cancelled => None,
    });
    let outcome = record.outcome.clone().filter(|_| accepted.is_none());
    to_json(&Progress {
        received: &record.received,
        failures: &record.failures,
        accepted,
        outcome,
    })
    .map(Some)
}

/// A task from [`TASK_COLUMNS`] and after them its version, progress and end.
pub(super) fn task(row: &Row<'_>) -> Result<Versioned<TaskRecord>> {
    const VERSION: usize = 12;
    const PROGRESS: usize = 13;
    const ENDED_AT: usize = 14;
    let model = ModelId::try_from(row.get::<_, String>(1)?)
        .map_err(|error| damaged(1, Type::Text, error))?;
    let task = Task {
        id: TaskId::from(word(row, 0)?),
        model,
        input: row.get(2)?,
        input_hash: word(row, 3)?,
        price: wei(row, 4)?,
        submitted_at: time(row, 5)?,
        deadline: time(row, 6)?,
        priority: row.get(7)?,
    };
    let submission = Submission {
        requester: row.get(8)?,
        idempotency_key: row.get(9)?,
        digest: word(row, 10)?,
        webhook: row.get(11)?,
    };
    let progress: Progress<Vec<Received>, Vec<Failed>> = match row.get_ref(PROGRESS)? {
        ValueRef::Null => Progress::default(),
        _ => json(row, PROGRESS)?,
    };
    let accepted = progress.accepted.map(|place| {
        let received = progress.received.get(place);
        received.ok_or_else(|| damaged(PROGRESS, Type::Text, "no such receipt"))
    });
    let outcome = match accepted.transpose()? {
        Some(received) => Some(Outcome::Completed {
            receipt: Box::new(received.receipt.clone()),
        }),
        None => progress.outcome,
    };
    let ended_at = row.get::<_, Option<i64>>(ENDED_AT)?;
    Ok(Versioned {
        value: TaskRecord {
            task,
            submission,
            received: progress.received,
            failures: progress.failures,
            outcome,
            ended_at: ended_at.map(|millis| Timestamp::from_millis(millis.cast_unsigned())),
        },
        version: number(row, VERSION)?,
    })
}

/// A lease from `t.id, lease, miner, audit, model_hash, kernels, granted_at`.
pub(super) fn lease(row: &Row<'_>) -> Result<LeaseRecord> {
    Ok(LeaseRecord {
        task: TaskId::from(word(row, 0)?),
        lease: LeaseId::from(word(row, 1)?),
        miner: NodeId(number(row, 2)?),
        audit: row.get(3)?,
        model_hash: word(row, 4)?,
        kernels: row.get(5)?,
        granted_at: time(row, 6)?,
    })
}

pub(super) fn address(row: &Row<'_>, column: usize) -> Result<Address> {
    let bytes = row.get_ref(column)?.as_blob()?;
    Address::try_from(bytes).map_err(|error| damaged(column, Type::Blob, error))
}

/// A payload and where it is.
#[derive(Debug)]
pub(super) enum Kept {
    Here(Output),
    Object {
        media_type: String,
        size: u64,
        name: String,
    },
}

/// A payload from `media_type, size, bytes, object`.
pub(super) fn kept(row: &Row<'_>) -> Result<Kept> {
    let media_type = row.get(0)?;
    Ok(match row.get::<_, Option<String>>(3)? {
        Some(name) => Kept::Object {
            media_type,
            size: number(row, 1)?,
            name,
        },
        None => Kept::Here(Output {
            media_type,
            bytes: Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?),
        }),
    })
}
