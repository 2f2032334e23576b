//! The adapter for the first Cuckoo Chain, against contracts of the same interfaces on anvil.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is a test"
)]

#[path = "legacy/network.rs"]
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::keccak256;
use cuckoo_core::{
    Action, Address, ChainEvent, Change, Clock as _, Entropy as _, Error, ErrorKind, Key,
    LegacyNetwork, LegacySettings, LegacyStaking, ManualClock, NodeId, NodeKind, Result,
    RpcSettings, SeededEntropy, Slash, StakingContract, SystemClock, Timestamp, U256, Wei, cai,
};
use futures::StreamExt as _;

use network::Network;

/// Far more than any call may take here; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

fn account(kind: &str, number: usize) -> Address {
    Address::from_word(keccak256(format!("{kind} {number}")))
}

fn miner(number: usize) -> Address {
    account("miner", number)
}

fn voter(number: usize) -> Address {
    account("voter", number)
}

async fn connect(network: &Network, settings: LegacySettings) -> Result<Arc<dyn StakingContract>> {
    let rpc = RpcSettings::new(network.anvil.url());
    LegacyStaking::connect(&rpc, settings, Arc::new(SystemClock)).await
}

fn seeded(network: &Network, miners: &[Address]) -> LegacySettings {
    LegacySettings::new(network.contracts, miners.to_vec())
}

async fn refused(network: &Network, miners: &[Address]) -> Error {
    let chain = connect(network, seeded(network, miners)).await.unwrap();
    chain.snapshot().await.unwrap_err()
}

/// 43 miners and 10,000 voters, with all that real lists contain.
#[tokio::test]
async fn stakes_are_split_over_the_miners_voted_for() {
    const MINERS: usize = 43;
    const VOTERS: usize = 10_000;
    const SEED: u64 = 1_200;
    let entropy = SeededEntropy::from_number(SEED);
    let random = move |below: u64| {
        let word = U256::from_be_bytes(entropy.word().0);
        (word % U256::from(below)).to::<u64>()
    };
    let network = Network::start(LegacyNetwork::CUCKOO_CHAIN).await;

    let mut votes: BTreeSet<(Address, Address)> = BTreeSet::new();
    let mut listed = Vec::new();
    let mut stakes = BTreeMap::new();
    for number in 0..VOTERS {
        // One in ten has no stake.
        let stake = match random(10) {
            0 => Wei::ZERO,
            _ => Wei::from(random(u64::MAX)) * Wei::from(random(100_000)),
        };
        stakes.insert(voter(number), stake);
        // One in six votes for nobody.
        for _ in 0..random(6) {
            // The last miner gets no vote.
            let vote = (voter(number), miner(random(MINERS as u64 - 1) as usize));
            votes.insert(vote);
            listed.push(vote);
            // One vote in twenty is listed twice, on both sides.
            if random(20) == 0 {
                listed.push(vote);
            }
        }
    }
    // A miner that votes, for itself and another.
    stakes.insert(miner(7), cai(20_000));
    stakes.insert(miner(8), cai(20_000) - Wei::from(1));
    for vote in [(miner(7), miner(7)), (miner(7), miner(9))] {
        votes.insert(vote);
        listed.push(vote);
    }
    let all: Vec<_> = stakes.clone().into_iter().collect();
    network.set_stakes(&all).await;
    network.add_votes(&listed).await;
    // A voter of somebody else, whom this miner's list still names.
    let stale = votes.iter().find(|vote| vote.1 != miner(3)).unwrap().0;
    if !votes.contains(&(stale, miner(3))) {
        network.add_stale(stale, miner(3)).await;
    }
    // Nobody's seed and nobody's vote but the stale one's.
    network.add_stale(stale, miner(900)).await;

    // Two miners to begin with, and one that no voter leads to.
    let chain = connect(
        &network,
        seeded(&network, &[miner(0), miner(7), miner(MINERS - 1)]),
    )
    .await
    .unwrap();
    let begun = SystemClock.now();
    let snapshot = chain.snapshot().await.unwrap();
    eprintln!(
        "seed {SEED}: {} votes read in {:?}",
        votes.len(),
        SystemClock.now().since(begun)
    );

    // The same, vote by vote.
    let mut miners_of: BTreeMap<Address, Vec<Address>> = BTreeMap::new();
    for (voter, miner) in &votes {
        miners_of.entry(*voter).or_default().push(*miner);
    }
    let mut expected: BTreeMap<Address, Wei> = (0..MINERS)
        .map(|number| (miner(number), Wei::ZERO))
        .collect();
    let (mut staked, mut left) = (Wei::ZERO, Wei::ZERO);
    for (voter, miners) in &miners_of {
        staked += stakes[voter];
        left += stakes[voter] % Wei::from(miners.len());
        for miner in miners {
            *expected.get_mut(miner).unwrap() += stakes[voter] / Wei::from(miners.len());
        }
    }
    let weights: BTreeMap<_, _> = snapshot
        .nodes
        .iter()
        .map(|node| (node.operator, node.weight))
        .collect();
    assert_eq!(weights, expected, "seed {SEED}");
    let weighed: Wei = weights.values().sum();
    assert_eq!(weighed + left, staked, "seed {SEED}");
    assert!(!left.is_zero(), "seed {SEED} divides without a remainder");
    assert_eq!(weights[&miner(MINERS - 1)], Wei::ZERO);

    for node in &snapshot.nodes {
        assert_eq!((node.kind, node.owner), (NodeKind::Miner, node.operator));
        assert_eq!(node.id, LegacyStaking::node_id(node.operator));
        assert_eq!(node.active, node.operator == miner(7), "{}", node.operator);
    }
    assert!(snapshot.nodes.is_sorted_by_key(|node| node.id));
    let own = snapshot.by_operator(miner(8)).unwrap().owner_vote;
    assert_eq!(own, cai(20_000) - Wei::from(1));
}

