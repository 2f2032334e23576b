//! Traces, as a collector gets them.

use std::collections::BTreeMap;
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, TraceSettings, Traces, router};
use cuckoo_core::{Clock as _, TaskProtocol as _, Timestamp, paths};
use cuckoo_miner::HttpCoordinator;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode as Code};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::collector::{Collector, text};
use crate::market::{Market, spec};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const PATIENCE: Duration = Duration::from_secs(20);

/// A market whose spans, those of its requests included, go where `settings` say. All of it runs on the test's thread.
async fn traced(settings: &TraceSettings, audits: f64) -> (Market, Traces, DefaultGuard) {
    let traces = Traces::start(settings).unwrap().expect("an endpoint");
    let requests = tracing_subscriber::registry().with(traces.layer());
    let requests = tracing::subscriber::set_default(requests);
    let market = Market::made(
        |settings| settings.audit_probability = audits,
        router,
        |coordinator| coordinator.traces(&traces),
    );
    (market.await, traces, requests)
}

/// Settings that send everything to `collector`.
fn everything(collector: &Collector) -> TraceSettings {
    TraceSettings {
        endpoint: Some(collector.url.clone()),
        ..TraceSettings::default()
    }
}

/// Ends the market and sends what is left of its traces.
async fn end(market: &Market, traces: Traces) {
    market.coordinator.shutdown(Duration::ZERO).await;
    traces.shutdown(PATIENCE).await;
}

/// The spans of one task by their names, in the order in which they began; and its trace.
fn of_task(collector: &Collector, task: &str) -> BTreeMap<String, Vec<Span>> {
    let spans = collector.spans();
    let whole = spans
        .iter()
        .find(|(_, span)| span.name == "task" && text(&span.attributes, "cuckoo.task.id") == task);
    let trace = whole.expect("a span of the task").1.trace_id.clone();
    let mut named: BTreeMap<_, Vec<Span>> = BTreeMap::new();
    for (_, span) in spans.into_iter().filter(|(_, span)| span.trace_id == trace) {
        named.entry(span.name.clone()).or_default().push(span);
    }
    for spans in named.values_mut() {
        spans.sort_by_key(|span| span.start_time_unix_nano);
    }
    named
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// From when to when, in milliseconds since `began`.
fn times(span: &Span, began: Timestamp) -> (u64, u64) {
    let since = |nanos: u64| nanos / 1_000_000 - began.as_millis();
    (
        since(span.start_time_unix_nano),
        since(span.end_time_unix_nano),
    )
}

fn attribute(span: &Span, name: &str) -> String {
    text(&span.attributes, name)
}

#[tokio::test]
async fn a_task_is_one_trace_from_its_request_to_its_end() {
    let collector = Collector::start().await;
    let (market, traces, _requests) = traced(&everything(&collector), 0.0).await;
    let protocol = HttpCoordinator::new(&market.url).unwrap();
    let token = market.join(&protocol, &market.miners[0]).await;
    let began = market.clock.now();
    let accepted = market
        .call(Method::POST, paths::TASKS)
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&json!(spec("a secret circle")))
        .send()
        .await
        .unwrap();
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    let accepted: serde_json::Value = accepted.json().await.unwrap();
    let id = accepted["id"].as_str().unwrap();
    market.clock.advance(Duration::from_secs(2));
    let assignment = market.polled(&protocol, &token).await;
    market.clock.advance(Duration::from_secs(3));
    let (miner, png) = (&market.miners[0], b"\x89PNG".as_slice());
    let receipt = market.receipt(&assignment, miner, png);
    let completion = market.completion(receipt, &miner.operator, png);
    protocol.complete(&token, completion).await.unwrap();
    end(&market, traces).await;

    let spans = of_task(&collector, id);
    let names: Vec<_> = spans.keys().map(String::as_str).collect();
    let expected = [
        "POST /v1/tasks",
        "admission",
        "lease",
        "queue",
        "settlement",
        "task",
        "verification",
    ];
    assert_eq!(names, expected);
    assert!(spans.values().all(|spans| spans.len() == 1));
    let span = |name: &str| &spans[name][0];
    let request = span("POST /v1/tasks");
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(request.kind, SpanKind::Server as i32);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/tasks"),
        ("http.response.status_code", "202"),
        ("task", id),
    ] {
        assert_eq!(attribute(request, name), value, "{name}");
    }
    let task = span("task");
    assert_eq!(task.parent_span_id, request.span_id);
    assert_eq!(attribute(task, "cuckoo.task.model"), "shapes");
    assert_eq!(attribute(task, "cuckoo.task.outcome"), "completed");
    assert_eq!(attribute(task, "cuckoo.verdict"), "not_drawn");
    let node = miner.node.0.to_string();
    let lease = span("lease");
    for span in [task, lease, span("verification")] {
        assert_eq!(attribute(span, "cuckoo.miner.id"), node);
    }
    assert_eq!(
        attribute(lease, "cuckoo.lease.id"),
        assignment.lease.to_string()
    );
    for (name, parent, when) in [
        ("task", request, (0, 5_000)),
        ("admission", task, (0, 0)),
        ("queue", task, (0, 2_000)),
        ("lease", task, (2_000, 5_000)),
        ("verification", lease, (5_000, 5_000)),
        ("settlement", task, (5_000, 5_000)),
    ] {
        assert_eq!(times(span(name), began), when, "{name}");
        assert_eq!(span(name).parent_span_id, parent.span_id, "{name}");
    }
    let paid: Vec<_> = span("settlement")
        .events
        .iter()
        .map(|event| &event.name)
        .collect();
    assert_eq!(paid, ["paid"]);
    assert!(
        collector
            .spans()
            .iter()
            .all(|(service, _)| service == "cuckoo-coordinator")
    );
    // Neither what was asked for nor what opens a session leaves the house.
    for (_, body) in collector.taken() {
        let body = String::from_utf8_lossy(&body);
        assert!(!body.contains("secret circle") && !body.contains(token.expose()));
    }
}

