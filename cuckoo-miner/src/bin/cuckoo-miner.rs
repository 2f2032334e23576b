//! The miner for operators: makes keys, checks models, registers, runs, redeems, judges; and for stakers and owners.

use std::process::ExitCode;

use cuckoo_miner::cli::Host;

fn main() -> ExitCode {
    Host::new(env!("CARGO_BIN_NAME"), env!("CARGO_PKG_VERSION")).main()
}
