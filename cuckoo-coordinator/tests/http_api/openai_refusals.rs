//! What OpenAI's clients are told when they cannot have what they ask for.

use cuckoo_coordinator::{ApiKeySettings, Front, HttpSettings, new_api_key, router_with};
use cuckoo_core::{SeededEntropy, paths};
use reqwest::Method;
use serde_json::{Value, json};

use crate::openai::{LETTERS, PICTURES, Shop, TALK, TELL, answer, problem};

/// A request that would succeed, with `fields` in place of its own.
fn request(path: &str, fields: Value) -> Value {
    let mut body = match path {
        paths::IMAGES => json!({"model": PICTURES, "prompt": "a"}),
        paths::CHAT => json!({"model": TALK, "messages": [{"role": "user", "content": "a"}]}),
        paths::COMPLETIONS => json!({"model": TELL, "prompt": "a"}),
        _ => json!({"model": LETTERS, "input": "a"}),
    };
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[tokio::test]
async fn what_cannot_be_honoured_is_refused_by_name() {
    let shop = Shop::open().await;
    let message = |message: Value| json!({"messages": [message]});
    for (path, fields, param) in [
        (paths::IMAGES, json!({"prompt": null}), "prompt"),
        (paths::IMAGES, json!({"prompt": 5}), "prompt"),
        (paths::IMAGES, json!({"n": 0}), "n"),
        (paths::IMAGES, json!({"n": 11}), "n"),
        (paths::IMAGES, json!({"n": -1}), "n"),
        (paths::IMAGES, json!({"n": "two"}), "n"),
        (paths::IMAGES, json!({"size": "huge"}), "size"),
        (paths::IMAGES, json!({"size": "8x-8"}), "size"),
        (paths::IMAGES, json!({"size": "99999999999x8"}), "size"),
        (paths::IMAGES, json!({"seed": -1}), "seed"),
        (
            paths::IMAGES,
            json!({"response_format": "jpeg"}),
            "response_format",
        ),
        (
            paths::IMAGES,
            json!({"output_format": "webp"}),
            "output_format",
        ),
        (paths::IMAGES, json!({"quality": "hd"}), "quality"),
        (paths::IMAGES, json!({"style": "vivid"}), "style"),
        (
            paths::IMAGES,
            json!({"background": "transparent"}),
            "background",
        ),
        (paths::IMAGES, json!({"stream": true}), "stream"),
        (paths::IMAGES, json!({"clip_skip": 2}), "clip_skip"),
        (paths::CHAT, json!({"messages": []}), "messages"),
        (paths::CHAT, json!({"messages": "hello"}), "messages"),
        (
            paths::CHAT,
            json!({"messages": [{"content": "a"}]}),
            "messages",
        ),
        (
            paths::CHAT,
            message(json!({"role": "tool", "content": "a"})),
            "messages[0].role",
        ),
        (
            paths::CHAT,
            message(json!({"role": "user"})),
            "messages[0].content",
        ),
        (
            paths::CHAT,
            message(json!({"role": "user", "content": "a", "name": "b"})),
            "messages[0].name",
        ),
        (
            paths::CHAT,
            message(
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}),
            ),
            "messages[0].content[0].type",
        ),
        (paths::CHAT, json!({"temperature": 3}), "temperature"),
        (paths::CHAT, json!({"temperature": "hot"}), "temperature"),
        (paths::CHAT, json!({"top_p": 1.5}), "top_p"),
        (paths::CHAT, json!({"max_tokens": 0}), "max_tokens"),
        (
            paths::CHAT,
            json!({"max_completion_tokens": 0}),
            "max_completion_tokens",
        ),
        (
            paths::CHAT,
            json!({"stop": ["1", "2", "3", "4", "5"]}),
            "stop",
        ),
        (paths::CHAT, json!({"stop": 5}), "stop"),
        (paths::CHAT, json!({"top_logprobs": 3}), "top_logprobs"),
        (
            paths::CHAT,
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
        ),
        (
            paths::CHAT,
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (
            paths::CHAT,
            json!({"stream": true, "stream_options": {"all": true}}),
            "stream_options",
        ),
        (paths::CHAT, json!({"store": true}), "store"),
        (
            paths::CHAT,
            json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
            "tools",
        ),
        (
            paths::CHAT,
            json!({"tool_choice": "required"}),
            "tool_choice",
        ),
        (
            paths::CHAT,
            json!({"response_format": {"type": "grammar", "grammar": "a"}}),
            "response_format",
        ),
        (
            paths::CHAT,
            json!({"response_format": {"type": "json_schema"}}),
            "response_format",
        ),
        (
            paths::CHAT,
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}),
            "response_format.json_schema.schema",
        ),
        (
            paths::CHAT,
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}}),
            "response_format.json_schema.name",
        ),
        (
            paths::CHAT,
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": [1]}}}),
            "response_format",
        ),
        (
            paths::CHAT,
            json!({"logit_bias": {"50256": -100}}),
            "logit_bias",
        ),
        (
            paths::CHAT,
            json!({"reasoning_effort": "high"}),
            "reasoning_effort",
        ),
        (paths::CHAT, json!({"audio": {"voice": "a"}}), "audio"),
        (paths::CHAT, json!({"top_k": 5}), "top_k"),
        (paths::COMPLETIONS, json!({"prompt": []}), "prompt"),
        (paths::COMPLETIONS, json!({"prompt": [1, 2, 3]}), "prompt"),
        (
            paths::COMPLETIONS,
            json!({"prompt": ["a", "b"], "n": 6}),
            "n",
        ),
        (paths::COMPLETIONS, json!({"echo": true}), "echo"),
        (paths::COMPLETIONS, json!({"suffix": "b"}), "suffix"),
        (paths::COMPLETIONS, json!({"best_of": 3}), "best_of"),
        (paths::COMPLETIONS, json!({"logprobs": 21}), "logprobs"),
        (paths::EMBEDDINGS, json!({"input": []}), "input"),
        (paths::EMBEDDINGS, json!({"input": ["a", ""]}), "input[1]"),
        (paths::EMBEDDINGS, json!({"input": [1, 2]}), "input"),
        (
            paths::EMBEDDINGS,
            json!({"input": vec!["a"; 2_049]}),
            "input",
        ),
        (paths::EMBEDDINGS, json!({"dimensions": 16}), "dimensions"),
        (
            paths::EMBEDDINGS,
            json!({"encoding_format": "int8"}),
            "encoding_format",
        ),
        (paths::EMBEDDINGS, json!({"model": null}), "model"),
    ] {
        let body = request(path, fields.clone());
        let response = shop.post(path, &body).send().await.unwrap();
        let problem = problem(response, 400).await;
        assert_eq!(problem["param"], param, "{path} {fields}: {problem}");
        assert_eq!(problem["type"], "invalid_request_error");
    }
    let status = shop.market.coordinator.status();
    assert_eq!((status.queued, status.completed, status.failed), (0, 0, 0));
    for path in [
        paths::IMAGES,
        paths::CHAT,
        paths::COMPLETIONS,
        paths::EMBEDDINGS,
    ] {
        shop.answer(path, request(path, json!({"user": "me"})))
            .await;
    }
}

