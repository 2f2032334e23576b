//! The free miners, in the order in which they are chosen.

use std::collections::BTreeSet;

use crate::NodeId;

use super::virtual_time::TASK;

/// A free miner's next task. Ordered by its first number, then the tie break, then the miner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    miner: NodeId,
    start: u128,
    deadline: u128,
    tie: u64,
}

type Key = (u128, u64, NodeId, u128);

impl Entry {
    pub(super) fn new(miner: NodeId, weight: u128, start: u128, tie: u64) -> Self {
        Self {
            miner,
            start,
            deadline: start + TASK / weight,
            tie,
        }
    }

    pub(super) fn miner(&self) -> NodeId {
        self.miner
    }

    /// The virtual time at which the task may be given without running ahead.
    pub(super) fn start(&self) -> u128 {
        self.start
    }

    fn by_start(&self) -> Key {
        (self.start, self.tie, self.miner, self.deadline)
    }

    fn by_deadline(&self) -> Key {
        (self.deadline, self.tie, self.miner, self.start)
    }
}

/// Entries whose start has come, by deadline, and the others, by start.
///
/// Virtual time never goes back, so an entry moves from the second set to the first at most once.
#[derive(Debug, Clone, Default)]
pub(super) struct Contest {
    started: BTreeSet<Key>,
    waiting: BTreeSet<Key>,
}

impl Contest {
    pub(super) fn insert(&mut self, entry: Entry, now: u128) {
        if entry.start <= now {
            self.started.insert(entry.by_deadline());
        } else {
            self.waiting.insert(entry.by_start());
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        if !self.started.remove(&entry.by_deadline()) {
            self.waiting.remove(&entry.by_start());
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.started.len() + self.waiting.len()
    }

    /// The entry to choose at `now`: the earliest deadline among those that have started, else the earliest start.
    pub(super) fn first(&mut self, now: u128, excluded: &[NodeId]) -> Option<Entry> {
        while let Some(&key) = self.waiting.first()
            && key.0 <= now
        {
            self.waiting.pop_first();
            let (start, tie, miner, deadline) = key;
            self.started.insert((deadline, tie, miner, start));
        }
        let mut excluded = excluded.to_vec();
        excluded.sort_unstable();
        let admitted = |key: &&Key| excluded.binary_search(&key.2).is_err();
        let entry = |deadline, tie, miner, start| Entry {
            miner,
            start,
            deadline,
            tie,
        };
        if let Some(&(deadline, tie, miner, start)) = self.started.iter().find(admitted) {
            return Some(entry(deadline, tie, miner, start));
        }
        let &(start, tie, miner, deadline) = self.waiting.iter().find(admitted)?;
        Some(entry(deadline, tie, miner, start))
    }
}
