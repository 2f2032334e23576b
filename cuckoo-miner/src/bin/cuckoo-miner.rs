//! The miner for operators: makes keys, checks models, registers, runs, redeems, judges; and for stakers and owners.

use std::process::ExitCode;

use cuckoo_miner::cli::Host;

/// Gives the memory of unloaded models back, which the system's allocator of Linux keeps in part, one share a thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Host::new(env!("CARGO_BIN_NAME"), env!("CARGO_PKG_VERSION")).main()
}
