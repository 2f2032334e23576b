use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cuckoo_core::{
    ErrorKind, FinishReason, ManualClock, TextInput, TextLine, TextOutput, TextPiece, TextReader,
    Timestamp,
};
use serde::de::IgnoredAny;

use super::*;
use crate::language::{Engine, LanguageModel};
use crate::{Execution, TaskContext, TextLimits};

/// Random weights over bytes and over pieces with bytes to fall back on, and a model that was trained.
fn folders() -> [PathBuf; 3] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [
        root.join("tests/golden/language/llama"),
        root.join("tests/golden/language/gemma"),
        root.join("../examples/models/stories"),
    ]
}

fn models() -> [Arc<LanguageModel>; 3] {
    folders().map(|folder| Arc::new(LanguageModel::load(&folder).unwrap()))
}

fn engine(model: &Arc<LanguageModel>) -> Engine {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let limits = TextLimits {
        texts: 32,
        ..TextLimits::default()
    };
    Engine::start(Arc::clone(model), limits, clock).unwrap()
}

fn schema(schema: Value) -> Option<TextFormat> {
    Some(TextFormat::JsonSchema { schema })
}

fn drawn(format: Option<TextFormat>, seed: u64) -> TextInput {
    TextInput {
        format,
        temperature: Some(1.0),
        top_p: Some(1.0),
        seed: Some(seed),
        ..TextInput::completion("the bird")
    }
}

/// Runs all inputs together; also checks that what was shown on the way is what the output says.
async fn run(model: &Arc<LanguageModel>, inputs: Vec<TextInput>) -> Vec<TextOutput> {
    let engine = engine(model);
    let runs = inputs.into_iter().map(async |input| {
        let context = TaskContext::new(Timestamp::from_millis(2_000));
        let text = model.begin(input).unwrap();
        let execution: Execution = engine.run(text, context.clone()).await.unwrap();
        let output = TextOutput::read(&execution.output).unwrap();
        let shown = TextReader::default().read(&context.emitted()).unwrap();
        let pieces = shown.iter().map(|line| match line {
            TextLine::Piece(TextPiece { text, .. }) => text.as_str(),
            TextLine::End { .. } => "",
        });
        assert_eq!(pieces.collect::<String>(), output.text);
        output
    });
    futures::future::join_all(runs).await
}

fn is_size(value: &Value) -> bool {
    let side = |name: &str| value[name].as_u64().is_some_and(|n| (1..=64).contains(&n));
    value.as_object().unwrap().len() == 2 && side("w") && side("h")
}

/// Whether a text is what its schema asks for.
type Fits = fn(&Value) -> bool;

/// Schemas, and what is true of all that fits them.
fn schemas() -> [(Value, Fits); 8] {
    let side = json!({"type": "integer", "minimum": 1, "maximum": 64});
    let size = json!({
        "type": "object", "properties": {"w": side, "h": side}, "required": ["w", "h"],
        "additionalProperties": false,
    });
    [
        (json!({"enum": ["red", "green", 3, null]}), |value| {
            [json!("red"), json!("green"), json!(3), json!(null)].contains(value)
        }),
        (
            json!({
                "type": "object", "required": ["n", "size"], "additionalProperties": false,
                "properties": {"n": {"type": "string", "maxLength": 4}, "size": size},
            }),
            |value| {
                let keys: Vec<_> = value.as_object().unwrap().keys().collect();
                let name = value["n"].as_str().unwrap();
                keys == ["n", "size"] && name.chars().count() <= 4 && is_size(&value["size"])
            },
        ),
        (
            json!({"$defs": {"size": size}, "$ref": "#/$defs/size"}),
            is_size,
        ),
        (
            json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}),
            |value| {
                let items = value.as_array().unwrap();
                (2..=4).contains(&items.len()) && items.iter().all(Value::is_boolean)
            },
        ),
        (
            json!({"type": "integer", "minimum": 7, "maximum": 120}),
            |value| (7..=120).contains(&value.as_u64().unwrap()),
        ),
        (
            json!({"type": "string", "pattern": "^[a-c]{2,4}-[0-9]$"}),
            |value| {
                let (letters, digit) = value.as_str().unwrap().split_once('-').unwrap();
                (2..=4).contains(&letters.len())
                    && letters.bytes().all(|byte| (b'a'..=b'c').contains(&byte))
                    && digit.len() == 1
                    && digit.bytes().all(|byte| byte.is_ascii_digit())
            },
        ),
        (
            json!({"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"const": "x"}, "maxItems": 2}]}),
            |value| {
                let xs = value.as_array();
                value.is_boolean() || xs.unwrap().iter().all(|item| item == "x")
            },
        ),
        (
            json!({"oneOf": [
                {"type": "object", "properties": {"k": {"const": "a"}, "b": {"type": "null"}}, "required": ["k", "b"], "additionalProperties": false},
                {"type": "object", "properties": {"k": {"const": "c"}}, "required": ["k"], "additionalProperties": false},
            ]}),
            |value| *value == json!({"k": "a", "b": null}) || *value == json!({"k": "c"}),
        ),
    ]
}

