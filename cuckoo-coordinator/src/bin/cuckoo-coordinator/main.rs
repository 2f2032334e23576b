//! The coordinator for operators: makes keys, deploys contracts, registers, serves; and for stakers and owners.

mod api_key;
mod certificate;
mod chain;
mod config;
mod deploy;
mod escrow;
mod log;
mod open_files;
mod register;
mod run;
mod store;
mod traces;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cuckoo_core::cli::{
    AccountArgs, FaucetCommand, KeyCommand, OwnerCommand, Program, StakerCommand,
};
use cuckoo_core::{Error, Result};

use config::Config;
use log::LogFormat;

/// Less processor time a task than with the system's allocator, which threads that pass memory on contend for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the shared commands need to know of this program.
const PROGRAM: Program = Program {
    name: "cuckoo-coordinator",
    version: env!("CARGO_PKG_VERSION"),
    prefix: "CUCKOO_COORDINATOR",
    settings: "coordinator.toml",
    lists: &[],
};

/// Hands out tasks to miners by stake, audits what comes back and pays for it.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged to standard error, such as `info` or `cuckoo_coordinator=debug`.
    #[arg(long, global = true, env = "CUCKOO_LOG", default_value = "info")]
    log: String,
    /// How log lines look; the settings' `[log] format` when absent, else text.
    #[arg(long, global = true, env = "CUCKOO_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

const EXAMPLES: &str = "\
From nothing to a running coordinator (docs/operator.md walks through it):
  cuckoo-coordinator key new --keystore operator.json
  cuckoo-coordinator chain deploy --rpc http://127.0.0.1:8545 --keystore owner.json --preset demo
  cuckoo-coordinator register --config coordinator.toml --owner owner.json --name demo --escrow 1000
  cuckoo-coordinator run --config coordinator.toml

Commands that move CAI say what they do and cost before they ask; --dry-run stops there, --yes does not ask.
Passwords are read from --password-file, else from the environment variable CUCKOO_PASSWORD, never from the command line.
Each setting of coordinator.toml can be overridden, as in CUCKOO_COORDINATOR__CHAIN__RPC=http://10.0.0.7:8545.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves requesters and miners until Ctrl-C or SIGTERM; then finishes what was begun.
    #[command(after_help = "\
The first signal stops taking tasks and waits for open ones up to drain_seconds; a second one stops at once.

Example:
  cuckoo-coordinator run --config coordinator.toml")]
    Run {
        /// Settings; coordinator.example.toml shows them all.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Makes, imports and shows encrypted key files.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Makes keys for requesters.
    #[command(subcommand)]
    ApiKey(api_key::Command),
    /// Deploys contracts and looks at them.
    #[command(subcommand)]
    Chain(chain::Command),
    /// Registers this coordinator on chain: stakes, votes for it, deposits its escrow.
    Register(register::Arguments),
    #[command(flatten)]
    Owner(OwnerCommand),
    /// Fills and empties a coordinator's escrow.
    #[command(subcommand)]
    Escrow(escrow::Command),
    /// Counts, checks and copies the tasks on disk.
    #[command(subcommand)]
    Store(store::Command),
    #[command(flatten)]
    Staker(StakerCommand),
    Account(AccountArgs),
    #[command(subcommand)]
    Faucet(FaucetCommand),
    /// Writes the OpenAPI document of the HTTP interface.
    Openapi {
        /// Where to; standard output when absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
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
    // Before the first line is logged: the settings say how lines look.
    let config = match &cli.command {
        Command::Run { config } => Some(Config::load(config)?),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::unavailable("cannot start threads").with_source(source))?;
    let traces = config.as_ref().map_or(Ok(None), |config| {
        let _inside = runtime.enter();
        traces::start(config.otel.as_ref())
    })?;
    let format = config.as_ref().map(|config| config.log.format);
    let format = cli.log_format.or(format).unwrap_or_default();
    log::start(&cli.log, format, traces.as_ref())?;
    let result = runtime.block_on(async {
        if let Some(config) = config {
            return run::run(config, traces).await;
        }
        match cli.command {
            // Its settings are there, so it ran.
            Command::Run { .. } => Ok(()),
            Command::Key(command) => command.run(),
            Command::ApiKey(command) => command.run(),
            Command::Chain(command) => chain::execute(command).await,
            Command::Register(arguments) => register::register(arguments).await,
            Command::Owner(command) => command.run(&PROGRAM).await,
            Command::Escrow(command) => escrow::execute(command).await,
            Command::Store(command) => store::execute(command).await,
            Command::Staker(command) => command.run(&PROGRAM).await,
            Command::Account(arguments) => arguments.run(&PROGRAM).await,
            Command::Faucet(command) => command.run(&PROGRAM).await,
            Command::Openapi { out } => write_openapi(out),
        }
    });
    // Nothing that still runs matters once the command is done.
    runtime.shutdown_background();
    result
}

fn write_openapi(out: Option<PathBuf>) -> Result<()> {
    let document = cuckoo_coordinator::openapi();
    match out {
        Some(path) => std::fs::write(&path, document).map_err(|source| {
            Error::unavailable(format!("cannot write {}", path.display())).with_source(source)
        }),
        None => {
            print!("{document}");
            Ok(())
        }
    }
}
