//! Dispatch: which miner gets which task when, and what becomes of the lease.
//!
//! One pool for each model holds its queue and its scheduler; one mailbox for each miner holds what its next poll takes
//! away. A miner is given work only while a poll of it waits, so nothing is promised to a miner that is not there.

mod demand;
mod lease;
mod mailbox;
mod pool;
mod recovery;
mod work;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use cuckoo_core::{
    Capability, Entropy, LeaseId, ModelId, NodeId, TaskId, TaskState, Timestamp, Wei,
};

use crate::Settings;
use crate::audit::Seat;
use crate::events::Event;
use crate::journal::Write;
use crate::market::{Market, Place, Stage, Timer};
use crate::store::LeaseRecord;

pub(crate) use lease::{Lease, LeaseEnd, LeaseState, Loss, Reply, Role};
pub(crate) use mailbox::PollTicket;
pub(crate) use pool::Outlook;
use pool::{Pool, Waiting};
pub(crate) use work::{Claim, not_yours};

/// How old a lease is when the store is told of it, so that a restart finds it again. One that ends before costs no write:
/// after a crash at most so much work of a miner is done anew.
const NOTED_AFTER: Duration = Duration::from_millis(50);

/// Queues, schedulers and leases.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pools: HashMap<ModelId, Pool>,
    leases: HashMap<LeaseId, Lease>,
    /// Audits that found no auditor yet.
    unaudited: BTreeSet<TaskId>,
    next_poll: u64,
}

impl Dispatch {
    pub(crate) fn new(settings: &Settings, entropy: &dyn Entropy) -> Self {
        let pool = |model: &crate::ModelSettings| (model.model.clone(), Pool::new(entropy.word()));
        Self {
            pools: settings.models.iter().map(pool).collect(),
            leases: HashMap::new(),
            unaudited: BTreeSet::new(),
            next_poll: 0,
        }
    }

    /// How many tasks wait.
    pub(crate) fn queued(&self) -> usize {
        self.pools.values().map(Pool::len).sum()
    }

    /// Each model's queue: its length, and the task that is next.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&ModelId, usize, Option<TaskId>)> {
        let pools = self.pools.iter();
        pools.map(|(model, pool)| (model, pool.len(), pool.first()))
    }

    /// How many miners offer a model now.
    pub(crate) fn offers(&self, model: &ModelId) -> usize {
        self.pools
            .get(model)
            .map_or(0, |pool| pool.miners().count())
    }

    /// The miners that offer a model now.
    pub(crate) fn miners(&self, model: &ModelId) -> Vec<NodeId> {
        self.pools
            .get(model)
            .map_or_else(Vec::new, |pool| pool.miners().collect())
    }

    /// The miners that offer a model now and take an input of this length.
    pub(crate) fn able(&self, model: &ModelId, input_bytes: u64) -> Vec<NodeId> {
        self.pools
            .get(model)
            .map_or_else(Vec::new, |pool| pool.able(input_bytes).collect())
    }

    /// The leases in work.
    pub(crate) fn active(&self) -> Vec<LeaseId> {
        let leases = self.leases.iter();
        let active = leases.filter(|(_, lease)| lease.is_active());
        active.map(|(id, _)| *id).collect()
    }

    pub(crate) fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    pub(crate) fn lease_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.leases.get_mut(&id)
    }

    /// How a task for a model would fare.
    pub(crate) fn outlook(&self, model: &ModelId, input_bytes: u64, priority: i8) -> Outlook {
        self.pools
            .get(model)
            .map_or_else(Outlook::default, |pool| pool.outlook(input_bytes, priority))
    }

    pub(crate) fn lease_state(&self, id: LeaseId) -> Option<&LeaseState> {
        self.leases.get(&id).map(|lease| &lease.state)
    }

    pub(crate) fn unqueue(&mut self, model: &ModelId, place: Place) {
        if let Some(pool) = self.pools.get_mut(model) {
            pool.remove(place);
        }
    }

    pub(crate) fn forget(&mut self, leases: &[LeaseId]) {
        for lease in leases {
            self.leases.remove(lease);
        }
    }

    /// Notes that an audit waits for a miner to come by, or does no more.
    pub(crate) fn set_unaudited(&mut self, task: TaskId, waits: bool) {
        if waits {
            self.unaudited.insert(task);
        } else {
            self.unaudited.remove(&task);
        }
    }
}

