use cuckoo_core::{Entropy, SeededEntropy};
use proptest::prelude::*;

use super::*;

/// A miner and its coordinators in simulated milliseconds: polls are answered at once, runs take their time.
struct Simulation {
    chooser: Chooser,
    entropy: SeededEntropy,
    free: u32,
    /// When each run ends, whose it is, its charge and length.
    runs: Vec<(u64, usize, f64, u64)>,
    now: u64,
    /// Tasks that wait at each coordinator.
    queues: Vec<u64>,
    lengths: Vec<u64>,
    /// Slot milliseconds of ended runs.
    served: Vec<u64>,
}

impl Simulation {
    fn new(seed: u64, parties: usize, slots: u32) -> Self {
        let entropy = SeededEntropy::from_number(seed);
        let lengths = (0..parties).map(|_| 50 + entropy.number() % 1_950);
        Self {
            chooser: Chooser::new(parties, slots),
            free: slots,
            runs: Vec::new(),
            now: 0,
            queues: vec![0; parties],
            lengths: lengths.collect(),
            served: vec![0; parties],
            entropy,
        }
    }

    /// Gives turns until nobody gets another; those without work ask again only once time has passed.
    fn fill(&mut self) {
        let mut empty = vec![false; self.queues.len()];
        loop {
            for (party, empty) in empty.iter().enumerate() {
                if !empty {
                    self.chooser.ask(party, u32::MAX);
                }
            }
            let Some(turn) = self.chooser.grant(self.free) else {
                return;
            };
            assert!((1..=self.free).contains(&turn.slots));
            let found = self.queues[turn.party].min(u64::from(turn.slots));
            self.queues[turn.party] -= found;
            let charge = self.chooser.found(turn.party, found as u32);
            for _ in 0..found {
                let usual = self.lengths[turn.party];
                let length = usual / 2 + self.entropy.number() % usual;
                let end = self.now + length;
                self.runs.push((end, turn.party, charge, length));
            }
            self.free -= found as u32;
            empty[turn.party] = found == 0;
        }
    }

