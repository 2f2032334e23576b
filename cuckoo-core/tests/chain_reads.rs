//! Reading through gateways with limits and faults, and on chains that are reorganised.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is a test"
)]

#[path = "chain_reads/gateway.rs"]
mod gateway;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy::primitives::{hex, keccak256};
use alloy::providers::Provider as _;
use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    B256, ChainEvent, Change, DeployConfig, Deployment, ErrorKind, Key, Mirror, NodeId, NodeKind,
    Profile, Result, RpcSettings, RpcStaking, StakingContract, SystemClock, U256, cai,
    register_with_consent,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Value, json};

use gateway::{Answer, Gateway, calls};

/// Far more than any call may take here; only a hang reaches it.
const HANG: Duration = Duration::from_secs(30);
const NODES: &str = "nodes(uint64,uint64)";
const NODE_BY_ID: &str = "nodeById(uint64)";

/// A market on anvil with some miners of one owner.
struct Market {
    anvil: Anvil,
    chain: Arc<dyn StakingContract>,
    owner: Key,
    miners: u64,
}

impl Market {
    async fn with_miners(count: u64) -> Self {
        let anvil = Anvil::start().await.unwrap();
        let owner = Key::from_bytes(B256::repeat_byte(7)).unwrap();
        anvil.fund(owner.address(), cai(1_000_000)).await.unwrap();
        let settings = RpcSettings::new(anvil.url());
        let config = DeployConfig::default();
        let chain = RpcStaking::deploy(&settings, &owner, &config, Arc::new(SystemClock))
            .await
            .unwrap();
        let mut market = Self {
            anvil,
            chain,
            owner,
            miners: 0,
        };
        for _ in 0..count {
            market.add_miner().await;
        }
        market
    }

    async fn add_miner(&mut self) -> NodeId {
        self.miners += 1;
        let operator = Key::from_bytes(B256::from(U256::from(1_000 + self.miners))).unwrap();
        let profile = Profile::default();
        let kind = NodeKind::Miner;
        register_with_consent(&*self.chain, &self.owner, &operator, kind, profile, 0)
            .await
            .unwrap()
            .0
    }

    async fn through(&self, gateway: &Gateway) -> Arc<dyn StakingContract> {
        connect(&gateway.url(), self.chain.deployment()).await
    }

    /// Replaces the last blocks by empty ones.
    async fn reorganise(&mut self, blocks: u64) {
        self.request("anvil_reorg", json!([blocks, []])).await;
        self.forget_sent().await;
    }

    /// Writes from now on as one who did not send what was there: the other would see it vanish and send it again.
    async fn forget_sent(&mut self) {
        self.chain = connect(self.anvil.url(), self.chain.deployment()).await;
    }

    async fn request(&self, method: &'static str, parameters: Value) -> Value {
        let request = self.anvil.provider().raw_request(method.into(), parameters);
        request.await.unwrap()
    }
}

async fn connect(url: &str, deployment: Deployment) -> Arc<dyn StakingContract> {
    let settings = RpcSettings {
        poll_millis: 20,
        ..RpcSettings::new(url)
    };
    RpcStaking::connect(&settings, deployment, Arc::new(SystemClock))
        .await
        .unwrap()
}

/// The call data of a request; empty when it calls no contract.
fn call_data(request: &Value) -> &str {
    request["params"][0]["input"].as_str().unwrap_or_default()
}

/// Whether a request calls a contract's function.
fn reads(request: &Value, function: &str) -> bool {
    let selector = hex::encode_prefixed(&keccak256(function)[..4]);
    call_data(request).starts_with(&selector)
}

/// The same refusal for a request, or for each of a batch.
fn refusal(request: &Value, code: i64, message: &str) -> Value {
    match request {
        Value::Array(batch) => batch
            .iter()
            .map(|call| refusal(call, code, message))
            .collect(),
        single => json!({
            "jsonrpc": "2.0",
            "id": single["id"],
            "error": {"code": code, "message": message},
        }),
    }
}

async fn next(changes: &mut BoxStream<'static, Result<Change>>) -> Result<Change> {
    tokio::time::timeout(HANG, changes.next())
        .await
        .expect("a change is due")
        .unwrap()
}

#[tokio::test]
async fn nodes_are_read_in_pages_few_requests_and_one_block() {
    let market = Market::with_miners(230).await;
    let gateway = Gateway::with_rule(market.anvil.url(), |_| Answer::Pass).await;
    let chain = market.through(&gateway).await;
    gateway.take_seen();
    let snapshot = chain.snapshot().await.unwrap();
    assert_eq!(snapshot.nodes.len(), 230);
    let seen = gateway.take_seen();
    // Which block, how many nodes, the nodes, and whether it is the same block still.
    assert_eq!(seen.len(), 4, "{seen:?}");
    let blocks: Vec<_> = seen
        .iter()
        .flat_map(calls)
        .filter(|call| call["method"] == "eth_call")
        .map(|call| call["params"][1].clone())
        .collect();
    assert_eq!(blocks.len(), 4);
    assert!(blocks[0]["blockHash"].is_string() && blocks[0]["requireCanonical"] == true);
    assert!(blocks.iter().all(|block| *block == blocks[0]), "{blocks:?}");
}

