//! Whether the layers for GPUs compute what they should on the GPU at hand, and how fast: `make check-gpu`.
//!
//! Each layer runs in the shapes that Stable Diffusion has, and in odd ones, and is compared with what `f64` makes of the
//! same numbers. A machine without a GPU has nothing to compare.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

mod layer;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use cuckoo_miner::CudaKernels;

use crate::layer::{CASES, Layer, numbers};

/// Whatever went wrong: the check ends where it fails.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Checks and times the layers for GPUs.
#[derive(Parser)]
#[command(name = "check-gpu")]
struct Options {
    /// Which GPU, counted from 0.
    #[arg(long, default_value_t = 0)]
    gpu: usize,
    /// Runs of each layer, of which the median counts.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Compiles all sources first, for the oldest and the newest GPU that NVRTC knows; needs no GPU.
    #[arg(long)]
    sources: bool,
}

/// How far a number may be from what `f64` gives, as a part of the largest.
const ALLOWED: f64 = 1e-4;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("check-gpu: FAILED, see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("check-gpu: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run(options: &Options) -> Result<bool> {
    if options.sources {
        let compiled = CudaKernels::check_sources()?;
        let newest = compiled.last().map(String::as_str).unwrap_or_default();
        println!(
            "check-gpu: {} kernels compiled, the last is {newest}",
            compiled.len()
        );
    }
    let Some(gpu) = CudaKernels::open(options.gpu)? else {
        println!("check-gpu: this machine has no GPU, or no driver for it; no layer was run");
        return Ok(true);
    };
    let (name, capability) = gpu.describe()?;
    println!(
        "{name}, compute capability {}.{}; {} threads of the processor beside it",
        capability / 10,
        capability % 10,
        rayon::current_num_threads()
    );
    println!();
    println!(
        "| layer | where | GPU, largest relative error | CPU, the same | GPU, ms | CPU, ms | GPU |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    let mut well = true;
    for (place, layer) in CASES {
        well &= check(&gpu, options.rounds, place, layer)?;
    }
    Ok(well)
}

/// Prints a row, and says whether it is as it should be.
fn check(gpu: &CudaKernels, rounds: u32, place: &str, layer: Layer) -> Result<bool> {
    let inputs = layer.inputs()?;
    let [x, y, z] = &inputs;
    let there = [gpu.upload(x)?, gpu.upload(y)?, gpu.upload(z)?];
    // The first run compiles.
    let got = numbers(&gpu.download(&layer.on_gpu(gpu, &there)?)?)?;
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..rounds {
        // What the run before made is freed outside the time.
        drop(last.take());
        gpu.finish()?;
        let start = Instant::now();
        let out = layer.on_gpu(gpu, &there)?;
        gpu.finish()?;
        times.push(start.elapsed().as_secs_f64());
        last = Some(out);
    }
    times.sort_by(f64::total_cmp);
    let time = times[times.len() / 2];
    let mut same = true;
    if let Some(last) = last {
        let again = numbers(&gpu.download(&last)?)?;
        same = again
            .iter()
            .map(|x| x.to_bits())
            .eq(got.iter().map(|x| x.to_bits()));
    }

    let start = Instant::now();
    let cpu = numbers(&layer.on_cpu(&inputs)?)?;
    let cpu_time = start.elapsed().as_secs_f64();
    let [gpu_error, cpu_error] = layer.errors(&inputs, [&got, &cpu])?;
    // Written so that what is not a number does not pass.
    let close = gpu_error <= ALLOWED;
    println!(
        "| {} | {place} | {gpu_error:.1e}{}{} | {cpu_error:.1e} | {:.3} | {:.1} | {} |",
        layer.text(),
        if close { "" } else { " TOO FAR" },
        if same { "" } else { " NOT THE SAME TWICE" },
        time * 1e3,
        cpu_time * 1e3,
        layer.speed(time)
    );
    Ok(close && same)
}
