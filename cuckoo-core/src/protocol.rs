//! The wire between miner and coordinator: its messages and the trait that HTTP and in-process handles implement.
//!
//! See `docs/protocol.md` for the same over HTTP, small enough for curl.

use std::fmt;

use alloy::primitives::{Address, B256, U256, keccak256};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Assignment, BlobId, Bytes, Capability, Deployment, ErrorKind, LeaseId, ModelId, NodeId, Output,
    Preview, Result, Retry, Signed, SignedReceipt, SignedVoucher, Timestamp, Voucher,
};

/// The protocol's version; the first path segment of every route.
pub const PROTOCOL_VERSION: u32 = 1;

/// A miner's side of the market: open a session, poll for work, keep leases alive, hand in results.
///
/// Implemented by the coordinator itself (in process) and by the miner's HTTP client; both pass one behaviour suite.
/// Every future may be dropped at any await point without losing what was acknowledged.
#[async_trait]
pub trait TaskProtocol: fmt::Debug + Send + Sync + 'static {
    /// Who the coordinator says it is, before any session.
    async fn info(&self) -> Result<CoordinatorInfo>;

    /// Opens a session.
    ///
    /// # Errors
    /// `Unauthorized` for a miner that is not registered, not active, suspended, or for an expired or replayed request;
    /// `Unverified` for a signature by another key.
    async fn open_session(&self, request: Signed<Session>) -> Result<SessionOpened>;

    /// Ends a session: no more work; leases that are still open are re-assigned.
    async fn close_session(&self, token: &SessionToken) -> Result<()>;

    /// Asks for work; waits up to `wait_millis` when there is none.
    async fn poll(&self, token: &SessionToken, request: PollRequest) -> Result<PollReply>;

    /// Fetches a blob that the input of a lease in work names. Whoever asks checks that the bytes have that name.
    ///
    /// # Errors
    /// `Conflict` when the lease ended, `NotFound` when its input does not name this blob.
    async fn blob(&self, token: &SessionToken, lease: LeaseId, blob: BlobId) -> Result<Output>;

    /// Extends leases, reports progress, learns of cancellations and of models that tasks wait for. A preview that does not [fit](Preview::fits), or is of a
    /// lease that is not a task's own work, is passed over.
    async fn heartbeat(&self, token: &SessionToken, request: Heartbeat) -> Result<HeartbeatReply>;

    /// Hands up the beginning of an output that is still being made, piece by piece: what watchers of the task see before
    /// its receipt is there. Extends the lease and learns of cancellations, as a heartbeat does.
    ///
    /// Optional, and a preview: only the completion counts, and its output must begin with everything that was
    /// streamed.
    ///
    /// # Errors
    /// `Invalid` for a chunk or an output that is too long.
    async fn stream(&self, token: &SessionToken, chunk: Chunk) -> Result<ChunkReply>;

    /// Hands in an output and its receipt. The same completion again is answered the same way.
    ///
    /// # Errors
    /// `Conflict` when the lease ended, `Unverified` when receipt, hash or signature do not hold or the output does not
    /// begin with what was streamed.
    async fn complete(
        &self,
        token: &SessionToken,
        completion: Completion,
    ) -> Result<CompletionReply>;

    /// Gives a lease back with the reason.
    async fn fail(&self, token: &SessionToken, failure: Failure) -> Result<()>;
}

/// Who a coordinator is and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CoordinatorInfo {
    /// [`PROTOCOL_VERSION`] it speaks.
    pub protocol: u32,
    /// Its node in the staking contract.
    pub node: NodeId,
    /// Its operator's address.
    #[schema(value_type = crate::schema::Address)]
    pub operator: Address,
    /// The market it belongs to.
    pub deployment: Deployment,
    /// The models it takes tasks for.
    pub models: Vec<ModelOffer>,
    /// Its clock, so that a miner notices a skewed one.
    pub time: Timestamp,
}

