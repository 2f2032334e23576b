//! Polls, leases, heartbeats, and what happens when miners stall, vanish or fail.

use std::time::Duration;

use cuckoo_core::{
    B256, Capability, Clock as _, ErrorKind, Fault, Heartbeat, LeaseId, LeaseProgress, LeaseStatus,
    PollRequest, TaskState, Wei,
};

use crate::fixture::{Setup, failure, kind, settle, spec};

#[tokio::test]
async fn a_waiting_poll_is_woken_by_a_task() {
    let market = Setup::with_miners(1).open().await;
    let poll = market.miners[0].wait(1);
    settle().await;
    assert!(!poll.is_finished());
    assert_eq!(market.status(0).free_slots, 1);
    let handle = market.submit().await;
    let reply = poll.await.unwrap().unwrap();
    assert_eq!(reply.assignments[0].task, handle.id());
    assert_eq!(market.status(0).free_slots, 0);
}

#[tokio::test]
async fn a_poll_ends_empty_after_its_wait() {
    let market = Setup::with_miners(1).open().await;
    let poll = market.miners[0].wait(1);
    market.advance(29_999).await;
    assert!(!poll.is_finished());
    market.advance(1).await;
    assert!(poll.await.unwrap().unwrap().assignments.is_empty());
}

#[tokio::test]
async fn a_poll_dropped_with_work_in_its_mailbox_leaves_it_for_the_next() {
    let market = Setup::with_miners(1).open().await;
    let miner = &market.miners[0];
    let handle = {
        let poll = miner
            .protocol
            .poll(&miner.token, miner.poll_request(1, 30_000));
        tokio::pin!(poll);
        assert!(futures::poll!(&mut poll).is_pending());
        market.submit().await
    };
    let again = miner.take().await.unwrap();
    assert_eq!(again.task, handle.id());
    assert_eq!(market.status(0).assigned, 1);
}

#[tokio::test]
async fn a_dropped_poll_gets_no_new_work() {
    let market = Setup::with_miners(2).open().await;
    {
        let miner = &market.miners[0];
        let poll = miner
            .protocol
            .poll(&miner.token, miner.poll_request(1, 30_000));
        tokio::pin!(poll);
        assert!(futures::poll!(&mut poll).is_pending());
    }
    let handle = market.submit().await;
    assert_eq!(handle.state(), TaskState::Queued);
    assert!(market.miners[1].take().await.is_some());
}

#[tokio::test]
async fn a_later_poll_ends_an_earlier_one() {
    let market = Setup::with_miners(1).open().await;
    let earlier = market.miners[0].wait(1);
    settle().await;
    let later = market.miners[0].wait(1);
    assert!(earlier.await.unwrap().unwrap().assignments.is_empty());
    market.submit().await;
    assert_eq!(later.await.unwrap().unwrap().assignments.len(), 1);
}

#[tokio::test]
async fn slots_bound_what_a_poll_gets() {
    let market = Setup::with_miners(1).open().await;
    for _ in 0..5 {
        market.submit().await;
    }
    let miner = &market.miners[0];
    let poll = |slots| {
        miner
            .protocol
            .poll(&miner.token, miner.poll_request(slots, 0))
    };
    assert_eq!(poll(0).await.unwrap().assignments.len(), 0);
    assert_eq!(poll(3).await.unwrap().assignments.len(), 3);
    assert_eq!(poll(3).await.unwrap().assignments.len(), 2);
}

