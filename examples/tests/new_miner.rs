//! `cuckoo-miner new`, from an empty folder to a task that the new miner serves: the project is built, its tests run, and its
//! program works for a coordinator, over HTTP and on a chain node, as an operator would have it.
//!
//! The miner's binary is expected beside the examples', where `cargo nextest run --release` over the workspace, or
//! `cargo build --release --bin cuckoo-miner`, puts it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, ModelSettings, Settings, router, serve};
use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Clock as _, DeployConfig, Key, LocalMarket, OsEntropy, RpcSettings, RpcStaking, SystemClock,
    TaskSpec, cai, save_key,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PASSWORD: &str = "correct horse battery staple";
/// The longest that a task may wait for the miner.
const PATIENCE: Duration = Duration::from_secs(120);

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// The folder that this test's programs are in.
fn programs() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_custom-miner"));
    beside.parent().unwrap().to_owned()
}

/// Runs a command that must succeed, and gives what it prints.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}\n{printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

/// Makes the project in `folder`, builds it in this workspace's target folder with this workspace's versions, and runs its
/// tests; gives its program.
fn project(folder: &Path) -> PathBuf {
    let miner = programs().join(format!("cuckoo-miner{}", std::env::consts::EXE_SUFFIX));
    assert!(
        miner.is_file(),
        "no {}: run `cargo build --release --bin cuckoo-miner` first",
        miner.display()
    );
    let said = run(Command::new(&miner)
        .current_dir(folder)
        .args(["new", "scaffold-probe", "--cuckoo"])
        .arg(checkout()));
    assert!(said.contains("cd scaffold-probe"), "{said}");
    let project = folder.join("scaffold-probe");
    share_dependencies(&project.join("Cargo.toml"));
    // The same versions, of which each is on this machine, and the same compiler.
    for file in ["Cargo.lock", "rust-toolchain.toml"] {
        fs::copy(checkout().join(file), project.join(file)).unwrap();
    }
    let target = programs().parent().unwrap().to_owned();
    let mut test = Command::new(env!("CARGO"));
    test.current_dir(&project)
        .args(["test", "--offline"])
        .args(programs().ends_with("release").then_some("--release"))
        .args(["--", "--nocapture"])
        .env("CARGO_TARGET_DIR", &target);
    // What the runner says of this package is not so of that one, and build scripts that look at it would run again, here and
    // at the next build of the workspace.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            test.env_remove(&*name);
        }
    }
    let tested = run(&mut test);
    assert!(tested.contains("  ok  repeatable"), "{tested}");
    assert!(tested.contains("14 of 14 checks passed"), "{tested}");
    programs().join(format!("scaffold-probe{}", std::env::consts::EXE_SUFFIX))
}