#[tokio::test]
async fn an_audit_is_part_of_its_tasks_trace() {
    let collector = Collector::start().await;
    let (market, traces, _requests) = traced(&everything(&collector), 1.0).await;
    let protocol = market.coordinator.protocol();
    let protocol = protocol.as_ref();
    let mut tokens = Vec::new();
    for miner in &market.miners {
        tokens.push(market.join(protocol, miner).await);
    }
    let complete = async |index: usize, assignment: &cuckoo_core::Assignment| {
        let miner = &market.miners[index];
        let receipt = market.receipt(assignment, miner, b"same");
        let completion = market.completion(receipt, &miner.operator, b"same");
        protocol.complete(&tokens[index], completion).await.unwrap();
    };
    let began = market.clock.now();
    let (task, assignment) = market.assigned(protocol, &tokens[0]).await;
    market.clock.advance(Duration::from_secs(1));
    complete(0, &assignment).await;
    let repeated = market.polled(protocol, &tokens[1]).await;
    market.clock.advance(Duration::from_secs(4));
    complete(1, &repeated).await;
    task.result().await.unwrap();
    end(&market, traces).await;

    let spans = of_task(&collector, &task.id().to_string());
    // Not submitted by a request: a trace of its own.
    assert_eq!(spans["task"][0].parent_span_id, Vec::<u8>::new());
    let audit = &spans["audit"][0];
    assert_eq!(times(audit, began), (1_000, 5_000));
    assert_eq!(attribute(audit, "cuckoo.verdict"), "honest");
    let [work, repetition] = &spans["lease"][..] else {
        panic!("{:?}", spans["lease"]);
    };
    assert_eq!(times(work, began), (0, 1_000));
    assert_eq!(work.parent_span_id, spans["task"][0].span_id);
    assert_eq!(repetition.parent_span_id, audit.span_id);
    assert_eq!(attribute(repetition, "cuckoo.lease.role"), "audit");
    assert_eq!(attribute(repetition, "cuckoo.audit.matched"), "true");
    assert_eq!(times(repetition, began), (1_000, 5_000));
    assert_eq!(spans["verification"].len(), 2);
    assert_eq!(spans["settlement"][0].events.len(), 2);
}

