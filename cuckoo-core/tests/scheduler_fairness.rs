//! How near `StakeOrder` keeps miners to their due, in exact arithmetic and in a simulated market.

#![allow(clippy::unwrap_used, reason = "this is a test")]

#[allow(dead_code)]
#[path = "../examples/fairness/market.rs"]
mod market;

use cuckoo_core::{
    B256, LoggedChoice, NodeId, Scheduler, SchedulerEvent, StakeOrder, TaskId, U256, Wei, cai,
    feasible_shares, total_variation,
};
use market::{Market, node, pareto_stakes, task};
use proptest::prelude::*;

/// Gives `tasks` to `stakes`, all always free, and checks every miner after every task: `|tasks · stake / total - given|`
/// is at most one, but for the rounding that virtual time is documented to have.
fn check_deviation(stakes: &[Wei], tasks: u64) {
    let mut order = StakeOrder::new(B256::ZERO);
    for (index, &stake) in stakes.iter().enumerate() {
        order.join(node(index), stake);
        order.set_free(node(index), 1);
    }
    let total: U256 = stakes.iter().sum();
    let bound = total + (total >> 20);
    let mut given = vec![0_u64; stakes.len()];
    for number in 1..=tasks {
        let chosen = order.assign(task(number), &[]).unwrap();
        order.set_free(chosen, 1);
        given[chosen.0 as usize - 1] += 1;
        for (&count, &stake) in given.iter().zip(stakes) {
            let deviation = (stake * U256::from(number)).abs_diff(total * U256::from(count));
            assert!(
                deviation <= bound,
                "after {number} tasks a miner of stake {stake} among {total} has {count}"
            );
        }
    }
}

proptest! {
    #[test]
    fn nobody_is_more_than_a_task_from_its_stake_share(
        stakes in prop::collection::vec(
            prop_oneof![
                // In wei, from the unit in which stake counts to its ceiling.
                (36_usize..=100, 1_u64..1 << 20).prop_map(|(bits, factor)| {
                    (U256::from(factor) << bits.saturating_sub(20)).max(U256::from(1) << 36) >> 36 << 36
                }),
                (20_000_u64..10_000_000).prop_map(|stake| cai(stake) >> 36 << 36),
                Just(cai(20_000) >> 36 << 36),
            ],
            1..30,
        ),
        tasks in 1_u64..1_500,
    ) {
        check_deviation(&stakes, tasks);
    }

    #[test]
    fn a_miner_that_returns_gets_no_burst(
        stakes in prop::collection::vec(20_000_u64..2_000_000, 2..20),
        absent_for in 1_u64..500,
        busy in any::<bool>(),
    ) {
        let mut order = StakeOrder::new(B256::ZERO);
        for (index, &stake) in stakes.iter().enumerate() {
            order.join(node(index), cai(stake));
            order.set_free(node(index), 1);
        }
        let step = |order: &mut StakeOrder, number| {
            let chosen = order.assign(task(number), &[]).unwrap();
            order.set_free(chosen, 1);
            chosen
        };
        for number in 0..100 {
            step(&mut order, number);
        }
        if busy { order.set_free(node(0), 0) } else { order.leave(node(0)) }
        for number in 0..absent_for {
            step(&mut order, number);
        }
        order.join(node(0), cai(stakes[0]));
        order.set_free(node(0), 1);
        // From then on, at most what it is due, two tasks more, and one that is not whole yet.
        let share = stakes[0] as f64 / stakes.iter().sum::<u64>() as f64;
        let mut given = 0.0;
        for number in 1..=300_u64 {
            if step(&mut order, number) == node(0) {
                given += 1.0;
            }
            let due = number as f64 * share;
            prop_assert!(given <= due + 3.0 + 1e-6, "{given} of {due} after {number} tasks");
        }
    }

    #[test]
    fn shares_stay_fair_while_others_come_and_go(
        stakes in prop::collection::vec(20_000_u64..2_000_000, 2..12),
        changes in prop::collection::vec((1_usize..12, 0_u8..3, 20_000_u64..2_000_000, 1_u64..60), 1..40),
    ) {
        // Miner 0 stays. Its due is the sum of its shares of the stake that is active, task by task.
        let mut order = StakeOrder::new(B256::ZERO);
        let mut active: Vec<Option<u64>> = stakes.iter().copied().map(Some).collect();
        for (index, &stake) in stakes.iter().enumerate() {
            order.join(node(index), cai(stake));
            order.set_free(node(index), 1);
        }
        let (mut due, mut given, mut number) = (0.0, 0.0, 0);
        let mut worst = 0.0_f64;
        let mut left_with = 0.0_f64;
        for (index, change, stake, tasks) in changes {
            let index = 1 + (index - 1) % (stakes.len() - 1).max(1);
            if index < stakes.len() {
                match change {
                    0 => {
                        left_with += 1.0;
                        order.leave(node(index));
                        active[index] = None;
                    }
                    _ => {
                        order.join(node(index), cai(stake));
                        order.set_free(node(index), 1);
                        active[index] = Some(stake);
                    }
                }
            }
            for _ in 0..tasks {
                number += 1;
                due += stakes[0] as f64 / active.iter().flatten().sum::<u64>() as f64;
                let chosen = order.assign(task(number), &[]).unwrap();
                order.set_free(chosen, 1);
                if chosen == node(0) {
                    given += 1.0;
                }
                worst = worst.max((due - given).abs());
            }
            prop_assert!(order.lag_millis(node(0)).unwrap().abs() <= 1_000, "lag");
        }
        // Who leaves takes at most a task of due or debt with it; the rest share that by stake.
        prop_assert!(worst <= 1.0 + left_with, "{worst} after {left_with} left");
    }
}

