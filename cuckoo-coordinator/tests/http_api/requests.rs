//! What only HTTP can show: routes, headers, malformed and oversized requests, waiting, hanging up.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_coordinator::serve;
use cuckoo_core::{
    Completion, ErrorBody, ErrorKind, Retry, SessionToken, SignedReceipt, TaskProtocol, TaskState,
    paths,
};
use cuckoo_miner::HttpCoordinator;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::market::{MAX_INPUT_BYTES, MAX_OUTPUT_BYTES, Market, poll, spec};

pub(crate) fn client() -> Client {
    cuckoo_core::http_client()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

impl Market {
    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        client().request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn submit(&self, body: &Value) -> Response {
        self.call(Method::POST, paths::TASKS)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    /// Completes the next task as the first miner.
    pub(crate) async fn work(
        &self,
        protocol: &dyn TaskProtocol,
        token: &SessionToken,
        output: &[u8],
    ) {
        let assignment = self.polled(protocol, token).await;
        let receipt = self.receipt(&assignment, &self.miners[0], output);
        let completion = self.completion(receipt, &self.miners[0].operator, output);
        protocol.complete(token, completion).await.unwrap();
    }
}

/// Checks that `response` is an error in the agreed form, and gives its body.
pub(crate) async fn refused(response: Response, status: u16, kind: ErrorKind) -> ErrorBody {
    let got = response.status();
    assert_eq!(response.headers()["content-type"], "application/json");
    let text = response.text().await.unwrap();
    let body: ErrorBody = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{got} {text}"));
    assert_eq!((got.as_u16(), body.kind), (status, kind), "{text}");
    assert!(!body.message.is_empty());
    body
}

#[tokio::test]
async fn a_prompt_becomes_an_output_that_says_who_made_it() {
    let market = Market::open().await;
    let miner = HttpCoordinator::new(&market.url).unwrap();
    let token = market.join(&miner, &market.miners[0]).await;

    let accepted = market.submit(&json!(spec("a red circle"))).await;
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    let location = accepted.headers()["location"].to_str().unwrap().to_owned();
    let view: Value = accepted.json().await.unwrap();
    assert_eq!(view["state"], "queued");
    assert_eq!(
        location,
        format!("/v1/tasks/{}", view["id"].as_str().unwrap())
    );

    let early = market
        .call(Method::GET, &format!("{location}/output"))
        .send()
        .await
        .unwrap();
    assert_eq!(early.status(), StatusCode::ACCEPTED);
    assert_eq!(early.json::<Value>().await.unwrap(), view);

    let later = market.call(Method::GET, &format!("{location}/output?wait_millis=20000"));
    let (later, ()) = tokio::join!(later.send(), market.work(&miner, &token, b"png"));
    let later = later.unwrap();
    assert_eq!(later.status(), StatusCode::OK);
    let header = |name: &str| later.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "image/png");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header(paths::TASK_ID), view["id"].as_str().unwrap());
    assert_eq!(header(paths::MINER), market.miners[0].node.0.to_string());
    let receipt = URL_SAFE_NO_PAD.decode(header(paths::RECEIPT)).unwrap();
    let receipt: SignedReceipt = serde_json::from_slice(&receipt).unwrap();
    receipt
        .verify(market.miners[0].operator.address(), &market.deployment)
        .unwrap();
    assert_eq!(later.bytes().await.unwrap(), "png");

    let state: Value = market
        .call(Method::GET, &location)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&state["state"], &state["miner"]),
        (&json!("completed"), &json!(market.miners[0].node.0))
    );
}

#[tokio::test]
async fn a_requester_may_wait_for_the_output() {
    let market = Market::open().await;
    let miner = HttpCoordinator::new(&market.url).unwrap();
    let token = market.join(&miner, &market.miners[0]).await;
    let request = market
        .call(Method::POST, paths::TASKS)
        .json(&json!(spec("a red circle")));

    let waiting = request
        .try_clone()
        .unwrap()
        .header("Prefer", "wait=20")
        .send();
    let (answer, ()) = tokio::join!(waiting, market.work(&miner, &token, b"png"));
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["preference-applied"], "wait=20");
    assert_eq!(answer.bytes().await.unwrap(), "png");

    let in_vain = request.header("Prefer", "wait=0").send().await.unwrap();
    assert_eq!(in_vain.status(), StatusCode::ACCEPTED);
    let location = in_vain.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(in_vain.json::<Value>().await.unwrap()["state"], "queued");

    let cancelled = market.call(Method::DELETE, &location).send().await.unwrap();
    assert_eq!(
        cancelled.json::<Value>().await.unwrap()["state"],
        "cancelled"
    );
    let output = market
        .call(Method::GET, &format!("{location}/output"))
        .send()
        .await
        .unwrap();
    refused(output, 410, ErrorKind::Cancelled).await;
}

