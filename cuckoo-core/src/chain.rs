//! The staking contract as the market sees it: who is registered, with which weight, and every write.

#[cfg(any(feature = "dev-chain", feature = "rpc"))]
mod abi;
mod action;
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
mod calls;
mod contracts;
mod court;
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
mod deploy;
#[cfg(feature = "dev-chain")]
mod dev;
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
mod events;
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
mod evm;
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
mod evm_staking;
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
mod learned;
#[cfg(feature = "rpc")]
mod legacy;
mod mirror;
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
mod revert;
#[cfg(feature = "rpc")]
mod rpc;

use std::collections::BTreeSet;
use std::fmt;

use alloy::primitives::{Address, B256, U256};
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::amount::Wei;
use crate::{Deployment, Error, Key, NodeId, Result, Signature, SignedVoucher};

pub use action::Action;
pub use contracts::Contracts;
pub use court::{CourtTerms, Dispute, DisputeOutcome, DisputePhase, Juror, vote_commitment};
#[cfg(all(feature = "dev-chain", feature = "rpc"))]
pub use deploy::DeployQuote;
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
pub use deploy::{CourtConfig, DeployConfig, FaucetConfig};
#[cfg(feature = "dev-chain")]
pub use dev::DevChain;
#[cfg(feature = "rpc")]
pub use legacy::{LegacyNetwork, LegacySettings, LegacyStaking};
pub use mirror::{Mirror, MirrorView};
#[cfg(feature = "testing")]
pub(crate) use rpc::provider;
#[cfg(feature = "rpc")]
pub use rpc::{RpcSettings, RpcStaking, TxId};

/// What a node is registered as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Executes tasks.
    Miner,
    /// Hands tasks out.
    Coordinator,
}

impl NodeKind {
    /// The number that Solidity's `NodeKind` gives it.
    pub const fn discriminant(self) -> u8 {
        match self {
            Self::Miner => 1,
            Self::Coordinator => 2,
        }
    }
}

/// What an owner tells the public about a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What it offers.
    #[serde(default)]
    pub description: String,
    /// Where it is reached; empty for miners, which poll.
    #[serde(default)]
    pub endpoint: String,
}

/// A registered node at one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Miner or coordinator.
    pub kind: NodeKind,
    /// The staker who registered it.
    pub owner: Address,
    /// The key it signs with now.
    pub operator: Address,
    /// The owner's commission on rewards, in hundredths of a percent.
    pub commission_bps: u16,
    /// Registered, not exited, and the owner's own vote is at or above its kind's minimum.
    pub active: bool,
    /// The votes that count in this epoch, in wei.
    pub weight: Wei,
    /// Value of the owner's own vote, in wei.
    pub owner_vote: Wei,
    /// What the owner tells the public.
    pub profile: Profile,
}

/// All nodes at one block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The block it was read at.
    pub block: u64,
    /// The epoch of that block; weights change between epochs and when stake leaves or is slashed.
    pub epoch: u64,
    /// Every node ever registered, by number.
    pub nodes: Vec<Node>,
}

impl Snapshot {
    /// The node an operator signs for now.
    pub fn by_operator(&self, operator: Address) -> Option<&Node> {
        self.nodes.iter().find(|node| node.operator == operator)
    }

    /// The node with this number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// Something that happened on chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The block it happened in.
    pub block: u64,
    /// What happened.
    pub event: ChainEvent,
}

/// An event of `Staking` or `Payments` that concerns the market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChainEvent {
    /// A node was registered, changed, rotated or left.
    NodeChanged(NodeId),
    /// Votes for a node were added or taken back.
    VotesChanged(NodeId),
    /// A node lost stake.
    Slashed {
        /// The node.
        node: NodeId,
        /// The id of what proved the fault.
        evidence: B256,
        /// Taken in all, in wei.
        taken: Wei,
    },
    /// A coordinator's escrow grew or shrank.
    EscrowChanged(NodeId),
    /// A voucher was paid.
    Redeemed {
        /// Who owed.
        coordinator: NodeId,
        /// Who was paid.
        miner: NodeId,
        /// Paid by this redemption, in wei.
        paid: Wei,
    },
}

