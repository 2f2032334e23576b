//! How an audit goes: from the draw of an auditor to the verdict.

use std::sync::Arc;

use cuckoo_core::{ErrorKind, Fault, LeaseId, NodeId, TaskId, TaskState, Timestamp, Wei};

use super::{Audit, Finding, Seat, Verdict, compare, draw_auditor};
use crate::dispatch::{LeaseEnd, Role};
use crate::events::Event;
use crate::journal::{Conviction, Write};
use crate::market::{Conclusion, Market, Stage, Timer};
use crate::store::Outcome;

impl Market {
    /// Holds a received output back until another miner repeated the task.
    pub(crate) fn begin_audit(&mut self, id: TaskId, now: Timestamp) {
        let patience_ends = now.after(self.settings.audit_wait());
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        let Some(first) = entry.record.received.first() else {
            return;
        };
        let ends = patience_ends.max(entry.record.task.deadline);
        entry.stage = Stage::Auditing;
        entry.writing = false;
        entry.audit = Some(Box::new(Audit::new(patience_ends, ends)));
        entry.set_state(TaskState::Auditing {
            miner: first.receipt.value.miner,
        });
        let parties = entry.record.received.iter();
        let parties: Vec<_> = parties
            .map(|received| received.receipt.value.miner)
            .collect();
        self.timers.add(patience_ends, Timer::Audit(id));
        self.timers.add(ends, Timer::Audit(id));
        for party in parties {
            self.add_party(id, party);
        }
        self.judge(id, now);
    }

    /// Notes that a miner, and so its owner, cannot audit a task that it handed in for.
    fn add_party(&mut self, id: TaskId, node: NodeId) {
        let owner = self.miner(node).map(|miner| miner.node.owner);
        if let Some(audit) = self
            .tasks
            .get_mut(&id)
            .and_then(|entry| entry.audit.as_mut())
        {
            audit.parties.push((node, owner.unwrap_or_default()));
        }
    }

    /// Draws an auditor among the eligible miners; it gets the work now, or with its next poll when it is busy. When
    /// there is none, the next miner that comes by is considered.
    pub(crate) fn seek_auditor(&mut self, id: TaskId, now: Timestamp) {
        let eligible = self.eligible_auditors(id, now);
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        let Some(latest) = entry.record.received.last() else {
            return;
        };
        let Some(audit) = &mut entry.audit else {
            return;
        };
        let Some(auditor) = draw_auditor(&eligible, &latest.receipt, self.entropy.as_ref()) else {
            audit.seat = Seat::Vacant;
            self.dispatch.set_unaudited(id, true);
            return;
        };
        audit.seat = Seat::Invited(auditor);
        self.dispatch.set_unaudited(id, false);
        let Some(miner) = self.registry.miners.get_mut(&auditor) else {
            return;
        };
        if miner.free_slots() > 0 {
            self.place(id, auditor, Role::Audit, now);
        } else {
            miner.invitations.push_back(id);
            let until = now.after(self.settings.lease());
            self.timers.add(until, Timer::Invitation(id, auditor));
        }
    }

    /// The miners that may audit a task; those that refused it only when there are no others.
    fn eligible_auditors(&self, id: TaskId, now: Timestamp) -> Vec<(NodeId, Wei)> {
        let Some(entry) = self.tasks.get(&id) else {
            return Vec::new();
        };
        let Some(audit) = &entry.audit else {
            return Vec::new();
        };
        // An auditor is paid like the one it audits.
        if !self.cover.covers(entry.record.task.price) {
            return Vec::new();
        }
        let offers = self.dispatch.miners(&entry.record.task.model).into_iter();
        let mut eligible: Vec<_> = offers
            .filter(|miner| !audit.missed.contains(miner))
            .filter_map(|miner| Some((miner, self.auditor_weight(id, miner, now)?)))
            .collect();
        // Who refused the task would refuse its audit.
        let refused = |miner: &(NodeId, Wei)| entry.refused_by.contains(&miner.0);
        if !eligible.iter().all(refused) {
            eligible.retain(|miner| !refused(miner));
        }
        // The lottery's result must not depend on the order of a hash map.
        eligible.sort_unstable();
        eligible
    }

