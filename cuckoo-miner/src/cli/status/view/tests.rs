use cuckoo_core::{Address, B256, NodeId, TaskId, Timestamp, Wei, cai};

use super::*;
use crate::{GpuStatus, MachineStatus, ModelStatus, PaceStatus, TrialStatus};

/// What `docs/miner.md` shows.
const PAGE: &str = include_str!("page.txt");

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn run(model: &str, node: u64, progress: u16) -> RunStatus {
    RunStatus {
        task: TaskId::from(B256::ZERO),
        coordinator: NodeId(node),
        model: model.parse().unwrap(),
        progress,
        started_at: at(90),
        deadline: at(220),
    }
}

/// A miner that was started a hundred seconds ago and knows nothing of its machine, as older ones do not.
fn miner() -> MinerStatus {
    MinerStatus {
        operator: Address::repeat_byte(0x42),
        at: at(100),
        started_at: at(0),
        slots: 4,
        running: 3,
        completed: 7,
        failed: 1,
        refused: 3,
        cancelled: 2,
        earned: cai(7),
        hourly: cai(252),
        runs: Vec::new(),
        coordinators: Vec::new(),
        models: Vec::new(),
        weights: 0,
        machine: None,
    }
}

fn model(name: &str, warm: bool, memory: u64, pace: Option<PaceStatus>) -> ModelStatus {
    ModelStatus {
        model: name.parse().unwrap(),
        warm,
        memory,
        pace,
    }
}

/// Thousandths of CAI.
fn thousandths(amount: u64) -> Wei {
    cai(amount) / Wei::from(1_000)
}

