//! Start, shutdown, and starting again from what the store has.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{
    ApiKeySettings, Coordinator, LimitReached, MemoryStore, Requester, Settings,
};
use cuckoo_core::{ErrorKind, Fault, LeaseStatus, TaskState, Wei};

use crate::fixture::{Market, Setup, failure, kind, price, settings, settle, spec};

#[tokio::test]
async fn shutdown_drains_what_is_open_and_refuses_new_tasks() {
    let market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    let coordinator = market.coordinator.clone();
    let shutdown = tokio::spawn(async move { coordinator.shutdown(Duration::from_secs(60)).await });
    settle().await;
    assert_eq!(
        kind(market.coordinator.submit(spec()).await),
        ErrorKind::Closed
    );
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    shutdown.await.unwrap();
    handle.result().await.unwrap();
    let miner = &market.miners[0];
    let poll = miner
        .protocol
        .poll(&miner.token, miner.poll_request(1, 0))
        .await;
    assert_eq!(kind(poll), ErrorKind::Closed);
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_ends_as_closed() {
    let market = Setup::with_miners(1).open().await;
    let (running, _) = market.assigned(0).await;
    let queued = market.submit().await;
    let waiting = tokio::spawn({
        let queued = queued.clone();
        async move { queued.result().await }
    });
    let poll = market.miners[0].wait(0);
    let coordinator = market.coordinator.clone();
    let shutdown = tokio::spawn(async move { coordinator.shutdown(Duration::from_secs(5)).await });
    market.advance(4_999).await;
    assert!(!shutdown.is_finished());
    market.advance(1).await;
    shutdown.await.unwrap();
    assert_eq!(kind(waiting.await.unwrap()), ErrorKind::Closed);
    assert_eq!(failure(&running), (ErrorKind::Closed, Fault::Coordinator));
    assert_eq!(kind(poll.await.unwrap()), ErrorKind::Closed);
    // A second time changes nothing.
    market.coordinator.shutdown(Duration::ZERO).await;
}

/// The age, in milliseconds, at which a lease is written down.
const NOTED: u64 = 50;

/// Another coordinator on the same chain and store, as after a crash of the first.
pub(crate) async fn restart(market: &mut Market, settings: Settings) {
    start_again(market, settings).await;
    for index in 0..market.miners.len() {
        if let Ok(miner) = market.join(market.miners[index].member.clone()).await {
            market.miners[index] = miner;
        }
    }
}

/// The same for miners that noticed nothing.
async fn start_again(market: &mut Market, settings: Settings) {
    settle().await;
    market.coordinator = Coordinator::builder()
        .settings(settings)
        .chain(market.chain.clone())
        .operator(market.me.operator.clone())
        .clock(market.clock.clone())
        .entropy(market.entropy.clone())
        .store(market.store.clone())
        .start()
        .await
        .unwrap();
    market.events = market.coordinator.events();
    for miner in &mut market.miners {
        miner.protocol = market.coordinator.protocol();
    }
}

#[tokio::test]
async fn a_coordinator_that_starts_again_takes_up_what_was_open() {
    let mut market = Setup::audited(2).open().await;
    let (running, in_work) = market.assigned(0).await;
    let (audited, assignment) = market.assigned(0).await;
    market.miners[0]
        .complete(&assignment, b"same")
        .await
        .unwrap();
    let queued = market.submit().await;
    market.advance(NOTED).await;
    restart(&mut market, Setup::audited(0).settings).await;
    let state = market.coordinator.task(running.id()).await.unwrap().state();
    assert!(matches!(state, TaskState::Running { .. }));
    assert_eq!(
        market.coordinator.task(queued.id()).await.unwrap().state(),
        TaskState::Queued
    );
    let handle = market.coordinator.task(audited.id()).await.unwrap();
    assert!(matches!(handle.state(), TaskState::Auditing { .. }));
    let audit = market.miners[1].take().await.unwrap();
    assert_eq!(audit.task, audited.id(), "audits come before other work");
    market.miners[1].complete(&audit, b"same").await.unwrap();
    handle.result().await.unwrap();
    assert_eq!(
        (market.status(0).owed, market.status(1).owed),
        (price(), price())
    );
    // Its lease holds still.
    market.miners[0].complete(&in_work, b"late").await.unwrap();
    assert_eq!(market.miners[0].take().await.unwrap().task, queued.id());
}

#[tokio::test]
async fn work_that_had_just_begun_is_done_anew_after_a_crash() {
    let mut market = Setup::with_miners(1).open().await;
    let (handle, early) = market.assigned(0).await;
    market.advance(NOTED - 1).await;
    assert_eq!(market.store.leases().await.unwrap(), []);
    restart(&mut market, settings()).await;
    let refused = market.miners[0].complete(&early, b"early").await;
    assert_eq!(kind(refused), ErrorKind::Conflict);
    let again = market.miners[0].take().await.unwrap();
    assert_eq!(again.task, handle.id());
    market.miners[0].complete(&again, b"again").await.unwrap();
    assert_eq!(market.status(0).owed, price());
}

#[tokio::test]
async fn a_shutdown_writes_down_what_had_just_begun() {
    let mut market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    market.coordinator.shutdown(Duration::ZERO).await;
    start_again(&mut market, settings()).await;
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    let handle = market.coordinator.task(handle.id()).await.unwrap();
    assert_eq!(&handle.result().await.unwrap().output.bytes[..], b"done");
}

#[tokio::test]
async fn a_miner_does_not_notice_that_its_coordinator_started_again() {
    let mut market = Setup::with_miners(1).open().await;
    let (handle, assignment) = market.assigned(0).await;
    market.advance(NOTED).await;
    start_again(&mut market, settings()).await;
    let status = market.miners[0].heartbeat(&assignment, 500).await;
    assert!(matches!(status, LeaseStatus::Active { .. }));
    let reply = market.miners[0].complete(&assignment, b"done").await;
    assert_eq!(reply.unwrap().voucher.unwrap().value.cumulative, price());
    let handle = market.coordinator.task(handle.id()).await.unwrap();
    assert_eq!(&handle.result().await.unwrap().output.bytes[..], b"done");
    // Repeated after another restart, which leaves it to the store to know of it.
    start_again(&mut market, settings()).await;
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    assert_eq!(
        kind(market.miners[0].complete(&assignment, b"else").await),
        ErrorKind::Conflict
    );
    assert_eq!(market.status(0).owed, price());
}

#[tokio::test]
async fn pay_and_suspensions_outlive_a_coordinator() {
    let mut setup = Setup::audited(3);
    setup.store = Arc::new(MemoryStore::new());
    let mut market = setup.open().await;
    let (handle, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"wrong").await.unwrap();
    for _ in 0..2 {
        let (miner, audit) = market.auditor(&[1, 2]).await.unwrap();
        market.miners[miner]
            .complete(&audit, b"right")
            .await
            .unwrap();
    }
    handle.result().await.unwrap();
    restart(&mut market, settings()).await;
    assert!(market.status(0).suspended);
    assert_eq!(market.coordinator.evidence().len(), 1);
    let member = market.miners[0].member.clone();
    assert_eq!(
        market.join(member).await.err().unwrap().kind(),
        ErrorKind::Unauthorized
    );
    assert_eq!(market.coordinator.vouchers().len(), 2);
    // Later pay adds to what was owed before.
    let (_, assignment) = market.assigned(1).await;
    let reply = market.miners[1]
        .complete(&assignment, b"more")
        .await
        .unwrap();
    assert_eq!(
        reply.voucher.unwrap().value.cumulative,
        price() * Wei::from(2)
    );
}

#[tokio::test]
async fn settings_out_of_bounds_do_not_start() {
    let bad: [fn(&mut Settings); 7] = [
        |settings| settings.models.clear(),
        |settings| settings.models.push(settings.models[0].clone()),
        |settings| settings.audit_probability = 1.1,
        |settings| settings.audit_probability = f64::NAN,
        |settings| settings.heartbeat_millis = settings.lease_millis,
        |settings| settings.lease_millis = 0,
        |settings| settings.max_queued = 0,
    ];
    for (index, adjust) in bad.into_iter().enumerate() {
        let mut settings = settings();
        adjust(&mut settings);
        assert_eq!(kind(settings.validate()), ErrorKind::Invalid, "{index}");
    }
    settings().validate().unwrap();
    let start = Coordinator::builder().settings(settings()).start().await;
    assert_eq!(kind(start), ErrorKind::Invalid);
}

#[test]
fn settings_read_prices_as_decimal_cai_and_refuse_unknown_fields() {
    let text = serde_json::json!({
        "models": [{"model": "shapes", "price": "0.25"}],
        "audit_probability": 0.5,
    });
    let settings: Settings = serde_json::from_value(text).unwrap();
    assert_eq!(
        settings.models[0].price,
        cuckoo_core::parse_cai("0.25").unwrap()
    );
    let again = serde_json::to_value(&settings).unwrap();
    assert_eq!(again["models"][0]["price"], "0.25");
    let typo = serde_json::json!({"audit_probabilty": 0.5});
    assert!(serde_json::from_value::<Settings>(typo).is_err());
}

#[tokio::test]
async fn a_coordinator_that_nobody_holds_stops() {
    let market = Setup::with_miners(0).open().await;
    let mut events = market.coordinator.events();
    drop(market);
    settle().await;
    use tokio::sync::broadcast::error::RecvError;
    assert_eq!(events.recv().await, Err(RecvError::Closed));
}

#[test]
fn handles_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Coordinator>();
    shared::<cuckoo_coordinator::TaskHandle>();
    shared::<cuckoo_coordinator::CoordinatorBuilder>();
}

