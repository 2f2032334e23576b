use cuckoo_core::{Entropy, SeededEntropy};
use proptest::prelude::*;

use super::*;

fn account(limit: u64) -> Account {
    let mut account = Account::new(&CreditSettings {
        limit: cai(limit),
        ..CreditSettings::default()
    });
    account.open(cai(1), Wei::ZERO);
    account
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

/// Takes a task of one CAI and has it accepted.
fn accepted(account: &mut Account) -> bool {
    let taken = account.take(cai(1));
    if taken {
        account.hand_in(cai(1));
        account.end(cai(1), true, true);
    }
    taken
}

#[test]
fn who_never_pays_gets_the_limit_once_and_work_in_hand_counts() {
    let mut account = account(9);
    for _ in 0..9 {
        assert!(account.take(cai(1)));
    }
    assert_eq!(account.room(), 0);
    assert!(!account.take(cai(1)), "a burst");
    assert_eq!(account.judge(at(1)), None, "nothing is owed yet");
    for _ in 0..9 {
        account.hand_in(cai(1));
        account.end(cai(1), true, true);
    }
    // A tenth is forgiven, so that ten of what was taken weigh nine.
    assert_eq!(account.unpaid(), cai(81) / Wei::from(10));
    assert_eq!((account.room(), account.judge(at(2))), (0, Some(at(2))));
    assert_eq!(account.judge(at(9)), Some(at(2)));
    assert!(account.trouble().unwrap().contains("owes 8.1 CAI"));
    assert_eq!(account.pay(cai(5), cai(5)), cai(5));
    assert_eq!((account.judge(at(10)), account.trouble()), (None, None));
    assert_eq!(account.room(), 5);
}

#[test]
fn work_that_ends_in_another_way_is_not_owed() {
    let mut account = account(2);
    for handed_in in [false, true] {
        assert!(account.take(cai(2)));
        if handed_in {
            account.hand_in(cai(2));
        }
        account.end(cai(2), handed_in, false);
    }
    assert_eq!(
        (account.unpaid(), account.in_work()),
        (Wei::ZERO, Wei::ZERO)
    );
    // Too dear for the limit: nobody's fault, and said.
    assert!(!account.take(cai(3)));
    assert_eq!((account.room(), account.judge(at(1))), (0, None));
    assert!(account.trouble().unwrap().contains("may cost 3 CAI"));
}

#[test]
fn a_voucher_that_overtakes_its_completion_counts() {
    let mut account = account(5);
    for count in 1..1_000 {
        assert!(account.take(cai(1)), "after {count}");
        account.hand_in(cai(1));
        assert_eq!(account.pay(cai(1), cai(count)), cai(1));
        account.end(cai(1), true, true);
        assert_eq!(account.unpaid(), Wei::ZERO);
    }
    // What pays for nothing done here is no credit for later.
    assert_eq!(account.pay(cai(1_000_000), cai(2_000_000)), cai(1));
    for _ in 0..5 {
        assert!(accepted(&mut account));
    }
    assert!(!accepted(&mut account));
}

#[test]
fn vouchers_beyond_the_escrow_are_owed() {
    let mut account = account(5);
    account.open(cai(1), cai(10));
    assert_eq!((account.uncovered(), account.room()), (Wei::ZERO, 5));
    account.back(cai(7));
    assert_eq!((account.uncovered(), account.room()), (cai(3), 2));
    account.pay(cai(2), cai(12));
    assert_eq!((account.uncovered(), account.room()), (cai(5), 0));
    assert_eq!(account.judge(at(1)), Some(at(1)));
    account.back(cai(12));
    assert_eq!((account.room(), account.judge(at(2))), (5, None));
}

#[test]
fn settings_out_of_range_are_named() {
    type Change = fn(&mut CreditSettings);
    let changes: [(&str, Change); 4] = [
        ("credit.limit", |credit| credit.limit = Wei::ZERO),
        ("credit.forgiven_percent", |credit| {
            credit.forgiven_percent = 91
        }),
        ("credit.every_seconds", |credit| credit.every_seconds = 0),
        ("credit.drop_after_seconds", |credit| {
            credit.drop_after_seconds = 0
        }),
    ];
    CreditSettings::default().validate().unwrap();
    for (name, change) in changes {
        let mut settings = CreditSettings::default();
        change(&mut settings);
        let error = settings.validate().unwrap_err();
        assert!(error.message().contains(name), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// One task in twenty is never paid, pay comes late and in lumps, replies overtake each other: no end of work all the
    /// same. A failure prints the seed.
    #[test]
    fn an_honest_coordinator_is_never_cut_off_for_good(seed in any::<u64>()) {
        let entropy = SeededEntropy::from_number(seed);
        let mut account = account(20);
        let (mut due, mut promised) = (0, 0);
        for step in 0..20_000 {
            if account.take(cai(1)) {
                account.hand_in(cai(1));
                due += u64::from(!entropy.number().is_multiple_of(20));
                if entropy.number().is_multiple_of(4) {
                    promised += due;
                    account.pay(cai(due), cai(promised));
                    due = 0;
                }
                account.end(cai(1), true, true);
            } else {
                // What it was held up by is paid in the end, and that must do.
                promised += due;
                account.pay(cai(due), cai(promised));
                due = 0;
            }
            prop_assert!(account.room() > 0 || due > 0, "stuck at step {step}, seed {seed}");
        }
    }

    /// Whatever happens, in any order: what is in hand and owed stays within the limit.
    #[test]
    fn no_order_of_events_exceeds_the_limit(seed in any::<u64>()) {
        let entropy = SeededEntropy::from_number(seed);
        let mut account = account(10);
        let mut hand: Vec<(Wei, bool)> = Vec::new();
        let (mut lost, mut promised) = (Wei::ZERO, Wei::ZERO);
        for _ in 0..2_000 {
            let number = entropy.number();
            let some = (number >> 8) as usize;
            match number % 5 {
                0 | 1 => {
                    let price = cai(1 + number % 3);
                    if account.take(price) {
                        hand.push((price, false));
                    }
                }
                2 if !hand.is_empty() => {
                    let some = some % hand.len();
                    if !std::mem::replace(&mut hand[some].1, true) {
                        account.hand_in(hand[some].0);
                    }
                }
                3 if !hand.is_empty() => {
                    let (price, handed_in) = hand.swap_remove(some % hand.len());
                    let accepted = handed_in && number & 64 == 0;
                    account.end(price, handed_in, accepted);
                    if accepted {
                        lost += price;
                    }
                }
                // Seldom, and never for more than is owed.
                4 if number.is_multiple_of(7) => {
                    let growth = lost / Wei::from(3);
                    lost -= growth;
                    promised += growth;
                    account.pay(growth, promised);
                }
                _ => {}
            }
            let in_hand: Wei = hand.iter().map(|(price, _)| *price).fold(Wei::ZERO, |sum, price| sum + price);
            prop_assert_eq!(account.in_work(), in_hand);
            prop_assert!(account.used() <= cai(10), "seed {}", seed);
        }
    }
}
