//! Rewards, pauses and what things cost.

use cuckoo_core::{Action, ErrorKind, U256, cai};

use crate::market::Market;

pub(crate) async fn rewards_follow_weight_and_are_claimed(market: Market) {
    let chain = &market.contracts;
    // The owner of the second has three times the first's stake.
    let (small, small_owner) = market.miner(1).await;
    let (large, large_owner) = market.miner(2).await;
    let friend = market.funded(3, cai(50_000)).await;
    chain.stake(&friend, cai(40_000)).await.unwrap();
    chain.vote(&friend, large, cai(40_000)).await.unwrap();
    let sponsor = market.funded(4, cai(2_000)).await;
    let amount = cai(1_000);
    chain
        .submit(&sponsor, Action::FundRewards { amount })
        .await
        .unwrap();
    let budget = chain.rewards().await.unwrap();
    assert_eq!((budget.amount, budget.per_epoch), (amount, cai(100)));

    // Their votes count from the next epoch; then an epoch's rewards are theirs, paid out over one more.
    market.next_epoch().await;
    let nodes = vec![small, large];
    let sync = Action::SyncRewards {
        nodes: nodes.clone(),
    };
    chain.submit(&sponsor, sync.clone()).await.unwrap();
    market.next_epoch().await;
    chain.submit(&sponsor, sync).await.unwrap();
    market.next_epoch().await;

    let earned = chain.claimable(small, small_owner.address()).await.unwrap();
    assert!(earned > cai(24) && earned < cai(27), "{earned}");
    let before = chain.balance(small_owner.address()).await.unwrap();
    let (claimed, receipt) = chain.claim(&small_owner, vec![small]).await.unwrap();
    assert!(claimed >= earned && claimed < cai(27), "{claimed}");
    let after = chain.balance(small_owner.address()).await.unwrap();
    assert_eq!(after, before + claimed - receipt.fee);

    let (owners, _) = chain.claim(&large_owner, vec![large]).await.unwrap();
    let (friends, _) = chain.claim(&friend, nodes).await.unwrap();
    assert!(owners > cai(24) && owners < cai(27), "{owners}");
    assert!(friends > cai(48) && friends < cai(54), "{friends}");
    let left = chain.rewards().await.unwrap().amount;
    assert!(claimed + owners + friends + left <= amount);
}

pub(crate) async fn gas_lasts_for_what_an_hour_more_has_earned(market: Market) {
    let chain = &market.contracts;
    let mut nodes = Vec::new();
    let friend = market.funded(9, cai(50_000)).await;
    chain.stake(&friend, cai(40_000)).await.unwrap();
    for number in 1..=4 {
        let (node, _) = market.miner(number).await;
        chain.vote(&friend, node, cai(10_000)).await.unwrap();
        nodes.push(node);
    }
    let amount = cai(2_000);
    let sponsor = market.funded(10, cai(3_000)).await;
    chain
        .submit(&sponsor, Action::FundRewards { amount })
        .await
        .unwrap();
    market.next_epoch().await;
    let sync = Action::SyncRewards {
        nodes: nodes.clone(),
    };
    chain.submit(&sponsor, sync.clone()).await.unwrap();
    market.next_epoch().await;

    // All is up to date when the gas is estimated, and nothing is when the block comes.
    let brought = chain.submit(&sponsor, sync).await.unwrap();
    let claimed = market.an_hour_late(chain.claim(&friend, nodes)).await;
    let (claimed, receipt) = claimed.unwrap();
    assert!(claimed > cai(30), "{claimed}");
    assert!(receipt.gas_used > brought.receipt.gas_used, "{receipt:?}");
}

pub(crate) async fn a_pause_stops_entries_and_no_exit(market: Market) {
    let chain = &market.contracts;
    let (node, owner) = market.miner(1).await;
    chain.stake(&owner, cai(10)).await.unwrap();
    let error = chain.submit(&owner, Action::Pause).await.unwrap_err();
    assert!(error.message().contains("the role `pauser`"), "{error}");
    // The admin is the guardian where no other is named.
    chain.submit(&market.admin, Action::Pause).await.unwrap();
    for error in [
        chain.stake(&owner, cai(1)).await.unwrap_err(),
        chain.vote(&owner, node, cai(1)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Chain);
        assert!(error.message().contains("EnforcedPause"), "{error}");
    }
    chain.withdraw(&owner, cai(10)).await.unwrap();
    let (ticket, _) = chain.unvote(&owner, node, cai(20_000)).await.unwrap();
    market.advance(market.config.unbonding_seconds).await;
    chain.release(&owner, ticket).await.unwrap();
    chain.withdraw(&owner, cai(20_000)).await.unwrap();
    chain.submit(&market.admin, Action::Unpause).await.unwrap();
    chain.stake(&owner, cai(1)).await.unwrap();
}

pub(crate) async fn a_quote_is_what_it_costs_and_sends_nothing(market: Market) {
    let chain = &market.contracts;
    let staker = market.funded(1, cai(100)).await;
    let stake = Action::Stake { amount: cai(7) };
    let quote = chain.quote(staker.address(), &stake).await.unwrap();
    assert_eq!(chain.balance(staker.address()).await.unwrap(), cai(100));
    let done = chain.submit(&staker, stake).await.unwrap();
    assert!(
        done.receipt.gas_used <= quote.gas && quote.gas < done.receipt.gas_used * 3 / 2,
        "{} of {}",
        done.receipt.gas_used,
        quote.gas
    );
    assert!(!done.receipt.fee.is_zero() && done.receipt.fee <= quote.fee);
    let error = chain
        .quote(staker.address(), &Action::Withdraw { amount: U256::MAX })
        .await
        .unwrap_err();
    assert!(error.message().contains("InsufficientFreeStake"), "{error}");
}
