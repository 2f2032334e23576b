//! `cuckoo-coordinator store`: what an operator asks of the file.

use std::path::Path;
use std::process::{Command, Output};

use cuckoo_coordinator::{SqliteStore, StoreSettings};

use crate::fixture::{Life, commit, insert, task};

fn store(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cuckoo-coordinator"))
        .current_dir(folder)
        .arg("store")
        .args(arguments)
        .args(["--config", "coordinator.toml"])
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_store_is_counted_checked_and_copied_while_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/coordinator.example.toml");
    std::fs::copy(example, folder.path().join("coordinator.toml")).unwrap();
    let none = store(folder.path(), &["stats"]);
    assert!(
        !none.status.success() && said(&none).contains("there is no store"),
        "{}",
        said(&none)
    );

    let settings = StoreSettings::at(folder.path().join("coordinator.db"));
    let open = SqliteStore::open(&settings).await.unwrap();
    let life = Life::new(1, b"output");
    let changes = life.begin().into_iter().chain(life.end());
    commit(&open, changes.chain([insert(&task(2))]).collect()).await;
    let stats = store(folder.path(), &["stats"]);
    let counted: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!(
        (counted["open"].as_u64(), counted["finished"].as_u64()),
        (Some(1), Some(1))
    );
    // Paid without an account: our task's writer forgot it.
    let check = store(folder.path(), &["check"]);
    assert!(
        !check.status.success() && said(&check).contains("more than its voucher"),
        "{}",
        said(&check)
    );
    let account = crate::fixture::account(life.lease.miner, life.open.task.price, 0);
    commit(&open, vec![account]).await;
    let check = store(folder.path(), &["check"]);
    assert!(
        check.status.success() && said(&check).contains("is whole"),
        "{}",
        said(&check)
    );
    let backup = store(folder.path(), &["backup", "copy.db"]);
    assert!(backup.status.success(), "{}", said(&backup));
    let copy = StoreSettings::at(folder.path().join("copy.db"));
    assert_eq!(SqliteStore::stats(&copy).await.unwrap().finished, 1);
}
