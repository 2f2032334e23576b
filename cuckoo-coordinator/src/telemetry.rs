//! What operators watch: numbers for Prometheus, the dashboard's state, whether the coordinator is ready, and traces.
//!
//! Transitions count under the lock they hold anyway ([`Tally`], [`Latest`]); everything else is read from the market
//! when somebody asks.

mod dashboard;
mod histogram;
mod latest;
mod metrics;
mod readings;
mod ready;
mod tally;
mod traces;

pub(crate) use dashboard::DashboardState;
pub(crate) use latest::Latest;
pub(crate) use metrics::{RequestCount, TEXT_FORMAT, render};
pub(crate) use readings::Readings;
pub(crate) use ready::{ChainSeen, Readiness};
pub(crate) use tally::{CommitCost, Tally};
#[cfg(feature = "otel")]
pub(crate) use traces::TaskTraces;
pub use traces::TraceSettings;
#[cfg(feature = "otel")]
pub use traces::Traces;

use std::time::Duration;

use cuckoo_core::{Result, Wei};

use crate::Coordinator;

impl Coordinator {
    /// The market in numbers, as Prometheus' text format 0.0.4; `docs/watch.md` explains each.
    ///
    /// # Errors
    /// `Internal` when the text cannot be put together, which is not known to happen.
    pub fn metrics(&self) -> Result<String> {
        render(self.readings(), Vec::new())
    }

    pub(crate) fn readings(&self) -> Readings {
        self.inner.with(|market, now| market.readings(now))
    }

    /// Whether tasks are taken, when a reading of the chain holds for so long.
    pub(crate) fn readiness(&self, max_chain_age: Duration) -> Readiness {
        let inner = &self.inner;
        inner.with(|market, now| market.readiness(max_chain_age, now))
    }

    pub(crate) fn dashboard(&self, max_chain_age: Duration) -> DashboardState {
        self.inner.with(|market, now| {
            let readiness = market.readiness(max_chain_age, now);
            market.dashboard(readiness, now)
        })
    }
}

/// Wei as CAI: for charts, not for books.
fn in_cai(amount: Wei) -> f64 {
    f64::from(amount) / 1e18
}
