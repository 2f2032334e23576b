//! The text executor on small models with random weights: real runs of every layer, and no sense to be made of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "text/chat.rs"]
mod chat;

use std::path::PathBuf;

use chat::Chat;
use cuckoo_core::{
    Assignment, B256, ErrorKind, FinishReason, LeaseId, ModelId, NodeId, Result, TaskId,
    TextOutput, TextReader, Timestamp, Wei, cai, payload_hash,
};
use cuckoo_miner::{Execution, Executor, LanguageModel, TaskContext, TextExecutor};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/language")
        .join(name)
}

fn name() -> ModelId {
    "random".parse().unwrap()
}

fn executor(model: &str) -> TextExecutor {
    TextExecutor::load(folder(model), name()).unwrap()
}

fn task(input: &str) -> Assignment {
    Assignment {
        lease: LeaseId::from(B256::repeat_byte(1)),
        task: TaskId::from(B256::repeat_byte(2)),
        coordinator: NodeId(1),
        model: name(),
        model_hash: B256::ZERO,
        input: input.to_owned(),
        input_hash: payload_hash(input.as_bytes()),
        price: Wei::ZERO,
        lease_expires_at: Timestamp::from_millis(u64::MAX),
        heartbeat_millis: 1_000,
        deadline: Timestamp::from_millis(u64::MAX),
    }
}

