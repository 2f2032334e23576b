//! A market with one coordinator and as many miners as a test asks for, and miners that do as they are told.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{
    Coordinator, Event, MarketEvent, MemoryStore, MinerStatus, ModelSettings, Settings, TaskHandle,
    TaskStore,
};
use cuckoo_core::{
    Assignment, B256, Capability, Clock as _, Completion, CompletionReply, DeployConfig, DevChain,
    Entropy as _, ErrorKind, Failure, Fault, Heartbeat, HeartbeatReply, Key, LeaseProgress,
    LeaseStatus, LocalMarket, ManualClock, Member, ModelId, NodeId, Output, PollReply, PollRequest,
    Preview, Receipt, Result, Retry, SeededEntropy, Session, SessionToken, Signed, StakingContract,
    TaskProtocol, TaskSpec, TaskState, Timestamp, Usage, Wei, cai, payload_hash,
};
use serde_json::json;
use tokio::sync::broadcast;

pub(crate) const PRICE: u64 = 2;
pub(crate) const MODEL_HASH: B256 = B256::repeat_byte(0x11);

pub(crate) struct Market {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) dev_chain: DevChain,
    pub(crate) chain: Arc<dyn StakingContract>,
    pub(crate) local: LocalMarket,
    pub(crate) me: Member,
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) coordinator: Coordinator,
    pub(crate) miners: Vec<Miner>,
    pub(crate) events: broadcast::Receiver<MarketEvent>,
}

/// What a test wants to be different.
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    /// Votes for each miner, in thousands of CAI.
    pub(crate) stakes: Vec<u64>,
    pub(crate) store: Arc<dyn TaskStore>,
}

impl Setup {
    /// Miners of equal stake, and no audits.
    pub(crate) fn with_miners(count: usize) -> Self {
        Self {
            settings: settings(),
            stakes: vec![20; count],
            store: Arc::new(MemoryStore::new()),
        }
    }

    /// The same with every task audited.
    pub(crate) fn audited(count: usize) -> Self {
        let mut setup = Self::with_miners(count);
        setup.settings.audit_probability = 1.0;
        setup
    }

    pub(crate) fn adjust(mut self, adjust: impl FnOnce(&mut Settings)) -> Self {
        adjust(&mut self.settings);
        self
    }

    pub(crate) async fn open(self) -> Market {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let entropy = Arc::new(SeededEntropy::from_number(20));
        let treasury = Key::random(entropy.as_ref());
        let dev_chain = DevChain::new(clock.clone());
        dev_chain.fund(treasury.address(), cai(100_000_000));
        let chain = dev_chain
            .deploy(&treasury, &DeployConfig::demo())
            .await
            .unwrap();
        let local = LocalMarket::new(chain.clone(), treasury, entropy.clone());
        let me = local
            .add_coordinator("cuckoo", cai(2_000_000), cai(1_000))
            .await
            .unwrap();
        let mut members = Vec::new();
        for (number, stake) in self.stakes.iter().enumerate() {
            let name = format!("miner {number}");
            members.push(local.add_miner(&name, cai(stake * 1_000)).await.unwrap());
        }
        // Votes count from the next epoch.
        dev_chain.advance(Duration::from_secs(3));
        let coordinator = Coordinator::builder()
            .settings(self.settings)
            .chain(chain.clone())
            .operator(me.operator.clone())
            .clock(clock.clone())
            .entropy(entropy.clone())
            .store(self.store.clone())
            .start()
            .await
            .unwrap();
        let events = coordinator.events();
        let mut market = Market {
            clock,
            entropy,
            dev_chain,
            chain,
            local,
            me,
            store: self.store,
            coordinator,
            miners: Vec::new(),
            events,
        };
        for member in members {
            let miner = market.join(member).await.unwrap();
            market.miners.push(miner);
        }
        settle().await;
        market
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        models: vec![ModelSettings::new(model(), cai(PRICE))],
        audit_probability: 0.0,
        ..Settings::default()
    }
}

pub(crate) fn model() -> ModelId {
    "shapes".parse().unwrap()
}

pub(crate) fn spec() -> TaskSpec {
    TaskSpec::new(model(), json!({"prompt": "a red circle"}))
}

pub(crate) fn price() -> Wei {
    cai(PRICE)
}

/// Lets every task of this single-threaded runtime run until it waits for time to pass.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

impl Market {
    pub(crate) async fn advance(&self, millis: u64) {
        settle().await;
        self.clock.advance(Duration::from_millis(millis));
        settle().await;
    }

    pub(crate) fn request(&self, operator: &Key) -> Session {
        Session {
            coordinator: self.me.operator.address(),
            miner: operator.address(),
            nonce: self.entropy.word(),
            expiry: self.clock.now().after(Duration::from_secs(60)),
        }
    }

    pub(crate) async fn join(&self, member: Member) -> Result<Miner> {
        let protocol = self.coordinator.protocol();
        let request = self.request(&member.operator);
        let signed = Signed::sign(request, &member.operator, &self.chain.deployment());
        let opened = protocol.open_session(signed).await?;
        Ok(Miner {
            member,
            token: opened.token,
            protocol,
            deployment: self.chain.deployment(),
            capability: Capability {
                model: model(),
                model_hash: MODEL_HASH,
                kernels: "test".into(),
                max_input_bytes: 65_536,
                min_price: Wei::ZERO,
            },
        })
    }

