//! What the store on disk costs: a commit alone, many callers, a task's whole life, a start with many tasks.
//!
//! `cargo run --release -p cuckoo-coordinator --example store -- [finished tasks at the start, 1000000 when absent]`
//! prints one line for each; docs/benchmarks.md has a run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    dead_code,
    reason = "a benchmark: it measures real time, stops at the first failure, and shares its tasks with the tests"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cuckoo_coordinator::{Change, SqliteStore, StoreSettings, SyncLevel, TaskStore};
use cuckoo_core::{NodeId, cai};

#[path = "../tests/store/fixture.rs"]
mod fixture;

use fixture::{Life, account, commit, insert, task};

fn main() {
    let finished = std::env::args()
        .nth(1)
        .map_or(1_000_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir_in(".").unwrap();
        let at = |name: &str| StoreSettings::at(folder.path().join(name));
        alone(&at("alone.db")).await;
        together(&at("together.db")).await;
        for batch in [1, 8, 64, 256] {
            lives(&at(&format!("lives-{batch}.db")), batch).await;
        }
        start(&at("start.db"), finished, 100_000).await;
    });
}

/// One caller, one insertion a commit.
async fn alone(settings: &StoreSettings) {
    let store = SqliteStore::open(settings).await.unwrap();
    let mut times = Vec::new();
    for number in 0..5_000 {
        let changes = vec![insert(&task(number))];
        let began = Instant::now();
        commit(&store, changes).await;
        times.push(began.elapsed());
    }
    times.sort();
    let at = |share: usize| times[times.len() * share / 1000];
    println!(
        "commit alone: p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}",
        at(500),
        at(900),
        at(990),
        at(999)
    );
}

/// 64 callers, one insertion a commit.
async fn together(settings: &StoreSettings) {
    const CALLERS: u64 = 64;
    const EACH: u64 = 2_000;
    let store = Arc::new(SqliteStore::open(settings).await.unwrap());
    let records: Vec<Vec<_>> = (0..CALLERS)
        .map(|caller| (0..EACH).map(|turn| task(caller * EACH + turn)).collect())
        .collect();
    let cpu = cpu_time();
    let began = Instant::now();
    let callers: Vec<_> = records
        .into_iter()
        .map(|records| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for record in &records {
                    commit(store.as_ref(), vec![insert(record)]).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let count = (CALLERS * EACH) as f64;
    println!(
        "{CALLERS} callers: {:.0} commits a second, {:.1} us of CPU each",
        count / began.elapsed().as_secs_f64(),
        (cpu_time() - cpu).as_secs_f64() * 1e6 / count,
    );
}

/// Whole lives, so many in each commit as the coordinator's journal gathers under load; beside 100,000 finished ones.
async fn lives(settings: &StoreSettings, batch: usize) {
    let count = if batch == 1 { 10_000 } else { 50_000 };
    let store = SqliteStore::open(settings).await.unwrap();
    fill(&store, 0, 100_000).await;
    let lives: Vec<_> = (100_000..100_000 + count)
        .map(|number| Life::new(number, &[7; 200]))
        .collect();
    let mut version = 1;
    commit(&store, vec![account(NodeId(1), cai(2), 0)]).await;
    let began = Instant::now();
    let cpu = cpu_time();
    // While some end, the next begin: each commit has both.
    let mut begun: &[Life] = &[];
    for chunk in lives.chunks(batch).chain([&[][..]]) {
        let mut changes: Vec<Change> = chunk.iter().flat_map(Life::begin).collect();
        changes.extend(begun.iter().flat_map(Life::end));
        changes.push(account(NodeId(1), cai(2 * version), version));
        version += 1;
        commit(&store, changes).await;
        begun = chunk;
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let (elapsed, cpu) = (began.elapsed(), cpu_time() - cpu);
    drop(store);
    let file = std::fs::metadata(&settings.path).unwrap().len();
    println!(
        "whole lives, {batch} a commit: {:.1} us each, {:.1} us of CPU; {} bytes a task on disk",
        each(elapsed),
        each(cpu),
        file / (100_000 + count),
    );
}

/// Opening a file with so many tasks, until all open ones are read.
async fn start(settings: &StoreSettings, finished: u64, open: u64) {
    let quick = StoreSettings {
        sync: SyncLevel::Normal,
        ..settings.clone()
    };
    let began = Instant::now();
    let store = SqliteStore::open(&quick).await.unwrap();
    fill(&store, 0, finished).await;
    for from in (finished..finished + open).step_by(1_000) {
        let changes = (from..from + 1_000).map(|number| insert(&task(number)));
        commit(&store, changes.collect()).await;
    }
    println!(
        "{finished} finished and {open} open tasks written in {:.1?}",
        began.elapsed()
    );
    drop(store);
    let began = Instant::now();
    let store = SqliteStore::open(settings).await.unwrap();
    let opened = began.elapsed();
    let mut last = None;
    let mut count = 0;
    loop {
        let page = store.unfinished(last, 1_000).await.unwrap();
        let Some(latest) = page.last() else { break };
        last = Some(latest.value.task.id);
        count += page.len();
    }
    assert_eq!(count as u64, open);
    let leases = store.leases().await.unwrap().len();
    println!(
        "start: open in {opened:.1?}, {count} open tasks and {leases} leases read after {:.1?}",
        began.elapsed()
    );
    let began = Instant::now();
    let mut swept = 0;
    let cpu = cpu_time();
    while began.elapsed() < Duration::from_secs(5) {
        match store
            .sweep(fixture::time(finished), usize::MAX)
            .await
            .unwrap()
        {
            0 => break,
            more => swept += more,
        }
    }
    let cpu = (cpu_time() - cpu).as_secs_f64() * 1e6;
    println!(
        "sweep: {swept} tasks in {:.1?}, {:.1} us of CPU each",
        began.elapsed(),
        cpu / swept as f64
    );
}

async fn fill(store: &SqliteStore, from: u64, to: u64) {
    for from in (from..to).step_by(1_000) {
        let lives: Vec<_> = (from..to.min(from + 1_000))
            .map(|number| Life::new(number, &[7; 200]))
            .collect();
        let begin = lives.iter().flat_map(Life::begin);
        let end = lives.iter().flat_map(Life::end);
        commit(store, begin.chain(end).collect()).await;
    }
}

/// What this process has used of all cores; Linux counts in hundredths of a second.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