fn fits(page: &str) {
    for line in page.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn a_page_is_the_one_that_the_documentation_shows() {
    let paying = CoordinatorStatus {
        node: Some(NodeId(1)),
        connected: true,
        stake: cai(2_000_000),
        share: 625,
        latency_millis: Some(12),
        completed: 1_101,
        hourly: thousandths(350),
        owed: cai(10),
        redeemed: thousandths(7_500),
        ..CoordinatorStatus::default()
    };
    let owing = CoordinatorStatus {
        node: Some(NodeId(3)),
        connected: true,
        stake: cai(3_500_000),
        share: 375,
        latency_millis: Some(140),
        completed: 302,
        hourly: thousandths(130),
        owed: thousandths(2_500),
        unpaid: thousandths(900),
        escrow: Some(thousandths(2_300)),
        uncovered: thousandths(200),
        held: Some(
            "it owes 0.9 CAI for accepted work without a voucher and 0.2 CAI in vouchers that its escrow does not cover, of at \
             most 1 CAI; it gets no more work until it pays. Ask its owner to, or raise settings.credit.limit"
                .to_owned(),
        ),
        ..CoordinatorStatus::default()
    };
    let gpu = GpuStatus {
        index: 0,
        name: "NVIDIA H200".to_owned(),
        celsius: Some(33),
        busy_percent: Some(0),
        memory_used: Some(1_288_490_189),
        memory_total: Some(150_109_106_176),
        milliwatts: Some(74_850),
        error: None,
    };
    let lost = "it is lost; see the system's log for Xid errors, check its power and seat, and restart the machine";
    let lost = GpuStatus {
        index: 1,
        error: Some(lost.to_owned()),
        ..gpu.clone()
    };
    let pace = |work_per_second, trials: &[(&str, f64)]| {
        let trials = trials.iter().map(|(what, seconds)| TrialStatus {
            what: (*what).to_owned(),
            work: None,
            seconds: *seconds,
        });
        Some(PaceStatus {
            work_per_second: Some(work_per_second),
            trials: trials.collect(),
        })
    };
    let chat = pace(
        41.26,
        &[("a text of 1 tokens", 0.05), ("a text of 16 tokens", 0.39)],
    );
    let shapes = pace(
        327_680.0,
        &[
            ("a picture of 64x64 in 1 steps", 0.02),
            ("a picture of 64x64 in 4 steps", 0.05),
        ],
    );
    let status = MinerStatus {
        at: at(93_784),
        slots: 8,
        running: 2,
        completed: 1_403,
        failed: 2,
        refused: 4,
        cancelled: 5,
        earned: thousandths(12_500),
        hourly: thousandths(480),
        runs: vec![
            RunStatus {
                started_at: at(93_774),
                ..run("shapes", 1, 250)
            },
            RunStatus {
                deadline: at(93_904),
                ..run("chat", 3, 0)
            },
        ],
        coordinators: vec![paying, owing],
        models: vec![
            model("chat", true, 8_160_437_862, chat),
            model("flux", false, 11_918_534_246, None),
            model("shapes", true, 7_130_317, shapes),
        ],
        weights: 8_167_568_179,
        machine: Some(MachineStatus {
            resident: Some(10_093_173_145),
            warm_budget: Some(12 << 30),
            processor_celsius: Some(54),
            gpus: vec![gpu, lost],
            error: None,
        }),
        ..miner()
    };
    let shown = page(&status);
    assert_eq!(shown, PAGE, "\n{shown}");
    fits(&shown);
}

#[test]
fn a_page_tells_runs_pay_and_trouble() {
    let coordinator = CoordinatorStatus {
        node: Some(NodeId(1)),
        connected: true,
        stake: cai(2_000_000),
        share: 625,
        latency_millis: Some(12),
        completed: 7,
        owed: cai(9),
        redeemed: cai(4),
        unpaid: cai(1) / Wei::from(3),
        escrow: Some(cai(2)),
        uncovered: cai(3),
        held: Some("it owes\x1b[2J too much".to_owned()),
        ..CoordinatorStatus::default()
    };
    let slow = CoordinatorStatus {
        latency_millis: Some(12_345),
        last_error: Some("cannot reach the coordinator; ".repeat(5)),
        stake: cai(1_234_567_890),
        ..CoordinatorStatus::default()
    };
    let status = MinerStatus {
        runs: vec![
            run("shapes", 1, 0),
            run("org/a-model-of-a-long-name", 123_456, 250),
            run("shapes", 1, 1_000),
        ],
        coordinators: vec![coordinator, slow, CoordinatorStatus::default()],
        ..miner()
    };
    let page = page(&status);
    for part in [
        "up 1 min 40 s",
        "7 done, 1 failed, 3 refused, 2 cancelled; earned 7 CAI, 252 CAI an hour",
        "slots: 3 of 4 busy",
        "2 min to the deadline",
        "  org/a-model-of-… for node 123456 [##        ]  25 %  about 30 s left",
        "handing in",
        "node 1       2000000  62.5 %   12 ms       7        0        5        4 0.333333",
        "not covered: 3 CAI; its escrow has 2 CAI",
        "held: it owes [2J too much",
        "unknown        1234M   0.0 %    12 s ",
        "  no session: cannot reach",
        "  no session\n",
    ] {
        assert!(page.contains(part), "`{part}` in\n{page}");
    }
    fits(&page);
    assert!(!page.contains('\x1b'));
    for absent in ["memory", "processor", "gpu", "model ", "\n\n\n"] {
        assert!(!page.contains(absent), "`{absent}` in\n{page}");
    }
    assert_eq!(
        line(&status),
        "slots 3/4 done 7 failed 1 refused 3 cancelled 2 coordinators 1/3 held 0 earned 7 CAI (252 CAI/h)"
    );
}

#[test]
fn what_devices_do_not_tell_is_left_out() {
    let gpu = |index, name: &str| GpuStatus {
        index,
        name: name.to_owned(),
        ..GpuStatus::default()
    };
    let gpus = vec![
        GpuStatus {
            celsius: Some(61),
            // A total alone says little of what is left.
            memory_total: Some(8 << 30),
            milliwatts: Some(9_050),
            ..gpu(0, "NVIDIA T400")
        },
        gpu(1, ""),
        GpuStatus {
            celsius: Some(40),
            error: Some("the driver\x1b[2J does not answer; ".repeat(4)),
            ..gpu(2, "NVIDIA GeForce RTX 4090 Laptop GPU")
        },
    ];
    let unsized_trial = PaceStatus {
        work_per_second: None,
        trials: vec![TrialStatus {
            what: "a chart\x1b[2J of four bars".to_owned(),
            work: None,
            seconds: 1.5,
        }],
    };
    let status = MinerStatus {
        models: vec![
            model("charts", true, 0, Some(unsized_trial)),
            model(&"long/".repeat(20), false, 1 << 30, None),
        ],
        machine: Some(MachineStatus {
            gpus,
            ..MachineStatus::default()
        }),
        ..miner()
    };
    let page = page(&status);
    for part in [
        "memory: 0 bytes of weights warm\n",
        "gpu 0 NVIDIA T400: 61 °C, 9.0 W\n",
        "gpu 1: it tells nothing\n",
        "gpu 2 NVIDIA GeForce RTX 4090 Laptop GPU: not read: the driver [2J does not",
        "charts                                       warm           -                  -\n",
        "  at the start: 1.50 s a chart [2J of four bars\n",
        "long/long/long/long/long/long/long/long/lon… cold     1.0 GiB                  -\n",
    ] {
        assert!(page.contains(part), "`{part}` in\n{page}");
    }
    fits(&page);
    for absent in ["processor", "at most", "40 °C", "\x1b"] {
        assert!(!page.contains(absent), "`{absent}` in\n{page}");
    }
}

#[test]
fn a_machine_that_cannot_be_read_says_so_once() {
    let hangs = "the driver\x1b[2J does not answer";
    let mut machine = MachineStatus {
        error: Some(hangs.to_owned()),
        ..MachineStatus::default()
    };
    let shown = |machine: &MachineStatus| {
        page(&MinerStatus {
            machine: Some(machine.clone()),
            ..miner()
        })
    };
    let none = shown(&machine);
    let line = "machine: not read: the driver [2J does not answer\n";
    assert!(none.contains(line), "{none}");
    machine.gpus.push(GpuStatus {
        error: Some(hangs.to_owned()),
        ..GpuStatus::default()
    });
    let known = shown(&machine);
    assert_eq!(known.matches("does not answer").count(), 1, "{known}");
}

#[test]
fn what_an_older_miner_tells_is_understood() {
    let mut old = serde_json::to_value(miner()).unwrap();
    let fields = old.as_object_mut().unwrap();
    assert!(!fields.contains_key("machine"), "nothing was read");
    for new in ["models", "weights"] {
        assert!(fields.remove(new).is_some(), "{new}");
    }
    assert_eq!(serde_json::from_value::<MinerStatus>(old).unwrap(), miner());
}
