//! SIGKILL at random points under load: of the coordinator, and of miners.

use cuckoo_core::{Clock as _, Entropy as _, SystemClock};

use crate::market::{Market, Plan};
use crate::table::{Row, Scale};

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_again_and_again_loses_and_doubles_nothing() {
    let (scale, began) = (Scale::chosen(), SystemClock.now());
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        miners: 3,
        audit_probability: 0.2,
        lease_millis: 10_000,
        longest_output: 4_096,
    };
    let path = folder.path().to_owned();
    let (market, mut host) = Market::open(scale.seed, &plan, path, Vec::new()).await;
    let miners = market.start_miners();
    let asking = market.start_requesters(12);
    for _ in 0..scale.kills {
        if market.entropy.chance(0.15) {
            // In the middle of its start.
            market.sleep_up_to(300).await;
        } else {
            host.serving().await;
            market.sleep_up_to(1_200).await;
        }
        assert!(
            !host.process.ended(),
            "seed {}: it ended by itself",
            scale.seed
        );
        host.process.kill();
        host = market.start_host();
    }
    host.serving().await;
    market.drain(asking).await;
    for miner in miners {
        miner.stop().await;
    }
    host.process.stop().await;
    let (carried, sessions) = {
        let seen = market.seen.lock().unwrap();
        (seen.carried, seen.sessions)
    };
    let found = market.books(folder.path()).await;
    Row {
        fault: "coordinator killed",
        times: scale.kills,
        found: &found,
        seconds: SystemClock.now().since(began).as_secs(),
        note: format!("{carried} leases of a killed one were completed at the next; {sessions} sessions of 3 miners"),
    }
    .print();
    found.check(scale.seed);
    assert_eq!(found.failed, 0, "seed {}", scale.seed);
    assert!(found.completed > 0 && carried > 0, "seed {}", scale.seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn miners_killed_again_and_again_lose_and_double_nothing() {
    let (scale, began) = (Scale::chosen(), SystemClock.now());
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        miners: 5,
        audit_probability: 0.2,
        lease_millis: 1_000,
        longest_output: 4_096,
    };
    let path = folder.path().to_owned();
    let (market, host) = Market::open(scale.seed, &plan, path, Vec::new()).await;
    let mut miners = market.start_miners();
    let asking = market.start_requesters(12);
    for _ in 0..scale.kills {
        market.sleep_up_to(600).await;
        let victim = usize::try_from(market.entropy.number() % 5).unwrap();
        let next = market.start_miner(victim);
        std::mem::replace(&mut miners[victim], next).kill();
    }
    market.drain(asking).await;
    for miner in miners {
        miner.stop().await;
    }
    host.process.stop().await;
    let accepted = market.seen.lock().unwrap().accepted;
    let found = market.books(folder.path()).await;
    Row {
        fault: "miner killed",
        times: scale.kills,
        found: &found,
        seconds: SystemClock.now().since(began).as_secs(),
        note: format!("{accepted} receipts taken; {} tasks failed", found.failed),
    }
    .print();
    found.check(scale.seed);
    assert!(found.completed > 0, "seed {}", scale.seed);
}