#[tokio::test]
async fn what_fails_and_who_is_at_fault_is_said_without_a_miners_words() {
    let collector = Collector::start().await;
    let (market, traces, _requests) = traced(&everything(&collector), 0.0).await;
    let protocol = market.coordinator.protocol();
    let protocol = protocol.as_ref();
    let token = market.join(protocol, &market.miners[0]).await;
    let (task, assignment) = market.assigned(protocol, &token).await;
    let failure = cuckoo_core::Failure {
        lease: assignment.lease,
        kind: cuckoo_core::ErrorKind::Execution,
        retry: cuckoo_core::Retry::Later,
        message: "I was asked for a secret".into(),
    };
    protocol.fail(&token, failure).await.unwrap();
    market.clock.advance(Duration::from_secs(3_600));
    task.result().await.unwrap_err();
    let keyed = || spec("twice").with_idempotency_key("order-7");
    let once = market.coordinator.submit(keyed()).await.unwrap();
    market.coordinator.submit(keyed()).await.unwrap();
    once.cancel().await.unwrap();
    end(&market, traces).await;

    let spans = of_task(&collector, &task.id().to_string());
    let whole = &spans["task"][0];
    let failed = |span: &Span| span.status.as_ref().unwrap().code == Code::Error as i32;
    assert!(failed(whole));
    assert_eq!(attribute(whole, "cuckoo.task.outcome"), "failed");
    assert_eq!(attribute(whole, "error.type"), "timeout");
    assert_eq!(attribute(whole, "cuckoo.fault"), "miner");
    assert!(failed(&spans["lease"][0]));
    assert_eq!(spans["queue"].len(), 2);
    let tasks = collector.spans();
    let outcomes: Vec<_> = tasks
        .iter()
        .filter(|(_, span)| span.name == "task")
        .map(|(_, span)| attribute(span, "cuckoo.task.outcome"))
        .collect();
    // What a key repeats is no task.
    assert_eq!(outcomes, ["failed", "cancelled"]);
    for (_, body) in collector.taken() {
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
}

#[tokio::test]
async fn a_caller_decides_over_its_own_trace_and_the_ratio_over_others() {
    let collector = Collector::start().await;
    let nothing = TraceSettings {
        sample_ratio: 0.0,
        ..everything(&collector)
    };
    let (market, traces, _requests) = traced(&nothing, 0.0).await;
    let submit = async |parent: Option<String>| {
        let mut request = market.call(Method::POST, paths::TASKS);
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        let answer = request.json(&json!(spec("a circle"))).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    };
    submit(None).await;
    submit(Some(format!("00-{TRACE}-{CALLER}-00"))).await;
    submit(Some("00-nonsense-01".into())).await;
    submit(Some(format!("00-{TRACE}-{CALLER}-01"))).await;
    end(&market, traces).await;
    let spans = collector.spans();
    let tasks = spans.iter().filter(|(_, span)| span.name == "task");
    assert_eq!(tasks.count(), 1);
    assert!(spans.iter().all(|(_, span)| hex(&span.trace_id) == TRACE));
}

#[tokio::test]
async fn a_task_that_outlives_its_coordinator_begins_a_trace_anew() {
    let collector = Collector::start().await;
    let market = Market::open().await;
    let task = market.coordinator.submit(spec("a circle")).await.unwrap();
    let began = market.clock.now();
    market.clock.advance(Duration::from_secs(7));
    let traces = Traces::start(&everything(&collector)).unwrap().unwrap();
    let settings = market.coordinator.settings().clone();
    let next = Coordinator::builder()
        .settings(settings)
        .chain(market.chain.clone())
        .operator(market.operator.operator.clone())
        .clock(market.clock.clone())
        .entropy(market.entropy.clone())
        .store(market.store.clone())
        .traces(&traces)
        .start()
        .await
        .unwrap();
    let next_task = next.task(task.id()).await.unwrap();
    next_task.cancel().await.unwrap();
    next.shutdown(Duration::ZERO).await;
    traces.shutdown(PATIENCE).await;
    let spans = of_task(&collector, &task.id().to_string());
    let whole = &spans["task"][0];
    assert_eq!(attribute(whole, "cuckoo.task.resumed"), "true");
    assert_eq!(attribute(whole, "cuckoo.task.outcome"), "cancelled");
    assert_eq!(times(whole, began), (0, 7_000));
    assert_eq!(times(&spans["queue"][0], began), (7_000, 7_000));
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_stops_nothing() {
    // More spans than are kept for a collector.
    const TASKS: usize = 500;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [silent.local_addr().unwrap(), away.local_addr().unwrap()];
    drop(away);
    for address in addresses {
        let settings = TraceSettings {
            endpoint: Some(format!("http://{address}")),
            ..TraceSettings::default()
        };
        let (market, traces, _requests) = traced(&settings, 0.0).await;
        let protocol = market.coordinator.protocol();
        let token = market.join(protocol.as_ref(), &market.miners[0]).await;
        for _ in 0..TASKS {
            let task = market.coordinator.submit(spec("a circle")).await.unwrap();
            market.work(protocol.as_ref(), &token, b"done").await;
            task.result().await.unwrap();
        }
        assert_eq!(market.coordinator.status().completed, TASKS as u64);
        market.coordinator.shutdown(Duration::ZERO).await;
        // It does not wait for the collector's sake any longer than it is told.
        traces.shutdown(Duration::from_millis(50)).await;
    }
    // Something was sent to the one that listens.
    silent.accept().await.unwrap();
}

#[tokio::test]
async fn nothing_is_sent_that_nobody_asked_for() {
    assert!(Traces::start(&TraceSettings::default()).unwrap().is_none());
    let wrong = TraceSettings {
        sample_ratio: 2.0,
        ..TraceSettings::default()
    };
    Traces::start(&wrong).unwrap_err();
}
