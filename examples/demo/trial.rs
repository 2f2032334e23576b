//! What follows a verdict on chain: the coordinator's owner takes the cheater to the dispute court, other miners repeat
//! the task as its jury, and the contract slashes.

use std::time::Duration;

use cuckoo_coordinator::Evidence;
use cuckoo_core::{
    Action, Assignment, B256, Clock as _, DisputeOutcome, Entropy, Error, Juror, Member, NodeId,
    Result, SignedReceipt, SystemClock, U256, Wei, payload_hash, vote_commitment,
};
use cuckoo_miner::TaskContext;

use crate::market::Market;

/// How long a juror may take to repeat a task.
const REPEAT: Duration = Duration::from_secs(60);

/// A dispute from its opening to the slash.
pub(crate) struct Trial {
    pub(crate) dispute: U256,
    pub(crate) outcome: DisputeOutcome,
    /// What the accused signed for.
    pub(crate) claimed: B256,
    /// Each juror and the output that it got.
    pub(crate) votes: Vec<(NodeId, B256)>,
    /// Taken from the accused, in wei.
    pub(crate) slashed: Wei,
    /// What the accused's owner has left in its node, in wei.
    pub(crate) left: Wei,
    /// What a juror of the majority earned, in wei.
    pub(crate) jury_fee: Wei,
}

/// A juror's vote, between commitment and reveal.
struct Ballot<'a> {
    juror: &'a Member,
    vote: B256,
    salt: B256,
}

/// Disputes the receipt that a case is about, and sees it through.
pub(crate) async fn hold(market: &Market, case: &Evidence, entropy: &dyn Entropy) -> Result<Trial> {
    let receipt = accusation(case)?;
    let claimed = receipt.value.output_hash;
    let chain = market.chain.as_ref();
    let terms = chain.court_terms().await?;
    let challenger = &market.host.owner;
    let accused = &market.cheater.owner;
    for side in [challenger, accused] {
        market.lend(side.address(), terms.bond).await?;
    }

    let opening = Action::OpenDispute {
        receipt: Box::new(receipt),
        // Jurors of this market have the task's input from its coordinator; elsewhere this is an address.
        evidence: format!("cuckoo:task/{}", case.task.id),
        bond: terms.bond,
    };
    let dispute = chain.submit(challenger, opening).await?.value;
    // The cheater denies it.
    let answer = Action::AnswerDispute {
        dispute,
        bond: terms.bond,
    };
    chain.submit(accused, answer).await?;
    draw(market, dispute).await?;

    let mut ballots = Vec::new();
    for juror in chain.jurors(dispute).await? {
        ballots.push(Ballot {
            juror: member(market, &juror)?,
            vote: repeat(market, case).await?,
            salt: entropy.word(),
        });
    }
    vote(market, dispute, &ballots).await?;
    let finished = chain
        .submit(challenger, Action::FinishDispute { dispute })
        .await?;
    chain.submit(challenger, Action::WithdrawFromCourt).await?;

    let outcome = chain.dispute(dispute).await?.outcome;
    let left = chain
        .vote_of(market.cheater.node, accused.address())
        .await?;
    Ok(Trial {
        dispute,
        outcome: outcome.ok_or_else(|| Error::internal("the dispute has not ended"))?,
        claimed,
        votes: ballots
            .iter()
            .map(|ballot| (ballot.juror.node, ballot.vote))
            .collect(),
        slashed: finished.value,
        left: left.amount,
        jury_fee: terms.jury_fee,
    })
}

/// What the convicted miner signed.
fn accusation(case: &Evidence) -> Result<SignedReceipt> {
    case.convicted_exhibit()
        .map(|exhibit| exhibit.receipt.clone())
        .ok_or_else(|| Error::internal("a case without what the convicted miner signed"))
}

/// Draws the jury in the first block that may.
async fn draw(market: &Market, dispute: U256) -> Result<()> {
    let chain = market.chain.as_ref();
    let first = chain.dispute(dispute).await?.draw_block;
    while chain.snapshot().await?.block + 1 < first {
        market.next_block().await?;
    }
    chain
        .submit(&market.host.owner, Action::DrawJury { dispute })
        .await?;
    Ok(())
}

fn member<'a>(market: &'a Market, juror: &Juror) -> Result<&'a Member> {
    market
        .members
        .iter()
        .find(|member| member.node == juror.node)
        .ok_or_else(|| Error::internal(format!("{} is no miner of this market", juror.node)))
}

/// Does the disputed task again, as a juror would on its own machine; gives the hash of what comes out.
async fn repeat(market: &Market, case: &Evidence) -> Result<B256> {
    let deadline = SystemClock.now().after(REPEAT);
    let receipt = accusation(case)?.value;
    let assignment = Assignment {
        lease: receipt.lease,
        task: case.task.id,
        coordinator: receipt.coordinator,
        model: case.task.model.clone(),
        model_hash: receipt.model_hash,
        input: case.task.input.clone(),
        input_hash: receipt.input_hash,
        price: Wei::ZERO,
        lease_expires_at: deadline,
        heartbeat_millis: 0,
        deadline,
    };
    let execution = market
        .painter
        .execute(assignment, TaskContext::new(deadline))
        .await?;
    Ok(payload_hash(&execution.output.bytes))
}

/// Every juror commits before any reveals, so that none can copy another's work.
async fn vote(market: &Market, dispute: U256, ballots: &[Ballot<'_>]) -> Result<()> {
    let chain = market.chain.as_ref();
    let contracts = chain.contracts();
    let court = contracts
        .court
        .ok_or_else(|| Error::internal("the demo deploys a court"))?;
    for ballot in ballots {
        let juror = ballot.juror.node;
        let commitment = vote_commitment(
            contracts.market.chain_id,
            court,
            dispute,
            juror,
            ballot.vote,
            ballot.salt,
        );
        let commit = Action::CommitVote {
            dispute,
            juror,
            commitment,
        };
        chain.submit(&ballot.juror.owner, commit).await?;
    }
    for ballot in ballots {
        let reveal = Action::RevealVote {
            dispute,
            juror: ballot.juror.node,
            vote: ballot.vote,
            salt: ballot.salt,
        };
        chain.submit(&ballot.juror.owner, reveal).await?;
    }
    Ok(())
}
