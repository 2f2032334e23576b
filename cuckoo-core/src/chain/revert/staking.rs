//! `Staking`'s refusals.

use super::{REENTRANT, ZERO_ADDRESS, ZERO_AMOUNT, cai, setting, transfer_failed, unauthorised};
use crate::chain::abi::staking::Staking::StakingErrors as E;

/// The sentence for one of its errors.
pub(super) fn explain(error: E) -> String {
    match error {
        E::AccessControlBadConfirmation(_) => {
            "AccessControlBadConfirmation: a role is given up by who has it; send this with that key".into()
        }
        E::AccessControlUnauthorizedAccount(e) => unauthorised(e.account, e.neededRole),
        E::CommissionTooHigh(e) => format!(
            "CommissionTooHigh: a commission of {} hundredths of a percent is more than all; ask for at most 10000",
            e.commissionBps
        ),
        E::ConsentExpired(e) => format!(
            "ConsentExpired: the operator's consent held until {} (seconds since 1970); have the operator sign a new one",
            e.deadline
        ),
        E::EnforcedPause(_) => {
            "EnforcedPause: stakes, votes and registrations are paused; try again later (every way out is open)".into()
        }
        E::ExpectedPause(_) => "ExpectedPause: nothing is paused".into(),
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
        E::OperatorTaken(e) => format!(
            "OperatorTaken: the key {} serves or served node {}; use a fresh operator key",
            e.operator, e.node
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
        E::TooManyNodes(e) => format!(
            "TooManyNodes: {} nodes at once are more than {}; send them in parts",
            e.count, e.limit
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
        E::ZeroAddress(_) => ZERO_ADDRESS.into(),
        E::ZeroAmount(_) => ZERO_AMOUNT.into(),
    }
}
