//! What a contract's refusal means to a person: its custom errors, each as a sentence that says what to do.

use alloy::primitives::{U256, hex};
use alloy::sol_types::{PanicKind, Revert, SolError as _, SolInterface as _};

use super::abi::payments::Payments::PaymentsErrors;
use super::abi::staking::Staking::StakingErrors;
use super::evm::Failure;
use crate::{Error, format_cai};

impl Failure {
    /// The error that a caller sees.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Reverted(data) => Error::chain(explain(&data)),
            Self::Other(error) => error,
        }
    }
}

/// The sentence for a contract's revert data, with the name of the contract's error for those who look it up.
fn explain(data: &[u8]) -> String {
    // Errors that both contracts have mean the same in both.
    if let Ok(error) = StakingErrors::abi_decode(data) {
        return staking(error);
    }
    if let Ok(error) = PaymentsErrors::abi_decode(data) {
        return payments(error);
    }
    if let Ok(revert) = Revert::abi_decode(data) {
        return format!("the contract refused: {}", revert.reason);
    }
    if let Ok(panic) = alloy::sol_types::Panic::abi_decode(data) {
        let kind = PanicKind::from_number(panic.code.saturating_to());
        let kind = kind.map_or_else(|| panic.code.to_string(), |kind| kind.to_string());
        return format!("the contract failed an inner check ({kind}); please report this");
    }
    if data.is_empty() {
        return "the contract refused without a reason; check the deployment's addresses".into();
    }
    format!(
        "the contract refused with an error that this version does not know ({}); update Cuckoo",
        hex::encode_prefixed(&data[..data.len().min(68)])
    )
}

fn cai(amount: U256) -> String {
    format!("{} CAI", format_cai(amount))
}

fn staking(error: StakingErrors) -> String {
    use StakingErrors as E;
    match error {
        E::CommissionTooHigh(e) => format!(
            "CommissionTooHigh: a commission of {} hundredths of a percent is more than all; ask for at most 10000",
            e.commissionBps
        ),
        E::ConsentExpired(e) => format!(
            "ConsentExpired: the operator's consent held until {} (seconds since 1970); have the operator sign a new one",
            e.deadline
        ),
        E::EvidenceUsed(e) => format!(
            "EvidenceUsed: the fault {} was punished already",
            e.evidence
        ),
        E::InsufficientFreeStake(e) => format!(
            "InsufficientFreeStake: {} has {} of free stake and needs {}; stake more, or release what was voted off",
            e.staker,
            cai(e.free),
            cai(e.wanted)
        ),
        E::InsufficientShares(e) => format!(
            "InsufficientShares: {} holds {} shares of node {}, fewer than {}; take at most those",
            e.staker, e.shares, e.node, e.wanted
        ),
        E::InvalidConfig(e) => setting(&e.setting),
        E::InvalidConsent(e) => format!(
            "InvalidConsent: the consent was not signed by the operator {}{}; sign it with the operator's key, for this owner, chain and contract, with the operator's latest nonce",
            e.operator,
            if e.signer.is_zero() {
                String::new()
            } else {
                format!(" (as written it is {}'s)", e.signer)
            }
        ),
        E::NodeExited(e) => format!(
            "NodeExited: node {} left for good; register a new one",
            e.node
        ),
        E::NotNodeOwner(e) => format!(
            "NotNodeOwner: {} does not own node {}; send this with the owner's key",
            e.caller, e.node
        ),
        E::NotTicketStaker(e) => format!(
            "NotTicketStaker: ticket {} is not {}'s; send this with the staker's key",
            e.ticket, e.caller
        ),
        E::NotVerifier(e) => format!(
            "NotVerifier: {} may not slash; the market's admin must allow it first",
            e.caller
        ),
        E::OperatorTaken(e) => format!(
            "OperatorTaken: the key {} serves or served node {}; use a fresh operator key",
            e.operator, e.node
        ),
        E::OwnableInvalidOwner(e) => format!(
            "OwnableInvalidOwner: {} cannot be the admin; name an account that somebody holds the key of",
            e.owner
        ),
        E::OwnableUnauthorizedAccount(e) => format!(
            "OwnableUnauthorizedAccount: {} is not the market's admin; send this with the admin's key",
            e.account
        ),
        E::ProfileTooLong(e) => format!(
            "ProfileTooLong: the profile's {} has {} bytes and may have {}; shorten it",
            e.field, e.length, e.limit
        ),
        E::ReentrancyGuardReentrantCall(_) => REENTRANT.into(),
        E::StillUnbonding(e) => format!(
            "StillUnbonding: ticket {} can be released from {} on (seconds since 1970); try again then",
            e.ticket, e.unlocksAt
        ),
        E::TooMuchStake(e) => format!(
            "TooMuchStake: the contract would hold {}, more than {}; stake less",
            cai(e.balance),
            cai(e.limit)
        ),
        E::TransferFailed(e) => transfer_failed(e.to, e.amount),
        E::UnknownNode(e) => format!(
            "UnknownNode: there is no node {}; look its number up in the list of nodes",
            e.node
        ),
        E::UnknownTicket(e) => format!(
            "UnknownTicket: there is no ticket {}, or it was released already",
            e.ticket
        ),
        E::VoteTooSmall(e) => format!(
            "VoteTooSmall: {} buy no share of node {}; vote more",
            cai(e.amount),
            e.node
        ),
        E::ZeroAddress(_) => ZERO_ADDRESS.into(),
        E::ZeroAmount(_) => ZERO_AMOUNT.into(),
    }
}

