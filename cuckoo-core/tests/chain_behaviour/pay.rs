//! Escrow and vouchers.

use cuckoo_core::{Action, ErrorKind, SignedVoucher, U256, Voucher, cai};

use crate::market::Market;

pub(crate) async fn escrow_is_deposited_and_leaves_after_its_delay(market: Market) {
    let chain = &market.contracts;
    let (miner, miner_owner) = market.miner(1).await;
    let (id, owner) = market.coordinator(3).await;
    chain.deposit_escrow(&owner, id, cai(10)).await.unwrap();
    // Anybody may add to it.
    chain
        .deposit_escrow(&miner_owner, id, cai(2))
        .await
        .unwrap();
    let error = chain
        .deposit_escrow(&owner, miner, cai(1))
        .await
        .unwrap_err();
    assert!(error.message().contains("NotCoordinator"), "{error}");

    let withdrawal = Action::WithdrawEscrow { coordinator: id };
    let request = |amount| Action::RequestEscrow {
        coordinator: id,
        amount: cai(amount),
    };
    let error = chain.submit(&owner, withdrawal.clone()).await.unwrap_err();
    assert!(error.message().contains("NoWithdrawalRequested"), "{error}");
    let error = chain.submit(&owner, request(13)).await.unwrap_err();
    assert!(error.message().contains("InsufficientEscrow"), "{error}");
    let error = chain.submit(&miner_owner, request(1)).await.unwrap_err();
    assert!(error.message().contains("NotCoordinatorOwner"), "{error}");
    chain.submit(&owner, request(5)).await.unwrap();
    let escrow = chain.escrow(id).await.unwrap();
    assert_eq!((escrow.amount, escrow.leaving), (cai(12), cai(5)));
    assert!(escrow.unlocks_at > chain.block_time().await.unwrap());
    let error = chain.submit(&owner, withdrawal.clone()).await.unwrap_err();
    assert!(error.message().contains("WithdrawalLocked"), "{error}");

    market.advance(market.config.withdrawal_delay_seconds).await;
    let before = chain.balance(owner.address()).await.unwrap();
    chain.submit(&owner, withdrawal.clone()).await.unwrap();
    let gained = chain.balance(owner.address()).await.unwrap() - before;
    assert!(gained > cai(4) && gained < cai(5), "{gained}");
    assert_eq!(chain.escrow(id).await.unwrap().amount, cai(7));
}

pub(crate) async fn a_voucher_pays_once_what_it_adds(market: Market) {
    let chain = &market.contracts;
    let deployment = chain.deployment();
    let (miner, miner_owner) = market.miner(1).await;
    let (coordinator, owner) = market.coordinator(3).await;
    chain
        .deposit_escrow(&owner, coordinator, cai(100))
        .await
        .unwrap();
    // Anybody may send it; the miner's owner is paid.
    let sender = market.funded(5, cai(1)).await;
    let before = chain.balance(miner_owner.address()).await.unwrap();
    let signed = |cumulative: u64| {
        let voucher = Voucher {
            coordinator,
            miner,
            cumulative: cai(cumulative),
        };
        SignedVoucher::sign(voucher, &market.operator(3), &deployment)
    };
    assert_eq!(chain.redeem(&sender, &signed(10)).await.unwrap().0, cai(10));
    assert_eq!(chain.redeem(&sender, &signed(25)).await.unwrap().0, cai(15));
    for stale in [25, 10] {
        let error = chain.redeem(&sender, &signed(stale)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Chain);
        assert!(error.message().contains("NothingDue"), "{error}");
    }
    // A tenth is for those who vote for the miner.
    let earnings = chain.earnings(miner).await.unwrap();
    assert_eq!(earnings.to_stakers, cai(5) / U256::from(2));
    assert_eq!(earnings.to_owner + earnings.to_stakers, cai(25));
    assert_eq!(
        chain.collect(&sender, miner).await.unwrap().0,
        earnings.to_owner
    );
    let after = chain.balance(miner_owner.address()).await.unwrap();
    assert_eq!(after - before, earnings.to_owner);
    let error = chain.collect(&sender, miner).await.unwrap_err();
    assert!(error.message().contains("NothingToCollect"), "{error}");
    assert_eq!(chain.redeemed(coordinator, miner).await.unwrap(), cai(25));
    assert_eq!(chain.escrow(coordinator).await.unwrap().amount, cai(75));
}

pub(crate) async fn a_voucher_beyond_the_escrow_pays_what_is_there(market: Market) {
    let chain = &market.contracts;
    let (miner, miner_owner) = market.miner(1).await;
    let (coordinator, owner) = market.coordinator(3).await;
    let voucher = Voucher {
        coordinator,
        miner,
        cumulative: cai(10),
    };
    let signed = SignedVoucher::sign(voucher, &market.operator(3), &chain.deployment());
    let error = chain.redeem(&miner_owner, &signed).await.unwrap_err();
    assert!(error.message().contains("EscrowEmpty"), "{error}");
    chain
        .deposit_escrow(&owner, coordinator, cai(4))
        .await
        .unwrap();
    assert_eq!(chain.redeem(&miner_owner, &signed).await.unwrap().0, cai(4));
    // The rest stays owed, on the same voucher.
    chain
        .deposit_escrow(&owner, coordinator, cai(20))
        .await
        .unwrap();
    assert_eq!(chain.redeem(&miner_owner, &signed).await.unwrap().0, cai(6));
}

pub(crate) async fn only_the_coordinators_operator_signs_vouchers(market: Market) {
    let chain = &market.contracts;
    let deployment = chain.deployment();
    let (miner, miner_owner) = market.miner(1).await;
    let (coordinator, owner) = market.coordinator(3).await;
    chain
        .deposit_escrow(&owner, coordinator, cai(10))
        .await
        .unwrap();
    let voucher = Voucher {
        coordinator,
        miner,
        cumulative: cai(1),
    };
    let mut elsewhere = deployment;
    elsewhere.chain_id += 1;
    for (case, signed) in [
        (
            "the owner's key",
            SignedVoucher::sign(voucher.clone(), &owner, &deployment),
        ),
        (
            "the miner's key",
            SignedVoucher::sign(voucher.clone(), &market.operator(1), &deployment),
        ),
        (
            "another chain",
            SignedVoucher::sign(voucher.clone(), &market.operator(3), &elsewhere),
        ),
        (
            "no signature",
            SignedVoucher {
                value: voucher,
                signature: [0; 65].into(),
            },
        ),
    ] {
        let error = chain.redeem(&miner_owner, &signed).await.unwrap_err();
        assert!(
            error.message().contains("InvalidVoucherSigner"),
            "{case}: {error}"
        );
    }
}
