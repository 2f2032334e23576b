//! Every input that fuzzing begins with and every one that it found, through the functions that it calls: on a usual build,
//! with every other test.
//!
//! `CUCKOO_FUZZ_SEEDS=write` writes the seeds anew after the messages they are made of changed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[allow(unreachable_pub, reason = "it is a library to libFuzzer")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(name)
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn run(target: &str) {
    let (_, function) = fuzz::TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let seeds = files(&folder("corpus").join(target));
    assert!(seeds.len() >= 2, "{target} has no seeds");
    for file in seeds
        .into_iter()
        .chain(files(&folder("findings").join(target)))
    {
        // Shown when the target panics.
        eprintln!("{}", file.display());
        function(&fs::read(&file).unwrap());
    }
    function(&[]);
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_run_here_and_by_libfuzzer() {
            let names = [$(stringify!($name)),*];
            let binaries = files(&folder("fuzz_targets"));
            assert_eq!(names.len(), fuzz::TARGETS.len());
            assert_eq!(names.len(), binaries.len());
            for (name, _) in fuzz::TARGETS {
                assert!(names.contains(&name), "{name}");
                let binary = folder("fuzz_targets").join(name).with_extension("rs");
                assert!(binaries.contains(&binary), "{name}");
            }
        }
    };
}

targets!(
    task, control, receipt, signature, kinds, numbers, rows, requests, session
);

#[test]
fn the_seeds_are_messages_of_today() {
    let corpus = folder("corpus");
    let write = std::env::var_os("CUCKOO_FUZZ_SEEDS").is_some();
    let mut expected = BTreeSet::new();
    for (target, name, bytes) in fuzz::seeds::seeds() {
        let file = corpus.join(target).join(name);
        if write {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        assert!(
            fs::read(&file).ok().as_ref() == Some(&bytes),
            "{} is not as it would be made today: run this test with CUCKOO_FUZZ_SEEDS=write and commit it",
            file.display()
        );
        expected.insert(file);
    }
    let targets = files(&corpus);
    let found: BTreeSet<_> = targets.iter().flat_map(|target| files(target)).collect();
    assert_eq!(found, expected, "findings go to fuzz/findings");
}
