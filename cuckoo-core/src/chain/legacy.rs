//! The contracts of the first Cuckoo Chain, read-only: stakers vote for miners by address, and there is no list of nodes.

mod ballot;
mod survey;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, address, keccak256};
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use self::survey::Survey;
use super::evm::{Evm as _, kept, reorganised};
use super::{
    Change, Contracts, Node, NodeKind, Profile, RpcSettings, RpcStaking, Snapshot, StakingContract,
};
use crate::amount::{Wei, cai};
use crate::{Clock, Deployment, Error, NodeId, Result};

mod abi {
    #![allow(missing_docs, reason = "explained in the adapter's documentation")]
    alloy::sol! {
        function getStakeInfo(address staker) external view returns (uint256 tokensStaked, uint256 rewards);
        function getVotersForMiner(address miner) external view returns (address[] memory voters);
        function getMinersForVoter(address voter) external view returns (address[] memory miners);
    }
}

/// How often a reading that a reorganisation spoilt is begun again.
const ATTEMPTS: usize = 3;
/// The most often that everything is read again.
const LEAST_POLL: Duration = Duration::from_secs(1);

/// Where the contracts of one legacy network are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegacyNetwork {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Answers `getStakeInfo`.
    pub staking: Address,
    /// Answers `getVotersForMiner` and `getMinersForVoter`.
    pub voting: Address,
}

impl LegacyNetwork {
    /// Cuckoo Chain.
    pub const CUCKOO_CHAIN: Self = Self {
        chain_id: 1200,
        staking: address!("47EC8202018447B424C8F6B4f6e5b603Be0c35CD"),
        voting: address!("376bcdBcc649Df441B5F5AE420D6b79a2fCe92A3"),
    };

    /// Its test network.
    pub const TESTNET: Self = Self {
        chain_id: 1210,
        staking: address!("4a32b8dEdA26902591aBc00c9DaC82bf6dc90124"),
        voting: address!("c0c94B94924e253022E39D1B589DEe9d53150e95"),
    };
}

/// Which legacy network, and what its contracts do not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegacySettings {
    /// The network.
    pub network: LegacyNetwork,
    /// Miners to begin with. Others are found through those who voted for these: a miner that shares no voter with any
    /// that is known stays unknown.
    pub miners: Vec<Address>,
    /// Coordinators. Nobody votes for them there, so none can be found.
    #[serde(default)]
    pub coordinators: Vec<Address>,
    /// The least own stake of an active miner, in wei.
    #[serde(default = "LegacySettings::miner_minimum")]
    pub miner_minimum: Wei,
    /// The least own stake of an active coordinator, in wei.
    #[serde(default = "LegacySettings::coordinator_minimum")]
    pub coordinator_minimum: Wei,
    /// How often everything is read again to find changes, in milliseconds; a second at least.
    #[serde(default = "LegacySettings::poll_millis")]
    pub poll_millis: u64,
}

impl LegacySettings {
    /// The network with these first miners, the usual minimums (20,000 and 2,000,000 CAI) and a reading a minute.
    pub fn new(network: LegacyNetwork, miners: Vec<Address>) -> Self {
        Self {
            network,
            miners,
            coordinators: Vec::new(),
            miner_minimum: Self::miner_minimum(),
            coordinator_minimum: Self::coordinator_minimum(),
            poll_millis: Self::poll_millis(),
        }
    }

    fn miner_minimum() -> Wei {
        cai(20_000)
    }

    fn coordinator_minimum() -> Wei {
        cai(2_000_000)
    }

    const fn poll_millis() -> u64 {
        60_000
    }
}

