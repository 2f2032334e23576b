//! Traces of the program itself, told where to by the environment alone.

use serde_json::Value;

use crate::Desk;
use crate::collector::{Collector, text};
use crate::process::Running;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_the_traces_is_sent_before_the_end() {
    let desk = Desk::new().await;
    desk.open_market();
    let collector = Collector::start().await;
    let mut coordinator = Running::start(
        desk.coordinator()
            .args(["run", "--config", "coordinator.toml"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
            .env(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20s3cret",
            )
            .env("OTEL_SERVICE_NAME", "market-eu")
            // Only the end sends anything.
            .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
            // The file's word does not count where there is the environment's.
            .env("CUCKOO_COORDINATOR__OTEL__ENDPOINT", "http://127.0.0.1:1")
            .env("CUCKOO_COORDINATOR__OTEL__SERVICE_NAME", "unheard")
            .env("CUCKOO_COORDINATOR__DRAIN_SECONDS", "0"),
    );
    let line = coordinator.line("listening on ");
    let url = line.split_once("listening on ").unwrap().1.trim();
    let body = r#"{"model": "shapes", "input": {"prompt": "a red circle"}}"#;
    let accepted = desk.curl(&[
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
        &format!("{url}/v1/tasks"),
    ]);
    let accepted: Value = serde_json::from_str(&accepted).unwrap();
    coordinator.signal("TERM");
    assert!(coordinator.end().success(), "{}", coordinator.log);

    let spans = collector.spans();
    let named = |name: &str| {
        let found = spans.iter().find(|(_, span)| span.name == name);
        &found.unwrap_or_else(|| panic!("no {name} in {spans:#?}")).1
    };
    let (request, task) = (named("POST /v1/tasks"), named("task"));
    assert_eq!(task.parent_span_id, request.span_id);
    let id = text(&task.attributes, "cuckoo.task.id");
    assert_eq!(accepted["id"], id.as_str());
    // It was open, and is for the next start.
    let outcome = text(&task.attributes, "cuckoo.task.outcome");
    assert_eq!(outcome, "failed");
    assert_eq!(text(&task.attributes, "error.type"), "closed");
    assert!(spans.iter().all(|(service, _)| service == "market-eu"));
    for (headers, _) in collector.taken() {
        assert_eq!(headers["authorization"], "Bearer s3cret");
    }
    assert!(!coordinator.log.contains("s3cret"), "{}", coordinator.log);
}
