//! A miner that is too slow for a task, and another one that is not.

use std::time::Duration;

use cuckoo_miner::Settings;

use crate::market::{Echo, LENGTH, Market, Plan, of};

/// How long the slow miner takes for a task.
const SLOW: Duration = Duration::from_secs(10);

async fn pass(market: &Market, seconds: u64) {
    for _ in 0..10 * seconds {
        market.pass(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_a_miner_would_not_finish_in_time_goes_to_another_one() {
    let market = Market::open(&[Plan {
        stake: 2,
        price: 1,
        escrow: 1_000,
    }])
    .await;
    let sloth = Echo::new(market.clock.clone(), SLOW);
    let slow = market
        .start(&market.member, &sloth, Settings::default())
        .await;
    // How long it takes it does not know yet, and finds out.
    let first = market.submit(60).await;
    pass(&market, SLOW.as_secs() + 2).await;
    let first = first.result().await.unwrap();
    assert_eq!(first.receipt.value.miner, market.member.node);
    assert_eq!(of(&slow, 0).completed, 1);

    let hurried = market.submit(8).await;
    pass(&market, 1).await;
    assert_eq!(sloth.running(), 0);
    let status = of(&slow, 0);
    assert_eq!(
        (status.refused, status.failed),
        (1, 0),
        "given back at once"
    );
    let hare = Echo::new(market.clock.clone(), LENGTH);
    let quick = market
        .start(&market.other, &hare, Settings::default())
        .await;
    pass(&market, 8).await;
    let hurried = hurried.result().await.unwrap();
    assert_eq!(hurried.receipt.value.miner, market.other.node);
    assert_eq!(of(&quick, 0).completed, 1);
    let miners = market.hosts[0].coordinator.status().miners;
    assert!(
        miners.iter().all(|miner| miner.failed == 0),
        "nobody is blamed: {miners:?}"
    );
    let refused = miners.iter().map(|miner| miner.refused);
    assert_eq!(
        refused.sum::<u64>(),
        1,
        "and nobody is asked again: {miners:?}"
    );

    // What leaves it time enough it takes, beside one that is stopped.
    quick.shutdown(Duration::ZERO).await;
    let patient = market.submit(60).await;
    pass(&market, SLOW.as_secs() + 5).await;
    let patient = patient.result().await.unwrap();
    assert_eq!(patient.receipt.value.miner, market.member.node);
}
