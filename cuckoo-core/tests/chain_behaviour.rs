//! What every [`StakingContract`] must do, run over the chain in the process and over anvil.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is a test"
)]

#[path = "chain_behaviour/court.rs"]
mod court;
#[path = "chain_behaviour/economy.rs"]
mod economy;
#[path = "chain_behaviour/market.rs"]
mod market;
#[path = "chain_behaviour/pay.rs"]
mod pay;
#[path = "chain_behaviour/reading.rs"]
mod reading;

use std::collections::HashSet;
use std::time::Duration;

use cuckoo_core::{
    Action, B256, ChainEvent, Change, ErrorKind, Key, NodeId, NodeKind, OperatorConsent, Profile,
    Registration, Signed, SignedVoucher, Slash, U256, Voucher, Wei, cai, register_with_consent,
};
use futures::StreamExt as _;

use court::{
    a_bond_pays_what_no_escrow_covers, equivocation_is_slashed_once, the_court_convicts_by_majority,
};
use economy::{
    a_pause_stops_entries_and_no_exit, a_quote_is_what_it_costs_and_sends_nothing,
    gas_lasts_for_what_an_hour_more_has_earned, rewards_follow_weight_and_are_claimed,
};
use market::{Market, key, profile};
use pay::{
    a_voucher_beyond_the_escrow_pays_what_is_there, a_voucher_pays_once_what_it_adds,
    escrow_is_deposited_and_leaves_after_its_delay, only_the_coordinators_operator_signs_vouchers,
};
use reading::{
    a_mirror_follows_changes_and_epochs, more_nodes_than_a_page_are_read_whole,
    what_changed_is_read_without_the_rest,
};

/// Runs each behaviour on both chains.
macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        mod dev_chain {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Market::in_process().await).await;
            })*
        }
        mod anvil {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Market::on_anvil().await).await;
            })*
        }
    };
}

behaviours!(
    a_fresh_market_is_empty,
    stake_moves_through_vote_unvote_release_and_withdraw,
    a_node_is_active_from_its_minimum_on,
    a_vote_weighs_from_the_next_epoch_on,
    consent_binds_the_operator_the_owner_and_the_chain,
    an_operator_serves_one_node,
    operators_rotate_and_the_old_key_stays_accountable,
    profiles_change_and_nodes_leave,
    slashing_takes_active_and_unbonding_stake_once,
    escrow_is_deposited_and_leaves_after_its_delay,
    a_voucher_pays_once_what_it_adds,
    a_voucher_beyond_the_escrow_pays_what_is_there,
    only_the_coordinators_operator_signs_vouchers,
    an_account_without_money_is_told_so,
    changes_come_in_order,
    rewards_follow_weight_and_are_claimed,
    gas_lasts_for_what_an_hour_more_has_earned,
    a_pause_stops_entries_and_no_exit,
    a_quote_is_what_it_costs_and_sends_nothing,
    equivocation_is_slashed_once,
    a_bond_pays_what_no_escrow_covers,
    the_court_convicts_by_majority,
    more_nodes_than_a_page_are_read_whole,
    concurrent_writes_of_one_key_all_succeed,
    what_changed_is_read_without_the_rest,
    a_mirror_follows_changes_and_epochs,
);

async fn a_fresh_market_is_empty(market: Market) {
    let chain = &market.contracts;
    let snapshot = chain.snapshot().await.unwrap();
    assert!(snapshot.nodes.is_empty());
    assert_eq!(
        chain.minimum_vote(NodeKind::Miner).await.unwrap(),
        cai(20_000)
    );
    assert_eq!(
        chain.minimum_vote(NodeKind::Coordinator).await.unwrap(),
        cai(2_000_000)
    );
    assert_eq!(chain.balance(key(900).address()).await.unwrap(), Wei::ZERO);
    assert_eq!(
        chain.free_stake(key(900).address()).await.unwrap(),
        Wei::ZERO
    );
}

