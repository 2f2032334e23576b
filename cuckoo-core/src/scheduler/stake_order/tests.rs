use proptest::prelude::*;

use super::*;
use crate::cai;

fn task(number: u64) -> TaskId {
    TaskId::from(B256::from(U256::from(number)))
}

fn order(stakes: &[Wei], free: &[u64]) -> StakeOrder {
    let mut order = StakeOrder::new(B256::ZERO);
    for (number, &stake) in (1..).zip(stakes) {
        order.join(NodeId(number), stake);
        order.set_free(NodeId(number), u32::from(free.contains(&number)));
    }
    order
}

/// Assigns `tasks` tasks of which each is done before the next comes; how many each of `miners` got.
fn run(order: &mut StakeOrder, miners: u64, tasks: u64) -> Vec<u64> {
    let mut given = vec![0; miners as usize];
    for number in 0..tasks {
        let chosen = order.assign(task(number), &[]).unwrap();
        order.set_free(chosen, 1);
        given[chosen.0 as usize - 1] += 1;
    }
    given
}

impl StakeOrder {
    /// What must hold between the parts at any time.
    fn check(&self) {
        let now = self.time.now();
        let (mut earning, mut imbalance, mut free) = (0, 0, 0);
        for (&miner, member) in &self.miners {
            let lag = self.lag_millis(miner).unwrap();
            assert!(
                (-2_000..=2_000).contains(&lag),
                "{miner} has a lag of {lag} thousandths"
            );
            match member.standing {
                Standing::Active { start } => {
                    if start + virtual_time::CREDIT_CAP * TASK / member.weight > now {
                        earning += member.weight;
                        imbalance += self.time.lag(start, member.weight);
                    }
                    free += usize::from(member.free_slots > 0);
                }
                Standing::Away { since, .. } => {
                    assert!(since <= now);
                    assert_eq!(member.free_slots, 0, "{miner} is away and free");
                }
            }
        }
        assert_eq!(self.time.totals(), (earning, imbalance));
        assert_eq!(self.contest.len(), free);
    }
}

#[test]
fn a_miner_back_from_work_catches_up_on_two_tasks_at_most() {
    let mut order = order(&[cai(30), cai(10), cai(10), cai(10)], &[2, 3, 4]);
    run(&mut order, 4, 1_000);
    assert_eq!(order.lag_millis(NodeId(1)), Some(2_000));
    order.set_free(NodeId(1), 1);
    // Half of 20 tasks is its share; up to two are owed, and a whole task may round up.
    let given = run(&mut order, 4, 20);
    assert!((11..=13).contains(&given[0]), "{given:?}");
    // Then nothing is left of it.
    let given = run(&mut order, 4, 100);
    assert!((49..=51).contains(&given[0]), "{given:?}");
}

#[test]
fn joining_late_takes_nothing_from_the_past() {
    let mut order = order(&[cai(10), cai(10)], &[1, 2]);
    run(&mut order, 2, 1_000);
    order.join(NodeId(3), cai(20));
    order.set_free(NodeId(3), 1);
    let given = run(&mut order, 3, 40);
    assert!((19..=21).contains(&given[2]), "{given:?}");
}

#[test]
fn coming_back_clears_no_debt_and_brings_no_credit() {
    // The first miner does everything while the second works on one long task: half of it was the second's due.
    let mut order = order(&[cai(10), cai(10)], &[1]);
    run(&mut order, 2, 3);
    let debt = order.lag_millis(NodeId(1)).unwrap();
    assert_eq!(debt, -1_500);
    for _ in 0..10 {
        order.leave(NodeId(1));
        order.join(NodeId(1), cai(10));
        order.check();
    }
    assert_eq!(order.lag_millis(NodeId(1)), Some(debt));
    // Away, it earns nothing, but its debt is worked off.
    order.leave(NodeId(1));
    order.set_free(NodeId(2), 1);
    run(&mut order, 2, 50);
    order.join(NodeId(1), cai(10));
    assert_eq!(order.lag_millis(NodeId(1)), Some(0));
}

#[test]
fn doing_the_work_of_busy_miners_does_not_lock_a_small_one_out() {
    // 50 miners of 100 CAI are busy with long tasks; one of 1 CAI does everything for a long time.
    let stakes: Vec<Wei> = std::iter::once(cai(1))
        .chain(std::iter::repeat_n(cai(100), 50))
        .collect();
    let mut order = order(&stakes, &[1]);
    run(&mut order, 51, 10_000);
    for number in 2..=51 {
        order.set_free(NodeId(number), 1);
    }
    // Its fair interval is 5,001 tasks. It owes two tasks at most, and time runs at half speed at least.
    let wait = (0..100_000)
        .position(|number| {
            let chosen = order.assign(task(number), &[]).unwrap();
            order.set_free(chosen, 1);
            chosen == NodeId(1)
        })
        .unwrap();
    assert!(wait < 2 * 3 * 5_001, "waited for {wait} tasks");
}

