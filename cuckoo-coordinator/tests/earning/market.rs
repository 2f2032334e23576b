//! A chain, coordinators as a test wants them, and one miner that serves all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cuckoo_coordinator::{Coordinator, ModelSettings, Settings, TaskHandle};
use cuckoo_core::{
    Assignment, B256, Capability, Clock, DeployConfig, DevChain, Entropy, Key, LocalMarket,
    ManualClock, Member, Output, Result, SeededEntropy, StakingContract, TaskSpec, Timestamp, Wei,
    cai,
};
use cuckoo_miner::{CoordinatorStatus, Execution, Executor, Miner, TaskContext};
use serde_json::json;

use crate::purse::Purse;

const MODEL: &str = "echo";
/// How long a task takes.
pub(crate) const LENGTH: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

/// What a coordinator has.
pub(crate) struct Plan {
    /// In millions of CAI.
    pub(crate) stake: u64,
    /// Of a task, in CAI.
    pub(crate) price: u64,
    /// In CAI.
    pub(crate) escrow: u64,
}

pub(crate) struct Host {
    pub(crate) member: Member,
    pub(crate) coordinator: Coordinator,
    pub(crate) purse: Arc<Purse>,
}

pub(crate) struct Market {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dev_chain: DevChain,
    pub(crate) chain: Arc<dyn StakingContract>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) member: Member,
    /// A second miner, which no test but those that need one starts.
    pub(crate) other: Member,
    pub(crate) echo: Arc<Echo>,
    entropy: Arc<SeededEntropy>,
}

/// Lets every task of this single-threaded runtime run until it waits for time to pass.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

impl Market {
    pub(crate) async fn open(plans: &[Plan]) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let entropy = Arc::new(SeededEntropy::from_number(31));
        let treasury = Key::random(entropy.as_ref());
        let dev_chain = DevChain::new(clock.clone());
        dev_chain.fund(treasury.address(), cai(100_000_000));
        let chain = dev_chain
            .deploy(&treasury, &DeployConfig::demo())
            .await
            .unwrap();
        let local = LocalMarket::new(chain.clone(), treasury, entropy.clone());
        let mut members = Vec::new();
        for (number, plan) in plans.iter().enumerate() {
            let name = format!("host {number}");
            let member =
                local.add_coordinator(&name, cai(plan.stake * 1_000_000), cai(plan.escrow));
            members.push(member.await.unwrap());
        }
        let member = local.add_miner("miner", cai(20_000)).await.unwrap();
        let other = local.add_miner("other", cai(20_000)).await.unwrap();
        // Votes count from the next epoch.
        dev_chain.advance(Duration::from_secs(3));
        let mut hosts = Vec::new();
        for (member, plan) in members.into_iter().zip(plans) {
            let settings = Settings {
                models: vec![ModelSettings::new(MODEL.parse().unwrap(), cai(plan.price))],
                audit_probability: 0.0,
                ..Settings::default()
            };
            let coordinator = Coordinator::builder()
                .settings(settings)
                .chain(chain.clone())
                .operator(member.operator.clone())
                .clock(clock.clone())
                .entropy(entropy.clone())
                .start()
                .await
                .unwrap();
            let purse = Purse::new(coordinator.protocol());
            hosts.push(Host {
                member,
                coordinator,
                purse,
            });
        }
        let echo = Echo::new(clock.clone(), LENGTH);
        Self {
            clock,
            dev_chain,
            chain,
            hosts,
            member,
            other,
            echo,
            entropy,
        }
    }

    pub(crate) async fn miner(&self, settings: cuckoo_miner::Settings) -> Miner {
        self.start(&self.member, &self.echo, settings).await
    }

    pub(crate) async fn start(
        &self,
        member: &Member,
        echo: &Arc<Echo>,
        settings: cuckoo_miner::Settings,
    ) -> Miner {
        let mut builder = Miner::builder()
            .operator(member.operator.clone())
            .chain(self.chain.clone())
            .clock(self.clock.clone())
            .entropy(self.entropy.clone() as Arc<dyn Entropy>)
            .executor(echo.clone())
            .settings(settings);
        for host in &self.hosts {
            builder = builder.coordinator(host.purse.clone());
        }
        let miner = builder.start().await.unwrap();
        settle().await;
        miner
    }

    /// A task for the first host, to be done in so many seconds.
    pub(crate) async fn submit(&self, seconds: u64) -> TaskHandle {
        let mut spec = TaskSpec::new(MODEL.parse().unwrap(), json!({"prompt": "a"}));
        spec.timeout_millis = Some(seconds * 1_000);
        self.hosts[0].coordinator.submit(spec).await.unwrap()
    }

    /// Keeps so many tasks waiting at each of `hosts` while `seconds` pass.
    pub(crate) async fn work(&self, hosts: &[usize], seconds: u64) {
        for _ in 0..seconds * 1_000 / STEP.as_millis() as u64 {
            for host in hosts {
                let coordinator = &self.hosts[*host].coordinator;
                while coordinator.status().queued < 10 {
                    let mut spec = TaskSpec::new(MODEL.parse().unwrap(), json!({"prompt": "a"}));
                    spec.timeout_millis = Some(3_600_000);
                    // Not awaited: the handle may go, the task stays.
                    drop(coordinator.submit(spec).await.unwrap());
                }
            }
            self.pass(STEP).await;
        }
    }

    pub(crate) async fn pass(&self, time: Duration) {
        settle().await;
        self.clock.advance(time);
        settle().await;
    }

    /// What a host's escrow holds leaves it, as its contract allows.
    pub(crate) async fn empty_escrow(&self, host: usize) {
        use cuckoo_core::Action;
        let member = &self.hosts[host].member;
        let coordinator = member.node;
        let amount = self.chain.escrow(coordinator).await.unwrap().amount;
        let request = Action::RequestEscrow {
            coordinator,
            amount,
        };
        self.chain.submit(&member.owner, request).await.unwrap();
        self.dev_chain.advance(Duration::from_secs(61));
        let withdraw = Action::WithdrawEscrow { coordinator };
        self.chain.submit(&member.owner, withdraw).await.unwrap();
    }
}

pub(crate) fn of(miner: &Miner, host: usize) -> CoordinatorStatus {
    miner.status().coordinators.swap_remove(host)
}

/// Answers with its input after a while.
#[derive(Debug)]
pub(crate) struct Echo {
    clock: Arc<dyn Clock>,
    length: Duration,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Echo {
    pub(crate) fn new(clock: Arc<dyn Clock>, length: Duration) -> Arc<Self> {
        Arc::new(Self {
            clock,
            length,
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    /// How many run now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// The most that ran at once so far.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Executor for Echo {
    fn capabilities(&self) -> Vec<Capability> {
        let mut echo = Capability::new(MODEL.parse().unwrap(), B256::repeat_byte(7), "echo-1");
        echo.min_price = Wei::from(1);
        vec![echo]
    }

    async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.clock.sleep(self.length).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(Execution::new(Output::new(
            "text/plain",
            task.input.into_bytes(),
        )))
    }

    fn work(&self, task: &Assignment) -> Option<f64> {
        Some(task.input.len() as f64)
    }
}
