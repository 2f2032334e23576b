//! From an [`Action`] to the contract call that does it, and from the call's logs to what it gave.

use alloy::primitives::{Address, U256};
use alloy::sol_types::{SolCall, SolEvent};
use bytes::Bytes;

use super::abi::court::DisputeCourt;
use super::abi::equivocation::EquivocationVerifier;
use super::abi::faucet::Faucet;
use super::abi::payments::Payments;
use super::abi::staking::Staking;
use super::abi::unpaid_voucher::UnpaidVoucherVerifier;
use super::evm::Mined;
use super::{Action, Contracts, NodeKind, Profile, Registration};
use crate::amount::Wei;
use crate::{Error, NodeId, Receipt, Result, SignedReceipt, SignedVoucher, Voucher};

/// A transaction's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) to: Address,
    /// In wei.
    pub(crate) value: Wei,
    pub(crate) data: Bytes,
}

impl Transaction {
    fn new<C: SolCall>(to: Address, call: C) -> Self {
        Self {
            to,
            value: Wei::ZERO,
            data: call.abi_encode().into(),
        }
    }

    fn with_value(self, value: Wei) -> Self {
        Self { value, ..self }
    }
}

/// The call that does an action for `sender`: one for each variant, so that a new one without a call does not compile.
///
/// # Errors
/// `Invalid` when the market has no such contract.
pub(crate) fn call(contracts: &Contracts, sender: Address, action: &Action) -> Result<Transaction> {
    let staking = contracts.market.staking;
    let payments = contracts.market.payments;
    let value = action.amount();
    let call = match action {
        Action::Transfer { to, .. } => Transaction {
            to: *to,
            value: Wei::ZERO,
            data: Bytes::new(),
        },
        Action::Stake { .. } => Transaction::new(staking, Staking::stakeCall {}),
        Action::Vote { node, amount } => Transaction::new(
            staking,
            Staking::voteCall {
                node: node.0,
                amount: *amount,
            },
        ),
        Action::Unvote { node, shares } => Transaction::new(
            staking,
            Staking::unvoteCall {
                node: node.0,
                shares: *shares,
            },
        ),
        Action::Release { ticket } => {
            Transaction::new(staking, Staking::releaseCall { ticket: *ticket })
        }
        Action::Withdraw { amount } => Transaction::new(
            staking,
            Staking::withdrawCall {
                amount: *amount,
                to: sender,
            },
        ),
        Action::Claim { nodes } => Transaction::new(
            staking,
            Staking::claimManyCall {
                nodes_: numbers(nodes),
                to: sender,
            },
        ),
        Action::Register(registration) => register(staking, registration),
        Action::SetProfile { node, profile } => Transaction::new(
            staking,
            Staking::setProfileCall {
                node: node.0,
                profile: solidity_profile(profile),
            },
        ),
        Action::RotateOperator {
            node,
            operator,
            deadline,
            consent,
        } => Transaction::new(
            staking,
            Staking::rotateOperatorCall {
                node: node.0,
                operator: *operator,
                deadline: U256::from(*deadline),
                consent: consent.as_bytes().to_vec().into(),
            },
        ),
        Action::Exit { node } => Transaction::new(staking, Staking::exitCall { node: node.0 }),
        Action::FundRewards { .. } => Transaction::new(staking, Staking::fundCall {}),
        Action::Reward { node, .. } => {
            Transaction::new(staking, Staking::rewardCall { node: node.0 })
        }
        Action::SyncRewards { nodes } => Transaction::new(
            staking,
            Staking::syncCall {
                nodes_: numbers(nodes),
            },
        ),
        Action::SetRewardRate { per_epoch } => Transaction::new(
            staking,
            Staking::setRewardRateCall {
                perEpoch: *per_epoch,
            },
        ),
        Action::SetVerifier { account, allowed } => {
            role(staking, Role::Verifier, *account, *allowed)
        }
        Action::SetPauser { account, allowed } => role(staking, Role::Pauser, *account, *allowed),
        Action::Pause => Transaction::new(staking, Staking::pauseCall {}),
        Action::Unpause => Transaction::new(staking, Staking::unpauseCall {}),
        Action::Slash(slash) => Transaction::new(
            staking,
            Staking::slashCall {
                node: slash.node.0,
                amount: slash.amount,
                evidence: slash.evidence,
                reporter: slash.reporter,
                wronged: slash.wronged,
            },
        ),
        Action::DepositEscrow { coordinator, .. } => Transaction::new(
            payments,
            Payments::depositCall {
                coordinator: coordinator.0,
            },
        ),
        Action::RequestEscrow {
            coordinator,
            amount,
        } => Transaction::new(
            payments,
            Payments::requestWithdrawalCall {
                coordinator: coordinator.0,
                amount: *amount,
            },
        ),
        Action::WithdrawEscrow { coordinator } => Transaction::new(
            payments,
            Payments::withdrawEscrowCall {
                coordinator: coordinator.0,
                to: sender,
            },
        ),
        Action::Redeem(voucher) => Transaction::new(
            payments,
            Payments::redeemCall {
                voucher: Payments::Voucher::from(&voucher.value),
                signature: voucher_signature(voucher),
            },
        ),
        Action::Collect { miner } => {
            Transaction::new(payments, Payments::collectCall { miner: miner.0 })
        }
        Action::ReportEquivocation { first, second } => Transaction::new(
            contracts.equivocation()?,
            EquivocationVerifier::reportCall {
                first: EquivocationVerifier::Receipt::from(&first.value),
                firstSignature: receipt_signature(first),
                second: EquivocationVerifier::Receipt::from(&second.value),
                secondSignature: receipt_signature(second),
            },
        ),
        Action::DemandUnpaid(voucher) => Transaction::new(
            contracts.unpaid_voucher()?,
            UnpaidVoucherVerifier::demandCall {
                voucher: UnpaidVoucherVerifier::Voucher::from(&voucher.value),
                signature: voucher_signature(voucher),
            },
        ),
        Action::CollectUnpaid(voucher) => Transaction::new(
            contracts.unpaid_voucher()?,
            UnpaidVoucherVerifier::collectCall {
                voucher: UnpaidVoucherVerifier::Voucher::from(&voucher.value),
                signature: voucher_signature(voucher),
            },
        ),
        Action::Drip { to } => Transaction::new(contracts.faucet()?, Faucet::dripCall { to: *to }),
        Action::Enlist { node } => Transaction::new(
            contracts.court()?,
            DisputeCourt::enlistCall { node: node.0 },
        ),
        Action::Delist { node } => Transaction::new(
            contracts.court()?,
            DisputeCourt::delistCall { node: node.0 },
        ),
        Action::RefreshJuror { node } => Transaction::new(
            contracts.court()?,
            DisputeCourt::refreshCall { node: node.0 },
        ),
        Action::OpenDispute {
            receipt, evidence, ..
        } => Transaction::new(
            contracts.court()?,
            DisputeCourt::openCall {
                receipt: DisputeCourt::Receipt::from(&receipt.value),
                signature: receipt_signature(receipt),
                evidence: evidence.clone(),
            },
        ),
        Action::AnswerDispute { dispute, .. } => Transaction::new(
            contracts.court()?,
            DisputeCourt::answerCall { dispute: *dispute },
        ),
        Action::DrawJury { dispute } => Transaction::new(
            contracts.court()?,
            DisputeCourt::drawCall { dispute: *dispute },
        ),
        Action::CommitVote {
            dispute,
            juror,
            commitment,
        } => Transaction::new(
            contracts.court()?,
            DisputeCourt::commitCall {
                dispute: *dispute,
                juror: juror.0,
                commitment: *commitment,
            },
        ),
        Action::RevealVote {
            dispute,
            juror,
            vote,
            salt,
        } => Transaction::new(
            contracts.court()?,
            DisputeCourt::revealCall {
                dispute: *dispute,
                juror: juror.0,
                vote: *vote,
                salt: *salt,
            },
        ),
        Action::FinishDispute { dispute } => Transaction::new(
            contracts.court()?,
            DisputeCourt::finishCall { dispute: *dispute },
        ),
        Action::WithdrawFromCourt => Transaction::new(
            contracts.court()?,
            DisputeCourt::withdrawCall { to: sender },
        ),
    };
    Ok(call.with_value(value))
}

