//! What an actor asks nodes about one transaction.

use std::future::IntoFuture as _;
use std::sync::Arc;

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{BlockId, TransactionReceipt, TransactionRequest};

use super::open::Waiter;
use super::signing::{Call, Fees};
use super::view::fees;
use crate::chain::TxReceipt;
use crate::chain::evm::{Failure, MOST_GAS, Mined};
use crate::chain::rpc::Node;
use crate::chain::rpc::journal::Outcome;
use crate::{Error, Result, Retry, format_cai};

/// What the nodes say before a transaction is signed.
pub(super) struct Quote {
    /// The most gas it may use.
    pub(super) gas_limit: u64,
    pub(super) fees: Fees,
    /// The first nonce that no transaction known to them has.
    pub(super) nonce: u64,
}

/// What a transaction left behind.
pub(super) fn mined(receipt: &TransactionReceipt) -> Mined {
    Mined {
        receipt: TxReceipt {
            hash: receipt.transaction_hash,
            block: receipt.block_number.unwrap_or_default(),
            gas_used: receipt.gas_used,
            fee: U256::from(receipt.gas_used)
                .saturating_mul(U256::from(receipt.effective_gas_price)),
        },
        contract: receipt.contract_address,
        logs: receipt.logs().iter().map(|log| log.inner.clone()).collect(),
    }
}

fn request(from: Address, call: Call) -> TransactionRequest {
    TransactionRequest::default()
        .with_from(from)
        .with_kind(call.to)
        .with_value(call.value)
        .with_input(call.data)
}

/// How often the estimated gas is allowed. What time has brought is booked by the first call that comes after it: an
/// estimate in the second of the last block counts none of that, and a claim in a later block then uses twice the gas.
const GAS_MARGIN: u64 = 3;

/// Gas, price and nonce; a call that would revert, or that the account cannot pay for, fails here.
pub(super) async fn quote(node: Arc<Node>, from: Address, call: Call) -> Result<Quote, Failure> {
    let provider = &node.provider;
    let value = call.value;
    let gas = provider.estimate_gas(request(from, call)).await;
    let gas = gas.map_err(|error| node.failed(error))?;
    let (fees, block, nonce, balance) = futures::future::join4(
        fees(provider),
        provider.get_block(BlockId::latest()).into_future(),
        provider.get_transaction_count(from).pending().into_future(),
        provider.get_balance(from).into_future(),
    )
    .await;
    let fees = fees.map_err(|error| node.failed(error))?;
    let balance = balance.map_err(|error| node.failed(error))?;
    // More than fits into a block would be refused.
    let block = block.map_err(|error| node.failed(error))?;
    let most = block.map_or(MOST_GAS, |block| block.header.gas_limit.min(MOST_GAS));
    let gas_limit = gas.saturating_mul(GAS_MARGIN).min(most).max(gas);
    let cost = U256::from(gas_limit).saturating_mul(U256::from(fees.most));
    if balance < value.saturating_add(cost) {
        return Err(Error::chain(format!(
            "{from} holds {} CAI, and would send {} CAI and up to {} CAI for gas; send it more CAI",
            format_cai(balance),
            format_cai(value),
            format_cai(cost)
        ))
        .into());
    }
    Ok(Quote {
        gas_limit,
        fees,
        nonce: nonce.map_err(|error| node.failed(error))?,
    })
}

/// Why a transaction reverted: the same call tells, at the end of its block.
pub(super) async fn judge(
    node: Arc<Node>,
    from: Address,
    call: Call,
    hash: B256,
    block: u64,
) -> Failure {
    let again = node.provider.call(request(from, call)).number(block).await;
    match again.map_err(|error| node.failed(error)) {
        Err(Failure::Reverted(data)) => Failure::Reverted(data),
        _ => reverted(hash),
    }
}

/// It reverted, and nobody can say why any more.
fn reverted(hash: B256) -> Failure {
    Error::chain(format!(
        "transaction {hash} failed: others came before it, or its gas ran out; try again"
    ))
    .into()
}

/// Tells the outcome of a transaction that ended earlier.
pub(super) async fn recall(node: Arc<Node>, outcome: Outcome, waiter: Waiter) {
    let answer = match outcome {
        Outcome::Succeeded(hash) => match node.provider.get_transaction_receipt(hash).await {
            Ok(Some(receipt)) => Ok(mined(&receipt)),
            Ok(None) => Err(Error::chain(format!(
                "transaction {hash} succeeded, and the chain node does not know it; ask again later or another node"
            ))
            .with_retry(Retry::Later)
            .into()),
            Err(error) => Err(node.failed(error)),
        },
        Outcome::Reverted(_, Some(data)) => Err(Failure::Reverted(data.0)),
        Outcome::Reverted(hash, None) => Err(reverted(hash)),
        Outcome::Cancelled => Err(Error::chain("the transaction had no effect").into()),
    };
    waiter.tell(answer);
}
