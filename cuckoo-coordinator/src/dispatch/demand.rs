//! Demand: which models tasks wait for, told to the miners that could load them meanwhile.
//!
//! A miner with a free slot needs no such hint, since it is given what waits, warm or not. One that is busy polls no more, but
//! sends heartbeats; so their answers carry it.

use std::cmp::Reverse;

use cuckoo_core::{ModelId, NodeId, PollRequest};

use crate::market::Market;

impl Market {
    /// Notes which of the models that a miner offers it has in memory.
    pub(crate) fn note_warm(&mut self, node: NodeId, warm: &[ModelId]) {
        let Some(miner) = self.registry.miners.get(&node) else {
            return;
        };
        for model in &miner.joined {
            if let Some(pool) = self.dispatch.pools.get_mut(model) {
                pool.set_warm(node, warm.contains(model));
            }
        }
    }

    /// The models that a miner offers and has not in memory, and for which more tasks wait than others will soon begin with:
    /// the largest need first, then what is next in line.
    pub(crate) fn wanted_of(&mut self, node: NodeId) -> Vec<ModelId> {
        let Some(miner) = self.registry.miners.get(&node) else {
            return Vec::new();
        };
        let mut wanted = Vec::new();
        for model in &miner.joined {
            let pool = self.dispatch.pools.get_mut(model);
            let Some(pool) = pool.filter(|pool| pool.len() > 0) else {
                continue;
            };
            // What nobody would be paid for waits for the escrow.
            let settings = self.settings.model(model);
            if settings.is_some_and(|settings| self.cover.covers(settings.price))
                && let Some((need, first)) = pool.wanted_of(node)
            {
                wanted.push((Reverse(need), first, model.clone()));
            }
        }
        wanted.sort_unstable();
        wanted.truncate(PollRequest::MAX_CAPABILITIES);
        wanted.into_iter().map(|(_, _, model)| model).collect()
    }
}
