//! What operators watch: numbers, readiness, pages.

use std::collections::BTreeMap;
use std::time::Duration;

use cuckoo_coordinator::{Front, HttpSettings, router_with};
use cuckoo_core::{ErrorKind, Failure, Retry, TaskProtocol as _, paths};
use cuckoo_miner::HttpCoordinator;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::market::{Market, spec};

/// The numbers of a scrape, by name and labels as they are written.
struct Scrape {
    numbers: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Scrape {
    async fn of(market: &Market) -> Self {
        let answer = get(market, paths::METRICS).await;
        let kind = answer.headers()["content-type"].to_str().unwrap();
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        Self::parse(&answer.text().await.unwrap())
    }

    fn parse(text: &str) -> Self {
        let (mut numbers, mut types) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none());
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
                let twice = numbers.insert(name.to_owned(), value.parse().unwrap());
                assert!(twice.is_none(), "{name} is there twice");
            }
        }
        Self { numbers, types }
    }

    fn get(&self, name: &str) -> f64 {
        let found = self.numbers.get(name).copied();
        found.unwrap_or_else(|| panic!("no {name} in {:#?}", self.numbers))
    }
}

async fn get(market: &Market, path: &str) -> Response {
    market.call(Method::GET, path).send().await.unwrap()
}

/// One task that ends well after two seconds, one that fails, one that is cancelled, and one that waits.
async fn day(market: &Market) {
    let protocol = HttpCoordinator::new(&market.url).unwrap();
    let token = market.join(&protocol, &market.miners[0]).await;
    market.join(&protocol, &market.miners[1]).await;
    let done = market.submit(&json!(spec("a red circle"))).await;
    assert_eq!(done.status(), StatusCode::ACCEPTED);
    let assignment = market.polled(&protocol, &token).await;
    market.clock.advance(Duration::from_secs(2));
    let (miner, png) = (&market.miners[0], b"\x89PNG".as_slice());
    let receipt = market.receipt(&assignment, miner, png);
    let completion = market.completion(receipt, &miner.operator, png);
    protocol.complete(&token, completion).await.unwrap();

    let late = spec("too late").with_timeout(Duration::from_millis(500));
    let late = market.coordinator.submit(late).await.unwrap();
    market.clock.advance(Duration::from_secs(1));
    late.result().await.unwrap_err();
    let unwanted = market.coordinator.submit(spec("unwanted")).await.unwrap();
    unwanted.cancel().await.unwrap();
    market.coordinator.submit(spec("waits")).await.unwrap();
}

#[tokio::test]
async fn what_happened_is_counted_exactly() {
    let market = Market::open().await;
    day(&market).await;
    assert_eq!(get(&market, "/nowhere").await.status(), 404);
    let scrape = Scrape::of(&market).await;
    for (name, value) in [
        ("cuckoo_tasks_accepted_total{model=\"shapes\"}", 4.0),
        (
            "cuckoo_tasks_ended_total{outcome=\"completed\",fault=\"nobody\"}",
            1.0,
        ),
        (
            "cuckoo_tasks_ended_total{outcome=\"cancelled\",fault=\"nobody\"}",
            1.0,
        ),
        (
            "cuckoo_tasks_ended_total{outcome=\"failed\",fault=\"nobody\"}",
            1.0,
        ),
        (
            "cuckoo_tasks_ended_total{outcome=\"failed\",fault=\"miner\"}",
            0.0,
        ),
        ("cuckoo_tasks_queued{model=\"shapes\"}", 1.0),
        ("cuckoo_tasks_open", 1.0),
        ("cuckoo_leases_active{role=\"work\"}", 0.0),
        ("cuckoo_slots_free", 0.0),
        ("cuckoo_miners{state=\"connected\"}", 2.0),
        ("cuckoo_verdicts_total{verdict=\"not_drawn\"}", 1.0),
        ("cuckoo_task_wait_seconds_count{model=\"shapes\"}", 1.0),
        ("cuckoo_task_wait_seconds_sum{model=\"shapes\"}", 0.0),
        ("cuckoo_task_execution_seconds_sum{model=\"shapes\"}", 2.0),
        (
            "cuckoo_task_execution_seconds_bucket{model=\"shapes\",le=\"1\"}",
            0.0,
        ),
        (
            "cuckoo_task_execution_seconds_bucket{model=\"shapes\",le=\"2.5\"}",
            1.0,
        ),
        (
            "cuckoo_task_duration_seconds_bucket{model=\"shapes\",le=\"+Inf\"}",
            1.0,
        ),
        ("cuckoo_promised_cai", 1.0),
        ("cuckoo_escrow_reserved_cai", 0.0),
        ("cuckoo_store_commits_failed_total", 0.0),
        (
            "cuckoo_http_requests_total{route=\"/v1/tasks\",method=\"POST\",status=\"202\"}",
            1.0,
        ),
        (
            "cuckoo_http_requests_total{route=\"/miner/v1/sessions\",method=\"POST\",status=\"200\"}",
            2.0,
        ),
        (
            "cuckoo_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"}",
            1.0,
        ),
    ] {
        assert_eq!(scrape.get(name), value, "{name}");
    }
    let miner = |name: &str, member: usize| {
        let node = market.miners[member].node.0;
        scrape.get(&format!("cuckoo_miner_{name}{{miner=\"{node}\"}}"))
    };
    assert_eq!(
        (miner("tasks_total", 0), miner("tasks_total", 1)),
        (1.0, 0.0)
    );
    assert_eq!((miner("task_ratio", 0), miner("task_ratio", 1)), (1.0, 0.0));
    assert!((miner("stake_ratio", 0) - 2.0 / 3.0).abs() < 1e-9);
    assert!((miner("stake_ratio", 1) - 1.0 / 3.0).abs() < 1e-9);
    assert_eq!(miner("promised_cai", 0), 1.0);
    // Four tasks were written, three ended, and sessions and leases were noted.
    assert!(scrape.get("cuckoo_store_commit_changes_sum") >= 7.0);
    assert_eq!(
        scrape.get("cuckoo_store_commit_changes_count"),
        scrape.get("cuckoo_store_commit_seconds_count")
    );
    // A program that embeds the coordinator has the same without HTTP.
    let embedded = Scrape::parse(&market.coordinator.metrics().unwrap());
    assert_eq!(embedded.types, scrape.types);
}

