//! Shares of slots against stake and pay.

use cuckoo_core::cai;
use cuckoo_miner::Settings;

use crate::market::{Market, Plan, of};

const SECONDS: u64 = 300;
const SLOTS: u32 = 4;

fn settings() -> Settings {
    let mut settings = Settings {
        slots: SLOTS,
        ..Settings::default()
    };
    settings.credit.limit = cai(1_000);
    settings
}

fn plan(stake: u64, price: u64) -> Plan {
    Plan {
        stake,
        price,
        escrow: 10_000,
    }
}

#[tokio::test]
async fn slots_follow_stake_and_pay() {
    let market = Market::open(&[plan(2, 1), plan(5, 1), plan(3, 3)]).await;
    let miner = market.miner(settings()).await;
    let done = || [0, 1, 2].map(|host| of(&miner, host).completed as f64);
    // Before anybody has paid: by stake alone.
    market.pass(std::time::Duration::from_secs(2)).await;
    let shares = [0, 1, 2].map(|host| of(&miner, host).share);
    assert_eq!(
        shares,
        [220, 475, 305],
        "a twentieth each, and the rest by stake"
    );

    // Each one's own record comes to outweigh the mean.
    market.work(&[0, 1, 2], SECONDS).await;
    let before = done();
    market.work(&[0, 1, 2], SECONDS).await;
    let after = done();
    let total = f64::from(SLOTS) * SECONDS as f64;
    let got = [0, 1, 2].map(|host| (after[host] - before[host]) / total);
    assert!(got.iter().sum::<f64>() > 0.95, "no slot is idle: {got:?}");
    // Stake times pay is as 2 : 5 : 9; what the trial takes for average moves that by less than the bound.
    let due = [2.0, 5.0, 9.0].map(|weight| 0.05 + 0.85 * weight / 16.0);
    for (host, (got, due)) in got.iter().zip(due).enumerate() {
        assert!((got - due).abs() < 0.06, "{host} got {got}, {due} is due");
    }
    // And what the status says is what they get.
    for (host, got) in got.iter().enumerate() {
        let share = f64::from(of(&miner, host).share) / 1_000.0;
        assert!(
            (got - share).abs() < 0.06,
            "{host} got {got}, its share is {share}"
        );
    }
    let status = miner.status();
    let paid: u64 = [1, 1, 3]
        .iter()
        .zip(after)
        .map(|(price, done)| price * done as u64)
        .sum();
    assert_eq!(status.earned, cai(paid));

    // Who has no work leaves its slots to the others.
    let before = done();
    market.work(&[0], 60).await;
    let got = (done()[0] - before[0]) / (f64::from(SLOTS) * 60.0);
    assert!(got > 0.85, "alone it got {got}");
}
