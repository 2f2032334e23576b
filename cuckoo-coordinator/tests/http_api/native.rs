//! The requester's own routes beyond submitting and fetching: keys, lists, replays, quotes, events, webhooks.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cuckoo_coordinator::TaskStore as _;
use cuckoo_core::{Clock as _, ErrorKind, Failure, PollRequest, Retry, paths};
use futures::StreamExt as _;
use hmac::Mac as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::market::{Market, WEBHOOK_SECRET};
use crate::requests::refused;

async fn body(response: reqwest::Response, status: u16) -> Value {
    let got = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

impl Market {
    async fn get(&self, path: &str) -> Value {
        let response = self.call(Method::GET, path).send().await.unwrap();
        body(response, 200).await
    }

    async fn submitted(&self, prompt: &str) -> String {
        let task = json!({"model": "shapes", "input": {"prompt": prompt}});
        let view = body(self.submit(&task).await, 202).await;
        view["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_submission_repeated_with_its_key_makes_no_second_task() {
    let market = Market::open().await;
    let task = json!({"model": "shapes", "input": {"prompt": "a"}});
    let submit = |key: &'static str, task: Value| {
        let request = market
            .call(Method::POST, paths::TASKS)
            .header("idempotency-key", key)
            .json(&task);
        async move { request.send().await.unwrap() }
    };
    let first = body(submit("order-7", task.clone()).await, 202).await;
    let again = body(submit("\"order-7\"", task.clone()).await, 202).await;
    assert_eq!(first["id"], again["id"]);
    let other = body(submit("order-8", task.clone()).await, 202).await;
    assert_ne!(first["id"], other["id"]);
    let changed = json!({"model": "shapes", "input": {"prompt": "b"}});
    refused(submit("order-7", changed).await, 409, ErrorKind::Conflict).await;
    refused(submit("", task).await, 400, ErrorKind::Invalid).await;
    let list = market.get(paths::TASKS).await;
    assert_eq!(list["tasks"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_failed_is_listed_with_its_reasons_and_can_be_replayed() {
    let market = Market::with(
        |settings| settings.max_attempts = 1,
        cuckoo_coordinator::router,
    )
    .await;
    let protocol = market.coordinator.protocol();
    let token = market.join(protocol.as_ref(), &market.miners[0]).await;
    let id = market.submitted("a red circle").await;
    let assignment = market.polled(protocol.as_ref(), &token).await;
    let failure = Failure {
        lease: assignment.lease,
        kind: ErrorKind::Execution,
        retry: Retry::Later,
        message: "out of memory".into(),
    };
    protocol.fail(&token, failure).await.unwrap();
    let open = market.submitted("a blue square").await;
    let task = market.coordinator.task(id.parse().unwrap()).await.unwrap();
    task.result().await.unwrap_err();
    let failed = market.get("/v1/tasks?state=failed").await;
    assert_eq!(failed["tasks"].as_array().unwrap().len(), 1);
    let letter = &failed["tasks"][0];
    assert_eq!(letter["id"], json!(id));
    assert_eq!(letter["end"]["fault"], "miner");
    assert_eq!(letter["failures"][0]["reason"], "out of memory");
    assert_eq!(letter["failures"][0]["kind"], "execution");
    // A page of one, then the rest.
    let page = market.get("/v1/tasks?limit=1").await;
    assert_eq!(page["tasks"][0]["id"], json!(open));
    let next = page["next"].as_str().unwrap();
    let rest = market.get(&format!("/v1/tasks?before={next}")).await;
    assert_eq!(rest["tasks"][0]["id"], json!(id));
    assert_eq!(rest.get("next"), None);
    let replay = |id: &str| {
        let path = paths::TASK_REPLAY.replace("{id}", id);
        let request = market.call(Method::POST, &path);
        async move { request.send().await.unwrap() }
    };
    refused(replay(&open).await, 409, ErrorKind::Conflict).await;
    let again = body(replay(&id).await, 202).await;
    assert_ne!(again["id"], json!(id));
    let first = market.polled(protocol.as_ref(), &token).await;
    let second = market.polled(protocol.as_ref(), &token).await;
    assert_eq!(first.task.to_string(), open);
    assert_eq!(second.input, assignment.input, "the same input and seed");
    for query in ["limit=0", "limit=1001", "state=odd", "order=up"] {
        let path = format!("/v1/tasks?{query}");
        let response = market.call(Method::GET, &path).send().await.unwrap();
        refused(response, 400, ErrorKind::Invalid).await;
    }
}

#[tokio::test]
async fn a_quote_says_what_submitting_would_come_to() {
    let market = Market::open().await;
    let quote = async |task: Value| {
        let request = market.call(Method::POST, paths::QUOTES).json(&task);
        body(request.send().await.unwrap(), 200).await
    };
    let task = json!({"model": "shapes", "input": {"prompt": "a"}});
    let nobody = quote(task.clone()).await;
    assert_eq!(nobody["quote"], "refused");
    assert_eq!(nobody["reason"]["kind"], "unavailable");
    let protocol = market.coordinator.protocol();
    let token = market.join(protocol.as_ref(), &market.miners[0]).await;
    let waiting = tokio::spawn({
        let protocol = protocol.clone();
        let request = PollRequest {
            wait_millis: 30_000,
            ..crate::market::poll(1)
        };
        async move { protocol.poll(&token, request).await }
    });
    let feasible = loop {
        let quote = quote(task.clone()).await;
        if quote["quote"] == "feasible" {
            break quote;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(feasible["ahead"], 0);
    assert_eq!(feasible["miners"], 1);
    assert_eq!(feasible["starts_in_millis"], 0);
    let cheap = json!({"model": "shapes", "input": {}, "max_price": "0x1"});
    assert_eq!(quote(cheap).await["reason"]["kind"], "rejected");
    let unknown = json!({"model": "else", "input": {}});
    assert_eq!(quote(unknown).await["reason"]["kind"], "not_found");
    // Nothing was submitted.
    assert_eq!(market.get(paths::TASKS).await["tasks"], json!([]));
    waiting.abort();
}

/// Reads server-sent events until the stream ends: (id, data).
async fn read_events(response: reqwest::Response) -> Vec<(String, Value)> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let field = |event: &str, name: &str| {
        let line = event.lines().find(|line| line.starts_with(name));
        line.map(|line| line[name.len()..].trim().to_owned())
    };
    let events = text.split("\n\n").filter(|event| event.contains("data:"));
    events
        .map(|event| {
            let data = field(event, "data:").unwrap();
            (
                field(event, "id:").unwrap(),
                serde_json::from_str(&data).unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn events_tell_every_state_and_go_on_where_they_broke_off() {
    let market = Market::open().await;
    let protocol = market.coordinator.protocol();
    let token = market.join(protocol.as_ref(), &market.miners[0]).await;
    let id = market.submitted("a").await;
    let path = paths::TASK_EVENTS.replace("{id}", &id);
    let mut early = market
        .call(Method::GET, &path)
        .send()
        .await
        .unwrap()
        .bytes_stream();
    let first = early.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("id: queued"));
    drop(early);
    let resumed = market
        .call(Method::GET, &path)
        .header("last-event-id", "queued")
        .send()
        .await
        .unwrap();
    let resumed = tokio::spawn(read_events(resumed));
    market.work(protocol.as_ref(), &token, b"done").await;
    let events = resumed.await.unwrap();
    assert!(
        events.iter().all(|(name, _)| name != "queued"),
        "{events:?}"
    );
    let (name, view) = events.last().unwrap();
    assert_eq!(name, "completed");
    assert_eq!(view["state"], "completed");
    assert_eq!(view["id"], json!(id));
    // Who comes late learns the end; who knows it learns nothing more.
    let late = market.call(Method::GET, &path).send().await.unwrap();
    assert_eq!(read_events(late).await.len(), 1);
    let known = market
        .call(Method::GET, &path)
        .header("last-event-id", "completed");
    assert_eq!(read_events(known.send().await.unwrap()).await.len(), 0);
}

/// Refuses the first message and hands on all.
async fn receive(
    State(messages): State<mpsc::UnboundedSender<(HeaderMap, Bytes)>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    messages.send((headers, body)).unwrap();
    StatusCode::OK
}

#[tokio::test]
async fn a_webhook_is_signed_and_sent_again_until_it_is_taken() {
    let market = Market::open().await;
    let (sender, mut messages) = mpsc::unbounded_channel();
    let refusals = Arc::new(std::sync::atomic::AtomicU32::new(2));
    let routes = axum::Router::new()
        .route("/done", axum::routing::post(receive))
        .layer(axum::middleware::from_fn(
            move |request: axum::extract::Request, next: axum::middleware::Next| {
                let refusals = refusals.clone();
                async move {
                    use std::sync::atomic::Ordering::SeqCst;
                    let left = refusals.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
                    let response = next.run(request).await;
                    match left {
                        Ok(_) => axum::response::IntoResponse::into_response(
                            StatusCode::INTERNAL_SERVER_ERROR,
                        ),
                        Err(_) => response,
                    }
                }
            },
        ))
        .with_state(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/done", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let task = json!({"model": "shapes", "input": {}, "webhook": address});
    let view = body(market.submit(&task).await, 202).await;
    let path = paths::TASK.replace("{id}", view["id"].as_str().unwrap());
    market.call(Method::DELETE, &path).send().await.unwrap();
    let secret = STANDARD.decode(&WEBHOOK_SECRET["whsec_".len()..]).unwrap();
    let mut tries = 0;
    while tries < 3 {
        // Pauses follow the market's clock, the receiver real time.
        market.clock.advance(Duration::from_millis(500));
        let patience = Duration::from_millis(50);
        let Ok(message) = tokio::time::timeout(patience, messages.recv()).await else {
            continue;
        };
        let (headers, body) = message.unwrap();
        tries += 1;
        let text = |name: &str| headers[name].to_str().unwrap();
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&secret).unwrap();
        mac.update(format!("{}.{}.", text("webhook-id"), text("webhook-timestamp")).as_bytes());
        mac.update(&body);
        let expected = STANDARD.encode(mac.finalize().into_bytes());
        assert_eq!(text("webhook-signature"), format!("v1,{expected}"));
        assert_eq!(text("webhook-id"), view["id"].as_str().unwrap());
        let age = market.clock.now().as_secs() - text("webhook-timestamp").parse::<u64>().unwrap();
        assert!(age < 300);
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(message["type"], "task.cancelled");
        assert_eq!(message["data"]["state"], "cancelled");
    }
    // Taken: not sent again, nor after another start.
    while !market.store.unnotified(10).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    market.clock.advance(Duration::from_secs(36_000));
    let silence = tokio::time::timeout(Duration::from_millis(200), messages.recv()).await;
    assert!(silence.is_err());
}

#[tokio::test]
async fn a_webhook_that_is_no_address_is_refused() {
    let market = Market::open().await;
    let task = json!({"model": "shapes", "input": {}, "webhook": "not an address"});
    refused(market.submit(&task).await, 400, ErrorKind::Invalid).await;
}
