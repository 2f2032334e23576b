//! The embedding executor on small models with random weights: real runs of every layer, and no sense to be made of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use cuckoo_core::{
    Assignment, B256, Embeddings, EmbeddingsInput, ErrorKind, LeaseId, ModelId, NodeId, Result,
    TaskId, Timestamp, Wei, cai, payload_hash,
};
use cuckoo_miner::{EmbeddingExecutor, EmbeddingLimits, Execution, Executor as _, TaskContext};

fn name() -> ModelId {
    "random".parse().unwrap()
}

fn executor(model: &str) -> EmbeddingExecutor {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/embedding");
    EmbeddingExecutor::load(folder.join(model), name()).unwrap()
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

async fn run(executor: &EmbeddingExecutor, input: &str) -> Result<Execution> {
    let context = TaskContext::new(Timestamp::from_millis(u64::MAX));
    executor.execute(task(input), context).await
}

fn input(texts: &[&str]) -> String {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    serde_json::to_string(&EmbeddingsInput::new(texts)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_texts_give_equal_bytes_alone_and_among_others() {
    let (first, second) = (executor("mpnet"), executor("mpnet"));
    assert_eq!(first.capabilities(), second.capabilities());
    let texts = [
        "the bird",
        "a much longer text about the bird and its egg",
        "the bird",
        "egg",
    ];
    let inputs: Vec<_> = (0..8).map(|i| input(&texts[..1 + i % 4])).collect();
    let runs = inputs.iter().map(|input| run(&first, input));
    let together = futures::future::join_all(runs).await;
    for (i, (input, together)) in inputs.iter().zip(together).enumerate() {
        let together = together.unwrap();
        let alone = run(&second, input).await.unwrap();
        assert_eq!(alone, together);
        let vectors = Embeddings::read(&alone.output, 1 + i % 4).unwrap();
        let vectors: Vec<_> = vectors.vectors().collect();
        assert!(vectors.iter().all(|vector| vector.len() == 24));
        for (text, vector) in texts.iter().zip(&vectors) {
            let tokens = first.model().embed(&[text]).unwrap();
            assert_eq!(&tokens[0], vector);
        }
        let length: f32 = vectors[0].iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
        let tokens = texts[..1 + i % 4]
            .iter()
            .map(|text| first.model().tokens(text).unwrap().len());
        assert_eq!(alone.usage.input_units, tokens.sum::<usize>() as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_name_the_files_the_arithmetic_and_the_limits() {
    let limits = EmbeddingLimits {
        max_texts: 2,
        max_input_bytes: 5_000,
        ..EmbeddingLimits::default()
    };
    let executor = executor("bert")
        .with_min_price(cai(2))
        .with_limits(limits)
        .unwrap();
    let offers = executor.capabilities();
    assert_eq!(offers.len(), 1);
    assert_eq!((&offers[0].model, offers[0].min_price), (&name(), cai(2)));
    assert_eq!(offers[0].model_hash.0, executor.model().model_hash());
    assert_eq!(offers[0].max_input_bytes, 5_000);
    assert!(offers[0].kernels.starts_with("cpu-f32-text") && offers[0].kernels.len() <= 64);

    assert!(run(&executor, &input(&["a", "b"])).await.is_ok());
    let error = run(&executor, &input(&["a", "b", "c"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "another miner may");
    for bad in ["{}", r#"{"texts": []}"#, r#"{"texts": ["a", ""]}"#] {
        let error = run(&executor, bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_trials_run_and_work_is_bytes_to_read() {
    let executor = executor("mpnet");
    let work = |input: &str| executor.work(&task(input));
    let trials = executor.trials(&name());
    assert!(trials.len() >= 2);
    let sizes: Vec<_> = trials.iter().map(|trial| work(&trial.input)).collect();
    assert!(sizes.is_sorted() && sizes[0].is_some(), "{sizes:?}");
    for trial in &trials {
        run(&executor, &trial.input).await.unwrap();
    }
    assert_eq!(work(&input(&["the bird", "egg"])), Some(11.0));
    assert_eq!(work(r#"{"texts": []}"#), None);
}
