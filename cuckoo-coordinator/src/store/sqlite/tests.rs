use cuckoo_core::{ErrorKind, Retry};

use super::*;
use crate::{Submission, TaskRecord};

fn record(number: u8) -> TaskRecord {
    let task = cuckoo_core::Task {
        id: TaskId::from(B256::repeat_byte(number)),
        model: "shapes".parse().unwrap(),
        input: "x".repeat(20_000),
        input_hash: B256::ZERO,
        price: cuckoo_core::Wei::ZERO,
        submitted_at: Timestamp::default(),
        deadline: Timestamp::default(),
        priority: 0,
    };
    TaskRecord::new(task, Submission::default())
}

fn insert(number: u8) -> Vec<Change> {
    vec![Change::Insert(Arc::new(record(number)))]
}

/// Limits the file to so many pages, as a full disk would.
async fn limit(store: &SqliteStore, pages: u32) {
    let limit = store.writer.call(move |tables| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        let set = tables
            .connection
            .query_row(&pragma, [], |row| row.get::<_, i64>(0));
        set.map(Done::Keep)
    });
    limit.await.unwrap();
}

#[tokio::test]
async fn a_database_without_room_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings::at(folder.path().join("coordinator.db"));
    let store = SqliteStore::open(&settings).await.unwrap();
    limit(&store, 100).await;
    let mut done = 0;
    let error = loop {
        match store.commit(insert(done)).await {
            Ok(Commit::Done(_)) => done += 1,
            Ok(conflict) => panic!("{conflict:?}"),
            Err(error) => break error,
        }
    };
    assert!(done > 3, "{done} fit");
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Later)
    );
    assert!(error.message().contains("full: free some space"), "{error}");
    assert!(error.message().contains("coordinator.db"), "{error}");
    // Those who share the transaction fail with it, and none of them is half there.
    let calls = (done..done + 8).map(|number| store.commit(insert(number)));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(
        store.unfinished(None, 99).await.unwrap().len(),
        usize::from(done)
    );
    limit(&store, 1_000_000).await;
    for number in done..done + 8 {
        let answer = store.commit(insert(number)).await.unwrap();
        assert!(matches!(answer, Commit::Done(_)), "{answer:?}");
    }
    drop(store);
    assert_eq!(SqliteStore::check(&settings).await.unwrap(), [""; 0]);
    let store = SqliteStore::open(&settings).await.unwrap();
    assert_eq!(
        store.unfinished(None, 99).await.unwrap().len(),
        usize::from(done) + 8
    );
}

#[tokio::test]
async fn a_call_that_fails_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings::at(folder.path().join("coordinator.db"));
    let store = SqliteStore::open(&settings).await.unwrap();
    let broken = store.writer.call(|tables| {
        tables.change(insert(1))?;
        tables.execute("INSERT INTO open VALUES (1, 1, NULL)", [])?;
        Ok(Done::Keep(()))
    });
    let (broken, good) = tokio::join!(broken, store.commit(insert(2)));
    assert_eq!(broken.unwrap_err().kind(), ErrorKind::Internal);
    assert!(matches!(good.unwrap(), Commit::Done(_)));
    let open = store.unfinished(None, 9).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].value, record(2));
    drop(store);
    assert_eq!(SqliteStore::check(&settings).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn the_log_is_copied_while_it_is_written_and_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        sync: crate::SyncLevel::Normal,
        ..StoreSettings::at(folder.path().join("coordinator.db"))
    };
    let store = SqliteStore::open(&settings).await.unwrap();
    let log = log::beside(&settings.path, "-wal");
    let room = std::fs::metadata(&log).unwrap().len();
    // Several times what the log has room for.
    for round in 0..150_u32 {
        let changes = (0..50_u32).map(|number| {
            let mut record = record(0);
            let id = (u64::from(round) << 32) + u64::from(number);
            record.task.id = TaskId::from(B256::left_padding_from(&id.to_be_bytes()));
            Change::Insert(Arc::new(record))
        });
        store.commit(changes.collect()).await.unwrap();
    }
    let size = std::fs::metadata(&log).unwrap().len();
    assert!(size < 3 * room, "the log grew to {size} bytes");
    let database = std::fs::metadata(&settings.path).unwrap().len();
    assert!(database > 2 * room, "{database} bytes were copied");
    drop(store);
    assert!(!log.exists());
}
