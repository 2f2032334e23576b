//! The report: a row a case, which ends in our time divided by the faster of PyTorch's.

use std::time::{Duration, Instant};

use crate::case::{CASES, Case};
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
        "| case, milliseconds | kernels | ours | PyTorch eager | torch.compile | largest relative error | ours ÷ PyTorch's faster |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    let mut peer = Peer::start(threads, &scratch)?;
    let mut ours: Option<Ours> = None;
    for case in wanted {
        let folder = peer::weights(case.model(), &scratch)?;
        let loaded = match ours.take().filter(|ours| ours.is(case.model())) {
            Some(loaded) => loaded,
            None => Ours::load(case.model(), &folder)?,
        };
        peer.load(case, &folder)?;
        print_row(options, case, &loaded, &mut peer)?;
        ours = Some(loaded);
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
    let styles: &[Style] = match options.no_compile {
        true => &[Style::Eager],
        false => &[Style::Eager, Style::Compiled],
    };
    for style in styles {
        let start = Instant::now();
        peer.run(*style)?;
        if *style == Style::Compiled {
            let seconds = start.elapsed().as_secs_f64();
            eprintln!("{}: compiled and run once in {seconds:.0} s", case.name);
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
        eprintln!("{}: round {round}", case.name);
        if round >= 3 && start.elapsed().as_secs_f64() > options.seconds {
            break;
        }
    }
    let millis = |times: &[f64]| median(times) * 1000.0 / case.steps();
    let own = millis(&own);
    let theirs: Vec<_> = theirs.iter().map(|times| millis(times)).collect();
    let fastest = theirs.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "| {} | `{}` | {own:.1} | {:.1} | {} | {error:.0e} | {:.2}x |",
        case.name,
        ours.kernels(),
        theirs[0],
        theirs
            .get(1)
            .map_or(String::new(), |time| format!("{time:.1}")),
        own / fastest
    );
    Ok(())
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
    format!("{name} ({instructions})")
}
