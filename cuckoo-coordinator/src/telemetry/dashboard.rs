//! The market as the dashboard shows it: one snapshot, asked for every other second.

use cuckoo_core::{LeaseId, ModelId, NodeId, TaskId, TaskState, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::latest::{FailedTask, Picture, STEP_SECONDS};
use super::readings::{Whole, promised};
use super::{Readiness, in_cai};
use crate::dispatch::Role;
use crate::market::Market;
use crate::registry::Miner;

/// The most miners that are told one by one: those with the most stake.
const MAX_MINERS: usize = 1_000;
/// The most leases that are told: those that run longest.
const MAX_WORKING: usize = 12;

/// What the dashboard shows. Amounts are in CAI and rounded; its shape may change from release to release.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DashboardState {
    /// The coordinator's node.
    coordinator: NodeId,
    /// Its public name.
    name: String,
    /// Its time.
    now: Timestamp,
    /// Whether it takes tasks.
    readiness: Readiness,
    /// The block that the weights were read at.
    block: u64,
    /// The epoch of that block.
    epoch: u64,
    /// Since when the chain could not be read, if it cannot be now.
    stale_since: Option<Timestamp>,
    /// What more can be promised to miners; absent until the chain was asked.
    escrow_left: Option<f64>,
    /// What was promised and not redeemed yet; absent until the chain was asked.
    owed: Option<f64>,
    /// Tasks that wait for a miner.
    queued: usize,
    /// Tasks in work or under audit.
    running: usize,
    /// Tasks that miners could take right now.
    free_slots: u64,
    /// Tasks that ended well since the start.
    completed: u64,
    /// Tasks that failed since the start.
    failed: u64,
    /// Tasks cancelled since the start.
    cancelled: u64,
    /// How many tasks ended, step by step.
    pace: Pace,
    /// By model, the longest queue first.
    models: Vec<ModelState>,
    /// What miners work on, the longest first; at most a dozen.
    working: Vec<Working>,
    /// The miners with the most stake.
    miners: Vec<MinerState>,
    /// All others, together.
    others: Others,
    /// The latest outputs that are pictures, the newest first.
    pictures: Vec<Picture>,
    /// The latest tasks that failed, the newest first.
    failures: Vec<FailedTask>,
}

/// How many tasks ended in each of the last steps, the present one last.
#[derive(Debug, Serialize, ToSchema)]
struct Pace {
    /// How long a step is.
    step_seconds: u64,
    /// Tasks that ended well.
    completed: Vec<u64>,
    /// Tasks that failed.
    failed: Vec<u64>,
}

/// One model's tasks.
#[derive(Debug, Serialize, ToSchema)]
struct ModelState {
    /// Its name.
    #[schema(value_type = String)]
    model: ModelId,
    /// Miners that offer it now.
    miners: usize,
    /// Tasks that wait.
    queued: usize,
    /// Since when the one that is next waits.
    waits_since: Option<Timestamp>,
    /// Half of the tasks took less than so many seconds from submission to output.
    typical_seconds: Option<f64>,
    /// All but one in twenty took less.
    slow_seconds: Option<f64>,
}

/// A lease in work.
#[derive(Debug, Serialize, ToSchema)]
struct Working {
    /// The task.
    task: TaskId,
    /// Its model.
    #[schema(value_type = String)]
    model: ModelId,
    /// Who works on it.
    miner: NodeId,
    /// Since when.
    since: Timestamp,
    /// Share done as the miner reports it, in thousandths.
    progress: Option<u16>,
    /// Whether it repeats work of another.
    audit: bool,
}

/// One miner.
#[derive(Debug, Serialize, ToSchema)]
struct MinerState {
    /// Its node.
    node: NodeId,
    /// Its public name.
    name: String,
    /// `connected`, `away` or `suspended`.
    state: &'static str,
    /// The votes that count for it.
    stake: f64,
    /// Its part of the stake of all that may work now.
    stake_share: f64,
    /// Its part of all tasks given out since the start.
    task_share: f64,
    /// Tasks given to it since the start.
    tasks: u64,
    /// Of those, how many ended with its output.
    completed: u64,
    /// Leases it failed.
    failed: u64,
    /// What it works on now.
    working: usize,
    /// Tasks it could take right now.
    free_slots: u32,
    /// All that it was ever promised.
    promised: f64,
}

