//! A requester's grip on one task.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use cuckoo_core::{Error, Result, TaskId, TaskResult, TaskState};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;

use crate::coordinator::Inner;
use crate::preview::{Kept, Shown};

/// A submitted task: watch it, await its result, cancel it. Cheap to clone; dropping it does not cancel the task.
#[derive(Clone)]
pub struct TaskHandle {
    id: TaskId,
    requester: Option<String>,
    state: watch::Receiver<TaskState>,
    coordinator: Arc<Inner>,
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("id", &self.id)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        if !self.state.borrow().is_terminal() {
            self.coordinator.with(|market, _| market.unwatch(self.id));
        }
    }
}

impl TaskHandle {
    pub(crate) fn new(
        id: TaskId,
        requester: Option<String>,
        state: watch::Receiver<TaskState>,
        coordinator: Arc<Inner>,
    ) -> Self {
        Self {
            id,
            requester,
            state,
            coordinator,
        }
    }

    /// The task's name.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Whose it is, where requesters have names.
    pub fn requester(&self) -> Option<&str> {
        self.requester.as_deref()
    }

    /// Where it stands now.
    pub fn state(&self) -> TaskState {
        self.state.borrow().clone()
    }

    /// Its state now and after every change; ends after the terminal one. Changes in quick succession may be merged.
    pub fn watch(&self) -> BoxStream<'static, TaskState> {
        let mut states = self.state.clone();
        states.mark_changed();
        stream::unfold(Some(states), |states| async move {
            let mut states = states?;
            states.changed().await.ok()?;
            let state = states.borrow_and_update().clone();
            let rest = (!state.is_terminal()).then_some(states);
            Some((state, rest))
        })
        .boxed()
    }

    pub(crate) fn preview(&self) -> Option<watch::Receiver<Shown>> {
        self.coordinator.with(|market, _| market.preview(self.id))
    }

    pub(crate) fn sketch(&self) -> Option<watch::Receiver<Option<Kept>>> {
        self.coordinator.with(|market, _| market.sketch(self.id))
    }

    /// Waits for the end and gives the output. Any number of callers may wait; dropping the future changes nothing.
    /// It ends at the task's deadline at the latest, plus the settings' audit wait when an audit is on.
    ///
    /// # Errors
    /// The failure's own kind when the task failed, `Cancelled` when it was cancelled, `NotFound` when the output is
    /// kept no longer, `Closed` when the coordinator was shut down before.
    pub async fn result(&self) -> Result<TaskResult> {
        let mut states = self.state.clone();
        let state = states
            .wait_for(TaskState::is_terminal)
            .await
            .map_err(|_| Error::closed("the coordinator is gone; submit the task to another"))?
            .clone();
        match state {
            TaskState::Completed { .. } => self.coordinator.load_result(self.id).await,
            TaskState::Failed { kind, message, .. } => Err(Error::new(kind, message)),
            _ => Err(Error::cancelled("the task was cancelled by its requester")),
        }
    }

    /// Ends the task without an output and returns once that is stored; a miner that works on it learns of it with its
    /// next heartbeat. A task that ended before, or whose output is accepted already, stays as it is.
    ///
    /// # Errors
    /// `Closed` when the coordinator is gone.
    pub async fn cancel(&self) -> Result<()> {
        self.coordinator.cancel(self.id);
        let mut states = self.state.clone();
        let ended = states.wait_for(TaskState::is_terminal).await;
        ended
            .map(drop)
            .map_err(|_| Error::closed("the coordinator is gone, and the task with it"))
    }

    /// Ties the task to a guard, which cancels it when dropped.
    pub fn guard(self) -> TaskGuard {
        TaskGuard {
            task: self,
            armed: true,
        }
    }
}

/// A task that somebody waits for: dropped before the task ended, it cancels the task. Made by [`TaskHandle::guard`], and
/// otherwise used as the handle is.
#[derive(Debug)]
pub struct TaskGuard {
    task: TaskHandle,
    armed: bool,
}

impl TaskGuard {
    /// Whether it cancels the task when dropped; it does at first.
    pub fn arm(&mut self, armed: bool) {
        self.armed = armed;
    }
}

impl Deref for TaskGuard {
    type Target = TaskHandle;

    fn deref(&self) -> &TaskHandle {
        &self.task
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if self.armed && !self.task.state().is_terminal() {
            self.task.coordinator.cancel(self.task.id);
        }
    }
}
