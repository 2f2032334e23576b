//! What work pays: pay and slot time, of which half is forgotten every half-hour.

use std::time::Duration;

use cuckoo_core::{Timestamp, Wei};

const HALF_LIFE: Duration = Duration::from_secs(1_800);

/// What a coordinator paid and which slot time it had for it, lately.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    started: Timestamp,
    at: Timestamp,
    paid: f64,
    seconds: f64,
    total: Wei,
}

impl Meter {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            started: now,
            at: now,
            paid: 0.0,
            seconds: 0.0,
            total: Wei::ZERO,
        }
    }

    fn age(&mut self, now: Timestamp) {
        let kept = kept(now.since(self.at));
        self.paid *= kept;
        self.seconds *= kept;
        self.at = self.at.max(now);
    }

    /// A voucher paid so much for work done here, in wei.
    pub(crate) fn pay(&mut self, amount: Wei, now: Timestamp) {
        self.age(now);
        self.paid += in_cai(amount);
        self.total = self.total.saturating_add(amount);
    }

    /// A run held its slot for so many seconds.
    pub(crate) fn work(&mut self, seconds: f64, now: Timestamp) {
        self.age(now);
        self.seconds += seconds;
    }

    /// Paid lately in CAI, for so many slot seconds.
    pub(crate) fn lately(&mut self, now: Timestamp) -> (f64, f64) {
        self.age(now);
        (self.paid, self.seconds)
    }

    /// Paid since the start, in wei.
    pub(crate) fn total(&self) -> Wei {
        self.total
    }

    /// What an hour like the last ones brings, in CAI.
    pub(crate) fn per_hour(&mut self, now: Timestamp) -> f64 {
        self.age(now);
        // The mean weight of a moment since the start, times all moments: less while the meter is young.
        let remembered = 1.0 - kept(now.since(self.started));
        let seconds = HALF_LIFE.as_secs_f64() / std::f64::consts::LN_2 * remembered;
        // No rate is made of the first seconds.
        self.paid * 3_600.0 / seconds.max(60.0)
    }
}

fn kept(time: Duration) -> f64 {
    0.5_f64.powf(time.as_secs_f64() / HALF_LIFE.as_secs_f64())
}

/// Wei as CAI: to compare by, not for books.
pub(crate) fn in_cai(amount: Wei) -> f64 {
    f64::from(amount) / 1e18
}

#[cfg(test)]
mod tests {
    use cuckoo_core::cai;

    use super::*;

    #[test]
    fn half_is_forgotten_and_a_steady_hour_is_told_as_it_is() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let mut meter = Meter::new(at(0));
        meter.pay(cai(8), at(0));
        meter.work(4.0, at(0));
        let (paid, seconds) = meter.lately(at(3_600));
        assert!((paid - 2.0).abs() < 1e-9 && (seconds - 1.0).abs() < 1e-9);
        // A clock that goes back changes nothing.
        assert_eq!(meter.lately(at(0)).0, paid);

        for hours in [1, 10] {
            let mut meter = Meter::new(at(0));
            for second in 1..=hours * 3_600 {
                meter.pay(cai(1), at(second));
            }
            let hourly = meter.per_hour(at(hours * 3_600));
            assert!((hourly - 3_600.0).abs() < 10.0, "{hourly} after {hours} h");
            assert_eq!(meter.total(), cai(hours * 3_600));
        }
    }
}
