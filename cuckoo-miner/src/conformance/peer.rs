//! The coordinator of a check, in this process: proves its key, hands out the tasks it is told to, and keeps what comes back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cuckoo_core::{
    Assignment, BlobId, Chunk, ChunkReply, Clock, Completion, CompletionReply, CoordinatorInfo,
    Deployment, Entropy, Error, Failure, Heartbeat, HeartbeatReply, Key, LeaseId, LeaseStatus,
    Output, PROTOCOL_VERSION, PollReply, PollRequest, Result, Session, SessionGrant, SessionOpened,
    SessionToken, Signed, TaskProtocol,
};
use tokio::sync::Notify;

use super::registry::{COORDINATOR, MINER};

/// How long a lease lasts from each sign of life on.
const LEASE: Duration = Duration::from_secs(60);
/// How long a session lasts: longer than any check.
const SESSION: Duration = Duration::from_secs(24 * 3_600);

/// What a miner made of a lease.
#[derive(Debug, Clone)]
pub(super) enum HandedIn {
    Completed,
    Failed(Failure),
}

#[derive(Debug, Default)]
struct State {
    sessions: HashSet<SessionToken>,
    queue: VecDeque<Assignment>,
    cancelled: HashSet<LeaseId>,
    streamed: HashMap<LeaseId, Vec<u8>>,
    handed_in: HashMap<LeaseId, HandedIn>,
}

#[derive(Debug)]
pub(super) struct Peer {
    operator: Key,
    deployment: Deployment,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    blobs: HashMap<BlobId, Output>,
    state: Mutex<State>,
    changed: Notify,
}

impl Peer {
    pub(super) fn new(
        operator: Key,
        deployment: Deployment,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        blobs: &[Output],
    ) -> Arc<Self> {
        let named = |blob: &Output| (BlobId::of(&blob.bytes), blob.clone());
        Arc::new(Self {
            operator,
            deployment,
            clock,
            entropy,
            blobs: blobs.iter().map(named).collect(),
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_waiters();
        result
    }

    /// Hands a task out at the next poll.
    pub(super) fn assign(&self, task: Assignment) {
        self.change(|state| state.queue.push_back(task));
    }

    /// Has the miner stop a run.
    pub(super) fn cancel(&self, lease: LeaseId) {
        self.change(|state| state.cancelled.insert(lease));
    }

    /// What was streamed for a lease.
    pub(super) fn streamed(&self, lease: LeaseId) -> Vec<u8> {
        self.state()
            .streamed
            .get(&lease)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits for what is handed in for a lease. Safe to drop.
    pub(super) async fn handed_in(&self, lease: LeaseId) -> HandedIn {
        self.until(|state| state.handed_in.get(&lease).cloned())
            .await
    }

    async fn until<T>(&self, mut found: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = found(&mut self.state());
            if let Some(found) = now {
                return found;
            }
            changed.await;
        }
    }

    fn admit(&self, token: &SessionToken) -> Result<()> {
        if self.state().sessions.contains(token) {
            return Ok(());
        }
        Err(Error::unauthorized("no such session; open another"))
    }

    fn status(&self, state: &State, lease: LeaseId) -> LeaseStatus {
        if state.cancelled.contains(&lease) {
            return LeaseStatus::Cancelled;
        }
        LeaseStatus::Active {
            expires_at: self.clock.now().after(LEASE),
        }
    }
}

#[async_trait]
impl TaskProtocol for Peer {
    async fn info(&self) -> Result<CoordinatorInfo> {
        Ok(CoordinatorInfo {
            protocol: PROTOCOL_VERSION,
            node: COORDINATOR,
            operator: self.operator.address(),
            deployment: self.deployment,
            models: Vec::new(),
            time: self.clock.now(),
        })
    }

    async fn open_session(&self, request: Signed<Session>) -> Result<SessionOpened> {
        let session = &request.value;
        request.verify(session.miner, &self.deployment)?;
        let token = SessionToken::new(self.entropy.word().to_string());
        let grant = SessionGrant {
            coordinator: session.coordinator,
            miner: session.miner,
            nonce: session.nonce,
            token_hash: token.hash(),
            expiry: self.clock.now().after(SESSION),
        };
        self.change(|state| state.sessions.insert(token.clone()));
        Ok(SessionOpened {
            token,
            miner: MINER,
            grant: Signed::sign(grant, &self.operator, &self.deployment),
        })
    }

    async fn close_session(&self, token: &SessionToken) -> Result<()> {
        self.change(|state| state.sessions.remove(token));
        Ok(())
    }

    async fn poll(&self, token: &SessionToken, request: PollRequest) -> Result<PollReply> {
        self.admit(token)?;
        let work = self.until(|state| {
            let count = state.queue.len().min(request.free_slots as usize);
            let assignments: Vec<_> = state.queue.drain(..count).collect();
            Some(assignments).filter(|assignments| !assignments.is_empty())
        });
        let assignments = tokio::select! {
            assignments = work => assignments,
            () = self.clock.sleep(Duration::from_millis(request.wait_millis)) => Vec::new(),
        };
        Ok(PollReply {
            assignments,
            voucher: None,
        })
    }

    async fn blob(&self, token: &SessionToken, _: LeaseId, blob: BlobId) -> Result<Output> {
        self.admit(token)?;
        let blob = self.blobs.get(&blob).cloned();
        blob.ok_or_else(|| Error::not_found("the samples have no such blob; add it"))
    }

    async fn heartbeat(&self, token: &SessionToken, request: Heartbeat) -> Result<HeartbeatReply> {
        self.admit(token)?;
        let state = self.state();
        let leases = request.leases.iter();
        Ok(HeartbeatReply {
            leases: leases
                .map(|progress| self.status(&state, progress.lease))
                .collect(),
            wanted: Vec::new(),
        })
    }

    async fn stream(&self, token: &SessionToken, chunk: Chunk) -> Result<ChunkReply> {
        self.admit(token)?;
        let mut state = self.state();
        let lease = self.status(&state, chunk.lease);
        let bytes = state.streamed.entry(chunk.lease).or_default();
        // What was sent already is passed over, what comes after a gap is not taken.
        let known = (bytes.len() as u64).checked_sub(chunk.offset);
        let known = known.and_then(|known| usize::try_from(known).ok());
        if let Some(new) = known.and_then(|known| chunk.bytes.get(known..)) {
            bytes.extend_from_slice(new);
        }
        let received = bytes.len() as u64;
        Ok(ChunkReply { lease, received })
    }

    async fn complete(
        &self,
        token: &SessionToken,
        completion: Completion,
    ) -> Result<CompletionReply> {
        self.admit(token)?;
        let lease = completion.receipt.value.lease;
        self.change(|state| state.handed_in.insert(lease, HandedIn::Completed));
        Ok(CompletionReply { voucher: None })
    }

    async fn fail(&self, token: &SessionToken, failure: Failure) -> Result<()> {
        self.admit(token)?;
        let lease = failure.lease;
        self.change(|state| state.handed_in.insert(lease, HandedIn::Failed(failure)));
        Ok(())
    }
}
