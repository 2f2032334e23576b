//! From the contracts' logs to what the market calls a change.

use alloy::primitives::LogData;
use alloy::sol_types::SolEventInterface as _;

use super::abi::payments::Payments::{self, PaymentsEvents};
use super::abi::staking::Staking::{self, StakingEvents};
use super::evm::MinedLog;
use super::{ChainEvent, Change};
use crate::{Deployment, NodeId};

/// The change that a log tells of; none for accounts' own affairs and for events of later contracts.
pub(crate) fn change(deployment: &Deployment, mined: &MinedLog) -> Option<Change> {
    let event = if mined.log.address == deployment.staking {
        staking(&mined.log.data)
    } else if mined.log.address == deployment.payments {
        payments(&mined.log.data)
    } else {
        None
    };
    event.map(|event| Change {
        block: mined.block,
        event,
    })
}

fn staking(log: &LogData) -> Option<ChainEvent> {
    let node_changed = |node| Some(ChainEvent::NodeChanged(NodeId(node)));
    match StakingEvents::decode_raw_log(log.topics(), &log.data).ok()? {
        StakingEvents::Registered(Staking::Registered { node, .. })
        | StakingEvents::ProfileChanged(Staking::ProfileChanged { node, .. })
        | StakingEvents::OperatorRotated(Staking::OperatorRotated { node, .. })
        | StakingEvents::Exited(Staking::Exited { node }) => node_changed(node),
        StakingEvents::Voted(Staking::Voted { node, .. })
        | StakingEvents::Unvoted(Staking::Unvoted { node, .. }) => {
            Some(ChainEvent::VotesChanged(NodeId(node)))
        }
        StakingEvents::Slashed(slashed) => Some(ChainEvent::Slashed {
            node: NodeId(slashed.node),
            evidence: slashed.evidence,
            taken: slashed.active.saturating_add(slashed.unbonding),
        }),
        _ => None,
    }
}

fn payments(log: &LogData) -> Option<ChainEvent> {
    match PaymentsEvents::decode_raw_log(log.topics(), &log.data).ok()? {
        PaymentsEvents::Deposited(Payments::Deposited { coordinator, .. })
        | PaymentsEvents::WithdrawalRequested(Payments::WithdrawalRequested {
            coordinator, ..
        })
        | PaymentsEvents::EscrowWithdrawn(Payments::EscrowWithdrawn { coordinator, .. }) => {
            Some(ChainEvent::EscrowChanged(NodeId(coordinator)))
        }
        PaymentsEvents::Redeemed(redeemed) => Some(ChainEvent::Redeemed {
            coordinator: NodeId(redeemed.coordinator),
            miner: NodeId(redeemed.miner),
            paid: redeemed.paid,
        }),
        #[allow(unreachable_patterns, reason = "later events are nobody's change yet")]
        _ => None,
    }
}
