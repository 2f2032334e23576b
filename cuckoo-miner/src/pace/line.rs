//! The tasks in one executor: those that run, and those that wait for a place, first come, first served.

use cuckoo_core::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Line {
    /// In the order they came.
    entries: Vec<Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    /// What it should take, in seconds.
    seconds: f64,
    /// Absent while it waits.
    began: Option<Timestamp>,
}

impl Line {
    /// Seconds that a task which comes now waits for one of `places`.
    pub(super) fn wait(&self, places: usize, now: Timestamp) -> f64 {
        if self.entries.len() < places {
            return 0.0;
        }
        let rest = |entry: &Entry| {
            let began = entry.began?;
            Some((entry.seconds - now.since(began).as_secs_f64()).max(0.0))
        };
        // When each place is free.
        let mut free: Vec<f64> = self.entries.iter().filter_map(rest).collect();
        let waiting = self.entries.iter().filter(|entry| entry.began.is_none());
        for entry in waiting {
            if let Some(soonest) = free.iter_mut().min_by(|a, b| a.total_cmp(b)) {
                *soonest += entry.seconds;
            }
        }
        free.into_iter().min_by(f64::total_cmp).unwrap_or(0.0)
    }

    /// Takes a task in that should take so many seconds; gives its number.
    pub(super) fn enter(&mut self, seconds: f64, places: usize, now: Timestamp) -> u64 {
        let id = self.next;
        self.next += 1;
        let began = (self.entries.len() < places).then_some(now);
        self.entries.push(Entry { id, seconds, began });
        id
    }

    /// When a task began to run.
    pub(super) fn began(&self, id: u64) -> Option<Timestamp> {
        let entry = self.entries.iter().find(|entry| entry.id == id);
        entry?.began
    }

    /// Lets a task out, and the next one begin.
    pub(super) fn leave(&mut self, id: u64, places: usize, now: Timestamp) {
        self.entries.retain(|entry| entry.id != id);
        let running = self.entries.iter().filter(|entry| entry.began.is_some());
        let free = places.saturating_sub(running.count());
        let waiting = self
            .entries
            .iter_mut()
            .filter(|entry| entry.began.is_none());
        for entry in waiting.take(free) {
            entry.began = Some(now);
        }
    }
}
