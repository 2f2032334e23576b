//! The report: a row a case, which ends in our time divided by the fastest of PyTorch's.

use std::time::{Duration, Instant};

use crate::case::{CASES, Case, Model};
use crate::ours::Ours;
use crate::peer::{self, Peer, Style};
use crate::{Failure, Options, Result};

/// Pause before each measurement, in which the threads of the other side go to sleep.
const PAUSE: Duration = Duration::from_millis(50);

/// Measures and prints everything.
pub(crate) fn print(options: &Options, threads: usize) -> Result<()> {
    std::fs::create_dir_all(&options.scratch)?;
    let scratch = options.scratch.canonicalize()?;
    let wanted: Vec<_> = CASES
        .into_iter()
        .filter(|case| case.name.contains(&options.only))
        .collect();
    if wanted.is_empty() {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        let problem = format!(
            "no row contains {:?}; there are:\n{}",
            options.only,
            names.join("\n")
        );
        return Err(Failure::from(problem));
    }
    println!(
        "{}, {threads} threads each; {}",
        processor(),
        peer::releases()?
    );
    println!();
    println!(
        "| case, milliseconds | kernels | ours | PyTorch eager | torch.compile | largest relative error | ours ÷ PyTorch's fastest |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    let mut peer = Peer::start(threads, &scratch)?;
    let mut ours: Option<(Model, Ours)> = None;
    for case in wanted {
        let folder = peer::weights(case.model, &scratch)?;
        let loaded = match ours.take().filter(|(model, _)| *model == case.model) {
            Some((_, loaded)) => loaded,
            None => Ours::load(case.model, &folder)?,
        };
        peer.load(case, &folder)?;
        print_row(options, case, &loaded, &mut peer)?;
        ours = Some((case.model, loaded));
    }
    Ok(())
}

fn print_row(options: &Options, case: Case, ours: &Ours, peer: &mut Peer) -> Result<()> {
    let (name, agreement) = (case.name, case.agreement());
    let error = error(&ours.output(case)?, &peer.output()?)
        .ok_or_else(|| format!("{name}: the two sides differ in size"))?;
    if error.is_nan() || error > agreement {
        let problem = format!("{name}: the two sides differ by {error:.1e}, not {agreement:.1e}");
        return Err(Failure::from(problem));
    }
    let styles = Style::all(case, !options.no_compile);
    // What was compared has run the first.
    for style in styles.iter().skip(1) {
        let start = Instant::now();
        peer.run(*style)?;
        if style.compiled {
            let seconds = start.elapsed().as_secs_f64();
            eprintln!("{name}: compiled and run once in {seconds:.0} s");
        }
    }
    let mut own = Vec::new();
    let mut theirs = vec![Vec::new(); styles.len()];
    let start = Instant::now();
    for round in 1..=options.rounds {
        std::thread::sleep(PAUSE);
        own.push(ours.run(case)?.0);
        for (style, times) in styles.iter().zip(&mut theirs) {
            std::thread::sleep(PAUSE);
            times.push(peer.run(*style)?);
        }
        eprintln!("{name}: round {round}");
        if round >= 3 && start.elapsed().as_secs_f64() > options.seconds {
            break;
        }
    }
    let millis = |times: &[f64]| median(times) * 1000.0 / case.steps();
    let own = millis(&own);
    let theirs: Vec<_> = theirs.iter().map(|times| millis(times)).collect();
    let fastest = theirs.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "| {name} | `{}` | {own:.1} | {} | {} | {error:.0e} | {:.2}x |",
        ours.kernels(),
        cell(&styles, &theirs, false),
        cell(&styles, &theirs, true),
        own / fastest
    );
    Ok(())
}

/// The times of the styles that are compiled, or of those that are not; those in bfloat16 say so.
fn cell(styles: &[Style], times: &[f64], compiled: bool) -> String {
    let times = styles.iter().zip(times);
    let times = times.filter(|(style, _)| style.compiled == compiled);
    let times: Vec<_> = times
        .map(|(style, time)| match style.bf16 {
            true => format!("bf16 {time:.1}"),
            false => format!("{time:.1}"),
        })
        .collect();
    times.join(", ")
}

/// The largest distance, relative to the largest number.
fn error(ours: &[f32], theirs: &[f32]) -> Option<f32> {
    if ours.len() != theirs.len() || ours.is_empty() {
        return None;
    }
    let largest = |numbers: &mut dyn Iterator<Item = f32>| {
        // A number that is none must not pass for a small one.
        numbers.fold(0.0_f32, |most, x| {
            if most.is_nan() || x.abs() <= most {
                most
            } else {
                x.abs()
            }
        })
    };
    let distance = largest(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
    Some(distance / largest(&mut theirs.iter().copied()))
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// As Linux names it, with the instructions that matter.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(": "))
            .map_or("", |(_, value)| value)
    };
    let has = |flag: &str| line("flags").split(' ').any(|have| have == flag);
    let instructions = match (has("avx512f"), has("avx2") && has("fma")) {
        (true, _) => "AVX-512",
        (_, true) => "AVX2 and FMA",
        _ => "neither AVX2 nor AVX-512",
    };
    let name = match line("model name") {
        "" => std::env::consts::ARCH,
        name => name,
    };
    let bf16 = match has("avx512_bf16") || has("amx_bf16") {
        true => "arithmetic in bfloat16",
        false => "none in bfloat16",
    };
    format!("{name} ({instructions}; {bf16})")
}