    /// Moves time to the end of the next run.
    fn next_end(&mut self) {
        let Some(next) = (0..self.runs.len()).min_by_key(|run| self.runs[*run].0) else {
            self.now += 1;
            return;
        };
        let (end, party, charge, length) = self.runs.swap_remove(next);
        self.now = end;
        self.served[party] += length;
        self.free += 1;
        self.chooser.done(party, charge, length as f64 / 1_000.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A failure prints the seed; every run of it is the same.
    #[test]
    fn coordinators_with_work_get_slot_time_by_weight(
        seed in any::<u64>(), parties in 1_usize..7, slots in 1_u32..9,
    ) {
        let mut market = Simulation::new(seed, parties, slots);
        let weights: Vec<_> = (0..parties).map(|_| Some((1 + market.entropy.number() % 100) as f64)).collect();
        market.chooser.set_weights(&weights);
        let shares: Vec<_> = market.chooser.shares().collect();
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        market.queues = vec![u64::MAX / 2; parties];
        for _ in 0..3_000 {
            market.fill();
            prop_assert_eq!(market.free, 0, "everybody has work");
            market.next_end();
        }
        let total: u64 = market.served.iter().sum();
        let longest = 2 * market.lengths.iter().max().unwrap();
        for (party, share) in shares.iter().enumerate() {
            let due = share * total as f64;
            let off = (market.served[party] as f64 - due).abs();
            // What is in work, and as much that was learnt late, is all that it can be off.
            let bound = (2 * u64::from(slots + 1) * longest) as f64;
            prop_assert!(off <= bound, "{party} of share {share}: off by {off} ms of {due} ms, seed {seed}");
        }
    }

    #[test]
    fn no_slot_stays_free_while_any_coordinator_has_a_task(
        seed in any::<u64>(), parties in 1_usize..7, slots in 1_u32..9,
    ) {
        let mut market = Simulation::new(seed, parties, slots);
        for _ in 0..500 {
            for party in 0..parties {
                if market.entropy.number().is_multiple_of(3) {
                    market.queues[party] += market.entropy.number() % 4;
                }
            }
            market.fill();
            let queued: u64 = market.queues.iter().sum();
            prop_assert!(market.free == 0 || queued == 0, "{} free, {queued} wait, seed {seed}", market.free);
            market.next_end();
        }
    }

    #[test]
    fn who_comes_back_has_saved_up_one_run_and_nobody_starves(seed in any::<u64>(), weight in 0.0_f64..20.0) {
        let mut market = Simulation::new(seed, 2, 1);
        market.chooser.set_weights(&[Some(weight), Some(1.0)]);
        let shares: Vec<_> = market.chooser.shares().collect();
        prop_assert!(shares.iter().all(|share| *share >= 0.05 - 1e-9), "{shares:?}");
        market.lengths = vec![1_000, 1_000];
        market.queues = vec![u64::MAX / 2, 0];
        for _ in 0..200 {
            market.fill();
            market.next_end();
        }
        market.queues[1] = u64::MAX / 2;
        let before = market.served.clone();
        for _ in 0..400 {
            market.fill();
            market.next_end();
        }
        for party in [0, 1] {
            let served = (market.served[party] - before[party]) as f64;
            let due = shares[party] * 400_000.0;
            prop_assert!((served - due).abs() < 40_000.0, "{served} of {due} for {party}, seed {seed}");
        }
    }
}

#[test]
fn polls_wait_only_while_nobody_else_has_work() {
    let mut chooser = Chooser::new(2, 1);
    for party in [0, 1] {
        chooser.ask(party, 1);
        let turn = chooser.grant(1).unwrap();
        assert_eq!((turn.party, turn.patient), (party, true));
        chooser.found(party, 0);
    }
    // Idle both: by turns, however much they had and however their weights are.
    let charged = chooser.found(1, 1);
    chooser.done(1, charged, 9.0);
    chooser.found(1, 0);
    chooser.set_weights(&[Some(1e9), Some(0.0)]);
    for turn in 0..6 {
        chooser.ask(0, 1);
        chooser.ask(1, 1);
        let granted = chooser.grant(1).unwrap();
        assert_eq!((granted.party, granted.patient), (turn % 2, true));
        chooser.found(granted.party, 0);
    }
    chooser.withdraw(0);
    chooser.found(0, 1);
    chooser.ask(1, 1);
    assert!(!chooser.grant(1).unwrap().patient);
    chooser.set_weights(&[None, Some(1.0)]);
    assert_eq!(chooser.shares().collect::<Vec<_>>(), [0.0, 1.0]);
    chooser.ask(1, 1);
    assert!(chooser.grant(1).unwrap().patient);
    assert_eq!(chooser.grant(1), None);
}

#[test]
fn a_long_run_is_paid_back_in_short_ones() {
    let mut chooser = Chooser::new(2, 1);
    let mut lengths = [10.0, 1.0];
    let mut order = Vec::new();
    for _ in 0..12 {
        chooser.ask(0, 1);
        chooser.ask(1, 1);
        let party = chooser.grant(1).unwrap().party;
        let charged = chooser.found(party, 1);
        chooser.done(party, charged, lengths[party]);
        lengths[0] = 1.0;
        order.push(party);
    }
    assert_eq!(order[..2], [0, 1]);
    let short = order.iter().skip(1).take_while(|party| **party == 1);
    assert!((9..=10).contains(&short.count()), "{order:?}");
}

#[test]
fn strange_weights_give_shares_all_the_same() {
    let mut chooser = Chooser::new(3, 4);
    for weights in [
        [Some(f64::NAN), Some(1.0), Some(f64::INFINITY)],
        [Some(f64::MAX), Some(f64::MAX), Some(f64::MIN_POSITIVE)],
        [Some(0.0), Some(0.0), Some(-1.0)],
    ] {
        chooser.set_weights(&weights);
        let shares: Vec<_> = chooser.shares().collect();
        assert!(
            (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9,
            "{shares:?}"
        );
        assert!(
            shares.iter().all(|share| *share >= 0.05 - 1e-9),
            "{shares:?}"
        );
    }
}

#[test]
fn who_keeps_slots_and_gives_nothing_pays_with_turns() {
    let mut chooser = Chooser::new(2, 1);
    let (mut worked, mut kept) = (0.0, 0.0);
    for _ in 0..500 {
        chooser.ask(0, 1);
        chooser.ask(1, 1);
        let turn = chooser.grant(1).unwrap();
        if turn.party == 0 {
            let charged = chooser.found(0, 1);
            chooser.done(0, charged, 3.0);
            worked += 3.0;
        } else {
            // It answers when the miner is about to give up.
            chooser.found(1, 0);
            chooser.kept(1, 30.0);
            kept += 30.0;
        }
    }
    assert!(kept <= worked + 60.0, "{kept} s for {worked} s of work");
}
