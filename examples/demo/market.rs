//! The whole market in one process: chain, contracts, coordinator and miners.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, ModelSettings, Settings};
use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Action, Address, Clock, CourtConfig, DeployConfig, DevChain, Entropy, Error, Key, LocalMarket,
    Member, ModelKind, Result, RpcSettings, RpcStaking, StakingContract, SystemClock, Wei, cai,
    parse_cai,
};
use cuckoo_miner::{EmbeddingExecutor, Executor, ImageExecutor, Miner, TextExecutor};

use crate::cheater::CachingExecutor;
use crate::ledger::Entrant;
use crate::requests::{CHATS, EMBEDDINGS, PICTURES};

/// Names and stakes (CAI) of the miners; the largest stakes are ten and five times the smallest.
const MINERS: [(&str, u64); 6] = [
    ("Heron", 200_000),
    ("Magpie", 100_000),
    ("Plover", 80_000),
    ("Wren", 60_000),
    ("Finch", 40_000),
    ("Dunnock", 20_000),
];
/// Which of them cheats: a thief, as everybody knows.
const CHEATER: &str = "Magpie";
/// What a task on each model earns, in CAI.
const PRICES: [(&str, ModelKind, &str); 3] = [
    (PICTURES, ModelKind::Image, "0.05"),
    (CHATS, ModelKind::Chat, "0.01"),
    (EMBEDDINGS, ModelKind::Embeddings, "0.002"),
];
/// What the treasury puts into the budget of rewards, in CAI.
const REWARDS: u64 = 1_000;
/// How long the parties and jurors of a dispute have for each step, in seconds: nobody waits for it to pass.
const COURT_STEP: u64 = 240;
/// The longest that anything may take until the market is open.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often an output is repeated by a second miner.
pub(crate) const AUDIT_PROBABILITY: f64 = 0.3;

/// A running market.
pub(crate) struct Market {
    pub(crate) chain: Arc<dyn StakingContract>,
    pub(crate) coordinator: Coordinator,
    pub(crate) entrants: Vec<Entrant>,
    /// Who registered the coordinator.
    pub(crate) host: Member,
    /// In the order of `entrants`.
    pub(crate) members: Vec<Member>,
    pub(crate) cheater: Member,
    /// What draws the pictures of honest miners.
    pub(crate) painter: Arc<dyn Executor>,
    treasury: Key,
    miners: Vec<Miner>,
}

/// Where the contracts live.
pub(crate) enum Chain {
    /// revm in this process.
    Dev(DevChain),
    /// A local anvil, reached over JSON-RPC; it ends with this value.
    Anvil(Anvil),
}

