//! What an operator does in two terminals, done by a test: a real chain node, the real binaries as processes, and curl.
//! `docs/operator.md` is the same for people.
//!
//! The miner's binary is expected beside the coordinator's, where `cargo nextest run --release` over the workspace, or
//! `cargo build --release --bin cuckoo-miner`, puts it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[cfg(feature = "otel")]
#[path = "http_api/collector.rs"]
mod collector;
#[path = "operator/command.rs"]
mod command;
#[path = "operator/logs.rs"]
mod logs;
#[path = "operator/process.rs"]
mod process;
#[cfg(feature = "otel")]
#[path = "operator/traces.rs"]
mod traces;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use command::{fails, run, run_with_input};
use cuckoo_core::testing::Anvil;
use cuckoo_core::{Clock as _, Key, NodeId, SystemClock, Wei, cai};
use cuckoo_miner::MinerStatus;
use process::Running;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpSocket;

const PASSWORD: &str = "correct horse battery staple";
/// The first account of the mnemonic that every anvil starts with; anvil prints its key.
const OWNER_SECRET: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A folder like the one that `docs/operator.md` makes, and the chain.
struct Desk {
    folder: TempDir,
    anvil: Anvil,
}

impl Desk {
    async fn new() -> Self {
        let anvil = Anvil::start_ticking()
            .await
            .expect("anvil; `make setup` installs it");
        let owner = Key::from_bytes(OWNER_SECRET.parse().unwrap()).unwrap();
        anvil.fund(owner.address(), cai(10_000_000)).await.unwrap();
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
            anvil,
        };
        let import = ["key", "import", "--keystore", "owner.json"];
        let address = run_with_input(desk.coordinator().args(import), OWNER_SECRET);
        assert_eq!(address.trim(), owner.address().to_string());
        desk
    }

    fn coordinator(&self) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_cuckoo-coordinator")))
    }

    fn miner(&self) -> Command {
        let path = Path::new(env!("CARGO_BIN_EXE_cuckoo-coordinator"))
            .with_file_name(format!("cuckoo-miner{}", std::env::consts::EXE_SUFFIX));
        assert!(
            path.is_file(),
            "no {}: run `cargo build --release --bin cuckoo-miner` first",
            path.display()
        );
        self.command(&path)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("CUCKOO_PASSWORD", PASSWORD)
            .env_remove("CUCKOO_LOG");
        command
    }

    /// Deploys, makes the coordinator's key and settings, registers it.
    fn open_market(&self) {
        let deploy = [
            "chain",
            "deploy",
            "--keystore",
            "owner.json",
            "--demo",
            "--yes",
            "--rpc",
            self.anvil.url(),
        ];
        let said = run(self.coordinator().args(deploy));
        assert!(said.contains("deployment.toml"), "{said}");
        let again = fails(self.coordinator().args(deploy));
        assert!(again.contains("exists already"), "{again}");

        run(self
            .coordinator()
            .args(["key", "new", "--keystore", "operator.json"]));
        self.configure(
            "cuckoo-coordinator/coordinator.example.toml",
            "coordinator.toml",
            &[
                ("127.0.0.1:8480", "127.0.0.1:0"),
                ("http://127.0.0.1:8545", self.anvil.url()),
            ],
        );
        let register = [
            "register",
            "--config",
            "coordinator.toml",
            "--owner",
            "owner.json",
            "--name",
            "demo",
            "--escrow",
            "1000",
        ];
        let unasked = fails(self.coordinator().args(register));
        assert!(unasked.contains("--yes"), "{unasked}");
        let said = run(self.coordinator().args(register).arg("--yes"));
        assert!(
            said.contains("stake 2000000 CAI") && said.contains("node 1"),
            "{said}"
        );
        let again = run(self.coordinator().args(register));
        assert!(again.contains("nothing is missing"), "{again}");
    }

    /// Writes the settings of an example with some values changed.
    fn configure(&self, example: &str, name: &str, changes: &[(&str, &str)]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut text = fs::read_to_string(root.join(example)).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{example} has no `{from}`");
            text = text.replace(from, to);
        }
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn run_coordinator(&self) -> (Running, String) {
        let mut running =
            Running::start(
                self.coordinator()
                    .args(["run", "--config", "coordinator.toml"]),
            );
        let line = running.line("listening on ");
        let url = line
            .split_once("listening on ")
            .unwrap()
            .1
            .trim()
            .to_owned();
        (running, url)
    }

    fn curl(&self, arguments: &[&str]) -> String {
        run(Command::new("curl")
            .current_dir(self.folder.path())
            .args([
                "-sS",
                "--fail-with-body",
                "--noproxy",
                "*",
                "--max-time",
                "100",
            ])
            .args(arguments))
    }

    /// Asks for a picture as the manual does and checks that it is one.
    fn picture(&self, url: &str, prompt: &str) {
        let body = serde_json::json!({"model": "shapes", "input": {"prompt": prompt}}).to_string();
        self.curl(&[
            "-o",
            "picture.png",
            "-D",
            "headers.txt",
            "-H",
            "Content-Type: application/json",
            "-H",
            "Prefer: wait=90",
            "-d",
            &body,
            &format!("{url}/v1/tasks"),
        ]);
        let headers = fs::read_to_string(self.folder.path().join("headers.txt")).unwrap();
        assert!(
            headers.to_lowercase().contains("content-type: image/png"),
            "{headers}"
        );
        let file = std::io::BufReader::new(
            fs::File::open(self.folder.path().join("picture.png")).unwrap(),
        );
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (64, 64));
        let (least, most) = (pixels.iter().min().unwrap(), pixels.iter().max().unwrap());
        assert!(most - least > 64, "the picture is all of one colour");
    }
}

