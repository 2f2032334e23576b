//! Rate limits: how fast somebody may call. They follow the machine's monotonic clock, like everything that concerns
//! connections: a clock that is set, or simulated, changes nothing.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::LimitReached;

/// A bucket for each caller: filled with `per_second` requests a second, holding `burst` at most.
pub(super) struct Throttle<K: Hash + Eq + Clone, C: Clock = DefaultClock> {
    buckets: RateLimiter<K, HashMapStateStore<K>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    per_second: f64,
    burst: NonZeroU32,
    asked: AtomicU64,
}

impl<K: Hash + Eq + Clone, C: Clock> fmt::Debug for Throttle<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("per_second", &self.per_second)
            .field("burst", &self.burst)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone> Throttle<K> {
    /// A burst of `per_second`, rounded up, when none is given.
    pub(super) fn new(per_second: f64, burst: Option<u32>) -> Self {
        Self::with_clock(per_second, burst, DefaultClock::default())
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Throttle<K, C> {
    /// After so many requests, full buckets are forgotten: memory holds the callers of the last moments only.
    const TIDY_EVERY: u64 = 1_024;

    fn with_clock(per_second: f64, burst: Option<u32>, clock: C) -> Self {
        // Casting saturates; the settings' bounds are far from there.
        let burst = burst.unwrap_or(per_second.ceil() as u32);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Duration::try_from_secs_f64(1.0 / per_second)
            .ok()
            .and_then(Quota::with_period)
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        Self {
            buckets: RateLimiter::new(quota, HashMapStateStore::default(), clock.clone()),
            clock,
            per_second,
            burst,
            asked: AtomicU64::new(0),
        }
    }

    /// Takes one request out of `caller`'s bucket.
    ///
    /// # Errors
    /// The limit, as `policy`, when the bucket is empty.
    pub(super) fn take(&self, caller: &K, policy: &'static str) -> Result<(), LimitReached> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % Self::TIDY_EVERY == Self::TIDY_EVERY - 1 {
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        let Err(not_yet) = self.buckets.check_key(caller) else {
            return Ok(());
        };
        let wait = not_yet.wait_time_from(self.clock.now());
        let burst = u64::from(self.burst.get());
        let refill = Duration::try_from_secs_f64(f64::from(self.burst.get()) / self.per_second);
        let mut limit = LimitReached {
            policy,
            allowed: refill.ok().map(|refill| (burst, refill)),
            retry_after: wait,
            words: String::new(),
        };
        limit.words = format!(
            "at most {burst} at once and {} a second; try again in {} s",
            self.per_second,
            limit.retry_after_seconds()
        );
        Err(limit)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn a_caller_gets_its_burst_then_its_rate_and_others_notice_nothing() {
        let clock = FakeRelativeClock::default();
        let throttle = Throttle::with_clock(0.5, Some(3), clock.clone());
        for _ in 0..3 {
            throttle.take(&"a", "requests").unwrap();
        }
        let limit = throttle.take(&"a", "requests").unwrap_err();
        assert_eq!(limit.retry_after_seconds(), 2);
        assert_eq!(limit.allowed, Some((3, Duration::from_secs(6))));
        assert_eq!(
            limit.to_string(),
            "at most 3 at once and 0.5 a second; try again in 2 s"
        );
        throttle.take(&"b", "requests").unwrap();
        clock.advance(Duration::from_millis(1_999));
        assert_eq!(
            throttle
                .take(&"a", "requests")
                .unwrap_err()
                .retry_after_seconds(),
            1
        );
        clock.advance(Duration::from_millis(1));
        throttle.take(&"a", "requests").unwrap();
        throttle.take(&"a", "requests").unwrap_err();
    }

    #[test]
    fn without_a_burst_it_is_the_rate_of_a_second() {
        let throttle = Throttle::with_clock(1.5, None, FakeRelativeClock::default());
        throttle.take(&(), "requests").unwrap();
        throttle.take(&(), "requests").unwrap();
        throttle.take(&(), "requests").unwrap_err();
    }

    #[test]
    fn callers_that_stopped_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let throttle = Throttle::with_clock(100.0, Some(10), clock.clone());
        for caller in 0..100_000_u64 {
            throttle.take(&caller, "requests").unwrap();
            // A million callers a second, whose buckets are full again after 10 ms.
            clock.advance(Duration::from_micros(1));
        }
        let kept = throttle.buckets.len() as u64;
        assert!(
            kept <= 20_000 + Throttle::<u64>::TIDY_EVERY,
            "{kept} buckets"
        );
    }
}
