//! Assignments: checked, run, signed for, handed in.

use std::time::Duration;

use cuckoo_core::{B256, ErrorKind, NodeId, U256, payload_hash};
use cuckoo_miner::Settings;

use crate::echo::Echo;
use crate::peer::{Answer, Market};
use crate::{builder, connected, eventually, settings};

#[tokio::test]
async fn a_task_is_run_signed_for_and_paid() {
    let (market, peer, _echo, miner) = connected().await;
    let voucher = peer.voucher(500);
    peer.set(|state| state.answers.push_back(Answer::Take(Some(voucher.clone()))));
    let task = peer.assign(peer.task("hello"));
    peer.until("a completion", |state| state.completions.len() == 1)
        .await;

    let completion = peer.state().completions[0].clone();
    let receipt = &completion.receipt.value;
    assert_eq!(completion.output.bytes, task.input.as_bytes());
    assert_eq!(completion.output.media_type, "application/json");
    assert_eq!(receipt.coordinator, market.coordinator.node);
    assert_eq!(receipt.miner, market.miner.node);
    assert_eq!((receipt.lease, receipt.task), (task.lease, task.task));
    assert_eq!(receipt.model_hash, task.model_hash);
    assert_eq!(receipt.input_hash, task.input_hash);
    assert_eq!(receipt.output_hash, payload_hash(&completion.output.bytes));
    assert_eq!(receipt.states_root, B256::ZERO);
    completion
        .receipt
        .verify(market.miner.operator.address(), &market.chain.deployment())
        .unwrap();

    eventually("the voucher", || !miner.vouchers().is_empty()).await;
    assert_eq!(miner.vouchers(), [voucher]);
    let status = miner.status();
    assert_eq!(
        (status.completed, status.failed, status.cancelled),
        (1, 0, 0)
    );
    assert!(status.coordinators[0].connected);
    assert_eq!(status.coordinators[0].owed, U256::from(500));
}

#[tokio::test]
async fn slots_are_never_exceeded_and_announced_as_they_are() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    let two = Settings {
        slots: 2,
        ..settings()
    };
    let miner = builder(&market, &peer, &echo)
        .settings(two)
        .start()
        .await
        .unwrap();
    for _ in 0..5 {
        peer.assign(peer.task("wait"));
    }
    eventually("two runs", || Echo::count(&echo.running) == 2).await;
    // While both slots are taken, no poll is open at all.
    peer.until("no poll", |state| state.polling == 0).await;
    assert_eq!(peer.state().queue.len(), 3);
    echo.gate.add_permits(5);
    peer.until("all done", |state| state.completions.len() == 5)
        .await;
    assert_eq!(Echo::count(&echo.most), 2);
    assert!(
        peer.state()
            .polls
            .iter()
            .all(|poll| (1..=2).contains(&poll.free_slots))
    );
    let poll = peer.state().polls[0].clone();
    assert_eq!(poll.capabilities.len(), 1);
    assert_eq!(poll.warm, [poll.capabilities[0].model.clone()]);
    drop(miner);
}

#[tokio::test]
async fn work_beyond_the_announced_slots_goes_back() {
    let (_market, peer, echo, _miner) = connected().await;
    peer.set(|state| state.surplus = 2);
    let (first, second) = (peer.task("wait"), peer.task("wait"));
    peer.set(|state| state.queue.extend([first.clone(), second.clone()]));
    peer.until("one given back", |state| !state.failures.is_empty())
        .await;
    let failure = peer.state().failures[0].clone();
    assert_eq!(
        (failure.lease, failure.kind),
        (second.lease, ErrorKind::Rejected)
    );
    echo.gate.add_permits(1);
    peer.until("the other done", |state| !state.completions.is_empty())
        .await;
    assert_eq!(peer.state().completions[0].receipt.value.lease, first.lease);
}

#[tokio::test]
async fn what_was_not_offered_or_is_not_what_it_says_is_not_run() {
    let (_market, peer, echo, _miner) = connected().await;
    let cases = [
        (ErrorKind::Unverified, "hash", {
            let mut task = peer.task("x");
            task.input_hash = B256::repeat_byte(1);
            task
        }),
        (ErrorKind::Unverified, "in the name of", {
            let mut task = peer.task("x");
            task.coordinator = NodeId(999);
            task
        }),
        (ErrorKind::Rejected, "not offer", {
            let mut task = peer.task("x");
            task.model = "other".parse().unwrap();
            task
        }),
        (ErrorKind::Rejected, "files", {
            let mut task = peer.task("x");
            task.model_hash = B256::repeat_byte(1);
            task
        }),
        (ErrorKind::Rejected, "wei", {
            let mut task = peer.task("x");
            task.price = U256::ZERO;
            task
        }),
        (ErrorKind::Rejected, "bytes", peer.task(&"x".repeat(1_000))),
        (ErrorKind::Timeout, "deadline", {
            let mut task = peer.task("x");
            task.deadline = cuckoo_core::Timestamp::from_millis(1);
            task
        }),
    ];
    for (kind, words, task) in cases {
        let task = peer.assign(task);
        peer.until("a refusal", |state| {
            state
                .failures
                .last()
                .is_some_and(|failure| failure.lease == task.lease)
        })
        .await;
        let failure = peer.state().failures.last().unwrap().clone();
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
    }
    assert_eq!(Echo::count(&echo.started), 0);
    peer.assign(peer.task("fine"));
    peer.until("the next task", |state| state.completions.len() == 1)
        .await;
}