#[tokio::test]
async fn whatever_a_model_would_rather_say_it_says_in_the_form() {
    for model in models() {
        let mut different = BTreeSet::new();
        for (asked, fits) in schemas() {
            let inputs = (0..20).map(|seed| drawn(schema(asked.clone()), seed));
            for output in run(&model, inputs.collect()).await {
                assert_eq!(output.finish_reason, FinishReason::Stop, "{output:?}");
                let value: Value = serde_json::from_str(&output.text)
                    .unwrap_or_else(|error| panic!("{asked}: {error}: {}", output.text));
                assert!(fits(&value), "{asked}: {}", output.text);
                different.insert(output.text);
            }
        }
        assert!(different.len() > 30, "draws are draws: {different:?}");
    }
}

#[tokio::test]
async fn the_likeliest_and_any_object_are_json_too() {
    for model in models() {
        let likeliest = |format| TextInput {
            temperature: Some(0.0),
            ..drawn(format, 0)
        };
        let [_, _, (asked, fits), ..] = schemas();
        let output = run(&model, vec![likeliest(schema(asked))]).await.remove(0);
        assert!(
            fits(&serde_json::from_str(&output.text).unwrap()),
            "{}",
            output.text
        );
        let inputs = (0..20).map(|seed| drawn(Some(TextFormat::JsonObject), seed));
        for output in run(&model, inputs.collect()).await {
            assert!(output.text.starts_with('{'), "{}", output.text);
            // Numbers may be larger than any `f64`.
            let read = serde_json::from_str::<IgnoredAny>(&output.text);
            match output.finish_reason {
                FinishReason::Stop => assert!(read.is_ok(), "{}", output.text),
                FinishReason::Length => assert!(read.unwrap_err().is_eof(), "{}", output.text),
            }
        }
    }
}

#[tokio::test]
async fn log_probabilities_stay_the_models_own() {
    let [model, ..] = models();
    let asked = TextInput {
        logprobs: Some(3),
        ..drawn(schema(json!({"const": "x"})), 1)
    };
    let output = run(&model, vec![asked]).await.remove(0);
    assert_eq!(output.text, "\"x\"");
    let tokens: String = output
        .logprobs
        .iter()
        .map(|one| one.token.as_str())
        .collect();
    assert!(tokens.starts_with("\"x\""), "{tokens}");
    assert!(
        output.logprobs.iter().all(|one| one.logprob < -0.01),
        "there was but one choice, which the model did not know"
    );
}

#[test]
fn what_cannot_be_followed_is_named() {
    let [model, ..] = models();
    let deep = json!({"type": "array", "items": {"type": "object", "not": {"required": ["a"]}}});
    for (asked, named) in [
        (json!(false), "false"),
        (
            json!({"type": "integer", "minimum": 3, "maximum": 2}),
            "format",
        ),
        (json!({"enum": []}), "format"),
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (deep, "not"),
        (
            json!({"type": "string", "format": "phone-number"}),
            "phone-number",
        ),
        (json!({"type": "string", "pattern": "(?=a)"}), "format"),
        (json!({"$ref": "#/$defs/none"}), "none"),
        (json!({"$ref": "https://example.com/schema"}), "example.com"),
        (json!({"type": "objekt"}), "objekt"),
    ] {
        let text = model.begin(drawn(schema(asked.clone()), 0));
        let error = text.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{asked}: {error}");
        let message = error.to_string();
        assert!(
            message.contains("`format`") && message.contains(named),
            "{asked}: {message}"
        );
        assert!(!message.contains('\n'), "{message}");
    }
}

#[tokio::test]
async fn a_schema_may_be_large_and_refer_to_itself() {
    let [model, ..] = models();
    let mut chain = Map::new();
    for i in 0..1_700 {
        chain.insert(
            format!("d{i}"),
            json!({"$ref": format!("#/$defs/d{}", i + 1)}),
        );
    }
    chain.insert("d1700".to_owned(), json!({"const": 1}));
    let asked = json!({"$defs": chain, "$ref": "#/$defs/d0"});
    assert!(asked.to_string().len() <= TextFormat::MAX_BYTES);
    let output = run(&model, vec![drawn(schema(asked), 0)]).await.remove(0);
    assert_eq!(output.text, "1");
    let list = json!({
        "type": "object", "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
        "required": ["v", "next"], "additionalProperties": false,
    });
    let inputs = (0..10).map(|seed| drawn(schema(list.clone()), seed));
    for output in run(&model, inputs.collect()).await {
        if output.finish_reason == FinishReason::Stop {
            let mut value: Value = serde_json::from_str(&output.text).unwrap();
            while !value.is_null() {
                assert!(value["v"].is_boolean(), "{}", output.text);
                value = value["next"].take();
            }
        }
    }
}

#[test]
fn the_bytes_of_tokens_are_those_of_their_text() {
    for (folder, before) in folders().into_iter().zip(["", " ", ""]) {
        let model = LanguageModel::load(&folder).unwrap();
        let bytes: BTreeMap<u32, Vec<u8>> = model
            .tokenizer
            .vocabulary
            .bytes()
            .unwrap()
            .into_iter()
            .collect();
        for text in ["{\"a\": [1, true]}\n\t", "naïve café 日本 🦜🦜"] {
            let tokens = model.tokenizer.vocabulary.encode(text, false).unwrap();
            let parts = tokens.iter().map(|token| bytes[token].as_slice());
            let whole = parts.collect::<Vec<_>>().concat();
            let expected = format!("{before}{text}");
            assert_eq!(String::from_utf8(whole).unwrap(), expected, "{folder:?}");
        }
        for end in model.tokenizer.ends() {
            assert!(!bytes.contains_key(end), "special tokens are no text");
        }
    }
}
