//! Slashing by verifiers.

use cuckoo_core::{
    Action, B256, DisputeOutcome, DisputePhase, LeaseId, NodeId, Receipt, Signed, SignedReceipt,
    SignedVoucher, TaskId, U256, Usage, Voucher, cai, payload_hash, vote_commitment,
};

use crate::market::Market;

/// What miner `number`, node `miner`, signs for an output.
fn receipt(
    market: &Market,
    coordinator: NodeId,
    miner: NodeId,
    number: u16,
    output: &str,
) -> SignedReceipt {
    let word = B256::repeat_byte(7);
    let receipt = Receipt {
        coordinator,
        miner,
        lease: LeaseId::from(word),
        task: TaskId::from(word),
        model_hash: payload_hash(b"model"),
        input_hash: payload_hash(b"input"),
        output_hash: payload_hash(output.as_bytes()),
        states_root: B256::ZERO,
        usage: Usage::default(),
    };
    Signed::sign(
        receipt,
        &market.operator(number),
        &market.contracts.deployment(),
    )
}

pub(crate) async fn equivocation_is_slashed_once(market: Market) {
    let chain = &market.contracts;
    let (coordinator, coordinator_owner) = market.coordinator(3).await;
    let (miner, _) = market.miner(1).await;
    let reporter = market.funded(5, cai(1)).await;
    let first = receipt(&market, coordinator, miner, 1, "one");
    let second = receipt(&market, coordinator, miner, 1, "other");
    let report = |first: &SignedReceipt, second: &SignedReceipt| Action::ReportEquivocation {
        first: Box::new(first.clone()),
        second: Box::new(second.clone()),
    };
    let error = chain
        .submit(&reporter, report(&first, &first))
        .await
        .unwrap_err();
    assert!(error.message().contains("SameOutput"), "{error}");
    let forged = receipt(&market, coordinator, miner, 2, "other");
    let error = chain
        .submit(&reporter, report(&first, &forged))
        .await
        .unwrap_err();
    assert!(error.message().contains("InvalidReceiptSigner"), "{error}");

    let done = chain
        .submit(&reporter, report(&first, &second))
        .await
        .unwrap();
    assert_eq!(done.value, cai(20_000));
    assert!(!market.node(miner).await.active);
    let reward = chain.free_stake(reporter.address()).await.unwrap();
    let compensation = chain.free_stake(coordinator_owner.address()).await.unwrap();
    assert_eq!((reward, compensation), (cai(2_000), cai(8_000)));
    let error = chain
        .submit(&reporter, report(&second, &first))
        .await
        .unwrap_err();
    assert!(error.message().contains("EvidenceUsed"), "{error}");
}

pub(crate) async fn a_bond_pays_what_no_escrow_covers(market: Market) {
    let chain = &market.contracts;
    let (coordinator, owner) = market.coordinator(3).await;
    let (miner, miner_owner) = market.miner(1).await;
    chain
        .deposit_escrow(&owner, coordinator, cai(4))
        .await
        .unwrap();
    let voucher = Voucher {
        coordinator,
        miner,
        cumulative: cai(10),
    };
    let voucher = SignedVoucher::sign(voucher, &market.operator(3), &chain.deployment());
    let collect = Action::CollectUnpaid(voucher.clone());
    let error = chain
        .submit(&miner_owner, collect.clone())
        .await
        .unwrap_err();
    assert!(error.message().contains("NotDemanded"), "{error}");
    chain
        .submit(&miner_owner, Action::DemandUnpaid(voucher.clone()))
        .await
        .unwrap();
    let error = chain
        .submit(&miner_owner, collect.clone())
        .await
        .unwrap_err();
    assert!(error.message().contains("NoticeRunning"), "{error}");
    market.advance(market.config.notice_seconds).await;
    let done = chain.submit(&miner_owner, collect).await.unwrap();
    // The escrow paid four; six cost the bond fifteen, since the wronged party gets 40 % of a slash.
    assert_eq!(done.value, cai(6));
    assert_eq!(chain.redeemed(coordinator, miner).await.unwrap(), cai(10));
    assert_eq!(market.node(coordinator).await.owner_vote, cai(1_999_985));
    let error = chain.redeem(&miner_owner, &voucher).await.unwrap_err();
    assert!(error.message().contains("NothingDue"), "{error}");
}

