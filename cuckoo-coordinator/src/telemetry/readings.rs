//! What the market looks like at the moment of a scrape.

use std::collections::BTreeMap;
use std::time::Duration;

use cuckoo_core::{ModelId, NodeId, Timestamp};

use super::{Tally, in_cai};
use crate::dispatch::Role;
use crate::market::Market;
use crate::registry::Miner;

/// The most miners with numbers of their own: each costs a scrape four lines.
pub(crate) const MAX_MINERS: usize = 100;

/// Everything that is told in numbers, but for requests over HTTP.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) tally: Tally,
    pub(crate) queued: BTreeMap<ModelId, usize>,
    pub(crate) open: usize,
    pub(crate) leases: Leases,
    pub(crate) free_slots: u64,
    pub(crate) presence: BTreeMap<&'static str, u64>,
    pub(crate) miners: Vec<MinerReading>,
    pub(crate) promised: f64,
    pub(crate) escrow_left: Option<f64>,
    pub(crate) escrow_owed: Option<f64>,
    pub(crate) escrow_reserved: f64,
    pub(crate) block: u64,
    pub(crate) epoch: u64,
    pub(crate) chain_age: Duration,
    pub(crate) block_age: Duration,
}

/// Leases that miners work under now.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Leases {
    pub(crate) work: u64,
    pub(crate) audit: u64,
}

/// One miner in numbers; amounts in CAI.
#[derive(Debug)]
pub(crate) struct MinerReading {
    pub(crate) node: NodeId,
    pub(crate) assigned: u64,
    pub(crate) stake_share: f64,
    pub(crate) task_share: f64,
    pub(crate) promised: f64,
}

/// What shares are shares of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    weight: f64,
    assigned: u64,
}

impl Whole {
    /// The miner's part of the stake of those who may work now.
    pub(crate) fn stake_share(&self, miner: &Miner) -> f64 {
        if self.weight > 0.0 && miner.may_work() {
            in_cai(miner.node.weight) / self.weight
        } else {
            0.0
        }
    }

    /// The miner's part of all tasks that were given out since the start.
    pub(crate) fn task_share(&self, miner: &Miner) -> f64 {
        miner.counts.assigned as f64 / self.assigned.max(1) as f64
    }
}

impl Market {
    /// What shares are shares of.
    pub(crate) fn whole(&self) -> Whole {
        let miners = || self.registry.miners.values();
        let working = miners().filter(|miner| miner.may_work());
        Whole {
            weight: working.map(|miner| in_cai(miner.node.weight)).sum(),
            assigned: miners().map(|miner| miner.counts.assigned).sum(),
        }
    }

    /// The miners with the most stake, at most so many of those that pass.
    pub(crate) fn heaviest(&self, most: usize, passes: impl Fn(&Miner) -> bool) -> Vec<&Miner> {
        let mut miners: Vec<_> = self.registry.miners.values().collect();
        miners.retain(|miner| passes(miner));
        miners.sort_by_key(|miner| (std::cmp::Reverse(miner.node.weight), miner.id()));
        miners.truncate(most);
        miners
    }

    pub(crate) fn readings(&self, now: Timestamp) -> Readings {
        let whole = self.whole();
        let reading = |miner: &Miner| MinerReading {
            node: miner.id(),
            assigned: miner.counts.assigned,
            stake_share: whole.stake_share(miner),
            task_share: whole.task_share(miner),
            promised: promised(miner),
        };
        let heaviest = self.heaviest(MAX_MINERS, Miner::may_work);
        let miners = || self.registry.miners.values();
        let queues = self.dispatch.queues();
        Readings {
            tally: self.tally.clone(),
            queued: queues
                .map(|(model, length, _)| (model.clone(), length))
                .collect(),
            open: self.open(),
            leases: self.leases(),
            free_slots: miners().map(|miner| u64::from(miner.free_slots())).sum(),
            presence: self.presence(now),
            miners: heaviest.into_iter().map(reading).collect(),
            promised: miners().map(promised).sum(),
            escrow_left: self.cover.left().map(in_cai),
            escrow_owed: self.cover.owed().map(in_cai),
            escrow_reserved: in_cai(self.cover.reserved()),
            block: self.snapshot.block,
            epoch: self.snapshot.epoch,
            chain_age: now.since(self.chain_seen.read_at),
            block_age: now.since(self.chain_seen.block_at),
        }
    }

    fn leases(&self) -> Leases {
        let mut leases = Leases::default();
        let held = self.registry.miners.values();
        for lease in held.flat_map(|miner| &miner.leases) {
            match self.dispatch.lease(*lease).map(|lease| lease.role) {
                Some(Role::Work) => leases.work += 1,
                Some(Role::Audit) => leases.audit += 1,
                None => {}
            }
        }
        leases
    }

    fn presence(&self, now: Timestamp) -> BTreeMap<&'static str, u64> {
        let mut presence = BTreeMap::from([("connected", 0), ("away", 0), ("suspended", 0)]);
        for miner in self.registry.miners.values() {
            *presence.entry(self.presence_of(miner, now)).or_default() += 1;
        }
        presence
    }

    /// `connected`, `away` or `suspended`.
    pub(crate) fn presence_of(&self, miner: &Miner, now: Timestamp) -> &'static str {
        if miner.suspended_by.is_some() {
            "suspended"
        } else if miner.is_connected(now, self.settings.lease()) {
            "connected"
        } else {
            "away"
        }
    }
}

/// All that a miner was ever promised, in CAI.
pub(crate) fn promised(miner: &Miner) -> f64 {
    let voucher = miner.voucher.as_ref();
    voucher.map_or(0.0, |voucher| in_cai(voucher.value.cumulative))
}
