//! A store that fails: nothing is acknowledged that was not written, nothing is lost, and nobody waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use cuckoo_coordinator::{
    Account, Evidence, MemoryStore, Payment, PaymentReply, TaskRecord, TaskStore, Versioned,
};
use cuckoo_core::{
    Error, ErrorKind, Fault, LeaseId, LeaseStatus, NodeId, Output, Result, TaskId, TaskState, Wei,
};

use crate::fixture::{Market, Setup, failure, kind, price, settle, spec};

/// A memory store whose next operations fail, after they took effect or before.
#[derive(Debug, Default)]
struct FlakyStore {
    store: MemoryStore,
    failures: AtomicU32,
    /// Whether a failing operation is carried out and only its answer is lost.
    answers_lost: AtomicU32,
}

impl FlakyStore {
    async fn through<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let take = |left: u32| left.checked_sub(1);
        let down = || Error::unavailable("the store is down");
        if self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok()
        {
            return Err(down());
        }
        let outcome = operation.await;
        if self
            .answers_lost
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok()
        {
            return Err(down());
        }
        outcome
    }
}

#[async_trait]
impl TaskStore for FlakyStore {
    async fn insert(&self, record: TaskRecord) -> Result<u64> {
        self.through(self.store.insert(record)).await
    }
    async fn load(&self, task: TaskId) -> Result<Option<Versioned<TaskRecord>>> {
        self.through(self.store.load(task)).await
    }
    async fn replace(&self, record: TaskRecord, expected: u64) -> Result<u64> {
        self.through(self.store.replace(record, expected)).await
    }
    async fn unfinished(&self) -> Result<Vec<Versioned<TaskRecord>>> {
        self.through(self.store.unfinished()).await
    }
    async fn remove(&self, task: TaskId) -> Result<()> {
        self.through(self.store.remove(task)).await
    }
    async fn put_output(&self, task: TaskId, lease: LeaseId, output: Output) -> Result<()> {
        self.through(self.store.put_output(task, lease, output))
            .await
    }
    async fn output(&self, lease: LeaseId) -> Result<Option<Output>> {
        self.through(self.store.output(lease)).await
    }
    async fn remove_output(&self, lease: LeaseId) -> Result<()> {
        self.through(self.store.remove_output(lease)).await
    }
    async fn account(&self, miner: NodeId) -> Result<Versioned<Account>> {
        self.through(self.store.account(miner)).await
    }
    async fn accounts(&self) -> Result<Vec<Account>> {
        self.through(self.store.accounts()).await
    }
    async fn pay(&self, payment: Payment, expected: u64) -> Result<PaymentReply> {
        self.through(self.store.pay(payment, expected)).await
    }
    async fn add_evidence(&self, evidence: Evidence) -> Result<()> {
        self.through(self.store.add_evidence(evidence)).await
    }
    async fn evidence(&self) -> Result<Vec<Evidence>> {
        self.through(self.store.evidence()).await
    }
}

async fn market() -> (Market, Arc<FlakyStore>) {
    let store = Arc::new(FlakyStore::default());
    let mut setup = Setup::with_miners(1);
    setup.store = store.clone();
    (setup.open().await, store)
}

/// Lets the retries' pauses pass.
async fn pass(market: &Market) {
    for _ in 0..4 {
        market.advance(1_000).await;
    }
}

#[tokio::test]
async fn a_short_outage_is_ridden_out() {
    let (market, store) = market().await;
    store.failures.store(2, Ordering::SeqCst);
    let (handle, ()) = tokio::join!(market.coordinator.submit(spec()), pass(&market));
    let handle = handle.unwrap();
    let assignment = market.miners[0].take().await.unwrap();
    store.failures.store(3, Ordering::SeqCst);
    let (reply, ()) = tokio::join!(
        market.miners[0].complete(&assignment, b"done"),
        pass(&market)
    );
    assert_eq!(reply.unwrap().voucher.unwrap().value.cumulative, price());
    handle.result().await.unwrap();
}

#[tokio::test]
async fn lost_answers_neither_lose_nor_double_anything() {
    let (market, store) = market().await;
    store.answers_lost.store(1, Ordering::SeqCst);
    let (handle, ()) = tokio::join!(market.coordinator.submit(spec()), pass(&market));
    let handle = handle.unwrap();
    let assignment = market.miners[0].take().await.unwrap();
    for lost in 1..=3 {
        // Of the output, the receipt, the account, the payment and the end: at most the first few are lost.
        store.answers_lost.store(lost, Ordering::SeqCst);
    }
    let (reply, ()) = tokio::join!(
        market.miners[0].complete(&assignment, b"done"),
        pass(&market)
    );
    assert_eq!(reply.unwrap().voucher.unwrap().value.cumulative, price());
    handle.result().await.unwrap();
    assert_eq!(market.status(0).owed, price());
}

#[tokio::test]
async fn a_submission_that_cannot_be_written_is_refused() {
    let (market, store) = market().await;
    store.failures.store(u32::MAX, Ordering::SeqCst);
    let (refused, ()) = tokio::join!(market.coordinator.submit(spec()), pass(&market));
    assert_eq!(kind(refused), ErrorKind::Unavailable);
    store.failures.store(0, Ordering::SeqCst);
    let status = market.coordinator.status();
    assert_eq!((status.queued, status.running), (0, 0));
    assert_eq!(market.miners[0].take().await, None);
}

#[tokio::test]
async fn a_completion_that_cannot_be_written_may_be_handed_in_again() {
    let (market, store) = market().await;
    let (handle, assignment) = market.assigned(0).await;
    store.failures.store(u32::MAX, Ordering::SeqCst);
    let (refused, ()) = tokio::join!(
        market.miners[0].complete(&assignment, b"done"),
        pass(&market)
    );
    assert_eq!(kind(refused), ErrorKind::Unavailable);
    assert!(matches!(handle.state(), TaskState::Running { .. }));
    let status = market.miners[0].heartbeat(&assignment, 1_000).await;
    assert!(matches!(status, LeaseStatus::Active { .. }));
    store.failures.store(0, Ordering::SeqCst);
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    handle.result().await.unwrap();
    assert_eq!(market.status(0).owed, price());
}

#[tokio::test]
async fn a_task_whose_end_cannot_be_written_fails_for_its_waiters() {
    let (market, store) = market().await;
    let handle = market.submit().await;
    store.failures.store(u32::MAX, Ordering::SeqCst);
    let (cancelled, ()) = tokio::join!(handle.cancel(), pass(&market));
    cancelled.unwrap();
    assert_eq!(
        failure(&handle),
        (ErrorKind::Unavailable, Fault::Coordinator)
    );
    assert_eq!(market.status(0).owed, Wei::ZERO);
    settle().await;
}
