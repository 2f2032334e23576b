//! Pauses between repeats of a failed call: doubling, bounded, and spread so that miners do not return in step.

use std::time::Duration;

use cuckoo_core::Entropy;

use crate::Settings;

/// The pauses of one series of failures.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: u64,
    max: u64,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self::between(settings.retry_min_millis, settings.retry_max_millis)
    }

    /// Pauses whose ceilings double from `min` to `max` milliseconds.
    pub(crate) fn between(min: u64, max: u64) -> Self {
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// The next pause: between half and all of a ceiling that doubles with each failure in a row.
    pub(crate) fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let ceiling = self
            .min
            .saturating_mul(1 << self.failures.min(32))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = ceiling / 2;
        Duration::from_millis(ceiling - half + entropy.number() % (half + 1))
    }

    /// A call succeeded: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::SeededEntropy;

    use super::*;

    #[test]
    fn pauses_double_to_the_bound_and_never_leave_their_half() {
        let entropy = SeededEntropy::from_number(3);
        let settings = Settings {
            retry_min_millis: 100,
            retry_max_millis: 1_000,
            ..Settings::default()
        };
        let mut backoff = Backoff::new(&settings);
        for ceiling in [100, 200, 400, 800, 1_000, 1_000] {
            let pause = backoff.next(&entropy).as_millis();
            assert!(
                (ceiling / 2..=ceiling).contains(&pause),
                "{pause} of {ceiling}"
            );
        }
        for _ in 0..100 {
            assert!(backoff.next(&entropy).as_millis() <= 1_000);
        }
        backoff.reset();
        assert!(backoff.next(&entropy).as_millis() <= 100);
    }
}
