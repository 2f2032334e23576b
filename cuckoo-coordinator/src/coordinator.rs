//! The embeddable coordinator: wires the stages together.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cuckoo_core::{
    BlobId, Clock, Deployment, Entropy, Error, Key, NodeId, Output, Result, SignedVoucher, TaskId,
    TaskProtocol, TaskResult, TaskSpec, Timestamp,
};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::journal::{self, Write};
use crate::market::Market;
use crate::protocol::InProcess;
use crate::store::{Outcome, TaskFilter, TaskRecord, TaskStore};
use crate::{
    CoordinatorBuilder, Evidence, MarketEvent, MarketStatus, Quote, Requester, Settings,
    TaskHandle, Webhooks, admission,
};

/// How long a finished task may be kept beyond its time.
const LONGEST_SWEEP_PAUSE: Duration = Duration::from_secs(60);

/// A coordinator of the market: takes tasks, and miners through its [`protocol`](Self::protocol).
///
/// Cheap to clone. It runs until [`shutdown`](Self::shutdown), or until the last clone, task handle and protocol handle
/// is dropped.
#[derive(Clone)]
pub struct Coordinator {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("node", &self.inner.node)
            .finish_non_exhaustive()
    }
}

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) deployment: Deployment,
    pub(crate) operator: Key,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) webhooks: Option<Arc<Webhooks>>,
    #[cfg(feature = "otel")]
    pub(crate) traces: Option<Arc<crate::telemetry::TaskTraces>>,
    pub(crate) market: Mutex<Market>,
    /// To the journal, in the order in which transitions asked for it.
    pub(crate) writes: mpsc::UnboundedSender<Write>,
    /// Wakes the timer when something is due earlier than before.
    pub(crate) timer_wake: Arc<Notify>,
    pub(crate) stop: CancellationToken,
    pub(crate) tracker: TaskTracker,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Coordinator {
    /// Starts to describe a coordinator.
    pub fn builder() -> CoordinatorBuilder {
        CoordinatorBuilder::default()
    }

    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// What it was started with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    pub(crate) fn operator(&self) -> &Key {
        &self.inner.operator
    }

    /// Takes a task; returns once it is stored. Dropped before, it cancels the task; the handle does not, when dropped.
    ///
    /// # Errors
    /// `NotFound` for a model that is not served, `Invalid` for an input or timeout out of bounds, `Rejected` for a low
    /// price or when too many tasks are open, `Unavailable` when the coordinator is not active on chain or its store is
    /// down, `Closed` while it shuts down.
    pub async fn submit(&self, spec: TaskSpec) -> Result<TaskHandle> {
        self.submit_as(&Requester::anonymous(), spec).await
    }

    /// The same for one of several requesters: idempotency keys are its own, its limits hold, and the task remembers
    /// whose it is.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); `Rejected`, with [`LimitReached`](crate::LimitReached) as its source, at a limit.
    pub async fn submit_as(&self, requester: &Requester, spec: TaskSpec) -> Result<TaskHandle> {
        let id = self.inner.submit(spec, requester).await?;
        self.task(id).await
    }

    /// Keeps bytes that inputs may then name, by what this gives: it is stored when this returns. It is kept until the last
    /// task that named it, or else this call, is as long ago as finished tasks are kept.
    ///
    /// # Errors
    /// `Invalid` when there are too many bytes, `Rejected` when the store has no room for more, `Unavailable` when it is
    /// down.
    pub async fn put_blob(&self, blob: Output) -> Result<BlobId> {
        self.inner.put_blob(blob).await
    }

    /// What submitting a task now would come to; binds nobody.
    pub fn quote(&self, spec: TaskSpec) -> Quote {
        self.quote_as(&Requester::anonymous(), spec)
    }

    /// The same for one of several requesters, within its limits.
    pub fn quote_as(&self, requester: &Requester, spec: TaskSpec) -> Quote {
        let inner = &self.inner;
        let now = inner.clock.now();
        let task = admission::admit(spec, &inner.settings, inner.entropy.as_ref(), now);
        match task {
            Ok(task) => inner.with(|market, now| market.quote(&task, requester, now)),
            Err(error) => Quote::refused(&error),
        }
    }

    /// Tasks that are kept, open or ended, the latest first.
    ///
    /// # Errors
    /// `Unavailable` when the store is down.
    pub async fn list(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        self.inner.tried(|| self.inner.store.list(filter)).await
    }

    /// Submits a task that failed again, as a new one with the same input, price limit aside; for its requester, with
    /// `timeout` or else as much time as it had.
    ///
    /// # Errors
    /// `NotFound` when it is not kept, `Conflict` when it did not fail; else as [`submit`](Self::submit).
    pub async fn replay(&self, id: TaskId, timeout: Option<Duration>) -> Result<TaskHandle> {
        self.replay_as(&Requester::anonymous(), id, timeout).await
    }

    /// The same at the wish of `requester`: of a task of its own within its limits, of another's without.
    ///
    /// # Errors
    /// As [`replay`](Self::replay) and [`submit_as`](Self::submit_as).
    pub async fn replay_as(
        &self,
        requester: &Requester,
        id: TaskId,
        timeout: Option<Duration>,
    ) -> Result<TaskHandle> {
        let inner = &self.inner;
        let stored = inner.tried(|| inner.store.load(id)).await?;
        let record = stored.ok_or_else(|| inner.unknown(id))?.value;
        if !matches!(record.outcome, Some(Outcome::Failed { .. })) {
            return Err(Error::conflict(format!(
                "task {id} did not fail; only failed tasks are replayed"
            )));
        }
        let task = record.task;
        let input = serde_json::from_str(&task.input)
            .map_err(|source| Error::internal("a stored input is not JSON").with_source(source))?;
        let timeout = timeout.unwrap_or_else(|| task.deadline.since(task.submitted_at));
        let mut spec = TaskSpec::new(task.model, input)
            .with_priority(task.priority)
            .with_timeout(timeout);
        spec.webhook = record.submission.webhook;
        let again = match record.submission.requester {
            owner if owner.as_deref() == requester.name() => inner.submit(spec, requester).await,
            None => inner.submit(spec, &Requester::anonymous()).await,
            Some(owner) => inner.submit(spec, &Requester::named(owner)).await,
        }?;
        self.task(again).await
    }

    /// The handle of a task submitted before.
    ///
    /// # Errors
    /// `NotFound` when there is no such task, or it ended longer ago than the settings' retention.
    pub async fn task(&self, id: TaskId) -> Result<TaskHandle> {
        let inner = &self.inner;
        if let Some((state, requester)) = inner.with(|market, _| market.watch(id)) {
            return Ok(TaskHandle::new(id, requester, state, Arc::clone(inner)));
        }
        let stored = inner.tried(|| inner.store.load(id)).await?;
        let stored = stored.map(|stored| stored.value);
        let ended = stored.and_then(|record| {
            let state = record.terminal_state()?;
            Some((state, record.submission.requester))
        });
        let (state, requester) = ended.ok_or_else(|| inner.unknown(id))?;
        let (_, state) = watch::channel(state);
        Ok(TaskHandle::new(id, requester, state, Arc::clone(inner)))
    }

    /// The in-process handle that a miner takes.
    pub fn protocol(&self) -> Arc<dyn TaskProtocol> {
        Arc::new(InProcess(Arc::clone(&self.inner)))
    }

    /// The market as this coordinator sees it now.
    pub fn status(&self) -> MarketStatus {
        self.inner.with(|market, now| market.status(now))
    }

    /// What happens from now on. A receiver that falls 4096 events behind misses the oldest and learns how many.
    pub fn events(&self) -> broadcast::Receiver<MarketEvent> {
        self.inner.with(|market, _| market.events.subscribe())
    }

    /// What convicted miners, oldest first.
    pub fn evidence(&self) -> Vec<Evidence> {
        self.inner.with(|market, _| market.evidence.clone())
    }

    /// The latest voucher of each miner that earned something, by miner.
    pub fn vouchers(&self) -> Vec<SignedVoucher> {
        let voucher = |miner: &crate::registry::Miner| miner.voucher.clone();
        self.inner.with(|market, _| {
            market
                .registry
                .miners
                .values()
                .filter_map(voucher)
                .collect()
        })
    }

    /// Stops in two phases: refuses new tasks and lets open ones end for up to `grace`; then ends what is left as
    /// `Closed`, all sessions, and its background work.
    pub async fn shutdown(&self, grace: Duration) {
        let inner = &self.inner;
        let mut open = inner.with(|market, _| market.drain());
        tokio::select! {
            _ = open.wait_for(|open| *open == 0) => {}
            () = inner.clock.sleep(grace) => {}
        }
        inner.with(|market, now| market.close(now));
        inner.stop.cancel();
        inner.tracker.close();
        inner.tracker.wait().await;
        #[cfg(feature = "otel")]
        if let Some(traces) = &inner.traces {
            traces.finish().await;
        }
    }
}

