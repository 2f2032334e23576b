//! Coordinators that do not pay, pay late, or cannot pay.

use std::sync::atomic::Ordering;

use cuckoo_core::{Wei, cai};
use cuckoo_miner::{CreditSettings, Settings};

use crate::market::{Market, Plan, of};

/// In CAI, which is what a task costs.
const LIMIT: u64 = 5;

fn settings() -> Settings {
    Settings {
        slots: 8,
        credit: CreditSettings {
            limit: cai(LIMIT),
            every_seconds: 1,
            drop_after_seconds: 60,
            ..CreditSettings::default()
        },
        ..Settings::default()
    }
}

fn plan() -> Plan {
    Plan {
        stake: 2,
        price: 1,
        escrow: 1_000,
    }
}

#[tokio::test]
async fn who_never_gives_vouchers_is_cut_off_at_the_limit_and_dropped() {
    let market = Market::open(&[plan(), plan()]).await;
    let purse = &market.hosts[0].purse;
    purse.shut.store(true, Ordering::SeqCst);
    let miner = market.miner(settings()).await;
    // A burst: there are more slots than its credit is worth.
    market.work(&[0], 1).await;
    assert_eq!(market.echo.most(), LIMIT as usize);
    market.work(&[0, 1], 20).await;
    let thief = of(&miner, 0);
    // A tenth is forgiven, and five at nine tenths leave no room for a sixth.
    assert_eq!((thief.completed, thief.owed), (LIMIT, Wei::ZERO));
    assert_eq!(thief.unpaid, cai(45) / Wei::from(10));
    let held = thief.held.unwrap();
    for part in ["owes 4.5 CAI", "at most 5 CAI", "settings.credit.limit"] {
        assert!(held.contains(part), "{held}");
    }
    assert!(thief.held_since.is_some() && !thief.dropped);
    let asked = |from: usize| purse.asked.lock().unwrap()[from..].to_vec();
    let polls = asked(0).len();
    market.work(&[0, 1], 20).await;
    assert!(
        asked(polls).iter().all(|slots| *slots == 0),
        "asked for work"
    );
    assert!(!asked(polls).is_empty(), "but for its voucher");

    market.work(&[0, 1], 30).await;
    let thief = of(&miner, 0);
    assert!(thief.dropped && !thief.connected, "{thief:?}");
    assert_eq!((thief.completed, thief.share), (LIMIT, 0));
    let why = thief.last_error.unwrap();
    assert!(why.contains("did not pay for 60 s"), "{why}");
    assert!(
        purse.closed.load(Ordering::SeqCst),
        "its session was closed"
    );
    let honest = of(&miner, 1);
    assert!(
        honest.completed > 65 * LIMIT,
        "the other one always has as much in work as its own limit lets it: {honest:?}"
    );
    assert!(honest.held.is_none() && honest.connected);
    // Nothing of it hangs on the chain.
    assert_eq!(honest.owed, cai(honest.completed));
}

#[tokio::test]
async fn whose_escrow_is_empty_is_reported_and_its_bond_pays() {
    let market = Market::open(&[plan(), plan()]).await;
    let (chain, us) = (&market.chain, market.member.node);
    let thief = market.hosts[0].member.node;
    market
        .dev_chain
        .fund(market.member.operator.address(), cai(1));
    let mut settings = settings();
    settings.credit.report = true;
    let miner = market.miner(settings).await;
    market.work(&[0], 3).await;
    let owed = of(&miner, 0).owed;
    assert!(
        owed > cai(LIMIT),
        "it pays as it should, for more than its credit"
    );
    assert_eq!(of(&miner, 0).uncovered, Wei::ZERO);

    market.empty_escrow(0).await;
    market.work(&[0, 1], 20).await;
    let status = of(&miner, 0);
    assert_eq!(
        (status.uncovered, status.escrow),
        (status.owed, Some(Wei::ZERO))
    );
    let held = status.held.unwrap();
    assert!(held.contains("its escrow does not cover"), "{held}");
    assert!(!status.dropped);
    assert_eq!(chain.redeemed(thief, us).await.unwrap(), Wei::ZERO);

    // Dropped after a minute, and ten seconds of notice.
    market.work(&[1], 60).await;
    assert!(of(&miner, 0).dropped);
    let due = of(&miner, 0).owed;
    assert_eq!(
        chain.redeemed(thief, us).await.unwrap(),
        due,
        "its bond paid"
    );
    let free = chain
        .free_stake(market.member.owner.address())
        .await
        .unwrap();
    // The wronged party gets four tenths of a slash, the reporter one, and the miner's owner is both.
    assert_eq!(free, due * Wei::from(5) / Wei::from(4));
    assert_eq!(of(&miner, 0).uncovered, Wei::ZERO);
}

#[tokio::test]
async fn without_being_asked_to_nothing_is_reported() {
    let market = Market::open(&[plan(), plan()]).await;
    let operator = market.member.operator.address();
    market.dev_chain.fund(operator, cai(1));
    let miner = market.miner(settings()).await;
    market.work(&[0], 3).await;
    market.empty_escrow(0).await;
    market.work(&[1], 90).await;
    assert!(of(&miner, 0).dropped);
    assert_eq!(market.chain.balance(operator).await.unwrap(), cai(1));
}

#[tokio::test]
async fn who_pays_late_gets_work_again() {
    let market = Market::open(&[plan(), plan()]).await;
    let purse = &market.hosts[0].purse;
    let miner = market.miner(settings()).await;
    for round in 1..=4 {
        purse.shut.store(true, Ordering::SeqCst);
        market.work(&[0, 1], 40).await;
        let late = of(&miner, 0);
        assert!(late.held_since.is_some(), "{round}: {late:?}");
        purse.shut.store(false, Ordering::SeqCst);
        market.work(&[0, 1], 20).await;
        let paid = of(&miner, 0);
        assert!(paid.held.is_none() && !paid.dropped, "{round}: {paid:?}");
        assert!(paid.completed > late.completed + 20, "{round}: {paid:?}");
        assert_eq!(paid.owed, cai(paid.completed));
    }
}
