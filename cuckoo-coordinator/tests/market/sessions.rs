//! Who gets a session, and who does not.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{MemoryStore, SqliteStore, StoreSettings};
use cuckoo_core::{
    Action, Clock as _, ErrorKind, Key, NodeKind, Profile, Result, Session, SessionOpened, Signed,
    cai, register_with_consent,
};

use crate::fixture::{Market, Setup, kind, settings, settle};
use crate::lifecycle::restart;

async fn open(market: &Market, session: Session, key: &Key) -> Result<SessionOpened> {
    let signed = Signed::sign(session, key, &market.chain.deployment());
    market.coordinator.protocol().open_session(signed).await
}

#[tokio::test]
async fn a_session_proves_both_sides() {
    let market = Setup::with_miners(1).open().await;
    let miner = &market.miners[0].member;
    let session = market.request(&miner.operator);
    let opened = open(&market, session.clone(), &miner.operator)
        .await
        .unwrap();
    assert_eq!(opened.miner, miner.node);
    let grant = &opened.grant;
    grant
        .verify(market.me.operator.address(), &market.chain.deployment())
        .unwrap();
    assert_eq!(grant.value.nonce, session.nonce);
    assert_eq!(grant.value.token_hash, opened.token.hash());
}

#[tokio::test]
async fn replayed_expired_and_misdirected_requests_are_refused() {
    let market = Setup::with_miners(1).open().await;
    let key = market.miners[0].member.operator.clone();
    let session = market.request(&key);
    open(&market, session.clone(), &key).await.unwrap();
    assert_eq!(
        kind(open(&market, session, &key).await),
        ErrorKind::Unauthorized
    );
    let mut session = market.request(&key);
    session.expiry = market.clock.now();
    assert_eq!(
        kind(open(&market, session, &key).await),
        ErrorKind::Unauthorized
    );
    let mut session = market.request(&key);
    session.expiry = market.clock.now().after(Duration::from_millis(300_001));
    assert_eq!(
        kind(open(&market, session, &key).await),
        ErrorKind::Unauthorized
    );
    let mut session = market.request(&key);
    session.coordinator = key.address();
    assert_eq!(
        kind(open(&market, session, &key).await),
        ErrorKind::Unauthorized
    );
}

#[tokio::test]
async fn a_captured_request_is_refused_by_the_next_coordinator_too() {
    let folder = tempfile::tempdir().unwrap();
    let place = StoreSettings::at(folder.path().join("coordinator.db"));
    let mut setup = Setup::with_miners(1);
    setup.store = Arc::new(SqliteStore::open(&place).await.unwrap());
    let mut market = setup.open().await;
    let key = market.miners[0].member.operator.clone();
    let captured = market.request(&key);
    let opened = open(&market, captured.clone(), &key).await.unwrap();

    // Nothing is left of the first but its file.
    market.coordinator.shutdown(Duration::ZERO).await;
    market.store = Arc::new(MemoryStore::new());
    restart(&mut market, settings()).await;
    market.store = Arc::new(SqliteStore::open(&place).await.unwrap());
    restart(&mut market, settings()).await;
    market.miners.clear();
    let replayed = open(&market, captured.clone(), &key).await.unwrap_err();
    assert_eq!(replayed.kind(), ErrorKind::Unauthorized);
    assert!(replayed.message().contains("used before"), "{replayed}");
    let again = open(&market, market.request(&key), &key).await.unwrap();
    assert_ne!(again.token, opened.token);
    // Until it expires, which it says itself.
    market.advance(60_000).await;
    let expired = open(&market, captured, &key).await.unwrap_err();
    assert!(expired.message().contains("expired"), "{expired}");
}

#[tokio::test]
async fn another_key_or_chain_does_not_verify() {
    let market = Setup::with_miners(2).open().await;
    let key = &market.miners[0].member.operator;
    let other = &market.miners[1].member.operator;
    assert_eq!(
        kind(open(&market, market.request(key), other).await),
        ErrorKind::Unverified
    );
    let mut elsewhere = market.chain.deployment();
    elsewhere.chain_id += 1;
    let signed = Signed::sign(market.request(key), key, &elsewhere);
    let opened = market.coordinator.protocol().open_session(signed).await;
    assert_eq!(kind(opened), ErrorKind::Unverified);
}

#[tokio::test]
async fn only_active_miners_get_a_session() {
    let market = Setup::with_miners(0).open().await;
    let stranger = Key::random(market.entropy.as_ref());
    let asked = open(&market, market.request(&stranger), &stranger).await;
    assert_eq!(kind(asked), ErrorKind::Unauthorized);
    let coordinator = &market.me.operator;
    let asked = open(&market, market.request(coordinator), coordinator).await;
    assert_eq!(kind(asked), ErrorKind::Unauthorized);
    let poor = market.local.add_miner("poor", cai(19_999)).await.unwrap();
    settle().await;
    let asked = open(&market, market.request(&poor.operator), &poor.operator).await;
    let error = asked.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.message().contains("19999 CAI"), "{error}");
}

