//! A chain node that is wrong, silent, broken or gone: typed errors in time, and recovery without a restart.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is a test"
)]

#[path = "chain_outage/link.rs"]
mod link;

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Address, B256, ChainEvent, DeployConfig, Deployment, Error, ErrorKind, Key, NodeId, NodeKind,
    Profile, Result, Retry, RpcSettings, RpcStaking, StakingContract, SystemClock, cai,
    register_with_consent,
};
use futures::StreamExt as _;

use link::{Answer, Link, nobody, server};

/// Far more than any call may take here; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

fn settings(url: &str) -> RpcSettings {
    RpcSettings {
        poll_millis: 50,
        ..RpcSettings::new(url)
    }
}

fn nowhere() -> Deployment {
    Deployment {
        chain_id: Anvil::CHAIN_ID,
        staking: Address::repeat_byte(1),
        payments: Address::repeat_byte(2),
    }
}

async fn connect(url: &str, deployment: Deployment) -> Result<Arc<dyn StakingContract>> {
    connect_with(&settings(url), deployment).await
}

async fn connect_with(
    settings: &RpcSettings,
    deployment: Deployment,
) -> Result<Arc<dyn StakingContract>> {
    let connecting = RpcStaking::connect(settings, deployment, Arc::new(SystemClock));
    tokio::time::timeout(HANG, connecting)
        .await
        .expect("connecting hangs")
}

async fn refused(url: &str) -> Error {
    // Those that say nothing are waited for.
    let impatient = RpcSettings {
        request_millis: 1_000,
        ..settings(url)
    };
    connect_with(&impatient, nowhere()).await.unwrap_err()
}

async fn deployed(anvil: &Anvil, url: &str) -> (Arc<dyn StakingContract>, Key) {
    let admin = Key::from_bytes(B256::repeat_byte(7)).unwrap();
    anvil.fund(admin.address(), cai(100)).await.unwrap();
    let chain = RpcStaking::deploy(
        &settings(url),
        &admin,
        &DeployConfig::demo(),
        Arc::new(SystemClock),
    )
    .await
    .unwrap();
    (chain, admin)
}

#[tokio::test]
async fn an_address_that_is_none_is_invalid() {
    for url in [
        "",
        "127.0.0.1:8545",
        "ftp://127.0.0.1",
        "unix:/run/geth.ipc",
    ] {
        let error = refused(url).await;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        assert!(error.message().contains("write it like"), "{error}");
    }
}

#[tokio::test]
async fn servers_that_are_no_chain_nodes_are_unavailable() {
    let (closed, _held) = nobody();
    let mut urls = vec![format!("http://{closed}"), "http://chain.invalid".into()];
    let mut servers = Vec::new();
    for answer in [
        Answer::Silence,
        Answer::Hangup,
        Answer::Text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        Answer::Text("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        Answer::Text(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        let (address, server) = server(answer).await;
        urls.push(format!("http://{address}"));
        urls.push(format!("https://{address}"));
        servers.push(server);
    }
    for url in urls {
        let error = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error}");
        assert_eq!(error.retry(), Retry::Later, "{url}");
        assert!(error.message().contains("check"), "{error}");
    }
}

