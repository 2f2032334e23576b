//! Pulls that go well, and what is in the cache afterwards.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::Method;
use cuckoo_core::ErrorKind;
use cuckoo_miner::{FolderKind, HubModel, PullOptions};

use crate::mirror::{LIST, sent};
use crate::{Cache, SHAPES, UNET, files, golden, mirror, quick, shapes};

fn model(text: &str) -> HubModel {
    text.parse().unwrap()
}

#[test]
fn a_snapshot_has_what_executors_read_in_the_layout_of_huggingface_hub() {
    let (mirror, commit) = mirror();
    let cache = Cache::new();
    let pulled = cache.pull(&mirror, SHAPES).unwrap();
    assert_eq!(pulled.model.to_string(), format!("{SHAPES}@{commit}"));
    let mut expected = files(&shapes());
    assert!(expected.remove("README.md").is_some());
    assert_eq!(files(&pulled.folder), expected);
    let bytes: usize = expected.values().map(Vec::len).sum();
    assert_eq!((pulled.files, pulled.bytes), (expected.len(), bytes as u64));
    assert_eq!(pulled.fetched, pulled.bytes);

    assert_eq!(pulled.folder, cache.path(SHAPES, "snapshots").join(&commit));
    assert_eq!(
        fs::read_to_string(cache.path(SHAPES, "refs/main")).unwrap(),
        commit
    );
    let link = fs::read_link(pulled.folder.join(UNET)).unwrap();
    assert!(link.starts_with("../../../blobs"), "{}", link.display());
    assert_eq!(link.file_name().unwrap().len(), 64);
    let small = fs::read_link(pulled.folder.join("model_index.json")).unwrap();
    assert_eq!(small.file_name().unwrap().len(), 40);
    let tree = fs::read_to_string(cache.path(SHAPES, &format!("trees/{commit}.json"))).unwrap();
    assert!(tree.contains("format_version") && tree.contains(UNET));

    // A second pull asks for the list alone.
    mirror.calls();
    let again = cache.pull(&mirror, SHAPES).unwrap();
    assert_eq!((again.fetched, again.folder), (0, pulled.folder));
    assert_eq!(mirror.calls().len(), 1);
}

#[test]
fn what_is_in_the_cache_is_found_by_name_revision_and_commit() {
    let (mirror, commit) = mirror();
    let cache = Cache::new();
    let store = cache.store();
    assert_eq!(store.list().unwrap(), []);
    let absent = store.folder_of(&model(SHAPES)).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    assert!(
        absent.message().contains("models pull cuckoo/shapes"),
        "{absent}"
    );
    let folder = cache.pull(&mirror, SHAPES).unwrap().folder;
    drop(mirror);
    for name in [
        SHAPES.to_owned(),
        format!("{SHAPES}@main"),
        format!("{SHAPES}@{commit}"),
        format!("{SHAPES}@{}", &commit[..8]),
    ] {
        assert_eq!(store.folder_of(&model(&name)).unwrap(), folder, "{name}");
        assert_eq!(store.locate(&name).unwrap(), folder);
    }
    for name in ["cuckoo/other", "cuckoo/shapes@v2", "cuckoo/shapes@abcdef0"] {
        assert_eq!(store.find(&model(name)).unwrap(), None, "{name}");
    }
    assert_eq!(store.locate(folder.to_str().unwrap()).unwrap(), folder);
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].kind, &listed[0].revisions[..]),
        (FolderKind::Image, &["main".to_owned()][..])
    );
    assert_eq!(listed[0].lacks, None);
}

/// As `huggingface_hub` leaves it when only some files were asked for.
#[test]
fn a_cache_of_other_tools_is_used_and_completed() {
    let (mirror, commit) = mirror();
    let other = Cache::new();
    let from = other.pull(&mirror, SHAPES).unwrap().folder;
    let cache = Cache::new();
    let (blobs, snapshot) = (
        cache.path(SHAPES, "blobs"),
        cache.path(SHAPES, "snapshots").join(&commit),
    );
    for folder in [&blobs, &snapshot.join("unet"), &cache.path(SHAPES, "refs")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(cache.path(SHAPES, "refs/main"), &commit).unwrap();
    for name in ["model_index.json", UNET] {
        let blob = from.join(name).canonicalize().unwrap();
        let here = blobs.join(blob.file_name().unwrap());
        fs::copy(blob, &here).unwrap();
        symlink(&here, snapshot.join(name)).unwrap();
    }
    let found = cache.store().find(&model(SHAPES)).unwrap().unwrap();
    assert_eq!((found.files, found.kind), (2, FolderKind::Image));
    assert!(found.lacks.is_some());
    mirror.calls();
    let pulled = cache.pull(&mirror, SHAPES).unwrap();
    assert_eq!(sent(&mirror.calls(), UNET), 0);
    assert_eq!(
        pulled.fetched,
        pulled.bytes
            - fs::metadata(shapes().join(UNET)).unwrap().len()
            - fs::metadata(shapes().join("model_index.json"))
                .unwrap()
                .len()
    );
    assert_eq!(
        cache.store().find(&model(SHAPES)).unwrap().unwrap().lacks,
        None
    );
}

#[test]
fn a_mirror_whose_lists_say_little_is_asked_about_each_file() {
    let (mirror, commit) = mirror();
    mirror.lean();
    let cache = Cache::new();
    let pulled = cache.pull(&mirror, SHAPES).unwrap();
    assert_eq!(files(&pulled.folder).len(), pulled.files);
    let heads = mirror
        .calls()
        .into_iter()
        .filter(|call| call.method == Method::HEAD);
    assert_eq!(heads.filter(|call| !call.store).count(), pulled.files);
    let found = cache.store().verify(None, |_, _| {}).unwrap();
    assert!(found.faults.is_empty() && found.sound > 8, "{found:?}");
    assert_eq!(pulled.model.revision(), commit);
}

#[test]
fn patterns_choose_files() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    let options = PullOptions {
        include: vec!["tokenizer/*.txt".into(), "READ*".into()],
        ..quick()
    };
    let pulled = cache.pull_with(&mirror, SHAPES, &options, &|_| {}).unwrap();
    let names: Vec<String> = files(&pulled.folder).into_keys().collect();
    assert_eq!(names, ["README.md", "tokenizer/merges.txt"]);
    assert!(
        cache
            .store()
            .find(&model(SHAPES))
            .unwrap()
            .unwrap()
            .lacks
            .is_some()
    );
}

