//! What only a store on disk has: a file that others may hold, that may be something else, on a disk that may be full.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{Commit, SqliteStore, StoreSettings, TaskStore};
use cuckoo_core::{Clock as _, ErrorKind, NodeId, Output, Result, Retry, SystemClock, Wei, cai};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::fixture::{
    Life, account, commit, ended, failed, insert, pay, replace, replace_with, task, time,
};
use crate::subject::settings;

async fn open(settings: &StoreSettings) -> SqliteStore {
    SqliteStore::open(settings).await.unwrap()
}

/// The kind and message of an error that says what to do.
fn refused<T: std::fmt::Debug>(result: Result<T>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.message().to_owned())
}

fn here() -> (TempDir, StoreSettings) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    (folder, settings)
}

/// Every file under a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn one_process_at_a_time() {
    let (_folder, settings) = here();
    let store = open(&settings).await;
    let (kind, message) = refused(SqliteStore::open(&settings).await);
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("another process"), "{message}");
    commit(&store, vec![insert(&task(1))]).await;
    drop(store);
    let store = open(&settings).await;
    assert!(store.load(task(1).task.id).await.unwrap().is_some());
}

#[tokio::test]
async fn the_folder_is_made_and_all_of_it_is_where_it_was_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        path: folder.path().join("deep/down/coordinator.db"),
        ..settings(&folder)
    };
    let store = open(&settings).await;
    let life = Life::new(1, &[1; 100]);
    store
        .stage(
            life.lease.lease,
            Output::new("image/png", life.output.clone()),
        )
        .await
        .unwrap();
    let outputs = files(&folder.path().join("deep/down/coordinator.outputs"));
    assert_eq!(outputs.len(), 2, "{outputs:?}");
    let elsewhere = StoreSettings {
        path: folder.path().join("other.db"),
        outputs_url: Some(format!(
            "file://{}",
            folder.path().join("outputs").display()
        )),
        ..settings
    };
    let store = open(&elsewhere).await;
    store
        .stage(
            life.lease.lease,
            Output::new("image/png", life.output.clone()),
        )
        .await
        .unwrap();
    assert_eq!(files(&folder.path().join("outputs")).len(), 2);
}

#[tokio::test]
async fn files_that_are_something_else_are_refused_and_left_alone() {
    let (folder, settings) = here();
    let foreign = Connection::open(&settings.path).unwrap();
    foreign
        .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
        .unwrap();
    drop(foreign);
    let before = std::fs::read(&settings.path).unwrap();
    let (kind, message) = refused(SqliteStore::open(&settings).await);
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("some other program"), "{message}");
    assert!(std::fs::read(&settings.path).unwrap() == before);

    let text = StoreSettings::at(folder.path().join("text.db"));
    std::fs::write(
        &text.path,
        "a letter to a friend, long enough to be a page ".repeat(100),
    )
    .unwrap();
    let (kind, message) = refused(SqliteStore::open(&text).await);
    assert_eq!(kind, ErrorKind::Internal);
    assert!(message.contains("damaged"), "{message}");

    let newer = StoreSettings::at(folder.path().join("newer.db"));
    drop(open(&newer).await);
    let connection = Connection::open(&newer.path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let (kind, message) = refused(SqliteStore::open(&newer).await);
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(
        message.contains("later version") && message.contains("99"),
        "{message}"
    );
}

#[tokio::test]
async fn settings_that_cannot_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let fine = settings(&folder);
    let with = |adjust: fn(&mut StoreSettings)| {
        let mut settings = fine.clone();
        adjust(&mut settings);
        settings
    };
    for (wrong, name) in [
        (with(|settings| settings.path = "/".into()), "store.path"),
        (
            with(|settings| settings.inline_output_bytes = 2 << 20),
            "store.inline_output_bytes",
        ),
        (
            with(|settings| settings.outputs_url = Some("outputs".into())),
            "store.outputs_url",
        ),
        (
            with(|settings| settings.outputs_url = Some("gopher://x/y".into())),
            "store.outputs_url",
        ),
    ] {
        let (kind, message) = refused(SqliteStore::open(&wrong).await);
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(message.contains(name), "{message}");
    }
}

#[tokio::test]
async fn outputs_of_another_store_are_not_touched() {
    let (folder, mut first) = here();
    first.outputs_url = Some(format!(
        "file://{}",
        folder.path().join("outputs").display()
    ));
    drop(open(&first).await);
    let second = StoreSettings {
        path: folder.path().join("second.db"),
        ..first.clone()
    };
    let (kind, message) = refused(SqliteStore::open(&second).await);
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("another store"), "{message}");
    open(&first).await;
}

