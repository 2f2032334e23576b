//! Who may call, how fast, and from which pages.

use cuckoo_coordinator::{ApiKeySettings, Front, HttpSettings, new_api_key, router_with};
use cuckoo_core::{
    ErrorBody, ErrorKind, Retry, SeededEntropy, SessionToken, Signed, TaskProtocol, paths,
};
use cuckoo_miner::HttpCoordinator;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::market::{Market, spec};
use crate::openai::problem;
use crate::requests::{client, refused};

/// Keys of an app, of an app that may send three requests, and of an operator.
struct Keys {
    app: SessionToken,
    slow: SessionToken,
    operator: SessionToken,
}

impl Keys {
    fn new() -> Self {
        let entropy = SeededEntropy::from_number(1);
        Self {
            app: new_api_key(&entropy),
            slow: new_api_key(&entropy),
            operator: new_api_key(&entropy),
        }
    }

    fn settings(&self) -> [ApiKeySettings; 3] {
        let key = |name: &str, key: &SessionToken| ApiKeySettings {
            key_hash: Some(key.hash()),
            ..ApiKeySettings::named(name)
        };
        [
            key("app", &self.app),
            ApiKeySettings {
                // One more after a quarter of an hour: no test is that slow.
                requests_per_second: Some(0.001),
                burst: Some(3),
                ..key("slow", &self.slow)
            },
            ApiKeySettings {
                operator: true,
                ..key("ops", &self.operator)
            },
        ]
    }