pub(crate) async fn the_court_convicts_by_majority(market: Market) {
    let chain = &market.contracts;
    let (coordinator, _) = market.coordinator(3).await;
    let (accused, accused_owner) = market.miner(1).await;
    let mut jurors = Vec::new();
    for number in 11..=13 {
        jurors.push(market.miner(number).await);
    }
    // A juror is drawn by the weight it has, which its vote gets with the next epoch.
    market.next_epoch().await;
    for (node, owner) in &jurors {
        chain
            .submit(owner, Action::Enlist { node: *node })
            .await
            .unwrap();
    }
    let challenger = market.funded(5, cai(1_000)).await;
    let bond = chain.court_terms().await.unwrap().bond;
    let receipt = receipt(&market, coordinator, accused, 1, "wrong");
    let opened = chain
        .submit(
            &challenger,
            Action::OpenDispute {
                receipt: Box::new(receipt.clone()),
                evidence: "https://example.org/input".into(),
                bond,
            },
        )
        .await
        .unwrap();
    let id = opened.value;
    assert_eq!(id, U256::ONE);
    let dispute = chain.dispute(id).await.unwrap();
    assert_eq!(
        (dispute.phase, dispute.outcome, dispute.accused),
        (DisputePhase::Answer, None, accused)
    );
    assert!(chain.dispute(U256::from(2)).await.is_err());
    chain
        .submit(&accused_owner, Action::AnswerDispute { dispute: id, bond })
        .await
        .unwrap();
    market.next_block().await;
    market.next_block().await;
    chain
        .submit(&challenger, Action::DrawJury { dispute: id })
        .await
        .unwrap();
    assert_eq!(chain.jurors(id).await.unwrap().len(), 3);

    // Two find another output, the third agrees with the accused.
    let court = chain.contracts().court.unwrap();
    let truth = payload_hash(b"right");
    let votes: Vec<_> = jurors
        .iter()
        .zip([truth, truth, receipt.value.output_hash])
        .map(|((node, owner), vote)| (*node, owner.clone(), vote))
        .collect();
    let salt = |node: NodeId| payload_hash(&node.0.to_be_bytes());
    for (node, owner, vote) in &votes {
        let commitment = vote_commitment(
            chain.deployment().chain_id,
            court,
            id,
            *node,
            *vote,
            salt(*node),
        );
        let commit = Action::CommitVote {
            dispute: id,
            juror: *node,
            commitment,
        };
        chain.submit(owner, commit).await.unwrap();
    }
    let error = chain
        .submit(
            &challenger,
            Action::RevealVote {
                dispute: id,
                juror: votes[0].0,
                vote: votes[2].2,
                salt: salt(votes[0].0),
            },
        )
        .await
        .unwrap_err();
    assert!(error.message().contains("WrongReveal"), "{error}");
    for (node, owner, vote) in &votes {
        let reveal = Action::RevealVote {
            dispute: id,
            juror: *node,
            vote: *vote,
            salt: salt(*node),
        };
        chain.submit(owner, reveal).await.unwrap();
    }
    let finished = chain
        .submit(&challenger, Action::FinishDispute { dispute: id })
        .await
        .unwrap();
    assert_eq!(finished.value, chain.court_terms().await.unwrap().penalty);
    let dispute = chain.dispute(id).await.unwrap();
    assert_eq!(
        (dispute.phase, dispute.outcome),
        (DisputePhase::Closed, Some(DisputeOutcome::Convicted))
    );
    assert!(!market.node(accused).await.active);
    assert_eq!(
        chain.free_stake(challenger.address()).await.unwrap(),
        cai(2_000)
    );
    // The loser's bond pays the two jurors of the majority; the rest and the own bond are the winner's.
    let fee = chain.court_terms().await.unwrap().jury_fee;
    let paid = chain
        .submit(&challenger, Action::WithdrawFromCourt)
        .await
        .unwrap();
    assert_eq!(paid.value, bond + bond - fee * U256::from(2));
    let paid = chain
        .submit(&votes[0].1, Action::WithdrawFromCourt)
        .await
        .unwrap();
    assert_eq!(paid.value, fee);
    let error = chain
        .submit(&votes[2].1, Action::WithdrawFromCourt)
        .await
        .unwrap_err();
    assert!(error.message().contains("NothingToWithdraw"), "{error}");
}
