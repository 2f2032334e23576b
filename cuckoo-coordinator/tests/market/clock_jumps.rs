//! A machine whose clock is set, forward by a day and back by an hour, while tasks are in work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, MemoryStore, TaskHandle, TaskStore as _};
use cuckoo_core::{
    Assignment, Clock, Entropy as _, ErrorKind, ManualClock, SeededEntropy, Session, Signed,
    TaskState, Timestamp, Wei,
};
use futures::future::BoxFuture;

use crate::fixture::{Market, Miner, Setup, price, settings, settle, spec};

const DAY: u64 = 24 * 3_600_000;
const HOUR: u64 = 3_600_000;

/// A clock that is set to other times, while what waits for time to pass notices nothing: as the machine's.
#[derive(Debug)]
struct Set {
    steady: ManualClock,
    /// How far it is ahead of the steady one, in milliseconds.
    ahead: AtomicU64,
}

impl Set {
    fn forward(&self, millis: u64) {
        self.ahead.fetch_add(millis, Ordering::SeqCst);
    }

    fn back(&self, millis: u64) {
        self.ahead.fetch_sub(millis, Ordering::SeqCst);
    }
}

impl Clock for Set {
    fn now(&self) -> Timestamp {
        let ahead = Duration::from_millis(self.ahead.load(Ordering::SeqCst));
        self.steady.now().after(ahead)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.steady.sleep(duration)
    }
}

struct Jumping {
    market: Market,
    clock: Arc<Set>,
    store: Arc<MemoryStore>,
}

impl Jumping {
    async fn open() -> Self {
        let mut market = Setup::with_miners(2).open().await;
        let clock = Arc::new(Set {
            steady: ManualClock::new(market.clock.now()),
            // So that it can go back.
            ahead: AtomicU64::new(DAY),
        });
        let store = Arc::new(MemoryStore::new());
        market.coordinator = Coordinator::builder()
            .settings(settings())
            .chain(market.chain.clone())
            .operator(market.me.operator.clone())
            .clock(clock.clone())
            .entropy(market.entropy.clone())
            .store(store.clone())
            .start()
            .await
            .unwrap();
        let mut jumping = Self {
            market,
            clock,
            store,
        };
        jumping.join().await;
        jumping
    }

    /// Opens new sessions, by the time it is now.
    async fn join(&mut self) {
        for number in 0..self.market.miners.len() {
            let member = self.market.miners[number].member.clone();
            let mut miner = self.market.miners.remove(number);
            let request = Session {
                expiry: self.clock.now().after(Duration::from_secs(60)),
                ..self.market.request(&member.operator)
            };
            miner.protocol = self.market.coordinator.protocol();
            let signed = Signed::sign(request, &member.operator, &miner.deployment);
            miner.token = miner.protocol.open_session(signed).await.unwrap().token;
            self.market.miners.insert(number, miner);
        }
        settle().await;
    }

    async fn pass(&self, millis: u64) {
        settle().await;
        self.clock.steady.advance(Duration::from_millis(millis));
        settle().await;
    }

    fn miner(&self, number: usize) -> &Miner {
        &self.market.miners[number]
    }

    /// A task in the hands of a miner.
    async fn in_work(&self, miner: usize) -> (TaskHandle, Assignment) {
        let handle = self.market.coordinator.submit(spec()).await.unwrap();
        settle().await;
        let assignment = self.miner(miner).take().await.unwrap();
        (handle, assignment)
    }

    /// That each completed task was paid once, and nothing else.
    async fn check_pay(&self, completed: u64) {
        let accounts = self.store.accounts().await.unwrap();
        let owed: Wei = accounts
            .iter()
            .map(|account| account.value.cumulative())
            .sum();
        assert_eq!(owed, price() * Wei::from(completed));
    }
}

