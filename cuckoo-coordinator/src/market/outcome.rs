//! How tasks end: the decision, its write, and what everybody learns of it.

use std::collections::HashMap;

use cuckoo_core::{
    CompletionReply, Error, ErrorKind, Fault, LeaseId, NodeId, Result, SignedVoucher, TaskId,
    TaskState, Timestamp, Wei,
};

use super::{Market, Stage, Timer};
use crate::Evidence;
use crate::audit::Verdict;
use crate::dispatch::LeaseState;
use crate::events::Event;
use crate::journal::{Conviction, Write};
use crate::registry::Miner;
use crate::store::Outcome;

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
    /// Who is to blame when a task's time is over before its output came.
    pub(super) fn missed_deadline(&self, id: TaskId) -> Conclusion {
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
        self.dispatch.set_unaudited(id, false);
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
                        *reply = Some(Ok(CompletionReply { voucher }));
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
    pub(super) fn finish(&mut self, id: TaskId, outcome: Outcome, now: Timestamp) {
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
        self.finished.push_back(id);
        if self.finished.len() > self.settings.max_finished
            && let Some(oldest) = self.finished.pop_front()
        {
            self.writes.push(Write::Forget(oldest));
        }
        self.events.publish(now, Some(id), event);
    }

    /// A finished task is kept no longer.
    pub(crate) fn forgotten(&mut self, id: TaskId) {
        if let Some(entry) = self.tasks.remove(&id) {
            if self.finished.front() == Some(&id) {
                self.finished.pop_front();
            }
            self.dispatch.forget(&entry.leases);
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
