//! Leases in work: heartbeats, completions, and all the ways to end without one.

use cuckoo_core::{
    Completion, CompletionReply, Error, ErrorBody, ErrorKind, Failure, Fault, Heartbeat,
    HeartbeatReply, LeaseId, LeaseStatus, NodeId, PollRequest, Result, SessionToken, TaskId,
    TaskState, Timestamp,
};
use tokio::sync::watch;

use super::{LeaseEnd, LeaseState, Reply, Role};
use crate::audit::Verdict;
use crate::events::Event;
use crate::journal::Write;
use crate::market::{Conclusion, Market, Stage, Timer};
use crate::store::{Outcome, Received};
use crate::verify::Expected;

/// Where a completion stands before its receipt is checked.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Check it against this.
    Open(Box<Expected>),
    /// It came before: the answer is or will be here.
    Known(watch::Receiver<Reply>),
}

impl Market {
    /// Extends leases and tells what became of each.
    ///
    /// # Errors
    /// `Closed`, `Unauthorized`, or `Invalid` for too many leases.
    pub(crate) fn heartbeat(
        &mut self,
        token: &SessionToken,
        request: &Heartbeat,
        now: Timestamp,
    ) -> Result<HeartbeatReply> {
        self.check_running()?;
        let miner = self.registry.authenticate(token, now)?;
        if request.leases.len() > PollRequest::MAX_SLOTS as usize {
            return Err(Error::invalid(format!(
                "a heartbeat names at most {} leases",
                PollRequest::MAX_SLOTS
            )));
        }
        let beat = |beat: &cuckoo_core::LeaseProgress| {
            self.beat(miner, beat.lease, beat.progress.min(1_000), now)
        };
        Ok(HeartbeatReply {
            leases: request.leases.iter().map(beat).collect(),
        })
    }

    fn beat(&mut self, miner: NodeId, id: LeaseId, progress: u16, now: Timestamp) -> LeaseStatus {
        let extended = now.after(self.settings.lease());
        let Some(lease) = self
            .dispatch
            .leases
            .get_mut(&id)
            .filter(|lease| lease.miner == miner)
        else {
            return LeaseStatus::Ended;
        };
        if lease.is_active() && lease.expires_at > now {
            lease.expires_at = extended;
            let (task, role) = (lease.task, lease.role);
            if role == Role::Work {
                self.note_progress(task, miner, progress, now);
            }
        } else if lease.is_active() {
            self.lease_due(id, now);
        }
        self.dispatch
            .lease(id)
            .map_or(LeaseStatus::Ended, super::Lease::status)
    }

    fn note_progress(&mut self, task: TaskId, miner: NodeId, progress: u16, now: Timestamp) {
        let Some(entry) = self.tasks.get(&task) else {
            return;
        };
        let state = TaskState::Running { miner, progress };
        if *entry.state.borrow() != state {
            entry.set_state(state);
            self.events
                .publish(now, Some(task), Event::Progress { miner, progress });
        }
    }

    /// Looks up what a completion must say, without changing anything.
    ///
    /// # Errors
    /// `Closed`, `Unauthorized`, or `Conflict` when the lease is over or not this miner's.
    pub(crate) fn expect(
        &mut self,
        token: &SessionToken,
        completion: &Completion,
        now: Timestamp,
    ) -> Result<Claim> {
        self.check_running()?;
        let miner = self.registry.authenticate(token, now)?;
        let id = completion.receipt.value.lease;
        self.expire_if_due(id, now);
        let lease = self.dispatch.lease(id).filter(|lease| lease.miner == miner);
        let lease = lease.ok_or_else(not_yours)?;
        match &lease.state {
            LeaseState::Active => {}
            LeaseState::Received { receipt, reply } if **receipt == completion.receipt => {
                return Ok(Claim::Known(reply.subscribe()));
            }
            LeaseState::Received { .. } => {
                return Err(Error::conflict(
                    "another result was handed in for this lease before; poll again",
                ));
            }
            LeaseState::Ended(end) => return Err(end.refusal()),
        }
        let entry = self.tasks.get(&lease.task).ok_or_else(not_yours)?;
        let operator = self
            .registry
            .miners
            .get(&miner)
            .ok_or_else(not_yours)?
            .node
            .operator;
        Ok(Claim::Open(Box::new(Expected {
            deployment: self.deployment,
            coordinator: self.node,
            miner,
            operator,
            lease: id,
            task: lease.task,
            model_hash: lease.model_hash,
            input_hash: entry.record.task.input_hash,
            max_output_bytes: self.settings.max_output_bytes,
        })))
    }

