//! How a coordinator is put together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cuckoo_core::{
    Clock, Entropy, Error, Key, Mirror, OsEntropy, Result, StakingContract, SystemClock,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::coordinator::{Inner, keep_time, sweep};
use crate::journal::Journal;
use crate::market::Market;
use crate::requester::Usage;
use crate::settle::Ledger;
use crate::store::{Account, Versioned};
#[cfg(feature = "otel")]
use crate::telemetry::TaskTraces;
use crate::{Coordinator, MemoryStore, Settings, TaskStore, Webhooks, escrow, webhook, weights};

/// Collects settings and components, then starts a [`Coordinator`]. Chain and operator are required.
#[derive(Debug, Default)]
pub struct CoordinatorBuilder {
    settings: Settings,
    chain: Option<Arc<dyn StakingContract>>,
    operator: Option<Key>,
    clock: Option<Arc<dyn Clock>>,
    entropy: Option<Arc<dyn Entropy>>,
    store: Option<Arc<dyn TaskStore>>,
    webhooks: Option<Webhooks>,
    #[cfg(feature = "otel")]
    traces: Option<crate::Traces>,
}

impl CoordinatorBuilder {
    /// How it behaves.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The staking contract of its market.
    #[must_use]
    pub fn chain(mut self, chain: Arc<dyn StakingContract>) -> Self {
        self.chain = Some(chain);
        self
    }

    /// The key it is registered with.
    #[must_use]
    pub fn operator(mut self, operator: Key) -> Self {
        self.operator = Some(operator);
        self
    }

    /// Its clock; the machine's when not called.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Its randomness; the operating system's when not called.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = Some(entropy);
        self
    }

    /// Where it keeps tasks and pay; in memory when not called.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn TaskStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// How it tells requesters' servers that tasks ended; tasks with a webhook are refused when not called.
    #[must_use]
    pub fn webhooks(mut self, webhooks: Webhooks) -> Self {
        self.webhooks = Some(webhooks);
        self
    }

    /// Where the spans of its tasks go; none are made when not called.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn traces(mut self, traces: &crate::Traces) -> Self {
        self.traces = Some(traces.clone());
        self
    }

    /// Starts it. Must be called inside a tokio runtime, which then drives its background work.
    ///
    /// # Errors
    /// `Invalid` for settings out of bounds or a missing chain or operator, `Unauthorized` when the operator is not an
    /// active coordinator on chain, `Unavailable` when the chain or the store is down.
    pub async fn start(self) -> Result<Coordinator> {
        self.settings.validate()?;
        let chain = self
            .chain
            .ok_or_else(|| Error::invalid("a coordinator needs a chain"))?;
        let operator = self
            .operator
            .ok_or_else(|| Error::invalid("a coordinator needs an operator key"))?;
        tokio::runtime::Handle::try_current()
            .map_err(|_| Error::invalid("start the coordinator inside a tokio runtime"))?;
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let entropy = match self.entropy {
            Some(entropy) => entropy,
            None => Arc::new(OsEntropy::new()?),
        };
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryStore::new()));
        let settings = Arc::new(self.settings);
        let interval = Duration::from_millis(settings.weights_refresh_millis);
        let mirror = Mirror::start(Arc::clone(&chain), Arc::clone(&clock), interval).await?;
        let snapshot = mirror.latest().snapshot;
        let node = weights::own_node(&snapshot, operator.address())?.id;
        let market = Market::new(
            node,
            operator.address(),
            chain.deployment(),
            Arc::clone(&settings),
            Arc::clone(&entropy),
            snapshot,
            clock.now(),
        );
        let (sender, writes) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            node,
            deployment: chain.deployment(),
            operator,
            settings,
            clock,
            entropy,
            store,
            webhooks: self.webhooks.map(Arc::new),
            #[cfg(feature = "otel")]
            traces: self
                .traces
                .as_ref()
                .map(|traces| Arc::new(TaskTraces::new(traces))),
            market: Mutex::new(market),
            writes: sender,
            timer_wake: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
        });
        #[cfg(feature = "otel")]
        if let Some(traces) = &inner.traces {
            traces.follow(&inner);
        }
        let accounts = restore(&inner).await?;
        let journal = Journal {
            store: Arc::clone(&inner.store),
            clock: Arc::clone(&inner.clock),
            ledger: Ledger::new(node, inner.operator.clone(), inner.deployment, accounts),
            costs: Vec::new(),
        };
        let journal = journal.run(Arc::downgrade(&inner), writes, inner.stop.clone());
        inner.tracker.spawn(journal);
        spawn_background(&inner, mirror, chain);
        tracing::info!(coordinator = %node, "coordinator started");
        Ok(Coordinator::new(inner))
    }
}

