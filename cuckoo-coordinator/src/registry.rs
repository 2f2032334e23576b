//! Who may work: sessions and the miners behind them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    Address, B256, Capability, Deployment, Error, LeaseId, MirrorView, ModelId, Node, NodeId,
    NodeKind, Result, Retry, Session, SessionToken, Signed, SignedVoucher, TaskId, Timestamp, Wei,
    format_cai,
};
use tokio::sync::Notify;

use crate::MinerStatus;
use crate::journal::Write;
use crate::market::Market;
use crate::store::SessionRecord;

/// How far ahead a session request may expire.
const MAX_REQUEST_LIFE: Duration = Duration::from_secs(300);
/// How many session requests of one miner may be remembered at once.
const MAX_NONCES: usize = 64;

/// Sessions and miners. It knows nothing of tasks but their ids.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) miners: BTreeMap<NodeId, Miner>,
    sessions: HashMap<B256, OpenSession>,
}

#[derive(Debug, Clone, Copy)]
struct OpenSession {
    miner: NodeId,
    expires_at: Timestamp,
}

/// A miner that has or had a session, or was suspended.
#[derive(Debug)]
pub(crate) struct Miner {
    pub(crate) node: Node,
    session: Option<B256>,
    /// Nonces of its session requests until these expire: each is taken once.
    nonces: HashMap<B256, Timestamp>,
    pub(crate) last_seen: Timestamp,
    /// The task whose audit convicted it.
    pub(crate) suspended_by: Option<TaskId>,
    /// What it offers of what is served here, by model.
    pub(crate) capabilities: HashMap<ModelId, Capability>,
    /// The pools it is in.
    pub(crate) joined: BTreeSet<ModelId>,
    pub(crate) parked: Option<Parked>,
    /// Leases that the next poll takes away.
    pub(crate) mailbox: VecDeque<LeaseId>,
    /// Audits it was drawn for and gets before other work.
    pub(crate) invitations: VecDeque<TaskId>,
    pub(crate) leases: BTreeSet<LeaseId>,
    /// A timer looks whether it went quiet.
    pub(crate) quiet_timer: bool,
    pub(crate) voucher: Option<SignedVoucher>,
    /// How much of `voucher` this session was told.
    pub(crate) voucher_sent: Wei,
    pub(crate) counts: Counts,
}

/// A poll that waits.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) poll: u64,
    pub(crate) slots: u32,
    pub(crate) wake: Arc<Notify>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) assigned: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) audits: u64,
    pub(crate) audits_failed: u64,
}

