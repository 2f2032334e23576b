//! One deployed market on the chain under test, and what the suite does with it again and again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    B256, CourtConfig, DeployConfig, DevChain, Key, Node, NodeId, NodeKind, Profile, RpcSettings,
    RpcStaking, StakingContract, SystemClock, U256, Wei, cai, register_with_consent,
};

/// The chain under test.
enum Chain {
    InProcess(DevChain),
    Anvil(Anvil),
}

/// A market without nodes.
pub(crate) struct Market {
    chain: Chain,
    pub(crate) contracts: Arc<dyn StakingContract>,
    pub(crate) admin: Key,
    pub(crate) config: DeployConfig,
}

/// The key number `number`, the same in every run.
pub(crate) fn key(number: u16) -> Key {
    Key::from_bytes(B256::from(
        U256::from(0xc0c_0000) + U256::from(number) + U256::ONE,
    ))
    .unwrap()
}

pub(crate) fn profile(name: &str) -> Profile {
    Profile {
        name: name.into(),
        ..Profile::default()
    }
}

/// Epochs long enough that a test's lines fall into one.
fn config() -> DeployConfig {
    DeployConfig {
        epoch_seconds: 3_600,
        unbonding_seconds: 7_200,
        withdrawal_delay_seconds: 3_600,
        notice_seconds: 600,
        reward_per_epoch: cai(100),
        court: CourtConfig {
            answer_seconds: 600,
            draw_seconds: 600,
            commit_seconds: 600,
            reveal_seconds: 600,
            draw_blocks: 1,
            jury_size: 3,
            quorum: 2,
            ..CourtConfig::default()
        },
        timelock_seconds: None,
        ..DeployConfig::default()
    }
}

impl Market {
    pub(crate) async fn in_process() -> Self {
        let chain = DevChain::new(Arc::new(SystemClock));
        let (admin, config) = (key(0), config());
        chain.fund(admin.address(), cai(10));
        let contracts = chain.deploy(&admin, &config).await.unwrap();
        Self {
            chain: Chain::InProcess(chain),
            contracts,
            admin,
            config,
        }
    }

    pub(crate) async fn on_anvil() -> Self {
        let anvil = Anvil::start().await.unwrap();
        let (admin, config) = (key(0), config());
        anvil.fund(admin.address(), cai(10)).await.unwrap();
        let settings = RpcSettings::new(anvil.url());
        let contracts = RpcStaking::deploy(&settings, &admin, &config, Arc::new(SystemClock))
            .await
            .unwrap();
        Self {
            chain: Chain::Anvil(anvil),
            contracts,
            admin,
            config,
        }
    }

    /// Moves the chain's time.
    pub(crate) async fn advance(&self, seconds: u64) {
        let duration = Duration::from_secs(seconds);
        match &self.chain {
            Chain::InProcess(chain) => chain.advance(duration),
            Chain::Anvil(anvil) => anvil.advance(duration).await.unwrap(),
        }
    }

    /// Adds a block.
    pub(crate) async fn next_block(&self) {
        self.advance(1).await;
    }

    /// Moves the chain's time by an epoch.
    pub(crate) async fn next_epoch(&self) {
        self.advance(self.config.epoch_seconds).await;
    }

    /// Does `work`, whose transaction comes into a block an hour after the chain node got it.
    pub(crate) async fn an_hour_late<T>(&self, work: impl Future<Output = T>) -> T {
        let late = async {
            if let Chain::Anvil(anvil) = &self.chain {
                anvil.wait_for_pending(&SystemClock).await.unwrap();
            }
            self.advance(3_600).await;
        };
        match &self.chain {
            // It makes a block as soon as it gets a transaction.
            Chain::InProcess(_) => {
                late.await;
                work.await
            }
            Chain::Anvil(anvil) => {
                anvil.hold_blocks().await.unwrap();
                let mut work = pin!(work);
                tokio::select! {
                    done = &mut work => done,
                    () = late => work.await,
                }
            }
        }
    }

    /// The account number `number` with `amount` wei.
    pub(crate) async fn funded(&self, number: u16, amount: Wei) -> Key {
        let key = key(number);
        match &self.chain {
            Chain::InProcess(chain) => chain.fund(key.address(), amount),
            Chain::Anvil(anvil) => anvil.fund(key.address(), amount).await.unwrap(),
        }
        key
    }

    /// The operator of the node whose owner is account `number`.
    pub(crate) fn operator(&self, number: u16) -> Key {
        key(10_000 + number)
    }

    /// An active miner and its owner, account `number`.
    pub(crate) async fn miner(&self, number: u16) -> (NodeId, Key) {
        self.node_of(number, NodeKind::Miner, cai(20_000)).await
    }

    /// An active coordinator and its owner, account `number`.
    pub(crate) async fn coordinator(&self, number: u16) -> (NodeId, Key) {
        self.node_of(number, NodeKind::Coordinator, cai(2_000_000))
            .await
    }

    async fn node_of(&self, number: u16, kind: NodeKind, vote: Wei) -> (NodeId, Key) {
        let owner = self.funded(number, vote + cai(1_000)).await;
        let (id, _) = register_with_consent(
            &*self.contracts,
            &owner,
            &self.operator(number),
            kind,
            profile("node"),
            0,
        )
        .await
        .unwrap();
        self.contracts.stake(&owner, vote).await.unwrap();
        self.contracts.vote(&owner, id, vote).await.unwrap();
        (id, owner)
    }

    /// The node as it is now.
    pub(crate) async fn node(&self, id: NodeId) -> Node {
        let snapshot = self.contracts.snapshot().await.unwrap();
        snapshot.node(id).unwrap().clone()
    }
}
