//! What becomes of tasks and pay when processes are killed, disks fill up and clients are slow: nothing acknowledged is
//! lost, nothing is done or paid twice, and no voucher promises more than verified work. `docs/chaos.md` says more.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lint's exception for tests does not reach their fixtures"
)]

#[path = "chaos/books.rs"]
mod books;
#[path = "chaos/chain.rs"]
mod chain;
#[path = "chaos/disk.rs"]
mod disk;
#[path = "chaos/host.rs"]
mod host;
#[path = "chaos/kills.rs"]
mod kills;
#[path = "chaos/market.rs"]
mod market;
#[path = "chaos/process.rs"]
mod process;
#[path = "chaos/requester.rs"]
mod requester;
#[path = "chaos/slow.rs"]
mod slow;
#[path = "chaos/table.rs"]
mod table;
#[path = "chaos/worker.rs"]
mod worker;

/// Nothing by itself: the process that other tests start, kill and start again.
#[tokio::test(flavor = "multi_thread")]
async fn process() {
    process::obey().await;
}
