//! A hub that fails, lies or is slow, and what a pull makes of it.

use std::fs;
use std::time::Duration;

use cuckoo_core::{ErrorKind, Result};
use cuckoo_miner::{Hub, PullEvent, PullOptions, Pulled};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::mirror::{Fault, LIST, Mirror, sent};
use crate::{Cache, Heard, SHAPES, UNET, files, mirror, partial, quick, shapes};

const CONFIG: &str = "unet/config.json";

fn size(path: &str) -> u64 {
    fs::metadata(shapes().join(path)).unwrap().len()
}

/// Pulls file by file, so that nothing else is begun where one fails.
fn alone(cache: &Cache, mirror: &Mirror) -> Result<Pulled> {
    let options = PullOptions {
        at_once: 1,
        ..quick()
    };
    cache.pull_with(mirror, SHAPES, &options, &|_| {})
}

/// What is there is what was published.
fn assert_whole(pulled: &Pulled) {
    let published = files(&shapes());
    for (path, content) in files(&pulled.folder) {
        assert!(published[&path] == content, "{path}");
    }
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    // More often than failures in a row are borne: each attempt gets further.
    for cut in [1 << 20, 1 << 19, 70_000, 1 << 20, 1 << 20, 1 << 18] {
        mirror.once(UNET, Fault::Cut(cut));
    }
    let heard = Heard::default();
    let pulled = cache
        .pull_with(&mirror, SHAPES, &quick(), &|event| heard.hear(event))
        .unwrap();
    assert_whole(&pulled);
    assert_eq!(pulled.fetched, pulled.bytes, "no byte twice");
    let calls = mirror.calls();
    let stored: Vec<_> = calls
        .iter()
        .filter(|call| call.store && call.path == UNET)
        .collect();
    assert_eq!(stored.len(), 7);
    assert_eq!(stored[0].range, None);
    assert!(stored[1..].iter().all(|call| call.range.is_some()));
    assert_eq!(
        heard.all().matches("Repeated").count(),
        6,
        "{}",
        heard.all()
    );
}

#[test]
fn a_pull_that_gave_up_is_gone_on_with() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    mirror.once(UNET, Fault::Cut(2 << 20));
    mirror.always(UNET, Fault::Status(503, "", None));
    let error = alone(&cache, &mirror).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.message().contains("503") && error.message().contains("run it again"),
        "{error}"
    );
    assert!(
        cache.store().list().unwrap().is_empty(),
        "nothing is shown before it is whole"
    );
    assert_eq!(partial(&cache).len(), 1);
    let kept = fs::metadata(&partial(&cache)[0]).unwrap().len();
    assert!((1..=2 << 20).contains(&kept), "{kept}");

    mirror.heal();
    mirror.calls();
    let pulled = cache.pull(&mirror, SHAPES).unwrap();
    assert_whole(&pulled);
    assert_eq!(sent(&mirror.calls(), UNET), size(UNET) - kept);
    assert!(partial(&cache).is_empty());
}

