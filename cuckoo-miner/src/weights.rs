//! What turns go by: a coordinator's stake, times what its work pays lately, less for slow answers.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Mirror, Snapshot};

use crate::earnings::in_cai;
use crate::link::Link;
use crate::miner::Shared;

/// How often shares follow what was paid.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the chain is asked for a new epoch; its changes are heard of by themselves.
const CHAIN_INTERVAL: Duration = Duration::from_secs(30);
/// Slot seconds for which a coordinator counts as paying what all do, before its own record outweighs that.
const TRIAL: f64 = 60.0;
/// The latency that halves a weight, in seconds.
const SLOW: f64 = 1.0;

/// What is known of a coordinator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// In CAI.
    pub(crate) stake: f64,
    /// Lately, in CAI.
    pub(crate) paid: f64,
    /// For so many slot seconds.
    pub(crate) seconds: f64,
    /// In seconds.
    pub(crate) latency: f64,
}

/// The weight of each coordinator, `None` of those that are given up.
pub(crate) fn weights(records: &[Option<Record>]) -> Vec<Option<f64>> {
    let sum = |part: fn(&Record) -> f64| records.iter().flatten().map(part).sum::<f64>();
    let (paid, seconds) = (sum(|record| record.paid), sum(|record| record.seconds));
    // Where nobody paid yet, everybody is taken to pay the same.
    let mean = if paid > 0.0 && seconds > 0.0 {
        paid / seconds
    } else {
        0.0
    };
    let weigh = |record: &Record| {
        let rate = if mean > 0.0 {
            (record.paid + mean * TRIAL) / (record.seconds + TRIAL)
        } else {
            1.0
        };
        record.stake * rate / (1.0 + record.latency / SLOW)
    };
    let weigh = |record: &Option<Record>| record.as_ref().map(weigh);
    records.iter().map(weigh).collect()
}

/// Keeps turns by weight until the miner is closed.
pub(crate) async fn run(shared: Arc<Shared>, links: Vec<Arc<Link>>) {
    tokio::select! {
        () = shared.closed.cancelled() => {}
        () = keep(&shared, &links) => {}
    }
}

async fn keep(shared: &Arc<Shared>, links: &[Arc<Link>]) {
    let clock = &shared.clock;
    let mut mirror: Option<Mirror> = None;
    let mut next_try = clock.now();
    loop {
        if mirror.is_none() && clock.now() >= next_try {
            next_try = clock.now().after(CHAIN_INTERVAL);
            let chain = Arc::clone(&shared.chain);
            // Until then they have the stake that they had when their sessions were opened.
            mirror = Mirror::start(chain, Arc::clone(clock), CHAIN_INTERVAL)
                .await
                .ok();
        }
        if let Some(mirror) = &mirror {
            take_stakes(&mirror.latest().snapshot, links);
        }
        let now = clock.now();
        let records: Vec<_> = links.iter().map(|link| link.record(now)).collect();
        shared.slots.set_weights(&weights(&records));
        clock.sleep(INTERVAL).await;
    }
}

fn take_stakes(snapshot: &Snapshot, links: &[Arc<Link>]) {
    for link in links {
        let Some((coordinator, _)) = link.nodes() else {
            continue;
        };
        if let Some(node) = snapshot.node(coordinator) {
            link.standing.state().stake = node.weight;
        }
    }
}

impl Link {
    fn record(&self, now: cuckoo_core::Timestamp) -> Option<Record> {
        if self.dropped.is_cancelled() {
            return None;
        }
        let mut state = self.standing.state();
        let (paid, seconds) = state.meter.lately(now);
        Some(Record {
            stake: in_cai(state.stake),
            paid,
            seconds,
            latency: state.latency.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stake: f64, paid: f64, seconds: f64, latency: f64) -> Option<Record> {
        Some(Record {
            stake,
            paid,
            seconds,
            latency,
        })
    }

    #[test]
    fn weight_is_stake_times_pay_less_for_slow_answers() {
        let before_any_pay = weights(&[record(3.0, 0.0, 0.0, 0.0), record(1.0, 0.0, 9.0, 1.0)]);
        assert_eq!(before_any_pay, [Some(3.0), Some(0.5)]);

        let paying = [
            record(2.0, 2e6, 1e6, 0.0),
            record(1.0, 4e6, 1e6, 0.0),
            None,
            // New: counts as all of them together, until its own record outweighs that.
            record(1.0, 0.0, 0.0, 0.0),
            record(1.0, 0.0, 1e6, 0.0),
        ];
        let weights = weights(&paying);
        let near = |which: usize, weight: f64| (weights[which].unwrap() - weight).abs() < 1e-3;
        assert!(near(0, 4.0) && near(1, 4.0), "{weights:?}");
        assert!(near(3, 2.0) && near(4, 0.0), "{weights:?}");
        assert_eq!(weights[2], None);
    }
}
