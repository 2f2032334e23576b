//! Previews: the beginning of an output that a miner streams while it makes it, kept once for all who watch the task.
//!
//! A preview promises nothing: the receipt decides. What watchers saw holds as long as the output that counts begins
//! with it; a miner that streamed something else than it hands in is refused. When a lease is lost, its bytes stay in
//! view, and as long as the next miner streams the same ones (which it does where tasks repeat exactly), nobody notices.
//! Only where it departs from them are watchers told to start over.
//!
//! An output that comes all at once has sketches instead, in [`sketch`].

mod sketch;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cuckoo_core::{
    Chunk, ChunkReply, Error, LeaseId, LeaseStatus, PayloadHasher, Result, SessionToken, TaskId,
    Timestamp,
};
use tokio::sync::watch::{Receiver, Sender};

use crate::dispatch::Role;
use crate::market::{Market, Stage};

pub(crate) use sketch::{Kept, Sketch};
pub use watch::OutputEvent;

/// What was streamed of one task's output.
#[derive(Debug)]
pub(crate) struct Preview {
    shown: Sender<Shown>,
    /// Who streamed last, and how far it is.
    lease: Option<LeaseId>,
    position: usize,
    /// There was no room for more: watchers see the rest when the task ends.
    full: bool,
}

/// What watchers see.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Grows when what was shown before holds no more.
    round: u32,
    bytes: Vec<u8>,
    budget: Arc<Budget>,
}

/// The room that all previews share.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            used: AtomicUsize::new(0),
        })
    }

    /// Takes room for `bytes`, unless there is not so much left.
    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.len());
    }
}

impl Preview {
    fn new(budget: Arc<Budget>) -> Self {
        let shown = Shown {
            round: 0,
            bytes: Vec::new(),
            budget,
        };
        Self {
            shown: Sender::new(shown),
            lease: None,
            position: 0,
            full: false,
        }
    }

    /// Takes what `lease` streams next.
    fn add(&mut self, lease: LeaseId, fresh: &[u8]) {
        if self.full {
            return;
        }
        if self.lease != Some(lease) {
            self.lease = Some(lease);
            self.position = 0;
        }
        let position = self.position;
        let full = &mut self.full;
        self.shown.send_if_modified(|shown| {
            let known = &shown.bytes[position..];
            let same = known.iter().zip(fresh).take_while(|(a, b)| a == b).count();
            if same == fresh.len() {
                return false;
            }
            if same < known.len() {
                shown.budget.give_back(known.len() - same);
                shown.bytes.truncate(position + same);
                shown.round += 1;
            }
            if shown.budget.take(fresh.len() - same) {
                shown.bytes.extend_from_slice(&fresh[same..]);
            } else {
                *full = true;
            }
            true
        });
        self.position += fresh.len();
    }
}

/// What a lease has streamed so far.
pub(crate) type Streamed = Option<Box<PayloadHasher>>;

impl Market {
    /// Takes a chunk; extends its lease.
    ///
    /// # Errors
    /// `Closed`, `Unauthorized`, or `Invalid` for a chunk or an output that is too long.
    pub(crate) fn stream(
        &mut self,
        token: &SessionToken,
        chunk: &Chunk,
        now: Timestamp,
    ) -> Result<ChunkReply> {
        self.check_running()?;
        let miner = self.registry.authenticate(token, now)?;
        let length = chunk.bytes.len();
        if length > Chunk::MAX_BYTES {
            return Err(Error::invalid(format!(
                "the chunk is {length} bytes; send at most {} at once",
                Chunk::MAX_BYTES
            )));
        }
        let end = chunk.offset.saturating_add(length as u64);
        if end > self.settings.max_output_bytes as u64 {
            return Err(Error::invalid(format!(
                "the output is longer than the {} bytes that are taken",
                self.settings.max_output_bytes
            )));
        }
        let lease = self.keep_alive(miner, chunk.lease, now);
        let received = match lease {
            LeaseStatus::Active { .. } => self.take_chunk(chunk),
            LeaseStatus::Cancelled | LeaseStatus::Ended => 0,
        };
        Ok(ChunkReply { lease, received })
    }

    /// Adds what is new in a chunk to its lease and, unless that is an audit's, to what watchers see; gives how much has
    /// arrived.
    fn take_chunk(&mut self, chunk: &Chunk) -> u64 {
        let Some(lease) = self.dispatch.lease_mut(chunk.lease) else {
            return 0;
        };
        let received = lease.streamed.as_ref().map_or(0, |known| known.length());
        // Sent again in part or whole, or with a gap before it.
        let passed = received.checked_sub(chunk.offset);
        let fresh = passed
            .and_then(|passed| usize::try_from(passed).ok())
            .and_then(|passed| chunk.bytes.get(passed..))
            .unwrap_or_default();
        if fresh.is_empty() {
            return received;
        }
        let streamed = lease.streamed.get_or_insert_default();
        streamed.update(fresh);
        let received = streamed.length();
        if lease.role == Role::Work
            && let Some(entry) = self.tasks.get_mut(&lease.task)
        {
            entry
                .preview
                .get_or_insert_with(|| Box::new(Preview::new(Arc::clone(&self.previews))))
                .add(chunk.lease, fresh);
        }
        received
    }

    /// What is shown of a task's output from now on; nothing when the task has ended.
    pub(crate) fn preview(&mut self, id: TaskId) -> Option<Receiver<Shown>> {
        let entry = self.tasks.get_mut(&id)?;
        if entry.stage == Stage::Done {
            return None;
        }
        let preview = entry
            .preview
            .get_or_insert_with(|| Box::new(Preview::new(Arc::clone(&self.previews))));
        Some(preview.shown.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::B256;

    use super::*;

    fn lease(number: u8) -> LeaseId {
        LeaseId::from(B256::repeat_byte(number))
    }

    fn shown(preview: &Preview) -> (u32, String) {
        let shown = preview.shown.borrow();
        (
            shown.round,
            String::from_utf8_lossy(&shown.bytes).into_owned(),
        )
    }

    #[test]
    fn another_lease_starts_over_only_where_it_departs() {
        let mut preview = Preview::new(Budget::new(100));
        preview.add(lease(1), b"a red ");
        preview.add(lease(1), b"circle");
        assert_eq!(shown(&preview), (0, "a red circle".into()));
        preview.add(lease(2), b"a re");
        preview.add(lease(2), b"d circle is");
        assert_eq!(shown(&preview), (0, "a red circle is".into()));
        preview.add(lease(3), b"a red square");
        assert_eq!(shown(&preview), (1, "a red square".into()));
        preview.add(lease(3), b"!");
        assert_eq!(shown(&preview), (1, "a red square!".into()));
    }

    #[test]
    fn previews_share_their_room_and_give_it_back() {
        let budget = Budget::new(10);
        let mut first = Preview::new(Arc::clone(&budget));
        let mut second = Preview::new(Arc::clone(&budget));
        first.add(lease(1), b"12345678");
        second.add(lease(2), b"123");
        assert_eq!(shown(&second), (0, String::new()));
        first.add(lease(3), b"abc");
        assert_eq!(budget.used.load(Ordering::Relaxed), 3);
        // Once something is missing, nothing after it is shown.
        second.add(lease(2), b"456");
        assert_eq!(shown(&second), (0, String::new()));
        let watcher = first.shown.subscribe();
        drop(first);
        assert_eq!(budget.used.load(Ordering::Relaxed), 3);
        drop(watcher);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
