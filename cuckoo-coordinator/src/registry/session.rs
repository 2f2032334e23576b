//! How a session begins and ends: its request, its place in the store, and what the chain makes of it.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    Address, Deployment, Error, MirrorView, Node, NodeId, NodeKind, Result, Retry, Session,
    SessionToken, Signed, Timestamp, format_cai,
};
use tokio::sync::oneshot;

use crate::journal::{self, Write};
use crate::market::Market;
use crate::store::{NonceRecord, SessionRecord};

/// How far ahead a session request may expire.
const MAX_REQUEST_LIFE: Duration = Duration::from_secs(300);

/// What whoever sends a session request again is told.
pub(crate) fn used_before() -> Error {
    Error::unauthorized("this session request was used before; sign a new one with a fresh nonce")
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

impl Market {
    /// Takes a session request that was checked by [`check_request`]; `reply` hears the miner's node once the session is
    /// open, which it is when the store knows that the request was used.
    ///
    /// # Errors
    /// As [`check_node`] and [`Registry::take_request`]; `Closed` after the shutdown.
    pub(crate) fn open_session(
        &mut self,
        request: &Session,
        token: &SessionToken,
        expires_at: Timestamp,
        reply: oneshot::Sender<Result<NodeId>>,
        now: Timestamp,
    ) -> Result<()> {
        self.check_running()?;
        let snapshot = Arc::clone(&self.snapshot);
        let node = check_node(snapshot.by_operator(request.miner), request.miner)?;
        self.registry.take_request(node, request, now)?;
        let session = SessionRecord {
            token_hash: token.hash(),
            miner: node.id,
            operator: node.operator,
            expires_at,
        };
        let nonce = NonceRecord {
            miner: node.id,
            nonce: request.nonce,
            expires_at: request.expiry,
        };
        let asked = journal::OpenSession {
            session,
            nonce,
            at: now,
            reply,
        };
        self.writes.push(Write::OpenSession(Box::new(asked)));
        Ok(())
    }

    /// A session that was asked for was written, or could not be.
    pub(crate) fn session_written(
        &mut self,
        asked: journal::OpenSession,
        written: Result<()>,
        now: Timestamp,
    ) {
        let session = asked.session;
        let opened = written.and_then(|()| {
            let begun = self.begin_session(&session, now);
            if begun.is_err() {
                self.writes.push(Write::RemoveSession(session.miner));
            }
            begun
        });
        // Whoever asked may be gone; the session then ends with its time.
        let _ = asked.reply.send(opened.map(|()| session.miner));
    }

    /// The chain, or an audit, may have changed since it was asked for who may work.
    fn begin_session(&mut self, session: &SessionRecord, now: Timestamp) -> Result<()> {
        self.check_running()?;
        let snapshot = Arc::clone(&self.snapshot);
        let node = check_node(snapshot.by_operator(session.operator), session.operator)?;
        self.registry.open(node, session, now)?;
        self.watch_for_quiet(node.id, now);
        tracing::info!(miner = %node.id, operator = %node.operator, "session opened");
        Ok(())
    }

    /// Remembers a session request that an earlier run took.
    pub(crate) fn restore_nonce(&mut self, record: &NonceRecord) {
        if let Some(miner) = self.miner(record.miner) {
            miner.nonces.insert(record.nonce, record.expires_at);
        }
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
