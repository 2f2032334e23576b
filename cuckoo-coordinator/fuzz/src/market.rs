//! A market on the in-process chain: its members are registered once, and each input finds a coordinator of its own, so
//! that it does the same whatever came before it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, ModelSettings, Settings};
use cuckoo_core::{
    Address, B256, Capability, DeployConfig, Deployment, DevChain, Key, LocalMarket, ManualClock,
    Member, ModelId, PollRequest, SeededEntropy, Session, StakingContract, TaskSpec, Timestamp,
    U256, cai,
};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

/// When each input begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// How long a session lasts here.
pub(crate) const SESSION: Duration = Duration::from_secs(600);

/// Who is registered where, and who is not.
pub(crate) struct Members {
    pub(crate) chain: Arc<dyn StakingContract>,
    pub(crate) deployment: Deployment,
    pub(crate) coordinator: Member,
    /// Two miners above the minimum stake.
    pub(crate) miners: [Member; 2],
    /// A miner whose owner votes one CAI too little.
    pub(crate) poor: Member,
    pub(crate) stranger: Key,
}

pub(crate) static MEMBERS: LazyLock<Members> = LazyLock::new(|| runtime().block_on(register()));

async fn register() -> Members {
    let entropy = Arc::new(SeededEntropy::from_number(1));
    let treasury = Key::random(entropy.as_ref());
    let stranger = Key::random(entropy.as_ref());
    let dev_chain = DevChain::new(Arc::new(ManualClock::new(START)));
    dev_chain.fund(treasury.address(), cai(10_000_000));
    let deployed = dev_chain.deploy(&treasury, &DeployConfig::demo()).await;
    let chain = deployed.expect("contracts");
    let market = LocalMarket::new(chain.clone(), treasury, entropy);
    let coordinator = market.add_coordinator("cuckoo", cai(2_000_000), cai(1_000));
    let coordinator = coordinator.await.expect("a coordinator");
    let miner =
        async |name: &str, stake: u64| market.add_miner(name, cai(stake)).await.expect("a miner");
    let miners = [miner("first", 60_000).await, miner("second", 30_000).await];
    let poor = miner("poor", 19_999).await;
    // Votes count from the next epoch.
    dev_chain.advance(Duration::from_secs(3));
    Members {
        deployment: chain.deployment(),
        chain,
        coordinator,
        miners,
        poor,
        stranger,
    }
}

/// A coordinator and its clock.
pub(crate) struct Market {
    pub(crate) coordinator: Coordinator,
    pub(crate) clock: Arc<ManualClock>,
}

impl Market {
    async fn open() -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let settings = Settings {
            models: vec![ModelSettings::new(model(), cai(1))],
            audit_probability: 0.0,
            max_input_bytes: 1_024,
            max_output_bytes: 4_096,
            session_millis: SESSION.as_millis() as u64,
            ..Settings::default()
        };
        let coordinator = Coordinator::builder()
            .settings(settings)
            .chain(MEMBERS.chain.clone())
            .operator(MEMBERS.coordinator.operator.clone())
            .clock(clock.clone())
            .entropy(Arc::new(SeededEntropy::from_number(2)))
            .start()
            .await
            .expect("a coordinator");
        Self { coordinator, clock }
    }
}

/// Plays a scenario with a fresh coordinator, in a runtime of its own. Waits for connections take no time there; a
/// scenario that waits for ever ends in a panic.
pub(crate) fn play(scenario: impl AsyncFnOnce(Market)) {
    LazyLock::force(&MEMBERS);
    runtime().block_on(async {
        let scenario = scenario(Market::open().await);
        let patience = Duration::from_secs(24 * 3_600);
        let played = tokio::time::timeout(patience, scenario).await;
        played.expect("an answer to every call");
    });
}

/// A coordinator for calls that change nothing, as long as it is held.
pub(crate) struct Standing {
    pub(crate) coordinator: Coordinator,
    _runtime: Runtime,
}

pub(crate) fn standing() -> Standing {
    LazyLock::force(&MEMBERS);
    let runtime = runtime();
    let Market { coordinator, .. } = runtime.block_on(Market::open());
    Standing {
        coordinator,
        _runtime: runtime,
    }
}

/// One thread, so that equal inputs do the same, and time that passes when nothing else is to be done.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build().expect("a runtime")
}

pub(crate) fn model() -> ModelId {
    "shapes".parse().expect("a name")
}

pub(crate) fn spec() -> TaskSpec {
    TaskSpec::new(model(), json!({"prompt": "a red circle", "seed": 7}))
}

/// A poll that takes one task and does not wait.
pub(crate) fn poll() -> PollRequest {
    PollRequest {
        capabilities: vec![Capability {
            model: model(),
            model_hash: B256::repeat_byte(0x11),
            kernels: "test".to_owned(),
            max_input_bytes: 4_096,
            min_price: U256::ZERO,
        }],
        free_slots: 1,
        warm: Vec::new(),
        wait_millis: 0,
    }
}

/// A request for a session of `miner`, good for a minute from the start.
pub(crate) fn session(miner: Address, nonce: u8) -> Session {
    Session {
        coordinator: MEMBERS.coordinator.operator.address(),
        miner,
        nonce: B256::repeat_byte(nonce),
        expiry: START.after(Duration::from_secs(60)),
    }
}
