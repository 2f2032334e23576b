//! Blobs that an input names.

use cuckoo_core::{BlobId, Error, ErrorKind, Output};

use crate::connected;

#[tokio::test]
async fn a_blob_is_fetched_for_its_lease_and_asked_for_again_after_trouble() {
    let (_market, peer, _echo, miner) = connected().await;
    let blob = Output::new("audio/wav", vec![3; 900]);
    let id = BlobId::of(&blob.bytes);
    peer.set(|state| {
        state.blobs.push_back(Err(Error::unavailable("busy")));
        state.blobs.push_back(Ok(blob.clone()));
    });
    let task = peer.assign(peer.task(&id.to_string()));
    peer.until("a completion", |state| state.completions.len() == 1)
        .await;
    let state = peer.state();
    assert_eq!(state.completions[0].output, blob);
    assert_eq!(state.blobs_asked, [(task.lease, id); 2]);
    drop((state, miner));
}

#[tokio::test]
async fn other_bytes_than_the_named_ones_are_not_used() {
    let (_market, peer, _echo, miner) = connected().await;
    let other = Output::new("audio/wav", vec![4; 900]);
    peer.set(|state| state.blobs.push_back(Ok(other)));
    peer.assign(peer.task(&BlobId::of(b"wanted").to_string()));
    peer.until("a failure", |state| state.failures.len() == 1)
        .await;
    let state = peer.state();
    assert_eq!(state.failures[0].kind, ErrorKind::Unverified);
    assert!(state.failures[0].message.contains("other bytes"));
    drop((state, miner));
}

#[tokio::test]
async fn a_blob_that_is_gone_fails_the_run() {
    let (_market, peer, _echo, miner) = connected().await;
    let task = peer.assign(peer.task(&BlobId::of(b"gone").to_string()));
    peer.until("a failure", |state| state.failures.len() == 1)
        .await;
    let state = peer.state();
    assert_eq!(state.failures[0].lease, task.lease);
    assert_eq!(state.failures[0].kind, ErrorKind::Execution);
    drop((state, miner));
}
