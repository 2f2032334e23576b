//! One look at the chain through one node's eyes: which of a key's transactions are in a block, and who used its nonces.

use std::collections::{HashMap, HashSet};

use alloy::eips::BlockNumberOrTag;
use alloy::network::{Ethereum, TransactionResponse as _};
use alloy::primitives::{Address, B256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::TransactionReceipt;
use alloy::transports::TransportResult;
use futures::future::try_join_all;

use super::signing::Fees;

/// Requests that one look makes at the same time.
const AT_ONCE: usize = 8;

/// A transaction to look for.
#[derive(Debug)]
pub(super) struct Sought {
    pub(super) number: u64,
    /// The nonce of its last signed form.
    pub(super) nonce: u64,
    /// Hashes of all its signed forms.
    pub(super) hashes: Vec<B256>,
}

/// What one look saw.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Number of the latest block.
    pub(super) head: u64,
    /// Transactions of the account in blocks.
    pub(super) count: u64,
    /// Receipts, by the transaction's number.
    pub(super) found: HashMap<u64, TransactionReceipt>,
    /// Transactions in no block although their nonce was used, and deep enough to count as final.
    pub(super) outrun: HashSet<u64>,
    /// Those of them whose nonce another transaction is known to have used.
    pub(super) replaced: HashSet<u64>,
    /// What gas costs now, if that was asked.
    pub(super) fees: Option<Fees>,
}

/// What a look is to find out.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) account: Address,
    pub(super) sought: Vec<Sought>,
    pub(super) confirmations: u64,
    pub(super) fees: bool,
}

/// Asks one node. The order matters: a receipt that is missing after its nonce was used is missing for a reason.
pub(super) async fn look(
    node: RootProvider<Ethereum>,
    question: Question,
) -> TransportResult<View> {
    let account = question.account;
    let head = node.get_block_number().await?;
    let count = node.get_transaction_count(account).await?;
    let mut view = View {
        head,
        count,
        ..View::default()
    };
    if question.fees {
        view.fees = Some(fees(&node).await?);
    }
    let mut missing = Vec::new();
    let mut passed = question.sought;
    passed.retain(|sought| sought.nonce < count);
    for sought in passed.chunks(AT_ONCE) {
        let receipts = sought.iter().map(|sought| receipt(&node, sought));
        for (sought, receipt) in sought.iter().zip(try_join_all(receipts).await?) {
            match receipt {
                Some(receipt) => drop(view.found.insert(sought.number, receipt)),
                None => missing.push(sought),
            }
        }
    }
    if missing.is_empty() {
        return Ok(view);
    }
    // As deep as a transaction must be to count: what used the nonce there will not be undone.
    let deep = head.saturating_sub(question.confirmations.saturating_sub(1));
    // Behind one address there may be several nodes, and not all of them have that block yet.
    let Ok(settled) = node.get_transaction_count(account).number(deep).await else {
        return Ok(view);
    };
    missing.retain(|sought| sought.nonce < settled);
    for sought in missing {
        // It may have come into a block since the first question.
        if let Some(receipt) = receipt(&node, sought).await? {
            view.found.insert(sought.number, receipt);
            continue;
        }
        view.outrun.insert(sought.number);
        // Nodes that have dropped the states needed for this answer with an error.
        if let Ok(Some(user)) = user_of(&node, account, sought.nonce, deep).await
            && !sought.hashes.contains(&user)
        {
            tracing::warn!(%account, nonce = sought.nonce, %user, "another transaction used this nonce");
            view.replaced.insert(sought.number);
        }
    }
    Ok(view)
}

/// What gas costs now.
pub(super) async fn fees(node: &RootProvider<Ethereum>) -> TransportResult<Fees> {
    let now = node.estimate_eip1559_fees().await?;
    Ok(Fees {
        most: now.max_fee_per_gas,
        tip: now.max_priority_fee_per_gas,
    })
}

/// The receipt of whichever form is in a block.
async fn receipt(
    node: &RootProvider<Ethereum>,
    sought: &Sought,
) -> TransportResult<Option<TransactionReceipt>> {
    // The last form is the likeliest.
    for hash in sought.hashes.iter().rev() {
        if let Some(receipt) = node.get_transaction_receipt(*hash).await?
            && receipt.block_number.is_some()
        {
            return Ok(Some(receipt));
        }
    }
    Ok(None)
}

/// The transaction that used a nonce which the account has used at block `deep`.
async fn user_of(
    node: &RootProvider<Ethereum>,
    account: Address,
    nonce: u64,
    deep: u64,
) -> TransportResult<Option<B256>> {
    let used_at = async |block: u64| -> TransportResult<bool> {
        Ok(node.get_transaction_count(account).number(block).await? > nonce)
    };
    // The first block at whose end the nonce is used is in `low + 1..=high`.
    let (mut low, mut high, mut step) = (0, deep, 1);
    while high > 0 {
        let earlier = high.saturating_sub(step);
        if !used_at(earlier).await? {
            low = earlier;
            break;
        }
        high = earlier;
        step *= 2;
    }
    while high > low + 1 {
        let middle = low + (high - low) / 2;
        if used_at(middle).await? {
            high = middle;
        } else {
            low = middle;
        }
    }
    let block = node
        .get_block_by_number(BlockNumberOrTag::Number(high))
        .full()
        .await?;
    let transactions = block.map(|block| block.transactions.into_transactions_vec());
    Ok(transactions
        .unwrap_or_default()
        .into_iter()
        .find_map(|transaction| {
            let theirs = alloy::consensus::Transaction::nonce(&transaction) == nonce;
            (theirs && transaction.from() == account).then(|| transaction.tx_hash())
        }))
}