#[test]
fn one_wei_beside_a_fortune_takes_nothing_and_breaks_nothing() {
    let mut order = StakeOrder::new(B256::ZERO);
    order.join(NodeId(1), U256::from(1));
    order.join(NodeId(2), U256::from(1) << 100);
    order.set_free(NodeId(1), 1);
    let mut poor = 0;
    for number in 0..100_000 {
        order.set_free(NodeId(2), 1);
        if order.assign(task(number), &[]) == Some(NodeId(1)) {
            poor += 1;
            order.set_free(NodeId(1), 1);
        }
    }
    assert!(poor <= 1, "one wei got {poor} of 100,000 tasks");
    // It still works when it is all there is.
    assert_eq!(order.assign(task(0), &[NodeId(2)]), Some(NodeId(1)));
}

/// Sixty tasks at an even pace on six miners of one slot, as in the demo: a miner is not free while it works, yet in
/// the end everybody has its share of stake as nearly as whole tasks allow.
#[test]
fn shares_are_those_of_stake_below_capacity() {
    let profiles: [[u64; 6]; 4] = [
        [100, 80, 60, 40, 20, 15],
        [120, 100, 50, 40, 30, 20],
        [60, 50, 40, 30, 20, 10],
        [100, 100, 100, 20, 20, 20],
    ];
    for profile in profiles {
        let total: u64 = profile.iter().sum();
        for seed in 0..100 {
            let market = Market {
                stakes: profile.iter().map(|&stake| cai(1_000 * stake)).collect(),
                slots: 1,
                task_time: 1_000_000,
                // A load of 30 %.
                interval: 1_000_000 * 10 / 18,
                poisson: false,
                tasks: 60,
                seed,
            };
            let outcome = market.run(&mut StakeOrder::new(B256::from(U256::from(seed))));
            for (&given, stake) in outcome.given.iter().zip(profile) {
                let due = 60.0 * stake as f64 / total as f64;
                assert!(
                    (given as f64 - due).abs() <= 1.0,
                    "seed {seed}, stakes {profile:?}: {:?}, {given} of {due}",
                    outcome.given
                );
            }
        }
    }
}

/// Under load, a miner with much stake and one slot cannot have its share of stake; everybody has its feasible share.
#[test]
fn shares_are_the_feasible_ones_under_load() {
    let stakes = pareto_stakes(100, 1);
    for (load, bound) in [(60, 0.02), (90, 0.03)] {
        let market = Market {
            stakes: stakes.clone(),
            slots: 1,
            task_time: 1_000_000,
            interval: 1_000_000 / load,
            poisson: true,
            tasks: 50_000,
            seed: 1,
        };
        let outcome = market.run(&mut StakeOrder::new(B256::ZERO));
        let feasible = feasible_shares(&stakes, &outcome.capacities, 50_000.0);
        let distance = total_variation(&outcome.shares(), &feasible);
        assert!(
            distance < bound,
            "{distance} from feasible at a load of {load} %"
        );
    }
}

/// A million decisions with joins, leaves, busy miners, refunds and exclusions: written as a log, read back and replayed
/// they give the same bytes, and the bytes are the same on every machine and in every version.
#[test]
fn a_million_decisions_replay_byte_for_byte() {
    let (mut first, mut second) = (StakeOrder::new(B256::ZERO), StakeOrder::new(B256::ZERO));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        // xorshift: the events need variety, not quality.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut digest = B256::ZERO;
    let mut decisions = 0;
    while decisions < 1_000_000 {
        let mut log = String::new();
        for _ in 0..20_000 {
            let miner = NodeId(1 + random(300));
            let event = match random(100) {
                0 => SchedulerEvent::Join {
                    miner,
                    weight: cai(20_000 + random(2_000_000)),
                },
                1 if random(4) == 0 => SchedulerEvent::Leave { miner },
                2 => SchedulerEvent::Refund { miner },
                3..35 => SchedulerEvent::SetFree {
                    miner,
                    free_slots: random(6) as u32,
                },
                _ => {
                    decisions += 1;
                    let excluded = if random(10) == 0 {
                        vec![miner]
                    } else {
                        Vec::new()
                    };
                    SchedulerEvent::Assign {
                        task: TaskId::from(B256::from(U256::from(decisions))),
                        excluded,
                    }
                }
            };
            let chosen = first.apply(&event);
            log.push_str(&serde_json::to_string(&LoggedChoice { event, chosen }).unwrap());
            log.push('\n');
        }
        let mut again = String::with_capacity(log.len());
        for line in log.lines() {
            let LoggedChoice { event, .. } = serde_json::from_str(line).unwrap();
            let chosen = second.apply(&event);
            again.push_str(&serde_json::to_string(&LoggedChoice { event, chosen }).unwrap());
            again.push('\n');
        }
        assert!(
            log == again,
            "the log of decisions up to {decisions} replays differently"
        );
        digest = alloy::primitives::keccak256([digest.as_slice(), log.as_bytes()].concat());
    }
    assert_eq!(
        digest.to_string(),
        "0x517a5e8d0bae3364e8587eded53deec8bd84e3f6261caf97f1c7c0e955ec1299"
    );
}
