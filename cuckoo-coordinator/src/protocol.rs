//! The coordinator's side of [`TaskProtocol`], in process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cuckoo_core::{
    BlobId, Chunk, ChunkReply, Completion, CompletionReply, CoordinatorInfo, Error, Failure,
    Heartbeat, HeartbeatReply, LeaseId, ModelOffer, NodeId, Output, PROTOCOL_VERSION, PollReply,
    PollRequest, Result, Session, SessionGrant, SessionOpened, SessionToken, Signed, TaskProtocol,
};
use tokio::sync::oneshot;

use crate::coordinator::Inner;
use crate::dispatch::{self, Claim, PollTicket};
use crate::registry;
use crate::verify::Expected;

/// The handle a miner in the same process takes; the HTTP server drives it too.
pub(crate) struct InProcess(pub(crate) Arc<Inner>);

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess")
            .field("coordinator", &self.0.node)
            .finish()
    }
}

/// More than this many bytes are hashed on a thread of their own, not on one that serves others.
const HASH_INLINE: usize = 1 << 20;

/// Tells the market that a poll's future is gone, wherever it was dropped.
struct ParkedPoll<'a> {
    inner: &'a Arc<Inner>,
    ticket: PollTicket,
}

impl Drop for ParkedPoll<'_> {
    fn drop(&mut self) {
        self.inner
            .with(|market, now| market.unpark(&self.ticket, now));
    }
}

#[async_trait]
impl TaskProtocol for InProcess {
    async fn info(&self) -> Result<CoordinatorInfo> {
        let inner = &self.0;
        inner.with(|market, _| market.check_running())?;
        let offer = |model: &crate::ModelSettings| ModelOffer {
            model: model.model.clone(),
            model_hash: model.model_hash,
            price: model.price,
        };
        Ok(CoordinatorInfo {
            protocol: PROTOCOL_VERSION,
            node: inner.node,
            operator: inner.operator.address(),
            deployment: inner.deployment,
            models: inner.settings.models.iter().map(offer).collect(),
            time: inner.clock.now(),
        })
    }

    async fn open_session(&self, request: Signed<Session>) -> Result<SessionOpened> {
        let inner = &self.0;
        let now = inner.clock.now();
        let coordinator = inner.operator.address();
        registry::check_request(&request, coordinator, &inner.deployment, now)?;
        let token = SessionToken::new(format!("{:x}", inner.entropy.word()));
        let expiry = now.after(Duration::from_millis(inner.settings.session_millis));
        let (reply, opened) = oneshot::channel();
        inner
            .with(|market, now| market.open_session(&request.value, &token, expiry, reply, now))?;
        let miner = opened
            .await
            .map_err(|_| Error::closed("the coordinator was shut down"))??;
        let grant = SessionGrant {
            coordinator,
            miner: request.value.miner,
            nonce: request.value.nonce,
            token_hash: token.hash(),
            expiry,
        };
        let grant = Signed::sign(grant, &inner.operator, &inner.deployment);
        Ok(SessionOpened {
            token,
            miner,
            grant,
        })
    }

    async fn close_session(&self, token: &SessionToken) -> Result<()> {
        self.0.with(|market, now| market.close_session(token, now))
    }

    async fn poll(&self, token: &SessionToken, request: PollRequest) -> Result<PollReply> {
        let inner = &self.0;
        let wait = request.wait_millis.min(inner.settings.poll_wait_millis);
        let wait = inner.clock.sleep(Duration::from_millis(wait));
        tokio::pin!(wait);
        let ticket = inner.with(|market, now| market.park(token, request, now))?;
        let parked = ParkedPoll { inner, ticket };
        let mut last = false;
        loop {
            let taken = inner.with(|market, now| market.take(token, &parked.ticket, last, now))?;
            if let Some(reply) = taken {
                return Ok(reply);
            }
            tokio::select! {
                () = parked.ticket.wake.notified() => {}
                () = &mut wait, if !last => last = true,
            }
        }
    }

    async fn blob(&self, token: &SessionToken, lease: LeaseId, blob: BlobId) -> Result<Output> {
        self.0.blob_for(token, lease, blob).await
    }

    async fn heartbeat(&self, token: &SessionToken, request: Heartbeat) -> Result<HeartbeatReply> {
        self.0
            .with(|market, now| market.heartbeat(token, &request, now))
    }

    async fn stream(&self, token: &SessionToken, chunk: Chunk) -> Result<ChunkReply> {
        self.0.with(|market, now| market.stream(token, &chunk, now))
    }

    async fn complete(
        &self,
        token: &SessionToken,
        completion: Completion,
    ) -> Result<CompletionReply> {
        let inner = &self.0;
        let claim = inner.with(|market, now| market.expected(token, &completion.receipt, now))?;
        let mut answer = match claim {
            Claim::Known(answer) => answer,
            Claim::Forgotten(miner) => return inner.completed_before(miner, &completion).await,
            Claim::Open(expected) => {
                let Completion { receipt, output } = inner.check(*expected, completion).await?;
                let lease = receipt.value.lease;
                let staged = inner
                    .tried(|| inner.store.stage(lease, output.clone()))
                    .await?;
                let spare = staged.clone();
                let claimed = inner.with(|market, now| market.claim(token, receipt, staged, now));
                match claimed {
                    Ok(answer) => answer,
                    Err(error) => {
                        // The lease ended meanwhile; what was written for it goes at the latest with a sweep.
                        if let Err(error) = inner.store.discard(spare).await {
                            tracing::debug!(%lease, %error, "a staged output stays for the sweep");
                        }
                        return Err(error);
                    }
                }
            }
        };
        let answer = answer.wait_for(Option::is_some).await;
        match answer.as_deref() {
            Ok(Some(Ok(reply))) => Ok(reply.clone()),
            Ok(Some(Err(error))) => Err(error.clone().into()),
            _ => Err(Error::closed(
                "the coordinator was shut down before it answered",
            )),
        }
    }

    async fn fail(&self, token: &SessionToken, failure: Failure) -> Result<()> {
        self.0.with(|market, now| market.fail(token, failure, now))
    }
}

impl Inner {
    async fn check(&self, expected: Expected, completion: Completion) -> Result<Completion> {
        #[cfg(feature = "otel")]
        let (task, lease, miner) = (expected.task, expected.lease, expected.miner);
        #[cfg(feature = "otel")]
        let began = self.clock.now();
        let length = completion.output.bytes.len();
        let check = move || expected.check(&completion).map(|()| completion);
        let checked = hashed(length, check).await?;
        #[cfg(feature = "otel")]
        if let Some(traces) = &self.traces {
            let times = (began, self.clock.now());
            traces.verified(task, lease, miner, checked.is_ok(), times);
        }
        checked
    }

    /// Answers a completion that is repeated so late that only the store knows it.
    async fn completed_before(
        &self,
        miner: NodeId,
        completion: &Completion,
    ) -> Result<CompletionReply> {
        let receipt = &completion.receipt;
        let stored = self.tried(|| self.store.load(receipt.value.task)).await?;
        let known = stored.is_some_and(|stored| {
            let mut received = stored.value.received.iter();
            receipt.value.miner == miner && received.any(|known| known.receipt == *receipt)
        });
        if known {
            Ok(CompletionReply { voucher: None })
        } else {
            Err(dispatch::not_yours())
        }
    }
}

/// Does what hashes so many bytes: here, or on a thread of its own when they are many.
pub(crate) async fn hashed<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if bytes <= HASH_INLINE {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("hashing failed").with_source(error))
}
