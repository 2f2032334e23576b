//! The other end of the line: a coordinator with a real key on a real (in-process) chain, that does what a test tells it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use cuckoo_core::{
    Assignment, B256, BlobId, Chunk, ChunkReply, Clock, Completion, CompletionReply,
    CoordinatorInfo, DeployConfig, Deployment, DevChain, Entropy, Error, ErrorKind, Failure,
    Heartbeat, HeartbeatReply, Key, LeaseId, LeaseStatus, LocalMarket, ManualClock, Member,
    ModelId, Output, PROTOCOL_VERSION, PollReply, PollRequest, Result, SeededEntropy, Session,
    SessionGrant, SessionOpened, SessionToken, Signed, SignedVoucher, StakingContract, SystemClock,
    TaskId, TaskProtocol, Timestamp, U256, Voucher, cai, payload_hash,
};
use tokio::sync::Notify;

/// Longer than any test should take; what waits this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const MODEL: &str = "echo";
pub(crate) const MODEL_HASH: B256 = B256::repeat_byte(7);

/// A chain with one coordinator and one miner on it.
pub(crate) struct Market {
    pub(crate) chain: Arc<dyn StakingContract>,
    pub(crate) coordinator: Member,
    pub(crate) miner: Member,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) local: LocalMarket,
}

impl Market {
    pub(crate) async fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock)).await
    }

    pub(crate) async fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::from_number(11));
        let treasury = Key::random(&*entropy);
        let dev = DevChain::new(Arc::clone(&clock));
        dev.fund(treasury.address(), cai(100_000_000));
        let config = DeployConfig::demo();
        let chain = dev.deploy(&treasury, &config).await.unwrap();
        let local = LocalMarket::new(Arc::clone(&chain), treasury, Arc::clone(&entropy));
        let coordinator = local
            .add_coordinator("peer", cai(2_000_000), cai(1))
            .await
            .unwrap();
        let miner = local.add_miner("miner", cai(20_000)).await.unwrap();
        dev.advance(Duration::from_secs(config.epoch_seconds * 2));
        local
            .settle(&[&coordinator, &miner], &SystemClock, PATIENCE)
            .await
            .unwrap();
        Self {
            chain,
            coordinator,
            miner,
            entropy,
            clock,
            local,
        }
    }

    pub(crate) fn peer(&self) -> Arc<Peer> {
        self.peer_of(&self.coordinator)
    }

    pub(crate) fn peer_of(&self, coordinator: &Member) -> Arc<Peer> {
        Arc::new(Peer {
            operator: coordinator.operator.clone(),
            coordinator: coordinator.clone(),
            miner: self.miner.clone(),
            deployment: self.chain.deployment(),
            entropy: Arc::clone(&self.entropy),
            clock: Arc::clone(&self.clock),
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }
}

/// A clock that stands still until told otherwise.
pub(crate) fn manual_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)))
}

/// What to do with the next completion.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Take it, then let the response get lost.
    Lose,
    /// Take it with this voucher.
    Take(Option<SignedVoucher>),
    /// Refuse it.
    Refuse(ErrorKind),
}

/// What to do with a chunk.
#[derive(Debug)]
pub(crate) enum ChunkAnswer {
    /// Take it, then let the response get lost.
    Lose,
    /// Forget everything that came before, and it.
    Forget,
    /// Refuse it.
    Refuse(ErrorKind),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) sessions: HashSet<SessionToken>,
    pub(crate) opened: usize,
    pub(crate) closed: usize,
    pub(crate) polls: Vec<PollRequest>,
    pub(crate) polling: usize,
    pub(crate) heartbeats: Vec<Heartbeat>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) blobs_asked: Vec<(LeaseId, BlobId)>,
    pub(crate) completions: Vec<Completion>,
    pub(crate) failures: Vec<Failure>,
    // What the test wants:
    pub(crate) queue: VecDeque<Assignment>,
    pub(crate) vouchers: VecDeque<SignedVoucher>,
    pub(crate) answers: VecDeque<Answer>,
    /// The answers to the next questions for blobs.
    pub(crate) blobs: VecDeque<Result<Output>>,
    /// What to do with the next chunk.
    pub(crate) chunk_answers: VecDeque<ChunkAnswer>,
    pub(crate) lease_answers: HashMap<LeaseId, LeaseStatus>,
    /// What heartbeats are told that tasks wait for.
    pub(crate) wanted: Vec<ModelId>,
    pub(crate) down: bool,
    pub(crate) impatient: bool,
    pub(crate) surplus: usize,
    pub(crate) grant_key: Option<Key>,
    pub(crate) deployment: Option<Deployment>,
    pub(crate) protocol: Option<u32>,
    pub(crate) clock_ahead: Duration,
}