    async fn market(&self) -> Market {
        let front = Front::new(HttpSettings::default(), &self.settings()).unwrap();
        Market::with(|_| {}, |coordinator| router_with(coordinator, front)).await
    }
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

#[tokio::test]
async fn requesters_show_a_key_where_there_are_some() {
    let keys = Keys::new();
    let market = keys.market().await;
    let submit = || {
        market
            .call(Method::POST, paths::TASKS)
            .json(&json!(spec("a")))
    };
    let guess = new_api_key(&SeededEntropy::from_number(2));
    let unknown = send(submit().bearer_auth(guess.expose())).await;
    assert_eq!(unknown.headers()["www-authenticate"], "Bearer");
    refused(unknown, 401, ErrorKind::Unauthorized).await;
    for malformed in ["Basic YTpi", "Bearer", "bearer ", keys.app.expose()] {
        let malformed = submit().header("authorization", malformed);
        refused(send(malformed).await, 401, ErrorKind::Unauthorized).await;
    }
    for key in [&keys.app, &keys.slow, &keys.operator] {
        let accepted = send(submit().bearer_auth(key.expose())).await;
        assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn every_route_of_requesters_asks_for_a_key_and_no_other_does() {
    let keys = Keys::new();
    let market = keys.market().await;
    let document: Value = send(market.call(Method::GET, paths::OPENAPI))
        .await
        .json()
        .await
        .unwrap();
    let mut asked = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let path = path.replace("{id}", &format!("0x{}", "0".repeat(64)));
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = send(market.call(method.clone(), &path)).await;
            let secured = |name: &str| {
                let security = operation["security"].as_array();
                security.is_some_and(|all| all.iter().any(|one| !one[name].is_null()))
            };
            let operators = [paths::METRICS, paths::DASHBOARD_STATE].contains(&path.as_str());
            if path.starts_with("/v1/") || operators {
                assert!(secured("requester"), "{method} {path} is open to all");
                let message = if operation["tags"] == json!(["openai"]) {
                    problem(answer, 401).await["message"].to_string()
                } else {
                    refused(answer, 401, ErrorKind::Unauthorized).await.message
                };
                assert!(message.contains("API key"), "{message}");
                asked.push(path);
            } else if !secured("session") {
                assert!(!secured("requester"), "{method} {path}");
                assert_ne!(answer.status(), 401, "{method} {path}");
            }
        }
    }
    assert!(asked.len() >= 6, "{asked:?}");
}

#[tokio::test]
async fn what_concerns_everybody_is_the_operators() {
    let keys = Keys::new();
    let market = keys.market().await;
    for path in [paths::EVIDENCE, paths::METRICS, paths::DASHBOARD_STATE] {
        let get = |key: &SessionToken| {
            let call = market.call(Method::GET, path);
            send(call.bearer_auth(key.expose()))
        };
        let body = refused(get(&keys.app).await, 403, ErrorKind::Unauthorized).await;
        assert!(body.message.contains("operator"), "{}", body.message);
        assert_eq!(get(&keys.operator).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_key_that_comes_too_fast_learns_when_to_come_back() {
    let keys = Keys::new();
    let market = keys.market().await;
    let status = |key: &SessionToken| {
        let call = market.call(Method::GET, paths::STATUS);
        send(call.bearer_auth(key.expose()))
    };
    for _ in 0..3 {
        assert_eq!(status(&keys.slow).await.status(), StatusCode::OK);
    }
    let answer = status(&keys.slow).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let wait: u64 = header("retry-after").parse().unwrap();
    assert!((1..=1_000).contains(&wait), "{wait}");
    assert_eq!(header("ratelimit"), format!("\"requests\";r=0;t={wait}"));
    assert_eq!(header("ratelimit-policy"), "\"requests\";q=3;w=3000");
    let body = refused(answer, 429, ErrorKind::Rejected).await;
    assert_eq!(body.retry, Retry::Later);
    assert!(
        body.message.contains("at most 3 at once"),
        "{}",
        body.message
    );
    // Others have their own pace.
    assert_eq!(status(&keys.app).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_day_s_limit_says_when_it_renews() {
    let entropy = SeededEntropy::from_number(3);
    let key = new_api_key(&entropy);
    let settings = ApiKeySettings {
        key_hash: Some(key.hash()),
        max_tasks_per_day: Some(1),
        max_priority: Some(2),
        ..ApiKeySettings::named("app")
    };
    let front = Front::new(HttpSettings::default(), &[settings]).unwrap();
    let market = Market::with(|_| {}, |coordinator| router_with(coordinator, front)).await;
    let submit = |priority: i8| {
        let call = market
            .call(Method::POST, paths::TASKS)
            .bearer_auth(key.expose());
        send(call.json(&json!(spec("a").with_priority(priority))))
    };
    let urgent = refused(submit(3).await, 429, ErrorKind::Rejected).await;
    assert_eq!(urgent.retry, Retry::Never);
    assert_eq!(submit(2).await.status(), StatusCode::ACCEPTED);
    let answer = submit(0).await;
    // The market's clock stands at eight in the morning.
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("retry-after"), "57600");
    assert_eq!(header("ratelimit"), "\"tasks-per-day\";r=0;t=57600");
    assert_eq!(header("ratelimit-policy"), "\"tasks-per-day\";q=1;w=86400");
    let body = refused(answer, 429, ErrorKind::Rejected).await;
    assert!(body.message.contains("midnight UTC"), "{}", body.message);
}

#[tokio::test]
async fn tasks_are_their_requesters_own() {
    let keys = Keys::new();
    let market = keys.market().await;
    let call = |method: Method, path: &str, key: &SessionToken| {
        send(market.call(method, path).bearer_auth(key.expose()))
    };
    let submitted = market
        .call(Method::POST, paths::TASKS)
        .bearer_auth(keys.app.expose())
        .json(&json!(spec("a secret")));
    let location = send(submitted).await.headers()["location"]
        .to_str()
        .unwrap()
        .to_owned();
    let output = format!("{location}/output");
    for (method, path) in [
        (Method::GET, location.as_str()),
        (Method::GET, &output),
        (Method::DELETE, &location),
    ] {
        let answer = call(method, path, &keys.slow).await;
        refused(answer, 404, ErrorKind::NotFound).await;
    }
    for (key, seen) in [(&keys.app, 1), (&keys.operator, 1)] {
        let state = call(Method::GET, &location, key).await;
        assert_eq!(state.json::<Value>().await.unwrap()["state"], "queued");
        let list = call(Method::GET, paths::TASKS, key).await;
        let list: Value = list.json().await.unwrap();
        assert_eq!(list["tasks"].as_array().unwrap().len(), seen);
    }
}

/// A front that believes this machine when it says for whom it forwards.
fn behind_a_proxy(settings: HttpSettings) -> Front {
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let settings = HttpSettings {
        trusted_proxies,
        ..settings
    };
    Front::new(settings, &[]).unwrap()
}

#[tokio::test]
async fn addresses_without_keys_are_limited_apart() {
    let front = behind_a_proxy(HttpSettings {
        requests_per_second: 0.001,
        burst: 2,
        ..HttpSettings::default()
    });
    let market = Market::with(|_| {}, |coordinator| router_with(coordinator, front)).await;
    let status = |from: &str| {
        let call = market.call(Method::GET, paths::STATUS);
        send(call.header("x-forwarded-for", from))
    };
    for from in ["203.0.113.7", "1.2.3.4, 203.0.113.7"] {
        assert_eq!(status(from).await.status(), StatusCode::OK);
    }
    refused(status("203.0.113.7").await, 429, ErrorKind::Rejected).await;
    assert_eq!(status("203.0.113.8").await.status(), StatusCode::OK);
    // The server's health is asked often, and costs nothing.
    for _ in 0..5 {
        let health = market.call(Method::GET, paths::HEALTH);
        let answer = send(health.header("x-forwarded-for", "203.0.113.7")).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn this_machine_is_not_limited() {
    let settings = HttpSettings {
        requests_per_second: 0.001,
        burst: 1,
        sessions_per_second: 0.001,
        session_burst: 1,
        ..HttpSettings::default()
    };
    let front = Front::new(settings, &[]).unwrap();
    let market = Market::with(|_| {}, |coordinator| router_with(coordinator, front)).await;
    for _ in 0..5 {
        let answer = send(market.call(Method::GET, paths::STATUS)).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let protocol = HttpCoordinator::new(&market.url).unwrap();
    for _ in 0..3 {
        market.join(&protocol, &market.miners[0]).await;
    }
}

#[tokio::test]
async fn one_address_opens_so_many_sessions() {
    let front = behind_a_proxy(HttpSettings {
        sessions_per_second: 0.001,
        session_burst: 2,
        ..HttpSettings::default()
    });
    let market = Market::with(|_| {}, |coordinator| router_with(coordinator, front)).await;
    let open = |from: &str| {
        let miner = &market.miners[0].operator;
        let request = Signed::sign(market.session(miner), miner, &market.deployment);
        let call = market.call(Method::POST, paths::SESSIONS).json(&request);
        send(call.header("x-forwarded-for", from))
    };
    for _ in 0..2 {
        assert_eq!(open("203.0.113.7").await.status(), StatusCode::OK);
    }
    let body = refused(open("203.0.113.7").await, 429, ErrorKind::Rejected).await;
    assert_eq!(body.retry, Retry::Later);
    let elsewhere = open("203.0.113.8").await;
    assert_eq!(elsewhere.status(), StatusCode::OK);
    // A session that is open is not touched.
    let opened: Value = elsewhere.json().await.unwrap();
    let token = SessionToken::new(opened["token"].as_str().unwrap());
    let protocol = HttpCoordinator::new(&market.url).unwrap();
    protocol.close_session(&token).await.unwrap();
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_and_others_may_not() {
    let app = "https://app.example.org";
    let settings = HttpSettings {
        cors_origins: vec![app.to_owned()],
        ..HttpSettings::default()
    };
    let keys = Keys::new();
    let front = Front::new(settings, &keys.settings()).unwrap();
    let market = Market::with(|_| {}, |coordinator| router_with(coordinator, front)).await;
    let preflight = |origin: &str| {
        let call = market.call(Method::OPTIONS, paths::TASKS);
        let call = call.header("origin", origin.to_owned());
        let call = call.header("access-control-request-method", "POST");
        send(call.header(
            "access-control-request-headers",
            "authorization,content-type",
        ))
    };
    let allowed = preflight(app).await;
    assert_eq!(allowed.status(), StatusCode::OK);
    let headers = allowed.headers();
    assert_eq!(headers["access-control-allow-origin"], app);
    assert_eq!(
        headers["access-control-allow-headers"],
        "authorization,content-type"
    );
    assert!(
        headers["access-control-allow-methods"]
            .to_str()
            .unwrap()
            .contains("POST")
    );
    assert!(!headers.contains_key("access-control-allow-credentials"));
    let other = preflight("https://evil.example.org").await;
    assert!(!other.headers().contains_key("access-control-allow-origin"));

    // The page's script may read refusals, too.
    let call = market
        .call(Method::POST, paths::TASKS)
        .header("origin", app);
    let answer = send(call.json(&json!(spec("a")))).await;
    assert_eq!(answer.headers()["access-control-allow-origin"], app);
    refused(answer, 401, ErrorKind::Unauthorized).await;
}

#[tokio::test]
async fn by_default_no_page_may_call() {
    let market = Market::open().await;
    let call = market.call(Method::OPTIONS, paths::TASKS);
    let call = call.header("origin", "https://app.example.org");
    let answer = send(call.header("access-control-request-method", "POST")).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let _: ErrorBody = answer.json().await.unwrap();
    let simple = client().get(format!("{}{}", market.url, paths::STATUS));
    let answer = send(simple.header("origin", "https://app.example.org")).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}