/// Tries until there is something, for about half a minute.
async fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..300 {
        if let Some(found) = attempt() {
            return found;
        }
        SystemClock.sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not come about");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_terminals_from_keys_to_a_picture() {
    let mut desk = Desk::new().await;
    desk.open_market();
    let (mut coordinator, url) = desk.run_coordinator();

    run(desk
        .miner()
        .args(["key", "new", "--keystore", "miner.json"]));
    let shapes = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("examples/models/shapes");
    desk.configure(
        "cuckoo-miner/miner.example.toml",
        "miner.toml",
        &[
            ("http://127.0.0.1:8480", &url),
            ("http://127.0.0.1:8545", desk.anvil.url()),
            ("../examples/models/shapes", shapes.to_str().unwrap()),
            (
                "[settings]\n",
                "[status]\nlisten = \"127.0.0.1:0\"\n\n[settings]\n",
            ),
        ],
    );
    let register = [
        "register",
        "--config",
        "miner.toml",
        "--owner",
        "owner.json",
        "--name",
        "gpu-1",
        "--yes",
    ];
    let said = run(desk.miner().args(register));
    assert!(
        said.contains("stake 20000 CAI") && said.contains("node 2"),
        "{said}"
    );
    let status = run(desk
        .coordinator()
        .args(["chain", "status", "--config", "coordinator.toml"]));
    assert!(
        status.contains("`gpu-1`") && status.contains("escrow 1000 CAI"),
        "{status}"
    );
    let doctor = ["doctor", "--config", "miner.toml"];
    let checkup = run(desk.miner().args(doctor));
    for found in [
        "node 2 `gpu-1`",
        "a small task in",
        "answers in",
        "CAI for a task of `shapes`",
    ] {
        assert!(checkup.contains(found), "`{found}` in {checkup}");
    }
    assert!(!checkup.contains("FAIL"), "{checkup}");
    let mut miner = Running::start(desk.miner().args(["run", "--config", "miner.toml"]));
    let page = miner.line("status at ");
    let page = page.split("status at http://").nth(1).unwrap();
    let page = page.split('/').next().unwrap();

    desk.picture(&url, "a large red circle on a blue background");
    let status = ["status", "--address", page];
    let seen: MinerStatus = eventually(|| {
        let json = run(desk.miner().args(status).arg("--json"));
        let seen: MinerStatus = serde_json::from_str(&json).unwrap();
        // Its answer to the coordinator may be on its way still, and so may the first look at the machine.
        let looked = |seen: &MinerStatus| {
            let machine = seen.machine.as_ref();
            machine.is_some_and(|machine| machine.resident.is_some())
        };
        Some(seen).filter(|seen| seen.completed == 1 && looked(seen))
    })
    .await;
    let pay = cai(1) / Wei::from(100);
    assert_eq!((seen.slots, seen.failed, seen.earned), (1, 0, pay));
    let served = &seen.coordinators[0];
    assert_eq!((served.node, served.owed), (Some(NodeId(1)), pay));
    // Votes count from the next epoch, which may or may not have begun.
    let stakes = [Wei::ZERO, cai(2_000_000)];
    assert!(stakes.contains(&served.stake), "{served:?}");
    assert_eq!((served.share, served.unpaid), (1_000, Wei::ZERO));
    assert!(
        served.connected && served.latency_millis.is_some(),
        "{seen:?}"
    );
    // It was timed before there was work.
    let [model] = &seen.models[..] else {
        panic!("one model is offered: {seen:?}");
    };
    assert!(model.warm && model.memory > 0, "{model:?}");
    assert_eq!(seen.weights, model.memory);
    let pace = model.pace.as_ref().unwrap();
    let [small, large] = &pace.trials[..] else {
        panic!("two trials of `shapes`: {pace:?}");
    };
    let work = large.work.unwrap();
    assert_eq!(small.work, Some(work / 4.0));
    let speed = pace.work_per_second.unwrap();
    assert!(
        (speed * large.seconds / work - 1.0).abs() < 1e-9,
        "{pace:?}"
    );
    let machine = seen.machine.as_ref().unwrap();
    assert!(machine.resident.unwrap() > 1 << 20, "{machine:?}");
    assert_eq!(machine.warm_budget, None);
    let shown = run(desk.miner().args(status));
    let took = format!("at the start: {:.2} s {}", large.seconds, large.what);
    for part in [
        "1 done, 0 failed",
        "node 1 ",
        " 100.0 %",
        " resident, ",
        "\nshapes  ",
        took.as_str(),
    ] {
        assert!(shown.contains(part), "`{part}` in {shown}");
    }
    for line in shown.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let scrape = desk.curl(&[&format!("http://{page}/metrics")]);
    for part in [
        "cuckoo_miner_coordinator_completed{coordinator=\"1\"} 1",
        "cuckoo_miner_model_work_per_second{model=\"shapes\"} ",
        "cuckoo_miner_resident_memory_bytes ",
    ] {
        assert!(scrape.contains(part), "`{part}` in {scrape}");
    }
    // A web page that has its own name lead to this machine.
    let stranger = fails(Command::new("curl").args([
        "-sS",
        "--fail",
        "--noproxy",
        "*",
        "-H",
        "Host: evil.example",
        &format!("http://{page}/status"),
    ]));
    assert!(stranger.contains("403"), "{stranger}");
    let market =
        || -> Value { serde_json::from_str(&desk.curl(&[&format!("{url}/v1/status")])).unwrap() };
    let status = market();
    assert_eq!(
        (&status["completed"], &status["miners"][0]["name"]),
        (&1.into(), &"gpu-1".into())
    );
    assert_ne!(status["miners"][0]["owed"], "0x0");

    let redeem = [
        "redeem",
        "--config",
        "miner.toml",
        "--keystore",
        "owner.json",
        "--yes",
    ];
    let paid =
        eventually(|| Some(run(desk.miner().args(redeem))).filter(|said| said.contains("owes")))
            .await;
    assert!(paid.contains("owes node 2 0.01 CAI"), "{paid}");
    // A tenth of what is redeemed is the stakers'.
    assert!(
        paid.contains("0.009 CAI paid to the owner of node 2, 0.001 CAI to its stakers"),
        "{paid}"
    );

    // The chain goes away; work goes on with the last weights.
    desk.anvil.kill();
    let checkup = desk.miner().args(doctor).arg("--skip-models").output();
    let checkup = checkup.unwrap();
    assert!(!checkup.status.success());
    let checkup = String::from_utf8(checkup.stdout).unwrap();
    assert!(checkup.contains("FAIL  chain"), "{checkup}");
    assert!(checkup.contains("-> start the node"), "{checkup}");
    assert!(checkup.contains("answers in"), "{checkup}");
    let market =
        || -> Value { serde_json::from_str(&desk.curl(&[&format!("{url}/v1/status")])).unwrap() };
    eventually(|| Some(()).filter(|()| !market()["weights_stale_since"].is_null())).await;
    desk.picture(&url, "a small green square on a yellow background");
    assert_eq!(market()["completed"], 2);

    miner.signal("TERM");
    assert!(miner.end().success(), "{}", miner.log);
    coordinator.signal("TERM");
    assert!(coordinator.end().success(), "{}", coordinator.log);
    for (log, secret) in [
        (&miner.log, PASSWORD),
        (&coordinator.log, PASSWORD),
        (&coordinator.log, "green square"),
    ] {
        assert!(!log.contains(secret), "the log tells `{secret}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_down_at_the_start_is_waited_for() {
    let desk = Desk::new().await;
    desk.open_market();
    // A port that is taken and on which nobody listens, so nothing answers there.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = held.local_addr().unwrap();
    let mut running = Running::start(
        desk.coordinator()
            .args(["run", "--config", "coordinator.toml"])
            .env(
                "CUCKOO_COORDINATOR__CHAIN__RPC",
                format!("http://user:s3cret@{closed}"),
            ),
    );
    let line = running.line("cannot be reached");
    assert!(
        line.contains("trying again in 1 s") && line.contains("[chain] rpc"),
        "{line}"
    );
    running.line("trying again in 2 s");
    running.signal("INT");
    assert!(running.end().success());
    assert!(!running.log.contains("s3cret"), "{}", running.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let desk = Desk::new().await;
    desk.open_market();
    let (mut coordinator, url) = desk.run_coordinator();
    // Nobody will take this task, so a drain would last as long as drain_seconds says.
    let body = r#"{"model": "shapes", "input": {"prompt": "a red circle"}}"#;
    let accepted = desk.curl(&[
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
        &format!("{url}/v1/tasks"),
    ]);
    let accepted: Value = serde_json::from_str(&accepted).unwrap();
    assert_eq!(accepted["state"], "queued");
    coordinator.signal("TERM");
    coordinator.line("signal again to stop at once");
    coordinator.signal("TERM");
    assert_eq!(coordinator.end().code(), Some(143), "{}", coordinator.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_before_anything_happens() {
    let desk = Desk::new().await;
    let config = ["run", "--config", "coordinator.toml"];
    assert!(fails(desk.coordinator().args(config)).contains("coordinator.example.toml"));
    desk.open_market();

    let wrong = fails(
        desk.coordinator()
            .args(config)
            .env("CUCKOO_PASSWORD", "guess"),
    );
    assert!(
        wrong.contains("wrong password") && !wrong.contains("guess"),
        "{wrong}"
    );
    let none = fails(
        desk.coordinator()
            .args(config)
            .env_remove("CUCKOO_PASSWORD"),
    );
    assert!(
        none.contains("--password-file") || none.contains("password_file"),
        "{none}"
    );
    let public = fails(
        desk.coordinator()
            .args(config)
            .env("CUCKOO_COORDINATOR__LISTEN", "0.0.0.0:0"),
    );
    assert!(public.contains("allow_public"), "{public}");
    let unknown = fails(
        desk.coordinator()
            .args(config)
            .env("CUCKOO_COORDINATOR__CHAIN__SPEED", "9"),
    );
    assert!(unknown.contains("speed"), "{unknown}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let busy = fails(
        desk.coordinator()
            .args(config)
            .env("CUCKOO_COORDINATOR__LISTEN", address),
    );
    assert!(busy.contains("cannot listen"), "{busy}");

    // A key that no owner registered.
    run(desk
        .coordinator()
        .args(["key", "new", "--keystore", "stranger.json"]));
    let mut stranger = desk.coordinator();
    stranger
        .args(config)
        .env("CUCKOO_COORDINATOR__OPERATOR__KEYSTORE", "stranger.json");
    let stranger = fails(&mut stranger);
    assert!(stranger.contains("register"), "{stranger}");
    let overwritten = fails(
        desk.coordinator()
            .args(["key", "new", "--keystore", "stranger.json"]),
    );
    assert!(overwritten.contains("not overwritten"), "{overwritten}");

    let poor = [
        "register",
        "--config",
        "coordinator.toml",
        "--owner",
        "stranger.json",
        "--name",
        "x",
        "--yes",
    ];
    let poor = fails(desk.coordinator().args(poor));
    assert!(
        poor.contains("operator") || poor.contains("holds 0 CAI"),
        "{poor}"
    );
}
