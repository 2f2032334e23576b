//! A coordinator that keeps its vouchers to itself for as long as a test wants.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cuckoo_core::{
    BlobId, Chunk, ChunkReply, Completion, CompletionReply, CoordinatorInfo, Failure, Heartbeat,
    HeartbeatReply, LeaseId, Output, PollReply, PollRequest, Result, Session, SessionOpened,
    SessionToken, Signed, SignedVoucher, TaskProtocol,
};

#[derive(Debug)]
pub(crate) struct Purse {
    protocol: Arc<dyn TaskProtocol>,
    pub(crate) shut: AtomicBool,
    kept: Mutex<Option<SignedVoucher>>,
    /// Slots that polls asked work for, in all.
    pub(crate) asked: Mutex<Vec<u32>>,
    pub(crate) closed: AtomicBool,
}

impl Purse {
    pub(crate) fn new(protocol: Arc<dyn TaskProtocol>) -> Arc<Self> {
        Arc::new(Self {
            protocol,
            shut: AtomicBool::new(false),
            kept: Mutex::default(),
            asked: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    fn pass(&self, voucher: Option<SignedVoucher>) -> Option<SignedVoucher> {
        let mut kept = self.kept.lock().unwrap();
        if self.shut.load(Ordering::SeqCst) {
            *kept = voucher.or(kept.take());
            return None;
        }
        voucher.or(kept.take())
    }
}

#[async_trait]
impl TaskProtocol for Purse {
    async fn info(&self) -> Result<CoordinatorInfo> {
        self.protocol.info().await
    }

    async fn open_session(&self, request: Signed<Session>) -> Result<SessionOpened> {
        self.protocol.open_session(request).await
    }

    async fn close_session(&self, token: &SessionToken) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        self.protocol.close_session(token).await
    }

    async fn poll(&self, token: &SessionToken, request: PollRequest) -> Result<PollReply> {
        self.asked.lock().unwrap().push(request.free_slots);
        let mut reply = self.protocol.poll(token, request).await?;
        reply.voucher = self.pass(reply.voucher);
        Ok(reply)
    }

    async fn blob(&self, token: &SessionToken, lease: LeaseId, blob: BlobId) -> Result<Output> {
        self.protocol.blob(token, lease, blob).await
    }

    async fn heartbeat(&self, token: &SessionToken, request: Heartbeat) -> Result<HeartbeatReply> {
        self.protocol.heartbeat(token, request).await
    }

    async fn stream(&self, token: &SessionToken, chunk: Chunk) -> Result<ChunkReply> {
        self.protocol.stream(token, chunk).await
    }

    async fn complete(
        &self,
        token: &SessionToken,
        completion: Completion,
    ) -> Result<CompletionReply> {
        let reply = self.protocol.complete(token, completion).await?;
        Ok(CompletionReply {
            voucher: self.pass(reply.voucher),
        })
    }

    async fn fail(&self, token: &SessionToken, failure: Failure) -> Result<()> {
        self.protocol.fail(token, failure).await
    }
}
