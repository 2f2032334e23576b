//! Many reads in few requests: JSON-RPC batches of bounded size, a bounded number of them under way at once.

use std::sync::atomic::Ordering;

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, Bytes as EvmBytes};
use alloy::providers::Provider as _;
use alloy::rpc::client::BatchRequest;
use alloy::rpc::types::TransactionRequest;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Pin, RpcStaking};
use crate::chain::evm::{Call, Failure};
use crate::{ErrorKind, Result};

/// Batches under way at once.
const CONCURRENT: usize = 4;
/// Calls in one request at most: what common providers take.
pub(super) const MOST: usize = 100;
/// JSON-RPC's code for a request that is none: some nodes' answer to a batch that is too long.
const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC's code for parameters that the node does not understand.
const INVALID_PARAMETERS: i64 = -32602;

/// A call as the node wants it.
pub(super) fn request(to: Address, data: Bytes) -> TransactionRequest {
    TransactionRequest::default()
        .with_to(to)
        .with_input(EvmBytes(data))
}

/// What [`Evm::call_many`](crate::chain::evm::Evm::call_many) promises.
pub(super) async fn call_many(
    chain: &RpcStaking,
    at: &Pin,
    calls: &[Call],
    together: usize,
) -> Result<Vec<Result<Bytes, Failure>>> {
    let size = together.min(chain.shared.batch_size.get()).max(1);
    let batches: Vec<_> = calls
        .chunks(size)
        .map(|calls| ask(chain, at, calls))
        .collect();
    let answers: Vec<_> = stream::iter(batches)
        .buffered(CONCURRENT)
        .try_collect()
        .await?;
    Ok(answers.into_iter().flatten().collect())
}

/// Sends calls as one batch, or as smaller ones when that is too much for the node.
async fn ask(chain: &RpcStaking, at: &Pin, calls: &[Call]) -> Result<Vec<Result<Bytes, Failure>>> {
    let mut answers = Vec::with_capacity(calls.len());
    let mut waiting = vec![calls];
    while let Some(calls) = waiting.pop() {
        let sent = match calls {
            [] => Vec::new(),
            // Without a batch around it: there are nodes that know none.
            [call] => vec![single(chain, at, call).await],
            _ => batch(chain, at, calls).await?,
        };
        let unknown_block = |error: &TransportError| code(error) == Some(INVALID_PARAMETERS);
        if sent
            .iter()
            .any(|answer| answer.as_ref().is_err_and(unknown_block))
            && !chain.shared.blocks_by_number.swap(true, Ordering::Relaxed)
        {
            waiting.push(calls);
            continue;
        }
        if calls.len() > 1
            && sent
                .iter()
                .any(|answer| answer.as_ref().is_err_and(too_much))
        {
            chain.shared.batch_size.refused(calls.len());
            let (first, second) = calls.split_at(calls.len() / 2);
            waiting.extend([second, first]);
            continue;
        }
        chain.shared.batch_size.taken(calls.len());
        for answer in sent {
            answers.push(match answer.map_err(|error| chain.failed(error)) {
                Err(Failure::Other(lost)) if lost.kind() == ErrorKind::Unavailable => {
                    return Err(lost);
                }
                answer => answer,
            });
        }
    }
    Ok(answers)
}

type Answer = Result<Bytes, TransportError>;

async fn single(chain: &RpcStaking, at: &Pin, call: &Call) -> Answer {
    let request = request(call.to, call.data.clone());
    let block = chain.block_id(Some(at));
    let answer = chain.provider().call(request).block(block).await?;
    Ok(answer.0)
}

/// What each call of a batch was answered; an error when the whole batch was lost.
async fn batch(chain: &RpcStaking, at: &Pin, calls: &[Call]) -> Result<Vec<Answer>> {
    let block = chain.block_id(Some(at));
    let mut batch = BatchRequest::new(chain.provider().client());
    let answers: Vec<_> = calls
        .iter()
        .map(|call| {
            let request = request(call.to, call.data.clone());
            batch.add_call::<_, EvmBytes>("eth_call", &(request, block))
        })
        .collect();
    if let Err(error) = batch.send().await {
        if too_much(&error) {
            return Ok(vec![Err(error)]);
        }
        if timed_out(&error) {
            // Whoever tries again asks for less at once.
            chain.shared.batch_size.refused(calls.len());
        }
        return Err(chain.failed(error).into_error());
    }
    let mut read = Vec::with_capacity(calls.len());
    for answer in answers {
        read.push(match answer {
            Ok(answer) => answer.await.map(|bytes| bytes.0),
            Err(error) => Err(error),
        });
    }
    Ok(read)
}

fn code(error: &TransportError) -> Option<i64> {
    error.as_error_resp().map(|refused| refused.code)
}

/// Whether a node may take the same calls in smaller batches. Nodes and providers say so in many ways.
fn too_much(error: &TransportError) -> bool {
    match error {
        RpcError::ErrorResp(refused) => {
            let text = refused.message.to_lowercase();
            refused.code == INVALID_REQUEST || text.contains("batch") || text.contains("too large")
        }
        RpcError::Transport(TransportErrorKind::MissingBatchResponse(_)) => true,
        RpcError::Transport(TransportErrorKind::HttpError(answer)) => {
            matches!(answer.status, 400 | 413)
        }
        _ => false,
    }
}

fn timed_out(error: &TransportError) -> bool {
    match error {
        RpcError::Transport(TransportErrorKind::Custom(source)) => source
            .downcast_ref::<reqwest::Error>()
            .is_some_and(reqwest::Error::is_timeout),
        _ => false,
    }
}
