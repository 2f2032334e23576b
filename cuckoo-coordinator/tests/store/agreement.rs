//! The store on disk answers as the one in memory does, whatever is asked in whatever order, and however often it is
//! closed and opened in between.

use cuckoo_coordinator::{
    Change, Commit, Failed, ListedState, NonceRecord, Outcome, SessionRecord, StagedOutput,
    TaskFilter, TaskRecord, TaskStore,
};
use cuckoo_core::{Address, ErrorKind, NodeId, Output, TaskId, cai, payload_hash};
use proptest::prelude::*;

use crate::fixture::{account, ended, failed, insert, lease, pay, received, task, time, word};
use crate::subject::{Kind, Subject};

const TASKS: u64 = 6;
const TURNS: u64 = 3;
const MINERS: u64 = 3;
const ROOM: u64 = 400;

/// A change to a task, lease or miner of few, so that changes meet.
#[derive(Debug, Clone)]
enum Ask {
    Insert {
        number: u64,
        requester: usize,
        key: usize,
        webhook: bool,
    },
    Receive {
        number: u64,
        turn: u64,
        size: usize,
    },
    Reopen {
        number: u64,
        failure: bool,
    },
    End {
        number: u64,
        how: usize,
        at: u64,
    },
    Pay {
        number: u64,
        turn: u64,
    },
    Account {
        miner: u64,
    },
    PutLease {
        number: u64,
        turn: u64,
    },
    RemoveLease {
        number: u64,
        turn: u64,
    },
    PutSession {
        miner: u64,
        number: u64,
    },
    RemoveSession {
        miner: u64,
    },
    PutNonce {
        miner: u64,
        number: u64,
        at: u64,
    },
    Notified {
        number: u64,
    },
}

/// What is done to both stores.
#[derive(Debug, Clone)]
enum Step {
    /// One commit; the numbers are added to the versions that were read, and seldom are zero.
    Commit(Vec<(Ask, u64)>),
    Sweep {
        before: u64,
        keep: usize,
    },
    Blob {
        number: u8,
        at: u64,
    },
    List(usize, usize, usize, u64, usize),
    Reopen,
}

