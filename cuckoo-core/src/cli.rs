//! What the command lines of miner and coordinator share: key files, passwords, `[chain]` and `[operator]` of their settings,
//! and the commands of stakers and owners. Each command says what it does and what it costs, asks, and then sends.
//!
//! For the two binaries; an embedder finds the same actions at [`StakingContract`](crate::StakingContract).

mod account;
mod amounts;
mod asking;
mod chain_config;
mod deployment_file;
mod faucet;
mod keys;
mod owner;
mod program;
mod register;
mod secret;
mod signals;
mod staker;
mod wallet;
mod when;

pub use account::AccountArgs;
pub use amounts::{parse_node, parse_number};
pub use asking::Asking;
pub use chain_config::{ChainConfig, OperatorConfig};
pub use deployment_file::{read_contracts, write_contracts};
pub use faucet::FaucetCommand;
pub use keys::{KeyCommand, Keystore};
pub use owner::OwnerCommand;
pub use program::Program;
pub use register::RegisterArgs;
pub use secret::read_secret;
pub use signals::watch_signals;
pub use staker::StakerCommand;
pub use wallet::{Cost, MarketArgs, Sender, Wallet};
pub use when::{span_text, time_text};