#[tokio::test]
async fn heartbeats_keep_a_lease_and_without_them_it_goes_to_another_miner() {
    let mut market = Setup::with_miners(2).open().await;
    let (handle, first) = market.assigned(0).await;
    for beat in 1..=5 {
        market.advance(9_000).await;
        let expires_at = market.clock.now().after(Duration::from_secs(10));
        let status = market.miners[0].heartbeat(&first, beat * 100).await;
        assert_eq!(status, LeaseStatus::Active { expires_at });
    }
    market.advance(9_999).await;
    assert!(matches!(
        handle.state(),
        TaskState::Running { progress: 500, .. }
    ));
    market.advance(1).await;
    assert_eq!(handle.state(), TaskState::Queued);
    assert_eq!(
        market.miners[0].heartbeat(&first, 999).await,
        LeaseStatus::Ended
    );
    // The one that stalled does not get it again while there is another.
    assert_eq!(market.miners[0].take().await, None);
    let second = market.miners[1].take().await.unwrap();
    assert_eq!(second.task, first.task);
    assert_eq!(second.input, first.input);
    assert_ne!(second.lease, first.lease);

    assert_eq!(
        kind(market.miners[0].complete(&first, b"late").await),
        ErrorKind::Conflict
    );
    market.miners[1]
        .complete(&second, b"in time")
        .await
        .unwrap();
    assert_eq!(&handle.result().await.unwrap().output.bytes[..], b"in time");
    assert_eq!(market.status(0).owed, Wei::ZERO);
    assert_eq!(market.status(0).failed, 1);
    let requeued = |event: &cuckoo_coordinator::Event| {
        matches!(event, cuckoo_coordinator::Event::Requeued { .. })
    };
    assert_eq!(
        market
            .events()
            .iter()
            .filter(|event| requeued(event))
            .count(),
        1
    );
}

#[tokio::test]
async fn a_lone_miner_that_stalled_gets_a_second_chance() {
    let market = Setup::with_miners(1).open().await;
    let (handle, _) = market.assigned(0).await;
    market.advance(10_000).await;
    let poll = market.miners[0].wait(1);
    market.advance(9_999).await;
    assert!(!poll.is_finished());
    market.advance(1).await;
    let again = poll.await.unwrap().unwrap().assignments.remove(0);
    market.miners[0].complete(&again, b"done").await.unwrap();
    handle.result().await.unwrap();
}

#[tokio::test]
async fn work_that_no_poll_fetched_is_not_held_against_its_miner() {
    let market = Setup::with_miners(2).open().await;
    let handle = {
        let miner = &market.miners[0];
        let poll = miner
            .protocol
            .poll(&miner.token, miner.poll_request(1, 30_000));
        tokio::pin!(poll);
        assert!(futures::poll!(&mut poll).is_pending());
        market.submit().await
    };
    market.advance(10_000).await;
    let assignment = market.miners[1].take().await.unwrap();
    assert_eq!(assignment.task, handle.id());
    assert_eq!(market.status(0).failed, 0);
}

#[tokio::test]
async fn a_task_fails_after_as_many_miners_failed_it_as_may_try() {
    let market = Setup::with_miners(3)
        .adjust(|settings| settings.max_attempts = 2)
        .open()
        .await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0]
        .fail(&first, ErrorKind::Execution)
        .await
        .unwrap();
    // The same again is answered the same way.
    market.miners[0]
        .fail(&first, ErrorKind::Execution)
        .await
        .unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[1]
        .fail(&second, ErrorKind::Execution)
        .await
        .unwrap();
    settle().await;
    assert_eq!(failure(&handle), (ErrorKind::Execution, Fault::Miner));
    assert_eq!(market.status(0).failed, 1);
    assert_eq!(kind(handle.result().await), ErrorKind::Execution);
}

#[tokio::test]
async fn a_miner_without_room_is_not_punished_and_is_asked_again_soon() {
    let market = Setup::with_miners(1)
        .adjust(|settings| settings.max_attempts = 1)
        .open()
        .await;
    let handle = market.submit().await;
    for _ in 0..3 {
        let assignment = market.miners[0].take().await.unwrap();
        market.miners[0]
            .fail(&assignment, ErrorKind::Rejected)
            .await
            .unwrap();
        assert_eq!(market.miners[0].take().await, None);
        market.advance(3_000).await;
    }
    assert_eq!(market.status(0).failed, 0);
    let assignment = market.miners[0].take().await.unwrap();
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    handle.result().await.unwrap();
}

#[tokio::test]
async fn a_task_that_no_miner_offers_ends_at_its_deadline_though_nobody_polls() {
    let market = Setup::with_miners(0).open().await;
    let spec = spec().with_timeout(Duration::from_secs(5));
    let handle = market.coordinator.submit(spec).await.unwrap();
    let result = tokio::spawn({
        let handle = handle.clone();
        async move { handle.result().await }
    });
    market.advance(4_999).await;
    assert!(!result.is_finished());
    market.advance(1).await;
    assert_eq!(kind(result.await.unwrap()), ErrorKind::Timeout);
    assert_eq!(failure(&handle), (ErrorKind::Timeout, Fault::Nobody));
}

