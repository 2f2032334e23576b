//! Leases that end without an output: given back, expired or taken away, and who gets the task then.

use std::time::Duration;

use cuckoo_core::{
    Error, ErrorKind, Failure, Fault, LeaseId, NodeId, Result, SessionToken, TaskId, TaskState,
    Timestamp,
};

use super::work::not_yours;
use super::{Lease, LeaseEnd, LeaseState, Loss, Role};
use crate::events::Event;
use crate::journal::Write;
use crate::market::{Conclusion, Market, Stage, Timer};

/// Why a lease ended without an output.
#[derive(Debug, Clone, Copy)]
struct Why<'a> {
    loss: Loss,
    kind: ErrorKind,
    reason: &'a str,
}

impl<'a> Why<'a> {
    fn new(kind: ErrorKind, reason: &'a str) -> Self {
        Self {
            loss: Loss::of(kind),
            kind,
            reason,
        }
    }
}

impl Market {
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
        let lease = lease.ok_or_else(not_yours)?;
        match &lease.state {
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
        let (refused, taken) = (failure.is_refusal(), lease.is_taken(now));
        let mut message = failure.message;
        if refused && taken {
            message.insert_str(0, "it refused after it had taken the task: ");
        }
        message.truncate(message.floor_char_boundary(Failure::MAX_MESSAGE));
        let why = match (refused, taken) {
            (false, _) => Why::new(failure.kind, &message),
            (true, true) => Why::new(ErrorKind::Execution, &message),
            (true, false) => Why {
                loss: Loss::Refused,
                ..Why::new(failure.kind, &message)
            },
        };
        self.lost(id, LeaseEnd::GivenBack, why, now);
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
        let why = if lease.delivered {
            Why::new(
                ErrorKind::Timeout,
                "no heartbeat came before the lease expired",
            )
        } else {
            Why::new(ErrorKind::Unavailable, "the miner did not come back for it")
        };
        self.lost(id, LeaseEnd::Expired, why, now);
    }

    pub(crate) fn expire_if_due(&mut self, id: LeaseId, now: Timestamp) {
        if self
            .dispatch
            .lease(id)
            .is_some_and(|lease| lease.expires_at <= now)
        {
            self.lease_due(id, now);
        }
    }

    /// A lease ended without an output: the task goes to another miner, the audit to another auditor.
    fn lost(&mut self, id: LeaseId, end: LeaseEnd, why: Why<'_>, now: Timestamp) {
        let Some(lease) = self.dispatch.lease(id) else {
            return;
        };
        let (task, node, role) = (lease.task, lease.miner, lease.role);
        let Why { loss, kind, reason } = why;
        if role == Role::Work && loss != Loss::Failed {
            self.refund(id);
        }
        if let Some(miner) = self.registry.miners.get_mut(&node) {
            miner.counts.failed += u64::from(loss == Loss::Failed);
            miner.counts.refused += u64::from(loss == Loss::Refused);
        }
        if let Some(entry) = self.tasks.get(&task) {
            self.tally.lost(&entry.record.task.model, loss);
        }
        let loss = loss.name();
        tracing::info!(%task, miner = %node, %kind, loss, reason, "a lease ended without an output");
        self.end_lease(id, end, now);
        match role {
            Role::Audit => self.auditor_lost(task, node, now),
            Role::Work => self.requeue(task, node, why, now),
        }
    }

