//! Previews of outputs in the making: who sees which, and which are not shown.

use cuckoo_core::{B256, ErrorKind, LeaseId, LeaseStatus, Output, Preview, TaskState};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use crate::fixture::{Setup, settle};

fn preview(bytes: &[u8]) -> Preview {
    Output::new("image/png", bytes.to_vec()).into()
}

/// What a watcher sees that it had not seen before.
async fn look(previews: &mut BoxStream<'static, Preview>) -> Vec<Preview> {
    settle().await;
    let mut seen = Vec::new();
    while let Some(Some(preview)) = previews.next().now_or_never() {
        seen.push(preview);
    }
    seen
}

#[tokio::test]
async fn every_watcher_sees_the_latest_until_the_task_ends() {
    let market = Setup::with_miners(1).open().await;
    let (task, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    let mut early = task.previews();
    assert!(look(&mut early).await.is_empty());
    miner.show(&assignment, 100, Some(preview(b"one"))).await;
    assert_eq!(look(&mut early).await, [preview(b"one")]);
    miner.heartbeat(&assignment, 150).await;
    assert!(look(&mut early).await.is_empty());
    miner.show(&assignment, 200, Some(preview(b"two"))).await;
    miner.show(&assignment, 300, Some(preview(b"three"))).await;
    assert_eq!(look(&mut early).await, [preview(b"three")]);
    let mut late = task.previews();
    assert_eq!(look(&mut late).await, [preview(b"three")]);
    miner.complete(&assignment, b"the whole").await.unwrap();
    assert_eq!(task.result().await.unwrap().output.bytes, "the whole");
    for mut previews in [early, late, task.previews()] {
        assert_eq!(previews.next().await, None);
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_shown_and_harms_no_lease() {
    let market = Setup::with_miners(1).open().await;
    let (task, assignment) = market.assigned(0).await;
    let mut previews = task.previews();
    let large = preview(&[7; Preview::MAX_BYTES + 1]);
    let long = Preview {
        media_type: "x".repeat(Preview::MAX_MEDIA_TYPE + 1),
        ..preview(b"small")
    };
    for (progress, bad) in [(100, large), (200, long)] {
        let status = market.miners[0]
            .show(&assignment, progress, Some(bad))
            .await;
        assert!(matches!(status, LeaseStatus::Active { .. }));
        let miner = market.node(0);
        assert_eq!(task.state(), TaskState::Running { miner, progress });
        assert!(look(&mut previews).await.is_empty());
    }
    let largest = preview(&[7; Preview::MAX_BYTES]);
    let shown = Some(largest.clone());
    market.miners[0].show(&assignment, 300, shown).await;
    assert_eq!(look(&mut previews).await, [largest]);
}

#[tokio::test]
async fn all_previews_share_their_room() {
    let market = Setup::with_miners(2)
        .adjust(|settings| settings.max_preview_bytes = 10)
        .open()
        .await;
    let (first, assignment) = market.assigned(0).await;
    let shown = Some(preview(b"12345678"));
    market.miners[0].show(&assignment, 100, shown).await;
    let (second, other) = market.assigned(1).await;
    let mut previews = second.previews();
    market.miners[1]
        .show(&other, 100, Some(preview(b"abc")))
        .await;
    assert!(look(&mut previews).await.is_empty());
    first.cancel().await.unwrap();
    market.miners[1]
        .show(&other, 200, Some(preview(b"abc")))
        .await;
    assert_eq!(look(&mut previews).await, [preview(b"abc")]);
}

#[tokio::test]
async fn a_lease_that_is_not_the_task_s_own_shows_nothing() {
    let market = Setup::with_miners(2).open().await;
    let (task, first) = market.assigned(0).await;
    let mut previews = task.previews();
    // A stranger with the right lease, and the right miner with one that never was.
    let status = market.miners[1]
        .show(&first, 500, Some(preview(b"mine")))
        .await;
    assert_eq!(status, LeaseStatus::Ended);
    let mut forged = first.clone();
    forged.lease = LeaseId::from(B256::repeat_byte(9));
    let status = market.miners[0]
        .show(&forged, 500, Some(preview(b"mine")))
        .await;
    assert_eq!(status, LeaseStatus::Ended);
    assert!(look(&mut previews).await.is_empty());
    // One that gave the task back speaks for it no more.
    market.miners[0]
        .fail(&first, ErrorKind::Execution)
        .await
        .unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[0]
        .show(&first, 500, Some(preview(b"late")))
        .await;
    assert!(look(&mut previews).await.is_empty());
    market.miners[1]
        .show(&second, 100, Some(preview(b"next")))
        .await;
    assert_eq!(look(&mut previews).await, [preview(b"next")]);
    task.cancel().await.unwrap();
    market.miners[1]
        .show(&second, 200, Some(preview(b"after")))
        .await;
    assert_eq!(previews.next().await, None);
}

#[tokio::test]
async fn what_an_auditor_shows_is_not_shown() {
    let market = Setup::audited(2).open().await;
    let (task, first) = market.assigned(0).await;
    market.miners[0].complete(&first, b"same").await.unwrap();
    let mut previews = task.previews();
    let (auditor, audit) = market.auditor(&[1]).await.unwrap();
    let miner = &market.miners[auditor];
    let status = miner.show(&audit, 500, Some(preview(b"audit"))).await;
    assert!(matches!(status, LeaseStatus::Active { .. }));
    assert!(look(&mut previews).await.is_empty());
    miner.complete(&audit, b"same").await.unwrap();
    task.result().await.unwrap();
    assert_eq!(previews.next().await, None);
}
