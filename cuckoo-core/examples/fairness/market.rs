//! A market in simulated time: tasks arrive, miners work, a scheduler chooses.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use cuckoo_core::{B256, NodeId, Scheduler, TaskId, U256, Wei};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What happens in the simulation, all times in microseconds.
pub(crate) struct Market {
    /// Each miner's stake; miner `i` is node `i + 1`.
    pub(crate) stakes: Vec<Wei>,
    /// Each miner's slots.
    pub(crate) slots: u32,
    /// Mean time of a task on one slot; actual times are uniform between half and one and a half of it.
    pub(crate) task_time: u64,
    /// Mean time between tasks.
    pub(crate) interval: u64,
    /// Whether tasks come at random (a Poisson process) or evenly.
    pub(crate) poisson: bool,
    /// Number of tasks.
    pub(crate) tasks: u64,
    /// Seed of arrivals and task times.
    pub(crate) seed: u64,
}

/// What came of it.
pub(crate) struct Outcome {
    /// Tasks given to each miner.
    pub(crate) given: Vec<u64>,
    /// Tasks each miner could have done in the time between the first and the last arrival.
    pub(crate) capacities: Vec<f64>,
}

impl Outcome {
    /// Each miner's share of the tasks.
    pub(crate) fn shares(&self) -> Vec<f64> {
        let total: u64 = self.given.iter().sum();
        self.given
            .iter()
            .map(|&count| count as f64 / total as f64)
            .collect()
    }
}

impl Market {
    /// The fraction of all slots that the tasks keep busy.
    pub(crate) fn load(&self) -> f64 {
        self.task_time as f64
            / (self.interval as f64 * f64::from(self.slots) * self.stakes.len() as f64)
    }

    /// Runs until every task was given to a miner. All miners are active throughout, busy or not.
    pub(crate) fn run(&self, scheduler: &mut dyn Scheduler) -> Outcome {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        for (index, &stake) in self.stakes.iter().enumerate() {
            scheduler.join(node(index), stake);
            scheduler.set_free(node(index), self.slots);
        }
        let mut free = vec![self.slots; self.stakes.len()];
        let mut given = vec![0; self.stakes.len()];
        let mut working: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let mut queue: VecDeque<TaskId> = VecDeque::new();
        let (mut now, mut next_arrival, mut arrived) = (0, 0, 0);
        while arrived < self.tasks || !queue.is_empty() {
            let done = working.peek().map_or(u64::MAX, |&Reverse((time, _))| time);
            if arrived < self.tasks && next_arrival <= done {
                now = next_arrival;
                arrived += 1;
                queue.push_back(task(arrived));
                next_arrival += if self.poisson {
                    (-(1.0 - rng.random::<f64>()).ln() * self.interval as f64) as u64
                } else {
                    self.interval
                };
            } else {
                assert!(!working.is_empty(), "tasks wait while nobody works");
                let Some(Reverse((time, miner))) = working.pop() else {
                    break;
                };
                now = time;
                free[miner] += 1;
                scheduler.set_free(node(miner), free[miner]);
            }
            while let Some(&waiting) = queue.front() {
                let Some(chosen) = scheduler.assign(waiting, &[]) else {
                    assert!(
                        free.iter().all(|&slots| slots == 0),
                        "a task waits while a miner is free"
                    );
                    break;
                };
                queue.pop_front();
                let miner = chosen.0 as usize - 1;
                assert!(free[miner] > 0, "{chosen} has no free slot");
                free[miner] -= 1;
                given[miner] += 1;
                let time = rng.random_range(self.task_time / 2..=self.task_time * 3 / 2);
                working.push(Reverse((now + time, miner)));
            }
        }
        let capacity = now as f64 / self.task_time as f64 * f64::from(self.slots);
        Outcome {
            given,
            capacities: vec![capacity; self.stakes.len()],
        }
    }
}

/// The node of the miner at `index`.
pub(crate) fn node(index: usize) -> NodeId {
    NodeId(index as u64 + 1)
}

/// The `number`-th task.
pub(crate) fn task(number: u64) -> TaskId {
    TaskId::from(B256::from(U256::from(number)))
}

/// Stakes with the Pareto distribution of index 1.16, of which a fifth of the holders have four fifths; the least
/// is 20,000 CAI. Sorted, greatest first.
pub(crate) fn pareto_stakes(count: usize, seed: u64) -> Vec<Wei> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut stakes: Vec<Wei> = (0..count)
        .map(|_| U256::from(20_000e18 * draw(&mut rng).powf(-1.0 / 1.16)))
        .collect();
    stakes.sort_unstable_by(|a, b| b.cmp(a));
    stakes
}

/// Uniform in (0, 1].
fn draw(rng: &mut impl Rng) -> f64 {
    1.0 - rng.random::<f64>()
}
