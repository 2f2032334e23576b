//! A miner whose settings name a model of the hub.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::mirror::Mirror;
use crate::{Cache, SHAPES, mirror};

const EXAMPLE: &str = include_str!("../../miner.example.toml");

/// Ends with the test.
struct Miner(Child);

impl Miner {
    /// Starts it; the log up to the line that has `text`.
    fn until(mut command: Command, text: &str) -> String {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let _miner = Self(child);
        let mut log = String::new();
        for line in lines.map_while(Result::ok) {
            log += &format!("{line}\n");
            if line.contains(text) {
                return log;
            }
        }
        panic!("no line with `{text}` in:\n{log}");
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a key, a deployment and settings whose model is `place`.
fn settings(cache: &Cache, place: &str) {
    let home = cache.home.path();
    if !home.join("miner.json").exists() {
        cache.prints("", &["key", "new", "--keystore", "miner.json"]);
    }
    let address = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
    let deployment =
        format!("chain_id = 31337\nstaking = \"{address}\"\npayments = \"{address}\"\n");
    fs::write(home.join("deployment.toml"), deployment).unwrap();
    let folder = "folder = \"../examples/models/shapes\"";
    assert!(EXAMPLE.contains(folder));
    // A chain that nobody answers at: the models are looked at before it.
    let text = EXAMPLE
        .replace(folder, place)
        .replace("8545", "9")
        .replace("8480", "9");
    fs::write(home.join("miner.toml"), text).unwrap();
}

#[test]
fn it_is_pulled_at_the_start_and_found_offline_ever_after() {
    let (mirror, commit) = mirror();
    let cache = Cache::new();
    settings(&cache, &format!("hub = \"{SHAPES}@{commit}\""));
    let run = ["run", "--config", "miner.toml"];
    let url = mirror.url.clone();
    let log = Miner::until(cache.command(&url, &run), "model `shapes` loaded");
    for part in [
        "files, ",
        "model `shapes`: pulled cuckoo/shapes",
        "over the network",
    ] {
        assert!(log.contains(part), "{part} in {log}");
    }
    let pulled = cache.prints(&url, &["models", "pull", SHAPES]);
    let hash = pulled
        .lines()
        .find_map(|line| line.strip_prefix("hash     "))
        .unwrap();
    assert!(log.contains(hash), "{hash} in {log}");

    drop(mirror);
    let log = Miner::until(cache.command(&url, &run), "model `shapes` loaded");
    assert!(
        log.contains("is in the cache") && !log.contains("pulled"),
        "{log}"
    );
    let doctor = cache.run(&url, &["doctor", "--config", "miner.toml"]);
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        doctor.contains("  ok  model          `shapes`: loaded in"),
        "{doctor}"
    );
}

#[test]
fn what_cannot_be_pulled_is_said_before_anything_starts() {
    let mirror = Mirror::start();
    let cache = Cache::new();
    settings(&cache, "hub = \"cuckoo/none\"");
    let run = ["run", "--config", "miner.toml"];
    let error = cache.complains(&mirror.url, &run);
    assert!(
        error.contains("model `shapes` cannot be pulled") && error.contains("check name"),
        "{error}"
    );
    let doctor = cache.run(&mirror.url, &["doctor", "--config", "miner.toml"]);
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        doctor.contains("FAIL  model") && doctor.contains("models pull cuckoo/none"),
        "{doctor}"
    );
    assert!(mirror.calls().len() == 1, "a doctor pulls nothing");

    settings(&cache, "hub = \"cuckoo/none\"\nfolder = \"x\"");
    assert!(
        cache
            .complains(&mirror.url, &run)
            .contains("`folder` and `hub` are both set")
    );
    settings(&cache, "");
    assert!(
        cache
            .complains(&mirror.url, &run)
            .contains("set `folder` to where it is, or `hub`")
    );
}