#[tokio::test]
async fn tasks_that_cannot_be_are_refused_with_what_to_do() {
    let market = Market::open().await;
    let submit = |body: Value| market.submit(Box::leak(Box::new(body)));
    let unknown = submit(json!({"model": "gpt-9", "input": {}})).await;
    assert!(
        refused(unknown, 404, ErrorKind::NotFound)
            .await
            .message
            .contains("shapes")
    );
    for bad in [
        json!({"model": "shapes"}),
        json!({"model": "shapes", "input": "a red circle"}),
        json!({"model": "sha pes", "input": {}}),
        json!({"model": "shapes", "input": {}, "timeout_millis": 0}),
        json!({"model": "shapes", "input": {}, "timeout_millis": -1}),
        json!({"model": "shapes", "input": {"prompt": "a".repeat(MAX_INPUT_BYTES)}}),
        json!([]),
        json!(null),
    ] {
        refused(submit(bad).await, 400, ErrorKind::Invalid).await;
    }
    let cheap = submit(json!({"model": "shapes", "input": {}, "max_price": "0x1"})).await;
    refused(cheap, 429, ErrorKind::Rejected).await;
    let endless = json!({"model": "shapes", "input": {"prompt": "a".repeat(100_000)}});
    refused(submit(endless).await, 413, ErrorKind::Invalid).await;
    assert_eq!(market.coordinator.status().queued, 0);

    for id in ["0x12", "%FF", &format!("0x{}", "g".repeat(64))] {
        let response = market
            .call(Method::GET, &format!("/v1/tasks/{id}"))
            .send()
            .await
            .unwrap();
        refused(response, 400, ErrorKind::Invalid).await;
    }
    let nobody = format!("/v1/tasks/0x{}", "0".repeat(64));
    for (method, path) in [
        (Method::GET, nobody.clone()),
        (Method::DELETE, nobody.clone()),
        (Method::GET, format!("{nobody}/output")),
    ] {
        let response = market.call(method, &path).send().await.unwrap();
        refused(response, 404, ErrorKind::NotFound).await;
    }
    let query = market
        .call(Method::GET, &format!("{nobody}/output?wait_millis=soon"))
        .send()
        .await
        .unwrap();
    refused(query, 400, ErrorKind::Invalid).await;
}

