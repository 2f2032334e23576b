//! Random choice by stake, drawn from a public or secret beacon.

use std::collections::BTreeMap;

use alloy::primitives::{B256, U256, keccak256};

use crate::{NodeId, Scheduler, TaskId, Wei};

/// Draws miners at random, each with a chance in proportion to its stake.
///
/// Nobody who lacks the beacon can tell who will be drawn, and everybody who has it can check who was. The rule:
/// list the candidates that are not excluded by ascending node number; `t = keccak256(beacon) mod T`, where `T` is the
/// sum of their stakes in wei; the one drawn is the first at which the running sum of stakes exceeds `t`.
///
/// Candidates are active miners with a free slot. As a [`Scheduler`] it draws with the beacon
/// `keccak256(seed ‖ task)`; [`draw`](Self::draw) takes the beacon from the caller and takes no slot. Use a beacon that is
/// fixed only after what it decides about: an audit's must be unknown until the receipt is signed. Unlike with
/// [`StakeOrder`](crate::StakeOrder), shares approach those of stake only in the long run, with an error that grows
/// as the square root of the number of draws. A draw takes O(log n) plus O(k log n) for k excluded miners; the first
/// after a join or leave O(n).
#[derive(Debug, Clone)]
pub struct StakeLottery {
    seed: B256,
    miners: BTreeMap<NodeId, Candidate>,
    tickets: Tickets,
    /// Whether `tickets` lists exactly the miners that are active.
    listed: bool,
}

#[derive(Debug, Clone)]
struct Candidate {
    weight: U256,
    free_slots: u32,
}

impl Candidate {
    fn tickets(&self) -> U256 {
        if self.free_slots > 0 {
            self.weight
        } else {
            U256::ZERO
        }
    }
}

impl StakeLottery {
    /// A lottery without miners. `seed` makes its choices as a [`Scheduler`] unforeseeable for whoever does not know
    /// it; [`draw`](Self::draw) does not use it.
    pub fn new(seed: B256) -> Self {
        Self {
            seed,
            miners: BTreeMap::new(),
            tickets: Tickets::default(),
            listed: true,
        }
    }

    /// Draws one of the active miners that have a free slot and are not in `excluded`; `None` when there is none.
    ///
    /// Derive a beacon of its own for each draw, for instance by hashing the draw's number to it.
    pub fn draw(&mut self, beacon: B256, excluded: &[NodeId]) -> Option<NodeId> {
        if !self.listed {
            self.tickets = Tickets::new(
                self.miners
                    .iter()
                    .map(|(&miner, candidate)| (miner, candidate.tickets())),
            );
            self.listed = true;
        }
        self.tickets.draw(beacon, excluded)
    }
}

impl Scheduler for StakeLottery {
    fn join(&mut self, miner: NodeId, weight: Wei) {
        if weight.is_zero() {
            return self.leave(miner);
        }
        // Sums of stakes must not wrap; no real stake comes near this.
        let weight = weight.min(U256::from(u128::MAX));
        let free_slots = self.miners.get(&miner).map_or(0, |known| known.free_slots);
        self.miners.insert(miner, Candidate { weight, free_slots });
        self.listed = false;
    }

    fn leave(&mut self, miner: NodeId) {
        if self.miners.remove(&miner).is_some() {
            self.listed = false;
        }
    }

    fn set_free(&mut self, miner: NodeId, free_slots: u32) {
        if let Some(candidate) = self.miners.get_mut(&miner) {
            candidate.free_slots = free_slots;
            if self.listed {
                self.tickets.set(miner, candidate.tickets());
            }
        }
    }

    fn assign(&mut self, task: TaskId, excluded: &[NodeId]) -> Option<NodeId> {
        let beacon = keccak256([self.seed.0, task.word().0].concat());
        let chosen = self.draw(beacon, excluded)?;
        let free_slots = self.miners.get(&chosen)?.free_slots.saturating_sub(1);
        self.set_free(chosen, free_slots);
        Some(chosen)
    }

    /// Has no effect: draws are independent, so nothing is charged.
    fn refund(&mut self, _miner: NodeId) {}
}

/// Stakes in the order of node numbers, with prefix sums in a binary indexed tree (P. Fenwick, "A new data structure
/// for cumulative frequency tables", 1994).
#[derive(Debug, Clone, Default)]
struct Tickets {
    miners: Vec<NodeId>,
    stakes: Vec<U256>,
    /// At `i`, counted from 1: the sum of the `i & -i` stakes that end with the `i`-th.
    tree: Vec<U256>,
}

impl Tickets {
    /// Lists `stakes`, which come in ascending order of node numbers.
    fn new(stakes: impl Iterator<Item = (NodeId, U256)>) -> Self {
        let (miners, stakes): (Vec<_>, Vec<_>) = stakes.unzip();
        let mut tree = vec![U256::ZERO; stakes.len() + 1];
        for index in 1..tree.len() {
            tree[index] += stakes[index - 1];
            let parent = index + (index & index.wrapping_neg());
            if parent < tree.len() {
                let sum = tree[index];
                tree[parent] += sum;
            }
        }
        Self {
            miners,
            stakes,
            tree,
        }
    }

    fn set(&mut self, miner: NodeId, stake: U256) {
        let Ok(place) = self.miners.binary_search(&miner) else {
            return;
        };
        let old = std::mem::replace(&mut self.stakes[place], stake);
        let mut index = place + 1;
        while index < self.tree.len() {
            self.tree[index] = self.tree[index] - old + stake;
            index += index & index.wrapping_neg();
        }
    }

    /// The sum of the first `count` stakes.
    fn sum(&self, count: usize) -> U256 {
        let mut index = count;
        let mut sum = U256::ZERO;
        while index > 0 {
            sum += self.tree[index];
            index &= index - 1;
        }
        sum
    }

    fn draw(&self, beacon: B256, excluded: &[NodeId]) -> Option<NodeId> {
        let mut places: Vec<usize> = excluded
            .iter()
            .filter_map(|miner| self.miners.binary_search(miner).ok())
            .collect();
        places.sort_unstable();
        places.dedup();
        let barred: U256 = places.iter().map(|&place| self.stakes[place]).sum();
        let total = self.sum(self.miners.len()) - barred;
        if total.is_zero() {
            return None;
        }
        let mut ticket = U256::from_be_bytes(keccak256(beacon).0) % total;
        // Back from the list without the excluded ones to the full list.
        for place in places {
            if self.sum(place) <= ticket {
                ticket += self.stakes[place];
            }
        }
        self.miners.get(self.find(ticket)).copied()
    }

    /// The place of the first miner at which the running sum exceeds `ticket`.
    fn find(&self, mut ticket: U256) -> usize {
        let mut place = 0;
        let mut step = self.tree.len().next_power_of_two();
        while step > 0 {
            let next = place + step;
            if next < self.tree.len() && self.tree[next] <= ticket {
                ticket -= self.tree[next];
                place = next;
            }
            step /= 2;
        }
        place
    }
}

#[cfg(test)]
mod tests;
