//! Every command of `cuckoo-miner` (run, doctor, key, register, redeem and the rest) for the executor of this project.

use std::process::ExitCode;
use std::sync::Arc;

use cuckoo_miner::cli::Host;
use executor::Charts;

fn main() -> ExitCode {
    Host::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .executors(|config| Ok(vec![Arc::new(Charts::new(config.settings()?))]))
        .main()
}
