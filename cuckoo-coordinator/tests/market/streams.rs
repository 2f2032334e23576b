//! Outputs in the making: what watchers see, when miners are lost, lie, or are audited.

use cuckoo_coordinator::OutputEvent;
use cuckoo_core::{Chunk, ChunkReply, ErrorKind, LeaseStatus, Result, TaskState};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use crate::fixture::{Miner, Setup, kind, settle};

impl Miner {
    async fn stream(
        &self,
        assignment: &cuckoo_core::Assignment,
        offset: u64,
        bytes: &[u8],
    ) -> Result<ChunkReply> {
        let chunk = Chunk {
            lease: assignment.lease,
            offset,
            bytes: bytes.to_vec().into(),
        };
        self.protocol.stream(&self.token, chunk).await
    }
}

/// What a watcher has seen.
struct Watcher {
    stream: BoxStream<'static, Result<OutputEvent>>,
    text: Vec<u8>,
    restarts: usize,
    end: Option<Result<cuckoo_core::TaskResult>>,
}

impl Watcher {
    fn new(task: &cuckoo_coordinator::TaskHandle) -> Self {
        Self {
            stream: task.output_stream(),
            text: Vec::new(),
            restarts: 0,
            end: None,
        }
    }

    /// Looks at everything that is there; gives the text so far and how often it started over.
    async fn look(&mut self) -> (String, usize) {
        settle().await;
        while let Some(Some(event)) = self.stream.next().now_or_never() {
            match event {
                Ok(OutputEvent::Bytes(bytes)) => self.text.extend_from_slice(&bytes),
                Ok(OutputEvent::Restart) => {
                    self.text.clear();
                    self.restarts += 1;
                }
                Ok(OutputEvent::End(result)) => self.end = Some(Ok(*result)),
                Err(error) => self.end = Some(Err(error)),
            }
            settle().await;
        }
        (
            String::from_utf8_lossy(&self.text).into_owned(),
            self.restarts,
        )
    }
}