fn ask() -> impl Strategy<Value = Ask> {
    let number = || 0..TASKS;
    let turn = || 0..TURNS;
    let miner = || 0..MINERS;
    prop_oneof![
        5 => (number(), 0..3_usize, 0..4_usize, any::<bool>()).prop_map(|(number, requester, key, webhook)| {
            Ask::Insert { number, requester, key, webhook }
        }),
        4 => (number(), turn(), 0..150_usize)
            .prop_map(|(number, turn, size)| Ask::Receive { number, turn, size }),
        1 => (number(), any::<bool>()).prop_map(|(number, failure)| Ask::Reopen { number, failure }),
        3 => (number(), 0..3_usize, 0..50_u64).prop_map(|(number, how, at)| Ask::End { number, how, at }),
        2 => (number(), turn()).prop_map(|(number, turn)| Ask::Pay { number, turn }),
        1 => miner().prop_map(|miner| Ask::Account { miner }),
        2 => (number(), turn()).prop_map(|(number, turn)| Ask::PutLease { number, turn }),
        1 => (number(), turn()).prop_map(|(number, turn)| Ask::RemoveLease { number, turn }),
        1 => (miner(), 0..9_u64).prop_map(|(miner, number)| Ask::PutSession { miner, number }),
        1 => miner().prop_map(|miner| Ask::RemoveSession { miner }),
        2 => (miner(), 0..3_u64, 0..60_u64)
            .prop_map(|(miner, number, at)| Ask::PutNonce { miner, number, at }),
        1 => number().prop_map(|number| Ask::Notified { number }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let change = (ask(), prop_oneof![9 => Just(0_u64), 1 => 1..3_u64]);
    prop_oneof![
        12 => prop::collection::vec(change, 1..6).prop_map(Step::Commit),
        1 => (0..60_u64, 0..5_usize).prop_map(|(before, keep)| Step::Sweep { before, keep }),
        1 => (0..4_u8, 0..60_u64).prop_map(|(number, at)| Step::Blob { number, at }),
        2 => (0..3_usize, 0..3_usize, 0..5_usize, 0..=TASKS, 0..8_usize)
            .prop_map(|(requester, model, state, before, limit)| Step::List(requester, model, state, before, limit)),
        1 => Just(Step::Reopen),
    ]
}

const REQUESTERS: [Option<&str>; 3] = [None, Some("anna"), Some("ben")];
const KEYS: [Option<&str>; 4] = [None, None, Some("one"), Some("two")];
const MODELS: [Option<&str>; 3] = [None, Some("shapes"), Some("chat")];

fn named(number: u64) -> TaskRecord {
    let mut record = task(number);
    if number % 2 == 1 {
        record.task.model = "chat".parse().unwrap();
    }
    record
}

/// What a coordinator would ask, from what it last read.
struct Asker<'a> {
    read: &'a dyn TaskStore,
    /// What earlier changes of the same commit, if they are made, made of what was read.
    ahead: Vec<(TaskRecord, u64)>,
}

impl Asker<'_> {
    async fn latest(&self, number: u64) -> (TaskRecord, u64) {
        let id = named(number).task.id;
        if let Some(ahead) = self
            .ahead
            .iter()
            .rev()
            .find(|(record, _)| record.task.id == id)
        {
            return ahead.clone();
        }
        match self.read.load(id).await.unwrap() {
            Some(stored) => (stored.value, stored.version),
            None => (named(number), 1),
        }
    }

    fn replace(
        &mut self,
        record: TaskRecord,
        expected: u64,
        output: Option<StagedOutput>,
        dropped: Vec<cuckoo_core::LeaseId>,
    ) -> Change {
        self.ahead.push((record.clone(), expected + 1));
        Change::Replace {
            record: record.into(),
            expected,
            output,
            dropped,
        }
    }

    /// The change, for a store that stages outputs with `stage`.
    async fn change(&mut self, ask: &Ask, off: u64, stage: &dyn TaskStore) -> Change {
        match *ask {
            Ask::Insert {
                number,
                requester,
                key,
                webhook,
            } => {
                let mut record = named(number);
                record.submission.requester = REQUESTERS[requester].map(Into::into);
                record.submission.idempotency_key = KEYS[key].map(Into::into);
                record.submission.webhook = webhook.then(|| "https://example.org".into());
                let id = record.task.id;
                let mut ahead = self.ahead.iter();
                if ahead.all(|(record, _)| record.task.id != id)
                    && self.read.load(id).await.unwrap().is_none()
                {
                    self.ahead.push((record.clone(), 1));
                }
                insert(&record)
            }
            Ask::Receive { number, turn, size } => {
                let (record, version) = self.latest(number).await;
                let (lease, output) = (lease(&record, turn), vec![turn as u8; size]);
                let record = received(&record, &lease, &output);
                let given = Output::new("image/png", output);
                let staged = stage.stage(lease.lease, given).await.unwrap();
                self.replace(record, version + off, Some(staged), Vec::new())
            }
            Ask::Reopen { number, failure } => {
                let (mut record, version) = self.latest(number).await;
                let dropped = record.received.drain(..);
                let dropped = dropped
                    .map(|received| received.receipt.value.lease)
                    .collect();
                if failure {
                    record.failures.push(Failed {
                        miner: NodeId(1),
                        kind: ErrorKind::Execution,
                        reason: "no memory".into(),
                        at: time(3),
                    });
                }
                self.replace(record, version + off, None, dropped)
            }
            Ask::End { number, how, at } => {
                let (record, version) = self.latest(number).await;
                let outcome = match (how, record.received.last()) {
                    (0, Some(received)) => Outcome::Completed {
                        receipt: Box::new(received.receipt.clone()),
                    },
                    (1, _) => Outcome::Cancelled,
                    _ => failed(),
                };
                self.replace(ended(&record, outcome, at), version + off, None, Vec::new())
            }
            Ask::Pay { number, turn } => pay(&lease(&named(number), turn), cai(turn)),
            Ask::Account { miner } => {
                let accounts = self.read.accounts().await.unwrap();
                let known = accounts
                    .iter()
                    .find(|account| account.value.miner.0 == miner);
                let version = known.map_or(0, |account| account.version);
                account(NodeId(miner), cai(version + 1), version + off)
            }
            Ask::PutLease { number, turn } => Change::PutLease(lease(&named(number), turn)),
            Ask::RemoveLease { number, turn } => Change::RemoveLease {
                task: named(number).task.id,
                lease: lease(&named(number), turn).lease,
            },
            Ask::PutSession { miner, number } => Change::PutSession(SessionRecord {
                token_hash: word("token", number),
                miner: NodeId(miner),
                operator: Address::repeat_byte(1),
                expires_at: time(number),
            }),
            Ask::RemoveSession { miner } => Change::RemoveSession(NodeId(miner)),
            Ask::PutNonce { miner, number, at } => Change::PutNonce {
                nonce: NonceRecord {
                    miner: NodeId(miner),
                    nonce: word("nonce", number),
                    // One that has expired when it comes is no less to be refused or taken by both.
                    expires_at: time(20 + 10 * number),
                },
                at: time(at),
            },
            Ask::Notified { number } => Change::Notified(named(number).task.id),
        }
    }
}

async fn commit(read: &dyn TaskStore, to: &dyn TaskStore, asks: &[(Ask, u64)]) -> Commit {
    let mut asker = Asker {
        read,
        ahead: Vec::new(),
    };
    let mut changes = Vec::new();
    for (ask, off) in asks {
        changes.push(asker.change(ask, *off, to).await);
    }
    to.commit(changes).await.unwrap()
}

