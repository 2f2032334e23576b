//! The end of every torture: what was promised is held against what the store has.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use cuckoo_coordinator::{Outcome, SqliteStore, TaskFilter, TaskRecord, TaskStore as _};
use cuckoo_core::{Address, Deployment, NodeId, TaskId, Wei, payload_hash};
use rusqlite::Connection;

use crate::host;
use crate::market::Seen;
use crate::requester::Promises;

/// Everything that a coordinator kept.
pub(crate) struct Books<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) price: Wei,
    pub(crate) deployment: Deployment,
    pub(crate) operators: &'a HashMap<NodeId, Address>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) tasks: usize,
    pub(crate) completed: usize,
    pub(crate) failed: usize,
    /// Acknowledged, and not there or not ended or without its output.
    pub(crate) lost: Vec<String>,
    /// More than one task, receipt, pay or answer where one belongs.
    pub(crate) doubled: Vec<String>,
    /// Promised without verified work.
    pub(crate) overpaid: Vec<String>,
    /// Anything else.
    pub(crate) wrong: Vec<String>,
}

impl Found {
    /// # Panics
    /// When anything is not as it must be.
    pub(crate) fn check(&self, seed: u64) {
        let all = [&self.lost, &self.doubled, &self.overpaid, &self.wrong];
        assert!(
            all.iter().all(|list| list.is_empty()),
            "seed {seed}: {self:#?}"
        );
    }
}

impl Books<'_> {
    pub(crate) async fn hold_against(&self, promises: &Promises, seen: &Seen) -> Found {
        let database = host::store(self.folder).path;
        let mut found = Found {
            wrong: [&promises.wrong[..], &seen.wrong].concat(),
            ..Found::default()
        };
        let store = SqliteStore::open(&host::store(self.folder)).await.unwrap();
        let records = records(&store).await;
        found.tasks = records.len();
        self.check_promises(&store, &records, promises, &mut found)
            .await;
        self.check_pay(&store, &records, seen, &mut found).await;
        if !store.leases().await.unwrap().is_empty() {
            found.wrong.push("a lease outlived its task".into());
        }
        drop(store);
        let connection = Connection::open(database).unwrap();
        let sound: String = connection
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        if sound != "ok" {
            found
                .wrong
                .push(format!("the database is damaged: {sound}"));
        }
        found
    }

    /// Each acknowledged task ended, once, and has its output where it was completed.
    async fn check_promises(
        &self,
        store: &SqliteStore,
        records: &HashMap<TaskId, TaskRecord>,
        promises: &Promises,
        found: &mut Found,
    ) {
        let mut keys = HashSet::new();
        for record in records.values() {
            let id = record.task.id;
            if !keys.insert(record.submission.idempotency_key.clone()) {
                found.doubled.push(format!("{id} has another's key"));
            }
            let leases: HashSet<_> = record
                .received
                .iter()
                .map(|one| one.receipt.value.lease)
                .collect();
            if leases.len() != record.received.len() {
                found.doubled.push(format!("{id} has a receipt twice"));
            }
            match &record.outcome {
                Some(Outcome::Failed { .. }) => found.failed += 1,
                Some(Outcome::Completed { .. }) => found.completed += 1,
                Some(Outcome::Cancelled) | None => {}
            }
        }
        for (id, promise) in &promises.tasks {
            let Some(record) = records.get(id) else {
                found.lost.push(format!("{id} is not there"));
                continue;
            };
            if record.submission.idempotency_key.as_ref() != Some(&promise.key) {
                found.wrong.push(format!("{id} has another key"));
            }
            let accepted = match &record.outcome {
                None => {
                    found.lost.push(format!("{id} has not ended"));
                    continue;
                }
                Some(Outcome::Completed { receipt }) => Some(&receipt.value),
                Some(Outcome::Failed { .. } | Outcome::Cancelled) => None,
            };
            if let Some(fetched) = promise.fetched
                && accepted.map(|receipt| receipt.lease) != Some(fetched)
            {
                found
                    .doubled
                    .push(format!("{id} gave an output that does not count any more"));
            }
            if let Some(failed) = &promise.failed
                && !matches!(record.outcome, Some(Outcome::Failed { .. }))
            {
                let what = format!("{id} was said to have failed ({failed}) and did not");
                found.wrong.push(what);
            }
            let Some(accepted) = accepted else {
                continue;
            };
            let output = store.output(*id, accepted.lease).await.unwrap();
            let bytes = output.map(|output| output.bytes).unwrap_or_default();
            if bytes != promise.question.answer() || payload_hash(&bytes) != accepted.output_hash {
                found.lost.push(format!("{id} lost its output"));
            }
        }
    }

    /// Each payment is for one verified receipt, and vouchers promise the sum of them.
    async fn check_pay(
        &self,
        store: &SqliteStore,
        records: &HashMap<TaskId, TaskRecord>,
        seen: &Seen,
        found: &mut Found,
    ) {
        let mut earned: HashMap<NodeId, Wei> = HashMap::new();
        let mut payments = 0_i64;
        for record in records.values() {
            for received in &record.received {
                let receipt = &received.receipt;
                let (lease, miner) = (receipt.value.lease, receipt.value.miner);
                let operator = self.operators[&miner];
                if receipt.verify(operator, &self.deployment).is_err() {
                    found.overpaid.push(format!("{lease} has a forged receipt"));
                }
                let paid = store.payment(record.task.id, lease).await.unwrap();
                if let Some(paid) = paid {
                    payments += 1;
                    *earned.entry(miner).or_default() += self.price;
                    if (paid.miner, paid.amount) != (miner, self.price) {
                        found
                            .overpaid
                            .push(format!("{lease} was paid {}", paid.amount));
                    }
                } else if record.outcome.as_ref().and_then(Outcome::accepted) == Some(lease) {
                    found
                        .lost
                        .push(format!("{lease} was accepted and not paid"));
                }
            }
        }
        let connection = Connection::open(host::store(self.folder).path).unwrap();
        let noted: i64 = connection
            .query_row("SELECT count(*) FROM payments", (), |row| row.get(0))
            .unwrap();
        if noted != payments {
            found
                .overpaid
                .push(format!("{noted} payments for {payments} receipts"));
        }
        let accounts = store.accounts().await.unwrap();
        let owed: HashMap<_, _> = accounts
            .iter()
            .map(|account| (account.value.miner, account.value.cumulative()))
            .collect();
        for miner in self.operators.keys() {
            let promised = owed.get(miner).copied().unwrap_or_default();
            let work = earned.get(miner).copied().unwrap_or_default();
            if promised > work {
                found
                    .overpaid
                    .push(format!("{miner} is promised {promised} for {work}"));
            } else if promised < work {
                found
                    .lost
                    .push(format!("{miner} is promised {promised} for {work}"));
            }
            let shown = seen.vouchers.get(miner).copied().unwrap_or_default();
            if shown > work {
                found
                    .overpaid
                    .push(format!("{miner} was shown {shown} for {work}"));
            }
        }
    }
}

async fn records(store: &SqliteStore) -> HashMap<TaskId, TaskRecord> {
    let mut records = HashMap::new();
    let mut filter = TaskFilter {
        limit: 500,
        ..TaskFilter::default()
    };
    loop {
        let page = store.list(&filter).await.unwrap();
        let Some(last) = page.last() else {
            return records;
        };
        filter.before = Some(last.task.id);
        records.extend(page.into_iter().map(|record| (record.task.id, record)));
    }
}
