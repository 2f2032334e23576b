//! Shares of work against shares of stake.

use cuckoo_core::total_variation;

use crate::fixture::{Setup, settle};

#[tokio::test]
async fn below_capacity_six_miners_get_work_in_proportion_to_their_stake() {
    let stakes = [20, 25, 40, 60, 100, 155];
    let mut setup = Setup::with_miners(0);
    setup.stakes = stakes.to_vec();
    let market = setup.open().await;
    const TASKS: u64 = 200;
    let mut polls: Vec<_> = market
        .miners
        .iter()
        .map(|miner| Some(miner.wait(1)))
        .collect();
    for _ in 0..TASKS {
        settle().await;
        let handle = market.submit().await;
        settle().await;
        let finished = |poll: &Option<tokio::task::JoinHandle<_>>| {
            poll.as_ref()
                .is_some_and(tokio::task::JoinHandle::is_finished)
        };
        let chosen = polls
            .iter()
            .position(finished)
            .expect("a miner that waits gets it at once");
        let reply = polls[chosen].take().unwrap().await.unwrap().unwrap();
        market.miners[chosen]
            .complete(&reply.assignments[0], b"done")
            .await
            .unwrap();
        handle.result().await.unwrap();
        polls[chosen] = Some(market.miners[chosen].wait(1));
    }
    let total: u64 = stakes.iter().sum();
    let wanted: Vec<f64> = stakes
        .iter()
        .map(|stake| *stake as f64 / total as f64)
        .collect();
    let done: Vec<f64> = (0..stakes.len())
        .map(|miner| market.status(miner).completed as f64 / TASKS as f64)
        .collect();
    for (miner, (done, wanted)) in done.iter().zip(&wanted).enumerate() {
        let deviation = (done - wanted).abs() * TASKS as f64;
        assert!(
            deviation <= 1.0 + 1e-9,
            "miner {miner} deviates by {deviation} tasks"
        );
    }
    assert!(total_variation(&done, &wanted) < 0.02);
}

#[tokio::test]
async fn audits_do_not_count_towards_a_miner_s_share() {
    let mut setup = Setup::audited(2);
    setup.stakes = vec![20, 20];
    let market = setup.open().await;
    for _ in 0..20 {
        let handle = market.submit().await;
        while !handle.state().is_terminal() {
            for miner in [0, 1] {
                if let Some(assignment) = market.miners[miner].take().await {
                    market.miners[miner]
                        .complete(&assignment, b"same")
                        .await
                        .unwrap();
                }
            }
        }
    }
    // Polled in turn with one task at a time: whoever comes first gets the work, the other one the audit.
    let (first, second) = (market.status(0), market.status(1));
    assert_eq!(first.assigned + second.assigned, 20);
    assert_eq!(first.audits + second.audits, 20);
    assert_eq!(first.owed, second.owed);
}
