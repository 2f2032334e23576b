//! `Payments`' refusals.

use super::{REENTRANT, ZERO_ADDRESS, ZERO_AMOUNT, cai, nothing_due, setting, transfer_failed};
use crate::chain::abi::payments::Payments::PaymentsErrors as E;

/// The sentence for one of its errors.
pub(super) fn explain(error: E) -> String {
    match error {
        E::EscrowEmpty(e) => format!(
            "EscrowEmpty: coordinator node {} has no escrow left; keep the voucher and redeem it after its next deposit",
            e.coordinator
        ),
        E::InsufficientEscrow(e) => format!(
            "InsufficientEscrow: coordinator node {} has {} in escrow and {} were asked for; ask for less",
            e.coordinator,
            cai(e.escrow),
            cai(e.wanted)
        ),
        E::InvalidConfig(e) => setting(&e.setting),
        E::InvalidVoucherSigner(e) => format!(
            "InvalidVoucherSigner: the voucher's signature is {}'s, who {}; ask the coordinator for a voucher signed by its operator",
            e.signer,
            if e.node == 0 {
                "answers for no node".to_owned()
            } else {
                format!("answers for node {}", e.node)
            }
        ),
        E::NoWithdrawalRequested(e) => format!(
            "NoWithdrawalRequested: no withdrawal of coordinator node {}'s escrow was announced; request it first",
            e.coordinator
        ),
        E::NotCoordinator(e) => format!(
            "NotCoordinator: node {} is no coordinator; name one that is",
            e.node
        ),
        E::NotCoordinatorOwner(e) => format!(
            "NotCoordinatorOwner: {} does not own coordinator node {}; send this with the owner's key",
            e.caller, e.coordinator
        ),
        E::NotMiner(e) => format!(
            "NotMiner: the voucher names node {}, which is no miner; ask the coordinator for a correct one",
            e.node
        ),
        E::NotMinerOwner(e) => format!(
            "NotMinerOwner: {} does not own miner node {}; send this with the owner's key",
            e.caller, e.miner
        ),
        E::NotVerifier(e) => format!(
            "NotVerifier: {} is no verifier; the market's admin must allow it first",
            e.caller
        ),
        E::NothingDue(e) => nothing_due(e.cumulative, e.redeemed),
        E::NothingToCollect(e) => format!(
            "NothingToCollect: miner node {} has no earnings; redeem a voucher first",
            e.miner
        ),
        E::ReentrancyGuardReentrantCall(_) => REENTRANT.into(),
        E::SafeCastOverflowedUintDowncast(e) => format!(
            "SafeCastOverflowedUintDowncast: the amount {} does not fit into {} bits; send less",
            e.value, e.bits
        ),
        E::TransferFailed(e) => transfer_failed(e.to, e.amount),
        E::WithdrawalLocked(e) => format!(
            "WithdrawalLocked: coordinator node {}'s escrow may leave from {} on (seconds since 1970); try again then",
            e.coordinator, e.unlocksAt
        ),
        E::ZeroAddress(_) => ZERO_ADDRESS.into(),
        E::ZeroAmount(_) => ZERO_AMOUNT.into(),
    }
}
