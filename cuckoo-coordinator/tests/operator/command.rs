//! Commands that end by themselves, and what they print.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs a command that must succeed and gives its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    run_with_input(command, "")
}

/// The same with something on standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> String {
    let output = finish(command, input);
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail and gives its standard error.
pub(crate) fn fails(command: &mut Command) -> String {
    let output = finish(command, "");
    assert!(!output.status.success(), "{command:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

fn finish(command: &mut Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A command that fails early never reads it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}
