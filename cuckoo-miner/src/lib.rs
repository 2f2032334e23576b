//! The miner: polls coordinators, executes tasks on local models and returns signed results.
//!
//! [`Miner`] is the whole of it, to embed; [`Executor`] is what a tool author implements to run something else than the
//! models that come along; [`TextTokenizer`] and [`TokenSampler`] are all that an engine for texts needs around it. Inside, each loop is one file: `link` keeps a session with one coordinator (`session` says
//! how it is proven), `poll` asks for work while `slots` are free, in turns that `choice` gives by `weights`, `work` runs one
//! assignment, unless `pace` says that its deadline comes too soon, `heartbeat` keeps its lease alive and hears which models `wants` has loaded meanwhile, `blobs` fetches what its input names, `stream` sends what it emits,
//! `vouchers` keeps what is owed, `credit` bounds it, `earnings` measures it, `redeem` turns it into pay.
//! [`ModelStore`] keeps the models themselves, and pulls them from the hub.

mod backoff;
mod blobs;
mod choice;
pub mod cli;
mod client;
pub mod conformance;
mod credit;
mod diffusion;
mod earnings;
mod embedding;
mod emitted;
mod executor;
mod heap;
mod heartbeat;
mod image;
mod kernels;
mod language;
mod latest;
mod leases;
mod limits;
mod line;
mod link;
mod miner;
mod model;
mod noise;
mod offers;
mod pace;
mod poll;
mod portable;
mod redeem;
mod session;
mod settings;
mod slots;
mod speech;
mod status;
mod store;
mod stream;
mod text;
mod vouchers;
mod wants;
mod warm;
mod weights;
mod work;

pub use client::HttpCoordinator;
pub use credit::CreditSettings;
pub use diffusion::{Image, ImageModel, ImageRequest, Lora, Progress, Sampler};
pub use embedding::{EmbeddingExecutor, EmbeddingLimits, EmbeddingModel};
pub use executor::{Execution, Executor, TaskContext, Trial};
pub use heap::keep_freed_memory;
pub use image::ImageExecutor;
// Of which kernels are made, so that whoever writes or calls some has them in the same version.
pub use candle_core::{Device, Tensor};
pub use kernels::{Activation, CpuKernels, Heads, Kernels, Norm, Packed, Span};
#[cfg(feature = "cuda")]
pub use kernels::{CudaKernels, CudaTensor};
pub use language::{LanguageModel, TextDecoder, TextTokenizer, TokenSampler};
pub use miner::{Miner, MinerBuilder};
pub use noise::Philox;
pub use redeem::RedeemSettings;
pub use settings::Settings;
pub use speech::{Recording, SpeechExecutor, SpeechLimits, SpeechModel};
pub use status::{
    CoordinatorStatus, GpuStatus, MachineStatus, MinerStatus, ModelStatus, PaceStatus, RunStatus,
    TrialStatus,
};
pub use store::{
    CachedModel, Fault, FolderKind, Hub, HubModel, ModelStore, Problem, PullEvent, PullOptions,
    Pulled, Removal, Verified, free_space, size_text,
};
pub use text::{TextExecutor, TextLimits};
pub use warm::WarmPool;