impl State {
    /// What a lease streamed, with what came twice once.
    pub(crate) fn streamed(&self, lease: LeaseId) -> Vec<u8> {
        let mut bytes = Vec::new();
        for chunk in self.chunks.iter().filter(|chunk| chunk.lease == lease) {
            let offset = usize::try_from(chunk.offset).unwrap();
            assert!(offset <= bytes.len(), "a gap before {chunk:?}");
            bytes.truncate(offset);
            bytes.extend_from_slice(&chunk.bytes);
        }
        bytes
    }
}

#[derive(Debug)]
pub(crate) struct Peer {
    operator: Key,
    coordinator: Member,
    miner: Member,
    deployment: Deployment,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Notify,
}

impl Peer {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes what the peer does.
    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_waiters();
        result
    }

    /// Waits until what happened so far satisfies `condition`.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(&self.state()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited for: {what}\n{:#?}", self.state());
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().after(self.state().clock_ahead)
    }

    /// A task with this text as its input; not yet handed out.
    pub(crate) fn task(&self, text: &str) -> Assignment {
        let input = serde_json::json!({ "text": text }).to_string();
        Assignment {
            lease: LeaseId::random(&*self.entropy),
            task: TaskId::random(&*self.entropy),
            coordinator: self.coordinator.node,
            model: MODEL.parse().unwrap(),
            model_hash: MODEL_HASH,
            input_hash: payload_hash(input.as_bytes()),
            input,
            price: cai(1),
            lease_expires_at: self.now().after(Duration::from_secs(10)),
            heartbeat_millis: 50,
            deadline: self.now().after(Duration::from_secs(60)),
        }
    }

    /// Hands a task out at the next poll.
    pub(crate) fn assign(&self, task: Assignment) -> Assignment {
        self.set(|state| state.queue.push_back(task.clone()));
        task
    }

    pub(crate) fn voucher(&self, amount: u64) -> SignedVoucher {
        self.voucher_by(&self.operator, amount)
    }

    pub(crate) fn voucher_by(&self, key: &Key, amount: u64) -> SignedVoucher {
        let voucher = Voucher {
            coordinator: self.coordinator.node,
            miner: self.miner.node,
            cumulative: U256::from(amount),
        };
        Signed::sign(voucher, key, &self.deployment)
    }

    fn up(&self) -> Result<()> {
        if self.state().down {
            return Err(Error::unavailable("the peer is down"));
        }
        Ok(())
    }

    fn admit(&self, token: &SessionToken) -> Result<()> {
        self.up()?;
        if !self.state().sessions.contains(token) {
            return Err(Error::unauthorized("no such session; open another"));
        }
        Ok(())
    }

    fn next_reply(&self, free: usize) -> Option<PollReply> {
        let mut state = self.state();
        let most = free + state.surplus;
        let count = most.min(state.queue.len());
        let assignments: Vec<_> = state.queue.drain(..count).collect();
        let voucher = state.vouchers.pop_front();
        if assignments.is_empty() && voucher.is_none() && !state.impatient {
            return None;
        }
        Some(PollReply {
            assignments,
            voucher,
        })
    }
}

struct Polling<'a>(&'a Peer);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.set(|state| state.polling -= 1);
    }
}

#[async_trait]
impl TaskProtocol for Peer {
    async fn info(&self) -> Result<CoordinatorInfo> {
        self.up()?;
        let state = self.state();
        Ok(CoordinatorInfo {
            protocol: state.protocol.unwrap_or(PROTOCOL_VERSION),
            node: self.coordinator.node,
            operator: self.operator.address(),
            deployment: state.deployment.unwrap_or(self.deployment),
            models: Vec::new(),
            time: self.clock.now().after(state.clock_ahead),
        })
    }