#[tokio::test]
async fn failed_runs_are_reported_with_who_is_to_blame() {
    let (_market, peer, _echo, miner) = connected().await;
    let cases = [
        ("bad input", ErrorKind::Invalid, "not allowed"),
        ("too much", ErrorKind::Rejected, "lift"),
        ("no room", ErrorKind::Rejected, "another time"),
        ("broken", ErrorKind::Execution, "loose"),
        ("panic", ErrorKind::Execution, "panicked: out of tape"),
        ("huge", ErrorKind::Execution, "2000 bytes"),
        ("no type", ErrorKind::Execution, "media type"),
    ];
    for (text, kind, words) in cases {
        let task = peer.assign(peer.task(text));
        peer.until(text, |state| {
            state
                .failures
                .last()
                .is_some_and(|failure| failure.lease == task.lease)
        })
        .await;
        let failure = peer.state().failures.last().unwrap().clone();
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert_eq!(failure.is_refusal(), text == "too much", "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
    }
    let status = miner.status();
    assert_eq!((status.failed, status.refused), (5, 2));
    assert_eq!(status.coordinators[0].refused, 2);
    peer.assign(peer.task("fine"));
    peer.until("the next task", |state| state.completions.len() == 1)
        .await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_receipt() {
    let (_market, peer, _echo, miner) = connected().await;
    let voucher = peer.voucher(9);
    peer.set(|state| {
        state
            .answers
            .extend([Answer::Lose, Answer::Lose, Answer::Take(Some(voucher))]);
    });
    peer.assign(peer.task("hello"));
    peer.until("three attempts", |state| state.completions.len() == 3)
        .await;
    let completions = peer.state().completions.clone();
    assert!(
        completions
            .iter()
            .all(|completion| *completion == completions[0])
    );
    eventually("the voucher", || miner.vouchers().len() == 1).await;
    assert_eq!(miner.status().completed, 1);
}

#[tokio::test]
async fn a_refused_output_is_not_handed_in_again() {
    let (_market, peer, echo, miner) = connected().await;
    peer.set(|state| state.answers.push_back(Answer::Refuse(ErrorKind::Conflict)));
    peer.assign(peer.task("late"));
    peer.until("one attempt", |state| state.completions.len() == 1)
        .await;
    peer.assign(peer.task("next"));
    peer.until("the next task", |state| state.completions.len() == 2)
        .await;
    assert_eq!(Echo::count(&echo.started), 2);
    eventually("both counted", || {
        let status = miner.status();
        (status.failed, status.completed) == (1, 1)
    })
    .await;
}

#[tokio::test]
async fn vouchers_only_grow_and_only_the_coordinators_count() {
    let (market, peer, _echo, miner) = connected().await;
    let forged = peer.voucher_by(&market.miner.operator, 1_000);
    let vouchers = [
        peer.voucher(10),
        peer.voucher(7),
        forged,
        peer.voucher(12),
        peer.voucher(11),
    ];
    peer.set(|state| state.vouchers.extend(vouchers));
    peer.until("all sent", |state| state.vouchers.is_empty())
        .await;
    peer.assign(peer.task("after them"));
    peer.until("a task after them", |state| state.completions.len() == 1)
        .await;
    assert_eq!(miner.vouchers(), [peer.voucher(12)]);

    // Kept over a restart of the miner, and of a coordinator that forgot.
    let kept = miner.vouchers();
    miner.shutdown(Duration::ZERO).await;
    let again = builder(&market, &peer, &Echo::new());
    let again = again.vouchers(kept).start().await.unwrap();
    peer.set(|state| state.vouchers.push_back(peer.voucher(3)));
    peer.until("sent", |state| state.vouchers.is_empty()).await;
    peer.assign(peer.task("after it"));
    peer.until("a task after it", |state| state.completions.len() == 2)
        .await;
    assert_eq!(again.vouchers(), [peer.voucher(12)]);
}

#[tokio::test]
async fn two_coordinators_share_one_slot_in_turn() {
    let market = Market::new().await;
    let other = market
        .local
        .add_coordinator("other", cuckoo_core::cai(2_000_000), cuckoo_core::cai(1))
        .await
        .unwrap();
    let (first, second, echo) = (market.peer(), market.peer_of(&other), Echo::new());
    let _miner = builder(&market, &first, &echo)
        .coordinator(std::sync::Arc::clone(&second) as _)
        .start()
        .await
        .unwrap();
    for _ in 0..4 {
        first.assign(first.task("a"));
        second.assign(second.task("b"));
    }
    first
        .until("the first's work", |state| state.completions.len() == 4)
        .await;
    second
        .until("the second's work", |state| state.completions.len() == 4)
        .await;
    assert_eq!(Echo::count(&echo.most), 1);
}