/// Miners that are not told one by one.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Others {
    /// How many.
    miners: usize,
    /// Their part of the stake.
    stake_share: f64,
    /// Their part of the tasks.
    task_share: f64,
    /// Tasks given to them.
    tasks: u64,
}

impl Market {
    /// What the dashboard shows.
    pub(crate) fn dashboard(&self, readiness: Readiness, now: Timestamp) -> DashboardState {
        let (completed, failed) = self.latest.pace(now);
        let queued = self.dispatch.queued();
        let free_slots = self.registry.miners.values();
        let free_slots = free_slots.map(|miner| u64::from(miner.free_slots())).sum();
        let (miners, others) = self.miner_states(now);
        let me = self.snapshot.node(self.node);
        DashboardState {
            coordinator: self.node,
            name: me.map_or_else(String::new, |node| node.profile.name.clone()),
            now,
            readiness,
            block: self.snapshot.block,
            epoch: self.snapshot.epoch,
            stale_since: self.stale_since,
            escrow_left: self.cover.left().map(in_cai),
            owed: self.cover.owed().map(in_cai),
            queued,
            running: self.open().saturating_sub(queued),
            free_slots,
            completed: self.tally.completed,
            failed: self.tally.failed(),
            cancelled: self.tally.cancelled,
            pace: Pace {
                step_seconds: STEP_SECONDS,
                completed,
                failed,
            },
            models: self.model_states(),
            working: self.working(),
            miners,
            others,
            pictures: self.latest.pictures.iter().cloned().collect(),
            failures: self.latest.failures.iter().cloned().collect(),
        }
    }

    fn model_states(&self) -> Vec<ModelState> {
        let state = |(model, queued, first): (&ModelId, usize, Option<TaskId>)| {
            let tally = self.tally.models.get(model);
            let quantile = |thousandths| tally?.duration.quantile(thousandths);
            let next = first.and_then(|task| self.tasks.get(&task));
            ModelState {
                model: model.clone(),
                miners: self.dispatch.offers(model),
                queued,
                waits_since: next.map(|entry| entry.record.task.submitted_at),
                typical_seconds: quantile(500),
                slow_seconds: quantile(950),
            }
        };
        let mut states: Vec<_> = self.dispatch.queues().map(state).collect();
        states.sort_by(|a, b| b.queued.cmp(&a.queued).then_with(|| a.model.cmp(&b.model)));
        states
    }

    fn working(&self) -> Vec<Working> {
        let held = self.registry.miners.values();
        let mut leases: Vec<(Timestamp, LeaseId)> = held
            .flat_map(|miner| &miner.leases)
            .filter_map(|id| Some((self.dispatch.lease(*id)?.granted_at, *id)))
            .collect();
        leases.sort_unstable();
        let working = leases.into_iter().filter_map(|(since, id)| {
            let lease = self.dispatch.lease(id)?;
            let entry = self.tasks.get(&lease.task)?;
            let progress = match (lease.role, entry.state()) {
                (Role::Work, TaskState::Running { progress, .. }) => Some(*progress),
                _ => None,
            };
            Some(Working {
                task: lease.task,
                model: entry.record.task.model.clone(),
                miner: lease.miner,
                since,
                progress,
                audit: lease.role == Role::Audit,
            })
        });
        working.take(MAX_WORKING).collect()
    }

    fn miner_states(&self, now: Timestamp) -> (Vec<MinerState>, Others) {
        let whole = self.whole();
        let all = self.heaviest(usize::MAX, |_| true);
        let told = all.len().min(MAX_MINERS);
        let (told, rest) = all.split_at(told);
        let mut others = Others::default();
        for miner in rest {
            others.miners += 1;
            others.stake_share += whole.stake_share(miner);
            others.task_share += whole.task_share(miner);
            others.tasks += miner.counts.assigned;
        }
        let state = |miner: &&Miner| self.miner_state(miner, whole, now);
        (told.iter().map(state).collect(), others)
    }

    fn miner_state(&self, miner: &Miner, whole: Whole, now: Timestamp) -> MinerState {
        MinerState {
            node: miner.id(),
            name: miner.node.profile.name.clone(),
            state: self.presence_of(miner, now),
            stake: in_cai(miner.node.weight),
            stake_share: whole.stake_share(miner),
            task_share: whole.task_share(miner),
            tasks: miner.counts.assigned,
            completed: miner.counts.completed,
            failed: miner.counts.failed,
            working: miner.leases.len(),
            free_slots: miner.free_slots(),
            promised: promised(miner),
        }
    }
}
