//! `cuckoo-miner models` as an operator meets it.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::mirror::{Fault, Mirror, sent};
use crate::{Cache, SHAPES, UNET, golden, mirror, partial, shapes};

/// The line of `text` that begins with `name`, without it.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no `{name}` in {text}"))
        .trim()
}

fn listed(cache: &Cache, mirror: &Mirror) -> Vec<Value> {
    let json = cache.prints(&mirror.url, &["models", "list", "--json"]);
    serde_json::from_str(&json).unwrap()
}

#[test]
fn a_model_is_pulled_listed_checked_and_removed() {
    let (mirror, commit) = mirror();
    let cache = Cache::new();
    let nothing = cache.prints(&mirror.url, &["models", "list"]);
    assert!(nothing.contains("models pull"), "{nothing}");
    let pulled = cache.prints(&mirror.url, &["models", "pull", SHAPES]);
    assert_eq!(field(&pulled, "commit"), commit);
    assert_eq!(field(&pulled, "kind  "), "image");
    assert!(field(&pulled, "files").starts_with("13, "), "{pulled}");
    let (_, section) = pulled.split_once("[[models]]").unwrap();
    assert!(
        section.contains(&format!("hub = \"{SHAPES}@{commit}\"")),
        "{section}"
    );

    let unet: u64 = fs::read_dir(shapes().join("unet"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    let unet = format!("{unet} bytes");
    // The same model as from the folder itself, though that one has a read-me besides.
    let hash = field(&pulled, "hash").to_owned();
    for place in [
        SHAPES.to_owned(),
        format!("{SHAPES}@{commit}"),
        shapes().display().to_string(),
    ] {
        let check = cache.prints(&mirror.url, &["models", "check", &place]);
        assert_eq!(field(&check, "hash"), hash, "{place}");
        assert!(
            check.contains(&unet),
            "sizes are those of contents, not of links: {check}"
        );
    }

    let table = cache.prints(&mirror.url, &["models", "list"]);
    for part in [SHAPES, "main", &commit[..12], "image", "complete", "UTC"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let json = listed(&cache, &mirror);
    assert_eq!(json.len(), 1);
    assert_eq!(
        (&json[0]["name"], &json[0]["commit"]),
        (&SHAPES.into(), &Value::from(&*commit))
    );
    assert_eq!(
        (&json[0]["kind"], &json[0]["lacks"]),
        (&"image".into(), &Value::Null)
    );
    assert!(
        Path::new(json[0]["folder"].as_str().unwrap())
            .join(UNET)
            .is_file()
    );

    let dry = cache.prints(&mirror.url, &["models", "rm", SHAPES, "--dry-run"]);
    assert!(
        dry.contains("MiB become free") && dry.contains("nothing was removed"),
        "{dry}"
    );
    let unasked = cache.complains(&mirror.url, &["models", "rm", SHAPES]);
    assert!(unasked.contains("--yes"), "{unasked}");
    assert_eq!(listed(&cache, &mirror).len(), 1);
    let removed = cache.prints(&mirror.url, &["models", "rm", SHAPES, "--yes"]);
    assert!(removed.contains("are free again"), "{removed}");
    assert_eq!(listed(&cache, &mirror), [] as [Value; 0]);
    let again = cache.complains(&mirror.url, &["models", "rm", SHAPES, "--yes"]);
    assert!(again.contains("models list"), "{again}");
    let absent = cache.complains(&mirror.url, &["models", "check", SHAPES]);
    assert!(
        absent.contains(&format!("models pull {SHAPES}")),
        "{absent}"
    );
}

#[test]
fn a_language_model_is_offered_as_text() {
    let mirror = Mirror::start();
    mirror.publish("cuckoo/Tiny-Llama", &golden("language/llama"));
    let cache = Cache::new();
    let other = cache.home.path().join("elsewhere");
    let place = other.to_str().unwrap();
    let pulled = cache.prints(
        "http://127.0.0.1:9",
        &[
            "models",
            "pull",
            "cuckoo/Tiny-Llama",
            "--endpoint",
            &mirror.url,
            "--cache",
            place,
        ],
    );
    assert!(
        pulled.contains("kind = \"text\"") && pulled.contains("name = \"tiny-llama\""),
        "{pulled}"
    );
    assert!(
        pulled.contains(&format!("folder = '{place}/")) && !pulled.contains("hub = "),
        "another cache is not where `hub` is looked for: {pulled}"
    );
    let folder = golden("language/llama").display().to_string();
    let check = cache.prints(&mirror.url, &["models", "check", &folder]);
    assert_eq!(field(&check, "hash"), field(&pulled, "hash"));
    assert!(listed(&cache, &mirror).is_empty());
    let text = [
        "models",
        "check",
        "cuckoo/Tiny-Llama",
        "--cache",
        place,
        "--prompt",
        "a",
        "--max-tokens",
        "2",
    ];
    assert!(cache.prints(&mirror.url, &text).contains("2 made"));
}

#[test]
fn damage_is_found_named_and_mended() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    let pull = ["models", "pull", SHAPES];
    let verify = ["models", "verify", SHAPES];
    cache.prints(&mirror.url, &pull);
    let sound = cache.prints(&mirror.url, &["models", "verify"]);
    assert!(sound.contains("files are sound"), "{sound}");
    let folder = cache.path(SHAPES, "snapshots");
    let folder = fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let blob = |name: &str| folder.join(name).canonicalize().unwrap();

    let (corrupt, truncated, missing) = (
        blob(UNET),
        blob("vae/diffusion_pytorch_model.safetensors"),
        blob("tokenizer/merges.txt"),
    );
    let mut bytes = fs::read(&corrupt).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&corrupt, bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(&truncated)
        .unwrap()
        .set_len(1000)
        .unwrap();
    fs::remove_file(&missing).unwrap();

    let output = cache.run(&mirror.url, &verify);
    assert_eq!(output.status.code(), Some(1));
    let (found, error) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    for line in [
        format!("FAIL  {SHAPES} {UNET}: corrupt"),
        format!(
            "FAIL  {SHAPES} vae/diffusion_pytorch_model.safetensors: truncated: 1000 bytes of 488.7 KiB"
        ),
        format!("FAIL  {SHAPES} tokenizer/merges.txt: missing"),
    ] {
        assert!(found.contains(&line), "{line} in {found}");
    }
    assert!(
        error.contains("--remove-damaged") && error.contains("models pull"),
        "{error}"
    );
    assert!(listed(&cache, &mirror)[0]["lacks"].is_string());

    let mending = [&verify[..], &["--remove-damaged"]].concat();
    assert!(
        cache
            .complains(&mirror.url, &mending)
            .contains("models pull")
    );
    mirror.calls();
    cache.prints(&mirror.url, &pull);
    let fetched: Vec<String> = mirror
        .calls()
        .into_iter()
        .filter(|call| call.sent > 0)
        .map(|call| call.path)
        .collect();
    assert_eq!(fetched.len(), 3, "{fetched:?}");
    cache.prints(&mirror.url, &verify);
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// What it said, once it has ended.
    fn said(&mut self) -> (bool, String) {
        let mut text = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        (self.0.wait().unwrap().success(), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Stops a pull in the middle of its largest file by a signal; what it said, and the bytes that are here of that file.
fn stopped_by(signal: &str, cache: &Cache, mirror: &Mirror) -> (String, u64) {
    // Slow enough that the signal comes before the file's end, however busy the cores are.
    mirror.always(UNET, Fault::Slow(Duration::from_millis(100)));
    let mut pull =
        Running::start(cache.command(&mirror.url, &["models", "pull", SHAPES, "--at-once", "1"]));
    let begun = || {
        let parts = partial(cache);
        let length = parts
            .first()
            .map_or(0, |part| fs::metadata(part).map_or(0, |part| part.len()));
        length > 1 << 20
    };
    cache.runtime.block_on(async {
        use cuckoo_core::{Clock as _, SystemClock};
        for _ in 0..6_000 {
            if begun() {
                return;
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        panic!("the pull does not begin");
    });
    pull.signal(signal);
    let (success, said) = pull.said();
    assert!(!success);
    let part = partial(cache).pop().unwrap();
    (said, fs::metadata(part).unwrap().len())
}

#[test]
fn a_pull_that_was_killed_fetches_no_byte_twice() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    let (_, kept) = stopped_by("KILL", &cache, &mirror);
    let size = fs::metadata(shapes().join(UNET)).unwrap().len();
    assert!((1 << 20..size).contains(&kept));
    mirror.heal();
    mirror.calls();
    cache.prints(&mirror.url, &["models", "pull", SHAPES]);
    let calls = mirror.calls();
    assert_eq!(sent(&calls, UNET), size - kept);
    let stored = calls
        .iter()
        .find(|call| call.store && call.path == UNET)
        .unwrap();
    assert_eq!(stored.range.as_deref(), Some(&*format!("bytes={kept}-")));
    cache.prints(&mirror.url, &["models", "verify", SHAPES]);
    cache.prints(&mirror.url, &["models", "check", SHAPES]);
}

#[test]
fn ctrl_c_says_what_is_kept_and_how_to_go_on() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    let (said, kept) = stopped_by("INT", &cache, &mirror);
    assert!(
        said.contains("here and kept") && said.contains("same command"),
        "{said}"
    );
    let list = cache.prints(&mirror.url, &["models", "list"]);
    assert!(list.contains("no models"), "{list}");
    let verify = cache.prints(&mirror.url, &["models", "verify"]);
    assert!(verify.contains("not here in full yet"), "{verify}");
    mirror.heal();
    mirror.calls();
    cache.prints(&mirror.url, &["models", "pull", SHAPES]);
    let size = fs::metadata(shapes().join(UNET)).unwrap().len();
    assert_eq!(sent(&mirror.calls(), UNET), size - kept);
}

#[test]
fn a_disk_that_fills_up_is_named_and_nothing_is_lost() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    // No file may be larger than 2 MiB, and the signal for it is an error instead.
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
    let plain = cache.command(&mirror.url, &["models", "pull", SHAPES, "--at-once", "1"]);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", script])
        .arg(plain.get_program())
        .args(plain.get_args());
    limited.current_dir(cache.home.path());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in [
        "cannot write",
        "ulimit -f",
        UNET,
        "more bytes",
        "goes on where it stopped",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(fs::metadata(&partial(&cache)[0]).unwrap().len(), 2 << 20);
    mirror.calls();
    cache.prints(&mirror.url, &["models", "pull", SHAPES]);
    let size = fs::metadata(shapes().join(UNET)).unwrap().len();
    assert_eq!(sent(&mirror.calls(), UNET), size - (2 << 20));
}

#[test]
fn tokens_come_from_a_file_or_the_environment() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    let pull = ["models", "pull", SHAPES, "--include", "model_index.json"];
    let tokens = |arguments: &[&str], variable: Option<&str>| {
        let mut command = cache.command(&mirror.url, arguments);
        if let Some(token) = variable {
            command.env("HF_TOKEN", token);
        }
        assert!(command.output().unwrap().status.success());
        mirror.calls().remove(0).token
    };
    assert_eq!(tokens(&pull, None), None);
    assert_eq!(tokens(&pull, Some("hf_a")).as_deref(), Some("Bearer hf_a"));
    fs::write(cache.home.path().join("token"), "hf_login\n").unwrap();
    assert_eq!(tokens(&pull, None).as_deref(), Some("Bearer hf_login"));
    fs::write(cache.home.path().join("mine"), "hf_mine\n").unwrap();
    let named = [&pull[..], &["--token-file", "mine"]].concat();
    assert_eq!(
        tokens(&named, Some("hf_a")).as_deref(),
        Some("Bearer hf_mine")
    );
    let elsewhere = [&pull[..], &["--endpoint", &mirror.url]].concat();
    assert_eq!(tokens(&elsewhere, Some("hf_a")), None, "it is for the hub");
    let none = [&pull[..], &["--token-file", "none"]].concat();
    assert!(cache.complains(&mirror.url, &none).contains("none"));

    mirror.once("", Fault::Status(401, "GatedRepo", None));
    let gated = cache.complains(&mirror.url, &pull);
    assert!(
        gated.contains(&format!("{}/{SHAPES}", mirror.url)) && gated.contains("--token-file"),
        "{gated}"
    );
    assert!(!gated.contains("hf_login"));
}

#[test]
fn names_that_are_none_are_refused_at_once() {
    let cache = Cache::new();
    for name in ["../x", "a/b/c", "org/name@../x", ""] {
        let error = cache.complains("http://127.0.0.1:9", &["models", "pull", name]);
        assert!(
            error.contains("org/name") || error.contains("revision"),
            "{name}: {error}"
        );
    }
    assert!(
        cache
            .complains("127.0.0.1:9", &["models", "pull", "a/b"])
            .contains("write it like")
    );
}