#[tokio::test]
async fn a_network_without_votes_has_its_first_miners_alone() {
    let network = Network::start(LegacyNetwork::TESTNET).await;
    let chain = connect(&network, seeded(&network, &[])).await.unwrap();
    assert_eq!(chain.snapshot().await.unwrap().nodes, []);

    network.set_stakes(&[(miner(1), cai(20_000))]).await;
    let chain = connect(&network, seeded(&network, &[miner(1), miner(1)]))
        .await
        .unwrap();
    let snapshot = chain.snapshot().await.unwrap();
    let [node] = &snapshot.nodes[..] else {
        panic!("{snapshot:?}");
    };
    assert!(node.active && node.weight.is_zero());
    assert_eq!((snapshot.epoch, node.owner_vote), (0, cai(20_000)));
    let deployment = chain.deployment();
    assert_eq!(
        (deployment.chain_id, deployment.payments),
        (1210, Address::ZERO)
    );
}

#[tokio::test]
async fn coordinators_are_the_ones_that_were_named() {
    let network = Network::start(LegacyNetwork::TESTNET).await;
    let [large, small] = [1, 2].map(|number| account("coordinator", number));
    network
        .set_stakes(&[(large, cai(2_000_000)), (small, cai(1_999_999))])
        .await;
    let settings = LegacySettings {
        coordinators: vec![large, small],
        ..seeded(&network, &[])
    };
    let chain = connect(&network, settings.clone()).await.unwrap();
    let snapshot = chain.snapshot().await.unwrap();
    for (account, active) in [(large, true), (small, false)] {
        let node = snapshot.by_operator(account).unwrap();
        assert_eq!((node.kind, node.active), (NodeKind::Coordinator, active));
        assert_eq!(node.weight, node.owner_vote);
    }

    let twice = LegacySettings {
        miners: vec![large],
        ..settings
    };
    let error = connect(&network, twice).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_contract_that_refuses_is_named_with_the_account() {
    let network = Network::start(LegacyNetwork::TESTNET).await;
    network.add_votes(&[(voter(1), miner(1))]).await;
    network.refuse(voter(1)).await;
    let error = refused(&network, &[miner(1)]).await;
    assert_eq!(error.kind(), ErrorKind::Chain);
    assert!(error.message().contains(&voter(1).to_string()), "{error}");
    assert!(error.message().contains("getMinersForVoter"), "{error}");
}

#[tokio::test]
async fn a_list_of_absurd_length_is_refused() {
    let network = Network::start(LegacyNetwork::TESTNET).await;
    network.flood(miner(1), 50_001).await;
    let error = refused(&network, &[miner(1)]).await;
    assert_eq!(error.kind(), ErrorKind::Chain);
    assert!(
        error.message().contains("50001, more than the 50000"),
        "{error}"
    );
}

#[tokio::test]
async fn a_network_that_is_not_there_is_told_apart() {
    let network = Network::bare(LegacyNetwork::CUCKOO_CHAIN).await;
    let error = connect(&network, seeded(&network, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Chain);
    assert!(error.message().contains("check the network's"), "{error}");

    let elsewhere = LegacySettings::new(LegacyNetwork::TESTNET, Vec::new());
    let error = connect(&network, elsewhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("wrong chain"), "{error}");
}

#[tokio::test]
async fn a_node_that_dies_is_unavailable() {
    let mut network = Network::start(LegacyNetwork::TESTNET).await;
    let chain = connect(&network, seeded(&network, &[miner(1)]))
        .await
        .unwrap();
    let known = chain.snapshot().await.unwrap();
    network.anvil.kill();
    let nothing = BTreeSet::new();
    for result in [
        chain.snapshot().await.map(drop),
        chain.refresh(&known, &nothing).await.map(drop),
        chain.changes().await.map(drop),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn what_cannot_be_done_there_is_rejected() {
    let network = Network::start(LegacyNetwork::TESTNET).await;
    let chain = connect(&network, seeded(&network, &[miner(1)]))
        .await
        .unwrap();
    let key = Key::random(&SeededEntropy::from_number(1));
    let slash = Slash {
        node: NodeId(1),
        amount: cai(1),
        evidence: keccak256("nothing"),
        reporter: key.address(),
        wronged: key.address(),
    };
    for result in [
        chain.stake(&key, cai(1)).await.map(drop),
        chain.vote(&key, NodeId(1), cai(1)).await.map(drop),
        chain.transfer(&key, miner(1), cai(1)).await.map(drop),
        chain
            .submit(&key, Action::Exit { node: NodeId(1) })
            .await
            .map(drop),
        chain.submit(&key, Action::Slash(slash)).await.map(drop),
        chain.escrow(NodeId(1)).await.map(drop),
        chain
            .deposit_escrow(&key, NodeId(1), cai(1))
            .await
            .map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.message().contains("can only be read"), "{error}");
    }
    assert_eq!(
        chain.minimum_vote(NodeKind::Miner).await.unwrap(),
        cai(20_000)
    );
}

#[tokio::test]
async fn changes_are_found_by_reading_again() {
    let network = Network::start(LegacyNetwork::TESTNET).await;
    network
        .set_stakes(&[(miner(1), cai(20_000)), (voter(1), cai(9))])
        .await;
    network.add_votes(&[(voter(1), miner(1))]).await;
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let rpc = RpcSettings::new(network.anvil.url());
    let settings = seeded(&network, &[miner(1)]);
    let interval = Duration::from_millis(settings.poll_millis);
    let chain = LegacyStaking::connect(&rpc, settings, clock.clone())
        .await
        .unwrap();
    let known = chain.snapshot().await.unwrap();
    let mut changes = chain.changes().await.unwrap();
    let mut after_interval = async |count: usize| {
        let (next, ()) = futures::join!(
            async {
                let some = changes
                    .by_ref()
                    .take(count)
                    .collect::<Vec<Result<Change>>>();
                tokio::time::timeout(HANG, some)
                    .await
                    .expect("a change is due")
            },
            async { clock.advance(interval) },
        );
        next.into_iter()
            .map(|change| change.unwrap().event)
            .collect::<Vec<_>>()
    };

    // More stake behind a vote.
    network.set_stakes(&[(voter(1), cai(12))]).await;
    let node = LegacyStaking::node_id(miner(1));
    assert_eq!(after_interval(1).await, [ChainEvent::VotesChanged(node)]);
    // What the stream has read is not read again.
    let changed = BTreeSet::from([node]);
    let newer = chain.refresh(&known, &changed).await.unwrap();
    assert_eq!(newer, chain.snapshot().await.unwrap());
    assert_eq!(newer.by_operator(miner(1)).unwrap().weight, cai(12));

    // A vote for another miner halves this one's, and shows the other.
    network.add_votes(&[(voter(1), miner(2))]).await;
    let other = LegacyStaking::node_id(miner(2));
    let mut expected = [
        (node, ChainEvent::VotesChanged(node)),
        (other, ChainEvent::NodeChanged(other)),
    ];
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(after_interval(2).await, expected.map(|(_, event)| event));

    // A miner that falls below the minimum.
    network.set_stakes(&[(miner(1), cai(19_999))]).await;
    assert_eq!(after_interval(1).await, [ChainEvent::NodeChanged(node)]);
    // Nothing changed: nothing is read, and nothing is new.
    let same = chain.refresh(&newer, &BTreeSet::new()).await.unwrap();
    assert_eq!(same, newer);
}
