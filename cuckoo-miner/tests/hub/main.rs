//! Models from the hub: the store and the real binary against a mirror that serves what the hub does, and misbehaves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod binary;
mod faults;
mod mirror;
mod pulls;
mod start;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use cuckoo_core::Result;
use cuckoo_miner::{Hub, HubModel, ModelStore, PullEvent, PullOptions, Pulled};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::mirror::Mirror;

const SHAPES: &str = "cuckoo/shapes";
/// The largest file of [`SHAPES`].
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn shapes() -> PathBuf {
    root().join("examples/models/shapes")
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// A mirror that has the shapes.
fn mirror() -> (Mirror, String) {
    let mirror = Mirror::start();
    let commit = mirror.publish(SHAPES, &shapes());
    (mirror, commit)
}

/// An empty cache, and what is pulled into it.
struct Cache {
    home: TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Cache {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    fn store(&self) -> ModelStore {
        ModelStore::new(self.home.path().join("hub"))
    }

    /// A path in the folder of a model, such as `blobs`.
    fn path(&self, model: &str, within: &str) -> PathBuf {
        let folder = format!("models--{}", model.replace('/', "--"));
        self.store().folder().join(folder).join(within)
    }

    fn pull(&self, mirror: &Mirror, model: &str) -> Result<Pulled> {
        self.pull_with(mirror, model, &quick(), &|_| {})
    }

    fn pull_with(
        &self,
        mirror: &Mirror,
        model: &str,
        options: &PullOptions,
        watch: &(dyn Fn(PullEvent<'_>) + Send + Sync),
    ) -> Result<Pulled> {
        let hub = Hub::new(&mirror.url)?;
        let model: HubModel = model.parse()?;
        let stop = CancellationToken::new();
        let store = self.store();
        let pull = store.pull(&hub, &model, options, watch, &stop);
        self.runtime.block_on(pull)
    }

    /// The binary, in this cache and with this hub.
    fn command(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cuckoo-miner"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("HF_HOME", self.home.path())
            .env("HF_ENDPOINT", endpoint)
            .env("CUCKOO_PASSWORD", "correct horse");
        for name in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "CUCKOO_LOG",
        ] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, endpoint: &str, arguments: &[&str]) -> Output {
        self.command(endpoint, arguments).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn prints(&self, endpoint: &str, arguments: &[&str]) -> String {
        let output = self.run(endpoint, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that fails says.
    fn complains(&self, endpoint: &str, arguments: &[&str]) -> String {
        let output = self.run(endpoint, arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Short pauses, so that tests of repeats are quick.
fn quick() -> PullOptions {
    PullOptions {
        attempts: 4,
        retry_min_millis: 2,
        retry_max_millis: 10,
        ..PullOptions::default()
    }
}

/// The text of every event but progress.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn hear(&self, event: PullEvent<'_>) {
        if !matches!(event, PullEvent::At { .. }) {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }

    fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// The files of a folder, links followed, by path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(inner) = open.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// The contents that are still incomplete.
fn partial(cache: &Cache) -> Vec<PathBuf> {
    let Ok(blobs) = fs::read_dir(cache.path(SHAPES, "blobs")) else {
        return Vec::new();
    };
    let paths = blobs.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "incomplete"))
        .filter(|path| path.metadata().is_ok_and(|found| found.len() > 0))
        .collect()
}
