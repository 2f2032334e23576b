//! Sketches: what an output that comes all at once, such as a picture, looks like in the making. The latest of each task
//! is kept in memory alone, and given to all who watch it.

use std::sync::Arc;

use cuckoo_core::{Preview, TaskId};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::watch::{Receiver, Sender};

use super::Budget;
use crate::TaskHandle;
use crate::market::{Market, Stage};

/// The latest that a task's miner showed.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    shown: Sender<Option<Kept>>,
}

/// A preview and its share of the room that all of them have.
#[derive(Debug)]
pub(crate) struct Kept {
    preview: Preview,
    budget: Arc<Budget>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.give_back(self.preview.data.len());
    }
}

impl Drop for Sketch {
    fn drop(&mut self) {
        // Or a watcher that is slow would hold it.
        self.shown.send_replace(None);
    }
}

impl Sketch {
    /// Shows `preview` in place of the one before, unless there is no room for it.
    fn show(&self, preview: &Preview, budget: &Arc<Budget>) {
        self.shown.send_if_modified(|shown| {
            if shown.as_ref().is_some_and(|kept| kept.preview == *preview) {
                return false;
            }
            // Its room is free for the next one.
            let had = shown.take().is_some();
            if budget.take(preview.data.len()) {
                *shown = Some(Kept {
                    preview: preview.clone(),
                    budget: Arc::clone(budget),
                });
            }
            had || shown.is_some()
        });
    }
}

impl Market {
    /// Takes what the miner that works on `task` shows.
    pub(crate) fn show_sketch(&mut self, task: TaskId, preview: &Preview) {
        if !preview.fits() {
            tracing::debug!(
                %task,
                bytes = preview.data.len(),
                most = Preview::MAX_BYTES,
                "a preview is too large and not shown"
            );
            return;
        }
        if let Some(entry) = self.tasks.get_mut(&task)
            && !entry.stage.is_decided()
        {
            let sketch = entry.sketch.get_or_insert_default();
            sketch.show(preview, &self.previews);
        }
    }

    /// What is shown of a task from now on; nothing when the task has ended.
    pub(crate) fn sketch(&mut self, id: TaskId) -> Option<Receiver<Option<Kept>>> {
        let entry = self.tasks.get_mut(&id)?;
        if entry.stage == Stage::Done {
            return None;
        }
        let mut shown = entry.sketch.get_or_insert_default().shown.subscribe();
        shown.mark_changed();
        Some(shown)
    }
}

impl TaskHandle {
    /// What the output looks like in the making, where its miner shows that: the latest preview and every later one, until
    /// the task ended. Those in quick succession may be merged; most tasks have none.
    ///
    /// A preview is what one miner says, and nobody vouches for it. Any number of watchers may begin at any time, and one
    /// that is slow or dropped changes nothing.
    pub fn previews(&self) -> BoxStream<'static, Preview> {
        stream::unfold(self.sketch(), |shown| async move {
            let mut shown = shown?;
            loop {
                shown.changed().await.ok()?;
                let preview = shown
                    .borrow_and_update()
                    .as_ref()
                    .map(|kept| kept.preview.clone());
                if let Some(preview) = preview {
                    return Some((preview, Some(shown)));
                }
            }
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use cuckoo_core::Output;

    use super::*;

    fn preview(bytes: &[u8]) -> Preview {
        Output::new("image/png", bytes.to_vec()).into()
    }

    #[test]
    fn the_latest_is_kept_within_the_room_and_goes_with_its_task() {
        let budget = Budget::new(10);
        let used = || budget.used.load(Ordering::Relaxed);
        let (first, second) = (Sketch::default(), Sketch::default());
        let mut watcher = first.shown.subscribe();
        let seen = |watcher: &mut Receiver<Option<Kept>>| {
            let kept = watcher.borrow_and_update();
            kept.as_ref().map(|kept| kept.preview.clone())
        };
        first.show(&preview(b"1234"), &budget);
        first.show(&preview(b"12345678"), &budget);
        assert_eq!(used(), 8);
        assert_eq!(seen(&mut watcher), Some(preview(b"12345678")));
        // The same again is nothing new.
        first.show(&preview(b"12345678"), &budget);
        assert!(!watcher.has_changed().unwrap());
        second.show(&preview(b"abc"), &budget);
        assert!(second.shown.borrow().is_none());
        assert_eq!(used(), 8);
        drop(first);
        assert_eq!((used(), seen(&mut watcher)), (0, None));
        second.show(&preview(b"abc"), &budget);
        assert_eq!(used(), 3);
    }
}
