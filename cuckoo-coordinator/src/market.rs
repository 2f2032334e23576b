//! The one state of a coordinator and the life of its tasks.
//!
//! Everything here is synchronous and runs under one short-held lock: a transition changes state, tells watchers, and
//! leaves [`Write`]s for the journal. While a write of a task is under way nothing else about that task is decided;
//! what comes meanwhile is remembered and caught up on when the write is done.

mod outcome;
mod task;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use cuckoo_core::{
    Address, Deployment, Entropy, Error, ErrorKind, Fault, LeaseId, NodeId, Result, Snapshot, Task,
    TaskId, TaskState, Timestamp,
};
use tokio::sync::{Notify, oneshot, watch};

use crate::dispatch::{Dispatch, LeaseEnd};
use crate::escrow::Cover;
use crate::events::{Event, EventLog};
use crate::journal::{Admitted, Write, Written};
use crate::preview::Budget;
use crate::registry::Registry;
use crate::requester::{Requester, Usage};
use crate::store::{LeaseRecord, Outcome, Submission, TaskRecord, Versioned};
use crate::telemetry::{ChainSeen, Latest, Tally};
use crate::timers::Timers;
use crate::{Evidence, MarketStatus, Settings};

pub(crate) use outcome::Conclusion;
pub(crate) use task::{Entry, Place, Stage};

/// State shared by all stages.
#[derive(Debug)]
pub(crate) struct Market {
    pub(crate) node: NodeId,
    pub(crate) operator: Address,
    pub(crate) deployment: Deployment,
    pub(crate) settings: Arc<Settings>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) events: EventLog,
    pub(crate) registry: Registry,
    pub(crate) dispatch: Dispatch,
    pub(crate) tasks: HashMap<TaskId, Box<Entry>>,
    pub(crate) timers: Timers<Timer>,
    /// What the journal is to write once the lock is free.
    pub(crate) writes: Vec<Write>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) stale_since: Option<Timestamp>,
    pub(crate) chain_seen: ChainSeen,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) cover: Cover,
    pub(crate) usage: Usage,
    /// Woken when a task with a webhook ended.
    pub(crate) to_notify: Arc<Notify>,
    /// Room for what miners stream.
    pub(crate) previews: Arc<Budget>,
    lifecycle: Lifecycle,
    next_order: u64,
    /// How many tasks have not ended.
    open: watch::Sender<usize>,
    /// Ended tasks that are in memory still, oldest first; the store has all.
    recent: VecDeque<TaskId>,
    pub(crate) tally: Tally,
    pub(crate) latest: Latest,
}

