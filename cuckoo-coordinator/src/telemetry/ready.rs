//! Whether new tasks are best sent here.

use std::time::Duration;

use cuckoo_core::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::market::Market;

/// How long a store that failed counts as down. Then it is tried again: without tasks, nothing would ever be written that
/// shows it to be well.
const STORE_REST: Duration = Duration::from_secs(30);

/// When the chain was heard of last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainSeen {
    /// When it was read.
    pub(crate) read_at: Timestamp,
    /// When a reading showed a block that was new.
    pub(crate) block_at: Timestamp,
}

impl ChainSeen {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            read_at: now,
            block_at: now,
        }
    }

    /// The chain was read, and its block may have been a new one.
    pub(crate) fn read(&mut self, new_block: bool, now: Timestamp) {
        self.read_at = now;
        if new_block {
            self.block_at = now;
        }
    }
}

/// Whether the coordinator takes tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether it does.
    pub(crate) ready: bool,
    /// Why not; nothing when it is ready.
    pub(crate) reasons: Vec<Reason>,
}

/// One reason not to send tasks here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Reason {
    /// `draining`, `store`, `chain` or `inactive`.
    pub(crate) what: &'static str,
    /// The same in words.
    pub(crate) message: String,
}

impl Market {
    /// Whether tasks are taken, when a reading of the chain holds for so long.
    pub(crate) fn readiness(&self, max_chain_age: Duration, now: Timestamp) -> Readiness {
        let mut reasons = Vec::new();
        let mut because = |what, message: String| reasons.push(Reason { what, message });
        if !self.takes_tasks() {
            because("draining", "it is shutting down".into());
        }
        let failed = self.tally.store_failed_at.map(|at| now.since(at));
        if let Some(ago) = failed.filter(|ago| *ago < STORE_REST) {
            because(
                "store",
                format!(
                    "the store took no write {} s ago; the log says why",
                    ago.as_secs()
                ),
            );
        }
        let age = now.since(self.chain_seen.read_at);
        if age > max_chain_age {
            because(
                "chain",
                format!("the chain was read {} s ago", age.as_secs()),
            );
        }
        if !self.is_active() {
            because(
                "inactive",
                "this coordinator is not active on chain; its owner must keep its vote above the minimum".into(),
            );
        }
        Readiness {
            ready: reasons.is_empty(),
            reasons,
        }
    }
}
