//! Bringing a node into the market: what its owner still has to do, what that costs, and doing it.

use std::fmt;

use alloy::primitives::Address;

use crate::amount::{Wei, format_cai};
use crate::{
    Error, Key, NodeId, NodeKind, Profile, Result, StakingContract, register_with_consent,
};

/// What an owner wants a node to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// Miner or coordinator.
    pub kind: NodeKind,
    /// What the public is told; a node that is registered already keeps its profile.
    pub profile: Profile,
    /// The owner's commission on rewards, in hundredths of a percent; likewise.
    pub commission_bps: u16,
    /// The owner's own vote, in wei; the least that makes the node active when `None`.
    pub vote: Option<Wei>,
    /// A coordinator's escrow, in wei; zero for miners.
    pub escrow: Wei,
}

/// What is missing from an [`Enrolment`], and its price. Its `Display` is for the owner to read before agreeing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentPlan {
    enrolment: Enrolment,
    owner: Address,
    operator: Address,
    /// The node, when it is registered already.
    pub node: Option<NodeId>,
    /// To be moved from the owner's balance into its free stake, in wei.
    pub stake: Wei,
    /// To be voted for the node with free stake, in wei.
    pub vote: Wei,
    /// To be moved from the owner's balance into the escrow, in wei.
    pub escrow: Wei,
    /// What the owner holds outside the contracts, in wei.
    pub balance: Wei,
}

impl Enrolment {
    /// Looks up what `owner` has done already. Planning again after a step failed gives the rest of the way.
    ///
    /// # Errors
    /// `Invalid` when owner and operator are one key or a miner is given an escrow, `Conflict` when the operator signs
    /// for a node of another owner or kind, `Rejected` when the owner's balance does not reach, `Unavailable` when the
    /// chain is down.
    pub async fn plan(
        self,
        chain: &dyn StakingContract,
        owner: Address,
        operator: Address,
    ) -> Result<EnrolmentPlan> {
        if owner == operator {
            return Err(Error::invalid(
                "owner and operator are the same key; the operator's is online all the time, so make another with \
                 `key new`",
            ));
        }
        if self.kind == NodeKind::Miner && !self.escrow.is_zero() {
            return Err(Error::invalid(
                "a miner has no escrow; only coordinators pay",
            ));
        }
        let snapshot = chain.snapshot().await?;
        let node = snapshot.by_operator(operator);
        if let Some(node) = node
            && (node.owner != owner || node.kind != self.kind)
        {
            return Err(Error::conflict(format!(
                "operator {operator} signs for {} already, which is a {:?} of {}; make another with `key new`",
                node.id, node.kind, node.owner
            )));
        }
        let node = node.map(|node| node.id);
        let (voted, escrowed) = match node {
            Some(node) => (
                chain.vote_of(node, owner).await?.amount,
                chain.escrow(node).await?.amount,
            ),
            None => (Wei::ZERO, Wei::ZERO),
        };
        let wanted = match self.vote {
            Some(vote) => vote,
            None => chain.minimum_vote(self.kind).await?,
        };
        let vote = wanted.saturating_sub(voted);
        let stake = vote.saturating_sub(chain.free_stake(owner).await?);
        let escrow = self.escrow.saturating_sub(escrowed);
        let balance = chain.balance(owner).await?;
        let cost = stake.saturating_add(escrow);
        if cost > balance || (balance.is_zero() && node.is_none()) {
            return Err(Error::rejected(format!(
                "owner {owner} holds {} CAI and needs {} CAI and some for gas; send it there and run this again",
                format_cai(balance),
                format_cai(cost)
            )));
        }
        Ok(EnrolmentPlan {
            enrolment: self,
            owner,
            operator,
            node,
            stake,
            vote,
            escrow,
            balance,
        })
    }
}

impl EnrolmentPlan {
    /// Whether nothing is missing.
    pub fn is_done(&self) -> bool {
        self.node.is_some() && self.vote.is_zero() && self.escrow.is_zero()
    }

    /// About how much gas its transactions need: they build on each other, so that only the first could be estimated. The
    /// numbers are those of first uses in `contracts/snapshots/gas.json`, rounded up.
    pub fn gas(&self) -> u64 {
        let steps = [
            (!self.stake.is_zero(), 50_000),
            (self.node.is_none(), 300_000),
            (!self.vote.is_zero(), 110_000),
            (!self.escrow.is_zero(), 55_000),
        ];
        let missing = steps.into_iter().filter(|(missing, _)| *missing);
        missing.map(|(_, gas)| gas).sum()
    }

    /// Sends the transactions that are missing, one after the other, and gives the node's number.
    ///
    /// # Errors
    /// `Invalid` for other keys than planned for, else as [`StakingContract`]'s writes; what was done until then stays
    /// done, and a new plan leaves it out.
    pub async fn execute(
        self,
        chain: &dyn StakingContract,
        owner: &Key,
        operator: &Key,
    ) -> Result<NodeId> {
        if owner.address() != self.owner || operator.address() != self.operator {
            return Err(Error::invalid(
                "the plan was made for other keys; plan again",
            ));
        }
        if !self.stake.is_zero() {
            chain.stake(owner, self.stake).await?;
        }
        let node = match self.node {
            Some(node) => node,
            None => {
                let Enrolment {
                    kind,
                    profile,
                    commission_bps,
                    ..
                } = self.enrolment;
                register_with_consent(chain, owner, operator, kind, profile, commission_bps)
                    .await?
                    .0
            }
        };
        if !self.vote.is_zero() {
            chain.vote(owner, node, self.vote).await?;
        }
        if !self.escrow.is_zero() {
            chain.deposit_escrow(owner, node, self.escrow).await?;
        }
        Ok(node)
    }
}

impl fmt::Display for EnrolmentPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            owner,
            operator,
            stake,
            vote,
            escrow,
            balance,
            ..
        } = self;
        writeln!(
            f,
            "owner {owner} (holds {} CAI), operator {operator}",
            format_cai(*balance)
        )?;
        if self.is_done() {
            return f.write_str("nothing is missing");
        }
        if self.node.is_none() {
            let Enrolment {
                kind,
                profile,
                commission_bps,
                ..
            } = &self.enrolment;
            let percent = f64::from(*commission_bps) / 100.0;
            writeln!(
                f,
                "- register {kind:?} `{}`, commission {percent} %",
                profile.name
            )?;
        }
        if !stake.is_zero() {
            writeln!(
                f,
                "- stake {} CAI; comes back after unvote and unbonding",
                format_cai(*stake)
            )?;
        }
        if !vote.is_zero() {
            writeln!(f, "- vote {} CAI of stake for the node", format_cai(*vote))?;
        }
        if !escrow.is_zero() {
            writeln!(
                f,
                "- deposit {} CAI of escrow, from which miners are paid",
                format_cai(*escrow)
            )?;
        }
        let cost = stake.saturating_add(*escrow);
        write!(
            f,
            "leaves the owner's balance: {} CAI and gas",
            format_cai(cost)
        )
    }
}
