//! Which models tasks wait for, as busy miners are told.

use cuckoo_coordinator::ModelSettings;
use cuckoo_core::{Capability, Heartbeat, ModelId, PollReply, PollRequest, TaskSpec, cai};
use serde_json::json;

use crate::fixture::{Market, Miner, Setup, model, settle};

const NONE: [ModelId; 0] = [];

fn chat() -> ModelId {
    "chat".parse().unwrap()
}

async fn open(miners: usize) -> Market {
    let chat = ModelSettings::new(chat(), cai(1));
    Setup::with_miners(miners)
        .adjust(|settings| settings.models.push(chat))
        .open()
        .await
}

async fn submit(market: &Market, model: ModelId) -> cuckoo_coordinator::TaskHandle {
    let spec = TaskSpec::new(model, json!({"prompt": "a"}));
    market.coordinator.submit(spec).await.unwrap()
}

/// A poll that offers both models, of which some are in memory.
async fn poll(miner: &Miner, free_slots: u32, warm: &[ModelId]) -> PollReply {
    let chat = Capability {
        model: chat(),
        ..miner.capability.clone()
    };
    let request = PollRequest {
        capabilities: vec![miner.capability.clone(), chat],
        warm: warm.to_vec(),
        ..miner.poll_request(free_slots, 0)
    };
    miner.protocol.poll(&miner.token, request).await.unwrap()
}

async fn wanted(miner: &Miner) -> Vec<ModelId> {
    let beat = Heartbeat { leases: Vec::new() };
    let reply = miner.protocol.heartbeat(&miner.token, beat).await;
    reply.unwrap().wanted
}

#[tokio::test]
async fn a_busy_miner_learns_of_what_waits_beyond_what_others_will_take() {
    let market = open(2).await;
    let [busy, other] = &market.miners[..] else {
        panic!("two miners")
    };
    submit(&market, model()).await;
    assert_eq!(poll(busy, 1, &[model()]).await.assignments.len(), 1);
    assert_eq!(wanted(busy).await, NONE);
    let first = submit(&market, chat()).await;
    submit(&market, chat()).await;
    assert_eq!(wanted(busy).await, [chat()]);
    // It offers nothing yet.
    assert_eq!(wanted(other).await, NONE);
    poll(other, 0, &[]).await;
    assert_eq!(wanted(other).await, [chat()], "one for each of them");
    poll(busy, 0, &[model(), chat()]).await;
    assert_eq!(wanted(busy).await, NONE, "it is there");
    assert_eq!(wanted(other).await, [chat()]);

    for _ in 0..3 {
        submit(&market, model()).await;
    }
    assert_eq!(wanted(other).await, [model(), chat()], "two wait, and one");
    first.cancel().await.unwrap();
    settle().await;
    assert_eq!(wanted(other).await, [model()]);
}

#[tokio::test]
async fn a_task_that_is_given_to_a_miner_makes_its_model_warm_there() {
    let market = open(1).await;
    let miner = &market.miners[0];
    submit(&market, chat()).await;
    submit(&market, chat()).await;
    submit(&market, chat()).await;
    assert_eq!(poll(miner, 1, &[]).await.assignments.len(), 1);
    assert_eq!(wanted(miner).await, NONE);
    poll(miner, 0, &[]).await;
    assert_eq!(wanted(miner).await, [chat()], "it says that it is not");
}

#[tokio::test]
async fn what_a_miner_refused_is_not_wanted_of_it() {
    let market = open(1).await;
    let miner = &market.miners[0];
    submit(&market, chat()).await;
    let assignment = poll(miner, 1, &[]).await.assignments.remove(0);
    miner.refuse(&assignment).await.unwrap();
    poll(miner, 0, &[]).await;
    assert_eq!(wanted(miner).await, NONE);
    submit(&market, chat()).await;
    assert_eq!(wanted(miner).await, [chat()]);
}

#[tokio::test]
async fn what_one_miner_does_not_load_another_is_told_to() {
    let market = open(2).await;
    let [deaf, other] = &market.miners[..] else {
        panic!("two miners")
    };
    poll(deaf, 0, &[]).await;
    poll(other, 0, &[]).await;
    submit(&market, chat()).await;
    // Both are in touch all the while; the heartbeats come every 3 seconds.
    for _ in 0..20 {
        assert_eq!(wanted(deaf).await, [chat()]);
        assert_eq!(wanted(other).await, NONE, "one task for one miner");
        market.advance(3_000).await;
    }
    assert_eq!(wanted(deaf).await, NONE);
    assert_eq!(wanted(other).await, [chat()]);
    poll(other, 0, &[]).await;
    poll(deaf, 0, &[]).await;
    assert_eq!(wanted(deaf).await, [chat()], "asked anew");
}
