//! A task in memory: its stage, who may not have it, and who watches it.

use cuckoo_core::{ErrorKind, LeaseId, NodeId, TaskState};
use tokio::sync::watch;

use crate::audit::{Audit, Seat};
use crate::preview::Preview;
use crate::store::TaskRecord;

#[derive(Debug)]
pub(crate) struct Entry {
    /// As it is or is about to be stored.
    pub(crate) record: TaskRecord,
    pub(crate) version: u64,
    /// Its place in line: kept when it is queued again.
    pub(crate) order: u64,
    pub(crate) state: watch::Sender<TaskState>,
    pub(crate) stage: Stage,
    /// A write is under way: decide nothing until it is done.
    pub(crate) writing: bool,
    /// Its requester wants it no more.
    pub(crate) cancelled: bool,
    /// How many miners failed it.
    pub(crate) attempts: u32,
    /// Miners that failed it or had no room.
    pub(crate) excluded: Vec<NodeId>,
    /// Miners whose outputs all differed: never again.
    pub(crate) barred: Vec<NodeId>,
    /// Miners that called its input invalid.
    pub(crate) invalid_by: Vec<NodeId>,
    pub(crate) last_failure: Option<(ErrorKind, String)>,
    /// A timer looks whether only miners that failed it are left.
    pub(crate) second_chance: bool,
    pub(crate) audit: Option<Audit>,
    /// What was streamed of its output, or is waited for.
    pub(crate) preview: Option<Preview>,
    /// Every lease it ever had.
    pub(crate) leases: Vec<LeaseId>,
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To be written for the first time.
    Admitting,
    /// A miner.
    Queued,
    /// The miner that has this lease.
    Leased(LeaseId),
    /// An auditor.
    Auditing,
    /// To be written as new again.
    Reopening,
    /// Its end to be written.
    Concluding,
    /// Nothing.
    Done,
}

impl Stage {
    /// Whether it can still be decided how the task ends.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Leased(_) | Self::Auditing)
    }
}

impl Entry {
    pub(crate) fn new(record: TaskRecord, version: u64, order: u64, stage: Stage) -> Self {
        Self {
            record,
            version,
            order,
            state: watch::Sender::new(TaskState::Queued),
            stage,
            writing: stage == Stage::Admitting,
            cancelled: false,
            attempts: 0,
            excluded: Vec::new(),
            barred: Vec::new(),
            invalid_by: Vec::new(),
            last_failure: None,
            second_chance: false,
            audit: None,
            preview: None,
            leases: Vec::new(),
        }
    }

    /// The lease that a miner works under now, for the task itself or its audit.
    pub(crate) fn working_lease(&self) -> Option<LeaseId> {
        match (self.stage, &self.audit) {
            (Stage::Leased(lease), _) => Some(lease),
            (
                Stage::Auditing,
                Some(Audit {
                    seat: Seat::Working(lease),
                    ..
                }),
            ) => Some(*lease),
            _ => None,
        }
    }

    /// Who must not get it.
    pub(crate) fn unwanted(&self) -> Vec<NodeId> {
        self.excluded.iter().chain(&self.barred).copied().collect()
    }

    pub(crate) fn set_state(&self, state: TaskState) {
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }

    /// Marks the end and lets go of what only an open task needs; the store has the rest.
    pub(crate) fn close(&mut self) {
        self.stage = Stage::Done;
        self.audit = None;
        // Which tells its watchers to look at the result.
        self.preview = None;
        self.record.task.input = String::new();
        self.record.received = Vec::new();
        self.record.outcome = None;
    }
}
