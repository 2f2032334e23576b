//! `DisputeCourt`'s refusals.

use super::{REENTRANT, ZERO_ADDRESS, cai, receipt_signer, setting, transfer_failed};
use crate::chain::abi::court::DisputeCourt::DisputeCourtErrors as E;

/// The sentence for one of its errors.
pub(super) fn explain(error: E) -> String {
    match error {
        E::AlreadyCommitted(e) => format!(
            "AlreadyCommitted: juror {} has committed in dispute {}; a vote is cast once",
            e.juror, e.dispute
        ),
        E::AlreadyEnlisted(e) => format!("AlreadyEnlisted: node {} is a juror already", e.node),
        E::AlreadyJudged(e) => format!(
            "AlreadyJudged: dispute {} decided about this receipt; it cannot be opened again",
            e.dispute
        ),
        E::AlreadyPunished(e) => format!(
            "AlreadyPunished: receipt {} was punished already",
            e.receipt
        ),
        E::AlreadyRevealed(e) => format!(
            "AlreadyRevealed: juror {} has revealed in dispute {}",
            e.juror, e.dispute
        ),
        E::EmptyCommitment(_) => "EmptyCommitment: commit to a vote and a salt".into(),
        E::InDispute(e) => format!(
            "InDispute: dispute {} is about this receipt; wait for its end",
            e.dispute
        ),
        E::InvalidConfig(e) => setting(&e.setting),
        E::InvalidReceiptSigner(e) => receipt_signer(e.signer, e.node),
        E::InvalidURI(e) => format!(
            "InvalidURI: the place of the evidence has {} bytes and may have 1 to {}",
            e.length, e.limit
        ),
        E::NotActiveMiner(e) => format!(
            "NotActiveMiner: node {} is no active miner; only those are jurors",
            e.node
        ),
        E::NotCommitted(e) => format!(
            "NotCommitted: juror {} committed to nothing in dispute {}",
            e.juror, e.dispute
        ),
        E::NotCoordinator(e) => format!(
            "NotCoordinator: the receipt names node {} as its coordinator, which is none",
            e.node
        ),
        E::NotEnlisted(e) => format!("NotEnlisted: node {} is no juror; enlist it first", e.node),
        E::NotJuror(e) => format!(
            "NotJuror: node {} was not drawn for dispute {}",
            e.node, e.dispute
        ),
        E::NotKeeper(e) => format!(
            "NotKeeper: {} is neither owner nor operator of node {}; send this with one of their keys",
            e.caller, e.node
        ),
        E::NothingToWithdraw(e) => {
            format!("NothingToWithdraw: the court owes {} nothing", e.account)
        }
        E::OutOfGas(_) => "OutOfGas: a slash needs more gas; send this with a higher limit".into(),
        E::ReentrancyGuardReentrantCall(_) => REENTRANT.into(),
        E::TooEarly(e) => format!(
            "TooEarly: the jury of dispute {} can be drawn from block {} on",
            e.dispute, e.drawBlock
        ),
        E::TransferFailed(e) => transfer_failed(e.to, e.amount),
        E::WrongBond(e) => format!(
            "WrongBond: {} were sent and the bond is {}; send exactly that",
            cai(e.sent),
            cai(e.bond)
        ),
        E::WrongPhase(e) => format!(
            "WrongPhase: dispute {} is in the phase `{}`, this needs `{}`; look at its deadlines",
            e.dispute,
            phase(e.phase),
            phase(e.needed)
        ),
        E::WrongReveal(e) => format!(
            "WrongReveal: vote and salt are not what juror {} committed to in dispute {}",
            e.juror, e.dispute
        ),
        E::ZeroAddress(_) => ZERO_ADDRESS.into(),
    }
}

fn phase(number: u8) -> &'static str {
    [
        "none", "answer", "draw", "commit", "reveal", "due", "closed",
    ]
    .get(usize::from(number))
    .unwrap_or(&"unknown")
}
