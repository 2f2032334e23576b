//! Leases in work: heartbeats, completions, and all the ways to end without one.

use cuckoo_core::{
    Completion, CompletionReply, Error, ErrorBody, Heartbeat, HeartbeatReply, LeaseId, LeaseStatus,
    NodeId, PollRequest, Result, SessionToken, TaskId, TaskState, Timestamp,
};
use tokio::sync::watch;

use super::{LeaseState, Reply, Role};
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
        let status = self.keep_alive(miner, id, now);
        if let LeaseStatus::Active { .. } = status
            && let Some(lease) = self.dispatch.lease(id)
            && lease.role == Role::Work
        {
            self.note_progress(lease.task, miner, progress, now);
        }
        status
    }

    /// Extends a lease of `miner`, unless it has ended.
    pub(crate) fn keep_alive(&mut self, miner: NodeId, id: LeaseId, now: Timestamp) -> LeaseStatus {
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
            streamed: lease.streamed.clone(),
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
            conclusion.outcome = Outcome::Completed {
                receipt: Box::new(receipt),
            };
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
}

pub(super) fn not_yours() -> Error {
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