/// What an operator agrees to, to be signed by the operator (EIP-712), so that nobody registers a key that is not theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorConsent {
    /// Who will own the node.
    pub owner: Address,
    /// The key that consents.
    pub operator: Address,
    /// As what the node is registered.
    pub kind: NodeKind,
    /// The operator's consent nonce in `Staking`.
    pub nonce: U256,
    /// Until when the consent holds, in seconds since the Unix epoch.
    pub deadline: u64,
}

/// A node to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Miner or coordinator.
    pub kind: NodeKind,
    /// The key it will sign with.
    pub operator: Address,
    /// What the owner tells the public.
    pub profile: Profile,
    /// The owner's commission on rewards, in hundredths of a percent (at most 10,000).
    pub commission_bps: u16,
    /// Until when `consent` holds, in seconds since the Unix epoch.
    pub deadline: u64,
    /// The operator's signature over [`OperatorConsent`].
    pub consent: Signature,
}

/// Stake to take from a node, by a contract or key that the market's admin allowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slash {
    /// The node at fault.
    pub node: NodeId,
    /// At most this much, in wei.
    pub amount: Wei,
    /// The id of what proves the fault; each is punished once.
    pub evidence: B256,
    /// Who reported it and is rewarded.
    pub reporter: Address,
    /// Who was wronged and is compensated.
    pub wronged: Address,
}

/// A coordinator's escrow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escrow {
    /// All of it, in wei.
    pub amount: Wei,
    /// The part announced to leave, in wei.
    pub leaving: Wei,
    /// When that part may leave, in seconds since the Unix epoch.
    pub unlocks_at: u64,
}

/// What a miner redeemed and has not collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// Its owner's part, in wei.
    pub to_owner: Wei,
    /// The set cut of those who vote for it, in wei.
    pub to_stakers: Wei,
}

/// CAI for rewards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewardBudget {
    /// What no node has earned yet, in wei.
    pub amount: Wei,
    /// What all nodes together earn in an epoch, in wei.
    pub per_epoch: Wei,
}

/// A staker's vote for one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Shares of the node's pool.
    pub shares: U256,
    /// What they are worth now, in wei.
    pub amount: Wei,
}

/// Stake that was voted off a node and was not released yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The node it was voted for.
    pub node: NodeId,
    /// Whose it is.
    pub staker: Address,
    /// What it is worth now, in wei; a slash of the node lowers it.
    pub amount: Wei,
    /// When it can be released, in seconds since the Unix epoch.
    pub unlocks_at: u64,
}

/// A transaction that is in a block and succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxReceipt {
    /// Its hash.
    pub hash: B256,
    /// Its block.
    pub block: u64,
    /// Gas it used.
    pub gas_used: u64,
    /// What the gas cost, in wei.
    pub fee: Wei,
}

/// What a write would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Gas it needs now.
    pub gas: u64,
    /// The most that its gas can cost, in wei.
    pub fee: Wei,
}

/// An [`Action`] that is in a block and succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its transaction.
    pub receipt: TxReceipt,
    /// What it gave, as the [`Action`] says; zero for those that give nothing.
    pub value: U256,
}

