//! A real miner around the executor, and the coordinator that gives it one task after another.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    Assignment, Bytes, Capability, Clock, Entropy, Error, ErrorKind, Key, LeaseId, Output, Result,
    StakingContract as _, TaskId, payload_hash,
};

use super::peer::{HandedIn, Peer};
use super::probe::{End, Probe, watched};
use super::registry::{COORDINATOR, Registry};
use super::report::Report;
use super::topic::Topic;
use crate::{Execution, Executor, Miner, Settings, TaskContext};

/// How long a cancelled run may take before the miner drops it.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// Heartbeats are what carries cancellations.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// What stands for no deadline.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A task to try the executor with.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// What findings call it.
    pub(super) label: String,
    pub(super) capability: Capability,
    pub(super) input: String,
}

/// What became of a task.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) end: RunEnd,
    /// Why the miner did not hand in what the executor gave.
    pub(super) withheld: Option<String>,
    pub(super) emitted: Bytes,
    /// What the coordinator got before the end.
    pub(super) streamed: Vec<u8>,
    /// The most progress reported, and whether it ever fell.
    pub(super) progress: (u16, bool),
    /// From the assignment to what was handed in.
    pub(super) took: Duration,
}

/// How a task ended.
#[derive(Debug)]
pub(super) enum RunEnd {
    Gave(Execution),
    Refused(ErrorKind, String),
    Panicked(String),
    /// Nothing was handed in for as long as was waited.
    Hung,
}

impl RunEnd {
    /// In the words of a finding.
    pub(super) fn describe(&self, waited: Duration) -> String {
        match self {
            Self::Gave(execution) => {
                format!("ran, and gave {} bytes", execution.output.bytes.len())
            }
            Self::Refused(kind, message) => format!("failed as {kind}: {message}"),
            Self::Panicked(message) => format!("panicked: {message}"),
            Self::Hung => format!("did not end in {} s", waited.as_secs_f64()),
        }
    }
}

/// What every bench is made of.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) executor: Arc<dyn Executor>,
    pub(super) capabilities: Vec<Capability>,
    pub(super) blobs: Vec<Output>,
    pub(super) patience: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl Parts {
    /// Runs the executor without a miner; nothing when it does not end in time.
    pub(super) async fn run_bare(&self, task: &Task, context: TaskContext) -> Option<End> {
        let (executor, assignment) = (Arc::clone(&self.executor), self.assignment(task, DAY));
        // On a task of its own, so that a run that blocks does not stop what waits for it.
        let mut run =
            tokio::spawn(async move { End::of(&watched(&*executor, assignment, context).await) });
        tokio::select! {
            end = &mut run => end.ok(),
            () = self.clock.sleep(self.patience) => {
                run.abort();
                None
            }
        }
    }

    fn assignment(&self, task: &Task, until_deadline: Duration) -> Assignment {
        let now = self.clock.now();
        Assignment {
            lease: LeaseId::random(&*self.entropy),
            task: TaskId::random(&*self.entropy),
            coordinator: COORDINATOR,
            model: task.capability.model.clone(),
            model_hash: task.capability.model_hash,
            input: task.input.clone(),
            input_hash: payload_hash(task.input.as_bytes()),
            price: task.capability.min_price,
            lease_expires_at: now.after(DAY),
            heartbeat_millis: HEARTBEAT.as_millis() as u64,
            deadline: now.after(until_deadline),
        }
    }
}

#[derive(Debug)]
pub(super) struct Bench {
    pub(super) parts: Parts,
    slots: u32,
    line: Line,
    /// Whether a run that does not end holds a slot.
    stuck: bool,
}

/// A miner and its coordinator.
#[derive(Debug)]
struct Line {
    peer: Arc<Peer>,
    probe: Arc<Probe>,
    _miner: Miner,
}

impl Line {
    async fn start(parts: &Parts, slots: u32) -> Result<Self> {
        let coordinator = Key::random(&*parts.entropy);
        let operator = Key::random(&*parts.entropy);
        let chain = Registry::new(coordinator.address(), operator.address());
        let peer = Peer::new(
            coordinator,
            chain.deployment(),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.entropy),
            &parts.blobs,
        );
        let probe = Probe::new(Arc::clone(&parts.executor), parts.capabilities.clone());
        let miner = Miner::builder()
            .operator(operator)
            .chain(chain)
            .coordinator(Arc::clone(&peer) as _)
            .executor(Arc::clone(&probe) as _)
            .clock(Arc::clone(&parts.clock))
            .entropy(Arc::clone(&parts.entropy))
            .settings(Settings {
                slots,
                cancel_grace_millis: GRACE.as_millis() as u64,
                // Every task is to be run.
                estimate_percent: 0,
                ..Settings::default()
            })
            .start()
            .await?;
        tokio::select! {
            connected = miner.connected() => connected?,
            () = parts.clock.sleep(parts.patience) => {
                return Err(Error::timeout("the miner of the check did not start"));
            }
        }
        Ok(Self {
            peer,
            probe,
            _miner: miner,
        })
    }
}