impl Market {
    /// Puts a task in line; a miner that waits gets it at once.
    pub(crate) fn enqueue(&mut self, id: TaskId, now: Timestamp) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        entry.stage = Stage::Queued;
        entry.writing = false;
        entry.set_state(TaskState::Queued);
        let task = &entry.record.task;
        let waiting = Waiting {
            task: id,
            input_bytes: task.input.len() as u64,
            excluded: entry.unwanted().into(),
        };
        let Some(pool) = self.dispatch.pools.get_mut(&task.model) else {
            return;
        };
        if !self.cover.covers(task.price) {
            pool.wait(entry.place, waiting);
        } else if let Some(miner) = pool.push(entry.place, waiting) {
            self.place(id, miner, Role::Work, now);
        }
    }

    /// Gives a miner that became free what waits for it: audits it was drawn for, then audits that wait for anybody,
    /// then tasks in line.
    pub(crate) fn fill(&mut self, node: NodeId, now: Timestamp) {
        while self.free_slots(node) > 0 {
            let Some(task) = self.next_invitation(node) else {
                break;
            };
            self.place(task, node, Role::Audit, now);
        }
        for task in self.dispatch.unaudited.clone() {
            if self.free_slots(node) == 0 {
                break;
            }
            self.offer_audit(task, node, now);
        }
        while self.free_slots(node) > 0 {
            let Some((task, miner)) = self.next_in_line(node) else {
                break;
            };
            self.place(task, miner, Role::Work, now);
        }
    }

    fn free_slots(&self, node: NodeId) -> u32 {
        self.registry
            .miners
            .get(&node)
            .map_or(0, |miner| miner.free_slots())
    }

    fn next_invitation(&mut self, node: NodeId) -> Option<TaskId> {
        let miner = self.registry.miners.get_mut(&node)?;
        while let Some(task) = miner.invitations.pop_front() {
            // The audit may have ended or gone to another since.
            let audit = self.tasks.get(&task).and_then(|entry| entry.audit.as_ref());
            if audit.is_some_and(|audit| audit.seat == Seat::Invited(node)) {
                return Some(task);
            }
        }
        None
    }

    fn next_in_line(&mut self, node: NodeId) -> Option<(TaskId, NodeId)> {
        let miner = self.registry.miners.get(&node)?;
        let first = |model: &ModelId| {
            if !self.cover.covers(self.settings.model(model)?.price) {
                return None;
            }
            let place = self.dispatch.pools.get(model)?.next_for(node)?;
            Some((place, model.clone()))
        };
        let (place, model) = miner.joined.iter().filter_map(first).min()?;
        self.dispatch.pools.get_mut(&model)?.assign(place)
    }

    /// Grants a lease and puts it into the miner's mailbox.
    pub(crate) fn place(&mut self, task: TaskId, node: NodeId, role: Role, now: Timestamp) {
        let id = LeaseId::random(self.entropy.as_ref());
        let expires_at = now.after(self.settings.lease());
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        let Some(miner) = self.registry.miners.get_mut(&node) else {
            return;
        };
        let Some(capability) = miner.capabilities.get(&entry.record.task.model) else {
            return;
        };
        let lease = Lease {
            task,
            miner: node,
            role,
            model_hash: capability.model_hash,
            kernels: capability.kernels.clone(),
            granted_at: now,
            expires_at,
            delivered: false,
            begun: false,
            refusable_until: expires_at,
            noted: false,
            reserved: entry.record.task.price,
            streamed: None,
            state: LeaseState::Active,
        };
        self.cover.reserve(lease.reserved);
        if let Some(pool) = self.dispatch.pools.get_mut(&entry.record.task.model) {
            pool.set_warm(node, true);
            if role == Role::Work {
                pool.began();
            }
        }
        self.dispatch.leases.insert(id, lease);
        self.timers
            .add(now.after(NOTED_AFTER), Timer::NoteLease(id));
        self.timers.add(expires_at, Timer::Lease(id));
        miner.leases.insert(id);
        miner.mailbox.push_back(id);
        miner.wake();
        let first = entry.leases.is_empty();
        entry.leases.push(id);
        let event = match role {
            Role::Work => {
                miner.counts.assigned += 1;
                // What is placed again has waited for its first miner already.
                if first {
                    let task = &entry.record.task;
                    self.tally.began(&task.model, now.since(task.submitted_at));
                }
                entry.stage = Stage::Leased(id);
                entry.set_state(TaskState::Running {
                    miner: node,
                    progress: 0,
                });
                Event::Assigned {
                    miner: node,
                    lease: id,
                }
            }
            Role::Audit => {
                if let Some(audit) = &mut entry.audit {
                    audit.seat = Seat::Working(id);
                }
                self.dispatch.set_unaudited(task, false);
                Event::AuditDrawn {
                    auditor: node,
                    lease: id,
                }
            }
        };
        self.events.publish(now, Some(task), event);
        self.sync_free(node);
    }

    /// Has a lease written down if it is in work still and was not before.
    pub(crate) fn note_lease(&mut self, id: LeaseId) {
        if let Some(lease) = self.dispatch.lease_mut(id)
            && lease.is_active()
            && !std::mem::replace(&mut lease.noted, true)
        {
            let record = lease.record(id);
            self.writes.push(Write::PutLease(record));
        }
    }

    /// Lets a miner go on with what it was given before a restart, if it is in the market still.
    pub(crate) fn restore_lease(&mut self, record: LeaseRecord, now: Timestamp) -> bool {
        let expires_at = now.after(self.settings.lease());
        if record.audit || self.miner(record.miner).is_none() {
            return false;
        }
        let (id, task, node) = (record.lease, record.task, record.miner);
        let entry = self.tasks.get(&task);
        let price = entry.map_or(Wei::ZERO, |entry| entry.record.task.price);
        if let (Some(entry), Some(miner)) = (
            self.tasks.get_mut(&task),
            self.registry.miners.get_mut(&node),
        ) {
            miner.leases.insert(id);
            entry.leases.push(id);
            entry.stage = Stage::Leased(id);
            entry.set_state(TaskState::Running {
                miner: node,
                progress: 0,
            });
        }
        self.dispatch
            .leases
            .insert(id, Lease::restored(record, price, expires_at));
        self.cover.reserve(price);
        self.timers.add(expires_at, Timer::Lease(id));
        true
    }

    /// Tells every scheduler that knows a miner how much it can take.
    pub(crate) fn sync_free(&mut self, node: NodeId) {
        let Some(miner) = self.registry.miners.get(&node) else {
            return;
        };
        let free = miner.free_slots();
        for model in &miner.joined {
            if let Some(pool) = self.dispatch.pools.get_mut(model) {
                pool.set_free(node, free);
            }
        }
    }

    /// Brings a miner into the pools of what it offers, with its present weight, or out of them.
    pub(crate) fn sync_pools(&mut self, node: NodeId, now: Timestamp) {
        let patience = self.settings.lease();
        let Some(miner) = self.registry.miners.get_mut(&node) else {
            return;
        };
        let present =
            miner.may_work() && (miner.is_connected(now, patience) || !miner.leases.is_empty());
        for (model, pool) in &mut self.dispatch.pools {
            match miner.capabilities.get(model).filter(|_| present) {
                Some(capability) => {
                    pool.join(node, miner.node.weight, capability.max_input_bytes);
                    miner.joined.insert(model.clone());
                }
                None if miner.joined.remove(model) => pool.leave(node),
                None => {}
            }
        }
        self.sync_free(node);
    }

    /// What of a miner's offer is of use here: served models, accepted files, a price that is paid.
    fn useful(&self, offered: Vec<Capability>) -> HashMap<ModelId, Capability> {
        let useful = |capability: &Capability| {
            self.settings.model(&capability.model).is_some_and(|model| {
                model
                    .model_hash
                    .is_none_or(|hash| hash == capability.model_hash)
                    && capability.min_price <= model.price
            })
        };
        let offered = offered.into_iter().filter(useful);
        offered
            .map(|capability| (capability.model.clone(), capability))
            .collect()
    }

    /// A miner may have gone quiet: it leaves the schedulers then, and joins again with its next poll.
    pub(crate) fn quiet_due(&mut self, node: NodeId, now: Timestamp) {
        let patience = self.settings.lease();
        let Some(miner) = self.registry.miners.get_mut(&node) else {
            return;
        };
        miner.quiet_timer = false;
        if miner.parked.is_some() {
            return;
        }
        if miner.is_connected(now, patience) || !miner.leases.is_empty() {
            self.watch_for_quiet(node, now);
        } else {
            self.sync_pools(node, now);
        }
    }

    /// Looks again when the miner could have gone quiet. One timer a miner is enough.
    pub(crate) fn watch_for_quiet(&mut self, node: NodeId, now: Timestamp) {
        let patience = self.settings.lease();
        let Some(miner) = self.registry.miners.get_mut(&node) else {
            return;
        };
        if !std::mem::replace(&mut miner.quiet_timer, true) {
            let at = miner.last_seen.after(patience).max(now.after(patience / 2));
            self.timers.add(at, Timer::Quiet(node));
        }
    }
}
