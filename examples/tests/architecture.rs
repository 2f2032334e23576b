//! Holds the workspace to the dependency rules of `docs/architecture.md`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// For each crate, the direct dependencies among those the rules speak of: (normal and build, development).
fn dependencies() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let entry: &mut (BTreeSet<_>, BTreeSet<_>) = crates
            .entry(package["name"].as_str().expect("name").to_owned())
            .or_default();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let name = dependency["name"].as_str().expect("name").to_owned();
            match dependency["kind"].as_str() {
                Some("dev") => entry.1.insert(name),
                _ => entry.0.insert(name),
            };
        }
    }
    crates
}

#[test]
fn crates_depend_only_on_what_the_architecture_allows() {
    let crates = dependencies();
    let rules: [(&str, &[&str]); 3] = [
        ("cuckoo-core", &[]),
        ("cuckoo-miner", &["cuckoo-core"]),
        ("cuckoo-coordinator", &["cuckoo-core"]),
    ];
    for (name, allowed) in rules {
        let (normal, _) = crates
            .get(name)
            .unwrap_or_else(|| panic!("{name} is in the workspace"));
        for dependency in normal
            .iter()
            .filter(|dependency| dependency.starts_with("cuckoo-"))
        {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
    assert!(
        !crates["cuckoo-miner"].1.contains("cuckoo-coordinator"),
        "the coordinator may test with the miner, not the other way round"
    );
}

#[test]
fn each_kind_of_library_stays_in_its_crate() {
    let rules: [(&str, &[&str]); 8] = [
        // Prefix of a dependency's name, and the only crates that may name it.
        ("alloy", &["cuckoo-core"]),
        ("revm", &["cuckoo-core"]),
        ("candle", &["cuckoo-miner"]),
        ("cudarc", &["cuckoo-miner"]),
        ("llguidance", &["cuckoo-miner"]),
        ("axum", &["cuckoo-coordinator"]),
        ("opentelemetry", &["cuckoo-coordinator"]),
        ("pyo3", &["cuckoo-python"]),
    ];
    for (name, (normal, _)) in dependencies() {
        for (prefix, allowed) in rules {
            for dependency in normal
                .iter()
                .filter(|dependency| dependency.starts_with(prefix))
            {
                assert!(
                    allowed.contains(&name.as_str()),
                    "{name} must not depend on {dependency}"
                );
            }
        }
    }
}
