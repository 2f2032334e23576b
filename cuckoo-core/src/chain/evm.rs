//! What the contracts need of a chain: read, write, watch. `DevChain` executes in process, `RpcStaking` asks a node.

use std::fmt;

use alloy::primitives::{Address, Log, TxKind, U256};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::{Quote, TxReceipt};
use crate::{Error, ErrorKind, Key, Result};

/// Gas one transaction may use: the cap of EIP-7825.
pub(crate) const MOST_GAS: u64 = 1 << 24;

/// A block, as far as the market looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its number.
    pub(crate) number: u64,
    /// Its time, in seconds since the Unix epoch.
    pub(crate) time: u64,
}

/// A transaction that succeeded, with what it left behind.
#[derive(Debug, Clone)]
pub(crate) struct Mined {
    pub(crate) receipt: TxReceipt,
    /// The contract it created.
    pub(crate) contract: Option<Address>,
    pub(crate) logs: Vec<Log>,
}

/// A log and the block it is in.
#[derive(Debug, Clone)]
pub(crate) struct MinedLog {
    pub(crate) block: u64,
    pub(crate) log: Log,
}

/// A read of a contract: what to execute without a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) to: Address,
    pub(crate) data: Bytes,
}

/// Why a call or transaction did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The contract reverted with this data; only the caller knows the contract's errors.
    Reverted(Bytes),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A chain that executes contracts.
#[async_trait]
pub(crate) trait Evm: fmt::Debug + Send + Sync + 'static {
    /// A block that stays readable, so that several calls see one state.
    type At: Send + Sync;

    /// EIP-155 chain id.
    fn chain_id(&self) -> u64;

    /// The latest block.
    async fn head(&self) -> Result<(Head, Self::At)>;

    /// CAI of an account at the latest block, in wei.
    async fn balance(&self, account: Address) -> Result<U256>;

    /// Executes a call without a transaction, at a pinned block or at the latest.
    async fn call(&self, at: Option<&Self::At>, to: Address, data: Bytes)
    -> Result<Bytes, Failure>;

    /// What a transaction would cost now; one that would revert fails.
    async fn estimate(
        &self,
        from: Address,
        to: Address,
        value: U256,
        data: Bytes,
    ) -> Result<Quote, Failure>;

    /// Executes calls at one block and gives what each answered, in their order. At most `together` of them share a
    /// request. An error is a chain that cannot be reached.
    async fn call_many(
        &self,
        at: &Self::At,
        calls: &[Call],
        together: usize,
    ) -> Result<Vec<Result<Bytes, Failure>>>;

    /// Whether a block still belongs to the chain: false once a reorganisation replaced it.
    async fn holds(&self, at: &Self::At) -> Result<bool>;

    /// Sends a transaction and waits until it is in a block.
    async fn send(
        &self,
        from: &Key,
        to: TxKind,
        value: U256,
        data: Bytes,
    ) -> Result<Mined, Failure>;

    /// Logs of these contracts in every block after the latest one, in order. A gap is an error item, and so is a
    /// reorganisation; the logs of the blocks that replaced others follow it.
    async fn logs(&self, contracts: Vec<Address>) -> Result<BoxStream<'static, Result<MinedLog>>>;
}

/// What was read at a block; none when a reorganisation replaced that block meanwhile, so that all must be read again.
pub(crate) async fn kept<E: Evm, T>(evm: &E, at: &E::At, read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(lost) if lost.kind() == ErrorKind::Unavailable => Err(lost),
        read if evm.holds(at).await? => read.map(Some),
        _ => {
            tracing::info!("the chain was reorganised while it was read");
            Ok(None)
        }
    }
}

/// The block that was read was replaced again and again.
pub(crate) fn reorganised() -> Error {
    Error::unavailable("the chain was reorganised each time it was read; try again")
}
