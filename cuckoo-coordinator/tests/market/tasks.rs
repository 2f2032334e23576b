//! Submission, results, cancellation.

use cuckoo_core::{ErrorKind, LeaseStatus, TaskSpec, TaskState, Wei};
use futures::StreamExt as _;
use serde_json::json;

use crate::fixture::{Setup, failure, kind, model, price, settle, spec};

#[tokio::test]
async fn a_task_goes_from_submission_to_result_receipt_and_voucher() {
    let market = Setup::with_miners(1).open().await;
    let handle = market.submit().await;
    assert_eq!(handle.state(), TaskState::Queued);
    let states = tokio::spawn(handle.watch().collect::<Vec<_>>());
    settle().await;
    let miner = &market.miners[0];
    let assignment = miner.take().await.unwrap();
    assert!(assignment.input.contains("\"seed\":"));
    settle().await;
    miner.heartbeat(&assignment, 500).await;
    settle().await;
    let reply = miner.complete(&assignment, b"a picture").await.unwrap();
    let voucher = reply.voucher.expect("unaudited work is paid at once");
    voucher
        .verify(market.me.operator.address(), &market.chain.deployment())
        .unwrap();
    assert_eq!(voucher.value.cumulative, price());

    let result = handle.result().await.unwrap();
    assert_eq!(&result.output.bytes[..], b"a picture");
    result
        .receipt
        .verify(miner.member.operator.address(), &market.chain.deployment())
        .unwrap();
    let node = market.node(0);
    assert_eq!(
        states.await.unwrap(),
        [
            TaskState::Queued,
            TaskState::Running {
                miner: node,
                progress: 0
            },
            TaskState::Running {
                miner: node,
                progress: 500
            },
            TaskState::Completed { miner: node },
        ]
    );
    assert_eq!(market.coordinator.vouchers(), [voucher]);
    let status = market.coordinator.status();
    assert_eq!((status.queued, status.running, status.completed), (0, 0, 1));
    assert_eq!(market.status(0).owed, price());
    // Any number of callers, at any time, also through a handle made anew.
    let again = market.coordinator.task(handle.id()).await.unwrap();
    assert_eq!(again.result().await.unwrap(), result);
    assert_eq!(again.watch().collect::<Vec<_>>().await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_at_submission() {
    let market = Setup::with_miners(0)
        .adjust(|settings| settings.max_queued = 2)
        .open()
        .await;
    let submit = |spec| market.coordinator.submit(spec);
    let input = |input| TaskSpec::new(model(), input);
    let unknown = TaskSpec::new("unknown".parse().unwrap(), json!({}));
    assert_eq!(kind(submit(unknown).await), ErrorKind::NotFound);
    assert_eq!(kind(submit(input(json!([1]))).await), ErrorKind::Invalid);
    let long = json!({"prompt": "x".repeat(65_536)});
    assert_eq!(kind(submit(input(long)).await), ErrorKind::Invalid);
    let mut cheap = spec();
    cheap.max_price = Some(Wei::from(1));
    assert_eq!(kind(submit(cheap).await), ErrorKind::Rejected);
    let (_first, second) = (market.submit().await, market.submit().await);
    assert_eq!(kind(submit(spec()).await), ErrorKind::Rejected);
    second.cancel().await.unwrap();
    market.submit().await;
}

#[tokio::test]
async fn a_submission_that_is_dropped_before_it_returns_leaves_nothing_behind() {
    let market = Setup::with_miners(1).open().await;
    {
        let submission = market.coordinator.submit(spec());
        tokio::pin!(submission);
        assert!(futures::poll!(&mut submission).is_pending());
    }
    settle().await;
    let status = market.coordinator.status();
    assert_eq!((status.queued, status.running, status.cancelled), (0, 0, 1));
    assert_eq!(market.miners[0].take().await, None);
}

#[tokio::test]
async fn a_queued_task_can_be_cancelled() {
    let market = Setup::with_miners(1).open().await;
    let handle = market.submit().await;
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.result().await }
    });
    handle.cancel().await.unwrap();
    assert_eq!(handle.state(), TaskState::Cancelled);
    assert_eq!(kind(waiting.await.unwrap()), ErrorKind::Cancelled);
    assert_eq!(market.miners[0].take().await, None);
    // Cancelling what ended changes nothing.
    handle.cancel().await.unwrap();
    assert_eq!(market.coordinator.status().cancelled, 1);
}

