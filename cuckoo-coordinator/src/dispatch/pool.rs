//! The tasks of one model that wait, and the miners that can run them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use cuckoo_core::{B256, NodeId, Scheduler, StakeOrder, TaskId, Timestamp, Wei};

use crate::market::Place;

/// How far down the queue a hint looks for a task that a miner may have: heartbeats come often, and a queue may be long.
const HINT_PLACES: usize = 64;

/// A queue, by priority and then in order of submission, beside a scheduler by stake. A task is never left waiting while a miner that could
/// take it has a free slot: [`push`](Self::push) asks for the task that came, [`next_for`](Self::next_for) for the miner
/// that became free.
#[derive(Debug)]
pub(crate) struct Pool {
    scheduler: Box<dyn Scheduler>,
    queue: BTreeMap<Place, Waiting>,
    /// Each miner's longest input, in bytes.
    limits: HashMap<NodeId, u64>,
    /// The same by length, to find those that a long input is too much for.
    by_limit: BTreeSet<(u64, NodeId)>,
    /// Miners that wait for work.
    idle: BTreeSet<NodeId>,
    /// How long a task takes from its lease to its receipt, in milliseconds, the latest counting most.
    work_millis: Option<f64>,
    /// How many are worked on.
    working: u64,
    /// Miners that have the model in memory, as their last poll or lease says.
    warm: BTreeSet<NodeId>,
    /// Miners that were told to load it, since when, and have not polled since.
    told: BTreeMap<NodeId, Timestamp>,
    /// Miners that were told for long and have not polled since: they cannot load it, or would not run it soon.
    deaf: BTreeSet<NodeId>,
}

/// How a task would fare.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Outlook {
    /// Miners that take inputs of its length.
    pub(crate) miners: u64,
    /// Tasks that go before it.
    pub(crate) ahead: u64,
    /// Whether a miner waits for work.
    idle: bool,
    /// How long tasks take.
    work_millis: Option<f64>,
    /// How many are worked on.
    working: u64,
}

impl Outlook {
    /// When a miner should begin with it, from now, in milliseconds.
    pub(crate) fn starts_in_millis(&self) -> Option<u64> {
        if self.idle && self.ahead == 0 {
            return Some(0);
        }
        let rounds = (self.ahead + 1) as f64 / self.working.max(1) as f64;
        // The cast saturates, and a mean of durations is not negative.
        Some((rounds * self.work_millis?) as u64)
    }
}

/// A task that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) task: TaskId,
    pub(crate) input_bytes: u64,
    /// Miners that must not get it.
    pub(crate) excluded: Box<[NodeId]>,
}

impl Pool {
    pub(crate) fn new(seed: B256) -> Self {
        Self {
            scheduler: Box::new(StakeOrder::new(seed)),
            queue: BTreeMap::new(),
            limits: HashMap::new(),
            by_limit: BTreeSet::new(),
            idle: BTreeSet::new(),
            work_millis: None,
            working: 0,
            warm: BTreeSet::new(),
            told: BTreeMap::new(),
            deaf: BTreeSet::new(),
        }
    }

    /// Puts a task in line without asking for a miner.
    pub(crate) fn wait(&mut self, place: Place, waiting: Waiting) {
        self.queue.insert(place, waiting);
    }

    /// A miner got a task.
    pub(crate) fn began(&mut self) {
        self.working += 1;
    }

    /// A miner is done with a task, after so long when it handed something in.
    pub(crate) fn ended(&mut self, after: Option<Duration>) {
        /// How much the latest counts.
        const WEIGHT: f64 = 0.1;
        self.working = self.working.saturating_sub(1);
        if let Some(after) = after {
            let millis = after.as_secs_f64() * 1_000.0;
            let mean = self.work_millis.unwrap_or(millis);
            self.work_millis = Some(mean + WEIGHT * (millis - mean));
        }
    }

    /// How a task would fare.
    pub(crate) fn outlook(&self, input_bytes: u64, priority: i8) -> Outlook {
        let behind = Place::new(priority, u64::MAX);
        Outlook {
            miners: self.able(input_bytes).count() as u64,
            ahead: self.queue.range(..behind).count() as u64,
            idle: !self.idle.is_empty(),
            work_millis: self.work_millis,
            working: self.working,
        }
    }

    /// How many tasks wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The task that is next.
    pub(crate) fn first(&self) -> Option<TaskId> {
        let (_, waiting) = self.queue.first_key_value()?;
        Some(waiting.task)
    }

