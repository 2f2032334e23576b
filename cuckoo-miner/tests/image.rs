//! The image executor on a small pipeline with random weights: a real run of every layer, and no picture to admire.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_core::{
    Assignment, B256, BlobId, Clock as _, ErrorKind, LeaseId, ModelId, NodeId, Output, Result,
    SystemClock, TaskId, Timestamp, Wei, cai, payload_hash,
};
use cuckoo_miner::{Executor as _, Image, ImageExecutor, ImageModel, TaskContext};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/random"))
}

fn executor() -> ImageExecutor {
    ImageExecutor::load(folder(), model()).unwrap()
}

fn model() -> ModelId {
    "random".parse().unwrap()
}

fn task(input: &str) -> Assignment {
    Assignment {
        lease: LeaseId::from(B256::repeat_byte(1)),
        task: TaskId::from(B256::repeat_byte(2)),
        coordinator: NodeId(1),
        model: model(),
        model_hash: B256::ZERO,
        input: input.to_owned(),
        input_hash: payload_hash(input.as_bytes()),
        price: Wei::ZERO,
        lease_expires_at: Timestamp::from_millis(0),
        heartbeat_millis: 1_000,
        deadline: Timestamp::from_millis(0),
    }
}

async fn run(executor: &ImageExecutor, input: &str) -> Result<Output> {
    let context = TaskContext::new(Timestamp::from_millis(0));
    let execution = executor.execute(task(input), context.clone()).await?;
    assert!(
        context.progress_made() >= 900,
        "{}",
        context.progress_made()
    );
    assert!(execution.usage.output_units > 0);
    Ok(execution.output)
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_inputs_give_equal_pictures_on_any_copy_of_the_model() {
    let first = executor().with_runs(1);
    let second = ImageExecutor::new(Arc::new(ImageModel::load(folder()).unwrap()), model());
    assert_eq!(first.capabilities(), second.capabilities());
    let input = r#"{"prompt": "a red circle", "steps": 3, "seed": 7}"#;
    let (a, b) = tokio::join!(run(&first, input), run(&second, input));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a, b);
    assert_eq!(a.media_type, "image/png");
    assert!(a.bytes.starts_with(b"\x89PNG"));
    let other = r#"{"prompt": "a red circle", "steps": 3, "seed": 8}"#;
    assert_ne!(run(&first, other).await.unwrap().bytes, a.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_is_offered_by_both_names_of_its_kernels() {
    let folder = folder().join("../flux/schnell");
    let executor = ImageExecutor::load(folder, model()).unwrap();
    assert_eq!(
        executor.capabilities()[0].kernels,
        "cpu-f32-2+cpu-f32-text-2"
    );
    let input = |rest: &str| {
        format!(r#"{{"prompt": "a red circle", "seed": 7, "width": 32, "height": 24{rest}}}"#)
    };
    let output = run(&executor, &input("")).await.unwrap();
    let picture = Image::from_png(&output.bytes).unwrap();
    assert_eq!((picture.width, picture.height), (32, 24));
    // Four steps are the model's own, and guidance costs nothing.
    let same = r#", "steps": 4, "guidance": 9, "sampler": "euler""#;
    assert_eq!(output, run(&executor, &input(same)).await.unwrap());
    let work = |rest: &str| executor.work(&task(&input(rest))).unwrap();
    assert_eq!(work(""), work(same));
    for bad in [
        r#", "negative_prompt": "blurry""#,
        r#", "sampler": "ddim""#,
        r#", "steps": 0"#,
    ] {
        let context = TaskContext::new(Timestamp::from_millis(0));
        let refused = executor.execute(task(&input(bad)), context).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        assert_eq!(executor.work(&task(&input(bad))), None, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_begin_from_blobs_and_from_base64() {
    let executor = executor();
    let start = Image {
        width: 32,
        height: 24,
        rgb: (0..32 * 24 * 3).map(|i| (i % 256) as u8).collect(),
    };
    let png = start.to_png().unwrap();
    let blob = BlobId::of(&png).to_string();
    let base64 = STANDARD.encode(&png);
    let url = format!("data:image/png;base64,{base64}");
    let input = |image: &str| {
        format!(
            r#"{{"prompt": "a red circle", "steps": 4, "seed": 7, "image": "{image}", "strength": 0.5}}"#
        )
    };
    let run = async |image: &str, blobs: Vec<Output>| {
        let context = context().with_blobs(blobs);
        let execution = executor.execute(task(&input(image)), context).await?;
        Ok::<_, cuckoo_core::Error>(execution.output)
    };
    let at_hand = || vec![Output::new("image/png", png.clone())];
    let first = run(&blob, at_hand()).await.unwrap();
    assert_eq!(first, run(&base64, Vec::new()).await.unwrap());
    assert_eq!(first, run(&url, Vec::new()).await.unwrap());
    let picture = Image::from_png(&first.bytes).unwrap();
    assert_eq!((picture.width, picture.height), (32, 24));

    let absent = run(&blob, Vec::new()).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    for bad in [
        "",
        "a red circle",
        "https://example.com/a.png",
        &base64[..40],
    ] {
        let error = run(bad, Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}: {error}");
    }
    let alone = r#"{"prompt": "x", "seed": 1, "strength": 0.5}"#;
    let error = executor.execute(task(alone), context()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_name_the_files_and_the_arithmetic() {
    let executor = executor().with_min_price(cai(2));
    let offers = executor.capabilities();
    assert_eq!(offers.len(), 1);
    assert_eq!(offers[0].model, model());
    assert_eq!(offers[0].min_price, cai(2));
    assert_eq!(offers[0].model_hash.0, executor.pipeline().model_hash());
    assert!(offers[0].kernels.starts_with("cpu-f32") && offers[0].kernels.len() <= 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_cannot_do_blames_the_requester_and_what_is_too_much_nobody() {
    let executor = executor().with_limits(usize::MAX, 10);
    for (input, kind) in [
        (
            r#"{"prompt": "x", "seed": 1, "width": 13}"#,
            ErrorKind::Invalid,
        ),
        (
            r#"{"prompt": "x", "seed": 1, "steps": 0}"#,
            ErrorKind::Invalid,
        ),
        (
            r#"{"prompt": "x", "seed": 1, "guidance": -1}"#,
            ErrorKind::Invalid,
        ),
        (
            r#"{"prompt": "x", "seed": 1, "colour": 1}"#,
            ErrorKind::Invalid,
        ),
        (
            r#"{"prompt": "x", "seed": 1, "steps": 11}"#,
            ErrorKind::Rejected,
        ),
    ] {
        let error = run(&executor, input).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{input}: {error}");
    }
    let small = executor.with_limits(16, 100);
    let error = run(&small, r#"{"prompt": "x", "seed": 1}"#)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_between_steps_and_a_waiting_one_at_once() {
    let executor = executor().with_runs(1).with_limits(usize::MAX, 1_000);
    let long = r#"{"prompt": "x", "seed": 1, "steps": 400}"#;
    let (first, second) = (context(), context());
    let running = tokio::spawn({
        let (executor, context) = (executor.clone(), first.clone());
        async move { executor.execute(task(long), context).await }
    });
    let clock = SystemClock;
    while first.progress_made() == 0 {
        assert!(!running.is_finished(), "{:?}", running.await);
        clock.sleep(Duration::from_millis(5)).await;
    }
    // The only run is taken, so this one waits.
    let waiting = tokio::spawn({
        let (executor, context) = (executor.clone(), second.clone());
        async move { executor.execute(task(long), context).await }
    });
    second.cancel();
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Cancelled
    );
    first.cancel();
    assert_eq!(
        running.await.unwrap().unwrap_err().kind(),
        ErrorKind::Cancelled
    );
    assert!(first.progress_made() < 990, "it did not run to its end");
    // The run is free again.
    run(&executor, r#"{"prompt": "x", "seed": 1, "steps": 1}"#)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_run_frees_its_thread() {
    let executor = executor().with_runs(1).with_limits(usize::MAX, 1_000);
    let context = context();
    let long = task(r#"{"prompt": "x", "seed": 1, "steps": 400}"#);
    {
        let run = executor.execute(long, context.clone());
        tokio::pin!(run);
        while context.progress_made() == 0 {
            let pause = SystemClock.sleep(Duration::from_millis(5));
            tokio::select! {
                ended = &mut run => panic!("it ended: {ended:?}"),
                () = pause => {}
            }
        }
    }
    assert!(context.is_cancelled());
    run(&executor, r#"{"prompt": "x", "seed": 1, "steps": 1}"#)
        .await
        .unwrap();
}

fn context() -> TaskContext {
    TaskContext::new(Timestamp::from_millis(0))
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = ImageExecutor::load("/nowhere/at/all", model()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_trials_run_and_work_is_pixels_times_runs_of_the_denoiser() {
    let executor = executor();
    let work = |input: &str| executor.work(&task(input));
    let (width, height) = executor.pipeline().default_size();
    let pixels = (width * height) as f64;
    let trials = executor.trials(&model());
    assert!(trials.len() >= 2);
    let sizes: Vec<_> = trials.iter().map(|trial| work(&trial.input)).collect();
    assert!(sizes.is_sorted() && sizes[0].is_some(), "{sizes:?}");
    for trial in &trials {
        run(&executor, &trial.input).await.unwrap();
    }
    let twice = r#"{"prompt": "x", "seed": 1, "steps": 10, "guidance": 3}"#;
    assert_eq!(work(twice), Some(pixels * 20.0));
    let once = r#"{"prompt": "x", "seed": 1, "steps": 10, "guidance": 1}"#;
    assert_eq!(work(once), Some(pixels * 10.0));
    let half = format!(
        r#"{{"prompt": "x", "seed": 1, "steps": 10, "guidance": 1, "image": "AAAA", "strength": 0.5,
            "width": {width}, "height": {height}}}"#
    );
    assert_eq!(work(&half), Some(pixels * 5.0));
    // Of a size that is not known, or refused when it is run.
    for unknown in [
        "",
        r#"{"prompt": "x", "seed": 1, "image": "AAAA"}"#,
        r#"{"prompt": "x", "seed": 1, "steps": 5000}"#,
        r#"{"prompt": "x", "seed": 1, "width": 7}"#,
    ] {
        assert_eq!(work(unknown), None, "{unknown}");
    }
    assert_eq!(executor.with_runs(3).concurrency(), 3);
}
