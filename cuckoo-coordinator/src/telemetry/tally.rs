//! What happened since the start, counted by the transitions themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use cuckoo_core::{Fault, ModelId, Timestamp};

use super::histogram::{CHANGES, Histogram, SECONDS};
use crate::Verdict;
use crate::dispatch::Loss;

/// Counts since the start.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// By model; exactly those that are served.
    pub(crate) models: BTreeMap<ModelId, ModelTally>,
    pub(crate) completed: u64,
    pub(crate) cancelled: u64,
    /// By whose fault it was.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    /// By what was found.
    pub(crate) verdicts: BTreeMap<&'static str, u64>,
    pub(crate) commit_seconds: Histogram,
    pub(crate) commit_changes: Histogram,
    pub(crate) commits_failed: u64,
    /// When the latest commit failed, if it did.
    pub(crate) store_failed_at: Option<Timestamp>,
}

/// Counts of one model's tasks.
#[derive(Debug, Clone)]
pub(crate) struct ModelTally {
    pub(crate) accepted: u64,
    /// From submission to the first lease.
    pub(crate) wait: Histogram,
    /// From a lease to its receipt.
    pub(crate) execution: Histogram,
    /// From submission to the output.
    pub(crate) duration: Histogram,
    /// Leases that ended without an output, by what they came to.
    pub(crate) lost: BTreeMap<&'static str, u64>,
}

/// What one commit cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitCost {
    pub(crate) took: Duration,
    pub(crate) changes: usize,
    pub(crate) failed: bool,
}

/// Everybody who may be at fault, so that each has a number from the start.
const FAULTS: [Fault; 5] = [
    Fault::Requester,
    Fault::Coordinator,
    Fault::Miner,
    Fault::Chain,
    Fault::Nobody,
];

impl ModelTally {
    fn new() -> Self {
        Self {
            accepted: 0,
            wait: Histogram::new(SECONDS),
            execution: Histogram::new(SECONDS),
            duration: Histogram::new(SECONDS),
            lost: Loss::ALL.map(|loss| (loss.name(), 0)).into(),
        }
    }
}

impl Tally {
    pub(crate) fn new<'a>(models: impl Iterator<Item = &'a ModelId>) -> Self {
        let verdicts = [
            "not_drawn",
            "no_auditor",
            "honest",
            "convicted",
            "all_differ",
            "undecided",
        ];
        Self {
            models: models
                .map(|model| (model.clone(), ModelTally::new()))
                .collect(),
            completed: 0,
            cancelled: 0,
            failed: FAULTS.map(|fault| (fault_name(fault), 0)).into(),
            verdicts: verdicts.map(|verdict| (verdict, 0)).into(),
            commit_seconds: Histogram::new(SECONDS),
            commit_changes: Histogram::new(CHANGES),
            commits_failed: 0,
            store_failed_at: None,
        }
    }

    pub(crate) fn accepted(&mut self, model: &ModelId) {
        if let Some(tally) = self.models.get_mut(model) {
            tally.accepted += 1;
        }
    }

    pub(crate) fn began(&mut self, model: &ModelId, after: Duration) {
        if let Some(tally) = self.models.get_mut(model) {
            tally.wait.note_time(after);
        }
    }

    pub(crate) fn worked(&mut self, model: &ModelId, for_so_long: Duration) {
        if let Some(tally) = self.models.get_mut(model) {
            tally.execution.note_time(for_so_long);
        }
    }

    pub(crate) fn completed(&mut self, model: &ModelId, after: Duration) {
        self.completed += 1;
        if let Some(tally) = self.models.get_mut(model) {
            tally.duration.note_time(after);
        }
    }

    pub(crate) fn lost(&mut self, model: &ModelId, loss: Loss) {
        if let Some(tally) = self.models.get_mut(model) {
            *tally.lost.entry(loss.name()).or_default() += 1;
        }
    }

    pub(crate) fn failed_by(&mut self, fault: Fault) {
        *self.failed.entry(fault_name(fault)).or_default() += 1;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    pub(crate) fn judged(&mut self, verdict: &Verdict) {
        *self.verdicts.entry(verdict_name(verdict)).or_default() += 1;
    }

    pub(crate) fn committed(&mut self, costs: &[CommitCost], now: Timestamp) {
        for cost in costs {
            self.commit_seconds.note_time(cost.took);
            self.commit_changes.note(cost.changes as f64);
            self.commits_failed += u64::from(cost.failed);
            self.store_failed_at = cost.failed.then_some(now);
        }
    }
}

pub(super) fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::NotDrawn { .. } => "not_drawn",
        Verdict::NoAuditor { .. } => "no_auditor",
        Verdict::Honest { .. } => "honest",
        Verdict::Convicted { .. } => "convicted",
        Verdict::AllDiffer { .. } => "all_differ",
        Verdict::Undecided { .. } => "undecided",
    }
}

pub(super) fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::Requester => "requester",
        Fault::Coordinator => "coordinator",
        Fault::Miner => "miner",
        Fault::Chain => "chain",
        Fault::Nobody => "nobody",
    }
}
