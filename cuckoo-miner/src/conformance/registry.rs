//! The chain of a check: one coordinator and one miner are registered, nothing else happens. A miner asks no more of it, and
//! an executor nothing.

use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{
    Address, Change, Contracts, Deployment, Error, Node, NodeId, NodeKind, Profile, Result,
    Snapshot, StakingContract, Wei, cai,
};
use futures::stream::BoxStream;

pub(super) const COORDINATOR: NodeId = NodeId(1);
pub(super) const MINER: NodeId = NodeId(2);

#[derive(Debug)]
pub(super) struct Registry {
    nodes: Vec<Node>,
}

impl Registry {
    pub(super) fn new(coordinator: Address, miner: Address) -> Arc<Self> {
        let node = |id, kind, operator, weight| Node {
            id,
            kind,
            owner: operator,
            operator,
            commission_bps: 0,
            active: true,
            weight,
            owner_vote: weight,
            profile: Profile::default(),
        };
        Arc::new(Self {
            nodes: vec![
                node(
                    COORDINATOR,
                    NodeKind::Coordinator,
                    coordinator,
                    cai(2_000_000),
                ),
                node(MINER, NodeKind::Miner, miner, cai(20_000)),
            ],
        })
    }
}

fn none<T>() -> Result<T> {
    Err(Error::rejected(
        "nothing happens on the chain of a conformance check",
    ))
}

#[async_trait]
impl StakingContract for Registry {
    fn contracts(&self) -> Contracts {
        let deployment = Deployment {
            chain_id: 0,
            staking: Address::ZERO,
            payments: Address::ZERO,
        };
        deployment.into()
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            block: 1,
            epoch: 1,
            nodes: self.nodes.clone(),
        })
    }

    async fn changes(&self) -> Result<BoxStream<'static, Result<Change>>> {
        none()
    }

    async fn block_time(&self) -> Result<u64> {
        none()
    }

    async fn balance(&self, _: Address) -> Result<Wei> {
        none()
    }

    async fn minimum_vote(&self, _: NodeKind) -> Result<Wei> {
        none()
    }
}
