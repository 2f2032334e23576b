//! The market's contracts on any chain that executes them: encoding, decoding, paging and errors, once.

mod registry;

use std::collections::BTreeSet;

use alloy::primitives::{Address, TxKind, U256};
use alloy::sol_types::{SolCall, SolEvent};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};

use super::abi::payments::Payments;
use super::abi::staking::Staking;
use super::evm::{Evm, Failure, Mined};
use super::learned::Learned;
use super::{
    Change, Escrow, NodeKind, Profile, Registration, Slash, Snapshot, StakingContract, TxReceipt,
    Vote, events,
};
use crate::amount::Wei;
use crate::{Deployment, Error, Key, NodeId, Result, Signature, SignedVoucher, format_cai};

/// The contracts of one deployment on the chain `E`.
#[derive(Debug)]
pub(crate) struct EvmStaking<E> {
    evm: E,
    deployment: Deployment,
    page_size: Learned,
}

impl<E: Evm> EvmStaking<E> {
    /// Access to contracts that exist already; checks that they do and belong together.
    pub(crate) async fn attach(evm: E, deployment: Deployment) -> Result<Self> {
        if evm.chain_id() != deployment.chain_id {
            return Err(Error::invalid(format!(
                "wrong chain: the endpoint says {}, the deployment says {}; correct one of them",
                evm.chain_id(),
                deployment.chain_id
            )));
        }
        let contracts = Self {
            evm,
            deployment,
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
        self.read(None, self.deployment.staking, call).await
    }

    async fn payments<C: SolCall>(&self, call: C) -> Result<C::Return> {
        self.read(None, self.deployment.payments, call).await
    }

    async fn write<C: SolCall>(
        &self,
        from: &Key,
        contract: Address,
        value: Wei,
        call: C,
    ) -> Result<Mined> {
        self.send(from, contract, value, call.abi_encode().into())
            .await
    }

    async fn send(&self, from: &Key, to: Address, value: Wei, data: Bytes) -> Result<Mined> {
        let failure = match self.evm.send(from, TxKind::Call(to), value, data).await {
            Ok(mined) => return Ok(mined),
            Err(failure) => failure,
        };
        // Nodes word this differently; the balance says it best.
        if let Failure::Other(_) = failure
            && let Ok(balance) = self.evm.balance(from.address()).await
            && balance <= value
        {
            return Err(Error::chain(format!(
                "{} holds {} CAI and would send {} CAI plus the fee; send it more CAI",
                from.address(),
                format_cai(balance),
                format_cai(value)
            )));
        }
        Err(failure.into_error())
    }

    /// The event of this kind that a transaction left in `contract`.
    fn event<V: SolEvent>(mined: &Mined, contract: Address) -> Result<V> {
        mined
            .logs
            .iter()
            .filter(|log| log.address == contract)
            .find_map(|log| V::decode_log_data(&log.data).ok())
            .ok_or_else(|| {
                Error::chain(format!(
                    "transaction {} succeeded without the event `{}`; check the deployment's addresses",
                    mined.receipt.hash,
                    V::SIGNATURE
                ))
            })
    }
}

fn solidity(profile: Profile) -> Staking::Profile {
    Staking::Profile {
        name: profile.name,
        description: profile.description,
        endpoint: profile.endpoint,
    }
}

#[async_trait]
impl<E: Evm> StakingContract for EvmStaking<E> {
    fn deployment(&self) -> Deployment {
        self.deployment
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        self.read_nodes(&Snapshot::default(), &BTreeSet::new())
            .await
    }

    async fn refresh(&self, known: &Snapshot, changed: &BTreeSet<NodeId>) -> Result<Snapshot> {
        self.read_nodes(known, changed).await
    }

    async fn changes(&self) -> Result<BoxStream<'static, Result<Change>>> {
        let deployment = self.deployment;
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

    async fn transfer(&self, from: &Key, to: Address, amount: Wei) -> Result<TxReceipt> {
        Ok(self.send(from, to, amount, Bytes::new()).await?.receipt)
    }

    async fn stake(&self, staker: &Key, amount: Wei) -> Result<TxReceipt> {
        let call = Staking::stakeCall {};
        let mined = self.write(staker, self.deployment.staking, amount, call);
        Ok(mined.await?.receipt)
    }

