//! The units of `examples/systemd` against the settings that they speak of.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a setting, in the order of the file.
fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}=");
    text.lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect()
}

#[test]
fn units_wait_for_the_drain_and_override_settings_that_exist() {
    for (name, prefix) in [
        ("miner", "CUCKOO_MINER__"),
        ("coordinator", "CUCKOO_COORDINATOR__"),
    ] {
        let unit = read(&format!("examples/systemd/cuckoo-{name}.service"));
        let example = read(&format!("cuckoo-{name}/{name}.example.toml"));
        let drain = example
            .lines()
            .find_map(|line| line.strip_prefix("drain_seconds = "))
            .and_then(|seconds| seconds.parse::<u64>().ok())
            .unwrap();
        let stop: u64 = values(&unit, "TimeoutStopSec")[0].parse().unwrap();
        assert!(stop > drain, "{name}: {stop} s for a drain of {drain} s");
        assert!(
            unit.contains(&format!("drain_seconds is {drain}.")),
            "{name}"
        );
        let program = values(&unit, "ExecStart")[0];
        assert!(
            program.contains(&format!(
                "/cuckoo-{name} run --config /etc/cuckoo/{name}.toml"
            )),
            "{program}"
        );
        for variable in values(&unit, "Environment") {
            let key = variable.strip_prefix(prefix).unwrap();
            let (key, _) = key.split_once('=').unwrap();
            let setting = key.rsplit("__").next().unwrap().to_lowercase();
            let written = |line: &str| {
                let line = line.strip_prefix("#! ").unwrap_or(line);
                line.starts_with(&format!("{setting} = "))
            };
            assert!(example.lines().any(written), "{variable}: no `{setting}`");
        }
        // Each credential is used.
        for credential in values(&unit, "LoadCredential") {
            let (name, _) = credential.split_once(':').unwrap();
            assert!(unit.contains(&format!("=%d/{name}\n")), "{credential}");
        }
    }
}
