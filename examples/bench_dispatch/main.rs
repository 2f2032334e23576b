//! How fast tasks go through a coordinator, beside job queues that people know: `make bench-dispatch`.
//!
//! A task goes its whole way: submitted over HTTP, assigned by stake, polled by a miner, its signed receipt verified, paid
//! by a voucher, its output fetched. The peers do a task with a result of the same sizes, each by its own client.
//! `docs/benchmarks.md` says how to read the table.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

mod embedded;
mod host;
mod http;
mod load;
mod miner;
mod over_http;
mod parked;
mod peers;
mod process;
mod requester;
mod restart;
mod signatures;
mod table;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use embedded::QueueOptions;
use host::HostOptions;
use load::{Plan, Width};
use restart::RestartOptions;

/// Whatever went wrong: a measurement ends where it fails.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// What every task gives, here and at the peers: 1 KiB.
pub(crate) const OUTPUT: &[u8] = &[b'y'; 1024];

/// What every task takes, here and at the peers: about 200 bytes.
pub(crate) fn input() -> Value {
    json!({ "prompt": "x".repeat(180) })
}

/// Measures the dispatch of tasks.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    effort: Effort,
    /// Rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Where servers and stores keep their data while they are measured.
    #[arg(long, default_value = "target/bench-dispatch")]
    scratch: PathBuf,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, Args)]
struct Effort {
    /// Length of a repetition.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Repetitions, of which the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tasks done one at a time.
    #[arg(long, default_value_t = 2000)]
    single: usize,
}

impl Effort {
    /// The plan of our own rows.
    fn plan(&self) -> Plan {
        let widths = [64, 256, 512].map(|in_flight| Width {
            in_flight,
            at_worker: 0,
        });
        Plan {
            widths: widths.to_vec(),
            rounds: self.rounds,
            seconds: self.seconds,
            single: self.single,
        }
    }

    fn arguments(&self) -> Vec<String> {
        let pairs = [
            ("--seconds", self.seconds.to_string()),
            ("--rounds", self.rounds.to_string()),
            ("--single", self.single.to_string()),
        ];
        pairs
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A coordinator under load, in a process of its own.
    #[command(hide = true)]
    Host(HostOptions),
    /// A queue that nobody works on.
    #[command(hide = true)]
    Queue(QueueOptions),
    /// Puts tasks into a store.
    #[command(hide = true)]
    Fill(RestartOptions),
    /// A coordinator that starts with that store.
    #[command(hide = true)]
    Restart(RestartOptions),
    /// Coordinator, miners and requesters in one process.
    #[command(hide = true)]
    Lives(Effort),
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    match options.role {
        Some(Role::Host(host)) => host::run(host).await,
        Some(Role::Queue(queue)) => answer(&embedded::fill(queue).await?),
        Some(Role::Fill(options)) => answer(&restart::fill(&options).await?),
        Some(Role::Restart(options)) => answer(&restart::start(&options).await?),
        Some(Role::Lives(effort)) => answer(&embedded::lives(effort.plan()).await?),
        None => table::print(&options).await,
    }
}

/// What a process of its own found out.
fn answer(found: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(found)?);
    Ok(())
}