#[tokio::test]
async fn limits_hold_over_a_restart() {
    let mut market = Setup::with_miners(1).open().await;
    let limited = Requester::new(ApiKeySettings {
        max_open_tasks: Some(2),
        max_tasks_per_day: Some(4),
        max_spend_per_day: Some(price() * Wei::from(3)),
        ..ApiKeySettings::named("app")
    });
    let refused_by = async |market: &Market| {
        let error = market.coordinator.submit_as(&limited, spec()).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        LimitReached::of(&error).expect("a limit").policy
    };
    let submit = async |market: &Market| {
        let submitted = market.coordinator.submit_as(&limited, spec()).await;
        submitted.unwrap()
    };
    let done = submit(&market).await;
    let assignment = market.miners[0].take().await.unwrap();
    market.miners[0].complete(&assignment, b"a").await.unwrap();
    done.result().await.unwrap();
    submit(&market).await;
    let dropped = submit(&market).await;
    assert_eq!(refused_by(&market).await, "open-tasks");

    restart(&mut market, Setup::with_miners(0).settings).await;
    assert_eq!(refused_by(&market).await, "open-tasks");
    // One completed, one open, one cancelled: that one costs nothing, but was a task.
    let dropped = market.coordinator.task(dropped.id()).await.unwrap();
    dropped.cancel().await.unwrap();
    submit(&market).await.cancel().await.unwrap();
    assert_eq!(refused_by(&market).await, "tasks-per-day");
    restart(&mut market, Setup::with_miners(0).settings).await;
    assert_eq!(refused_by(&market).await, "tasks-per-day");
    // Who has no limits is not limited.
    market.submit().await;

    market.advance(24 * 3_600_000).await;
    restart(&mut market, Setup::with_miners(0).settings).await;
    submit(&market).await;
}