#[tokio::test]
async fn a_running_task_can_be_cancelled_and_its_miner_learns_of_it() {
    let market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    handle.cancel().await.unwrap();
    assert_eq!(
        market.miners[0].heartbeat(&assignment, 10).await,
        LeaseStatus::Cancelled
    );
    assert_eq!(
        kind(market.miners[0].complete(&assignment, b"late").await),
        ErrorKind::Conflict
    );
    assert_eq!(market.status(0).owed, Wei::ZERO);
    assert_eq!(market.status(0).failed, 0);
    // The slot is free for the next one.
    market.assigned(0).await;
}

#[tokio::test]
async fn a_dropped_guard_cancels_unless_it_was_disarmed_or_the_task_has_ended() {
    let market = Setup::with_miners(1).open().await;
    let done = market.submit().await.guard();
    let assignment = market.miners[0].take().await.unwrap();
    let output = b"a picture";
    market.miners[0]
        .complete(&assignment, output)
        .await
        .unwrap();
    done.result().await.unwrap();
    let kept = market.submit().await;
    let mut disarmed = kept.clone().guard();
    disarmed.arm(false);
    let given_up = market.submit().await;
    drop((done, disarmed, given_up.clone().guard()));
    settle().await;
    assert_eq!(given_up.state(), TaskState::Cancelled);
    assert_eq!(kept.state(), TaskState::Queued);
    assert_eq!(market.coordinator.status().completed, 1);
}

#[tokio::test]
async fn a_dropped_result_future_and_handle_do_not_cancel() {
    let market = Setup::with_miners(1).open().await;
    let handle = market.submit().await;
    let id = handle.id();
    {
        let result = handle.result();
        tokio::pin!(result);
        assert!(futures::poll!(&mut result).is_pending());
    }
    drop(handle);
    let assignment = market.miners[0].take().await.unwrap();
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    market
        .coordinator
        .task(id)
        .await
        .unwrap()
        .result()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_finished_task_is_forgotten_after_its_retention() {
    let market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    market.advance(3_599_999).await;
    handle.result().await.unwrap();
    // Once a minute what was kept long enough goes.
    market.advance(60_000).await;
    assert_eq!(kind(handle.result().await), ErrorKind::NotFound);
    assert_eq!(
        kind(market.coordinator.task(handle.id()).await),
        ErrorKind::NotFound
    );
    // Pay is never forgotten.
    assert_eq!(market.status(0).owed, price());
}

#[tokio::test]
async fn two_miners_that_call_an_input_invalid_end_its_task() {
    let market = Setup::with_miners(3).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0]
        .fail(&first, ErrorKind::Invalid)
        .await
        .unwrap();
    assert_eq!(handle.state(), TaskState::Queued);
    assert_eq!(market.miners[0].take().await, None);
    let second = market.miners[1].take().await.unwrap();
    market.miners[1]
        .fail(&second, ErrorKind::Invalid)
        .await
        .unwrap();
    settle().await;
    assert_eq!(
        failure(&handle),
        (ErrorKind::Invalid, cuckoo_core::Fault::Requester)
    );
    // Calling an input invalid is no failure of the miner.
    assert_eq!(market.status(0).failed, 0);
}

#[tokio::test]
async fn the_only_miner_s_word_that_an_input_is_invalid_stands_when_nobody_else_comes() {
    let market = Setup::with_miners(1).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0]
        .fail(&first, ErrorKind::Invalid)
        .await
        .unwrap();
    market.advance(10_000).await;
    assert_eq!(
        failure(&handle),
        (ErrorKind::Invalid, cuckoo_core::Fault::Requester)
    );
}

#[tokio::test]
async fn the_oldest_finished_tasks_are_forgotten_when_there_are_too_many() {
    let market = Setup::with_miners(0)
        .adjust(|settings| settings.max_finished = 2)
        .open()
        .await;
    let mut handles = Vec::new();
    for _ in 0..3 {
        let handle = market.submit().await;
        handle.cancel().await.unwrap();
        handles.push(handle);
    }
    market.advance(60_000).await;
    for (handle, kept) in handles.iter().zip([false, true, true]) {
        assert_eq!(market.coordinator.task(handle.id()).await.is_ok(), kept);
    }
}

#[tokio::test]
async fn a_coordinator_that_lost_its_standing_takes_no_tasks() {
    let market = Setup::with_miners(0).open().await;
    let (node, owner) = (market.me.node, &market.me.owner);
    let vote = market.chain.vote_of(node, owner.address()).await.unwrap();
    market.chain.unvote(owner, node, vote.shares).await.unwrap();
    settle().await;
    let refused = market.coordinator.submit(spec()).await;
    assert_eq!(kind(refused), ErrorKind::Unavailable);
}
