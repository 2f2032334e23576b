//! The miner: what it is built from, what runs inside, and how it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cuckoo_core::{
    Clock, Entropy, Error, Key, OsEntropy, Result, SignedVoucher, StakingContract, SystemClock,
    TaskProtocol, Timestamp, Wei,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::Link;
use crate::offers::Offers;
use crate::slots::Slots;
use crate::vouchers::VoucherBook;
use crate::wants::Wants;
use crate::{
    CoordinatorStatus, Executor, MinerStatus, Settings, credit, heartbeat, pace, poll, redeem,
    weights,
};

/// What all loops of a miner share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) operator: Key,
    pub(crate) chain: Arc<dyn StakingContract>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) settings: Settings,
    pub(crate) offers: Offers,
    pub(crate) wants: Wants,
    pub(crate) slots: Slots,
    pub(crate) vouchers: VoucherBook,
    pub(crate) counts: Counts,
    pub(crate) started_at: Timestamp,
    /// Whether there is one coordinator only, so that a poll may hold slots as long as it likes.
    pub(crate) alone: bool,
    /// Models were timed, so that there may be work.
    pub(crate) tested: CancellationToken,
    /// Every assignment in work.
    pub(crate) runs: TaskTracker,
    /// First phase of shutdown: take no more work.
    pub(crate) stopping: CancellationToken,
    /// The grace is over: stop what still runs.
    pub(crate) aborting: CancellationToken,
    /// Second phase done: leave.
    pub(crate) closed: CancellationToken,
}

/// How runs ended.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) completed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

/// A running miner: it polls its coordinators, executes what they assign and hands in signed results.
///
/// Clones are handles to the same miner. When the last one is dropped, the miner stops at once; [`shutdown`](Self::shutdown)
/// first finishes what is in work.
#[derive(Debug, Clone)]
pub struct Miner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    links: Vec<Arc<Link>>,
    /// Cancelled once every loop ended.
    finished: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
        self.shared.aborting.cancel();
        self.shared.closed.cancel();
    }
}

impl Miner {
    /// What a miner is built from.
    pub fn builder() -> MinerBuilder {
        MinerBuilder::default()
    }

    /// The miner now.
    pub fn status(&self) -> MinerStatus {
        let Inner { shared, links, .. } = &*self.0;
        let at = shared.clock.now();
        let shares = shared.slots.shares();
        let coordinators = links.iter().zip(shares);
        let coordinators: Vec<_> = coordinators
            .map(|(link, share)| link.status(share, at))
            .collect();
        let sum = |part: fn(&CoordinatorStatus) -> Wei| {
            let amounts = coordinators.iter().map(part);
            amounts.fold(Wei::ZERO, Wei::saturating_add)
        };
        MinerStatus {
            operator: shared.operator.address(),
            at,
            started_at: shared.started_at,
            slots: shared.settings.slots,
            running: u32::try_from(shared.runs.len()).unwrap_or(u32::MAX),
            completed: shared.counts.completed.load(Ordering::Relaxed),
            failed: shared.counts.failed.load(Ordering::Relaxed),
            refused: shared.counts.refused.load(Ordering::Relaxed),
            cancelled: shared.counts.cancelled.load(Ordering::Relaxed),
            earned: sum(|coordinator| coordinator.earned),
            hourly: sum(|coordinator| coordinator.hourly),
            runs: links.iter().flat_map(|link| link.runs()).collect(),
            coordinators,
            models: shared.offers.status(),
            weights: shared.offers.weights(),
            machine: None,
        }
    }

    /// The latest voucher of every coordinator, each verified: what to redeem.
    pub fn vouchers(&self) -> Vec<SignedVoucher> {
        self.0.shared.vouchers.all()
    }

    /// Waits until a session with a coordinator is open. Safe to drop; waits as long as coordinators or chain are down.
    ///
    /// # Errors
    /// Why the last coordinator was given up, when none is left: `Invalid` for the wrong chain or protocol, `Unverified` for
    /// one that does not hold the key it is registered with. `Closed` after a shutdown.
    pub async fn connected(&self) -> Result<()> {
        let sessions = self.0.links.iter().map(|link| Box::pin(link.session()));
        tokio::select! {
            biased;
            _ = futures::future::select_all(sessions) => Ok(()),
            result = self.finished() => match result {
                Ok(()) => Err(Error::closed("the miner was shut down")),
                Err(error) => Err(error),
            },
        }
    }

