//! A whole market on the in-process chain, with time in the test's hand and a coordinator behind a real listener.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{
    Coordinator, CoordinatorBuilder, MemoryStore, ModelSettings, Settings, Webhooks, router, serve,
};
use cuckoo_core::{
    Assignment, B256, Capability, Completion, DeployConfig, Deployment, DevChain, Entropy, Key,
    LocalMarket, ManualClock, Member, ModelId, Output, PollRequest, Receipt, SeededEntropy,
    Session, SessionToken, Signed, SignedReceipt, StakingContract, TaskProtocol, TaskSpec,
    Timestamp, U256, Usage, cai, payload_hash,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const MAX_INPUT_BYTES: usize = 1_024;
pub(crate) const MAX_OUTPUT_BYTES: usize = 64 * 1_024;
pub(crate) const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const MODEL_HASH: B256 = B256::repeat_byte(0x11);

/// One coordinator, three miners, one account that is nobody.
pub(crate) struct Market {
    pub(crate) coordinator: Coordinator,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) operator: Member,
    /// Two miners above the minimum stake.
    pub(crate) miners: [Member; 2],
    /// A miner whose owner votes one CAI too little.
    pub(crate) poor: Member,
    pub(crate) deployment: Deployment,
    pub(crate) chain: Arc<dyn StakingContract>,
    /// Where it listens, such as `http://127.0.0.1:40123`.
    pub(crate) url: String,
    _server: DropGuard,
}

