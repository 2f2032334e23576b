//! A task in memory: its stage, who may not have it, and who watches it.

use std::cmp::Reverse;
use std::sync::Arc;

use cuckoo_core::{ErrorKind, LeaseId, NodeId, Output, SignedReceipt, TaskState, Timestamp};
use tokio::sync::watch;

use crate::audit::{Audit, Seat};
use crate::preview::{Preview, Sketch};
use crate::store::{Content, Failed, StagedOutput, TaskRecord};

/// The most failures a task remembers: a miner without room may give it back again and again.
const MAX_FAILURES: usize = 32;
/// The most miners a task remembers that refused it; those beyond are asked again, as if they had no room.
const MAX_REFUSERS: usize = 256;

#[derive(Debug)]
pub(crate) struct Entry {
    /// As it is or is about to be stored; shared with whoever writes it.
    pub(crate) record: Arc<TaskRecord>,
    pub(crate) version: u64,
    /// Its place in line: kept when it is queued again.
    pub(crate) place: Place,
    state: TaskState,
    /// Only while somebody holds a handle: a million waiting tasks must not cost a channel each.
    watchers: Option<watch::Sender<TaskState>>,
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
    /// Miners that it is too much for: never again. In memory alone, as attempts are.
    pub(crate) refused_by: Vec<NodeId>,
    /// Miners that called its input invalid.
    pub(crate) invalid_by: Vec<NodeId>,
    /// A timer looks whether only miners that failed it are left.
    pub(crate) second_chance: bool,
    pub(crate) audit: Option<Box<Audit>>,
    /// What was streamed of its output, or is waited for.
    pub(crate) preview: Option<Box<Preview>>,
    /// What it looks like in the making, or who waits to see that.
    pub(crate) sketch: Option<Sketch>,
    /// What came back is a picture that may be shown.
    pub(crate) picture: bool,
    /// Every lease it ever had.
    pub(crate) leases: Vec<LeaseId>,
    /// A small output that was accepted: whoever waits for it asks at once.
    pub(crate) result: Option<Box<Recent>>,
}

/// Where a task waits: those of higher priority first, then in order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    priority: Reverse<i8>,
    number: u64,
}

impl Place {
    pub(crate) fn new(priority: i8, number: u64) -> Self {
        Self {
            priority: Reverse(priority),
            number,
        }
    }
}

/// A result in memory.
#[derive(Debug, Clone)]
pub(crate) struct Recent {
    pub(crate) receipt: SignedReceipt,
    pub(crate) output: Output,
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To be written for the first time.
    Admitting,
    /// A miner.
    Queued,
    /// Time to pass after a failure.
    Resting,
    /// The miner that has this lease.
    Leased(LeaseId),
    /// An auditor.
    Auditing,
    /// To be written as new again.
    Reopening,
    /// Its end to be written, together with the output of this lease.
    Accepting(LeaseId),
    /// Its end to be written.
    Concluding,
    /// Nothing.
    Done,
}

impl Stage {
    /// Whether it can still be decided how the task ends.
    pub(crate) fn is_open(self) -> bool {
        matches!(
            self,
            Self::Queued | Self::Resting | Self::Leased(_) | Self::Auditing
        )
    }

    /// Whether the end is decided, written or not.
    pub(crate) fn is_decided(self) -> bool {
        matches!(self, Self::Accepting(_) | Self::Concluding | Self::Done)
    }
}

impl Entry {
    pub(crate) fn new(record: Arc<TaskRecord>, version: u64, place: Place, stage: Stage) -> Self {
        Self {
            record,
            version,
            place,
            state: TaskState::Queued,
            watchers: None,
            stage,
            writing: stage == Stage::Admitting,
            cancelled: false,
            attempts: 0,
            excluded: Vec::new(),
            barred: Vec::new(),
            refused_by: Vec::new(),
            invalid_by: Vec::new(),
            second_chance: false,
            audit: None,
            preview: None,
            sketch: None,
            picture: false,
            leases: Vec::new(),
            result: None,
        }
    }

