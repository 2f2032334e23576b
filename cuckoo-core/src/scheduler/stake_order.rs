//! Eligible earliest-deadline-first by stake.

mod contest;
mod virtual_time;

use std::collections::BTreeMap;

use alloy::primitives::{B256, U256, keccak256};

use crate::{NodeId, Scheduler, TaskId, Wei};

use contest::{Contest, Entry};
use virtual_time::{TASK, VirtualTime};

/// Gives tasks to miners in proportion to stake, each as near to its due as whole tasks allow.
///
/// Each task divides one task's worth of due among the active miners by stake. A miner's *lag* is its due minus what it
/// was given. Its next task *starts* (may be given without running ahead) when the lag is not negative, and has its
/// *deadline* where the lag would reach one. Of the free miners whose next task has started, the one with the
/// earliest deadline is chosen; if there is none, the one that starts first, so that nobody idles while a task waits. The
/// family is known as WF²Q (Bennett and Zhang, 1996) and EEVDF (Stoica and Abdel-Wahab, 1995).
///
/// - While the same miners stay active and free, no miner is ever more than one task from its exact stake share.
/// - A busy miner keeps earning its due, up to a lag of two tasks; the due beyond that goes to the others. So a
///   brief absence is made up for and a long one gives no claim to a burst.
/// - A miner that did others' work while they were busy owes at most two tasks for it.
/// - Joining starts at a lag of zero; leaving and coming back changes no lag in a miner's favour.
/// - Ties, such as those of equal stakes at the start, are broken by keccak256(seed ‖ miner ‖ turn), so that no
///   node number is better than another.
///
/// Stake counts in units of 2^36 wei (0.00000007 CAI), of which everybody with any stake has at least one and nobody
/// more than 2^64. A decision takes amortised O(log n).
#[derive(Debug, Clone)]
pub struct StakeOrder {
    seed: B256,
    time: VirtualTime,
    contest: Contest,
    miners: BTreeMap<NodeId, Member>,
}

#[derive(Debug, Clone)]
struct Member {
    /// In units of stake.
    weight: u128,
    standing: Standing,
    free_slots: u32,
    /// Tasks charged so far: what makes the next tie break anew.
    turn: u64,
    tie: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The virtual time at which its next task starts.
    Active { start: u128 },
    /// Its lag when it left, and when that was.
    Away { lag: i128, since: u128 },
}

impl StakeOrder {
    /// A scheduler without miners. `seed` only decides ties; any value does, and a log must name it.
    pub fn new(seed: B256) -> Self {
        Self {
            seed,
            time: VirtualTime::default(),
            contest: Contest::default(),
            miners: BTreeMap::new(),
        }
    }

    /// How many tasks `miner` is behind its due (positive) or ahead of it (negative), in thousandths of a task; `None`
    /// for a miner that never joined. From -2000 to 2000.
    pub fn lag_millis(&self, miner: NodeId) -> Option<i64> {
        let member = self.miners.get(&miner)?;
        let lag = match member.standing {
            Standing::Active { start } => self.time.lag(start, member.weight),
            Standing::Away { lag, .. } => lag,
        };
        // To the nearest; a lag is at most two TASK, so this is far from overflow.
        let task = TASK.cast_signed();
        i64::try_from((lag * 1000 + task / 2).div_euclid(task)).ok()
    }

    fn tie(&self, miner: NodeId, turn: u64) -> u64 {
        let mut text = [0; 48];
        text[..32].copy_from_slice(self.seed.as_slice());
        text[32..40].copy_from_slice(&miner.0.to_be_bytes());
        text[40..].copy_from_slice(&turn.to_be_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&keccak256(text)[..8]);
        u64::from_be_bytes(head)
    }

    /// Takes `miner` out of virtual time and contest; its lag.
    fn detach(&mut self, miner: NodeId) -> Option<i128> {
        let member = self.miners.get_mut(&miner)?;
        let Standing::Active { start } = member.standing else {
            return None;
        };
        self.contest
            .remove(&Entry::new(miner, member.weight, start, member.tie));
        let lag = self.time.leave(miner, start, member.weight);
        member.standing = Standing::Away {
            lag,
            since: self.time.now(),
        };
        Some(lag)
    }

