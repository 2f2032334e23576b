//! The market's contracts on any chain that executes them: encoding, decoding, paging and errors, once.

mod registry;

use std::collections::BTreeSet;

use alloy::primitives::{Address, TxKind, U256};
use alloy::sol_types::SolCall;
use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt as _};

use super::abi::court::DisputeCourt;
use super::abi::payments::Payments;
use super::abi::staking::Staking;
use super::evm::{Evm, Failure};
use super::learned::Learned;
use super::{
    Action, Change, Contracts, CourtTerms, Dispute, DisputeOutcome, DisputePhase, Done, Earnings,
    Escrow, Juror, NodeKind, Quote, RewardBudget, Snapshot, StakingContract, Ticket, Vote, calls,
    events,
};
use crate::amount::Wei;
use crate::{Error, ErrorKind, Key, NodeId, Result, format_cai};

/// The contracts of one market on the chain `E`.
#[derive(Debug)]
pub(crate) struct EvmStaking<E> {
    evm: E,
    contracts: Contracts,
    page_size: Learned,
}

impl<E: Evm> EvmStaking<E> {
    /// Access to contracts that exist already; checks that they do and belong together.
    pub(crate) async fn attach(evm: E, contracts: Contracts) -> Result<Self> {
        let deployment = contracts.market;
        if evm.chain_id() != deployment.chain_id {
            return Err(Error::invalid(format!(
                "wrong chain: the endpoint says {}, the deployment says {}; correct one of them",
                evm.chain_id(),
                deployment.chain_id
            )));
        }
        let contracts = Self {
            evm,
            contracts,
            page_size: Learned::new(registry::PAGE),
        };
        contracts
            .read(None, deployment.staking, Staking::nodeCountCall {})
            .await?;
        let staking = contracts
            .read(None, deployment.payments, Payments::stakingCall {})
            .await?;
        if staking != deployment.staking {
            return Err(Error::invalid(format!(
                "the deployment mixes two markets: Payments at {} belongs to Staking at {staking}, not {}",
                deployment.payments, deployment.staking
            )));
        }
        Ok(contracts)
    }

    /// Access to contracts that were attached to before.
    #[cfg(feature = "rpc")]
    pub(crate) fn known(evm: E, contracts: Contracts) -> Self {
        Self {
            evm,
            contracts,
            page_size: Learned::new(registry::PAGE),
        }
    }

    async fn read<C: SolCall>(
        &self,
        at: Option<&E::At>,
        contract: Address,
        call: C,
    ) -> Result<C::Return> {
        let answer = self
            .evm
            .call(at, contract, call.abi_encode().into())
            .await
            .map_err(Failure::into_error)?;
        Self::decoded::<C>(contract, &answer)
    }

    fn decoded<C: SolCall>(contract: Address, answer: &[u8]) -> Result<C::Return> {
        C::abi_decode_returns(answer).map_err(|source| {
            Error::chain(format!(
                "the contract at {contract} does not answer `{}` as Cuckoo's does; check the deployment's addresses",
                C::SIGNATURE
            ))
            .with_source(source.to_string())
        })
    }

    async fn staking<C: SolCall>(&self, call: C) -> Result<C::Return> {
        self.read(None, self.contracts.market.staking, call).await
    }

    async fn payments<C: SolCall>(&self, call: C) -> Result<C::Return> {
        self.read(None, self.contracts.market.payments, call).await
    }

    async fn court<C: SolCall>(&self, call: C) -> Result<C::Return> {
        self.read(None, self.contracts.court()?, call).await
    }
}

#[async_trait]
impl<E: Evm> StakingContract for EvmStaking<E> {
    fn contracts(&self) -> Contracts {
        self.contracts
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        self.read_nodes(&Snapshot::default(), &BTreeSet::new())
            .await
    }

    async fn refresh(&self, known: &Snapshot, changed: &BTreeSet<NodeId>) -> Result<Snapshot> {
        self.read_nodes(known, changed).await
    }

