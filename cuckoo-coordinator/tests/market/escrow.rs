//! The escrow: what it does not cover is not given out, and it is filled up by policy.

use std::time::Duration;

use cuckoo_coordinator::{Quote, TopUp};
use cuckoo_core::{ErrorKind, TaskState, Wei, cai};

use crate::fixture::{Market, Setup, settle, spec};

/// Two tasks at this price are more than the escrow of 1,000 CAI.
const DEAR: u64 = 600;

/// A market of one miner with room for many tasks, whose coordinator has read its escrow.
async fn market(top_up: Option<TopUp>) -> Market {
    let setup = Setup::with_miners(1).adjust(|settings| {
        settings.models[0].price = cai(DEAR);
        settings.escrow.top_up = top_up;
    });
    let market = setup.open().await;
    look(&market).await;
    market
}

/// Lets the coordinator read the escrow again.
async fn look(market: &Market) {
    market.advance(15_000).await;
    settle().await;
}

fn left(market: &Market) -> Option<Wei> {
    market.coordinator.status().escrow_left
}

#[tokio::test]
async fn work_beyond_the_escrow_waits_until_it_is_filled_up() {
    let market = market(None).await;
    assert_eq!(left(&market), Some(cai(1_000)));
    let (first, assignment) = market.assigned(0).await;
    assert_eq!(left(&market), Some(cai(1_000 - DEAR)), "held ready for it");
    let second = market.submit().await;
    assert_eq!(market.miners[0].take().await, None);
    let Quote::Refused { reason } = market.coordinator.quote(spec()) else {
        panic!("a quote for work that is not covered");
    };
    assert_eq!(reason.kind, ErrorKind::Unavailable);
    // Promised instead of held ready: still not there for the second.
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    first.result().await.unwrap();
    look(&market).await;
    assert_eq!(left(&market), Some(cai(1_000 - DEAR)));
    assert_eq!(market.miners[0].take().await, None);
    assert_eq!(second.state(), TaskState::Queued);

    let waiting = market.miners[0].wait(1);
    settle().await;
    let (owner, node) = (&market.me.owner, market.me.node);
    market.dev_chain.fund(owner.address(), cai(1_000));
    market
        .chain
        .deposit_escrow(owner, node, cai(500))
        .await
        .unwrap();
    look(&market).await;
    let reply = waiting.await.unwrap().unwrap();
    assert_eq!(reply.assignments[0].task, second.id());
}

#[tokio::test]
async fn what_is_given_back_or_redeemed_covers_other_work() {
    let market = market(None).await;
    let (_, assignment) = market.assigned(0).await;
    market.miners[0]
        .fail(&assignment, ErrorKind::Rejected)
        .await
        .unwrap();
    assert_eq!(left(&market), Some(cai(1_000)), "held ready no longer");
    market.advance(10_000).await;
    let assignment = market.miners[0].take().await.unwrap();
    let reply = market.miners[0].complete(&assignment, b"done").await;
    let voucher = reply.unwrap().voucher.unwrap();
    assert_eq!(left(&market), Some(cai(1_000 - DEAR)));
    // Redeemed: it left the escrow, and is promised no more.
    let owner = &market.miners[0].member.owner;
    market.chain.redeem(owner, &voucher).await.unwrap();
    look(&market).await;
    assert_eq!(left(&market), Some(cai(1_000 - DEAR)));
}

#[tokio::test]
async fn the_operator_fills_the_escrow_up_when_it_can() {
    let policy = TopUp {
        below: cai(500),
        to: cai(1_200),
    };
    let market = market(Some(policy)).await;
    assert_eq!(left(&market), Some(cai(1_000)), "not below yet");
    let (_, assignment) = market.assigned(0).await;
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    look(&market).await;
    assert_eq!(left(&market), Some(cai(400)), "the operator has nothing");
    let operator = market.me.operator.address();
    market.dev_chain.fund(operator, cai(1_000));
    look(&market).await;
    market.dev_chain.advance(Duration::from_secs(1));
    settle().await;
    assert_eq!(left(&market), Some(cai(1_200)));
    let escrow = market.chain.escrow(market.me.node).await.unwrap();
    assert_eq!(escrow.amount, cai(1_000 + 800));
}