    /// Waits until the miner ended: after a shutdown, or because no coordinator is left that it can serve. Safe to drop.
    ///
    /// # Errors
    /// Why the last coordinator was given up.
    pub async fn finished(&self) -> Result<()> {
        self.0.finished.cancelled().await;
        let given_up: Option<Vec<Error>> = self.0.links.iter().map(|link| link.failure()).collect();
        match given_up.and_then(|mut errors| errors.pop()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Stops in two phases: takes no more work, waits up to `grace` for what is in work, then cancels what is left, gives
    /// those leases back, and ends its sessions. Any number of callers may wait; the first one's grace counts.
    pub async fn shutdown(&self, grace: Duration) {
        let Inner {
            shared,
            links: _,
            finished,
        } = &*self.0;
        shared.stopping.cancel();
        shared.slots.close();
        shared.runs.close();
        tokio::select! {
            () = shared.runs.wait() => {}
            () = shared.clock.sleep(grace) => {}
            () = shared.closed.cancelled() => {}
        }
        shared.aborting.cancel();
        // Time for runs to stop and for leases to be given back, so that nobody waits for them to expire.
        let patience = Duration::from_millis(shared.settings.cancel_grace_millis)
            + shared.settings.call_timeout().min(Duration::from_secs(2));
        tokio::select! {
            () = shared.runs.wait() => {}
            () = shared.clock.sleep(patience) => {}
        }
        shared.closed.cancel();
        finished.cancelled().await;
    }
}

/// Parts of a miner. Needed: an operator, a chain, at least one coordinator and one executor.
#[derive(Debug, Default)]
pub struct MinerBuilder {
    operator: Option<Key>,
    chain: Option<Arc<dyn StakingContract>>,
    coordinators: Vec<Arc<dyn TaskProtocol>>,
    executors: Vec<Arc<dyn Executor>>,
    settings: Settings,
    vouchers: Vec<SignedVoucher>,
    clock: Option<Arc<dyn Clock>>,
    entropy: Option<Arc<dyn Entropy>>,
}

impl MinerBuilder {
    /// The key of a registered miner.
    #[must_use]
    pub fn operator(mut self, operator: Key) -> Self {
        self.operator = Some(operator);
        self
    }

    /// Where registrations are looked up.
    #[must_use]
    pub fn chain(mut self, chain: Arc<dyn StakingContract>) -> Self {
        self.chain = Some(chain);
        self
    }

    /// Adds a coordinator to serve: an [`HttpCoordinator`](crate::HttpCoordinator) or an in-process handle.
    #[must_use]
    pub fn coordinator(mut self, coordinator: Arc<dyn TaskProtocol>) -> Self {
        self.coordinators.push(coordinator);
        self
    }

    /// Adds an executor; each offers other models.
    #[must_use]
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executors.push(executor);
        self
    }

    /// Settings other than the defaults.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Vouchers kept from an earlier run, as [`Miner::vouchers`] gave them.
    #[must_use]
    pub fn vouchers(mut self, vouchers: Vec<SignedVoucher>) -> Self {
        self.vouchers = vouchers;
        self
    }

    /// A clock other than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Randomness other than the operating system's.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = Some(entropy);
        self
    }

    /// Starts the miner on the current tokio runtime. Coordinators that are down are tried again until they are up; see
    /// [`Miner::connected`].
    ///
    /// # Errors
    /// `Invalid` when a part is missing or a setting is out of range; `Unavailable` without randomness.
    pub async fn start(self) -> Result<Miner> {
        let missing =
            |what: &str| Error::invalid(format!("a miner needs {what}; give it to the builder"));
        self.settings.validate()?;
        if self.coordinators.is_empty() {
            return Err(missing("at least one coordinator"));
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let shared = Arc::new(Shared {
            started_at: clock.now(),
            operator: self.operator.ok_or_else(|| missing("an operator key"))?,
            chain: self.chain.ok_or_else(|| missing("a chain"))?,
            entropy: match self.entropy {
                Some(entropy) => entropy,
                None => Arc::new(OsEntropy::new()?),
            },
            offers: Offers::new(self.executors, &clock)?,
            wants: Wants::new(self.coordinators.len()),
            clock,
            slots: Slots::new(self.settings.slots, self.coordinators.len()),
            vouchers: VoucherBook::new(self.vouchers),
            counts: Counts::default(),
            alone: self.coordinators.len() == 1,
            tested: CancellationToken::new(),
            runs: TaskTracker::new(),
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
            closed: CancellationToken::new(),
            settings: self.settings,
        });
        let tested = Arc::clone(&shared);
        tokio::spawn(async move {
            let _tested = tested.tested.clone().drop_guard();
            if tested.settings.self_test {
                pace::self_test(&tested).await;
            }
        });
        let links: Vec<_> = self
            .coordinators
            .into_iter()
            .enumerate()
            .map(|(party, protocol)| Arc::new(Link::new(Arc::clone(&shared), party, protocol)))
            .collect();
        let loops = TaskTracker::new();
        for link in &links {
            let keeper = Arc::clone(link);
            loops.spawn(async move { keeper.keep_session().await });
            loops.spawn(poll::run(Arc::clone(link)));
            loops.spawn(heartbeat::run(Arc::clone(link)));
        }
        loops.close();
        tokio::spawn(credit::run(Arc::clone(&shared), links.clone()));
        if !shared.alone {
            tokio::spawn(weights::run(Arc::clone(&shared), links.clone()));
        }
        if let Some(settings) = shared.settings.redeem.clone() {
            // Not one of the loops: a miner that no coordinator is left for has ended, whatever it is still owed.
            tokio::spawn(redeem::run(Arc::clone(&shared), settings));
        }
        let finished = CancellationToken::new();
        let ended = finished.clone();
        tokio::spawn(async move {
            loops.wait().await;
            ended.cancel();
        });
        Ok(Miner(Arc::new(Inner {
            shared,
            links,
            finished,
        })))
    }
}
