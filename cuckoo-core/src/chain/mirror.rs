//! A snapshot that stays current: read once, then kept up with what the chain reports.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{self, Either};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{ChainEvent, Change, Snapshot, StakingContract};
use crate::{Clock, Error, NodeId, Result, Timestamp};

/// How long one look at the chain may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a [`Mirror`] shows.
#[derive(Debug, Clone)]
pub struct MirrorView {
    /// The nodes as they were read last.
    pub snapshot: Arc<Snapshot>,
    /// Since when the chain could not be read, if it cannot be now; the snapshot stays what it was.
    pub stale_since: Option<Timestamp>,
}

/// A copy of who is registered with which weight, kept current in the background until it is dropped.
///
/// It takes a snapshot and follows the changes from before it, so that there is no gap between the two. The nodes that a
/// change names are read again, all of them in a new epoch (weights move then without an event) and after a gap or a
/// reorganisation. Several changes that come together cost one reading.
pub struct Mirror {
    view: watch::Receiver<MirrorView>,
    worker: JoinHandle<()>,
}

impl Mirror {
    /// Reads `chain` for the first time and starts to follow it. Every `interval` it looks whether the epoch is a new one
    /// and the chain can still be read. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the chain is down, else as
    /// [`StakingContract::snapshot`].
    pub async fn start(
        chain: Arc<dyn StakingContract>,
        clock: Arc<dyn Clock>,
        interval: Duration,
    ) -> Result<Self> {
        let mut follower = Follower {
            chain,
            clock,
            interval,
            changes: None,
            due: Due::everything(),
        };
        // Before the snapshot, so that nothing falls between the two.
        follower.subscribe().await;
        let snapshot = follower.read(&Snapshot::default()).await?;
        let view = MirrorView {
            snapshot: Arc::new(snapshot),
            stale_since: None,
        };
        let (sender, view) = watch::channel(view);
        let worker = tokio::spawn(follower.follow(sender));
        Ok(Self { view, worker })
    }

    /// What is known now.
    pub fn latest(&self) -> MirrorView {
        self.view.borrow().clone()
    }

    /// Waits for a reading after the one seen last, whether it differs or failed.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the runtime is shutting down.
    pub async fn changed(&mut self) -> Result<MirrorView> {
        self.view
            .changed()
            .await
            .map_err(|_| Error::closed("the mirror has stopped with its runtime"))?;
        Ok(self.view.borrow_and_update().clone())
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view.borrow();
        f.debug_struct("Mirror")
            .field("block", &view.snapshot.block)
            .field("nodes", &view.snapshot.nodes.len())
            .field("stale_since", &view.stale_since)
            .finish_non_exhaustive()
    }
}

/// What has to be read again.
#[derive(Debug, Default)]
struct Due {
    everything: bool,
    nodes: BTreeSet<NodeId>,
}

impl Due {
    fn everything() -> Self {
        Self {
            everything: true,
            nodes: BTreeSet::new(),
        }
    }

    fn is_nothing(&self) -> bool {
        !self.everything && self.nodes.is_empty()
    }

    fn note(&mut self, item: Result<Change>) {
        match item.map(|change| change.event) {
            Ok(
                ChainEvent::NodeChanged(node)
                | ChainEvent::VotesChanged(node)
                | ChainEvent::Slashed { node, .. },
            ) => {
                self.nodes.insert(node);
            }
            Ok(ChainEvent::EscrowChanged(_) | ChainEvent::Redeemed { .. }) => {}
            Err(gap) => {
                tracing::warn!(%gap, "reading all nodes again");
                self.everything = true;
            }
        }
    }
}

/// The background work of a mirror.
struct Follower {
    chain: Arc<dyn StakingContract>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    changes: Option<BoxStream<'static, Result<Change>>>,
    /// Kept until a reading succeeds.
    due: Due,
}

impl Follower {
    async fn follow(mut self, view: watch::Sender<MirrorView>) {
        loop {
            self.wait().await;
            let known = Arc::clone(&view.borrow().snapshot);
            match self.read(&known).await {
                Ok(snapshot) => {
                    view.send_replace(MirrorView {
                        snapshot: Arc::new(snapshot),
                        stale_since: None,
                    });
                }
                Err(error) => view.send_modify(|view| {
                    if view.stale_since.is_none() {
                        tracing::warn!(%error, "the chain cannot be read; the last state stays in force");
                        view.stale_since = Some(self.clock.now());
                    }
                }),
            }
        }
    }

    /// Returns when something is due, or the interval is over.
    async fn wait(&mut self) {
        let mut interval = self.clock.sleep(self.interval);
        if !self.due.is_nothing() {
            // The last reading failed.
            interval.await;
            return;
        }
        let Some(changes) = &mut self.changes else {
            // Not at once: a stream that ends as soon as it begins must not make this a busy loop.
            interval.await;
            self.subscribe().await;
            return;
        };
        while self.due.is_nothing() {
            let item = match future::select(&mut interval, changes.next()).await {
                Either::Left(_) => return,
                Either::Right((item, _)) => item,
            };
            let mut next = Some(item);
            // What is there already is covered by the same reading.
            while let Some(item) = next {
                let Some(item) = item else {
                    self.changes = None;
                    self.due.everything = true;
                    return;
                };
                self.due.note(item);
                next = changes.next().now_or_never();
            }
        }
    }

    /// Follows changes from now on; what came before is due.
    async fn subscribe(&mut self) {
        self.due.everything = true;
        let changes = within_patience(&*self.clock, self.chain.changes()).await;
        self.changes = changes
            .inspect_err(
                |error| tracing::warn!(%error, "no stream of chain changes; reading at intervals"),
            )
            .ok();
    }

    /// Reads what is due.
    async fn read(&mut self, known: &Snapshot) -> Result<Snapshot> {
        let nothing = Snapshot::default();
        let known = if self.due.everything { &nothing } else { known };
        let reading = self.chain.refresh(known, &self.due.nodes);
        let snapshot = within_patience(&*self.clock, reading).await?;
        self.due = Due::default();
        Ok(snapshot)
    }
}

async fn within_patience<T>(clock: &dyn Clock, look: impl Future<Output = Result<T>>) -> Result<T> {
    let look = std::pin::pin!(look);
    match future::select(look, clock.sleep(PATIENCE)).await {
        Either::Left((seen, _)) => seen,
        Either::Right(_) => Err(Error::unavailable(
            "the chain did not answer in time; check its RPC endpoint",
        )),
    }
}
