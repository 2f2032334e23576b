//! Previews of outputs in the making: the latest leaves with a heartbeat, once, and has no part in the output.

use cuckoo_core::{Assignment, LeaseProgress, Output, Preview};

use crate::connected;
use crate::peer::State;

/// What the heartbeats said about a lease, in the order they came.
fn beats<'a>(state: &'a State, task: &Assignment) -> Vec<&'a LeaseProgress> {
    let all = state.heartbeats.iter().flat_map(|beat| &beat.leases);
    all.filter(|beat| beat.lease == task.lease).collect()
}

#[tokio::test]
async fn the_latest_preview_leaves_with_one_heartbeat() {
    let (_market, peer, echo, _miner) = connected().await;
    let task = peer.assign(peer.task("show"));
    peer.until("heartbeats after the one that shows", |state| {
        let mut beats = beats(state, &task).into_iter();
        beats.any(|beat| beat.preview.is_some()) && beats.count() >= 2
    })
    .await;
    echo.gate.add_permits(1);
    peer.until("a completion", |state| state.completions.len() == 1)
        .await;
    let state = peer.state();
    let shown = beats(&state, &task).into_iter();
    let shown: Vec<_> = shown.filter_map(|beat| beat.preview.clone()).collect();
    let later = Output::new("image/png", b"later".to_vec());
    assert_eq!(shown, [Preview::from(later)]);
    assert_eq!(state.completions[0].output.bytes, task.input.as_bytes());
    assert!(state.chunks.is_empty());
}
