//! The miner against a scripted coordinator: real keys, real signatures, a real contract executed in process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod blobs;
mod echo;
mod leases;
mod peer;
mod previews;
mod redeem;
mod sessions;
mod shutdown;
mod streams;
mod wants;
mod work;

use std::sync::Arc;
use std::time::Duration;

use cuckoo_miner::{Miner, MinerBuilder, Settings};

use crate::echo::Echo;
use crate::peer::{Market, Peer};

/// Short pauses, so that tests of repeats are quick.
pub(crate) fn settings() -> Settings {
    Settings {
        retry_min_millis: 5,
        retry_max_millis: 40,
        cancel_grace_millis: 50,
        call_timeout_millis: 5_000,
        max_output_bytes: 1_000,
        ..Settings::default()
    }
}

pub(crate) fn builder(market: &Market, peer: &Arc<Peer>, echo: &Arc<Echo>) -> MinerBuilder {
    let peer: Arc<Peer> = Arc::clone(peer);
    let echo: Arc<Echo> = Arc::clone(echo);
    Miner::builder()
        .operator(market.miner.operator.clone())
        .coordinator(peer)
        .chain(Arc::clone(&market.chain))
        .executor(echo)
        .settings(settings())
        .clock(Arc::clone(&market.clock))
        .entropy(Arc::clone(&market.entropy))
}

/// A market, its coordinator, and a miner with one slot that is connected to it.
pub(crate) async fn connected() -> (Market, Arc<Peer>, Arc<Echo>, Miner) {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    let miner = builder(&market, &peer, &echo).start().await.unwrap();
    miner.connected().await.unwrap();
    (market, peer, echo, miner)
}

pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    use cuckoo_core::{Clock as _, SystemClock};
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for: {what}");
}
