//! Six models that take turns in the memory of three, for a thousand tasks: nothing leaks, and every output is what it
//! was the first time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cuckoo_core::{
    Assignment, B256, Clock as _, Entropy as _, ErrorKind, LeaseId, ModelId, NodeId, Result,
    SeededEntropy, SystemClock, TaskId, Timestamp, Wei, payload_hash,
};
use cuckoo_miner::{Executor, ImageExecutor, TaskContext, TextExecutor, WarmPool};

/// The system's allocator, with a count of the bytes that are out. Resident memory says less: it depends on when an allocator
/// gives pages back, and swings by a third between two runs.
struct Counting;

static OUT: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(
    unsafe_code,
    reason = "an allocator; it passes every call on as it came"
)]
// SAFETY: as the system's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        OUT.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        OUT.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const TASKS: usize = 1_000;

fn task(model: &str, input: &str) -> Assignment {
    Assignment {
        lease: LeaseId::from(B256::repeat_byte(1)),
        task: TaskId::from(B256::repeat_byte(2)),
        coordinator: NodeId(1),
        model: model.parse().unwrap(),
        model_hash: B256::ZERO,
        input: input.to_owned(),
        input_hash: payload_hash(input.as_bytes()),
        price: Wei::ZERO,
        lease_expires_at: Timestamp::from_millis(u64::MAX),
        heartbeat_millis: 1_000,
        deadline: Timestamp::from_millis(u64::MAX),
    }
}

type Loader = Box<dyn Fn() -> Result<Arc<dyn Executor>> + Send + Sync>;