/// How many open tasks are read at once.
const PAGE: usize = 1_000;

/// Takes up what an earlier run left: pay, suspensions, sessions, open tasks and the leases they are worked on under.
/// Gives the accounts.
async fn restore(inner: &Arc<Inner>) -> Result<Vec<Versioned<Account>>> {
    let store = &inner.store;
    let accounts = inner.tried(|| store.accounts()).await?;
    let evidence = inner.tried(|| store.evidence()).await?;
    let sessions = inner.tried(|| store.sessions()).await?;
    let nonces = inner.tried(|| store.nonces(inner.clock.now())).await?;
    let leases = inner.tried(|| store.leases()).await?;
    let midnight = Usage::since(inner.clock.now());
    let usage = inner.tried(|| store.usage(midnight)).await?;
    let work = leases.into_iter().filter(|lease| !lease.audit);
    let mut work: HashMap<_, _> = work.map(|lease| (lease.task, lease)).collect();
    inner.with(|market, now| {
        for account in &accounts {
            market.know_voucher(account.value.voucher.clone());
        }
        for evidence in evidence {
            if let Some(miner) = market.miner(evidence.convicted) {
                miner.suspended_by = Some(evidence.task.id);
            }
            market.evidence.push(evidence);
        }
        market.usage.restore(usage, now);
        for session in &sessions {
            market.restore_session(session, now);
        }
        for nonce in &nonces {
            market.restore_nonce(nonce);
        }
    });
    let mut last = None;
    loop {
        let page = inner.tried(|| store.unfinished(last, PAGE)).await?;
        let Some(end) = page.last() else {
            return Ok(accounts);
        };
        last = Some(end.value.task.id);
        inner.with(|market, now| {
            for task in page {
                let id = task.value.task.id;
                market.restore(task, work.remove(&id), now);
                #[cfg(feature = "otel")]
                if let Some(traces) = &inner.traces {
                    traces.resumed(id, market, now);
                }
            }
        });
    }
}

fn spawn_background(inner: &Arc<Inner>, mirror: Mirror, chain: Arc<dyn StakingContract>) {
    let stop = || inner.stop.clone();
    let follow = weights::follow(Arc::downgrade(inner), mirror, stop());
    inner.tracker.spawn(follow);
    let (clock, wake) = (Arc::clone(&inner.clock), Arc::clone(&inner.timer_wake));
    inner
        .tracker
        .spawn(keep_time(Arc::downgrade(inner), clock, wake, stop()));
    inner.tracker.spawn(sweep(Arc::downgrade(inner), stop()));
    if let Some(webhooks) = inner.webhooks.clone() {
        let wake = inner.with(|market, _| Arc::clone(&market.to_notify));
        let clock = Arc::clone(&inner.clock);
        let deliver = webhook::deliver(Arc::downgrade(inner), webhooks, clock, wake, stop());
        inner.tracker.spawn(deliver);
    }
    let watch = escrow::watch(Arc::downgrade(inner), chain, stop());
    inner.tracker.spawn(watch);
}
