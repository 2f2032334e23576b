//! The miner for operators: makes keys, checks models, registers, runs, redeems, judges; and for stakers and owners.

mod config;
mod dispute;
mod doctor;
mod juror;
mod models;
mod redeem;
mod register;
mod run;
mod unpaid;
mod vouchers;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cuckoo_core::cli::{
    AccountArgs, FaucetCommand, KeyCommand, OwnerCommand, Program, StakerCommand,
};
use cuckoo_core::{Error, Result};
use tracing_subscriber::EnvFilter;

/// Gives the memory of unloaded models back, which the system's allocator of Linux keeps in part, one share a thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the shared commands need to know of this program.
const PROGRAM: Program = Program {
    name: "cuckoo-miner",
    prefix: "CUCKOO_MINER",
    settings: "miner.toml",
    lists: &["coordinators"],
};

/// Runs AI tasks for Cuckoo coordinators and is paid for it.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged to standard error, such as `info` or `cuckoo_miner=debug`.
    #[arg(long, global = true, env = "CUCKOO_LOG", default_value = "info")]
    log: String,
}

const EXAMPLES: &str = "\
From nothing to a running miner (docs/operator.md walks through it):
  cuckoo-miner key new --keystore miner.json
  cuckoo-miner models check examples/models/shapes
  cuckoo-miner register --config miner.toml --owner owner.json --name gpu-1
  cuckoo-miner doctor --config miner.toml
  cuckoo-miner run --config miner.toml
  cuckoo-miner redeem --config miner.toml --keystore owner.json

Commands that move CAI say what they do and cost before they ask; --dry-run stops there, --yes does not ask.
Passwords are read from --password-file, else from the environment variable CUCKOO_PASSWORD, never from the command line.
Each setting of miner.toml can be overridden, as in CUCKOO_MINER__CHAIN__RPC=http://10.0.0.7:8545.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Polls coordinators and runs what they assign, until Ctrl-C or SIGTERM; then finishes what was begun.
    #[command(after_help = "\
The first signal stops taking work and waits for what is in work up to drain_seconds; a second one stops at once.

Examples:
  cuckoo-miner run --config miner.toml
  CUCKOO_MINER__SETTINGS__SLOTS=2 cuckoo-miner run --config miner.toml
  CUCKOO_MINER__COORDINATORS=https://a.example,https://b.example cuckoo-miner run --config miner.toml")]
    Run {
        /// Settings; miner.example.toml shows them all.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    Doctor(doctor::Arguments),
    /// Makes, imports and shows encrypted key files.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Looks at model folders.
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

fn main() -> ExitCode {
    let cli = PROGRAM.parse();
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> Result<()> {
    let filter = EnvFilter::try_new(&cli.log).map_err(|source| {
        Error::invalid("--log is a level or `target=level` pairs, such as info").with_source(source)
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::unavailable("cannot start threads").with_source(source))?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run { config } => run::run(&config).await,
            Command::Doctor(arguments) => doctor::doctor(arguments).await,
            Command::Key(command) => command.run(),
            Command::Models(command) => models::execute(command).await,
            Command::Register(arguments) => register::register(arguments).await,
            Command::Owner(command) => command.run(&PROGRAM).await,
            Command::Redeem(arguments) => redeem::redeem(arguments).await,
            Command::Collect(arguments) => redeem::collect(arguments).await,
            Command::Unpaid(command) => unpaid::execute(command).await,
            Command::Juror(command) => juror::execute(command).await,
            Command::Dispute(command) => dispute::execute(command).await,
            Command::Staker(command) => command.run(&PROGRAM).await,
            Command::Account(arguments) => arguments.run(&PROGRAM).await,
            Command::Faucet(command) => command.run(&PROGRAM).await,
        }
    });
    // Nothing that still runs matters once the command is done.
    runtime.shutdown_background();
    result
}