    /// Takes a checked completion and has it written; the answer comes through the receiver.
    ///
    /// # Errors
    /// As [`expect`](Self::expect): the lease may have ended while the receipt was checked.
    pub(crate) fn claim(
        &mut self,
        token: &SessionToken,
        completion: Completion,
        now: Timestamp,
    ) -> Result<watch::Receiver<Reply>> {
        if let Claim::Known(reply) = self.expect(token, &completion, now)? {
            return Ok(reply);
        }
        let id = completion.receipt.value.lease;
        let lease = self.dispatch.leases.get_mut(&id).ok_or_else(not_yours)?;
        let entry = self.tasks.get_mut(&lease.task).ok_or_else(not_yours)?;
        let (reply, answer) = watch::channel(None);
        let receipt = completion.receipt;
        entry.record.received.push(Received {
            receipt: receipt.clone(),
            kernels: lease.kernels.clone(),
        });
        entry.writing = true;
        lease.state = LeaseState::Received {
            receipt: Box::new(receipt),
            reply,
        };
        self.writes.push(Write::Receive {
            lease: id,
            output: completion.output,
            record: entry.record.clone(),
            version: entry.version,
        });
        Ok(answer)
    }

    /// A completion was written, or could not be.
    pub(crate) fn received(&mut self, id: LeaseId, written: Result<u64>, now: Timestamp) {
        let extended = now.after(self.settings.lease());
        let Some(lease) = self.dispatch.leases.get_mut(&id) else {
            return;
        };
        let (task, role, miner) = (lease.task, lease.role, lease.miner);
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        if entry.stage == Stage::Done {
            answer(lease, Err(&Error::closed("the coordinator was shut down")));
            return;
        }
        entry.writing = false;
        match written {
            Err(error) => {
                // As if it had never come: the miner may hand it in again.
                entry.record.received.pop();
                answer(lease, Err(&error));
                lease.state = LeaseState::Active;
                lease.expires_at = extended;
                self.timers.add(extended, Timer::Lease(id));
                self.catch_up(task, now);
            }
            Ok(version) => {
                entry.version = version;
                if let Some(miner) = self.registry.miners.get_mut(&miner) {
                    miner.leases.remove(&id);
                }
                match role {
                    Role::Work => self.work_received(task, id, now),
                    Role::Audit => self.audit_received(task, id, now),
                }
            }
        }
    }

    fn work_received(&mut self, task: TaskId, lease: LeaseId, now: Timestamp) {
        let Some(entry) = self.tasks.get(&task) else {
            return;
        };
        let Some(receipt) = entry
            .record
            .received
            .first()
            .map(|first| first.receipt.clone())
        else {
            return;
        };
        let miner = receipt.value.miner;
        let cancelled = entry.cancelled;
        let event = Event::Received {
            miner,
            receipt: receipt.clone(),
        };
        self.events.publish(now, Some(task), event);
        // Drawn only now: the miner has committed itself.
        if !cancelled && self.entropy.chance(self.settings.audit_probability) {
            self.answer(lease);
            self.begin_audit(task, now);
            return;
        }
        let mut conclusion = Conclusion::without_output(Outcome::Cancelled);
        if !cancelled {
            conclusion.outcome = Outcome::Completed { receipt };
            conclusion.verdict = Some(Verdict::NotDrawn { accepted: miner });
        }
        conclusion.paid = vec![0];
        self.conclude(task, conclusion, now);
    }

    /// Tells the miner that its completion is noted; its pay comes with a later voucher.
    pub(crate) fn answer(&mut self, lease: LeaseId) {
        if let Some(lease) = self.dispatch.leases.get(&lease) {
            answer(lease, Ok(()));
        }
    }

