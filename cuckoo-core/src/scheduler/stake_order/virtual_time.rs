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

/// Virtual time and the sum of all lags.
///
/// With a fixed set of free miners the lags of all add up to zero at any time. Caps, leaves and refunds disturb the sum; it
/// is led back to zero by letting time pass up to half faster or slower than work is done. That keeps time from running
/// away from the miners, or behind them, for good.
#[derive(Debug, Clone)]
pub(super) struct VirtualTime {
    now: u128,
    /// Work divided, but too little to move `now` by one; less than `weight`.
    remainder: u128,
    /// Sum of the weights of those that earn: the active miners with a lag below the cap.
    weight: u128,
    /// Those that earn, by the time at which their lag reaches the cap.
    caps: BTreeMap<(u128, NodeId), u128>,
    /// Sum of the lags of all active miners.
    imbalance: i128,
}

impl Default for VirtualTime {
    fn default() -> Self {
        Self { now: ORIGIN, remainder: 0, weight: 0, caps: BTreeMap::new(), imbalance: 0 }
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

    /// A `lag` of a miner that was away since `since`, at its return with `weight`.
    pub(super) fn work_off(&self, lag: i128, since: u128, weight: u128) -> i128 {
        if lag >= 0 {
            return lag;
        }
        let earned = (self.now - since).min(lag.unsigned_abs() / weight + 1) * weight;
        (lag + earned.cast_signed()).min(0)
    }

    /// Adds a miner with `lag`; where its next task starts.
    pub(super) fn join(&mut self, miner: NodeId, lag: i128, weight: u128) -> u128 {
        let distance = lag.unsigned_abs() / weight;
        let start = if lag >= 0 { self.now - distance } else { self.now + distance };
        self.imbalance += self.lag(start, weight);
        self.restore(miner, start, weight);
        start
    }

    /// Removes a miner; its lag.
    pub(super) fn leave(&mut self, miner: NodeId, start: u128, weight: u128) -> i128 {
        let lag = self.lag(start, weight);
        self.imbalance -= lag;
        self.stop_earning(miner, start, weight);
        lag
    }

    /// Charges a miner for a task that starts at `start` and divides the task's worth among all; where its next one
    /// starts.
    pub(super) fn charge(&mut self, miner: NodeId, start: u128, weight: u128) -> u128 {
        // Nobody less ahead is free: the work is more than the busy ones can claim, so time moves on for everybody.
        self.advance_to(start.saturating_sub(DEBT_CAP * TASK / weight));

        self.stop_earning(miner, start, weight);
        let next = start.max(self.earliest_start(weight)) + TASK / weight;
        self.restore(miner, next, weight);
        let half = TASK.cast_signed() / 2;
        let correction = self.imbalance.clamp(-half, half);
        self.imbalance -= TASK.cast_signed();
        self.divide((TASK.cast_signed() - correction).cast_unsigned());
        next
    }

    /// Starts the count of a miner that is active, without a change to the imbalance.
    pub(super) fn restore(&mut self, miner: NodeId, start: u128, weight: u128) {
        let cap = cap(start, weight);
        if cap > self.now {
            self.caps.insert((cap, miner), weight);
            self.weight += weight;
        }
    }

    /// Moves time back to the origin when it is far from it; by how much. All starts have to be moved likewise and
    /// [`restore`](Self::restore)d.
    pub(super) fn rebase(&mut self) -> Option<u128> {
        if self.now < HORIZON {
            return None;
        }
        let shift = self.now - ORIGIN;
        self.now = ORIGIN;
        self.caps.clear();
        self.weight = 0;
        Some(shift)
    }

    /// A miner's start when its lag is at the cap.
    fn earliest_start(&self, weight: u128) -> u128 {
        self.now - CREDIT_CAP * TASK / weight
    }

    fn stop_earning(&mut self, miner: NodeId, start: u128, weight: u128) {
        if self.caps.remove(&(cap(start, weight), miner)).is_some() {
            self.weight -= weight;
        }
    }

    /// Divides `work` among those that earn, by weight.
    fn divide(&mut self, work: u128) {
        self.imbalance += work.cast_signed();
        let mut left = work + self.remainder;
        while self.weight > 0 {
            let next = self.now + left / self.weight;
            let until = self.next_cap(next);
            left -= (until - self.now) * self.weight;
            self.now = until;
            if !self.drop_capped() {
                self.remainder = left;
                return;
            }
        }
        // Everybody is owed the most one can be owed.
        self.imbalance -= left.cast_signed();
        self.remainder = 0;
    }

    /// Lets time pass until `target`: everybody that earns is given due for work that was not done.
    fn advance_to(&mut self, target: u128) {
        while self.now < target {
            let until = self.next_cap(target);
            self.imbalance += ((until - self.now) * self.weight).cast_signed();
            self.now = until;
            self.drop_capped();
        }
    }

    /// The next time somebody reaches the cap, or `limit` if that comes first.
    fn next_cap(&self, limit: u128) -> u128 {
        self.caps.first_key_value().map_or(limit, |(&(cap, _), _)| cap.min(limit))
    }

    /// Ends the earning of those that are at the cap now; whether there was one.
    fn drop_capped(&mut self) -> bool {
        let mut dropped = false;
        while let Some(first) = self.caps.first_entry()
            && first.key().0 <= self.now
        {
            self.weight -= first.remove();
            dropped = true;
        }
        dropped
    }
}

/// When the lag of a miner reaches the cap if it gets nothing.
fn cap(start: u128, weight: u128) -> u128 {
    start + CREDIT_CAP * TASK / weight
}