    /// The weight of a miner that may audit a task: one with the same files and kernels, of another owner than all
    /// that handed in, that has not failed this audit.
    fn auditor_weight(&self, id: TaskId, node: NodeId, now: Timestamp) -> Option<Wei> {
        let entry = self.tasks.get(&id)?;
        let audit = entry.audit.as_ref()?;
        let first = entry.record.received.first()?;
        let miner = self.registry.miners.get(&node)?;
        let capability = miner.capabilities.get(&entry.record.task.model)?;
        let same_arithmetic = capability.kernels == first.kernels
            && capability.model_hash == first.receipt.value.model_hash;
        let fits = entry.record.task.input.len() as u64 <= capability.max_input_bytes;
        let owner = miner.node.owner;
        let involved = audit
            .parties
            .iter()
            .any(|party| party.0 == node || party.1 == owner);
        let may = same_arithmetic
            && fits
            && !involved
            && !audit.failed.contains(&node)
            && !entry.barred.contains(&node)
            && miner.may_work()
            && miner.is_connected(now, self.settings.lease());
        may.then_some(miner.node.weight)
    }

    /// A miner came by while an audit had no auditor: draw again if it is eligible.
    pub(crate) fn offer_audit(&mut self, id: TaskId, node: NodeId, now: Timestamp) {
        if self.auditor_weight(id, node, now).is_some()
            && let Some(audit) = self
                .tasks
                .get_mut(&id)
                .and_then(|entry| entry.audit.as_mut())
        {
            audit.missed.retain(|miner| *miner != node);
            self.seek_auditor(id, now);
        }
    }

    /// A drawn auditor had its time to come for the work.
    pub(crate) fn invitation_due(&mut self, id: TaskId, node: NodeId, now: Timestamp) {
        if let Some(audit) = self
            .tasks
            .get_mut(&id)
            .and_then(|entry| entry.audit.as_mut())
            && audit.seat == Seat::Invited(node)
        {
            audit.missed.push(node);
            self.seek_auditor(id, now);
        }
    }

    /// An auditor failed or vanished: another one is drawn, with patience anew.
    pub(crate) fn auditor_lost(&mut self, id: TaskId, node: NodeId, now: Timestamp) {
        let patience_ends = now.after(self.settings.audit_wait());
        let Some(audit) = self
            .tasks
            .get_mut(&id)
            .and_then(|entry| entry.audit.as_mut())
        else {
            return;
        };
        audit.failed.push(node);
        audit.patience_ends = patience_ends.min(audit.ends);
        self.timers.add(audit.patience_ends, Timer::Audit(id));
        self.seek_auditor(id, now);
    }

    /// An auditor's output was written.
    pub(crate) fn audit_received(&mut self, id: TaskId, lease: LeaseId, now: Timestamp) {
        self.answer(lease);
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        let Some((latest, before)) = entry.record.received.split_last() else {
            return;
        };
        let auditor = latest.receipt.value.miner;
        let hash = latest.receipt.value.output_hash;
        let matched = before
            .iter()
            .any(|other| other.receipt.value.output_hash == hash);
        let event = match matched {
            true => Event::AuditMatched { auditor },
            false => Event::AuditMismatched { auditor },
        };
        if let Some(audit) = &mut entry.audit {
            audit.seat = Seat::Vacant;
        }
        self.add_party(id, auditor);
        if let Some(miner) = self.registry.miners.get_mut(&auditor) {
            miner.counts.audits += 1;
        }
        self.events.publish(now, Some(id), event);
        self.judge(id, now);
    }

    /// Decides what the outputs show, or has another miner repeat the task.
    pub(crate) fn judge(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        let received = &entry.record.received;
        let miner = |index: usize| received[index].receipt.value.miner;
        let miners = || (0..received.len()).map(miner).collect::<Vec<_>>();
        match compare(received) {
            Finding::Open => {
                self.catch_up(id, now);
                if self
                    .tasks
                    .get(&id)
                    .is_some_and(|entry| entry.stage == Stage::Auditing)
                {
                    self.seek_auditor(id, now);
                }
            }
            Finding::Agreed => {
                let verdict = Verdict::Honest {
                    accepted: miner(0),
                    auditors: miners()[1..].to_vec(),
                };
                let paid = (0..received.len()).collect();
                self.accept(id, 0, verdict, paid, None, now);
            }
            Finding::OddOneOut { odd, accepted } => {
                let conviction = Conviction {
                    convicted: miner(odd),
                    accepted: miner(accepted),
                };
                let verdict = Verdict::Convicted {
                    convicted: conviction.convicted,
                    accepted: conviction.accepted,
                };
                let paid = (0..received.len()).filter(|index| *index != odd).collect();
                self.accept(id, accepted, verdict, paid, Some(conviction), now);
                self.suspend(conviction.convicted, id, now);
            }
            Finding::AllDiffer => {
                let miners = miners();
                let verdict = Verdict::AllDiffer {
                    miners: miners.clone(),
                };
                self.tally.judged(&verdict);
                self.events
                    .publish(now, Some(id), Event::Verdict { verdict });
                self.reopen(id, &miners, "all outputs differ", now);
            }
        }
    }