    /// The record, to be changed: as long as somebody writes it, a copy of its own.
    pub(crate) fn record_mut(&mut self) -> &mut TaskRecord {
        Arc::make_mut(&mut self.record)
    }

    pub(crate) fn state(&self) -> &TaskState {
        &self.state
    }

    pub(crate) fn watch(&mut self) -> watch::Receiver<TaskState> {
        let watchers = &mut self.watchers;
        watchers
            .get_or_insert_with(|| watch::Sender::new(self.state.clone()))
            .subscribe()
    }

    /// A watcher is about to go; with the last one, the channel does.
    pub(crate) fn unwatch(&mut self) {
        let last = |watchers: &watch::Sender<_>| watchers.receiver_count() <= 1;
        if self.watchers.as_ref().is_some_and(last) {
            self.watchers = None;
        }
    }

    /// The lease that a miner works under now, for the task itself or its audit.
    pub(crate) fn working_lease(&self) -> Option<LeaseId> {
        if let Stage::Leased(lease) = self.stage {
            return Some(lease);
        }
        match (self.stage, self.audit.as_ref()?.seat) {
            (Stage::Auditing, Seat::Working(lease)) => Some(lease),
            _ => None,
        }
    }

    /// Who must not get it.
    pub(crate) fn unwanted(&self) -> Vec<NodeId> {
        let unwanted = self.excluded.iter().chain(&self.barred);
        unwanted.chain(&self.refused_by).copied().collect()
    }

    /// Notes that a miner refuses it; gives whether that is remembered.
    pub(crate) fn refuse(&mut self, miner: NodeId) -> bool {
        if self.refused_by.contains(&miner) {
            return true;
        }
        let room = self.refused_by.len() < MAX_REFUSERS;
        if room {
            self.refused_by.push(miner);
        }
        room
    }

    /// The latest failure that was a refusal.
    pub(crate) fn last_refusal(&self) -> Option<&Failed> {
        let mut failures = self.record.failures.iter().rev();
        failures.find(|failed| self.refused_by.contains(&failed.miner))
    }

    /// The latest failure that called the input invalid.
    pub(crate) fn last_invalid(&self) -> Option<&Failed> {
        let mut failures = self.record.failures.iter().rev();
        failures.find(|failed| failed.kind == ErrorKind::Invalid)
    }

    pub(crate) fn set_state(&mut self, state: TaskState) {
        if self.state == state {
            return;
        }
        if let Some(watchers) = &self.watchers
            && watchers.send(state.clone()).is_err()
        {
            self.watchers = None;
        }
        self.state = state;
    }

    /// Keeps an output that is about to be accepted in memory, if it is small.
    pub(crate) fn remember(&mut self, receipt: &SignedReceipt, staged: &StagedOutput) {
        if let Content::Inline(bytes) = &staged.content {
            self.result = Some(Box::new(Recent {
                receipt: receipt.clone(),
                output: Output::new(staged.media_type.clone(), bytes.clone()),
            }));
        }
    }

    /// Notes that a lease ended without an output; the latest are kept.
    pub(crate) fn note_failure(
        &mut self,
        miner: NodeId,
        kind: ErrorKind,
        reason: &str,
        at: Timestamp,
    ) {
        let failures = &mut self.record_mut().failures;
        if failures.len() >= MAX_FAILURES {
            failures.remove(0);
        }
        failures.push(Failed {
            miner,
            kind,
            reason: reason.to_owned(),
            at,
        });
    }

    /// Marks the end and lets go of what only an open task needs; the store has the rest.
    pub(crate) fn close(&mut self) {
        self.stage = Stage::Done;
        self.audit = None;
        // Which tells its watchers to look at the result.
        self.preview = None;
        self.sketch = None;
        self.record = Arc::new(self.record.without_payload());
        self.watchers = None;
    }
}