    pub(crate) async fn submit(&self) -> TaskHandle {
        self.coordinator.submit(spec()).await.unwrap()
    }

    /// Submits a task that `miner` alone waits for.
    pub(crate) async fn assigned(&self, miner: usize) -> (TaskHandle, Assignment) {
        let handle = self.submit().await;
        let assignment = self.miners[miner]
            .take()
            .await
            .expect("the only miner that waits gets it");
        assert_eq!(assignment.task, handle.id());
        (handle, assignment)
    }

    pub(crate) fn status(&self, miner: usize) -> MinerStatus {
        let node = self.miners[miner].member.node;
        let miners = self.coordinator.status().miners;
        miners
            .into_iter()
            .find(|status| status.node == node)
            .unwrap()
    }

    /// The events since this was asked last.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|event| event.event)
            .collect()
    }

    pub(crate) fn node(&self, miner: usize) -> NodeId {
        self.miners[miner].member.node
    }

    /// Which of `among` gets the task's audit: polls them all at once, without waiting for time to pass.
    pub(crate) async fn auditor(&self, among: &[usize]) -> Option<(usize, Assignment)> {
        for &miner in among {
            if let Some(assignment) = self.miners[miner].take().await {
                return Some((miner, assignment));
            }
        }
        None
    }
}

/// A protocol client that does nothing by itself.
pub(crate) struct Miner {
    pub(crate) member: Member,
    pub(crate) token: SessionToken,
    pub(crate) protocol: Arc<dyn TaskProtocol>,
    pub(crate) deployment: cuckoo_core::Deployment,
    pub(crate) capability: Capability,
}

impl Miner {
    pub(crate) fn poll_request(&self, free_slots: u32, wait_millis: u64) -> PollRequest {
        PollRequest {
            capabilities: vec![self.capability.clone()],
            free_slots,
            warm: Vec::new(),
            wait_millis,
        }
    }

    /// A poll that waits for the longest time allowed, in the background.
    pub(crate) fn wait(&self, free_slots: u32) -> tokio::task::JoinHandle<Result<PollReply>> {
        let (protocol, token) = (self.protocol.clone(), self.token.clone());
        let request = self.poll_request(free_slots, u64::MAX);
        tokio::spawn(async move { protocol.poll(&token, request).await })
    }

    /// What a poll with one slot gives at once.
    pub(crate) async fn take(&self) -> Option<Assignment> {
        let request = self.poll_request(1, 0);
        self.protocol
            .poll(&self.token, request)
            .await
            .unwrap()
            .assignments
            .pop()
    }

    pub(crate) fn receipt(&self, assignment: &Assignment, output: &[u8]) -> Receipt {
        Receipt {
            coordinator: assignment.coordinator,
            miner: self.member.node,
            lease: assignment.lease,
            task: assignment.task,
            model_hash: assignment.model_hash,
            input_hash: assignment.input_hash,
            output_hash: payload_hash(output),
            states_root: B256::ZERO,
            usage: Usage::default(),
        }
    }

    pub(crate) fn completion(&self, receipt: Receipt, output: &[u8]) -> Completion {
        Completion {
            receipt: Signed::sign(receipt, &self.member.operator, &self.deployment),
            output: Output {
                media_type: "image/png".into(),
                bytes: output.to_vec().into(),
            },
        }
    }

    pub(crate) async fn complete(
        &self,
        assignment: &Assignment,
        output: &[u8],
    ) -> Result<CompletionReply> {
        let completion = self.completion(self.receipt(assignment, output), output);
        self.protocol.complete(&self.token, completion).await
    }

    pub(crate) async fn fail(&self, assignment: &Assignment, kind: ErrorKind) -> Result<()> {
        let failure = Failure {
            lease: assignment.lease,
            kind,
            retry: Retry::Later,
            message: format!("it is {kind}"),
        };
        self.protocol.fail(&self.token, failure).await
    }

    /// Gives a task back that is too much for this miner.
    pub(crate) async fn refuse(&self, assignment: &Assignment) -> Result<()> {
        let failure = Failure {
            lease: assignment.lease,
            kind: ErrorKind::Rejected,
            retry: Retry::Never,
            message: format!("it takes {} too long", self.member.node),
        };
        self.protocol.fail(&self.token, failure).await
    }

    pub(crate) async fn heartbeat(&self, assignment: &Assignment, progress: u16) -> LeaseStatus {
        self.show(assignment, progress, None).await
    }

    /// A heartbeat that shows what the output looks like.
    pub(crate) async fn show(
        &self,
        assignment: &Assignment,
        progress: u16,
        preview: Option<Preview>,
    ) -> LeaseStatus {
        let leases = vec![LeaseProgress {
            lease: assignment.lease,
            progress,
            preview,
        }];
        let HeartbeatReply { leases, .. } = self
            .protocol
            .heartbeat(&self.token, Heartbeat { leases })
            .await
            .unwrap();
        leases[0]
    }
}

/// How a failed task ended.
pub(crate) fn failure(handle: &TaskHandle) -> (ErrorKind, Fault) {
    match handle.state() {
        TaskState::Failed { kind, fault, .. } => (kind, fault),
        other => panic!("the task is {other:?}"),
    }
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    let error = result.unwrap_err();
    assert!(!error.message().is_empty());
    error.kind()
}
