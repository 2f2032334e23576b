//! Pay without a person, on a real contract.

use std::time::Duration;

use cuckoo_core::{Clock as _, SystemClock, Wei};
use cuckoo_miner::{RedeemSettings, Settings};

use crate::echo::Echo;
use crate::peer::{Market, Peer};
use crate::{builder, eventually, settings};

/// In wei; the escrow holds 1 CAI.
const TENTH: u64 = 100_000_000_000_000_000;

fn redeeming() -> Settings {
    Settings {
        redeem: Some(RedeemSettings {
            from: Wei::from(3 * TENTH),
            times_fee: 20,
            every_seconds: 1,
        }),
        ..settings()
    }
}

/// What the operator is sent for gas; its owner has little more.
fn fuel() -> Wei {
    Wei::from(5 * TENTH)
}

fn owes(peer: &Peer, amount: u64) {
    let voucher = peer.voucher(amount);
    peer.set(|state| state.vouchers.push_back(voucher));
}

#[tokio::test]
async fn vouchers_are_redeemed_and_paid_out_once_they_are_worth_it() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    let (chain, us) = (&market.chain, market.miner.node);
    let redeemed = async || chain.redeemed(market.coordinator.node, us).await.unwrap();
    let operator = market.miner.operator.address();
    let owner = market.miner.owner.address();
    let before = chain.balance(owner).await.unwrap();

    let miner = builder(&market, &peer, &echo)
        .settings(redeeming())
        .start()
        .await
        .unwrap();
    owes(&peer, 2 * TENTH);
    eventually("the first voucher", || !miner.vouchers().is_empty()).await;
    SystemClock.sleep(Duration::from_millis(1_500)).await;
    assert_eq!(redeemed().await, Wei::ZERO, "less than the threshold");

    // Enough, but there is nothing to pay the gas with.
    owes(&peer, 4 * TENTH);
    let worth = |amount| move |owed: Wei| owed == Wei::from(amount);
    let owed = || miner.status().coordinators[0].owed;
    eventually("the second voucher", || worth(4 * TENTH)(owed())).await;
    SystemClock.sleep(Duration::from_millis(1_500)).await;
    assert_eq!(redeemed().await, Wei::ZERO, "no CAI for gas");

    let payer = &market.miner.owner;
    chain.transfer(payer, operator, fuel()).await.unwrap();
    let paid = async || chain.balance(owner).await.unwrap();
    let mut balance = before;
    for _ in 0..600 {
        balance = paid().await;
        if redeemed().await == Wei::from(4 * TENTH) && balance > before - fuel() {
            break;
        }
        SystemClock.sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(redeemed().await, Wei::from(4 * TENTH));
    let fees = Wei::from(TENTH / 100);
    let owners = balance + fuel() + fees - before;
    assert!(
        owners >= Wei::from(3 * TENTH),
        "the owner's part was paid out: {owners}"
    );
    let earnings = chain.earnings(us).await.unwrap();
    assert_eq!(earnings.to_owner + earnings.to_stakers, Wei::ZERO);
    drop(miner);
}

#[tokio::test]
async fn a_pay_that_its_gas_would_eat_waits() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    let operator = market.miner.operator.address();
    let payer = &market.miner.owner;
    market
        .chain
        .transfer(payer, operator, fuel())
        .await
        .unwrap();
    let mut greedy = redeeming();
    if let Some(redeem) = &mut greedy.redeem {
        (redeem.from, redeem.times_fee) = (Wei::from(1), 2_000);
    }
    let miner = builder(&market, &peer, &echo)
        .settings(greedy)
        .start()
        .await
        .unwrap();
    owes(&peer, TENTH);
    eventually("the voucher", || !miner.vouchers().is_empty()).await;
    SystemClock.sleep(Duration::from_millis(1_500)).await;
    let redeemed = async || {
        let pair = market
            .chain
            .redeemed(market.coordinator.node, market.miner.node);
        pair.await.unwrap()
    };
    assert_eq!(redeemed().await, Wei::ZERO);
    owes(&peer, 8 * TENTH);
    for _ in 0..600 {
        if !redeemed().await.is_zero() {
            break;
        }
        SystemClock.sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(redeemed().await, Wei::from(8 * TENTH));
    drop(miner);
}

#[tokio::test]
async fn settings_out_of_range_are_refused() {
    let market = Market::new().await;
    let (peer, echo) = (market.peer(), Echo::new());
    for change in [
        |redeem: &mut RedeemSettings| redeem.times_fee = 0,
        |redeem: &mut RedeemSettings| redeem.every_seconds = 0,
    ] {
        let mut settings = redeeming();
        settings.redeem.as_mut().map(change).unwrap();
        let error = builder(&market, &peer, &echo)
            .settings(settings)
            .start()
            .await
            .unwrap_err();
        assert!(error.message().contains("redeem"), "{error}");
    }
}
