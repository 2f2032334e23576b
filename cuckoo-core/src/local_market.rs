//! A market to try things in: funds and registers nodes on a chain where the treasury's key is at hand.

use std::sync::Arc;
use std::time::Duration;

use crate::amount::{Wei, cai};
use crate::{
    Clock, Entropy, Error, Key, NodeId, NodeKind, Profile, Result, StakingContract,
    register_with_consent,
};

/// Registers coordinators and miners with fresh keys, paid for by one treasury account: for demos, tests and
/// development on an in-process chain or a local node.
#[derive(Debug, Clone)]
pub struct LocalMarket {
    chain: Arc<dyn StakingContract>,
    treasury: Key,
    entropy: Arc<dyn Entropy>,
}

/// A registered node and the keys behind it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its number in the staking contract.
    pub node: NodeId,
    /// The staker who registered it and voted for it.
    pub owner: Key,
    /// The key it signs with.
    pub operator: Key,
}

impl LocalMarket {
    /// A market on `chain` whose members are funded from `treasury`.
    pub fn new(chain: Arc<dyn StakingContract>, treasury: Key, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            chain,
            treasury,
            entropy,
        }
    }

    /// The chain everything is registered on.
    pub fn chain(&self) -> Arc<dyn StakingContract> {
        Arc::clone(&self.chain)
    }

    /// Registers a coordinator whose owner votes for it with `votes` wei, and gives it an escrow of `escrow` wei.
    ///
    /// # Errors
    /// `Chain` when the treasury cannot pay or a contract refuses, `Unavailable` when the chain is down.
    pub async fn add_coordinator(&self, name: &str, votes: Wei, escrow: Wei) -> Result<Member> {
        let member = self.add(NodeKind::Coordinator, name, votes, escrow).await?;
        if !escrow.is_zero() {
            self.chain
                .deposit_escrow(&member.owner, member.node, escrow)
                .await?;
        }
        Ok(member)
    }

    /// Registers a miner whose owner votes for it with `votes` wei.
    ///
    /// # Errors
    /// As [`add_coordinator`](Self::add_coordinator).
    pub async fn add_miner(&self, name: &str, votes: Wei) -> Result<Member> {
        self.add(NodeKind::Miner, name, votes, Wei::ZERO).await
    }

    /// Waits until the votes of every member count, which they do from the epoch after the vote.
    ///
    /// # Errors
    /// `Timeout` when a member stays inactive for `patience`, say because its votes are below the minimum.
    pub async fn settle(
        &self,
        members: &[&Member],
        clock: &dyn Clock,
        patience: Duration,
    ) -> Result<()> {
        let deadline = clock.now().after(patience);
        loop {
            let snapshot = self.chain.snapshot().await?;
            let waiting = members.iter().find(|member| {
                !snapshot
                    .node(member.node)
                    .is_some_and(|node| node.active && !node.weight.is_zero())
            });
            let Some(waiting) = waiting else {
                return Ok(());
            };
            if clock.now() >= deadline {
                return Err(Error::timeout(format!(
                    "{} is still not active; are its votes above the minimum of its kind?",
                    waiting.node
                )));
            }
            clock.sleep(Duration::from_millis(100)).await;
            // A node that makes blocks on demand only moves its time on with a transaction.
            self.chain
                .transfer(&self.treasury, self.treasury.address(), Wei::ZERO)
                .await?;
        }
    }

    async fn add(&self, kind: NodeKind, name: &str, votes: Wei, extra: Wei) -> Result<Member> {
        let owner = Key::random(self.entropy.as_ref());
        let operator = Key::random(self.entropy.as_ref());
        // One more CAI for the transactions' gas.
        let funds = votes + extra + cai(1);
        self.chain
            .transfer(&self.treasury, owner.address(), funds)
            .await?;
        self.chain.stake(&owner, votes).await?;
        let profile = Profile {
            name: name.to_owned(),
            ..Profile::default()
        };
        let chain = self.chain.as_ref();
        let (node, _) = register_with_consent(chain, &owner, &operator, kind, profile, 500).await?;
        self.chain.vote(&owner, node, votes).await?;
        Ok(Member {
            node,
            owner,
            operator,
        })
    }
}