#[tokio::test]
async fn leases_that_were_lost_are_counted_by_what_they_came_to() {
    let market = Market::open().await;
    let protocol = HttpCoordinator::new(&market.url).unwrap();
    let token = market.join(&protocol, &market.miners[0]).await;
    for (kind, retry, times) in [
        (ErrorKind::Execution, Retry::Never, 1),
        (ErrorKind::Invalid, Retry::Never, 2),
        (ErrorKind::Rejected, Retry::Never, 3),
        (ErrorKind::Rejected, Retry::Later, 4),
    ] {
        for _ in 0..times {
            let (_, assignment) = market.assigned(&protocol, &token).await;
            let failure = Failure {
                lease: assignment.lease,
                kind,
                retry,
                message: String::new(),
            };
            protocol.fail(&token, failure).await.unwrap();
        }
    }
    let scrape = Scrape::of(&market).await;
    let expected = [
        ("failed", 1.0),
        ("invalid", 2.0),
        ("refused", 3.0),
        ("returned", 4.0),
    ];
    for (loss, count) in expected {
        let name = format!("cuckoo_leases_lost_total{{model=\"shapes\",loss=\"{loss}\"}}");
        assert_eq!(scrape.get(&name), count, "{name}");
    }
}

#[tokio::test]
async fn every_number_is_named_well_and_explained() {
    let market = Market::open().await;
    let scrape = Scrape::of(&market).await;
    let explained = include_str!("../../../docs/watch.md");
    assert!(scrape.types.len() > 20);
    for (name, kind) in &scrape.types {
        assert!(name.starts_with("cuckoo_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        let row = explained
            .lines()
            .find(|line| line.contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("docs/watch.md does not explain {name}"));
        assert!(row.contains(&format!("| {kind} |")), "{name}: {row}");
    }
    let listed = explained
        .lines()
        .filter(|line| line.starts_with("| `cuckoo_"));
    assert_eq!(
        listed.count(),
        scrape.types.len(),
        "it explains more than there is"
    );
}

#[tokio::test]
async fn a_coordinator_is_ready_until_it_drains() {
    let market = Market::open().await;
    let ready = get(&market, paths::READY).await;
    assert_eq!(ready.status(), StatusCode::OK);
    let ready: Value = ready.json().await.unwrap();
    assert_eq!(ready, json!({"ready": true, "reasons": []}));

    let waits = market.coordinator.submit(spec("waits")).await.unwrap();
    let draining = tokio::spawn({
        let coordinator = market.coordinator.clone();
        async move { coordinator.shutdown(Duration::from_secs(30)).await }
    });
    let unready = loop {
        let answer = get(&market, paths::READY).await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(unready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let unready: Value = unready.json().await.unwrap();
    assert_eq!(unready["ready"], false);
    assert_eq!(unready["reasons"][0]["what"], "draining");
    // Alive all the same.
    assert_eq!(get(&market, paths::HEALTH).await.status(), StatusCode::OK);
    waits.cancel().await.unwrap();
    draining.await.unwrap();
}

#[tokio::test]
async fn a_coordinator_with_an_old_view_of_the_chain_is_not_ready_until_it_has_a_new_one() {
    let front = HttpSettings {
        max_chain_age_seconds: 1,
        ..HttpSettings::default()
    };
    let front = Front::new(front, &[]).unwrap();
    let market = Market::with(|_| {}, |coordinator| router_with(coordinator, front)).await;
    // Below the time between two looks at the chain.
    market.clock.advance(Duration::from_secs(3));
    let old = get(&market, paths::READY).await;
    assert_eq!(old.status(), StatusCode::SERVICE_UNAVAILABLE);
    let old: Value = old.json().await.unwrap();
    assert_eq!(
        old["reasons"],
        json!([{"what": "chain", "message": "the chain was read 3 s ago"}])
    );
    let lag = Scrape::of(&market).await;
    assert_eq!(lag.get("cuckoo_chain_lag_seconds"), 3.0);

    market.clock.advance(Duration::from_secs(6));
    let ready = async {
        while get(&market, paths::READY).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    let ready = tokio::time::timeout(Duration::from_secs(20), ready).await;
    ready.expect("the chain is read again");
}

#[tokio::test]
async fn the_dashboard_is_told_what_goes_on() {
    let market = Market::open().await;
    day(&market).await;
    let answer = get(&market, paths::DASHBOARD_STATE).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let state: Value = answer.json().await.unwrap();
    for (field, value) in [
        ("name", json!("cuckoo")),
        ("queued", json!(1)),
        ("running", json!(0)),
        ("completed", json!(1)),
        ("failed", json!(1)),
        ("cancelled", json!(1)),
        (
            "others",
            json!({"miners": 0, "stake_share": 0.0, "task_share": 0.0, "tasks": 0}),
        ),
    ] {
        assert_eq!(state[field], value, "{field}");
    }
    assert_eq!(state["readiness"]["ready"], true);
    assert_eq!(state["models"][0]["model"], "shapes");
    assert_eq!(state["models"][0]["queued"], 1);
    let miners = state["miners"].as_array().unwrap();
    assert_eq!(miners.len(), 2);
    assert_eq!(
        (&miners[0]["name"], &miners[0]["tasks"]),
        (&json!("first"), &json!(1))
    );
    assert_eq!(miners[0]["task_share"], 1.0);
    let sum = |list: &Value| {
        let steps = list.as_array().unwrap().iter();
        steps.map(|step| step.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum(&state["pace"]["completed"]), 1);
    assert_eq!(sum(&state["pace"]["failed"]), 1);
    let picture = state["pictures"][0]["task"].as_str().unwrap();
    let output = get(&market, &format!("/v1/tasks/{picture}/output")).await;
    assert_eq!(output.headers()["content-type"], "image/png");
    let failure = &state["failures"][0];
    assert_eq!(
        (&failure["fault"], &failure["kind"]),
        (&json!("nobody"), &json!("timeout"))
    );
    assert!(
        failure["message"].as_str().unwrap().contains("busy"),
        "{failure}"
    );
    // What was asked for stays between requester and miner.
    assert!(!state.to_string().contains("circle"));
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere() {
    let market = Market::open().await;
    for page in [paths::DASHBOARD, paths::DOCS] {
        let answer = get(&market, page).await;
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains("http"),
            "{policy}"
        );
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let html = answer.text().await.unwrap();
        assert!(!html.contains("://") && !html.contains(" style="), "{page}");
        let named = html.split('"').filter(|text| text.starts_with("assets/"));
        let named: Vec<_> = named.collect();
        assert_eq!(named.len(), 3, "{named:?}");
        for asset in named {
            let answer = get(&market, &format!("/{asset}")).await;
            assert_eq!(answer.status(), StatusCode::OK, "{asset}");
            let kind = if asset.ends_with(".css") {
                "text/css"
            } else {
                "text/javascript"
            };
            let got = answer.headers()["content-type"].to_str().unwrap();
            assert!(got.starts_with(kind), "{asset}: {got}");
        }
    }
    let unknown = get(&market, "/assets/other.js").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}
