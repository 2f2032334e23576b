//! The whole coordinator on the in-process chain, driven through the protocol by miners with real keys. Time stands in
//! the test's hand, so nothing here waits or depends on the machine's speed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lint's exception for tests does not reach their fixtures"
)]

#[path = "market/audits.rs"]
mod audits;
#[path = "market/chain_down.rs"]
mod chain_down;
#[path = "market/clock_jumps.rs"]
mod clock_jumps;
#[path = "market/demand.rs"]
mod demand;
#[path = "market/escrow.rs"]
mod escrow;
#[path = "market/fixture.rs"]
mod fixture;
#[path = "market/flaky_store.rs"]
mod flaky_store;
#[path = "market/leases.rs"]
mod leases;
#[path = "market/lifecycle.rs"]
mod lifecycle;
#[path = "market/pay.rs"]
mod pay;
#[path = "market/previews.rs"]
mod previews;
#[path = "market/refusals.rs"]
mod refusals;
#[path = "market/sessions.rs"]
mod sessions;
#[path = "market/shares.rs"]
mod shares;
#[path = "market/streams.rs"]
mod streams;
#[path = "market/tasks.rs"]
mod tasks;