async fn stake_moves_through_vote_unvote_release_and_withdraw(market: Market) {
    let chain = &market.contracts;
    let staker = market.funded(1, cai(1_000)).await;
    let (node, _) = market.miner(2).await;

    chain.stake(&staker, cai(900)).await.unwrap();
    chain.vote(&staker, node, cai(600)).await.unwrap();
    assert_eq!(chain.free_stake(staker.address()).await.unwrap(), cai(300));
    let vote = chain.vote_of(node, staker.address()).await.unwrap();
    assert_eq!((vote.shares, vote.amount), (cai(600), cai(600)));

    let error = chain.vote(&staker, node, cai(301)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Chain);
    assert!(
        error.message().contains("InsufficientFreeStake")
            && error.message().contains("has 300 CAI"),
        "{error}"
    );
    let error = chain.unvote(&staker, node, cai(601)).await.unwrap_err();
    assert!(error.message().contains("InsufficientShares"), "{error}");

    let (ticket, _) = chain.unvote(&staker, node, cai(200)).await.unwrap();
    let error = chain.release(&staker, ticket).await.unwrap_err();
    assert!(error.message().contains("StillUnbonding"), "{error}");
    market.advance(market.config.unbonding_seconds).await;
    let error = chain.release(&key(3), ticket).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Chain);
    chain.release(&staker, ticket).await.unwrap();
    assert_eq!(chain.free_stake(staker.address()).await.unwrap(), cai(500));

    let before = chain.balance(staker.address()).await.unwrap();
    chain.withdraw(&staker, cai(500)).await.unwrap();
    let gained = chain.balance(staker.address()).await.unwrap() - before;
    // Less the fee.
    assert!(gained > cai(499) && gained < cai(500), "{gained}");
    let error = chain.release(&staker, ticket).await.unwrap_err();
    assert!(error.message().contains("UnknownTicket"), "{error}");
}

async fn a_node_is_active_from_its_minimum_on(market: Market) {
    let chain = &market.contracts;
    let owner = market.funded(1, cai(20_001)).await;
    let (id, _) =
        register_with_consent(&**chain, &owner, &key(2), NodeKind::Miner, profile("m"), 0)
            .await
            .unwrap();
    chain.stake(&owner, cai(20_000)).await.unwrap();
    chain.vote(&owner, id, cai(19_999)).await.unwrap();
    assert!(!market.node(id).await.active, "a CAI short");
    chain.vote(&owner, id, cai(1)).await.unwrap();
    let node = market.node(id).await;
    assert!(node.active);
    assert_eq!(node.owner_vote, cai(20_000));

    // Others' votes do not stand in for the owner's.
    let friend = market.funded(3, cai(50_001)).await;
    chain.stake(&friend, cai(50_000)).await.unwrap();
    chain.vote(&friend, id, cai(50_000)).await.unwrap();
    chain.unvote(&owner, id, U256::ONE).await.unwrap();
    assert!(!market.node(id).await.active, "a wei short");
}

async fn a_vote_weighs_from_the_next_epoch_on(market: Market) {
    let chain = &market.contracts;
    // At an epoch's start, so that the next lines fall into one epoch.
    market.next_epoch().await;
    let (id, owner) = market.miner(1).await;
    let before = chain.snapshot().await.unwrap();
    assert_eq!(before.node(id).unwrap().weight, Wei::ZERO);
    market.next_epoch().await;
    let after = chain.snapshot().await.unwrap();
    assert!(after.epoch > before.epoch && after.block > before.block);
    assert_eq!(after.node(id).unwrap().weight, cai(20_000));
    // Leaving stake stops counting at once.
    chain.unvote(&owner, id, cai(5_000)).await.unwrap();
    assert_eq!(market.node(id).await.weight, cai(15_000));
}

