//! Tasks that are more than a miner can do: they go to others, and nobody is blamed.

use std::time::Duration;

use cuckoo_core::{ErrorKind, Fault, TaskState};

use crate::fixture::{Setup, failure, spec};

#[tokio::test]
async fn a_task_that_is_too_much_for_a_miner_goes_to_others_and_never_back() {
    let market = Setup::with_miners(2)
        .adjust(|settings| settings.max_attempts = 1)
        .open()
        .await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].refuse(&first).await.unwrap();
    // The same again is answered the same way.
    market.miners[0].refuse(&first).await.unwrap();
    assert_eq!(market.miners[0].take().await, None);
    // A lease later it is alone, and would be asked once more if it had failed.
    for _ in 0..6 {
        market.advance(4_000).await;
        assert_eq!(market.miners[0].take().await, None);
    }
    let status = market.status(0);
    assert_eq!((status.refused, status.failed), (1, 0));
    let (_, another) = market.assigned(0).await;
    market.miners[0].complete(&another, b"small").await.unwrap();
    let again = market.miners[1].take().await.unwrap();
    assert_eq!(again.task, handle.id());
    market.miners[1].complete(&again, b"large").await.unwrap();
    assert_eq!(&handle.result().await.unwrap().output.bytes[..], b"large");
}

#[tokio::test]
async fn a_task_that_every_miner_refuses_waits_for_others_and_its_end_is_nobody_s_fault() {
    let mut market = Setup::with_miners(3).open().await;
    let short = spec().with_timeout(Duration::from_secs(30));
    let handle = market.coordinator.submit(short).await.unwrap();
    // It could not have it anyway.
    market.miners[2].capability.max_input_bytes = 1;
    for miner in &market.miners[..2] {
        let assignment = miner.take().await.unwrap();
        miner.refuse(&assignment).await.unwrap();
    }
    market.advance(29_999).await;
    assert_eq!(handle.state(), TaskState::Queued);
    for miner in &market.miners {
        assert_eq!(miner.take().await, None);
    }
    market.advance(1).await;
    assert_eq!(failure(&handle), (ErrorKind::Timeout, Fault::Nobody));
    let error = handle.result().await.unwrap_err();
    let last = format!("it takes {} too long", market.node(1));
    for words in ["every miner that could take it refused it", last.as_str()] {
        assert!(error.message().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_miner_that_was_busy_has_not_refused() {
    let market = Setup::with_miners(2).open().await;
    let short = spec().with_timeout(Duration::from_secs(5));
    let handle = market.coordinator.submit(short).await.unwrap();
    let assignment = market.miners[0].take().await.unwrap();
    market.miners[0].refuse(&assignment).await.unwrap();
    let busy = &market.miners[1];
    let poll = busy.protocol.poll(&busy.token, busy.poll_request(0, 0));
    poll.await.unwrap();
    market.advance(5_000).await;
    assert_eq!(failure(&handle), (ErrorKind::Timeout, Fault::Nobody));
    let error = handle.result().await.unwrap_err();
    assert!(!error.message().contains("every miner"), "{error}");
}

#[tokio::test]
async fn an_auditor_that_refuses_is_not_blamed_and_another_one_is_drawn() {
    let market = Setup::audited(3).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"same").await.unwrap();
    let (slow, assignment) = market.auditor(&[1, 2]).await.expect("an auditor");
    market.miners[slow].refuse(&assignment).await.unwrap();
    let status = market.status(slow);
    assert_eq!((status.refused, status.failed), (1, 0));
    assert!(!status.suspended);
    let (other, assignment) = market.auditor(&[1, 2]).await.expect("another auditor");
    assert_eq!(other, 3 - slow);
    market.miners[other]
        .complete(&assignment, b"same")
        .await
        .unwrap();
    handle.result().await.unwrap();
}
