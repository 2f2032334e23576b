//! Every write to the market's contracts, as data: so that it can be shown, priced, and sent.

use std::fmt;

use alloy::primitives::{Address, B256, U256};

use super::{NodeKind, Profile, Registration, Slash};
use crate::amount::{Wei, format_cai};
use crate::{NodeId, Signature, SignedReceipt, SignedVoucher};

/// A write. Its `Display` says what it does, for the person who pays for it.
///
/// Where a variant gives something, [`Done::value`](super::Done::value) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Sends CAI to an account.
    Transfer {
        /// Who gets it.
        to: Address,
        /// In wei.
        amount: Wei,
    },

    /// Adds CAI to the sender's free stake.
    Stake {
        /// In wei.
        amount: Wei,
    },
    /// Moves free stake into a node's pool; counts from the next epoch.
    Vote {
        /// The node.
        node: NodeId,
        /// In wei.
        amount: Wei,
    },
    /// Moves shares of a node's pool into unbonding; gives the ticket to release later.
    Unvote {
        /// The node.
        node: NodeId,
        /// How many.
        shares: U256,
    },
    /// After the unbonding period, turns a ticket into free stake; gives its worth, in wei.
    Release {
        /// The ticket.
        ticket: U256,
    },
    /// Pays free stake out to the sender.
    Withdraw {
        /// In wei.
        amount: Wei,
    },
    /// Pays out what the sender's votes for these nodes earned; gives the sum, in wei.
    Claim {
        /// At most 100.
        nodes: Vec<NodeId>,
    },

    /// Registers a node owned by the sender; gives its number.
    Register(Registration),
    /// Replaces what the public is told about a node.
    SetProfile {
        /// The node.
        node: NodeId,
        /// The new profile.
        profile: Profile,
    },
    /// Replaces a node's operator; the old key stays accountable for the unbonding period.
    RotateOperator {
        /// The node.
        node: NodeId,
        /// The new key.
        operator: Address,
        /// Until when `consent` holds, in seconds since the Unix epoch.
        deadline: u64,
        /// The new operator's signature over its consent.
        consent: Signature,
    },
    /// Retires a node for good.
    Exit {
        /// The node.
        node: NodeId,
    },

    /// Adds CAI to the budget of rewards.
    FundRewards {
        /// In wei.
        amount: Wei,
    },
    /// Adds CAI to what one node's stakers earn over the next epoch.
    Reward {
        /// The node.
        node: NodeId,
        /// In wei.
        amount: Wei,
    },
    /// Brings nodes' parts of the budget up to date with their weights.
    SyncRewards {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Sets what all nodes together earn in an epoch. Only the admin.
    SetRewardRate {
        /// In wei.
        per_epoch: Wei,
    },
    /// Allows or forbids an account to slash. Only the admin.
    SetVerifier {
        /// The account or contract.
        account: Address,
        /// Whether it may.
        allowed: bool,
    },
    /// Allows or forbids an account to pause entries. Only the admin.
    SetPauser {
        /// The account.
        account: Address,
        /// Whether it may.
        allowed: bool,
    },
    /// Stops stakes, votes and registrations. Only pausers.
    Pause,
    /// Ends a pause. Only the admin.
    Unpause,
    /// Takes stake from a node at fault; gives what was taken, in wei. Only verifiers.
    Slash(Slash),

    /// Adds CAI to a coordinator's escrow.
    DepositEscrow {
        /// The coordinator.
        coordinator: NodeId,
        /// In wei.
        amount: Wei,
    },
    /// Announces that a part of a coordinator's escrow will leave.
    RequestEscrow {
        /// The coordinator.
        coordinator: NodeId,
        /// In wei.
        amount: Wei,
    },
    /// After the delay, pays the announced part to the sender; gives it, in wei.
    WithdrawEscrow {
        /// The coordinator.
        coordinator: NodeId,
    },
    /// Adds what a voucher owes to the miner's earnings; gives what was paid, in wei.
    Redeem(SignedVoucher),
    /// Pays a miner's earnings to its owner and its stakers; gives the owner's part, in wei.
    Collect {
        /// The miner.
        miner: NodeId,
    },

    /// Has a miner slashed that signed two outputs for one lease; gives what was taken, in wei.
    ReportEquivocation {
        /// One of them.
        first: Box<SignedReceipt>,
        /// The other.
        second: Box<SignedReceipt>,
    },
    /// Demands what a voucher owes and the escrow lacks; gives when the coordinator's time to pay is over, in seconds since
    /// the Unix epoch.
    DemandUnpaid(SignedVoucher),
    /// After the notice, has it paid from the coordinator's bond; gives what was paid from there, in wei.
    CollectUnpaid(SignedVoucher),

    /// Puts a miner on the list that juries are drawn from.
    Enlist {
        /// The miner.
        node: NodeId,
    },
    /// Takes it off again.
    Delist {
        /// The miner.
        node: NodeId,
    },
    /// Sets the weight that a juror is drawn by to its present weight.
    RefreshJuror {
        /// The miner.
        node: NodeId,
    },
    /// Disputes the output of a receipt; gives the dispute's number.
    OpenDispute {
        /// The receipt.
        receipt: Box<SignedReceipt>,
        /// Where jurors find the task's input: an URI of 1 to 256 bytes.
        evidence: String,
        /// The court's bond, in wei.
        bond: Wei,
    },
    /// Stands up for the accused.
    AnswerDispute {
        /// The dispute.
        dispute: U256,
        /// The court's bond, in wei.
        bond: Wei,
    },
    /// Draws a dispute's jury.
    DrawJury {
        /// The dispute.
        dispute: U256,
    },
    /// Commits a juror to its vote.
    CommitVote {
        /// The dispute.
        dispute: U256,
        /// The juror.
        juror: NodeId,
        /// See [`vote_commitment`](super::vote_commitment).
        commitment: B256,
    },
    /// Opens a commitment.
    RevealVote {
        /// The dispute.
        dispute: U256,
        /// The juror.
        juror: NodeId,
        /// The hash of the output that it got.
        vote: B256,
        /// What the commitment was salted with.
        salt: B256,
    },
    /// Ends a dispute that is due; gives what was slashed, in wei, from the convicted miner and from absent jurors.
    FinishDispute {
        /// The dispute.
        dispute: U256,
    },
    /// Pays out what the court owes the sender; gives it, in wei.
    WithdrawFromCourt,

    /// Has the faucet give CAI to an account.
    Drip {
        /// Who gets it.
        to: Address,
    },
}