#[tokio::test]
async fn a_miner_that_registers_later_is_known_without_a_restart() {
    let market = Setup::with_miners(0).open().await;
    let late = market.local.add_miner("late", cai(20_000)).await.unwrap();
    settle().await;
    let miner = market.join(late).await.unwrap();
    let handle = market.submit().await;
    // Its votes count from the next epoch, which no event announces.
    assert_eq!(miner.take().await, None);
    market.advance(5_000).await;
    assert_eq!(miner.take().await.unwrap().task, handle.id());
}

#[tokio::test]
async fn a_miner_whose_owner_takes_the_votes_back_gets_no_more_work() {
    let market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    let member = &market.miners[0].member;
    let vote = market
        .chain
        .vote_of(member.node, member.owner.address())
        .await
        .unwrap();
    market
        .chain
        .unvote(&member.owner, member.node, vote.shares)
        .await
        .unwrap();
    settle().await;
    let miner = &market.miners[0];
    let poll = miner
        .protocol
        .poll(&miner.token, miner.poll_request(1, 0))
        .await;
    assert_eq!(kind(poll), ErrorKind::Unauthorized);
    // What it was given in good standing it may finish.
    miner.complete(&assignment, b"done").await.unwrap();
    handle.result().await.unwrap();
}

#[tokio::test]
async fn a_session_ends_with_its_time_and_when_closed_or_replaced() {
    let market = Setup::with_miners(2).open().await;
    let miner = &market.miners[0];
    let poll = async |miner: &crate::fixture::Miner| {
        miner
            .protocol
            .poll(&miner.token, miner.poll_request(1, 0))
            .await
    };
    let newer = market.join(miner.member.clone()).await.unwrap();
    assert_eq!(kind(poll(miner).await), ErrorKind::Unauthorized);
    poll(&newer).await.unwrap();
    let waiting = newer.wait(1);
    settle().await;
    newer.protocol.close_session(&newer.token).await.unwrap();
    assert_eq!(kind(waiting.await.unwrap()), ErrorKind::Unauthorized);
    assert_eq!(
        kind(newer.protocol.close_session(&newer.token).await),
        ErrorKind::Unauthorized
    );
    let other = &market.miners[1];
    market.advance(3_599_999).await;
    poll(other).await.unwrap();
    market.advance(1).await;
    assert_eq!(kind(poll(other).await), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn closing_a_session_gives_its_work_to_others() {
    let market = Setup::with_miners(2).open().await;
    let (handle, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    miner.protocol.close_session(&miner.token).await.unwrap();
    let second = market.miners[1].take().await.unwrap();
    assert_eq!(
        (second.task, second.lease != assignment.lease),
        (handle.id(), true)
    );
    assert_eq!(market.status(0).failed, 0);
}

#[tokio::test]
async fn a_rotated_operator_needs_a_session_of_its_own() {
    let market = Setup::with_miners(1).open().await;
    let member = &market.miners[0].member;
    let next = Key::random(market.entropy.as_ref());
    let chain = market.chain.as_ref();
    let deadline = chain.block_time().await.unwrap() + 60;
    let consent = cuckoo_core::OperatorConsent {
        owner: member.owner.address(),
        operator: next.address(),
        kind: NodeKind::Miner,
        nonce: chain.consent_nonce(next.address()).await.unwrap(),
        deadline,
    };
    let consent = Signed::sign(consent, &next, &chain.deployment()).signature;
    chain
        .submit(
            &member.owner,
            Action::RotateOperator {
                node: member.node,
                operator: next.address(),
                deadline,
                consent,
            },
        )
        .await
        .unwrap();
    settle().await;
    let miner = &market.miners[0];
    let poll = miner
        .protocol
        .poll(&miner.token, miner.poll_request(1, 0))
        .await;
    assert_eq!(kind(poll), ErrorKind::Unauthorized);
    assert_eq!(
        open(&market, market.request(&next), &next)
            .await
            .unwrap()
            .miner,
        member.node
    );
}

#[tokio::test]
async fn a_coordinator_must_be_an_active_one_itself() {
    let market = Setup::with_miners(1).open().await;
    let start = async |operator: &Key| {
        let builder = cuckoo_coordinator::Coordinator::builder()
            .settings(crate::fixture::settings())
            .chain(market.chain.clone())
            .operator(operator.clone())
            .clock(market.clock.clone());
        builder.start().await
    };
    let stranger = Key::random(market.entropy.as_ref());
    assert_eq!(kind(start(&stranger).await), ErrorKind::Unauthorized);
    assert_eq!(
        kind(start(&market.miners[0].member.operator).await),
        ErrorKind::Unauthorized
    );
    // Registered, but without votes.
    let (owner, operator) = (&market.miners[0].member.owner, stranger);
    let profile = Profile::default();
    register_with_consent(
        market.chain.as_ref(),
        owner,
        &operator,
        NodeKind::Coordinator,
        profile,
        0,
    )
    .await
    .unwrap();
    assert_eq!(kind(start(&operator).await), ErrorKind::Unauthorized);
}