/// What an action gave, from the logs of its transaction.
pub(crate) fn value(contracts: &Contracts, action: &Action, mined: &Mined) -> Result<U256> {
    let staking = contracts.market.staking;
    let payments = contracts.market.payments;
    Ok(match action {
        Action::Unvote { .. } => event::<Staking::Unvoted>(mined, staking)?.ticket,
        Action::Release { .. } => event::<Staking::Released>(mined, staking)?.amount,
        Action::Claim { .. } => events::<Staking::Claimed>(mined, staking)
            .fold(U256::ZERO, |sum, claimed| {
                sum.saturating_add(claimed.amount)
            }),
        Action::Register(_) => U256::from(event::<Staking::Registered>(mined, staking)?.node),
        Action::Slash(_) | Action::ReportEquivocation { .. } => {
            let slashed: Staking::Slashed = event(mined, staking)?;
            slashed.active.saturating_add(slashed.unbonding)
        }
        Action::WithdrawEscrow { .. } => {
            event::<Payments::EscrowWithdrawn>(mined, payments)?.amount
        }
        Action::Redeem(_) => event::<Payments::Redeemed>(mined, payments)?.paid,
        Action::Collect { .. } => event::<Payments::Collected>(mined, payments)?.amount,
        Action::DemandUnpaid(_) => {
            let demanded: UnpaidVoucherVerifier::Demanded =
                event(mined, contracts.unpaid_voucher()?)?;
            U256::from(demanded.collectableAt)
        }
        // None when the escrow sufficed after all.
        Action::CollectUnpaid(_) => events::<Payments::PaidFromBond>(mined, payments)
            .fold(U256::ZERO, |sum, noted| sum.saturating_add(noted.paid)),
        Action::OpenDispute { .. } => {
            event::<DisputeCourt::Opened>(mined, contracts.court()?)?.dispute
        }
        Action::FinishDispute { .. } => events::<DisputeCourt::Punished>(mined, contracts.court()?)
            .fold(U256::ZERO, |sum, punished| {
                sum.saturating_add(punished.taken)
            }),
        Action::WithdrawFromCourt => {
            event::<DisputeCourt::Withdrawn>(mined, contracts.court()?)?.amount
        }
        _ => U256::ZERO,
    })
}

