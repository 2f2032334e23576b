//! A session with one coordinator: each side proves its key and checks the other's registration on chain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuckoo_core::{
    Address, CoordinatorInfo, Deployment, Error, ErrorKind, ModelOffer, Node, NodeId, NodeKind,
    PROTOCOL_VERSION, Retry, Session, SessionGrant, SessionOpened, SessionToken, Signed, Snapshot,
    Timestamp, Wei,
};

use crate::link::Link;

/// How long a signed request for a session stays acceptable: a slow reply is waited for, a leaked one is soon worthless.
const REQUEST_VALID: Duration = Duration::from_secs(120);

/// A session that both sides accepted.
#[derive(Debug)]
pub(crate) struct OpenSession {
    /// Names it in every call.
    pub(crate) token: SessionToken,
    /// The miner's node.
    pub(crate) miner: NodeId,
    /// The coordinator's node.
    pub(crate) coordinator: NodeId,
    /// The key the coordinator signs with.
    pub(crate) operator: Address,
    /// The coordinator's weight on chain, in wei.
    pub(crate) stake: Wei,
    /// What its dearest task costs of those that this miner could do, in wei, as it says.
    pub(crate) price: Wei,
    /// The coordinator's clock minus ours, in milliseconds.
    ahead_millis: i64,
    /// Whether a call succeeded in it.
    proven: AtomicBool,
}

impl OpenSession {
    /// A time of the coordinator's clock as ours shows it.
    pub(crate) fn local(&self, theirs: Timestamp) -> Timestamp {
        let millis = i64::try_from(theirs.as_millis()).unwrap_or(i64::MAX);
        let local = millis.saturating_sub(self.ahead_millis);
        Timestamp::from_millis(u64::try_from(local).unwrap_or(0))
    }

    /// Notes that a call succeeded.
    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether a call ever succeeded: a session that never worked is no reason to come back at once.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn for_tests(coordinator: NodeId, operator: Address, miner: NodeId) -> Self {
        Self {
            token: SessionToken::new("test"),
            miner,
            coordinator,
            operator,
            stake: Wei::ZERO,
            price: Wei::ZERO,
            ahead_millis: 250,
            proven: AtomicBool::new(false),
        }
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(
        "wrong chain: the coordinator works with {theirs:?}, this miner with {ours:?}; \
         set the same chain id and contract addresses, or leave this coordinator out"
    )]
    WrongChain {
        theirs: Box<Deployment>,
        ours: Box<Deployment>,
    },
    #[error(
        "the coordinator speaks protocol version {theirs}, this miner {PROTOCOL_VERSION}; update the older one"
    )]
    WrongProtocol { theirs: u32 },
    #[error(
        "the coordinator did not prove that it holds the key of operator {operator}; it may be an impostor, \
         so nothing is sent to it"
    )]
    WrongKey {
        operator: Address,
        #[source]
        source: Error,
    },
    #[error(
        "the coordinator's operator {operator} is not registered as an active coordinator at block {block}; \
         its owner must register it and keep the minimum vote"
    )]
    CoordinatorNotActive { operator: Address, block: u64 },
    #[error(
        "this miner's operator {operator} is not registered as an active miner at block {block}; \
         run `cuckoo-miner register`, or have its owner vote up to the minimum"
    )]
    MinerNotActive { operator: Address, block: u64 },
    #[error(transparent)]
    Call(#[from] Error),
}

impl SessionError {
    /// Whether repeating cannot help: somebody must change a setting or a key first.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::WrongChain { .. } | Self::WrongProtocol { .. } | Self::WrongKey { .. }
        )
    }
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::WrongChain { .. } | SessionError::WrongProtocol { .. } => {
                Self::new(ErrorKind::Invalid, message)
            }
            SessionError::WrongKey { source, .. } => Self::unverified(message).with_source(source),
            SessionError::CoordinatorNotActive { .. } | SessionError::MinerNotActive { .. } => {
                Self::unauthorized(message).with_retry(Retry::Later)
            }
            SessionError::Call(source) => source,
        }
    }
}

