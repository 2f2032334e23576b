//! A coordinator inside the app that uses it: no HTTP, tasks in memory. Each measurement has a process of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use cuckoo_coordinator::{Coordinator, Settings, StoreSettings};
use cuckoo_core::{ModelId, TaskSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::load::{Lane, Measured, Plan, Rate, Width, one_at_a_time, quantile, rounds, rush};
use crate::miner::Miners;
use crate::process::Usage;
use crate::{Failure, OUTPUT, Result, host, input};

/// Tasks whose submission is under way at a time, while a queue is filled.
const SUBMITTERS: usize = 64;
const MINERS: usize = 4;
const SLOTS: u32 = 64;

/// How many tasks are queued, and where they are kept.
#[derive(Debug, Clone, Args)]
pub(crate) struct QueueOptions {
    #[arg(long)]
    pub(crate) tasks: usize,
    #[arg(long)]
    pub(crate) store: PathBuf,
}

/// A queue that nobody works on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Queued {
    pub(crate) accepted_per_second: f64,
    /// Memory for each task beside the text of its input, in bytes.
    pub(crate) bytes_each: f64,
}

/// Fills a queue.
pub(crate) async fn fill(options: QueueOptions) -> Result<Queued> {
    let settings = Settings {
        max_queued: options.tasks + 1,
        // Nothing ends before all is measured.
        default_timeout_millis: 3_600_000,
        ..host::settings(0.0)?
    };
    let (chain, operator, _) = host::chain(0).await?;
    let store = StoreSettings::at(&options.store).open().await?;
    let coordinator = host::coordinator(settings, chain, operator, store).await?;
    let before = Usage::own()?;
    let start = Instant::now();
    let submitters = (0..SUBMITTERS).map(|lane| {
        let coordinator = coordinator.clone();
        let count = options.tasks / SUBMITTERS + usize::from(lane < options.tasks % SUBMITTERS);
        tokio::spawn(async move {
            let spec = spec()?;
            for _ in 0..count {
                coordinator.submit(spec.clone()).await?;
            }
            Result::Ok(())
        })
    });
    for submitter in submitters.collect::<Vec<_>>() {
        submitter.await??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let grown = Usage::own()?.resident.saturating_sub(before.resident);
    let queued = coordinator.status().queued;
    if queued != options.tasks as u64 {
        return Err(Failure::from(format!(
            "{queued} tasks are queued, not {}",
            options.tasks
        )));
    }
    // A seed is added to each: `,"seed":` and up to 16 digits.
    let payload = serde_json::to_string(&input())?.len();
    Ok(Queued {
        accepted_per_second: options.tasks as f64 / seconds,
        bytes_each: grown as f64 / options.tasks as f64 - payload as f64,
    })
}

/// Measures whole lives of tasks, with miners in the same process.
pub(crate) async fn lives(plan: Plan) -> Result<Measured> {
    let (chain, operator, operators) = host::chain(MINERS).await?;
    let store = StoreSettings::at(StoreSettings::MEMORY).open().await?;
    let coordinator = host::coordinator(host::settings(0.0)?, chain, operator, store).await?;
    let mut miners = Miners::in_process(&operators, coordinator.protocol(), SLOTS).await?;
    let spec = spec()?;
    let caller = || Caller {
        coordinator: coordinator.clone(),
        spec: spec.clone(),
    };
    let mut rates = Vec::new();
    for Width { in_flight, .. } in &plan.widths {
        let mut lanes = (0..*in_flight).map(|_| caller()).collect();
        rush(&mut lanes, plan.seconds / 2.0).await?;
        let per_second = rounds(&mut lanes, &plan).await?.per_second;
        rates.push(Rate {
            in_flight: *in_flight,
            at_worker: MINERS * SLOTS as usize,
            per_second,
        });
    }
    miners.check()?;
    let millis = one_at_a_time(&mut caller(), &plan).await?;
    Ok(Measured {
        rates,
        p50_millis: quantile(millis.clone(), 0.5),
        p99_millis: quantile(millis, 0.99),
    })
}

fn spec() -> Result<TaskSpec> {
    let model: ModelId = host::model()?;
    Ok(TaskSpec::new(model, input()))
}

/// An app that does one task after the other.
#[derive(Debug)]
struct Caller {
    coordinator: Coordinator,
    spec: TaskSpec,
}

impl Lane for Caller {
    async fn run(&mut self) -> Result<()> {
        let task = self.coordinator.submit(self.spec.clone()).await?;
        let result = task.result().await?;
        if result.output.bytes != OUTPUT {
            return Err(Failure::from("a task gave something else than its output"));
        }
        Ok(())
    }
}

/// Has this program do something in a process of its own; gives what it prints.
pub(crate) fn apart<T: DeserializeOwned>(arguments: &[String]) -> Result<T> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(Failure::from(format!(
            "{arguments:?} failed: {}",
            output.status
        )));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