impl Bench {
    /// A miner of so many slots.
    pub(super) async fn start(parts: Parts, slots: u32) -> Result<Self> {
        let line = Line::start(&parts, slots).await?;
        Ok(Self {
            parts,
            slots,
            line,
            stuck: false,
        })
    }

    /// Runs one task alone.
    pub(super) async fn run(&mut self, task: &Task, report: &mut Report) -> Result<Run> {
        self.run_for(self.parts.patience, task, report).await
    }

    /// Runs one task, stopped after `limit`.
    pub(super) async fn run_for(
        &mut self,
        limit: Duration,
        task: &Task,
        report: &mut Report,
    ) -> Result<Run> {
        let lease = self.begin(task).await?;
        Ok(self.wait(lease, limit, task, report).await)
    }

    /// Runs tasks beside each other, as many at once as there are slots.
    pub(super) async fn run_all(
        &mut self,
        tasks: &[Task],
        report: &mut Report,
    ) -> Result<Vec<Run>> {
        let mut leases = Vec::new();
        for task in tasks {
            leases.push(self.begin(task).await?);
        }
        let mut limit = self.parts.patience;
        let mut runs = Vec::new();
        for (lease, task) in leases.into_iter().zip(tasks) {
            let run = self.wait(lease, limit, task, report).await;
            if matches!(run.end, RunEnd::Hung) {
                // The others had as long already.
                limit = GRACE;
            }
            runs.push(run);
        }
        Ok(runs)
    }

    /// Hands a task out.
    pub(super) async fn begin(&mut self, task: &Task) -> Result<LeaseId> {
        if self.stuck {
            self.line = Line::start(&self.parts, self.slots).await?;
            self.stuck = false;
        }
        let assignment = self.parts.assignment(task, DAY);
        let lease = assignment.lease;
        self.line.peer.assign(assignment);
        Ok(lease)
    }

    /// Waits until the executor was called for a lease; whether it was in time.
    pub(super) async fn began(&self, lease: LeaseId) -> bool {
        self.in_time(self.line.probe.began(lease)).await
    }

    /// Has the coordinator cancel a lease and waits until the run ended; nothing when it does not.
    pub(super) async fn cancel(&mut self, lease: LeaseId) -> Option<End> {
        self.line.peer.cancel(lease);
        if !self.in_time(self.line.probe.ended(lease)).await {
            self.stuck = true;
            return None;
        }
        self.line.probe.trace(lease).and_then(|trace| trace.end)
    }

    /// Waits until nothing holds the context of a run that ended; whether that was in time.
    pub(super) async fn let_go(&self, lease: LeaseId) -> bool {
        self.in_time(async {
            while self.line.probe.holders(lease) > 0 {
                self.parts.clock.sleep(HEARTBEAT).await;
            }
        })
        .await
    }

    async fn in_time(&self, what: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = what => true,
            () = self.parts.clock.sleep(self.parts.patience) => false,
        }
    }

    async fn wait(
        &mut self,
        lease: LeaseId,
        limit: Duration,
        task: &Task,
        report: &mut Report,
    ) -> Run {
        let clock = Arc::clone(&self.parts.clock);
        let assigned = clock.now();
        let handed_in = tokio::select! {
            handed_in = self.line.peer.handed_in(lease) => Some(handed_in),
            () = clock.sleep(limit) => None,
        };
        let took = clock.now().since(assigned);
        let withheld = match &handed_in {
            Some(HandedIn::Failed(failure)) => Some(failure.message.clone()),
            Some(HandedIn::Completed) | None => None,
        };
        let trace = self.line.probe.trace(lease);
        let ended = trace.as_ref().and_then(|trace| trace.end.clone());
        let end = match (handed_in, ended) {
            (None, _) => {
                self.cancel(lease).await;
                RunEnd::Hung
            }
            (Some(_), Some(End::Gave(execution))) => RunEnd::Gave(execution),
            (Some(_), Some(End::Refused(kind, message))) => RunEnd::Refused(kind, message),
            (Some(_), Some(End::Panicked(message))) => RunEnd::Panicked(message),
            (Some(HandedIn::Failed(failure)), Some(End::Dropped) | None) => {
                RunEnd::Refused(failure.kind, failure.message)
            }
            (Some(HandedIn::Completed), Some(End::Dropped) | None) => RunEnd::Hung,
        };
        if let RunEnd::Panicked(message) = &end {
            report.fail(Topic::Panics, format!("{}: {message}", task.label));
        }
        let context = trace.map(|trace| trace.context);
        Run {
            withheld: withheld.filter(|_| matches!(end, RunEnd::Gave(_))),
            end,
            emitted: context
                .as_ref()
                .map(TaskContext::emitted)
                .unwrap_or_default(),
            streamed: self.line.peer.streamed(lease),
            progress: context.map_or((0, false), |context| context.progress_claimed()),
            took,
        }
    }
}