/// The staking and voting contracts of the first Cuckoo Chain as a [`StakingContract`] that can only be read.
///
/// - **Weight.** There a voter's stake counts in full for every miner voted for. Here it is split evenly over them; what
///   the division leaves, less than a wei a miner, counts for nobody. So the weights never exceed the voters' stakes.
///   Votes count at once: there is no epoch, and [`Snapshot::epoch`] is always 0.
/// - **Who voted for whom** is what the *voter's* list says, each miner once. A miner's list only leads to voters: it may
///   name one twice, or one who took the vote back.
/// - **Nodes** are addresses, owner and operator at once. A [`NodeId`] is made of the address
///   ([`node_id`](Self::node_id)). A miner is active when its own stake, voted with or not, reaches the minimum.
/// - **Changes** are found by reading everything again at an interval; the contracts' events do not tell all of them.
/// - **Everything else**, every write and all that concerns vouchers, is refused as
///   [`ErrorKind::Rejected`](crate::ErrorKind::Rejected).
#[derive(Clone)]
pub struct LegacyStaking {
    chain: RpcStaking,
    settings: Arc<LegacySettings>,
    clock: Arc<dyn Clock>,
    /// What the stream of changes read last.
    latest: Arc<Mutex<Option<Snapshot>>>,
}

impl LegacyStaking {
    /// Access to a legacy network's contracts.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a malformed URL, another chain than the network's or an
    /// address that is both a miner's and a coordinator's, [`ErrorKind::Chain`](crate::ErrorKind::Chain) when the
    /// contracts are not there, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the node does not answer.
    pub async fn connect(
        rpc: &RpcSettings,
        settings: LegacySettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn StakingContract>> {
        let network = settings.network;
        let both = settings
            .miners
            .iter()
            .find(|miner| settings.coordinators.contains(miner));
        if let Some(both) = both {
            return Err(Error::invalid(format!(
                "{both} is listed as a miner and as a coordinator; name it once"
            )));
        }
        let chain = RpcStaking::open(rpc, Arc::clone(&clock)).await?;
        if chain.chain_id() != network.chain_id {
            return Err(Error::invalid(format!(
                "wrong chain: the endpoint says {}, the network has {}; correct one of them",
                chain.chain_id(),
                network.chain_id
            )));
        }
        let legacy = Self {
            chain,
            settings: Arc::new(settings),
            clock,
            latest: Arc::default(),
        };
        let (_, at) = legacy.chain.head().await?;
        Survey::new(&legacy.chain, network, &at).check().await?;
        Ok(Arc::new(legacy))
    }

    /// The number of the node with this address: the first 63 bits of the address's hash (keccak-256), so that it is the same
    /// for everybody and fits a database's integers, though not a JavaScript number. Two nodes of one number are both left out of snapshots: whoever searches for such an
    /// address gains nothing by it.
    pub fn node_id(address: Address) -> NodeId {
        let hash = keccak256(address);
        let bits = u64::from_be_bytes(hash[..8].try_into().unwrap_or_default());
        NodeId((bits >> 1).max(1))
    }

    async fn read(&self) -> Result<Snapshot> {
        for _ in 0..ATTEMPTS {
            let (head, at) = self.chain.head().await?;
            let read = self.read_at(&at).await;
            if let Some(nodes) = kept(&self.chain, &at, read).await? {
                return Ok(Snapshot {
                    block: head.number,
                    epoch: 0,
                    nodes,
                });
            }
        }
        Err(reorganised())
    }

    async fn read_at(&self, at: &<RpcStaking as super::evm::Evm>::At) -> Result<Vec<Node>> {
        let settings = &self.settings;
        let survey = Survey::new(&self.chain, settings.network, at);
        let ballot = survey.ballot(&settings.miners).await?;
        let accounts = ballot
            .accounts()
            .chain(settings.coordinators.iter().copied());
        let stakes = survey.stakes(accounts.collect()).await?;
        let stake = |account| stakes.get(&account).copied().unwrap_or_default();
        let mut nodes = Nodes::default();
        for (miner, weight) in ballot.weights(&stakes) {
            if !settings.coordinators.contains(&miner) {
                let active = stake(miner) >= settings.miner_minimum;
                nodes.add(node(NodeKind::Miner, miner, active, weight, stake(miner)));
            }
        }
        for coordinator in settings.coordinators.iter().copied() {
            let own = stake(coordinator);
            let active = own >= settings.coordinator_minimum;
            nodes.add(node(NodeKind::Coordinator, coordinator, active, own, own));
        }
        Ok(nodes.by_number.into_values().flatten().collect())
    }
}

fn node(kind: NodeKind, account: Address, active: bool, weight: Wei, own: Wei) -> Node {
    Node {
        id: LegacyStaking::node_id(account),
        kind,
        owner: account,
        operator: account,
        commission_bps: 0,
        active,
        weight,
        owner_vote: own,
        profile: Profile {
            name: account.to_string(),
            ..Profile::default()
        },
    }
}

/// Nodes by number; none in place of several of one number.
#[derive(Default)]
struct Nodes {
    by_number: BTreeMap<NodeId, Option<Node>>,
}

impl Nodes {
    fn add(&mut self, node: Node) {
        match self.by_number.get_mut(&node.id) {
            Some(Some(same)) if same.owner == node.owner => {}
            Some(taken) => {
                tracing::warn!(node = %node.id, account = %node.owner, "two accounts have this number; neither is used");
                *taken = None;
            }
            None => {
                self.by_number.insert(node.id, Some(node));
            }
        }
    }
}

#[async_trait]
impl StakingContract for LegacyStaking {
    /// `payments` is the zero address: there is no such contract.
    fn contracts(&self) -> Contracts {
        Contracts::from(Deployment {
            chain_id: self.settings.network.chain_id,
            staking: self.settings.network.staking,
            payments: Address::ZERO,
        })
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        self.read().await
    }

