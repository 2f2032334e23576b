use cuckoo_core::{Address, Timestamp};

use super::*;
use crate::{GpuStatus, MachineStatus, ModelStatus, PaceStatus, TrialStatus};

#[test]
fn a_scrape_has_models_and_machine() {
    let gpu = GpuStatus {
        name: "NVIDIA \"H200\"".to_owned(),
        celsius: Some(41),
        busy_percent: Some(87),
        memory_used: Some(1 << 30),
        memory_total: Some(4 << 30),
        milliwatts: Some(512_300),
        ..GpuStatus::default()
    };
    let failed = GpuStatus {
        index: 1,
        error: Some("it is lost".to_owned()),
        ..gpu.clone()
    };
    let trial = |what: &str, seconds| TrialStatus {
        what: what.to_owned(),
        work: Some(4_096.0),
        seconds,
    };
    let pace = PaceStatus {
        work_per_second: Some(327_680.0),
        trials: vec![trial("one step", 0.25), trial("four steps", 0.5)],
    };
    let mut status = MinerStatus {
        operator: Address::ZERO,
        at: Timestamp::from_millis(2_000),
        started_at: Timestamp::from_millis(1_000),
        slots: 1,
        running: 0,
        completed: 0,
        failed: 0,
        refused: 0,
        cancelled: 0,
        earned: Wei::ZERO,
        hourly: Wei::ZERO,
        runs: Vec::new(),
        coordinators: Vec::new(),
        models: vec![
            ModelStatus {
                model: "shapes".parse().unwrap(),
                warm: true,
                memory: 4_096,
                pace: Some(pace),
            },
            ModelStatus {
                model: "chat".parse().unwrap(),
                warm: false,
                memory: 8_192,
                pace: None,
            },
        ],
        weights: 4_096,
        machine: Some(MachineStatus {
            resident: Some(65_536),
            warm_budget: Some(10_000),
            processor_celsius: Some(54),
            gpus: vec![gpu, failed],
            error: None,
        }),
    };
    let text = render(&status).unwrap();
    let lines: Vec<_> = text.lines().collect();
    for line in [
        "cuckoo_miner_weights_bytes 4096.0",
        "cuckoo_miner_warm_budget_bytes 10000.0",
        "cuckoo_miner_resident_memory_bytes 65536.0",
        "cuckoo_miner_processor_temperature_celsius 54.0",
        r#"cuckoo_miner_model_warm{model="shapes"} 1.0"#,
        r#"cuckoo_miner_model_warm{model="chat"} 0.0"#,
        r#"cuckoo_miner_model_memory_bytes{model="chat"} 8192.0"#,
        r#"cuckoo_miner_model_work_per_second{model="shapes"} 327680.0"#,
        r#"cuckoo_miner_model_trial_seconds{model="shapes",trial="four steps"} 0.5"#,
        r#"cuckoo_miner_gpu_failed{gpu="0",name="NVIDIA \"H200\""} 0.0"#,
        r#"cuckoo_miner_gpu_failed{gpu="1",name="NVIDIA \"H200\""} 1.0"#,
        r#"cuckoo_miner_gpu_busy_ratio{gpu="0",name="NVIDIA \"H200\""} 0.87"#,
        r#"cuckoo_miner_gpu_power_watts{gpu="0",name="NVIDIA \"H200\""} 512.3"#,
    ] {
        let same = |shown: &&str| shown.replace(".0", "") == line.replace(".0", "");
        assert!(lines.iter().any(same), "`{line}` in\n{text}");
    }
    for absent in [
        r#"work_per_second{model="chat""#,
        r#"gpu_temperature_celsius{gpu="1""#,
    ] {
        assert!(!text.contains(absent), "`{absent}` in\n{text}");
    }
    // What is not told has no value, which is not the same as zero.
    status.machine = None;
    let text = render(&status).unwrap();
    for absent in [
        "cuckoo_miner_resident_memory_bytes ",
        "cuckoo_miner_processor_temperature_celsius ",
        "cuckoo_miner_gpu_failed{",
    ] {
        assert!(!text.contains(absent), "`{absent}` in\n{text}");
    }
}