/// Adds what the workspace depends on to what the project's tests do: so its dependencies have the features that they have
/// here, and what is compiled already is not compiled anew. What the project itself says stays as it was written.
fn share_dependencies(manifest: &Path) {
    let metadata = run(Command::new(env!("CARGO")).current_dir(checkout()).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    // By name, which a project may give once: where it comes from, its features, and whether the default ones are among them.
    let mut shared: BTreeMap<&str, (String, BTreeSet<&str>, bool)> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        // The runner leaves this one out, too.
        if name == "cuckoo-python" {
            continue;
        }
        if name == "cuckoo-core" || name == "cuckoo-miner" {
            let path = Path::new(package["manifest_path"].as_str().unwrap());
            let features = package["features"].as_object().unwrap().keys();
            let source = format!("path = {:?}", path.parent().unwrap());
            let features = features.map(String::as_str).collect();
            shared.insert(name, (source, features, true));
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            if !dependency["path"].is_null() || !dependency["rename"].is_null() {
                continue;
            }
            let dependency_name = dependency["name"].as_str().unwrap();
            let entry = shared.entry(dependency_name).or_default();
            let features = dependency["features"].as_array().unwrap().iter();
            entry.0 = format!("version = {}", dependency["req"]);
            entry.1.extend(features.filter_map(Value::as_str));
            entry.2 |= dependency["uses_default_features"] == true;
        }
        // What the package's own features turn on in its dependencies.
        let own = package["features"].as_object().unwrap().values();
        for turned_on in own
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_str)
        {
            if let Some((dependency, feature)) = turned_on.split_once('/')
                && let Some(entry) = shared.get_mut(dependency)
            {
                entry.1.insert(feature);
            }
        }
    }
    let mut text = fs::read_to_string(manifest).unwrap() + "\n[dev-dependencies]\n";
    for (name, (source, features, defaults)) in shared {
        let features: Vec<_> = features.into_iter().collect();
        text += &format!(
            "{name} = {{ {source}, features = {features:?}, default-features = {defaults} }}\n"
        );
    }
    fs::write(manifest, text).unwrap();
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_project_builds_passes_its_tests_and_serves_a_task() {
    let folder = tempfile::tempdir().unwrap();
    let program = tokio::task::spawn_blocking({
        let folder = folder.path().to_owned();
        move || project(&folder)
    });
    let program = program.await.unwrap();

    let anvil = Anvil::start_ticking()
        .await
        .expect("anvil; `make setup` installs it");
    let entropy = Arc::new(OsEntropy::new().unwrap());
    let treasury = Key::random(&*entropy);
    anvil
        .fund(treasury.address(), cai(3_000_000))
        .await
        .unwrap();
    let rpc = RpcSettings::new(anvil.url());
    let chain = RpcStaking::deploy(
        &rpc,
        &treasury,
        &DeployConfig::demo(),
        Arc::new(SystemClock),
    )
    .await
    .unwrap();
    let market = LocalMarket::new(Arc::clone(&chain), treasury, entropy.clone());
    let host = market
        .add_coordinator("host", cai(2_000_000), cai(10))
        .await
        .unwrap();
    let member = market.add_miner("charts", cai(20_000)).await.unwrap();
    market
        .settle(&[&host, &member], &SystemClock, PATIENCE)
        .await
        .unwrap();
    let coordinator = Coordinator::builder()
        .settings(Settings {
            models: vec![ModelSettings::new("charts".parse().unwrap(), cai(1))],
            ..Settings::default()
        })
        .chain(Arc::clone(&chain))
        .operator(host.operator)
        .start()
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(
        listener,
        router(coordinator.clone()),
        std::future::pending(),
    ));

    // The project's own settings, with this market's addresses.
    let project = folder.path().join("scaffold-probe");
    save_key(
        &project.join("miner.json"),
        &member.operator,
        PASSWORD,
        &*entropy,
    )
    .unwrap();
    let deployment = chain.deployment();
    let contracts = format!(
        "chain_id = {}\nstaking = \"{}\"\npayments = \"{}\"",
        deployment.chain_id, deployment.staking, deployment.payments
    );
    let mut settings = fs::read_to_string(project.join("miner.toml")).unwrap();
    for (from, to) in [
        ("http://127.0.0.1:8480", address.as_str()),
        ("http://127.0.0.1:8545", anvil.url()),
        ("deployment = \"deployment.toml\"", &contracts),
    ] {
        assert!(settings.contains(from), "{from}");
        settings = settings.replacen(from, to, 1);
    }
    fs::write(project.join("miner.toml"), settings).unwrap();
    let command = |name: &str| {
        let mut command = Command::new(&program);
        command
            .current_dir(&project)
            .args([name, "--config", "miner.toml"])
            .env("CUCKOO_PASSWORD", PASSWORD)
            .env_remove("CUCKOO_LOG");
        command
    };
    let mut doctor = command("doctor");
    let found = tokio::task::spawn_blocking(move || run(&mut doctor))
        .await
        .unwrap();
    assert!(found.contains("`charts`: loaded"), "{found}");
    let miner = command("run").stdin(Stdio::null()).spawn().unwrap();
    let _miner = Running(miner);

    let input = json!({ "bars": [20, 60, 35, 90] });
    let task = TaskSpec::new("charts".parse().unwrap(), input);
    let task = coordinator.submit(task).await.unwrap();
    let result = tokio::select! {
        result = task.result() => result.unwrap(),
        () = SystemClock.sleep(PATIENCE) => panic!("no miner came for the task"),
    };
    assert_eq!(result.output.media_type, "image/svg+xml");
    assert!(result.output.bytes.starts_with(b"<svg "));
    assert_eq!(
        result.receipt.signer(&deployment).unwrap(),
        member.operator.address()
    );
}
