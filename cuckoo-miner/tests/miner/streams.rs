//! Outputs in the making: sent in order, again where they were lost, and not at all where nobody takes them.

use cuckoo_core::{Chunk, ErrorKind, LeaseStatus};
use cuckoo_miner::Settings;

use crate::echo::{Echo, STREAM};
use crate::peer::{ChunkAnswer, Market};
use crate::{builder, connected, eventually, settings};

#[tokio::test]
async fn what_a_run_emits_goes_up_while_it_runs() {
    let (_market, peer, echo, _miner) = connected().await;
    let task = peer.assign(peer.task("stream"));
    let input = task.input.as_bytes();
    peer.until("the beginning", |state| {
        state.streamed(task.lease) == input[..5]
    })
    .await;
    echo.gate.add_permits(1);
    peer.until("the rest", |state| state.streamed(task.lease) == input)
        .await;
    assert!(peer.state().completions.is_empty());
    echo.gate.add_permits(1);
    peer.until("a completion", |state| state.completions.len() == 1)
        .await;
    assert_eq!(peer.state().completions[0].output.bytes, input);
    assert!(peer.state().failures.is_empty());
}

#[tokio::test]
async fn long_outputs_go_up_in_pieces() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    let roomy = Settings {
        max_output_bytes: STREAM as u64,
        ..settings()
    };
    let miner = builder(&market, &peer, &echo).settings(roomy);
    let _miner = miner.start().await.unwrap();
    let task = peer.assign(peer.task("long stream"));
    peer.until("all of it", |state| {
        state.streamed(task.lease).len() == STREAM
    })
    .await;
    let sizes: Vec<_> = peer
        .state()
        .chunks
        .iter()
        .map(|chunk| chunk.bytes.len())
        .collect();
    assert_eq!(
        sizes,
        [Chunk::MAX_BYTES, Chunk::MAX_BYTES, Chunk::MAX_BYTES - 1]
    );
    echo.gate.add_permits(1);
    peer.until("a completion", |state| state.completions.len() == 1)
        .await;
}

#[tokio::test]
async fn chunks_that_were_lost_or_forgotten_are_sent_again() {
    for answer in [
        ChunkAnswer::Lose,
        ChunkAnswer::Forget,
        ChunkAnswer::Refuse(ErrorKind::Unavailable),
    ] {
        let (_market, peer, echo, _miner) = connected().await;
        let task = peer.assign(peer.task("stream"));
        let input = task.input.as_bytes();
        peer.until("the beginning", |state| {
            state.streamed(task.lease) == input[..5]
        })
        .await;
        peer.set(|state| state.chunk_answers.push_back(answer));
        echo.gate.add_permits(1);
        peer.until("all of it", |state| {
            state.chunk_answers.is_empty() && state.streamed(task.lease) == input
        })
        .await;
        echo.gate.add_permits(1);
        peer.until("a completion", |state| state.completions.len() == 1)
            .await;
    }
}

#[tokio::test]
async fn a_coordinator_that_takes_no_chunks_gets_the_output_all_the_same() {
    let (_market, peer, echo, _miner) = connected().await;
    peer.set(|state| {
        let refusal = ChunkAnswer::Refuse(ErrorKind::NotFound);
        state.chunk_answers.push_back(refusal);
    });
    let task = peer.assign(peer.task("stream"));
    peer.until("the refusal", |state| state.chunk_answers.is_empty())
        .await;
    echo.gate.add_permits(2);
    peer.until("a completion", |state| state.completions.len() == 1)
        .await;
    let state = peer.state();
    assert_eq!(state.completions[0].output.bytes, task.input.as_bytes());
    assert!(state.chunks.is_empty());
}

#[tokio::test]
async fn a_chunk_s_answer_stops_a_run_that_is_not_wanted() {
    for status in [LeaseStatus::Cancelled, LeaseStatus::Ended] {
        let (_market, peer, echo, miner) = connected().await;
        let mut task = peer.task("stream");
        // No heartbeat comes in time to tell.
        task.heartbeat_millis = 60_000;
        peer.set(|state| state.lease_answers.insert(task.lease, status));
        peer.assign(task);
        eventually("its end", || miner.status().cancelled == 1).await;
        eventually("the run's end", || Echo::count(&echo.running) == 0).await;
        assert!(peer.state().heartbeats.is_empty());
    }
}

#[tokio::test]
async fn an_output_that_is_not_what_was_emitted_is_not_handed_in() {
    let (_market, peer, echo, _miner) = connected().await;
    let task = peer.assign(peer.task("lie"));
    echo.gate.add_permits(2);
    peer.until("a report", |state| !state.failures.is_empty())
        .await;
    let state = peer.state();
    assert_eq!(
        (state.failures[0].lease, state.failures[0].kind),
        (task.lease, ErrorKind::Execution)
    );
    assert!(state.completions.is_empty());
}
