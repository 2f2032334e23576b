//! Heartbeats: leases extended, progress told, cancellations heard, silence noticed.

use std::time::Duration;

use cuckoo_core::{Clock as _, ErrorKind, LeaseStatus};

use crate::echo::Echo;
use crate::peer::{Market, manual_clock};
use crate::{builder, connected, eventually};

#[tokio::test]
async fn heartbeats_carry_progress_and_outlive_the_first_lease() {
    let (_market, peer, echo, _miner) = connected().await;
    let mut task = peer.task("wait");
    // Expires long before the run ends, unless a heartbeat's answer extends it.
    task.lease_expires_at = peer.now().after(Duration::from_millis(150));
    let task = peer.assign(task);
    peer.until("ten heartbeats", |state| state.heartbeats.len() >= 10)
        .await;
    let last = peer.state().heartbeats.last().unwrap().clone();
    assert_eq!(last.leases.len(), 1);
    assert_eq!(
        (last.leases[0].lease, last.leases[0].progress),
        (task.lease, 250)
    );
    echo.gate.add_permits(1);
    peer.until("a completion", |state| state.completions.len() == 1)
        .await;
}

#[tokio::test]
async fn a_cancelled_lease_stops_its_run_and_frees_the_slot() {
    for status in [LeaseStatus::Cancelled, LeaseStatus::Ended] {
        let (_market, peer, echo, miner) = connected().await;
        let task = peer.assign(peer.task("wait"));
        eventually("a run", || Echo::count(&echo.running) == 1).await;
        peer.set(|state| state.lease_answers.insert(task.lease, status));
        eventually("its end", || Echo::count(&echo.cancelled) == 1).await;
        let next = peer.assign(peer.task("next"));
        peer.until("the next task", |state| state.completions.len() == 1)
            .await;
        let state = peer.state();
        assert_eq!(state.completions[0].receipt.value.lease, next.lease);
        assert!(state.failures.is_empty(), "the coordinator knows already");
        assert_eq!(miner.status().cancelled, 1);
    }
}

#[tokio::test]
async fn a_run_that_hangs_past_its_deadline_is_dropped_and_reported() {
    let (_market, peer, echo, _miner) = connected().await;
    let mut task = peer.task("hang");
    task.deadline = peer.now().after(Duration::from_millis(200));
    let task = peer.assign(task);
    peer.until("a report", |state| !state.failures.is_empty())
        .await;
    let failure = peer.state().failures[0].clone();
    assert_eq!(
        (failure.lease, failure.kind),
        (task.lease, ErrorKind::Timeout)
    );
    eventually("the run's end", || Echo::count(&echo.running) == 0).await;
    peer.assign(peer.task("next"));
    peer.until("the next task", |state| state.completions.len() == 1)
        .await;
}

#[tokio::test]
async fn a_coordinator_that_vanishes_costs_one_lease_and_is_served_again() {
    let (_market, peer, echo, miner) = connected().await;
    let mut task = peer.task("wait");
    task.lease_expires_at = peer.now().after(Duration::from_millis(300));
    // No heartbeat gets through, so nothing extends the lease.
    task.heartbeat_millis = 100;
    peer.assign(task);
    eventually("a run", || Echo::count(&echo.running) == 1).await;
    peer.set(|state| state.down = true);
    eventually("its end", || Echo::count(&echo.cancelled) == 1).await;
    eventually("trouble in the status", || {
        let trouble = miner.status().coordinators[0].last_error.clone();
        trouble.is_some_and(|trouble| trouble.contains("down"))
    })
    .await;
    peer.set(|state| state.down = false);
    peer.assign(peer.task("back"));
    peer.until("the next task", |state| state.completions.len() == 1)
        .await;
    assert_eq!(miner.status().coordinators[0].last_error, None);
}

#[tokio::test]
async fn a_coordinator_that_does_not_wait_is_not_flooded() {
    let clock = manual_clock();
    let market = Market::with_clock(clock.clone()).await;
    let (peer, echo) = (market.peer(), Echo::new());
    peer.set(|state| state.impatient = true);
    let _miner = builder(&market, &peer, &echo).start().await.unwrap();
    for round in 1..4 {
        peer.until("a poll", |state| state.polls.len() == round)
            .await;
        // Time stands still: however long the machine takes, there is no further poll.
        cuckoo_core::SystemClock
            .sleep(Duration::from_millis(50))
            .await;
        assert_eq!(peer.state().polls.len(), round);
        clock.advance(Duration::from_millis(100));
    }
}

#[tokio::test]
async fn times_of_a_coordinator_with_a_wrong_clock_are_understood() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    // Half an hour behind would look like a deadline long past.
    peer.set(|state| state.clock_ahead = Duration::from_secs(1_800));
    let miner = builder(&market, &peer, &echo).start().await.unwrap();
    miner.connected().await.unwrap();
    let mut task = peer.task("hang");
    task.deadline = peer.now().after(Duration::from_millis(300));
    peer.assign(task);
    // Were it taken by our clock, the deadline would be half an hour away.
    peer.until("a report", |state| !state.failures.is_empty())
        .await;
    assert_eq!(peer.state().failures[0].kind, ErrorKind::Timeout);
}
