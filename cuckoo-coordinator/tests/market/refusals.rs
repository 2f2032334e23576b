//! Tasks that are more than a miner can do: they go to others, and nobody is blamed.

use std::time::Duration;

use cuckoo_core::{Chunk, ErrorKind, Fault, LeaseStatus, TaskState};

use crate::fixture::{Setup, failure, settle, spec};

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

#[tokio::test]
async fn an_auditor_is_drawn_among_those_that_did_not_refuse_the_task() {
    let mut setup = Setup::audited(3);
    // Who refuses would be drawn nearly always.
    setup.stakes = vec![2_000, 20, 20];
    let market = setup.open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].refuse(&first).await.unwrap();
    let other = &market.miners[2];
    let poll = other.protocol.poll(&other.token, other.poll_request(0, 0));
    poll.await.unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[1].complete(&second, b"same").await.unwrap();
    assert_eq!(market.miners[0].take().await, None);
    let audit = other.take().await.expect("it was drawn");
    assert_eq!(audit.task, handle.id());
    other.complete(&audit, b"same").await.unwrap();
    handle.result().await.unwrap();
}

#[tokio::test]
async fn where_nobody_else_is_there_who_refused_a_task_may_audit_it() {
    let market = Setup::audited(2).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].refuse(&first).await.unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[1].complete(&second, b"same").await.unwrap();
    let audit = market.miners[0].take().await.expect("it was drawn");
    market.miners[0].complete(&audit, b"same").await.unwrap();
    handle.result().await.unwrap();
}

#[tokio::test]
async fn who_has_begun_with_a_task_cannot_refuse_it_any_more() {
    let market = Setup::with_miners(2)
        .adjust(|settings| settings.max_attempts = 2)
        .open()
        .await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].heartbeat(&first, 1).await;
    // What it says later takes nothing back.
    market.miners[0].heartbeat(&first, 0).await;
    market.miners[0].refuse(&first).await.unwrap();
    let status = market.status(0);
    assert_eq!((status.refused, status.failed), (0, 1));
    let second = market.miners[1].take().await.unwrap();
    let chunk = Chunk {
        lease: second.lease,
        offset: 0,
        bytes: b"a beginning".to_vec().into(),
    };
    let streaming = &market.miners[1];
    let stream = streaming.protocol.stream(&streaming.token, chunk);
    stream.await.unwrap();
    streaming.refuse(&second).await.unwrap();
    settle().await;
    assert_eq!(market.status(1).failed, 1);
    assert_eq!(failure(&handle), (ErrorKind::Execution, Fault::Miner));
    let error = handle.result().await.unwrap_err();
    assert!(error.message().contains("after it had taken"), "{error}");
}

#[tokio::test]
async fn an_auditor_that_has_begun_cannot_refuse_either() {
    let market = Setup::audited(2).open().await;
    let (_handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"same").await.unwrap();
    let audit = market.miners[1].take().await.expect("an auditor");
    market.miners[1].heartbeat(&audit, 500).await;
    market.miners[1].refuse(&audit).await.unwrap();
    let status = market.status(1);
    assert_eq!((status.refused, status.failed), (0, 1));
}

#[tokio::test]
async fn a_refusal_that_comes_late_is_a_failure() {
    // Two leases' time, or half of what there was.
    for (timeout, in_time) in [(120, 20), (10, 5)] {
        for late in [false, true] {
            let market = Setup::with_miners(1).open().await;
            let spec = spec().with_timeout(Duration::from_secs(timeout));
            let _handle = market.coordinator.submit(spec).await.unwrap();
            let miner = &market.miners[0];
            let assignment = miner.take().await.unwrap();
            for _ in 0..in_time {
                market.advance(1_000).await;
                let status = miner.heartbeat(&assignment, 0).await;
                assert!(matches!(status, LeaseStatus::Active { .. }));
            }
            market.advance(u64::from(late)).await;
            miner.refuse(&assignment).await.unwrap();
            let status = market.status(0);
            let counted = (status.refused, status.failed);
            assert_eq!(counted, (u64::from(!late), u64::from(late)), "{timeout}");
        }
    }
}

#[tokio::test]
async fn one_miner_alone_does_not_decide_that_what_others_refused_is_invalid() {
    let market = Setup::with_miners(2).open().await;
    let short = spec().with_timeout(Duration::from_secs(30));
    let handle = market.coordinator.submit(short).await.unwrap();
    let first = market.miners[0].take().await.unwrap();
    market.miners[0]
        .fail(&first, ErrorKind::Invalid)
        .await
        .unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[1].refuse(&second).await.unwrap();
    for _ in 0..7 {
        market.advance(4_000).await;
        for miner in &market.miners {
            assert_eq!(miner.take().await, None);
        }
        assert_eq!(handle.state(), TaskState::Queued);
    }
    market.advance(2_000).await;
    assert_eq!(failure(&handle), (ErrorKind::Timeout, Fault::Nobody));
    let error = handle.result().await.unwrap_err();
    let last = format!("it takes {} too long", market.node(1));
    for words in ["refused it", "it is invalid", last.as_str()] {
        assert!(error.message().contains(words), "{error}");
    }
    for miner in 0..2 {
        assert_eq!(market.status(miner).failed, 0);
    }
}

#[tokio::test]
async fn the_reason_why_an_input_is_invalid_is_that_of_who_said_so() {
    let market = Setup::with_miners(2).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0]
        .fail(&first, ErrorKind::Invalid)
        .await
        .unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[1].refuse(&second).await.unwrap();
    // Who refused goes, and the other one is the only one.
    for _ in 0..7 {
        market.advance(4_000).await;
        assert_eq!(market.miners[0].take().await, None);
    }
    assert_eq!(failure(&handle), (ErrorKind::Invalid, Fault::Requester));
    let error = handle.result().await.unwrap_err();
    let said = format!("{}: it is invalid", market.node(0));
    assert!(error.message().contains(&said), "{error}");
}
