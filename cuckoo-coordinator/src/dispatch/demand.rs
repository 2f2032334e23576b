//! Demand: which models tasks wait for, told to the miners that could load them meanwhile.
//!
//! A miner with a free slot needs no such hint, since it is given what waits, warm or not. One that is busy polls no more, but
//! sends heartbeats; so their answers carry it.

use std::cmp::Reverse;
use std::time::Duration;

use cuckoo_core::{ModelId, NodeId, PollRequest, Timestamp};

use crate::market::Market;

/// For how many heartbeats a miner is told to load a model before it is another one's turn: a minute as the settings are,
/// in which most models are loaded from a disk.
const TOLD_FOR: u32 = 20;

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
    pub(crate) fn wanted_of(&mut self, node: NodeId, now: Timestamp) -> Vec<ModelId> {
        let heartbeat = Duration::from_millis(self.settings.heartbeat_millis);
        let patience = heartbeat.saturating_mul(TOLD_FOR);
        let Some(miner) = self.registry.miners.get(&node) else {
            return Vec::new();
        };
        let mut wanted = Vec::new();
        for model in &miner.joined {
            let Some(pool) = self.dispatch.pools.get_mut(model) else {
                continue;
            };
            // What nobody would be paid for waits for the escrow.
            let settings = self.settings.model(model);
            if settings.is_some_and(|settings| self.cover.covers(settings.price))
                && let Some((need, first)) = pool.wanted_of(node, now, patience)
            {
                wanted.push((Reverse(need), first, model.clone()));
            }
        }
        wanted.sort_unstable();
        wanted.truncate(PollRequest::MAX_CAPABILITIES);
        wanted.into_iter().map(|(_, _, model)| model).collect()
    }
}