    /// Puts a detached `miner` back with `weight` and `lag`.
    fn attach(&mut self, miner: NodeId, weight: u128, lag: i128) {
        let Some(member) = self.miners.get_mut(&miner) else {
            return;
        };
        let start = self.time.join(miner, lag, weight);
        member.weight = weight;
        member.standing = Standing::Active { start };
        if member.free_slots > 0 {
            self.contest.insert(
                Entry::new(miner, weight, start, member.tie),
                self.time.now(),
            );
        }
    }

    /// Virtual time only grows; before it could overflow, everything is moved back by the same amount.
    fn rebase(&mut self) {
        let Some(shift) = self.time.rebase() else {
            return;
        };
        self.contest = Contest::default();
        for (&miner, member) in &mut self.miners {
            match &mut member.standing {
                Standing::Active { start } => {
                    *start = start.saturating_sub(shift);
                    self.time.earn(miner, *start, member.weight);
                    if member.free_slots > 0 {
                        let entry = Entry::new(miner, member.weight, *start, member.tie);
                        self.contest.insert(entry, self.time.now());
                    }
                }
                Standing::Away { since, .. } => *since = since.saturating_sub(shift),
            }
        }
    }
}

impl Scheduler for StakeOrder {
    fn join(&mut self, miner: NodeId, weight: Wei) {
        if weight.is_zero() {
            return self.leave(miner);
        }
        let weight = units(weight);
        let known = self.miners.get(&miner);
        let lag = match known.map(|member| (member.weight, member.standing)) {
            None => {
                let tie = self.tie(miner, 0);
                let standing = Standing::Away {
                    lag: 0,
                    since: self.time.now(),
                };
                let member = Member {
                    weight,
                    standing,
                    free_slots: 0,
                    turn: 0,
                    tie,
                };
                self.miners.insert(miner, member);
                0
            }
            Some((known, Standing::Active { .. })) if known == weight => return,
            Some((_, Standing::Active { .. })) => self.detach(miner).unwrap_or(0),
            // Debt is worked off by the passing of time also while away; credit does not grow there.
            Some((_, Standing::Away { lag, since })) => self.time.work_off(lag, since, weight),
        };
        self.attach(miner, weight, lag);
    }

    fn leave(&mut self, miner: NodeId) {
        self.detach(miner);
        if let Some(member) = self.miners.get_mut(&miner) {
            member.free_slots = 0;
        }
    }

    fn set_free(&mut self, miner: NodeId, free_slots: u32) {
        let Some(member) = self.miners.get_mut(&miner) else {
            return;
        };
        let Standing::Active { start } = member.standing else {
            return;
        };
        let entry = Entry::new(miner, member.weight, start, member.tie);
        if member.free_slots == 0 && free_slots > 0 {
            self.contest.insert(entry, self.time.now());
        } else if member.free_slots > 0 && free_slots == 0 {
            self.contest.remove(&entry);
        }
        member.free_slots = free_slots;
    }

    fn assign(&mut self, _task: TaskId, excluded: &[NodeId]) -> Option<NodeId> {
        let entry = self.contest.first(self.time.now(), excluded)?;
        let miner = entry.miner();
        let tie = self.tie(miner, self.miners.get(&miner)?.turn + 1);
        let member = self.miners.get_mut(&miner)?;
        self.contest.remove(&entry);

        let start = self.time.charge(miner, entry.start(), member.weight);
        member.standing = Standing::Active { start };
        member.turn += 1;
        member.tie = tie;
        member.free_slots -= 1;
        if member.free_slots > 0 {
            self.contest.insert(
                Entry::new(miner, member.weight, start, tie),
                self.time.now(),
            );
        }
        self.rebase();
        Some(miner)
    }

    fn refund(&mut self, miner: NodeId) {
        let task = TASK.cast_signed();
        let cap = virtual_time::CREDIT_CAP.cast_signed() * task;
        if let Some(lag) = self.detach(miner) {
            let weight = self.miners.get(&miner).map_or(1, |member| member.weight);
            self.attach(miner, weight, (lag + task).min(cap));
        } else if let Some(member) = self.miners.get_mut(&miner)
            && let Standing::Away { lag, .. } = &mut member.standing
        {
            *lag = (*lag + task).min(cap);
        }
    }
}

/// Stake in the units that count, at least one.
fn units(weight: Wei) -> u128 {
    let units: U256 = weight >> 36;
    units.saturating_to::<u128>().clamp(1, 1 << 64)
}

#[cfg(test)]
mod tests;
