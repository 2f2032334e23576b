//! The one state of a coordinator and the life of its tasks.
//!
//! Everything here is synchronous and runs under one short-held lock: a transition changes state, tells watchers, and
//! leaves [`Write`]s for the journal. While a write of a task is under way nothing else about that task is decided;
//! what comes meanwhile is remembered and caught up on when the write is done.

mod task;

use std::collections::HashMap;
use std::sync::Arc;

use cuckoo_core::{
    Address, Deployment, Entropy, Error, ErrorKind, Fault, LeaseId, NodeId, Result, SignedVoucher,
    Snapshot, Task, TaskId, TaskState, Timestamp, Wei,
};
use tokio::sync::{oneshot, watch};

use crate::audit::Verdict;
use crate::dispatch::{Dispatch, LeaseEnd, LeaseState};
use crate::events::{Event, EventLog};
use crate::journal::{Conviction, Write};
use crate::registry::{Miner, Registry};
use crate::store::{Outcome, TaskRecord, Versioned};
use crate::timers::Timers;
use crate::{Evidence, MarketStatus, Settings};

pub(crate) use task::{Entry, Stage};

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
    pub(crate) tasks: HashMap<TaskId, Entry>,
    pub(crate) timers: Timers<Timer>,
    /// What the journal is to write once the lock is free.
    pub(crate) writes: Vec<Write>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) stale_since: Option<Timestamp>,
    pub(crate) evidence: Vec<Evidence>,
    lifecycle: Lifecycle,
    next_order: u64,
    /// How many tasks have not ended.
    open: watch::Sender<usize>,
    ended: Ended,
}

