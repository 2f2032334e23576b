//! One miner and several coordinators, all real, on the in-process chain: who gets its slots, and what becomes of those that
//! do not pay. Time stands in the test's hand.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "earning/credit.rs"]
mod credit;
#[path = "earning/market.rs"]
mod market;
#[path = "earning/pace.rs"]
mod pace;
#[path = "earning/purse.rs"]
mod purse;
#[path = "earning/shares.rs"]
mod shares;
