//! Tasks and what becomes of them, made up but shaped like real ones.

use std::sync::Arc;

use cuckoo_coordinator::{
    Account, Change, Commit, Committed, Content, LeaseRecord, Outcome, Payment, Received,
    StagedOutput, Submission, TaskRecord, TaskStore,
};
use cuckoo_core::{
    B256, Fault, LeaseId, NodeId, Receipt, Signature, Signed, SignedReceipt, Task, TaskId,
    Timestamp, Usage, Voucher, Wei, cai, payload_hash,
};

/// The word that begins with `kind` and ends in `number`, scattered like a real id.
pub(crate) fn word(kind: &str, number: u64) -> B256 {
    payload_hash(format!("{kind} {number}").as_bytes())
}

pub(crate) fn time(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis)
}

/// Task `number`, submitted at that many milliseconds.
pub(crate) fn task(number: u64) -> TaskRecord {
    let input =
        format!(r#"{{"prompt":"a red circle above a blue square","seed":{number},"steps":20}}"#);
    let task = Task {
        id: TaskId::from(word("task", number)),
        model: "shapes".parse().unwrap(),
        input_hash: payload_hash(input.as_bytes()),
        input,
        price: cai(2),
        submitted_at: time(number),
        deadline: time(number + 120_000),
        priority: 0,
    };
    let submission = Submission {
        digest: word("digest", number),
        ..Submission::default()
    };
    TaskRecord::new(task, submission)
}

/// The `turn`-th lease of a task.
pub(crate) fn lease(record: &TaskRecord, turn: u64) -> LeaseRecord {
    LeaseRecord {
        lease: LeaseId::from(payload_hash(
            format!("{} {turn}", record.task.id).as_bytes(),
        )),
        task: record.task.id,
        miner: NodeId(turn + 1),
        audit: turn > 0,
        model_hash: word("model", 0),
        kernels: "cpu avx512".into(),
        granted_at: record.task.submitted_at,
    }
}

pub(crate) fn receipt(lease: &LeaseRecord, record: &TaskRecord, output: &[u8]) -> SignedReceipt {
    Signed {
        value: Receipt {
            coordinator: NodeId(1),
            miner: lease.miner,
            lease: lease.lease,
            task: lease.task,
            model_hash: lease.model_hash,
            input_hash: record.task.input_hash,
            output_hash: payload_hash(output),
            states_root: word("states", 0),
            usage: Usage {
                input_units: 12,
                output_units: 4096,
                compute_millis: 830,
            },
        },
        signature: Signature::from([0x5a; 65]),
    }
}

/// The record with a receipt more.
pub(crate) fn received(record: &TaskRecord, lease: &LeaseRecord, output: &[u8]) -> TaskRecord {
    let mut record = record.clone();
    record.received.push(Received {
        receipt: receipt(lease, &record, output),
        kernels: lease.kernels.clone(),
    });
    record
}

/// The record, ended so at `millis`.
pub(crate) fn ended(record: &TaskRecord, outcome: Outcome, millis: u64) -> TaskRecord {
    TaskRecord {
        outcome: Some(outcome),
        ended_at: Some(time(millis)),
        ..record.clone()
    }
}

/// The record, ended with the output of its first receipt.
pub(crate) fn completed(record: &TaskRecord, millis: u64) -> TaskRecord {
    let receipt = Box::new(record.received[0].receipt.clone());
    ended(record, Outcome::Completed { receipt }, millis)
}

pub(crate) fn failed() -> Outcome {
    Outcome::Failed {
        kind: cuckoo_core::ErrorKind::Timeout,
        message: "no miner finished in time; allow more time".into(),
        fault: Fault::Nobody,
    }
}

pub(crate) fn staged(lease: &LeaseRecord, output: &[u8]) -> StagedOutput {
    StagedOutput {
        lease: lease.lease,
        media_type: "image/png".into(),
        size: output.len() as u64,
        content: Content::Inline(output.to_vec().into()),
    }
}

pub(crate) fn insert(record: &TaskRecord) -> Change {
    Change::Insert(Arc::new(record.clone()))
}

pub(crate) fn replace(record: &TaskRecord, expected: u64) -> Change {
    Change::Replace {
        record: Arc::new(record.clone()),
        expected,
        output: None,
        dropped: Vec::new(),
    }
}

pub(crate) fn replace_with(record: &TaskRecord, expected: u64, output: StagedOutput) -> Change {
    Change::Replace {
        record: Arc::new(record.clone()),
        expected,
        output: Some(output),
        dropped: Vec::new(),
    }
}

pub(crate) fn pay(lease: &LeaseRecord, amount: Wei) -> Change {
    Change::Pay(Payment {
        lease: lease.lease,
        task: lease.task,
        miner: lease.miner,
        amount,
    })
}

/// An account that was promised so much.
pub(crate) fn account(miner: NodeId, cumulative: Wei, expected: u64) -> Change {
    let voucher = Signed {
        value: Voucher {
            coordinator: NodeId(1),
            miner,
            cumulative,
        },
        signature: Signature::from([0x3c; 65]),
    };
    Change::Account {
        account: Account { miner, voucher },
        expected,
    }
}

/// What a commit answered; a test that calls this expects no conflict.
pub(crate) async fn commit(store: &dyn TaskStore, changes: Vec<Change>) -> Vec<Committed> {
    match store.commit(changes).await.unwrap() {
        Commit::Done(done) => done,
        Commit::Conflict(positions) => panic!("changes conflict: {positions:?}"),
    }
}

/// All that becomes of task `number` that is done well: submitted, leased, completed with `output`, paid.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) open: TaskRecord,
    pub(crate) done: TaskRecord,
    pub(crate) lease: LeaseRecord,
    pub(crate) output: Vec<u8>,
}

impl Life {
    pub(crate) fn new(number: u64, output: &[u8]) -> Self {
        let open = task(number);
        let lease = lease(&open, 0);
        let done = completed(&received(&open, &lease, output), number + 900);
        Self {
            open,
            done,
            lease,
            output: output.to_vec(),
        }
    }

    pub(crate) fn begin(&self) -> [Change; 2] {
        [insert(&self.open), Change::PutLease(self.lease.clone())]
    }

    pub(crate) fn end(&self) -> [Change; 2] {
        let output = staged(&self.lease, &self.output);
        [
            replace_with(&self.done, 1, output),
            pay(&self.lease, self.open.task.price),
        ]
    }
}