/// The contracts of one market: reads at the latest block, a stream of changes, and every write.
///
/// Implemented by `DevChain` (revm, in process) and `RpcStaking` (JSON-RPC), which pass one behaviour suite, and by
/// `LegacyStaking`, which can only be read: what it does not implement is refused as
/// [`ErrorKind::Rejected`](crate::ErrorKind::Rejected). Every write is
/// an [`Action`] that is [quoted](Self::quote) or [submitted](Self::submit); the methods named like the contracts' functions
/// are short for the common ones. Writes return once the transaction succeeded; a revert is an
/// [`ErrorKind::Chain`](crate::ErrorKind::Chain) error that names the contract's custom error. An unreachable node is
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
#[async_trait]
#[allow(unused_variables, reason = "a refusal does not look at what is asked")]
pub trait StakingContract: fmt::Debug + Send + Sync + 'static {
    /// The chain and all contracts of the market.
    fn contracts(&self) -> Contracts;

    /// The chain and the contracts that signatures are bound to.
    fn deployment(&self) -> Deployment {
        self.contracts().market
    }

    /// All nodes and weights at the latest block.
    async fn snapshot(&self) -> Result<Snapshot>;
    /// What [`snapshot`](Self::snapshot) gives, for a caller that has an earlier one and knows which nodes changed since:
    /// only those, new ones and, in a new epoch, the rest need be read. A node whose change is not in `changed` may be
    /// given as it was.
    async fn refresh(&self, known: &Snapshot, changed: &BTreeSet<NodeId>) -> Result<Snapshot> {
        self.snapshot().await
    }
    /// Changes from now on, in order. A gap is reported as an error item; take a new snapshot then.
    async fn changes(&self) -> Result<BoxStream<'static, Result<Change>>>;
    /// Time of the latest block, in seconds since the Unix epoch.
    async fn block_time(&self) -> Result<u64>;

    /// CAI an account holds outside the contracts, in wei.
    async fn balance(&self, account: Address) -> Result<Wei>;
    /// Stake an account has not voted with, in wei.
    async fn free_stake(&self, account: Address) -> Result<Wei> {
        read_only("free_stake")
    }
    /// A staker's vote for a node.
    async fn vote_of(&self, node: NodeId, staker: Address) -> Result<Vote> {
        read_only("vote_of")
    }
    /// A ticket that an unvote gave. [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) once it is released.
    async fn ticket(&self, ticket: U256) -> Result<Ticket> {
        read_only("ticket")
    }
    /// How long stake stays slashable after an unvote, in seconds.
    async fn unbonding_seconds(&self) -> Result<u64> {
        read_only("unbonding_seconds")
    }
    /// What a vote for a node has earned and was not claimed, in wei.
    async fn claimable(&self, node: NodeId, staker: Address) -> Result<Wei> {
        read_only("claimable")
    }
    /// CAI for rewards that no node has earned yet.
    async fn rewards(&self) -> Result<RewardBudget> {
        read_only("rewards")
    }
    /// The nonce an operator's next consent must carry.
    async fn consent_nonce(&self, operator: Address) -> Result<U256> {
        read_only("consent_nonce")
    }
    /// The least own vote of an owner for an active node of this kind, in wei.
    async fn minimum_vote(&self, kind: NodeKind) -> Result<Wei>;
    /// A coordinator's escrow.
    async fn escrow(&self, coordinator: NodeId) -> Result<Escrow> {
        read_only("escrow")
    }
    /// What a coordinator's vouchers have paid a miner so far, in wei.
    async fn redeemed(&self, coordinator: NodeId, miner: NodeId) -> Result<Wei> {
        read_only("redeemed")
    }
    /// What a miner redeemed and has not collected.
    async fn earnings(&self, miner: NodeId) -> Result<Earnings> {
        read_only("earnings")
    }

    /// What the dispute court asks of those who use it.
    async fn court_terms(&self) -> Result<CourtTerms> {
        read_only("court_terms")
    }
    /// A dispute.
    async fn dispute(&self, dispute: U256) -> Result<Dispute> {
        read_only("dispute")
    }
    /// The jury of a dispute; none before it is drawn.
    async fn jurors(&self, dispute: U256) -> Result<Vec<Juror>> {
        read_only("jurors")
    }

    /// What an action would cost if `from` sent it now; one that would be refused is refused here.
    async fn quote(&self, from: Address, action: &Action) -> Result<Quote> {
        read_only("quote")
    }
    /// Sends an action and waits until it is in a block.
    async fn submit(&self, from: &Key, action: Action) -> Result<Done> {
        read_only("submit")
    }

    /// Sends CAI to an account.
    async fn transfer(&self, from: &Key, to: Address, amount: Wei) -> Result<TxReceipt> {
        Ok(self
            .submit(from, Action::Transfer { to, amount })
            .await?
            .receipt)
    }
    /// Adds CAI to the account's free stake.
    async fn stake(&self, staker: &Key, amount: Wei) -> Result<TxReceipt> {
        Ok(self.submit(staker, Action::Stake { amount }).await?.receipt)
    }
    /// Moves free stake into a node's pool.
    async fn vote(&self, staker: &Key, node: NodeId, amount: Wei) -> Result<TxReceipt> {
        Ok(self
            .submit(staker, Action::Vote { node, amount })
            .await?
            .receipt)
    }
    /// Moves shares into unbonding; gives the ticket to release later.
    async fn unvote(&self, staker: &Key, node: NodeId, shares: U256) -> Result<(U256, TxReceipt)> {
        let done = self.submit(staker, Action::Unvote { node, shares }).await?;
        Ok((done.value, done.receipt))
    }
    /// After the unbonding period, turns a ticket into free stake.
    async fn release(&self, staker: &Key, ticket: U256) -> Result<TxReceipt> {
        Ok(self
            .submit(staker, Action::Release { ticket })
            .await?
            .receipt)
    }
    /// Pays free stake out to the staker.
    async fn withdraw(&self, staker: &Key, amount: Wei) -> Result<TxReceipt> {
        Ok(self
            .submit(staker, Action::Withdraw { amount })
            .await?
            .receipt)
    }
    /// Pays out what votes for these nodes earned; gives the sum, in wei.
    async fn claim(&self, staker: &Key, nodes: Vec<NodeId>) -> Result<(Wei, TxReceipt)> {
        let done = self.submit(staker, Action::Claim { nodes }).await?;
        Ok((done.value, done.receipt))
    }
    /// Registers a node owned by `owner`.
    async fn register(
        &self,
        owner: &Key,
        registration: Registration,
    ) -> Result<(NodeId, TxReceipt)> {
        let done = self.submit(owner, Action::Register(registration)).await?;
        Ok((NodeId(done.value.saturating_to()), done.receipt))
    }
    /// Adds CAI to a coordinator's escrow.
    async fn deposit_escrow(
        &self,
        from: &Key,
        coordinator: NodeId,
        amount: Wei,
    ) -> Result<TxReceipt> {
        let action = Action::DepositEscrow {
            coordinator,
            amount,
        };
        Ok(self.submit(from, action).await?.receipt)
    }
    /// Adds what a voucher owes to the miner's earnings; gives what was paid, in wei.
    async fn redeem(&self, sender: &Key, voucher: &SignedVoucher) -> Result<(Wei, TxReceipt)> {
        let done = self.submit(sender, Action::Redeem(voucher.clone())).await?;
        Ok((done.value, done.receipt))
    }
    /// Pays a miner's earnings out, to its owner and its stakers; gives the owner's part, in wei.
    async fn collect(&self, sender: &Key, miner: NodeId) -> Result<(Wei, TxReceipt)> {
        let done = self.submit(sender, Action::Collect { miner }).await?;
        Ok((done.value, done.receipt))
    }
}