impl Inner {
    /// Runs one transition under the lock, then sees to the writes it asks for and to the timer.
    pub(crate) fn with<R>(self: &Arc<Self>, step: impl FnOnce(&mut Market, Timestamp) -> R) -> R {
        let now = self.clock.now();
        let (result, earlier) = {
            // A step that panicked is a defect; going on with what it left is better than taking all callers down.
            let mut market = self.market.lock().unwrap_or_else(PoisonError::into_inner);
            let result = step(&mut market, now);
            for write in market.writes.drain(..) {
                // Under the lock, so that the journal has them in this order. It refuses some only after a shutdown,
                // when whoever waits for one learns that by its reply being dropped.
                let _ = self.writes.send(write);
            }
            (result, market.timers.take_earlier())
        };
        if earlier {
            self.timer_wake.notify_one();
        }
        result
    }

    pub(crate) async fn submit(
        self: &Arc<Self>,
        spec: TaskSpec,
        requester: &Requester,
    ) -> Result<TaskId> {
        let now = self.clock.now();
        let name = requester.name().map(str::to_owned);
        let submission = admission::submission(&spec, name, self.webhooks.as_deref())?;
        let named = BlobId::named_in(&spec.input);
        let task = admission::admit(spec, &self.settings, self.entropy.as_ref(), now)?;
        self.hold_blobs(named, task.deadline).await?;
        let (reply, stored) = oneshot::channel();
        #[cfg(feature = "otel")]
        let trace = self.traces.as_ref().map(|traces| traces.submitting(&task));
        self.with(|market, now| market.admit(task, submission, requester, reply, now))?;
        let stored = stored
            .await
            .map_err(|_| Error::closed("the coordinator was shut down"))?;
        #[cfg(feature = "otel")]
        if let (Some(trace), Ok(stored)) = (trace, &stored) {
            trace.stored(*stored);
        }
        stored
    }

