//! A size that a node allows and does not tell.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How much may be asked for at once: halved by refusals, regained one by one.
#[derive(Debug)]
pub(crate) struct Learned {
    most: usize,
    now: AtomicUsize,
}

impl Learned {
    /// `most`, until it is refused.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            now: AtomicUsize::new(most),
        }
    }

    pub(crate) fn get(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// So much was too much.
    pub(crate) fn refused(&self, size: usize) {
        self.now.fetch_min((size / 2).max(1), Ordering::Relaxed);
    }

    /// So much was given. When two say so at once, one of them counts.
    pub(crate) fn taken(&self, size: usize) {
        if size == self.get() && size < self.most {
            self.now.store(size + 1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_halve_and_successes_regain() {
        let size = Learned::new(8);
        size.taken(8);
        assert_eq!(size.get(), 8);
        size.refused(8);
        assert_eq!(size.get(), 4);
        // A late refusal of what nobody asks for any more.
        size.refused(8);
        assert_eq!(size.get(), 4);
        // The rest of a list says nothing about a full request.
        size.taken(3);
        assert_eq!(size.get(), 4);
        for expected in [5, 6, 7, 8, 8] {
            size.taken(size.get());
            assert_eq!(size.get(), expected);
        }
        for _ in 0..9 {
            size.refused(size.get());
        }
        assert_eq!(size.get(), 1);
    }
}
