//! The peers: their servers, started here with folders of their own, and their clients, programs in `peers/`.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::load::{Measured, Plan, Width};
use crate::process::{Server, free_port};
use crate::{Failure, Result};

/// Another system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    BullMq(Fsync),
    Celery(Fsync),
    JetStream,
}

/// When Redis has its log written to the disk.
#[derive(Debug, Clone, Copy)]
enum Fsync {
    Always,
    EverySecond,
}

/// All that are compared with.
pub(crate) const PEERS: [Peer; 5] = [
    Peer {
        name: "BullMQ, Redis appendfsync always",
        kind: Kind::BullMq(Fsync::Always),
    },
    Peer {
        name: "BullMQ, Redis appendfsync everysec",
        kind: Kind::BullMq(Fsync::EverySecond),
    },
    Peer {
        name: "Celery, Redis appendfsync always",
        kind: Kind::Celery(Fsync::Always),
    },
    Peer {
        name: "Celery, Redis appendfsync everysec",
        kind: Kind::Celery(Fsync::EverySecond),
    },
    Peer {
        name: "NATS JetStream bare, file store",
        kind: Kind::JetStream,
    },
];

impl Peer {
    /// Starts the peer's server with its data under `scratch`, and has its client measure it.
    pub(crate) fn measure(
        &self,
        plan: &Plan,
        installed: &Path,
        scratch: &Path,
    ) -> Result<Measured> {
        let data = scratch.join(self.name.replace([' ', ','], "-"));
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        std::fs::create_dir_all(&data)?;
        let server = self.serve(&data)?;
        let measured = self.client(plan, installed, server.port);
        drop(server);
        std::fs::remove_dir_all(&data)?;
        measured
    }

    fn serve(&self, data: &Path) -> Result<Server> {
        let port = free_port()?;
        let mut command = match self.kind {
            Kind::BullMq(fsync) | Kind::Celery(fsync) => {
                let fsync = match fsync {
                    Fsync::Always => "always",
                    Fsync::EverySecond => "everysec",
                };
                let mut redis = Command::new("redis-server");
                redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
                redis.args(["--maxmemory-policy", "noeviction", "--appendfsync", fsync]);
                redis.arg("--dir").arg(data);
                redis
            }
            Kind::JetStream => {
                let mut nats = Command::new("nats-server");
                nats.args(["--addr", "127.0.0.1", "--jetstream", "--store_dir"])
                    .arg(data);
                nats
            }
        };
        command.args(["--port", &port.to_string()]);
        Server::start(command, port)
    }

    fn client(&self, plan: &Plan, installed: &Path, port: u16) -> Result<Measured> {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench_dispatch/peers");
        let mut command = match self.kind {
            Kind::Celery(_) => {
                let mut python = Command::new(installed.join("venv/bin/python"));
                python.arg(programs.join("celery_peer.py"));
                python
            }
            Kind::BullMq(_) => node(installed, &programs, "bullmq.mjs")?,
            Kind::JetStream => node(installed, &programs, "nats.mjs")?,
        };
        let plan = Plan {
            widths: self.widths(),
            ..plan.clone()
        };
        let output = command
            .arg(port.to_string())
            .arg(serde_json::to_string(&plan)?)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("{error}; `.ci/setup bench` installs what the peers need"))?;
        let line = output.stdout.lines().map_while(std::io::Result::ok).last();
        match line.as_deref().map(serde_json::from_str) {
            Some(Ok(measured)) if output.status.success() => Ok(measured),
            _ => Err(Failure::from(format!(
                "the client of {} failed: {}",
                self.name, output.status
            ))),
        }
    }

    /// Those that were the peer's best in trials: more at a worker of BullMQ makes it slower while fewer are in flight.
    fn widths(&self) -> Vec<Width> {
        let widths = match self.kind {
            Kind::BullMq(_) => vec![(64, 16), (256, 32), (512, 64)],
            Kind::Celery(_) => vec![(64, 1), (256, 1)],
            Kind::JetStream => vec![(64, 512), (256, 512), (512, 512)],
        };
        let width = |(in_flight, at_worker)| Width {
            in_flight,
            at_worker,
        };
        widths.into_iter().map(width).collect()
    }
}

/// A program for node, run where its packages are installed: node looks for them beside the program.
fn node(installed: &Path, programs: &Path, name: &str) -> Result<Command> {
    for program in ["load.mjs", "worker.mjs", name] {
        std::fs::copy(programs.join(program), installed.join(program))?;
    }
    let mut node = Command::new("node");
    node.arg(installed.join(name));
    Ok(node)
}

/// Where `.ci/setup bench` installs the peers' clients.
pub(crate) fn installed() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("cuckoo/bench-peers"))
}
