//! The time in which shares are measured: it passes with work, faster the less stake shares it.

use std::collections::BTreeMap;

use crate::NodeId;

/// One task, in units of stake times virtual time: a miner of weight `w` earns a task in `TASK / w` of virtual time.
/// Large enough that the division loses less than one part in 2^36 even for the largest weight, 2^64.
pub(super) const TASK: u128 = 1 << 100;

/// How far a busy miner may fall behind its due, in tasks, before it earns no more.
pub(super) const CREDIT_CAP: u128 = 2;

/// How far a miner may be ahead of its due, in tasks, when it is given another.
const DEBT_CAP: u128 = 1;

/// Where virtual time begins: late enough that a start [`CREDIT_CAP`] tasks back is still positive.
const ORIGIN: u128 = 1 << 104;

/// When virtual time is moved back to [`ORIGIN`].
const HORIZON: u128 = 1 << 112;

/// Virtual time, and who earns in it.
///
/// An active miner earns until its lag reaches the cap. While the same miners earn, their lags add up to zero: what
/// one is given is divided among all. A miner that stops or starts earning with a lag other than zero disturbs the
/// sum; it is led back by letting time pass up to half faster or slower than work is done, which keeps time from
/// running away from the miners, or behind them, for good. The same correction carries what a division leaves over to
/// the next.
#[derive(Debug, Clone)]
pub(super) struct VirtualTime {
    now: u128,
    /// The weights of the miners that earn, by the time at which their lag will be at the cap.
    caps: BTreeMap<(u128, NodeId), u128>,
    /// Sum of those weights.
    weight: u128,
    /// Sum of those miners' lags.
    imbalance: i128,
}

impl Default for VirtualTime {
    fn default() -> Self {
        Self {
            now: ORIGIN,
            caps: BTreeMap::new(),
            weight: 0,
            imbalance: 0,
        }
    }
}

impl VirtualTime {
    pub(super) fn now(&self) -> u128 {
        self.now
    }

    /// The lag of an active miner whose next task starts at `start`: due minus work, in units of [`TASK`].
    pub(super) fn lag(&self, start: u128, weight: u128) -> i128 {
        let start = start.max(self.earliest_start(weight));
        if start <= self.now {
            ((self.now - start) * weight).cast_signed()
        } else {
            -((start - self.now) * weight).cast_signed()
        }
    }

    /// What is left of a debt (a negative `lag`) of a miner that was away since `since` and returns with `weight`.
    pub(super) fn work_off(&self, lag: i128, since: u128, weight: u128) -> i128 {
        if lag >= 0 {
            return lag;
        }
        let enough = lag.unsigned_abs() / weight + 1;
        let earned = (self.now - since).min(enough) * weight;
        (lag + earned.cast_signed()).min(0)
    }

    /// Adds a miner with `lag`; where its next task starts.
    pub(super) fn join(&mut self, miner: NodeId, lag: i128, weight: u128) -> u128 {
        let distance = lag.unsigned_abs() / weight;
        let start = if lag >= 0 {
            self.now - distance
        } else {
            self.now + distance
        };
        self.earn(miner, start, weight);
        start
    }

    /// Removes a miner; its lag.
    pub(super) fn leave(&mut self, miner: NodeId, start: u128, weight: u128) -> i128 {
        self.stop_earning(miner, start, weight);
        self.lag(start, weight)
    }

    /// Charges a miner for a task that starts at `start` and divides the task's worth among all; where its next one
    /// starts.
    pub(super) fn charge(&mut self, miner: NodeId, start: u128, weight: u128) -> u128 {
        // The free miners did so much of the busy ones' work that even the least indebted is at the cap: time moves on.
        self.advance_to(start.saturating_sub(DEBT_CAP * TASK / weight));

        let half = TASK.cast_signed() / 2;
        let correction = self.imbalance.clamp(-half, half);
        self.stop_earning(miner, start, weight);
        let next = start.max(self.earliest_start(weight)) + TASK / weight;
        self.earn(miner, next, weight);
        self.divide((TASK.cast_signed() - correction).cast_unsigned());
        next
    }

    /// Moves time back to the origin when it is far from it; by how much. Nobody earns then until all starts are moved
    /// likewise and told with [`earn`](Self::earn).
    pub(super) fn rebase(&mut self) -> Option<u128> {
        if self.now < HORIZON {
            return None;
        }
        let shift = self.now - ORIGIN;
        *self = Self::default();
        Some(shift)
    }

    /// Lets a miner earn, unless its lag is at the cap.
    pub(super) fn earn(&mut self, miner: NodeId, start: u128, weight: u128) {
        let cap = cap(start, weight);
        if cap > self.now {
            self.caps.insert((cap, miner), weight);
            self.weight += weight;
            self.imbalance += self.lag(start, weight);
        }
    }

    fn stop_earning(&mut self, miner: NodeId, start: u128, weight: u128) {
        if self.caps.remove(&(cap(start, weight), miner)).is_some() {
            self.weight -= weight;
            self.imbalance -= self.lag(start, weight);
        }
    }

    #[cfg(test)]
    pub(super) fn totals(&self) -> (u128, i128) {
        (self.weight, self.imbalance)
    }

    /// A miner's start when its lag is at the cap.
    fn earliest_start(&self, weight: u128) -> u128 {
        self.now - CREDIT_CAP * TASK / weight
    }

    /// Divides `work` among those that earn, by weight.
    fn divide(&mut self, mut work: u128) {
        while self.weight > 0 {
            let target = self.now + work / self.weight;
            let until = self.next_cap(target);
            work -= (until - self.now) * self.weight;
            self.pass(until);
            if until == target {
                break;
            }
        }
    }

    /// Lets time pass until `target`: all that earn are given due for work that was not done.
    fn advance_to(&mut self, target: u128) {
        while self.now < target {
            self.pass(self.next_cap(target));
        }
    }

    /// The next time somebody reaches the cap, or `limit` if that comes first.
    fn next_cap(&self, limit: u128) -> u128 {
        self.caps
            .first_key_value()
            .map_or(limit, |(&(cap, _), _)| cap.min(limit))
    }

    /// Lets time pass to `until`, which is not after the [`next_cap`](Self::next_cap).
    fn pass(&mut self, until: u128) {
        self.imbalance += ((until - self.now) * self.weight).cast_signed();
        self.now = until;
        while let Some(first) = self.caps.first_entry()
            && first.key().0 <= until
        {
            let weight = first.remove();
            self.weight -= weight;
            self.imbalance -= (CREDIT_CAP * TASK / weight * weight).cast_signed();
        }
    }
}

/// When the lag of a miner reaches the cap if it gets nothing.
fn cap(start: u128, weight: u128) -> u128 {
    start + CREDIT_CAP * TASK / weight
}
