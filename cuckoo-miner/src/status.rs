//! What a miner says about itself.

use cuckoo_core::{Address, ModelId, NodeId, TaskId, Timestamp, Wei};
use serde::{Deserialize, Serialize};

/// A miner at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MinerStatus {
    /// The address it signs with.
    pub operator: Address,
    /// The moment.
    pub at: Timestamp,
    /// When it was started.
    pub started_at: Timestamp,
    /// Tasks it may run at once.
    pub slots: u32,
    /// Tasks it runs now, those whose output is being handed in included.
    pub running: u32,
    /// Outputs that coordinators accepted.
    pub completed: u64,
    /// Runs that failed, or whose output no coordinator took.
    pub failed: u64,
    /// Tasks given back without fault: they were more than it can do or would finish in time, or there was no room.
    #[serde(default)]
    pub refused: u64,
    /// Runs stopped because their result was not wanted any more.
    pub cancelled: u64,
    /// What vouchers paid for work since the start, in wei.
    pub earned: Wei,
    /// What an hour like the last ones brings, in wei.
    pub hourly: Wei,
    /// The tasks it runs now.
    pub runs: Vec<RunStatus>,
    /// The coordinators it serves, in the order given.
    pub coordinators: Vec<CoordinatorStatus>,
    /// The models it offers, by name.
    #[serde(default)]
    pub models: Vec<ModelStatus>,
    /// Bytes of weights that are in memory, by what executors say ([`Executor::memory`](crate::Executor::memory)).
    #[serde(default)]
    pub weights: u64,
    /// The machine. [`Miner::status`](crate::Miner::status) asks no device and leaves it out; the status that the command
    /// line serves (`[status]`) has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineStatus>,
}

/// A model that a miner offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Its name.
    pub model: ModelId,
    /// Whether a task can run on it at once; it has to be loaded first where not.
    pub warm: bool,
    /// Bytes that its executor holds while it is warm; 0 where that does not say. Models of one executor share them.
    pub memory: u64,
    /// What the self-test at the start measured; absent until it did, and where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<PaceStatus>,
}

/// How fast a model was at the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaceStatus {
    /// Units of [`Executor::work`](crate::Executor::work) a second, of the largest trial; absent where its size is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_per_second: Option<f64>,
    /// All trials, in the order they ran in: the smallest first.
    pub trials: Vec<TrialStatus>,
}

/// A trial that was timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// What it was, such as `a picture of 64x64 in 4 steps`.
    pub what: String,
    /// Its size in units of [`Executor::work`](crate::Executor::work); absent where that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<f64>,
    /// What it took, in seconds.
    pub seconds: f64,
}

/// The machine that a miner runs on, as it was read at most a second before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineStatus {
    /// The process's resident memory, in bytes; absent where the system does not tell.
    pub resident: Option<u64>,
    /// The most bytes of weights that are in memory at once (`warm_mib`); absent where all models stay loaded.
    pub warm_budget: Option<u64>,
    /// The hottest of the processor's sensors, in degrees Celsius; absent where the system does not tell.
    pub processor_celsius: Option<i32>,
    /// NVIDIA's GPUs, in the order of its management library (NVML); none without the library, or without the feature
    /// `cuda`.
    pub gpus: Vec<GpuStatus>,
    /// Why it could not be read just now, and what to do; the rest is what was read before, if anything was. Absent where it
    /// could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A GPU, as its driver tells. What it does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuStatus {
    /// Its number, from 0.
    pub index: u32,
    /// Its name; empty until it told it.
    pub name: String,
    /// Its temperature, in degrees Celsius.
    pub celsius: Option<u32>,
    /// The share of the time in which it computed, 0 to 100 percent.
    pub busy_percent: Option<u32>,
    /// Bytes of its memory that are taken, by all processes.
    pub memory_used: Option<u64>,
    /// Bytes of its memory.
    pub memory_total: Option<u64>,
    /// What it draws, in milliwatts.
    pub milliwatts: Option<u32>,
    /// Why it could not be read, and what to do; absent where it could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A task that a miner runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The task.
    pub task: TaskId,
    /// Whose it is.
    pub coordinator: NodeId,
    /// On which model.
    pub model: ModelId,
    /// Share done, 0 to 1000 thousandths, as the executor says.
    pub progress: u16,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// When it must be done.
    pub deadline: Timestamp,
}

/// A miner's relation to one coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Its node; absent until the first session.
    pub node: Option<NodeId>,
    /// The miner's own node, as this coordinator knows it; absent until the first session.
    pub miner: Option<NodeId>,
    /// Whether a session is open.
    pub connected: bool,
    /// Whether it was given up for good; `last_error` says why.
    pub dropped: bool,
    /// The latest trouble, absent once a call succeeded.
    pub last_error: Option<String>,
    /// Its weight on chain, in wei.
    pub stake: Wei,
    /// Its share of the slots' time, in thousandths: what it gets while all coordinators have work.
    pub share: u16,
    /// How long small calls to it take, in milliseconds; absent until one was made.
    pub latency_millis: Option<u64>,
    /// Outputs of this miner that it accepted.
    pub completed: u64,
    /// Runs for it that failed, or whose output it did not take.
    pub failed: u64,
    /// Tasks of it that were given back without fault.
    #[serde(default)]
    pub refused: u64,
    /// What its vouchers paid for work since the start, in wei.
    pub earned: Wei,
    /// What an hour like the last ones brings from it, in wei.
    pub hourly: Wei,
    /// What its latest voucher is worth in all, in wei.
    pub owed: Wei,
    /// What of that was redeemed, in wei, at the last look at the chain.
    pub redeemed: Wei,
    /// What its escrow holds, for all miners, in wei; absent until it was looked at, which a first voucher starts.
    pub escrow: Option<Wei>,
    /// What it promised beyond what was redeemed and is in escrow, in wei.
    pub uncovered: Wei,
    /// What it accepted and promised no pay for, less the forgiven share, in wei.
    pub unpaid: Wei,
    /// The price of its tasks in work, in wei.
    pub in_work: Wei,
    /// Since when it owes more than it may.
    pub held_since: Option<Timestamp>,
    /// Why it is asked for no work, and what to do about that.
    pub held: Option<String>,
}
