//! A chain behind JSON-RPC: any EVM node over HTTP.

mod logs;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy::consensus::{SignableTransaction as _, TxEip1559};
use alloy::eips::Encodable2718 as _;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{Ethereum, TransactionBuilder as _};
use alloy::primitives::{Address, B256, Bytes as EvmBytes, TxKind, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::transports::http::Http;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use self::logs::LogReader;
#[cfg(feature = "dev-chain")]
use super::DeployQuote;
use super::evm::{Evm, Failure, Head, Mined, MinedLog};
use super::evm_staking::EvmStaking;
use super::{Contracts, DeployConfig, Quote, StakingContract, TxReceipt, deploy};
use crate::{Clock, Error, Key, Result, Retry, http_client};

/// How to reach a chain's node, and how patient to be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RpcSettings {
    /// The node's HTTP address. It may carry a provider's key, so it is never shown beyond its host.
    pub url: String,
    /// How long one request may take, in milliseconds.
    #[serde(default = "RpcSettings::request_millis")]
    pub request_millis: u64,
    /// How long a transaction may take until it is in a block, in milliseconds.
    #[serde(default = "RpcSettings::receipt_millis")]
    pub receipt_millis: u64,
    /// How often to look for receipts and new blocks, in milliseconds.
    #[serde(default = "RpcSettings::poll_millis")]
    pub poll_millis: u64,
}

impl RpcSettings {
    /// The node at `url`, with common patience.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            request_millis: Self::request_millis(),
            receipt_millis: Self::receipt_millis(),
            poll_millis: Self::poll_millis(),
        }
    }

    const fn request_millis() -> u64 {
        10_000
    }

    const fn receipt_millis() -> u64 {
        120_000
    }

    const fn poll_millis() -> u64 {
        500
    }
}

impl fmt::Debug for RpcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcSettings")
            .field("url", &shown(&self.url))
            .field("request_millis", &self.request_millis)
            .field("receipt_millis", &self.receipt_millis)
            .field("poll_millis", &self.poll_millis)
            .finish()
    }
}

/// The part of an address that is no secret.
fn shown(url: &str) -> String {
    Url::parse(url).map_or_else(
        |_| "an address that is no URL".to_owned(),
        |url| url.origin().ascii_serialization(),
    )
}

/// How often a node may fail to answer for a receipt before the sender is told.
const RECEIPT_FAILURES: u32 = 3;
/// The fastest polling, so that a zero in a configuration is no busy loop.
const LEAST_POLL: Duration = Duration::from_millis(10);

/// The contracts on a chain behind a JSON-RPC node.
///
/// It holds no connection: every call stands alone, fails within the set time when the node is down, and works again when
/// the node is back. Clones share the order of each key's transactions.
#[derive(Clone)]
pub struct RpcStaking {
    shared: Arc<Shared>,
}

struct Shared {
    provider: RootProvider<Ethereum>,
    chain_id: u64,
    settings: RpcSettings,
    clock: Arc<dyn Clock>,
    /// Held from asking for a nonce until the transaction that uses it is handed over.
    senders: Mutex<HashMap<Address, Arc<tokio::sync::Mutex<()>>>>,
}

