//! A store that fails: nothing is acknowledged that was not written, nothing is lost, and nobody waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use cuckoo_coordinator::{
    Account, Change, Commit, Evidence, LeaseRecord, MemoryStore, NonceRecord, Payment,
    RequesterUsage, SessionRecord, StagedOutput, TaskFilter, TaskRecord, TaskStore, Versioned,
    router,
};
use cuckoo_core::{
    B256, Error, ErrorKind, Fault, LeaseId, LeaseStatus, Output, Result, TaskId, TaskState,
    Timestamp, Wei, paths,
};
use tower_service::Service as _;

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
    async fn commit(&self, changes: Vec<Change>) -> Result<Commit> {
        self.through(self.store.commit(changes)).await
    }
    async fn stage(&self, lease: LeaseId, output: Output) -> Result<StagedOutput> {
        // The memory store does nothing here that could fail.
        self.store.stage(lease, output).await
    }
    async fn discard(&self, staged: StagedOutput) -> Result<()> {
        self.through(self.store.discard(staged)).await
    }
    async fn output(&self, task: TaskId, lease: LeaseId) -> Result<Option<Output>> {
        self.through(self.store.output(task, lease)).await
    }
    async fn load(&self, task: TaskId) -> Result<Option<Versioned<TaskRecord>>> {
        self.through(self.store.load(task)).await
    }
    async fn unfinished(
        &self,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Versioned<TaskRecord>>> {
        self.through(self.store.unfinished(after, limit)).await
    }
    async fn list(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        self.through(self.store.list(filter)).await
    }
    async fn sweep(&self, before: Timestamp, keep: usize) -> Result<usize> {
        self.store.sweep(before, keep).await
    }
    async fn leases(&self) -> Result<Vec<LeaseRecord>> {
        self.through(self.store.leases()).await
    }
    async fn sessions(&self) -> Result<Vec<SessionRecord>> {
        self.through(self.store.sessions()).await
    }
    async fn nonces(&self, at: Timestamp) -> Result<Vec<NonceRecord>> {
        self.through(self.store.nonces(at)).await
    }
    async fn accounts(&self) -> Result<Vec<Versioned<Account>>> {
        self.through(self.store.accounts()).await
    }
    async fn payment(&self, task: TaskId, lease: LeaseId) -> Result<Option<Payment>> {
        self.through(self.store.payment(task, lease)).await
    }
    async fn evidence(&self) -> Result<Vec<Evidence>> {
        self.through(self.store.evidence()).await
    }
    async fn unnotified(&self, limit: usize) -> Result<Vec<TaskRecord>> {
        self.through(self.store.unnotified(limit)).await
    }
    async fn usage(&self, since: Timestamp) -> Result<Vec<RequesterUsage>> {
        self.through(self.store.usage(since)).await
    }
    async fn put_blob(&self, hash: B256, blob: Output, at: Timestamp) -> Result<()> {
        self.through(self.store.put_blob(hash, blob, at)).await
    }
    async fn extend_blob(&self, hash: B256, at: Timestamp) -> Result<bool> {
        self.through(self.store.extend_blob(hash, at)).await
    }
    async fn blob(&self, hash: B256) -> Result<Option<Output>> {
        self.through(self.store.blob(hash)).await
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
    // Of the commit and of its repetitions.
    store.answers_lost.store(3, Ordering::SeqCst);
    let (reply, ()) = tokio::join!(
        market.miners[0].complete(&assignment, b"done"),
        pass(&market)
    );
    assert_eq!(reply.unwrap().voucher.unwrap().value.cumulative, price());
    handle.result().await.unwrap();
    assert_eq!(market.status(0).owed, price());
}

#[tokio::test]
async fn a_submission_with_a_key_whose_answer_was_lost_is_not_taken_for_a_repetition() {
    let (market, store) = market().await;
    store.answers_lost.store(1, Ordering::SeqCst);
    let task = spec().with_idempotency_key("order-7");
    let (handle, ()) = tokio::join!(market.coordinator.submit(task), pass(&market));
    let handle = handle.unwrap();
    // It is in line, not only in the store.
    let assignment = market.miners[0].take().await.unwrap();
    assert_eq!(assignment.task, handle.id());
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
async fn a_store_that_failed_makes_the_coordinator_unready_until_it_is_due_for_another_try() {
    let (market, store) = market().await;
    let ready = async || {
        let request = Request::get(paths::READY).body(Body::empty()).unwrap();
        let answer = router(market.coordinator.clone()).call(request).await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(ready().await, 200);
    store.failures.store(u32::MAX, Ordering::SeqCst);
    let (refused, ()) = tokio::join!(market.coordinator.submit(spec()), pass(&market));
    assert_eq!(kind(refused), ErrorKind::Unavailable);
    assert_eq!(ready().await, 503);
    let metrics = market.coordinator.metrics().unwrap();
    assert!(
        metrics.contains("\ncuckoo_store_commits_failed_total 1\n"),
        "{metrics}"
    );
    // Without tasks nothing is written: it must not stay so for ever.
    market.clock.advance(Duration::from_secs(30));
    assert_eq!(ready().await, 200);
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

#[tokio::test]
async fn no_session_is_granted_before_the_store_knows_its_request() {
    let (market, store) = market().await;
    let member = market.miners[0].member.clone();
    store.failures.store(u32::MAX, Ordering::SeqCst);
    let (refused, ()) = tokio::join!(market.join(member.clone()), pass(&market));
    assert_eq!(kind(refused.map(|_| ())), ErrorKind::Unavailable);
    store.failures.store(0, Ordering::SeqCst);
    // The session it had goes on.
    assert_eq!(market.miners[0].take().await, None);
    // The commit took effect, and only its answer was lost: the request is its own, and not taken for a replay.
    store.answers_lost.store(1, Ordering::SeqCst);
    let (granted, ()) = tokio::join!(market.join(member), pass(&market));
    assert_eq!(granted.unwrap().take().await, None);
    let before = &market.miners[0];
    let poll = before
        .protocol
        .poll(&before.token, before.poll_request(1, 0));
    assert_eq!(kind(poll.await), ErrorKind::Unauthorized);
}