/// A model that a coordinator takes tasks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelOffer {
    /// Its public name.
    pub model: ModelId,
    /// The only accepted hash of its files, where the coordinator pins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Word>)]
    pub model_hash: Option<B256>,
    /// What a verified task earns, in wei.
    #[serde(with = "crate::wei_text")]
    #[schema(value_type = crate::schema::Amount)]
    pub price: U256,
}

/// A miner's request for a session, to be signed by its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Session {
    /// Operator of the coordinator that is meant.
    #[schema(value_type = crate::schema::Address)]
    pub coordinator: Address,
    /// Operator of the miner.
    #[schema(value_type = crate::schema::Address)]
    pub miner: Address,
    /// A random word, accepted once.
    #[schema(value_type = crate::schema::Word)]
    pub nonce: B256,
    /// When the request stops being acceptable: at most five minutes ahead.
    pub expiry: Timestamp,
}

/// A coordinator's answer, to be signed by its operator: proof that it holds the key it is registered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionGrant {
    /// Operator of the coordinator.
    #[schema(value_type = crate::schema::Address)]
    pub coordinator: Address,
    /// Operator of the miner.
    #[schema(value_type = crate::schema::Address)]
    pub miner: Address,
    /// The request's nonce.
    #[schema(value_type = crate::schema::Word)]
    pub nonce: B256,
    /// keccak256 of the token's text.
    #[schema(value_type = crate::schema::Word)]
    pub token_hash: B256,
    /// When the session ends.
    pub expiry: Timestamp,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionOpened {
    /// Names the session in every later call; a secret.
    pub token: SessionToken,
    /// The miner's node.
    pub miner: NodeId,
    /// The coordinator's signed grant.
    pub grant: Signed<SessionGrant>,
}

/// The bearer token of a session. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct SessionToken(String);

impl SessionToken {
    /// A token with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// keccak256 of the text: what is signed and stored.
    pub fn hash(&self) -> B256 {
        keccak256(self.0.as_bytes())
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

/// What a miner can take now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PollRequest {
    /// What it can run; at most [`PollRequest::MAX_CAPABILITIES`].
    #[schema(max_items = 64)]
    pub capabilities: Vec<Capability>,
    /// How many more tasks it can take at once.
    pub free_slots: u32,
    /// Models that are in memory already.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub warm: Vec<ModelId>,
    /// How long to wait for work, in milliseconds; bounded by the coordinator (30 s).
    pub wait_millis: u64,
}

impl PollRequest {
    /// The most capabilities in one poll.
    pub const MAX_CAPABILITIES: usize = 64;
    /// The most slots that count.
    pub const MAX_SLOTS: u32 = 256;
}

/// What a miner is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PollReply {
    /// New work; empty when the wait ended without any.
    pub assignments: Vec<Assignment>,
    /// The latest voucher, when it grew since it was last sent in this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Spelt out, for the schema of an alias would name neither kind of signed value.
    #[schema(value_type = Option<Signed<Voucher>>)]
    pub voucher: Option<SignedVoucher>,
}

/// Signs of life of leases in work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Heartbeat {
    /// Each lease in work.
    pub leases: Vec<LeaseProgress>,
}

/// How far a lease is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseProgress {
    /// The lease.
    pub lease: LeaseId,
    /// Share done, 0 to 1000 thousandths.
    pub progress: u16,
    /// What the output looks like now, where that changed since the last heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

/// What became of each lease, in the order asked, and what else the miner could be of use for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeartbeatReply {
    /// One for each lease of the heartbeat.
    pub leases: Vec<LeaseStatus>,
    /// Models that the miner announced and did not have warm at its last poll, and for which tasks wait that it could take:
    /// more than those who have them warm will soon begin with. The largest need first; at most
    /// [`PollRequest::MAX_CAPABILITIES`]. A hint, which promises no work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub wanted: Vec<ModelId>,
}

/// What a miner should do about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum LeaseStatus {
    /// Go on; it now lasts until `expires_at`.
    Active {
        /// The new end.
        expires_at: Timestamp,
    },
    /// Stop: the task was cancelled.
    Cancelled,
    /// Stop: the lease ended or was never this miner's.
    Ended,
}

