//! Refusals of the small verifiers, the faucet and the timelock.

use super::{
    REENTRANT, ZERO_ADDRESS, cai, not_a, nothing_due, receipt_signer, setting, transfer_failed,
    unauthorised,
};
use crate::chain::abi::equivocation::EquivocationVerifier::EquivocationVerifierErrors;
use crate::chain::abi::faucet::Faucet::FaucetErrors;
use crate::chain::abi::timelock::TimelockController::TimelockControllerErrors;
use crate::chain::abi::unpaid_voucher::UnpaidVoucherVerifier::UnpaidVoucherVerifierErrors;

/// The sentence for one of `EquivocationVerifier`'s errors.
pub(super) fn equivocation(error: EquivocationVerifierErrors) -> String {
    use EquivocationVerifierErrors as E;
    let differ = |what: &str| {
        format!("the two receipts name different {what}; equivocation is two outputs for one lease")
    };
    match error {
        E::DifferentCoordinators(_) => format!("DifferentCoordinators: {}", differ("coordinators")),
        E::DifferentLeases(_) => format!("DifferentLeases: {}", differ("leases")),
        E::DifferentMiners(_) => format!("DifferentMiners: {}", differ("miners")),
        E::DifferentTasks(_) => format!("DifferentTasks: {}", differ("tasks")),
        E::InvalidConfig(e) => setting(&e.setting),
        E::InvalidReceiptSigner(e) => receipt_signer(e.signer, e.node),
        E::NotCoordinator(e) => not_a("NotCoordinator", e.node, "coordinator"),
        E::NotMiner(e) => not_a("NotMiner", e.node, "miner"),
        E::NothingToSlash(e) => format!(
            "NothingToSlash: miner node {} has no stake left to take",
            e.miner
        ),
        E::SameOutput(e) => format!(
            "SameOutput: both receipts are for output {}; that is no fault",
            e.outputHash
        ),
    }
}

/// The sentence for one of `UnpaidVoucherVerifier`'s errors.
pub(super) fn unpaid_voucher(error: UnpaidVoucherVerifierErrors) -> String {
    use UnpaidVoucherVerifierErrors as E;
    match error {
        E::AlreadyDemanded(e) => format!(
            "AlreadyDemanded: this voucher was demanded; collect it from {} on (seconds since 1970)",
            e.collectableAt
        ),
        E::BondExhausted(e) => format!(
            "BondExhausted: the bond of coordinator node {} cannot pay any of the {} that are due",
            e.coordinator,
            cai(e.due)
        ),
        E::CoveredByEscrow(e) => format!(
            "CoveredByEscrow: {} are due and the escrow holds {}; redeem the voucher instead",
            cai(e.due),
            cai(e.escrow)
        ),
        E::InvalidConfig(e) => setting(&e.setting),
        E::NotCoordinator(e) => not_a("NotCoordinator", e.node, "coordinator"),
        E::NotDemanded(_) => "NotDemanded: this voucher was not demanded; do that first".into(),
        E::NotMiner(e) => not_a("NotMiner", e.node, "miner"),
        E::NothingDue(e) => nothing_due(e.cumulative, e.redeemed),
        E::NoticeRunning(e) => format!(
            "NoticeRunning: the coordinator has until {} (seconds since 1970) to pay; collect then",
            e.collectableAt
        ),
    }
}

/// The sentence for one of `Faucet`'s errors.
pub(super) fn faucet(error: FaucetErrors) -> String {
    use FaucetErrors as E;
    match error {
        E::CoolingDown(e) => format!(
            "CoolingDown: {} had its part and gets the next from {} on (seconds since 1970)",
            e.account, e.readyAt
        ),
        E::DayCapReached(e) => format!(
            "DayCapReached: {} are left of what the faucet gives today; try again from {} on (seconds since 1970)",
            cai(e.left),
            e.nextDayAt
        ),
        E::FaucetEmpty(e) => format!(
            "FaucetEmpty: the faucet holds {} and gives {}; ask its owner to fill it",
            cai(e.balance),
            cai(e.wanted)
        ),
        E::HoldsEnough(e) => format!(
            "HoldsEnough: {} holds {}, more than the {} up to which the faucet gives",
            e.to,
            cai(e.balance),
            cai(e.cap)
        ),
        E::InvalidConfig(e) => setting(&e.setting),
        E::OwnableInvalidOwner(e) => {
            format!("OwnableInvalidOwner: {} cannot own the faucet", e.owner)
        }
        E::OwnableUnauthorizedAccount(e) => format!(
            "OwnableUnauthorizedAccount: {} does not own the faucet",
            e.account
        ),
        E::ReentrancyGuardReentrantCall(_) => REENTRANT.into(),
        E::TransferFailed(e) => transfer_failed(e.to, e.amount),
        E::ZeroAddress(_) => ZERO_ADDRESS.into(),
    }
}

/// The sentence for one of `TimelockController`'s errors.
pub(super) fn timelock(error: TimelockControllerErrors) -> String {
    use TimelockControllerErrors as E;
    match error {
        E::AccessControlBadConfirmation(_) => {
            "AccessControlBadConfirmation: a role is given up by who has it; send this with that key".into()
        }
        E::AccessControlUnauthorizedAccount(e) => unauthorised(e.account, e.neededRole),
        E::FailedCall(_) => "FailedCall: what the timelock was to do was refused".into(),
        E::TimelockInsufficientDelay(e) => format!(
            "TimelockInsufficientDelay: {} s are shorter than the least delay of {} s",
            e.delay, e.minDelay
        ),
        E::TimelockInvalidOperationLength(_) => {
            "TimelockInvalidOperationLength: targets, values and payloads differ in number".into()
        }
        E::TimelockUnauthorizedCaller(e) => format!(
            "TimelockUnauthorizedCaller: {} may not change the timelock; schedule it",
            e.caller
        ),
        E::TimelockUnexecutedPredecessor(e) => format!(
            "TimelockUnexecutedPredecessor: {} must be executed first",
            e.predecessorId
        ),
        E::TimelockUnexpectedOperationState(e) => format!(
            "TimelockUnexpectedOperationState: operation {} is not ready; look at its time",
            e.operationId
        ),
    }
}
