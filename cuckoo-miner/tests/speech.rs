//! The speech executor on small models with random weights: real runs of every layer, and no sense to be made of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cuckoo_core::{
    Assignment, B256, BlobId, Clock, ErrorKind, LeaseId, ManualClock, ModelId, NodeId, Output,
    Result, Retry, SystemClock, TaskId, Timestamp, Transcript, Wei, cai, payload_hash,
};
use cuckoo_miner::conformance::{Conformance, Outcome, Samples};
use cuckoo_miner::{
    Execution, Executor as _, Recording, SpeechExecutor, SpeechLimits, TaskContext,
};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Holds whoever asks it for the time until it is open, and counts how often it was asked.
#[derive(Debug, Default)]
struct Gate {
    asked: Mutex<u32>,
    reached: Notify,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Completes once somebody is held.
    async fn reached(&self) {
        self.reached.notified().await;
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

impl Clock for Gate {
    fn now(&self) -> Timestamp {
        *self.asked.lock().unwrap() += 1;
        self.reached.notify_one();
        let open = self.is_open.lock().unwrap();
        // Not for ever, so that a test that fails ends.
        let most = Duration::from_secs(60);
        drop(self.opened.wait_timeout_while(open, most, |open| !*open));
        Timestamp::from_millis(0)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        SystemClock.sleep(duration)
    }
}

const FAR: Timestamp = Timestamp::from_millis(u64::MAX);

fn name() -> ModelId {
    "random".parse().unwrap()
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/speech")
        .join(path)
}

fn executor(model: &str) -> SpeechExecutor {
    SpeechExecutor::load(golden(model), name()).unwrap()
}

fn wav(recording: &str) -> Output {
    let bytes = std::fs::read(golden(&format!("recordings/{recording}.wav"))).unwrap();
    Output::new("audio/wav", bytes)
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
        lease_expires_at: FAR,
        heartbeat_millis: 1_000,
        deadline: FAR,
    }
}

/// An input about a recording, with further fields.
fn about(audio: &Output, more: Value) -> String {
    let mut input = json!({ "audio": BlobId::of(&audio.bytes).to_string(), "seed": 7 });
    for (key, value) in more.as_object().unwrap() {
        input[key] = value.clone();
    }
    input.to_string()
}

async fn run(executor: &SpeechExecutor, audio: &Output, more: Value) -> Result<Execution> {
    let context = TaskContext::new(FAR).with_blobs([audio.clone()]);
    executor.execute(task(&about(audio, more)), context).await
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_recordings_give_equal_bytes_alone_and_beside_others() {
    let limits = SpeechLimits {
        recordings: 3,
        ..SpeechLimits::default()
    };
    let first = executor("multilingual").with_limits(limits).unwrap();
    let second = executor("multilingual");
    assert_eq!(first.capabilities(), second.capabilities());
    assert_eq!((first.concurrency(), second.concurrency()), (3, 1));
    let (long, short) = (wav("long"), wav("short"));
    let ways = [
        (&long, json!({})),
        (&short, json!({ "language": "haw" })),
        (&long, json!({ "temperature": 0.8 })),
        (&short, json!({ "translate": true, "prompt": "Cuckoo" })),
        (&long, json!({})),
    ];
    let runs = ways
        .iter()
        .map(|(wav, more)| run(&first, wav, more.clone()));
    let together = futures::future::join_all(runs).await;
    for ((wav, more), together) in ways.iter().zip(together) {
        let together = together.unwrap();
        let alone = run(&second, wav, more.clone()).await.unwrap();
        assert_eq!(alone, together, "{more}");
        let transcript = Transcript::read(&alone.output).unwrap();
        let recording = Recording::from_wav(&wav.bytes, 60).unwrap();
        assert_eq!(transcript.duration_millis, recording.millis());
        assert_eq!(alone.usage.input_units, recording.millis().div_ceil(1000));
        assert!(alone.usage.output_units > 0 && !transcript.segments.is_empty());
        if let Some(language) = more["language"].as_str() {
            assert_eq!(transcript.language, language);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_name_the_files_and_the_arithmetic() {
    let executor = executor("english").with_min_price(cai(2));
    let offers = executor.capabilities();
    assert_eq!(offers.len(), 1);
    assert_eq!((&offers[0].model, offers[0].min_price), (&name(), cai(2)));
    assert_eq!(offers[0].model_hash.0, executor.model().model_hash());
    let kernels = &offers[0].kernels;
    assert!(
        kernels.starts_with("cpu-f32-text") && kernels.contains("speech"),
        "{kernels}"
    );
    assert!(kernels.len() <= 64);
    assert!(executor.memory() > 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_inputs_and_recordings_blame_the_requester() {
    let executor = executor("english");
    let good = wav("short");
    for more in [
        json!({ "language": "de" }),
        json!({ "language": "English" }),
        json!({ "translate": true }),
        json!({ "temperature": 2 }),
        json!({ "beams": 5 }),
        json!({ "prompt": "<|endoftext|>" }),
        json!({ "audio": "recording.wav" }),
    ] {
        let error = run(&executor, &good, more.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{more}: {error}");
    }
    let mut header = good.bytes[..44].to_vec();
    header[40..44].copy_from_slice(&0_u32.to_le_bytes());
    let mut absurd = good.bytes.to_vec();
    // Four billion bytes a second do not go with what is said of the rest.
    absurd[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    for (bytes, named) in [
        (b"\xff\xfb an MP3".to_vec(), "no WAV file"),
        (Vec::new(), "ends before its end"),
        (
            good.bytes[..good.bytes.len() / 2].to_vec(),
            "ends before its end",
        ),
        (header, "no sound"),
        (absurd, "no WAV file"),
    ] {
        let audio = Output::new("audio/wav", bytes);
        let error = run(&executor, &audio, json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message().contains(named), "{named} in {error}");
    }
    let absent = executor.execute(task(&about(&good, json!({}))), TaskContext::new(FAR));
    assert_eq!(absent.await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(
        run(&executor, &good, json!({})).await.is_ok(),
        "after all that"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_or_late_is_for_another_miner() {
    let limits = SpeechLimits {
        max_seconds: 2,
        ..SpeechLimits::default()
    };
    let executor = executor("english").with_limits(limits).unwrap();
    let error = run(&executor, &wav("long"), json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(run(&executor, &wav("short"), json!({})).await.is_ok());

    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let late = executor.clone().with_clock(clock.clone());
    let context = |deadline| {
        let deadline = Timestamp::from_millis(deadline);
        TaskContext::new(deadline).with_blobs([wav("short")])
    };
    let input = about(&wav("short"), json!({}));
    let on_time = late.execute(task(&input), context(1_001)).await;
    assert!(on_time.is_ok());
    clock.advance(Duration::from_millis(1));
    let error = late
        .execute(task(&input), context(1_001))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_ends_and_leaves_its_place() {
    let executor = executor("multilingual");
    let long = wav("long");
    let input = about(&long, json!({}));
    let context = TaskContext::new(FAR).with_blobs([long.clone()]);
    context.cancel();
    let error = executor.execute(task(&input), context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    // Dropped in the middle: it goes no further, and the next one finds the only place free again.
    let gate = Arc::new(Gate::default());
    let held = executor.clone().with_clock(gate.clone());
    let context = TaskContext::new(FAR).with_blobs([long.clone()]);
    let began = tokio::select! {
        _ = held.execute(task(&input), context.clone()) => false,
        () = gate.reached() => true,
    };
    assert!(began, "it ended without asking for the time");
    assert!(context.is_cancelled());
    let next = run(&executor, &long, json!({}));
    tokio::pin!(next);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut next).await;
    assert!(
        early.is_err(),
        "the place is taken until the thread has ended"
    );
    gate.open();
    let next = next.await.unwrap();
    assert!(next.usage.output_units > 1);
    assert_eq!(gate.asked(), 1, "it went on after it was dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_does_not_wait_for_a_place() {
    let limits = SpeechLimits {
        max_seconds: 2,
        ..SpeechLimits::default()
    };
    let executor = executor("english").with_limits(limits).unwrap();
    let gate = Arc::new(Gate::default());
    let held = executor.clone().with_clock(gate.clone());
    let first = tokio::spawn(async move { run(&held, &wav("short"), json!({})).await });
    gate.reached().await;
    let (long, song) = (
        wav("long"),
        Output::new("audio/wav", b"ID3, a song".to_vec()),
    );
    for (audio, kind) in [(long, ErrorKind::Rejected), (song, ErrorKind::Invalid)] {
        let second = run(&executor, &audio, json!({}));
        // At once, as a run never is that is held.
        let refused = tokio::time::timeout(Duration::from_secs(20), second).await;
        let error = refused.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (kind, Retry::Never),
            "{error}"
        );
    }
    assert!(!first.is_finished());
    gate.open();
    first.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn its_trial_runs_on_the_recording_that_it_brings() {
    let executor = executor("multilingual");
    let trials = executor.trials(&name());
    assert_eq!(trials.len(), 1);
    let context = TaskContext::new(FAR).with_blobs(trials[0].blobs.clone());
    let run = executor.execute(task(&trials[0].input), context).await;
    assert_eq!(run.unwrap().usage.input_units, 1);
    assert_eq!(executor.work(&task(&trials[0].input)), None);
}

#[test]
fn it_conforms() {
    let (long, short) = (wav("long"), wav("short"));
    let audio = |wav: &Output| BlobId::of(&wav.bytes).to_string();
    let samples = Samples::new(name())
        .valid(json!({ "audio": audio(&short) }))
        .valid(json!({ "audio": audio(&long), "temperature": 0.9, "language": "de" }))
        .invalid(json!({ "audio": audio(&short), "language": "fr" }))
        .invalid(json!({ "audio": audio(&short), "beams": 2 }))
        .invalid(json!({}))
        .long(json!({ "audio": audio(&long), "temperature": 1.0 }))
        .blob(long)
        .blob(short);
    let report = Conformance::new(Arc::new(executor("multilingual")))
        .samples(samples)
        .run_blocking();
    println!("{report}");
    assert!(report.passed(), "{report}");
    assert_eq!(report.check("refusals").unwrap().outcome(), Outcome::Passed);
}
