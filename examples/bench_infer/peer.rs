//! The peer: a Python program that stays, and runs a case whenever it is told to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::case::{Case, Model, output_file};
use crate::{Failure, Result};

/// How PyTorch runs a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) compiled: bool,
    /// With the model's weights in bfloat16 and so all that it computes, in place of 32 bits.
    pub(crate) bf16: bool,
}

impl Style {
    /// All in which a case is run; those of `torch.compile` where it is not left out.
    pub(crate) fn all(case: Case, compile: bool) -> Vec<Self> {
        let mut styles = Vec::new();
        for bf16 in [false, true] {
            for compiled in [false, true] {
                if (compile || !compiled) && (!bf16 || case.model == Model::LanguageBf16) {
                    styles.push(Self { compiled, bf16 });
                }
            }
        }
        styles
    }

    fn name(self) -> &'static str {
        match (self.compiled, self.bf16) {
            (false, false) => "eager",
            (true, false) => "compiled",
            (false, true) => "eager-bf16",
            (true, true) => "compiled-bf16",
        }
    }
}

/// PyTorch in a process of its own, which ends with this value.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    scratch: PathBuf,
}

impl Peer {
    pub(crate) fn start(threads: usize, scratch: &Path) -> Result<Self> {
        let mut child = python("torch_peer.py")?
            .arg(threads.to_string())
            // What was compiled once is not compiled again.
            .env("TORCHINDUCTOR_CACHE_DIR", scratch.join("compiled"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(not_installed)?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::from("the peer has no pipes"));
        };
        Ok(Self {
            child,
            requests,
            answers: BufReader::new(answers),
            scratch: scratch.to_owned(),
        })
    }

    pub(crate) fn load(&mut self, case: Case, folder: &Path) -> Result<()> {
        let case = case.for_peer(folder, &self.scratch)?;
        self.ask(&json!({ "load": case })).map(drop)
    }

    /// Runs the loaded case once; the seconds it took.
    pub(crate) fn run(&mut self, style: Style) -> Result<f64> {
        let answer = self.ask(&json!({ "run": style.name() }))?;
        answer["seconds"]
            .as_f64()
            .ok_or_else(|| Failure::from("the peer says no time"))
    }

    /// What the loaded case computes.
    pub(crate) fn output(&mut self) -> Result<Vec<f32>> {
        let file = output_file(&self.scratch);
        self.ask(&json!({ "output": file }))?;
        let bytes = std::fs::read(file)?;
        let (numbers, _) = bytes.as_chunks();
        Ok(numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.requests, "{request}")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(Failure::from(format!("the peer ended: {status}")));
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has a model's folder written, if it is not there yet.
pub(crate) fn weights(model: Model, scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join(model.name());
    if !folder.exists() {
        eprintln!("writing the {} model's weights", model.name());
        let mut command = python("weights.py")?;
        command.arg(model.name()).arg(&folder);
        if matches!(model, Model::Pipeline | Model::Flux) {
            let golden = "../cuckoo-miner/tests/golden/random/tokenizer";
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(golden));
        }
        let status = command
            .stdin(Stdio::null())
            .status()
            .map_err(not_installed)?;
        if !status.success() {
            return Err(Failure::from(format!("weights.py failed: {status}")));
        }
    }
    Ok(folder)
}

/// Releases of what the peer is made of.
pub(crate) fn releases() -> Result<String> {
    let program = "import diffusers, torch, transformers as t; \
                   print(f'PyTorch {torch.__version__}, diffusers {diffusers.__version__}, transformers {t.__version__}')";
    let output = interpreter()?
        .args(["-c", program])
        .output()
        .map_err(not_installed)?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn python(program: &str) -> Result<Command> {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench_infer/peers");
    let mut python = interpreter()?;
    python.arg(programs.join(program));
    Ok(python)
}

/// The Python that `.ci/setup infer` installs, which reaches for nothing that is not on this machine.
fn interpreter() -> Result<Command> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?).join(".cache"),
    };
    let mut python = Command::new(cache.join("cuckoo/venv-torch/bin/python"));
    python
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .env("TRANSFORMERS_VERBOSITY", "error")
        .env("DIFFUSERS_VERBOSITY", "error");
    Ok(python)
}

fn not_installed(error: std::io::Error) -> Failure {
    Failure::from(format!(
        "cannot start PyTorch's Python ({error}); `.ci/setup infer` installs it"
    ))
}