    /// A miner gives a lease back.
    ///
    /// # Errors
    /// `Closed`, `Unauthorized`, or `Conflict` when the lease is over or not this miner's.
    pub(crate) fn fail(
        &mut self,
        token: &SessionToken,
        failure: Failure,
        now: Timestamp,
    ) -> Result<()> {
        self.check_running()?;
        let miner = self.registry.authenticate(token, now)?;
        let id = failure.lease;
        self.expire_if_due(id, now);
        let lease = self.dispatch.lease(id).filter(|lease| lease.miner == miner);
        match &lease.ok_or_else(not_yours)?.state {
            LeaseState::Active => {}
            LeaseState::Received { .. } => {
                return Err(Error::conflict(
                    "a result was handed in for this lease before",
                ));
            }
            // Given back before: the same again.
            LeaseState::Ended(LeaseEnd::GivenBack) => return Ok(()),
            LeaseState::Ended(end) => return Err(end.refusal()),
        }
        let mut message = failure.message;
        message.truncate(message.floor_char_boundary(Failure::MAX_MESSAGE));
        self.lost(id, LeaseEnd::GivenBack, failure.kind, &message, now);
        Ok(())
    }

    /// A lease's timer went off.
    pub(crate) fn lease_due(&mut self, id: LeaseId, now: Timestamp) {
        let Some(lease) = self.dispatch.lease(id).filter(|lease| lease.is_active()) else {
            return;
        };
        if lease.expires_at > now {
            self.timers.add(lease.expires_at, Timer::Lease(id));
            return;
        }
        // A miner that was never handed the assignment did not fail it.
        let (kind, reason) = if lease.delivered {
            (
                ErrorKind::Timeout,
                "no heartbeat came before the lease expired",
            )
        } else {
            (ErrorKind::Unavailable, "the miner did not come back for it")
        };
        self.lost(id, LeaseEnd::Expired, kind, reason, now);
    }

    fn expire_if_due(&mut self, id: LeaseId, now: Timestamp) {
        if self
            .dispatch
            .lease(id)
            .is_some_and(|lease| lease.expires_at <= now)
        {
            self.lease_due(id, now);
        }
    }

    /// A lease ended without an output: the task goes to another miner, the audit to another auditor.
    pub(crate) fn lost(
        &mut self,
        id: LeaseId,
        end: LeaseEnd,
        kind: ErrorKind,
        reason: &str,
        now: Timestamp,
    ) {
        let Some(lease) = self.dispatch.lease(id) else {
            return;
        };
        let (task, node, role) = (lease.task, lease.miner, lease.role);
        let blamed = is_blamed(kind);
        if role == Role::Work && !blamed {
            self.refund(id);
        }
        if blamed
            && kind != ErrorKind::Invalid
            && let Some(miner) = self.registry.miners.get_mut(&node)
        {
            miner.counts.failed += 1;
        }
        tracing::info!(%task, miner = %node, %kind, reason, "a lease ended without an output");
        self.end_lease(id, end, now);
        match role {
            Role::Audit => self.auditor_lost(task, node, now),
            Role::Work => self.requeue(task, node, kind, reason, now),
        }
    }

    /// Ends a lease without an output and gives the miner its next work if it waits for some.
    pub(crate) fn end_lease(&mut self, id: LeaseId, end: LeaseEnd, now: Timestamp) {
        let Some(lease) = self.dispatch.leases.get_mut(&id) else {
            return;
        };
        let node = lease.miner;
        lease.state = LeaseState::Ended(end);
        if let Some(miner) = self.registry.miners.get_mut(&node) {
            miner.leases.remove(&id);
            miner.mailbox.retain(|waiting| *waiting != id);
        }
        self.sync_free(node);
        self.fill(node, now);
    }

    /// Gives the scheduler's charge for a lease back: its miner is not to blame that it came to nothing.
    pub(crate) fn refund(&mut self, id: LeaseId) {
        let Some(lease) = self
            .dispatch
            .lease(id)
            .filter(|lease| lease.role == Role::Work)
        else {
            return;
        };
        let (miner, task) = (lease.miner, lease.task);
        if let Some(entry) = self.tasks.get(&task)
            && let Some(pool) = self.dispatch.pools.get_mut(&entry.record.task.model)
        {
            pool.refund(miner);
        }
    }