/// Two pipelines and four language models: a name, how it is loaded, and an input.
fn models() -> Vec<(&'static str, Loader, &'static str)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = |name: &'static str, folder: PathBuf| -> (_, Loader, _) {
        let load = move || Ok(Arc::new(ImageExecutor::load(&folder, name.parse()?)?) as _);
        let input =
            r#"{"prompt": "a large red circle on a blue background", "steps": 1, "seed": 3}"#;
        (name, Box::new(load), input)
    };
    let text = |name: &'static str| -> (_, Loader, _) {
        let folder = root.join("tests/golden/language").join(name);
        let load = move || Ok(Arc::new(TextExecutor::load(&folder, name.parse()?)?) as _);
        let input = r#"{"prompt": "a red circle", "max_tokens": 4, "seed": 3}"#;
        (name, Box::new(load), input)
    };
    vec![
        image("shapes", root.join("../examples/models/shapes")),
        image("random", root.join("tests/golden/random")),
        text("llama"),
        text("mistral"),
        text("qwen2"),
        text("gemma"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_over_six_models_in_turn_leave_memory_as_it_was() {
    let models = models();
    let sizes: Vec<_> = models
        .iter()
        .map(|(_, load, _)| load().unwrap().memory())
        .collect();
    // Room for the two largest and little besides.
    let mut sorted = sizes.clone();
    sorted.sort_unstable();
    let budget = sorted[4] + sorted[5] + sorted[0];
    assert!(sizes.iter().all(|size| *size > 0));
    assert!(sizes.iter().sum::<u64>() > budget);

    let pool = WarmPool::new(budget);
    let mut executors = Vec::new();
    let mut inputs = Vec::new();
    for (name, load, input) in models {
        executors.push(pool.add(load).await.unwrap());
        inputs.push((name, input));
    }
    let entropy = SeededEntropy::from_number(7);
    let mut first = HashMap::new();
    let mut loads = 0;
    // The least seen in a hundred tasks: how much is loaded differs from one to the next.
    let (mut first_hundred, mut last_hundred) = (usize::MAX, usize::MAX);
    for count in 0..TASKS {
        // The first round has each model twice, so that all have been loaded, unloaded and loaded again.
        let index = match count < 12 {
            true => count % 6,
            false => usize::from(entropy.word()[0]) % 6,
        };
        let (name, input) = inputs[index];
        loads += usize::from(executors[index].warm().is_empty());
        let context = TaskContext::new(Timestamp::from_millis(u64::MAX));
        let execution = executors[index].execute(task(name, input), context).await;
        let output = execution.unwrap().output;
        assert_eq!(
            &output,
            first.entry(index).or_insert_with(|| output.clone())
        );
        assert!(pool.used() <= budget);
        if count % 100 == 0 {
            println!("after {count} tasks {} bytes", OUT.load(Ordering::Relaxed));
        }
        if (100..200).contains(&count) {
            first_hundred = first_hundred.min(OUT.load(Ordering::Relaxed));
        }
        if count >= TASKS - 100 {
            last_hundred = last_hundred.min(OUT.load(Ordering::Relaxed));
        }
    }
    println!(
        "{loads} loads, budget {budget} bytes, out {first_hundred} bytes, in the end {last_hundred}"
    );
    assert!(loads > TASKS / 10, "models were swapped: {loads} loads");
    assert!(
        last_hundred as f64 <= first_hundred as f64 * 1.05,
        "memory grew from {first_hundred} to {last_hundred} bytes"
    );
}

#[tokio::test]
async fn what_is_wanted_is_loaded_before_its_task_comes() {
    let mut models = models().split_off(2);
    models.truncate(3);
    let mut sizes: Vec<_> = models
        .iter()
        .map(|(_, load, _)| load().unwrap().memory())
        .collect();
    sizes.sort_unstable();
    let pool = WarmPool::new(sizes[1] + sizes[2]);
    let mut executors = Vec::new();
    for (_, load, _) in models {
        executors.push(pool.add(load).await.unwrap());
    }
    let third = executors[2].capabilities().remove(0).model;
    assert!(executors[2].warm().is_empty());
    for executor in &executors {
        executor.wanted(std::slice::from_ref(&third));
    }
    let mut waited = 0;
    while executors[2].warm().is_empty() {
        SystemClock.sleep(Duration::from_millis(10)).await;
        waited += 1;
        assert!(waited < 3_000, "it was not loaded");
    }
    assert!(executors[0].warm().is_empty(), "the first made room");
    assert!(!executors[1].warm().is_empty());
    assert!(pool.used() <= pool.budget());
}

#[tokio::test]
async fn what_never_fits_is_refused_when_it_is_added() {
    let (name, load, _) = models().remove(0);
    let error = WarmPool::new(1 << 20).add(load).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains(name), "{error}");
}

#[tokio::test]
async fn files_that_change_or_go_are_noticed_at_the_next_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/language");
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("model");
    let copy = |from: &str| {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        for file in std::fs::read_dir(root.join(from)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    };
    copy("llama");
    let load = |folder: PathBuf, name: ModelId| {
        move || Ok(Arc::new(TextExecutor::load(&folder, name.clone())?) as Arc<dyn Executor>)
    };
    let changing = load(folder.clone(), "changing".parse().unwrap());
    let other = load(root.join("llama"), "other".parse().unwrap());
    let pool = WarmPool::new(changing().unwrap().memory());
    let changing = pool.add(changing).await.unwrap();
    let other = pool.add(other).await.unwrap();
    let run = async |executor: &Arc<dyn Executor>, name: &str| {
        let input = r#"{"prompt": "a", "max_tokens": 1, "seed": 1}"#;
        let context = TaskContext::new(Timestamp::from_millis(u64::MAX));
        executor.execute(task(name, input), context).await
    };
    run(&changing, "changing").await.unwrap();
    run(&other, "other").await.unwrap();
    assert!(changing.warm().is_empty(), "it made room");

    copy("qwen2");
    let error = run(&changing, "changing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Execution, "{error}");
    run(&other, "other").await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let error = run(&changing, "changing").await.unwrap_err();
    assert!(error.message().contains("changing"), "{error}");
    copy("llama");
    run(&changing, "changing").await.unwrap();
}