#[tokio::test]
async fn a_slow_miner_s_task_ends_at_its_deadline() {
    let market = Setup::with_miners(1).open().await;
    let spec = spec().with_timeout(Duration::from_secs(8));
    let handle = market.coordinator.submit(spec).await.unwrap();
    let assignment = market.miners[0].take().await.unwrap();
    assert_eq!(
        assignment.deadline,
        market.clock.now().after(Duration::from_secs(8))
    );
    market.advance(8_000).await;
    assert_eq!(failure(&handle), (ErrorKind::Timeout, Fault::Miner));
    assert_eq!(
        market.miners[0].heartbeat(&assignment, 990).await,
        LeaseStatus::Ended
    );
    assert_eq!(
        kind(market.miners[0].complete(&assignment, b"late").await),
        ErrorKind::Conflict
    );
}

#[tokio::test]
async fn only_capable_miners_get_a_task() {
    let mut market = Setup::with_miners(3)
        .adjust(|settings| settings.models[0].model_hash = Some(crate::fixture::MODEL_HASH))
        .open()
        .await;
    market.miners[0].capability.model_hash = B256::repeat_byte(0x99);
    market.miners[1].capability.max_input_bytes = 10;
    market.miners[2].capability.min_price = crate::fixture::price() + Wei::from(1);
    market.submit().await;
    for miner in &market.miners {
        assert_eq!(miner.take().await, None);
    }
    market.miners[1].capability.max_input_bytes = 100;
    assert!(market.miners[1].take().await.is_some());
}

#[tokio::test]
async fn requests_out_of_bounds_are_refused() {
    let market = Setup::with_miners(1).open().await;
    let miner = &market.miners[0];
    let mut request = miner.poll_request(1, 0);
    request.capabilities = vec![miner.capability.clone(); PollRequest::MAX_CAPABILITIES + 1];
    assert_eq!(
        kind(miner.protocol.poll(&miner.token, request).await),
        ErrorKind::Invalid
    );
    let mut request = miner.poll_request(1, 0);
    request.capabilities = vec![Capability {
        kernels: "k".repeat(65),
        ..miner.capability.clone()
    }];
    assert_eq!(
        kind(miner.protocol.poll(&miner.token, request).await),
        ErrorKind::Invalid
    );
    let lease = LeaseProgress {
        lease: LeaseId::from(B256::ZERO),
        progress: 0,
        preview: None,
    };
    let leases = vec![lease.clone(); PollRequest::MAX_SLOTS as usize + 1];
    let heartbeat = miner.protocol.heartbeat(&miner.token, Heartbeat { leases });
    assert_eq!(kind(heartbeat.await), ErrorKind::Invalid);
    // A lease that never was.
    let beat = miner.protocol.heartbeat(
        &miner.token,
        Heartbeat {
            leases: vec![lease],
        },
    );
    assert_eq!(beat.await.unwrap().leases, [LeaseStatus::Ended]);
}

#[tokio::test]
async fn a_miner_that_goes_quiet_is_shown_as_not_connected() {
    let market = Setup::with_miners(1).open().await;
    market.miners[0].take().await;
    assert!(market.status(0).connected);
    market.advance(10_000).await;
    assert!(!market.status(0).connected);
    market.miners[0].take().await;
    assert!(market.status(0).connected);
}

#[tokio::test]
async fn a_task_rests_after_its_second_failure_but_not_for_miners_without_room() {
    let market = Setup::with_miners(4).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0]
        .fail(&first, ErrorKind::Execution)
        .await
        .unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[1]
        .fail(&second, ErrorKind::Rejected)
        .await
        .unwrap();
    let third = market.miners[2].take().await.unwrap();
    market.miners[2]
        .fail(&third, ErrorKind::Execution)
        .await
        .unwrap();
    assert_eq!(market.miners[3].take().await, None);
    market.advance(499).await;
    assert_eq!(market.miners[3].take().await, None);
    market.advance(1).await;
    let fourth = market.miners[3].take().await.unwrap();
    assert_eq!(fourth.task, handle.id());
}
