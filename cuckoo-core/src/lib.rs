//! What every part of the Cuckoo market shares: tasks and their payloads, keys and signatures, the wire protocol
//! between miners and coordinators, scheduling by stake, and access to the staking contract.
//!
//! Read in this order: [`TaskSpec`] and the types around it, [`Receipt`] and [`Voucher`], [`TaskProtocol`],
//! [`Scheduler`], [`StakingContract`]. Nothing here serves or runs a model.

mod amount;
mod blob;
mod capability;
mod chain;
#[cfg(feature = "cli")]
pub mod cli;
mod clock;
mod enrolment;
mod entropy;
mod error;
#[cfg(feature = "http")]
mod http;
mod id;
mod key;
mod keystore;
mod kind;
mod local_market;
mod preview;
mod protocol;
mod receipt;
mod scheduler;
pub mod schema;
mod signing;
mod task;
#[cfg(feature = "testing")]
pub mod testing;

pub use alloy::primitives::{Address, B256, U256};
pub use bytes::Bytes;

pub use amount::{Wei, cai, cai_text, format_cai, parse_cai, wei_text};
pub use blob::BlobId;
pub use capability::Capability;
#[cfg(all(feature = "dev-chain", feature = "rpc"))]
pub use chain::DeployQuote;
#[cfg(feature = "dev-chain")]
pub use chain::DevChain;
pub use chain::{
    Action, ChainEvent, Change, Contracts, CourtTerms, Dispute, DisputeOutcome, DisputePhase, Done,
    Earnings, Escrow, Juror, Mirror, MirrorView, Node, NodeKind, OperatorConsent, Profile, Quote,
    Registration, RewardBudget, Slash, Snapshot, StakingContract, Ticket, TxReceipt, Vote,
    register_with_consent, sign_consent, vote_commitment,
};
#[cfg(any(feature = "dev-chain", feature = "rpc"))]
pub use chain::{CourtConfig, DeployConfig, FaucetConfig};
#[cfg(feature = "rpc")]
pub use chain::{LegacyNetwork, LegacySettings, LegacyStaking, RpcSettings, RpcStaking, TxId};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use enrolment::{Enrolment, EnrolmentPlan};
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use error::{Error, ErrorKind, Result, Retry};
#[cfg(feature = "http")]
pub use http::http_client;
pub use id::{LeaseId, ModelId, NodeId, TaskId};
pub use key::{Key, Signature};
pub use keystore::{load_key, save_key};
pub use kind::{
    Embeddings, EmbeddingsInput, FinishReason, Message, ModelKind, Role, TextFormat, TextInput,
    TextLine, TextOutput, TextPiece, TextPrompt, TextReader, TextWriter, TokenLogprob, TopLogprob,
    Transcript, TranscriptSegment, TranscriptionInput,
};
pub use local_market::{LocalMarket, Member};
pub use preview::Preview;
pub use protocol::{
    Chunk, ChunkReply, Completion, CompletionReply, CoordinatorInfo, ErrorBody, Failure, Heartbeat,
    HeartbeatReply, LeaseProgress, LeaseStatus, ModelOffer, PROTOCOL_VERSION, PollReply,
    PollRequest, Session, SessionGrant, SessionOpened, SessionToken, TaskProtocol, paths,
};
pub use receipt::{
    PayloadHasher, Receipt, SignedReceipt, SignedVoucher, Usage, Voucher, payload_hash,
};
pub use scheduler::{
    LoggedChoice, Scheduler, SchedulerEvent, StakeLottery, StakeOrder, feasible_shares, replay,
    total_variation,
};
pub use signing::{Deployment, Signable, Signed};
pub use task::{Assignment, Fault, Output, Task, TaskResult, TaskSpec, TaskState};
