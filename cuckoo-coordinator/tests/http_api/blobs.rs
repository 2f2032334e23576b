//! Blobs: handed in by a requester, fetched by the miner that works on what names them.

use std::time::Duration;

use cuckoo_coordinator::TaskStore as _;
use cuckoo_core::{BlobId, Clock as _, ErrorKind, LeaseId, Output, SessionToken, TaskSpec, paths};
use reqwest::Method;
use serde_json::{Value, json};

use crate::market::{Market, model};
use crate::protocol::{both, kind};
use crate::requests::refused;

const SOUND: &[u8] = &[7; 5_000];

impl Market {
    async fn put(&self, media_type: &str, bytes: &[u8]) -> reqwest::Response {
        self.call(Method::POST, paths::BLOBS)
            .header("content-type", media_type)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn the_miner_of_a_task_fetches_what_its_input_names() {
    both(async |market, protocol| {
        let blob = Output::new("audio/wav", SOUND);
        let id = market.coordinator.put_blob(blob.clone()).await.unwrap();
        let input = json!({ "prompt": "louder", "sounds": [id] });
        let spec = TaskSpec::new(model(), input);
        let task = market.coordinator.submit(spec).await.unwrap();
        let token = market.join(protocol.as_ref(), &market.miners[0]).await;
        let assignment = market.polled(protocol.as_ref(), &token).await;
        assert!(assignment.input.contains(&id.to_string()));
        let fetch = |token, lease, id| protocol.blob(token, lease, id);
        assert_eq!(fetch(&token, assignment.lease, id).await.unwrap(), blob);

        let secret = Output::new("audio/wav", b"another's".as_slice());
        let unnamed = market.coordinator.put_blob(secret).await.unwrap();
        let refusal = fetch(&token, assignment.lease, unnamed).await;
        assert_eq!(kind(refusal), ErrorKind::NotFound);
        let none = LeaseId::random(market.entropy.as_ref());
        assert_eq!(kind(fetch(&token, none, id).await), ErrorKind::Conflict);
        let other = market.join(protocol.as_ref(), &market.miners[1]).await;
        let refusal = fetch(&other, assignment.lease, id).await;
        assert_eq!(kind(refusal), ErrorKind::Conflict, "not its lease");
        let nobody = SessionToken::new("nobody");
        let refusal = fetch(&nobody, assignment.lease, id).await;
        assert_eq!(kind(refusal), ErrorKind::Unauthorized);
        task.cancel().await.unwrap();
        let refusal = fetch(&token, assignment.lease, id).await;
        assert_eq!(kind(refusal), ErrorKind::Conflict, "cancelled");
    })
    .await;
}

#[tokio::test]
async fn a_requester_hands_blobs_in_and_names_them() {
    let market = Market::with(
        |settings| settings.max_blob_bytes = 6_000,
        cuckoo_coordinator::router,
    )
    .await;
    let response = market.put("audio/wav", SOUND).await;
    assert_eq!(response.status(), 201);
    let view: Value = response.json().await.unwrap();
    let id = BlobId::of(SOUND);
    let expected = json!({ "id": id, "bytes": 5_000, "media_type": "audio/wav" });
    assert_eq!(view, expected);

    let submit = async |id: BlobId| {
        let task = json!({ "model": "shapes", "input": { "sound": id } });
        market.submit(&task).await
    };
    assert_eq!(submit(id).await.status(), 202);
    let absent = BlobId::of(b"never handed in");
    let refusal = refused(submit(absent).await, 400, ErrorKind::Invalid).await;
    assert!(refusal.message.contains(&absent.to_string()), "{refusal:?}");

    let long = market.put("audio/wav", &[1; 6_001]).await;
    refused(long, 413, ErrorKind::Invalid).await;
    for of_any_page in [
        "text/plain",
        "Text/Plain; charset=utf-8",
        "multipart/form-data",
    ] {
        let response = market.put(of_any_page, b"x").await;
        refused(response, 415, ErrorKind::Invalid).await;
    }
    let many: Vec<_> = (0..=BlobId::MAX_IN_INPUT)
        .map(|number| BlobId::of(&number.to_be_bytes()))
        .collect();
    let spec = TaskSpec::new(model(), json!({ "m": many }));
    let roomy = Market::with(
        |settings| settings.max_input_bytes = 1 << 20,
        cuckoo_coordinator::router,
    )
    .await;
    let error = roomy.coordinator.submit(spec).await.unwrap_err();
    assert!(error.message().contains("65 blobs"), "{error}");
}

#[tokio::test]
async fn a_blob_stays_as_long_as_what_becomes_of_a_task_that_names_it() {
    let market = Market::with(
        |settings| settings.retention_millis = 60_000,
        cuckoo_coordinator::router,
    )
    .await;
    let id = market.put("audio/wav", SOUND).await;
    assert_eq!(id.status(), 201);
    let named = BlobId::of(SOUND);
    let forgotten = BlobId::of(b"named by nobody");
    market.put("audio/wav", b"named by nobody").await;
    let spec = |id: BlobId| TaskSpec::new(model(), json!({ "sound": id }));
    let first = spec(named).with_timeout(Duration::from_secs(600));
    market.coordinator.submit(first).await.unwrap();
    let sweep = async |seconds| {
        market.clock.advance(Duration::from_secs(seconds));
        let before = market.clock.now().before(Duration::from_secs(60));
        market.store.sweep(before, 100).await.unwrap();
    };
    sweep(61).await;
    let gone = market.coordinator.submit(spec(forgotten)).await;
    assert_eq!(kind(gone), ErrorKind::Invalid);
    sweep(598).await;
    market.coordinator.submit(spec(named)).await.unwrap();
}