#[tokio::test]
async fn a_model_is_asked_only_for_what_it_is() {
    let shop = Shop::open().await;
    let body = request(paths::CHAT, json!({"model": PICTURES}));
    let wrong = problem(shop.post(paths::CHAT, &body).send().await.unwrap(), 400).await;
    let message = wrong["message"].as_str().unwrap();
    assert!(
        message.contains("an image model") && message.contains(TALK),
        "{message}"
    );
    assert_eq!(wrong["param"], "model");
    let body = request(paths::IMAGES, json!({"model": "shapes"}));
    let custom = problem(shop.post(paths::IMAGES, &body).send().await.unwrap(), 400).await;
    assert!(
        custom["message"]
            .as_str()
            .unwrap()
            .contains("a custom model")
    );
    let body = request(paths::IMAGES, json!({"model": "gpt-9"}));
    let unknown = problem(shop.post(paths::IMAGES, &body).send().await.unwrap(), 404).await;
    assert_eq!(
        (&unknown["code"], &unknown["param"]),
        (&json!("model_not_found"), &json!("model"))
    );
    assert!(unknown["message"].as_str().unwrap().contains(PICTURES));
    // What only the miner can know is refused all the same.
    let body = request(paths::IMAGES, json!({"size": "128x8"}));
    let large = problem(shop.post(paths::IMAGES, &body).send().await.unwrap(), 400).await;
    assert!(large["message"].as_str().unwrap().contains("at most 64"));
}