impl Miner {
    pub(crate) fn new(node: Node) -> Self {
        Self {
            node,
            session: None,
            nonces: HashMap::new(),
            last_seen: Timestamp::default(),
            suspended_by: None,
            capabilities: HashMap::new(),
            joined: BTreeSet::new(),
            parked: None,
            mailbox: VecDeque::new(),
            invitations: VecDeque::new(),
            leases: BTreeSet::new(),
            quiet_timer: false,
            voucher: None,
            voucher_sent: Wei::ZERO,
            counts: Counts::default(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.node.id
    }

    /// Tasks it could be given right now: what its waiting poll asked for, less what waits for the poll to leave.
    pub(crate) fn free_slots(&self) -> u32 {
        let waiting = u32::try_from(self.mailbox.len()).unwrap_or(u32::MAX);
        self.parked
            .as_ref()
            .map_or(0, |parked| parked.slots.saturating_sub(waiting))
    }

    /// Whether it showed a sign of life within `patience`.
    pub(crate) fn is_connected(&self, now: Timestamp, patience: Duration) -> bool {
        self.session.is_some() && (self.parked.is_some() || now.since(self.last_seen) < patience)
    }

    /// Whether tasks may go to it at all.
    pub(crate) fn may_work(&self) -> bool {
        self.session.is_some()
            && self.suspended_by.is_none()
            && self.node.active
            && !self.node.weight.is_zero()
    }

    /// Its latest voucher, when it grew since this session was told last.
    pub(crate) fn take_voucher(&mut self) -> Option<SignedVoucher> {
        let voucher = self.voucher.clone()?;
        if voucher.value.cumulative <= self.voucher_sent {
            return None;
        }
        self.voucher_sent = voucher.value.cumulative;
        Some(voucher)
    }

    pub(crate) fn wake(&self) {
        if let Some(parked) = &self.parked {
            parked.wake.notify_one();
        }
    }

    pub(crate) fn status(&self, now: Timestamp, patience: Duration) -> MinerStatus {
        let mut models: Vec<_> = self.capabilities.keys().cloned().collect();
        models.sort();
        MinerStatus {
            node: self.id(),
            name: self.node.profile.name.clone(),
            operator: self.node.operator,
            weight: self.node.weight,
            connected: self.is_connected(now, patience),
            suspended: self.suspended_by.is_some(),
            free_slots: self.free_slots(),
            assigned: self.counts.assigned,
            completed: self.counts.completed,
            failed: self.counts.failed,
            audits: self.counts.audits,
            audits_failed: self.counts.audits_failed,
            owed: self
                .voucher
                .as_ref()
                .map_or(Wei::ZERO, |voucher| voucher.value.cumulative),
            models,
        }
    }
}

/// Checks what can be checked of a session request without knowing the miner; gives the operator that signed it.
///
/// # Errors
/// `Unverified` for another signer than named, `Unauthorized` for another coordinator or a bad expiry.
pub(crate) fn check_request(
    request: &Signed<Session>,
    coordinator: Address,
    deployment: &Deployment,
    now: Timestamp,
) -> Result<Address> {
    let session = &request.value;
    request.verify(session.miner, deployment).map_err(|error| {
        Error::unverified(format!(
            "the session request is not signed by the operator it names on chain {} with staking contract {}; \
             check key, chain and contract",
            deployment.chain_id, deployment.staking
        ))
        .with_source(error)
    })?;
    if session.coordinator != coordinator {
        return Err(Error::unauthorized(format!(
            "the session request is for coordinator {}, this is {coordinator}",
            session.coordinator
        )));
    }
    if session.expiry <= now {
        return Err(Error::unauthorized(format!(
            "the session request expired at {}, it is {now} here; check the clock and sign a new one",
            session.expiry
        ))
        .with_retry(Retry::Later));
    }
    if session.expiry > now.after(MAX_REQUEST_LIFE) {
        return Err(Error::unauthorized(format!(
            "a session request may live five minutes; this one expires at {}, it is {now} here",
            session.expiry
        )));
    }
    Ok(session.miner)
}

/// Whether the chain lets a node work as a miner.
///
/// # Errors
/// `Unauthorized` that says what to do.
pub(crate) fn check_node(node: Option<&Node>, operator: Address) -> Result<&Node> {
    let Some(node) = node else {
        // It may be registered in the next block.
        return Err(Error::unauthorized(format!(
            "{operator} is not the operator of any registered node; register a miner with it first"
        ))
        .with_retry(Retry::Later));
    };
    if node.kind != NodeKind::Miner {
        return Err(Error::unauthorized(format!(
            "{} is registered as a coordinator; miners need a node of their own",
            node.id
        )));
    }
    if !node.active {
        return Err(Error::unauthorized(format!(
            "{} is not active: its owner's own vote is {} CAI, below the minimum for miners, or it left; \
             vote for it and try again",
            node.id,
            format_cai(node.owner_vote)
        ))
        .with_retry(Retry::Later));
    }
    Ok(node)
}

impl Registry {
    /// Opens a session for `node`, ending the one it had.
    ///
    /// # Errors
    /// `Unauthorized` for a suspended miner or a nonce seen before, `Rejected` for too many sessions at once.
    pub(crate) fn open(
        &mut self,
        node: &Node,
        request: &Session,
        token: B256,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        let miner = self
            .miners
            .entry(node.id)
            .or_insert_with(|| Miner::new(node.clone()));
        if let Some(task) = miner.suspended_by {
            return Err(Error::unauthorized(format!(
                "{} is suspended: its output for task {task} stands alone against two others; \
                 see this coordinator's evidence for that task",
                node.id
            )));
        }
        miner.nonces.retain(|_, expiry| *expiry > now);
        if miner.nonces.contains_key(&request.nonce) {
            return Err(Error::unauthorized(
                "this session request was used before; sign a new one with a fresh nonce",
            ));
        }
        if miner.nonces.len() >= MAX_NONCES {
            return Err(Error::rejected(
                "too many sessions in the last minutes; keep one open instead, and try again in five minutes",
            )
            .with_retry(Retry::Later));
        }
        miner.nonces.insert(request.nonce, request.expiry);
        miner.node = node.clone();
        miner.voucher_sent = Wei::ZERO;
        miner.last_seen = now;
        if let Some(before) = miner.session.replace(token) {
            self.sessions.remove(&before);
        }
        self.sessions.insert(
            token,
            OpenSession {
                miner: node.id,
                expires_at,
            },
        );
        Ok(())
    }

    /// Puts a session back that was open before a restart.
    fn restore(&mut self, node: Node, record: &SessionRecord, now: Timestamp) {
        let miner = self
            .miners
            .entry(record.miner)
            .or_insert_with(|| Miner::new(node));
        if miner.suspended_by.is_some() {
            return;
        }
        miner.session = Some(record.token_hash);
        miner.last_seen = now;
        let session = OpenSession {
            miner: record.miner,
            expires_at: record.expires_at,
        };
        self.sessions.insert(record.token_hash, session);
    }

    /// The miner of an open session; notes the sign of life.
    ///
    /// # Errors
    /// `Unauthorized` when there is no such session.
    pub(crate) fn authenticate(&mut self, token: &SessionToken, now: Timestamp) -> Result<NodeId> {
        let closed = || {
            Error::unauthorized(
                "no such session: it ended, expired or was replaced; open a new one",
            )
            .with_retry(Retry::Later)
        };
        let session = self
            .sessions
            .get(&token.hash())
            .copied()
            .ok_or_else(closed)?;
        if session.expires_at <= now {
            self.close(session.miner);
            return Err(closed());
        }
        let miner = self.miners.get_mut(&session.miner).ok_or_else(closed)?;
        miner.last_seen = now;
        Ok(session.miner)
    }

    /// Ends a miner's session, if it has one, and wakes its poll so that it learns of it.
    pub(crate) fn close(&mut self, node: NodeId) {
        let Some(miner) = self.miners.get_mut(&node) else {
            return;
        };
        if let Some(token) = miner.session.take() {
            self.sessions.remove(&token);
        }
        miner.wake();
    }
}

impl Market {
    /// Opens a session whose request was checked by [`check_request`]; gives the miner's node.
    ///
    /// # Errors
    /// As [`check_node`] and [`Registry::open`]; `Closed` after the shutdown.
    pub(crate) fn open_session(
        &mut self,
        request: &Session,
        token: &SessionToken,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<NodeId> {
        self.check_running()?;
        let snapshot = Arc::clone(&self.snapshot);
        let node = check_node(snapshot.by_operator(request.miner), request.miner)?;
        self.registry
            .open(node, request, token.hash(), now, expires_at)?;
        self.writes.push(Write::PutSession(SessionRecord {
            token_hash: token.hash(),
            miner: node.id,
            operator: node.operator,
            expires_at,
        }));
        self.watch_for_quiet(node.id, now);
        tracing::info!(miner = %node.id, operator = %node.operator, "session opened");
        Ok(node.id)
    }

    /// Takes up a session of an earlier run, if the chain still lets its operator work for that miner.
    pub(crate) fn restore_session(&mut self, record: &SessionRecord, now: Timestamp) {
        let node = self.snapshot.node(record.miner).cloned();
        let holds = |node: &Node| node.operator == record.operator && record.expires_at > now;
        if let Some(node) = node.filter(holds) {
            self.registry.restore(node, record, now);
            self.watch_for_quiet(record.miner, now);
        }
    }

    /// Ends a miner's session here and in the store.
    pub(crate) fn end_session(&mut self, node: NodeId) {
        self.registry.close(node);
        self.writes.push(Write::RemoveSession(node));
    }

    /// Ends a session; what its miner still worked on goes to others.
    ///
    /// # Errors
    /// `Closed` after the shutdown, `Unauthorized` when there is no such session.
    pub(crate) fn close_session(&mut self, token: &SessionToken, now: Timestamp) -> Result<()> {
        self.check_running()?;
        let node = self.registry.authenticate(token, now)?;
        self.end_session(node);
        self.sync_pools(node, now);
        self.take_leases(node, "the miner closed its session", now);
        tracing::info!(miner = %node, "session closed");
        Ok(())
    }

    /// Takes over what the chain says now: weights, who is active, who signs.
    pub(crate) fn set_weights(&mut self, view: MirrorView, now: Timestamp) {
        let MirrorView {
            snapshot,
            stale_since,
        } = view;
        if stale_since.is_none() {
            self.chain_seen
                .read(snapshot.block > self.snapshot.block, now);
        }
        self.snapshot = Arc::clone(&snapshot);
        self.stale_since = stale_since;
        for node in &snapshot.nodes {
            let Some(miner) = self.registry.miners.get_mut(&node.id) else {
                continue;
            };
            if miner.node == *node {
                continue;
            }
            // A session belongs to the operator that signed for it.
            let rotated = miner.node.operator != node.operator;
            miner.node = node.clone();
            if rotated {
                self.end_session(node.id);
                self.sync_pools(node.id, now);
                self.take_leases(node.id, "the miner's operator changed", now);
            } else {
                self.sync_pools(node.id, now);
                self.fill(node.id, now);
            }
        }
    }
}
