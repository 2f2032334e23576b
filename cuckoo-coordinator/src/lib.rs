//! Takes tasks, assigns them to miners by stake, audits the results and pays for them: a coordinator to embed.
//!
//! Data flows one way, one file per stage: [`Coordinator::submit`] → admission → [`TaskStore`] → dispatch → a miner's
//! poll → its receipt → verification and audit → settlement → [`TaskHandle::result`]. A miner drives the coordinator
//! through [`cuckoo_core::TaskProtocol`], in process by [`Coordinator::protocol`].
#![deny(missing_docs)]

mod admission;
mod audit;
mod blobs;
mod builder;
mod coordinator;
mod dispatch;
mod escrow;
mod events;
mod evidence;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod http;
mod journal;
mod market;
mod openapi;
mod preview;
mod protocol;
mod quote;
mod registry;
mod requester;
mod settings;
mod settle;
mod status;
mod store;
mod telemetry;
mod timers;
mod verify;
mod webhook;
mod weights;

pub use audit::Verdict;
pub use builder::CoordinatorBuilder;
pub use coordinator::Coordinator;
pub use events::{Event, MarketEvent};
pub use evidence::{Evidence, Exhibit};
pub use handle::{TaskGuard, TaskHandle};
pub use http::{
    Front, HttpSettings, Server, Tls, TlsSettings, new_api_key, router, router_with, serve,
};
pub use openapi::openapi;
pub use preview::OutputEvent;
pub use quote::Quote;
pub use requester::{ApiKeySettings, LimitReached, Requester};
pub use settings::{EscrowSettings, ModelSettings, Settings, TopUp};
pub use status::{MarketStatus, MinerStatus};
pub use store::{
    Account, Change, Commit, Committed, Content, Failed, LeaseRecord, ListedState, MemoryStore,
    NonceRecord, Outcome, OutputStream, Payment, Received, RequesterUsage, SessionRecord,
    SqliteStore, StagedOutput, StoreSettings, StoreStats, Submission, SyncLevel, TaskFilter,
    TaskRecord, TaskStore, Versioned,
};
pub use telemetry::TraceSettings;
#[cfg(feature = "otel")]
pub use telemetry::Traces;
pub use webhook::Webhooks;
