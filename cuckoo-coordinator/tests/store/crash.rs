//! A process that writes is killed at any moment, again and again: what was acknowledged is there, and all of it adds up.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{
    Change, SessionRecord, SqliteStore, StoreSettings, SyncLevel, TaskFilter, TaskStore,
};
use cuckoo_core::{
    Address, Clock as _, Entropy as _, NodeId, Output, SeededEntropy, SystemClock, Wei,
};
use serde::{Deserialize, Serialize};

use crate::fixture::{
    account, commit, completed, insert, lease, pay, received, replace_with, task, time, word,
};

/// Names the variable that makes the test `worker` of this binary a worker.
const ORDER: &str = "CUCKOO_TEST_STORE_WORKER";
/// Each does one task after the other, for a miner of its own.
const CALLERS: u64 = 16;
/// More than a life has.
const TURNS: u64 = 100_000;

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    path: PathBuf,
    sync: SyncLevel,
    life: u64,
}

impl Order {
    fn settings(&self) -> StoreSettings {
        StoreSettings {
            sync: self.sync,
            inline_output_bytes: 64,
            ..StoreSettings::at(&self.path)
        }
    }

    /// Starts a worker. Its standard output says what is durable; it ends when its standard input does.
    fn start(&self) -> (Child, ChildStdin) {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["crash::worker", "--exact", "--nocapture"])
            .env(ORDER, serde_json::to_string(self).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        (process, input)
    }

    async fn obey(self) {
        // Not even a test that fails leaves a worker behind.
        std::thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(1);
        });
        let store = Arc::new(SqliteStore::open(&self.settings()).await.unwrap());
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| tokio::spawn(work(Arc::clone(&store), self.life, caller)))
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    }
}

/// The number of the task that a caller does in its turn of a life.
fn number(life: u64, caller: u64, turn: u64) -> u64 {
    (life * CALLERS + caller) * TURNS + turn
}

/// What comes back for a task; some of it is too large for the database.
fn output(number: u64) -> Vec<u8> {
    let size = if number.is_multiple_of(7) { 500 } else { 40 };
    vec![number as u8; size]
}

async fn work(store: Arc<SqliteStore>, life: u64, caller: u64) {
    let miner = NodeId(caller + 1);
    let accounts = store.accounts().await.unwrap();
    let known = accounts.iter().find(|account| account.value.miner == miner);
    let (mut owed, mut version) = known.map_or((Wei::ZERO, 0), |account| {
        (account.value.cumulative(), account.version)
    });
    for number in (0..TURNS).map(|turn| number(life, caller, turn)) {
        let open = task(number);
        let lease = lease(&open, caller);
        let session = SessionRecord {
            token_hash: word("token", number),
            miner,
            operator: Address::ZERO,
            expires_at: time(number),
        };
        let begin = vec![
            insert(&open),
            Change::PutLease(lease.clone()),
            Change::PutSession(session),
        ];
        commit(store.as_ref(), begin).await;
        println!("begun {number}");
        let output = output(number);
        let done = completed(&received(&open, &lease, &output), number + 1);
        let staged = store
            .stage(lease.lease, Output::new("image/png", output))
            .await
            .unwrap();
        owed += open.task.price;
        let end = vec![
            account(miner, owed, version),
            replace_with(&done, 1, staged),
            pay(&lease, open.task.price),
        ];
        commit(store.as_ref(), end).await;
        version += 1;
        println!("done {number}");
    }
}

