//! Whose turn a free slot is: slot time in proportion to weight, without a clock, a lock or chance.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996): every coordinator has a virtual time, which is the slot time it
//! used divided by its share, and the next slot is its whose virtual time is the least. A run is charged with what the
//! coordinator's runs usually take when it begins, and the difference when it ends. Equal calls in equal order give equal
//! turns.

/// The least share of a coordinator: a twentieth of the slot time, or half an equal share where that is less.
const LEAST_SHARE: f64 = 0.05;
/// What a run takes before any is known, in seconds.
const FIRST_GUESS: f64 = 1.0;
/// How much of the difference a run moves what the next is expected to take.
const LEARNING: f64 = 0.2;

/// Chooses among coordinators, which are known by their place in the list that the miner was given.
#[derive(Debug)]
pub(crate) struct Chooser {
    parties: Vec<Party>,
    slots: u32,
    /// The latest virtual time at which a run began.
    reached: f64,
    turns: u64,
}

#[derive(Debug)]
struct Party {
    /// Of all slot time, 0 to 1.
    share: f64,
    /// Slot time used, divided by the share.
    used: f64,
    /// What one run of it takes, in seconds.
    usual: f64,
    /// How many slots it waits for at most.
    asks: Option<u32>,
    last_turn: u64,
    /// Whether its latest poll gave work, so that the next one may.
    busy: bool,
    gone: bool,
}

/// The right to poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Who polls.
    pub(crate) party: usize,
    /// With how many slots.
    pub(crate) slots: u32,
    /// Whether the poll may wait for work: nobody else is known to have any.
    pub(crate) patient: bool,
}

impl Chooser {
    /// For so many coordinators, of equal weight as yet, that share so many slots.
    pub(crate) fn new(parties: usize, slots: u32) -> Self {
        let party = |_| Party {
            share: 1.0 / parties.max(1) as f64,
            used: 0.0,
            usual: FIRST_GUESS,
            asks: None,
            last_turn: 0,
            busy: false,
            gone: false,
        };
        Self {
            parties: (0..parties).map(party).collect(),
            slots,
            reached: 0.0,
            turns: 0,
        }
    }

    /// Sets shares by weight, in the order of the coordinators; `None` is one that is given up. Nobody gets less than the
    /// least share, whatever the weights; what is no number counts as zero.
    pub(crate) fn set_weights(&mut self, weights: &[Option<f64>]) {
        let valid = |weight: f64| {
            if weight.is_finite() {
                weight.max(0.0)
            } else {
                0.0
            }
        };
        let present = weights.iter().flatten().count();
        let heaviest = weights
            .iter()
            .flatten()
            .copied()
            .map(valid)
            .fold(0.0, f64::max);
        // Relative to the heaviest, so that the sum of any weights is a number.
        let relative = |weight| {
            if heaviest > 0.0 {
                valid(weight) / heaviest
            } else {
                1.0
            }
        };
        let total: f64 = weights.iter().flatten().copied().map(relative).sum();
        let least = LEAST_SHARE.min(0.5 / present.max(1) as f64);
        for (party, weight) in self.parties.iter_mut().zip(weights) {
            party.gone = weight.is_none();
            let Some(weight) = *weight else {
                party.busy = false;
                continue;
            };
            let share = least + (1.0 - least * present as f64) * relative(weight) / total;
            // What it is ahead or behind stays the same slot time.
            party.used = self.reached + (party.used - self.reached) * party.share / share;
            party.share = share;
        }
    }

    /// The share of each, 0 to 1; zero of one that is given up.
    pub(crate) fn shares(&self) -> impl Iterator<Item = f64> + '_ {
        let share = |party: &Party| if party.gone { 0.0 } else { party.share };
        self.parties.iter().map(share)
    }

    /// `party` waits for up to `most` slots.
    pub(crate) fn ask(&mut self, party: usize, most: u32) {
        self.parties[party].asks = (most > 0).then_some(most);
    }

    /// `party` waits no more.
    pub(crate) fn withdraw(&mut self, party: usize) {
        self.parties[party].asks = None;
    }

    /// The next turn while `free` slots are free; nothing when none is or nobody waits.
    ///
    /// While somebody who waits is known to have work, turns go by virtual time; else to who had none for longest, so that
    /// a slot is never kept from the one that may fill it by others that do not.
    pub(crate) fn grant(&mut self, free: u32) -> Option<Turn> {
        let waiting = || {
            let parties = self.parties.iter().enumerate();
            parties.filter(|(_, party)| party.asks.is_some())
        };
        let (chosen, party) = if waiting().any(|(_, party)| party.busy) {
            waiting().min_by(|(_, one), (_, other)| {
                let by_turn = one.last_turn.cmp(&other.last_turn);
                one.used.total_cmp(&other.used).then(by_turn)
            })
        } else {
            waiting().min_by_key(|(_, party)| party.last_turn)
        }?;
        let others = || {
            let parties = self.parties.iter().enumerate();
            parties.filter(|(other, party)| *other != chosen && !party.gone)
        };
        let patient = !others().any(|(_, party)| party.busy);
        let spare = u32::try_from(others().count()).unwrap_or(u32::MAX);
        let most = self.slots.saturating_sub(spare).max(1);
        let fair = (party.share * f64::from(self.slots)).round().max(1.0) as u32;
        let slots = fair.min(most).min(party.asks?).min(free);
        if slots == 0 {
            return None;
        }
        self.turns += 1;
        let party = &mut self.parties[chosen];
        party.last_turn = self.turns;
        party.asks = None;
        Some(Turn {
            party: chosen,
            slots,
            patient,
        })
    }

    /// A poll of `party` gave `runs` runs, which are charged; gives the charge of each, in seconds. Without any it was idle:
    /// who comes back from that has saved up one run at most.
    pub(crate) fn found(&mut self, party: usize, runs: u32) -> f64 {
        let reached = self.reached;
        let party = &mut self.parties[party];
        if runs > 0 {
            if !party.busy {
                party.used = party.used.max(reached - party.usual / party.share);
            }
            self.reached = reached.max(party.used);
            party.used += f64::from(runs) * party.usual / party.share;
        }
        party.busy = runs > 0 && !party.gone;
        party.usual
    }

    /// `party` kept so many seconds of slot time without any run: charged as if it had used them.
    pub(crate) fn kept(&mut self, party: usize, seconds: f64) {
        let party = &mut self.parties[party];
        party.used += seconds / party.share;
    }

    /// A run of `party` that was charged `charged` seconds held its slot for `seconds`.
    pub(crate) fn done(&mut self, party: usize, charged: f64, seconds: f64) {
        let party = &mut self.parties[party];
        party.used += (seconds - charged) / party.share;
        party.usual += LEARNING * (seconds - party.usual);
    }
}

#[cfg(test)]
mod tests;
