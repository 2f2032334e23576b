//! Chats, completions and embeddings for OpenAI's clients, whole and as they are made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_core::paths;
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::openai::{LETTERS, PICTURES, Shop, TALK, TELL, answer, problem};
use crate::requests::until;

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// Events that are JSON, after a check that `[DONE]` is the last.
fn chunks(mut events: Vec<String>) -> Vec<Value> {
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let read = |event: &String| serde_json::from_str(event).unwrap();
    events.iter().map(read).collect()
}

#[tokio::test]
async fn a_chat_is_answered_and_counted() {
    let shop = Shop::open().await;
    let body = json!({
        "model": TALK, "seed": 7, "n": 2, "store": false, "metadata": {"a": "b"}, "tools": [],
        "response_format": {"type": "text"},
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}], "name": null},
            {"role": "assistant", "content": "yes", "refusal": null, "tool_calls": []},
            {"role": "user", "content": "go"},
        ],
    });
    let said = shop.answer(paths::CHAT, body).await;
    assert_eq!(said["object"], "chat.completion");
    assert_eq!(said["model"], TALK);
    assert!(said["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(
        said["system_fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("fp_")
    );
    let backwards = "go user: yes assistant: two one user: brief be system: ";
    for (index, seed) in [(0, 7), (1, 8)] {
        let choice = &said["choices"][index];
        assert_eq!(choice["index"], index);
        let message =
            json!({"role": "assistant", "content": format!("{backwards}{seed} "), "refusal": null});
        assert_eq!(choice["message"], message);
        assert_eq!(choice["finish_reason"], "stop");
        assert_eq!(choice["logprobs"], Value::Null);
    }
    // The prompt counts once.
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 22, "total_tokens": 32});
    assert_eq!(said["usage"], usage);
}

#[tokio::test]
async fn a_chat_is_streamed_as_it_is_made() {
    let shop = Shop::open().await;
    let body = json!({
        "model": TALK, "seed": 7, "n": 2, "stream": true, "stream_options": {"include_usage": true},
        "messages": user("one two three"),
    });
    let chunks = chunks(shop.events(paths::CHAT, body.clone()).await);
    let (last, parts) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    let usage = json!({"prompt_tokens": 4, "completion_tokens": 10, "total_tokens": 14});
    assert_eq!(last["usage"], usage);
    for (index, seed) in [(0, 7), (1, 8)] {
        let of = |part: &&Value| part["choices"][0]["index"] == index;
        let mine: Vec<_> = parts.iter().filter(of).collect();
        assert_eq!(mine.len(), 7);
        assert_eq!(mine[0]["choices"][0]["delta"]["role"], "assistant");
        let text: String = mine
            .iter()
            .filter_map(|part| part["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, format!("three two one user: {seed} "));
        assert_eq!(mine[6]["choices"][0]["finish_reason"], "stop");
        assert_eq!(mine[6]["choices"][0]["delta"], json!({}));
        for part in mine {
            assert_eq!(part["id"], last["id"]);
            assert_eq!(part["object"], "chat.completion.chunk");
            assert_eq!(part["usage"], Value::Null);
        }
    }
    let mut bare = body;
    bare["stream_options"] = Value::Null;
    let events = shop.events(paths::CHAT, bare).await;
    assert!(events.iter().all(|event| !event.contains("usage")));
}

#[tokio::test]
async fn a_text_ends_where_it_is_told_to() {
    let shop = Shop::open().await;
    let body = |fields: Value| {
        let mut body = json!({"model": TALK, "messages": user("one two three four")});
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        body
    };
    for (fields, text, reason) in [
        (json!({"stop": "two"}), "four three ", "stop"),
        (json!({"stop": ["x", "three"]}), "four ", "stop"),
        (json!({"max_tokens": 1}), "four ", "length"),
        (
            json!({"max_completion_tokens": 2, "stop": null}),
            "four three ",
            "length",
        ),
    ] {
        let said = shop.answer(paths::CHAT, body(fields.clone())).await;
        let choice = &said["choices"][0];
        assert_eq!(choice["message"]["content"], text, "{fields}");
        assert_eq!(choice["finish_reason"], reason, "{fields}");
    }
    let body = body(json!({"max_tokens": 1, "stream": true}));
    let chunks = chunks(shop.events(paths::CHAT, body).await);
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn log_probabilities_come_where_they_are_asked_for() {
    let shop = Shop::open().await;
    let body = json!({
        "model": TALK, "messages": user("one"), "logprobs": true, "top_logprobs": 1, "max_tokens": 1,
    });
    let said = shop.answer(paths::CHAT, body.clone()).await;
    let likely = json!({"token": "one ", "logprob": -0.5, "bytes": b"one "});
    let mut token = likely.clone();
    token["top_logprobs"] = json!([likely]);
    let logprobs = json!({"content": [token], "refusal": null});
    assert_eq!(said["choices"][0]["logprobs"], logprobs);
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let chunks = chunks(shop.events(paths::CHAT, streamed).await);
    assert_eq!(chunks[1]["choices"][0]["logprobs"], logprobs);

    let body = json!({"model": TELL, "prompt": "one two", "logprobs": 1, "max_tokens": 2});
    let told = shop.answer(paths::COMPLETIONS, body.clone()).await;
    let logprobs = json!({
        "tokens": ["two ", "one "], "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"two ": -0.5}, {"one ": -0.5}], "text_offset": [0, 4],
    });
    assert_eq!(told["choices"][0]["logprobs"], logprobs);
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let chunks = self::chunks(shop.events(paths::COMPLETIONS, streamed).await);
    assert_eq!(
        chunks[1]["choices"][0]["logprobs"]["text_offset"],
        json!([4])
    );
}

#[tokio::test]
async fn several_prompts_are_completed_at_once() {
    let shop = Shop::open().await;
    let body = json!({
        "model": TELL, "prompt": ["one two", "three"], "n": 2, "seed": 1, "best_of": 2, "echo": false, "suffix": null,
    });
    let told = shop.answer(paths::COMPLETIONS, body.clone()).await;
    assert_eq!(told["object"], "text_completion");
    assert!(told["id"].as_str().unwrap().starts_with("cmpl-"));
    let expected = ["two one 1 ", "two one 2 ", "three 3 ", "three 4 "];
    for (index, text) in expected.into_iter().enumerate() {
        let choice =
            json!({"index": index, "text": text, "logprobs": null, "finish_reason": "stop"});
        assert_eq!(told["choices"][index], choice);
    }
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 13});
    assert_eq!(told["usage"], usage);

    let mut streamed = body;
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let chunks = chunks(shop.events(paths::COMPLETIONS, streamed).await);
    assert_eq!(chunks.last().unwrap()["usage"], usage);
    let of_last = |chunk: &&Value| chunk["choices"][0]["index"] == 3;
    let text = chunks.iter().filter(of_last);
    let text = text.map(|chunk| chunk["choices"][0]["text"].as_str().unwrap());
    assert_eq!(text.collect::<String>(), "three 4 ");
}

#[tokio::test]
async fn who_hangs_up_in_the_middle_of_a_stream_cancels_it() {
    let shop = Shop::open().await;
    let body = json!({"model": TALK, "stream": true, "messages": user("wait one")});
    let response = shop.post(paths::CHAT, &body).send().await.unwrap();
    let mut bytes = response.bytes_stream();
    let mut text = String::new();
    while !text.contains("one ") {
        text.push_str(std::str::from_utf8(&bytes.next().await.unwrap().unwrap()).unwrap());
    }
    assert_eq!(shop.market.coordinator.status().running, 1);
    drop(bytes);
    until(|| shop.market.coordinator.status().cancelled == 1).await;
    until(|| shop.miner().status().running == 0).await;
}

#[tokio::test]
async fn what_fails_before_a_word_has_a_status_and_what_fails_later_an_event() {
    let shop = Shop::open().await;
    let ask = |text: &str| json!({"model": TALK, "stream": true, "n": 2, "messages": user(text)});
    let response = shop
        .post(paths::CHAT, &ask("nonsense"))
        .send()
        .await
        .unwrap();
    let refused = problem(response, 400).await;
    assert_eq!(refused["type"], "invalid_request_error");

    let events = shop.events(paths::CHAT, ask("break one")).await;
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["type"], "server_error", "{last}");
    assert!(
        last["error"]["message"]
            .as_str()
            .unwrap()
            .contains("lost for words")
    );
    assert!(events.iter().any(|event| event.contains("one ")));
}

