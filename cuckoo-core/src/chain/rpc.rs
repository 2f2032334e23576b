//! A chain behind JSON-RPC: any EVM node over HTTP, or several for one chain.

mod answer;
mod batch;
mod endpoints;
mod journal;
mod logs;
mod settings;
mod transactor;
mod tx_id;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{Ethereum, TransactionBuilder as _};
use alloy::primitives::{Address, B256, Bytes as EvmBytes, TxKind, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::{Header, TransactionRequest};
use alloy::transports::{RpcError, TransportError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::Mutex;

use self::answer::failed;
use self::endpoints::Endpoints;
use self::journal::Journal;
use self::logs::LogReader;
use self::transactor::{Book, Transactor};
#[cfg(feature = "dev-chain")]
use super::DeployQuote;
use super::evm::{Call, Evm, Failure, Head, Mined, MinedLog};
use super::evm_staking::EvmStaking;
use super::learned::Learned;
use super::{Contracts, DeployConfig, Quote, StakingContract, deploy};
use crate::{Clock, Error, Key, Result};

pub use self::settings::RpcSettings;
pub use self::tx_id::TxId;

/// How often a journal that is in use is tried again: an actor that was just dropped lets go within moments.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The contracts on a chain behind JSON-RPC nodes.
///
/// It holds no connection: every call stands alone, fails within the set time when no node answers, and works again when
/// one is back. With several nodes, a request goes to the next when one is silent, overloaded, behind or on another chain.
///
/// Each key's transactions have one actor, which clones share: it owns the nonces, raises the fees of what waits too
/// long, and sends again what a reorganisation took out. With [`RpcSettings::journal`] it also survives the process.
/// The actors end when the last clone, and the last contract made from one, is dropped.
///
/// # Sending once
/// A write whose answer was lost may have had its effect. Under a [`TxId`], it can be asked for again:
/// ```no_run
/// # use std::sync::Arc;
/// # use cuckoo_core::{Deployment, Key, NodeId, Result, RpcSettings, RpcStaking, SystemClock, TxId, cai};
/// # async fn top_up(deployment: Deployment, owner: Key) -> Result<()> {
/// let settings = RpcSettings {
///     journal: Some("/var/lib/market/journal".into()),
///     ..RpcSettings::new("https://rpc.example.org")
/// };
/// let chain = RpcStaking::open(&settings, deployment.chain_id, Arc::new(SystemClock)).await?;
/// let once = chain.with_id(TxId::new("escrow/2026-07")?);
/// // However often this runs, before and after crashes: one deposit.
/// once.contracts(deployment).await?.deposit_escrow(&owner, NodeId(1), cai(500)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RpcStaking {
    shared: Arc<Shared>,
    /// The name of the next write.
    id: Option<TxId>,
}

struct Shared {
    node: Arc<Node>,
    /// Hash of the first block; known when there are journals.
    genesis: B256,
    transactors: Mutex<HashMap<Address, Transactor>>,
    /// Contracts that were looked at and found to be right.
    checked: Mutex<Vec<Contracts>>,
    /// How many calls the node takes in one request.
    batch_size: Learned,
    /// The node knows no EIP-1898: blocks are named by number, and checked afterwards.
    blocks_by_number: AtomicBool,
}

/// The chain as its nodes show it.
#[derive(Debug)]
struct Node {
    endpoints: Endpoints,
    provider: RootProvider<Ethereum>,
    chain_id: u64,
    settings: RpcSettings,
    clock: Arc<dyn Clock>,
}

impl Node {
    fn failed(&self, error: TransportError) -> Failure {
        failed(&self.endpoints.origins(), error)
    }
}

impl RpcStaking {
    /// Access to contracts that are deployed already.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a malformed URL, another chain than the deployment's or
    /// contracts of two markets, [`ErrorKind::Chain`](crate::ErrorKind::Chain) when there are none at its addresses,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when no node answers; for the journal, as
    /// [`open`](Self::open).
    pub async fn connect(
        settings: &RpcSettings,
        contracts: impl Into<Contracts>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn StakingContract>> {
        let contracts = contracts.into();
        let chain = Self::open(settings, contracts.market.chain_id, clock).await?;
        chain.contracts(contracts).await
    }

    /// Deploys the contracts; `admin` pays and may name verifiers.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); [`ErrorKind::Chain`](crate::ErrorKind::Chain) when `admin` cannot pay for gas or the
    /// settings are refused.
    pub async fn deploy(
        settings: &RpcSettings,
        admin: &Key,
        config: &DeployConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn StakingContract>> {
        let chain = Self::start(settings, None, clock).await?;
        let contracts = deploy::deploy(&chain, admin, config).await?;
        chain.contracts(contracts).await
    }

    /// What [`deploy`](Self::deploy) would cost now; settings that it would refuse are refused here.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy), but for a lack of money, which the quote shows.
    #[cfg(feature = "dev-chain")]
    pub async fn quote_deployment(
        settings: &RpcSettings,
        admin: &Key,
        config: &DeployConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<DeployQuote> {
        let chain = Self::start(settings, None, Arc::clone(&clock)).await?;
        deploy::quote(&chain, admin, config, clock).await
    }

    /// Access to a chain; [`contracts`](Self::contracts) then gives those of a market. With a journal, transactions that
    /// an earlier process left unfinished are taken up at once.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a malformed URL, another chain id or a damaged journal,
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) for the journal of a chain that was started anew,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when no node answers or the journal cannot be read.
    pub async fn open(
        settings: &RpcSettings,
        chain_id: u64,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let chain = Self::start(settings, Some(chain_id), clock).await?;
        if chain.chain_id() != chain_id {
            return Err(Error::invalid(format!(
                "wrong chain: the endpoint says {}, the deployment says {chain_id}; correct one of them",
                chain.chain_id(),
            )));
        }
        Ok(chain)
    }

    /// The contracts of a market on this chain.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn contracts(
        &self,
        contracts: impl Into<Contracts>,
    ) -> Result<Arc<dyn StakingContract>> {
        let contracts = contracts.into();
        if self.shared.checked.lock().await.contains(&contracts) {
            return Ok(Arc::new(EvmStaking::known(self.clone(), contracts)));
        }
        let staking = EvmStaking::attach(self.clone(), contracts).await?;
        self.shared.checked.lock().await.push(contracts);
        Ok(Arc::new(staking))
    }

    /// The same chain, whose next write is known by `id`.
    ///
    /// If the write's key has sent a transaction of that id already, its outcome is given (and waited for) instead of
    /// sending another; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if that one was for something else. Ids are
    /// each key's own. The latest 20,000 are remembered: by the journal, without one as long as the process runs. What
    /// failed before it was sent, or was cancelled since no node took it, may be asked for again under its id.
    #[must_use]
    pub fn with_id(&self, id: TxId) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            id: Some(id),
        }
    }

    /// Transactions of all keys that were asked for and have not ended.
    pub async fn unfinished(&self) -> usize {
        let transactors = self.shared.transactors.lock().await;
        transactors.values().map(Transactor::unfinished).sum()
    }

    async fn start(
        settings: &RpcSettings,
        chain_id: Option<u64>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let endpoints = Endpoints::new(settings, Arc::clone(&clock))?;
        let chain_id = endpoints.settle(chain_id).await?;
        let node = Node {
            provider: endpoints.provider(),
            endpoints,
            chain_id,
            settings: settings.clone(),
            clock,
        };
        let mut genesis = B256::ZERO;
        if settings.journal.is_some() {
            let block = node
                .provider
                .get_block_by_number(BlockNumberOrTag::Number(0))
                .await;
            let block = block.and_then(|block| block.ok_or(RpcError::NullResp));
            genesis = block
                .map_err(|error| node.failed(error).into_error())?
                .header
                .hash;
        }
        let chain = Self {
            shared: Arc::new(Shared {
                node: Arc::new(node),
                genesis,
                transactors: Mutex::default(),
                checked: Mutex::default(),
                batch_size: Learned::new(batch::MOST),
                blocks_by_number: AtomicBool::new(false),
            }),
            id: None,
        };
        if let Some(folder) = &settings.journal {
            chain.resume(folder).await?;
        }
        Ok(chain)
    }

    /// Takes up what an earlier process left unfinished. A journal in use is looked after by whoever uses it.
    async fn resume(&self, folder: &Path) -> Result<()> {
        let mut transactors = self.shared.transactors.lock().await;
        for account in Journal::accounts(folder, self.shared.node.chain_id)? {
            let Some((journal, book)) = self.journal(folder, account).await? else {
                continue;
            };
            let unfinished = book.unfinished();
            if unfinished > 0 {
                tracing::info!(%account, unfinished, "taking up an earlier process's transactions");
                let node = Arc::clone(&self.shared.node);
                transactors.insert(account, Transactor::start(node, account, journal, book));
            }
        }
        Ok(())
    }

    /// The actor of an account; starts it if there is none.
    async fn transactor(&self, account: Address) -> Result<Transactor> {
        let node = &self.shared.node;
        let mut transactors = self.shared.transactors.lock().await;
        if let Some(running) = transactors.get(&account)
            && !running.is_stopped()
        {
            return Ok(running.clone());
        }
        let mut opened = None;
        match &node.settings.journal {
            None => opened = Some((Journal::Memory, Book::default())),
            Some(folder) => {
                for _ in 0..LOCK_TRIES {
                    opened = self.journal(folder, account).await?;
                    if opened.is_some() {
                        break;
                    }
                    node.clock.sleep(LOCK_PAUSE).await;
                }
            }
        }
        let Some((journal, book)) = opened else {
            return Err(Error::conflict(format!(
                "the journal of {account} on chain {} is in use by another process or handle; stop that one, or give each its own key",
                node.chain_id
            )));
        };
        let transactor = Transactor::start(Arc::clone(node), account, journal, book);
        transactors.insert(account, transactor.clone());
        Ok(transactor)
    }

    /// Opens an account's journal and reads it; `None` while another process or handle has it.
    async fn journal(&self, folder: &Path, account: Address) -> Result<Option<(Journal, Book)>> {
        let node = &self.shared.node;
        let (chain_id, genesis, now) = (node.chain_id, self.shared.genesis, node.clock.now());
        let folder = folder.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let opened = Journal::open(&folder, chain_id, account, genesis)?;
            opened
                .map(|(journal, records)| Ok((journal, Book::restore(records, now)?)))
                .transpose()
        });
        let stopped =
            |source| Error::closed("the journal's reader was stopped").with_source(source);
        read.await.map_err(stopped)?
    }

    fn provider(&self) -> &RootProvider<Ethereum> {
        &self.shared.node.provider
    }

    fn failed(&self, error: TransportError) -> Failure {
        self.shared.node.failed(error)
    }

    /// The header of a block; none when the node has no such block.
    async fn header(&self, block: BlockNumberOrTag) -> Result<Option<Header>, Failure> {
        let block = self.provider().get_block_by_number(block).await;
        Ok(block
            .map_err(|error| self.failed(error))?
            .map(|block| block.header))
    }

    /// The header of the latest block.
    async fn latest(&self) -> Result<Header, Failure> {
        self.header(BlockNumberOrTag::Latest)
            .await?
            .ok_or_else(|| self.failed(RpcError::NullResp))
    }

    /// What to call a block. By its hash (EIP-1898), so that a reorganisation is an error and never another state.
    fn block_id(&self, at: Option<&Pin>) -> BlockId {
        match at {
            None => BlockId::latest(),
            Some(pin) if self.shared.blocks_by_number.load(Ordering::Relaxed) => {
                BlockId::number(pin.number)
            }
            Some(pin) => BlockId::hash_canonical(pin.hash),
        }
    }

    async fn pause(&self) {
        let node = &self.shared.node;
        node.clock.sleep(node.settings.poll()).await;
    }
}