impl Action {
    /// CAI that goes with it, in wei.
    pub fn amount(&self) -> Wei {
        match self {
            Self::Transfer { amount, .. }
            | Self::Stake { amount }
            | Self::FundRewards { amount }
            | Self::Reward { amount, .. }
            | Self::DepositEscrow { amount, .. }
            | Self::OpenDispute { bond: amount, .. }
            | Self::AnswerDispute { bond: amount, .. } => *amount,
            _ => Wei::ZERO,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cai = |amount: &Wei| format!("{} CAI", format_cai(*amount));
        let list = |nodes: &[NodeId]| {
            let names: Vec<_> = nodes.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        let may = |allowed: &bool| if *allowed { "allow" } else { "forbid" };
        match self {
            Self::Transfer { to, amount } => write!(f, "send {} to {to}", cai(amount)),
            Self::Stake { amount } => write!(f, "add {} to the free stake", cai(amount)),
            Self::Vote { node, amount } => write!(f, "vote {} for {node}", cai(amount)),
            Self::Unvote { node, shares } => {
                write!(f, "take {shares} shares of {node} into unbonding")
            }
            Self::Release { ticket } => write!(f, "turn ticket {ticket} into free stake"),
            Self::Withdraw { amount } => write!(f, "pay out {} of free stake", cai(amount)),
            Self::Claim { nodes } => write!(f, "claim the rewards of {}", list(nodes)),
            Self::Register(registration) => write!(
                f,
                "register a {} with operator {}",
                match registration.kind {
                    NodeKind::Miner => "miner",
                    NodeKind::Coordinator => "coordinator",
                },
                registration.operator
            ),
            Self::SetProfile { node, profile } => {
                write!(f, "change the profile of {node} to `{}`", profile.name)
            }
            Self::RotateOperator { node, operator, .. } => {
                write!(f, "make {operator} the operator of {node}")
            }
            Self::Exit { node } => write!(f, "retire {node} for good"),
            Self::FundRewards { amount } => {
                write!(f, "add {} to the budget of rewards", cai(amount))
            }
            Self::Reward { node, amount } => write!(f, "give {} to {node}'s stakers", cai(amount)),
            Self::SyncRewards { nodes } => {
                write!(f, "bring the rewards of {} up to date", list(nodes))
            }
            Self::SetRewardRate { per_epoch } => {
                write!(f, "set rewards to {} an epoch", cai(per_epoch))
            }
            Self::SetVerifier { account, allowed } => {
                write!(f, "{} {account} to slash", may(allowed))
            }
            Self::SetPauser { account, allowed } => {
                write!(f, "{} {account} to pause entries", may(allowed))
            }
            Self::Pause => f.write_str("pause stakes, votes and registrations"),
            Self::Unpause => f.write_str("end the pause"),
            Self::Slash(slash) => write!(f, "slash {} by {}", slash.node, cai(&slash.amount)),
            Self::DepositEscrow {
                coordinator,
                amount,
            } => write!(f, "add {} to the escrow of {coordinator}", cai(amount)),
            Self::RequestEscrow {
                coordinator,
                amount,
            } => write!(
                f,
                "announce that {} will leave the escrow of {coordinator}",
                cai(amount)
            ),
            Self::WithdrawEscrow { coordinator } => {
                write!(f, "pay out what was announced of {coordinator}'s escrow")
            }
            Self::Redeem(voucher) => write!(
                f,
                "redeem the voucher of {} for {}, over {} in all",
                voucher.value.coordinator,
                voucher.value.miner,
                cai(&voucher.value.cumulative)
            ),
            Self::Collect { miner } => write!(f, "pay out the earnings of {miner}"),
            Self::ReportEquivocation { first, .. } => write!(
                f,
                "report that {} signed two outputs for lease {}",
                first.value.miner, first.value.lease
            ),
            Self::DemandUnpaid(voucher) => write!(
                f,
                "demand what {} owes {}",
                voucher.value.coordinator, voucher.value.miner
            ),
            Self::CollectUnpaid(voucher) => write!(
                f,
                "have {} paid from the bond of {}",
                voucher.value.miner, voucher.value.coordinator
            ),
            Self::Enlist { node } => write!(f, "put {node} on the list of jurors"),
            Self::Delist { node } => write!(f, "take {node} off the list of jurors"),
            Self::RefreshJuror { node } => write!(f, "bring the weight of juror {node} up to date"),
            Self::OpenDispute { receipt, bond, .. } => write!(
                f,
                "dispute the output of {} for task {}, with a bond of {}",
                receipt.value.miner,
                receipt.value.task,
                cai(bond)
            ),
            Self::AnswerDispute { dispute, bond } => {
                write!(f, "answer dispute {dispute}, with a bond of {}", cai(bond))
            }
            Self::DrawJury { dispute } => write!(f, "draw the jury of dispute {dispute}"),
            Self::CommitVote { dispute, juror, .. } => {
                write!(f, "commit {juror} to its vote in dispute {dispute}")
            }
            Self::RevealVote { dispute, juror, .. } => {
                write!(f, "reveal the vote of {juror} in dispute {dispute}")
            }
            Self::FinishDispute { dispute } => write!(f, "finish dispute {dispute}"),
            Self::WithdrawFromCourt => f.write_str("pay out what the court owes"),
            Self::Drip { to } => write!(f, "have the faucet give CAI to {to}"),
        }
    }
}
