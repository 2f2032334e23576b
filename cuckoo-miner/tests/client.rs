//! The HTTP client against servers on loopback: one that answers as a coordinator does, and all sorts that do not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{
    Address, B256, Chunk, Completion, Deployment, ErrorBody, ErrorKind, Failure, Heartbeat, Key,
    LeaseId, LeaseProgress, NodeId, Output, PollReply, PollRequest, Receipt, Retry, SeededEntropy,
    Session, SessionToken, Signed, SignedReceipt, TaskId, TaskProtocol as _, Timestamp, Usage,
    paths, payload_hash,
};
use cuckoo_miner::HttpCoordinator;
use futures::StreamExt as _;
use tokio::net::TcpListener;

const SECRET: &str = "a-session-token-nobody-else-should-see";
const DEPLOYMENT: Deployment = Deployment {
    chain_id: 7,
    staking: Address::ZERO,
    payments: Address::ZERO,
};

type Seen = Arc<Mutex<Vec<(Method, String, HeaderMap, Bytes)>>>;

/// A server on a free port that gives `answer` to every request; what it was asked; and where it is.
async fn serve(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (String, Seen) {
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap();
        let path = parts.uri.path().to_owned();
        record
            .lock()
            .unwrap()
            .push((parts.method, path, parts.headers, body));
        answer()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

async fn client(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> HttpCoordinator {
    HttpCoordinator::new(&serve(answer).await.0).unwrap()
}

fn token() -> SessionToken {
    SessionToken::new(SECRET)
}

fn request(free_slots: u32) -> PollRequest {
    PollRequest {
        capabilities: Vec::new(),
        free_slots,
        warm: Vec::new(),
        wait_millis: 0,
    }
}

fn completion() -> Completion {
    let entropy = SeededEntropy::from_number(1);
    let output = Output {
        media_type: "image/png".to_owned(),
        bytes: Bytes::from_static(&[0, 255, 10, 13]),
    };
    let receipt = Receipt {
        coordinator: NodeId(1),
        miner: NodeId(2),
        lease: LeaseId::random(&entropy),
        task: TaskId::random(&entropy),
        model_hash: B256::ZERO,
        input_hash: B256::ZERO,
        output_hash: payload_hash(&output.bytes),
        states_root: B256::ZERO,
        usage: Usage::default(),
    };
    Completion {
        receipt: Signed::sign(receipt, &Key::random(&entropy), &DEPLOYMENT),
        output,
    }
}

#[tokio::test]
async fn each_call_has_its_route_its_token_and_its_body() {
    let (url, seen) =
        serve(|| axum::Json(serde_json::json!({"assignments": [], "leases": []})).into_response())
            .await;
    let coordinator = HttpCoordinator::new(&format!("{url}/below/")).unwrap();
    let entropy = SeededEntropy::from_number(2);
    let lease = LeaseId::random(&entropy);
    let session = Session {
        coordinator: Address::ZERO,
        miner: Address::ZERO,
        nonce: B256::ZERO,
        expiry: Timestamp::from_millis(5),
    };
    let session = Signed::sign(session, &Key::random(&entropy), &DEPLOYMENT);
    let failure = Failure {
        lease,
        kind: ErrorKind::Execution,
        retry: Retry::Later,
        message: "no".to_owned(),
    };
    let heartbeat = Heartbeat {
        leases: vec![LeaseProgress {
            lease,
            progress: 5,
            preview: None,
        }],
    };
    let completion = completion();
    // These two want other answers than this server's; only what was asked is looked at.
    coordinator.info().await.unwrap_err();
    coordinator.open_session(session.clone()).await.unwrap_err();
    let reply = coordinator.poll(&token(), request(3)).await.unwrap();
    assert_eq!(reply, PollReply::default());
    let reply = coordinator
        .heartbeat(&token(), heartbeat.clone())
        .await
        .unwrap();
    assert!(reply.leases.is_empty());
    let chunk = Chunk {
        lease,
        offset: 7,
        bytes: b"\0\n".to_vec().into(),
    };
    // This one too.
    coordinator
        .stream(&token(), chunk.clone())
        .await
        .unwrap_err();
    coordinator
        .complete(&token(), completion.clone())
        .await
        .unwrap();
    coordinator.fail(&token(), failure.clone()).await.unwrap();
    coordinator.close_session(&token()).await.unwrap();

    let seen = seen.lock().unwrap();
    let asked: Vec<_> = seen
        .iter()
        .map(|(method, path, ..)| (method.as_str(), path.strip_prefix("/below").unwrap()))
        .collect();
    assert_eq!(
        asked,
        [
            ("GET", paths::INFO),
            ("POST", paths::SESSIONS),
            ("POST", paths::POLL),
            ("POST", paths::HEARTBEAT),
            ("POST", paths::STREAM),
            ("POST", paths::COMPLETE),
            ("POST", paths::FAIL),
            ("DELETE", paths::SESSIONS),
        ]
    );
    for (i, (_, _, headers, _)) in seen.iter().enumerate() {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .map(|value| value.to_str().unwrap());
        let expected = format!("Bearer {SECRET}");
        assert_eq!(bearer, (i >= 2).then_some(expected.as_str()), "call {i}");
    }
    let body = |i: usize| serde_json::from_slice::<serde_json::Value>(&seen[i].3).unwrap();
    assert_eq!(body(1), serde_json::to_value(&session).unwrap());
    assert_eq!(body(2), serde_json::to_value(request(3)).unwrap());
    assert_eq!(body(3), serde_json::to_value(&heartbeat).unwrap());
    assert_eq!(body(6), serde_json::to_value(&failure).unwrap());
    let (_, _, headers, bytes) = &seen[4];
    assert_eq!(bytes, &chunk.bytes);
    assert_eq!(headers[paths::LEASE], lease.to_string());
    assert_eq!(headers[paths::OFFSET], "7");
    let (_, _, headers, bytes) = &seen[5];
    assert_eq!(bytes, &completion.output.bytes);
    assert_eq!(headers[header::CONTENT_TYPE], "image/png");
    let receipt = URL_SAFE_NO_PAD
        .decode(headers[paths::RECEIPT].as_bytes())
        .unwrap();
    let receipt: SignedReceipt = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(receipt, completion.receipt);
}

#[tokio::test]
async fn every_kind_of_error_comes_through() {
    for (kind, retry) in [
        (ErrorKind::Invalid, Retry::Never),
        (ErrorKind::Unauthorized, Retry::Never),
        (ErrorKind::NotFound, Retry::Never),
        (ErrorKind::Conflict, Retry::Never),
        (ErrorKind::Unavailable, Retry::Later),
        (ErrorKind::Rejected, Retry::Later),
        (ErrorKind::Timeout, Retry::Never),
        (ErrorKind::Cancelled, Retry::Never),
        (ErrorKind::Unverified, Retry::Never),
        (ErrorKind::Chain, Retry::Later),
        (ErrorKind::Execution, Retry::Never),
        (ErrorKind::Closed, Retry::Never),
        (ErrorKind::Internal, Retry::Never),
    ] {
        let coordinator = client(move || {
            let status = StatusCode::from_u16(kind.http_status()).unwrap();
            let body = ErrorBody {
                kind,
                retry,
                message: "what to do next".to_owned(),
            };
            (status, axum::Json(body)).into_response()
        })
        .await;
        let error = coordinator.poll(&token(), request(1)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (kind, retry));
        assert_eq!(error.message(), "what to do next");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_unavailable_and_says_where() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = HttpCoordinator::new(&url)
        .unwrap()
        .info()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Later)
    );
    assert!(
        error.message().contains(&url) && error.message().contains("check"),
        "{error}"
    );
}

#[tokio::test]
async fn other_servers_are_told_from_coordinators() {
    for (status, body, kind) in [
        (200, "<html>hello</html>", ErrorKind::Unavailable),
        (200, "{}", ErrorKind::Unavailable),
        (200, "{\"assignments\": 5}", ErrorKind::Unavailable),
        (200, "", ErrorKind::Unavailable),
        (204, "", ErrorKind::Unavailable),
        (401, "who?", ErrorKind::Unauthorized),
        (404, "<html>not here</html>", ErrorKind::NotFound),
        (502, "{\"kind\": \"no such kind\"}", ErrorKind::Unavailable),
        (504, "", ErrorKind::Timeout),
        (999, "", ErrorKind::Unavailable),
    ] {
        let coordinator =
            client(move || (StatusCode::from_u16(status).unwrap(), body).into_response()).await;
        let error = coordinator.poll(&token(), request(1)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (kind, Retry::Later),
            "{status} {body}: {error}"
        );
        assert!(error.message().contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed_so_the_token_stays_here() {
    let (elsewhere, seen) = serve(|| "{\"assignments\": []}".into_response()).await;
    let coordinator = client(move || {
        let to = [(header::LOCATION, elsewhere.clone())];
        (StatusCode::TEMPORARY_REDIRECT, to).into_response()
    })
    .await;
    coordinator.poll(&token(), request(1)).await.unwrap_err();
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn oversized_answers_are_not_read_to_their_end() {
    let announced = client(|| "x".repeat(2 << 20).into_response()).await;
    let error = announced.info().await.unwrap_err();
    assert!(error.message().contains("longer than"), "{error}");

    // Without an announced length, and without an end.
    let endless = client(|| {
        let chunk = Bytes::from(vec![b'x'; 1 << 16]);
        let chunks = futures::stream::repeat(chunk).map(Ok::<_, std::io::Error>);
        Body::from_stream(chunks).into_response()
    })
    .await;
    for error in [
        endless.info().await.unwrap_err(),
        endless.poll(&token(), request(2)).await.unwrap_err(),
        endless.complete(&token(), completion()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("longer than"), "{error}");
    }
    // The same as the body of an error.
    let endless = client(|| {
        let chunk = Bytes::from(vec![b'x'; 1 << 16]);
        let chunks = futures::stream::repeat(chunk).map(Ok::<_, std::io::Error>);
        (StatusCode::BAD_GATEWAY, Body::from_stream(chunks)).into_response()
    })
    .await;
    let error = endless.info().await.unwrap_err();
    assert!(error.message().contains("longer than"), "{error}");
}

#[tokio::test]
async fn stalled_answers_time_out() {
    let short = Duration::from_millis(200);
    // Accepts and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let silent = HttpCoordinator::new(&silent).unwrap().with_timeout(short);
    let error = silent.info().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Timeout, Retry::Later)
    );
    // Begins and does not end.
    let stalling = client(|| {
        let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        Body::from_stream(first.chain(futures::stream::pending())).into_response()
    })
    .await
    .with_timeout(short);
    let error = stalling.info().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn secrets_stay_out_of_errors_and_debug() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let coordinator = HttpCoordinator::new(&url).unwrap();
    let error = coordinator.poll(&token(), request(1)).await.unwrap_err();
    for text in [
        format!("{error}"),
        format!("{error:?}"),
        format!("{coordinator:?}"),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(format!("{coordinator:?}").contains(&url));
}