/// A block, by both its names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pin {
    number: u64,
    hash: B256,
}

impl Pin {
    fn of(header: &Header) -> Self {
        Self {
            number: header.number,
            hash: header.hash,
        }
    }
}

#[async_trait]
impl Evm for RpcStaking {
    type At = Pin;

    fn chain_id(&self) -> u64 {
        self.shared.node.chain_id
    }

    async fn head(&self) -> Result<(Head, Pin)> {
        let header = self.latest().await.map_err(Failure::into_error)?;
        let head = Head {
            number: header.number,
            time: header.timestamp,
        };
        Ok((head, Pin::of(&header)))
    }

    async fn balance(&self, account: Address) -> Result<U256> {
        self.provider()
            .get_balance(account)
            .await
            .map_err(|error| self.failed(error).into_error())
    }

    async fn call(&self, at: Option<&Pin>, to: Address, data: Bytes) -> Result<Bytes, Failure> {
        let request = batch::request(to, data);
        let answer = self.provider().call(request).block(self.block_id(at)).await;
        Ok(answer.map_err(|error| self.failed(error))?.0)
    }

    async fn estimate(
        &self,
        from: Address,
        to: Address,
        value: U256,
        data: Bytes,
    ) -> Result<Quote, Failure> {
        let request = TransactionRequest::default()
            .with_from(from)
            .with_to(to)
            .with_value(value)
            .with_input(EvmBytes(data));
        let gas = self
            .provider()
            .estimate_gas(request)
            .await
            .map_err(|error| self.failed(error))?;
        let fees = self
            .provider()
            .estimate_eip1559_fees()
            .await
            .map_err(|error| self.failed(error))?;
        Ok(Quote {
            gas,
            fee: U256::from(gas).saturating_mul(U256::from(fees.max_fee_per_gas)),
        })
    }

