//! The command line: what `cuckoo-miner` is, and what a program of a tool author's own becomes with [`Host`].

mod bench;
mod config;
mod devices;
mod dispute;
mod doctor;
mod host;
mod juror;
mod models;
mod new;
mod redeem;
mod register;
mod run;
mod status;
mod table;
mod unpaid;
mod vouchers;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use cuckoo_core::Result;
use cuckoo_core::cli::{
    AccountArgs, FaucetCommand, KeyCommand, OwnerCommand, Program, StakerCommand,
};

pub use host::{ExecutorConfig, Host};

/// What the shared commands need to know of this program; a host has a name of its own.
const PROGRAM: Program = Program {
    name: "cuckoo-miner",
    version: env!("CARGO_PKG_VERSION"),
    prefix: "CUCKOO_MINER",
    settings: "miner.toml",
    lists: &["coordinators"],
};

/// Runs AI tasks for Cuckoo coordinators and is paid for it.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged to standard error, such as `info` or `cuckoo_miner=debug`.
    #[arg(long, global = true, env = "CUCKOO_LOG", default_value = "info")]
    log: String,
}

const EXAMPLES: &str = "\
From nothing to a running miner (docs/operator.md walks through it):
  PROGRAM key new --keystore miner.json
  PROGRAM models pull Qwen/Qwen2.5-0.5B-Instruct
  PROGRAM models check Qwen/Qwen2.5-0.5B-Instruct --prompt 'Why do cuckoos call?'
  PROGRAM bench Qwen/Qwen2.5-0.5B-Instruct
  PROGRAM register --config miner.toml --owner owner.json --name gpu-1
  PROGRAM doctor --config miner.toml
  PROGRAM run --config miner.toml
  PROGRAM status --config miner.toml --watch
  PROGRAM redeem --config miner.toml --keystore owner.json

A miner for a model of your own begins with `PROGRAM new` (docs/miner.md).
Commands that move CAI say what they do and cost before they ask; --dry-run stops there, --yes does not ask.
Passwords are read from --password-file, else from the environment variable CUCKOO_PASSWORD, never from the command line.
Each setting of miner.toml can be overridden, as in CUCKOO_MINER__CHAIN__RPC=http://10.0.0.7:8545.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Polls coordinators and runs what they assign, until Ctrl-C or SIGTERM; then finishes what was begun.
    #[command(after_help = "\
The first signal stops taking work and waits for what is in work up to drain_seconds; a second one stops at once.

Examples:
  PROGRAM run --config miner.toml
  CUCKOO_MINER__SETTINGS__SLOTS=2 PROGRAM run --config miner.toml
  CUCKOO_MINER__COORDINATORS=https://a.example,https://b.example PROGRAM run --config miner.toml")]
    Run {
        /// Settings; miner.example.toml shows them all.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    Doctor(doctor::Arguments),
    Status(status::Arguments),
    Bench(bench::Arguments),
    New(new::Arguments),
    /// Makes, imports and shows encrypted key files.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Pulls models from the hub, tries them, and lists, checks and removes what is in the cache.
    #[command(subcommand)]
    Models(models::Command),
    /// Registers this miner on chain: stakes and votes for it, with the operator's consent.
    Register(register::Arguments),
    #[command(flatten)]
    Owner(OwnerCommand),
    Redeem(redeem::RedeemArgs),
    Collect(redeem::CollectArgs),
    /// Makes coordinators answer for vouchers that their escrow does not cover.
    #[command(subcommand)]
    Unpaid(unpaid::Command),
    /// Puts miners on the list that juries are drawn from, and takes them off.
    #[command(subcommand)]
    Juror(juror::Command),
    /// Brings wrong outputs before the court.
    #[command(subcommand)]
    Dispute(dispute::Command),
    #[command(flatten)]
    Staker(StakerCommand),
    Account(AccountArgs),
    #[command(subcommand)]
    Faucet(FaucetCommand),
}

impl Command {
    async fn execute(self, host: &Host) -> Result<()> {
        match self {
            Self::Run { config } => run::run(&config, host).await,
            Self::Doctor(arguments) => doctor::doctor(arguments, host).await,
            Self::Status(arguments) => status::status(arguments).await,
            Self::Bench(arguments) => bench::bench(arguments).await,
            Self::New(arguments) => new::new(&arguments),
            Self::Key(command) => command.run(),
            Self::Models(command) => models::execute(command).await,
            Self::Register(arguments) => register::register(arguments).await,
            Self::Owner(command) => command.run(&PROGRAM).await,
            Self::Redeem(arguments) => redeem::redeem(arguments).await,
            Self::Collect(arguments) => redeem::collect(arguments).await,
            Self::Unpaid(command) => unpaid::execute(command).await,
            Self::Juror(command) => juror::execute(command).await,
            Self::Dispute(command) => dispute::execute(command).await,
            Self::Staker(command) => command.run(&PROGRAM).await,
            Self::Account(arguments) => arguments.run(&PROGRAM).await,
            Self::Faucet(command) => command.run(&PROGRAM).await,
        }
    }
}
