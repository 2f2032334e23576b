//! One coordinator: its session, kept open, and what its loops share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuckoo_core::{
    Error, ErrorKind, NodeId, Result, SignedVoucher, TaskProtocol, Timestamp, parse_cai,
};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::credit::Standing;
use crate::leases::{Lease, Leases};
use crate::miner::Shared;
use crate::session::{self, OpenSession};
use crate::{CoordinatorStatus, RunStatus};

/// The longest wait for a coordinator to take note that the miner leaves.
const CLOSING: Duration = Duration::from_secs(5);

/// Calls that carry little and wait for nothing: how long they take is how far the coordinator is.
const SMALL_CALLS: [&str; 3] = ["info", "open_session", "heartbeat"];

/// The miner's side of one coordinator.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) protocol: Arc<dyn TaskProtocol>,
    /// Its place among the coordinators.
    pub(crate) party: usize,
    pub(crate) leases: Arc<Leases>,
    pub(crate) standing: Arc<Standing>,
    /// Given up for good.
    pub(crate) dropped: CancellationToken,
    session: watch::Sender<Option<Arc<OpenSession>>>,
    status: Mutex<CoordinatorStatus>,
    failure: Mutex<Option<Error>>,
}

impl Link {
    pub(crate) fn new(shared: Arc<Shared>, party: usize, protocol: Arc<dyn TaskProtocol>) -> Self {
        let standing = Standing::new(&shared.settings.credit, shared.clock.now());
        Self {
            standing: Arc::new(standing),
            shared,
            party,
            protocol,
            leases: Arc::default(),
            dropped: CancellationToken::new(),
            session: watch::Sender::new(None),
            status: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Keeps a session open until the miner is closed; gives up when the coordinator can never be served.
    pub(crate) async fn keep_session(&self) {
        let mut backoff = Backoff::new(&self.shared.settings);
        let closed = &self.shared.closed;
        loop {
            let opened = tokio::select! {
                () = closed.cancelled() => return,
                () = self.dropped.cancelled() => return,
                opened = session::open(self) => opened,
            };
            let pause = match opened {
                Ok(session) => {
                    let session = Arc::new(session);
                    self.announce(&session);
                    tokio::select! {
                        () = closed.cancelled() => {
                            self.close_session(&session).await;
                            return;
                        }
                        () = self.dropped.cancelled() => {
                            self.close_session(&session).await;
                            return;
                        }
                        () = self.lost(&session) => {}
                    }
                    if session.is_proven() {
                        backoff.reset();
                        continue;
                    }
                    backoff.next(&*self.shared.entropy)
                }
                Err(error) if error.is_final() => {
                    self.give_up(error.into());
                    return;
                }
                Err(error) => {
                    let error = Error::from(error);
                    let pause = backoff.next(&*self.shared.entropy);
                    tracing::warn!(%error, retry_in = ?pause, "no session with the coordinator");
                    self.note(Some(&error));
                    pause
                }
            };
            tokio::select! {
                () = closed.cancelled() => return,
                () = self.dropped.cancelled() => return,
                () = self.shared.clock.sleep(pause) => {}
            }
        }
    }

    fn announce(&self, session: &Arc<OpenSession>) {
        tracing::info!(coordinator = %session.coordinator, miner = %session.miner, "session opened");
        let promised = self
            .shared
            .vouchers
            .owed(session.coordinator, session.miner);
        let mut standing = self.standing.state();
        standing.stake = session.stake;
        standing.account.open(session.price, promised);
        drop(standing);
        let mut status = self.status_mut();
        status.node = Some(session.coordinator);
        status.miner = Some(session.miner);
        status.last_error = None;
        drop(status);
        self.session.send_replace(Some(Arc::clone(session)));
    }

    /// Drops the coordinator for good.
    pub(crate) fn give_up(&self, error: Error) {
        tracing::error!(%error, "this coordinator is given up");
        let mut status = self.status_mut();
        status.dropped = true;
        status.last_error = Some(error.to_string());
        drop(status);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.dropped.cancel();
    }

    async fn close_session(&self, session: &Arc<OpenSession>) {
        self.session.send_replace(None);
        let limit = self.shared.settings.call_timeout().min(CLOSING);
        let closing = self.protocol.close_session(&session.token);
        if let Err(error) = self.within("close_session", limit, closing).await {
            // The coordinator notices by itself once the leases end.
            tracing::debug!(%error, "the session was not closed");
        }
    }

    /// The open session, as soon as there is one; safe to drop.
    pub(crate) async fn session(&self) -> Arc<OpenSession> {
        let mut sessions = self.session.subscribe();
        loop {
            if let Some(session) = sessions.borrow_and_update().clone() {
                return session;
            }
            if sessions.changed().await.is_err() {
                // Cannot be while `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The open session, if there is one now.
    pub(crate) fn current_session(&self) -> Option<Arc<OpenSession>> {
        self.session.borrow().clone()
    }

    /// Notes that the coordinator does not know `session` any more; another is opened.
    pub(crate) fn lose(&self, session: &Arc<OpenSession>) {
        self.session.send_if_modified(|current| {
            let same = current
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, session));
            if same {
                *current = None;
            }
            same
        });
    }

    /// Completes when `session` was lost; safe to drop.
    pub(crate) async fn lost(&self, session: &Arc<OpenSession>) {
        let mut sessions = self.session.subscribe();
        let other = |current: &Option<Arc<OpenSession>>| {
            !current
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, session))
        };
        if sessions.wait_for(other).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for `call`, at most `limit` by the miner's clock.
    pub(crate) async fn within<T>(
        &self,
        name: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let clock = &self.shared.clock;
        let asked = clock.now();
        let result = tokio::select! {
            biased;
            result = call => result,
            () = clock.sleep(limit) => Err(Error::timeout(format!(
                "no answer to `{name}` within {} ms; the other side is overloaded or gone",
                limit.as_millis()
            ))),
        };
        let silent = |error: &Error| error.kind() == ErrorKind::Timeout;
        if SMALL_CALLS.contains(&name) && result.as_ref().err().is_none_or(silent) {
            self.standing.heard_after(clock.now().since(asked));
        }
        result
    }

    /// Makes a call in `session`, at most `limit` by the miner's clock, and draws the conclusions: a session that is not
    /// accepted any more is lost, one that is is proven, trouble shows in the status.
    pub(crate) async fn call<T>(
        &self,
        session: &Arc<OpenSession>,
        name: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let result = self.within(name, limit, call).await;
        match &result {
            Ok(_) => {
                session.prove();
                self.note(None);
            }
            Err(error) => {
                if error.kind() == ErrorKind::Unauthorized {
                    self.lose(session);
                }
                self.note(Some(error));
            }
        }
        result
    }

    /// Makes a call about `lease` and repeats it, in a new session where the old one was lost, until there is an answer
    /// or the lease ended. Gives the answer and the session it came in.
    ///
    /// # Errors
    /// The coordinator's refusal; or the last trouble once the lease ended or the miner was closed.
    pub(crate) async fn deliver<T>(
        &self,
        lease: &Lease,
        name: &'static str,
        call: impl Fn(Arc<OpenSession>) -> BoxFuture<'static, Result<T>>,
    ) -> Result<(Arc<OpenSession>, T)> {
        let shared = &self.shared;
        let mut backoff = Backoff::new(&shared.settings);
        let mut trouble = Error::timeout(format!("the lease ended before `{name}` was answered"));
        let given_up = self.given_up(lease);
        tokio::pin!(given_up);
        loop {
            let attempt = async {
                let session = self.session().await;
                let limit = shared.settings.call_timeout();
                let answer = self
                    .call(&session, name, limit, call(Arc::clone(&session)))
                    .await?;
                Ok((session, answer))
            };
            tokio::select! {
                biased;
                result = attempt => match result {
                    Err(error) if may_pass(&error) => trouble = error,
                    answer => return answer,
                },
                () = &mut given_up => return Err(trouble),
            }
            tokio::select! {
                () = shared.clock.sleep(backoff.next(&*shared.entropy)) => {}
                () = &mut given_up => return Err(trouble),
            }
        }
    }

    /// Completes when nothing about `lease` can be delivered any more: it ended, or one of the two sides is gone.
    async fn given_up(&self, lease: &Lease) {
        let clock = &self.shared.clock;
        let ended = async {
            loop {
                let end = lease.expires_at();
                clock.sleep(end.since(clock.now())).await;
                // A heartbeat may have moved it meanwhile.
                if lease.expires_at() <= end {
                    return;
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = self.shared.closed.cancelled() => {}
            () = self.dropped.cancelled() => {}
        }
    }

    /// Verifies a voucher and keeps it.
    pub(crate) fn take_voucher(&self, session: &OpenSession, voucher: Option<SignedVoucher>) {
        let Some(voucher) = voucher else { return };
        let deployment = self.shared.chain.deployment();
        match self.shared.vouchers.accept(voucher, session, &deployment) {
            Ok(None) => {}
            Ok(Some(growth)) => {
                let promised = self
                    .shared
                    .vouchers
                    .owed(session.coordinator, session.miner);
                self.standing.pay(growth, promised, self.shared.clock.now());
            }
            Err(error) => {
                tracing::warn!(%error, "voucher refused");
                self.note(Some(&error));
            }
        }
    }

    /// Notes trouble, or that there is none any more.
    pub(crate) fn note(&self, error: Option<&Error>) {
        self.status_mut().last_error = error.map(ToString::to_string);
    }

    /// Its node and the miner's own; nothing before the first session.
    pub(crate) fn nodes(&self) -> Option<(NodeId, NodeId)> {
        let status = self.status_mut();
        status.node.zip(status.miner)
    }

    /// This coordinator now, with its share of the slot time.
    pub(crate) fn status(&self, share: f64, now: Timestamp) -> CoordinatorStatus {
        let mut status = self.status_mut().clone();
        status.connected = self.session.borrow().is_some();
        if let (Some(coordinator), Some(miner)) = (status.node, status.miner) {
            status.owed = self.shared.vouchers.owed(coordinator, miner);
        }
        let mut standing = self.standing.state();
        status.stake = standing.stake;
        status.share = (share * 1_000.0).round() as u16;
        status.latency_millis = standing
            .latency
            .map(|seconds| (seconds * 1_000.0).round() as u64);
        status.completed = standing.completed;
        status.failed = standing.failed;
        status.refused = standing.refused;
        status.earned = standing.meter.total();
        let hourly = format!("{:.9}", standing.meter.per_hour(now));
        status.hourly = parse_cai(&hourly).unwrap_or_default();
        status.redeemed = standing.redeemed;
        status.escrow = standing.escrow;
        status.unpaid = standing.account.unpaid();
        status.in_work = standing.account.in_work();
        status.uncovered = standing.account.uncovered();
        status.held_since = standing.account.over_since();
        status.held = standing.account.trouble();
        status
    }

    /// What is in work for it now.
    pub(crate) fn runs(&self) -> Vec<RunStatus> {
        let Some((coordinator, _)) = self.nodes() else {
            return Vec::new();
        };
        let run = |lease: &Arc<Lease>| RunStatus {
            task: lease.job.task,
            coordinator,
            model: lease.job.model.clone(),
            progress: lease.context.progress_made(),
            started_at: lease.job.started_at,
            deadline: lease.context.deadline(),
        };
        let mut runs: Vec<_> = self.leases.all().iter().map(run).collect();
        runs.sort_by_key(|run| (run.started_at, run.task));
        runs
    }

    /// Why this coordinator was given up.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(Error::duplicate)
    }

    fn status_mut(&self) -> MutexGuard<'_, CoordinatorStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a call that gave this error may succeed when repeated, perhaps in another session.
pub(crate) fn may_pass(error: &Error) -> bool {
    error.retry() == cuckoo_core::Retry::Later || error.kind() == ErrorKind::Unauthorized
}
