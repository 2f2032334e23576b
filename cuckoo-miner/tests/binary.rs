//! The binary as an operator meets it: what it says, what it refuses, how it stops.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tokio::net::TcpSocket;

const EXAMPLE: &str = include_str!("../miner.example.toml");
const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/speech/english");

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuckoo-miner"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("CUCKOO_PASSWORD", "correct horse")
        .env_remove("CUCKOO_LOG");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

/// What a command that succeeds prints.
fn prints(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails says.
fn complains(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

fn model() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/random").to_owned()
}

/// A folder with a key, a deployment and settings as in the example, except for `changes`.
fn operator(changes: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    prints(folder.path(), &["key", "new", "--keystore", "miner.json"]);
    let address = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
    let deployment =
        format!("chain_id = 31337\nstaking = \"{address}\"\npayments = \"{address}\"\n");
    fs::write(folder.path().join("deployment.toml"), deployment).unwrap();
    let mut settings = EXAMPLE.replace("../examples/models/shapes", &model());
    for (from, to) in changes {
        assert!(settings.contains(from), "{from}");
        settings = settings.replacen(from, to, 1);
    }
    fs::write(folder.path().join("miner.toml"), settings).unwrap();
    folder
}

/// An address at which nobody answers while the socket is held: it is taken, and nobody listens.
fn unanswered() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("http://{}", socket.local_addr().unwrap());
    (socket, address)
}

/// A process that ends with the test, and the lines it logs.
struct Running(Child, Receiver<String>);

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(child, receiver)
    }

    fn line(&self, text: &str) -> String {
        let mut log = String::new();
        while let Ok(line) = self.1.recv_timeout(Duration::from_secs(60)) {
            if line.contains(text) {
                return line;
            }
            log += &format!("{line}\n");
        }
        panic!("no line with `{text}` in:\n{log}");
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn help_teaches_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let help = prints(folder.path(), &["--help"]);
    for part in [
        "key new",
        "models pull",
        "models check",
        "register",
        "run --config",
        "redeem",
        "CUCKOO_PASSWORD",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
    for command in [
        vec!["run"],
        vec!["doctor"],
        vec!["status"],
        vec!["bench"],
        vec!["new"],
        vec!["register"],
        vec!["redeem"],
        vec!["collect"],
        vec!["unpaid", "demand"],
        vec!["unpaid", "collect"],
        vec!["juror", "enlist"],
        vec!["juror", "leave"],
        vec!["juror", "refresh"],
        vec!["dispute", "open"],
        vec!["dispute", "answer"],
        vec!["dispute", "draw"],
        vec!["dispute", "finish"],
        vec!["dispute", "withdraw"],
        vec!["dispute", "show"],
        vec!["stake"],
        vec!["claim"],
        vec!["rotate"],
        vec!["account"],
        vec!["key"],
        vec!["key", "new"],
        vec!["key", "import"],
        vec!["key", "show"],
        vec!["models"],
        vec!["models", "check"],
        vec!["models", "list"],
        vec!["models", "pull"],
        vec!["models", "rm"],
        vec!["models", "verify"],
    ] {
        let help = prints(folder.path(), &[command.as_slice(), &["--help"]].concat());
        assert!(help.contains("Example"), "{command:?}: {help}");
        assert!(
            help.contains(&format!("cuckoo-miner {}", command.join(" "))),
            "{command:?}: {help}"
        );
        assert!(
            !help.contains("--password "),
            "no password on the command line"
        );
    }
    // The settings file's name stands where it is meant, and not within a variable's.
    let help = prints(folder.path(), &["run", "--help"]);
    assert!(help.contains("CUCKOO_MINER__SETTINGS__SLOTS=2"), "{help}");
    let help = prints(folder.path(), &["status", "--help"]);
    assert!(help.contains("status --config miner.toml"), "{help}");
}

#[test]
fn keys_are_made_once_and_opened_by_their_password_only() {
    let folder = tempfile::tempdir().unwrap();
    let new = ["key", "new", "--keystore", "operator.json"];
    let address = prints(folder.path(), &new);
    assert!(
        address.starts_with("0x") && address.trim().len() == 42,
        "{address}"
    );
    let show = ["key", "show", "--keystore", "operator.json"];
    assert_eq!(prints(folder.path(), &show), address);
    assert!(complains(folder.path(), &new).contains("not overwritten"));

    fs::write(folder.path().join("password"), "wrong\n").unwrap();
    let wrong = [&show[..], &["--password-file", "password"]].concat();
    assert!(complains(folder.path(), &wrong).contains("wrong password"));
    fs::write(folder.path().join("password"), "correct horse\n").unwrap();
    assert_eq!(prints(folder.path(), &wrong), address);
    let none = command(folder.path(), &show)
        .env_remove("CUCKOO_PASSWORD")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&none.stderr).contains("CUCKOO_PASSWORD"));
}

