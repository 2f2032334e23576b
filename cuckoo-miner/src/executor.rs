//! Code that runs a task: the [`Executor`] trait that tool authors implement, and what it is given.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use async_trait::async_trait;
use cuckoo_core::{
    Assignment, B256, BlobId, Bytes, Capability, LeaseId, ModelId, NodeId, Output, Preview, Result,
    TaskId, Timestamp, Usage, Wei, payload_hash,
};
use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::emitted::Emitted;
use crate::latest::Latest;

/// Runs tasks of the models it offers.
///
/// ```
/// use cuckoo_core::{Assignment, Capability, ModelId, Output, Result, payload_hash};
/// use cuckoo_miner::{Execution, Executor, TaskContext};
///
/// #[derive(Debug)]
/// struct Shout(ModelId);
///
/// #[async_trait::async_trait]
/// impl Executor for Shout {
///     fn capabilities(&self) -> Vec<Capability> {
///         vec![Capability::new(self.0.clone(), payload_hash(b"shout, version 1"), "rust-1")]
///     }
///
///     async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
///         Ok(Execution::new(Output::new("application/json", task.input.to_uppercase())))
///     }
/// }
/// # let shout = Shout("shout".parse()?);
/// # assert_eq!(shout.capabilities().len(), 1);
/// # Ok::<(), cuckoo_core::Error>(())
/// ```
///
/// The miner calls [`execute`](Self::execute) once for each free slot, so several runs may overlap. A run that panics
/// is reported as failed and harms nobody else. A run that ignores [`TaskContext::cancelled`] is dropped at its next
/// await point; work on other threads must watch [`TaskContext::is_cancelled`] itself.
/// [`Conformance`](crate::conformance::Conformance) checks that an executor keeps to all this.
#[async_trait]
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// What it can run. Read once, when the miner starts.
    fn capabilities(&self) -> Vec<Capability>;

    /// Runs one task. The miner checked before that the model is one of [`capabilities`](Self::capabilities), that
    /// the input is within its limit and that it has the hash that will be signed for.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cuckoo_core::ErrorKind::Invalid) blames the input, and with it the requester;
    /// [`ErrorKind::Rejected`](cuckoo_core::ErrorKind::Rejected) blames nobody: the task is more than this executor can do, and
    /// does not come back. Say so before the work, since after progress or output it blames the miner. With
    /// [`Retry::Later`](cuckoo_core::Retry::Later) there is no room for it now. Any other kind is a failed run, and the miner is
    /// blamed.
    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution>;

    /// How much memory it holds between tasks, in bytes: the weights of its models above all. A
    /// [`WarmPool`](crate::WarmPool) counts with it.
    fn memory(&self) -> u64 {
        0
    }

    /// Which of its models a task can run on at once; the others have to be loaded first. Coordinators are told.
    fn warm(&self) -> Vec<ModelId> {
        let capabilities = self.capabilities().into_iter();
        capabilities.map(|offer| offer.model).collect()
    }

    /// Hears of models for which tasks wait that no miner has begun with, the most wanted first, others than its own among
    /// them: what it could load meanwhile. A hint, which promises no work; it holds until the next one, and comes again every
    /// few seconds as long as tasks wait. Must return at once, since the hints of other coordinators wait behind it. Called on
    /// the miner's tokio runtime.
    fn wanted(&self, models: &[ModelId]) {
        let _ = models;
    }

    /// How large a task is, in units of the executor's own: of two tasks of a model, one with twice the work should take
    /// about twice as long, but for what every task costs. `None` when that is unknown; the model's usual time is expected
    /// then. The miner gives back what it would not finish by the deadline.
    ///
    /// Quick, and told of inputs that a stranger wrote: what is wrong with one [`execute`](Self::execute) says.
    fn work(&self, task: &Assignment) -> Option<f64> {
        let _ = task;
        None
    }

    /// How many tasks it runs at once; further ones wait inside, first come, first served.
    fn concurrency(&self) -> usize {
        usize::MAX
    }

    /// Small tasks of `model`, the smallest first, of two or more sizes in units of [`work`](Self::work): the miner times
    /// them at its start, and `doctor` runs the first. None: neither is done.
    fn trials(&self, model: &ModelId) -> Vec<Trial> {
        let _ = model;
        Vec::new()
    }
}