    fn accept(
        &mut self,
        id: TaskId,
        accepted: usize,
        verdict: Verdict,
        paid: Vec<usize>,
        conviction: Option<Conviction>,
        now: Timestamp,
    ) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        let receipt = entry.record.received[accepted].receipt.clone();
        // Its requester may have cancelled while the last output was written: nobody gets it, the work is paid.
        let outcome = match entry.cancelled {
            true => Outcome::Cancelled,
            false => Outcome::Completed {
                receipt: Box::new(receipt),
            },
        };
        let conclusion = Conclusion {
            outcome,
            verdict: Some(verdict),
            paid,
            conviction,
            output: None,
        };
        self.conclude(id, conclusion, now);
    }

    /// An audit's patience or time may be over: an undisputed output is accepted unaudited then, a disputed one never.
    pub(crate) fn audit_due(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get(&id) else {
            return;
        };
        let Some(audit) = &entry.audit else { return };
        let disputed = entry.record.received.len() > 1;
        let impatient = !disputed && !audit.is_worked_on() && now >= audit.patience_ends;
        if !impatient && now < audit.ends {
            return;
        }
        let miners: Vec<_> = entry
            .record
            .received
            .iter()
            .map(|received| received.receipt.value.miner)
            .collect();
        if let Some(lease) = entry.working_lease() {
            self.end_lease(lease, LeaseEnd::Cancelled, now);
        }
        if disputed {
            let mut conclusion = Conclusion::failed(
                ErrorKind::Unverified,
                "two miners gave different outputs and no third decided in time; submit again",
                Fault::Miner,
            );
            conclusion.verdict = Some(Verdict::Undecided { miners });
            self.conclude(id, conclusion, now);
        } else if let Some(&accepted) = miners.first() {
            let suspended = |miner: NodeId| {
                self.registry
                    .miners
                    .get(&miner)
                    .is_some_and(|miner| miner.suspended_by.is_some())
            };
            if suspended(accepted) {
                // Convicted elsewhere meanwhile: its word alone is worth nothing.
                self.reopen(id, &miners, "its miner was suspended", now);
            } else {
                self.accept(id, 0, Verdict::NoAuditor { accepted }, vec![0], None, now);
            }
        }
    }

    /// Drops what was handed in and has other miners do the task.
    fn reopen(&mut self, id: TaskId, miners: &[NodeId], reason: &str, now: Timestamp) {
        let max_attempts = self.settings.max_attempts;
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        entry.barred.extend_from_slice(miners);
        entry.attempts += 1;
        for &miner in miners {
            entry.note_failure(miner, ErrorKind::Unverified, reason, now);
        }
        if entry.attempts >= max_attempts {
            let conclusion = Conclusion::failed(
                ErrorKind::Unverified,
                format!("{max_attempts} attempts gave no output to trust; at last {reason}"),
                Fault::Miner,
            );
            self.conclude(id, conclusion, now);
            return;
        }
        entry.audit = None;
        self.dispatch.set_unaudited(id, false);
        entry.stage = Stage::Reopening;
        entry.writing = true;
        let dropped = entry
            .record_mut()
            .received
            .drain(..)
            .map(|old| old.receipt.value.lease)
            .collect();
        self.writes.push(Write::Reopen {
            record: Arc::clone(&entry.record),
            version: entry.version,
            dropped,
        });
        for miner in miners {
            let event = Event::Requeued {
                miner: *miner,
                reason: reason.to_owned(),
            };
            self.events.publish(now, Some(id), event);
        }
    }

    /// A convicted miner's session ends, its other work goes to others, and it gets no new session.
    fn suspend(&mut self, node: NodeId, task: TaskId, now: Timestamp) {
        if let Some(miner) = self.registry.miners.get_mut(&node) {
            miner.suspended_by = Some(task);
            miner.counts.audits_failed += 1;
        }
        tracing::warn!(miner = %node, %task, "suspended: its output stands alone against two others");
        self.end_session(node);
        self.sync_pools(node, now);
        self.take_leases(node, "the miner was suspended", now);
    }
}
