//! How often a value fell between which bounds.

use std::time::Duration;

/// Upper bounds of durations, in seconds: from what a disk takes to what a film takes.
pub(crate) const SECONDS: &[f64] = &[
    0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
];
/// Upper bounds of the number of changes in a commit.
pub(crate) const CHANGES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0,
];

/// Counts between fixed bounds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above the last.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    pub(crate) fn note(&mut self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum += value;
    }

    pub(crate) fn note_time(&mut self, time: Duration) {
        self.note(time.as_secs_f64());
    }

    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each upper bound, infinity the last, and how many are between it and the one before.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }

    /// The value that so many of a thousand are below, as exactly as the bounds tell.
    pub(crate) fn quantile(&self, thousandths: u64) -> Option<f64> {
        let wanted = self.count() as f64 * thousandths as f64 / 1_000.0;
        let (mut passed, mut lower) = (0.0, 0.0);
        for (upper, count) in self.buckets().into_iter().filter(|(_, count)| *count > 0) {
            let count = count as f64;
            if passed + count >= wanted {
                let lower = self.below(upper).unwrap_or(lower);
                let inside = (wanted - passed) / count;
                // What is above the last bound is at least that.
                let width = if upper.is_finite() {
                    upper - lower
                } else {
                    0.0
                };
                return Some(lower + width * inside);
            }
            passed += count;
            lower = upper;
        }
        None
    }

    /// The bound below another one; zero below the first.
    fn below(&self, upper: f64) -> Option<f64> {
        let at = self.bounds.partition_point(|bound| *bound < upper);
        match at.checked_sub(1) {
            Some(before) => self.bounds.get(before).copied(),
            None => Some(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_below_the_first_bound_that_holds_it() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        assert_eq!(histogram.quantile(500), None);
        for value in [0.5, 1.0, 1.5, 7.0] {
            histogram.note(value);
        }
        assert_eq!(
            histogram.buckets(),
            [(1.0, 2), (2.0, 1), (f64::INFINITY, 1)]
        );
        assert_eq!((histogram.count(), histogram.sum()), (4, 10.0));
        assert_eq!(histogram.quantile(250), Some(0.5));
        assert_eq!(histogram.quantile(750), Some(2.0));
        assert_eq!(histogram.quantile(1_000), Some(2.0));
    }
}
