//! The process of a miner: the real one, with an executor whose work is known beforehand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cuckoo_core::{
    Assignment, B256, BlobId, Capability, Chunk, ChunkReply, Clock as _, Completion,
    CompletionReply, CoordinatorInfo, Failure, Heartbeat, HeartbeatReply, Key, LeaseId, Output,
    PollReply, PollRequest, Result, Session, SessionOpened, SessionToken, Signed, SignedVoucher,
    SystemClock, TaskProtocol, Wei,
};
use cuckoo_miner::{Execution, Executor, HttpCoordinator, Miner, Settings, TaskContext};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::host::Chain;
use crate::process::Said;

pub(crate) const MODEL: &str = "echo";

/// What a miner is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Working {
    pub(crate) chain: Chain,
    pub(crate) operator: B256,
    pub(crate) coordinator: SocketAddr,
    /// The highest voucher that it was shown in earlier lives.
    pub(crate) owed: Wei,
}

impl Working {
    /// Works until `closed`.
    pub(crate) async fn work(self, closed: JoinHandle<()>) {
        let url = format!("http://{}", self.coordinator);
        let coordinator = Witnessed {
            protocol: HttpCoordinator::new(&url).unwrap(),
            owed: Mutex::new(self.owed),
        };
        let miner = Miner::builder()
            .operator(Key::from_bytes(self.operator).unwrap())
            .chain(self.chain.reached().await)
            .coordinator(Arc::new(coordinator))
            .executor(Arc::new(Echo))
            .settings(Settings {
                slots: 4,
                poll_wait_millis: 5_000,
                call_timeout_millis: 5_000,
                retry_min_millis: 10,
                retry_max_millis: 200,
                ..Settings::default()
            })
            .start()
            .await
            .unwrap();
        let _ = closed.await;
        miner.shutdown(Duration::from_secs(1)).await;
    }
}

/// Says its prompt, as long as was asked for, and takes its time for it.
#[derive(Debug)]
struct Echo;

/// What a task asks of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) prompt: String,
    pub(crate) length: usize,
    pub(crate) millis: u64,
}

impl Question {
    pub(crate) fn input(&self) -> serde_json::Value {
        json!(self)
    }

    /// The only right answer.
    pub(crate) fn answer(&self) -> Vec<u8> {
        let bytes = self.prompt.bytes().cycle();
        bytes.take(self.length).collect()
    }
}

#[async_trait]
impl Executor for Echo {
    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability::new(
            MODEL.parse().unwrap(),
            B256::repeat_byte(0x11),
            "echo-1",
        )]
    }

    async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
        let question: Question = serde_json::from_str(&task.input).unwrap();
        SystemClock
            .sleep(Duration::from_millis(question.millis))
            .await;
        Ok(Execution::new(Output::new("text/plain", question.answer())))
    }
}

/// A coordinator whose every promise is told on before the miner knows it.
#[derive(Debug)]
struct Witnessed {
    protocol: HttpCoordinator,
    /// The highest voucher seen.
    owed: Mutex<Wei>,
}

impl Witnessed {
    fn owed(&self) -> Wei {
        *self.owed.lock().unwrap()
    }

    /// A voucher that came as an answer to what was asked when `before` was the highest.
    fn note(&self, voucher: Option<&SignedVoucher>, before: Wei) {
        let Some(voucher) = voucher.map(|voucher| &voucher.value) else {
            return;
        };
        let mut owed = self.owed.lock().unwrap();
        if voucher.cumulative < before {
            let what = format!("a voucher fell from {before} to {}", voucher.cumulative);
            Said::Wrong(what).say();
        }
        *owed = voucher.cumulative.max(*owed);
        Said::Voucher {
            miner: voucher.miner,
            cumulative: voucher.cumulative,
        }
        .say();
    }
}

#[async_trait]
impl TaskProtocol for Witnessed {
    async fn info(&self) -> Result<CoordinatorInfo> {
        self.protocol.info().await
    }

    async fn open_session(&self, request: Signed<Session>) -> Result<SessionOpened> {
        let opened = self.protocol.open_session(request).await?;
        Said::Session.say();
        Ok(opened)
    }

    async fn close_session(&self, token: &SessionToken) -> Result<()> {
        self.protocol.close_session(token).await
    }

    async fn poll(&self, token: &SessionToken, request: PollRequest) -> Result<PollReply> {
        let before = self.owed();
        let reply = self.protocol.poll(token, request).await?;
        self.note(reply.voucher.as_ref(), before);
        for assignment in &reply.assignments {
            Said::Assigned(assignment.lease).say();
        }
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
        let (before, lease) = (self.owed(), completion.receipt.value.lease);
        let reply = self.protocol.complete(token, completion).await?;
        self.note(reply.voucher.as_ref(), before);
        Said::Accepted(lease).say();
        Ok(reply)
    }

    async fn fail(&self, token: &SessionToken, failure: Failure) -> Result<()> {
        self.protocol.fail(token, failure).await
    }
}