/// Not a test of its own: what [`Order::start`] runs.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    if let Ok(text) = std::env::var(ORDER) {
        serde_json::from_str::<Order>(&text).unwrap().obey().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_process_that_is_killed() {
    const KILLS: u64 = 30;
    let seed = u64::from_str_radix(
        &std::env::var("CUCKOO_TEST_SEED").unwrap_or_else(|_| "c0c0".into()),
        16,
    )
    .unwrap_or(0xc0c0);
    println!("CUCKOO_TEST_SEED={seed:x}");
    let entropy = SeededEntropy::from_number(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.db");
    let mut acknowledged = BTreeMap::new();
    let mut settings = StoreSettings::default();
    for life in 0..KILLS {
        // A kill takes nothing from the operating system, so the quicker way must do as well.
        let sync = if life % 2 == 0 {
            SyncLevel::Full
        } else {
            SyncLevel::Normal
        };
        let order = Order {
            path: path.clone(),
            sync,
            life,
        };
        settings = order.settings();
        let (mut process, _input) = order.start();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // Some die before they have done anything.
        let wanted = (entropy.number() % 400).saturating_sub(20) as usize;
        let delay = Duration::from_micros(entropy.number() % 20_000);
        let mut heard = Vec::new();
        while heard.len() < wanted {
            let line = lines.next().expect("it works until it is killed").unwrap();
            heard.extend(parse(&line));
        }
        SystemClock.sleep(delay).await;
        process.kill().unwrap();
        // What it said with its last breath counts as well.
        heard.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
        process.wait().unwrap();
        assert_eq!(
            SqliteStore::check(&settings).await.unwrap(),
            [""; 0],
            "seed {seed:x}, life {life}"
        );
        for (number, done) in heard {
            *acknowledged.entry(number).or_default() |= done;
        }
    }
    assert!(
        acknowledged.len() > 500,
        "only {} tasks were begun",
        acknowledged.len()
    );
    let store = SqliteStore::open(&settings).await.unwrap();
    verify(&store, &acknowledged, seed).await;
}

/// A task that is durable, and whether its end is. A line that was cut off says nothing.
fn parse(line: &str) -> Option<(u64, bool)> {
    let (number, done) = match line.split_once(' ')? {
        ("begun", number) => (number, false),
        ("done", number) => (number, true),
        _ => return None,
    };
    Some((number.parse().ok()?, done))
}

async fn verify(store: &SqliteStore, acknowledged: &BTreeMap<u64, bool>, seed: u64) {
    for (&number, &done) in acknowledged {
        let open = task(number);
        let stored = store.load(open.task.id).await.unwrap();
        let stored = stored.unwrap_or_else(|| panic!("task {number} is lost, seed {seed:x}"));
        assert!(
            !done || stored.value.outcome.is_some(),
            "the end of {number} is lost, seed {seed:x}"
        );
    }
    // Of all tasks, those nobody was told of included: each is whole.
    let everything = TaskFilter {
        limit: usize::MAX,
        ..TaskFilter::default()
    };
    let mut paid: BTreeMap<NodeId, Wei> = BTreeMap::new();
    let mut leased = 0;
    for record in store.list(&everything).await.unwrap() {
        let number = record.task.submitted_at.since(time(0)).as_millis() as u64;
        let lease = lease(&record, number / TURNS % CALLERS);
        let id = record.task.id;
        let payment = store.payment(id, lease.lease).await.unwrap();
        let kept = store.output(id, lease.lease).await.unwrap();
        if record.outcome.is_some() {
            let output = output(number);
            let open = task(number);
            assert_eq!(
                record,
                completed(&received(&open, &lease, &output), number + 1)
            );
            assert_eq!(kept.unwrap().bytes, output);
            *paid.entry(lease.miner).or_default() += payment.unwrap().amount;
        } else {
            assert_eq!((record, kept, payment), (task(number), None, None));
            leased += 1;
        }
    }
    let accounts = store.accounts().await.unwrap();
    let owed = accounts
        .into_iter()
        .map(|account| (account.value.miner, account.value.cumulative()));
    assert_eq!(owed.collect::<BTreeMap<_, _>>(), paid, "seed {seed:x}");
    assert_eq!(store.leases().await.unwrap().len(), leased);
    assert_eq!(
        store.unfinished(None, usize::MAX).await.unwrap().len(),
        leased
    );
}