#[tokio::test]
async fn every_watcher_sees_the_output_from_its_beginning_to_its_end() {
    let market = Setup::with_miners(1).open().await;
    let (task, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    let mut early = Watcher::new(&task);
    assert_eq!(early.look().await, (String::new(), 0));
    let reply = miner.stream(&assignment, 0, b"a red").await.unwrap();
    assert_eq!(reply.received, 5);
    assert!(matches!(reply.lease, LeaseStatus::Active { .. }));
    assert_eq!(early.look().await.0, "a red");
    miner.stream(&assignment, 5, b" circle").await.unwrap();
    let mut late = Watcher::new(&task);
    assert_eq!(late.look().await.0, "a red circle");
    miner
        .complete(&assignment, b"a red circle, signed")
        .await
        .unwrap();
    let mut latest = Watcher::new(&task);
    for watcher in [&mut early, &mut late, &mut latest] {
        assert_eq!(watcher.look().await, ("a red circle, signed".into(), 0));
        let result = watcher.end.take().unwrap().unwrap();
        assert_eq!(result.output.bytes, "a red circle, signed");
        assert!(watcher.stream.next().await.is_none());
    }
}

#[tokio::test]
async fn chunks_sent_again_or_too_early_change_nothing() {
    let market = Setup::with_miners(1).open().await;
    let (task, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    let received = async |offset, bytes| {
        let reply = miner.stream(&assignment, offset, bytes).await.unwrap();
        reply.received
    };
    assert_eq!(received(2, b"gap").await, 0);
    assert_eq!(received(0, b"one ").await, 4);
    assert_eq!(received(0, b"one ").await, 4);
    assert_eq!(received(2, b"e two ").await, 8);
    assert_eq!(received(9, b"three").await, 8);
    assert_eq!(received(8, b"").await, 8);
    assert_eq!(Watcher::new(&task).look().await.0, "one two ");
}

#[tokio::test]
async fn chunks_keep_a_lease_and_carry_cancellations() {
    let market = Setup::with_miners(1).open().await;
    let (task, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    for beat in 0..5 {
        market.advance(9_000).await;
        miner.stream(&assignment, beat, b".").await.unwrap();
    }
    assert!(matches!(task.state(), TaskState::Running { .. }));
    let mut watcher = Watcher::new(&task);
    task.cancel().await.unwrap();
    let reply = miner.stream(&assignment, 5, b".").await.unwrap();
    assert_eq!(reply.lease, LeaseStatus::Cancelled);
    watcher.look().await;
    assert_eq!(kind(watcher.end.unwrap()), ErrorKind::Cancelled);
}

#[tokio::test]
async fn another_miner_that_says_the_same_goes_on_unnoticed() {
    let market = Setup::with_miners(2).open().await;
    let (task, first) = market.assigned(0).await;
    let mut watcher = Watcher::new(&task);
    market.miners[0]
        .stream(&first, 0, b"one two")
        .await
        .unwrap();
    assert_eq!(watcher.look().await, ("one two".into(), 0));
    market.advance(10_000).await;
    let second = market.miners[1].take().await.unwrap();
    assert_eq!(watcher.look().await, ("one two".into(), 0));
    let late = market.miners[0].stream(&first, 7, b" late").await.unwrap();
    assert_eq!(late.lease, LeaseStatus::Ended);
    market.miners[1].stream(&second, 0, b"one").await.unwrap();
    market.miners[1]
        .stream(&second, 3, b" two three")
        .await
        .unwrap();
    assert_eq!(watcher.look().await, ("one two three".into(), 0));
    market.miners[1]
        .complete(&second, b"one two three")
        .await
        .unwrap();
    assert_eq!(watcher.look().await, ("one two three".into(), 0));
    assert!(watcher.end.unwrap().is_ok());
}

#[tokio::test]
async fn another_miner_that_says_otherwise_starts_over() {
    let market = Setup::with_miners(3).open().await;
    let (task, first) = market.assigned(0).await;
    let mut watcher = Watcher::new(&task);
    market.miners[0]
        .stream(&first, 0, b"one two")
        .await
        .unwrap();
    assert_eq!(watcher.look().await, ("one two".into(), 0));
    market.miners[0]
        .fail(&first, ErrorKind::Execution)
        .await
        .unwrap();
    let second = market.miners[1].take().await.unwrap();
    market.miners[1]
        .stream(&second, 0, b"one six")
        .await
        .unwrap();
    assert_eq!(watcher.look().await, ("one six".into(), 1));
    // One that came in between never saw the first.
    let mut late = Watcher::new(&task);
    assert_eq!(late.look().await, ("one six".into(), 0));
    market.miners[1]
        .fail(&second, ErrorKind::Execution)
        .await
        .unwrap();
    // A third one that streams nothing has the last word, after the rest that follows a second failure.
    market.advance(500).await;
    let third = market.miners[2].take().await.unwrap();
    market.miners[2].complete(&third, b"one").await.unwrap();
    assert_eq!(watcher.look().await, ("one".into(), 2));
    assert_eq!(late.look().await, ("one".into(), 1));
    assert!(late.end.unwrap().is_ok());
}

#[tokio::test]
async fn an_output_that_does_not_begin_with_what_was_streamed_is_refused() {
    let market = Setup::with_miners(1).open().await;
    let (task, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    miner.stream(&assignment, 0, b"sweet").await.unwrap();
    for other in [&b"sour grapes"[..], b"swee", b""] {
        let refused = miner.complete(&assignment, other).await;
        assert_eq!(kind(refused), ErrorKind::Unverified);
    }
    miner.complete(&assignment, b"sweet grapes").await.unwrap();
    assert_eq!(task.result().await.unwrap().output.bytes, "sweet grapes");
}

#[tokio::test]
async fn what_an_auditor_streams_is_not_shown_and_the_verdict_is() {
    let market = Setup::audited(3).open().await;
    let (task, assignment) = market.assigned(0).await;
    let mut watcher = Watcher::new(&task);
    market.miners[0]
        .stream(&assignment, 0, b"fak")
        .await
        .unwrap();
    market.miners[0]
        .complete(&assignment, b"fake")
        .await
        .unwrap();
    assert_eq!(watcher.look().await, ("fak".into(), 0));
    for _ in 0..2 {
        let (auditor, audit) = market.auditor(&[1, 2]).await.unwrap();
        let miner = &market.miners[auditor];
        miner.stream(&audit, 0, b"tru").await.unwrap();
        assert_eq!(watcher.look().await, ("fak".into(), 0));
        let lie = miner.complete(&audit, b"fake").await;
        assert_eq!(kind(lie), ErrorKind::Unverified);
        miner.complete(&audit, b"true").await.unwrap();
    }
    // Two against one: the first was convicted, and what it showed is taken back.
    assert_eq!(watcher.look().await, ("true".into(), 1));
    assert!(watcher.end.unwrap().is_ok());
}

#[tokio::test]
async fn chunks_and_outputs_in_the_making_are_bounded() {
    let market = Setup::with_miners(2)
        .adjust(|settings| {
            settings.max_output_bytes = 100_000;
            settings.max_preview_bytes = 10;
        })
        .open()
        .await;
    let (task, assignment) = market.assigned(0).await;
    let miner = &market.miners[0];
    let long = vec![b'x'; Chunk::MAX_BYTES + 1];
    let refused = miner.stream(&assignment, 0, &long).await;
    assert_eq!(kind(refused), ErrorKind::Invalid);
    for offset in [99_999, u64::MAX] {
        let refused = miner.stream(&assignment, offset, b"xy").await;
        assert_eq!(kind(refused), ErrorKind::Invalid);
    }
    // Beyond the room for previews a miner goes on as if nothing were; its watchers see the rest in the end.
    let mut watcher = Watcher::new(&task);
    miner.stream(&assignment, 0, b"0123456789").await.unwrap();
    let reply = miner.stream(&assignment, 10, b"abc").await.unwrap();
    assert_eq!(reply.received, 13);
    assert_eq!(watcher.look().await, ("0123456789".into(), 0));
    miner
        .complete(&assignment, b"0123456789abcdef")
        .await
        .unwrap();
    assert_eq!(watcher.look().await, ("0123456789abcdef".into(), 0));

    // The room is free again.
    let (task, assignment) = market.assigned(1).await;
    let mut watcher = Watcher::new(&task);
    market.miners[1]
        .stream(&assignment, 0, b"012345678")
        .await
        .unwrap();
    assert_eq!(watcher.look().await, ("012345678".into(), 0));
}

#[tokio::test]
async fn a_stranger_s_chunk_is_not_taken() {
    let market = Setup::with_miners(2).open().await;
    let (task, assignment) = market.assigned(0).await;
    let reply = market.miners[1]
        .stream(&assignment, 0, b"mine")
        .await
        .unwrap();
    assert_eq!((reply.lease, reply.received), (LeaseStatus::Ended, 0));
    assert_eq!(Watcher::new(&task).look().await.0, "");
}
