//! The conformance kit over the SDK's own executors and the one that `cuckoo-miner new` writes, which pass it, and over
//! executors with one fault each, which do not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod faulty;
#[allow(unreachable_pub, reason = "in its project it is a library")]
#[path = "../../templates/miner/src/executor.rs"]
mod template;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cuckoo_core::ModelId;
use cuckoo_miner::conformance::{Conformance, Outcome, Report, Samples};
use cuckoo_miner::{ImageExecutor, TextExecutor};
use serde_json::{from_value, json};

use faulty::{Fault, Faulty};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn name(text: &str) -> ModelId {
    text.parse().unwrap()
}

/// Every check was made and none failed.
fn passes(report: &Report) {
    println!("{report}");
    assert!(report.passed(), "{report}");
}

#[test]
fn the_image_executor_conforms() {
    let folder = here("../examples/models/shapes");
    let executor = ImageExecutor::load(folder, name("shapes")).unwrap();
    let samples = Samples::new(name("shapes"))
        .valid(json!({ "prompt": "a red circle", "steps": 1 }))
        .valid(json!({ "prompt": "a large blue ring", "steps": 2, "seed": 5, "sampler": "ddim" }))
        .invalid(json!({ "prompt": "x", "width": 13 }))
        .invalid(json!({ "prompt": "x", "steps": 0 }))
        .invalid(json!({ "prompt": "x", "colour": 1 }))
        .long(json!({ "prompt": "a red circle", "steps": 150 }));
    let report = Conformance::new(Arc::new(executor.with_runs(2)))
        .samples(samples)
        .run_blocking();
    passes(&report);
    let cancellation = report.check("cancellation").unwrap();
    assert_eq!(cancellation.outcome(), Outcome::Passed, "{report}");
    assert!(cancellation.findings()[0].contains("by itself"), "{report}");
}

#[test]
fn the_text_executor_conforms() {
    let executor = TextExecutor::load(here("tests/golden/language/llama"), name("random")).unwrap();
    let samples = Samples::new(name("random"))
        .valid(json!({ "prompt": "The cuckoo", "max_tokens": 12, "temperature": 1.0 }))
        .valid(json!({ "prompt": "Sing!", "max_tokens": 20, "temperature": 0, "logprobs": 2 }))
        .invalid(json!({ "prompt": "x", "temperature": 9 }))
        .invalid(json!({ "prompt": "x", "max_tokens": 0 }))
        .invalid(json!({}));
    let report = Conformance::new(Arc::new(executor))
        .samples(samples)
        .run_blocking();
    passes(&report);
    let stream = report.check("stream").unwrap();
    assert!(stream.findings().is_empty(), "texts are streamed: {report}");
}

#[test]
fn the_executor_of_a_new_project_conforms() {
    let settings = from_value(json!({ "model": "charts" })).unwrap();
    let samples = Samples::new(name("charts"))
        .valid(json!({ "bars": [20, 60, 35, 90] }))
        .valid(json!({ "bars": [], "seed": 99 }))
        .invalid(json!({ "bars": [101] }))
        .invalid(json!({ "bars": [20], "colour": "red" }));
    let report = Conformance::new(Arc::new(template::Charts::new(settings)))
        .samples(samples)
        .run_blocking();
    passes(&report);
    assert_eq!(report.check("fields").unwrap().outcome(), Outcome::Passed);
}

fn check(fault: Fault, patience: Duration) -> Report {
    let samples = Samples::new(name("words"))
        .valid(json!({ "text": "one two three" }))
        .valid(json!({ "text": "four", "seed": 4 }))
        .invalid(json!({ "text": "" }))
        .long(json!({ "text": "slow", "pauses": 2_000 }));
    let executor = Arc::new(Faulty::new(fault));
    let report = Conformance::new(Arc::clone(&executor) as _)
        .samples(samples)
        .patience(patience)
        .run_blocking();
    // What blocks a thread goes on until then.
    executor.over.store(true, Ordering::Relaxed);
    report
}

fn failed(report: &Report) -> Vec<&'static str> {
    let failed = |outcome| outcome == Outcome::Failed;
    let checks = report.checks().iter();
    checks
        .filter(|check| failed(check.outcome()))
        .map(|check| check.name())
        .collect()
}

const PATIENT: Duration = Duration::from_secs(60);
/// For runs that never end; more than any other takes.
const HANGING: Duration = Duration::from_secs(8);

#[test]
fn an_executor_without_fault_passes_every_check() {
    let report = check(Fault::None, PATIENT);
    for check in report.checks() {
        assert_eq!(check.outcome(), Outcome::Passed, "{report}");
    }
    let table = report.to_string();
    assert!(table.contains("  ok  repeatable"), "{table}");
    assert!(table.contains("14 of 14 checks passed"), "{table}");
}

