//! How fast models run, beside PyTorch on the same weights: `make bench-infer`.
//!
//! Models of well-known shapes with random weights are written once and read by both sides. Each round of a case is run
//! by ours, by PyTorch as it is, and by what `torch.compile` makes of it, one after another, so that whatever else the
//! machine does befalls all three. The last column of a row is our time divided by the fastest of PyTorch's. A model in
//! bfloat16 PyTorch runs with all it computes in bfloat16, too, and with its weights widened to 32 bits, as ours computes; the
//! fastest of the four counts, and what is computed is compared with the latter.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

mod case;
mod ours;
mod peer;
mod table;

use std::path::PathBuf;

use clap::Parser;

/// Whatever went wrong: a measurement ends where it fails.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Measures models beside PyTorch.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds of each row, of which the median counts.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// A row that has had three rounds is done after this many seconds.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Threads of each side; all the machine has unless set.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Leaves `torch.compile` out, which takes minutes for a UNet.
    #[arg(long)]
    no_compile: bool,
    /// Where the models (10 GB) and what was compiled are kept between runs.
    #[arg(long, default_value = "target/bench-infer")]
    scratch: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    // As `cuckoo-miner` does.
    cuckoo_miner::keep_freed_memory();
    let threads = match options.threads {
        Some(threads) => threads as usize,
        None => std::thread::available_parallelism()?.get(),
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    table::print(&options, threads)
}