#[tokio::test]
async fn what_was_staged_and_never_committed_is_found_at_the_next_start() {
    let (folder, settings) = here();
    let store = open(&settings).await;
    let lives = [1, 2, 3].map(|number| Life::new(number, &[number as u8; 100]));
    for life in &lives {
        commit(&store, life.begin().to_vec()).await;
        let given = Output::new("image/png", life.output.clone());
        let staged = store.stage(life.lease.lease, given).await.unwrap();
        if life.output[0] == 2 {
            commit(&store, vec![replace_with(&life.done, 1, staged)]).await;
        }
    }
    drop(store);
    let outputs = folder.path().join("coordinator.outputs");
    let count = || files(&outputs).len();
    assert_eq!(count(), 4);
    // One that was being written, and two that are nobody's business.
    let first = files(&outputs)
        .into_iter()
        .find(|path| path.ends_with("0"))
        .unwrap();
    std::fs::write(first.with_file_name("3#1"), "half").unwrap();
    std::fs::write(outputs.join("README"), "mine").unwrap();
    std::fs::create_dir(outputs.join("notes")).unwrap();
    std::fs::write(outputs.join("notes/a#b"), "mine").unwrap();
    let store = open(&settings).await;
    let (lease, bytes) = (lives[0].lease.lease, lives[0].output.clone());
    store
        .stage(lease, Output::new("image/png", bytes))
        .await
        .unwrap();
    // The mark, the committed one, the new one, and the others'.
    for _ in 0..1_000 {
        if count() == 5 {
            break;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(count(), 5, "{:?}", files(&outputs));
    let kept = store
        .output(lives[1].open.task.id, lives[1].lease.lease)
        .await
        .unwrap();
    assert_eq!(kept.unwrap().bytes, lives[1].output);
}

#[tokio::test]
async fn outputs_that_are_dropped_leave_the_disk() {
    let (folder, settings) = here();
    let store = open(&settings).await;
    let life = Life::new(1, &[1; 100]);
    commit(&store, life.begin().to_vec()).await;
    let given = Output::new("image/png", life.output.clone());
    let staged = store.stage(life.lease.lease, given).await.unwrap();
    commit(&store, vec![replace_with(&life.done, 1, staged)]).await;
    let outputs = folder.path().join("coordinator.outputs");
    assert_eq!(files(&outputs).len(), 2);
    assert_eq!(store.sweep(time(5_000), 0).await.unwrap(), 1);
    for _ in 0..1_000 {
        if files(&outputs).len() == 1 {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still there: {:?}", files(&outputs));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_share_a_transaction_do_not_share_its_conflicts() {
    const CALLERS: u64 = 32;
    const EACH: u64 = 20;
    let (_folder, settings) = here();
    let store = Arc::new(open(&settings).await);
    // All of them grow one account, and each of them does something that nobody else does.
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut conflicts = 0;
                for turn in 0..EACH {
                    let record = task(caller * EACH + turn);
                    loop {
                        let accounts = store.accounts().await.unwrap();
                        let (owed, version) = accounts.first().map_or((Wei::ZERO, 0), |account| {
                            (account.value.cumulative(), account.version)
                        });
                        let changes =
                            vec![insert(&record), account(NodeId(1), owed + cai(1), version)];
                        match store.commit(changes).await.unwrap() {
                            Commit::Done(_) => break,
                            Commit::Conflict(positions) => {
                                assert_eq!(positions, [1]);
                                conflicts += 1;
                            }
                        }
                    }
                }
                conflicts
            })
        })
        .collect();
    let mut conflicts = 0;
    for caller in callers {
        conflicts += caller.await.unwrap();
    }
    assert!(conflicts > 0, "they never met");
    let account = &store.accounts().await.unwrap()[0];
    assert_eq!(account.value.cumulative(), cai(CALLERS * EACH));
    assert_eq!(account.version, CALLERS * EACH);
    let open = store.unfinished(None, usize::MAX).await.unwrap();
    assert_eq!(open.len() as u64, CALLERS * EACH);
    assert_eq!(SqliteStore::check(&settings).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_copy_made_while_it_runs_is_whole() {
    let (folder, settings) = here();
    let store = open(&settings).await;
    for number in 0..50 {
        let life = Life::new(number, b"small");
        let all = life.begin().into_iter().chain(life.end()).collect();
        commit(&store, all).await;
    }
    commit(
        &store,
        vec![account(NodeId(1), cai(100), 0), insert(&task(99))],
    )
    .await;
    let copy = settings.path.with_file_name("copy.db");
    SqliteStore::backup(&settings, &copy).await.unwrap();
    let (kind, _) = refused(SqliteStore::backup(&settings, &copy).await);
    assert_eq!(kind, ErrorKind::Conflict);
    let stats = SqliteStore::stats(&settings).await.unwrap();
    assert_eq!(
        (
            stats.open,
            stats.finished,
            stats.accounts,
            stats.output_bytes
        ),
        (1, 50, 1, 250)
    );
    let copied = StoreSettings {
        path: copy,
        ..settings.clone()
    };
    assert_eq!(SqliteStore::check(&copied).await.unwrap(), [""; 0]);
    let copied_store = open(&copied).await;
    assert_eq!(copied_store.unfinished(None, 9).await.unwrap().len(), 1);
    assert!(copied_store.load(task(7).task.id).await.unwrap().is_some());
    let none = StoreSettings::at(folder.path().join("none.db"));
    let (kind, message) = refused(SqliteStore::stats(&none).await);
    assert_eq!(kind, ErrorKind::NotFound, "{message}");
    assert!(!none.path.exists());
}

#[tokio::test]
async fn damage_is_found() {
    let (_folder, settings) = here();
    let store = open(&settings).await;
    let lives = [1, 2].map(|number| Life::new(number, &[number as u8; 100]));
    for life in &lives {
        commit(&store, life.begin().to_vec()).await;
        let given = Output::new("image/png", life.output.clone());
        let staged = store.stage(life.lease.lease, given).await.unwrap();
        commit(
            &store,
            vec![
                replace_with(&life.done, 1, staged),
                pay(&life.lease, cai(2)),
            ],
        )
        .await;
    }
    commit(&store, vec![account(NodeId(1), cai(4), 0)]).await;
    drop(store);
    assert_eq!(SqliteStore::check(&settings).await.unwrap(), [""; 0]);
    let outputs = settings.path.with_extension("outputs");
    let output = files(&outputs)
        .into_iter()
        .find(|path| path.ends_with("1"))
        .unwrap();
    std::fs::remove_file(output).unwrap();
    let connection = Connection::open(&settings.path).unwrap();
    let damage = "DELETE FROM tasks WHERE sequence = 1;
                  UPDATE accounts SET voucher = replace(voucher, '0x3782dace9d900000', '0x1');
                  UPDATE state SET finished = 7;";
    connection.execute_batch(damage).unwrap();
    drop(connection);
    let wrong = SqliteStore::check(&settings).await.unwrap();
    for line in [
        "without their task",
        "more than its voucher",
        "more or fewer than counted",
        "is missing",
    ] {
        assert!(
            wrong.iter().any(|wrong| wrong.contains(line)),
            "{line} in {wrong:#?}"
        );
    }
}

/// A folder on a disk of `size` bytes of its own; none where this user may not make one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

/// Elsewhere than on Linux as root, only the tests beside the store check this, with a limit of SQLite's own.
#[tokio::test]
async fn a_full_disk_is_an_error_that_says_so_and_passes() {
    let Some(disk) = SmallDisk::new(3 << 20) else {
        println!("no disk can be mounted here");
        return;
    };
    let settings = settings(&disk.0);
    let store = open(&settings).await;
    let ballast = disk.0.path().join("ballast");
    let mut done = Vec::new();
    let mut errors = 0;
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    for number in 0..4_000 {
        let life = Life::new(number, &[9; 60]);
        let all = life.begin().into_iter().chain(life.end()).collect();
        match store.commit(all).await {
            Ok(Commit::Done(_)) => done.push(life),
            Ok(Commit::Conflict(positions)) => panic!("{positions:?}"),
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.retry()),
                    (ErrorKind::Unavailable, Retry::Later)
                );
                assert!(error.message().contains("full: free some space"), "{error}");
                errors += 1;
                if errors > 10 {
                    break;
                }
            }
        }
    }
    assert!(
        errors > 10 && done.len() > 20,
        "{errors} errors after {} tasks",
        done.len()
    );
    let large = Output::new("image/png", vec![7; 3 << 20]);
    let (kind, message) = refused(store.stage(done[0].lease.lease, large).await);
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(message.contains("full: free some space"), "{message}");
    // What is there can still be read, and what was acknowledged is all there.
    for life in &done {
        let stored = store.load(life.open.task.id).await.unwrap().unwrap();
        assert_eq!(stored.value, life.done);
    }
    std::fs::remove_file(&ballast).unwrap();
    let next = task(9_999);
    let owed = cai(2) * Wei::from(done.len());
    commit(&store, vec![insert(&next), account(NodeId(1), owed, 0)]).await;
    commit(&store, vec![replace(&ended(&next, failed(), 1), 1)]).await;
    drop(store);
    assert_eq!(SqliteStore::check(&settings).await.unwrap(), [""; 0]);
    let store = open(&settings).await;
    let finished = SqliteStore::stats(&settings).await.unwrap().finished;
    assert_eq!(finished, done.len() as u64 + 1);
    assert!(store.load(next.task.id).await.unwrap().is_some());
}