/// The events of this kind that a transaction left in `contract`.
fn events<V: SolEvent>(mined: &Mined, contract: Address) -> impl Iterator<Item = V> {
    mined
        .logs
        .iter()
        .filter(move |log| log.address == contract)
        .filter_map(|log| V::decode_log_data(&log.data).ok())
}

fn event<V: SolEvent>(mined: &Mined, contract: Address) -> Result<V> {
    events(mined, contract).next().ok_or_else(|| {
        Error::chain(format!(
            "transaction {} succeeded without the event `{}`; check the deployment's addresses",
            mined.receipt.hash,
            V::SIGNATURE
        ))
    })
}

fn register(staking: Address, registration: &Registration) -> Transaction {
    let operator = registration.operator;
    let profile = solidity_profile(&registration.profile);
    let commission = registration.commission_bps;
    let deadline = U256::from(registration.deadline);
    let consent = registration.consent.as_bytes().to_vec().into();
    match registration.kind {
        NodeKind::Miner => Transaction::new(
            staking,
            Staking::registerMinerCall {
                operator,
                profile,
                commissionBps: commission,
                deadline,
                consent,
            },
        ),
        NodeKind::Coordinator => Transaction::new(
            staking,
            Staking::registerCoordinatorCall {
                operator,
                profile,
                commissionBps: commission,
                deadline,
                consent,
            },
        ),
    }
}

/// A role of `Staking`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Verifier,
    Pauser,
    Admin,
}

impl Role {
    /// Its id in OpenZeppelin's `AccessControl`.
    fn id(self) -> alloy::primitives::B256 {
        match self {
            Self::Verifier => alloy::primitives::keccak256("VERIFIER_ROLE"),
            Self::Pauser => alloy::primitives::keccak256("PAUSER_ROLE"),
            Self::Admin => alloy::primitives::B256::ZERO,
        }
    }
}

/// Grants or revokes a role.
pub(crate) fn role(staking: Address, role: Role, account: Address, allowed: bool) -> Transaction {
    let role = role.id();
    if allowed {
        Transaction::new(staking, Staking::grantRoleCall { role, account })
    } else {
        Transaction::new(staking, Staking::revokeRoleCall { role, account })
    }
}

fn numbers(nodes: &[NodeId]) -> Vec<u64> {
    nodes.iter().map(|node| node.0).collect()
}

fn solidity_profile(profile: &Profile) -> Staking::Profile {
    Staking::Profile {
        name: profile.name.clone(),
        description: profile.description.clone(),
        endpoint: profile.endpoint.clone(),
    }
}

fn receipt_signature(receipt: &SignedReceipt) -> alloy::primitives::Bytes {
    receipt.signature.as_bytes().to_vec().into()
}

fn voucher_signature(voucher: &SignedVoucher) -> alloy::primitives::Bytes {
    voucher.signature.as_bytes().to_vec().into()
}

/// Each contract's ABI has its own copy of the types that several contracts take.
macro_rules! receipts_of {
    ($($contract:ident),*) => {$(
        impl From<&Receipt> for $contract::Receipt {
            fn from(receipt: &Receipt) -> Self {
                Self {
                    coordinator: receipt.coordinator.0,
                    miner: receipt.miner.0,
                    lease: receipt.lease.word(),
                    task: receipt.task.word(),
                    modelHash: receipt.model_hash,
                    inputHash: receipt.input_hash,
                    outputHash: receipt.output_hash,
                    statesRoot: receipt.states_root,
                    usage: $contract::Usage {
                        inputUnits: receipt.usage.input_units,
                        outputUnits: receipt.usage.output_units,
                        computeMillis: receipt.usage.compute_millis,
                    },
                }
            }
        }
    )*};
}
receipts_of!(EquivocationVerifier, DisputeCourt);

macro_rules! vouchers_of {
    ($($contract:ident),*) => {$(
        impl From<&Voucher> for $contract::Voucher {
            fn from(voucher: &Voucher) -> Self {
                Self {
                    coordinator: voucher.coordinator.0,
                    miner: voucher.miner.0,
                    cumulative: voucher.cumulative,
                }
            }
        }
    )*};
}
vouchers_of!(Payments, UnpaidVoucherVerifier);