    /// Ends a lease without an output and gives the miner its next work if it waits for some.
    pub(crate) fn end_lease(&mut self, id: LeaseId, end: LeaseEnd, now: Timestamp) {
        let Some(lease) = self.dispatch.leases.get_mut(&id) else {
            return;
        };
        let (node, task, role) = (lease.miner, lease.task, lease.role);
        let noted = lease.noted;
        lease.state = LeaseState::Ended(end);
        self.release(id);
        if role == Role::Work
            && let Some(entry) = self.tasks.get(&task)
            && let Some(pool) = self.dispatch.pools.get_mut(&entry.record.task.model)
        {
            pool.ended(None);
        }
        if noted {
            self.writes.push(Write::RemoveLease { task, lease: id });
        }
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

    fn requeue(&mut self, id: TaskId, node: NodeId, why: Why<'_>, now: Timestamp) {
        let Why { loss, kind, reason } = why;
        let max_attempts = self.settings.max_attempts;
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        if !entry.stage.is_open() {
            return;
        }
        entry.note_failure(node, kind, reason, now);
        let refused = loss == Loss::Refused && entry.refuse(node);
        if !refused && !entry.excluded.contains(&node) {
            entry.excluded.push(node);
        }
        match loss {
            Loss::Invalid => {
                if !entry.invalid_by.contains(&node) {
                    entry.invalid_by.push(node);
                }
                if entry.invalid_by.len() >= 2 {
                    self.conclude(id, invalid_input(reason), now);
                    return;
                }
            }
            Loss::Failed => {
                entry.attempts += 1;
                if entry.attempts >= max_attempts {
                    let message = format!(
                        "{max_attempts} miners failed it; the last one, {node}, said: {reason}"
                    );
                    self.conclude(id, Conclusion::failed(kind, message, Fault::Miner), now);
                    return;
                }
            }
            Loss::Refused if refused => {}
            Loss::Refused | Loss::Returned => {
                let soon = now.after(Duration::from_millis(self.settings.heartbeat_millis));
                self.timers.add(soon, Timer::Readmit(id, node));
            }
        }
        self.look_for_others_later(id, now);
        let event = Event::Requeued {
            miner: node,
            reason: reason.to_owned(),
        };
        self.events.publish(now, Some(id), event);
        let rest = self.settings.rest_after(self.tasks[&id].attempts);
        if rest.is_zero() {
            self.enqueue(id, now);
        } else if let Some(entry) = self.tasks.get_mut(&id) {
            entry.stage = Stage::Resting;
            entry.set_state(TaskState::Queued);
            self.timers.add(now.after(rest), Timer::Retry(id));
        }
        self.catch_up(id, now);
    }

    /// A task rested after a failure: it waits for a miner again.
    pub(crate) fn retry_due(&mut self, id: TaskId, now: Timestamp) {
        let entry = self.tasks.get(&id);
        if entry.is_some_and(|entry| entry.stage == Stage::Resting) {
            self.enqueue(id, now);
        }
    }

    /// A miner that had no room may be asked again.
    pub(crate) fn readmit(&mut self, id: TaskId, node: NodeId, now: Timestamp) {
        if let Some(entry) = self.tasks.get_mut(&id) {
            entry.excluded.retain(|miner| *miner != node);
            self.line_up_again(id, now);
        }
    }

    /// When only miners that failed a task are left, they are asked once more; when one called it invalid and nobody
    /// else is there to ask, that stands. It does not while others are there that refused: they may have thought otherwise.
    pub(crate) fn second_chance(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        entry.second_chance = false;
        let entry = &*entry;
        if entry.stage != Stage::Queued || entry.excluded.is_empty() {
            return;
        }
        let unwanted = entry.unwanted();
        let task = &entry.record.task;
        let able = self.dispatch.able(&task.model, task.input.len() as u64);
        if able.iter().any(|miner| !unwanted.contains(miner)) {
            self.look_for_others_later(id, now);
        } else if !entry.invalid_by.is_empty()
            && !able.iter().any(|miner| entry.refused_by.contains(miner))
        {
            let last = entry.last_invalid();
            let reason = last.map_or_else(String::new, |last| {
                format!("{}: {}", last.miner, last.reason)
            });
            self.dispatch.unqueue(&entry.record.task.model, entry.place);
            self.conclude(id, invalid_input(&reason), now);
        } else if let Some(entry) = self.tasks.get_mut(&id) {
            let invalid_by = entry.invalid_by.clone();
            entry.excluded.retain(|miner| invalid_by.contains(miner));
            self.line_up_again(id, now);
            if !invalid_by.is_empty() {
                self.look_for_others_later(id, now);
            }
        }
    }

    /// Sets the timer for [`second_chance`](Self::second_chance), if it is not set.
    fn look_for_others_later(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut entry.second_chance, true) {
            let at = now.after(self.settings.lease());
            self.timers.add(at, Timer::SecondChance(id));
        }
    }

    /// Puts a task that waits in line anew, since who may have it changed.
    fn line_up_again(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        if entry.stage == Stage::Queued {
            self.dispatch.unqueue(&entry.record.task.model, entry.place);
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
            if self.dispatch.lease(lease).is_some_and(Lease::is_active) {
                let why = Why::new(ErrorKind::Closed, reason);
                self.lost(lease, LeaseEnd::GivenBack, why, now);
            }
        }
    }
}

fn invalid_input(reason: &str) -> Conclusion {
    let message = format!("miners call the input invalid: {reason}; change it and submit again");
    Conclusion::failed(ErrorKind::Invalid, message, Fault::Requester)
}
