//! Sessions: whom the miner serves, and how it gets back when one is lost.

use std::sync::Arc;

use cuckoo_core::{Address, Deployment, ErrorKind, Key, cai};
use cuckoo_miner::Miner;

use crate::echo::Echo;
use crate::peer::Market;
use crate::{builder, connected, eventually, settings};

#[tokio::test]
async fn a_coordinator_on_another_chain_is_given_up() {
    let market = Market::new().await;
    let ours = market.chain.deployment();
    for wrong in [
        Deployment {
            chain_id: 1,
            ..ours
        },
        Deployment {
            staking: Address::ZERO,
            ..ours
        },
        Deployment {
            payments: Address::ZERO,
            ..ours
        },
    ] {
        let (peer, echo) = (market.peer(), Echo::new());
        peer.set(|state| state.deployment = Some(wrong));
        let miner = builder(&market, &peer, &echo).start().await.unwrap();
        let error = miner.connected().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("wrong chain"), "{error}");
        assert_eq!(
            miner.finished().await.unwrap_err().kind(),
            ErrorKind::Invalid
        );
        assert!(miner.status().coordinators[0].dropped);
        assert_eq!(peer.state().opened, 0, "nothing was signed for it");
    }
}

#[tokio::test]
async fn a_coordinator_of_another_protocol_version_is_given_up() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    peer.set(|state| state.protocol = Some(99));
    let miner = builder(&market, &peer, &echo).start().await.unwrap();
    let error = miner.connected().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("99"), "{error}");
}

#[tokio::test]
async fn a_coordinator_that_does_not_hold_its_key_is_given_up() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    peer.set(|state| state.grant_key = Some(Key::random(&*market.entropy)));
    let miner = builder(&market, &peer, &echo).start().await.unwrap();
    let error = miner.connected().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unverified);
    assert!(error.message().contains("did not prove"), "{error}");
    assert!(peer.state().polls.is_empty());
}

#[tokio::test]
async fn a_coordinator_given_up_leaves_the_others_served() {
    let market = Market::new().await;
    let (good, bad, echo) = (market.peer(), market.peer(), Echo::new());
    bad.set(|state| state.protocol = Some(99));
    let miner = builder(&market, &bad, &echo)
        .coordinator(Arc::clone(&good) as _)
        .start()
        .await
        .unwrap();
    miner.connected().await.unwrap();
    good.assign(good.task("x"));
    good.until("its work", |state| state.completions.len() == 1)
        .await;
    let status = miner.status();
    assert!(status.coordinators[0].dropped && !status.coordinators[1].dropped);
    miner.shutdown(std::time::Duration::ZERO).await;
    miner.finished().await.unwrap();
}

#[tokio::test]
async fn an_unregistered_coordinator_is_not_served_until_it_is_registered() {
    let market = Market::new().await;
    let mut stranger = market.coordinator.clone();
    stranger.operator = Key::random(&*market.entropy);
    // A registered miner is no coordinator either.
    let mut miner_posing = market.local.add_miner("posing", cai(20_000)).await.unwrap();
    miner_posing.node = market.coordinator.node;
    for member in [stranger, miner_posing] {
        let (peer, echo) = (market.peer_of(&member), Echo::new());
        let miner = builder(&market, &peer, &echo).start().await.unwrap();
        eventually("trouble in the status", || {
            let trouble = miner.status().coordinators[0].last_error.clone();
            trouble
                .is_some_and(|trouble| trouble.contains("not registered as an active coordinator"))
        })
        .await;
        assert_eq!(peer.state().opened, 0);
        assert!(
            !miner.status().coordinators[0].dropped,
            "it may be registered yet"
        );
    }
}

#[tokio::test]
async fn an_unregistered_miner_is_told_what_to_do() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    let miner = builder(&market, &peer, &echo)
        .operator(Key::random(&*market.entropy))
        .start()
        .await
        .unwrap();
    eventually("advice in the status", || {
        let trouble = miner.status().coordinators[0].last_error.clone();
        trouble.is_some_and(|trouble| trouble.contains("cuckoo-miner register"))
    })
    .await;
    assert_eq!(peer.state().opened, 0);
}

#[tokio::test]
async fn a_coordinator_that_is_down_at_start_is_served_once_it_is_up() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    peer.set(|state| state.down = true);
    let miner = builder(&market, &peer, &echo).start().await.unwrap();
    eventually("trouble in the status", || {
        miner.status().coordinators[0].last_error.is_some()
    })
    .await;
    assert!(!miner.status().coordinators[0].connected);
    peer.set(|state| state.down = false);
    peer.assign(peer.task("x"));
    peer.until("its work", |state| state.completions.len() == 1)
        .await;
}

#[tokio::test]
async fn a_lost_session_is_opened_again_and_work_goes_on() {
    let (_market, peer, echo, miner) = connected().await;
    let task = peer.assign(peer.task("wait"));
    eventually("a run", || Echo::count(&echo.running) == 1).await;
    peer.set(|state| state.sessions.clear());
    peer.until("another session", |state| state.opened == 2)
        .await;
    echo.gate.add_permits(1);
    peer.until("the work of before", |state| state.completions.len() == 1)
        .await;
    assert_eq!(peer.state().completions[0].receipt.value.lease, task.lease);

    // The same while a poll waits, and at the moment of handing in.
    peer.until("a poll", |state| state.polling == 1).await;
    peer.set(|state| state.sessions.clear());
    peer.until("a third session", |state| state.opened == 3)
        .await;
    peer.assign(peer.task("x"));
    peer.until("more work", |state| state.completions.len() == 2)
        .await;
    eventually("all counted", || miner.status().completed == 2).await;
    assert_eq!(miner.status().failed, 0);
}

#[tokio::test]
async fn parts_that_are_missing_are_named() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    let cases = [
        ("coordinator", Miner::builder()),
        (
            "operator",
            Miner::builder().coordinator(Arc::clone(&peer) as _),
        ),
        (
            "chain",
            Miner::builder()
                .coordinator(Arc::clone(&peer) as _)
                .operator(market.miner.operator.clone()),
        ),
        (
            "executor",
            Miner::builder()
                .coordinator(Arc::clone(&peer) as _)
                .operator(market.miner.operator.clone())
                .chain(Arc::clone(&market.chain)),
        ),
        (
            "two executors",
            builder(&market, &peer, &echo).executor(Echo::new()),
        ),
        (
            "slots",
            builder(&market, &peer, &echo).settings(cuckoo_miner::Settings {
                slots: 0,
                ..settings()
            }),
        ),
    ];
    for (what, builder) in cases {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(what), "{what}: {error}");
    }
}
