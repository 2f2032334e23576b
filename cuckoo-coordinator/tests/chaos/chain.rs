//! A chain that stands still: work goes on with the last weights.

use std::net::SocketAddr;

use cuckoo_core::{Clock as _, SystemClock};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::market::{Market, Plan};
use crate::table::{Row, Scale};

/// A wire to a node on which at times nothing moves, as if the node had been stopped.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    flows: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Wire {
    /// A wire to the node at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let there = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (flows, seen) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&there).await else {
                    continue;
                };
                let (near, far) = (near.into_split(), far.into_split());
                open.spawn(carry(near.0, far.1, seen.clone()));
                open.spawn(carry(far.0, near.1, seen.clone()));
            }
        });
        Self {
            address,
            flows,
            _tasks: tasks,
        }
    }

    pub(crate) fn stop(&self) {
        self.flows.send_replace(false);
    }

    pub(crate) fn go_on(&self) {
        self.flows.send_replace(true);
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut flows: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let flowing = flows.wait_for(|flows| *flows).await.is_ok();
        if !flowing || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_stands_still_stops_no_work() {
    let (scale, began) = (Scale::chosen(), SystemClock.now());
    let rounds = scale.kills.div_ceil(8).min(5);
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        miners: 3,
        audit_probability: 0.2,
        lease_millis: 10_000,
        longest_output: 4_096,
    };
    let path = folder.path().to_owned();
    let (market, mut host) = Market::open(scale.seed, &plan, path, Vec::new()).await;
    let miners = market.start_miners();
    let asking = market.start_requesters(8);
    let mut meanwhile = 0;
    for round in 0..rounds {
        market.more(20).await;
        market.wire.stop();
        market.wait_for_weights(true).await;
        let before = market.requesters.fetched();
        market.more(100).await;
        meanwhile += market.requesters.fetched() - before;
        if round % 2 == 1 {
            // Whoever starts now waits for the chain.
            host.process.kill();
            host = market.start_host();
            market.sleep_up_to(3_000).await;
        }
        market.wire.go_on();
        if round % 2 == 1 {
            host.serving().await;
        }
        market.wait_for_weights(false).await;
    }
    market.drain(asking).await;
    for miner in miners {
        miner.stop().await;
    }
    host.process.stop().await;
    let found = market.books(folder.path()).await;
    Row {
        fault: "chain stands still",
        times: rounds,
        found: &found,
        seconds: SystemClock.now().since(began).as_secs(),
        note: format!("{meanwhile} outputs fetched meanwhile"),
    }
    .print();
    found.check(scale.seed);
    assert_eq!(found.failed, 0, "seed {}", scale.seed);
    assert!(meanwhile > 0, "seed {}", scale.seed);
}