#[test]
fn revisions_share_what_they_have_in_common() {
    let (mirror, first) = mirror();
    let cache = Cache::new();
    cache.pull(&mirror, SHAPES).unwrap();
    let mut changed: std::collections::BTreeMap<_, axum::body::Bytes> = files(&shapes())
        .into_iter()
        .map(|(name, content)| (name, content.into()))
        .collect();
    changed.insert("scheduler/scheduler_config.json".into(), "{}".into());
    let second = mirror.publish_files(SHAPES, changed);
    let pulled = cache.pull(&mirror, SHAPES).unwrap();
    assert_eq!((pulled.fetched, pulled.model.revision()), (2, &*second));
    assert_eq!(
        fs::read_to_string(cache.path(SHAPES, "refs/main")).unwrap(),
        second
    );

    // Without the second, the first is still whole.
    let removal = cache
        .store()
        .removal(&model(&format!("{SHAPES}@main")))
        .unwrap();
    assert_eq!(
        (removal.bytes, &removal.revisions[..]),
        (2, &["main".to_owned()][..])
    );
    removal.carry_out().unwrap();
    let listed = cache.store().list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].commit, &listed[0].lacks), (&first, &None));
    let found = cache.store().verify(None, |_, _| {}).unwrap();
    assert!(found.faults.is_empty(), "{found:?}");

    let all = cache.store().removal(&model(SHAPES)).unwrap();
    assert!(all.bytes > 6_000_000);
    all.carry_out().unwrap();
    assert_eq!(cache.store().list().unwrap(), []);
    assert!(!cache.path(SHAPES, "").exists());
    let gone = cache.store().removal(&model(SHAPES)).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[test]
fn two_pulls_at_once_fetch_each_content_once() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    let shared = AtomicUsize::new(0);
    let watch = |event: cuckoo_miner::PullEvent<'_>| {
        if matches!(event, cuckoo_miner::PullEvent::Shared { .. }) {
            shared.fetch_add(1, Ordering::Relaxed);
        }
    };
    // So long that the second one comes while the first is at it.
    mirror.always(
        UNET,
        crate::mirror::Fault::Slow(std::time::Duration::from_millis(30)),
    );
    let ready = Barrier::new(2);
    let fetched: u64 = std::thread::scope(|scope| {
        let pull = || {
            let store = cache.store();
            let hub = cuckoo_miner::Hub::new(&mirror.url).unwrap();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let stop = tokio_util::sync::CancellationToken::new();
            let pull = async {
                store
                    .pull(&hub, &model(SHAPES), &quick(), &watch, &stop)
                    .await
            };
            ready.wait();
            runtime.block_on(pull).unwrap()
        };
        let both = [scope.spawn(pull), scope.spawn(pull)];
        both.into_iter()
            .map(|pull| pull.join().unwrap().fetched)
            .sum()
    });
    let calls = mirror.calls();
    let size = fs::metadata(shapes().join(UNET)).unwrap().len();
    assert_eq!(sent(&calls, UNET), size);
    assert_eq!(calls.iter().filter(|call| call.path == LIST).count(), 2);
    let all: u64 = calls.iter().map(|call| call.sent).sum();
    assert_eq!(fetched, all);
    assert!(shared.load(Ordering::Relaxed) > 0);
}

#[test]
fn language_models_are_told_by_their_settings() {
    let (mirror, _) = mirror();
    mirror.publish("cuckoo/llama", &golden("language/llama"));
    let cache = Cache::new();
    let pulled = cache.pull(&mirror, "cuckoo/llama").unwrap();
    assert_eq!(FolderKind::of(&pulled.folder), FolderKind::Text);
    assert_eq!(files(&pulled.folder), files(&golden("language/llama")));
    let shard = fs::read_link(pulled.folder.join("model-00002-of-00003.safetensors")).unwrap();
    fs::remove_file(
        cache
            .path("cuckoo/llama", "blobs")
            .join(shard.file_name().unwrap()),
    )
    .unwrap();
    let found = cache.store().find(&model("cuckoo/llama")).unwrap().unwrap();
    assert_eq!(
        found.lacks.as_deref(),
        Some("model-00002-of-00003.safetensors")
    );
}
