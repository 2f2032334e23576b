//! Processes to be killed: this test binary, run again with an order.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use cuckoo_core::{LeaseId, NodeId, Wei};
use serde::{Deserialize, Serialize};

use crate::host::Hosting;
use crate::worker::Working;

/// Names the variable that makes the test `process` of this binary such a process.
const ORDER: &str = "CUCKOO_CHAOS_ORDER";
/// What their lines begin with; the test runner writes others between them.
const MARK: &str = "chaos> ";

/// What a process is to do until its standard input ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    Host(Box<Hosting>),
    Work(Box<Working>),
}

/// What a process tells of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Said {
    /// A coordinator serves here.
    Serving(SocketAddr),
    /// A miner opened a session.
    Session,
    /// A miner was given work.
    Assigned(LeaseId),
    /// A miner's receipt was taken.
    Accepted(LeaseId),
    /// A miner was shown a voucher.
    Voucher { miner: NodeId, cumulative: Wei },
    /// Something that must not be.
    Wrong(String),
}

impl Said {
    /// Tells the process that started this one.
    pub(crate) fn say(&self) {
        let mut out = std::io::stdout().lock();
        let line = serde_json::to_string(self).unwrap();
        // The one who listens may be gone: then nobody needs to know.
        let _ = writeln!(out, "{MARK}{line}").and_then(|()| out.flush());
    }
}

/// A process that ends with this value.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

impl Process {
    /// Starts one. `heard` gets all that it says. `wrapper` is a command that runs it, such as `nsenter` with arguments.
    pub(crate) fn start(
        order: &Order,
        wrapper: &[String],
        mut heard: impl FnMut(Said) + Send + 'static,
    ) -> Self {
        let me = std::env::current_exe().unwrap();
        let mut command = match wrapper.split_first() {
            None => Command::new(me),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(me);
                command
            }
        };
        let mut child = command
            .args(["process", "--exact", "--nocapture"])
            .env(ORDER, serde_json::to_string(order).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // A line that a kill cut short says nothing.
                let said = line.split_once(MARK).map(|(_, said)| said);
                if let Some(said) = said.and_then(|said| serde_json::from_str(said).ok()) {
                    heard(said);
                }
            }
        });
        Self {
            input: child.stdin.take(),
            child,
        }
    }

    /// Whether it ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Has it end by itself, and waits for that.
    pub(crate) async fn stop(mut self) {
        drop(self.input.take());
        let status = tokio::task::spawn_blocking(move || self.child.wait().unwrap());
        assert!(status.await.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Carries out the order that this process was started with, if it was.
pub(crate) async fn obey() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let closed = tokio::task::spawn_blocking(|| {
        let _ = std::io::stdin().read(&mut [0]);
    });
    match serde_json::from_str(&order).unwrap() {
        Order::Host(hosting) => hosting.host(closed).await,
        Order::Work(working) => working.work(closed).await,
    }
}