    async fn vote(&self, staker: &Key, node: NodeId, amount: Wei) -> Result<TxReceipt> {
        let call = Staking::voteCall {
            node: node.0,
            amount,
        };
        let mined = self.write(staker, self.deployment.staking, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn unvote(&self, staker: &Key, node: NodeId, shares: U256) -> Result<(U256, TxReceipt)> {
        let staking = self.deployment.staking;
        let call = Staking::unvoteCall {
            node: node.0,
            shares,
        };
        let mined = self.write(staker, staking, U256::ZERO, call).await?;
        let event: Staking::Unvoted = Self::event(&mined, staking)?;
        Ok((event.ticket, mined.receipt))
    }

    async fn release(&self, staker: &Key, ticket: U256) -> Result<TxReceipt> {
        let call = Staking::releaseCall { ticket };
        let mined = self.write(staker, self.deployment.staking, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn withdraw(&self, staker: &Key, amount: Wei) -> Result<TxReceipt> {
        let call = Staking::withdrawCall {
            amount,
            to: staker.address(),
        };
        let mined = self.write(staker, self.deployment.staking, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn register(
        &self,
        owner: &Key,
        registration: Registration,
    ) -> Result<(NodeId, TxReceipt)> {
        let staking = self.deployment.staking;
        let operator = registration.operator;
        let profile = solidity(registration.profile);
        let commission = registration.commission_bps;
        let deadline = U256::from(registration.deadline);
        let consent = registration.consent.as_bytes().to_vec().into();
        let data = match registration.kind {
            NodeKind::Miner => Staking::registerMinerCall {
                operator,
                profile,
                commissionBps: commission,
                deadline,
                consent,
            }
            .abi_encode(),
            NodeKind::Coordinator => Staking::registerCoordinatorCall {
                operator,
                profile,
                commissionBps: commission,
                deadline,
                consent,
            }
            .abi_encode(),
        };
        let mined = self.send(owner, staking, U256::ZERO, data.into()).await?;
        let event: Staking::Registered = Self::event(&mined, staking)?;
        Ok((NodeId(event.node), mined.receipt))
    }

    async fn set_profile(&self, owner: &Key, node: NodeId, profile: Profile) -> Result<TxReceipt> {
        let call = Staking::setProfileCall {
            node: node.0,
            profile: solidity(profile),
        };
        let mined = self.write(owner, self.deployment.staking, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn rotate_operator(
        &self,
        owner: &Key,
        node: NodeId,
        operator: Address,
        deadline: u64,
        consent: Signature,
    ) -> Result<TxReceipt> {
        let call = Staking::rotateOperatorCall {
            node: node.0,
            operator,
            deadline: U256::from(deadline),
            consent: consent.as_bytes().to_vec().into(),
        };
        let mined = self.write(owner, self.deployment.staking, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn exit(&self, owner: &Key, node: NodeId) -> Result<TxReceipt> {
        let call = Staking::exitCall { node: node.0 };
        let mined = self.write(owner, self.deployment.staking, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn set_verifier(
        &self,
        admin: &Key,
        verifier: Address,
        allowed: bool,
    ) -> Result<TxReceipt> {
        let call = Staking::setVerifierCall { verifier, allowed };
        let mined = self.write(admin, self.deployment.staking, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn slash(&self, verifier: &Key, slash: Slash) -> Result<(Wei, TxReceipt)> {
        let staking = self.deployment.staking;
        let call = Staking::slashCall {
            node: slash.node.0,
            amount: slash.amount,
            evidence: slash.evidence,
            reporter: slash.reporter,
            wronged: slash.wronged,
        };
        let mined = self.write(verifier, staking, U256::ZERO, call).await?;
        let event: Staking::Slashed = Self::event(&mined, staking)?;
        Ok((event.active.saturating_add(event.unbonding), mined.receipt))
    }

    async fn deposit_escrow(
        &self,
        from: &Key,
        coordinator: NodeId,
        amount: Wei,
    ) -> Result<TxReceipt> {
        let call = Payments::depositCall {
            coordinator: coordinator.0,
        };
        let mined = self.write(from, self.deployment.payments, amount, call);
        Ok(mined.await?.receipt)
    }

    async fn request_escrow(
        &self,
        owner: &Key,
        coordinator: NodeId,
        amount: Wei,
    ) -> Result<TxReceipt> {
        let call = Payments::requestWithdrawalCall {
            coordinator: coordinator.0,
            amount,
        };
        let mined = self.write(owner, self.deployment.payments, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn withdraw_escrow(&self, owner: &Key, coordinator: NodeId) -> Result<TxReceipt> {
        let call = Payments::withdrawEscrowCall {
            coordinator: coordinator.0,
        };
        let mined = self.write(owner, self.deployment.payments, U256::ZERO, call);
        Ok(mined.await?.receipt)
    }

    async fn redeem(&self, sender: &Key, voucher: &SignedVoucher) -> Result<(Wei, TxReceipt)> {
        let payments = self.deployment.payments;
        let call = Payments::redeemCall {
            voucher: Payments::Voucher {
                coordinator: voucher.value.coordinator.0,
                miner: voucher.value.miner.0,
                cumulative: voucher.value.cumulative,
            },
            signature: voucher.signature.as_bytes().to_vec().into(),
        };
        let mined = self.write(sender, payments, U256::ZERO, call).await?;
        let event: Payments::Redeemed = Self::event(&mined, payments)?;
        Ok((event.paid, mined.receipt))
    }
}