#[tokio::test]
async fn malformed_json_is_told_from_another_type_of_body() {
    let market = Market::open().await;
    let protocol = market.coordinator.protocol();
    let token = market.join(protocol.as_ref(), &market.miners[0]).await;
    let deep = "[".repeat(100_000);
    for path in [
        paths::TASKS,
        paths::SESSIONS,
        paths::POLL,
        paths::HEARTBEAT,
        paths::FAIL,
    ] {
        let call = || market.call(Method::POST, path).bearer_auth(token.expose());
        for body in [
            "",
            "{",
            "{]",
            "nonsense",
            "{} {}",
            "\u{1f426}",
            deep.as_str(),
        ] {
            let response = call()
                .header("content-type", "application/json; charset=utf-8")
                .body(body.to_owned())
                .send()
                .await
                .unwrap();
            let (status, kind) = match (path, body.len()) {
                // Longer than any task may be in this market.
                (paths::TASKS, 100_000..) => (413, ErrorKind::Invalid),
                _ => (400, ErrorKind::Invalid),
            };
            refused(response, status, kind).await;
        }
        let untyped = call().body("{}").send().await.unwrap();
        refused(untyped, 415, ErrorKind::Invalid).await;
        let form = call()
            .header("content-type", "text/plain")
            .body("{}")
            .send()
            .await
            .unwrap();
        refused(form, 415, ErrorKind::Invalid).await;
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_errors_like_others() {
    let market = Market::open().await;
    for path in ["/", "/v1", "/v2/tasks", "/miner/v1/nothing"] {
        let response = market.call(Method::GET, path).send().await.unwrap();
        refused(response, 404, ErrorKind::NotFound).await;
    }
    for (method, path, allowed) in [
        (Method::PUT, paths::TASKS, "POST,GET,HEAD"),
        (Method::GET, paths::POLL, "POST"),
        (Method::POST, paths::STATUS, "GET,HEAD"),
    ] {
        let response = market.call(method, path).send().await.unwrap();
        assert_eq!(response.headers()["allow"], allowed, "{path}");
        refused(response, 405, ErrorKind::Invalid).await;
    }
}

#[tokio::test]
async fn a_miner_without_a_session_gets_nowhere() {
    let market = Market::open().await;
    let long = "x".repeat(1_000);
    for (header, value) in [
        ("accept", "*/*"),
        ("authorization", "Basic YTpi"),
        ("authorization", "Bearer"),
        ("authorization", "Bearer made-up"),
        ("authorization", &format!("Bearer {long}")),
    ] {
        for path in [paths::POLL, paths::HEARTBEAT] {
            let body = if path == paths::POLL {
                json!(poll(1))
            } else {
                json!({"leases": []})
            };
            let call = market
                .call(Method::POST, path)
                .header(header, value)
                .json(&body);
            let response = call.send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            refused(response, 401, ErrorKind::Unauthorized).await;
        }
        let closing = market
            .call(Method::DELETE, paths::SESSIONS)
            .header(header, value);
        refused(closing.send().await.unwrap(), 401, ErrorKind::Unauthorized).await;
    }
}

#[tokio::test]
async fn a_completion_needs_its_headers_and_a_bounded_body() {
    let market = Market::open().await;
    let protocol = market.coordinator.protocol();
    let token = market.join(protocol.as_ref(), &market.miners[0]).await;
    let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
    let complete = |completion: &Completion, token: &str| {
        let receipt = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&completion.receipt).unwrap());
        market
            .call(Method::POST, paths::COMPLETE)
            .bearer_auth(token)
            .header(paths::RECEIPT, receipt)
            .header("content-type", &completion.output.media_type)
            .body(completion.output.bytes.clone())
    };
    let made = |output: &[u8]| {
        let receipt = market.receipt(&assignment, &market.miners[0], output);
        market.completion(receipt, &market.miners[0].operator, output)
    };

    let bare = || {
        market
            .call(Method::POST, paths::COMPLETE)
            .bearer_auth(token.expose())
            .body("png")
    };
    refused(bare().send().await.unwrap(), 400, ErrorKind::Invalid).await;
    for receipt in ["?", "e30", &"A".repeat(20_000)] {
        let call = bare()
            .header("content-type", "image/png")
            .header(paths::RECEIPT, receipt);
        refused(call.send().await.unwrap(), 400, ErrorKind::Invalid).await;
    }
    let mut untyped = made(b"png");
    untyped.output.media_type = "png".to_owned();
    refused(
        complete(&untyped, token.expose()).send().await.unwrap(),
        400,
        ErrorKind::Invalid,
    )
    .await;

    let large = made(&vec![7; MAX_OUTPUT_BYTES + 1]);
    refused(
        complete(&large, token.expose()).send().await.unwrap(),
        413,
        ErrorKind::Invalid,
    )
    .await;
    // The same without a length announced: the limit holds while bytes arrive.
    let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![7_u8; 10_000]));
    let chunked = futures::StreamExt::take(chunks, 100);
    let call = complete(&large, token.expose()).body(reqwest::Body::wrap_stream(chunked));
    refused(call.send().await.unwrap(), 413, ErrorKind::Invalid).await;
    // Without a session nothing is read at all.
    refused(
        complete(&large, "made-up").send().await.unwrap(),
        401,
        ErrorKind::Unauthorized,
    )
    .await;

    let fits = made(&vec![7; MAX_OUTPUT_BYTES]);
    let accepted = complete(&fits, token.expose()).send().await.unwrap();
    assert_eq!(accepted.status(), StatusCode::OK);
    assert_eq!(
        task.result().await.unwrap().output.bytes.len(),
        MAX_OUTPUT_BYTES
    );
}