    /// Reads everything only when something changed, and not again when the stream of changes just did.
    async fn refresh(&self, known: &Snapshot, changed: &BTreeSet<NodeId>) -> Result<Snapshot> {
        if changed.is_empty() && known.block != 0 {
            // Whether the chain can still be read.
            self.chain.head().await?;
            return Ok(known.clone());
        }
        let latest = self
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match latest {
            Some(latest) if latest.block > known.block => Ok(latest),
            _ => self.read().await,
        }
    }

    async fn changes(&self) -> Result<BoxStream<'static, Result<Change>>> {
        let known = self.read().await?;
        Ok(watch::changes(self.clone(), known))
    }

    async fn block_time(&self) -> Result<u64> {
        Ok(self.chain.head().await?.0.time)
    }

    async fn balance(&self, account: Address) -> Result<Wei> {
        self.chain.balance(account).await
    }

    async fn minimum_vote(&self, kind: NodeKind) -> Result<Wei> {
        Ok(match kind {
            NodeKind::Miner => self.settings.miner_minimum,
            NodeKind::Coordinator => self.settings.coordinator_minimum,
        })
    }
}

impl fmt::Debug for LegacyStaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyStaking")
            .field("chain", &self.chain)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::U256;

    #[test]
    fn a_number_is_made_of_the_address_alone() {
        let account = LegacyNetwork::CUCKOO_CHAIN.staking;
        let bits = U256::from_be_bytes(keccak256(account).0) >> 193;
        assert_eq!(U256::from(LegacyStaking::node_id(account).0), bits);
    }

    #[test]
    fn of_two_nodes_with_one_number_neither_is_used() {
        let of = |byte, id| Node {
            id: NodeId(id),
            ..node(
                NodeKind::Miner,
                Address::repeat_byte(byte),
                true,
                cai(1),
                cai(1),
            )
        };
        let mut nodes = Nodes::default();
        for node in [of(1, 5), of(2, 6), of(2, 6), of(3, 5), of(4, 5)] {
            nodes.add(node);
        }
        let left: Vec<_> = nodes.by_number.into_values().flatten().collect();
        assert_eq!(left, [of(2, 6)]);
    }
}
