use super::*;
use crate::cai;

fn miner(number: u64) -> NodeId {
    NodeId(number)
}

fn beacon(number: u64) -> B256 {
    B256::from(U256::from(number))
}

fn lottery(stakes: &[(u64, Wei)]) -> StakeLottery {
    let mut lottery = StakeLottery::new(B256::ZERO);
    for &(number, stake) in stakes {
        lottery.join(miner(number), stake);
        lottery.set_free(miner(number), 1);
    }
    lottery
}

/// The rule as it is documented, without a tree.
fn by_hand(beacon: B256, stakes: &[(u64, Wei)], excluded: &[NodeId]) -> Option<NodeId> {
    let mut candidates: Vec<_> = stakes
        .iter()
        .filter(|(number, _)| !excluded.contains(&miner(*number)))
        .collect();
    candidates.sort();
    let total: U256 = candidates.iter().map(|(_, stake)| stake).sum();
    if total.is_zero() {
        return None;
    }
    let ticket = U256::from_be_bytes(keccak256(beacon).0) % total;
    let mut sum = U256::ZERO;
    candidates.iter().find_map(|(number, stake)| {
        sum += stake;
        (sum > ticket).then(|| miner(*number))
    })
}

#[test]
fn a_draw_follows_the_documented_rule() {
    // Ascending, descending and scattered node numbers; equal, tiny and huge stakes.
    let stakes: Vec<(u64, Wei)> = (1..=37)
        .map(|i| {
            (
                i * 7919 % 1000,
                U256::from(1 + i * i * i % 50) << (i % 5 * 20) as usize,
            )
        })
        .collect();
    let mut lottery = lottery(&stakes);
    for number in 0..2_000 {
        let excluded: Vec<_> = (0..number % 5)
            .map(|k| miner(stakes[(number * 31 + k * 7) as usize % 37].0))
            .collect();
        assert_eq!(
            lottery.draw(beacon(number), &excluded),
            by_hand(beacon(number), &stakes, &excluded),
            "beacon {number}, excluded {excluded:?}"
        );
    }
}

#[test]
fn the_draw_of_a_known_beacon_never_changes() {
    let mut lottery = lottery(&[(1, cai(1)), (2, cai(2)), (3, cai(3)), (4, cai(4))]);
    let drawn: Vec<u64> = (0..16)
        .filter_map(|number| lottery.draw(beacon(number), &[]))
        .map(|id| id.0)
        .collect();
    assert_eq!(drawn, [1, 4, 4, 3, 3, 2, 3, 1, 2, 2, 4, 2, 4, 2, 4, 3]);
}

#[test]
fn chances_are_those_of_stake() {
    let stakes: Vec<(u64, Wei)> = (1..=10)
        .map(|number| (number, cai(number * 1_000)))
        .collect();
    let mut lottery = lottery(&stakes);
    let draws = 55_000_u32;
    let mut counts = [0_u32; 10];
    for number in 0..u64::from(draws) {
        let drawn = lottery.draw(beacon(number), &[]).unwrap();
        counts[drawn.0 as usize - 1] += 1;
    }
    let chi_square: f64 = counts
        .iter()
        .zip(1..)
        .map(|(&count, number)| {
            let expected = f64::from(draws) * f64::from(number) / 55.0;
            (f64::from(count) - expected).powi(2) / expected
        })
        .sum();
    // The 0.1 % and 99.9 % points of chi-square with 9 degrees of freedom.
    assert!(
        (1.152..27.877).contains(&chi_square),
        "chi-square {chi_square}, counts {counts:?}"
    );
}

#[test]
fn nobody_is_drawn_when_all_are_excluded_busy_or_gone() {
    let mut lottery = lottery(&[(1, cai(1)), (2, cai(2))]);
    assert_eq!(
        lottery.draw(beacon(1), &[miner(1), miner(2), miner(2), miner(9)]),
        None
    );
    lottery.set_free(miner(2), 0);
    assert_eq!(lottery.draw(beacon(1), &[]), Some(miner(1)));
    lottery.leave(miner(1));
    assert_eq!(lottery.draw(beacon(1), &[]), None);
    lottery.set_free(miner(2), 3);
    assert_eq!(lottery.draw(beacon(1), &[]), Some(miner(2)));
    assert_eq!(StakeLottery::new(B256::ZERO).draw(beacon(1), &[]), None);
}

#[test]
fn as_a_scheduler_its_choices_depend_on_the_secret_seed() {
    let stakes: Vec<(u64, Wei)> = (1..=50).map(|number| (number, cai(1))).collect();
    let choices = |seed: u8| -> Vec<_> {
        let mut lottery = StakeLottery::new(B256::repeat_byte(seed));
        for &(number, stake) in &stakes {
            lottery.join(miner(number), stake);
            lottery.set_free(miner(number), 100);
        }
        (0..100)
            .map(|number| lottery.assign(TaskId::from(beacon(number)), &[]))
            .collect()
    };
    assert_eq!(choices(1), choices(1));
    let same = choices(1)
        .iter()
        .zip(choices(2))
        .filter(|(a, b)| *a == b)
        .count();
    // Two independent sequences of 100 choices among 50 agree in 2 on average.
    assert!(same < 12, "{same} of 100 choices agree between seeds");
}
