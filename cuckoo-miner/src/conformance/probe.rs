//! An executor around the one that is checked, which notes how each run begins and ends.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use async_trait::async_trait;
use cuckoo_core::{Assignment, Capability, ErrorKind, LeaseId, Result};
use futures::FutureExt as _;
use tokio::sync::Notify;

use crate::work::panic_message;
use crate::{Execution, Executor, TaskContext};

/// How a run ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    Gave(Execution),
    Refused(ErrorKind, String),
    Panicked(String),
    /// The miner dropped it at an await point.
    Dropped,
}

impl End {
    pub(super) fn of(ended: &thread::Result<Result<Execution>>) -> Self {
        match ended {
            Ok(Ok(execution)) => Self::Gave(execution.clone()),
            Ok(Err(error)) => Self::Refused(error.kind(), error.to_string()),
            Err(panic) => Self::Panicked(panic_message(&**panic)),
        }
    }
}

/// A run that began.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) context: TaskContext,
    pub(super) end: Option<End>,
}

#[derive(Debug)]
pub(super) struct Probe {
    executor: Arc<dyn Executor>,
    capabilities: Vec<Capability>,
    traces: Mutex<HashMap<LeaseId, Trace>>,
    changed: Notify,
}

impl Probe {
    pub(super) fn new(executor: Arc<dyn Executor>, capabilities: Vec<Capability>) -> Arc<Self> {
        Arc::new(Self {
            executor,
            capabilities,
            traces: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn traces(&self) -> MutexGuard<'_, HashMap<LeaseId, Trace>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run of a lease, once it began.
    pub(super) fn trace(&self, lease: LeaseId) -> Option<Trace> {
        self.traces().get(&lease).cloned()
    }

    /// How many hold the context of a run that ended, beside what is kept here.
    pub(super) fn holders(&self, lease: LeaseId) -> usize {
        let traces = self.traces();
        let held = traces.get(&lease).map(|trace| trace.context.holders());
        held.unwrap_or(1).saturating_sub(1)
    }

    /// Waits until the run of a lease began. Safe to drop.
    pub(super) async fn began(&self, lease: LeaseId) {
        self.until(|| self.traces().contains_key(&lease)).await;
    }

    /// Waits until the run of a lease ended. Safe to drop.
    pub(super) async fn ended(&self, lease: LeaseId) {
        self.until(|| {
            let traces = self.traces();
            traces.get(&lease).is_some_and(|trace| trace.end.is_some())
        })
        .await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition() {
                return;
            }
            changed.await;
        }
    }

    fn end(&self, lease: LeaseId, end: End) {
        if let Some(trace) = self.traces().get_mut(&lease) {
            trace.end.get_or_insert(end);
        }
        self.changed.notify_waiters();
    }
}

/// Runs `executor` to its end, be it a panic.
pub(super) async fn watched(
    executor: &dyn Executor,
    task: Assignment,
    context: TaskContext,
) -> thread::Result<Result<Execution>> {
    // The call itself may panic, too, before there is a future.
    let run = async move { executor.execute(task, context).await };
    AssertUnwindSafe(run).catch_unwind().await
}

/// Notes a run that is dropped.
struct Running<'a>(&'a Probe, LeaseId);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.end(self.1, End::Dropped);
    }
}

#[async_trait]
impl Executor for Probe {
    fn capabilities(&self) -> Vec<Capability> {
        self.capabilities.clone()
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let lease = task.lease;
        let trace = Trace {
            context: context.clone(),
            end: None,
        };
        self.traces().insert(lease, trace);
        self.changed.notify_waiters();
        let _running = Running(self, lease);
        let ended = watched(&*self.executor, task, context).await;
        self.end(lease, End::of(&ended));
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }
}