    async fn open_session(&self, request: Signed<Session>) -> Result<SessionOpened> {
        self.up()?;
        let session = &request.value;
        request.verify(self.miner.operator.address(), &self.deployment)?;
        assert_eq!(session.coordinator, self.operator.address());
        assert_eq!(session.miner, self.miner.operator.address());
        let ahead = session.expiry.since(self.now());
        assert!(
            ahead > Duration::ZERO && ahead <= Duration::from_secs(300),
            "{ahead:?}"
        );
        let token = SessionToken::new(self.entropy.word().to_string());
        let grant = SessionGrant {
            coordinator: session.coordinator,
            miner: session.miner,
            nonce: session.nonce,
            token_hash: token.hash(),
            expiry: self.now().after(Duration::from_secs(3_600)),
        };
        let key = self.state().grant_key.clone();
        let key = key.as_ref().unwrap_or(&self.operator);
        let grant = Signed::sign(grant, key, &self.deployment);
        self.set(|state| {
            state.opened += 1;
            state.sessions.insert(token.clone());
        });
        Ok(SessionOpened {
            token,
            miner: self.miner.node,
            grant,
        })
    }

    async fn close_session(&self, token: &SessionToken) -> Result<()> {
        self.admit(token)?;
        self.set(|state| {
            state.closed += 1;
            state.sessions.remove(token);
        });
        Ok(())
    }

    async fn poll(&self, token: &SessionToken, request: PollRequest) -> Result<PollReply> {
        self.admit(token)?;
        let wait = Duration::from_millis(request.wait_millis);
        let free = request.free_slots as usize;
        self.set(|state| {
            state.polls.push(request);
            state.polling += 1;
        });
        let _polling = Polling(self);
        let mut waited = self.clock.sleep(wait);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.admit(token)?;
            if let Some(reply) = self.next_reply(free) {
                return Ok(reply);
            }
            tokio::select! {
                () = &mut waited => return Ok(PollReply::default()),
                () = changed => {}
            }
        }
    }

    async fn blob(&self, token: &SessionToken, lease: LeaseId, blob: BlobId) -> Result<Output> {
        self.admit(token)?;
        let answer = self.set(|state| {
            state.blobs_asked.push((lease, blob));
            state.blobs.pop_front()
        });
        answer.unwrap_or_else(|| Err(Error::not_found("no such blob")))
    }

    async fn heartbeat(&self, token: &SessionToken, request: Heartbeat) -> Result<HeartbeatReply> {
        self.admit(token)?;
        let expires_at = self.now().after(Duration::from_secs(10));
        let (leases, wanted) = self.set(|state| {
            state.heartbeats.push(request.clone());
            let answer = |lease| state.lease_answers.get(lease).copied();
            let leases = request.leases.iter().map(|progress| {
                answer(&progress.lease).unwrap_or(LeaseStatus::Active { expires_at })
            });
            (leases.collect(), state.wanted.clone())
        });
        Ok(HeartbeatReply { leases, wanted })
    }

    async fn stream(&self, token: &SessionToken, chunk: Chunk) -> Result<ChunkReply> {
        self.admit(token)?;
        let expires_at = self.now().after(Duration::from_secs(10));
        let lease = chunk.lease;
        let (answer, received, status) = self.set(|state| {
            let answer = state.chunk_answers.pop_front();
            match answer {
                Some(ChunkAnswer::Forget) => state.chunks.retain(|chunk| chunk.lease != lease),
                Some(ChunkAnswer::Refuse(_)) => {}
                Some(ChunkAnswer::Lose) | None => state.chunks.push(chunk),
            }
            let status = state.lease_answers.get(&lease).copied();
            let status = status.unwrap_or(LeaseStatus::Active { expires_at });
            (answer, state.streamed(lease).len() as u64, status)
        });
        match answer {
            Some(ChunkAnswer::Lose) => Err(Error::unavailable("the connection broke off")),
            Some(ChunkAnswer::Refuse(kind)) => Err(Error::new(kind, "refused")),
            Some(ChunkAnswer::Forget) | None => Ok(ChunkReply {
                lease: status,
                received,
            }),
        }
    }

    async fn complete(
        &self,
        token: &SessionToken,
        completion: Completion,
    ) -> Result<CompletionReply> {
        self.admit(token)?;
        let answer = self.set(|state| {
            state.completions.push(completion);
            state.answers.pop_front().unwrap_or(Answer::Take(None))
        });
        match answer {
            Answer::Lose => Err(Error::unavailable("the connection broke off")),
            Answer::Take(voucher) => Ok(CompletionReply { voucher }),
            Answer::Refuse(kind) => Err(Error::new(kind, "refused")),
        }
    }

    async fn fail(&self, token: &SessionToken, failure: Failure) -> Result<()> {
        self.admit(token)?;
        self.set(|state| state.failures.push(failure));
        Ok(())
    }
}