#[tokio::test]
async fn a_providers_key_is_never_shown() {
    let url = "http://user:hunter2@127.0.0.1:9/v3/0123456789abcdef?token=hunter3";
    let error = refused(url).await;
    let shown = format!("{error} {error:?} {:?}", settings(url));
    assert!(shown.contains("127.0.0.1:9"), "{shown}");
    for secret in ["hunter2", "hunter3", "0123456789abcdef"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn another_chain_and_other_contracts_are_told_apart() {
    let anvil = Anvil::start().await.unwrap();
    let (chain, admin) = deployed(&anvil, anvil.url()).await;
    let deployment = chain.deployment();
    assert_eq!(deployment.chain_id, Anvil::CHAIN_ID);

    let other = Deployment {
        chain_id: 1210,
        ..deployment
    };
    let error = connect(anvil.url(), other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error
            .message()
            .contains("wrong chain: the endpoint says 31337, the deployment says 1210"),
        "{error}"
    );

    let error = connect(anvil.url(), nowhere()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Chain);
    assert!(
        error.message().contains("check the deployment's addresses"),
        "{error}"
    );

    let (second, _) = deployed(&anvil, anvil.url()).await;
    let mixed = Deployment {
        payments: second.deployment().payments,
        ..deployment
    };
    let error = connect(anvil.url(), mixed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("mixes two markets"), "{error}");

    let same = connect(anvil.url(), deployment).await.unwrap();
    assert_eq!(same.deployment(), deployment);
    assert!(same.balance(admin.address()).await.unwrap() > cai(99));
}

#[tokio::test]
async fn a_node_that_dies_is_unavailable_for_every_call() {
    let mut anvil = Anvil::start().await.unwrap();
    let (chain, admin) = deployed(&anvil, anvil.url()).await;
    anvil.kill();
    let calls = async {
        let kinds = [
            chain.snapshot().await.map(drop),
            chain.changes().await.map(drop),
            chain.block_time().await.map(drop),
            chain.balance(admin.address()).await.map(drop),
            chain.free_stake(admin.address()).await.map(drop),
            chain.stake(&admin, cai(1)).await.map(drop),
            chain
                .transfer(&admin, Address::ZERO, cai(1))
                .await
                .map(drop),
        ];
        kinds.map(|result| result.unwrap_err().kind())
    };
    let kinds = tokio::time::timeout(HANG, calls)
        .await
        .expect("a call hangs");
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_node_that_comes_back_is_used_again_and_no_change_is_lost() {
    let anvil = Anvil::start().await.unwrap();
    let link = Link::to(anvil.url()).await;
    let (chain, owner) = deployed(&anvil, &link.url()).await;
    let mut changes = chain.changes().await.unwrap();
    let mut next = async || {
        tokio::time::timeout(HANG, changes.next())
            .await
            .expect("a change is due")
            .unwrap()
            .unwrap()
    };
    let register = async |chain: &dyn StakingContract, operator| {
        let operator = Key::from_bytes(B256::repeat_byte(operator)).unwrap();
        register_with_consent(
            chain,
            &owner,
            &operator,
            NodeKind::Miner,
            Profile::default(),
            0,
        )
        .await
        .unwrap()
        .0
    };
    assert_eq!(register(&*chain, 11).await, NodeId(1));
    for _ in 0..2 {
        assert_eq!(next().await.event, ChainEvent::NodeChanged(NodeId(1)));
    }

    link.cut().await;
    let error = chain.snapshot().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // Meanwhile the chain goes on, seen by another connection.
    let direct = connect(anvil.url(), chain.deployment()).await.unwrap();
    assert_eq!(register(&*direct, 12).await, NodeId(2));
    // The reader runs into the cut before it is mended.
    assert!(futures::poll!(std::pin::pin!(next())).is_pending());
    tokio::time::timeout(Duration::from_millis(500), next())
        .await
        .expect_err("nothing can arrive");

    link.mend().await;
    for _ in 0..2 {
        assert_eq!(next().await.event, ChainEvent::NodeChanged(NodeId(2)));
    }
    assert_eq!(chain.snapshot().await.unwrap().nodes.len(), 2);
    assert_eq!(register(&*chain, 13).await, NodeId(3));
}

#[tokio::test]
async fn a_transaction_whose_fate_is_unknown_must_not_be_repeated_blindly() {
    // The transaction is accepted, and its block never comes.
    let anvil = Anvil::start().await.unwrap();
    let link = Link::to(anvil.url()).await;
    let (chain, admin) = deployed(&anvil, &link.url()).await;
    anvil.hold_blocks().await.unwrap();
    let sending = chain.stake(&admin, cai(1));
    let cutting = async {
        anvil.wait_for_pending(&SystemClock).await.unwrap();
        link.cut().await;
    };
    let (sent, ()) = tokio::time::timeout(HANG, futures::future::join(sending, cutting))
        .await
        .expect("sending hangs");
    let error = sent.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry(), Retry::Never);
    assert!(
        error.message().contains("look it up before repeating"),
        "{error}"
    );

    // In time, but not in a block.
    link.mend().await;
    let hasty = RpcSettings {
        receipt_millis: 200,
        ..settings(anvil.url())
    };
    let chain = RpcStaking::connect(&hasty, chain.deployment(), Arc::new(SystemClock))
        .await
        .unwrap();
    let error = chain.stake(&admin, cai(1)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Timeout, Retry::Never)
    );
}