#[test]
fn a_model_is_checked_and_tried() {
    let folder = tempfile::tempdir().unwrap();
    let text = prints(folder.path(), &["models", "check", &model()]);
    for part in [
        "hash     0x",
        "kernels  cpu-f32",
        "unet",
        "vae",
        "text_encoder",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let draw = [
        "models",
        "check",
        &model(),
        "--prompt",
        "a circle",
        "--steps",
        "2",
        "--out",
        "a.png",
    ];
    assert!(prints(folder.path(), &draw).contains("a.png drawn in"));
    assert!(
        fs::read(folder.path().join("a.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    assert!(complains(folder.path(), &["models", "check", "nothing"]).contains("nothing"));
}

#[test]
fn a_recording_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let speech = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/speech");
    let (model, wav) = (
        format!("{speech}/multilingual"),
        format!("{speech}/recordings/long.wav"),
    );
    let check = ["models", "check", &model];
    let text = prints(folder.path(), &check);
    for part in [
        "hash     0x",
        "kernels  cpu-f32",
        "windows  of 2 s",
        "haw",
        "tokenizer.json",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = prints(folder.path(), &[&check[..], &["--audio", &wav]].concat());
    for part in [
        "language zh",
        " to 2.00 s",
        "5.3 s written down in",
        "s a second",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let told = [&check[..], &["--audio", &wav, "--language", "en"]].concat();
    assert!(prints(folder.path(), &told).contains("language en"));
    for (more, named) in [
        (["--audio", "nothing.wav"], "nothing.wav"),
        (["--audio", &format!("{model}/config.json")], "no WAV file"),
    ] {
        let error = complains(folder.path(), &[&check[..], &more].concat());
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_text_ends_with_why() {
    let folder = tempfile::tempdir().unwrap();
    let stories = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/stories");
    let check = [
        "models",
        "check",
        stories,
        "--prompt",
        "Hello",
        "--max-tokens",
    ];
    let text = prints(folder.path(), &[&check[..], &["2"]].concat());
    assert!(text.contains("\n(ended by --max-tokens)\n"), "{text}");
}

#[test]
fn options_of_another_kind_of_model_are_refused_with_those_to_use() {
    let folder = tempfile::tempdir().unwrap();
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/language/llama");
    let embedding = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/embedding/bert");
    let picture = model();
    for (model, options, said) in [
        (
            text,
            ["--audio", "talk.wav"],
            "a text model, with which --audio does nothing; use --prompt, --seed, --max-tokens, --together instead",
        ),
        (text, ["--steps", "3"], "with which --steps does nothing"),
        (
            embedding,
            ["--seed", "2"],
            "an embedding model, with which --seed does nothing; use --prompt, --together instead",
        ),
        (
            picture.as_str(),
            ["--max-tokens", "3"],
            "an image model, with which --max-tokens does nothing",
        ),
        (
            SPEECH,
            ["--out", "a.png"],
            "--audio, --language, --prompt, --seed",
        ),
        (SPEECH, ["--prompt", "cuckoos"], "give it one with --audio"),
    ] {
        let check = [&["models", "check", model][..], &options].concat();
        let error = complains(folder.path(), &check);
        assert!(error.contains(said), "{said} in {error}");
    }
}

/// What `bench` measured, by test, each with its unit and how many samples.
fn measured(folder: &Path, arguments: &[&str]) -> Vec<(String, String, usize)> {
    let arguments = [&["bench", "--seconds", "1", "--json"][..], arguments].concat();
    let rows: serde_json::Value = serde_json::from_str(&prints(folder, &arguments)).unwrap();
    let row = |row: &serde_json::Value| {
        let number = |name: &str| row[name].as_f64().unwrap();
        let (low, median, high) = (number("low"), number("median"), number("high"));
        assert!(0.0 < low && low <= median && median <= high, "{row}");
        assert!(row["hash"].as_str().unwrap().starts_with("0x"), "{row}");
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let samples = row["samples"].as_array().unwrap().len();
        (text("test"), text("unit"), samples)
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn the_speed_of_each_kind_of_model_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models");
    for (name, more, tests) in [
        (
            "shapes",
            ["--steps", "2"],
            vec![
                ("step of 64x64", "seconds/step"),
                ("picture of 64x64 in 2 steps", "seconds/picture"),
            ],
        ),
        (
            "stories",
            ["--together", "3"],
            vec![
                ("tokens read", "tokens/second"),
                ("tokens read", "tokens/second"),
                ("written alone", "tokens/second"),
                ("3 texts of", "tokens/second"),
            ],
        ),
        (
            "captions",
            ["--together", "5"],
            vec![
                ("a text of", "texts/second"),
                ("5 texts of", "texts/second"),
            ],
        ),
        (
            "tests/golden/speech/english",
            ["--together", "1"],
            vec![("a recording of 4 s", "seconds/second")],
        ),
    ] {
        let model = match name.contains('/') {
            true => format!("{}/{name}", env!("CARGO_MANIFEST_DIR")),
            false => format!("{models}/{name}"),
        };
        let rows = measured(folder.path(), &[&[model.as_str()][..], &more[..]].concat());
        assert_eq!(rows.len(), tests.len(), "{rows:?}");
        for ((test, unit, samples), (part, expected)) in rows.iter().zip(tests) {
            assert!(test.contains(part) && unit == expected, "{test}, {unit}");
            assert!(*samples > 0);
        }
    }

    let settings = operator(&[]);
    let bench = ["bench", "--config", "miner.toml", "--seconds", "1"];
    let table = prints(settings.path(), &[&bench[..], &["--steps", "3"]].concat());
    for part in [
        "MODEL ",
        "MEDIAN ",
        "shapes  step of ",
        " s/picture ",
        "threads",
    ] {
        assert!(table.contains(part), "`{part}` in {table}");
    }
    for (arguments, said) in [
        (vec!["nothing"], "nothing"),
        (vec![], "<FOLDER|--config <FILE>>"),
        (vec!["nothing", "--config", "miner.toml"], "--config"),
        (vec!["nothing", "--seconds", "0"], "--seconds"),
    ] {
        let error = complains(settings.path(), &[&["bench"][..], &arguments[..]].concat());
        assert!(error.contains(said), "{said} in {error}");
    }
}

#[test]
fn what_is_wrong_before_the_start_is_said_with_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let run = ["run", "--config", "miner.toml"];
    assert!(complains(empty.path(), &run).contains("miner.example.toml"));
    for (from, to, said) in [
        (
            "coordinators = [\"http://127.0.0.1:8480\"]",
            "coordinators = []",
            "no coordinator",
        ),
        ("http://127.0.0.1:8480", "127.0.0.1:8480", "write it like"),
        ("\"miner.json\"", "\"other.json\"", "key new"),
        ("\"deployment.toml\"", "\"other.toml\"", "no deployment"),
        ("slots = 1", "slots = 0", "from 1 to 256"),
        ("slots = 1", "slotz = 1", "slotz"),
        (
            "[settings]\n",
            "[executor]\nwidth = 1\n[settings]\n",
            "brings no executor",
        ),
        (model().as_str(), "/nowhere", "/nowhere"),
        (
            model().as_str(),
            SPEECH,
            "is of kind `image` (which it is when none is set); add kind = \"speech\"",
        ),
        ("http://127.0.0.1:8545", "not a url", "url"),
    ] {
        let folder = operator(&[(from, to)]);
        let error = complains(folder.path(), &run).to_lowercase();
        assert!(error.contains(said), "{said} in {error}");
    }
    let folder = operator(&[]);
    fs::write(folder.path().join("vouchers.json"), "{").unwrap();
    assert!(complains(folder.path(), &run).contains("vouchers"));
}

#[test]
fn a_doctor_names_each_fault_with_its_remedy() {
    let (_held, nobody) = unanswered();
    let doctor = |changes: &[(&str, &str)]| {
        let nobody = [
            ("http://127.0.0.1:8545", nobody.as_str()),
            ("http://127.0.0.1:8480", nobody.as_str()),
        ];
        let folder = operator(&[&nobody, changes].concat());
        let output = run(folder.path(), &["doctor", "--config", "miner.toml"]);
        assert!(!output.status.success());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            3,
            "it leaves nothing"
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let sick = doctor(&[]);
    // No fault: where there is a GPU, it is read; else it is said once why not.
    let gpu = match cfg!(feature = "cuda") {
        true => "gpu            ",
        false => "note  gpu            none is read: this build does not read GPUs",
    };
    for line in [
        gpu,
        "  ok  key            operator 0x",
        "FAIL  chain",
        "-> start the node at [chain] rpc",
        "FAIL  coordinator",
        "  ok  model          `shapes`: loaded in",
        "  ok  memory",
        "  ok  disk",
    ] {
        assert!(sick.contains(line), "`{line}` in {sick}");
    }
    for (from, to, line) in [
        ("\"miner.json\"", "\"other.json\"", "FAIL  key"),
        (
            model().as_str(),
            "/nowhere",
            "FAIL  model          `shapes`: ",
        ),
        (
            model().as_str(),
            SPEECH,
            "FAIL  model          `shapes`: the folder holds a speech model, but its section is of kind `image`",
        ),
        (
            "\"vouchers.json\"",
            "\"missing/vouchers.json\"",
            "FAIL  disk",
        ),
    ] {
        let sick = doctor(&[(from, to)]);
        assert!(sick.contains(line), "`{line}` in {sick}");
    }
}

#[test]
fn a_status_that_cannot_be_had_is_said_with_what_to_do() {
    let folder = operator(&[]);
    let status = ["status", "--config", "miner.toml"];
    let absent = complains(folder.path(), &status);
    assert!(absent.contains("no section [status]"), "{absent}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let section = format!("[status]\nlisten = \"{address}\"\n\n[settings]\n");
    let change = [("[settings]\n", section.as_str())];
    let folder = operator(&change);
    let taken = complains(folder.path(), &["run", "--config", "miner.toml"]);
    assert!(taken.contains("change status.listen"), "{taken}");
    drop(listener);
    let nobody = complains(folder.path(), &status);
    assert!(
        nobody.contains(&address)
            && nobody.contains("a section [status], or name its address with --address: "),
        "{nobody}"
    );

    // Before the chain is there, the miner says that it starts.
    let (_held, rpc) = unanswered();
    let folder = operator(&[change[0], ("http://127.0.0.1:8545", &rpc)]);
    let miner = Running::start(command(folder.path(), &["run", "--config", "miner.toml"]));
    miner.line("status at ");
    let starting = complains(folder.path(), &status);
    assert!(starting.contains("the miner is starting"), "{starting}");

    // A line each time, where there is no terminal.
    let every = ["--watch", "--every", "1"];
    let mut watching = Running::start(command(folder.path(), &[&status[..], &every].concat()));
    for _ in 0..2 {
        watching.line("the miner is starting");
    }
    assert!(watching.0.try_wait().unwrap().is_none(), "it goes on");
}

#[test]
fn a_chain_that_is_down_is_waited_for_until_a_signal() {
    let (_held, address) = unanswered();
    for signal in ["TERM", "INT"] {
        let folder = operator(&[("http://127.0.0.1:8545", &address)]);
        let mut miner = Running::start(command(folder.path(), &["run", "--config", "miner.toml"]));
        miner.line("model `shapes` loaded");
        let line = miner.line("chain cannot be reached");
        assert!(
            line.contains("trying again") && line.contains("[chain] rpc"),
            "{line}"
        );
        miner.signal(signal);
        assert!(miner.0.wait().unwrap().success());
    }
}
