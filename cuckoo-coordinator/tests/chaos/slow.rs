//! Clients that send a byte now and then, or read nothing: they are cut in the end, and nobody else notices them.

use std::net::SocketAddr;
use std::time::Duration;

use cuckoo_core::{Clock as _, SystemClock, paths};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::market::{Market, Plan};
use crate::table::{Row, Scale};

const SECOND: Duration = Duration::from_secs(1);
/// How many of each kind.
const CLIENTS: usize = 50;
/// More answers than the buffers between the two ends hold.
const ANSWERS: usize = 400;

/// Sends what it has a byte a second, until it is cut.
async fn drip(address: SocketAddr, at_once: String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(at_once.as_bytes()).await.unwrap();
    while stream.write_all(b"x").await.is_ok() {
        SystemClock.sleep(SECOND).await;
    }
}

/// Asks much and reads nothing, until it is cut.
async fn deaf(address: SocketAddr) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut answers, mut requests) = stream.into_split();
    let request = format!("GET {} HTTP/1.1\r\nhost: here\r\n\r\n", paths::OPENAPI);
    // The coordinator reads no more while it cannot write; what it does not read waits here.
    let all = request.repeat(ANSWERS);
    let sent = tokio::spawn(async move {
        let _ = requests.write_all(all.as_bytes()).await;
        while requests.write_all(b"x").await.is_ok() {
            SystemClock.sleep(SECOND).await;
        }
    });
    sent.await.unwrap();
    let mut left = Vec::new();
    let _ = answers.read_to_end(&mut left).await;
    let whole = left
        .windows(15)
        .filter(|bytes| bytes == b"HTTP/1.1 200 OK")
        .count();
    assert!(whole < ANSWERS, "it was answered everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_harm_nobody_and_are_cut() {
    let (scale, began) = (Scale::chosen(), SystemClock.now());
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        miners: 3,
        audit_probability: 0.2,
        lease_millis: 10_000,
        longest_output: 65_536,
    };
    let path = folder.path().to_owned();
    let (market, host) = Market::open(scale.seed, &plan, path, Vec::new()).await;
    let miners = market.start_miners();
    let mut slow = JoinSet::new();
    let (address, tasks) = (market.address(), paths::TASKS);
    for _ in 0..CLIENTS {
        let head = format!("POST {tasks} HTTP/1.1\r\nhost: here\r\nx-slow: ");
        slow.spawn(drip(address, head));
        let json = "content-type: application/json\r\ncontent-length: 10000";
        let body = format!("POST {tasks} HTTP/1.1\r\nhost: here\r\n{json}\r\n\r\n{{\"");
        slow.spawn(drip(address, body));
        slow.spawn(deaf(address));
    }
    let asking = market.start_requesters(8);
    market.more(300).await;
    assert_eq!(slow.len(), 3 * CLIENTS, "seed {}", scale.seed);
    let mut cut = 0;
    if scale.patient() {
        let all = async {
            while let Some(one) = slow.join_next().await {
                one.unwrap();
                cut += 1;
            }
        };
        let in_time = tokio::time::timeout(240 * SECOND, all).await;
        assert!(in_time.is_ok(), "seed {}: only {cut} were cut", scale.seed);
    }
    market.drain(asking).await;
    for miner in miners {
        miner.stop().await;
    }
    host.process.stop().await;
    let found = market.books(folder.path()).await;
    Row {
        fault: "slow clients",
        times: 3 * CLIENTS,
        found: &found,
        seconds: SystemClock.now().since(began).as_secs(),
        note: format!("{cut} were cut within the time of this run"),
    }
    .print();
    found.check(scale.seed);
    assert_eq!(found.failed, 0, "seed {}", scale.seed);
}
