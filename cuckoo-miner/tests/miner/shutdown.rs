//! Shutdown in two phases.

use std::time::Duration;

use cuckoo_core::ErrorKind;

use crate::echo::Echo;
use crate::{connected, eventually};

#[tokio::test]
async fn what_is_in_work_is_finished_and_nothing_more_is_taken() {
    let (_market, peer, echo, miner) = connected().await;
    peer.assign(peer.task("wait"));
    eventually("a run", || Echo::count(&echo.running) == 1).await;
    let stopping = tokio::spawn({
        let miner = miner.clone();
        async move { miner.shutdown(Duration::from_secs(20)).await }
    });
    peer.assign(peer.task("too late"));
    // It is still alive for the coordinator while it drains.
    let beats = peer.state().heartbeats.len();
    peer.until("heartbeats", |state| state.heartbeats.len() > beats + 2)
        .await;
    assert!(!stopping.is_finished());
    echo.gate.add_permits(1);
    stopping.await.unwrap();
    let state = peer.state();
    assert_eq!((state.completions.len(), state.failures.len()), (1, 0));
    assert_eq!((state.queue.len(), state.closed, state.polling), (1, 1, 0));
}

#[tokio::test]
async fn after_the_grace_what_is_left_is_given_back() {
    let (_market, peer, echo, miner) = connected().await;
    let task = peer.assign(peer.task("wait"));
    eventually("a run", || Echo::count(&echo.running) == 1).await;
    miner.shutdown(Duration::from_millis(50)).await;
    let state = peer.state();
    assert_eq!(Echo::count(&echo.cancelled), 1);
    assert_eq!(state.failures.len(), 1);
    assert_eq!(
        (state.failures[0].lease, state.failures[0].kind),
        (task.lease, ErrorKind::Rejected)
    );
    assert!(state.failures[0].message.contains("shutting down"));
    assert_eq!(state.closed, 1);
    assert_eq!(miner.status().running, 0);
}

#[tokio::test]
async fn an_idle_miner_stops_at_once_however_long_the_grace_and_the_poll() {
    let (_market, peer, _echo, miner) = connected().await;
    peer.until("a poll", |state| state.polling == 1).await;
    let stop = miner.shutdown(Duration::from_secs(3_600));
    tokio::time::timeout(Duration::from_secs(10), stop)
        .await
        .unwrap();
    miner.finished().await.unwrap();
    {
        let state = peer.state();
        assert_eq!((state.polling, state.closed), (0, 1));
    }
    assert_eq!(
        miner.connected().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    // Again, and from another handle, is no different.
    miner.clone().shutdown(Duration::ZERO).await;
    assert_eq!(peer.state().closed, 1);
}

#[tokio::test]
async fn a_vanished_coordinator_does_not_keep_a_miner_from_stopping() {
    let (_market, peer, echo, miner) = connected().await;
    peer.assign(peer.task("hang"));
    eventually("a run", || Echo::count(&echo.running) == 1).await;
    peer.set(|state| state.down = true);
    let stop = miner.shutdown(Duration::from_millis(50));
    tokio::time::timeout(Duration::from_secs(10), stop)
        .await
        .unwrap();
    assert_eq!(Echo::count(&echo.running), 0);
}

#[tokio::test]
async fn dropping_the_last_handle_stops_everything() {
    let (_market, peer, echo, miner) = connected().await;
    peer.assign(peer.task("wait"));
    eventually("a run", || Echo::count(&echo.running) == 1).await;
    let other = miner.clone();
    drop(miner);
    assert_eq!(Echo::count(&echo.running), 1);
    drop(other);
    eventually("its end", || Echo::count(&echo.running) == 0).await;
    peer.until("no poll", |state| state.polling == 0).await;
}
