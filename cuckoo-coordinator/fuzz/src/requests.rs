//! Bytes of a connection, as the server takes them: HTTP/1.1 and HTTP/2, routes, headers, bodies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_coordinator::{fuzzing, router};
use cuckoo_core::{B256, ErrorBody, Receipt, Signed, Usage, payload_hash};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::market::{MEMBERS, Market, play, poll, session, spec};

/// What the receipt for `{receipt}` is about.
pub(crate) const OUTPUT: &str = "an output";
/// Longer than any wait of the server.
const PATIENCE: Duration = Duration::from_secs(1_000);
/// The most bytes of an answer that are looked at.
const MAX_ANSWER: usize = 1 << 20;

/// What a client sends before it falls silent. `{token}`, `{session}`, `{task}`, `{lease}` and `{receipt}` stand for those
/// of a miner with a task in work, `{length}` for the number of bytes after the first empty line.
pub fn requests(data: &[u8]) {
    play(async |market| {
        let sent = Stage::set(&market).await.fill(data);
        let answers = Arc::new(Mutex::new(Vec::new()));
        let routes = router(market.coordinator.clone()).layer(from_fn({
            let answers = Arc::clone(&answers);
            move |request: Request, next: Next| note(Arc::clone(&answers), request, next)
        }));
        let (mut client, server) = duplex(MAX_ANSWER);
        let talk = async {
            // A server that has heard enough may hang up.
            let _ = client.write_all(&sent).await;
            let mut answer = Vec::new();
            let mut reading = (&mut client).take(MAX_ANSWER as u64);
            let _ = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer)).await;
            drop(client);
            answer
        };
        let (answer, ()) = tokio::join!(talk, fuzzing::serve_connection(server, routes));
        let http1 = answer.starts_with(b"HTTP/1.");
        // Its first frame are settings.
        let http2 = answer.get(3) == Some(&4);
        assert!(answer.is_empty() || http1 || http2, "{answer:?}");
        for (status, error) in answers.lock().expect("one thread").drain(..) {
            check(status, &error);
        }
        // Whatever was asked, the coordinator still answers.
        market.coordinator.submit(spec()).await.expect("a task");
    });
}

type Answers = Arc<Mutex<Vec<(StatusCode, Vec<u8>)>>>;

/// Keeps the bodies of refusals: those of others may be long or never end.
async fn note(answers: Answers, request: Request, next: Next) -> Response {
    // The answer to a HEAD has no body.
    let bodiless = request.method() == Method::HEAD;
    let (head, body) = next.run(request).await.into_parts();
    if head.status.is_success() || bodiless {
        return Response::from_parts(head, body);
    }
    let bytes = to_bytes(body, MAX_ANSWER).await.expect("a refusal's body");
    let noted = (head.status, bytes.to_vec());
    answers.lock().expect("one thread").push(noted);
    Response::from_parts(head, Body::from(bytes))
}

/// A refusal has a reason in the agreed form, or in OpenAI's, and is no defect of ours.
fn check(status: StatusCode, body: &[u8]) {
    let reason = reason(body).unwrap_or_else(|error| {
        panic!(
            "{status} without a reason ({error}): {:?}",
            String::from_utf8_lossy(body)
        )
    });
    assert!(!reason.is_empty());
    let ours = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
    assert!(!ours, "{status}: {reason}");
}

fn reason(body: &[u8]) -> serde_json::Result<String> {
    let mut told: Value = serde_json::from_slice(body)?;
    if let Some(message) = told.pointer_mut("/error/message") {
        return serde_json::from_value(message.take());
    }
    Ok(serde_json::from_value::<ErrorBody>(told)?.message)
}

/// A miner with a task in work.
struct Stage {
    names: Vec<(&'static str, String)>,
}

impl Stage {
    async fn set(market: &Market) -> Self {
        let miner = &MEMBERS.miners[0];
        let operator = &miner.operator;
        let deployment = &MEMBERS.deployment;
        let protocol = market.coordinator.protocol();
        let request =
            |nonce| Signed::sign(session(operator.address(), nonce), operator, deployment);
        let opened = protocol.open_session(request(1)).await.expect("a session");
        let task = market.coordinator.submit(spec()).await.expect("a task");
        let given = protocol.poll(&opened.token, poll()).await.expect("a poll");
        let work = given.assignments.first().expect("the task");
        let receipt = Receipt {
            coordinator: work.coordinator,
            miner: miner.node,
            lease: work.lease,
            task: work.task,
            model_hash: work.model_hash,
            input_hash: work.input_hash,
            output_hash: payload_hash(OUTPUT.as_bytes()),
            states_root: B256::ZERO,
            usage: Usage::default(),
        };
        let receipt = Signed::sign(receipt, operator, deployment);
        let receipt = serde_json::to_vec(&receipt).expect("JSON");
        let again = serde_json::to_string(&request(2)).expect("JSON");
        Self {
            names: vec![
                ("{token}", opened.token.expose().to_owned()),
                ("{task}", task.id().to_string()),
                ("{lease}", work.lease.to_string()),
                ("{receipt}", URL_SAFE_NO_PAD.encode(receipt)),
                ("{session}", again),
            ],
        }
    }

    fn fill(&self, data: &[u8]) -> Vec<u8> {
        let mut filled = data.to_vec();
        for (name, value) in &self.names {
            filled = replaced(&filled, name, value);
        }
        const END: &[u8] = b"\r\n\r\n";
        let body = filled.windows(END.len()).position(|four| four == END);
        let length = body.map_or(0, |at| filled.len() - at - END.len());
        replaced(&filled, "{length}", &length.to_string())
    }
}

fn replaced(text: &[u8], name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        // Long inputs full of names would only be slow.
        if out.len() < MAX_ANSWER
            && let Some(after) = rest.strip_prefix(name.as_bytes())
        {
            out.extend_from_slice(value.as_bytes());
            rest = after;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}
