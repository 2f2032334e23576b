use std::path::Path;

use cuckoo_core::{ErrorKind, ManualClock};

use super::*;

fn model() -> Arc<EmbeddingModel> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/embedding/bert");
    Arc::new(EmbeddingModel::load(&folder).unwrap())
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(1_000)))
}

fn context() -> TaskContext {
    TaskContext::new(Timestamp::from_millis(2_000))
}

/// The tokens of some texts of different lengths.
fn texts(model: &EmbeddingModel, count: usize, seed: usize) -> Vec<Vec<u32>> {
    let text = |i: usize| "the bird and ".repeat((i * 5 + seed) % 7) + "egg";
    (0..count)
        .map(|i| model.tokens(&text(i)).unwrap())
        .collect()
}

fn vectors(execution: &Execution, count: usize) -> Vec<Vec<f32>> {
    let read = Embeddings::read(&execution.output, count).unwrap();
    read.vectors().collect()
}

#[test]
fn a_batch_takes_of_each_task_in_turn() {
    assert_eq!(plan(&[vec![5, 4, 3], vec![2, 2]], 100), [3, 2]);
    assert_eq!(plan(&[vec![5, 4, 3], vec![2, 2]], 11), [2, 1]);
    assert_eq!(plan(&[vec![9, 1], vec![2, 2, 2]], 12), [2, 1]);
    assert_eq!(plan(&[vec![3, 3], vec![9], vec![3]], 9), [2, 0, 1]);
    assert_eq!(plan(&[vec![50], vec![1]], 9), [1, 0], "there is always one");
    assert!(plan(&[], 9).is_empty());
}

#[tokio::test]
async fn tasks_share_batches_and_each_has_its_own_vectors_in_order() {
    let model = model();
    let tasks: Vec<_> = (0..6).map(|i| texts(&model, 1 + i * 4, i)).collect();
    for most in [1, 30, 100_000] {
        let engine = Engine::start(Arc::clone(&model), most, clock()).unwrap();
        let runs = tasks.iter().map(|task| engine.run(task.clone(), context()));
        let runs = futures::future::join_all(runs).await;
        for (task, run) in tasks.iter().zip(runs) {
            let run = run.unwrap();
            let tokens: usize = task.iter().map(Vec::len).sum();
            assert_eq!(run.usage.input_units, tokens as u64);
            for (text, vector) in task.iter().zip(vectors(&run, task.len())) {
                assert_eq!(model.run(&[text]).unwrap()[0], vector);
            }
        }
    }
}

#[tokio::test]
async fn progress_is_told_and_what_nobody_wants_is_given_up() {
    let model = model();
    let clock = clock();
    let engine = Engine::start(Arc::clone(&model), 1, clock.clone()).unwrap();
    let shown = context();
    engine
        .run(texts(&model, 3, 0), shown.clone())
        .await
        .unwrap();
    assert_eq!(shown.progress_made(), 999);

    let cancelled = context();
    cancelled.cancel();
    let error = engine
        .run(texts(&model, 3, 0), cancelled)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);

    // Cancelled in the middle, between two of many batches.
    let long = context();
    let run = engine.run(texts(&model, 20_000, 0), long.clone());
    let stop = async {
        while long.progress_made() == 0 {
            tokio::task::yield_now().await;
        }
        long.cancel();
    };
    let (ended, ()) = futures::join!(run, stop);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(long.progress_made() < 999);

    clock.advance(std::time::Duration::from_secs(1));
    let error = engine
        .run(texts(&model, 3, 0), context())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}
