//! A watcher of one task's output.

use std::collections::VecDeque;

use cuckoo_core::{Bytes, Chunk, Result, TaskResult};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::watch::Receiver;

use super::Shown;
use crate::TaskHandle;

/// What a watcher of an output learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputEvent {
    /// The next bytes.
    Bytes(Bytes),
    /// Forget all bytes before: they are not what the output begins with. Their miner was lost or found wrong, and another
    /// one's output, which differs, follows from its beginning.
    Restart,
    /// The task ended well. Every byte of its output came before this.
    End(Box<TaskResult>),
}

struct Watcher {
    task: TaskHandle,
    /// Gone once the task has ended.
    shown: Option<Receiver<Shown>>,
    round: u32,
    /// How many bytes were given.
    given: usize,
    /// What is left to give after the task's end.
    last: Option<VecDeque<OutputEvent>>,
}

impl TaskHandle {
    /// The task's output from its beginning, as it is made: what its miner streams, then the rest when the task has ended,
    /// then [`OutputEvent::End`]; or the error that the task ended with, as [`result`](Self::result) gives it.
    ///
    /// Any number of watchers may begin at any time. One that is slow holds up nobody, and one that is dropped changes
    /// nothing. Until the end, the bytes are what one miner says: the receipt for them is yet to come.
    pub fn output_stream(&self) -> BoxStream<'static, Result<OutputEvent>> {
        let shown = self.preview();
        let round = shown.as_ref().map_or(0, |shown| shown.borrow().round);
        let watcher = Watcher {
            task: self.clone(),
            shown,
            round,
            given: 0,
            last: None,
        };
        stream::unfold(Some(watcher), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(None) => None,
                Ok(Some(event)) => Some((Ok(event), Some(watcher))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .fuse()
        .boxed()
    }
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<OutputEvent>> {
        loop {
            if let Some(last) = &mut self.last {
                return Ok(last.pop_front());
            }
            if let Some(event) = self.fresh() {
                return Ok(Some(event));
            }
            let open = match &mut self.shown {
                Some(shown) => shown.changed().await.is_ok(),
                None => false,
            };
            // What was shown last may have come together with the end.
            if !open && let Some(event) = self.fresh() {
                return Ok(Some(event));
            }
            if !open {
                let result = self.task.result().await?;
                self.last = Some(self.ending(result));
            }
        }
    }

    /// What is shown and was not given yet, a piece at a time: those who add to it wait for nobody that copies it.
    fn fresh(&mut self) -> Option<OutputEvent> {
        let shown = self.shown.as_mut()?.borrow_and_update();
        if shown.round != self.round {
            self.round = shown.round;
            if std::mem::take(&mut self.given) > 0 {
                return Some(OutputEvent::Restart);
            }
        }
        let rest = &shown.bytes[self.given..];
        let piece = Bytes::copy_from_slice(&rest[..rest.len().min(Chunk::MAX_BYTES)]);
        self.given += piece.len();
        (!piece.is_empty()).then_some(OutputEvent::Bytes(piece))
    }

    /// What follows what was given, now that the output is decided.
    fn ending(&self, result: TaskResult) -> VecDeque<OutputEvent> {
        let mut events = VecDeque::new();
        let output = &result.output.bytes;
        let mut given = self.given;
        if let Some(shown) = &self.shown
            && !output.starts_with(&shown.borrow().bytes[..given])
        {
            events.push_back(OutputEvent::Restart);
            given = 0;
        }
        if output.len() > given {
            events.push_back(OutputEvent::Bytes(output.slice(given..)));
        }
        events.push_back(OutputEvent::End(Box::new(result)));
        events
    }
}