#[test]
fn a_hub_that_is_busy_is_waited_for_as_long_as_it_asks() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    mirror.once(LIST, Fault::Status(429, "", Some(1)));
    mirror.once(CONFIG, Fault::Status(503, "", None));
    mirror.once(UNET, Fault::Status(500, "", None));
    let pauses = std::sync::Mutex::new(Vec::new());
    let watch = |event: PullEvent<'_>| {
        if let PullEvent::Repeated { path, pause, .. } = event {
            pauses.lock().unwrap().push((path.to_owned(), pause));
        }
    };
    assert_whole(&cache.pull_with(&mirror, SHAPES, &quick(), &watch).unwrap());
    let pauses = pauses.into_inner().unwrap();
    assert_eq!(pauses.len(), 3, "{pauses:?}");
    assert_eq!(
        pauses[0],
        ("list of files".to_owned(), Duration::from_secs(1))
    );
    assert!(
        pauses[1..]
            .iter()
            .all(|(_, pause)| *pause <= Duration::from_millis(10))
    );

    mirror.once(LIST, Fault::Status(429, "", Some(100_000)));
    let error = cache.pull(&mirror, SHAPES).unwrap_err();
    assert!(error.message().contains("100000 s"), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    for (fault, kind, said) in [
        (
            Fault::Status(401, "GatedRepo", None),
            ErrorKind::Unauthorized,
            "accept its terms",
        ),
        (
            Fault::Status(403, "GatedRepo", None),
            ErrorKind::Unauthorized,
            "HF_TOKEN",
        ),
        (
            Fault::Status(401, "RepoNotFound", None),
            ErrorKind::Unauthorized,
            "check the name",
        ),
        (
            Fault::Status(404, "RepoNotFound", None),
            ErrorKind::NotFound,
            "check name",
        ),
        (
            Fault::Status(418, "", None),
            ErrorKind::Unavailable,
            "is it a hub",
        ),
    ] {
        mirror.once(LIST, fault);
        let error = cache.pull(&mirror, SHAPES).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(said), "{said}: {error}");
    }
    assert_eq!(mirror.calls().len(), 5, "none is repeated");
    for (model, said) in [
        ("cuckoo/none", "check name"),
        ("cuckoo/shapes@v9", "has no revision `v9`"),
    ] {
        let error = cache.pull(&mirror, model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains(said), "{error}");
    }
    drop(mirror);
    let (gone, _) = crate::mirror();
    let url = gone.url.clone();
    drop(gone);
    let hub = Hub::new(&url).unwrap();
    let stop = CancellationToken::new();
    let (store, options) = (cache.store(), quick());
    let model = SHAPES.parse().unwrap();
    let pull = store.pull(&hub, &model, &options, &|_| {}, &stop);
    let error = cache.runtime.block_on(pull).unwrap_err();
    assert!(error.message().contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn wrong_bytes_never_get_a_name() {
    for path in [UNET, CONFIG] {
        let (mirror, _) = mirror();
        let cache = Cache::new();
        mirror.once(path, Fault::WrongBytes);
        let pulled = cache.pull(&mirror, SHAPES).unwrap();
        assert_whole(&pulled);
        assert_eq!(
            pulled.fetched,
            pulled.bytes + size(path),
            "once more, from the start"
        );

        let cache = Cache::new();
        mirror.always(path, Fault::WrongBytes);
        let error = cache.pull(&mirror, SHAPES).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unverified);
        assert!(
            error.message().contains(path) && error.message().contains("hash"),
            "{error}"
        );
        assert!(cache.store().list().unwrap().is_empty());
        let found = cache.store().verify(None, |_, _| {}).unwrap();
        assert!(found.faults.is_empty(), "{found:?}");
    }
}

#[test]
fn a_damaged_part_of_an_earlier_pull_is_noticed() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    mirror.once(UNET, Fault::Cut(1 << 20));
    mirror.always(UNET, Fault::Status(503, "", None));
    alone(&cache, &mirror).unwrap_err();
    let part = &partial(&cache)[0];
    let mut bytes = fs::read(part).unwrap();
    bytes[77] ^= 1;
    fs::write(part, bytes).unwrap();
    mirror.heal();
    assert_whole(&cache.pull(&mirror, SHAPES).unwrap());
}

#[test]
fn other_lengths_than_listed_are_refused() {
    let (mirror, _) = mirror();
    for path in [UNET, CONFIG] {
        let cache = Cache::new();
        mirror.heal();
        mirror.always(path, Fault::Shorter(1));
        let error = cache.pull(&mirror, SHAPES).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unverified, "{error}");
        assert!(error.message().contains("were listed"), "{error}");
    }
    // A part that ends elsewhere than the list says, after a break.
    let cache = Cache::new();
    mirror.heal();
    mirror.once(UNET, Fault::Cut(1 << 20));
    mirror.once(UNET, Fault::Shorter(1));
    assert_whole(&cache.pull(&mirror, SHAPES).unwrap());
}

#[test]
fn a_server_that_gives_no_parts_is_read_from_the_start() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    mirror.once(UNET, Fault::Cut(3 << 20));
    mirror.always(UNET, Fault::NoRange);
    let pulled = cache.pull(&mirror, SHAPES).unwrap();
    assert_whole(&pulled);
    let twice = pulled.fetched - pulled.bytes;
    assert!((1..=3 << 20).contains(&twice), "{twice}");
}

