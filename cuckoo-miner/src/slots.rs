//! Slots: how many tasks run at once, shared by all coordinators in turns that the chooser gives.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::choice::Chooser;

/// The right to run one task; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    party: usize,
}

impl Slot {
    /// Says how long the run in it took, in seconds, of which `charged` were charged when it began.
    pub(crate) fn spent(&self, charged: f64, seconds: f64) {
        self.slots.lock().chooser.done(self.party, charged, seconds);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().free += 1;
        self.slots.hand_out();
    }
}

/// Slots to poll with.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) slots: Vec<Slot>,
    /// Whether the poll may wait for work, since no other coordinator is known to have any.
    pub(crate) patient: bool,
}

/// The slots of one miner.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: u32,
    chooser: Chooser,
    waiting: Vec<Option<oneshot::Sender<Turn>>>,
    closed: bool,
}

/// Takes the question back when nobody waits for its answer any more.
struct Asking<'a>(&'a Slots, usize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let Self(slots, party) = self;
        let mut state = slots.lock();
        state.waiting[*party] = None;
        state.chooser.withdraw(*party);
    }
}

impl Slots {
    /// `total` slots for `parties` poll loops.
    pub(crate) fn new(total: u32, parties: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: total,
            chooser: Chooser::new(parties, total),
            waiting: (0..parties).map(|_| None).collect(),
            closed: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of one poll loop, with up to `most` slots. A slot is held from before the poll, so that a
    /// coordinator is never promised one that another fills meanwhile. Safe to drop.
    ///
    /// Nothing once the slots are closed.
    pub(crate) async fn reserve(&self, party: usize, most: u32) -> Option<Turn> {
        let (sender, turn) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.closed {
                return None;
            }
            state.waiting[party] = Some(sender);
            state.chooser.ask(party, most);
        }
        let _asking = Asking(self, party);
        self.hand_out();
        turn.await.ok()
    }

    /// Gives free slots out to those who wait.
    fn hand_out(&self) {
        loop {
            let mut state = self.lock();
            let free = state.free;
            let Some(granted) = state.chooser.grant(free) else {
                return;
            };
            let sender = state.waiting[granted.party].take();
            state.free -= granted.slots;
            drop(state);
            let slot = |_| Slot {
                slots: self.clone(),
                party: granted.party,
            };
            let turn = Turn {
                slots: (0..granted.slots).map(slot).collect(),
                patient: granted.patient,
            };
            // Unlocked: if nobody waits any more, the slots come back here at once.
            drop(sender.map(|sender| sender.send(turn)));
        }
    }

    /// How many runs a poll gave; tells what each is charged, in seconds.
    pub(crate) fn found(&self, party: usize, runs: usize) -> f64 {
        let runs = u32::try_from(runs).unwrap_or(u32::MAX);
        self.lock().chooser.found(party, runs)
    }

    /// A poll kept so many seconds of slot time and gave nothing for it.
    pub(crate) fn kept(&self, party: usize, seconds: f64) {
        self.lock().chooser.kept(party, seconds);
    }

    /// Sets what each poll loop's turns are by; `None` for one that ended.
    pub(crate) fn set_weights(&self, weights: &[Option<f64>]) {
        self.lock().chooser.set_weights(weights);
    }

    /// The share of each poll loop, 0 to 1.
    pub(crate) fn shares(&self) -> Vec<f64> {
        self.lock().chooser.shares().collect()
    }

    /// Gives out no more slots; those that are out stay valid.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.fill_with(|| None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_party_gets_all_slots_and_two_their_shares_in_turn() {
        let alone = Slots::new(3, 1);
        let turn = alone.reserve(0, u32::MAX).await.unwrap();
        assert_eq!((turn.slots.len(), turn.patient), (3, true));
        drop(turn);
        assert_eq!(alone.reserve(0, 2).await.unwrap().slots.len(), 2);

        let shared = Slots::new(4, 2);
        let first = shared.reserve(0, u32::MAX).await.unwrap();
        let second = shared.reserve(1, u32::MAX).await.unwrap();
        assert_eq!((first.slots.len(), second.slots.len()), (2, 2));
        let mut waiting = Box::pin(shared.reserve(0, u32::MAX));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        // Each is handed on as it comes back, and the second one waits for the next poll.
        assert_eq!(waiting.await.unwrap().slots.len(), 1);
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_any_more_goes_to_the_next() {
        let slots = Slots::new(1, 2);
        let held = slots.reserve(0, 1).await.unwrap();
        let mut given_up = Box::pin(slots.reserve(0, 1));
        let mut waiting = Box::pin(slots.reserve(1, 1));
        assert!(futures::poll!(&mut given_up).is_pending());
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(given_up);
        drop(held);
        drop(waiting.await.unwrap());
        // Granted, but dropped before it was looked at.
        let held = slots.reserve(0, 1).await.unwrap();
        let mut late = Box::pin(slots.reserve(1, 1));
        assert!(futures::poll!(&mut late).is_pending());
        drop(held);
        drop(late);
        assert_eq!(slots.reserve(0, 1).await.unwrap().slots.len(), 1);
    }

    #[tokio::test]
    async fn closed_slots_end_the_wait() {
        let slots = Slots::new(1, 1);
        let held = slots.reserve(0, 1).await.unwrap();
        let mut waiting = Box::pin(slots.reserve(0, 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        slots.close();
        assert!(waiting.await.is_none());
        drop(held);
        assert!(slots.reserve(0, 1).await.is_none());
    }
}
