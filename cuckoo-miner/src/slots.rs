//! Slots: how many tasks run at once, shared by all coordinators in turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The right to run one task; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// The slots of one miner. Whoever waits longest is served first, so no coordinator starves another.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    share: usize,
}

impl Slots {
    /// `total` slots for `parties` poll loops.
    pub(crate) fn new(total: u32, parties: usize) -> Self {
        let total = total as usize;
        Self {
            free: Arc::new(Semaphore::new(total)),
            share: (total / parties.max(1)).max(1),
        }
    }

    /// Waits for a free slot, then takes what else is free, up to an equal share of all slots. A slot is held from
    /// before the poll, so that a coordinator is never promised one that another fills meanwhile.
    ///
    /// Nothing once the slots are closed.
    pub(crate) async fn reserve(&self) -> Option<Vec<Slot>> {
        let first = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let mut reserved = vec![Slot { _permit: first }];
        while reserved.len() < self.share
            && let Ok(permit) = Arc::clone(&self.free).try_acquire_owned()
        {
            reserved.push(Slot { _permit: permit });
        }
        Some(reserved)
    }

    /// Gives out no more slots; those that are out stay valid.
    pub(crate) fn close(&self) {
        self.free.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_party_gets_all_slots_and_two_an_equal_share_in_turn() {
        let alone = Slots::new(3, 1);
        assert_eq!(alone.reserve().await.unwrap().len(), 3);

        let shared = Slots::new(4, 2);
        let first = shared.reserve().await.unwrap();
        let second = shared.reserve().await.unwrap();
        assert_eq!((first.len(), second.len()), (2, 2));
        let mut waiting = Box::pin(shared.reserve());
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        assert_eq!(waiting.await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn more_parties_than_slots_get_one_each() {
        let slots = Slots::new(1, 5);
        assert_eq!(slots.reserve().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn closed_slots_end_the_wait() {
        let slots = Slots::new(1, 1);
        let held = slots.reserve().await.unwrap();
        let mut waiting = Box::pin(slots.reserve());
        assert!(futures::poll!(&mut waiting).is_pending());
        slots.close();
        assert!(waiting.await.is_none());
        drop(held);
        assert!(slots.reserve().await.is_none());
    }
}