/// A small task to try a model with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// What it is, for the log, such as `a picture of 64x64 in 3 steps`.
    pub what: String,
    /// Its input.
    pub input: String,
    /// What the input names (`blob:0x…`).
    pub blobs: Vec<Output>,
}

impl Trial {
    /// A task of this input, which names no blobs.
    pub fn new(what: impl Into<String>, input: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            input: input.into(),
            blobs: Vec::new(),
        }
    }

    /// Has bytes at hand that the input names.
    #[must_use]
    pub fn with_blob(mut self, blob: Output) -> Self {
        self.blobs.push(blob);
        self
    }

    /// The context of a run of it, to be done by `deadline`.
    pub(crate) fn context(&self, deadline: Timestamp) -> TaskContext {
        TaskContext::new(deadline).with_blobs(self.blobs.clone())
    }

    /// The assignment of it, which nobody gave, to be done by `deadline`.
    pub(crate) fn assignment(&self, model: ModelId, deadline: Timestamp) -> Assignment {
        Assignment {
            lease: LeaseId::from(B256::ZERO),
            task: TaskId::from(B256::ZERO),
            coordinator: NodeId(0),
            model,
            model_hash: B256::ZERO,
            input_hash: payload_hash(self.input.as_bytes()),
            input: self.input.clone(),
            price: Wei::ZERO,
            lease_expires_at: deadline,
            heartbeat_millis: 0,
            deadline,
        }
    }
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// What came back.
    pub output: Output,
    /// What it consumed. The miner fills in `compute_millis` where it is zero.
    pub usage: Usage,
    /// Merkle root over intermediate states; zero where the model gives none.
    pub states_root: B256,
}

impl Execution {
    /// A run that gave `output`, with nothing counted.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            usage: Usage::default(),
            states_root: B256::ZERO,
        }
    }

    /// Says what the run consumed.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }
}

/// How far a run says it is.
#[derive(Debug, Default)]
struct Meter {
    made: AtomicU16,
    /// The most it said, bounds aside.
    claimed: AtomicU16,
    /// Whether it said less than before.
    fell: AtomicBool,
}

/// A run's line to the miner: progress, previews and the beginning of the output go out, cancellation comes in. Clones share
/// it.
#[derive(Debug, Clone)]
pub struct TaskContext {
    cancel: CancellationToken,
    progress: Arc<Meter>,
    emitted: Arc<Emitted>,
    preview: Arc<Latest>,
    blobs: Arc<dyn Blobs>,
    deadline: Timestamp,
}

impl TaskContext {
    /// A context whose run must end by `deadline`; the miner makes one for each run, tests of an executor their own.
    pub fn new(deadline: Timestamp) -> Self {
        Self {
            cancel: CancellationToken::new(),
            progress: Arc::default(),
            emitted: Arc::default(),
            preview: Arc::default(),
            blobs: Arc::new(HashMap::new()),
            deadline,
        }
    }

    /// Has these blobs at hand: for tests of an executor, since the miner fetches those of a task from its coordinator.
    #[must_use]
    pub fn with_blobs(self, blobs: impl IntoIterator<Item = Output>) -> Self {
        let named = |blob: Output| (BlobId::of(&blob.bytes), blob);
        let blobs: HashMap<_, _> = blobs.into_iter().map(named).collect();
        self.with_source(Arc::new(blobs))
    }