/// What is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A task's deadline.
    Deadline(TaskId),
    /// A lease may have expired.
    Lease(LeaseId),
    /// A lease lasts long enough to be written down.
    NoteLease(LeaseId),
    /// An audit's patience or time may be over.
    Audit(TaskId),
    /// A drawn auditor may not have come.
    Invitation(TaskId, NodeId),
    /// A miner without room may be asked again.
    Readmit(TaskId, NodeId),
    /// A task may have nobody left but miners that failed it.
    SecondChance(TaskId),
    /// A miner may have gone quiet.
    Quiet(NodeId),
    /// A task rested long enough after a failure.
    Retry(TaskId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifecycle {
    Open,
    /// No new tasks.
    Draining,
    /// Nothing any more.
    Closed,
}

impl Market {
    pub(crate) fn new(
        node: NodeId,
        operator: Address,
        deployment: Deployment,
        settings: Arc<Settings>,
        entropy: Arc<dyn Entropy>,
        snapshot: Arc<Snapshot>,
        now: Timestamp,
    ) -> Self {
        let tally = Tally::new(settings.models.iter().map(|model| &model.model));
        let dispatch = Dispatch::new(&settings, entropy.as_ref());
        let previews = Budget::new(settings.max_preview_bytes);
        Self {
            node,
            operator,
            deployment,
            settings,
            entropy,
            events: EventLog::new(),
            registry: Registry::default(),
            dispatch,
            tasks: HashMap::new(),
            timers: Timers::new(),
            writes: Vec::new(),
            snapshot,
            stale_since: None,
            chain_seen: ChainSeen::new(now),
            evidence: Vec::new(),
            cover: Cover::default(),
            usage: Usage::default(),
            to_notify: Arc::new(Notify::new()),
            previews,
            lifecycle: Lifecycle::Open,
            next_order: 0,
            open: watch::Sender::new(0),
            recent: VecDeque::new(),
            tally,
            latest: Latest::default(),
        }
    }

    /// Takes a task in and has it written; `reply` hears when it is durable.
    ///
    /// # Errors
    /// `Closed` while shutting down, `Unavailable` when the chain does not let this coordinator work, `Rejected` when
    /// too many tasks are open or a limit of the requester's is reached.
    pub(crate) fn admit(
        &mut self,
        task: Task,
        submission: Submission,
        requester: &Requester,
        reply: oneshot::Sender<Result<TaskId>>,
        now: Timestamp,
    ) -> Result<()> {
        self.check_room(&task, requester, now)?;
        self.usage.begin(requester.name(), &task, now);
        let id = task.id;
        self.timers.add(task.deadline, Timer::Deadline(id));
        let record = Arc::new(TaskRecord::new(task, submission));
        self.writes.push(Write::Insert {
            record: Arc::clone(&record),
            reply,
        });
        self.insert(record, 0, Stage::Admitting);
        Ok(())
    }

    /// Whether another task may be taken in now.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub(crate) fn check_room(
        &self,
        task: &Task,
        requester: &Requester,
        now: Timestamp,
    ) -> Result<()> {
        if self.lifecycle != Lifecycle::Open {
            return Err(Error::closed(
                "the coordinator is shutting down; submit the task to another",
            ));
        }
        if !self.is_active() {
            return Err(Error::unavailable(
                "this coordinator is not active on chain now; its owner must keep its vote above the minimum",
            ));
        }
        let open = *self.open.borrow();
        if open >= self.settings.max_queued {
            return Err(Error::rejected(format!(
                "{open} tasks are open, which is all that is taken; submit again when some have ended"
            ))
            .with_retry(cuckoo_core::Retry::Later));
        }
        let limits = requester.limits();
        limits.map_or(Ok(()), |limits| self.usage.check(limits, task, now))
    }

    /// A task was written, or could not be.
    pub(crate) fn admitted(
        &mut self,
        id: TaskId,
        written: Result<Admitted>,
        reply: oneshot::Sender<Result<TaskId>>,
        now: Timestamp,
    ) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        match written {
            Err(_) | Ok(Admitted::Known(_)) => {
                // A shutdown may have ended it before.
                if entry.stage != Stage::Done {
                    let record = &entry.record;
                    let requester = record.submission.requester.as_deref();
                    self.usage.undo(requester, &record.task, now);
                    self.tasks.remove(&id);
                    self.open.send_modify(|open| *open -= 1);
                }
                let _ = reply.send(written.map(|admitted| match admitted {
                    Admitted::New(_) => id,
                    Admitted::Known(known) => known,
                }));
            }
            Ok(Admitted::New(version)) => {
                entry.version = version;
                entry.writing = false;
                // Nobody waits any more: the submission itself was abandoned.
                entry.cancelled |= reply.send(Ok(id)).is_err();
                self.tally.accepted(&entry.record.task.model);
                self.events.publish(now, Some(id), Event::Submitted);
                if self.tasks[&id].stage != Stage::Done {
                    self.enqueue(id, now);
                    self.catch_up(id, now);
                }
            }
        }
    }

    /// What became of a write.
    pub(crate) fn written(&mut self, written: Written, now: Timestamp) {
        match written {
            Written::Inserted { id, written, reply } => self.admitted(id, written, reply, now),
            Written::Received { lease, written } => self.received(lease, written, now),
            Written::Reopened { id, written } => self.reopened(id, written, now),
            Written::Concluded { id, written } => self.concluded(id, written, now),
            Written::SessionOpened { asked, written } => {
                self.session_written(*asked, written, now);
            }
        }
    }

    /// Takes up a task that an earlier run left unfinished; its miner may go on working under `lease`.
    pub(crate) fn restore(
        &mut self,
        stored: Versioned<TaskRecord>,
        lease: Option<LeaseRecord>,
        now: Timestamp,
    ) {
        let id = stored.value.task.id;
        let received = stored.value.received.len();
        self.timers
            .add(stored.value.task.deadline, Timer::Deadline(id));
        self.insert(Arc::new(stored.value), stored.version, Stage::Queued);
        if received > 0 {
            // Which draw it had is not known any more: audit it.
            self.begin_audit(id, now);
        } else if !lease.is_some_and(|lease| self.restore_lease(lease, now)) {
            self.enqueue(id, now);
        }
    }

    fn insert(&mut self, record: Arc<TaskRecord>, version: u64, stage: Stage) {
        let place = Place::new(record.task.priority, self.next_order);
        self.next_order += 1;
        self.open.send_modify(|open| *open += 1);
        let id = record.task.id;
        let entry = Entry::new(record, version, place, stage);
        self.tasks.insert(id, Box::new(entry));
    }

    /// A watcher of a task that is in memory still, and whose the task is.
    pub(crate) fn watch(
        &mut self,
        id: TaskId,
    ) -> Option<(watch::Receiver<TaskState>, Option<String>)> {
        let entry = self.tasks.get_mut(&id)?;
        let requester = entry.record.submission.requester.clone();
        (entry.stage != Stage::Admitting).then(|| (entry.watch(), requester))
    }

    /// A watcher of a task is about to go.
    pub(crate) fn unwatch(&mut self, id: TaskId) {
        if let Some(entry) = self.tasks.get_mut(&id) {
            entry.unwatch();
        }
    }

    /// Ends a task at its requester's wish, now or as soon as a write under way is done.
    pub(crate) fn cancel(&mut self, id: TaskId, now: Timestamp) {
        if let Some(entry) = self.tasks.get_mut(&id) {
            entry.cancelled = true;
            self.catch_up(id, now);
        }
    }

    /// Does what was put off while a write was under way, and what is due.
    pub(crate) fn catch_up(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        if entry.writing || !entry.stage.is_open() {
            return;
        }
        if entry.cancelled {
            // An output that nobody disputed is work done: it is paid although nobody wants it any more.
            let paid = if entry.record.received.len() == 1 {
                vec![0]
            } else {
                Vec::new()
            };
            self.withdraw(id, LeaseEnd::Cancelled, now);
            let conclusion = Conclusion {
                paid,
                ..Conclusion::without_output(Outcome::Cancelled)
            };
            self.conclude(id, conclusion, now);
        } else if entry.stage == Stage::Auditing {
            self.audit_due(id, now);
        } else if entry.record.task.deadline <= now {
            let conclusion = self.missed_deadline(id);
            self.withdraw(id, LeaseEnd::TaskEnded, now);
            self.conclude(id, conclusion, now);
        }
    }

    /// Takes a task out of its queue or from the miner that works on it.
    fn withdraw(&mut self, id: TaskId, end: LeaseEnd, now: Timestamp) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        match entry.working_lease() {
            Some(lease) => {
                if end == LeaseEnd::Cancelled {
                    self.refund(lease);
                }
                self.end_lease(lease, end, now);
            }
            None => self.dispatch.unqueue(&entry.record.task.model, entry.place),
        }
    }

    /// Does everything that is due.
    pub(crate) fn fire(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Deadline(id) | Timer::Audit(id) => self.catch_up(id, now),
                Timer::Lease(id) => self.lease_due(id, now),
                Timer::NoteLease(id) => self.note_lease(id),
                Timer::Invitation(id, miner) => self.invitation_due(id, miner, now),
                Timer::Readmit(id, miner) => self.readmit(id, miner, now),
                Timer::SecondChance(id) => self.second_chance(id, now),
                Timer::Retry(id) => self.retry_due(id, now),
                Timer::Quiet(miner) => self.quiet_due(miner, now),
            }
        }
    }

    /// No new tasks from now on; gives how many are open, and tells of every change.
    pub(crate) fn drain(&mut self) -> watch::Receiver<usize> {
        if self.lifecycle == Lifecycle::Open {
            self.lifecycle = Lifecycle::Draining;
        }
        self.open.subscribe()
    }

    /// Ends everything that is open without writing it, so that a store that lasts still has it for the next start.
    pub(crate) fn close(&mut self, now: Timestamp) {
        self.lifecycle = Lifecycle::Closed;
        // Their miners may go on after the next start.
        for lease in self.dispatch.active() {
            self.note_lease(lease);
        }
        let open: Vec<_> = self
            .tasks
            .iter()
            // What is decided already ends as decided.
            .filter(|(_, entry)| !entry.stage.is_decided())
            .map(|(id, _)| *id)
            .collect();
        for id in open {
            let outcome = Outcome::Failed {
                kind: ErrorKind::Closed,
                message: "the coordinator shut down before the task ended; submit it again".into(),
                fault: Fault::Coordinator,
            };
            self.finish(id, outcome, now);
        }
        let miners: Vec<_> = self.registry.miners.keys().copied().collect();
        miners
            .into_iter()
            .for_each(|miner| self.registry.close(miner));
    }

    /// # Errors
    /// `Closed` after the shutdown.
    pub(crate) fn check_running(&self) -> Result<()> {
        match self.lifecycle {
            Lifecycle::Closed => Err(Error::closed("the coordinator was shut down")),
            Lifecycle::Open | Lifecycle::Draining => Ok(()),
        }
    }

    /// How many tasks have not ended.
    pub(crate) fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Whether new tasks are taken, as far as the coordinator itself decides that.
    pub(crate) fn takes_tasks(&self) -> bool {
        self.lifecycle == Lifecycle::Open
    }

    /// Whether the chain lets this coordinator work.
    pub(crate) fn is_active(&self) -> bool {
        self.snapshot
            .node(self.node)
            .is_some_and(|node| node.active)
    }

    pub(crate) fn status(&self, now: Timestamp) -> MarketStatus {
        let queued = self.dispatch.queued() as u64;
        let open = *self.open.borrow() as u64;
        let patience = self.settings.lease();
        MarketStatus {
            coordinator: self.node,
            operator: self.operator,
            block: self.snapshot.block,
            epoch: self.snapshot.epoch,
            weights_stale_since: self.stale_since,
            escrow_left: self.cover.left(),
            queued,
            running: open.saturating_sub(queued),
            completed: self.tally.completed,
            failed: self.tally.failed(),
            cancelled: self.tally.cancelled,
            miners: self
                .registry
                .miners
                .values()
                .map(|miner| miner.status(now, patience))
                .collect(),
        }
    }
}