/// All that a store shows, as text.
async fn everything(store: &dyn TaskStore) -> String {
    let mut tasks = Vec::new();
    for number in 0..TASKS {
        let record = named(number);
        let id: TaskId = record.task.id;
        let mut kept = Vec::new();
        for turn in 0..TURNS {
            let lease = lease(&record, turn).lease;
            kept.push((
                store.output(id, lease).await.unwrap(),
                store.payment(id, lease).await.unwrap(),
            ));
        }
        tasks.push((store.load(id).await.unwrap(), kept));
    }
    let mut leases = store.leases().await.unwrap();
    leases.sort_by_key(|lease| (lease.task, lease.lease));
    let mut sessions = store.sessions().await.unwrap();
    sessions.sort_by_key(|session| session.miner);
    let mut nonces = store.nonces(time(5)).await.unwrap();
    nonces.sort_by_key(|nonce| (nonce.miner, nonce.nonce));
    let mut blobs = Vec::new();
    for number in 0..4 {
        blobs.push(store.blob(payload_hash(&blob(number).bytes)).await.unwrap());
    }
    let unfinished = store.unfinished(None, 99).await.unwrap();
    let waiting = store.unnotified(99).await.unwrap();
    let accounts = store.accounts().await.unwrap();
    let usage = [0, 3].map(time);
    let usage = (
        store.usage(usage[0]).await.unwrap(),
        store.usage(usage[1]).await.unwrap(),
    );
    format!(
        "{tasks:#?}\n{leases:#?}\n{sessions:#?}\n{nonces:#?}\n{blobs:?}\n{unfinished:#?}\n{waiting:#?}\n{accounts:#?}\n{usage:#?}"
    )
}

fn blob(number: u8) -> Output {
    Output::new("image/png", vec![number; usize::from(number) * 40])
}

async fn agree(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let memory = Subject::with_room(Kind::Memory, ROOM).await;
    let mut disk = Subject::with_room(Kind::Sqlite, ROOM).await;
    for step in &steps {
        match step {
            Step::Commit(asks) => {
                // Before either commits: both are asked the same.
                let wanted = commit_both(&memory, &disk, asks).await;
                prop_assert_eq!(&wanted.0, &wanted.1, "{:?}", step);
            }
            Step::Sweep { before, keep } => {
                let sweep =
                    async |store: &dyn TaskStore| store.sweep(time(*before), *keep).await.unwrap();
                let swept = (sweep(memory.store()).await, sweep(disk.store()).await);
                prop_assert_eq!(swept.0, swept.1, "{:?}", step);
            }
            Step::Blob { number, at } => {
                let blob = blob(*number);
                let hash = payload_hash(&blob.bytes);
                memory
                    .store()
                    .put_blob(hash, blob.clone(), time(*at))
                    .await
                    .unwrap();
                disk.store().put_blob(hash, blob, time(*at)).await.unwrap();
            }
            Step::List(requester, model, state, before, limit) => {
                let filter = TaskFilter {
                    requester: REQUESTERS[*requester].map(Into::into),
                    model: MODELS[*model].map(|model| model.parse().unwrap()),
                    state: [
                        None,
                        Some(ListedState::Open),
                        Some(ListedState::Completed),
                        Some(ListedState::Failed),
                        Some(ListedState::Cancelled),
                    ][*state],
                    before: (*before < TASKS).then(|| named(*before).task.id),
                    limit: *limit,
                };
                let lists = (
                    memory.store().list(&filter).await.unwrap(),
                    disk.store().list(&filter).await.unwrap(),
                );
                prop_assert_eq!(lists.0, lists.1, "{:?}", filter);
            }
            Step::Reopen => disk.reopen().await,
        }
        let (expected, seen) = (
            everything(memory.store()).await,
            everything(disk.store()).await,
        );
        prop_assert_eq!(expected, seen, "after {:?}", step);
    }
    Ok(())
}

async fn commit_both(memory: &Subject, disk: &Subject, asks: &[(Ask, u64)]) -> (Commit, Commit) {
    // The one on disk goes first and reads from the other, which has not changed yet.
    let disk = commit(memory.store(), disk.store(), asks).await;
    let memory = commit(memory.store(), memory.store(), asks).await;
    (memory, disk)
}

/// `CUCKOO_TEST_SEED` repeats a run: 64 hexadecimal digits, as printed.
#[test]
fn both_stores_answer_alike() {
    const CASES: u32 = 48;
    let seed = std::env::var("CUCKOO_TEST_SEED").unwrap_or_else(|_| "c0".repeat(32));
    println!("CUCKOO_TEST_SEED={seed}");
    let seed: cuckoo_core::B256 = seed.parse().expect("64 hexadecimal digits");
    let rng = prop::test_runner::TestRng::from_seed(
        prop::test_runner::RngAlgorithm::ChaCha,
        seed.as_slice(),
    );
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = prop::test_runner::TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runner
        .run(&prop::collection::vec(step(), 1..40), |steps| {
            runtime.block_on(agree(steps))
        })
        .unwrap();
}