    pub(crate) fn miners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.limits.keys().copied()
    }

    /// The miners that take an input of this length.
    pub(crate) fn able(&self, input_bytes: u64) -> impl Iterator<Item = NodeId> + '_ {
        let able = self.by_limit.range((input_bytes, NodeId(0))..);
        able.map(|(_, miner)| *miner)
    }

    /// Notes whether a miner has the model in memory.
    pub(crate) fn set_warm(&mut self, miner: NodeId, warm: bool) {
        self.told.remove(&miner);
        self.deaf.remove(&miner);
        if warm {
            self.warm.insert(miner);
        } else {
            self.warm.remove(&miner);
        }
    }

    /// Whether a miner without the model in memory should load it: how many tasks wait beyond those that others will soon
    /// begin with, and the place of the first one that it may have, if it is one of the first in line. Each run under way
    /// stands for one task, and so does each miner that has the model or was told to load it; so a few tasks are not loaded for
    /// everywhere. One that was told for `patience` and does not have it stands for none any more, and is told no more.
    pub(crate) fn wanted_of(
        &mut self,
        miner: NodeId,
        now: Timestamp,
        patience: Duration,
    ) -> Option<(usize, Place)> {
        let since = self.told.remove(&miner).unwrap_or(now);
        if self.queue.is_empty() || self.warm.contains(&miner) || self.deaf.contains(&miner) {
            return None;
        }
        if now.since(since) >= patience {
            self.deaf.insert(miner);
            return None;
        }
        let others = self.warm.len() + self.told.len();
        let soon = usize::try_from(self.working).map_or(usize::MAX, |working| working.max(others));
        let need = self
            .queue
            .len()
            .checked_sub(soon)
            .filter(|need| *need > 0)?;
        let first = self.first_for(miner, HINT_PLACES)?;
        self.told.insert(miner, since);
        Some((need, first))
    }

    pub(crate) fn join(&mut self, miner: NodeId, weight: Wei, max_input_bytes: u64) {
        if let Some(limit) = self.limits.insert(miner, max_input_bytes) {
            self.by_limit.remove(&(limit, miner));
        }
        self.by_limit.insert((max_input_bytes, miner));
        self.scheduler.join(miner, weight);
    }

    pub(crate) fn leave(&mut self, miner: NodeId) {
        if let Some(limit) = self.limits.remove(&miner) {
            self.by_limit.remove(&(limit, miner));
        }
        self.idle.remove(&miner);
        self.warm.remove(&miner);
        self.told.remove(&miner);
        self.deaf.remove(&miner);
        self.scheduler.leave(miner);
    }

    pub(crate) fn set_free(&mut self, miner: NodeId, free_slots: u32) {
        if free_slots > 0 {
            self.idle.insert(miner);
        } else {
            self.idle.remove(&miner);
        }
        self.scheduler.set_free(miner, free_slots);
    }

    /// Gives a charge back for work that a miner was given and could not be blamed for not doing.
    pub(crate) fn refund(&mut self, miner: NodeId) {
        self.scheduler.refund(miner);
    }

    /// Puts a task in line at `place`; gives the miner that is to have it at once, if one can.
    pub(crate) fn push(&mut self, place: Place, waiting: Waiting) -> Option<NodeId> {
        let chosen = self.choose(&waiting);
        if chosen.is_none() {
            self.queue.insert(place, waiting);
        }
        chosen
    }

    /// Takes a task out of line.
    pub(crate) fn remove(&mut self, place: Place) {
        self.queue.remove(&place);
    }

    /// The place in line of the first task that `miner` may have.
    pub(crate) fn next_for(&self, miner: NodeId) -> Option<Place> {
        self.first_for(miner, usize::MAX)
    }

    /// The same among the first `places` in line.
    fn first_for(&self, miner: NodeId, places: usize) -> Option<Place> {
        let limit = *self.limits.get(&miner)?;
        let fits =
            |waiting: &Waiting| waiting.input_bytes <= limit && !waiting.excluded.contains(&miner);
        self.queue
            .iter()
            .take(places)
            .find(|(_, waiting)| fits(waiting))
            .map(|(place, _)| *place)
    }

    /// Asks the scheduler for the task at `place`, and takes it out of line when a miner can have it.
    pub(crate) fn assign(&mut self, place: Place) -> Option<(TaskId, NodeId)> {
        let waiting = self.queue.get(&place)?.clone();
        let miner = self.choose(&waiting)?;
        self.queue.remove(&place);
        Some((waiting.task, miner))
    }

    fn choose(&mut self, waiting: &Waiting) -> Option<NodeId> {
        let too_long = self.by_limit.range(..(waiting.input_bytes, NodeId(0)));
        let mut excluded = waiting.excluded.to_vec();
        excluded.extend(too_long.map(|(_, miner)| *miner));
        self.scheduler.assign(waiting.task, &excluded)
    }
}

#[cfg(test)]
mod tests;
