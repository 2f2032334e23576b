//! The handshake: calls in any order, requests signed by anybody, used again or too late. A small model of who may do what
//! is held against what the coordinator lets them do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    Address, Assignment, B256, Chunk, Completion, Deployment, ErrorKind, Failure, Heartbeat, Key,
    LeaseId, LeaseProgress, LeaseStatus, NodeId, Output, Receipt, Result, Retry, Session,
    SessionOpened, SessionToken, Signature, Signed, TaskProtocol, Timestamp, U256, Usage,
    payload_hash,
};

use super::market::{MEMBERS, Market, SESSION, START, play, poll, spec};
use super::signature::twin;

/// One call. An input is a number of these, five bytes each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step {
    /// Which call, of [`Step::CALLS`].
    pub call: u8,
    /// Of a request, the key it names. Of other calls, which token that was ever given.
    pub who: u8,
    /// Of a request, the key that signs it and how well. Of a receipt, the key that signs it.
    pub signer: u8,
    /// Of a request, its nonce. Of other calls, which lease that was ever given.
    pub which: u8,
    /// When a request expires, or how far the clock goes.
    pub time: u8,
}

/// The most calls of one input.
const MAX_STEPS: usize = 200;
const OUTPUT: &[u8] = b"output";

impl Step {
    /// The calls by their numbers.
    pub const CALLS: [&str; 9] = [
        "open",
        "close",
        "poll",
        "heartbeat",
        "stream",
        "complete",
        "fail",
        "submit",
        "advance",
    ];

    /// A call of this name.
    pub fn named(name: &str) -> Self {
        let call = Self::CALLS.iter().position(|call| *call == name);
        let call = call.expect("a call") as u8;
        Self {
            call,
            ..Self::default()
        }
    }

    /// As the input has it.
    pub fn bytes(self) -> [u8; 5] {
        [self.call, self.who, self.signer, self.which, self.time]
    }

    fn read([call, who, signer, which, time]: [u8; 5]) -> Self {
        Self {
            call,
            who,
            signer,
            which,
            time,
        }
    }
}

/// Steps of five bytes.
pub fn session(data: &[u8]) {
    let (steps, _) = data.as_chunks::<5>();
    play(async |market| {
        let mut model = Model::new(market);
        for step in steps.iter().take(MAX_STEPS) {
            model.step(Step::read(*step)).await;
        }
    });
}

/// What must be so.
struct Model {
    market: Market,
    protocol: Arc<dyn TaskProtocol>,
    keys: [Key; 6],
    now: Timestamp,
    /// Nonces that a miner used, until its request expires.
    nonces: HashMap<(NodeId, u8), Timestamp>,
    /// The only session of each miner, and its end.
    open: HashMap<NodeId, (SessionToken, Timestamp)>,
    tokens: Vec<(SessionToken, NodeId)>,
    leases: Vec<(Assignment, NodeId)>,
    tasks: usize,
}

impl Model {
    fn new(market: Market) -> Self {
        let operator = |member: &cuckoo_core::Member| member.operator.clone();
        Self {
            protocol: market.coordinator.protocol(),
            market,
            keys: [
                operator(&MEMBERS.miners[0]),
                operator(&MEMBERS.miners[1]),
                operator(&MEMBERS.poor),
                operator(&MEMBERS.coordinator),
                MEMBERS.miners[0].owner.clone(),
                MEMBERS.stranger.clone(),
            ],
            now: START,
            nonces: HashMap::new(),
            open: HashMap::new(),
            tokens: vec![(SessionToken::new("nobody's"), NodeId(0))],
            leases: Vec::new(),
            tasks: 0,
        }
    }

