//! The examples that the README shows, run as it says.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs an example in `folder`.
fn run(program: &str, folder: &Path) -> Output {
    let output = Command::new(program)
        .current_dir(folder)
        .output()
        .expect("the example starts");
    assert!(
        output.status.success(),
        "{program}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn the_custom_miner_serves_a_task_within_sixty_lines() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(env!("CARGO_BIN_EXE_custom-miner"), folder.path());
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("signature"),
        "{output:?}"
    );
    let source = include_str!("../custom_miner.rs");
    assert!(
        source.lines().count() <= 60,
        "{} lines",
        source.lines().count()
    );
}

#[test]
fn an_embedded_coordinator_forgets_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(env!("CARGO_BIN_EXE_embedded"), folder.path());
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("{\"words\":6}"), "{output:?}");
    assert!(told.contains("1 completed"), "{output:?}");
    assert!(folder.path().join("coordinator.db").exists());
}

#[test]
fn the_rust_service_saves_a_picture() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::os::unix::fs::symlink(examples, folder.path().join("examples")).expect("a link");
    let output = run(env!("CARGO_BIN_EXE_rust-service"), folder.path());
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("signed by 0x"),
        "{output:?}"
    );
    let picture = std::fs::read(folder.path().join("circle.png")).expect("circle.png is there");
    assert!(picture.starts_with(b"\x89PNG"));
}
