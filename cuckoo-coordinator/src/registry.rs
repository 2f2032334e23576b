//! Who may work: sessions and the miners behind them.

mod session;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    B256, Capability, Error, LeaseId, ModelId, Node, NodeId, Result, Retry, Session, SessionToken,
    SignedVoucher, TaskId, Timestamp, Wei,
};
use tokio::sync::Notify;

use crate::MinerStatus;
use crate::store::SessionRecord;

pub(crate) use session::{check_node, check_request, used_before};

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
    pub(crate) refused: u64,
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

    /// # Errors
    /// `Unauthorized` when it is suspended.
    fn check_conduct(&self) -> Result<()> {
        let Some(task) = self.suspended_by else {
            return Ok(());
        };
        Err(Error::unauthorized(format!(
            "{} is suspended: its output for task {task} stands alone against two others; \
             see this coordinator's evidence for that task",
            self.id()
        )))
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
            refused: self.counts.refused,
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

impl Registry {
    /// Takes a session request of `node`, once.
    ///
    /// # Errors
    /// `Unauthorized` for a suspended miner or a nonce seen before, `Rejected` for too many sessions at once.
    fn take_request(&mut self, node: &Node, request: &Session, now: Timestamp) -> Result<()> {
        let miner = self
            .miners
            .entry(node.id)
            .or_insert_with(|| Miner::new(node.clone()));
        miner.check_conduct()?;
        miner.nonces.retain(|_, expiry| *expiry > now);
        if miner.nonces.contains_key(&request.nonce) {
            return Err(used_before());
        }
        if miner.nonces.len() >= MAX_NONCES {
            return Err(Error::rejected(
                "too many sessions in the last minutes; keep one open instead, and try again in five minutes",
            )
            .with_retry(Retry::Later));
        }
        miner.nonces.insert(request.nonce, request.expiry);
        Ok(())
    }

    /// Opens a session for `node`, ending the one it had.
    ///
    /// # Errors
    /// `Unauthorized` for a suspended miner.
    fn open(&mut self, node: &Node, record: &SessionRecord, now: Timestamp) -> Result<()> {
        let miner = self
            .miners
            .entry(node.id)
            .or_insert_with(|| Miner::new(node.clone()));
        miner.check_conduct()?;
        miner.node = node.clone();
        miner.voucher_sent = Wei::ZERO;
        miner.last_seen = now;
        if let Some(before) = miner.session.replace(record.token_hash) {
            self.sessions.remove(&before);
        }
        let session = OpenSession {
            miner: node.id,
            expires_at: record.expires_at,
        };
        self.sessions.insert(record.token_hash, session);
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
