//! Audits: honest, cheating, disagreeing and absent miners.

use cuckoo_coordinator::{Event, Verdict};
use cuckoo_core::{ErrorKind, Fault, LeaseStatus, TaskState, Wei, cai};

use crate::fixture::{Market, Setup, failure, kind, price, settle};

fn verdicts(market: &mut Market) -> Vec<Verdict> {
    let verdict = |event| match event {
        Event::Verdict { verdict } => Some(verdict),
        _ => None,
    };
    market.events().into_iter().filter_map(verdict).collect()
}

#[tokio::test]
async fn an_audit_that_agrees_pays_both_and_only_then_delivers() {
    let mut market = Setup::audited(2).open().await;
    let (handle, first) = market.assigned(0).await;
    let reply = market.miners[0].complete(&first, b"same").await.unwrap();
    assert_eq!(reply.voucher, None, "audited work is not paid yet");
    let node = market.node(0);
    assert_eq!(handle.state(), TaskState::Auditing { miner: node });
    let second = market.miners[1].take().await.unwrap();
    // For the auditor it looks like any task.
    assert_eq!(
        (second.task, &second.input, second.price),
        (first.task, &first.input, first.price)
    );
    assert_eq!(handle.state(), TaskState::Auditing { miner: node });
    market.miners[1].complete(&second, b"same").await.unwrap();
    let result = handle.result().await.unwrap();
    assert_eq!(result.receipt.value.miner, node);
    assert_eq!(
        (market.status(0).owed, market.status(1).owed),
        (price(), price())
    );
    assert_eq!(
        (market.status(0).completed, market.status(1).completed),
        (1, 0)
    );
    assert_eq!((market.status(1).audits, market.status(1).assigned), (1, 0));
    let auditors = vec![market.node(1)];
    assert_eq!(
        verdicts(&mut market),
        [Verdict::Honest {
            accepted: node,
            auditors
        }]
    );
    // The voucher comes with the next poll, once.
    let miner = &market.miners[0];
    let poll = || miner.protocol.poll(&miner.token, miner.poll_request(0, 0));
    assert_eq!(
        poll().await.unwrap().voucher.unwrap().value.cumulative,
        price()
    );
    assert_eq!(poll().await.unwrap().voucher, None);
}

/// Three miners; the first two differ, the third says what `third` is.
async fn disputed(
    setup: Setup,
    third: &[u8],
) -> (Market, cuckoo_coordinator::TaskHandle, [usize; 3]) {
    let market = setup.open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"one").await.unwrap();
    let (second, assignment) = auditor(&market, &[1, 2]).await;
    market.miners[second]
        .complete(&assignment, b"two")
        .await
        .unwrap();
    let last = 3 - second;
    let (drawn, assignment) = auditor(&market, &[last]).await;
    market.miners[drawn]
        .complete(&assignment, third)
        .await
        .unwrap();
    settle().await;
    (market, handle, [0, second, last])
}

/// The miner that was drawn, with what it got.
async fn auditor(market: &Market, among: &[usize]) -> (usize, cuckoo_core::Assignment) {
    // One round may pass while the drawn one has not polled yet: it is invited, and gets it when it does.
    market.auditor(among).await.expect("an auditor was drawn")
}