async fn consent_binds_the_operator_the_owner_and_the_chain(market: Market) {
    let chain = &market.contracts;
    let deployment = chain.deployment();
    let owner = market.funded(1, cai(10)).await;
    let (operator, stranger) = (key(2), key(3));
    let deadline = chain.block_time().await.unwrap() + 600;
    let consent = OperatorConsent {
        owner: owner.address(),
        operator: operator.address(),
        kind: NodeKind::Miner,
        nonce: chain.consent_nonce(operator.address()).await.unwrap(),
        deadline,
    };
    let registration = |consent| Registration {
        kind: NodeKind::Miner,
        operator: operator.address(),
        profile: profile("m"),
        commission_bps: 500,
        deadline,
        consent,
    };
    let signed = Signed::sign(consent.clone(), &operator, &deployment);

    let wrong_key = Signed::sign(consent.clone(), &stranger, &deployment).signature;
    let wrong_owner = OperatorConsent {
        owner: stranger.address(),
        ..consent.clone()
    };
    let wrong_kind = OperatorConsent {
        kind: NodeKind::Coordinator,
        ..consent.clone()
    };
    let replayed = OperatorConsent {
        nonce: consent.nonce + U256::ONE,
        ..consent.clone()
    };
    let mut elsewhere = deployment;
    elsewhere.chain_id += 1;
    for (case, consent) in [
        ("wrong key", wrong_key),
        (
            "wrong owner",
            Signed::sign(wrong_owner, &operator, &deployment).signature,
        ),
        (
            "wrong kind",
            Signed::sign(wrong_kind, &operator, &deployment).signature,
        ),
        (
            "wrong nonce",
            Signed::sign(replayed, &operator, &deployment).signature,
        ),
        (
            "wrong chain",
            Signed::sign(consent.clone(), &operator, &elsewhere).signature,
        ),
    ] {
        let error = chain
            .register(&owner, registration(consent))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Chain, "{case}");
        assert!(
            error.message().contains("InvalidConsent"),
            "{case}: {error}"
        );
    }

    let (id, _) = chain
        .register(&owner, registration(signed.signature))
        .await
        .unwrap();
    let node = market.node(id).await;
    assert_eq!(
        (node.id, node.kind, node.owner, node.operator),
        (
            NodeId(1),
            NodeKind::Miner,
            owner.address(),
            operator.address()
        )
    );
    assert_eq!((node.commission_bps, node.active), (500, false));
    assert_eq!(node.profile, profile("m"));

    // A consent that has run out.
    let late = OperatorConsent {
        operator: stranger.address(),
        nonce: U256::ZERO,
        ..consent
    };
    market.advance(601).await;
    let error = chain
        .register(
            &owner,
            Registration {
                operator: stranger.address(),
                ..registration(Signed::sign(late, &stranger, &deployment).signature)
            },
        )
        .await
        .unwrap_err();
    assert!(error.message().contains("ConsentExpired"), "{error}");
}

async fn an_operator_serves_one_node(market: Market) {
    let chain = &market.contracts;
    let owner = market.funded(1, cai(10)).await;
    for (kind, taken) in [(NodeKind::Miner, false), (NodeKind::Coordinator, true)] {
        let result = register_with_consent(&**chain, &owner, &key(2), kind, profile("m"), 0).await;
        match result {
            Ok(_) => assert!(!taken),
            Err(error) => assert!(
                taken && error.message().contains("OperatorTaken"),
                "{error}"
            ),
        }
    }
    let error = register_with_consent(
        &**chain,
        &owner,
        &key(3),
        NodeKind::Miner,
        profile(&"n".repeat(65)),
        0,
    )
    .await
    .unwrap_err();
    assert!(error.message().contains("name has 65 bytes"), "{error}");
}