    async fn call_many(
        &self,
        at: &Pin,
        calls: &[Call],
        together: usize,
    ) -> Result<Vec<Result<Bytes, Failure>>> {
        batch::call_many(self, at, calls, together).await
    }

    async fn holds(&self, at: &Pin) -> Result<bool> {
        let header = self.header(at.number.into()).await;
        Ok(header
            .map_err(Failure::into_error)?
            .is_some_and(|header| header.hash == at.hash))
    }

    async fn send(
        &self,
        from: &Key,
        to: TxKind,
        value: U256,
        data: Bytes,
    ) -> Result<Mined, Failure> {
        let data = EvmBytes(data);
        let actor = self.transactor(from.address()).await?;
        actor
            .send(from, self.id.clone(), transactor::Call { to, value, data })
            .await
    }

    async fn logs(&self, contracts: Vec<Address>) -> Result<BoxStream<'static, Result<MinedLog>>> {
        let head = self.latest().await.map_err(Failure::into_error)?;
        let reader = LogReader::new(self.clone(), contracts, &head);
        Ok(stream::unfold(reader, |mut reader| async move {
            let item = reader.item().await;
            Some((item, reader))
        })
        .boxed())
    }
}

impl fmt::Debug for RpcStaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcStaking")
            .field("settings", &self.shared.node.settings)
            .field("chain_id", &self.shared.node.chain_id)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A provider of one node, for [`crate::testing`].
#[cfg(feature = "testing")]
pub(crate) fn provider(url: &str) -> Result<RootProvider<Ethereum>> {
    let clock = Arc::new(crate::SystemClock);
    Ok(Endpoints::new(&RpcSettings::new(url), clock)?.provider())
}
