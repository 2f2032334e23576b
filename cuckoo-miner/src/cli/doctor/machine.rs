//! The machine: what computes, how much memory there is, and whether pay can be written down.

use std::fs::{self, File};
use std::path::Path;

use sysinfo::System;

use super::report::Report;
use crate::cli::config::Config;
use crate::cli::devices::{self, Absent};
use crate::{free_space, size_text};

/// Less free space than this is too little for logs and vouchers, let alone models.
const LITTLE_SPACE: u64 = 1 << 30;

pub(super) fn check(config: &Config, report: &mut Report) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    report.good("processor", format!("{cores} cores, {}", vectors()));
    gpus(report);
    if let Ok(mut system) = System::new() {
        system.refresh_memory();
        let (left, all) = (system.available_memory(), system.total_memory());
        report.good(
            "memory",
            format!("{} of {} available", size_text(left), size_text(all)),
        );
    }
    disk(&config.vouchers, report);
}

/// What GPUs tell of themselves. That there is none is no fault: models compute on the processor.
fn gpus(report: &mut Report) {
    let mut gpus = match devices::gpus() {
        Ok(gpus) => gpus,
        Err(Absent { cause, remedy }) => {
            let found = format!("none is read: {cause}; models compute on the processor");
            return report.note("gpu", found, remedy);
        }
    };
    for gpu in gpus.read() {
        let name = format!("{} {}", gpu.index, gpu.name);
        let told = devices::readings(&gpu);
        match gpu.error {
            None => report.good(
                "gpu",
                format!("{name}: {told}; models compute on the processor"),
            ),
            Some(error) => report.note("gpu", format!("{name} is not read"), error),
        }
    }
}

/// Which instructions the kernels choose.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    if cfg!(target_arch = "aarch64") {
        return "NEON";
    }
    "no wide vector instructions: expect slow models"
}

/// Whether vouchers, which are the miner's pay, can be written, and what room is left.
fn disk(vouchers: &Path, report: &mut Report) {
    let folder = match vouchers.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let trial = folder.join(format!(".cuckoo-doctor-{}", std::process::id()));
    let written = File::create_new(&trial).and_then(|file| file.sync_all());
    let _ = fs::remove_file(&trial);
    if let Err(error) = written {
        let remedy = "vouchers are your pay: name a folder in `vouchers` that this user may write";
        report.bad("disk", format!("{}: {error}", folder.display()), remedy);
        return;
    }
    match free_space(folder) {
        Some(bytes) if bytes < LITTLE_SPACE => report.note(
            "disk",
            format!("{} left at {}", size_text(bytes), folder.display()),
            "free some: vouchers that cannot be written are lost with the process",
        ),
        Some(bytes) => report.good(
            "disk",
            format!("{} left at {}", size_text(bytes), folder.display()),
        ),
        None => report.good("disk", format!("{} can be written", folder.display())),
    }
}
