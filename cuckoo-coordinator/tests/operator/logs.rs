//! Log lines for machines.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::PASSWORD;
use crate::command::run;
use crate::process::Running;

#[test]
fn a_log_for_machines_has_one_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cuckoo-coordinator"));
        command
            .current_dir(folder.path())
            .env("CUCKOO_PASSWORD", PASSWORD)
            .env_remove("CUCKOO_LOG")
            .env_remove("CUCKOO_LOG_FORMAT");
        command
    };
    run(coordinator().args(["key", "new", "--keystore", "operator.json"]));
    let address = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
    let settings = include_str!("../../coordinator.example.toml")
        .replace("127.0.0.1:8480", "127.0.0.1:0")
        // Nobody answers there, which is logged.
        .replace("http://127.0.0.1:8545", "http://127.0.0.1:1")
        .replace(
            "deployment = \"deployment.toml\"",
            &format!("chain_id = 1\nstaking = \"{address}\"\npayments = \"{address}\""),
        );
    fs::write(folder.path().join("coordinator.toml"), &settings).unwrap();
    let serve = ["run", "--config", "coordinator.toml"];
    let mut plain = Running::start(coordinator().args(serve));
    let line = plain.line("cannot be reached");
    assert!(line.contains(" WARN "), "{line}");

    let settings = settings.replace("format = \"text\"", "format = \"json\"");
    fs::write(folder.path().join("coordinator.toml"), settings).unwrap();
    drop(plain);
    let mut machine = Running::start(coordinator().args(serve));
    let line = machine.line("cannot be reached");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "WARN");
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("[chain] rpc"), "{message}");
    assert!(line["timestamp"].is_string());
    for line in machine.log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
    }
}