#[test]
fn miners_that_stall_do_not_disturb_the_others() {
    // Every second miner is active and never free.
    let stakes: Vec<Wei> = (1..=40).map(|number| cai(number * number)).collect();
    let free: Vec<u64> = (1..=40).step_by(2).collect();
    let mut order = order(&stakes, &free);
    run(&mut order, 40, 5_000);
    // What the stalled ones are owed is not held against the others: their lags add up to nothing again.
    let (_, imbalance) = order.time.totals();
    assert!(imbalance.unsigned_abs() < TASK / 1000, "{imbalance}");
    let total: u64 = free.iter().map(|number| number * number).sum();
    let given = run(&mut order, 40, 20_000);
    for number in free {
        let due = 20_000.0 * (number * number) as f64 / total as f64;
        let given = given[number as usize - 1] as f64;
        // At most one task off at either end.
        assert!(
            (given - due).abs() <= 2.0,
            "miner {number}: {given} of {due}"
        );
    }
}

#[test]
fn a_refund_gives_one_task_back() {
    let mut order = order(&[cai(10), cai(10)], &[1, 2]);
    let first = order.assign(task(1), &[]).unwrap();
    let before = order.lag_millis(first).unwrap();
    order.refund(first);
    assert_eq!(order.lag_millis(first).unwrap(), before + 1_000);
    // As if the first task had never been given: the next two are one for each.
    order.set_free(first, 1);
    assert_eq!(run(&mut order, 2, 2), [1, 1]);
    // Refunds beyond what was charged are capped, also for a miner that left.
    for _ in 0..5 {
        order.refund(first);
    }
    assert_eq!(order.lag_millis(first), Some(2_000));
    order.leave(first);
    order.refund(first);
    assert_eq!(order.lag_millis(first), Some(2_000));
    order.refund(NodeId(77));
    order.check();
}

#[test]
fn equal_stakes_take_turns_in_an_order_that_no_number_decides() {
    let stakes = [cai(5); 20];
    let everybody: Vec<u64> = (1..=20).collect();
    let mut order = order(&stakes, &everybody);
    let mut rounds = Vec::new();
    for round in 0..20 {
        let chosen: Vec<u64> = (0..20)
            .map(|number| {
                let chosen = order.assign(task(round * 20 + number), &[]).unwrap();
                order.set_free(chosen, 1);
                chosen.0
            })
            .collect();
        let mut all = chosen.clone();
        all.sort_unstable();
        assert_eq!(all, everybody, "each once a round");
        rounds.push(chosen);
    }
    assert!(
        rounds.windows(2).all(|pair| pair[0] != pair[1]),
        "the order changes"
    );
    let firsts: std::collections::BTreeSet<u64> = rounds.iter().map(|round| round[0]).collect();
    assert!(firsts.len() > 5, "only {firsts:?} ever came first");
}

#[test]
fn virtual_time_is_moved_back_without_a_trace() {
    // The least weight lets virtual time run fastest: 4,096 tasks to the horizon.
    let mut order = order(&[U256::from(1), U256::from(1), cai(1)], &[1, 2]);
    order.leave(NodeId(3));
    let mut moved_back = false;
    for round in 0..1_500 {
        let before = order.time.now();
        let given = run(&mut order, 3, 10);
        assert_eq!(given, [5, 5, 0], "round {round}");
        moved_back |= order.time.now() < before;
        order.check();
    }
    assert!(moved_back);
    order.join(NodeId(3), U256::from(2));
    order.set_free(NodeId(3), 1);
    assert!(
        run(&mut order, 3, 30)
            .iter()
            .all(|&given| (9..=11).contains(&given))
    );
}

#[test]
fn stake_counts_in_units_with_a_floor_and_a_ceiling() {
    assert_eq!(units(U256::from(1)), 1);
    assert_eq!(units(U256::from(1) << 36), 1);
    assert_eq!(units(U256::from(5) << 36), 5);
    assert_eq!(units(U256::MAX), 1 << 64);
    assert_eq!(units(cai(20_000)), 20_000_000_000_000_000_000_000 >> 36);
}

proptest! {
    #[test]
    fn its_parts_agree_after_any_events(
        events in prop::collection::vec(
            (0_u8..12, 0_u64..8, prop_oneof![Just(0_u32), 30..45_u32, 90..101_u32, 74..78_u32], 0_u32..4),
            1..400,
        ),
    ) {
        let mut order = StakeOrder::new(B256::ZERO);
        for (index, (kind, number, bits, slots)) in (0..).zip(events) {
            let miner = NodeId(number);
            match kind {
                0 | 1 => order.join(miner, if bits == 0 { U256::ZERO } else { U256::from(1) << bits as usize }),
                2 => order.leave(miner),
                3..=5 => order.set_free(miner, slots),
                6 => order.refund(miner),
                7 => _ = order.assign(task(index), &[miner, NodeId(number + 1)]),
                _ => _ = order.assign(task(index), &[]),
            }
            order.check();
        }
    }
}