#[test]
fn each_fault_fails_the_checks_that_are_about_it_and_no_other() {
    let cases: &[(Fault, &[&str], &str)] = &[
        (Fault::ZeroHash, &["capabilities"], "hash is zero"),
        (Fault::OtherKernels, &["capabilities"], "second call"),
        (
            Fault::NoCapabilities,
            &["capabilities"],
            "panics: not today",
        ),
        (Fault::TwoOfOne, &["capabilities"], "another name"),
        (Fault::NoMediaType, &["output"], "media type"),
        (Fault::LongMediaType, &["output"], "media type"),
        (Fault::HugeOutput, &["output"], "bytes"),
        (
            Fault::Counting,
            &["repeatable", "recovery", "overlap"],
            "differs from byte",
        ),
        (Fault::EmitsAnother, &["stream"], "begins"),
        (Fault::GoesBack, &["progress"], "went back"),
        (Fault::Percent, &["progress"], "5000"),
        (Fault::LongHours, &["usage"], "ms of computing"),
        (Fault::CountsRuns, &["usage"], "units"),
        (Fault::TakesAnything, &["refusals"], "it ran"),
        (Fault::BlamesItself, &["refusals", "fields"], "internal"),
        (
            Fault::Panics,
            &["refusals", "fields", "panics"],
            "panicked: no input",
        ),
        (Fault::BlamesTheLate, &["deadline"], "failed as invalid"),
        (
            Fault::BreaksForGood,
            &["cancellation", "recovery", "overlap"],
            "broken by",
        ),
        (Fault::Shares, &["overlap"], "differs from byte"),
    ];
    for (fault, expected, words) in cases {
        let report = check(*fault, PATIENT);
        assert_eq!(failed(&report), *expected, "{fault:?}\n{report}");
        assert!(!report.passed());
        let found = report.check(expected[0]).unwrap().findings().join("\n");
        assert!(found.contains(words), "{words} in {found}");
    }
}

#[test]
fn a_run_that_cannot_be_stopped_is_found_and_not_waited_for() {
    for (fault, words) in [
        (Fault::KeepsItsThread, "still holds its context"),
        (Fault::NeverAwaits, "never comes to an await point"),
    ] {
        let report = check(fault, HANGING);
        assert_eq!(failed(&report), ["cancellation"], "{fault:?}\n{report}");
        let found = report.check("cancellation").unwrap().findings().join("\n");
        assert!(found.contains(words), "{words} in {found}");
    }
    let report = check(Fault::LosesItsPermit, HANGING);
    assert_eq!(
        failed(&report),
        ["cancellation", "recovery", "overlap"],
        "{report}"
    );
    let found = format!("did not end in {} s", HANGING.as_secs());
    assert!(report.to_string().contains(&found), "{report}");
}

#[test]
fn a_run_that_does_not_listen_is_dropped_and_noted() {
    let report = check(Fault::Deaf, PATIENT);
    assert!(report.passed(), "{report}");
    let cancellation = report.check("cancellation").unwrap();
    assert_eq!(cancellation.outcome(), Outcome::Noted, "{report}");
    assert!(
        cancellation.findings()[0].contains("dropped it"),
        "{report}"
    );
}

#[test]
fn what_refuses_every_input_fails_and_leaves_nothing_to_compare() {
    let report = check(Fault::NoSeed, PATIENT);
    assert_eq!(
        failed(&report),
        ["output", "deadline", "cancellation"],
        "{report}"
    );
    let skipped = report.check("recovery").unwrap();
    assert_eq!(skipped.outcome(), Outcome::Skipped);
    assert!(
        report.to_string().contains("unknown field `seed`"),
        "{report}"
    );
}

#[test]
fn every_model_needs_samples_of_its_own() {
    let executor = || Arc::new(Faulty::new(Fault::None));
    let run = |samples: Option<Samples>| {
        let check = Conformance::new(executor());
        match samples {
            Some(samples) => check.samples(samples),
            None => check,
        }
        .run_blocking()
    };
    for (samples, words) in [
        (None, "words: there are none"),
        (Some(Samples::new(name("other"))), "does not offer it"),
        (Some(Samples::new(name("words"))), "no valid input"),
        (
            Some(Samples::new(name("words")).valid(json!(["text"]))),
            "no JSON object",
        ),
    ] {
        let report = run(samples);
        assert_eq!(failed(&report), ["samples"], "{report}");
        assert!(report.to_string().contains(words), "{words} in {report}");
        assert_eq!(report.check("output").unwrap().outcome(), Outcome::Skipped);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_on_the_threads_of_a_program_too() {
    let samples = Samples::new(name("words")).valid(json!({ "text": "one" }));
    let check = Conformance::new(Arc::new(Faulty::new(Fault::None))).samples(samples);
    let report = check.run().await;
    assert!(report.passed(), "{report}");
}