#[test]
fn a_token_stays_with_the_hub() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    let hub = Hub::new(&mirror.url)
        .unwrap()
        .with_token("hf_secret")
        .unwrap();
    let (store, options, stop) = (cache.store(), quick(), CancellationToken::new());
    let model = SHAPES.parse().unwrap();
    let pull = store.pull(&hub, &model, &options, &|_| {}, &stop);
    cache.runtime.block_on(pull).unwrap();
    let calls = mirror.calls();
    let (store, hub): (Vec<_>, Vec<_>) = calls.iter().partition(|call| call.store);
    assert!(store.len() == 3 && store.iter().all(|call| call.token.is_none()));
    assert!(
        hub.iter()
            .all(|call| call.token.as_deref() == Some("Bearer hf_secret"))
    );
}

#[test]
fn room_that_is_missing_is_said_before_anything_comes() {
    let (mirror, _) = mirror();
    mirror.lie(|list| {
        for file in list["siblings"].as_array_mut().unwrap() {
            file["size"] = json!(1_u64 << 40);
            file["lfs"]["size"] = json!(1_u64 << 40);
            file["lfs"]["sha256"] = json!(format!(
                "{:064x}",
                file["rfilename"].as_str().unwrap().len()
            ));
        }
    });
    let cache = Cache::new();
    let error = cache.pull(&mirror, SHAPES).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for part in [".0 TiB more", "are missing", "HF_HOME"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    assert_eq!(mirror.calls().len(), 1);
}

#[test]
fn lists_that_lead_out_of_the_cache_are_refused() {
    let refused = |lie: fn(&mut serde_json::Value)| {
        let (mirror, _) = mirror();
        mirror.lie(lie);
        let cache = Cache::new();
        let error = cache.pull(&mirror, SHAPES).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unverified, "{error}");
        assert!(!cache.path(SHAPES, "snapshots").exists());
        assert_eq!(mirror.calls().len(), 1);
        error.message().to_owned()
    };
    let path = refused(|list| list["siblings"][0]["rfilename"] = json!("../../../escaped.json"));
    assert!(path.contains("escaped.json` is not a path"), "{path}");
    refused(|list| list["siblings"][0]["rfilename"] = json!("/tmp/escaped.json"));
    refused(|list| list["siblings"][0]["blobId"] = json!("../../escaped"));
    refused(|list| list["sha"] = json!("../../escaped"));
}

#[test]
fn a_commit_names_the_files_of_that_commit_only() {
    let (mirror, commit) = mirror();
    mirror.lie(|list| list["sha"] = json!("0123456789012345678901234567890123456789"));
    let cache = Cache::new();
    let error = cache
        .pull(&mirror, &format!("{SHAPES}@{commit}"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unverified, "{error}");
}

#[test]
fn what_was_cancelled_is_kept() {
    let (mirror, _) = mirror();
    let cache = Cache::new();
    mirror.always(UNET, Fault::Slow(Duration::from_millis(5)));
    let stop = CancellationToken::new();
    let watch = |event: PullEvent<'_>| {
        if matches!(event, PullEvent::At { path, bytes, .. } if path == UNET && bytes > 1 << 20) {
            stop.cancel();
        }
    };
    let pull = || -> Result<Pulled> {
        let (store, hub) = (cache.store(), Hub::new(&mirror.url)?);
        let model = SHAPES.parse()?;
        let options = PullOptions::default();
        cache
            .runtime
            .block_on(store.pull(&hub, &model, &options, &watch, &stop))
    };
    assert_eq!(pull().unwrap_err().kind(), ErrorKind::Cancelled);
    mirror.heal();
    mirror.calls();
    // The writer may still be at it; its lock is waited for.
    let pulled = cache.pull(&mirror, SHAPES).unwrap();
    assert_whole(&pulled);
    let fetched = sent(&mirror.calls(), UNET);
    assert!(fetched <= size(UNET) - (1 << 20), "{fetched}");
}