fn payments(error: PaymentsErrors) -> String {
    use PaymentsErrors as E;
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
        E::NothingDue(e) => format!(
            "NothingDue: the voucher is for {} in all and {} were paid already; wait for a higher one",
            cai(e.cumulative),
            cai(e.redeemed)
        ),
        E::NothingToClaim(e) => format!("NothingToClaim: no payment waits for {}", e.payee),
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

const REENTRANT: &str =
    "ReentrancyGuardReentrantCall: the contract was called from within its own payment";
const ZERO_ADDRESS: &str = "ZeroAddress: the zero address is nobody's; name an account";
const ZERO_AMOUNT: &str = "ZeroAmount: the amount is zero; give more";

fn setting(name: &str) -> String {
    format!("InvalidConfig: the setting {name} is out of range; see contracts/src for its bounds")
}

fn transfer_failed(to: alloy::primitives::Address, amount: U256) -> String {
    format!(
        "TransferFailed: {to} did not accept {}; pay to an account that does",
        cai(amount)
    )
}

#[cfg(test)]
mod tests {
    use super::super::abi::payments::Payments;
    use super::super::abi::staking::Staking;
    use super::*;

    #[test]
    fn refusals_name_the_error_and_the_way_out() {
        let data = Staking::InsufficientFreeStake {
            staker: alloy::primitives::Address::repeat_byte(1),
            free: crate::cai(1),
            wanted: crate::cai(2),
        }
        .abi_encode();
        let text = explain(&data);
        assert!(text.starts_with("InsufficientFreeStake: 0x0101"), "{text}");
        assert!(
            text.contains("has 1 CAI of free stake and needs 2 CAI"),
            "{text}"
        );

        let data = Payments::EscrowEmpty { coordinator: 3 }.abi_encode();
        assert!(explain(&data).contains("coordinator node 3 has no escrow left"));
    }

    #[test]
    fn strangers_refusals_are_told_apart() {
        assert!(explain(&[]).contains("without a reason"));
        assert!(explain(&[1, 2, 3, 4]).contains("0x01020304"));
        assert!(explain(&Revert::from("no").abi_encode()).ends_with("refused: no"));
        let panic = alloy::sol_types::Panic::from(PanicKind::DivisionByZero);
        assert!(explain(&panic.abi_encode()).contains("inner check"));
        // A hostile endpoint cannot flood a log.
        assert!(explain(&[0xee; 1 << 20]).len() < 300);
    }
}