/// A piece of an output that is still being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The lease it is made under.
    pub lease: LeaseId,
    /// How many bytes of the output are before it.
    pub offset: u64,
    /// The next bytes; at most [`Chunk::MAX_BYTES`].
    pub bytes: Bytes,
}

impl Chunk {
    /// The most bytes of one chunk.
    pub const MAX_BYTES: usize = 64 * 1024;
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChunkReply {
    /// What to do about the lease.
    #[serde(flatten)]
    pub lease: LeaseStatus,
    /// How many bytes of the output have arrived: where the next chunk begins. What was sent already is passed over; after
    /// a gap nothing is taken, and this is where to go on.
    pub received: u64,
}

/// A result handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The miner's receipt.
    pub receipt: SignedReceipt,
    /// What it is about.
    pub output: Output,
}

/// What became of a completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompletionReply {
    /// The latest voucher, when this work is verified already; audited work is paid by a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Spelt out, for the schema of an alias would name neither kind of signed value.
    #[schema(value_type = Option<Signed<Voucher>>)]
    pub voucher: Option<SignedVoucher>,
}

/// A lease given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failure {
    /// The lease.
    pub lease: LeaseId,
    /// Why: `invalid` blames the input, `rejected` nobody, `execution` is a failed run.
    pub kind: ErrorKind,
    /// Of `rejected`: whether the miner may be asked for the same task again. `never` refuses it, since it is more than this
    /// miner can do or would finish in time; `later`, also when it is absent, says that there is no room now. Other kinds
    /// pass over it.
    #[serde(
        default = "Failure::absent_retry",
        skip_serializing_if = "Failure::is_absent_retry"
    )]
    pub retry: Retry,
    /// The same in words; at most [`Failure::MAX_MESSAGE`] bytes are kept.
    pub message: String,
}

impl Failure {
    /// The longest message kept, in bytes.
    pub const MAX_MESSAGE: usize = 1024;

    /// Whether the miner refuses the task, so that it is not to be asked for it again.
    pub fn is_refusal(&self) -> bool {
        self.kind == ErrorKind::Rejected && self.retry == Retry::Never
    }

    fn absent_retry() -> Retry {
        Retry::Later
    }

    fn is_absent_retry(retry: &Retry) -> bool {
        *retry == Self::absent_retry()
    }
}

/// An error as it travels: the body of every response that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// The coarse kind.
    pub kind: ErrorKind,
    /// Whether to repeat.
    pub retry: Retry,
    /// What happened and what to do next.
    pub message: String,
}

impl From<&crate::Error> for ErrorBody {
    fn from(error: &crate::Error) -> Self {
        Self {
            kind: error.kind(),
            retry: error.retry(),
            message: error.to_string(),
        }
    }
}

impl From<ErrorBody> for crate::Error {
    fn from(body: ErrorBody) -> Self {
        Self::new(body.kind, body.message).with_retry(body.retry)
    }
}

/// Routes and header names of the protocol over HTTP, shared by server and client. `docs/protocol.md` shows each in use.
pub mod paths {
    /// `GET`: [`CoordinatorInfo`](crate::CoordinatorInfo).
    pub const INFO: &str = "/miner/v1/info";
    /// `POST` a signed [`Session`](crate::Session) for a [`SessionOpened`](crate::SessionOpened); `DELETE` ends the
    /// bearer's session.
    pub const SESSIONS: &str = "/miner/v1/sessions";
    /// `POST` a [`PollRequest`](crate::PollRequest) for a [`PollReply`](crate::PollReply).
    pub const POLL: &str = "/miner/v1/poll";
    /// `GET` the bytes of a blob that the input of [`LEASE`] names.
    pub const MINER_BLOB: &str = "/miner/v1/blobs/{id}";
    /// `POST` a [`Heartbeat`](crate::Heartbeat) for a [`HeartbeatReply`](crate::HeartbeatReply).
    pub const HEARTBEAT: &str = "/miner/v1/heartbeat";
    /// `POST` the next bytes of an output in the making, with [`LEASE`] and [`OFFSET`], for a
    /// [`ChunkReply`](crate::ChunkReply).
    pub const STREAM: &str = "/miner/v1/stream";
    /// `POST` an output's bytes, with its media type and [`RECEIPT`], for a
    /// [`CompletionReply`](crate::CompletionReply).
    pub const COMPLETE: &str = "/miner/v1/complete";
    /// `POST` a [`Failure`](crate::Failure).
    pub const FAIL: &str = "/miner/v1/fail";

