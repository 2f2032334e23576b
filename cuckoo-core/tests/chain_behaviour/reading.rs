//! Reading the nodes, whole and what changed.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    Action, B256, Mirror, NodeId, NodeKind, Profile, Slash, Snapshot, SystemClock, cai,
    register_with_consent,
};

use crate::market::{Market, key, profile};
use crate::{allow, rename};

pub(crate) async fn more_nodes_than_a_page_are_read_whole(market: Market) {
    let chain = &market.contracts;
    let owner = market.funded(1, cai(100)).await;
    // The longest profile a node may have.
    let long = Profile {
        name: "n".repeat(64),
        description: "d".repeat(1024),
        endpoint: "e".repeat(256),
    };
    for number in 1..=230_u16 {
        let (id, _) = register_with_consent(
            &**chain,
            &owner,
            &key(1_000 + number),
            NodeKind::Miner,
            long.clone(),
            number,
        )
        .await
        .unwrap();
        assert_eq!(id, NodeId(number.into()));
    }
    let snapshot = chain.snapshot().await.unwrap();
    assert_eq!(snapshot.nodes.len(), 230);
    for (node, number) in snapshot.nodes.iter().zip(1..) {
        assert_eq!(
            (node.id, node.commission_bps),
            (NodeId(number.into()), number)
        );
        assert_eq!(node.operator, key(1_000 + number).address());
        assert_eq!(node.profile, long);
    }
}

pub(crate) async fn what_changed_is_read_without_the_rest(market: Market) {
    let chain = &market.contracts;
    market.next_epoch().await;
    let (first, owner) = market.miner(1).await;
    let (second, _) = market.miner(2).await;
    let known = chain.snapshot().await.unwrap();
    assert_eq!(
        chain.refresh(&known, &[].into()).await.unwrap().nodes,
        known.nodes
    );

    chain.submit(&owner, rename(first)).await.unwrap();
    let (third, _) = market.miner(3).await;
    // What nobody says has changed stays as it was known; new nodes are there.
    let mut expected = known.nodes.clone();
    expected.push(market.node(third).await);
    let refreshed = chain.refresh(&known, &[second].into()).await.unwrap();
    assert_eq!(refreshed.nodes, expected);
    let unknown = NodeId(99);
    let refreshed = chain
        .refresh(&known, &[first, unknown].into())
        .await
        .unwrap();
    assert_eq!(refreshed, chain.snapshot().await.unwrap());

    // In a new epoch all weights may have changed.
    market.next_epoch().await;
    let refreshed = chain.refresh(&refreshed, &[].into()).await.unwrap();
    assert_eq!(refreshed, chain.snapshot().await.unwrap());
    assert!(
        refreshed
            .nodes
            .iter()
            .all(|node| node.weight == cai(20_000))
    );
}

pub(crate) async fn a_mirror_follows_changes_and_epochs(market: Market) {
    let chain = &market.contracts;
    let (first, _) = market.miner(1).await;
    let interval = Duration::from_millis(50);
    let mut mirror = Mirror::start(chain.clone(), Arc::new(SystemClock), interval)
        .await
        .unwrap();
    assert_eq!(mirror.latest().snapshot.nodes.len(), 1);

    let (second, owner) = market.miner(2).await;
    let mut shows = async |what: &dyn Fn(&Snapshot) -> bool| {
        let shown = async {
            while !what(&mirror.latest().snapshot) {
                mirror.changed().await.unwrap();
            }
            mirror.latest()
        };
        let shown = tokio::time::timeout(Duration::from_secs(20), shown).await;
        let view = shown.expect("the mirror does not follow");
        assert_eq!(view.stale_since, None);
        assert_eq!(view.snapshot.nodes, chain.snapshot().await.unwrap().nodes);
    };
    shows(&|snapshot| snapshot.node(second).is_some_and(|node| node.active)).await;
    // No event tells of this.
    market.next_epoch().await;
    shows(&|snapshot| {
        [first, second]
            .iter()
            .all(|id| snapshot.node(*id).unwrap().weight == cai(20_000))
    })
    .await;
    chain.unvote(&owner, second, cai(1)).await.unwrap();
    shows(&|snapshot| !snapshot.node(second).unwrap().active).await;
    chain
        .submit(&owner, Action::Exit { node: second })
        .await
        .unwrap();
    chain.submit(&key(1), rename(first)).await.unwrap();
    shows(&|snapshot| snapshot.node(first).unwrap().profile == profile("changed")).await;

    let verifier = market.funded(5, cai(1)).await;
    chain.submit(&market.admin, allow(&verifier)).await.unwrap();
    let slash = Slash {
        node: first,
        amount: cai(1),
        evidence: B256::repeat_byte(3),
        reporter: verifier.address(),
        wronged: verifier.address(),
    };
    chain.submit(&verifier, Action::Slash(slash)).await.unwrap();
    shows(&|snapshot| !snapshot.node(first).unwrap().active).await;
}