/// Opens a session: who the coordinator says it is, whether the chain agrees, and whether it holds that key.
pub(crate) async fn open(link: &Link) -> Result<OpenSession, SessionError> {
    let shared = &link.shared;
    let limit = shared.settings.call_timeout();
    let ours = shared.chain.deployment();
    let miner = shared.operator.address();

    let info = link.within("info", limit, link.protocol.info()).await?;
    let now = shared.clock.now();
    if info.protocol != PROTOCOL_VERSION {
        return Err(SessionError::WrongProtocol {
            theirs: info.protocol,
        });
    }
    if info.deployment != ours {
        return Err(SessionError::WrongChain {
            theirs: Box::new(info.deployment),
            ours: Box::new(ours),
        });
    }
    let snapshot = link
        .within("chain", limit, shared.chain.snapshot())
        .await
        .map_err(|source| {
            Error::new(
                source.kind(),
                "the chain does not say who is registered; check the RPC address",
            )
            .with_retry(source.retry())
            .with_source(source)
        })?;
    let (coordinator, node) = check_registered(&snapshot, &info, miner)?;
    let ours_too = |offer: &&ModelOffer| shared.offers.has(&offer.model);
    let prices = info.models.iter().filter(ours_too).map(|offer| offer.price);

    let request = Session {
        coordinator: info.operator,
        miner,
        nonce: shared.entropy.word(),
        // By the coordinator's clock, which is the one that judges it.
        expiry: info.time.after(REQUEST_VALID),
    };
    let signed = Signed::sign(request.clone(), &shared.operator, &ours);
    let opened = link
        .within("open_session", limit, link.protocol.open_session(signed))
        .await?;
    check_granted(&opened, &request, node, &ours)?;
    Ok(OpenSession {
        token: opened.token,
        miner: node,
        coordinator: info.node,
        operator: info.operator,
        stake: coordinator.weight,
        price: prices.max().unwrap_or_default(),
        ahead_millis: signed_millis(info.time).saturating_sub(signed_millis(now)),
        proven: AtomicBool::new(false),
    })
}

/// Checks both registrations; gives the coordinator, and the miner's node.
fn check_registered<'a>(
    snapshot: &'a Snapshot,
    info: &CoordinatorInfo,
    miner: Address,
) -> Result<(&'a Node, NodeId), SessionError> {
    let active = |operator, kind| {
        snapshot
            .nodes
            .iter()
            .find(|node| node.operator == operator && node.kind == kind && node.active)
    };
    let coordinator = active(info.operator, NodeKind::Coordinator)
        .filter(|node| node.id == info.node)
        .ok_or(SessionError::CoordinatorNotActive {
            operator: info.operator,
            block: snapshot.block,
        })?;
    let miner = active(miner, NodeKind::Miner).ok_or(SessionError::MinerNotActive {
        operator: miner,
        block: snapshot.block,
    })?;
    Ok((coordinator, miner.id))
}

/// Checks that the coordinator signed a grant for exactly this request and token.
fn check_granted(
    opened: &SessionOpened,
    request: &Session,
    node: NodeId,
    deployment: &Deployment,
) -> Result<(), SessionError> {
    let wrong_key = |source| SessionError::WrongKey {
        operator: request.coordinator,
        source,
    };
    let expected = SessionGrant {
        coordinator: request.coordinator,
        miner: request.miner,
        nonce: request.nonce,
        token_hash: opened.token.hash(),
        expiry: opened.grant.value.expiry,
    };
    if opened.grant.value != expected {
        return Err(wrong_key(Error::unverified(
            "its grant is for another request or token",
        )));
    }
    opened
        .grant
        .verify(request.coordinator, deployment)
        .map_err(wrong_key)?;
    if opened.miner != node {
        return Err(SessionError::Call(
            Error::unverified(format!(
                "the coordinator takes this miner for {}, the chain says {node}; one of the two is behind",
                opened.miner
            ))
            .with_retry(Retry::Later),
        ));
    }
    Ok(())
}

fn signed_millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinators_times_are_moved_to_our_clock() {
        let session = OpenSession::for_tests(NodeId(1), Address::ZERO, NodeId(2));
        let theirs = Timestamp::from_millis(1_000);
        assert_eq!(session.local(theirs), Timestamp::from_millis(750));
        assert_eq!(
            session.local(Timestamp::from_millis(10)),
            Timestamp::from_millis(0)
        );
        assert!(!session.is_proven());
        session.prove();
        assert!(session.is_proven());
    }
}