    async fn changes(&self) -> Result<BoxStream<'static, Result<Change>>> {
        let deployment = self.contracts.market;
        let logs = self
            .evm
            .logs(vec![deployment.staking, deployment.payments])
            .await?;
        Ok(logs
            .filter_map(move |item| {
                let change = match item {
                    Ok(mined) => events::change(&deployment, &mined).map(Ok),
                    Err(gap) => Some(Err(gap)),
                };
                std::future::ready(change)
            })
            .boxed())
    }

    async fn block_time(&self) -> Result<u64> {
        Ok(self.evm.head().await?.0.time)
    }

    async fn balance(&self, account: Address) -> Result<Wei> {
        self.evm.balance(account).await
    }

    async fn free_stake(&self, account: Address) -> Result<Wei> {
        self.staking(Staking::freeStakeCall { staker: account })
            .await
    }

    async fn vote_of(&self, node: NodeId, staker: Address) -> Result<Vote> {
        let vote = self
            .staking(Staking::voteOfCall {
                node: node.0,
                staker,
            })
            .await?;
        Ok(Vote {
            shares: vote.shares,
            amount: vote.amount,
        })
    }

    async fn ticket(&self, ticket: U256) -> Result<Ticket> {
        let found = self.staking(Staking::ticketOfCall { ticket }).await?;
        if found.staker.is_zero() {
            return Err(Error::not_found(format!(
                "there is no ticket {ticket} that could be released; each unvote prints its own"
            )));
        }
        Ok(Ticket {
            node: NodeId(found.node),
            staker: found.staker,
            amount: found.amount,
            unlocks_at: found.unlocksAt,
        })
    }

    async fn unbonding_seconds(&self) -> Result<u64> {
        self.staking(Staking::unbondingPeriodCall {}).await
    }

    async fn consent_nonce(&self, operator: Address) -> Result<U256> {
        self.staking(Staking::consentNonceCall { operator }).await
    }

    async fn minimum_vote(&self, kind: NodeKind) -> Result<Wei> {
        self.staking(Staking::minimumVoteCall {
            kind: kind.discriminant(),
        })
        .await
    }

    async fn escrow(&self, coordinator: NodeId) -> Result<Escrow> {
        let escrow = self
            .payments(Payments::escrowOfCall {
                coordinator: coordinator.0,
            })
            .await?;
        Ok(Escrow {
            amount: escrow.amount,
            leaving: escrow.leaving,
            unlocks_at: escrow.unlocksAt,
        })
    }

    async fn redeemed(&self, coordinator: NodeId, miner: NodeId) -> Result<Wei> {
        self.payments(Payments::redeemedCall {
            coordinator: coordinator.0,
            miner: miner.0,
        })
        .await
    }

    async fn claimable(&self, node: NodeId, staker: Address) -> Result<Wei> {
        let node = node.0;
        self.staking(Staking::claimableCall { node, staker }).await
    }

    async fn rewards(&self) -> Result<RewardBudget> {
        Ok(RewardBudget {
            amount: self.staking(Staking::rewardBudgetCall {}).await?,
            per_epoch: self.staking(Staking::rewardPerEpochCall {}).await?,
        })
    }

    async fn earnings(&self, miner: NodeId) -> Result<Earnings> {
        let earnings = self
            .payments(Payments::earningsOfCall { miner: miner.0 })
            .await?;
        Ok(Earnings {
            to_owner: earnings.toOwner,
            to_stakers: earnings.toStakers,
        })
    }

    async fn court_terms(&self) -> Result<CourtTerms> {
        let config = self.court(DisputeCourt::configCall {}).await?;
        Ok(CourtTerms {
            bond: config.bond,
            penalty: config.penalty,
            jury_fee: config.juryFee,
        })
    }

    async fn dispute(&self, dispute: U256) -> Result<Dispute> {
        let view = self.court(DisputeCourt::disputeOfCall { dispute }).await?;
        let phase = dispute_phase(view.phase)?
            .ok_or_else(|| Error::not_found(format!("there is no dispute {dispute}")))?;
        Ok(Dispute {
            phase,
            outcome: dispute_outcome(view.outcome)?,
            receipt: view.receipt,
            output_hash: view.outputHash,
            accused: NodeId(view.accused),
            coordinator: NodeId(view.coordinator),
            challenger: view.challenger,
            deadline: view.deadline,
            draw_block: view.drawBlock,
        })
    }

    async fn jurors(&self, dispute: U256) -> Result<Vec<Juror>> {
        let jurors = self.court(DisputeCourt::jurorsOfCall { dispute }).await?;
        let juror = |view: DisputeCourt::JurorView| Juror {
            node: NodeId(view.node),
            committed: view.committed,
            vote: view.revealed.then_some(view.vote),
        };
        Ok(jurors.into_iter().map(juror).collect())
    }

    async fn quote(&self, from: Address, action: &Action) -> Result<Quote> {
        let call = calls::call(&self.contracts, from, action)?;
        match self
            .evm
            .estimate(from, call.to, call.value, call.data)
            .await
        {
            Ok(quote) => Ok(quote),
            Err(failure) => Err(self.explained(failure, from, call.value).await),
        }
    }

    async fn submit(&self, from: &Key, action: Action) -> Result<Done> {
        let call = calls::call(&self.contracts, from.address(), &action)?;
        let value = call.value;
        let sent = self.evm.send(from, TxKind::Call(call.to), value, call.data);
        match sent.await {
            Ok(mined) => Ok(Done {
                value: calls::value(&self.contracts, &action, &mined)?,
                receipt: mined.receipt,
            }),
            Err(failure) => Err(self.explained(failure, from.address(), value).await),
        }
    }
}

impl<E: Evm> EvmStaking<E> {
    /// The error for a failed write. Nodes word a lack of money differently; the balance says it best, unless the
    /// transaction may have been sent.
    async fn explained(&self, failure: Failure, from: Address, value: Wei) -> Error {
        if let Failure::Other(error) = &failure
            && error.kind() == ErrorKind::Chain
            && let Ok(balance) = self.evm.balance(from).await
            && balance <= value
        {
            return Error::chain(format!(
                "{from} holds {} CAI and would send {} CAI plus the fee; send it more CAI",
                format_cai(balance),
                format_cai(value)
            ));
        }
        failure.into_error()
    }
}

fn dispute_phase(phase: u8) -> Result<Option<DisputePhase>> {
    Ok(match phase {
        0 => None,
        1 => Some(DisputePhase::Answer),
        2 => Some(DisputePhase::Draw),
        3 => Some(DisputePhase::Commit),
        4 => Some(DisputePhase::Reveal),
        5 => Some(DisputePhase::Due),
        6 => Some(DisputePhase::Closed),
        other => return Err(unknown("phase of a dispute", other)),
    })
}

fn dispute_outcome(outcome: u8) -> Result<Option<DisputeOutcome>> {
    Ok(match outcome {
        0 => None,
        1 => Some(DisputeOutcome::Acquitted),
        2 => Some(DisputeOutcome::Convicted),
        3 => Some(DisputeOutcome::Unproven),
        4 => Some(DisputeOutcome::Undecided),
        other => return Err(unknown("outcome of a dispute", other)),
    })
}

fn unknown(what: &str, number: u8) -> Error {
    Error::chain(format!(
        "the contract names a {what} ({number}) that this version does not know; update Cuckoo"
    ))
}
