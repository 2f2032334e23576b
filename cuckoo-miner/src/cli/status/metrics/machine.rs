//! The numbers of models and machine.

use super::Labels;
use crate::{GpuStatus, MinerStatus, ModelStatus};

/// A name, what it says, and its values by label.
type Family = (&'static str, &'static str, Vec<(Labels, f64)>);

/// What there is to say of models and machine.
pub(super) fn families(status: &MinerStatus) -> Vec<Family> {
    let machine = status.machine.clone().unwrap_or_default();
    let one = |value: Option<f64>| -> Vec<(Labels, f64)> {
        let value = value.map(|value| (Vec::new(), value));
        value.into_iter().collect()
    };
    let bytes = |value: Option<u64>| one(value.map(|value| value as f64));
    let mut families: Vec<Family> = vec![
        (
            "weights_bytes",
            "Weights of models in memory, by what executors say",
            bytes(Some(status.weights)),
        ),
        (
            "warm_budget_bytes",
            "The most weights in memory at once, where models take turns",
            bytes(machine.warm_budget),
        ),
        (
            "resident_memory_bytes",
            "Resident memory of the process",
            bytes(machine.resident),
        ),
        (
            "processor_temperature_celsius",
            "The hottest of the processor's sensors",
            one(machine.processor_celsius.map(f64::from)),
        ),
    ];
    type OfModel = fn(&ModelStatus) -> Option<f64>;
    let of_models: [(&str, &str, OfModel); 3] = [
        ("model_warm", "Whether a task can run at once", |one| {
            Some(f64::from(one.warm))
        }),
        (
            "model_memory_bytes",
            "What its executor holds while it is warm",
            |one| Some(one.memory as f64),
        ),
        (
            "model_work_per_second",
            "Units of its executor's work a second, of the largest trial at the start",
            |one| one.pace.as_ref()?.work_per_second,
        ),
    ];
    for (key, help, part) in of_models {
        let values = status.models.iter();
        let values = values.filter_map(|one| Some((model(one), part(one)?)));
        families.push((key, help, values.collect()));
    }
    let trials = status.models.iter().flat_map(|one| {
        let trials = one.pace.iter().flat_map(|pace| &pace.trials);
        trials.map(move |trial| {
            let mut labels = model(one);
            labels.push(("trial", trial.what.clone()));
            (labels, trial.seconds)
        })
    });
    families.push((
        "model_trial_seconds",
        "What a trial at the start took",
        trials.collect(),
    ));
    type OfGpu = fn(&GpuStatus) -> Option<f64>;
    let of_gpus: [(&str, &str, OfGpu); 6] = [
        ("gpu_failed", "Whether it could not be read", |gpu| {
            Some(f64::from(gpu.error.is_some()))
        }),
        ("gpu_temperature_celsius", "Its temperature", |gpu| {
            gpu.celsius.map(f64::from)
        }),
        (
            "gpu_busy_ratio",
            "The share of the time in which it computed, 0 to 1",
            |gpu| gpu.busy_percent.map(|percent| f64::from(percent) / 100.0),
        ),
        (
            "gpu_memory_used_bytes",
            "What of its memory is taken, by all processes",
            |gpu| gpu.memory_used.map(|bytes| bytes as f64),
        ),
        ("gpu_memory_bytes", "Its memory", |gpu| {
            gpu.memory_total.map(|bytes| bytes as f64)
        }),
        ("gpu_power_watts", "What it draws", |gpu| {
            gpu.milliwatts.map(|power| f64::from(power) / 1_000.0)
        }),
    ];
    for (key, help, part) in of_gpus {
        let values = machine.gpus.iter().filter_map(|gpu| {
            // What one that fails told before is old.
            let told = gpu.error.is_none() || key == "gpu_failed";
            let value = part(gpu).filter(|_| told)?;
            let labels = vec![("gpu", gpu.index.to_string()), ("name", gpu.name.clone())];
            Some((labels, value))
        });
        families.push((key, help, values.collect()));
    }
    families
}

fn model(one: &ModelStatus) -> Labels {
    vec![("model", one.model.to_string())]
}