async fn operators_rotate_and_the_old_key_stays_accountable(market: Market) {
    let chain = &market.contracts;
    let deployment = chain.deployment();
    let (miner, _) = market.miner(1).await;
    let (coordinator, owner) = market.coordinator(3).await;
    let (old, new) = (market.operator(3), key(77));
    chain
        .deposit_escrow(&owner, coordinator, cai(10))
        .await
        .unwrap();

    let consent = OperatorConsent {
        owner: owner.address(),
        operator: new.address(),
        kind: NodeKind::Coordinator,
        nonce: chain.consent_nonce(new.address()).await.unwrap(),
        deadline: chain.block_time().await.unwrap() + 600,
    };
    let rotation = Action::RotateOperator {
        node: coordinator,
        operator: new.address(),
        deadline: consent.deadline,
        consent: Signed::sign(consent, &new, &deployment).signature,
    };
    let error = chain
        .submit(&market.admin, rotation.clone())
        .await
        .unwrap_err();
    assert!(error.message().contains("NotNodeOwner"), "{error}");
    chain.submit(&owner, rotation).await.unwrap();
    let snapshot = chain.snapshot().await.unwrap();
    assert_eq!(snapshot.by_operator(new.address()).unwrap().id, coordinator);
    assert!(snapshot.by_operator(old.address()).is_none());

    // What the old key signed is still owed, until the unbonding period is over.
    let voucher = |cumulative: u64| Voucher {
        coordinator,
        miner,
        cumulative: cai(cumulative),
    };
    let payer = market.funded(5, cai(1)).await;
    let (paid, _) = chain
        .redeem(&payer, &SignedVoucher::sign(voucher(1), &old, &deployment))
        .await
        .unwrap();
    assert_eq!(paid, cai(1));
    market.advance(market.config.unbonding_seconds).await;
    let error = chain
        .redeem(&payer, &SignedVoucher::sign(voucher(2), &old, &deployment))
        .await
        .unwrap_err();
    assert!(error.message().contains("InvalidVoucherSigner"), "{error}");
    let (paid, _) = chain
        .redeem(&payer, &SignedVoucher::sign(voucher(2), &new, &deployment))
        .await
        .unwrap();
    assert_eq!(paid, cai(1));
}

async fn profiles_change_and_nodes_leave(market: Market) {
    let chain = &market.contracts;
    let (id, owner) = market.miner(1).await;
    let renamed = Profile {
        name: "kestrel \u{9a6c}".into(),
        description: "two cards".into(),
        endpoint: "https://example.org".into(),
    };
    let rename = Action::SetProfile {
        node: id,
        profile: renamed.clone(),
    };
    chain.submit(&owner, rename).await.unwrap();
    assert_eq!(market.node(id).await.profile, renamed);
    chain
        .submit(&owner, Action::Exit { node: id })
        .await
        .unwrap();
    assert!(!market.node(id).await.active);
    let error = chain
        .submit(&owner, Action::Exit { node: id })
        .await
        .unwrap_err();
    assert!(error.message().contains("NodeExited"), "{error}");
    let error = chain
        .submit(&owner, Action::Exit { node: NodeId(9) })
        .await
        .unwrap_err();
    assert!(error.message().contains("UnknownNode"), "{error}");
    // Exits are never a trap.
    chain.unvote(&owner, id, cai(20_000)).await.unwrap();
}

/// Gives a node another profile.
fn rename(node: NodeId) -> Action {
    Action::SetProfile {
        node,
        profile: profile("changed"),
    }
}

/// Lets an account slash.
fn allow(account: &Key) -> Action {
    Action::SetVerifier {
        account: account.address(),
        allowed: true,
    }
}

async fn slashing_takes_active_and_unbonding_stake_once(market: Market) {
    let chain = &market.contracts;
    let (id, owner) = market.miner(1).await;
    let (verifier, wronged) = (market.funded(5, cai(1)).await, key(6));
    let (ticket, _) = chain.unvote(&owner, id, cai(5_000)).await.unwrap();
    let slash = Slash {
        node: id,
        amount: cai(10_000),
        evidence: B256::repeat_byte(9),
        reporter: key(7).address(),
        wronged: wronged.address(),
    };
    let error = chain
        .submit(&verifier, Action::Slash(slash.clone()))
        .await
        .unwrap_err();
    assert!(error.message().contains("the role `verifier`"), "{error}");
    let error = chain.submit(&owner, allow(&verifier)).await.unwrap_err();
    assert!(error.message().contains("the role `admin`"), "{error}");
    chain.submit(&market.admin, allow(&verifier)).await.unwrap();
    let done = chain
        .submit(&verifier, Action::Slash(slash.clone()))
        .await
        .unwrap();
    assert_eq!(done.value, cai(10_000));
    let error = chain
        .submit(&verifier, Action::Slash(slash))
        .await
        .unwrap_err();
    assert!(error.message().contains("EvidenceUsed"), "{error}");

    // Half of what was active and half of what was leaving is gone, but for rounding.
    let node = market.node(id).await;
    assert!(!node.active);
    assert!(
        node.owner_vote.abs_diff(cai(7_500)) < U256::from(10),
        "{}",
        node.owner_vote
    );
    market.advance(market.config.unbonding_seconds).await;
    chain.release(&owner, ticket).await.unwrap();
    let free = chain.free_stake(owner.address()).await.unwrap();
    assert!(free.abs_diff(cai(2_500)) < U256::from(10), "{free}");
    let compensation = chain.free_stake(wronged.address()).await.unwrap();
    assert_eq!(compensation, cai(4_000));
    let reward = chain.free_stake(key(7).address()).await.unwrap();
    assert_eq!(reward, cai(1_000));
}