#[tokio::test]
async fn a_queue_that_is_full_says_when_to_come_back() {
    let market = Market::with(
        |settings| settings.max_queued = 2,
        cuckoo_coordinator::router,
    )
    .await;
    for _ in 0..2 {
        assert_eq!(
            market.submit(&json!(spec("a"))).await.status(),
            StatusCode::ACCEPTED
        );
    }
    let full = market.submit(&json!(spec("a"))).await;
    let retry_after = full.headers().get("retry-after").cloned();
    let body = refused(full, 429, ErrorKind::Rejected).await;
    assert_eq!(
        (body.retry, retry_after.unwrap().to_str().unwrap()),
        (Retry::Later, "1")
    );
}

#[tokio::test]
async fn the_market_can_be_looked_at() {
    let market = Market::open().await;
    let protocol = market.coordinator.protocol();
    market.join(protocol.as_ref(), &market.miners[0]).await;
    let get = async |path| {
        market
            .call(Method::GET, path)
            .send()
            .await
            .unwrap()
            .json::<Value>()
            .await
            .unwrap()
    };
    let status = get(paths::STATUS).await;
    assert_eq!(status["coordinator"], json!(market.operator.node.0));
    assert_eq!(status["miners"][0]["name"], "first");
    assert_eq!(get(paths::EVIDENCE).await, json!([]));
    assert_eq!(get(paths::HEALTH).await, json!({"status": "ok"}));
    assert_eq!(
        get(paths::OPENAPI).await,
        serde_json::from_str::<Value>(&cuckoo_coordinator::openapi()).unwrap()
    );
}

#[tokio::test]
async fn a_poll_whose_miner_hung_up_takes_no_work() {
    let market = Market::open().await;
    let protocol = market.coordinator.protocol();
    let token = market.join(protocol.as_ref(), &market.miners[0]).await;
    let request = cuckoo_core::PollRequest {
        wait_millis: 30_000,
        ..poll(1)
    };
    let body = serde_json::to_string(&request).unwrap();
    let address = market.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        paths::POLL,
        token.expose(),
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    until(|| market.coordinator.status().miners[0].free_slots == 1).await;
    drop(connection);
    until(|| market.coordinator.status().miners[0].free_slots == 0).await;

    let task = market
        .coordinator
        .submit(spec("a red circle"))
        .await
        .unwrap();
    assert_eq!(task.state(), TaskState::Queued);
    assert_eq!(
        market.polled(protocol.as_ref(), &token).await.task,
        task.id()
    );
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_began() {
    let market = Market::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let routes = cuckoo_coordinator::router(market.coordinator.clone());
    let server = tokio::spawn(serve(listener, routes, stop.clone().cancelled_owned()));
    let miner = HttpCoordinator::new(&market.url).unwrap();
    let token = market.join(&miner, &market.miners[0]).await;

    let waiting = client()
        .post(format!("{url}{}", paths::TASKS))
        .header("Prefer", "wait=20")
        .json(&json!(spec("a red circle")))
        .send();
    let waiting = tokio::spawn(waiting);
    until(|| market.coordinator.status().queued == 1).await;
    stop.cancel();
    market.work(&miner, &token, b"png").await;
    assert_eq!(
        waiting.await.unwrap().unwrap().bytes().await.unwrap(),
        "png"
    );
    server.await.unwrap();
    assert!(
        client()
            .get(format!("{url}{}", paths::HEALTH))
            .send()
            .await
            .unwrap_err()
            .is_connect()
    );
}

#[tokio::test]
async fn a_coordinator_that_shuts_down_refuses_tasks_and_ends_waits() {
    let market = Market::open().await;
    let waiting = market
        .call(Method::POST, paths::TASKS)
        .header("Prefer", "wait=20")
        .json(&json!(spec("nobody will take this")))
        .send();
    let waiting = tokio::spawn(waiting);
    until(|| market.coordinator.status().queued == 1).await;
    market.coordinator.shutdown(Duration::ZERO).await;
    refused(waiting.await.unwrap().unwrap(), 503, ErrorKind::Closed).await;
    refused(
        market.submit(&json!(spec("a"))).await,
        503,
        ErrorKind::Closed,
    )
    .await;
}

#[tokio::test]
async fn a_client_that_sends_no_http_gets_400_and_nobody_else_notices() {
    let market = Market::open().await;
    let address = market.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection
        .write_all(b"\x16\x03\x01\x02\x00\x01 this is TLS\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 400"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let health = market
        .call(Method::GET, paths::HEALTH)
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), StatusCode::OK);
}

/// Waits until a condition that another task brings about holds.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("it comes about within 20 s");
}
