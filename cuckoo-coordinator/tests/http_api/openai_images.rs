//! Pictures for OpenAI's clients: in the answer, by link, several at once, given up.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_coordinator::{ApiKeySettings, Front, HttpSettings, new_api_key, router_with};
use cuckoo_core::{SeededEntropy, paths};
use reqwest::Method;
use serde_json::{Value, json};

use crate::openai::{PICTURES, Shop, answer, problem};
use crate::requests::{client, until};

/// Width, height and first pixel of a PNG.
fn seen(bytes: &[u8]) -> (u32, u32, u8) {
    let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels[0])
}

fn decoded(picture: &Value) -> (u32, u32, u8) {
    let text = picture["b64_json"].as_str().unwrap();
    seen(&STANDARD.decode(text).unwrap())
}

#[tokio::test]
async fn pictures_come_in_the_answer_with_the_seeds_asked_for() {
    let shop = Shop::open().await;
    let body = json!({
        "model": PICTURES, "prompt": "a red circle", "n": 3, "seed": 7, "size": "16x12",
        "response_format": "b64_json", "user": "me", "quality": "auto", "output_format": "png", "style": null,
    });
    let made = shop.answer(paths::IMAGES, body).await;
    let seen: Vec<_> = made["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(decoded)
        .collect();
    assert_eq!(seen, [(16, 12, 7), (16, 12, 8), (16, 12, 9)]);
    assert!(made["created"].as_u64().unwrap() >= 1_800_000_000);
    assert_eq!(made["output_format"], "png");
    // Each is an ordinary task.
    let task = made["data"][1]["task"].as_str().unwrap();
    let path = paths::TASK.replace("{id}", task);
    let view = answer(shop.market.call(Method::GET, &path).send().await.unwrap()).await;
    assert_eq!(view["state"], "completed");
    assert_eq!(shop.miner().status().completed, 3);

    let body =
        json!({"model": PICTURES, "prompt": "x", "response_format": "b64_json", "size": "auto"});
    let made = shop.answer(paths::IMAGES, body).await;
    let (width, height, _) = decoded(&made["data"][0]);
    assert_eq!((width, height), (8, 8));
}

#[tokio::test]
async fn a_link_needs_no_key_for_an_hour() {
    let key = new_api_key(&SeededEntropy::from_number(1));
    let settings = [ApiKeySettings {
        key_hash: Some(key.hash()),
        ..ApiKeySettings::named("app")
    }];
    let front = Front::new(HttpSettings::default(), &settings).unwrap();
    let shop = Shop::with(
        |settings| settings.retention_millis *= 3,
        |coordinator| router_with(coordinator, front),
    )
    .await;
    let body = json!({"model": PICTURES, "prompt": "a red circle", "seed": 5});
    let request = shop.post(paths::IMAGES, &body).bearer_auth(key.expose());
    let made = answer(request.send().await.unwrap()).await;
    let url = made["data"][0]["url"].as_str().unwrap();
    assert!(url.starts_with(&shop.market.url), "{url}");
    assert_eq!(made["data"][0].get("b64_json"), None);
    let get = async |url: &str| client().get(url).send().await.unwrap();
    let picture = get(url).await;
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert_eq!(seen(&picture.bytes().await.unwrap()).2, 5);

    let bare = url.split_once('?').unwrap().0;
    assert_eq!(get(bare).await.status(), 401);
    let (start, signature) = url.split_once("&signature=").unwrap();
    assert_eq!(get(start).await.status(), 401);
    for forged in [
        format!("{start}&signature="),
        format!("{start}&signature=AAAA"),
        format!("{bare}?expires=9999999999&signature={signature}"),
        format!("{bare}?signature={signature}"),
        url.replace("/output", "/events"),
    ] {
        let status = get(&forged).await.status();
        assert!([401, 403].contains(&status.as_u16()), "{forged}: {status}");
    }
    shop.market.clock.advance(Duration::from_secs(3_601));
    let late = get(url).await;
    assert_eq!(late.status(), 403);
    assert!(late.text().await.unwrap().contains("expired"));
    let owner = client().get(bare).bearer_auth(key.expose());
    assert_eq!(owner.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn links_begin_as_the_operator_says() {
    let http = HttpSettings {
        public_url: Some("https://pictures.example.org/api/".into()),
        ..HttpSettings::default()
    };
    let front = Front::new(http, &[]).unwrap();
    let shop = Shop::with(|_| {}, |coordinator| router_with(coordinator, front)).await;
    let body = json!({"model": PICTURES, "prompt": "a red circle"});
    let made = shop.answer(paths::IMAGES, body).await;
    let url = made["data"][0]["url"].as_str().unwrap();
    assert!(
        url.starts_with("https://pictures.example.org/api/v1/tasks/0x"),
        "{url}"
    );
    for odd in [
        "pictures.example.org",
        "ftp://example.org",
        "https://example.org/?a=b",
    ] {
        let http = HttpSettings {
            public_url: Some(odd.into()),
            ..HttpSettings::default()
        };
        let error = Front::new(http, &[]).unwrap_err();
        assert!(error.message().contains("public_url"), "{odd}: {error}");
    }
}

#[tokio::test]
async fn when_one_picture_fails_the_others_are_given_up() {
    let shop = Shop::open().await;
    let body = json!({"model": PICTURES, "prompt": "slow", "n": 3, "seed": 12});
    let response = shop.post(paths::IMAGES, &body).send().await.unwrap();
    assert_eq!(response.headers()["x-should-retry"], "false");
    let problem = problem(response, 500).await;
    assert_eq!(problem["type"], "server_error");
    assert!(
        problem["message"]
            .as_str()
            .unwrap()
            .contains("out of paint")
    );
    until(|| shop.market.coordinator.status().cancelled == 2).await;
    assert_eq!(shop.market.coordinator.status().failed, 1);
}

#[tokio::test]
async fn what_nobody_waits_for_is_cancelled_unless_it_may_be_asked_for_again() {
    let shop = Shop::open().await;
    let status = || shop.market.coordinator.status();
    let body = json!({"model": PICTURES, "prompt": "slow", "n": 3});
    let request = shop.post(paths::IMAGES, &body);
    let waiting = tokio::spawn(request.send());
    until(|| status().running == 3).await;
    waiting.abort();
    until(|| status().cancelled == 3).await;
    until(|| shop.miner().status().running == 0).await;

    let keyed = || {
        shop.post(paths::IMAGES, &body)
            .header("idempotency-key", "order-7")
            .send()
    };
    let waiting = tokio::spawn(keyed());
    until(|| status().running == 3).await;
    waiting.abort();
    let again = tokio::spawn(keyed());
    tokio::task::yield_now().await;
    assert_eq!((status().running, status().cancelled), (3, 3));
    again.abort();
    // The same key for something else.
    let other = json!({"model": PICTURES, "prompt": "another", "n": 3});
    let other = shop.post(paths::IMAGES, &other);
    let other = other.header("idempotency-key", "order-7").send().await;
    problem(other.unwrap(), 409).await;
}

#[tokio::test]
async fn the_same_key_gives_the_same_pictures() {
    let shop = Shop::open().await;
    let ask = async || {
        let body = json!({"model": PICTURES, "prompt": "a", "n": 2, "response_format": "b64_json"});
        let request = shop.post(paths::IMAGES, &body);
        answer(
            request
                .header("idempotency-key", "order-8")
                .send()
                .await
                .unwrap(),
        )
        .await
    };
    let (first, second) = (ask().await, ask().await);
    assert_eq!(first["data"], second["data"]);
    assert_ne!(first["data"][0]["task"], first["data"][1]["task"]);
    assert_eq!(shop.miner().status().completed, 2);
}

#[tokio::test]
async fn what_is_no_png_is_not_passed_for_one() {
    let shop = Shop::open().await;
    let body = json!({"model": PICTURES, "prompt": "vector art"});
    let response = shop.post(paths::IMAGES, &body).send().await.unwrap();
    let problem = problem(response, 500).await;
    assert!(
        problem["message"]
            .as_str()
            .unwrap()
            .contains("image/svg+xml")
    );
}