#[tokio::test]
async fn bodies_methods_and_keys_are_refused_in_the_same_form() {
    let shop = Shop::open().await;
    for path in [
        paths::IMAGES,
        paths::CHAT,
        paths::COMPLETIONS,
        paths::EMBEDDINGS,
    ] {
        let call = || shop.market.call(Method::POST, path);
        for body in ["", "{", "[]", "null", "{} {}"] {
            let typed = call().header("content-type", "application/json");
            problem(typed.body(body).send().await.unwrap(), 400).await;
        }
        problem(call().body("{}").send().await.unwrap(), 415).await;
        let long = call().json(&json!({"prompt": "a".repeat(100_000)}));
        problem(long.send().await.unwrap(), 413).await;
        let get = shop.market.call(Method::GET, path).send().await.unwrap();
        assert_eq!(get.headers()["allow"], "POST");
        problem(get, 405).await;
        let keyed = call()
            .json(&request(path, json!({})))
            .header("idempotency-key", "a b");
        problem(keyed.send().await.unwrap(), 400).await;
    }
    let long = request(paths::IMAGES, json!({"prompt": "a".repeat(2_000)}));
    let long = problem(shop.post(paths::IMAGES, &long).send().await.unwrap(), 400).await;
    assert!(long["message"].as_str().unwrap().contains("at most 1024"));
}

#[tokio::test]
async fn keys_and_limits_are_those_of_every_request() {
    let entropy = SeededEntropy::from_number(1);
    let (app, slow) = (new_api_key(&entropy), new_api_key(&entropy));
    let keys = [
        ApiKeySettings {
            key_hash: Some(app.hash()),
            max_tasks_per_day: Some(2),
            ..ApiKeySettings::named("app")
        },
        ApiKeySettings {
            key_hash: Some(slow.hash()),
            requests_per_second: Some(0.001),
            burst: Some(1),
            ..ApiKeySettings::named("slow")
        },
    ];
    let front = Front::new(HttpSettings::default(), &keys).unwrap();
    let shop = Shop::with(|_| {}, |coordinator| router_with(coordinator, front)).await;
    let body = request(paths::CHAT, json!({"n": 2}));
    let ask = || shop.post(paths::CHAT, &body);
    let keyless = ask().send().await.unwrap();
    assert_eq!(keyless.headers()["www-authenticate"], "Bearer");
    let keyless = problem(keyless, 401).await;
    assert_eq!(keyless["code"], "invalid_api_key");
    let guessed = ask().bearer_auth("sk-made-up").send().await.unwrap();
    let guessed = problem(guessed, 401).await;
    assert!(!guessed.to_string().contains("made-up"));

    answer(ask().bearer_auth(app.expose()).send().await.unwrap()).await;
    let spent = ask().bearer_auth(app.expose()).send().await.unwrap();
    assert!(spent.headers().contains_key("retry-after"));
    let spent = problem(spent, 429).await;
    assert_eq!(spent["code"], "insufficient_quota");

    answer(ask().bearer_auth(slow.expose()).send().await.unwrap()).await;
    let fast = ask().bearer_auth(slow.expose()).send().await.unwrap();
    let fast = problem(fast, 429).await;
    assert_eq!(fast["code"], "rate_limit_exceeded");
}