impl Chain {
    /// Deploys the contracts on behalf of a funded `treasury`.
    async fn deploy(
        &self,
        treasury: &Key,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn StakingContract>> {
        let (funds, demo) = (cai(10_000_000), DeployConfig::demo());
        let config = DeployConfig {
            // Stake stays bound for longer than a dispute lasts.
            unbonding_seconds: 5 * COURT_STEP,
            court: CourtConfig {
                answer_seconds: COURT_STEP,
                draw_seconds: COURT_STEP,
                commit_seconds: COURT_STEP,
                reveal_seconds: COURT_STEP,
                ..demo.court
            },
            ..demo
        };
        match self {
            Self::Dev(chain) => {
                chain.fund(treasury.address(), funds);
                chain.deploy(treasury, &config).await
            }
            Self::Anvil(anvil) => {
                anvil.fund(treasury.address(), funds).await?;
                let node = RpcSettings {
                    poll_millis: 50,
                    ..RpcSettings::new(anvil.url())
                };
                RpcStaking::deploy(&node, treasury, &config, clock).await
            }
        }
    }
}

/// Fills the budget of rewards, lets all votes count for it, and puts the honest miners on the list of jurors.
async fn reward_and_enlist(
    chain: &dyn StakingContract,
    treasury: &Key,
    members: &[(&str, Wei, Member)],
) -> Result<()> {
    let amount = cai(REWARDS);
    chain
        .submit(treasury, Action::FundRewards { amount })
        .await?;
    let nodes = members.iter().map(|(.., member)| member.node).collect();
    chain
        .submit(treasury, Action::SyncRewards { nodes })
        .await?;
    for (_, _, member) in members.iter().filter(|(name, ..)| *name != CHEATER) {
        let node = member.node;
        chain.submit(&member.owner, Action::Enlist { node }).await?;
    }
    Ok(())
}

impl Market {
    /// Deploys the contracts, registers everybody, starts coordinator and miners.
    pub(crate) async fn open(
        home: &Chain,
        models: &Path,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let treasury = Key::random(entropy.as_ref());
        let chain = home.deploy(&treasury, Arc::clone(&clock)).await?;
        let market = LocalMarket::new(Arc::clone(&chain), treasury.clone(), Arc::clone(&entropy));
        let host = market
            .add_coordinator("Nest", cai(2_000_000), cai(1_000))
            .await?;
        let mut members = Vec::new();
        for (name, stake) in MINERS {
            members.push((name, cai(stake), market.add_miner(name, cai(stake)).await?));
        }
        let everybody: Vec<&Member> = members
            .iter()
            .map(|(_, _, member)| member)
            .chain([&host])
            .collect();
        market.settle(&everybody, clock.as_ref(), PATIENCE).await?;

        reward_and_enlist(chain.as_ref(), &treasury, &members).await?;

        let offered = |(model, kind, price): (&str, ModelKind, &str)| {
            Ok(ModelSettings::new(model.parse()?, parse_cai(price)?).with_kind(kind))
        };
        let coordinator = Coordinator::builder()
            .settings(Settings {
                models: PRICES.into_iter().map(offered).collect::<Result<_>>()?,
                audit_probability: AUDIT_PROBABILITY,
                ..Settings::default()
            })
            .chain(Arc::clone(&chain))
            .operator(host.operator.clone())
            .entropy(Arc::clone(&entropy))
            .start()
            .await?;

        // One set of weights in memory serves all six.
        let folder = |model: &str| models.join(model);
        let painter: Arc<dyn Executor> =
            Arc::new(ImageExecutor::load(folder(PICTURES), PICTURES.parse()?)?);
        let writer = Arc::new(TextExecutor::load(folder(CHATS), CHATS.parse()?)?);
        let embedder = Arc::new(EmbeddingExecutor::load(
            folder(EMBEDDINGS),
            EMBEDDINGS.parse()?,
        )?);
        let mut miners = Vec::new();
        for (name, _, member) in &members {
            let paints: Arc<dyn Executor> = if *name == CHEATER {
                Arc::new(CachingExecutor::new(Arc::clone(&painter)))
            } else {
                Arc::clone(&painter)
            };
            let miner = Miner::builder()
                .operator(member.operator.clone())
                .coordinator(coordinator.protocol())
                .chain(Arc::clone(&chain))
                .executor(paints)
                .executor(writer.clone())
                .executor(embedder.clone())
                .entropy(Arc::clone(&entropy))
                .start()
                .await?;
            miners.push(miner);
        }
        let cheater = members
            .iter()
            .find(|(name, ..)| *name == CHEATER)
            .map(|(.., member)| member.clone());
        let entrant = |(name, stake, member): &(&str, Wei, Member)| Entrant {
            node: member.node,
            name: (*name).to_owned(),
            stake: *stake,
        };
        Ok(Self {
            chain,
            coordinator,
            host,
            cheater: cheater
                .ok_or_else(|| Error::internal("the demo's cheater is one of its miners"))?,
            entrants: members.iter().map(entrant).collect(),
            members: members.into_iter().map(|(.., member)| member).collect(),
            painter,
            treasury,
            miners,
        })
    }

    /// Sends CAI of the treasury's to an account, and some for gas.
    pub(crate) async fn lend(&self, to: Address, amount: Wei) -> Result<()> {
        self.chain
            .transfer(&self.treasury, to, amount + cai(1))
            .await?;
        Ok(())
    }

    /// Has the chain make a block, which a development chain does with a transaction only.
    pub(crate) async fn next_block(&self) -> Result<()> {
        let treasury = &self.treasury;
        self.chain
            .transfer(treasury, treasury.address(), Wei::ZERO)
            .await?;
        Ok(())
    }

    /// Waits until every miner polls.
    pub(crate) async fn ready(&self) -> Result<()> {
        let clock = SystemClock;
        let deadline = clock.now().after(PATIENCE);
        while self
            .coordinator
            .status()
            .miners
            .iter()
            .filter(|miner| miner.free_slots > 0)
            .count()
            < MINERS.len()
        {
            if clock.now() > deadline {
                return Err(Error::timeout(
                    "not all miners came to poll; run with RUST_LOG=debug to see why",
                ));
            }
            clock.sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Stops taking work, drains, stops.
    pub(crate) async fn close(self) {
        let grace = Duration::from_secs(10);
        futures::future::join_all(self.miners.iter().map(|miner| miner.shutdown(grace))).await;
        self.coordinator.shutdown(grace).await;
    }
}