    /// Tries a store operation again while the store says that later may help.
    pub(crate) async fn tried<T, F>(&self, operation: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        journal::tried(self.clock.as_ref(), operation).await
    }

    fn unknown(&self, id: TaskId) -> Error {
        Error::not_found(format!(
            "no task {id} here; finished tasks are kept for {} s",
            self.settings.retention().as_secs()
        ))
    }

    pub(crate) async fn load_result(self: &Arc<Self>, id: TaskId) -> Result<TaskResult> {
        if let Some((receipt, output)) = self.with(|market, _| market.recent(id)) {
            return Ok(TaskResult {
                task: id,
                output,
                usage: receipt.value.usage,
                receipt,
            });
        }
        let gone = || Error::not_found(format!("the output of task {id} is kept no longer"));
        let stored = self.tried(|| self.store.load(id)).await?.ok_or_else(gone)?;
        let Some(Outcome::Completed { receipt }) = stored.value.outcome else {
            return Err(Error::internal(format!(
                "task {id} ended well but is stored otherwise"
            )));
        };
        let lease = receipt.value.lease;
        let output = self
            .tried(|| self.store.output(id, lease))
            .await?
            .ok_or_else(gone)?;
        let usage = receipt.value.usage;
        Ok(TaskResult {
            task: id,
            output,
            receipt: *receipt,
            usage,
        })
    }

    pub(crate) fn cancel(self: &Arc<Self>, id: TaskId) {
        self.with(|market, now| market.cancel(id, now));
    }
}

/// Forgets finished tasks that were kept long enough, until `stop`.
pub(crate) async fn sweep(inner: Weak<Inner>, stop: CancellationToken) {
    while !stop.is_cancelled()
        && let Some(strong) = inner.upgrade()
    {
        let settings = &strong.settings;
        let before = strong.clock.now().before(settings.retention());
        strong.with(|market, _| market.forget(before, settings.max_finished));
        match strong.store.sweep(before, settings.max_finished).await {
            // There may be more.
            Ok(1..) => {}
            swept => {
                if let Err(error) = swept {
                    tracing::warn!(%error, "finished tasks could not be forgotten; trying again later");
                }
                let pause = (settings.retention() / 10).min(LONGEST_SWEEP_PAUSE);
                let pause = strong.clock.sleep(pause);
                drop(strong);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = pause => {}
                }
            }
        }
    }
}

/// Fires what is due until `stop`; holds no coordinator alive while it waits.
pub(crate) async fn keep_time(
    inner: Weak<Inner>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        let Some(strong) = inner.upgrade() else {
            return;
        };
        let next = strong.with(|market, now| {
            market.fire(now);
            market.timers.first()
        });
        drop(strong);
        let wait = async {
            match next {
                Some(at) => clock.sleep(at.since(clock.now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake.notified() => {}
            () = wait => {}
        }
    }
}
