//! What is due when: a heap of deadlines that one task outside the lock waits for.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use cuckoo_core::Timestamp;

/// Entries ordered by time. They are never removed early: whoever handles one checks whether it still matters.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    next: u64,
    /// An entry became the first: whoever waits must wait anew.
    earlier: bool,
}

#[derive(Debug)]
struct Entry<T> {
    at: Timestamp,
    /// Keeps entries of one time in the order they were added.
    order: u64,
    what: T,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next: 0,
            earlier: false,
        }
    }

    pub(crate) fn add(&mut self, at: Timestamp, what: T) {
        self.earlier |= self.first().is_none_or(|first| at < first);
        self.heap.push(Reverse(Entry {
            at,
            order: self.next,
            what,
        }));
        self.next += 1;
    }

    /// When the first entry is due.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.heap.peek().map(|entry| entry.0.at)
    }

    /// Takes the first entry that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<T> {
        if self.first()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.0.what)
    }

    /// Whether an entry became the first since this was asked last.
    pub(crate) fn take_earlier(&mut self) -> bool {
        std::mem::take(&mut self.earlier)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_by_time_then_in_the_order_added() {
        let at = Timestamp::from_millis;
        let mut timers = Timers::new();
        timers.add(at(20), 'c');
        assert!(timers.take_earlier());
        timers.add(at(10), 'a');
        timers.add(at(10), 'b');
        assert!(timers.take_earlier());
        timers.add(at(30), 'd');
        assert!(!timers.take_earlier());
        assert_eq!(timers.pop_due(at(9)), None);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(20))).collect();
        assert_eq!(due, ['a', 'b', 'c']);
        assert_eq!(timers.first(), Some(at(30)));
    }
}