#[tokio::test]
async fn texts_are_embedded_in_their_order() {
    let shop = Shop::open().await;
    let texts = json!(["abba", "a b c"]);
    let body = json!({"model": LETTERS, "input": texts, "user": "me"});
    let list = shop.answer(paths::EMBEDDINGS, body.clone()).await;
    assert_eq!(
        (&list["object"], &list["model"]),
        (&json!("list"), &json!(LETTERS))
    );
    assert_eq!(
        list["usage"],
        json!({"prompt_tokens": 4, "total_tokens": 4})
    );
    let vector = list["data"][1]["embedding"].as_array().unwrap();
    assert_eq!(
        (vector.len(), list["data"][1]["index"].as_u64()),
        (26, Some(1))
    );
    assert_eq!(
        list["data"][0]["embedding"].as_array().unwrap()[..3],
        [2.0, 2.0, 0.0].map(Value::from)
    );

    let mut packed = body;
    packed["encoding_format"] = json!("base64");
    let again = shop.answer(paths::EMBEDDINGS, packed).await;
    let bytes = STANDARD
        .decode(again["data"][1]["embedding"].as_str().unwrap())
        .unwrap();
    let (numbers, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    let numbers: Vec<_> = numbers
        .iter()
        .map(|number| json!(f32::from_le_bytes(*number)))
        .collect();
    assert_eq!(&numbers, vector);
    let one = shop
        .answer(
            paths::EMBEDDINGS,
            json!({"model": LETTERS, "input": "abba"}),
        )
        .await;
    assert_eq!(one["data"].as_array().unwrap().len(), 1);
    assert_eq!(one["data"][0], list["data"][0]);
}

#[tokio::test]
async fn models_are_listed_with_their_kinds() {
    let shop = Shop::open().await;
    let get = async |path: &str| shop.market.call(Method::GET, path).send().await.unwrap();
    let list = answer(get(paths::MODELS).await).await;
    let kinds: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["kind"])
        .collect();
    assert_eq!(
        json!(kinds),
        json!(["custom", "image", "chat", "completion", "embeddings"])
    );
    let one = answer(get(&format!("/v1/models/{}", PICTURES.replace('/', "%2F"))).await).await;
    assert_eq!(one, list["data"][1]);
    assert_eq!(one["id"], PICTURES);
    assert_eq!(
        (&one["object"], &one["owned_by"]),
        (&json!("model"), &json!("cuckoo"))
    );
    assert_eq!(one["price"], "1");
    let unknown = problem(get("/v1/models/gpt-9").await, 404).await;
    assert_eq!(unknown["code"], "model_not_found");
}