    /// `POST` a [`TaskSpec`](crate::TaskSpec), `GET` the tasks that are kept.
    pub const TASKS: &str = "/v1/tasks";
    /// `GET` a task's state, `DELETE` to cancel it.
    pub const TASK: &str = "/v1/tasks/{id}";
    /// `GET` a task's output: raw bytes.
    pub const TASK_OUTPUT: &str = "/v1/tasks/{id}/output";
    /// `POST` to submit a failed task again.
    pub const TASK_REPLAY: &str = "/v1/tasks/{id}/replay";
    /// `GET` a task's states as server-sent events.
    pub const TASK_EVENTS: &str = "/v1/tasks/{id}/events";
    /// `POST` bytes that inputs may name.
    pub const BLOBS: &str = "/v1/blobs";
    /// `POST` a [`TaskSpec`](crate::TaskSpec) to learn what it would cost and when it would start.
    pub const QUOTES: &str = "/v1/quotes";
    /// `GET` the market's state.
    pub const STATUS: &str = "/v1/status";
    /// `GET` what convicted suspended miners.
    pub const EVIDENCE: &str = "/v1/evidence";

    /// `POST` as OpenAI's image generation.
    pub const IMAGES: &str = "/v1/images/generations";
    /// `POST` as OpenAI's chat completions.
    pub const CHAT: &str = "/v1/chat/completions";
    /// `POST` as OpenAI's completions.
    pub const COMPLETIONS: &str = "/v1/completions";
    /// `POST` as OpenAI's embeddings.
    pub const EMBEDDINGS: &str = "/v1/embeddings";
    /// `POST` as OpenAI's transcriptions.
    pub const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
    /// `POST` as OpenAI's translations of recordings into English.
    pub const TRANSLATIONS: &str = "/v1/audio/translations";
    /// `GET` as OpenAI's list of models.
    pub const MODELS: &str = "/v1/models";
    /// `GET` as OpenAI's view of one model; a `/` in its name is written `%2F`.
    pub const MODEL: &str = "/v1/models/{model}";

    /// `GET` whether the server answers.
    pub const HEALTH: &str = "/healthz";
    /// `GET` whether the coordinator takes tasks, and if not, why.
    pub const READY: &str = "/readyz";
    /// `GET` numbers for Prometheus.
    pub const METRICS: &str = "/metrics";
    /// `GET` a page that shows the market at work.
    pub const DASHBOARD: &str = "/dashboard";
    /// `GET` what that page shows.
    pub const DASHBOARD_STATE: &str = "/dashboard/state";
    /// `GET` a page that explains this interface's routes.
    pub const DOCS: &str = "/docs";
    /// `GET` a script or style of these pages.
    pub const ASSET: &str = "/assets/{name}";
    /// `GET` this interface's OpenAPI document.
    pub const OPENAPI: &str = "/openapi.json";

    /// Header that carries a [`SignedReceipt`](crate::SignedReceipt): base64url, without padding, of its JSON.
    pub const RECEIPT: &str = "cuckoo-receipt";
    /// Header that names the lease of a chunk, or of what names a blob.
    pub const LEASE: &str = "cuckoo-lease";
    /// Header that says how many bytes of the output are before a chunk.
    pub const OFFSET: &str = "cuckoo-offset";
    /// Response header that names the task of an output.
    pub const TASK_ID: &str = "cuckoo-task";
    /// Response header with the node number of the miner that made an output.
    pub const MINER: &str = "cuckoo-miner";
}