#[tokio::test]
async fn a_cheating_miner_is_convicted_by_two_others() {
    let (mut market, handle, [cheater, second, third]) = disputed(Setup::audited(3), b"two").await;
    let result = handle.result().await.unwrap();
    assert_eq!(&result.output.bytes[..], b"two");
    assert_eq!(result.receipt.value.miner, market.node(second));
    for (miner, owed) in [(cheater, Wei::ZERO), (second, price()), (third, price())] {
        assert_eq!(market.status(miner).owed, owed);
    }
    let status = market.status(cheater);
    assert!(status.suspended && !status.connected);
    assert_eq!((status.audits_failed, status.completed), (1, 0));

    let evidence = market.coordinator.evidence().remove(0);
    assert_eq!(evidence.convicted, market.node(cheater));
    assert_eq!(evidence.accepted, market.node(second));
    assert_eq!(&evidence.convicted_exhibit().unwrap().output[..], b"one");
    assert_eq!(&evidence.accepted_exhibit().unwrap().output[..], b"two");
    assert_eq!(evidence.exhibits.len(), 3);
    for exhibit in &evidence.exhibits {
        let miner = market
            .miners
            .iter()
            .find(|m| m.member.node == exhibit.receipt.value.miner);
        let operator = miner.unwrap().member.operator.address();
        exhibit
            .receipt
            .verify(operator, &market.chain.deployment())
            .unwrap();
        assert_eq!(
            exhibit.output_hash,
            cuckoo_core::payload_hash(&exhibit.output)
        );
    }

    // No way back in, and the refusal names the evidence.
    let miner = &market.miners[cheater];
    let poll = miner
        .protocol
        .poll(&miner.token, miner.poll_request(1, 0))
        .await;
    assert_eq!(kind(poll), ErrorKind::Unauthorized);
    let error = market.join(miner.member.clone()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(
        error.message().contains(&handle.id().to_string()),
        "{error}"
    );
    let suspended = |event: &Event| matches!(event, Event::Suspended { evidence: 0, .. });
    assert!(market.events().iter().any(suspended));
}

#[tokio::test]
async fn a_cheating_auditor_is_convicted_and_the_audited_miner_is_not() {
    let (market, handle, [honest, cheater, third]) = disputed(Setup::audited(3), b"one").await;
    assert_eq!(
        handle.result().await.unwrap().receipt.value.miner,
        market.node(honest)
    );
    assert!(market.status(cheater).suspended);
    assert!(!market.status(honest).suspended && !market.status(third).suspended);
    assert_eq!(market.status(cheater).owed, Wei::ZERO);
    assert_eq!(
        (market.status(honest).owed, market.status(third).owed),
        (price(), price())
    );
}

#[tokio::test]
async fn a_convicted_miner_s_other_work_goes_to_others() {
    let market = Setup::audited(3).open().await;
    let (_, first) = market.assigned(0).await;
    let (other, _) = market.assigned(0).await;
    market.miners[0].complete(&first, b"one").await.unwrap();
    for _ in 0..2 {
        let (miner, assignment) = auditor(&market, &[1, 2]).await;
        market.miners[miner]
            .complete(&assignment, b"two")
            .await
            .unwrap();
    }
    settle().await;
    assert!(market.status(0).suspended);
    assert_eq!(other.state(), TaskState::Queued);
    assert_eq!(market.miners[1].take().await.unwrap().task, other.id());
}

#[tokio::test]
async fn three_different_outputs_convict_nobody_and_others_try() {
    let mut setup = Setup::audited(5);
    setup.settings.lease_millis = 100_000;
    let market = setup.open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"0").await.unwrap();
    let mut parties = vec![0];
    for _ in 0..2 {
        let among: Vec<_> = (1..3).filter(|miner| !parties.contains(miner)).collect();
        let (miner, assignment) = auditor(&market, &among).await;
        market.miners[miner]
            .complete(&assignment, miner.to_string().as_bytes())
            .await
            .unwrap();
        parties.push(miner);
    }
    settle().await;
    assert_eq!(handle.state(), TaskState::Queued);
    assert!(market.coordinator.evidence().is_empty());
    for &miner in &parties {
        assert!(!market.status(miner).suspended);
        assert_eq!(market.status(miner).owed, Wei::ZERO);
        assert_eq!(
            market.miners[miner].take().await,
            None,
            "{miner} may not try again"
        );
    }
    for miner in [3, 4] {
        let assignment = market.miners[miner].take().await.unwrap();
        market.miners[miner]
            .complete(&assignment, b"right")
            .await
            .unwrap();
    }
    assert_eq!(&handle.result().await.unwrap().output.bytes[..], b"right");
}

#[tokio::test]
async fn an_auditor_that_vanishes_or_fails_is_replaced() {
    let mut market = Setup::audited(4).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"same").await.unwrap();
    let (vanished, _) = auditor(&market, &[1, 2, 3]).await;
    let rest: Vec<_> = [1, 2, 3]
        .into_iter()
        .filter(|miner| *miner != vanished)
        .collect();
    market.advance(10_000).await;
    let (failed, assignment) = auditor(&market, &rest).await;
    market.miners[failed]
        .fail(&assignment, ErrorKind::Execution)
        .await
        .unwrap();
    let last = 6 - vanished - failed;
    let (drawn, assignment) = auditor(&market, &[last]).await;
    market.miners[drawn]
        .complete(&assignment, b"same")
        .await
        .unwrap();
    handle.result().await.unwrap();
    assert!(matches!(
        verdicts(&mut market)[..],
        [Verdict::Honest { .. }]
    ));
    assert_eq!(market.status(last).owed, price());
    assert_eq!(market.status(vanished).owed, Wei::ZERO);
}

#[tokio::test]
async fn without_an_auditor_an_output_is_accepted_unaudited_after_a_while() {
    let mut market = Setup::audited(1).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"alone").await.unwrap();
    assert_eq!(market.miners[0].take().await, None, "nobody audits itself");
    market.advance(29_999).await;
    assert!(matches!(handle.state(), TaskState::Auditing { .. }));
    market.advance(1).await;
    assert_eq!(&handle.result().await.unwrap().output.bytes[..], b"alone");
    let accepted = market.node(0);
    assert_eq!(verdicts(&mut market), [Verdict::NoAuditor { accepted }]);
    assert_eq!(market.status(0).owed, price());
}