async fn run(executor: &impl Executor, input: &str) -> Result<Execution> {
    let context = TaskContext::new(Timestamp::from_millis(u64::MAX));
    let execution = executor.execute(task(input), context.clone()).await?;
    let emitted = context.emitted();
    assert!(
        execution.output.bytes.starts_with(&emitted),
        "what was shown is what the output begins with"
    );
    let mut reader = TextReader::default();
    let shown = reader.read(&emitted).unwrap().len();
    let whole = TextReader::default().read(&execution.output.bytes).unwrap();
    assert_eq!(shown + 1, whole.len(), "all but the last line was shown");
    Ok(execution)
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_inputs_give_equal_texts_and_seeds_differ() {
    let (first, second) = (executor("qwen3"), executor("qwen3"));
    assert_eq!(first.capabilities(), second.capabilities());
    let input = |seed| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "Sing!"}}], "max_tokens": 30, "seed": {seed}}}"#
        )
    };
    let inputs: Vec<_> = (0..6).map(input).collect();
    let runs = inputs.iter().map(|input| run(&first, input));
    let together = futures::future::join_all(runs).await;
    let mut texts = Vec::new();
    for (input, together) in inputs.iter().zip(together) {
        let (alone, together) = (run(&second, input).await.unwrap(), together.unwrap());
        assert_eq!(alone, together);
        assert!(alone.usage.input_units > 10 && (1..=30).contains(&alone.usage.output_units));
        texts.push(TextOutput::read(&alone.output).unwrap().text);
    }
    texts.sort();
    texts.dedup();
    assert!(texts.len() > 3, "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_end_where_they_were_told_to() {
    let executor = executor("llama");
    let run = async |stop: &str| {
        let input = format!(
            r#"{{"prompt": "The cuckoo", "max_tokens": 40, "temperature": 0, "stop": [{stop}], "logprobs": 2}}"#
        );
        let execution = run(&executor, &input).await.unwrap();
        (
            TextOutput::read(&execution.output).unwrap(),
            execution.usage,
        )
    };
    let (whole, usage) = run("").await;
    assert_eq!(whole.logprobs.len() as u64, usage.output_units);
    for token in &whole.logprobs {
        assert!(token.logprob <= 0.0 && token.top.len() == 2);
        assert!(token.top[0].logprob >= token.top[1].logprob);
        assert_eq!(
            token.top[0].logprob, token.logprob,
            "the likeliest was taken"
        );
    }
    // Two characters from the middle of it.
    let middle = whole.text.chars().count() / 2;
    let stop: String = whole.text.chars().skip(middle).take(2).collect();
    let (stopped, fewer) = run(&serde_json::to_string(&stop).unwrap()).await;
    assert_eq!(stopped.finish_reason, FinishReason::Stop);
    let at = whole.text.find(&stop).unwrap();
    assert_eq!(stopped.text, whole.text[..at]);
    assert!(fewer.output_units <= usage.output_units);
    // A beginning of a stop text that never comes is not lost.
    let held = format!("{stop}never");
    let (held, _) = run(&serde_json::to_string(&held).unwrap()).await;
    assert_eq!(
        (held.text, held.finish_reason),
        (whole.text, whole.finish_reason)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_have_the_form_that_is_asked_for() {
    let executor = executor("llama");
    let run = async |more: &str| {
        let schema = r#"{"type": "object", "properties": {"bird": {"enum": ["cuckoo", "wren"]}}, "required": ["bird"], "additionalProperties": false}"#;
        let input = format!(
            r#"{{"prompt": "The cuckoo", "seed": 5, "format": {{"type": "json_schema", "schema": {schema}}}{more}}}"#
        );
        let execution = run(&executor, &input).await.unwrap();
        TextOutput::read(&execution.output).unwrap()
    };
    let whole = run("").await;
    assert_eq!(whole.finish_reason, FinishReason::Stop);
    let read: serde_json::Value = serde_json::from_str(&whole.text).unwrap();
    assert!(
        ["cuckoo", "wren"].contains(&read["bird"].as_str().unwrap()),
        "{read}"
    );
    // A stop text and a bound end it where they would end any other.
    let stopped = run(r#", "stop": [":"]"#).await;
    let (before, _) = whole.text.split_once(':').unwrap();
    assert_eq!(
        (stopped.text.as_str(), stopped.finish_reason),
        (before, FinishReason::Stop)
    );
    let short = run(r#", "max_tokens": 2"#).await;
    assert_eq!(short.finish_reason, FinishReason::Length);
    assert!(whole.text.starts_with(&short.text));
    // What is not followed is refused before a word is said.
    let input = r#"{"prompt": "a", "format": {"type": "json_schema", "schema": {"type": "array", "uniqueItems": true}}}"#;
    let context = TaskContext::new(Timestamp::from_millis(u64::MAX));
    let refused = executor.execute(task(input), context.clone()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("uniqueItems"), "{error}");
    assert!(context.emitted().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_name_the_files_and_the_arithmetic() {
    let executor = executor("gemma").with_min_price(cai(2));
    let offers = executor.capabilities();
    assert_eq!(offers.len(), 1);
    assert_eq!((&offers[0].model, offers[0].min_price), (&name(), cai(2)));
    assert_eq!(offers[0].model_hash.0, executor.model().model_hash());
    assert!(offers[0].kernels.starts_with("cpu-f32-text") && offers[0].kernels.len() <= 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_cannot_do_blames_the_requester() {
    let executor = executor("gemma");
    let long = format!(r#"{{"prompt": "{}"}}"#, "bird ".repeat(200));
    let system =
        r#"{"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}"#;
    for input in [
        long.as_str(),
        system,
        "{}",
        r#"{"prompt": "x", "temperature": 9}"#,
    ] {
        let error = run(&executor, input).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{input}: {error}");
    }
    let templates = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(folder("gemma").join(file), templates.path().join(file)).unwrap();
    }
    let model = LanguageModel::load(templates.path()).unwrap();
    assert!(!model.chats());
    let plain = TextExecutor::new(model.into(), name());
    let chat = r#"{"messages": [{"role": "user", "content": "y"}]}"#;
    let error = run(&plain, chat).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("no chat template"), "{error}");
    let prompt = r#"{"prompt": "x", "max_tokens": 2, "seed": 5}"#;
    assert!(run(&plain, prompt).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn its_trials_run_and_work_is_what_may_be_written() {
    let executor = executor("qwen3");
    let work = |input: &str| executor.work(&task(input));
    let trials = executor.trials(&name());
    assert!(trials.len() >= 2);
    let sizes: Vec<_> = trials.iter().map(|trial| work(&trial.input)).collect();
    assert!(sizes.is_sorted() && sizes[0].is_some(), "{sizes:?}");
    for trial in &trials {
        run(&executor, &trial.input).await.unwrap();
    }
    let short = work(r#"{"prompt": "Sing!", "max_tokens": 10}"#).unwrap();
    let long = work(r#"{"prompt": "Sing!", "max_tokens": 20}"#).unwrap();
    assert!((long - short - 10.0).abs() < 1e-9);
    let sung = format!(
        r#"{{"prompt": "{}", "max_tokens": 10}}"#,
        "Sing!".repeat(50)
    );
    assert!(work(&sung).unwrap() > short);
    // No longer than its context, whatever is asked for.
    let context = executor.model().context() as f64;
    let endless = work(r#"{"prompt": "S", "max_tokens": 4000000000}"#).unwrap();
    assert!(endless < context + 1.0, "{endless}");
    for unknown in [
        "",
        r#"{"prompt": "Sing!"}"#,
        r#"{"prompt": "S", "max_tokens": 0}"#,
    ] {
        assert_eq!(work(unknown), None, "{unknown}");
    }
    assert_eq!(executor.concurrency(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_ones_own_writes_what_ours_does() {
    let stories = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/models/stories");
    let gguf = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf/qwen3/model.gguf");
    for path in [stories, folder("qwen3"), gguf] {
        let ours = TextExecutor::load(&path, name()).unwrap();
        let own = Chat::load(&path, name()).unwrap();
        let mut outputs = Vec::new();
        for input in [
            r#"{"prompt": "What is 17 + 25?", "temperature": 0, "max_tokens": 24}"#,
            r#"{"prompt": "What is", "seed": 7, "temperature": 1.5, "top_p": 0.95, "max_tokens": 24}"#,
            r#"{"prompt": "What is", "seed": 8, "temperature": 1, "presence_penalty": 1,
                "frequency_penalty": 0.5, "logprobs": 3, "max_tokens": 24}"#,
            r#"{"prompt": "The owl", "seed": 9, "temperature": 1.2, "stop": ["e", "a "], "max_tokens": 30}"#,
            r#"{"prompt": "A bird:", "seed": 3, "temperature": 1, "format": {"type": "json_schema",
                "schema": {"enum": ["cuckoo", "wren"]}}}"#,
            r#"{"prompt": "The owl saw that", "seed": 4}"#,
        ] {
            let expected = run(&ours, input).await.unwrap();
            let execution = run(&own, input).await.unwrap();
            assert_eq!(execution, expected, "{path:?}: {input}");
            outputs.push(execution.output.bytes);
        }
        outputs.sort();
        outputs.dedup();
        assert!(outputs.len() > 3, "{path:?}: {outputs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_ones_own_chats_and_refuses_as_ours_does() {
    let (ours, own) = (
        executor("qwen3"),
        Chat::load(&folder("qwen3"), name()).unwrap(),
    );
    let chat =
        r#"{"messages": [{"role": "user", "content": "Sing!"}], "seed": 1, "max_tokens": 20}"#;
    let expected = run(&ours, chat).await.unwrap();
    assert_eq!(run(&own, chat).await.unwrap(), expected);
    let long = format!(r#"{{"prompt": "{}"}}"#, "bird ".repeat(200));
    let unfit = r#"{"prompt": "a", "format": {"type": "json_schema", "schema": {"type": "array", "uniqueItems": true}}}"#;
    for input in [long.as_str(), unfit, r#"{"prompt": ""}"#] {
        let expected = run(&ours, input).await.unwrap_err();
        let error = run(&own, input).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.message(), expected.message());
    }
    let cancelled = TaskContext::new(Timestamp::from_millis(u64::MAX));
    cancelled.cancel();
    let error = own.execute(task(chat), cancelled).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