/// What is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A task's deadline.
    Deadline(TaskId),
    /// A lease may have expired.
    Lease(LeaseId),
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
    /// A finished task was kept long enough.
    Forget(TaskId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifecycle {
    Open,
    /// No new tasks.
    Draining,
    /// Nothing any more.
    Closed,
}

#[derive(Debug, Default, Clone, Copy)]
struct Ended {
    completed: u64,
    failed: u64,
    cancelled: u64,
}

/// How a task is to end.
#[derive(Debug)]
pub(crate) struct Conclusion {
    pub(crate) outcome: Outcome,
    pub(crate) verdict: Option<Verdict>,
    /// Positions in `received` that are paid.
    pub(crate) paid: Vec<usize>,
    pub(crate) conviction: Option<Conviction>,
}

impl Conclusion {
    /// An end without an output or pay.
    pub(crate) fn without_output(outcome: Outcome) -> Self {
        Self {
            outcome,
            verdict: None,
            paid: Vec::new(),
            conviction: None,
        }
    }

    pub(crate) fn failed(kind: ErrorKind, message: impl Into<String>, fault: Fault) -> Self {
        Self::without_output(Outcome::Failed {
            kind,
            message: message.into(),
            fault,
        })
    }
}

/// What the journal made durable when a task ended.
#[derive(Debug, Default)]
pub(crate) struct Concluded {
    pub(crate) version: u64,
    pub(crate) vouchers: HashMap<LeaseId, SignedVoucher>,
    pub(crate) evidence: Option<Evidence>,
}

impl Market {
    pub(crate) fn new(
        node: NodeId,
        operator: Address,
        deployment: Deployment,
        settings: Arc<Settings>,
        entropy: Arc<dyn Entropy>,
        snapshot: Snapshot,
    ) -> Self {
        let dispatch = Dispatch::new(&settings, entropy.as_ref());
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
            snapshot: Arc::new(snapshot),
            stale_since: None,
            evidence: Vec::new(),
            lifecycle: Lifecycle::Open,
            next_order: 0,
            open: watch::Sender::new(0),
            ended: Ended::default(),
        }
    }

    /// Takes a task in and has it written; `reply` hears when it is durable.
    ///
    /// # Errors
    /// `Closed` while shutting down, `Unavailable` when the chain does not let this coordinator work, `Rejected` when
    /// too many tasks are open.
    pub(crate) fn admit(
        &mut self,
        task: Task,
        reply: oneshot::Sender<Result<watch::Receiver<TaskState>>>,
    ) -> Result<()> {
        if self.lifecycle != Lifecycle::Open {
            return Err(Error::closed(
                "the coordinator is shutting down; submit the task to another",
            ));
        }
        if !self
            .snapshot
            .node(self.node)
            .is_some_and(|node| node.active)
        {
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
        let id = task.id;
        self.timers.add(task.deadline, Timer::Deadline(id));
        let record = TaskRecord {
            task,
            received: Vec::new(),
            outcome: None,
        };
        self.writes.push(Write::Insert {
            record: record.clone(),
            reply,
        });
        self.insert(record, 0, Stage::Admitting);
        Ok(())
    }

    /// A task was written, or could not be.
    pub(crate) fn admitted(
        &mut self,
        id: TaskId,
        written: Result<u64>,
        reply: oneshot::Sender<Result<watch::Receiver<TaskState>>>,
        now: Timestamp,
    ) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        match written {
            Err(error) => {
                self.tasks.remove(&id);
                self.open.send_modify(|open| *open -= 1);
                let _ = reply.send(Err(error));
            }
            Ok(version) => {
                entry.version = version;
                entry.writing = false;
                // Nobody waits any more: the submission itself was abandoned.
                entry.cancelled |= reply.send(Ok(entry.state.subscribe())).is_err();
                self.events.publish(now, Some(id), Event::Submitted);
                if self.tasks[&id].stage != Stage::Done {
                    self.enqueue(id, now);
                    self.catch_up(id, now);
                }
            }
        }
    }

    /// Takes up a task that an earlier run left unfinished.
    pub(crate) fn restore(&mut self, stored: Versioned<TaskRecord>, now: Timestamp) {
        let id = stored.value.task.id;
        let received = stored.value.received.len();
        self.timers
            .add(stored.value.task.deadline, Timer::Deadline(id));
        self.insert(stored.value, stored.version, Stage::Queued);
        if received == 0 {
            self.enqueue(id, now);
        } else {
            // Which draw it had is not known any more: audit it.
            self.begin_audit(id, now);
            if received > 1 {
                self.judge(id, now);
            }
        }
    }

    fn insert(&mut self, record: TaskRecord, version: u64, stage: Stage) {
        let order = self.next_order;
        self.next_order += 1;
        self.open.send_modify(|open| *open += 1);
        self.tasks
            .insert(record.task.id, Entry::new(record, version, order, stage));
    }

    /// A watcher of a task that is known still.
    pub(crate) fn watch(&self, id: TaskId) -> Result<watch::Receiver<TaskState>> {
        match self.tasks.get(&id) {
            Some(entry) if entry.stage != Stage::Admitting => Ok(entry.state.subscribe()),
            _ => Err(Error::not_found(format!(
                "no task {id} here; finished tasks are kept for {} s",
                self.settings.retention().as_secs()
            ))),
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
            None => self.dispatch.unqueue(&entry.record.task.model, entry.order),
        }
    }

    /// Who is to blame when a task's time is over before its output came.
    fn missed_deadline(&self, id: TaskId) -> Conclusion {
        let entry = &self.tasks[&id];
        let task = &entry.record.task;
        let fail = |message: String, fault| Conclusion::failed(ErrorKind::Timeout, message, fault);
        let timeout = task.deadline.since(task.submitted_at);
        if let Some(lease) = entry
            .working_lease()
            .and_then(|lease| self.dispatch.lease(lease))
        {
            // Late work is the miner's fault only if it had time enough.
            let had_time = task.deadline.since(lease.granted_at) * 2 >= timeout;
            let fault = if had_time {
                Fault::Miner
            } else {
                Fault::Nobody
            };
            return fail(
                format!(
                    "{} did not finish in time; allow more time or submit again",
                    lease.miner
                ),
                fault,
            );
        }
        if !entry.barred.is_empty() {
            return Conclusion::failed(
                ErrorKind::Unverified,
                "miners gave different outputs and no other one decided in time; submit again",
                Fault::Miner,
            );
        }
        if let Some((_, reason)) = &entry.last_failure {
            let fault = if entry.attempts > 0 {
                Fault::Miner
            } else {
                Fault::Nobody
            };
            return fail(
                format!("no miner finished in time; the last one said: {reason}"),
                fault,
            );
        }
        if self.dispatch.offers(&task.model) > 0 {
            return fail(
                "every miner was busy until the deadline; allow more time or submit again".into(),
                Fault::Nobody,
            );
        }
        match self.stale_since {
            Some(since) => fail(
                format!("no miner could join, for the chain has not answered since {since}"),
                Fault::Chain,
            ),
            None => fail(
                format!("no miner offered `{}` before the deadline", task.model),
                Fault::Nobody,
            ),
        }
    }

    /// Decides a task; it ends once that is durable.
    pub(crate) fn conclude(&mut self, id: TaskId, conclusion: Conclusion, now: Timestamp) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        entry.stage = Stage::Concluding;
        entry.writing = true;
        entry.audit = None;
        entry.record.outcome = Some(conclusion.outcome);
        let leases = |positions: Vec<usize>| {
            let lease = |index: usize| Some(entry.record.received.get(index)?.receipt.value.lease);
            positions.into_iter().filter_map(lease).collect()
        };
        let write = Write::Conclude {
            paid: leases(conclusion.paid),
            record: entry.record.clone(),
            version: entry.version,
            conviction: conclusion.conviction,
            at: now,
        };
        self.writes.push(write);
        if let Some(verdict) = conclusion.verdict {
            self.events
                .publish(now, Some(id), Event::Verdict { verdict });
        }
    }

    /// The end of a task is durable, or could not be made so.
    pub(crate) fn concluded(&mut self, id: TaskId, written: Result<Concluded>, now: Timestamp) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        entry.writing = false;
        let (outcome, concluded) = match written {
            Ok(concluded) => (entry.record.outcome.clone(), concluded),
            Err(error) => (Some(store_failed(&error)), Concluded::default()),
        };
        let Some(outcome) = outcome.filter(|_| entry.stage != Stage::Done) else {
            return;
        };
        entry.version = concluded.version;
        for lease in &entry.leases {
            if let Some(LeaseState::Received { reply, .. }) = self.dispatch.lease_state(*lease) {
                let voucher = concluded.vouchers.get(lease).cloned();
                reply.send_if_modified(|reply| {
                    let first = reply.is_none();
                    if first {
                        *reply = Some(Ok(cuckoo_core::CompletionReply { voucher }));
                    }
                    first
                });
            }
        }
        if let Some(evidence) = concluded.evidence {
            let miner = evidence.convicted;
            let index = self.evidence.len();
            self.evidence.push(evidence);
            self.events.publish(
                now,
                Some(id),
                Event::Suspended {
                    miner,
                    evidence: index,
                },
            );
        }
        self.finish(id, outcome, now);
    }

    /// A task was written as new again, or could not be.
    pub(crate) fn reopened(&mut self, id: TaskId, written: Result<u64>, now: Timestamp) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        if entry.stage == Stage::Done {
            return;
        }
        match written {
            Ok(version) => {
                entry.version = version;
                self.enqueue(id, now);
                self.catch_up(id, now);
            }
            Err(error) => self.finish(id, store_failed(&error), now),
        }
    }

    /// A payment is durable.
    pub(crate) fn paid(&mut self, id: TaskId, amount: Wei, voucher: SignedVoucher, now: Timestamp) {
        let node = voucher.value.miner;
        self.know_voucher(voucher.clone());
        let event = Event::Paid {
            miner: node,
            amount,
            voucher,
        };
        self.events.publish(now, Some(id), event);
    }

    /// Keeps a voucher if it is the latest known of its miner.
    pub(crate) fn know_voucher(&mut self, voucher: SignedVoucher) {
        let Some(miner) = self.miner(voucher.value.miner) else {
            return;
        };
        let known = miner
            .voucher
            .as_ref()
            .map_or(Wei::ZERO, |known| known.value.cumulative);
        if voucher.value.cumulative > known {
            miner.voucher = Some(voucher);
        }
    }

    /// A miner of the registry; one that is on chain only gets its place there.
    pub(crate) fn miner(&mut self, node: NodeId) -> Option<&mut Miner> {
        if !self.registry.miners.contains_key(&node) {
            let on_chain = self.snapshot.node(node)?.clone();
            self.registry.miners.insert(node, Miner::new(on_chain));
        }
        self.registry.miners.get_mut(&node)
    }

    /// The last step: watchers learn of it.
    fn finish(&mut self, id: TaskId, outcome: Outcome, now: Timestamp) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        let (state, event) = match outcome {
            Outcome::Completed { receipt } => {
                let miner = receipt.value.miner;
                self.ended.completed += 1;
                if let Some(miner) = self.registry.miners.get_mut(&miner) {
                    miner.counts.completed += 1;
                }
                (TaskState::Completed { miner }, Event::Completed { miner })
            }
            Outcome::Failed {
                kind,
                message,
                fault,
            } => {
                self.ended.failed += 1;
                let event = Event::Failed {
                    kind,
                    message: message.clone(),
                    fault,
                };
                (
                    TaskState::Failed {
                        kind,
                        message,
                        fault,
                    },
                    event,
                )
            }
            Outcome::Cancelled => {
                self.ended.cancelled += 1;
                (TaskState::Cancelled, Event::Cancelled)
            }
        };
        entry.close();
        entry.state.send_replace(state);
        self.open.send_modify(|open| *open -= 1);
        self.timers
            .add(now.after(self.settings.retention()), Timer::Forget(id));
        self.events.publish(now, Some(id), event);
    }

    /// A finished task is kept no longer.
    pub(crate) fn forgotten(&mut self, id: TaskId) {
        if let Some(entry) = self.tasks.remove(&id) {
            self.dispatch.forget(&entry.leases);
        }
    }

    /// Does everything that is due.
    pub(crate) fn fire(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Deadline(id) | Timer::Audit(id) => self.catch_up(id, now),
                Timer::Lease(id) => self.lease_due(id, now),
                Timer::Invitation(id, miner) => self.invitation_due(id, miner, now),
                Timer::Readmit(id, miner) => self.readmit(id, miner, now),
                Timer::SecondChance(id) => self.second_chance(id, now),
                Timer::Quiet(miner) => self.quiet_due(miner, now),
                Timer::Forget(id) => self.writes.push(Write::Forget(id)),
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
        let open: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, entry)| entry.stage != Stage::Done)
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
            queued,
            running: open.saturating_sub(queued),
            completed: self.ended.completed,
            failed: self.ended.failed,
            cancelled: self.ended.cancelled,
            miners: self
                .registry
                .miners
                .values()
                .map(|miner| miner.status(now, patience))
                .collect(),
        }
    }
}

/// How a task ends when the store does not take its end.
fn store_failed(error: &Error) -> Outcome {
    Outcome::Failed {
        kind: ErrorKind::Unavailable,
        message: format!(
            "the coordinator could not write the task's end down: {error}; submit it again"
        ),
        fault: Fault::Coordinator,
    }
}