    fn requeue(&mut self, id: TaskId, node: NodeId, kind: ErrorKind, reason: &str, now: Timestamp) {
        let max_attempts = self.settings.max_attempts;
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        if !entry.stage.is_open() {
            return;
        }
        entry.stage = Stage::Queued;
        if !entry.excluded.contains(&node) {
            entry.excluded.push(node);
        }
        entry.last_failure = Some((kind, format!("{node}: {reason}")));
        if kind == ErrorKind::Invalid {
            if !entry.invalid_by.contains(&node) {
                entry.invalid_by.push(node);
            }
            if entry.invalid_by.len() >= 2 {
                self.conclude(id, invalid_input(reason), now);
                return;
            }
        } else if is_blamed(kind) {
            entry.attempts += 1;
            if entry.attempts >= max_attempts {
                let message = format!(
                    "{max_attempts} miners failed it; the last one, {node}, said: {reason}"
                );
                self.conclude(id, Conclusion::failed(kind, message, Fault::Miner), now);
                return;
            }
        } else {
            let soon = now.after(std::time::Duration::from_millis(
                self.settings.heartbeat_millis,
            ));
            self.timers.add(soon, Timer::Readmit(id, node));
        }
        self.timers
            .add(now.after(self.settings.lease()), Timer::SecondChance(id));
        let event = Event::Requeued {
            miner: node,
            reason: reason.to_owned(),
        };
        self.events.publish(now, Some(id), event);
        self.enqueue(id, now);
        self.catch_up(id, now);
    }

    /// A miner that had no room may be asked again.
    pub(crate) fn readmit(&mut self, id: TaskId, node: NodeId, now: Timestamp) {
        if let Some(entry) = self.tasks.get_mut(&id) {
            entry.excluded.retain(|miner| *miner != node);
            self.line_up_again(id, now);
        }
    }

    /// When only miners that failed a task are left, they are asked once more; when one called it invalid and nobody
    /// else is there to ask, that stands.
    pub(crate) fn second_chance(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        if entry.stage != Stage::Queued || entry.excluded.is_empty() {
            return;
        }
        let unwanted = entry.unwanted();
        let offers = self.dispatch.miners(&entry.record.task.model);
        if offers.iter().any(|miner| !unwanted.contains(miner)) {
            self.timers
                .add(now.after(self.settings.lease()), Timer::SecondChance(id));
        } else if !entry.invalid_by.is_empty() {
            let reason = entry
                .last_failure
                .as_ref()
                .map_or("", |(_, reason)| reason)
                .to_owned();
            self.dispatch
                .unqueue(&self.tasks[&id].record.task.model, self.tasks[&id].order);
            self.conclude(id, invalid_input(&reason), now);
        } else if let Some(entry) = self.tasks.get_mut(&id) {
            entry.excluded.clear();
            self.line_up_again(id, now);
        }
    }

    /// Puts a task that waits in line anew, since who may have it changed.
    fn line_up_again(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        if entry.stage == Stage::Queued {
            self.dispatch.unqueue(&entry.record.task.model, entry.order);
            self.enqueue(id, now);
        }
    }

    /// Takes all leases from a miner whose session ended; it is not to blame for those it gives back by that.
    pub(crate) fn take_leases(&mut self, node: NodeId, reason: &str, now: Timestamp) {
        let leases = self
            .registry
            .miners
            .get(&node)
            .map(|miner| miner.leases.clone());
        for lease in leases.unwrap_or_default() {
            if self
                .dispatch
                .lease(lease)
                .is_some_and(super::Lease::is_active)
            {
                self.lost(lease, LeaseEnd::GivenBack, ErrorKind::Closed, reason, now);
            }
        }
    }
}

/// Whether a failure of this kind is the miner's own: being full, closing or cut off is not.
fn is_blamed(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::Rejected | ErrorKind::Unavailable | ErrorKind::Closed | ErrorKind::Cancelled
    )
}

fn invalid_input(reason: &str) -> Conclusion {
    let message = format!("miners call the input invalid: {reason}; change it and submit again");
    Conclusion::failed(ErrorKind::Invalid, message, Fault::Requester)
}

fn not_yours() -> Error {
    Error::conflict("this is no lease of yours, or it ended long ago; poll again")
}

/// Answers a completion, once.
fn answer(lease: &super::Lease, outcome: Result<(), &Error>) {
    if let LeaseState::Received { reply, .. } = &lease.state {
        reply.send_if_modified(|reply| {
            let first = reply.is_none();
            if first {
                *reply = Some(match outcome {
                    Ok(()) => Ok(CompletionReply { voucher: None }),
                    Err(error) => Err(ErrorBody::from(error)),
                });
            }
            first
        });
    }
}