    async fn step(&mut self, step: Step) {
        match usize::from(step.call) % Step::CALLS.len() {
            0 => self.open(step).await,
            1 => {
                let (token, may) = self.token(step);
                check(may.is_some(), self.protocol.close_session(&token).await);
                if let Some(miner) = may {
                    self.open.remove(&miner);
                }
            }
            2 => {
                let (token, may) = self.token(step);
                let reply = self.protocol.poll(&token, poll()).await;
                if let Some(reply) = check(may.is_some(), reply) {
                    let miner = may.expect("a miner that may");
                    let given = reply.assignments.into_iter();
                    self.leases.extend(given.map(|work| (work, miner)));
                }
            }
            3 => {
                let (token, may) = self.token(step);
                let (lease, holder) = self.lease(step);
                let beat = LeaseProgress {
                    lease,
                    progress: u16::from(step.time) << 3,
                    preview: None,
                };
                let leases = vec![beat];
                let reply = self.protocol.heartbeat(&token, Heartbeat { leases }).await;
                if let Some(reply) = check(may.is_some(), reply) {
                    let own = may == holder;
                    assert!(own || reply.leases == [LeaseStatus::Ended], "{reply:?}");
                }
            }
            4 => {
                let (token, may) = self.token(step);
                let (lease, holder) = self.lease(step);
                let chunk = Chunk {
                    lease,
                    offset: u64::from(step.time % 8),
                    bytes: OUTPUT[..usize::from(step.signer) % OUTPUT.len()].into(),
                };
                let reply = self.protocol.stream(&token, chunk).await;
                if let Some(reply) = check(may.is_some(), reply) {
                    assert!(
                        may == holder || reply.lease == LeaseStatus::Ended,
                        "{reply:?}"
                    );
                }
            }
            5 => self.complete(step).await,
            6 => {
                let (token, may) = self.token(step);
                let (lease, holder) = self.lease(step);
                let (kind, retry) = match step.signer % 2 {
                    0 => (ErrorKind::Execution, Retry::Later),
                    _ => (ErrorKind::Rejected, Retry::Never),
                };
                let failure = Failure {
                    lease,
                    kind,
                    retry,
                    message: "no".to_owned(),
                };
                let failed = check(may.is_some(), self.protocol.fail(&token, failure).await);
                assert!(
                    failed.is_none() || may == holder,
                    "another's lease was given back"
                );
            }
            7 => {
                self.market
                    .coordinator
                    .submit(spec())
                    .await
                    .expect("a task");
                self.tasks += 1;
            }
            _ => self.advance(step).await,
        }
    }

    async fn open(&mut self, step: Step) {
        let now = self.now;
        self.nonces.retain(|_, until| *until > now);
        let named = self.key(step.who).address();
        let signer = match step.signer % 8 {
            0 => self.key(step.who),
            other => self.key(other),
        };
        let flaw = (step.signer >> 3) & 3;
        let for_us = step.who < 128;
        let value = Session {
            coordinator: if for_us {
                self.keys[3].address()
            } else {
                named
            },
            miner: named,
            nonce: B256::repeat_byte(step.which),
            expiry: self.expiry(step.time),
        };
        let expiry = value.expiry;
        let genuine = signer.address() == named && flaw == 0;
        let meant = value.coordinator == self.keys[3].address();
        let miner = [&MEMBERS.miners[0], &MEMBERS.miners[1]]
            .into_iter()
            .find(|miner| miner.operator.address() == named);
        let timely = expiry > self.now && expiry <= self.now.after(Duration::from_secs(300));
        let answer = self.protocol.open_session(sign(value, signer, flaw)).await;
        let expected = match miner {
            _ if !genuine => Err(ErrorKind::Unverified),
            Some(miner) if meant && timely => {
                let used = |nonce: u8| self.nonces.contains_key(&(miner.node, nonce));
                if used(step.which) {
                    Err(ErrorKind::Unauthorized)
                } else if (0..=255).filter(|nonce| used(*nonce)).count() >= 64 {
                    Err(ErrorKind::Rejected)
                } else {
                    Ok(miner.node)
                }
            }
            _ => Err(ErrorKind::Unauthorized),
        };
        match (answer, expected) {
            (Ok(opened), Ok(miner)) => {
                self.check_grant(&opened, named, step.which);
                assert_eq!(opened.miner, miner);
                self.nonces.insert((miner, step.which), expiry);
                let until = self.now.after(SESSION);
                self.open.insert(miner, (opened.token.clone(), until));
                self.tokens.push((opened.token, miner));
            }
            (answer, expected) => {
                let answer = answer.map(|opened| opened.miner);
                let answer = answer.map_err(|error| error.kind());
                assert_eq!(answer, expected, "{step:?}");
            }
        }
    }

    fn check_grant(&self, opened: &SessionOpened, miner: Address, nonce: u8) {
        let grant = &opened.grant;
        let coordinator = self.keys[3].address();
        let signed = grant.verify(coordinator, &MEMBERS.deployment);
        signed.expect("the coordinator's own signature");
        let value = &grant.value;
        assert_eq!(value.token_hash, opened.token.hash());
        assert_eq!(
            (value.miner, value.nonce),
            (miner, B256::repeat_byte(nonce))
        );
        assert_eq!(value.expiry, self.now.after(SESSION));
        let known = self.tokens.iter().any(|(token, _)| *token == opened.token);
        assert!(!known, "a token was given twice");
    }

