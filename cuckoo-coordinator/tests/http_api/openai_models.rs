//! The miner's own models behind the routes of OpenAI's clients: small ones of random weights, and every layer between.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_coordinator::{ModelSettings, Settings, router};
use cuckoo_core::{ModelKind, cai, paths};
use cuckoo_miner::{EmbeddingExecutor, EmbeddingModel, Executor, TextExecutor};
use serde_json::{Value, json};

use crate::market::Market;
use crate::openai::Shop;

const CHAT: &str = "random/qwen3";
const ENCODER: &str = "random/mpnet";

fn folder(name: &str) -> PathBuf {
    let miner = concat!(env!("CARGO_MANIFEST_DIR"), "/../cuckoo-miner/tests/golden");
    PathBuf::from(miner).join(name)
}

async fn shop() -> Shop {
    let settings = |settings: &mut Settings| {
        for (name, kind) in [(CHAT, ModelKind::Chat), (ENCODER, ModelKind::Embeddings)] {
            let model = ModelSettings::new(name.parse().unwrap(), cai(1));
            settings.models.push(model.with_kind(kind));
        }
        // Other tests keep the processor from these models.
        settings.lease_millis = 60_000;
    };
    let executors = |market: &Market| -> Vec<Arc<dyn Executor>> {
        let chat = TextExecutor::load(folder("language/qwen3"), CHAT.parse().unwrap());
        let encoder = EmbeddingExecutor::load(folder("embedding/mpnet"), ENCODER.parse().unwrap());
        vec![
            Arc::new(chat.unwrap().with_clock(market.clock.clone())),
            Arc::new(encoder.unwrap().with_clock(market.clock.clone())),
        ]
    };
    Shop::stocked(settings, router, executors).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_embeds_what_clients_send() {
    let shop = shop().await;
    let texts = [
        "the cuckoo sings at noon",
        "",
        "日本 🦜",
        "the cuckoo sings at noon",
    ];
    let refused = json!({"model": ENCODER, "input": texts});
    let refused = shop.post(paths::EMBEDDINGS, &refused).send().await.unwrap();
    assert_eq!(refused.status(), 400, "one of them is empty");

    let texts = [texts[0], texts[2], texts[3]];
    let model = EmbeddingModel::load(&folder("embedding/mpnet")).unwrap();
    let expected = model.embed(&texts).unwrap();
    let tokens: usize = texts
        .iter()
        .map(|text| model.tokens(text).unwrap().len())
        .sum();
    let body = json!({"model": ENCODER, "input": texts});
    let list = shop.answer(paths::EMBEDDINGS, body.clone()).await;
    assert_eq!(list["usage"]["prompt_tokens"], tokens);
    assert_eq!(list["model"], ENCODER);
    let mut packed = body;
    packed["encoding_format"] = json!("base64");
    let packed = shop.answer(paths::EMBEDDINGS, packed).await;
    for (i, expected) in expected.iter().enumerate() {
        let vector: Vec<f32> =
            serde_json::from_value(list["data"][i]["embedding"].clone()).unwrap();
        assert_eq!(&vector, expected);
        let bytes = STANDARD.decode(packed["data"][i]["embedding"].as_str().unwrap());
        let expected: Vec<u8> = expected.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(bytes.unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_streams_what_it_says_whole() {
    let shop = shop().await;
    let mut body = json!({
        "model": CHAT, "messages": [{"role": "user", "content": "Sing!"}], "max_tokens": 24, "seed": 7,
    });
    let whole = shop.answer(paths::CHAT, body.clone()).await;
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let mut events = shop.events(paths::CHAT, body).await;
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let said: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, text);
    assert!(chunks.len() > 4, "in more than one piece");
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(usage, &whole["usage"]);
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 10);
    let reasons: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str())
        .collect();
    assert_eq!(
        reasons,
        [whole["choices"][0]["finish_reason"].as_str().unwrap()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_answers_in_the_form_that_is_asked_for() {
    let shop = shop().await;
    let schema = json!({
        "type": "object", "required": ["z", "a"], "additionalProperties": false,
        "properties": {"z": {"enum": ["wren", "cuckoo"]}, "a": {"type": "integer", "minimum": 1, "maximum": 9}},
    });
    let mut body = json!({
        "model": CHAT, "messages": [{"role": "user", "content": "Sing!"}], "seed": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "song", "strict": true, "schema": schema}},
    });
    let whole = shop.answer(paths::CHAT, body.clone()).await;
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "stop", "{whole}");
    let text = choice["message"]["content"].as_str().unwrap();
    let read: Value = serde_json::from_str(text).unwrap();
    assert_eq!(read.as_object().unwrap().len(), 2, "{text}");
    assert!(["wren", "cuckoo"].contains(&read["z"].as_str().unwrap()));
    assert!((1..=9).contains(&read["a"].as_u64().unwrap()));
    assert!(
        text.find("\"z\"") < text.find("\"a\""),
        "properties come in the schema's order: {text}"
    );
    body["stream"] = json!(true);
    let mut events = shop.events(paths::CHAT, body.clone()).await;
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let pieces = events.iter().map(|event| {
        let chunk: Value = serde_json::from_str(event).unwrap();
        let piece = chunk["choices"][0]["delta"]["content"].as_str();
        piece.unwrap_or_default().to_owned()
    });
    assert_eq!(pieces.collect::<String>(), text);
    // Any object will do.
    body["stream"] = json!(false);
    body["max_tokens"] = json!(8);
    body["response_format"] = json!({"type": "json_object"});
    let whole = shop.answer(paths::CHAT, body).await;
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with('{'), "{text}");
}
