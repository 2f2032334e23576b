//! How tasks end: the decision, its write, and what everybody learns of it.

use std::sync::Arc;

use cuckoo_core::{
    CompletionReply, Error, ErrorBody, ErrorKind, Fault, NodeId, Output, Result, SignedReceipt,
    SignedVoucher, TaskId, TaskState, Timestamp, Wei,
};

use super::{Market, Stage};
use crate::audit::Verdict;
use crate::events::Event;
use crate::journal::{Conclude, Concluded, Conviction, Write};
use crate::registry::Miner;
use crate::store::{Outcome, Payment, StagedOutput};

/// How many ended tasks stay in memory, so that whoever waits for one, or repeats a completion, is answered at once.
const MAX_RECENT: usize = 4_096;

/// How a task is to end.
#[derive(Debug)]
pub(crate) struct Conclusion {
    pub(crate) outcome: Outcome,
    pub(crate) verdict: Option<Verdict>,
    /// Positions in `received` that are paid.
    pub(crate) paid: Vec<usize>,
    pub(crate) conviction: Option<Conviction>,
    /// The output that ends it, when it is not written yet.
    pub(crate) output: Option<StagedOutput>,
}

impl Conclusion {
    /// An end without an output or pay.
    pub(crate) fn without_output(outcome: Outcome) -> Self {
        Self {
            outcome,
            verdict: None,
            paid: Vec::new(),
            conviction: None,
            output: None,
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
        let able = self.dispatch.able(&task.model, task.input.len() as u64);
        let passed =
            |miner: &NodeId| entry.refused_by.contains(miner) || entry.invalid_by.contains(miner);
        if entry.attempts == 0
            && able.iter().all(passed)
            && let Some(last) = entry.last_refusal()
        {
            let others = entry.last_invalid().map_or_else(String::new, |invalid| {
                format!(
                    " or called its input invalid, as {} did: {}",
                    invalid.miner, invalid.reason
                )
            });
            return fail(
                format!(
                    "every miner that could take it refused it{others}; allow more time, or ask for less; the last one that \
                     refused, {}, said: {}",
                    last.miner, last.reason
                ),
                Fault::Nobody,
            );
        }
        if let Some(last) = entry.record.failures.last() {
            let fault = if entry.attempts > 0 {
                Fault::Miner
            } else {
                Fault::Nobody
            };
            return fail(
                format!(
                    "no miner finished in time; the last one, {}, said: {}",
                    last.miner, last.reason
                ),
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
        entry.stage = match &conclusion.output {
            Some(output) => Stage::Accepting(output.lease),
            None => Stage::Concluding,
        };
        entry.writing = true;
        entry.audit = None;
        self.dispatch.set_unaudited(id, false);
        let record = entry.record_mut();
        record.outcome = Some(conclusion.outcome);
        record.ended_at = Some(now);
        let record = &entry.record;
        let payment = |index: usize| {
            let receipt = &record.received.get(index)?.receipt.value;
            Some(Payment {
                lease: receipt.lease,
                task: id,
                miner: receipt.miner,
                amount: record.task.price,
            })
        };
        let write = Conclude {
            payments: conclusion.paid.into_iter().filter_map(payment).collect(),
            record: Arc::clone(record),
            version: entry.version,
            output: conclusion.output,
            conviction: conclusion.conviction,
            at: now,
        };
        self.writes.push(Write::Conclude(Box::new(write)));
        if let Some(verdict) = conclusion.verdict {
            self.tally.judged(&verdict);
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
        let concluded = match (written, entry.stage) {
            (_, Stage::Done) => return,
            (Err(error), Stage::Accepting(lease)) => {
                return self.not_received(id, lease, &error, now);
            }
            (Err(error), _) => {
                self.answer_all(id, Err(&error));
                return self.finish(id, store_failed(&error), now);
            }
            (Ok(concluded), Stage::Accepting(lease)) => {
                entry.version = concluded.version;
                self.work_accepted(id, lease, now);
                concluded
            }
            (Ok(concluded), _) => {
                entry.version = concluded.version;
                concluded
            }
        };
        for (payment, voucher) in &concluded.paid {
            self.paid(payment, voucher.clone(), now);
        }
        self.answer_all(id, Ok(&concluded.paid));
        let outcome = self
            .tasks
            .get(&id)
            .and_then(|entry| entry.record.outcome.clone());
        let Some(outcome) = outcome else { return };
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
                for lease in entry.leases.clone() {
                    self.release(lease);
                }
                self.enqueue(id, now);
                self.catch_up(id, now);
            }
            Err(error) => self.finish(id, store_failed(&error), now),
        }
    }

    /// Answers every completion of a task that was not answered yet, with the voucher of those that were paid.
    fn answer_all(&self, id: TaskId, ended: Result<&Vec<(Payment, SignedVoucher)>, &Error>) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        for lease in &entry.leases {
            let Some(state) = self.dispatch.lease_state(*lease) else {
                continue;
            };
            state.answer(|| {
                let paid = ended.map_err(ErrorBody::from)?;
                let mine = paid.iter().find(|(payment, _)| payment.lease == *lease);
                Ok(CompletionReply {
                    voucher: mine.map(|(_, voucher)| voucher.clone()),
                })
            });
        }
    }

    /// A payment is durable.
    fn paid(&mut self, payment: &Payment, voucher: SignedVoucher, now: Timestamp) {
        self.know_voucher(voucher.clone());
        self.cover.promise(payment.amount);
        let event = Event::Paid {
            miner: payment.miner,
            amount: payment.amount,
            voucher,
        };
        self.events.publish(now, Some(payment.task), event);
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
                let task = &entry.record.task;
                self.tally
                    .completed(&task.model, now.since(task.submitted_at));
                self.latest.completed(entry, miner, now);
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
                self.tally.failed_by(fault);
                self.latest.failed(entry, kind, &message, fault, now);
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
                self.tally.cancelled += 1;
                (TaskState::Cancelled, Event::Cancelled)
            }
        };
        let charged = matches!(state, TaskState::Completed { .. });
        let requester = entry.record.submission.requester.as_deref();
        self.usage.end(requester, &entry.record.task, charged, now);
        entry.set_state(state);
        entry.close();
        if entry.record.submission.webhook.is_some() {
            self.to_notify.notify_one();
        }
        for lease in entry.leases.clone() {
            self.release(lease);
        }
        self.open.send_modify(|open| *open -= 1);
        self.events.publish(now, Some(id), event);
        self.recent.push_back(id);
        if self.recent.len() > MAX_RECENT {
            self.forget_oldest();
        }
    }

    /// Lets go of ended tasks that the store forgets too.
    pub(crate) fn forget(&mut self, before: Timestamp, keep: usize) {
        while let Some(oldest) = self.recent.front() {
            let entry = self.tasks.get(oldest);
            let ended = entry.and_then(|entry| entry.record.ended_at);
            if self.recent.len() <= keep && ended.is_some_and(|ended| ended >= before) {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.recent.pop_front()
            && let Some(entry) = self.tasks.remove(&oldest)
        {
            self.dispatch.forget(&entry.leases);
        }
    }

    /// The result of a task that ended well, while it is in memory.
    pub(crate) fn recent(&self, id: TaskId) -> Option<(SignedReceipt, Output)> {
        let result = self.tasks.get(&id)?.result.as_ref()?;
        Some((result.receipt.clone(), result.output.clone()))
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
