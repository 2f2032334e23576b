//! Leases in work: heartbeats, completions, and all the ways to end without one.

use std::sync::Arc;

use cuckoo_core::{
    CompletionReply, Error, ErrorBody, Heartbeat, HeartbeatReply, LeaseId, LeaseProgress,
    LeaseStatus, NodeId, PollRequest, Result, SessionToken, SignedReceipt, TaskId, TaskState,
    Timestamp,
};
use tokio::sync::watch;

use super::{LeaseState, Reply, Role};
use crate::audit::Verdict;
use crate::events::Event;
use crate::journal::Write;
use crate::market::{Conclusion, Market, Stage, Timer};
use crate::store::{Outcome, Received, StagedOutput};
use crate::telemetry::Latest;
use crate::verify::Expected;

/// Where a completion stands before its receipt is checked.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Check it against this.
    Open(Box<Expected>),
    /// It came before: the answer is or will be here.
    Known(watch::Receiver<Reply>),
    /// No such lease is in memory; the store may know what this miner handed in.
    Forgotten(NodeId),
}

impl Market {
    /// Extends leases and tells what became of each, and which models the miner could load.
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
        let beat = |beat: &LeaseProgress| self.beat(miner, beat, now);
        let leases = request.leases.iter().map(beat).collect();
        Ok(HeartbeatReply {
            leases,
            wanted: self.wanted_of(miner, now),
        })
    }

    fn beat(&mut self, miner: NodeId, beat: &LeaseProgress, now: Timestamp) -> LeaseStatus {
        let status = self.keep_alive(miner, beat.lease, now);
        if let LeaseStatus::Active { .. } = status
            && let Some(lease) = self.dispatch.lease_mut(beat.lease)
        {
            lease.begun |= beat.progress > 0;
            if lease.role != Role::Work {
                return status;
            }
            let task = lease.task;
            self.note_progress(task, miner, beat.progress.min(1_000), now);
            if let Some(preview) = &beat.preview {
                self.show_sketch(task, preview);
            }
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
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        let state = TaskState::Running { miner, progress };
        if *entry.state() != state {
            entry.set_state(state);
            self.events
                .publish(now, Some(task), Event::Progress { miner, progress });
        }
    }

    /// Looks up what a completion must say, without changing anything.
    ///
    /// # Errors
    /// `Closed`, `Unauthorized`, or `Conflict` when the lease is over or not this miner's.
    pub(crate) fn expected(
        &mut self,
        token: &SessionToken,
        receipt: &SignedReceipt,
        now: Timestamp,
    ) -> Result<Claim> {
        self.check_running()?;
        let miner = self.registry.authenticate(token, now)?;
        let id = receipt.value.lease;
        self.expire_if_due(id, now);
        let Some(lease) = self.dispatch.lease(id) else {
            return Ok(Claim::Forgotten(miner));
        };
        if lease.miner != miner {
            return Err(not_yours());
        }
        match &lease.state {
            LeaseState::Active => {}
            LeaseState::Received {
                receipt: known,
                reply,
            } if **known == *receipt => {
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
    /// As [`expected`](Self::expected): the lease may have ended while the receipt was checked.
    pub(crate) fn claim(
        &mut self,
        token: &SessionToken,
        receipt: SignedReceipt,
        output: StagedOutput,
        now: Timestamp,
    ) -> Result<watch::Receiver<Reply>> {
        match self.expected(token, &receipt, now)? {
            Claim::Known(reply) => return Ok(reply),
            Claim::Forgotten(_) => return Err(not_yours()),
            Claim::Open(_) => {}
        }
        let id = receipt.value.lease;
        let lease = self.dispatch.leases.get_mut(&id).ok_or_else(not_yours)?;
        let entry = self.tasks.get_mut(&lease.task).ok_or_else(not_yours)?;
        let (reply, answer) = watch::channel(None);
        let (task, role) = (lease.task, lease.role);
        let worked = now.since(lease.granted_at);
        entry.record_mut().received.push(Received {
            receipt: receipt.clone(),
            kernels: lease.kernels.clone(),
        });
        lease.state = LeaseState::Received {
            receipt: Box::new(receipt.clone()),
            reply,
        };
        if role == Role::Work
            && let Some(pool) = self.dispatch.pools.get_mut(&entry.record.task.model)
        {
            pool.ended(Some(worked));
            self.tally.worked(&entry.record.task.model, worked);
            entry.picture = Latest::shows(&output);
        }
        // Drawn only now: the miner has committed itself.
        if role == Role::Audit || self.entropy.chance(self.settings.audit_probability) {
            entry.writing = true;
            self.writes.push(Write::Receive {
                lease: id,
                output,
                record: Arc::clone(&entry.record),
                version: entry.version,
            });
            return Ok(answer);
        }
        entry.remember(&receipt, &output);
        let conclusion = Conclusion {
            verdict: Some(Verdict::NotDrawn {
                accepted: receipt.value.miner,
            }),
            paid: vec![0],
            conviction: None,
            outcome: Outcome::Completed {
                receipt: Box::new(receipt),
            },
            output: Some(output),
        };
        self.conclude(task, conclusion, now);
        Ok(answer)
    }

    /// A completion was written, or could not be.
    pub(crate) fn received(&mut self, id: LeaseId, written: Result<u64>, now: Timestamp) {
        let Some(lease) = self.dispatch.leases.get_mut(&id) else {
            return;
        };
        let (task, role, miner) = (lease.task, lease.role, lease.miner);
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        if entry.stage == Stage::Done {
            let closed = Error::closed("the coordinator was shut down");
            lease.state.answer(|| Err(ErrorBody::from(&closed)));
            return;
        }
        entry.writing = false;
        match written {
            Err(error) => self.not_received(task, id, &error, now),
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

    /// The output of an audited task is written: it waits for its auditor.
    fn work_received(&mut self, task: TaskId, lease: LeaseId, now: Timestamp) {
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        let Some(first) = entry.record.received.first() else {
            return;
        };
        let event = Event::Received {
            miner: first.receipt.value.miner,
            receipt: first.receipt.clone(),
        };
        self.events.publish(now, Some(task), event);
        // Cancelled meanwhile: ends here, paid.
        entry.stage = Stage::Auditing;
        let cancelled = entry.cancelled;
        self.answer(lease);
        if cancelled {
            self.catch_up(task, now);
        } else {
            self.begin_audit(task, now);
        }
    }

    /// The output that ended a task is written.
    pub(crate) fn work_accepted(&mut self, task: TaskId, id: LeaseId, now: Timestamp) {
        let Some(lease) = self.dispatch.lease(id) else {
            return;
        };
        let LeaseState::Received { receipt, .. } = &lease.state else {
            return;
        };
        let (miner, receipt) = (lease.miner, SignedReceipt::clone(receipt));
        if let Some(miner) = self.registry.miners.get_mut(&miner) {
            miner.leases.remove(&id);
        }
        self.events
            .publish(now, Some(task), Event::Received { miner, receipt });
    }

    /// A completion could not be written: as if it had never come, the miner may hand it in again.
    pub(crate) fn not_received(
        &mut self,
        task: TaskId,
        id: LeaseId,
        error: &Error,
        now: Timestamp,
    ) {
        let extended = now.after(self.settings.lease());
        let (Some(lease), Some(entry)) =
            (self.dispatch.leases.get_mut(&id), self.tasks.get_mut(&task))
        else {
            return;
        };
        lease.state.answer(|| Err(ErrorBody::from(error)));
        lease.state = LeaseState::Active;
        lease.expires_at = extended;
        self.timers.add(extended, Timer::Lease(id));
        let record = entry.record_mut();
        record.received.pop();
        record.outcome = None;
        record.ended_at = None;
        entry.result = None;
        if lease.role == Role::Work {
            entry.stage = Stage::Leased(id);
        }
        self.catch_up(task, now);
    }

    /// Tells the miner that its completion is noted; its pay comes with a later voucher.
    pub(crate) fn answer(&mut self, lease: LeaseId) {
        if let Some(state) = self.dispatch.lease_state(lease) {
            state.answer(|| Ok(CompletionReply { voucher: None }));
        }
    }
}

pub(crate) fn not_yours() -> Error {
    Error::conflict("this is no lease of yours, or it ended long ago; poll again")
}
