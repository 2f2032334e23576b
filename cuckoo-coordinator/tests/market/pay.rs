//! Completions that do not hold, duplicates, late ones; nothing is paid twice.

use cuckoo_core::{B256, Completion, ErrorKind, LeaseId, Output, Signed, Wei, cai};

use crate::fixture::{Setup, kind, price, settle};

#[tokio::test]
async fn lies_are_refused_and_the_honest_completion_is_still_taken() {
    let market = Setup::with_miners(2)
        .adjust(|settings| settings.max_output_bytes = 16)
        .open()
        .await;
    let (handle, assignment) = market.assigned(0).await;
    let (miner, other) = (&market.miners[0], &market.miners[1]);
    let honest = miner.receipt(&assignment, b"out");
    let complete = |completion: Completion| miner.protocol.complete(&miner.token, completion);

    let by_another_key = other.completion(honest.clone(), b"out");
    assert_eq!(kind(complete(by_another_key).await), ErrorKind::Unverified);
    let other_output = miner.completion(honest.clone(), b"other");
    assert_eq!(kind(complete(other_output).await), ErrorKind::Unverified);
    let mut other_model = honest.clone();
    other_model.model_hash = B256::ZERO;
    let other_model = miner.completion(other_model, b"out");
    assert_eq!(kind(complete(other_model).await), ErrorKind::Unverified);
    let mut elsewhere = miner.deployment;
    elsewhere.chain_id += 1;
    let output = Output {
        media_type: "image/png".into(),
        bytes: b"out".to_vec().into(),
    };
    let receipt = Signed::sign(honest.clone(), &miner.member.operator, &elsewhere);
    let other_chain = Completion { receipt, output };
    assert_eq!(kind(complete(other_chain).await), ErrorKind::Unverified);
    let oversized = miner.completion(miner.receipt(&assignment, &[0; 17]), &[0; 17]);
    assert_eq!(kind(complete(oversized).await), ErrorKind::Invalid);
    let mut unknown = honest.clone();
    unknown.lease = LeaseId::from(B256::ZERO);
    assert_eq!(
        kind(complete(miner.completion(unknown, b"out")).await),
        ErrorKind::Conflict
    );
    // Another miner cannot hand in for this lease.
    let stolen = other.complete(&assignment, b"out").await;
    assert_eq!(kind(stolen), ErrorKind::Conflict);

    complete(miner.completion(honest, b"out")).await.unwrap();
    handle.result().await.unwrap();
    assert_eq!(market.status(0).owed, price());
}

#[tokio::test]
async fn the_same_completion_again_gets_the_same_answer_and_no_second_pay() {
    let market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    let (first, again) = tokio::join!(
        miner.complete(&assignment, b"out"),
        miner.complete(&assignment, b"out")
    );
    assert_eq!(first.as_ref().unwrap(), again.as_ref().unwrap());
    let later = miner.complete(&assignment, b"out").await.unwrap();
    assert_eq!(&later, first.as_ref().unwrap());
    assert_eq!(
        kind(miner.complete(&assignment, b"another").await),
        ErrorKind::Conflict
    );
    handle.result().await.unwrap();
    assert_eq!(market.status(0).owed, price());
    assert_eq!(market.status(0).completed, 1);
}

#[tokio::test]
async fn a_completion_whose_future_is_dropped_still_counts() {
    let market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    {
        let completing = miner.complete(&assignment, b"out");
        tokio::pin!(completing);
        assert!(futures::poll!(&mut completing).is_pending());
    }
    handle.result().await.unwrap();
    let again = miner.complete(&assignment, b"out").await.unwrap();
    assert_eq!(again.voucher.unwrap().value.cumulative, price());
}

#[tokio::test]
async fn large_outputs_are_taken_too() {
    let market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    let output = vec![7; 3 << 20];
    market.miners[0]
        .complete(&assignment, &output)
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap().output.bytes.len(), 3 << 20);
}

#[tokio::test]
async fn vouchers_grow_and_the_chain_pays_the_latest() {
    let market = Setup::with_miners(1).open().await;
    for _ in 0..3 {
        let (handle, assignment) = market.assigned(0).await;
        market.miners[0]
            .complete(&assignment, b"out")
            .await
            .unwrap();
        handle.result().await.unwrap();
    }
    let voucher = market.coordinator.vouchers().remove(0);
    assert_eq!(voucher.value.cumulative, price() * Wei::from(3));
    let owner = &market.miners[0].member.owner;
    let before = market.chain.balance(owner.address()).await.unwrap();
    let (paid, _) = market
        .chain
        .redeem(&market.me.owner, &voucher)
        .await
        .unwrap();
    assert_eq!(paid, price() * Wei::from(3));
    let (collected, _) = market
        .chain
        .collect(&market.me.owner, voucher.value.miner)
        .await
        .unwrap();
    let after = market.chain.balance(owner.address()).await.unwrap();
    // A tenth is for those who vote for the miner.
    assert_eq!(collected, cai(6) * Wei::from(9) / Wei::from(10));
    assert_eq!(after - before, collected);
    settle().await;
}
