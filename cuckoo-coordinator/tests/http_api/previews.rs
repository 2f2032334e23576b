//! Previews over HTTP: from a miner's heartbeat to the events of its task.

use cuckoo_core::{LeaseStatus, Preview, paths};
use futures::StreamExt as _;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::market::Market;
use crate::protocol::both;
use crate::requests::client;

impl Market {
    /// A heartbeat of the first miner, with any text as its body.
    async fn beat(&self, token: &str, body: &Value) -> Response {
        client()
            .post(format!("{}{}", self.url, paths::HEARTBEAT))
            .bearer_auth(token)
            .json(body)
            .send()
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_preview_goes_from_a_heartbeat_to_the_task_s_events() {
    both(async |market, protocol| {
        let token = market.join(protocol.as_ref(), &market.miners[0]).await;
        let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
        let path = paths::TASK_EVENTS.replace("{id}", &task.id().to_string());
        let events = market.call(Method::GET, &path).send().await.unwrap();
        let mut events = events.bytes_stream();
        let preview = json!({ "media_type": "image/png", "data": "iVBORw==" });
        let lease = json!({ "lease": assignment.lease, "progress": 500, "preview": preview });
        let heartbeat = serde_json::from_value(json!({ "leases": [lease] })).unwrap();
        let reply = protocol.heartbeat(&token, heartbeat).await.unwrap();
        assert!(matches!(reply.leases[0], LeaseStatus::Active { .. }));
        let mut text = String::new();
        while !text.contains("event: preview\n") || !text.ends_with("\n\n") {
            let part = events.next().await.unwrap().unwrap();
            text.push_str(&String::from_utf8_lossy(&part));
        }
        let shown = text.split("\n\n").find(|event| event.contains("preview"));
        let shown = shown.unwrap();
        assert!(!shown.contains("id:"), "{shown}");
        let data = shown.lines().find_map(|line| line.strip_prefix("data:"));
        let data: Value = serde_json::from_str(data.unwrap()).unwrap();
        assert_eq!(data, preview);
        drop(events);
        // Nobody's state changes by it.
        let path = paths::TASK.replace("{id}", &task.id().to_string());
        let state = market.call(Method::GET, &path).send().await.unwrap();
        let state: Value = state.json().await.unwrap();
        assert_eq!(state["progress"], 500);
        assert!(state["preview"].is_null(), "{state}");
    })
    .await;
}

#[tokio::test]
async fn heartbeats_of_older_and_newer_miners_are_understood() {
    let market = Market::open().await;
    let protocol = market.coordinator.protocol();
    let token = market.join(protocol.as_ref(), &market.miners[0]).await;
    let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
    let mut previews = task.previews();
    let lease = assignment.lease;
    let large = json!({ "media_type": "image/png", "data": "A".repeat(Preview::MAX_BYTES * 4) });
    for (body, progress) in [
        (json!({ "lease": lease, "progress": 100 }), 100),
        (
            json!({ "lease": lease, "progress": 200, "preview": null }),
            200,
        ),
        (
            json!({ "lease": lease, "progress": 300, "preview": large }),
            300,
        ),
        (
            json!({ "lease": lease, "progress": 400, "mood": "good" }),
            400,
        ),
    ] {
        let reply = market
            .beat(token.expose(), &json!({ "leases": [body] }))
            .await;
        let reply: Value = reply.json().await.unwrap();
        assert_eq!(reply["leases"][0]["status"], "active", "{reply}");
        let path = paths::TASK.replace("{id}", &task.id().to_string());
        let state = market.call(Method::GET, &path).send().await.unwrap();
        let state: Value = state.json().await.unwrap();
        assert_eq!(state["progress"], progress);
    }
    let bad = json!({ "media_type": "image/png", "data": "no base64" });
    let body = json!({ "leases": [{ "lease": lease, "progress": 500, "preview": bad }] });
    assert_eq!(market.beat(token.expose(), &body).await.status(), 400);
    // None of them was shown.
    task.cancel().await.unwrap();
    assert_eq!(previews.next().await, None);
}