#[tokio::test]
async fn only_other_owners_with_equal_files_and_kernels_audit() {
    let mut market = Setup::audited(3).open().await;
    // A second node of the first miner's owner.
    let owner = market.miners[0].member.owner.clone();
    let operator = cuckoo_core::Key::random(market.entropy.as_ref());
    let treasury = &market.me.owner;
    market
        .chain
        .transfer(treasury, owner.address(), cai(0))
        .await
        .unwrap();
    let profile = cuckoo_core::Profile::default();
    let chain = market.chain.as_ref();
    let kind = cuckoo_core::NodeKind::Miner;
    let (node, _) = cuckoo_core::register_with_consent(chain, &owner, &operator, kind, profile, 0)
        .await
        .unwrap();
    market.dev_chain.fund(owner.address(), cai(20_001));
    chain.stake(&owner, cai(20_000)).await.unwrap();
    chain.vote(&owner, node, cai(20_000)).await.unwrap();
    market.dev_chain.advance(std::time::Duration::from_secs(3));
    market.advance(5_000).await;
    let twin = market
        .join(cuckoo_core::Member {
            node,
            owner,
            operator,
        })
        .await
        .unwrap();
    market.miners.push(twin);
    market.miners[1].capability.kernels = "other".into();
    market.miners[2].capability.model_hash = cuckoo_core::B256::repeat_byte(0x77);
    let (_, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"same").await.unwrap();
    for miner in 0..4 {
        assert_eq!(market.miners[miner].take().await, None, "miner {miner}");
    }
    market.miners[1].capability.kernels = "test".into();
    assert!(market.miners[1].take().await.is_some());
}

#[tokio::test]
async fn a_disputed_output_is_never_delivered() {
    let mut market = Setup::audited(2).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"one").await.unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[1].complete(&second, b"two").await.unwrap();
    market.advance(119_999).await;
    assert!(matches!(handle.state(), TaskState::Auditing { .. }));
    market.advance(1).await;
    assert_eq!(failure(&handle), (ErrorKind::Unverified, Fault::Miner));
    assert_eq!(kind(handle.result().await), ErrorKind::Unverified);
    assert!(market.coordinator.evidence().is_empty());
    assert_eq!(
        (market.status(0).owed, market.status(1).owed),
        (Wei::ZERO, Wei::ZERO)
    );
    assert!(matches!(
        verdicts(&mut market)[..],
        [Verdict::Undecided { .. }]
    ));
}

#[tokio::test]
async fn cancelling_during_an_audit_pays_the_undisputed_work_and_stops_the_auditor() {
    let market = Setup::audited(2).open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"one").await.unwrap();
    let second = market.miners[1].take().await.unwrap();
    handle.cancel().await.unwrap();
    assert_eq!(handle.state(), TaskState::Cancelled);
    assert_eq!(
        market.miners[1].heartbeat(&second, 1).await,
        LeaseStatus::Cancelled
    );
    assert_eq!(
        (market.status(0).owed, market.status(1).owed),
        (price(), Wei::ZERO)
    );
}

#[tokio::test]
async fn a_busy_auditor_gets_the_work_when_it_comes_by() {
    let market = Setup::audited(2).open().await;
    let (busy_with, other) = {
        let handle = market.submit().await;
        (handle, market.miners[1].take().await.unwrap())
    };
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"same").await.unwrap();
    // The audit of the first task is for the busy miner, the audit of the other one for the first.
    market.miners[1].complete(&other, b"other").await.unwrap();
    let audit = market.miners[1].take().await.unwrap();
    assert_eq!(audit.task, handle.id());
    market.miners[1].complete(&audit, b"same").await.unwrap();
    handle.result().await.unwrap();
    let audit = market.miners[0].take().await.unwrap();
    assert_eq!(audit.task, busy_with.id());
    market.miners[0].complete(&audit, b"other").await.unwrap();
    busy_with.result().await.unwrap();
}

#[tokio::test]
async fn a_suspended_miner_s_unaudited_word_counts_for_nothing() {
    let market = Setup::audited(3).open().await;
    // Two outputs of the cheater under audit: the auditors do the one and vanish with the other.
    let (disputed, first) = market.assigned(0).await;
    let (open, second) = market.assigned(0).await;
    market.miners[0].complete(&first, b"one").await.unwrap();
    market.miners[0].complete(&second, b"one").await.unwrap();
    for miner in [1, 2, 1, 2] {
        if let Some(assignment) = market.miners[miner].take().await
            && assignment.task == disputed.id()
        {
            market.miners[miner]
                .complete(&assignment, b"two")
                .await
                .unwrap();
        }
    }
    disputed.result().await.unwrap();
    assert!(market.status(0).suspended);
    assert!(matches!(open.state(), TaskState::Auditing { .. }));
    for _ in 0..6 {
        market.advance(10_000).await;
    }
    assert_eq!(open.state(), TaskState::Queued);
    assert_eq!(market.status(0).owed, Wei::ZERO);
    // The task is done by others after all.
    let assignment = market.miners[1].take().await.unwrap();
    assert_eq!(assignment.task, open.id());
}