#[tokio::test]
async fn batches_shrink_to_what_a_provider_takes() {
    let market = Market::with_miners(90).await;
    let expected = market.chain.snapshot().await.unwrap();
    let changed = expected.nodes.iter().map(|node| node.id).collect();
    // Every way of saying that a batch is too long.
    type Refuse = fn(&Value) -> Answer;
    let ways: [(&str, usize, Refuse); 5] = [
        ("HTTP 413", 8, |_| Answer::Status(413)),
        ("one error for all", 8, |_| {
            let error = json!({"code": -32600, "message": "batch limit exceeded"});
            Answer::Json(json!({"jsonrpc": "2.0", "id": null, "error": error}))
        }),
        ("an error for each", 8, |batch| {
            Answer::Json(refusal(batch, -32003, "response too large"))
        }),
        ("answers for the first alone", 8, |batch| {
            let first = calls(batch)[0].clone();
            Answer::Json(json!([refusal(&first, -32600, "batch too large")]))
        }),
        ("no batches at all", 1, |_| Answer::Status(400)),
    ];
    for (way, limit, refuse) in ways {
        let gateway = Gateway::with_rule(market.anvil.url(), move |request| {
            match request.as_array() {
                Some(batch) if batch.len() > limit => refuse(request),
                _ => Answer::Pass,
            }
        })
        .await;
        let chain = market.through(&gateway).await;
        let snapshot = chain.refresh(&expected, &changed).await.expect(way);
        assert_eq!(snapshot, expected, "{way}");
        // Learned: the next reading asks for no more than is given, but once in a while for one call more.
        gateway.take_seen();
        chain.refresh(&expected, &changed).await.expect(way);
        let longest = gateway
            .take_seen()
            .iter()
            .map(|request| calls(request).len())
            .max();
        assert!(longest.unwrap() <= 2 * limit, "{way}: {longest:?}");
    }
}

#[tokio::test]
async fn pages_shrink_to_what_a_node_executes() {
    let market = Market::with_miners(90).await;
    let expected = market.chain.snapshot().await.unwrap();
    let gateway = Gateway::with_rule(market.anvil.url(), |request| {
        let too_long = calls(request).iter().any(|call| {
            // The second of two words after the selector is the length of the page.
            reads(call, NODES) && u64::from_str_radix(&call_data(call)[10 + 64..], 16).unwrap() > 25
        });
        if !too_long {
            return Answer::Pass;
        }
        Answer::Json(refusal(request, -32000, "out of gas"))
    })
    .await;
    let chain = market.through(&gateway).await;
    assert_eq!(chain.snapshot().await.unwrap(), expected);
}

