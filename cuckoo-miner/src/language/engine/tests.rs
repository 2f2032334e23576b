use std::path::Path;

use cuckoo_core::{ErrorKind, ManualClock, TextFormat, TextInput, TextOutput, Timestamp};
use serde_json::json;

use super::*;

fn model() -> Arc<LanguageModel> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/language/llama");
    Arc::new(LanguageModel::load(&folder).unwrap())
}

fn limits(texts: usize, chunk: usize) -> TextLimits {
    TextLimits {
        texts,
        chunk,
        ..TextLimits::default()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(1_000)))
}

fn context() -> TaskContext {
    TaskContext::new(Timestamp::from_millis(2_000))
}

/// Requests of different lengths; those with an odd number are drawn, the others likeliest, and some have a form.
fn input(i: u64, most: Option<u32>) -> TextInput {
    TextInput {
        max_tokens: most,
        temperature: Some((i % 2) as f64),
        top_p: Some(1.0),
        presence_penalty: Some(2.0),
        seed: Some(i),
        logprobs: i.is_multiple_of(3).then_some(2),
        format: (i % 4 >= 2).then(|| TextFormat::JsonSchema {
            schema: json!({"type": "array", "items": {"type": "string"}, "minItems": 20}),
        }),
        ..TextInput::completion("the cuckoo sings ".repeat(1 + i as usize % 5))
    }
}

async fn all(engine: &Engine, model: &LanguageModel, inputs: &[TextInput]) -> Vec<Execution> {
    let runs = inputs
        .iter()
        .map(|input| engine.run(model.begin(input.clone()).unwrap(), context()));
    let runs = futures::future::join_all(runs).await;
    runs.into_iter().map(Result::unwrap).collect()
}

#[test]
fn answers_come_before_prompts_and_prompts_in_their_order() {
    assert_eq!(plan(&[1, 50, 1, 30], 64), [1, 50, 1, 14]);
    assert_eq!(plan(&[100, 1, 100], 64), [64, 1, 0]);
    assert_eq!(plan(&[0, 2], 64), [0, 2]);
    assert!(plan(&[], 64).is_empty());
}

#[tokio::test]
async fn a_text_is_the_same_alone_and_among_others_however_little_memory_there_is() {
    let model = model();
    let inputs: Vec<_> = (0..8).map(|i| input(i, Some(40 + i as u32))).collect();
    let mut alone = Vec::new();
    for input in &inputs {
        let engine = Engine::start(Arc::clone(&model), limits(1, 64), clock()).unwrap();
        alone.extend(all(&engine, &model, std::slice::from_ref(input)).await);
    }
    let some = TextOutput::read(&alone[0].output).unwrap();
    assert_eq!(some.logprobs.len() as u64, alone[0].usage.output_units);
    assert!(alone[1].usage.output_units > 10, "worth comparing");
    let formed = TextOutput::read(&alone[3].output).unwrap();
    assert!(formed.text.starts_with('['), "{}", formed.text);
    // Of up to 150 tokens each, so that four pages hold two or three of them at once.
    for (texts, chunk, pages) in [
        (8, 64, 1000),
        (8, 5, 1000),
        (3, 7, 1000),
        (8, 64, 4),
        (8, 9, 3),
    ] {
        let limits = limits(texts, chunk);
        let engine = Engine::with_pages(Arc::clone(&model), limits, pages, clock()).unwrap();
        let together = all(&engine, &model, &inputs).await;
        assert!(
            together == alone,
            "{texts} texts, {chunk} tokens, {pages} pages"
        );
    }
}

#[tokio::test]
async fn what_can_never_fit_is_turned_away() {
    let model = model();
    let engine = Engine::with_pages(Arc::clone(&model), limits(2, 64), 2, clock()).unwrap();
    let run = |input: TextInput| {
        let text = model.begin(input).unwrap();
        engine.run(text, context())
    };
    let large = run(input(0, Some(200))).await.unwrap_err();
    assert_eq!(large.kind(), ErrorKind::Rejected);
    // Without a number it is tried, and given up when it has grown too large; the next one is served.
    let endless = TextInput {
        presence_penalty: None,
        ..input(0, None)
    };
    match run(endless).await {
        Ok(short) => assert!(short.usage.output_units < 130),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Rejected),
    }
    assert!(run(input(1, Some(3))).await.is_ok());
}

#[tokio::test]
async fn cancelled_and_late_texts_end_between_steps_and_free_their_place() {
    let (model, clock) = (model(), clock());
    let time: Arc<ManualClock> = Arc::clone(&clock);
    let engine = Engine::start(Arc::clone(&model), limits(1, 64), time).unwrap();
    let text = || model.begin(input(2, Some(100))).unwrap();
    let cancelled = context();
    cancelled.cancel();
    let error = engine.run(text(), cancelled).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let late = TaskContext::new(Timestamp::from_millis(1_000));
    let error = engine.run(text(), late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // Dropped by whoever asked.
    drop(tokio::time::timeout(std::time::Duration::ZERO, engine.run(text(), context())).await);
    assert!(engine.run(text(), context()).await.is_ok());
}
