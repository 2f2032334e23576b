//! What the machine tells of itself: NVIDIA's GPUs, the processor, and the process's memory.

#[cfg(feature = "cuda")]
mod nvml;

use std::fmt;

use sysinfo::{Components, ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

use crate::{GpuStatus, MachineStatus, size_text};

/// How names of a processor's sensors begin: Linux' drivers of Intel's and AMD's, its thermal zones, and macOS'.
const SENSORS: [&str; 6] = [
    "coretemp",
    "k10temp",
    "zenpower",
    "x86_pkg_temp",
    "cpu",
    "pmu tdie",
];
/// What is outside, in degrees Celsius, is no temperature of a processor at work.
const PLAUSIBLE: std::ops::RangeInclusive<f32> = -40.0..=150.0;

/// Where readings of GPUs come from.
pub(crate) trait Gpus: fmt::Debug + Send {
    /// Every GPU now, always in the same order. One that fails is there with its error. Blocks.
    fn read(&mut self) -> Vec<GpuStatus>;
}

/// Why no GPU can be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    pub(crate) cause: String,
    /// What to do about it.
    pub(crate) remedy: &'static str,
}

/// The GPUs of this machine.
///
/// # Errors
/// That there are none, or that they cannot be read.
pub(crate) fn gpus() -> Result<Box<dyn Gpus>, Absent> {
    #[cfg(feature = "cuda")]
    {
        let gpus: Box<dyn Gpus> = Box::new(nvml::Nvidia::open(None)?);
        Ok(gpus)
    }
    #[cfg(not(feature = "cuda"))]
    {
        Err(Absent {
            cause: "this build does not read GPUs".to_owned(),
            remedy: "where there is one of NVIDIA's, install its driver and build with `--features cuda` to see its \
                     temperature, memory and power",
        })
    }
}

/// What a GPU told, for people, such as `41 °C, 87 % busy, 1.2 GiB of 8.0 GiB, 120.5 W`; empty when it told nothing.
pub(crate) fn readings(gpu: &GpuStatus) -> String {
    let memory = gpu.memory_used.zip(gpu.memory_total);
    let parts = [
        gpu.celsius.map(|celsius| format!("{celsius} °C")),
        gpu.busy_percent.map(|busy| format!("{busy} % busy")),
        memory.map(|(used, total)| format!("{} of {}", size_text(used), size_text(total))),
        gpu.milliwatts
            .map(|power| format!("{}.{} W", power / 1_000, power % 1_000 / 100)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Reads the machine.
#[derive(Debug)]
pub(crate) struct Devices(Option<Box<dyn Gpus>>);

impl Devices {
    /// The processor, and the GPUs if there are any. Blocks.
    pub(crate) fn open() -> Self {
        match gpus() {
            Ok(gpus) => Self(Some(gpus)),
            Err(Absent { cause, .. }) => {
                tracing::debug!("the status has no GPUs: {cause}");
                Self(None)
            }
        }
    }

    /// The processor, and GPUs that others read.
    #[cfg(test)]
    pub(crate) fn with(gpus: Box<dyn Gpus>) -> Self {
        Self(Some(gpus))
    }

    /// The machine now; without the budget, which is none of its own. Blocks.
    pub(crate) fn read(&mut self) -> MachineStatus {
        MachineStatus {
            resident: resident(),
            warm_budget: None,
            processor_celsius: processor(),
            gpus: self.0.as_mut().map(|gpus| gpus.read()).unwrap_or_default(),
            error: None,
        }
    }
}

/// The resident memory of this process, in bytes.
fn resident() -> Option<u64> {
    let process = get_current_pid().ok()?;
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[process]),
        true,
        ProcessRefreshKind::nothing().with_memory(),
    );
    let bytes = system.process(process)?.memory();
    (bytes > 0).then_some(bytes)
}

/// The temperature of the processor.
fn processor() -> Option<i32> {
    let sensors = Components::new_with_refreshed_list().ok()?;
    let readings = sensors
        .iter()
        .filter_map(|sensor| Some((sensor.label(), sensor.temperature()?)));
    hottest(readings)
}

/// The highest of the processor's sensors among all of a machine.
fn hottest<'a>(readings: impl Iterator<Item = (&'a str, f32)>) -> Option<i32> {
    let of_processor = readings.filter(|(label, celsius)| {
        let label = label.to_lowercase();
        SENSORS.iter().any(|name| label.starts_with(name)) && PLAUSIBLE.contains(celsius)
    });
    of_processor
        .map(|(_, celsius)| celsius.round() as i32)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_told_from_other_sensors() {
        let readings = [
            ("nvme Composite Samsung SSD 990", 71.9),
            ("nct6798 CPUTIN", 127.0),
            ("coretemp Package id 0", 54.4),
            ("coretemp Core 3", 55.6),
            ("k10temp Tctl", f32::NAN),
            ("cpu_thermal temp1", 999.0),
            ("acpitz temp1", 99.0),
        ];
        assert_eq!(hottest(readings.into_iter()), Some(56));
        assert_eq!(hottest(readings.into_iter().take(2)), None);
        assert_eq!(hottest([("PMU tdie4", 41.2)].into_iter()), Some(41));
    }

    #[test]
    fn this_process_takes_memory() {
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let machine = Devices(None).read();
        let resident = machine.resident.unwrap();
        assert!(resident >= held.iter().map(|&byte| u64::from(byte)).sum::<u64>());
        assert_eq!((machine.gpus, machine.warm_budget), (Vec::new(), None));
    }

    #[test]
    fn gpus_are_read_or_it_is_said_why_not() {
        match gpus() {
            Ok(mut gpus) => {
                let first = gpus.read();
                assert!(!first.is_empty());
                let again = gpus.read();
                let names = |gpus: &[GpuStatus]| -> Vec<(u32, String)> {
                    gpus.iter()
                        .map(|gpu| (gpu.index, gpu.name.clone()))
                        .collect()
                };
                assert_eq!(names(&first), names(&again));
                for gpu in first {
                    assert!(gpu.error.is_some() || gpu.memory_used <= gpu.memory_total);
                }
            }
            Err(Absent { cause, remedy }) => {
                assert!(
                    !cause.is_empty() && remedy.contains("install"),
                    "{cause}: {remedy}"
                );
                assert!(Devices::open().read().gpus.is_empty());
            }
        }
    }
}
