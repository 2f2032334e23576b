//! The spans of all open tasks, made from the market's events.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cuckoo_core::{LeaseId, NodeId, Task, TaskId, Timestamp};
use opentelemetry::Context;
use opentelemetry_sdk::trace::SdkTracer;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Traces;
use super::journey::{Journey, Origin};
use crate::coordinator::Inner;
use crate::events::{Event, MarketEvent};
use crate::market::{Market, Stage};

/// Tasks whose spans are sent. Nothing of it is durable: after a restart, an open task begins a trace anew.
pub(crate) struct TaskTraces {
    tracer: SdkTracer,
    tasks: Mutex<HashMap<TaskId, State>>,
    finish: CancellationToken,
    following: TaskTracker,
}

enum State {
    /// It is about to be written.
    Submitting(Origin),
    Open(Box<Journey>),
}

impl fmt::Debug for TaskTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskTraces").finish_non_exhaustive()
    }
}

/// A submission under way. Dropped before it is stored, nothing is sent of it.
pub(crate) struct Submitting<'a> {
    traces: &'a TaskTraces,
    id: Option<TaskId>,
}

impl Submitting<'_> {
    /// It is durable as `task`: itself, or another that its idempotency key named.
    pub(crate) fn stored(mut self, task: TaskId) {
        self.id = self.id.filter(|id| *id != task);
    }
}

impl Drop for Submitting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut tasks = self.traces.tasks();
            if let Some(State::Submitting(_)) = tasks.get(&id) {
                tasks.remove(&id);
            }
        }
    }
}

impl TaskTraces {
    pub(crate) fn new(traces: &Traces) -> Self {
        Self {
            tracer: traces.tracer(),
            tasks: Mutex::default(),
            finish: CancellationToken::new(),
            following: TaskTracker::new(),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<TaskId, State>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task is submitted by the request, or whatever else, whose span is the current one.
    pub(crate) fn submitting(&self, task: &Task) -> Submitting<'_> {
        let origin = Origin {
            parent: Context::current(),
            id: task.id,
            model: task.model.to_string(),
            at: task.submitted_at,
        };
        self.tasks().insert(task.id, State::Submitting(origin));
        Submitting {
            traces: self,
            id: Some(task.id),
        }
    }

    /// A task of an earlier run was taken up.
    pub(crate) fn resumed(&self, id: TaskId, market: &Market, now: Timestamp) {
        let Some(entry) = market.tasks.get(&id) else {
            return;
        };
        let task = &entry.record.task;
        let origin = Origin {
            parent: Context::new(),
            id,
            model: task.model.to_string(),
            at: task.submitted_at,
        };
        let Some(mut journey) = Journey::begin(&self.tracer, origin) else {
            return;
        };
        let lease = entry.working_lease();
        let lease = lease.and_then(|id| Some((id, market.dispatch.lease(id)?)));
        journey.resumed(lease, entry.stage == Stage::Auditing, now);
        self.tasks().insert(id, State::Open(Box::new(journey)));
    }

    /// A receipt and its output were checked, from one time to the other.
    pub(crate) fn verified(
        &self,
        task: TaskId,
        lease: LeaseId,
        miner: NodeId,
        held: bool,
        times: (Timestamp, Timestamp),
    ) {
        if let Some(State::Open(journey)) = self.tasks().get(&task) {
            journey.verified(lease, miner, held, times);
        }
    }

    fn note(&self, event: &MarketEvent) {
        let Some(id) = event.task else { return };
        let mut tasks = self.tasks();
        let over = match tasks.get_mut(&id) {
            None => false,
            Some(State::Open(journey)) => journey.follow(&event.event, event.at),
            Some(State::Submitting(origin)) if event.event == Event::Submitted => {
                let origin = origin.clone();
                let submitted = origin.at;
                match Journey::begin(&self.tracer, origin) {
                    Some(mut journey) => {
                        journey.admitted(submitted, event.at);
                        tasks.insert(id, State::Open(Box::new(journey)));
                        false
                    }
                    None => true,
                }
            }
            // Its first event was missed.
            Some(State::Submitting(_)) => true,
        };
        if over {
            tasks.remove(&id);
        }
    }

    /// Events were missed: what ended meanwhile is let go.
    fn catch_up(&self, inner: &Arc<Inner>) {
        let known: Vec<_> = self.tasks().keys().copied().collect();
        let open = |market: &Market, id: &TaskId| {
            let entry = market.tasks.get(id);
            entry.is_some_and(|entry| entry.stage != Stage::Done)
        };
        let (ended, now) = inner.with(|market, now| {
            let known = known.into_iter();
            let ended: Vec<_> = known.filter(|id| !open(market, id)).collect();
            (ended, now)
        });
        let mut tasks = self.tasks();
        for id in ended {
            if let Some(State::Open(mut journey)) = tasks.remove(&id) {
                journey.abandon(now);
            }
        }
    }

    /// Makes spans of what happens from now on.
    pub(crate) fn follow(self: &Arc<Self>, inner: &Arc<Inner>) {
        let events = inner.with(|market, _| market.events.subscribe());
        let follow = follow(Arc::downgrade(inner), Arc::clone(self), events);
        self.following.spawn(follow);
    }

    /// No more happens: returns once there are spans of all that did.
    pub(crate) async fn finish(&self) {
        self.finish.cancel();
        self.following.close();
        self.following.wait().await;
    }
}

/// Turns events into spans until [`TaskTraces::finish`], or until the coordinator is gone.
async fn follow(inner: Weak<Inner>, traces: Arc<TaskTraces>, mut events: Receiver<MarketEvent>) {
    loop {
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            () = traces.finish.cancelled() => return,
        };
        match event {
            Ok(event) => traces.note(&event),
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(
                    missed,
                    "more happened than traces could be made of; some are not whole"
                );
                match inner.upgrade() {
                    Some(inner) => traces.catch_up(&inner),
                    None => return,
                }
            }
        }
    }
}