impl RpcStaking {
    /// Access to contracts that are deployed already.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a malformed URL, another chain than the deployment's or
    /// contracts of two markets, [`ErrorKind::Chain`](crate::ErrorKind::Chain) when there are none at its addresses,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the node does not answer.
    pub async fn connect(
        settings: &RpcSettings,
        contracts: impl Into<Contracts>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn StakingContract>> {
        let chain = Self::open(settings, clock).await?;
        Ok(Arc::new(EvmStaking::attach(chain, contracts.into()).await?))
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
        let chain = Self::open(settings, clock).await?;
        let contracts = deploy::deploy(&chain, admin, config).await?;
        Ok(Arc::new(EvmStaking::attach(chain, contracts).await?))
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
        deploy::quote(&Self::open(settings, clock).await?, admin, config).await
    }

    async fn open(settings: &RpcSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let provider = provider(settings)?;
        let chain_id = provider
            .get_chain_id()
            .await
            .map_err(|error| failed(&settings.url, error).into_error())?;
        Ok(Self {
            shared: Arc::new(Shared {
                provider,
                chain_id,
                settings: settings.clone(),
                clock,
                senders: Mutex::default(),
            }),
        })
    }

    fn provider(&self) -> &RootProvider<Ethereum> {
        &self.shared.provider
    }

    fn failed(&self, error: TransportError) -> Failure {
        failed(&self.shared.settings.url, error)
    }

    /// The pause between two looks at the node.
    fn poll(&self) -> Duration {
        Duration::from_millis(self.shared.settings.poll_millis).max(LEAST_POLL)
    }

    async fn pause(&self) {
        self.shared.clock.sleep(self.poll()).await;
    }

    /// The lock that orders an account's transactions.
    fn sender(&self, account: Address) -> Arc<tokio::sync::Mutex<()>> {
        let mut senders = self
            .shared
            .senders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(senders.entry(account).or_default())
    }

    /// Signs a transaction with the account's next nonce and hands it to the node.
    async fn submit(
        &self,
        from: &Key,
        to: TxKind,
        value: U256,
        data: EvmBytes,
    ) -> Result<B256, Failure> {
        let provider = self.provider();
        let sender = self.sender(from.address());
        let _ordered = sender.lock().await;
        let request = TransactionRequest::default()
            .with_from(from.address())
            .with_kind(to)
            .with_value(value)
            .with_input(data.clone());
        let gas = provider
            .estimate_gas(request)
            .await
            .map_err(|error| self.failed(error))?;
        let fees = provider
            .estimate_eip1559_fees()
            .await
            .map_err(|error| self.failed(error))?;
        let nonce = provider
            .get_transaction_count(from.address())
            .pending()
            .await
            .map_err(|error| self.failed(error))?;
        let transaction = TxEip1559 {
            chain_id: self.shared.chain_id,
            nonce,
            // A quarter more: other transactions may change the path it takes before its block comes.
            gas_limit: gas.saturating_add(gas / 4),
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to,
            value,
            input: data,
            ..TxEip1559::default()
        };
        let signature = from.sign(transaction.signature_hash());
        let bytes = signature.as_bytes();
        let signature =
            alloy::primitives::Signature::from_bytes_and_parity(&bytes[..64], bytes[64] == 28);
        let signed = transaction.into_signed(signature);
        let hash = *signed.hash();
        // `receipt` watches it, by the injected clock.
        let _ = provider
            .send_raw_transaction(&signed.encoded_2718())
            .await
            .map_err(|error| self.failed(error))?;
        Ok(hash)
    }

    /// Waits until a transaction is in a block.
    async fn receipt(&self, hash: B256) -> Result<TransactionReceipt> {
        let patience = Duration::from_millis(self.shared.settings.receipt_millis);
        let deadline = self.shared.clock.now().after(patience);
        let mut failures = 0;
        // Short at first, for chains that make a block for each transaction.
        let mut pause = LEAST_POLL;
        loop {
            match self.provider().get_transaction_receipt(hash).await {
                Ok(Some(receipt)) => return Ok(receipt),
                Ok(None) => failures = 0,
                Err(error) => {
                    failures += 1;
                    pause = self.poll();
                    if failures == RECEIPT_FAILURES {
                        let lost = self.failed(error).into_error();
                        return Err(Error::new(
                            lost.kind(),
                            format!("transaction {hash} was sent and its fate is unknown; look it up before repeating it"),
                        )
                        .with_source(lost)
                        .with_retry(Retry::Never));
                    }
                }
            }
            if self.shared.clock.now() >= deadline {
                return Err(Error::timeout(format!(
                    "transaction {hash} is not in a block after {} s; look it up before repeating it",
                    patience.as_secs()
                ))
                .with_retry(Retry::Never));
            }
            self.shared.clock.sleep(pause).await;
            pause = (pause * 2).min(self.poll());
        }
    }
}

pub(crate) fn provider(settings: &RpcSettings) -> Result<RootProvider<Ethereum>> {
    let invalid = || {
        Error::invalid("the chain node's address is not a URL; write it like http://127.0.0.1:8545")
    };
    let url = Url::parse(&settings.url).map_err(|_| invalid())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid());
    }
    let patience = Duration::from_millis(settings.request_millis.max(1));
    let client = http_client()
        .timeout(patience)
        .connect_timeout(patience)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|source| Error::internal("no HTTP client").with_source(source.without_url()))?;
    Ok(RootProvider::new(RpcClient::new(
        Http::with_client(client, url),
        false,
    )))
}

