//! Memory, processor, GPUs and models.

use std::fmt::Write as _;

use super::text::{clip, paragraph, plain, rounded};
use crate::cli::devices::readings;
use crate::{GpuStatus, MinerStatus, ModelStatus, size_text};

/// What is known of the machine and of the models on it; nothing of a miner that tells nothing of them.
pub(super) fn write(page: &mut String, status: &MinerStatus) -> std::fmt::Result {
    let machine = status.machine.clone().unwrap_or_default();
    let weights = || format!("{} of weights warm", size_text(status.weights));
    let parts = [
        machine
            .resident
            .map(|bytes| format!("{} resident", size_text(bytes))),
        (!status.models.is_empty()).then(weights),
        machine
            .warm_budget
            .map(|bytes| format!("{} at most", size_text(bytes))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let mut lines = String::new();
    if !parts.is_empty() {
        paragraph(&mut lines, 0, &format!("memory: {}", parts.join(", ")))?;
    }
    if let Some(celsius) = machine.processor_celsius {
        writeln!(lines, "processor: {celsius} °C")?;
    }
    for gpu in &machine.gpus {
        write_gpu(&mut lines, gpu)?;
    }
    // Of GPUs that are known, each says it.
    if let Some(error) = machine.error.filter(|_| machine.gpus.is_empty()) {
        paragraph(
            &mut lines,
            0,
            &format!("machine: not read: {}", plain(&error)),
        )?;
    }
    if !lines.is_empty() {
        write!(page, "\n{lines}")?;
    }
    if !status.models.is_empty() {
        writeln!(
            page,
            "\n{:<44} {:<5} {:>10} {:>18}",
            "model", "state", "memory", "work a second"
        )?;
    }
    for model in &status.models {
        write_model(page, model)?;
    }
    Ok(())
}

fn write_gpu(page: &mut String, gpu: &GpuStatus) -> std::fmt::Result {
    let name = format!("gpu {} {}", gpu.index, plain(&gpu.name));
    let said = match (&gpu.error, readings(gpu)) {
        (Some(error), _) => format!("not read: {}", plain(error)),
        (None, told) if told.is_empty() => "it tells nothing".to_owned(),
        (None, told) => told,
    };
    paragraph(page, 0, &format!("{}: {said}", name.trim_end()))
}

fn write_model(page: &mut String, model: &ModelStatus) -> std::fmt::Result {
    let memory = match model.memory {
        0 => "-".to_owned(),
        bytes => size_text(bytes),
    };
    let pace = model.pace.as_ref();
    let work = pace.and_then(|pace| pace.work_per_second);
    writeln!(
        page,
        "{:<44} {:<5} {memory:>10} {:>18}",
        clip(model.model.as_str(), 44),
        if model.warm { "warm" } else { "cold" },
        work.map_or_else(|| "-".to_owned(), rounded)
    )?;
    // The others took less and say less; JSON has them.
    match pace.and_then(|pace| pace.trials.last()) {
        Some(trial) => {
            let took = format!(
                "at the start: {:.2} s {}",
                trial.seconds,
                plain(&trial.what)
            );
            paragraph(page, 2, &took)
        }
        None => Ok(()),
    }
}