async fn an_account_without_money_is_told_so(market: Market) {
    let chain = &market.contracts;
    let pauper = key(50);
    for error in [
        chain.stake(&pauper, cai(1)).await.unwrap_err(),
        chain
            .transfer(&pauper, key(51).address(), U256::ONE)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Chain);
        assert!(error.message().contains("send it more CAI"), "{error}");
    }
    let rich = market.funded(52, cai(2)).await;
    chain
        .transfer(&rich, pauper.address(), cai(1))
        .await
        .unwrap();
    assert_eq!(chain.balance(pauper.address()).await.unwrap(), cai(1));
}

async fn changes_come_in_order(market: Market) {
    let chain = &market.contracts;
    let (before, _) = market.miner(9).await;
    let mut changes = chain.changes().await.unwrap();
    let (miner, _) = market.miner(1).await;
    let (coordinator, owner) = market.coordinator(3).await;
    chain
        .deposit_escrow(&owner, coordinator, cai(10))
        .await
        .unwrap();
    let voucher = Voucher {
        coordinator,
        miner,
        cumulative: cai(2),
    };
    let signed = SignedVoucher::sign(voucher, &market.operator(3), &chain.deployment());
    chain.redeem(&owner, &signed).await.unwrap();
    chain.submit(&market.admin, allow(&owner)).await.unwrap();
    let slash = Slash {
        node: miner,
        amount: cai(1),
        evidence: B256::repeat_byte(4),
        reporter: owner.address(),
        wronged: owner.address(),
    };
    chain.submit(&owner, Action::Slash(slash)).await.unwrap();
    let expected = [
        // Registration and its profile are two events.
        ChainEvent::NodeChanged(miner),
        ChainEvent::NodeChanged(miner),
        ChainEvent::VotesChanged(miner),
        ChainEvent::NodeChanged(coordinator),
        ChainEvent::NodeChanged(coordinator),
        ChainEvent::VotesChanged(coordinator),
        ChainEvent::EscrowChanged(coordinator),
        ChainEvent::Redeemed {
            coordinator,
            miner,
            paid: cai(2),
        },
        ChainEvent::Slashed {
            node: miner,
            evidence: B256::repeat_byte(4),
            taken: cai(1),
        },
    ];
    let mut seen: Vec<Change> = Vec::new();
    while seen.len() < expected.len() {
        let change = tokio::time::timeout(Duration::from_secs(20), changes.next())
            .await
            .expect("a change is due")
            .unwrap()
            .unwrap();
        assert_ne!(change.event, ChainEvent::NodeChanged(before));
        seen.push(change);
    }
    let events: Vec<_> = seen.iter().map(|change| change.event.clone()).collect();
    assert_eq!(events, expected);
    assert!(seen.is_sorted_by_key(|change| change.block));
}

async fn concurrent_writes_of_one_key_all_succeed(market: Market) {
    let chain = &market.contracts;
    let staker = market.funded(1, cai(100)).await;
    let writes = (1..=10).map(|amount| chain.stake(&staker, cai(amount)));
    let receipts: Vec<_> = futures::future::join_all(writes)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let hashes: HashSet<_> = receipts.iter().map(|receipt| receipt.hash).collect();
    assert_eq!(hashes.len(), 10);
    assert!(receipts.iter().all(|receipt| receipt.gas_used > 21_000));
    assert_eq!(chain.free_stake(staker.address()).await.unwrap(), cai(55));
}
