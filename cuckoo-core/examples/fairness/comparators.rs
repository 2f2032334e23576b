//! Schedulers to compare with, as plain as their literature has them.

use std::collections::{BTreeMap, BTreeSet};

use cuckoo_core::{NodeId, Scheduler, TaskId, Wei};

/// Stride scheduling (Waldspurger and Weihl, 1995): the free miner with the least pass, which then grows by the
/// inverse of its stake. A miner that was busy resumes at its own pass.
#[derive(Debug, Default)]
pub(crate) struct Stride {
    miners: BTreeMap<NodeId, Strider>,
    free: BTreeSet<(u128, NodeId)>,
}

#[derive(Debug, Default)]
struct Strider {
    stride: u128,
    pass: u128,
    free_slots: u32,
}

impl Scheduler for Stride {
    fn join(&mut self, miner: NodeId, weight: Wei) {
        // Stakes here are above 2^74 wei and below 2^100.
        let stride = (1 << 110) / weight.saturating_to::<u128>();
        self.miners.insert(
            miner,
            Strider {
                stride,
                ..Strider::default()
            },
        );
    }

    fn leave(&mut self, miner: NodeId) {
        self.set_free(miner, 0);
        self.miners.remove(&miner);
    }

    fn set_free(&mut self, miner: NodeId, free_slots: u32) {
        if let Some(strider) = self.miners.get_mut(&miner) {
            strider.free_slots = free_slots;
            if free_slots > 0 {
                self.free.insert((strider.pass, miner));
            } else {
                self.free.remove(&(strider.pass, miner));
            }
        }
    }

    fn assign(&mut self, _task: TaskId, excluded: &[NodeId]) -> Option<NodeId> {
        let first = self
            .free
            .iter()
            .find(|(_, miner)| !excluded.contains(miner))
            .copied()?;
        self.free.remove(&first);
        let strider = self.miners.get_mut(&first.1)?;
        strider.pass += strider.stride;
        strider.free_slots -= 1;
        if strider.free_slots > 0 {
            self.free.insert((strider.pass, first.1));
        }
        Some(first.1)
    }

    fn refund(&mut self, _miner: NodeId) {}
}
