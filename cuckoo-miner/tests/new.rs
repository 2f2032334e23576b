//! `cuckoo-miner new` as a tool author meets it: what it writes and what it refuses. `examples/tests/new_miner.rs` builds and
//! runs what it wrote.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn new(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cuckoo-miner"))
        .current_dir(folder)
        .arg("new")
        .args(arguments)
        .output()
        .unwrap()
}

fn prints(folder: &Path, arguments: &[&str]) -> String {
    let output = new(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn complains(folder: &Path, arguments: &[&str]) -> String {
    let output = new(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_project_is_written_whole_and_says_what_is_next() {
    let folder = tempfile::tempdir().unwrap();
    let said = prints(folder.path(), &["my-miner"]);
    for line in [
        "  cd my-miner",
        "  cargo test --release",
        "  cargo run --release -- --help",
    ] {
        assert!(said.contains(line), "`{line}` in {said}");
    }
    let project = folder.path().join("my-miner");
    for file in [
        ".gitignore",
        "Cargo.toml",
        "README.md",
        "miner.toml",
        "src/executor.rs",
        "src/main.rs",
        "tests/conformance.rs",
    ] {
        let text = fs::read_to_string(project.join(file)).unwrap();
        assert!(!text.is_empty() && !text.contains("{{"), "{file}: {text}");
    }
    let main = fs::read_to_string(project.join("src/main.rs")).unwrap();
    assert!(main.lines().count() <= 15, "{main}");

    // Cargo reads it, and finds Cuckoo where this program was built from.
    let metadata = Command::new(env!("CARGO"))
        .current_dir(&project)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(metadata.stdout).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    let package = &metadata["packages"][0];
    assert_eq!(package["name"], "my-miner");
    let dependencies = package["dependencies"].as_array().unwrap();
    let miner = dependencies
        .iter()
        .find(|dependency| dependency["name"] == "cuckoo-miner")
        .unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"))
        .canonicalize()
        .unwrap();
    assert_eq!(miner["path"], here.to_str().unwrap());
}

#[test]
fn it_goes_where_it_is_told_and_takes_cuckoo_from_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let address = "https://git.example.org/cuckoo.git";
    let said = prints(
        folder.path(),
        &["my-miner", "--path", "empty", "--cuckoo", address],
    );
    assert!(said.contains("cd empty"), "{said}");
    let manifest = fs::read_to_string(folder.path().join("empty/Cargo.toml")).unwrap();
    assert!(
        manifest.contains(&format!("cuckoo-miner = {{ git = \"{address}\" }}")),
        "{manifest}"
    );
}

#[test]
fn what_is_there_is_not_touched_and_names_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    prints(folder.path(), &["my-miner"]);
    let main = folder.path().join("my-miner/src/main.rs");
    fs::write(&main, "mine").unwrap();
    let again = complains(folder.path(), &["my-miner"]);
    assert!(
        again.contains("not an empty folder") && again.contains("--path"),
        "{again}"
    );
    assert_eq!(fs::read_to_string(&main).unwrap(), "mine");
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(complains(folder.path(), &["other", "--path", "file"]).contains("not an empty"));
    assert!(complains(folder.path(), &["2d"]).contains("begins with a letter"));
    assert!(complains(folder.path(), &["core"]).contains("choose another"));
    let nowhere = complains(folder.path(), &["other", "--cuckoo", "nowhere"]);
    assert!(nowhere.contains("checkout of Cuckoo"), "{nowhere}");
    assert!(!folder.path().join("other").exists(), "nothing was begun");
}

#[test]
fn help_teaches() {
    let help = prints(Path::new("."), &["--help"]);
    for part in [
        "src/executor.rs",
        "cuckoo-miner new my-miner",
        "--cuckoo",
        "Nothing is overwritten",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
}