/// What a failed request means. Nothing of the address but its host is told, since the rest may be a provider's key.
fn failed(url: &str, error: TransportError) -> Failure {
    let node = shown(url);
    let silent = |detail: String| -> Failure {
        Error::unavailable(format!(
            "the chain node at {node} does not answer; check that it runs and that its address is right"
        ))
        .with_source(detail)
        .into()
    };
    match error {
        RpcError::ErrorResp(refused) => {
            if let Some(data) = refused.as_revert_data() {
                return Failure::Reverted(data.0);
            }
            if refused.message.contains("revert") {
                return Failure::Reverted(Bytes::new());
            }
            let text: String = refused.message.chars().take(300).collect();
            // Providers' code for too many requests (EIP-1474).
            if refused.code == -32005 {
                return silent(text);
            }
            Error::chain(format!("the chain node at {node} refused: {text}")).into()
        }
        RpcError::Transport(TransportErrorKind::Custom(source)) => {
            match source.downcast::<reqwest::Error>() {
                Ok(source) => silent(causes(&source.without_url())),
                Err(_) => silent("the request failed".into()),
            }
        }
        RpcError::Transport(TransportErrorKind::HttpError(answer)) => {
            silent(format!("HTTP status {}", answer.status))
        }
        RpcError::Transport(TransportErrorKind::HttpErrorWithRetryAfter { error, .. }) => {
            silent(format!("HTTP status {}", error.status))
        }
        RpcError::NullResp => {
            Error::chain(format!("the chain node at {node} knows no such block")).into()
        }
        RpcError::DeserError { err, .. } => Error::unavailable(format!(
            "the server at {node} does not answer as a chain node does; check its address"
        ))
        .with_source(err)
        .into(),
        _ => silent("the request failed".into()),
    }
}

/// An error and what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[async_trait]
impl Evm for RpcStaking {
    /// The block's number.
    type At = u64;

    fn chain_id(&self) -> u64 {
        self.shared.chain_id
    }

    async fn head(&self) -> Result<(Head, u64)> {
        let block = self
            .provider()
            .get_block_by_number(BlockNumberOrTag::Latest)
            .await
            .map_err(|error| self.failed(error).into_error())?
            .ok_or_else(|| self.failed(RpcError::NullResp).into_error())?;
        let head = Head {
            number: block.header.number,
            time: block.header.timestamp,
        };
        Ok((head, head.number))
    }

    async fn balance(&self, account: Address) -> Result<U256> {
        self.provider()
            .get_balance(account)
            .await
            .map_err(|error| self.failed(error).into_error())
    }

    async fn call(&self, at: Option<&u64>, to: Address, data: Bytes) -> Result<Bytes, Failure> {
        let block = at.map_or_else(BlockId::latest, |number| BlockId::number(*number));
        let request = TransactionRequest::default()
            .with_to(to)
            .with_input(EvmBytes(data));
        let answer = self.provider().call(request).block(block).await;
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

    async fn send(
        &self,
        from: &Key,
        to: TxKind,
        value: U256,
        data: Bytes,
    ) -> Result<Mined, Failure> {
        let data = EvmBytes(data);
        let hash = self.submit(from, to, value, data.clone()).await?;
        let receipt = self.receipt(hash).await?;
        let block = receipt.block_number.unwrap_or_default();
        if !receipt.status() {
            // Another transaction came between estimate and block; the same call now tells why.
            let request = TransactionRequest::default()
                .with_from(from.address())
                .with_kind(to)
                .with_value(value)
                .with_input(data);
            let again = self
                .provider()
                .call(request)
                .block(BlockId::number(block))
                .await;
            return Err(match again {
                Err(error) => self.failed(error),
                Ok(_) => Error::chain(format!(
                    "transaction {hash} failed because others came before it; try again"
                ))
                .into(),
            });
        }
        Ok(Mined {
            receipt: TxReceipt {
                hash,
                block,
                gas_used: receipt.gas_used,
                fee: U256::from(receipt.gas_used)
                    .saturating_mul(U256::from(receipt.effective_gas_price)),
            },
            contract: receipt.contract_address,
            logs: receipt.logs().iter().map(|log| log.inner.clone()).collect(),
        })
    }

    async fn logs(&self, contracts: Vec<Address>) -> Result<BoxStream<'static, Result<MinedLog>>> {
        let (head, _) = self.head().await?;
        let reader = LogReader::new(self.clone(), contracts, head.number.saturating_add(1));
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
            .field("settings", &self.shared.settings)
            .field("chain_id", &self.shared.chain_id)
            .finish_non_exhaustive()
    }
}