#[tokio::test]
async fn a_clock_set_forward_by_a_day_ends_tasks_by_their_deadline() {
    let mut jumping = Jumping::open().await;
    let (done, assignment) = jumping.in_work(0).await;
    let completed = jumping.miner(0).complete(&assignment, b"done").await;
    completed.unwrap();
    let (running, late) = jumping.in_work(0).await;
    let waiting = jumping.market.coordinator.submit(spec()).await.unwrap();
    jumping.clock.forward(DAY);
    jumping.pass(1_000).await;
    // The sessions are over, and so is what was asked for within two minutes.
    let refused = jumping.miner(0).complete(&late, b"late").await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unauthorized);
    jumping.join().await;
    let refused = jumping.miner(0).complete(&late, b"late").await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    jumping.pass(200_000).await;
    for handle in [running, waiting] {
        let state = handle.state();
        assert!(
            matches!(
                &state,
                TaskState::Failed {
                    kind: ErrorKind::Timeout,
                    ..
                }
            ),
            "{state:?}"
        );
    }
    assert!(matches!(done.state(), TaskState::Completed { .. }));
    let (handle, assignment) = jumping.in_work(1).await;
    let completed = jumping.miner(1).complete(&assignment, b"done").await;
    completed.unwrap();
    handle.result().await.unwrap();
    jumping.check_pay(2).await;
}

#[tokio::test]
async fn a_clock_set_back_by_an_hour_costs_and_pays_nothing_twice() {
    let jumping = Jumping::open().await;
    let (handle, assignment) = jumping.in_work(0).await;
    let waiting = jumping.market.coordinator.submit(spec()).await.unwrap();
    jumping.clock.back(HOUR);
    jumping.pass(1_000).await;
    for _ in 0..2 {
        // The same answer to the same completion.
        let completed = jumping.miner(0).complete(&assignment, b"done").await;
        completed.unwrap();
    }
    handle.result().await.unwrap();
    let assignment = jumping.miner(1).take().await.unwrap();
    let completed = jumping.miner(1).complete(&assignment, b"done").await;
    completed.unwrap();
    waiting.result().await.unwrap();
    let unserved = jumping.market.coordinator.submit(spec()).await.unwrap();
    jumping.pass(200_000).await;
    let state = unserved.state();
    assert!(
        matches!(
            &state,
            TaskState::Failed {
                kind: ErrorKind::Timeout,
                ..
            }
        ),
        "{state:?}"
    );
    jumping.check_pay(2).await;
}

/// Whatever the clock does, each task ends as something that a requester understands, and is paid once if it is done.
#[tokio::test]
async fn a_clock_that_jumps_to_and_fro_neither_hangs_nor_pays_twice() {
    const ROUNDS: u64 = 40;
    let seed = 0xc10c;
    println!("seed {seed}");
    let chance = SeededEntropy::from_number(seed);
    let mut jumping = Jumping::open().await;
    let (mut handles, mut completed) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let handle = jumping.market.coordinator.submit(spec()).await.unwrap();
        let other = jumping.market.coordinator.submit(spec()).await.unwrap();
        settle().await;
        let assignment = jumping.miner(0).take().await;
        match chance.number() % 3 {
            0 => jumping.clock.forward(DAY),
            1 => jumping.clock.back(HOUR),
            _ => jumping.clock.forward(HOUR),
        }
        jumping.pass(chance.number() % 5_000).await;
        if let Some(assignment) = assignment {
            for _ in 0..2 {
                let _ = jumping.miner(0).complete(&assignment, b"done").await;
            }
        }
        handles.extend([handle, other]);
        jumping.join().await;
    }
    for _ in 0..100 {
        jumping.pass(HOUR).await;
    }
    for handle in &handles {
        match handle.state() {
            TaskState::Completed { .. } => completed += 1,
            TaskState::Failed { kind, .. } => assert_eq!(kind, ErrorKind::Timeout),
            state => panic!("seed {seed}: {state:?}"),
        }
    }
    assert!(completed > 0, "seed {seed}");
    jumping.check_pay(completed).await;
    let tasks = handles.len();
    println!(
        "chaos|clock jumps by a day and back by an hour|{ROUNDS}|{tasks}|0|0|0|-|{completed} completed and paid once, the others timed out"
    );
}