    pub(crate) fn with_source(self, blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, ..self }
    }

    /// The bytes that a string in the task's input, such as `blob:0x…`, stands for; see [`BlobId`]. Fetched anew each time,
    /// and checked against their name.
    ///
    /// # Errors
    /// `NotFound` for what the input does not name, `Conflict` when the lease ended, `Unverified` when the coordinator gave
    /// other bytes.
    pub async fn blob(&self, id: BlobId) -> Result<Output> {
        self.blobs.fetch(id).await
    }

    /// Shows the next bytes of the output to whoever watches the task, before the run ends. Returns at once.
    ///
    /// What is emitted is a preview: in the end the run gives the whole output, and that must begin with everything that
    /// was emitted, byte for byte, or it is not handed in. [`TextWriter`](cuckoo_core::TextWriter) makes both.
    pub fn emit(&self, bytes: impl AsRef<[u8]>) {
        self.emitted.push(bytes.as_ref());
    }

    /// Everything emitted so far.
    pub fn emitted(&self) -> Bytes {
        self.emitted.from(0, usize::MAX)
    }

    /// Shows whoever watches the task what the output looks like now, where its own beginning would show nothing: a small
    /// picture of a picture. At most 16 KiB ([`Preview::MAX_BYTES`](cuckoo_core::Preview::MAX_BYTES)); a larger one is passed
    /// over. Returns at once.
    ///
    /// It leaves with the next heartbeat, unless a later one takes its place before, and has no part in the output or its
    /// receipt.
    pub fn preview(&self, output: Output) {
        self.preview.show(output.into());
    }

    /// The line's other end, where the previews leave: the latest, once, if there is one of at most `most` bytes.
    pub(crate) fn take_preview(&self, most: usize) -> Option<Preview> {
        self.preview.take(most)
    }

    /// The line's other end, where the emitted bytes leave.
    pub(crate) fn outlet(&self) -> &Emitted {
        &self.emitted
    }

    /// Completes when the run should stop, because its result is not wanted any more. Safe to drop.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether the run should stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Asks the run to stop.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// When the result must be there, by the miner's clock.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Reports the share done, 0 to 1000 thousandths; it never goes back.
    pub fn progress(&self, thousandths: u16) {
        let meter = &*self.progress;
        let before = meter.claimed.fetch_max(thousandths, Ordering::Relaxed);
        if thousandths < before {
            meter.fell.store(true, Ordering::Relaxed);
        }
        meter
            .made
            .fetch_max(thousandths.min(1000), Ordering::Relaxed);
    }

    /// The share reported so far, 0 to 1000 thousandths.
    pub fn progress_made(&self) -> u16 {
        self.progress.made.load(Ordering::Relaxed)
    }

    /// The most that was reported, bounds aside, and whether a report was less than one before it.
    pub(crate) fn progress_claimed(&self) -> (u16, bool) {
        let meter = &*self.progress;
        let fell = meter.fell.load(Ordering::Relaxed);
        (meter.claimed.load(Ordering::Relaxed), fell)
    }

    /// How many clones of this context there are, this one included.
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_adds_up() {
        let context = TaskContext::new(Timestamp::from_millis(5));
        context.emit("red ");
        context.clone().emit(b"circle");
        assert_eq!(context.emitted(), "red circle");
    }

    #[test]
    fn the_latest_preview_is_taken_once() {
        let context = TaskContext::new(Timestamp::from_millis(5));
        let picture = |length: usize| Output::new("image/png", vec![7; length]);
        assert_eq!(context.take_preview(usize::MAX), None);
        context.preview(picture(10));
        context.clone().preview(picture(20));
        context.preview(picture(Preview::MAX_BYTES + 1));
        assert_eq!(context.take_preview(19), None);
        assert_eq!(context.take_preview(20), Some(picture(20).into()));
        assert_eq!(context.take_preview(20), None);
    }

    #[tokio::test]
    async fn clones_of_a_context_share_progress_and_cancellation() {
        let context = TaskContext::new(Timestamp::from_millis(5));
        let clone = context.clone();
        clone.progress(400);
        clone.progress(300);
        assert_eq!(context.progress_made(), 400);
        clone.progress(u16::MAX);
        assert_eq!(context.progress_made(), 1000);
        assert_eq!(context.progress_claimed(), (u16::MAX, true));
        assert_eq!(context.holders(), 2);
        assert!(!clone.is_cancelled());
        context.cancel();
        clone.cancelled().await;
        assert!(clone.is_cancelled());
        assert_eq!(clone.deadline(), Timestamp::from_millis(5));
    }
}