/// The answer of contracts that can only be read.
fn read_only<T>(method: &str) -> Result<T> {
    Err(Error::rejected(format!(
        "these contracts can only be read, so there is no `{method}`; use a market of Cuckoo's own contracts for that"
    )))
}

/// Registers a node whose operator key is at hand: signs the consent, then sends the registration.
///
/// # Errors
/// As [`StakingContract::register`].
pub async fn register_with_consent(
    chain: &dyn StakingContract,
    owner: &Key,
    operator: &Key,
    kind: NodeKind,
    profile: Profile,
    commission_bps: u16,
) -> Result<(NodeId, TxReceipt)> {
    if commission_bps > 10_000 {
        return Err(Error::invalid(
            "a commission is at most 10000 hundredths of a percent",
        ));
    }
    let (deadline, consent) = sign_consent(chain, owner.address(), operator, kind).await?;
    let registration = Registration {
        kind,
        operator: operator.address(),
        profile,
        commission_bps,
        deadline,
        consent,
    };
    chain.register(owner, registration).await
}

/// An operator's consent to sign for a node of `owner`'s, and until when it holds, in seconds since the Unix epoch.
///
/// # Errors
/// As reading from [`StakingContract`].
pub async fn sign_consent(
    chain: &dyn StakingContract,
    owner: Address,
    operator: &Key,
    kind: NodeKind,
) -> Result<(u64, Signature)> {
    // Long enough for a slow block, short enough that a leaked consent is soon worthless.
    const VALID_SECONDS: u64 = 3_600;
    let deadline = chain.block_time().await?.saturating_add(VALID_SECONDS);
    let consent = OperatorConsent {
        owner,
        operator: operator.address(),
        kind,
        nonce: chain.consent_nonce(operator.address()).await?,
        deadline,
    };
    let signed = crate::Signed::sign(consent, operator, &chain.deployment());
    Ok((deadline, signed.signature))
}