    async fn complete(&mut self, step: Step) {
        let (token, may) = self.token(step);
        let Some((work, holder)) = self.leases.get(usize::from(step.which)) else {
            return;
        };
        let receipt = Receipt {
            coordinator: work.coordinator,
            miner: *holder,
            lease: work.lease,
            task: work.task,
            model_hash: work.model_hash,
            input_hash: work.input_hash,
            output_hash: payload_hash(OUTPUT),
            states_root: B256::ZERO,
            usage: Usage::default(),
        };
        let signer = self.key(step.signer);
        let completion = Completion {
            receipt: Signed::sign(receipt, signer, &MEMBERS.deployment),
            output: Output::new("text/plain", OUTPUT),
        };
        let (signer, holder) = (signer.address(), *holder);
        let reply = self.protocol.complete(&token, completion).await;
        if let Some(reply) = check(may.is_some(), reply) {
            assert_eq!(may, Some(holder), "another's lease was completed");
            let operator = MEMBERS.miners.iter().find(|miner| miner.node == holder);
            let operator = operator.expect("a miner").operator.address();
            assert_eq!(signer, operator, "another signed for the work");
            if let Some(voucher) = reply.voucher {
                let most = U256::from(self.tasks) * cuckoo_core::cai(1);
                assert!(voucher.value.cumulative <= most, "{voucher:?}");
            }
        }
    }

    async fn advance(&mut self, step: Step) {
        const MILLIS: [u64; 8] = [1, 1_000, 9_999, 10_001, 59_999, 60_000, 300_000, 600_000];
        let by = Duration::from_millis(MILLIS[usize::from(step.time) % MILLIS.len()]);
        self.market.clock.advance(by);
        self.now = self.now.after(by);
        // What was due happens before the next call.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    fn key(&self, number: u8) -> &Key {
        &self.keys[usize::from(number) % self.keys.len()]
    }

    /// A token, and the miner whose calls it lets through now.
    fn token(&self, step: Step) -> (SessionToken, Option<NodeId>) {
        let (token, miner) = &self.tokens[usize::from(step.who) % self.tokens.len()];
        let holds = |(open, until): &(SessionToken, Timestamp)| open == token && *until > self.now;
        let may = self.open.get(miner).is_some_and(holds);
        (token.clone(), may.then_some(*miner))
    }

    fn lease(&self, step: Step) -> (LeaseId, Option<NodeId>) {
        match self.leases.get(usize::from(step.which)) {
            Some((work, miner)) => (work.lease, Some(*miner)),
            None => (LeaseId::from(B256::repeat_byte(step.which)), None),
        }
    }

    fn expiry(&self, time: u8) -> Timestamp {
        let ahead = |millis| self.now.after(Duration::from_millis(millis));
        match time % 8 {
            0 => ahead(60_000),
            1 => ahead(300_000),
            2 => ahead(300_001),
            3 => self.now,
            4 => ahead(1),
            5 => self.now.before(Duration::from_millis(1)),
            6 => Timestamp::default(),
            _ => Timestamp::from_millis(u64::MAX),
        }
    }
}

/// A signature over `value`, unless `flaw` spoils it.
fn sign(value: Session, key: &Key, flaw: u8) -> Signed<Session> {
    let deployment = match flaw {
        1 => Deployment {
            chain_id: 1,
            ..MEMBERS.deployment
        },
        _ => MEMBERS.deployment,
    };
    let mut signed = Signed::sign(value, key, &deployment);
    match flaw {
        2 => signed.signature = Signature::from(twin(signed.signature.as_bytes())),
        3 => signed.value.expiry = Timestamp::from_millis(signed.value.expiry.as_millis() ^ 1),
        _ => {}
    }
    signed
}

/// A call goes through only for whom it may, and is refused to others for that reason alone.
fn check<T>(may: bool, answer: Result<T>) -> Option<T> {
    match answer {
        Ok(answer) => {
            assert!(may, "a call went through without a session");
            Some(answer)
        }
        Err(error) => {
            let refused = error.kind() == ErrorKind::Unauthorized;
            assert_eq!(refused, !may, "{error}");
            assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
            None
        }
    }
}