#[tokio::test]
async fn a_provider_that_is_busy_is_unavailable() {
    let market = Market::with_miners(3).await;
    let gateway = Gateway::with_rule(market.anvil.url(), |request| match request {
        Value::Array(_) => Answer::Json(refusal(request, -32005, "too many requests")),
        _ => Answer::Pass,
    })
    .await;
    let chain = market.through(&gateway).await;
    let error = chain.snapshot().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_reorganisation_amid_a_snapshot_starts_it_again() {
    for by_hash in [true, false] {
        let market = Market::with_miners(3).await;
        let fresh = AtomicBool::new(true);
        let gateway = Gateway::with_rule(market.anvil.url(), move |request| {
            let named = |call: &Value| call["params"][1].get("blockHash").is_some();
            if !by_hash && calls(request).iter().any(named) {
                let message = "invalid argument 1: no hash";
                return Answer::Json(refusal(request, -32602, message));
            }
            // Just before the nodes are read, the last of them vanishes.
            let nodes = calls(request).iter().any(|call| reads(call, NODES));
            if nodes && fresh.swap(false, Ordering::SeqCst) {
                let method = "anvil_reorg";
                let request =
                    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": [1, []]});
                return Answer::PassAfter(request);
            }
            Answer::Pass
        })
        .await;
        let chain = market.through(&gateway).await;
        gateway.take_seen();
        let snapshot = chain.snapshot().await.unwrap();
        assert_eq!(snapshot.nodes.len(), 2, "by hash: {by_hash}");
        assert_eq!(snapshot, market.chain.snapshot().await.unwrap());
        let seen = gateway.take_seen();
        let tries = seen
            .iter()
            .flat_map(calls)
            .filter(|call| reads(call, NODES));
        assert_eq!(tries.count(), 2, "by hash: {by_hash}");
    }
}

#[tokio::test]
async fn a_reorganisation_is_reported_and_its_blocks_are_read() {
    let mut market = Market::with_miners(0).await;
    let chain = connect(market.anvil.url(), market.chain.deployment()).await;
    let mut changes = chain.changes().await.unwrap();
    for expected in [1, 2, 3] {
        assert_eq!(market.add_miner().await, NodeId(expected));
        for _ in 0..2 {
            let change = next(&mut changes).await.unwrap();
            assert_eq!(change.event, ChainEvent::NodeChanged(NodeId(expected)));
        }
    }
    // Nodes 2 and 3 are gone, then others come in their place.
    market.reorganise(2).await;
    let error = next(&mut changes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("take a new snapshot"), "{error}");
    assert_eq!(chain.snapshot().await.unwrap().nodes.len(), 1);
    assert_eq!(market.add_miner().await, NodeId(2));
    for _ in 0..2 {
        let change = next(&mut changes).await.unwrap();
        assert_eq!(change.event, ChainEvent::NodeChanged(NodeId(2)));
    }

    // A chain that became shorter, and longer again in another way.
    let state = market.request("evm_snapshot", json!([])).await;
    market.add_miner().await;
    for _ in 0..2 {
        next(&mut changes).await.unwrap();
    }
    market.request("evm_revert", json!([state])).await;
    market.forget_sent().await;
    let node = market.add_miner().await;
    assert_eq!(node, NodeId(3));
    next(&mut changes).await.unwrap_err();
    for _ in 0..2 {
        let change = next(&mut changes).await.unwrap();
        assert_eq!(change.event, ChainEvent::NodeChanged(node));
    }
}

#[tokio::test]
async fn logs_that_were_taken_back_are_a_gap() {
    let mut market = Market::with_miners(0).await;
    let armed = Arc::new(AtomicBool::new(true));
    let edit = {
        let armed = Arc::clone(&armed);
        move |answer: &mut Value| {
            for log in answer["result"].as_array_mut().into_iter().flatten() {
                if log.get("removed").is_some() && armed.swap(false, Ordering::SeqCst) {
                    log["removed"] = json!(true);
                }
            }
        }
    };
    let gateway = Gateway::with_edit(market.anvil.url(), edit).await;
    let chain = market.through(&gateway).await;
    let mut changes = chain.changes().await.unwrap();
    market.add_miner().await;
    let error = next(&mut changes).await.unwrap_err();
    assert!(error.message().contains("take a new snapshot"), "{error}");
    // The other log of the registration.
    let change = next(&mut changes).await.unwrap();
    assert_eq!(change.event, ChainEvent::NodeChanged(NodeId(1)));
    assert!(!armed.load(Ordering::SeqCst));
}

/// Waits until the mirror shows what the chain says.
async fn agrees(mirror: &mut Mirror, chain: &dyn StakingContract, nodes: usize) {
    let agreed = async {
        while mirror.latest().snapshot.nodes.len() != nodes {
            mirror.changed().await.unwrap();
        }
    };
    tokio::time::timeout(HANG, agreed)
        .await
        .expect("the mirror does not follow");
    let expected = chain.snapshot().await.unwrap().nodes;
    assert_eq!(mirror.latest().snapshot.nodes, expected);
}

#[tokio::test]
async fn a_mirror_reads_what_changed_and_all_after_a_reorganisation() {
    let mut market = Market::with_miners(5).await;
    let gateway = Gateway::with_rule(market.anvil.url(), |_| Answer::Pass).await;
    let chain = market.through(&gateway).await;
    let count = |selector| {
        let seen = gateway.take_seen();
        let matching = seen
            .iter()
            .flat_map(calls)
            .filter(|call| reads(call, selector));
        matching.count()
    };
    // The interval is never over: only what the chain reports moves the mirror.
    let never = Duration::from_secs(86_400);
    let mut mirror = Mirror::start(chain.clone(), Arc::new(SystemClock), never)
        .await
        .unwrap();
    assert_eq!(count(NODES), 1);

    market
        .chain
        .stake(&market.owner, cai(20_000))
        .await
        .unwrap();
    let node = NodeId(4);
    market
        .chain
        .vote(&market.owner, node, cai(20_000))
        .await
        .unwrap();
    let voted = mirror.changed();
    let view = tokio::time::timeout(HANG, voted).await.unwrap().unwrap();
    assert_eq!(view.snapshot.node(node).unwrap().owner_vote, cai(20_000));
    let seen = gateway.take_seen();
    let read = |selector| {
        let calls = seen.iter().flat_map(calls);
        calls.filter(|call| reads(call, selector)).count()
    };
    assert_eq!((read(NODES), read(NODE_BY_ID)), (0, 1), "{seen:?}");
    agrees(&mut mirror, &*market.chain, 5).await;

    // The vote and the last miner vanish.
    market.add_miner().await;
    agrees(&mut mirror, &*market.chain, 6).await;
    market.reorganise(2).await;
    agrees(&mut mirror, &*market.chain, 5).await;
    assert!(!mirror.latest().snapshot.node(node).unwrap().active);
    assert!(count(NODES) > 0);
}