impl Market {
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}, router).await
    }

    /// A market with other settings or routes than usual.
    pub(crate) async fn with(
        adjust: impl FnOnce(&mut Settings),
        routes: impl FnOnce(Coordinator) -> axum::Router,
    ) -> Self {
        Self::made(adjust, routes, |coordinator| coordinator).await
    }

    /// The same with more components.
    pub(crate) async fn made(
        adjust: impl FnOnce(&mut Settings),
        routes: impl FnOnce(Coordinator) -> axum::Router,
        components: impl FnOnce(CoordinatorBuilder) -> CoordinatorBuilder,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let entropy = Arc::new(SeededEntropy::from_number(42));
        let treasury = Key::random(entropy.as_ref());
        let dev_chain = DevChain::new(clock.clone());
        dev_chain.fund(treasury.address(), cai(10_000_000));
        let chain = dev_chain
            .deploy(&treasury, &DeployConfig::demo())
            .await
            .unwrap();
        let local = LocalMarket::new(chain.clone(), treasury, entropy.clone());
        let operator = local
            .add_coordinator("cuckoo", cai(2_000_000), cai(1_000))
            .await
            .unwrap();
        let miners = [
            local.add_miner("first", cai(60_000)).await.unwrap(),
            local.add_miner("second", cai(30_000)).await.unwrap(),
        ];
        let poor = local.add_miner("poor", cai(19_999)).await.unwrap();
        // Votes count from the next epoch.
        dev_chain.advance(Duration::from_secs(3));

        let mut settings = Settings {
            models: vec![ModelSettings::new(model(), cai(1))],
            audit_probability: 0.0,
            max_input_bytes: MAX_INPUT_BYTES,
            max_output_bytes: MAX_OUTPUT_BYTES,
            ..Settings::default()
        };
        adjust(&mut settings);
        let deployment = chain.deployment();
        let store = Arc::new(MemoryStore::new());
        let coordinator = Coordinator::builder()
            .settings(settings)
            .chain(chain.clone())
            .operator(operator.operator.clone())
            .clock(clock.clone())
            .entropy(entropy.clone())
            .store(store.clone())
            .webhooks(Webhooks::with_private_addresses(WEBHOOK_SECRET).unwrap());
        let coordinator = components(coordinator).start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let routes = routes(coordinator.clone());
        tokio::spawn(serve(listener, routes, stop.clone().cancelled_owned()));
        Self {
            coordinator,
            store,
            clock,
            entropy,
            operator,
            miners,
            poor,
            deployment,
            chain,
            url,
            _server: stop.drop_guard(),
        }
    }

    /// A request for a session of `miner`, good for a minute.
    pub(crate) fn session(&self, miner: &Key) -> Session {
        use cuckoo_core::Clock as _;
        Session {
            coordinator: self.operator.operator.address(),
            miner: miner.address(),
            nonce: self.entropy.word(),
            expiry: self.clock.now().after(Duration::from_secs(60)),
        }
    }

    /// Opens a session for `miner` through `protocol`.
    pub(crate) async fn join(&self, protocol: &dyn TaskProtocol, miner: &Member) -> SessionToken {
        let request = Signed::sign(
            self.session(&miner.operator),
            &miner.operator,
            &self.deployment,
        );
        let opened = protocol.open_session(request).await.unwrap();
        assert_eq!(opened.miner, miner.node);
        opened
            .grant
            .verify(self.operator.operator.address(), &self.deployment)
            .unwrap();
        assert_eq!(opened.grant.value.token_hash, opened.token.hash());
        opened.token
    }

    /// Submits a task and polls until `token`'s miner has it.
    pub(crate) async fn assigned(
        &self,
        protocol: &dyn TaskProtocol,
        token: &SessionToken,
    ) -> (cuckoo_coordinator::TaskHandle, Assignment) {
        let task = self.coordinator.submit(spec("a red circle")).await.unwrap();
        let assignment = self.polled(protocol, token).await;
        assert_eq!(assignment.task, task.id());
        (task, assignment)
    }

    /// What a miner with one free slot is given, once there is something.
    pub(crate) async fn polled(
        &self,
        protocol: &dyn TaskProtocol,
        token: &SessionToken,
    ) -> Assignment {
        // The market's clock stands still meanwhile, so only this patience ends a poll in vain.
        let request = PollRequest {
            wait_millis: 30_000,
            ..poll(1)
        };
        let polling = tokio::time::timeout(Duration::from_secs(30), protocol.poll(token, request));
        let mut reply = polling.await.expect("work within 30 s").unwrap();
        assert_eq!(reply.assignments.len(), 1);
        reply.assignments.remove(0)
    }

    /// What `miner` signs when `assignment` gave `output`.
    pub(crate) fn receipt(
        &self,
        assignment: &Assignment,
        miner: &Member,
        output: &[u8],
    ) -> Receipt {
        Receipt {
            coordinator: assignment.coordinator,
            miner: miner.node,
            lease: assignment.lease,
            task: assignment.task,
            model_hash: assignment.model_hash,
            input_hash: assignment.input_hash,
            output_hash: payload_hash(output),
            states_root: B256::ZERO,
            usage: Usage {
                input_units: 3,
                output_units: 4_096,
                compute_millis: 7,
            },
        }
    }

    /// A completion with `receipt`, signed by `key`.
    pub(crate) fn completion(&self, receipt: Receipt, key: &Key, output: &[u8]) -> Completion {
        Completion {
            receipt: self.signed(receipt, key),
            output: Output {
                media_type: "image/png".to_owned(),
                bytes: output.to_vec().into(),
            },
        }
    }

    pub(crate) fn signed(&self, receipt: Receipt, key: &Key) -> SignedReceipt {
        Signed::sign(receipt, key, &self.deployment)
    }
}

pub(crate) fn model() -> ModelId {
    "shapes".parse().unwrap()
}

pub(crate) fn spec(prompt: &str) -> TaskSpec {
    TaskSpec::new(model(), json!({ "prompt": prompt }))
}

/// A poll of a miner with `free_slots` that does not wait.
pub(crate) fn poll(free_slots: u32) -> PollRequest {
    PollRequest {
        capabilities: vec![Capability {
            model: model(),
            model_hash: MODEL_HASH,
            kernels: "test".to_owned(),
            max_input_bytes: 4_096,
            min_price: U256::ZERO,
        }],
        free_slots,
        warm: Vec::new(),
        wait_millis: 0,
    }
}
